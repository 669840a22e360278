"""Bytes held for clients, all together: what one connection may hold is bounded where it holds it, what thousands hold
is bounded here.

Who holds much says so: a head half received, requests sent ahead, a request's body or a relayed answer that nobody
takes. Beyond `free` the cache gives up memory for them; where it gives no more, connections are let go: those of the
address that holds most, the longest holding first, trusted hops last. What is stored is the store's own to bound.

Invariant: `total` is never above `free` and what the store has given, but for the turn of the loop in which it grows.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

    from proxy.cache.store import Store
    from proxy.exchange import Client

LIGHT = 8 * 2**10  # bytes that are not worth counting: heads are smaller
FREE = 32 * 2**20  # bytes beside the cache, of all workers together
STEP = 2**20  # bytes that the cache gives up at a time


class Holder(Protocol):
    """A client connection."""

    client: Client
    trusted: frozenset[str]

    @property
    def holding(self) -> int:
        """Bytes that wait here for this client, or came from it and wait."""

    def let_go(self) -> None:
        """Ends, whatever is in flight."""


class Hoard:
    """Who holds how much, the longest holding first."""

    __slots__ = ("_holders", "_loop", "_reserved", "_store", "free", "total")

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        self._holders: dict[Holder, int] = {}
        self._reserved = 0
        self.free = FREE
        self.total = 0

    def weigh(self, holder: Holder) -> None:
        """What it holds has changed. A weight may stay when less is held: all are looked at before anybody has to
        go.
        """
        self._note(holder)
        if self.total > self.free + self._reserved:
            self._relieve()

    def forget(self, holder: Holder) -> None:
        """It has ended."""
        self.total -= self._holders.pop(holder, 0)
        self._give_back()

    def __len__(self) -> int:
        return len(self._holders)

    def _note(self, holder: Holder) -> None:
        size = holder.holding
        if size < LIGHT:
            self.total -= self._holders.pop(holder, 0)
        else:
            self.total += size - self._holders.get(holder, 0)
            self._holders[holder] = size

    def _relieve(self) -> None:
        for holder in list(self._holders):
            self._note(holder)
        self._give_back()
        missing = self.total - self.free - self._reserved
        if missing <= 0:
            return
        if self._store.reserve(max(missing, STEP)):
            self._reserved += max(missing, STEP)
        else:
            self._let_some_go()

    def _give_back(self) -> None:
        if self._reserved:
            spare = min(self._reserved, self.free + self._reserved - self.total)
            if spare > 2 * STEP:
                self._store.release(spare - STEP)
                self._reserved -= spare - STEP

    def _let_some_go(self) -> None:
        """An eighth more than needed, so that the next look at all of them is not due at once."""
        held: Counter[str] = Counter()
        for holder, size in self._holders.items():
            held[holder.client.address] += size
        order = sorted(self._holders, key=lambda one: (bool(one.trusted), -held[one.client.address]))
        goal = (self.free + self._reserved) * 7 // 8
        for holder in order:
            if self.total <= goal:
                break
            self.total -= self._holders.pop(holder)
            self._loop.call_soon(holder.let_go)  # it may be in the middle of a write
