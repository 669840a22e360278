"""ONE table of metrics: name, kind, help and closed label sets, mapped to 64-bit slots of a shared region.

Each process has a region of its own and is its only writer: counting is `view[i] += 1`, without lock or call. Readers
add the regions up. No label value comes from the wire: labels are enums, rows of the error table, and names of
configured sites. Invariants: slots are a function of this table and of the configuration's site order alone, the same
in every process; counters only grow, and go on in the same slots when a process starts again; gauges are set, never
added to.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from itertools import product
from mmap import mmap
from typing import TYPE_CHECKING, Protocol

from proxy.errors import KINDS
from proxy.exchange import Outcome
from proxy.policy.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

SLOTS = 8192  # per process
REGION = 8 * SLOTS  # bytes
OTHER = "other"  # sites for which no block is left share one
Buffer = bytearray | memoryview | mmap


class Slots(Protocol):
    """The slots of a region, or a Counter that stands in for them."""

    def __getitem__(self, at: int, /) -> int: ...
    def __setitem__(self, at: int, value: int, /) -> None: ...


class Kind(Enum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


Labels = tuple[tuple[str, tuple[str, ...]], ...]  # ((name, values), …)


@dataclass(frozen=True, slots=True)
class Metric:
    """One row; the value shown is the slot's times `scale`, as slots hold whole numbers only."""

    name: str
    kind: Kind
    help: str
    labels: Labels = ()
    scale: float = 1


MICRO = 1e-6
# Upper bounds in seconds, each twice the one before: 100 µs is a hit, 105 s is beyond every patience.
BOUNDS = tuple(0.0001 * 2**k for k in range(21))
STATUS = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")  # place = status // 100
OUTCOMES = tuple(outcome.value for outcome in Outcome)

_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
_OUTCOME = ("outcome", OUTCOMES)

METRICS: tuple[Metric, ...] = (
    Metric("tandem_requests_total", _C, "Exchanges ended, by what became of them.", (_OUTCOME,)),
    Metric("tandem_responses_total", _C, "Exchanges ended, by class of the status sent.", (("status", STATUS),)),
    Metric("tandem_reasons_total", _C, "Why the cache did what it did.", (("reason", tuple(r.token for r in Reason)),)),
    Metric("tandem_errors_total", _C, "Exchanges that met an error, by its token.", (("error", tuple(KINDS)),)),
    Metric(
        "tandem_responses_cut_total", _C, "Answers that had begun and could not be finished: the client saw the cut."
    ),
    Metric("tandem_response_bytes_total", _C, "Bytes of response bodies sent to clients."),
    Metric("tandem_request_bytes_total", _C, "Bytes of request bodies received from clients."),
    Metric("tandem_request_duration_seconds", _H, "Time from a request's head to the end of its answer.", scale=MICRO),
    Metric("tandem_first_byte_seconds", _H, "Time from a request's head to the origin's response head.", scale=MICRO),
    Metric("tandem_connections_total", _C, "Client connections accepted."),
    Metric("tandem_connections_refused_total", _C, "Client connections closed at once because of a limit."),
    Metric("tandem_upstream_connections_total", _C, "Connections opened to origins."),
    Metric("tandem_upstream_reused_total", _C, "Requests that went over a pooled connection."),
    Metric("tandem_retries_total", _C, "Requests repeated at another origin or over another connection."),
    Metric("tandem_ejections_total", _C, "Origins put aside after failures seen in traffic."),
    Metric("tandem_collapsed_total", _C, "Requests that waited for another request's fetch of the same key."),
    Metric("tandem_stored_total", _C, "Responses stored."),
    Metric("tandem_evicted_total", _C, "Stored responses that left for want of space."),
    Metric("tandem_invalidated_total", _C, "Stored responses invalidated by unsafe methods."),
    Metric("tandem_purged_total", _C, "Stored responses purged by an operator."),
    Metric("tandem_memo_hits_total", _C, "Hits that were answered from the memo."),
    Metric("tandem_disk_loaded_total", _C, "Stored responses brought back from disk."),
    Metric("tandem_disk_dropped_total", _C, "Stored responses not written to disk, which was too slow or failed."),
    Metric("tandem_disk_damaged_total", _C, "Stored responses on disk that were not what was written."),
    Metric("tandem_log_lines_total", _C, "Access log lines handed to their file."),
    Metric(
        "tandem_log_dropped_total", _C, "Access log lines dropped: disk full, reader too slow, or file not writable."
    ),
    Metric("tandem_connections_open", _G, "Client connections open."),
    Metric("tandem_upstream_connections_open", _G, "Connections to origins open, idle ones too."),
    Metric("tandem_upstream_connections_idle", _G, "Connections to origins waiting in the pool."),
    Metric("tandem_exchanges_open", _G, "Exchanges under way."),
    Metric("tandem_tunnels_open", _G, "Tunnels and upgraded connections open."),
    Metric("tandem_store_bytes", _G, "Memory of the store: bodies, heads and index together."),
    Metric("tandem_store_entries", _G, "Stored responses."),
    Metric("tandem_disk_bytes", _G, "Space in use of the cache on disk."),
    Metric("tandem_disk_entries", _G, "Stored responses on disk."),
    Metric("tandem_memo_entries", _G, "Ready answers in the memo."),
    Metric("tandem_memo_bytes", _G, "Memory of the memos; with tandem_store_bytes at most [cache] memory."),
    Metric("tandem_loop_lag_seconds", _G, "Longest delay of the event loop within the last second.", scale=MICRO),
)

