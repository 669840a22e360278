"""`python -m benchmarks.failover`: what clients notice when a node fails, with our pair and with keepalived.

Both stand in the same kind of network namespaces behind the same probe; each event happens to node A again and again.
The table shows what was measured beside what is wanted. Everything ends with this program. A run may be cut short and
gone on with (`--resume`): its file in benchmarks/results is written after each event.
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
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.failover import rows, strain, systems, tally
from benchmarks.failover.holders import Holders
from benchmarks.failover.tally import Sample, Tally
from benchmarks.failover.watch import Watch, count_faults, outage_ms
from tests.kit import keepalived, netns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.failover.tally import Job

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks/results"
BEFORE = 1.0  # seconds without a fault before an event: sooner, the move before it still costs the client something
LONGEST = 20.0  # seconds from an event until all is well again

EPILOG = """\
how a round goes: both nodes are well and A holds the address (and its cache is filled); the event happens; when the
client has been well for a second (keepalived, where its next look at the proxy counts: 2.5 s), all is put back.
 * An outage is the time without an answer in 50 ms, from the last good question to the next good one. The client asks
   on a new connection every 2 ms, so figures are good to 2 ms. A second stream of 100 requests a second takes the
   origin up to 10 ms each: failed requests are counted in that one.
 * A node is lost, cut off or killed whole at a part of the interval after its last advertisement that is spread
   evenly over the rounds: of 7 at 1/14, 3/14 ... 13/14. So the median is that of the law (2.5 intervals and the skew
   time), not luck.
 * A's cache is filled for the rows in which memory has to be freed: workers, or all of A, killed or hung.
 * Yes-or-no rows and long ones get fewer rounds; rows at 10 ms under stress-ng last a minute and come once.
 * The worst of all rounds counts where "worst" is wanted, else the median.
"""


def main() -> int:
    options = parse_arguments()
    if options.list:
        print("\n".join(f"{row.name:18}{row.title}" for row in rows.ROWS))
        return 0
    if why := netns.why_not():
        raise SystemExit(f"{why}: run it as root")
    if options.table:
        return show(tally.from_json(json.loads(options.table.read_text())["samples"]), [])
    strain.DURATION["seconds"] = 10 if options.quick else 60
    report, file = begin(options)
    results = tally.from_json(report["samples"])
    chosen = [name for name in options.systems if name == rows.TANDEM or keepalived.is_installed()]
    jobs = results.missing([row for row in rows.ROWS if row.name in options.rows], chosen, options.rounds)
    tell(f"{len(jobs)} events, about {tally.minutes(jobs):.0f} minutes; to be seen in {file}")
    faults = run(jobs, results, options, lambda: save(report, results, file))
    return show(results, faults, file if results.as_json() else None)


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make failover",
        usage='make failover ARGS="[options]"',
        description="What clients notice of failures: our pair beside keepalived with the same proxy. As root.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [row.name for row in rows.ROWS]
    parser.add_argument(
        "--quick", action="store_true", help="a first impression in some minutes: 2 rounds, empty caches"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each event happens (7; with --quick 2)")
    parser.add_argument("--rows", type=listed(names), metavar="A,B", help="these rows alone (see --list)")
    parser.add_argument(
        "--systems", type=listed(rows.SYSTEMS), metavar="A,B", help="these alone, of " + ",".join(rows.SYSTEMS)
    )
    parser.add_argument("--fill", type=int, metavar="MB", help="in A's cache before each event (512; with --quick 0)")
    parser.add_argument("--minutes", type=float, default=90, metavar="N", help="no new event begins after so long")
    parser.add_argument("--resume", action="store_true", help="go on with the newest file: what is missing there")
    parser.add_argument("--list", action="store_true", help="the rows, and nothing else")
    parser.add_argument("--table", type=Path, metavar="FILE", help="the table of an earlier run, and nothing else")
    options = parser.parse_args(words)
    options.rounds = options.rounds or (2 if options.quick else 7)
    options.rows = options.rows or (rows.QUICK if options.quick else names)
    options.systems = options.systems or ((rows.TANDEM, rows.KEEPALIVED) if options.quick else rows.SYSTEMS)
    if options.fill is None:
        options.fill = 0 if options.quick else 512
    return options


def listed(known):
    """A parser of comma-separated names."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"no such name: {name}; there are: {'; '.join(known)}")
        return names

    return parse


def begin(options: argparse.Namespace) -> tuple[dict, Path]:
    """The report to be filled, and its file."""
    earlier = sorted(RESULTS.glob("failover-*.json"))
    if options.resume:
        if not earlier:
            raise SystemExit("there is no earlier run to go on with")
        report = json.loads(earlier[-1].read_text())
        report["facts"]["commits"] = sorted({*report["facts"]["commits"], *facts(options)["commits"]})
        options.rounds, options.fill = report["facts"]["rounds"], report["facts"]["fill_megabytes"]
        return report, earlier[-1]
    RESULTS.mkdir(parents=True, exist_ok=True)
    return {
        "facts": facts(options),
        "samples": [],
    }, RESULTS / f"failover-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json"


# ---- running ---------------------------------------------------------------------------------------------------------


