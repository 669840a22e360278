"""The life of a request through the whole data plane, over real sockets, with a clock that is a number."""

from __future__ import annotations

import os
import threading

import pytest

from tests.kit import raw
from tests.kit.bench import FRESH, benches
from tests.kit.origin import Close, Repeat, Reset, Stall, chunk, chunked, head_only, response


@pytest.fixture
def make():
    with benches() as make:
        yield make


@pytest.fixture
def bench(make):
    return make()


# ---- framings, there and back ----------------------------------------------------------------------------------------

FRAMINGS = {
    "counted": (response(b"hello"), b"hello"),
    "empty": (response(b""), b""),
    "chunked": (chunked([b"hel", b"lo"], trailers=["X-Late: 1"]), b"hello"),
    "until close": (head_only() + b"hello", b"hello"),
    "204": (head_only(status=204, reason="No Content"), b""),
}


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_response_of_any_framing_reaches_the_client_whole(bench, framing, fresh, version):
    raw_response, body = FRAMINGS[framing]
    if fresh:
        raw_response = raw_response.replace(b"\r\n", b"\r\n" + FRESH.encode() + b"\r\n", 1)
    bench.origin.otherwise(raw_response, *([Close()] if framing == "until close" else []))
    for _ in range(2):
        with bench.ask(version=version) as connection:
            answer = connection.read_response()
            assert answer.body == body
            assert answer.get("x-late") is None
            if version == "1.0":
                assert answer.framing is not raw.Framing.CHUNKED
    assert len(bench.origin.requests) == (1 if fresh else 2)
    assert bench.stored == int(fresh)


@pytest.mark.rfc("9110", "9.3.2")
def test_head_is_answered_from_a_stored_get_with_its_length(bench):
    bench.origin.otherwise(chunked([b"hello"], FRESH))
    bench.get()
    answer = bench.get(method="HEAD")
    assert (answer.get("content-length"), answer.body) == ("5", b"")
    assert len(bench.origin.requests) == 1


def test_a_304_to_the_clients_own_condition_goes_back_as_it_is(bench):
    bench.origin.otherwise(head_only('ETag: "x"', status=304, reason="Not Modified"))
    answer = bench.get("/", 'If-None-Match: "x"')
    assert (answer.status, answer.get("etag")) == (304, '"x"')
    assert bench.stored == 0


@pytest.mark.rfc("9112", "8")
@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("how", [Close(), Reset()])
@pytest.mark.parametrize("framing", ["counted", "chunked"])
def test_the_client_sees_a_body_that_was_cut_and_nothing_is_stored(bench, framing, how, fresh):
    lines = [FRESH] if fresh else []
    whole = response(b"hello" * 100, *lines) if framing == "counted" else chunked([b"hello" * 100], *lines)
    head = whole.index(b"\r\n\r\n") + 4
    for cut in (head, head + 1, head + 100, len(whole) - 1):
        bench.origin.otherwise(whole[:cut], Stall(0.01), how)
        with bench.ask() as connection, pytest.raises(raw.Broken):
            connection.read_response()
    assert bench.stored == 0


@pytest.mark.rfc("9112", "8")
def test_a_cut_that_a_plain_close_would_hide_is_a_reset(bench):
    bench.origin.otherwise(chunked([b"hello" * 100])[:-1], Stall(0.01), Close())
    with bench.ask(version="1.0") as connection:
        data, end = connection.read_to_end()
    assert end is raw.End.RESET
    bench.origin.otherwise(head_only(FRESH) + b"hello", Stall(0.01), Reset())
    with bench.ask(version="1.0") as connection:
        data, end = connection.read_to_end()
    assert end is raw.End.RESET
    assert b"200" in data or not data
    assert bench.stored == 0


def test_a_response_head_cut_anywhere_is_an_error_of_ours(make):
    bench = make(site="eject = { failures = 0 }\nretry = false")
    head = head_only("Content-Length: 0")
    for cut in range(len(head)):
        bench.origin.otherwise(head[:cut], Close())
        answer = bench.get()
        assert (answer.status, answer.get("cache-control")) == (502, "no-store")
    assert bench.stored == 0


# ---- interim responses -----------------------------------------------------------------------------------------------


@pytest.mark.rfc("9110", "15.2")
@pytest.mark.parametrize("fresh", [True, False])
def test_interim_responses_come_in_order_to_new_clients_and_never_to_old_ones(bench, fresh):
    hints = head_only("Link: </a>; rel=preload", status=103, reason="Early Hints")
    final = response(b"x", *([FRESH] if fresh else []))
    bench.origin.otherwise(head_only(status=102, reason="Processing"), hints, Stall(0.02), final)
    with bench.ask("/a") as connection:
        answer = connection.read_response()
    assert [one.status for one in answer.interim] == [102, 103]
    assert answer.interim[1].get("link") == "</a>; rel=preload"
    assert answer.interim[1].get("via") == "1.1 tandem"
    assert answer.get("link") is None
    with bench.ask("/b", version="1.0") as connection:
        assert connection.read_response().interim == []
    if fresh:
        assert bench.get("/a").interim == []
        assert bench.outcomes() == {"miss": 2, "hit": 1}


