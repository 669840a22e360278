"""The cases against the real program and, side by side, other caches: `python -m tests.conformance.peers [NAME …]`.

Cases that wait do so all at once, each on connections of its own, since time is real here; the others go one by one, as
some end a server under all others. The peers are set to keep to the standards as far as they can be: no lifetime of
their own, validation, stale answers on failure.
"""

from __future__ import annotations

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.load import peers as servers
from tests.conformance.case import NAMES
from tests.conformance.runner import Stage, run
from tests.conformance.suite import CASES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.conformance.case import Case

AT_ONCE = 48
LOST = ("Connection refused", "no whole head")  # the server was gone, perhaps by another case
LONGEST = 12.0  # seconds of pauses that a case may have here


class Real:
    """A server that is running, and real time."""

    slack = 3  # seconds: Date and Age are whole ones, and machines are busy

    def __init__(self, name: str, at: tuple[str, int]) -> None:
        self.name = name
        self.at = at

    def wall(self) -> float:
        return time.time()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)


def nginx(s: servers.Setting) -> str:
    # Host is not in the key by default.
    return (
        servers.nginx(s)
        .replace(
            "proxy_cache c;",
            'proxy_cache c; proxy_cache_key "$scheme$http_host$request_uri"; proxy_cache_revalidate on;'
            " proxy_cache_use_stale error timeout http_500 http_502 http_503 http_504;"
            " proxy_cache_background_update on; proxy_force_ranges on; proxy_set_header Host $http_host;",
        )
        .replace("proxy_set_header Host $host;", "")
    )


def squid(s: servers.Setting) -> str:
    return servers.squid(s).replace("accel defaultsite=bench.example", "accel vhost defaultsite=test.example")


def varnish(s: servers.Setting) -> str:
    return f'vcl 4.1;\nbackend default {{ .host = "127.0.0.1"; .port = "{s.origin}"; }}\n'


def varnishd(s: servers.Setting, conf: Path) -> list[str]:
    command = servers.PEERS["varnish"].command(s, conf)
    return [*command, "-p", "default_ttl=0", "-p", "default_grace=0", "-p", "default_keep=3600"]


SETTINGS = {
    "tandem": servers.PEERS["tandem"],
    "nginx": replace(servers.PEERS["nginx"], configuration=nginx),
    "varnish": replace(servers.PEERS["varnish"], configuration=varnish, command=varnishd),
    "squid": replace(servers.PEERS["squid"], configuration=squid),
}


def fitting() -> list[Case]:
    """The cases that need no configuration of ours, nor much time."""
    return [one for one in CASES if not one.site and one.pauses <= LONGEST]


def play(target: Real, stage: Stage, cases: Sequence[Case]) -> dict[str, str]:
    """What each case has seen amiss, by id; empty where it passed. Those that wait do so all at once."""
    results: dict[str, str] = {}
    patient = [one for one in cases if one.pauses]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results |= zip([one.id for one in patient], pool.map(lambda one: run(one, target, stage), patient), strict=True)
    for one in cases:
        if not one.pauses or any(mark in results[one.id] for mark in LOST):
            results[one.id] = run(one, target, stage)
            if any(mark in results[one.id] for mark in LOST):
                time.sleep(1)  # it may be coming back
                results[one.id] = run(one, target, stage)
    return results


def table(cases: Iterable[Case], results: dict[str, dict[str, str]]) -> list[str]:
    """A line for each case, where not all are of one mind, and the sums."""
    names = list(results)
    lines = [f"{'case':<56} {'kind':<9} {' '.join(f'{name:<8}' for name in names)}"]
    for one in cases:
        passed = [not results[name][one.id] for name in names]
        if not all(passed):
            marks = " ".join(f"{'pass' if good else '-':<8}" for good in passed)
            lines.append(f"{one.id:<56} {one.kind:<9} {marks}")
    for kind in NAMES:
        of_kind = [one for one in cases if one.kind == kind]
        sums = [sum(not results[name][one.id] for one in of_kind) for name in names]
        lines.append(f"{kind + f' ({len(of_kind)})':<66} {' '.join(f'{count:<8}' for count in sums)}")
    return lines


def main(wanted: list[str]) -> None:
    stage, cases = Stage(), fitting()
    results: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory(prefix="conformance-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        for name, peer in SETTINGS.items():
            if (wanted and name not in wanted) or not servers.is_installed(peer):
                continue
            server = servers.start(peer, Path(folder), stage.origin.port, 0, logs=False)
            try:
                results[name] = play(Real(name, ("127.0.0.1", server.port)), stage, cases)
            finally:
                server.stop()
    print("\n".join(table(cases, results)))
    for one in cases:
        if results.get("tandem", {}).get(one.id):
            print(f"tandem: {one.kind} {one.id} ({one.section}): {results['tandem'][one.id]}")
    stage.origin.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
