"""Bodies that leave the store while they are read: counted until the last has read them, and bounded."""

from __future__ import annotations

import asyncio

import pytest

from proxy.cache.reading import Reading
from proxy.cache.store import Store
from proxy.http.stored import Body
from tests.policy.heads import kept

MEMORY = 2**20
SIZE = 200_000  # of a body: two of them may be reserved


class Client:
    """One who reads nothing until it is told to leave."""

    def __init__(self, reading):
        self.reading = reading
        self.is_cut = False

    def cut(self):
        self.is_cut = True
        self.reading.reader_left(self)


@pytest.fixture
def store():
    return Store(MEMORY, clock=lambda: 10.0)


@pytest.fixture
def reading(store):
    return Reading(store, asyncio.run)  # at once: what is settled later is settled in the same way


def put(store, key):
    stored = kept("Cache-Control: max-age=60").replaced(key=key, body=Body([b"x" * SIZE], complete=True), length=SIZE)
    assert store.put(stored)
    return stored


def begin(reading, stored):
    client = Client(reading)
    reading.begin(stored.body, client)
    return client


def settle(reading):
    asyncio.run(reading._settle())


def test_what_leaves_while_it_is_read_is_reserved_until_all_have_read_it(store, reading):
    first = put(store, b"a")
    one, two = begin(reading, first), begin(reading, first)
    store.purge_key(b"a")
    settle(reading)
    assert store.reserved == SIZE
    reading.reader_left(one)
    assert store.reserved == SIZE
    reading.reader_left(two)
    assert (store.reserved, one.is_cut, two.is_cut) == (0, False, False)


def test_what_nobody_reads_or_has_been_read_is_not_reserved(store, reading):
    first = put(store, b"a")
    reading.reader_left(begin(reading, first))
    store.purge_key(b"a")
    settle(reading)
    assert store.reserved == 0


def test_a_body_whose_head_was_freshened_is_in_the_store_still(store, reading):
    first = put(store, b"a")
    client = begin(reading, first)
    assert store.put(first.replaced(lifetime=100.0))
    settle(reading)
    assert store.reserved == 0
    store.purge_key(b"a")
    settle(reading)
    assert store.reserved == SIZE
    reading.reader_left(client)
    assert store.reserved == 0


def test_where_no_more_may_be_reserved_those_that_left_the_longest_ago_are_cut(store, reading):
    clients = []
    for name in (b"a", b"b", b"c", b"d"):
        clients.append(begin(reading, put(store, name)))
        store.purge_key(name)
        settle(reading)
    assert [client.is_cut for client in clients] == [True, True, False, False]
    assert store.reserved == 2 * SIZE
    for client in clients[2:]:
        reading.reader_left(client)
    assert store.reserved == 0


def test_what_can_not_be_reserved_at_all_is_cut_itself(store, reading):
    client = begin(reading, put(store, b"a"))
    assert store.reserve(int(MEMORY * 0.5))
    store.purge_key(b"a")
    settle(reading)
    assert client.is_cut
    assert store.reserved == int(MEMORY * 0.5)
