"""Purges on one worker: what a message means, applied to the store and to the fetches on their way, each number once.

An address is purged under every key it may have been stored by: sites differ in what they leave out of it. Everything
else is swept out bit by bit (cache/bans.py); it answers nobody from the first moment, and the count comes at the end.
Invariant: what was asked of an origin before a purge does not come into the store after it (cache/coalesce.py).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

from proxy.policy import key as keys
from proxy.policy import target

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from proxy import bus
    from proxy.cache.coalesce import Flights
    from proxy.cache.shelf import Named
    from proxy.cache.store import Store
    from proxy.modes.every import Modes
    from proxy.pipeline import Tally
    from proxy.policy.rules import CacheRules

PURGE_PATIENCE: Final = 60.0  # seconds for a sweep of millions beside full traffic
_REMEMBERED: Final = 1000  # numbers


@dataclass(frozen=True, slots=True)
class _Name:
    """A key, as what a purge looks at."""

    key: bytes
    tags: tuple[bytes, ...] = ()


class Purger:
    """The purges of one worker."""

    def __init__(self, store: Store, flights: Flights, tally: Tally) -> None:
        self._store = store
        self._flights = flights
        self._tally = tally
        self._mode: Modes | None = None
        self._beside: Collection[bytes] = ()  # what keys may end in (planning.py)
        self._applied: dict[int, asyncio.Future[int]] = {}  # the last ones, by their numbers

    def configure(self, mode: Modes, beside: Collection[bytes] = ()) -> None:
        self._mode = mode
        self._beside = beside

    async def apply(self, purge: bus.Purge) -> int:
        """How many stored responses went, or would go. The same number twice is one purge. Raises BadTargetError."""
        known = self._applied.get(purge.number)
        if known is None:
            known = self._applied[purge.number] = asyncio.ensure_future(self._apply(purge))
            while len(self._applied) > _REMEMBERED:
                del self._applied[next(iter(self._applied))]
        return await asyncio.shield(known)  # an asker that has gone does not end it

    def selects(self, purge: bus.Purge) -> Callable[[Named], bool]:
        """Whether the purge means a stored response. Raises BadTargetError."""
        return self._of_site(purge.site, selector(purge, touches(purge, self._rules, self._beside)))

    @property
    def _rules(self) -> tuple[CacheRules, ...]:
        return self._mode.cache_rules() if self._mode is not None else ()

    async def _apply(self, purge: bus.Purge) -> int:
        rules = self._rules
        concerned = touches(purge, rules, self._beside)
        matches = self._of_site(purge.site, selector(purge, concerned))
        if not purge.dry_run:
            self._flights.outdate_where(concerned, matches)
        if purge.kind in {"url", "key"} and not any(rule.many_keys for rule in rules):
            bare = {purge.value.encode()} if purge.kind == "key" else target.keys_of(purge.value, rules, self._beside)
            return self._purge_keys(purge, {key + end for key in bare for end in (b"", *self._beside)}, matches)
        tag = purge.value.encode() if purge.kind == "tag" else None
        sweep = self._store.sweep(matches, soft=purge.soft, dry_run=purge.dry_run, tag=tag)
        for _ in sweep:
            await asyncio.sleep(0)
        if not purge.dry_run:
            self._tally.purged += sweep.count
        return sweep.count

    def _purge_keys(self, purge: bus.Purge, those: Iterable[bytes], matches: Callable[[Named], bool]) -> int:
        """At once: an address has few keys. What is said of one holds for all its variants."""
        meant = [key for key in those if matches(_Name(key))]
        if purge.dry_run:
            return sum(len(self._store.peek(key)) for key in meant)
        count = sum(self._store.purge_key(key, soft=purge.soft) for key in meant)
        self._tally.purged += count
        return count

    def _of_site(self, site: str, matches: Callable[[Named], bool]) -> Callable[[Named], bool]:
        """`matches`, for what the names of one site reach; empty: of all sites."""
        mode = self._mode
        known: dict[bytes, bool] = {}  # by what stands before the path: few, and they come again
        if not site or mode is None:
            return matches

        def of_site(stored: Named) -> bool:
            if not matches(stored):
                return False
            place = target.place_of(stored.key)
            if place not in known:
                known[place] = mode.serves(site, stored.key)
            return known[place]

        return of_site


def selector(purge: bus.Purge, concerned: Callable[[bytes], bool]) -> Callable[[Named], bool]:
    """Whether the purge means a stored response; `concerned` says so of its key."""
    if purge.kind != "tag":
        return lambda stored: concerned(stored.key)
    tag = purge.value.encode()  # or the bare name of a group, which has its origin in front (RFC 9875 §2)
    return lambda stored: any(tag in {one, one.partition(b" ")[2]} for one in stored.tags)


def touches(purge: bus.Purge, rules: Sequence[CacheRules], beside: Collection[bytes] = ()) -> Callable[[bytes], bool]:
    """Whether what is stored under a key, or still on its way there, may be concerned; tags are not told by the key.

    Raises BadTargetError.
    """
    match purge.kind:
        case "url":
            wanted = target.keys_of(purge.value, rules, beside)
            return lambda key: keys.url_of(key) in wanted
        case "prefix":
            prefix = target.key_prefix(purge.value)
            return lambda key: keys.url_of(key).startswith(prefix)
        case "match":
            return target.parse_pattern(purge.value).matches
        case "key":
            whole = purge.value.encode()
            return lambda key: target.bare(key) == whole
        case "tag":
            target.check_tag(purge.value)
            return lambda _: True
        case "all":
            return lambda _: True
        case unreachable:
            assert_never(unreachable)
