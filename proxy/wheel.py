"""Deadlines of all connections in one wheel: moving one later is one attribute write, and no timer is made per item.

An item says in `deadline` when its patience ends; whoever moves it later only writes the attribute, whoever moves it
earlier also calls `hasten`. The wheel looks at an item when its slot comes round and puts it back if the deadline has
moved. Work is cut in slices, so that thousands of idle connections delay nobody.

Invariants: a watched item is in exactly one slot, or in none while its deadline is infinite; an item never expires
before its deadline, and at most one tick after it plus the time of the slices in front of it.
"""

from __future__ import annotations

from itertools import islice
from math import ceil, floor, inf
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle
    from collections.abc import Callable, Iterable

TICK: Final = 0.25  # seconds; the finest patience in [limits] is seconds, so a quarter is exact enough
SLICE: Final = 512  # items looked at in one go: about 0.2 ms, less than one large read
_NOWHERE: Final = -1  # the slot of items that wait for ever


class Item(Protocol):
    """What can be watched: hashed by identity, as objects are by default."""

    deadline: float  # seconds of the loop's clock; infinite: none for now

    def expired(self, now: float) -> None:
        """The deadline has passed; the wheel has already let go of the item."""


class Wheel:
    """The wheel itself: no loop, no IO; `loop_time` is only asked when something new is watched."""

    __slots__ = ("_at", "_due", "_length", "_loop_time", "_reached", "_slots", "on_first")

    def __init__(self, loop_time: Callable[[], float], tick: float = TICK) -> None:
        self._loop_time = loop_time
        self._length = tick
        self._slots: dict[int, dict[Item, None]] = {}  # slot n holds deadlines in (n-1, n] ticks
        self._at: dict[Item, int] = {}
        self._due: dict[Item, None] = {}  # of the slots that were reached, not yet looked at
        self._reached = floor(loop_time() / tick)  # every slot up to this one has been emptied
        self.on_first: Callable[[], None] | None = None  # told when the empty wheel gets something to do

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, item: Item) -> bool:
        return item in self._at

    @property
    def behind(self) -> bool:
        """Items are due that the last slice did not reach."""
        return bool(self._due)

    @property
    def next_time(self) -> float:
        """When the next slot is full, in the loop's time."""
        return (self._reached + 1) * self._length

    def watch(self, item: Item) -> None:
        """The item is watched from now on; watching it again is the same as `hasten`."""
        if item in self._at:
            return self.hasten(item)
        first = not self._at
        if first:  # nothing turned the wheel while it was empty
            self._reached = floor(self._loop_time() / self._length)
        self._place(item)
        if first and self.on_first is not None:
            self.on_first()
        return None

    def hasten(self, item: Item) -> None:
        """The deadline of a watched item has moved earlier, or become finite."""
        if item in self._at:
            self._take(item)
            self._place(item)

    def forget(self, item: Item) -> None:
        """The item is not watched any more; nothing happens if it was not."""
        if item in self._at:
            self._take(item)
            del self._at[item]

    def tick(self, now: float, most: int = SLICE) -> list[Item]:
        """The items whose deadline has passed, taken off the wheel; at most `most` are looked at, see `behind`."""
        self._reach(floor(now / self._length))
        expired: list[Item] = []
        due, at = self._due, self._at
        for item in list(islice(due, most)):  # those that wait longest first
            del due[item]
            if item.deadline <= now:
                del at[item]
                expired.append(item)
            else:
                self._place(item)
        return expired

    def _reach(self, number: int) -> None:
        if number <= self._reached:
            return
        passed: Iterable[int] = range(self._reached + 1, number + 1)
        if number - self._reached > len(self._slots):  # after a long pause: what there is, not every slot of the time
            passed = sorted(n for n in self._slots if n <= number)
        for n in passed:
            self._due.update(self._slots.pop(n, {}))
        self._reached = number

    def _place(self, item: Item) -> None:
        deadline = item.deadline
        if deadline == inf:
            self._at[item] = _NOWHERE
            return
        # The next slot at the earliest: rounding must never put an item into a slot that has passed.
        number = max(ceil(deadline / self._length), self._reached + 1)
        self._at[item] = number
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = {}
        slot[item] = None

    def _take(self, item: Item) -> None:
        """Out of its slot; the caller puts it into another or drops it."""
        number = self._at[item]
        if item in self._due:
            del self._due[item]
        elif number != _NOWHERE:
            slot = self._slots[number]
            del slot[item]
            if not slot:
                del self._slots[number]


class Drive:
    """Turns a wheel on an asyncio loop, and rests while nothing is watched."""

    __slots__ = ("_handle", "_loop", "_stopped", "_wheel")

    def __init__(self, wheel: Wheel, loop: AbstractEventLoop) -> None:
        self._wheel = wheel
        self._loop = loop
        self._handle: TimerHandle | None = None
        self._stopped = False
        wheel.on_first = self._arm
        if len(wheel):
            self._arm()

    def stop(self) -> None:
        """Nothing expires any more."""
        self._wheel.on_first = None
        self._stopped = True
        if self._handle is not None:
            self._handle.cancel()

    def _arm(self) -> None:
        if self._handle is None and not self._stopped:
            # A slice that is behind goes on after one turn of the loop, so that others are served in between.
            when = self._loop.time() if self._wheel.behind else self._wheel.next_time
            self._handle = self._loop.call_at(when, self._turn)

    def _turn(self) -> None:
        now = self._loop.time()
        for item in self._wheel.tick(now):
            try:
                item.expired(now)
            except Exception as exc:  # noqa: BLE001 - one connection's fault must not stop everybody's deadlines
                self._loop.call_exception_handler(
                    {"message": "a deadline's handler failed", "exception": exc, "item": item}
                )
        self._handle = None
        if len(self._wheel):
            self._arm()