# The block of one site, repeated for each.
SITE_METRICS: tuple[Metric, ...] = (
    Metric("tandem_site_requests_total", _C, "Exchanges of a site ended, by what became of them.", (_OUTCOME,)),
    Metric(
        "tandem_site_responses_total",
        _C,
        "Exchanges of a site ended, by class of the status sent.",
        (("status", STATUS),),
    ),
    Metric("tandem_site_response_bytes_total", _C, "Bytes of response bodies a site sent to clients."),
    Metric("tandem_site_request_bytes_total", _C, "Bytes of request bodies a site received from clients."),
)


def _series(metric: Metric) -> list[tuple[tuple[str, str], ...]]:
    """The label sets of a metric in the order of their slots: one set, the empty one, where it has no labels."""
    return list(product(*([(name, value) for value in values] for name, values in metric.labels)))


def _width(metric: Metric) -> int:
    if metric.kind is Kind.HISTOGRAM:
        return len(BOUNDS) + 2  # its buckets, the one above all bounds, and the sum
    return len(_series(metric))


def _place(metrics: Sequence[Metric]) -> dict[tuple[str, tuple[tuple[str, str], ...]], int]:
    """(name, labels) -> slot, counted from 0; of a histogram the first slot."""
    at = 0
    places: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
    for metric in metrics:
        if metric.kind is Kind.HISTOGRAM:
            assert not metric.labels
            places[metric.name, ()] = at
        else:
            places.update({(metric.name, labels): at + i for i, labels in enumerate(_series(metric))})
        at += _width(metric)
    return places


_PLACES = _place(METRICS)
_SITE_PLACES = _place(SITE_METRICS)
FIXED = sum(map(_width, METRICS))  # slots of METRICS; the sites' blocks follow
BLOCK = sum(map(_width, SITE_METRICS))
MARK = SLOTS - 1  # the slot that tells for which sites the blocks are: `Layout.mark`
MAX_SITES = (MARK - FIXED) // BLOCK


def slot(name: str, **labels: str) -> int:
    """The slot of a row of METRICS with these labels (of a histogram its first); KeyError if there is none."""
    return _PLACES[name, tuple(labels.items())]


def site_offset(name: str, **labels: str) -> int:
    """The slot of a row of SITE_METRICS within a site's block."""
    return _SITE_PLACES[name, tuple(labels.items())]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the sites' counters are: `blocks[site]` is the first slot of its block, `site_offset` leads on."""

    sites: tuple[str, ...]  # names in the order of their blocks
    blocks: Mapping[str, int]

    @property
    def used(self) -> int:
        return FIXED + BLOCK * len(self.sites)

    @property
    def mark(self) -> int:
        """A digest of the sites in their order; 0 for none, as in a region that is new."""
        text = "\0".join(self.sites).encode("utf-8", "surrogateescape")
        return int.from_bytes(blake2b(text, digest_size=8).digest()) if self.sites else 0


def layout(sites: Sequence[str] = ()) -> Layout:
    """The layout for these sites, in the configuration's order; those for which no block is left share the last,
    `other`.
    """
    names = tuple(dict.fromkeys(sites))
    own = names
    if len(names) > MAX_SITES:
        own = (*[name for name in names if name != OTHER][: MAX_SITES - 1], OTHER)
    blocks = {name: FIXED + BLOCK * i for i, name in enumerate(own)}
    for name in names:
        blocks.setdefault(name, blocks[own[-1]])
    return Layout(own, blocks)


