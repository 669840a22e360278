"""Every case, against the data plane in this process; a case that is known to fail has to fail."""

from __future__ import annotations

import pytest

from tests.conformance.runner import Stage, run
from tests.conformance.suite import CASES, KNOWN, InProcess


@pytest.fixture(scope="module")
def stage():
    made = Stage()
    yield made
    made.origin.stop()
    assert not made.origin.faults


@pytest.fixture(scope="module")
def targets(stage):
    """By the configuration they have."""
    made = {}

    def target(site):
        if site not in made:
            made[site] = InProcess(stage, site)
        return made[site]

    yield target
    for one in made.values():
        one.stop()


def test_a_proxy_without_cache_fails_what_asks_for_reuse_and_passes_what_forbids_it(stage):
    """The runner tells them apart: the origin itself stands in for a proxy that stores nothing."""
    direct = InProcess(stage)
    direct.at = ("127.0.0.1", stage.origin.port)
    verdicts = {one.id: not run(one, direct, stage) for one in CASES if one.pauses == 0}
    direct.stop()
    assert not any(verdicts[name] for name in ("max-age", "vary-same", "if-none-match", "range-from-to"))
    assert all(verdicts[name] for name in ("no-store", "vary-star", "another-query", "private"))


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.id)
def test_the_case_is_as_expected(one, stage, targets):
    seen = run(one, targets(one.site), stage)
    if one.id in KNOWN:
        assert seen, f"it passes by now, though {KNOWN[one.id]}"
    else:
        assert not seen, f"{one.kind}, {one.section}: {seen}"
