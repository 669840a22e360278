"""How often an origin that fails is asked again for what stands in for it: less and less often, within a bound.

While stale responses are served because refreshes fail, each request would else bring the next failure, and an origin
that is about to come back would get all of its clients at once. Kept per key, for another key may be well. Nothing
here allows a stale answer; it only puts off the next question where one is allowed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST: Final = 1.0  # seconds without a question after a failure; twice as many after each further one,
MOST: Final = 10.0  # but no more
FORGOTTEN: Final = 60.0  # seconds without a failure after which the next one is a first
KEYS: Final = 4096


class Brake:
    """False while no key has failed."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._failing: LRUCache[bytes, tuple[int, float]] = LRUCache(KEYS)  # failures in a row, and until when it holds

    def __bool__(self) -> bool:
        return bool(self._failing)

    def failed(self, key: bytes) -> None:
        """The origin did not answer for it. Several questions that were under way together are one failure."""
        now = self._now()
        count, until = self._failing.get(key, (0, now))
        if now < until:
            return
        count = 1 if now - until > FORGOTTEN else count + 1
        self._failing[key] = (count, now + min(MOST, FIRST * 2.0 ** min(count - 1, 16)))

    def answered(self, key: bytes) -> None:
        """The origin is back."""
        if self._failing:
            self._failing.pop(key, None)

    def holds(self, key: bytes, *, after: int = 1) -> bool:
        """The origin is not to be asked now; `after` so many failures in a row."""
        if not self._failing:
            return False
        count, until = self._failing.get(key, (0, 0.0))
        return count >= after and self._now() < until
