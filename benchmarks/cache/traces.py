"""Request traces as numbers of keys, made from a seed: popularity by Zipf's law, with scans, and changing.

Sizes of objects are a function of the key, spread as on the web: most are small, few are large and none is without
weight. `replay` is the whole experiment: what share of the requests, and of their bytes, a cache would have answered.
"""

from __future__ import annotations

import itertools
import random
from array import array
from bisect import bisect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cachetools import LRUCache

from proxy.cache.eviction import Entry, S3Fifo

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SCAN_EVERY = 2000  # requests between two scans, and
SCAN_LENGTH = 600  # keys of one, none of which comes again
CHANGES = 10  # times in a trace that what was popular is so no more


def zipf(rnd: random.Random, skew: float, keys: int, length: int) -> list[int]:
    """Keys by falling popularity: the n-th comes in proportion to 1 / n^skew."""
    weights = list(itertools.accumulate(1 / (rank + 1) ** skew for rank in range(keys)))
    return [bisect(weights, rnd.random() * weights[-1]) for _ in range(length)]


def with_scans(trace: Sequence[int], keys: int) -> list[int]:
    """The same requests, and now and then somebody who asks for all there is once: a crawler, a backup."""
    fresh = itertools.count(keys)
    mixed: list[int] = []
    for at, key in enumerate(trace):
        mixed.append(key)
        if at % SCAN_EVERY == 0:
            mixed.extend(itertools.islice(fresh, SCAN_LENGTH))
    return mixed


def changing(trace: Sequence[int], keys: int) -> list[int]:
    """Popularity moves on: by 7.5 % of the keys, CHANGES times in the trace."""
    step = max(1, len(trace) // CHANGES)
    return [(key + at // step * (keys * 3 // 40)) % keys for at, key in enumerate(trace)]


TRACES: dict[str, Callable[[random.Random, int, int], list[int]]] = {
    "Zipf 0.8": lambda rnd, keys, length: zipf(rnd, 0.8, keys, length),
    "Zipf 1.0": lambda rnd, keys, length: zipf(rnd, 1.0, keys, length),
    "Zipf 0.8, scans": lambda rnd, keys, length: with_scans(zipf(rnd, 0.8, keys, length), keys),
    "Zipf 1.0, scans": lambda rnd, keys, length: with_scans(zipf(rnd, 1.0, keys, length), keys),
    "changing": lambda rnd, keys, length: changing(zipf(rnd, 0.8, keys, length), keys),
}


class Held:
    """In place of a stored response: what the order of eviction asks of one."""

    __slots__ = ("key", "uses")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.uses = 0


class Cache(Protocol):
    """What is compared."""

    def use(self, key: int, size: int) -> bool:
        """Whether it was there; it is now, unless it is too large."""


class Lru:
    def __init__(self, limit: int) -> None:
        self._sizes: dict[int, int] = {}
        self._cache: LRUCache[int, int] = LRUCache(limit, getsizeof=lambda size: size)
        self._limit = limit

    def use(self, key: int, size: int) -> bool:
        if self._cache.get(key) is not None:
            return True
        if size <= self._limit:
            self._cache[key] = size
        return False


class Ours:
    def __init__(self, limit: int, make: type[S3Fifo] = S3Fifo) -> None:
        self._cache = make(limit)
        self._limit = limit

    def use(self, key: int, size: int) -> bool:
        name = b"%d" % key
        try:
            self._cache[name]
        except KeyError:
            if size <= self._limit:
                self._cache[name] = Entry(Held(name), size)  # type: ignore[arg-type]  # all that is asked of one
            return False
        return True


@dataclass(frozen=True, slots=True)
class Ratio:
    requests: float
    bytes: float


def replay(cache: Cache, trace: Sequence[int], sizes: Sequence[int]) -> Ratio:
    hits = hit_bytes = all_bytes = 0
    for key in trace:
        size = sizes[key]
        all_bytes += size
        if cache.use(key, size):
            hits += 1
            hit_bytes += size
    return Ratio(hits / len(trace), hit_bytes / all_bytes)


def sizes_for(trace: Sequence[int], *, equal: bool, seed: int = 0) -> array[int]:
    """One for each key: all 1, or log-normal around 8 KiB, between 200 bytes and 4 MiB."""
    count = max(trace) + 1
    if equal:
        return array("q", [1]) * count
    rnd = random.Random(seed)
    return array("q", (int(min(4 << 20, max(200, rnd.lognormvariate(9, 1.3)))) for _ in range(count)))
