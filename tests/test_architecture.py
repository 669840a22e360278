"""The walls: who may import whom, which rooms are pure, and that each file has its test. Read by `ast`, nothing is run.

A new file needs a row in ORDER and a test of its name. Imports under TYPE_CHECKING bind nothing at run time: free.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("config", "ha", "proxy")

# Imports flow downwards only: a module may import what stands in a row above its own, and its own room (the name that
# placed it). Rooms of one row know nothing of each other. The longest name that fits decides.
ORDER: list[tuple[str, ...]] = [
    ("config",),
    ("ha.liveness",),
    # What both ends of the supervisor's talk with ha know: values, raw sockets, orders. Standard library only.
    ("ha.events",),
    ("ha.raw",),
    ("ha.rtnl",),
    ("ha.orders",),
    ("proxy.errors",),
    ("proxy.http",),
    ("proxy.policy",),
    ("proxy.exchange",),
    # What server/ and upstream/ share about framing and time, and the spine with its plan about delivering.
    ("proxy.chunked", "proxy.delivery", "proxy.outbox", "proxy.parsers", "proxy.plan", "proxy.wheel"),
    # What processes share: messages, sockets, rights. No HTTP in here, see below.
    (
        "proxy.beats",
        "proxy.bus",
        "proxy.console",
        "proxy.notify",
        "proxy.parcel",
        "proxy.refreshing",
        "proxy.restarts",
        "proxy.rights",
        "proxy.service",
        "proxy.signals",
    ),
    ("proxy.users",),  # passwords and logins, for workers and for the command line
    ("proxy.channel", "proxy.firewall", "proxy.link", "proxy.region", "proxy.runtime", "proxy.sockets"),
    ("proxy.cache", "proxy.modes", "proxy.observe", "proxy.upstream"),
    ("proxy.answers", "proxy.namelists", "proxy.planning"),
    ("proxy.admission", "proxy.relaying", "proxy.tunnelling"),
    ("proxy.landing",),
    ("proxy.pipeline",),
    ("proxy.server",),
    # The composition roots of the three kinds of process, and what only they use.
    (
        "proxy.accepting",
        "proxy.candidate",
        "proxy.certificates",
        "proxy.closed",
        "proxy.explaining",
        "proxy.gauges",
        "proxy.interception",
        "proxy.observe.reach",
        "proxy.observe.status",
        "proxy.process",
        "proxy.purging",
    ),
    ("proxy.listing", "proxy.neighbours", "proxy.observe.api", "proxy.prepared"),
    ("proxy.keeper", "proxy.reload", "proxy.statefile"),
    ("proxy.child", "proxy.observe.admin", "proxy.supervisor"),
    ("proxy.launch", "proxy.screen", "proxy.versions", "proxy.worker"),
    ("proxy.accounts", "proxy.inspection", "proxy.commands", "proxy.demo", "proxy.pairing"),
    ("proxy.warming",),
    ("proxy.inquiry",),
    ("proxy.cli",),
    ("proxy.__main__",),
    ("ha",),
]

PURE = (
    "proxy.policy",
    "proxy.http",
    "proxy.upstream.pool",
    "proxy.upstream.health",
    "proxy.modes",
    "proxy.users.htpasswd",
    "proxy.users.logins",
    "ha.active",
    "ha.backup",
    "ha.claiming",
    "ha.crossing",
    "ha.events",
    "ha.group",
    "ha.health",
    "ha.hearsay",
    "ha.idle",
    "ha.machine",
    "ha.packet",
    "ha.split",
    "ha.timing",
    "ha.waking",
    "ha.words",
)
IMPURE = {"socket", "asyncio", "time", "random", "aiohttp", "scapy", "pyroute2"}

# Where a library may be imported at all.
ONLY_IN = {
    "scapy": {"ha.wire"},
    "pyroute2": {"ha.netlink", "proxy.firewall.routes"},
    "tree_sitter": {"config.place"},
    "tree_sitter_toml": {"config.place"},
}

# The supervisor must reap within milliseconds and holds all rights: none of these may come in with it, even indirectly.
NOT_IN_SUPERVISOR = {
    "proxy.http",
    "proxy.server",
    "proxy.pipeline",
    "proxy.upstream",
    "proxy.cache",
    "aiohttp",
    "uvloop",
}

# Imports inside functions: what is slow to load and rarely needed, or belongs to one kind of process only.
LATE_IMPORTS: dict[tuple[str, str], str] = {
    ("config.place", "tree_sitter"): "loaded on a fault only (15 ms)",
    ("config.place", "tree_sitter_toml"): "loaded on a fault only (15 ms)",
    ("proxy.child", "uvloop"): "not before the rights are gone",
    ("proxy.cli", "proxy.accounts"): "one command needs it",
    ("proxy.cli", "proxy.commands"): "what asks a running instance is loaded only to ask one",
    ("proxy.cli", "proxy.demo"): "one command needs it",
    ("proxy.cli", "proxy.inquiry"): "what asks a running instance is loaded only to ask one",
    ("proxy.cli", "proxy.inspection"): "one command needs it",
    ("proxy.cli", "proxy.pairing"): "what asks a running instance is loaded only to ask one",
    ("proxy.cli", "tomllib"): "one command needs it",
    ("proxy.demo", "aiohttp"): "in the demo origin's own process only (190 ms)",
    ("proxy.users.htpasswd", "passlib.hash"): "only where a file has hashes of its kinds (65 ms)",
    ("proxy.versions", "aiohttp"): "slow to load (190 ms), and most commands do without",
}

# Files that have no test of their own name. A debt: nothing is said here about what else may cover them, the list may
# only become shorter, and a file that has its test by now is a fault in it.
WITHOUT_TEST: set[str] = set()


@dataclass(frozen=True, slots=True)
class Import:
    module: str
    late: bool  # inside a function


@dataclass(frozen=True, slots=True)
class Module:
    name: str
    path: Path
    imports: tuple[Import, ...]


def is_type_checking(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def find_imports(node, late=False):
    """All imports that happen at run time, with what is imported from a package named in full."""
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child):
            for other in child.orelse:
                yield from find_imports(other, late)
        elif isinstance(child, ast.Import):
            yield from (Import(alias.name, late) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports name their module in full"
            for alias in child.names:
                inner = f"{child.module}.{alias.name}"
                yield Import(inner if exists(inner) else child.module, late)
        else:
            yield from find_imports(
                child, late or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            )


@cache
def exists(name):
    path = ROOT.joinpath(*name.split("."))
    return name.split(".")[0] in PACKAGES and (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file())


@cache
def modules():
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = Module(name, path, tuple(find_imports(ast.parse(path.read_text()))))
    return found


def within(name, room):
    return name == room or name.startswith(room + ".")


def place(name):
    """(row, room) of a module."""
    fitting = [(len(room), row, room) for row, rooms in enumerate(ORDER) for room in rooms if within(name, room)]
    return max(fitting)[1:] if fitting else None


def ours(module):
    """Its imports from our packages; one that does not exist is mypy's find."""
    return [one for one in module.imports if one.module in modules()]


