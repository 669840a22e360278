"""Flights in memory: who waits, who reads, what is stored, and that all memory set aside comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import errors
from proxy.cache.coalesce import PURGES, WINDOW, Flight, Flights
from proxy.cache.store import Store
from proxy.delivery import Delivery
from proxy.errors import Failure
from proxy.http.fields import CacheControl
from proxy.http.message import Fields, ResponseHead
from proxy.http.stored import Body, BodyState, StoredResponse
from tests.kit.spine import MemoryBooks, MemoryRequest, MemoryWriter, exchange

CUT = Failure(errors.RESPONSE_CUT)
KEY = b"http://test.example/"
MEGABYTE = 2**20


class Judge:
    """Stores every head that comes, and gives it to all who wait."""

    def __init__(self):
        self.books = MemoryBooks()
        self.failed = []
        self.gone = []
        self.store_it = True

    def flight_head(self, flight, checked):
        flight.begin_body(stored_response(), most=checked, forbidden=self.forbidden)
        for x in flight.everybody():
            flight.read(Delivery(self.books, x, flight.body, flight))

    forbidden = ()

    def flight_failed(self, flight, failure):
        self.failed += flight.everybody()

    def flight_interim(self, flight, head):
        raise AssertionError("not asked for here")

    def part_landed(self, flight, stored):
        raise AssertionError("no parts here")

    def flight_cut(self, flight, stored):
        """What is cut is of no use."""

    def waiter_gone(self, x):
        self.gone.append(x)

    def reads_on(self, reader, body):
        """The flight hears of it when this one leaves, which is nothing to it any more."""


def stored_response():
    return StoredResponse(
        key=KEY,
        head=ResponseHead(200, b"OK", Fields()),
        body=Body(),
        length=None,
        control=CacheControl(),
        lifetime=60.0,
        lifetime_source="max-age",
        initial_age=0.0,
        request_time=0.0,
        response_time=0.0,
        received=0.0,
    )


class Air:
    """A store, the flights, and a clock that is a number."""

    def __init__(self, memory=8 * MEGABYTE):
        self.time = 0.0
        self.store = Store(memory, clock=lambda: self.time)
        self.flights = Flights(lambda: self.time)
        self.judge = Judge()

    def fly(self, leader, *, listed=True):
        flight = Flight(self.judge, self.store, KEY, leader, started=0.0, wall=0.0)
        flight.request = MemoryRequest()
        self.flights.open(flight, listed=listed)
        return flight


@pytest.fixture
def air():
    return Air()


# ---- joining ---------------------------------------------------------------------------------------------------------


def test_all_who_wait_get_the_same_bytes_from_one_fetch(air):
    people = [exchange() for _ in range(4)]
    flight = air.fly(people[0])
    for x in people[1:3]:
        flight.join(x)
    assert air.flights.get(KEY) is flight
    flight.upstream_head(MEGABYTE)
    flight.upstream_data(b"hel")
    flight.read(Delivery(air.judge.books, people[3], flight.body, flight))  # late: from the start
    flight.upstream_data(b"lo")
    flight.upstream_end()
    assert [x.writer.body for x in people] == [b"hello"] * 4
    assert [x.writer.end_seen for x in people] == ["end"] * 4
    assert air.flights.get(KEY) is None
    assert len(air.flights) == 0
    assert (air.store.entries, air.store.reserved) == (1, 0)


def test_who_leaves_before_the_head_ends_the_fetch_only_if_nobody_is_left(air):
    people = [exchange() for _ in range(3)]
    flight = air.fly(people[0])
    request = flight.request
    for x in people[1:]:
        flight.join(x)
    flight.leave(people[0])
    people[1].producer.client_gone()
    assert request.cancelled == 0
    flight.leave(exchange())  # a stranger
    people[2].producer.client_gone()
    assert request.cancelled == 1
    assert air.judge.gone == people[1:]
    assert len(air.flights) == 0


def test_a_fetch_without_a_head_fails_for_all_and_is_over(air):
    people = [exchange() for _ in range(3)]
    flight = air.fly(people[0])
    for x in people[1:]:
        flight.join(x)
    flight.upstream_failed(CUT)
    assert air.judge.failed == people
    assert len(air.flights) == 0


def test_a_refresh_of_ours_has_no_leader_and_is_stored_without_readers(air):
    flight = air.fly(None)
    flight.upstream_head(MEGABYTE)
    flight.upstream_data(b"x")
    flight.upstream_end()
    assert (air.store.entries, air.store.reserved, len(air.flights)) == (1, 0, 0)


def test_what_is_unshareable_is_known_for_a_while(air):
    air.flights.remember_unshareable(KEY, 60.0)
    assert air.flights.is_unshareable(KEY)
    air.time = 61.0
    assert not air.flights.is_unshareable(KEY)
    air.flights.remember_unshareable(KEY, 60.0)
    air.flights.forget_unshareable(KEY)
    assert not air.flights.is_unshareable(KEY)


# ---- what is purged meanwhile ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("when", ["before the head", "in the body"])
def test_what_was_asked_for_before_a_purge_is_not_stored_and_cannot_be_joined_after_it(air, when, listed):
    leader = exchange()
    flight = air.fly(leader, listed=listed)
    if when == "before the head":
        air.flights.outdate(KEY)
    flight.upstream_head(MEGABYTE)
    flight.upstream_data(b"old ")
    if when == "in the body":
        air.flights.outdate(KEY)
    assert air.flights.get(KEY) is None
    newer = air.fly(exchange())
    flight.upstream_data(b"news")
    flight.upstream_end()
    assert (leader.writer.body, leader.writer.end_seen) == (b"old news", "end")
    assert (air.store.entries, air.store.reserved) == (0, 0)
    assert air.flights.get(KEY) is newer


def test_a_purge_of_something_else_changes_nothing(air):
    flight = air.fly(exchange())
    air.flights.outdate(b"http://test.example/other")
    air.flights.outdate_where(lambda key: key.endswith(b"/other"))
    flight.upstream_head(MEGABYTE)
    flight.upstream_end()
    assert air.store.entries == 1


@pytest.mark.parametrize("when", ["before the head", "in the body"])
@pytest.mark.parametrize("matches", [True, False])
def test_a_purge_by_what_a_response_is_waits_for_the_head_of_one_under_way(air, when, matches):
    flight = air.fly(exchange())
    if when == "before the head":
        air.flights.outdate_where(lambda _: True, lambda stored: matches and stored.head.status == 200)
    flight.upstream_head(MEGABYTE)
    if when == "in the body":
        air.flights.outdate_where(lambda _: True, lambda stored: matches and stored.head.status == 200)
    assert air.flights.get(KEY) is None
    flight.upstream_data(b"x")
    flight.upstream_end()
    assert air.store.entries == (not matches)


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_what_arrives_is_set_aside_until_it_is_stored(air):
    flight = air.fly(exchange())
    flight.upstream_head(MEGABYTE)
    flight.upstream_data(bytes(1000))
    assert air.store.reserved == 1000
    flight.upstream_end()
    assert air.store.reserved == 0
    assert air.store.variants(KEY)[0].length == 1000


def test_a_reader_that_leaves_does_not_end_what_is_being_stored(air):
    leader = exchange()
    flight = air.fly(leader)
    request = flight.request
    flight.upstream_head(MEGABYTE)
    flight.upstream_data(b"hel")
    leader.producer.client_gone()
    assert not request.cancelled
    flight.upstream_data(b"lo")
    flight.upstream_end()
    assert air.store.entries == 1


@pytest.mark.parametrize("memory", [8 * MEGABYTE, 4096])
def test_what_is_too_large_goes_on_to_those_who_read_and_no_further(memory):
    air = Air(memory)
    leader = exchange()
    flight = air.fly(leader)
    flight.upstream_head(5000)
    for _ in range(20):
        flight.upstream_data(bytes(1000))
    assert not flight.storing
    assert (air.store.reserved, len(flight.body.chunks)) == (0, 0)
    assert air.flights.get(KEY) is None
    flight.upstream_end()
    assert (len(leader.writer.body), leader.writer.end_seen) == (20000, "end")
    assert (air.store.entries, len(air.flights)) == (0, 0)


def test_what_is_too_large_and_read_by_nobody_is_given_up(air):
    flight = air.fly(None)
    request = flight.request
    flight.upstream_head(1500)
    flight.upstream_data(bytes(1000))
    flight.upstream_data(bytes(1000))
    assert request.cancelled == 1
    assert (air.store.reserved, len(air.flights)) == (0, 0)


def test_the_slowest_reader_holds_the_origin_and_its_bytes_stay_counted(air):
    slow, fast = exchange(MemoryWriter(room=1000)), exchange()
    flight = air.fly(slow)
    request = flight.request
    flight.join(fast)
    flight.upstream_head(MEGABYTE)
    for _ in range(18):
        flight.upstream_data(bytes(WINDOW // 4))
    assert request.held
    assert len(fast.writer.body) == 18 * (WINDOW // 4)
    assert air.store.reserved == MEGABYTE  # what was set aside before it proved too large, less what both have read
    slow.writer.take(2 * MEGABYTE)
    slow.producer.writer_drained()
    flight.upstream_data(b"z")
    assert air.store.reserved <= WINDOW
    while request.held:
        slow.writer.take(WINDOW)
        slow.producer.writer_drained()
    assert sum(map(len, flight.body.chunks)) <= WINDOW
    flight.upstream_end()
    slow.writer.take(9 * MEGABYTE)
    if slow.producer is not None:
        slow.producer.writer_drained()
    assert len(slow.writer.body) == 18 * (WINDOW // 4) + 1
    assert (air.store.reserved, len(air.flights)) == (0, 0)


def test_when_the_last_reader_of_what_is_too_large_leaves_it_is_given_up(air):
    slow = exchange(MemoryWriter(room=1))
    flight = air.fly(slow)
    request = flight.request
    flight.upstream_head(1500)
    for _ in range(3):
        flight.upstream_data(bytes(1000))
    assert air.store.reserved > 0
    slow.producer.client_gone()
    assert request.cancelled == 1
    assert (air.store.reserved, len(air.flights)) == (0, 0)


def test_a_slow_reader_of_a_broken_body_keeps_it_counted_and_sees_the_cut(air):
    slow, fast = exchange(MemoryWriter(room=1)), exchange()
    flight = air.fly(slow)
    flight.join(fast)
    flight.upstream_head(MEGABYTE)
    flight.upstream_data(bytes(1000))
    flight.upstream_data(bytes(1000))
    flight.upstream_failed(CUT)
    assert fast.writer.end_seen == "reset"
    assert air.store.reserved == 1000
    slow.writer.take(5000)
    slow.producer.writer_drained()
    assert (len(slow.writer.body), slow.writer.end_seen) == (2000, "reset")
    assert (air.store.reserved, air.store.entries) == (0, 0)
    assert slow.failure is fast.failure is CUT


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_body_with_a_session_id_in_it_is_not_stored_also_where_chunks_meet(air, cut):
    air.judge.forbidden = (b"SECRET",)
    slow = exchange(MemoryWriter(room=1))
    flight = air.fly(slow)
    flight.upstream_head(MEGABYTE)
    for piece in (b"see ;id=" + b"SECRET"[:cut], b"SECRET"[cut:] + b" there"):
        flight.upstream_data(piece)
    flight.upstream_end()
    assert air.store.entries == 0
    assert air.store.reserved > 0  # the slow one has not read all of it
    slow.writer.take(1000)
    slow.producer.writer_drained()
    assert (slow.writer.body, slow.writer.end_seen) == (b"see ;id=SECRET there", "end")
    assert air.store.reserved == 0


def test_an_id_over_many_small_chunks_is_found(air):
    air.judge.forbidden = (b"SECRET",)
    flight = air.fly(None)
    flight.upstream_head(MEGABYTE)
    for at in range(6):
        flight.upstream_data(b"SECRET"[at : at + 1])
    flight.upstream_end()
    assert air.store.entries == 0


ACTS = ("data", "take", "leave", "join", "outdate", "end", "fail")


@given(
    acts=st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 3), st.integers(1, 400)), max_size=40),
    most=st.sampled_from([300, 10**6]),
    memory=st.sampled_from([1000, 10**6]),
)
def test_whatever_happens_memory_comes_back_and_each_is_answered_once(acts, most, memory):
    """Bytes, slow and leaving readers, purges and ends in every order."""
    air = Air(memory)
    people = [exchange(MemoryWriter(room=100)) for _ in range(2)]
    flight = air.fly(people[0])
    flight.join(people[1])
    request = flight.request
    flight.upstream_head(most)
    sent = b""
    over = False
    for act, who, size in acts:
        over = over or bool(request.cancelled)
        if act == "data" and not over:
            piece = bytes([len(sent) % 251]) * size
            sent += piece
            flight.upstream_data(piece)
        elif act == "take" and who < len(people) and people[who].producer is not None:
            people[who].writer.take(size)
            people[who].producer.writer_drained()
        elif act == "leave" and who < len(people) and people[who].producer is not None:
            people[who].producer.client_gone()
        elif act == "join" and flight.storing and not over:
            x = exchange(MemoryWriter(room=size))
            people.append(x)
            flight.read(Delivery(air.judge.books, x, flight.body, flight))
        elif act == "outdate":
            air.flights.outdate(KEY)
        elif act == "end" and not over:
            over = True
            flight.upstream_end()
        elif act == "fail" and not over:
            over = True
            flight.upstream_failed(CUT)
        assert air.store.reserved == flight._reserved
        held = 0 if flight.body is None else sum(map(len, flight.body.chunks))
        assert flight.storing or flight._reserved <= held
    if not over and not request.cancelled:
        flight.upstream_end()
    for x in people:
        if x.producer is not None:
            x.writer.take(10**6)
            x.producer.writer_drained()
    for x in people:
        assert sent.startswith(x.writer.body)
        assert x.done
        if x.writer.end_seen == "end":
            assert x.writer.body == sent
    assert len(air.judge.books.closed) == len(people)
    assert air.store.reserved == 0
    assert len(air.flights) == 0
    for stored in air.store:
        assert stored.body.state is BodyState.COMPLETE
        assert b"".join(stored.body.chunks) == sent


# ---- parts -----------------------------------------------------------------------------------------------------------


def test_what_stands_behind_comes_last_and_is_stored_with_the_rest(air):
    reader = exchange()
    flight = air.fly(reader)
    flight.tail = (b"cd", b"e")
    flight.upstream_head(MEGABYTE)
    flight.upstream_data(b"ab")
    assert reader.writer.body == b"ab"
    flight.upstream_end()
    assert (reader.writer.body, reader.writer.end_seen) == (b"abcde", "end")
    assert [one.length for one in air.store.variants(KEY)] == [5]
    assert air.store.reserved == 0


@pytest.mark.parametrize("outdated", [False, True])
def test_a_cut_body_is_kept_as_the_part_that_the_judge_makes_of_it(air, outdated):
    kept = []

    def flight_cut(flight, stored):
        kept.append(stored)
        return stored.replaced(body=Body(list(stored.body.chunks), complete=True))

    air.judge.flight_cut = flight_cut
    reader = exchange()
    flight = air.fly(reader)
    flight.outdated = outdated
    flight.upstream_head(MEGABYTE)
    flight.upstream_data(b"ab")
    flight.upstream_failed(CUT)
    assert reader.writer.end_seen == "reset"
    assert (len(kept), air.store.entries) == ((0, 0) if outdated else (1, 1))
    assert air.store.reserved == 0


def test_a_purge_concerns_its_own_key_and_what_is_not_remembered(air):
    flights = air.flights
    before = flights.purges
    assert not flights.is_outdated(KEY, before)
    flights.outdate(b"another")
    assert not flights.is_outdated(KEY, before)
    flights.outdate(KEY)
    assert flights.is_outdated(KEY, before)
    assert not flights.is_outdated(KEY, flights.purges)
    before = flights.purges
    flights.outdate_where(lambda _key: False)
    assert flights.is_outdated(KEY, before)
    before = flights.purges
    for number in range(PURGES + 1):
        flights.outdate(b"%d" % number)
    assert flights.is_outdated(KEY, before)
