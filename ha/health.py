"""How well this node is, out of what was found: effective priority, fitness, and the reasons as people read them.

Each finding has one effect. RESIGN: without it nobody answers, so the address must go. SERVICE: listeners answer, but
not as they should; the node yields to a better one only. WEIGHT: the priority alone. What is not known yet is not good,
but costs no priority. Hysteresis (`after_result`, `verdict`): bad after `fall` results in a row, good again after
`rise` and a time of stability. Whether to resign is decided in `machine.py`, where the others are known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final

from config.units import MonoTime
from ha.events import OWNER, Fitness, Health

if TYPE_CHECKING:
    from collections.abc import Iterable

STABLE: Final = 1.0  # seconds without a bad result until what was bad is good again


class Effect(Enum):
    RESIGN = "resign"
    SERVICE = "service"
    WEIGHT = "weight"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `good` is None until something is known."""

    name: str
    effect: Effect
    good: bool | None
    weight: int = 0  # what the priority loses while it is bad

    @property
    def reason(self) -> str:
        """Why it counts against the node; empty if it does not."""
        if self.good:
            return ""
        if self.good is None:
            return "" if self.effect is Effect.WEIGHT else f"{self.name}: not known yet"
        if self.effect is Effect.RESIGN:
            return f"{self.name}: resign"
        return f"{self.name}: -{self.weight}"


def assess(configured: int, findings: Iterable[Finding]) -> Health:
    """The configured priority less the weights of what is bad, 1 to 254; an owner's stays (RFC 9568 §6.1)."""
    known = tuple(findings)
    lost = sum(finding.weight for finding in known if finding.good is False)
    priority = OWNER if configured == OWNER else max(1, min(configured - lost, OWNER - 1))
    return Health(priority, _fitness(known), tuple(finding.reason for finding in known if finding.reason))


def _fitness(findings: tuple[Finding, ...]) -> Fitness:
    ill = {finding.effect for finding in findings if not finding.good}
    if Effect.RESIGN in ill:
        return Fitness.UNFIT
    return Fitness.LISTENING if Effect.SERVICE in ill else Fitness.SERVING


def find_workers(live: int, wanted: int, weight: int, *, peer_is_whole: bool) -> tuple[Finding, Finding]:
    """The last worker gone means resigning; one of several costs `weight`, if a peer has all of its own.

    A hung worker is none: `live` counts those that beat.
    """
    lost = live < wanted and peer_is_whole
    return (
        Finding("no live worker", Effect.RESIGN, live > 0),
        Finding(f"{live} of {wanted} workers", Effect.WEIGHT, not lost, weight),
    )


# ---- hysteresis ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Patience:
    """How many results in a row are believed. Deaths have fall 1: they are no opinion."""

    rise: int = 1
    fall: int = 1
    stable: float = STABLE


@dataclass(frozen=True, slots=True)
class Track:
    """The results of one check so far."""

    good: bool | None = None  # as last believed; a recovery that is not stable yet is still bad
    row: int = 0  # results in a row that are like the last one
    last: bool | None = None
    since: MonoTime = MonoTime(float("-inf"))  # noqa: RUF009 - a NewType's call makes no object: when the row began


def after_result(track: Track, *, good: bool, now: MonoTime, patience: Patience) -> Track:
    """The track after one more result."""
    if good is not track.last:
        track = replace(track, row=0, last=good, since=now)
    track = replace(track, row=track.row + 1)
    if not good:
        return replace(track, good=False) if track.row >= patience.fall else track
    if track.good is None and track.row >= patience.rise:
        return replace(track, good=True)  # nothing spoke against it before
    return replace(track, good=True) if verdict(track, now, patience) else track


def verdict(track: Track, now: MonoTime, patience: Patience) -> bool | None:
    """What is believed now: a recovery counts when it has lasted, whether or not new results came."""
    if track.good is False and track.last and track.row >= patience.rise:
        return now >= track.since + patience.stable
    return track.good


def settles_at(track: Track, patience: Patience) -> MonoTime | None:
    """When `verdict` turns good by itself, if it will."""
    if track.good is False and track.last and track.row >= patience.rise:
        return MonoTime(track.since + patience.stable)
    return None
