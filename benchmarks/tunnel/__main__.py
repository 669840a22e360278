"""`python -m benchmarks.tunnel`: tunnels of this proxy and its peers, CPU seconds per gigabyte, CPU per tunnel.

The proxy under test has one core, both ends share the other. Rounds are interleaved; the median counts. Every byte is
compared at the client's end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.facts import ROOT, machine
from benchmarks.load.measure import cpu_seconds
from benchmarks.load.peers import is_installed, start, version_of
from benchmarks.tunnel.peers import PEERS, listens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.load.peers import Peer, Server

RESULTS = ROOT / "benchmarks/results"
WANTED = 2.0  # times the bytes per CPU second of each peer


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    title: str
    streams: int
    small: bool


SCENARIOS = (
    Scenario("one", "1 stream, CPU s/GB", 1, small=False),
    Scenario("many", "32 streams, CPU s/GB", 32, small=False),
    Scenario("small", "handshake and 1 KiB, CPU µs/tunnel", 8, small=True),
    Scenario("alone", "the same one by one, CPU µs/tunnel", 1, small=True),
)


@dataclass(frozen=True, slots=True)
class Sample:
    cpu: float  # seconds per 10^9 bytes, or microseconds per tunnel
    rate: float  # 10^9 bytes, or tunnels, per second
    p50_ms: float = 0.0
    p99_ms: float = 0.0


def main() -> int:
    options = parse_arguments()
    chosen = [
        peer for peer in PEERS.values() if is_installed(peer) and (not options.peers or peer.name in options.peers)
    ]
    for name in PEERS.keys() - {peer.name for peer in chosen}:
        print(f"{name} is left out", file=sys.stderr)
    samples = run_rounds(chosen, options)
    print(table(chosen, options, samples))
    if not options.no_save:
        print(f"\nsaved: {save(chosen, options, samples).relative_to(ROOT)}")
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tunnel", description="Tunnels, side by side.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gigabytes", type=float, default=2, help="through each proxy in one run of bulk")
    parser.add_argument("--tunnels", type=int, default=2000, help="in one run of small ones")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), help="these proxies alone")
    parser.add_argument("--only", nargs="*", choices=[one.name for one in SCENARIOS], help="these scenarios alone")
    parser.add_argument("--cores", default="0,1", help="core of the proxies, core of the ends")
    parser.add_argument("--no-save", action="store_true", help="print only, keep no file in benchmarks/results")
    options = parser.parse_args()
    options.scenarios = [one for one in SCENARIOS if not options.only or one.name in options.only]
    options.server_core, options.ends_core = (int(core) for core in options.cores.split(","))
    return options


def run_rounds(chosen: list[Peer], options: argparse.Namespace) -> dict[tuple[str, str], list[Sample]]:
    samples: dict[tuple[str, str], list[Sample]] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tandem-bench-")))
        folder.chmod(0o755)
        origin = stack.enter_context(run_origin(options.ends_core))
        servers = []
        for peer in chosen:
            servers.append(start(peer, folder, origin, options.server_core, logs=False, answers=listens))
            stack.callback(servers[-1].stop)
        for number in range(options.rounds):
            for scenario in options.scenarios:
                for server in servers:
                    sample = measure(server, scenario, origin, options)
                    samples.setdefault((scenario.name, server.name), []).append(sample)
                    print(f"round {number + 1} {scenario.name:6} {server.name:10} {sample}", file=sys.stderr)
    return samples


@contextlib.contextmanager
def run_origin(core: int) -> Iterator[int]:
    process = subprocess.Popen(ends(core, "origin"), stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def ends(core: int, *arguments: str) -> list[str]:
    return ["taskset", "-c", str(core), sys.executable, "-m", "benchmarks.tunnel.ends", *arguments]


def measure(server: Server, scenario: Scenario, origin: int, options: argparse.Namespace) -> Sample:
    """One run; SystemExit if a byte was wrong."""
    connect = [] if server.name == "haproxy" else ["--connect", f"127.0.0.1:{origin}"]
    common = ["--port", str(server.port), "--streams", str(scenario.streams), *connect]
    if scenario.small:
        command = ends(options.ends_core, "small", *common, "--count", str(options.tunnels))
    else:
        size = int(options.gigabytes * 1e9 / scenario.streams)
        command = ends(options.ends_core, "bulk", *common, "--bytes", str(size))
    pids = server.pids()
    before = cpu_seconds(pids)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    used = cpu_seconds(pids) - before
    if done.returncode:
        raise SystemExit(f"{server.name}, {scenario.title}: {done.stderr.strip()[-500:]}")
    told = json.loads(done.stdout)
    if scenario.small:
        cpu, rate = used * 1e6 / told["tunnels"], told["tunnels"] / told["seconds"]
        return Sample(round(cpu, 1), round(rate), round(told["p50_ms"], 3), round(told["p99_ms"], 3))
    return Sample(round(used * 1e9 / told["bytes"], 4), round(told["bytes"] / 1e9 / told["seconds"], 3))


def middle(samples: list[Sample]) -> float:
    return median(sample.cpu for sample in samples)


def table(chosen: list[Peer], options: argparse.Namespace, samples: dict[tuple[str, str], list[Sample]]) -> str:
    scenarios = options.scenarios
    lines = ["| |" + "|".join(f" {one.title} " for one in scenarios) + "|", "|---" * (len(scenarios) + 1) + "|"]
    for peer in chosen:
        cells = []
        for scenario in scenarios:
            mine = samples[scenario.name, peer.name]
            values = [sample.cpu for sample in mine]
            ours = samples.get((scenario.name, "tandem"))
            ratio = f"{middle(mine) / middle(ours):.2f}x of tandem; " if ours and peer.name != "tandem" else ""
            rate = median(sample.rate for sample in mine)
            unit = f"{rate:,.0f}/s, {median(s.p50_ms for s in mine):.2f} ms" if scenario.small else f"{rate:.2f} GB/s"
            digits = 0 if scenario.small else 3
            spread = f"{min(values):.{digits}f}-{max(values):.{digits}f}"
            cells.append(f" **{middle(mine):.{digits}f}** ({spread}; {ratio}{unit}) ")
        lines.append(f"| {peer.name} |" + "|".join(cells) + "|")
    return "\n".join(lines)


def save(chosen: list[Peer], options: argparse.Namespace, samples: dict[tuple[str, str], list[Sample]]) -> Path:
    facts = {
        **machine(),
        "versions": {peer.name: version_of(peer) for peer in chosen},
        "rounds": options.rounds,
        "gigabytes": options.gigabytes,
        "tunnels": options.tunnels,
        "cpus": os.cpu_count(),
        "wanted": f"{WANTED:g} times the bytes per CPU second of each peer",
    }
    runs = {
        scenario.name: {
            peer.name: [
                {"cpu": one.cpu, "rate": one.rate, "p50_ms": one.p50_ms, "p99_ms": one.p99_ms}
                for one in samples[scenario.name, peer.name]
            ]
            for peer in chosen
        }
        for scenario in options.scenarios
    }
    file = RESULTS / f"tunnel-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json"
    titles = {scenario.name: scenario.title for scenario in options.scenarios}
    file.write_text(json.dumps({"facts": facts, "titles": titles, "runs": runs}, indent=1) + "\n")
    return file


if __name__ == "__main__":
    sys.exit(main())
