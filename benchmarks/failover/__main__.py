"""`python -m benchmarks.failover`: what clients notice when a node fails, with our pair and with keepalived.

Both stand in the same kind of namespaces behind the same probe. Each event happens to node A `--rounds` times; medians
(least-most) are printed beside the wanted figures. Events other than `isolate` happen at the 100 ms interval. The
worker's cache is filled before each event if it is not. An answer later than 50 ms is none for an outage. Everything
runs in namespaces that end with this program.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.failover import systems
from benchmarks.failover.watch import Watch, count_faults, outage_ms
from tests.kit import keepalived, netns

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks/results"
INTERVALS = ("1s", "100ms", "10ms")
LONGEST = 20.0  # seconds from an event until all is well again


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    title: str
    wanted: dict[str, float]  # by interval, milliseconds without an answer


EVENTS = (
    Event("isolate", "node lost (no frame passes)", {"1s": 2700, "100ms": 280, "10ms": 40}),
    Event("kill", "last worker killed", {"100ms": 10}),
    Event("hang", "all workers hang (SIGSTOP)", {"100ms": 600}),
    Event("ha", "VRRP process killed", {"100ms": 20}),
    Event("stop", "polite stop", {"100ms": 5}),
    Event("handover", "handover", {"100ms": 5}),
)


@dataclass(frozen=True, slots=True)
class Sample:
    outage_ms: float
    requests: int  # of those, a hundred a second, which had not ended before the event
    failed: dict[str, int]  # by what became of them


@dataclass(frozen=True, slots=True)
class System:
    name: str
    start: Callable[..., systems.Tandem | systems.Keepalived]  # (lab, folder, interval, megabytes)


def by_priorities(priorities: tuple[int, int]):
    return lambda *arguments: systems.Keepalived(*arguments, priorities)


SYSTEMS = (
    System("tandem", systems.Tandem),
    System("keepalived", by_priorities(systems.THEIRS)),
    System("keepalived, our priorities", by_priorities(systems.OURS)),
)
Samples = dict[tuple[str, str, str], list[Sample]]  # (event, interval, system)


def main() -> int:
    options = parse_arguments()
    if why := netns.why_not():
        raise SystemExit(f"{why}: run it as root")
    chosen = [system for system in SYSTEMS if system.name == "tandem" or keepalived.is_installed()]
    report = {"facts": facts(options), "samples": {}}
    samples: Samples = {}
    faults: list[str] = []
    end = time.monotonic() + options.minutes * 60
    try:
        for interval in options.intervals:
            events = [event for event in EVENTS if event.name in options.only and interval in event.wanted]
            for system in chosen if events else ():
                try:
                    run_system(system, interval, events, options, samples, end)
                except (AssertionError, OSError, subprocess.SubprocessError) as exc:
                    faults.append(f"{system.name} at {interval}: {str(exc) or type(exc).__name__}")
                    tell(faults[-1])
    except KeyboardInterrupt:
        faults.append("interrupted")
    print("\nms without an answer: median (least-most) xROUNDS; failed requests of 100 a second, all rounds together")
    print(table(chosen, samples))
    for fault in faults:
        print(f"not finished: {fault.splitlines()[0]}")
    report["samples"] = as_json(samples)
    report["faults"] = faults
    if samples and not options.no_save:
        print(f"\nsaved: {save(report).relative_to(ROOT)}")
    return 1 if faults else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.failover", description="Outages, side by side.")
    names = [event.name for event in EVENTS]
    parser.add_argument("--rounds", type=int, help="how often each event happens (7; with --quick 2)")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="these events alone")
    parser.add_argument("--intervals", nargs="+", choices=INTERVALS, help="of advertisements (all; with --quick 100ms)")
    parser.add_argument("--fill", type=int, help="megabytes in A's cache before each event (512; with --quick 0)")
    parser.add_argument("--quick", action="store_true", help="a first impression")
    parser.add_argument("--minutes", type=float, default=60, help="no new event begins after so long")
    parser.add_argument("--no-save", action="store_true", help="print only, keep no file in benchmarks/results")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 7)
    options.intervals = options.intervals or (["100ms"] if options.quick else list(INTERVALS))
    if options.fill is None:
        options.fill = 0 if options.quick else 512
    return options


def run_system(system: System, interval: str, events: list[Event], options, samples: Samples, end: float) -> None:
    """All rounds of all events with one system, each event in turn."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tandem-failover-")))
        lab = stack.enter_context(netns.make_lab())
        tell(f"{system.name} at {interval} starts")
        one = system.start(lab, folder, interval, options.fill)
        one.settle()
        watch = Watch(lab, folder, str(netns.VIP.ip))
        stack.callback(watch.close)
        filled = 0
        for number in range(options.rounds):
            for event in events:
                if time.monotonic() > end:
                    raise TimeoutError(f"{options.minutes:g} minutes are over")
                try:
                    if options.fill and one.node.pid("worker-0") != filled:
                        filled = systems.fill_cache(one.node, options.fill)
                    sample = happen(one, event, watch)
                except AssertionError as exc:
                    raise AssertionError(f"{event.name}: {exc}\n{one.said()}") from exc
                samples.setdefault((event.name, interval, system.name), []).append(sample)
                failed = f", failed {name_faults(sample.failed)}" if sample.failed else ""
                tell(f"round {number + 1} {system.name} at {interval} {event.name:9}{sample.outage_ms:8.1f} ms{failed}")


