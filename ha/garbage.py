"""Garbage collection by hand: never while something is due, and never of what was there at the start.

A full collection takes a tenth of a second, which at an interval of 10 ms is ten advertisements. What is young takes
less than a millisecond, once a second.
"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Final

from config.units import MonoTime

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

EVERY: Final = 1.0  # seconds
_ROOM: Final = 0.003  # seconds until something is due, in which a collection has room


class Collector:
    """From `start` on the interpreter collects nothing by itself. `due`: when the loop has something to do next."""

    def __init__(self, loop: asyncio.AbstractEventLoop, due: Callable[[], MonoTime | None]) -> None:
        self._loop = loop
        self._due = due

    def start(self) -> None:
        """Before any timer runs: this one is a full collection."""
        gc.collect()
        gc.freeze()
        gc.disable()
        self._loop.call_later(EVERY, self.turn)

    def turn(self) -> None:
        self._loop.call_later(EVERY, self.turn)
        if has_room(self._due(), MonoTime(time.monotonic())):
            gc.collect(1)


def has_room(due: MonoTime | None, now: MonoTime) -> bool:
    """Whether a collection of what is young ends before something is due."""
    return due is None or due - now > _ROOM
