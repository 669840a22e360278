"""Which key leaves when memory is short: S3-FIFO, a scan-resistant order on cachetools (Yang et al., SOSP 2023).

New keys enter a small queue of a twentieth of the bytes. At its end those used again move to the main queue, the
others leave and only their hash is remembered (the ghost queue): a key that comes back while it is remembered enters
the main queue at once. The main queue lets a used key go round again, once per use counted. So a scan passes through
the small queue without touching what is hot, and a hit costs one increment instead of a move in a list.

Invariants: the sizes in both queues sum to `currsize`; `currsize + reserved + common` never exceeds `limit`; a key is
in one queue; an entry that has left is marked so, and its slot in a queue is skipped and in time compacted.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final

import cachetools

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.http.stored import StoredResponse

# Rounds a used key may go. departs: the paper counts to three; up to seven, the hottest outlast scans: with Zipf 0.8
# and scans at 1 % a twentieth fewer misses; counting further, traces of changing popularity miss more.
MOST_USES: Final = 7
# Uses in the small queue that make a key worth keeping. departs: the paper asks for two; with one, traces of changing
# popularity missed a little less (10 % cache: hits .448 against .441) and no other trace more than .0005 more.
PROMOTE: Final = 1
# Of the limit. departs: the paper says a tenth; half of it keeps scans shorter and misses less on every generated trace
# but one (changing popularity at 10 %: hits .434 instead of .445, LRU .412). benchmarks/cache/hitratio.py has them all.
SMALL_SHARE: Final = 0.05
# Keys looked at for one eviction. Each was paid for by a hit, but a cache that was all hits until now would otherwise
# stop the loop for a walk over all of it; after so many the next one goes, whatever its count.
MOST_STEPS: Final = 256
FEWEST_GHOSTS: Final = 64

GONE, SMALL, MAIN = 0, 1, 2  # where an entry is


class Entry:
    """What is kept under one key: a stored response or a tuple of several, their weight, the uses since it last went
    round. Kept small: there is one for each key.
    """

    __slots__ = ("held", "place", "size", "uses")

    def __init__(self, held: StoredResponse | tuple[StoredResponse, ...], size: int) -> None:
        self.held = held
        self.size = size
        self.uses = 0
        self.place = GONE

    @property
    def variants(self) -> tuple[StoredResponse, ...]:
        held = self.held
        return held if type(held) is tuple else (held,)  # type: ignore[return-value]  # what is no tuple is a response

    @property
    def key(self) -> bytes:
        held = self.held
        return held[0].key if type(held) is tuple else held.key  # type: ignore[union-attr]  # as above

    def take_uses(self) -> int:
        """Uses since the last call, by key and through single variants, at most MOST_USES; counting starts anew."""
        uses = self.uses
        for stored in self.variants:
            uses += stored.uses
            stored.uses = 0
        self.uses = 0
        return min(uses, MOST_USES)


class Ghosts:
    """Hashes of keys that left the small queue, oldest first, at most as many as were asked for."""

    __slots__ = ("_known", "_order")

    def __init__(self) -> None:
        self._order: deque[int] = deque()
        self._known: set[int] = set()

    def __len__(self) -> int:
        return len(self._order)

    def add(self, key: bytes, most: int) -> None:
        # hash() and not a digest: it never leaves this process, and two keys that share one only swap queues.
        mark = hash(key)
        if mark in self._known:
            return
        self._known.add(mark)
        self._order.append(mark)
        while len(self._order) > most:
            self._known.discard(self._order.popleft())

    def take(self, key: bytes) -> bool:
        """The key is remembered; it is not any more. (Its slot leaves by age.)"""
        mark = hash(key)
        if mark in self._known:
            self._known.remove(mark)
            return True
        return False

    def clear(self) -> None:
        self._order.clear()
        self._known.clear()


class S3Fifo(cachetools.Cache[bytes, Entry]):
    """Entries by key, bounded in bytes. `reserved` bytes of the limit are taken by what is not (yet) an entry.

    The base class is given no bound of its own: it would call popitem() in the middle of its bookkeeping, knows nothing
    of `reserved`, and cannot be resized. Room is made before each insertion instead.
    """

    def __init__(self, limit: int, on_evicted: Callable[[Entry], None] | None = None) -> None:
        super().__init__(inf)  # without getsizeof: its dictionary of sizes would cost 40 bytes a key and more
        self.limit = limit
        self.reserved = 0
        self.common = 0  # bytes beside, that entries share
        self.evictions = 0
        self._on_evicted = on_evicted
        self._ghosts = Ghosts()
        self._queues: dict[int, deque[Entry]] = {SMALL: deque(), MAIN: deque()}
        self._bytes = {SMALL: 0, MAIN: 0}
        self._gone = {SMALL: 0, MAIN: 0}  # slots of entries that have left

    @property
    def maxsize(self) -> int:
        return self.limit

    @property
    def currsize(self) -> int:
        """Bytes of all entries; the queues count them."""
        return self._bytes[SMALL] + self._bytes[MAIN]

    def peek(self, key: bytes) -> Entry | None:
        """The entry, without counting a use."""
        return super().__getitem__(key) if key in self else None

    def __getitem__(self, key: bytes) -> Entry:
        entry = super().__getitem__(key)
        entry.uses += 1
        return entry

    def __setitem__(self, key: bytes, entry: Entry) -> None:
        """The entry is kept; ValueError if it is larger than all that may be used."""
        if entry.size + self.reserved + self.common > self.limit:
            raise ValueError("value too large")
        assert entry.place == GONE  # one that is here already is changed by change()
        if key in self:
            del self[key]
        self.make_room(entry.size)
        super().__setitem__(key, entry)
        self._enqueue(entry, MAIN if self._ghosts.take(key) else SMALL)

    def __delitem__(self, key: bytes) -> None:
        """The key has left, by eviction, purge or replacement; its slot in a queue holds no body any more."""
        entry = super().__getitem__(key)
        super().__delitem__(key)
        place = entry.place
        self._bytes[place] -= entry.size
        self._gone[place] += 1
        entry.place = GONE
        entry.held = ()
        self._compact(place)

    def change(self, entry: Entry, held: StoredResponse | tuple[StoredResponse, ...], size: int) -> bool:
        """The entry holds something else and keeps its place; False if making room for it evicted it."""
        assert entry.place != GONE
        self.make_room(size - entry.size)
        if entry.place == GONE:
            return False
        self._bytes[entry.place] += size - entry.size
        entry.held = held
        entry.size = size
        return True

    def make_room(self, need: int) -> None:
        """`need` more bytes fit, or nothing is left to evict."""
        while self.currsize + self.reserved + self.common + need > self.limit and len(self):
            self.popitem()

    def popitem(self) -> tuple[bytes, Entry]:
        """The key that is worth least, and it has left."""
        if not len(self):
            raise KeyError("the cache is empty")
        entry = self._choose()
        if entry.place == SMALL:
            self._ghosts.add(entry.key, max(FEWEST_GHOSTS, len(self)))
        # Its slot has been taken off the queue already: undo what __delitem__ counts for slots left behind.
        self._gone[entry.place] -= 1
        held, key = entry.held, entry.key
        del self[key]
        entry.held = held
        self.evictions += 1
        if self._on_evicted is not None:
            self._on_evicted(entry)
        return key, entry

    def clear(self) -> None:
        for entry in self._queues[SMALL] + self._queues[MAIN]:
            entry.place = GONE
            entry.held = ()
        for place in (SMALL, MAIN):
            self._queues[place].clear()
            self._bytes[place] = self._gone[place] = 0
        self._ghosts.clear()
        super().clear()

    def _choose(self) -> Entry:
        """The entry to evict; its slot is off its queue."""
        for step in range(MOST_STEPS + 1):
            place = SMALL if self._bytes[SMALL] > SMALL_SHARE * self.limit or not self._bytes[MAIN] else MAIN
            entry = self._dequeue(place)
            uses = entry.take_uses()
            if step < MOST_STEPS and place == SMALL and uses >= PROMOTE:
                self._bytes[SMALL] -= entry.size
                self._enqueue(entry, MAIN)
            elif step < MOST_STEPS and place == MAIN and uses:
                entry.uses = uses - 1
                self._queues[MAIN].append(entry)
            else:
                break
        return entry

    def _dequeue(self, place: int) -> Entry:
        queue = self._queues[place]
        while (entry := queue.popleft()).place != place:
            self._gone[place] -= 1
        return entry

    def _enqueue(self, entry: Entry, place: int) -> None:
        entry.place = place
        self._bytes[place] += entry.size
        self._queues[place].append(entry)

    def _compact(self, place: int) -> None:
        """Slots of gone entries never outnumber the others by much, so purges leave no memory behind."""
        queue = self._queues[place]
        if self._gone[place] > 64 and self._gone[place] * 2 > len(queue):
            self._queues[place] = deque(entry for entry in queue if entry.place == place)
            self._gone[place] = 0