def happen(one: systems.Tandem | systems.Keepalived, event: Event, watch: Watch) -> Sample:
    """What the client noticed of one event; afterwards all is as before it."""
    watch.wait_until_well(one.quiet, LONGEST)
    at = time.monotonic()
    watch.forget(at - 1)
    try:
        one.do(event.name)
        watch.wait_until_well(one.quiet, LONGEST)
        asked = watch.since(at, "request")
        sample = Sample(round(outage_ms(watch.since(at, "probe"), at), 2), len(asked), count_faults(asked))
    finally:
        one.heal(event.name)
    one.settle()
    watch.forget_neighbour()
    return sample


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def table(chosen: list[System], samples: Samples) -> str:
    lines = ["| event | wanted |" + "|".join(f" {system.name} " for system in chosen) + "|"]
    lines.append("|---" * (len(chosen) + 2) + "|")
    for event in EVENTS:
        for interval, wanted in event.wanted.items():
            rows = [samples.get((event.name, interval, system.name)) for system in chosen]
            if any(rows):
                cells = "|".join(f" {cell(row)} " for row in rows)
                lines.append(f"| {event.title}, {interval} | {wanted:g} |{cells}|")
    return "\n".join(lines)


def cell(row: list[Sample] | None) -> str:
    if not row:
        return "-"
    values = [sample.outage_ms for sample in row]
    failed = sum((Counter(sample.failed) for sample in row), Counter())
    spread = f"{min(values):.1f}-{max(values):.1f}"
    return f"**{median(values):.1f}** ({spread}) x{len(row)}; {name_faults(failed) or 'none'} failed"


def name_faults(failed: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(failed.items()))


def as_json(samples: Samples) -> list[dict[str, object]]:
    return [
        {
            "event": event,
            "interval": interval,
            "system": system,
            "median_ms": median(sample.outage_ms for sample in row),
            "rounds": [asdict(sample) for sample in row],
        }
        for (event, interval, system), row in samples.items()
    ]


def facts(options: argparse.Namespace) -> dict[str, object]:
    """What must be known to compare two results."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _said("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"),
        "changed": bool(_said("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no")),
        "cpu": models[0].split(":", 1)[1].strip() if models else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "keepalived": (_said("keepalived", "--version").splitlines() or [""])[0],
        "load_before": os.getloadavg()[0],
        "rounds": options.rounds,
        "fill_megabytes": options.fill,
    }


def _said(*argv: str) -> str:
    if not shutil.which(argv[0]):
        return ""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


def save(report: dict[str, object]) -> Path:
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"failover-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json"
    file.write_text(json.dumps(report, indent=1) + "\n")
    return file


if __name__ == "__main__":
    sys.exit(main())