def sources():
    return [module for module in modules().values() if module.path.name != "__init__.py"]


def test_there_are_modules_to_look_at():
    assert {"proxy.http.message", "config.schema"} <= set(modules())


def test_every_module_has_its_place_in_the_order():
    assert [module.name for module in sources() if place(module.name) is None] == []


def test_rooms_in_the_order_are_named_once():
    rooms = [room for row in ORDER for room in row]
    assert len(rooms) == len(set(rooms))


def test_imports_flow_one_way():
    wrong = []
    for module in sources():
        row, room = place(module.name)
        for one in ours(module):
            if modules()[one.module].path.name == "__init__.py":
                continue
            other_row, other_room = place(one.module)
            if other_room != room and other_row >= row:
                wrong.append(f"{module.name} imports {one.module}")
    assert wrong == []


def test_there_are_no_cycles():
    state = {}

    def visit(name, trail):
        assert state.get(name) != "open", " -> ".join([*trail, name])
        if name in state:
            return
        state[name] = "open"
        for one in ours(modules()[name]):
            if not one.late and one.module != name:
                visit(one.module, [*trail, name])
        state[name] = "done"

    for name in modules():
        visit(name, [])


def test_pure_rooms_import_nothing_that_waits_rolls_dice_or_reads_a_clock():
    wrong = [
        f"{module.name} imports {one.module}"
        for module in sources()
        if any(within(module.name, room) for room in PURE)
        for one in module.imports
        if one.module.split(".")[0] in IMPURE
    ]
    assert wrong == []


@pytest.mark.parametrize("library", ONLY_IN)
def test_libraries_stay_where_they_belong(library):
    found = {module.name for module in sources() for one in module.imports if one.module.split(".")[0] == library}
    assert found <= ONLY_IN[library]


def test_ha_knows_only_the_configuration_and_proxy_only_what_both_talk_with():
    for module in sources():
        for one in ours(module):
            if within(module.name, "ha"):
                assert not within(one.module, "proxy"), module.name
            if within(module.name, "proxy") and within(one.module, "ha"):
                assert one.module in {"ha.liveness", "ha.orders", "ha.rtnl"}, module.name


def reach(name):
    """Everything that comes in with a module, as `name imported by name`."""
    seen = {}
    waiting = [(name, "")]
    while waiting:
        current, because = waiting.pop()
        if current in seen:
            continue
        seen[current] = because
        if current in modules():
            waiting += [(one.module, current) for one in modules()[current].imports if not one.late]
    return seen


def test_the_supervisor_brings_in_no_http():
    wrong = [
        f"{found} (imported by {because})"
        for found, because in reach("proxy.supervisor").items()
        if any(within(found, no) for no in NOT_IN_SUPERVISOR)
    ]
    assert wrong == []


def test_imports_inside_functions_are_the_few_that_are_listed():
    found = {(module.name, one.module) for module in sources() for one in module.imports if one.late}
    assert found == set(LATE_IMPORTS)


def test_packages_are_empty():
    assert [
        str(m.path) for m in modules().values() if m.path.name == "__init__.py" and m.path.read_text().strip()
    ] == []


def test_file(path):
    """Where the test of a source file is: tests/ mirrors proxy/, with config/ and ha/ beside its rooms."""
    inside = path.relative_to(ROOT)
    folder = inside.parent.relative_to("proxy") if inside.parts[0] == "proxy" else inside.parent
    return ROOT / "tests" / folder / f"test_{inside.stem.strip('_')}.py"


test_file.__test__ = False


def test_every_source_file_has_its_test_or_is_a_known_debt():
    missing = {str(m.path.relative_to(ROOT)) for m in sources() if not test_file(m.path).is_file()}
    assert missing == WITHOUT_TEST


def test_every_source_file_says_what_it_is_for():
    silent = [module.name for module in sources() if not ast.get_docstring(ast.parse(module.path.read_text()))]
    assert silent == []


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", "requirements-build.lock"])
def test_locks_carry_hashes_and_name_no_host(name):
    text = (ROOT / name).read_text()
    assert "://" not in text
    blocks = text.replace("\\\n", " ").splitlines()
    assert blocks
    assert all("--hash=sha256:" in block for block in blocks)