def run(jobs: list[Job], results: Tally, options: argparse.Namespace, keep) -> list[str]:
    """What was not finished. Results are kept after each event."""
    faults: list[str] = []
    end = time.monotonic() + options.minutes * 60
    progress = Progress(jobs)
    try:
        for _, group in groupby(jobs, key=tally.laboratory):
            left = list(group)
            while left:
                left = run_laboratory(left, results, options, end, progress, faults, keep)
    except KeyboardInterrupt:
        faults.append("interrupted; --resume goes on")
    except TimeoutError as exc:
        faults.append(f"{exc}; --resume goes on")
    return faults


def run_laboratory(jobs, results, options, end, progress, faults, keep) -> list[Job]:
    """Events that follow each other in the same namespaces; what is left after one that failed, without its row."""
    first = jobs[0]
    done = 0
    try:
        with laboratory(first, options.fill) as (system, watch, holders):
            filled = 0
            for job in jobs:
                if time.monotonic() > end:
                    raise TimeoutError(f"{options.minutes:g} minutes are over")
                begun = time.monotonic()
                if options.fill and job.row.fills and system.node.pid("worker-0") != filled:
                    filled = systems.fill_cache(system.node, options.fill)
                sample = happen(job, options.rounds, system, watch, holders)
                sample = replace(sample, took=round(time.monotonic() - begun, 1))
                results.add(sample)
                keep()
                done += 1
                progress.tell(job, sample)
    except (AssertionError, OSError, subprocess.SubprocessError) as exc:
        if isinstance(exc, TimeoutError):
            raise
        row = jobs[done].row.name
        faults.append(f"{first.system}, {row}: {str(exc) or type(exc).__name__}")
        tell(faults[-1])
        return [job for job in jobs[done:] if job.row.name != row]
    return []


@contextmanager
def laboratory(job: Job, fill: int) -> Iterator[tuple[systems.System, Watch, Holders]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tandem-failover-")))
        lab = stack.enter_context(netns.make_lab())
        system = systems.start(job.system, lab, folder, job.row, fill)
        try:
            system.settle()
            watch = Watch(lab, folder, str(netns.VIP.ip))
            stack.callback(watch.close)
            holders = Holders(lab, netns.VIP.ip)
            stack.callback(holders.close)
            yield system, watch, holders
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{system.said()}") from exc


def happen(job: Job, rounds: int, system: systems.System, watch: Watch, holders: Holders) -> Sample:
    """What was noticed of one event; afterwards all is as before it."""
    event = job.row.event
    system.prepare(event)
    watch.wait_until_well(BEFORE, LONGEST)
    watch.forget(time.monotonic() - 1)
    try:
        done = system.do(event, (job.number + 0.5) / job.row.rounds(rounds))
        if event != "origins":  # nothing can be well then
            watch.wait_until_well(system.wait(event), LONGEST)
        now = time.monotonic()
        asked = count_faults(watch.since(done.at, "request"))
        taken = holders.history.gained("b", done.at)
        measured = {
            "outage": round(outage_ms(watch.since(done.at, "probe"), done.at), 2),
            "failed": sum(asked.values()),
            "moves": holders.history.moves(done.at),
            "both": round(1000 * holders.history.both(done.at, now), 2),
            **({} if taken is None else {"yield": round(1000 * taken, 2)}),
            **{name: round(value, 2) for name, value in done.measured.items()},
        }
    finally:
        system.heal(event)
    system.settle()
    watch.forget_neighbour()
    return Sample(job.row.name, job.system, measured, asked)


class Progress:
    """A line for each event that has happened, with how many are left and for how long."""

    def __init__(self, jobs: list[Job]) -> None:
        self._jobs = jobs
        self._done = 0

    def tell(self, job: Job, sample: Sample) -> None:
        self._done += 1
        shown = ", ".join(
            f"{bound.measure} {sample.measured[bound.measure]:g}{tally.unit(bound)}"
            for bound in job.row.bounds
            if bound.measure in sample.measured
        )
        left = tally.minutes(self._jobs[self._done :])
        tell(f"[{self._done}/{len(self._jobs)}, {left:.0f} min left] {job.system}: {job.row.title}: {shown}")


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# ---- showing ---------------------------------------------------------------------------------------------------------


def show(results: Tally, faults: list[str], file: Path | None = None) -> int:
    """The exit status: 1 if something of ours is not as wanted, or was not finished."""
    print("\nmedian (least to most, rounds) where a median is wanted, else the worst of all rounds\n")
    print(results.table())
    lost = results.failed()
    if lost:
        print("\nrequests that failed where none should:\n  " + "\n  ".join(lost))
    over = results.failures()
    print("\nall of ours as wanted" if not over else "\nnot as wanted: " + "; ".join(over))
    for fault in faults:
        print(f"not finished: {fault.splitlines()[0]}")
    if file is not None:
        print(f"saved: {file.relative_to(ROOT)}")
    return 1 if faults or over else 0


def save(report: dict, results: Tally, file: Path) -> None:
    report["samples"] = results.as_json()
    text = json.dumps(report, indent=1) + "\n"
    written = file.with_suffix(".part")
    written.write_text(text)
    written.rename(file)


def facts(options: argparse.Namespace) -> dict[str, object]:
    """What must be known to compare two results."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    changed = _said("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no")
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commits": [_said("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD") + ("+" if changed else "")],
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


if __name__ == "__main__":
    sys.exit(main())
