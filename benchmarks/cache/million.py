"""A store with a million small responses: memory of each beyond its body, the cost of a look-up, the longest pause.

Responses come as they do from the wire: every byte of a head an object of its own, dates as they follow one another,
tags and lengths of their own. Both sizes are measured in turns in one run, in random order of keys, three times:

- "the key alone" is a dictionary with the same keys and nothing in it: what no store in one can be below, for among a
  million its slots and keys are in no cache of the CPU;
- "look-up and verdict" finds the key in the store and judges what is there;
- "whole decision" is what a request pays for its look-up: the key built of its head, found, judged, its conditions.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from config.units import MonoTime, WallTime
from proxy.cache.store import Store
from proxy.http.fields import format_date
from proxy.http.message import Fields, RequestHead, ResponseHead
from proxy.http.stored import Body
from proxy.policy import conditional, key, reuse, storing
from proxy.policy.rules import CacheRules

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BODY = 1024
SMALL = 1000
LOOKUPS = 20_000  # in one turn
TURNS = 15
EPOCH = 1_795_000_000.0
PER_SECOND = 2000  # responses that bear the same Date
RULES = CacheRules()
ASKING = Fields(((b"Host", b"shop.example.org"), (b"Accept", b"*/*"), (b"User-Agent", b"bench")))


def key_of(number: int) -> bytes:
    return b"http://shop.example.org/products/pictures/%d" % number


def wire(*lines: bytes) -> Fields:
    """Field lines as objects of their own, as a parser cuts them out."""
    return Fields(tuple((name, value) for name, _, value in (line.partition(b": ") for line in lines)))


def fill(store: Store, count: int) -> float:
    """The longest time that one response took, in seconds; collected and frozen as a worker does."""
    request = RequestHead(b"GET", b"http", b"shop.example.org", b"/", None, (1, 1), ASKING)
    longest = 0.0
    for number in range(count):
        begun = time.perf_counter()
        now = EPOCH + number / PER_SECOND
        fields = wire(
            b"Date: %b" % format_date(WallTime(now)),
            b"Server: Apache-Coyote/1.1",
            b"Content-Type: image/png",
            b"Content-Length: %d" % BODY,
            b"Last-Modified: %b" % format_date(WallTime(EPOCH - 977.0 * number)),
            b'ETag: W/"%x-%x"' % (BODY, 7919 * number),
            b"Cache-Control: max-age=86400",
            b"X-Content-Type-Options: nosniff",
        )
        head = ResponseHead(200, b"OK", fields)
        verdict = storing.decide_store(
            request, head, RULES, request_time=WallTime(now - 0.01), response_time=WallTime(now)
        )
        assert isinstance(verdict, storing.Store)
        body = Body()
        body.append(bytes(BODY - 10) + b"%010d" % number)
        body.finish()
        stored = storing.build_stored(verdict, key_of(number), body, BODY, MonoTime(1000.0 + number / PER_SECOND))
        assert store.put(stored)
        store.settle_garbage()
        longest = max(longest, time.perf_counter() - begun)
    return longest


def found(known: dict[bytes, None], count: int, order: Sequence[int]) -> float:
    """Microseconds for each key made and found."""
    begun = time.perf_counter()
    for number in order:
        known[key_of(number)]
    return (time.perf_counter() - begun) / count * 1e6


def lookups(store: Store, count: int, order: Sequence[int]) -> float:
    """Microseconds for each look-up and verdict."""
    request = RequestHead(b"GET", b"http", b"shop.example.org", b"/", None, (1, 1), ASKING)
    now = MonoTime(2000.0)
    begun = time.perf_counter()
    for number in order:
        verdict = reuse.decide(request, store.variants(key_of(number)), now, RULES)
        assert type(verdict) is reuse.Fresh
        store.answered(verdict.stored)
    return (time.perf_counter() - begun) / count * 1e6


def decisions(store: Store, count: int, order: Sequence[int]) -> float:
    """As `lookups`, with what stands around: the key made of a request, conditions, the head to answer with."""
    now = MonoTime(2000.0)
    begun = time.perf_counter()
    for number in order:
        path = b"/products/pictures/%d" % number
        request = RequestHead(b"GET", b"http", b"shop.example.org", path, None, (1, 1), ASKING)
        at = key.primary_key(request, RULES)
        assert reuse.before_lookup(request, False, RULES) is None
        verdict = reuse.decide(request, store.variants(at), now, RULES)
        assert type(verdict) is reuse.Fresh
        store.answered(verdict.stored)
        conditional.evaluate(request, verdict.stored)
    return (time.perf_counter() - begun) / count * 1e6


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def longest_collection() -> float:
    """The longest stop of the collector while objects come and go beside the full store, in seconds."""
    longest = 0.0
    begun = 0.0

    def told(phase: str, _info: dict[str, int]) -> None:
        nonlocal longest, begun
        if phase == "start":
            begun = time.perf_counter()
        else:
            longest = max(longest, time.perf_counter() - begun)

    gc.callbacks.append(told)
    held: list[list[object]] = []
    for _ in range(400_000):
        held.append([])
        if len(held) > 20_000:
            held.clear()
    gc.callbacks.remove(told)
    return longest


def measure(count: int) -> dict[str, float]:
    small = Store(1 << 40)
    fill(small, SMALL)
    gc.collect()
    gc.freeze()
    before = rss()
    store = Store(1 << 40)
    longest = fill(store, count)
    took = rss() - before
    weighed = store.bytes
    rnd = random.Random(1)
    results: dict[str, float] = {
        "responses": count,
        "bytes beyond the body": took / count - BODY,
        "weighed to taken": weighed / took,
    }
    compared: tuple[tuple[str, Callable[[Sequence[int]], float], Callable[[Sequence[int]], float]], ...]
    few_keys, many_keys = (dict.fromkeys(map(key_of, range(size))) for size in (SMALL, count))
    compared = (
        ("the key alone", partial(found, few_keys, LOOKUPS), partial(found, many_keys, LOOKUPS)),
        ("look-up and verdict", partial(lookups, small, LOOKUPS), partial(lookups, store, LOOKUPS)),
        ("whole decision", partial(decisions, small, LOOKUPS), partial(decisions, store, LOOKUPS)),
    )
    for name, among_few, among_all in compared:
        few, many = [], []
        for _ in range(TURNS):
            few.append(among_few([rnd.randrange(SMALL) for _ in range(LOOKUPS)]))
            many.append(among_all([rnd.randrange(count) for _ in range(LOOKUPS)]))
        results[f"{name} among 1,000, us"] = statistics.median(few)
        results[f"{name} among all, us"] = statistics.median(many)
        results[f"{name}, ratio"] = statistics.median(m / f for f, m in zip(few, many, strict=True))
    return results | {
        "longest put, ms": longest * 1e3,
        "longest collection, ms": longest_collection() * 1e3,
    }


if __name__ == "__main__":
    import sys

    for name, value in measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000).items():
        print(f"{name:36} {value:12.3f}")