def test_too_many_interim_responses_are_a_broken_origin(bench):
    bench.origin.otherwise(*[head_only(status=103, reason="x")] * 33, Close())
    assert bench.get("/", "Cache-Control: no-cache").status == 502


# ---- clients that leave ----------------------------------------------------------------------------------------------


def test_a_client_that_leaves_before_the_head_ends_its_request(bench):
    gate = threading.Event()
    bench.origin.otherwise(Stall(until=gate))
    connection = bench.ask()
    bench.origin.wait_for(1)
    connection.abort()
    raw.wait_until(lambda: bench.stack.upstream_counts() == (0, 0))
    gate.set()
    bench.ledger.settle()
    assert bench.stack.counters()['tandem_errors_total{error="client-gone"}'] == 1


@pytest.mark.parametrize("fresh", [True, False])
def test_a_client_that_leaves_inside_the_body_ends_it_unless_it_is_being_stored(bench, fresh):
    gate = threading.Event()
    whole = response(b"hello" * 10, *([FRESH] if fresh else []))
    bench.origin.otherwise(whole[:-10], Stall(until=gate), whole[-10:])
    connection = bench.ask()
    connection.read_raw_head()
    connection.abort()
    bench.stack.wait(lambda: not bench.stack.front.connections)
    if not fresh:
        raw.wait_until(lambda: bench.stack.upstream_counts() == (0, 0))
    gate.set()
    bench.ledger.settle()
    assert bench.stored == int(fresh)
    if fresh:
        assert bench.get().body == b"hello" * 10
        assert len(bench.origin.requests) == 1


# ---- conditions and ranges from what is stored -----------------------------------------------------------------------


def test_conditions_and_ranges_are_answered_from_the_store(bench):
    bench.origin.otherwise(bench.dated(b"0123456789", FRESH, 'ETag: "x"', "Content-Type: text/plain"))
    bench.get()
    assert bench.get("/", 'If-None-Match: "y", W/"x"').status == 304
    assert bench.get("/", 'If-None-Match: "y"').status == 200
    assert bench.get("/", f"If-Modified-Since: {bench.stack.date()}").status == 304
    part = bench.get("/", "Range: bytes=2-4")
    assert (part.status, part.body, part.get("content-range")) == (206, b"234", "bytes 2-4/10")
    assert bench.get("/", "Range: bytes=-3").body == b"789"
    assert bench.get("/", "Range: bytes=4-", 'If-Range: "y"').status == 200
    nothing = bench.get("/", "Range: bytes=10-")
    assert (nothing.status, nothing.get("content-range"), nothing.body) == (416, "bytes */10", b"")
    many = bench.get("/", "Range: bytes=0-1,8-9")
    assert many.status == 206
    assert b"Content-Range: bytes 0-1/10\r\n\r\n01\r\n" in many.body
    assert b"Content-Range: bytes 8-9/10\r\n\r\n89\r\n" in many.body
    assert bench.get("/", "Range: bytes=0-1", method="HEAD").status == 200
    assert len(bench.origin.requests) == 1


@pytest.fixture
def arriving(bench):
    """A bench with a response of known length of which half has come, and the event that lets the rest come."""
    gate = threading.Event()
    whole = response(b"0123456789" * 10, FRESH, 'ETag: "x"')
    bench.origin.otherwise(whole[:-50], Stall(until=gate), whole[-50:])
    with bench.ask() as first:
        first.read_raw_head()
        first.read_exactly(50)
        yield bench, gate
        gate.set()
        first.read_exactly(50)
    assert len(bench.origin.requests) == 1


def test_what_is_still_arriving_answers_conditions_and_heads_at_once(arriving):
    bench, _ = arriving
    assert bench.get("/", 'If-None-Match: "x"').status == 304
    assert bench.get(method="HEAD").get("content-length") == "100"


def test_a_part_of_what_is_still_arriving_comes_as_it_arrives(arriving):
    bench, gate = arriving
    early = bench.get("/", "Range: bytes=10-12")
    assert (early.status, early.body, early.get("content-range")) == (206, b"012", "bytes 10-12/100")
    with bench.ask("/", "Range: bytes=45-54") as across, bench.ask("/", "Range: bytes=-5") as late:
        across.read_raw_head()
        assert across.read_exactly(5) == b"56789"
        gate.set()
        assert across.read_exactly(5) == b"01234"
        assert late.read_response().body == b"56789"


