"""The end of every exchange: counters, histograms and log records, all in one place.

Two ways in: `finished` for exchanges that went the long way, and `repeated` for answers of the memo, which are equal
save for client and time. What is equal is worked out once, in a Template, by the same code (`_count`, `Format.bind`),
so that both ways leave the same counters and lines. Records are kept and written in batches: `flush` is called by the
worker's timer, and from here when a batch is full. Nothing here waits for a disk.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING

from proxy.errors import KINDS, Source
from proxy.exchange import Client, Exchange, Outcome
from proxy.observe import metrics
from proxy.observe.accesslog import Entry, Format, LogFile, Record, entry, masker, render_lines
from proxy.observe.recent import SAMPLE, Decision, Recent
from proxy.policy.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from config.units import MonoTime

EVERY = 0.25  # seconds between two flushes by timer: how far logs and /metrics may lag behind
BATCH = 1000  # records that make a flush at once

_OUTCOMES = {outcome: metrics.slot("tandem_requests_total", outcome=outcome.value) for outcome in Outcome}
_REASONS = {reason: metrics.slot("tandem_reasons_total", reason=reason.token) for reason in Reason}
_ERRORS = {token: metrics.slot("tandem_errors_total", error=token) for token in KINDS}
_STATUS = metrics.slot("tandem_responses_total", status="none")
_CUT = metrics.slot("tandem_responses_cut_total")
_MEMO_HITS = metrics.slot("tandem_memo_hits_total")
_SENT = metrics.slot("tandem_response_bytes_total")
_RECEIVED = metrics.slot("tandem_request_bytes_total")
_DURATION = metrics.slot("tandem_request_duration_seconds")
_FIRST_BYTE = metrics.slot("tandem_first_byte_seconds")
_LINES = metrics.slot("tandem_log_lines_total")
_DROPPED = metrics.slot("tandem_log_dropped_total")
_SITE_OUTCOMES = {
    outcome: metrics.site_offset("tandem_site_requests_total", outcome=outcome.value) for outcome in Outcome
}
_SITE_STATUS = metrics.site_offset("tandem_site_responses_total", status="none")
_SITE_SENT = metrics.site_offset("tandem_site_response_bytes_total")
_SITE_RECEIVED = metrics.site_offset("tandem_site_request_bytes_total")
_OURS = frozenset((Outcome.REFUSED, Outcome.FAILED))  # the error is the whole answer: nothing had begun


@dataclass(frozen=True, slots=True)
class AccessLog:
    """One access log: where its lines go and how they look."""

    file: LogFile
    form: Format


class Template:
    """All that is equal for each repetition of an answer. Valid for the Observer that made it until its `generation`
    changes.
    """

    __slots__ = ("counts", "generation", "lines", "pending", "said")

    def __init__(
        self,
        counts: tuple[tuple[int, int], ...],
        lines: tuple[str, ...],
        said: tuple[Entry, Reason | None],
        generation: int,
    ) -> None:
        self.counts = counts  # (slot, how much one repetition adds)
        self.lines = lines  # one bound line per log
        self.said = said  # what the ring of recent decisions tells of it
        self.generation = generation
        self.pending = 0  # repetitions not yet counted


class Observer:
    """Counts and logs what a worker does.

    `offset` gives wall time less monotonic time and is asked once per batch, so that a stepped clock shows. `masked`
    are the names of the arguments that carry session ids. Invariant: a Template with `pending` > 0 is in `_dirty`,
    once.
    """

    def __init__(
        self,
        slots: memoryview,
        layout: metrics.Layout,
        logs: Sequence[AccessLog] = (),
        *,
        offset: Callable[[], float],
        masked: Iterable[bytes] = (b"jsessionid",),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._clock = clock
        self._slots = slots
        self._offset = offset
        self._records: list[Record] = []
        self._dirty: list[Template] = []
        self._durations: dict[float, int] = {}  # seconds -> exchanges, since the last flush
        self._waits: dict[float, int] = {}  # likewise, to the origin's first byte
        self.recent = Recent()
        self.generation = 0
        self._apply(layout, logs, masked)
        if layout.sites:  # else: made before its configuration is known, and the region says for which sites it counts
            metrics.move_sites(slots, metrics.layout(), layout)

    def _apply(self, layout: metrics.Layout, logs: Sequence[AccessLog], masked: Iterable[bytes]) -> None:
        self._layout = layout
        self._logs = tuple(logs)
        self._mask = masker(masked)

    def configure(
        self, layout: metrics.Layout, logs: Sequence[AccessLog], masked: Iterable[bytes] = (b"jsessionid",)
    ) -> None:
        """Takes a new configuration. Templates made before are void: the memo must be emptied with it. Old files are
        closed.
        """
        self.flush()
        metrics.move_sites(self._slots, self._layout, layout)
        gone = [log.file for log in self._logs if all(log.file is not new.file for new in logs)]
        self._apply(layout, logs, masked)
        self.generation += 1
        for file in gone:
            file.close(patience=0)  # its thread writes what is left; traffic does not wait for that
            self._slots[_DROPPED] += file.take_dropped()

    # ---- the two ways in ---------------------------------------------------------------------------------------------

    def finished(self, x: Exchange, now: MonoTime) -> None:
        """The exchange has ended, whatever became of it; called once for each."""
        duration = now - x.started
        self._count(self._slots, x)
        self._time(x, duration)
        if not self._logs and not self.recent.room:
            return
        said = entry(x, self._mask)
        if self.recent.room:
            self.recent.room -= 1
            self.recent.note(Decision(said, x.detail, x.client.address, now, duration, 1))
        if self._logs:
            self._record((said, x.client, now, duration))

    def template(self, x: Exchange) -> Template:
        """What a repetition of this exchange leaves, if it takes no time and asks no origin."""
        template = self.likeness(x)
        return Template(
            (*template.counts, (_DURATION, 1), (_MEMO_HITS, 1)), template.lines, template.said, self.generation
        )

    def likeness(self, x: Exchange) -> Template:
        """What an exchange equal to this one leaves, but for the times it takes; see `alike`."""
        counts: Counter[int] = Counter()
        self._count(counts, x)
        said = entry(x, self._mask)
        lines = tuple(log.form.bind(said) for log in self._logs)
        return Template(tuple((at, n) for at, n in counts.items() if n), lines, (said, x.detail), self.generation)

    def alike(self, template: Template, x: Exchange, now: MonoTime) -> None:
        """As `finished`, for an exchange that differs from the template's in its times alone."""
        assert template.generation == self.generation
        if not template.pending:
            self._dirty.append(template)
        template.pending += 1
        duration = now - x.started
        durations, first = self._durations, x.first_byte  # as in `_time`, without a call
        durations[duration] = durations.get(duration, 0) + 1
        if first is not None:
            wait, waits = first - x.started, self._waits
            waits[wait] = waits.get(wait, 0) + 1
        if template.lines:
            self._record((template.lines, x.client, now, duration))

    def _record(self, record: Record) -> None:
        self._records.append(record)
        if len(self._records) >= BATCH:
            self.flush()

    def _time(self, x: Exchange, duration: float) -> None:
        """Times are kept until the batch is counted: the clock has whole milliseconds, so many are equal."""
        durations = self._durations
        durations[duration] = durations.get(duration, 0) + 1
        first = x.first_byte
        if first is not None:
            wait, waits = first - x.started, self._waits
            waits[wait] = waits.get(wait, 0) + 1
        if len(durations) > BATCH:
            self.flush()

    def repeated(self, template: Template, client: Client, now: MonoTime) -> None:
        """The memo gave the template's answer once more."""
        assert template.generation == self.generation
        if not template.pending:
            self._dirty.append(template)
        template.pending += 1
        if template.lines:
            self._record((template.lines, client, now, 0.0))

    def _count(self, slots: metrics.Slots, x: Exchange) -> None:
        place, outcome, failure = x.status // 100 if 100 <= x.status < 600 else 0, x.outcome, x.failure
        slots[_OUTCOMES[outcome]] += 1
        slots[_STATUS + place] += 1
        slots[_SENT] += x.sent
        slots[_RECEIVED] += x.received
        if x.reason is not None:
            slots[_REASONS[x.reason]] += 1
        if failure is not None:
            slots[_ERRORS[failure.kind.token]] += 1
            if outcome not in _OURS and failure.kind.source is not Source.CLIENT:
                slots[_CUT] += 1
        block = self._layout.blocks.get(x.site if x.route is None else x.route.site)
        if block is not None:
            slots[block + _SITE_OUTCOMES[outcome]] += 1
            slots[block + _SITE_STATUS + place] += 1
            slots[block + _SITE_SENT] += x.sent
            slots[block + _SITE_RECEIVED] += x.received

    # ---- batches -----------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Counts what the memo answered, and hands the lines of all that has ended to their files."""
        slots = self._slots
        recent = self.recent
        recent.room = SAMPLE
        for template in islice(self._dirty, SAMPLE):
            said, detail = template.said
            recent.note(Decision(said, detail, "", self._clock(), 0.0, template.pending))
        for template in self._dirty:
            times, template.pending = template.pending, 0
            for at, n in template.counts:
                slots[at] += n * times
        self._dirty.clear()
        for first, times_seen in ((_DURATION, self._durations), (_FIRST_BYTE, self._waits)):
            for seconds, n in times_seen.items():
                metrics.observe(slots, first, seconds, n)
            times_seen.clear()
        if self._records:
            self._write()
        for log in self._logs:
            slots[_DROPPED] += log.file.take_dropped()

    def _write(self) -> None:
        records, self._records = self._records, []
        offset = self._offset()
        for at, log in enumerate(self._logs):
            log.file.write(render_lines(records, log.form, at, offset), len(records))
            self._slots[_LINES] += len(records)

    def reopen(self) -> None:
        """After SIGUSR1: what has ended so far still goes to the old files."""
        self.flush()
        for log in self._logs:
            log.file.reopen()

    def close(self) -> None:
        """Writes what is left, with bounded patience."""
        self.flush()
        for log in self._logs:
            log.file.close()
            self._slots[_DROPPED] += log.file.take_dropped()

    def trouble(self) -> list[str]:
        """What the log files complain about, for the error log and status."""
        return [log.file.trouble for log in self._logs if log.file.trouble]
