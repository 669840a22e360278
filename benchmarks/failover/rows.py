"""What happens in a run, row by row, and the figures that are wanted of it. Data alone; who does it: `systems.py`.

A bound is on the median of all rounds, or on the worst of them. `share` says how many of the rounds a row gets: where
the answer is yes or no, or an event lasts long, a few are enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

TANDEM, KEEPALIVED, OURS = "tandem", "keepalived", "keepalived-250/240"  # OURS: with the priorities of ours
SYSTEMS = (TANDEM, KEEPALIVED, OURS)
BOTH = (TANDEM, KEEPALIVED)

# What is measured: unit and meaning.
MEASURES = {
    "outage": ("ms", "without an answer within 50 ms, of a client that asks every 2 ms"),
    "failed": ("", "failed requests, of 100 new connections a second whose answers take up to 10 ms"),
    "moves": ("", "how often a node got the address, by the kernels' word"),
    "both": ("ms", "two nodes held the address"),
    "yield": ("ms", "until the other node held the address"),
    "gap": ("ms", "longest between two advertisements"),
    "cpu": ("%", "of a core that the VRRP process of A took"),
    "lines": ("", "log lines of A"),
}


@dataclass(frozen=True, slots=True)
class Bound:
    measure: str
    median: float | None = None
    worst: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    event: str  # what `systems.py` does
    title: str
    bounds: tuple[Bound, ...]
    interval: str = "100ms"
    setup: str = (
        "plain"  # or "paths": the peer link has a network of its own; "preempt"; "ordinary": no real-time rights
    )
    systems: tuple[str, ...] = (TANDEM,)
    share: float = 1.0
    seconds: float = 4.0  # that one round takes, for the estimate

    @property
    def fills(self) -> bool:
        """Whether the memory of A's worker has a part in it."""
        return self.event in {"kill", "hang", "supervisor", "group"}

    def rounds(self, wanted: int) -> int:
        return max(1, ceil(wanted * self.share))


def _outage(median: float, *more: Bound, worst: float | None = None) -> tuple[Bound, ...]:
    return (Bound("outage", median, worst), *more)


_NONE_FAILED = Bound("failed", worst=0)
_NO_MOVE = Bound("moves", worst=0)
_ONE_MOVE = Bound("moves", worst=1)
_SHORT = {"share": 0.4}

ROWS = (
    # A node is lost between two advertisements: 2.5 intervals and the skew time is the law, 3 the worst.
    Row("loss-1s", "loss", "node lost, at 1 s", _outage(2700, worst=3100), "1s", systems=SYSTEMS, seconds=7.5),
    Row("loss-100ms", "loss", "node lost, at 100 ms", _outage(280, worst=320), systems=SYSTEMS),
    Row("loss-10ms", "loss", "node lost, at 10 ms", _outage(40, worst=45), "10ms", systems=SYSTEMS),
    Row("cut", "cut", "cable cut", _outage(280, worst=320), systems=BOTH),
    Row("cut-paths", "cut", "cable cut, link on another path", _outage(10), setup="paths"),
    Row("stop", "stop", "polite stop", _outage(5, _NONE_FAILED, _ONE_MOVE), systems=BOTH, seconds=9.5),
    Row("handover", "handover", "handover", _outage(5, _NONE_FAILED, _ONE_MOVE), systems=BOTH),
    Row("drill", "drill", "drill: there and back", _outage(5, _NONE_FAILED), share=0.6),
    Row(
        "failback",
        "failback",
        "A's cable is back, no preempt",
        _outage(5, _NONE_FAILED, _NO_MOVE),
        seconds=4.5,
        **_SHORT,
    ),
    Row(
        "failback-preempt",
        "failback",
        "A's cable is back, preempt",
        _outage(5, _NONE_FAILED, _ONE_MOVE),
        setup="preempt",
        systems=BOTH,
        share=0.6,
        seconds=6.5,
    ),
    Row("hang", "hang", "all workers hang", _outage(600), systems=BOTH, seconds=7.5),
    Row("kill", "kill", "last worker killed", _outage(10), systems=BOTH, seconds=4.5),
    Row("ha", "ha", "VRRP process killed", _outage(20), systems=BOTH),
    Row("supervisor", "supervisor", "supervisor killed", _outage(20), share=0.6, seconds=9.5),
    Row(
        "group", "group", "all of A killed at once", _outage(280, Bound("both", worst=1200)), systems=BOTH, seconds=11.5
    ),
    Row(
        "freeze",
        "freeze",
        "VRRP process frozen for 5 s",
        (Bound("both", worst=1200), _ONE_MOVE),
        systems=BOTH,
        seconds=8.5,
        **_SHORT,
    ),
    Row("mute", "mute", "A's advertisements lost for 5 s", (_NO_MOVE, _NONE_FAILED), systems=BOTH, seconds=8, **_SHORT),
    Row("deafen", "deafen", "those to A lost for 5 s", (_NO_MOVE, _NONE_FAILED), systems=BOTH, seconds=8, **_SHORT),
    Row(
        "partition",
        "partition",
        "heal after 5 s of partition",
        _outage(50, Bound("both", worst=100), _ONE_MOVE),
        systems=BOTH,
        seconds=8.5,
        **_SHORT,
    ),
    Row("reload", "reload", "ten reloads of each node", (_NO_MOVE, _NONE_FAILED), share=0.2, seconds=4),
    Row("reload-list", "reload-list", "an address comes and goes by reload", (_NO_MOVE, _NONE_FAILED), **_SHORT),
    Row(
        "boot",
        "boot",
        "A starts, its origin 5 s later, preempt",
        (_NONE_FAILED, _ONE_MOVE),
        setup="preempt",
        seconds=12.5,
        **_SHORT,
    ),
    Row(
        "origin",
        "origin",
        "A's origin gone (two checks, 200 ms apart)",
        (Bound("yield", 500), _ONE_MOVE),
        seconds=5,
        **_SHORT,
    ),
    Row("origins", "origins", "origin of both gone", (_NO_MOVE,), seconds=5, **_SHORT),
    Row(
        "flood",
        "flood",
        "50 000 forged advertisements a second, 3 s",
        (_NO_MOVE, _NONE_FAILED, Bound("cpu", worst=30), Bound("lines", worst=20)),
        seconds=8.5,
        **_SHORT,
    ),
    Row(
        "trickle",
        "trickle",
        "40 a second of each fault, 10 s",
        (_NO_MOVE, _NONE_FAILED, Bound("lines", worst=20)),
        seconds=14.5,
        share=0.2,
    ),
    # Nothing happens but other programs: at 10 ms, for a minute.
    Row(
        "busy",
        "busy",
        "60 s beside stress-ng --cpu 2",
        (_NO_MOVE, Bound("gap", worst=20)),
        "10ms",
        share=0.1,
        seconds=64,
    ),
    Row(
        "busy-heavy",
        "busy-heavy",
        "60 s beside --cpu 8 --io 2 --vm 2 --fork 2",
        (_NO_MOVE, Bound("gap", worst=20)),
        "10ms",
        share=0.1,
        seconds=64,
    ),
    Row(
        "busy-ordinary",
        "busy",
        "60 s beside --cpu 2, no real-time rights",
        (_NO_MOVE, Bound("gap", worst=30)),
        "10ms",
        setup="ordinary",
        share=0.1,
        seconds=64,
    ),
)
QUICK = (
    *("loss-100ms", "cut", "stop", "handover", "failback-preempt", "kill", "hang", "ha", "group"),
    *("mute", "partition", "origins", "flood"),
)