def test_a_part_of_what_has_no_known_length_is_the_origins_to_give(bench):
    gate = threading.Event()
    bench.origin.then(head_only(FRESH, "Transfer-Encoding: chunked"), chunk(b"01"), Stall(until=gate), b"0\r\n\r\n")
    with bench.ask() as first:
        first.read_raw_head()
        bench.origin.otherwise(response(b"1", "Content-Range: bytes 1-1/2", status=206))
        assert bench.get("/", "Range: bytes=1-1").body == b"1"
        gate.set()
        assert first._chunked()[0] == b"01"


# ---- purge -----------------------------------------------------------------------------------------------------------


def test_purge_takes_an_url_out_for_those_who_may(make):
    bench = make(site='purge_from = ["127.0.0.2/32"]')
    bench.origin.otherwise(response(b"x", FRESH))
    bench.get("/a")
    bench.get("/b")
    assert bench.get("/a", method="PURGE").status == 403
    assert bench.stored == 2
    with raw.Connection(bench.at, source="127.0.0.2") as connection:
        connection.send(raw.request("PURGE", "/a"))
        answer = connection.read_response()
        assert (answer.status, answer.body) == (200, b"purged 1\n")
        connection.send(raw.request("PURGE", "/a"))
        assert connection.read_response().body == b"purged 0\n"
    assert bench.stored == 1
    bench.get("/a")
    assert bench.origin.targets() == ["/a", "/b", "/a"]


# ---- what is not stored ----------------------------------------------------------------------------------------------

SMALL = '[cache]\nmemory = "8MB"\nmax_object = "1MB"\n'


@pytest.mark.parametrize("announced", [True, False])
def test_what_is_too_large_reaches_all_and_is_not_stored(make, announced):
    bench = make(rest=SMALL)
    body = bytes(range(256)) * 8192  # 2 MiB
    pieces = [body[at : at + 2**16] for at in range(0, len(body), 2**16)]
    bench.origin.otherwise(response(body, FRESH) if announced else chunked(pieces, FRESH))
    for _ in range(2):
        assert bench.get().body == body
    bench.ledger.settle()
    assert bench.stored == 0
    assert len(bench.origin.requests) == 2


def test_a_slow_reader_of_what_is_too_large_holds_the_origin_and_its_memory_is_counted(make):
    bench = make(rest=SMALL)
    head = head_only(FRESH, "Transfer-Encoding: chunked")
    bench.origin.otherwise(head, Repeat(chunk(bytes(2**16)), 256), b"0\r\n\r\n")  # 16 MiB

    def held():
        return [flight for flight in bench.stack.pipeline.flights._loose if flight._paused]

    with raw.Connection(bench.at, receive_buffer=4096) as connection:
        connection.send(raw.request())
        connection.read_raw_head()
        bench.stack.wait(held, "the origin is held")
        flight = held()[0]
        counted, waiting = bench.stack.call(lambda: (bench.stack.store.reserved, sum(map(len, flight.body.chunks))))
        assert counted == flight._reserved <= 2**20
        assert waiting <= 2**20 + 2**18
        assert len(connection._chunked()[0]) == 2**24
    bench.ledger.settle()
    assert bench.stored == 0


def test_session_ids_neither_come_into_the_store_nor_hide_in_what_is_stored(make):
    bench = make(site='preset = "tomcat"')
    bench.origin.otherwise(response(b"plain", FRESH))
    assert bench.get("/a;jsessionid=ABCDEF.t1").body == b"plain"
    bench.ledger.settle()
    assert bench.get("/a").body == b"plain"
    assert len(bench.origin.requests) == 1
    bench.origin.otherwise(
        head_only(FRESH, "Transfer-Encoding: chunked") + chunk(b"<a href='/x;jsessionid=ABC"),
        chunk(b"DEF.t1'>"),
        b"0\r\n\r\n",
    )
    bench.get("/b;jsessionid=ABCDEF.t1")
    bench.origin.otherwise(response(b"x", FRESH, "Set-Cookie: JSESSIONID=1234; Path=/"))
    bench.get("/c")
    bench.ledger.settle()
    assert bench.stored == 1


def test_our_own_errors_are_never_stored(make):
    bench = make(site="eject = { failures = 0 }")
    bench.origin.otherwise(b"nonsense\r\n\r\n", Close())
    assert bench.get().status == 502
    bench.origin.otherwise(response(b"well", FRESH))
    assert bench.get().body == b"well"


# ---- the n-th step fails, for every n --------------------------------------------------------------------------------


def heard(connection):
    """All that comes up to the end of an answer, or of the connection."""
    try:
        answer = connection.read_response()
    except raw.Broken as cut:
        return cut.raw
    return answer.raw_head + answer.body


def descriptors():
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough


@pytest.mark.parametrize("stale", [False, True])
@pytest.mark.parametrize("how", [Close(), Reset()])
def test_an_origin_that_ends_after_any_byte_leaves_all_even_and_nobody_with_wrong_bytes(make, how, stale):
    """A shared fetch with a waiter: whole or visibly cut for both, and of a cut one nothing stored but as a part."""
    bench = make(site="eject = { failures = 0 }")
    whole = bench.dated(b"fresh bytes", FRESH, 'ETag: "y"')
    before = None
    for cut in range(len(whole)):
        if stale:
            bench.origin.otherwise(bench.dated(b"stale bytes", "Cache-Control: max-age=5", 'ETag: "x"'))
            bench.get(f"/{cut}")
            bench.stack.advance(6)
        gate = threading.Event()
        bench.origin.otherwise(Stall(until=gate), whole[:cut], Stall(0.001), how)
        with bench.ask(f"/{cut}") as first, bench.ask(f"/{cut}") as second:
            bench.wait_for_waiters(2)
            gate.set()
            for connection in (first, second):
                data = heard(connection)
                assert b"fresh bytes" not in data, cut
                assert (b"200 OK" in data) or (b" 502 " in data and not stale), cut
        bench.ledger.settle()
        kept = bench.stack.call(lambda: [one.head.status for one in bench.stack.store])
        if stale:
            assert kept == [200] * (cut + 1)
        else:
            assert set(kept) <= {206}
            assert len(kept) <= max(0, cut - whole.index(b"fresh bytes"))
        bench.stack.wait(lambda: not bench.stack.front.connections)
        raw.wait_until(lambda: not bench.origin.open_links)
        before = before or descriptors()
        raw.wait_until(lambda most=before: descriptors() <= most)


@pytest.mark.parametrize("fresh", [True, False])
def test_a_client_that_is_gone_after_any_byte_it_sent_or_took_leaves_all_even(make, fresh):
    bench = make()
    bench.origin.otherwise(chunked([b"some", b"thing"], *([FRESH] if fresh else [])))
    request = raw.request("POST", "/", body=b"data")
    answer_length = 150
    before = None
    for sent in range(len(request)):
        connection = raw.Connection(bench.at)
        connection.send(request[:sent])
        connection.abort()
    for taken in range(0, answer_length, 3):
        connection = bench.ask(f"/{taken}")
        connection.sock.recv(taken) if taken else None
        connection.abort()
        bench.ledger.settle()
        bench.stack.wait(lambda: not bench.stack.front.connections)
        before = before or descriptors()
        raw.wait_until(lambda most=before + 4: descriptors() <= most)  # both ends of idle connections to the origin


def test_memory_that_is_refused_at_any_step_costs_the_storing_and_nothing_else(bench):
    pieces = [bytes([65 + n]) * 100 for n in range(6)]
    bench.origin.otherwise(
        head_only(FRESH, "Transfer-Encoding: chunked"),
        *[step for p in pieces for step in (chunk(p), Stall(0.002))],
        b"0\r\n\r\n",
    )
    store = bench.stack.store
    reserve = store.reserve
    for n in range(8):
        calls = []

        def failing(size, n=n, calls=calls):
            calls.append(size)
            return len(calls) != n + 1 and reserve(size)

        bench.stack.call(lambda failing=failing: setattr(store, "reserve", failing))
        assert bench.get(f"/{n}").body == b"".join(pieces)
        bench.ledger.settle()
        assert bool(bench.stack.call(lambda n=n: store.variants(b"http://test.example/%d" % n))) == (len(calls) <= n)


def broken(*_, **__):
    raise ZeroDivisionError


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_a_fault_of_ours_in_taking_an_answer_ends_that_exchange_alone(bench, whole, fresh):
    body = b"x" if whole else bytes(2**20)
    bench.origin.otherwise(response(body, *([FRESH] if fresh else [])))
    landing = bench.stack.pipeline.landing
    head = landing.flight_head
    bench.stack.call(lambda: setattr(landing, "flight_head", broken))
    assert bench.get().status == 500
    bench.stack.call(lambda: setattr(landing, "flight_head", head))
    bench.ledger.settle()
    assert bench.get().body == body
    assert len(bench.stack.complaints) == 1
    bench.stack.complaints.clear()


def test_a_fault_of_ours_before_any_answer_ends_that_exchange_alone(bench, caplog):
    bench.origin.otherwise(response(b"x", FRESH))
    decide = bench.stack.pipeline.decide
    bench.stack.call(lambda: setattr(bench.stack.pipeline, "decide", broken))
    assert bench.get().status == 500
    bench.stack.call(lambda: setattr(bench.stack.pipeline, "decide", decide))
    assert bench.get().body == b"x"
    assert "ZeroDivisionError" in caplog.text
