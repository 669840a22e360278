"""What is held for all clients together: who is weighed, what the cache gives up for it, and who has to go."""

from __future__ import annotations

import contextlib
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.exchange import Client
from proxy.server.hoard import LIGHT, STEP, Hoard
from tests.kit import raw
from tests.kit.inproc import Stack
from tests.kit.origin import Close, Early, FakeOrigin, Repeat, Stall, head_only
from tests.kit.proxy import reverse

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


# ---- connections -----------------------------------------------------------------------------------------------------

HALF = b"GET / HTTP/1.1\r\nHost: a\r\n" + (b"X: " + b"y" * 15000 + b"\r\n") * 4


@pytest.fixture
def origin():
    with FakeOrigin() as fake:
        yield fake


@pytest.fixture
def stack(origin):
    with Stack(reverse(origin.address, rest="[cache]\nmemory = 0")) as running:
        running.call(lambda: setattr(running.front.hoard, "free", 100_000))
        yield running


def held(stack):
    """Asked in the loop."""
    return len(stack.front.hoard), stack.front.hoard.total


def test_a_half_head_that_is_too_much_is_told_so_and_what_has_ended_is_held_no_more(stack):
    with raw.Connection(stack.at) as first, raw.Connection(stack.at) as second:
        first.send(HALF)
        stack.wait(lambda: stack.front.hoard.total == len(HALF))
        second.send(HALF)
        assert first.read_response().status == 503
        assert first.at_end() is raw.End.CLEAN
        second.send(b"\r\n")
        assert second.read_response().status == 200
    stack.wait(lambda: held(stack) == (0, 0), "nothing is held")


def test_an_answer_that_nobody_takes_counts_if_it_is_in_memory_for_this_client_alone(stack, origin):
    origin.on("/large", head_only("Cache-Control: no-store", "Content-Length: 20000000"), Repeat(bytes(1 << 16), 306))
    with raw.Connection(stack.at, receive_buffer=1 << 12) as client:
        client.send(raw.request(target="/large"))
        client.read_raw_head()
        stack.wait(lambda: stack.front.hoard.total > LIGHT or not stack.front.connections, "it is held, or let go")
    stack.wait(lambda: held(stack) == (0, 0), "nothing is held")


def test_a_body_that_the_origin_does_not_take_counts(stack, origin):
    go = threading.Event()
    origin.on("/told", Early(), Stall(until=go), Close())
    with raw.Connection(stack.at, timeout=0.2) as client:
        client.send(raw.request("POST", "/told", "Content-Length: 50000000"))
        with contextlib.suppress(TimeoutError, ConnectionError):
            for _ in range(700):
                client.send(bytes(1 << 16))
        stack.wait(lambda: stack.front.hoard.total > LIGHT or not stack.front.connections, "it is held, or let go")
    go.set()
    stack.wait(lambda: held(stack) == (0, 0), "nothing is held")