def view(region: Buffer) -> memoryview:
    """The slots of a region of at least REGION bytes; what is behind them is not touched."""
    return memoryview(region)[:REGION].cast("B").cast("Q")


def observe(slots: Slots, first: int, seconds: float, times: int = 1) -> None:
    """Counts a time, seen so many times, in the histogram that begins at `first`."""
    slots[first + bisect_left(BOUNDS, seconds)] += times
    slots[first + len(BOUNDS) + 1] += max(0, int(seconds * 1e6)) * times


def clear_gauges(slots: memoryview) -> None:
    """Done by a process that starts on the region of a predecessor: its counters go on, its gauges died with it."""
    for metric in METRICS:
        if metric.kind is Kind.GAUGE:
            slots[slot(metric.name)] = 0


def move_sites(slots: memoryview, old: Layout, new: Layout) -> None:
    """The region counts for the sites of `new` from now on.

    Sites that stay keep their counters in their new blocks, the others start from zero. A process that starts on the
    region of a predecessor (`old` is empty then) goes on where that one counted for the same sites.
    """
    if slots[MARK] == new.mark:
        return
    known = old.sites if slots[MARK] == old.mark else ()
    kept = {name: slots[old.blocks[name] : old.blocks[name] + BLOCK].tolist() for name in known}
    for i in range(FIXED, SLOTS):
        slots[i] = 0
    for name in new.sites:
        for i, value in enumerate(kept.get(name, ()), new.blocks[name]):
            slots[i] = value
    slots[MARK] = new.mark


# ---- reading ---------------------------------------------------------------------------------------------------------


def total(regions: Mapping[str, memoryview], name: str, **labels: str) -> float:
    """The sum of a metric over processes."""
    at = slot(name, **labels)
    scale = next(metric.scale for metric in METRICS if metric.name == name)
    return sum(slots[at] for slots in regions.values()) * scale


def render(regions: Mapping[str, memoryview], sites: Layout) -> str:
    """Prometheus text (version 0.0.4): counters and histograms summed over processes, gauges of each process by its
    name.
    """
    lines: list[str] = []
    totals = [sum(values) for values in zip(*(slots[: sites.used] for slots in regions.values()), strict=True)]
    for metric in METRICS if regions else ():
        lines += _header(metric)
        at = _first(metric)
        if metric.kind is Kind.HISTOGRAM:
            lines += _histogram(metric, totals[at : at + _width(metric)])
        elif metric.kind is Kind.GAUGE:
            lines += [_sample(metric, (("process", name),), slots[at]) for name, slots in regions.items()]
        else:
            lines += [_sample(metric, labels, totals[at + i]) for i, labels in enumerate(_series(metric))]
    for metric in SITE_METRICS if totals else ():
        lines += _header(metric)
        lines += _sites(metric, totals, sites)
    return "\n".join([*lines, ""])


def render_checks(verdicts: Iterable[tuple[str, str, bool]]) -> str:
    """What the active checks say of (pool, address, up): known to admin alone, so without slots."""
    lines = [f'tandem_check_up{{pool="{_escape(p)}",upstream="{_escape(a)}"}} {int(up)}' for p, a, up in verdicts]
    header = ["# HELP tandem_check_up Whether the active check finds an origin good.", "# TYPE tandem_check_up gauge"]
    return "\n".join([*header, *lines, ""]) if lines else ""


def _first(metric: Metric) -> int:
    return _PLACES[metric.name, _series(metric)[0]]


def _header(metric: Metric) -> list[str]:
    return [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind.value}"]


def _sites(metric: Metric, totals: Sequence[int], sites: Layout) -> Iterator[str]:
    for name in sites.sites:
        at = sites.blocks[name]
        for labels in _series(metric):
            yield _sample(metric, (("site", name), *labels), totals[at + _SITE_PLACES[metric.name, labels]])


def _histogram(metric: Metric, values: Sequence[int]) -> Iterator[str]:
    seen = 0
    for bound, count in zip((*map(repr, BOUNDS), "+Inf"), values[:-1], strict=True):
        seen += count
        yield f'{metric.name}_bucket{{le="{bound}"}} {seen}'
    yield f"{metric.name}_sum {values[-1] * metric.scale!r}"
    yield f"{metric.name}_count {seen}"


def _sample(metric: Metric, labels: tuple[tuple[str, str], ...], value: int) -> str:
    shown = str(value) if metric.scale == 1 else repr(value * metric.scale)
    inner = ",".join(f'{name}="{_escape(text)}"' for name, text in labels)
    return f"{metric.name}{{{inner}}} {shown}" if inner else f"{metric.name} {shown}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
