# Two commands do all the set-up: `make run` and `make test`. What is done is remembered in .venv, so a second run is quick.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
APT := apt-get -o DPkg::Lock::Timeout=600
LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url -q
# Arguments for what is run, as in: make test ARGS="-k wheel"
ARGS ?=

.PHONY: help run test test-long conformance-peers check format bench bench-forward bench-tunnel \
  bench-gateway hitratio failover pair lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run ## the demo on loopback: an embedded origin and the proxy in front of it
	@exec $(BIN)/tandem demo

test: $(VENV)/.dev $(VENV)/.debian ## all tests but the long ones; installs what they need (as root: from Debian)
	@$(BIN)/python -m pytest -m "not long" -n 2 --dist loadfile $(ARGS)

test-long: $(VENV)/.dev $(VENV)/.debian ## fuzz, soak and medians
	@status=0; $(BIN)/python -m pytest -m long $(ARGS) || status=$$?; \
	if [ $$status -eq 5 ]; then echo "There are no long tests."; else exit $$status; fi

conformance-peers: $(VENV)/.dev $(VENV)/.debian ## the cache's conformance beside nginx, Varnish and Squid, case by case
	@$(BIN)/python -m tests.conformance.peers

check: $(VENV)/.dev ## format, lint, types and architecture
	@echo "ruff format" && $(BIN)/ruff format --check .
	@echo "ruff check" && $(BIN)/ruff check .
	@echo "mypy" && $(BIN)/mypy config proxy ha
	@echo "architecture" && $(BIN)/python -m pytest -q tests/test_architecture.py

format: $(VENV)/.dev ## write the code as `make check` wants it
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: $(VENV)/.dev $(VENV)/.debian ## CPU per request beside nginx, HAProxy, Varnish and Squid
	@$(BIN)/python -m benchmarks.load

bench-forward: $(VENV)/.dev $(VENV)/.debian ## CPU per request as a proxy of clients, beside Squid
	@$(BIN)/python -m benchmarks.load --forward $(ARGS)

bench-tunnel: $(VENV)/.dev $(VENV)/.debian ## tunnels beside HAProxy, Squid and tinyproxy: CPU per gigabyte and per tunnel
	@$(BIN)/python -m benchmarks.tunnel $(ARGS)

bench-gateway: $(VENV)/.dev $(VENV)/.debian ## a gateway beside Squid's intercept mode and our own tunnel (as root; some four minutes)
	@$(BIN)/python -m benchmarks.gateway $(ARGS)

hitratio: $(VENV)/.dev ## hit ratios of the cache beside LRU on generated traces, with a plot
	@$(BIN)/python -m benchmarks.cache.hitratio

failover: $(VENV)/.dev $(VENV)/.debian ## outages of a pair beside keepalived, measured beside wanted (as root; ARGS="--quick", "--help", "--resume")
	@$(BIN)/python -m benchmarks.failover $(ARGS)

pair: $(VENV)/.dev $(VENV)/.debian ## two nodes in network namespaces, and what a client notices when one fails (as root)
	@$(BIN)/python -m tests.kit.show

lock: $(VENV)/.dev ## resolve the dependencies anew where pyproject.toml asks for it; UPGRADE=1: all of them
	@$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml -o requirements.lock
	@$(LOCK) $(if $(UPGRADE),--upgrade) -c requirements.lock pyproject.toml --group dev -o requirements-dev.lock
	@sed -n 's/^requires = \["\(.*\)"\]$$/\1/p' pyproject.toml | sed '$$a editables' \
	  | $(LOCK) $(if $(UPGRADE),--upgrade) - -o requirements-build.lock
	@wc -l requirements*.lock

clean: ## remove what make made
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build

# ---- stamps: each is newer than what it was made from ----------------------------------------------------------------

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Tandem needs Python 3.11 or newer; say which by: make PYTHON=/path/to/python3" >&2; exit 1; }
	@if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
	  if [ "$$(id -u)" -ne 0 ]; then echo "Please install the package python3-venv, then try again." >&2; exit 1; fi; \
	  echo "Installing python3-venv"; $(APT) update -qq; \
	  DEBIAN_FRONTEND=noninteractive $(APT) install -y -qq --no-install-recommends python3-venv >/dev/null; \
	fi
	@test -x $(BIN)/pip || { echo "Creating $(VENV)"; $(PYTHON) -m venv --clear $(VENV); }
	@touch $@

$(VENV)/.run: requirements.lock requirements-build.lock pyproject.toml | $(VENV)/.made
	@echo "Installing what Tandem runs on ($$(grep -c '==' requirements.lock) packages, hashes checked)"
	@$(PIP) install -q --require-hashes -r requirements.lock
	@$(PIP) install -q --require-hashes -r requirements-build.lock
	@$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	@echo "Installing the tools for tests and checks ($$(grep -c '==' requirements-dev.lock) packages, hashes checked)"
	@$(PIP) install -q --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/.debian: tests/install.sh | $(VENV)/.made
	@bash tests/install.sh
	@touch $@
