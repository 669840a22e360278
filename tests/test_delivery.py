"""Bodies on their way to one client: every byte once, in order, at its pace, and an end only where there is one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import errors
from proxy.delivery import Delivery, Relay
from proxy.errors import Failure
from proxy.exchange import Outcome
from proxy.http.checks import CheckedResponse, Framing
from proxy.http.message import Fields, ResponseHead
from proxy.http.stored import PIECE, Body, BodyState
from tests.kit.spine import MemoryBooks, MemoryRequest, MemoryWriter, exchange

CUT = Failure(errors.RESPONSE_CUT)


class Feeder:
    def __init__(self):
        self.readers = []
        self.moves = 0

    def reader_moved(self):
        self.moves += 1

    def reader_left(self, reader):
        self.readers.remove(reader)


# ---- from the store, or from what is still arriving ------------------------------------------------------------------


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=20), max_size=8),
    arrived=st.integers(0, 8),
    span=st.none() | st.tuples(st.integers(0, 60), st.integers(0, 60)),
    rooms=st.lists(st.integers(1, 15), max_size=30),
)
def test_any_part_of_any_body_arrives_exactly_at_any_pace(chunks, arrived, span, rooms):
    whole = b"".join(chunks)
    first, end = (0, None) if span is None else (min(span), max(span))
    if span is not None:
        first, end = min(first, len(whole)), min(end, len(whole))
    body = Body(list(chunks[:arrived]))
    writer, books, feeder = MemoryWriter(room=5), MemoryBooks(), Feeder()
    x = exchange(writer)
    delivery = Delivery(books, x, body, feeder, first=first, end=end)
    feeder.readers.append(delivery)
    delivery.pump()
    for chunk in chunks[arrived:]:
        body.append(chunk)
        if not x.done:
            delivery.pump()
    body.finish()
    if not x.done:
        delivery.pump()
    for room in rooms:
        if not x.done:
            writer.take(room)
            delivery.writer_drained()
    if not x.done:
        writer.take(1000)
        delivery.writer_drained()
    assert writer.body == whole[first:end]
    assert writer.end_seen == "end"
    assert x.sent == len(writer.body)
    assert books.closed == [x]
    assert feeder.readers == []


@given(
    sizes=st.lists(st.integers(1, 2 * PIECE), min_size=1, max_size=6),
    first=st.integers(0, 9 * PIECE),
    rooms=st.lists(st.integers(1, 3 * PIECE), max_size=6),
)
def test_whoever_reads_a_body_that_is_cut_anew_goes_on_at_the_same_byte(sizes, first, rooms):
    whole = random.Random(0).randbytes(sum(sizes))
    first = min(first, len(whole) - 1)
    writer, feeder, body = MemoryWriter(room=5), Feeder(), Body()
    x = exchange(writer)
    delivery = Delivery(MemoryBooks(), x, body, feeder, first=first)
    feeder.readers.append(delivery)
    sent, paces = 0, iter(rooms)
    for size in sizes:
        body.append(whole[sent : sent + size])
        sent += size
        if not x.done:
            delivery.pump()
        offset = delivery.offset
        if body.pack():
            delivery.go_on(offset)
        writer.take(next(paces, 1))
    body.finish()
    while not x.done:
        writer.take(PIECE)
        delivery.writer_drained()
    assert writer.body == whole[first:]


def test_a_part_is_over_before_its_body_is():
    body = Body([b"0123"])
    writer, books = MemoryWriter(), MemoryBooks()
    delivery = Delivery(books, exchange(writer), body, first=2, end=6)
    delivery.pump()
    assert (writer.body, writer.end_seen) == (b"23", "")
    body.append(b"456789")
    delivery.pump()
    assert (writer.body, writer.end_seen) == (b"2345", "end")


def test_a_body_that_breaks_ends_in_a_reset_behind_all_that_came():
    body = Body([b"01", b"23"])
    writer, books, feeder = MemoryWriter(room=1), MemoryBooks(), Feeder()
    x = exchange(writer)
    delivery = Delivery(books, x, body, feeder)
    feeder.readers.append(delivery)
    delivery.pump()
    body.state = BodyState.BROKEN
    delivery.pump()
    assert (writer.body, writer.end_seen) == (b"01", "")
    writer.take(10)
    delivery.writer_drained()
    assert (writer.body, writer.end_seen) == (b"0123", "reset")
    assert x.failure.kind is errors.RESPONSE_CUT
    assert (books.closed, feeder.readers) == ([x], [])


def test_a_client_that_leaves_closes_its_books_and_its_place():
    body = Body([b"01"])
    books, feeder = MemoryBooks(), Feeder()
    x = exchange(MemoryWriter(room=1))
    delivery = Delivery(books, x, body, feeder)
    feeder.readers.append(delivery)
    delivery.pump()
    delivery.client_gone()
    assert (books.closed, feeder.readers) == ([x], [])
    assert x.failure.kind is errors.CLIENT_GONE
    body.append(b"23")
    delivery.pump()
    assert x.sent == 2


# ---- past the store --------------------------------------------------------------------------------------------------


class Books(MemoryBooks):
    """Starts what is relayed as it is."""

    def fail(self, x, failure):
        self.failed.append((x, failure.kind.token))
        self.close_books(x)

    def relay_failed(self, x, failure, relay):
        self.fail(x, failure)

    def interim(self, x, head):
        x.writer.interim(head)

    def begin_relayed(self, x, checked, request, relay):
        x.writer.start(checked.head, checked.content_length)

    def relay_whole(self, x, checked, body, request, relay):
        self.close_books(x)
        x.writer.whole(checked.head, (body,), len(body))


def checked(status=200, upgrade=None):
    head = ResponseHead(status, b"", Fields())
    return CheckedResponse(head, Framing.LENGTH, 4, True, False, upgrade)


@pytest.fixture
def relay():
    relay = Relay(Books(), exchange(MemoryWriter(room=3)))
    relay.request = MemoryRequest()
    return relay


def test_a_relay_passes_on_what_comes_and_holds_the_origin_while_the_client_is_full(relay):
    request, writer = relay.request, relay.x.writer
    relay.upstream_interim(ResponseHead(103, b"", Fields()))
    relay.upstream_head(checked())
    relay.upstream_data(b"12")
    assert not request.held
    relay.upstream_data(b"34")
    assert request.held
    writer.take(3)
    relay.writer_drained()
    assert not request.held
    relay.upstream_end()
    assert (writer.interims, writer.body, writer.end_seen, relay.x.sent) == ([103], b"1234", "end", 4)


def test_an_origin_that_breaks_off_is_an_error_before_its_head_and_a_cut_after_it(relay):
    relay.upstream_failed(CUT)
    assert relay._books.failed == [(relay.x, "response-cut")]
    second = Relay(Books(), exchange(MemoryWriter()))
    second.upstream_head(checked())
    second.upstream_data(b"12")
    second.upstream_failed(CUT)
    assert (second._books.failed, second.x.writer.end_seen) == ([], "reset")
    assert second.x.failure is CUT
    assert second._books.closed == [second.x]


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_client_that_leaves_ends_the_request_wherever_it_is(relay, steps):
    request = relay.request
    for step in (lambda: relay.upstream_head(checked()), lambda: relay.upstream_data(b"12"))[:steps]:
        step()
    relay.client_gone()
    assert request.cancelled == 1
    assert relay._books.closed == [relay.x]
    assert relay.x.failure.kind is errors.CLIENT_GONE
    relay.client_gone()
    relay.upstream_failed(CUT)
    relay.upstream_end()
    assert relay._books.closed == [relay.x]


def test_a_switch_of_protocols_says_which_and_passes_on_what_came_with_it(relay):
    class Raw:
        body = None

        def start_raw(self, body):
            self.body = body

    connection = Raw()
    relay.upstream_upgraded(checked(101, b"websocket"), connection, b"early")
    x = relay.x
    assert x.outcome is Outcome.TUNNEL
    assert x.writer.upgraded
    assert connection.body is not None
    assert x.writer.head.fields.get(b"upgrade") == b"websocket"
    assert x.writer.body == b"early"
    relay.client_gone()
    assert x.failure is None
