"""Purges of many stored responses, bit by bit: a ban says at once what answers nobody any more, a sweep takes it out.

Invariants: from the first step of a sweep to its last the ban is asked at each look-up (store.py), unless one step is
enough; a step looks at MOST_ENTRIES entries and MOST_BYTES of keys at most; what came after the ban is not meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from config.units import MonoTime
    from proxy.cache.shelf import Named
    from proxy.cache.store import Store
    from proxy.http.stored import StoredResponse

MOST_ENTRIES: Final = 256  # of a step: about half a millisecond, even where each of them is removed
MOST_BYTES: Final = 32 * 2**10  # of keys: a regular expression costs 50 ns a byte


class Ban:
    """What matches and was stored up to `at` is purged."""

    __slots__ = ("at", "count", "matches", "soft")

    def __init__(self, matches: Callable[[Named], bool], at: MonoTime, soft: bool) -> None:
        self.matches = matches
        self.at = at
        self.soft = soft
        self.count = 0  # responses purged by it

    def means(self, stored: StoredResponse) -> bool:
        if stored.received > self.at or (self.soft and stored.outdated):
            return False
        return self.matches(stored)


class Sweep:
    """Iterate over it to the end: each step is a bounded piece of work. `count` grows with it."""

    __slots__ = ("_among", "_ban", "_dry_run", "_seen", "_store")

    def __init__(self, store: Store, ban: Ban, among: list[bytes] | list[StoredResponse], *, dry_run: bool) -> None:
        self._store = store
        self._ban = ban
        self._among = among
        self._dry_run = dry_run
        self._seen = 0  # that match, in a dry run

    @property
    def count(self) -> int:
        """Responses purged so far, or in a dry run those that would be."""
        return self._seen if self._dry_run else self._ban.count

    def __iter__(self) -> Iterator[None]:
        imposed = False
        try:
            entries = size = 0
            among = self._among
            while among:
                one = among.pop()  # so that the list goes bit by bit too
                key = one if isinstance(one, bytes) else one.key
                self._look(self._store.peek(one) if isinstance(one, bytes) else (one,))
                entries += 1
                size += len(key)
                if entries >= MOST_ENTRIES or size >= MOST_BYTES:
                    entries = size = 0
                    if not imposed and not self._dry_run:
                        self._store.impose(self._ban)
                        imposed = True
                    yield
        finally:
            if imposed:
                self._store.lift(self._ban)

    def _look(self, found: Sequence[StoredResponse]) -> None:
        if self._dry_run:
            self._seen += sum(stored.live and self._ban.means(stored) for stored in found)
        else:
            self._store.apply(self._ban, tuple(found))
