"""What is stored, for `tandem cache ls` and `show`: chosen as purges are, looked at in bounded steps, a few told.

Nothing is used by being looked at. A walk over a million responses is as many steps as a sweep's (cache/bans.py); only
the rows that are told are held meanwhile.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from typing import TYPE_CHECKING, Final

from proxy import bus
from proxy.policy import freshness, grounds, key

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.units import MonoTime
    from proxy.cache.store import Store
    from proxy.http.stored import StoredResponse
    from proxy.policy.grounds import Plain
    from proxy.purging import Purger

MOST_ROWS: Final = 1000
MOST_IN_FULL: Final = 64
STEP: Final = 256  # responses of one step


class Lister:
    """Lists what one worker stores."""

    def __init__(self, store: Store, purger: Purger, now: Callable[[], MonoTime]) -> None:
        self._store = store
        self._purger = purger
        self._now = now

    async def list(self, asked: bus.List) -> bus.Listed:
        """The first rows in the order asked for, with how many there are and their bytes. Raises BadTargetError."""
        matches = self._purger.selects(bus.Purge(0, asked.kind, asked.value, site=asked.site))
        most = min(asked.limit, MOST_IN_FULL if asked.full else MOST_ROWS)
        best: list[tuple[float, int, StoredResponse]] = []
        count = size = 0
        for seen, stored in enumerate(self._store, 1):
            if matches(stored):
                count += 1
                size += stored.weight
                row = (self._rank(stored, asked.sort), -count, stored)
                if len(best) < most:
                    heapq.heappush(best, row)
                elif best:
                    heapq.heappushpop(best, row)
            if not seen % STEP:
                await asyncio.sleep(0)
        rows = tuple(self._row(stored, full=asked.full) for _, _, stored in sorted(best, reverse=True))
        return bus.Listed(rows, count, size)

    def _rank(self, stored: StoredResponse, sort: bus.Sort) -> float:
        """What is greatest comes first; of the lifetime left, what is least."""
        match sort:
            case "size":
                return stored.weight
            case "hits":
                return self._uses(stored)
            case "age":
                return freshness.current_age(stored, self._now())
            case "ttl":
                return -freshness.remaining(stored, self._now())

    def _uses(self, stored: StoredResponse) -> int:
        """Since eviction last looked at it; a look-up by key counts for all variants of the key."""
        entry = self._store.entry(stored.key)
        return stored.uses + (0 if entry is None else entry.uses)

    def _row(self, stored: StoredResponse, *, full: bool) -> Plain:
        now = self._now()
        left = freshness.remaining(stored, now)
        row: Plain = {
            "url": grounds.text(key.url_of(stored.key)),
            "key": grounds.text(stored.key),
            "status": stored.status,
            "bytes": stored.body.size,
            "weight": stored.weight,
            "uses": self._uses(stored),
            "age": freshness.current_age(stored, now),
            "ttl": left if math.isfinite(left) else 0.0,
            "outdated": stored.outdated,
            "vary": [one["field"] for one in grounds.vary_of(stored, None) or ()],
            "tags": [grounds.text(tag) for tag in stored.tags],
        }
        return row | grounds.describe_variant(stored, now) | {"vary": grounds.vary_of(stored, None)} if full else row
