"""What is stored, listed: chosen, in order, only the first rows, in bounded steps, and nothing is used by it."""

from __future__ import annotations

import asyncio

import pytest

from proxy import bus
from proxy.cache.coalesce import Flights
from proxy.cache.store import Store
from proxy.http.fields import CacheControl
from proxy.listing import STEP, Lister
from proxy.pipeline import Tally
from proxy.policy.target import BadTargetError
from proxy.purging import Purger
from tests.cache.test_store import make

NOW = 60.0


def lister(count=10, step=5000):
    store = Store(1 << 24, clock=lambda: NOW)
    for number in range(count):
        one = make(b"http://shop/%d" % number, bytes(step * number), tags=(b"odd",) if number % 2 else ())
        one.received = NOW - number
        one.control = CacheControl()
        store.put(one)
    return Lister(store, Purger(store, Flights(lambda: NOW), Tally()), lambda: NOW), store


def ask(one, **asked):
    return asyncio.run(one.list(bus.List(**asked)))


def urls(listed):
    return [row["url"].rpartition("/")[2] for row in listed.rows]


@pytest.mark.parametrize(("sort", "first"), [("size", ["9", "8"]), ("age", ["9", "8"]), ("ttl", ["9", "8"])])
def test_the_first_rows_in_the_order_asked_for_with_the_count_of_all(sort, first):
    one, store = lister()
    listed = ask(one, sort=sort, limit=2)
    assert urls(listed) == first
    assert (listed.count, listed.size) == (10, sum(stored.weight for stored in store))


def test_what_is_used_most_comes_first_and_looking_uses_nothing():
    one, store = lister()
    for _ in range(3):
        store.variants(b"http://shop/4")
    for _ in range(2):
        listed = ask(one, limit=1)
        assert [(row["url"], row["uses"]) for row in listed.rows] == [("http://shop/4", 3)]


def test_rows_are_chosen_as_purges_are():
    one, _ = lister()
    assert set(urls(ask(one, kind="tag", value="odd"))) == set("13579")
    assert urls(ask(one, kind="match", value="shop/7")) == ["7"]
    [row] = ask(one, kind="url", value="http://shop/3", full=True).rows
    assert (row["bytes"], row["freshness"]["age"]) == (15_000, row["age"])
    with pytest.raises(BadTargetError):
        ask(one, kind="match", value="shop")


def test_a_long_list_leaves_the_loop_free():
    one, _ = lister(3 * STEP, 0)
    turns = []

    async def turn():
        for _ in range(3):
            turns.append(1)
            await asyncio.sleep(0)

    async def both():
        listing = asyncio.ensure_future(one.list(bus.List(limit=1000)))
        await turn()
        assert not listing.done()
        return await listing

    assert len(asyncio.run(both()).rows) == 3 * STEP
