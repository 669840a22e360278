"""What is held for all clients together: who is weighed, what the cache gives up for it, and who has to go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.exchange import Client
from proxy.server.hoard import LIGHT, STEP, Hoard

MIB = 2**20


class Store:
    """As much of the store as a hoard sees: it gives up to `most` bytes."""

    def __init__(self, most):
        self.most = most
        self.reserved = 0

    def reserve(self, size):
        if self.reserved + size > self.most:
            return False
        self.reserved += size
        return True

    def release(self, size):
        assert 0 <= size <= self.reserved
        self.reserved -= size


class Loop:
    def call_soon(self, do):
        do()


class Holder:
    def __init__(self, address="192.0.2.1", trusted=()):
        self.client = Client(address, 1, ("127.0.0.1", 80), b"http")
        self.trusted = frozenset(trusted)
        self.holding = 0
        self.gone = False

    def let_go(self):
        assert not self.gone
        self.gone = True


def make(free=4 * MIB, store=0):
    hoard = Hoard(Store(store), Loop())
    hoard.free = free
    return hoard


def hold(hoard, holder, size):
    holder.holding = size
    hoard.weigh(holder)
    return holder


def test_little_is_not_counted_and_nobody_goes_while_there_is_room():
    hoard = make()
    hold(hoard, Holder(), LIGHT - 1)
    assert (hoard.total, len(hoard)) == (0, 0)
    kept = [hold(hoard, Holder(), MIB) for _ in range(4)]
    assert (hoard.total, len(hoard)) == (4 * MIB, 4)
    hoard.forget(kept[0])
    hoard.forget(kept[0])
    assert hoard.total == 3 * MIB


def test_of_the_address_that_holds_most_the_longest_holding_go_first():
    hoard = make()
    honest = hold(hoard, Holder("192.0.2.7"), MIB)
    greedy = [hold(hoard, Holder(), MIB) for _ in range(4)]
    assert [holder.gone for holder in greedy] == [True, True, False, False]
    assert not honest.gone
    assert hoard.total == 3 * MIB


def test_trusted_hops_go_last():
    hoard = make()
    hop = [hold(hoard, Holder("192.0.2.9", {"site"}), MIB) for _ in range(3)]
    others = [hold(hoard, Holder(f"192.0.2.{number}"), MIB) for number in range(2)]
    assert [holder.gone for holder in (*hop, *others)] == [False, False, False, True, True]


def test_before_anybody_goes_all_are_weighed_anew():
    hoard = make()
    first = hold(hoard, Holder(), 4 * MIB)
    first.holding = 0  # taken meanwhile, and not told
    second = hold(hoard, Holder(), 4 * MIB)
    assert not first.gone
    assert not second.gone
    assert hoard.total == 4 * MIB


def test_the_cache_gives_up_memory_and_gets_it_back():
    hoard = make(store=4 * MIB)
    holders = [hold(hoard, Holder(), MIB) for _ in range(8)]
    assert not any(holder.gone for holder in holders)
    assert hoard._store.reserved == 4 * MIB
    hold(hoard, Holder(), MIB)
    assert sum(holder.gone for holder in holders) == 2
    for holder in holders:
        hoard.forget(holder)
    assert hoard._store.reserved <= 2 * STEP


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3 * MIB)), max_size=60), st.integers(0, 4 * MIB))
def test_the_total_is_what_is_held_and_within_what_there_is(events, store):
    hoard = make(store=store)
    holders = [Holder(f"192.0.2.{number % 3}") for number in range(10)]
    for number, size in events:
        holder = holders[number]
        if holder.gone or size % 5 == 0:
            hoard.forget(holder)
            holders[number] = Holder(holder.client.address)
        else:
            hold(hoard, holder, size)
        held = sum(one.holding for one in holders if not one.gone and one.holding >= LIGHT)
        assert hoard.total == held
        assert hoard.total <= hoard.free + hoard._store.reserved
        assert hoard._store.reserved <= store
