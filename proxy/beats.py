"""Which workers have stopped beating while they run: a loop that hangs, or a process that is stopped. Pure.

What counts is how often somebody looked in vain, not how long ago it was: a machine that stood still has let nobody
look either. For the supervisor of a gateway (`fail = "open"` must not wait for a death); `ha` watches by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from config.units import MonoTime

if TYPE_CHECKING:
    from collections.abc import Mapping

EVERY: Final = 0.25  # seconds between looks; a worker beats five times meanwhile
MISSED: Final = 4  # looks in vain: a second


class Beats:
    """What was seen of each worker. Invariant: who beats is not among the hung from the next look on."""

    def __init__(self) -> None:
        self.next = MonoTime(0.0)  # when to look again
        self._seen: dict[str, tuple[int, int]] = {}  # beats, and looks at which they were no more

    def look(self, beats: Mapping[str, int], now: MonoTime) -> bool:
        """Whether the number of those that hang has changed; `beats`: of each worker that runs now."""
        before = self.hung
        self.next = MonoTime(now + EVERY)
        self._seen = {name: self._after(name, count) for name, count in beats.items()}
        return self.hung != before

    def _after(self, name: str, count: int) -> tuple[int, int]:
        last, missed = self._seen.get(name, (-1, 0))
        return count, missed + 1 if count == last else 0

    @property
    def hung(self) -> frozenset[str]:
        return frozenset(name for name, (_, missed) in self._seen.items() if missed >= MISSED)
