"""When a child that has died is started again; pure.

At once after a first death, with growing pauses after further ones; five deaths within 30 s are a crash loop, in which
one try is made every 30 s. A life of 30 s ends a crash loop.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from config.units import MonoTime

if TYPE_CHECKING:
    from config.units import Seconds

DEATHS: Final = 5
WINDOW: Final = 30.0  # seconds; also the pause between two tries of a crash loop
_FIRST_PAUSE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Restart:
    """What a death leads to."""

    at: MonoTime
    crash_loop: bool = False
    news: bool = False  # the crash loop has just begun


@dataclass(slots=True)
class Restarts:
    """The deaths of one process. `count` of them in all; `looping` while it is in a crash loop."""

    count: int = 0
    looping: bool = False
    _deaths: deque[MonoTime] = field(default_factory=lambda: deque(maxlen=DEATHS))

    def died(self, now: MonoTime, lived: Seconds) -> Restart:
        """The process has died `lived` seconds after it was ready (0: it never was)."""
        self.count += 1
        self._deaths.append(now)
        was_looping = self.looping and lived < WINDOW
        recent = [at for at in self._deaths if now - at < WINDOW]
        self.looping = was_looping or len(recent) >= DEATHS
        if self.looping:
            return Restart(MonoTime(now + WINDOW), crash_loop=True, news=not was_looping)
        return Restart(MonoTime(now + _pause(len(recent))))

    def survived(self) -> None:
        """It has been ready for 30 s."""
        self.looping = False


def _pause(deaths: int) -> float:
    """0, 0.25, 0.5, 1 s."""
    return 0.0 if deaths == 1 else _FIRST_PAUSE * 2.0 ** (deaths - 2)
