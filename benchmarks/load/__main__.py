"""`python -m benchmarks.load`: this proxy and its peers side by side, CPU microseconds per request of each.

Servers run on one core, the load generator and the origin on another. Rounds are interleaved (every server once per
round), so that a disturbance hits all alike; the median counts. Bytes are checked in the same runs.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.facts import machine
from benchmarks.load import peers
from benchmarks.load.measure import CONNECTIONS, SCENARIOS, measure, write_script

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.load.measure import Sample, Scenario
    from benchmarks.load.peers import Peer

RESULTS = peers.ROOT / "benchmarks/results"
Samples = dict[tuple[str, str], list["Sample"]]  # (scenario, peer) -> one per round


def main() -> int:
    options = parse_arguments()
    chosen = choose_peers(options)
    scenarios = [scenario for scenario in SCENARIOS if not options.only or scenario.name in options.only]
    report = {"facts": facts(chosen, options), "tables": {}}
    for logs in {"off": [False], "on": [True], "both": [False, True]}[options.logs]:
        samples = run_rounds(chosen, scenarios, options, logs=logs)
        title = f"logs {'on' if logs else 'off'}"
        beside = ", to ".join(references(chosen))
        print(f"\n{title}, CPU µs per request (median of {options.rounds}; ratio to {beside}; requests/s)")
        print(table(chosen, scenarios, samples))
        report["tables"][title] = as_json(chosen, scenarios, samples)
    if not options.no_save:
        print(f"\nsaved: {save(report, 'forward' if options.forward else 'load').relative_to(peers.ROOT)}")
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description="CPU per request, side by side.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="length of one run")
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--only", nargs="*", choices=names, help="these scenarios alone")
    parser.add_argument("--peers", nargs="*", choices=list(peers.PEERS), help="these servers alone")
    parser.add_argument("--forward", action="store_true", help="as proxies of clients: absolute-form, beside Squid")
    parser.add_argument("--logs", choices=["off", "on", "both"], default="both")
    parser.add_argument("--cores", default="0,1", help="core of the servers, core of load generator and origin")
    parser.add_argument("--no-save", action="store_true", help="print only, keep no file in benchmarks/results")
    return parser.parse_args()


def choose_peers(options: argparse.Namespace) -> list[Peer]:
    if not shutil.which("wrk") or not peers.is_installed(peers.ORIGIN):
        raise SystemExit("wrk and nginx are needed: apt-get install wrk nginx-light")
    chosen = []
    for peer in (peers.FORWARD if options.forward else peers.PEERS).values():
        if options.peers and peer.name not in options.peers:
            continue
        if peers.is_installed(peer):
            chosen.append(peer)
        else:
            print(f"{peer.name} is not installed: left out", file=sys.stderr)
    return chosen


def run_rounds(chosen: list[Peer], scenarios: list[Scenario], options: argparse.Namespace, *, logs: bool) -> Samples:
    server_core, load_core = (int(core) for core in options.cores.split(","))
    samples: Samples = {}
    with contextlib.ExitStack() as stack:
        memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # logs and nginx's cache must not wait for a disk
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tandem-bench-", dir=memory)))
        folder.chmod(0o755)
        origin = peers.start(peers.ORIGIN, folder, 0, load_core, logs=False)
        stack.callback(origin.stop)
        if options.forward:
            scenarios = [replace(one, path=f"http://127.0.0.1:{origin.port}{one.path}") for one in scenarios]
        ready = functools.partial(peers.serves, target=scenarios[0].path)
        servers = []
        for peer in chosen:
            servers.append(peers.start(peer, folder, origin.port, server_core, logs=logs, answers=ready))
            stack.callback(servers[-1].stop)
        scripts = {scenario.name: write_script(scenario, folder) for scenario in scenarios}
        for number in range(options.rounds):
            for scenario in scenarios:
                for server in servers:
                    if number == 0:  # caches, pools and threads are there before the first counted run
                        measure(server, origin, scenario, scripts[scenario.name], 1, load_core)
                    sample = measure(server, origin, scenario, scripts[scenario.name], options.seconds, load_core)
                    samples.setdefault((scenario.name, server.name), []).append(sample)
                    print(
                        f"round {number + 1} {scenario.name:10} {server.name:8} {sample.cpu_us:7.2f} µs",
                        file=sys.stderr,
                    )
    return samples


def references(chosen: list[Peer]) -> tuple[str, ...]:
    """The peers to which each is compared."""
    return tuple(peer.name for peer in chosen if peer.name in {"haproxy", "nginx"}) or ("squid",)


def medians(samples: Iterable[Sample]) -> dict[str, float]:
    rows = [asdict(sample) for sample in samples]
    return {name: median(row[name] for row in rows) for name in rows[0]}


def table(chosen: list[Peer], scenarios: list[Scenario], samples: Samples) -> str:
    lines = [
        "| |" + "|".join(f" {scenario.title} " for scenario in scenarios) + "|",
        "|---" * (len(scenarios) + 1) + "|",
    ]
    for peer in chosen:
        cells = []
        for scenario in scenarios:
            middle = medians(samples[scenario.name, peer.name])
            values = [sample.cpu_us for sample in samples[scenario.name, peer.name]]
            ratios = ", ".join(_ratio(middle["cpu_us"], samples.get((scenario.name, to))) for to in references(chosen))
            spread = f"{min(values):.1f}-{max(values):.1f}"
            cells.append(f" **{middle['cpu_us']:.1f}** ({spread}; {ratios}; {middle['per_second']:,.0f}/s) ")
        lines.append(f"| {peer.name} |" + "|".join(cells) + "|")
    return "\n".join(lines)


def _ratio(value: float, samples: list[Sample] | None) -> str:
    return f"{value / medians(samples)['cpu_us']:.2f}x" if samples else "-"


def as_json(chosen: list[Peer], scenarios: list[Scenario], samples: Samples) -> dict[str, object]:
    return {
        scenario.name: {
            peer.name: {
                "median": medians(samples[scenario.name, peer.name]),
                "rounds": [asdict(sample) for sample in samples[scenario.name, peer.name]],
            }
            for peer in chosen
        }
        for scenario in scenarios
    }


def facts(chosen: list[Peer], options: argparse.Namespace) -> dict[str, object]:
    return {
        **machine(),
        "versions": {peer.name: peers.version_of(peer) for peer in chosen},
        "connections": CONNECTIONS,
        "rounds": options.rounds,
        "seconds": options.seconds,
    }


def save(report: dict[str, object], name: str) -> Path:
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json"
    file.write_text(json.dumps(report, indent=1) + "\n")
    return file


if __name__ == "__main__":
    sys.exit(main())
