"""Samples of a run and what is made of them: measured beside wanted, and a file that can be gone on with. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.failover.rows import BOTH, MEASURES, ROWS, SYSTEMS, TANDEM

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from benchmarks.failover.rows import Bound, Row


@dataclass(frozen=True, slots=True)
class Sample:
    """One event that happened to one system."""

    row: str
    system: str
    measured: dict[str, float]
    failed: dict[str, int] = field(default_factory=dict)  # by what became of them
    took: float = 0.0  # seconds from one such event to the next, as far as it was written down


@dataclass(frozen=True, slots=True)
class Job:
    """One event that is still to happen."""

    row: Row
    system: str
    number: int  # of its rounds


class Tally:
    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self._cells: dict[tuple[str, str], list[Sample]] = defaultdict(list)
        for sample in samples:
            self.add(sample)

    def add(self, sample: Sample) -> None:
        self._cells[sample.row, sample.system].append(sample)

    def of(self, row: str, system: str) -> list[Sample]:
        return self._cells.get((row, system), [])

    def missing(self, rows: Iterable[Row], systems: Iterable[str], rounds: int) -> list[Job]:
        """What is still to be done, round by round within each system's laboratory."""
        chosen = tuple(systems)
        jobs = [
            Job(row, system, number)
            for row in rows
            for system in row.systems
            if system in chosen
            for number in range(len(self.of(row.name, system)), row.rounds(rounds))
        ]
        places = {row.name: place for place, row in enumerate(ROWS)}
        return sorted(jobs, key=lambda job: (*laboratory(job), job.number, places[job.row.name]))

    def is_over(self, row: Row, bound: Bound, system: str) -> bool:
        """Whether what was measured is more than what is wanted."""
        values = self._values(row, bound, system)
        if not values:
            return False
        over_median = bound.median is not None and median(values) > bound.median
        return over_median or (bound.worst is not None and max(values) > bound.worst)

    def failures(self) -> list[str]:
        """Our rows that are not as wanted."""
        return [
            f"{row.name}: {bound.measure}" for row in ROWS for bound in row.bounds if self.is_over(row, bound, TANDEM)
        ]

    def _values(self, row: Row, bound: Bound, system: str) -> list[float]:
        found = (sample.measured.get(bound.measure) for sample in self.of(row.name, system))
        return [value for value in found if value is not None]

    # ---- for people --------------------------------------------------------------------------------------------------

    def table(self) -> str:
        """A line for each figure that is wanted of each row that was measured."""
        heads = ("what happens to node A", "measure", "wanted", *self._systems())
        lines = list(self._lines())
        widths = [max(len(line[column]) for line in [heads, *lines]) for column in range(len(heads))]
        rule = tuple("-" * width for width in widths)
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in [heads, rule, *lines])

    def _systems(self) -> tuple[str, ...]:
        found = {system for _, system in self._cells}
        return tuple(sorted(found, key=lambda name: (name not in BOTH, BOTH.index(name) if name in BOTH else 0)))

    def _lines(self) -> Iterator[tuple[str, ...]]:
        for row in ROWS:
            if not any(self.of(row.name, system) for system in self._systems()):
                continue
            title = row.title
            for bound in row.bounds:
                cells = (self._cell(row, bound, system) for system in self._systems())
                yield (title, bound.measure + unit(bound), _wanted(bound), *cells)
                title = ""

    def _cell(self, row: Row, bound: Bound, system: str) -> str:
        values = self._values(row, bound, system)
        if not values:
            return "-"
        mark = "  OVER" if system == TANDEM and self.is_over(row, bound, system) else ""
        if bound.median is None:
            return f"{_number(max(values))} ({len(values)} rounds){mark}"
        return (
            f"{_number(median(values))} ({_number(min(values))} to {_number(max(values))}, {len(values)} rounds){mark}"
        )

    def failed(self) -> list[str]:
        """What became of failed requests, where no failure was wanted."""
        lines = []
        for (name, system), samples in self._cells.items():
            row = next((row for row in ROWS if row.name == name), None)
            kinds = sum((Counter(sample.failed) for sample in samples), Counter())
            if row is not None and kinds and any(bound.measure == "failed" for bound in row.bounds):
                lines.append(f"{system}, {name}: {name_faults(kinds)}")
        return lines

    # ---- for the file ------------------------------------------------------------------------------------------------

    def as_json(self) -> list[dict[str, object]]:
        return [asdict(sample) for samples in self._cells.values() for sample in samples]


def from_json(content: Iterable[dict]) -> Tally:
    """Raises TypeError for what is no sample of ours."""
    return Tally(Sample(**one) for one in content)


def laboratory(job: Job) -> tuple[int, str, str, str]:
    """Jobs of one laboratory follow each other in the same namespaces: ours first, then by system, interval, setup."""
    return SYSTEMS.index(job.system), job.system, job.row.interval, job.row.setup


def minutes(jobs: Iterable[Job]) -> float:
    """About how long they take."""
    listed = list(jobs)
    return (sum(job.row.seconds for job in listed) + 12 * len({laboratory(job) for job in listed})) / 60


def name_faults(failed: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(failed.items()))


def unit(bound: Bound) -> str:
    """With a space before it, where there is one."""
    name = MEASURES[bound.measure][0]
    return f" {name}" if name else ""


def _wanted(bound: Bound) -> str:
    parts = []
    if bound.median is not None:
        parts.append(f"<= {bound.median:g}")
    if bound.worst is not None:
        parts.append(f"worst <= {bound.worst:g}")
    return ", ".join(parts)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") if value < 100 else f"{value:.0f}"
