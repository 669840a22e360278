"""One client connection, byte by byte: order, framing, limits, patience and ends, with raw bytes on a socket."""

from __future__ import annotations

import ssl
import threading

import pytest
import trustme

from tests.kit import origin as answers
from tests.kit import raw, websocket
from tests.kit.inproc import Clock, Stack
from tests.kit.origin import FakeOrigin, Repeat, Stall, chunked, head_only, response
from tests.kit.proxy import reverse
from tests.kit.raw import End, wait_until

SITE = 'eject = { failures = 0 }\ntimeouts = { first_byte = "1h", idle = "1h" }'
NEVER_STORED = "Cache-Control: no-store"


@pytest.fixture
def origin():
    with FakeOrigin() as fake:
        yield fake.otherwise(by=echo)


def echo(received):
    """Which request it was: never stored."""
    body = b"%b %b" % (received.method, received.target)
    if received.method == b"HEAD":
        return [head_only(NEVER_STORED, f"Content-Length: {len(body)}")]
    return [response(body, NEVER_STORED)]


@pytest.fixture
def serve(origin):
    """Starts stacks in front of the origin; all of them end with the test, and must not have complained."""
    started = []

    def start(site=SITE, rest="", **options):
        options.setdefault("clock", Clock())
        stack = Stack(reverse(origin.address, site=site, rest=rest), **options)
        started.append(stack)
        return stack

    yield start
    for stack in started:
        stack.stop()
    for stack in started:
        assert not stack.complaints, stack.complaints


@pytest.fixture
def stack(serve):
    return serve()


@pytest.fixture
def client(stack):
    with raw.Connection(stack.at) as connection:
        yield connection


def store(origin, path="/stored", body=b"stored"):
    origin.on(path, response(body, "Cache-Control: max-age=1000", "Date: Fri, 15 Jan 2027 10:46:40 GMT"))


def tell(data):
    """The request with this body, chunked."""
    return raw.request("POST", "/told", "Transfer-Encoding: chunked") + data


# ---- order -----------------------------------------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order_though_the_first_takes_longest(origin, stack):
    store(origin)
    raw.get(stack.at, "/stored")
    release = threading.Event()
    origin.on("/slow", Stall(until=release), response(b"slow", NEVER_STORED))
    with raw.Connection(stack.at) as client:
        client.send(raw.request("GET", "/slow") + raw.request("GET", "/stored") + raw.request("GET", "/after"))
        origin.wait_for(2)
        assert client.is_silent(0.05)
        release.set()
        bodies = [client.read_response().body for _ in range(3)]
    assert bodies == [b"slow", b"stored", b"GET /after"]


def test_many_pipelined_hits_are_all_answered_over_several_turns_of_the_loop(origin, stack):
    store(origin)
    raw.get(stack.at, "/stored")
    found = raw.pipeline(stack.at, [raw.request("GET", "/stored")] * 100)
    assert [answer.body for answer in found] == [b"stored"] * 100


def test_a_stream_of_requests_cut_at_any_byte_gets_the_same_answers(origin, stack):
    store(origin)
    raw.get(stack.at, "/stored")
    stream = (
        raw.request("GET", "/stored")
        + raw.request("POST", "/a", body=b"one")
        + tell(b"3\r\ntwo\r\n0\r\nX-T: u\r\n\r\n")
        + b"\r\n"
        + raw.request("HEAD", "/stored")
        + raw.request("GET", "/stored")
    )
    methods = ["GET", "POST", "POST", "HEAD", "GET"]
    whole = None
    for at in range(1, len(stream)):
        with raw.Connection(stack.at) as client:
            client.send_cut(stream, [at], pause=0.0005)
            found = [(answer.status, answer.body) for answer in map(client.read_response, methods)]
        whole = whole or found
        assert found == whole, at
        assert [received.body for received in origin.requests[-2:]] == [b"one", b"two"]
    assert whole == [(200, b"stored"), (200, b"POST /a"), (200, b"POST /told"), (200, b""), (200, b"stored")]
    assert not origin.faults


def test_an_error_answers_the_requests_before_it_then_closes(origin, client):
    release = threading.Event()
    origin.on("/slow", Stall(until=release), response(b"slow", NEVER_STORED))
    client.send(raw.request("GET", "/slow") + b"BAD\r\n\r\n" + raw.request("GET", "/never"))
    origin.wait_for(1)
    release.set()
    assert client.read_response().body == b"slow"
    refused = client.read_response()
    assert (refused.status, refused.get("connection")) == (400, "close")
    assert client.at_end() is End.CLEAN
    assert origin.targets() == ["/slow"]


def test_the_rest_of_a_chunked_body_is_exact_and_its_trailer_reaches_nobody(origin, client):
    follower = raw.request("GET", "/next")
    client.send(tell(b"5\r\nhello\r\n0\r\nX-Evil: 1\r\nCookie: a=b\r\n\r\n") + follower)
    assert client.read_response("POST").body == b"POST /told"
    assert client.read_response().body == b"GET /next"
    assert [received.body for received in origin.requests] == [b"hello", b""]
    for received in origin.requests:
        assert received.get("x-evil") is received.get("cookie") is None
        assert received.trailers == []


def test_a_trailer_cannot_supply_the_host_that_the_next_request_lacks(origin, client):
    client.send(tell(b"0\r\nHost: test.example\r\n\r\n") + b"GET /next HTTP/1.1\r\n\r\n")
    client.read_response("POST")
    assert client.read_response().status == 400
    assert origin.targets() == ["/told"]


# ---- keep-alive and close --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "said", "goes_on", "answer"),
    [
        ("1.1", None, True, None),
        ("1.1", "close", False, "close"),
        ("1.1", "Keep-Alive, CLOSE", False, "close"),
        ("1.1", "keep-alive", True, None),
        ("1.0", None, False, "close"),
        ("1.0", "keep-alive", True, "keep-alive"),
        ("1.0", "close", False, "close"),
    ],
)
@pytest.mark.parametrize("path", ["/stored", "/passed"])
def test_a_connection_goes_on_as_both_sides_have_said(origin, stack, version, said, goes_on, answer, path):
    """RFC 9112 §9.3; for what comes from the store and for what is passed on."""
    store(origin)
    lines = [] if said is None else [f"Connection: {said}"]
    asked = raw.request("GET", path, *lines).replace(b"HTTP/1.1", f"HTTP/{version}".encode())
    for _ in range(3):  # seen first, seen again, and from the memo where that may speak
        with raw.Connection(stack.at) as client:
            client.send(asked)
            found = client.read_response()
            assert (found.status, found.get("connection")) == (200, answer)
            if goes_on:
                client.send(asked)
                assert client.read_response().status == 200
            else:
                assert client.at_end() is End.CLEAN


def test_nothing_is_read_as_a_request_behind_one_that_closes(origin, client):
    client.send(raw.request("GET", "/last", "Connection: close") + raw.request("GET", "/never"))
    assert client.read_response().body == b"GET /last"
    assert client.at_end() is End.CLEAN
    assert origin.targets() == ["/last"]


def test_an_answer_of_unknown_length_is_chunked_for_1_1_and_ends_with_the_connection_for_1_0(origin, stack):
    origin.on("/c", chunked([b"one", b"two"], NEVER_STORED))
    found = raw.get(stack.at, "/c")
    assert (found.body, found.framing) == (b"onetwo", raw.Framing.CHUNKED)
    old = raw.request("GET", "/c", "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0")
    found = raw.ask(stack.at, old)
    assert (found.body, found.framing, found.get("connection")) == (b"onetwo", raw.Framing.CLOSE, "close")


@pytest.mark.parametrize("count", [0, 1, 2])
def test_up_to_two_empty_lines_before_a_request_are_skipped_however_cut(client, count):
    for at in range(2 * count + 1):
        client.send_cut(b"\r\n" * count + raw.request("GET", "/x"), [at])
        assert client.read_response().status == 200, at


@pytest.mark.parametrize("cut", range(7))
def test_a_third_empty_line_is_no_request(origin, client, cut):
    client.send_cut(b"\r\n\r\n\r\n" + raw.request("GET", "/x"), [cut])
    assert client.read_response().status == 400
    assert client.read_to_end()[0] == b""
    assert origin.requests == []


# ---- ends ------------------------------------------------------------------------------------------------------------


def test_the_answer_to_a_bad_request_arrives_though_the_client_goes_on_sending(client, stack):
    client.send(b"GET / HTTP/1.1\r\nno colon\r\n\r\n")
    stack.wait(lambda: any(connection._closing for connection in stack.front.connections), "the answer written")
    for _ in range(20):
        client.send(b"x" * 20_000)
    assert client.read_response().status == 400
    assert client.at_end() is End.CLEAN


def test_a_client_that_sends_on_and_on_behind_its_last_answer_is_reset(client):
    client.send(b"nonsense\r\n\r\n")
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        send_until_full(client, b"x" * 20_000, 64 << 20)


def test_a_refused_client_that_stays_is_cut_after_a_moment(stack, client):
    client.send(b"nonsense\r\n\r\n")
    assert client.read_response().status == 400
    assert client.at_end() is End.CLEAN
    assert len(stack.connections()) == 1
    stack.advance(3)
    stack.wait(lambda: not stack.front.connections, "the connection gone")


def test_a_client_that_was_told_408_and_stays_is_cut_too(stack, client):
    client.send(b"GET / HT")
    stack.wait(lambda: any(connection.busy for connection in stack.front.connections), "the head begun")
    stack.advance(11)
    assert client.read_response().status == 408
    stack.advance(8)
    stack.wait(lambda: not stack.front.connections, "the connection gone")


def test_a_half_closed_client_gets_its_answer(origin, client):
    origin.on("/slow", Stall(0.05), response(b"slow", NEVER_STORED))
    client.send(raw.request("GET", "/slow") + raw.request("GET", "/after"))
    client.half_close()
    assert client.read_response().body == b"slow"
    assert client.read_response().body == b"GET /after"
    assert client.at_end() is End.CLEAN


def test_an_answer_that_has_begun_goes_on_to_a_half_closed_client(origin, client):
    release = threading.Event()
    origin.on("/long", head_only("Content-Length: 4", NEVER_STORED), b"ab", Stall(until=release), b"cd")
    client.send(raw.request("GET", "/long"))
    client.read_raw_head()
    client.half_close()
    assert client.read_exactly(2) == b"ab"
    assert client.is_silent(0.3)
    release.set()
    assert client.read_exactly(2) == b"cd"


@pytest.mark.parametrize("leave", [raw.Connection.abort, raw.Connection.close])
@pytest.mark.parametrize("begun", [False, True])
def test_a_client_that_leaves_ends_its_request_to_the_origin(origin, stack, leave, begun):
    head = [head_only("Content-Length: 10", NEVER_STORED), b"abc"] if begun else []
    origin.on("/slow", *head, answers.ReadRaw(1))
    client = raw.Connection(stack.at)
    client.send(raw.request("GET", "/slow"))
    origin.wait_for(1)
    if begun:
        client.read_raw_head()
    leave(client)
    if begun:  # half closed and closed look alike until something is sent
        stack.wait(lambda: not stack.front.connections or leave is raw.Connection.close, "the client gone")
        if leave is raw.Connection.close:
            return
    wait_until(lambda: not origin.open_links, what="the connection to the origin ended")
    stack.wait(lambda: not stack.front.connections, "the client gone")
    assert stack.counters()['tandem_errors_total{error="client-gone"}'] == 1


def test_a_client_that_leaves_inside_its_body_leaves_the_origin_with_half_a_request(origin, stack):
    client = raw.Connection(stack.at)
    client.send(raw.request("POST", "/told", "Content-Length: 10") + b"half")
    wait_until(lambda: origin.requests and origin.requests[0].length == 4, what="half the body")
    client.close()
    wait_until(lambda: not origin.open_links, what="the connection to the origin ended")
    assert not origin.requests[0].complete


def test_a_cut_answer_is_visibly_cut(origin, stack):
    for path, head in (("/length", "Content-Length: 10"), ("/chunks", "Transfer-Encoding: chunked")):
        origin.on(
            path, head_only(head, NEVER_STORED), b"3\r\nabc\r\n" if "chunked" in head else b"abc", answers.Close()
        )
        with pytest.raises(raw.Broken):
            raw.get(stack.at, path)
        old = raw.request("GET", path).replace(b"HTTP/1.1", b"HTTP/1.0")
        with pytest.raises(raw.Broken):
            raw.ask(stack.at, old)


# ---- patience: time is a number --------------------------------------------------------------------------------------


def begun(stack):
    stack.wait(lambda: any(connection.busy for connection in stack.front.connections), "bytes of a request")


def test_a_head_has_its_time_from_its_first_byte_however_it_drips(origin, stack, client):
    for at in range(9):
        client.send(b"GET / HTTP"[at : at + 1])
        stack.wait(lambda at=at: [len(c._buffer) for c in stack.front.connections] == [at + 1], "the byte read")
        stack.advance(1)
    assert client.is_silent(0.001)  # 9 s of 10
    stack.advance(2)
    assert client.read_response().status == 408
    assert client.at_end() is End.CLEAN
    assert origin.requests == []


def test_a_head_behind_an_answered_request_has_no_more_time_than_another(origin, stack, client):
    client.send(raw.request("GET", "/one") + b"GET /two HTTP/1.1\r\nHo")
    assert client.read_response().status == 200
    stack.advance(8)
    assert client.is_silent(0.001)
    stack.advance(4)
    assert client.read_response().status == 408


def test_empty_lines_keep_no_connection_alive(stack, client):
    for _ in range(2):
        client.send(b"\r\n")
        stack.wait(lambda: all(not connection._buffer for connection in stack.front.connections), "the line skipped")
        stack.advance(50)
    client.send(b"\r\n")
    assert client.read_response().status == 400


def test_an_idle_connection_is_closed_without_a_word(stack, client):
    client.send(raw.request("GET", "/x"))
    client.read_response()
    stack.advance(59)
    assert client.is_silent(0.001)
    stack.advance(3)
    assert client.at_end() is End.CLEAN


def test_a_connection_that_is_used_stays(origin, stack, client):
    store(origin)
    for _ in range(5):
        client.send(raw.request("GET", "/stored"))
        assert client.read_response().status == 200
        stack.advance(50)


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_a_body_that_stands_still_is_answered_408(origin, stack, client, framing):
    client.send(raw.request("POST", "/told", framing) + b"5\r\nhello\r\n")
    origin.wait_for(1)
    stack.advance(28)
    assert client.is_silent(0.001)
    stack.advance(8)
    assert client.read_response("POST").status == 408
    assert client.at_end() is End.CLEAN
    wait_until(lambda: not origin.open_links, what="the connection to the origin ended")
    assert not origin.requests[0].complete


def test_a_body_that_drips_below_its_least_speed_is_answered_408(origin, stack, client):
    client.send(raw.request("POST", "/told", "Content-Length: 100000"))
    origin.wait_for(1)
    for second in range(60):
        client.send(b"x" * 50)  # of 128 a second
        stack.wait(
            lambda n=second + 1: [c._body is None or c._body.size >= 50 * n for c in stack.front.connections] == [True]
        )
        stack.advance(1)
        if not client.is_silent(0.001):
            break
    assert client.read_response("POST").status == 408
    assert 29 <= second <= 40


def test_a_body_that_is_slow_but_fast_enough_is_taken(origin, stack, client):
    client.send(raw.request("POST", "/told", "Content-Length: 20000"))
    origin.wait_for(1)
    for second in range(100):
        client.send(b"x" * 200)
        stack.wait(
            lambda n=second + 1: [c._body is None or c._body.size >= 200 * n for c in stack.front.connections] == [True]
        )
        stack.advance(1)
    assert client.read_response("POST").body == b"POST /told"
    assert origin.requests[0].body == b"x" * 20000


@pytest.mark.parametrize("cut", [0, 3])
def test_once_the_body_is_whole_it_is_the_origin_who_takes_its_time(origin, stack, client, cut):
    release = threading.Event()
    origin.on("/told", Stall(until=release), response(b"done"))
    asked = raw.request("POST", "/told", body=b"hello")
    client.send_cut(asked, [len(asked) - cut], pause=0.02)
    wait_until(lambda: origin.requests and origin.requests[0].complete, what="the whole request")
    stack.advance(300)
    release.set()
    assert client.read_response("POST").body == b"done"


# ---- limits ----------------------------------------------------------------------------------------------------------

LIMITS = """
[limits]
request_line = "1000B"
field = "2000B"
head = "5000B"
fields = 10
"""


@pytest.fixture
def narrow(serve):
    return serve(rest=LIMITS)


def padded(size):
    """A request of exactly that many bytes up to and with its empty line, in fields of less than 2000 bytes."""
    lines = []
    bare = len(raw.request())
    left = size - bare
    while left:
        take = min(left, 1500) if left - min(left, 1500) not in range(1, 8) else left - 8
        lines.append("X: " + "x" * (take - 5))
        left -= take
    data = raw.request("GET", "/", *lines)
    assert len(data) == size
    return data


OVER = {
    "request line": (414, raw.request("GET", "/" + "x" * 1000)),
    "request line without end": (414, b"GET /" + b"x" * 1100),
    "field": (431, raw.request("GET", "/", "X: " + "x" * 2100)),
    "fields": (431, raw.request("GET", "/", *["X: y"] * 11)),
    "head": (431, padded(5200)),
    "head without end": (431, padded(5200)[:-4]),
    "head of many lines": (431, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000),
}


@pytest.mark.parametrize("name", OVER)
@pytest.mark.parametrize("pieces", [1, 7])
def test_what_is_over_a_limit_is_refused_with_its_status(origin, narrow, name, pieces):
    status, data = OVER[name]
    with raw.Connection(narrow.at) as client:
        client.send_cut(data, [len(data) * n // pieces for n in range(1, pieces)])
        assert client.read_response().status == status
        assert client.at_end() is End.CLEAN
    assert origin.requests == []


@pytest.mark.parametrize(
    "data",
    [
        raw.request("GET", "/" + "x" * 900),
        raw.request("GET", "/", "X: " + "x" * 1900),
        raw.request("GET", "/", *["X: y"] * 9),
        padded(4900),
    ],
    ids=["request line", "field", "fields", "head"],
)
def test_what_is_within_the_limits_is_served(narrow, data):
    assert raw.ask(narrow.at, data).status == 200


BODY_LIMIT = SITE + '\nmax_body = "1000B"'


def test_an_announced_body_over_the_limit_is_refused_before_it_is_read(origin, serve):
    with raw.Connection(serve(site=BODY_LIMIT).at) as client:
        client.send(raw.request("POST", "/told", "Content-Length: 1001"))
        assert client.read_response("POST").status == 413
        assert client.at_end() is End.CLEAN
    assert origin.requests == []


@pytest.mark.parametrize("at", ["with the head", "in pieces"])
def test_a_chunked_body_over_the_limit_is_refused_where_it_exceeds_it(origin, serve, at):
    stack = serve(site=BODY_LIMIT)
    head, body = tell(b""), answers.chunk(b"x" * 600) + answers.chunk(b"y" * 600) + b"0\r\n\r\n"
    with raw.Connection(stack.at) as client:
        if at == "with the head":
            client.send(head + body)
        else:
            client.send(head + body[:300])
            origin.wait_for(1)
            client.send(body[300:])
        assert client.read_response("POST").status == 413
        assert client.at_end() is End.CLEAN
    assert not any(received.complete for received in origin.requests)
    assert stack.counters()['tandem_errors_total{error="body-too-large"}'] == 1


def test_a_body_of_just_the_limit_is_taken(serve):
    stack = serve(site=BODY_LIMIT)
    assert raw.ask(stack.at, raw.request("POST", "/told", body=b"x" * 1000)).status == 200
    assert raw.ask(stack.at, tell(answers.chunk(b"x" * 1000) + b"0\r\n\r\n")).status == 200


@pytest.mark.parametrize("when", ["at once", "later"])
def test_bad_chunks_are_refused_and_never_whole_at_the_origin(origin, client, when):
    head, bad = tell(b"3\r\nabc\r\n"), b"zz\r\n"
    if when == "at once":
        client.send(head + bad)
    else:
        client.send(head)
        origin.wait_for(1)
        client.send(bad)
    assert client.read_response("POST").status == 400
    assert client.at_end() is End.CLEAN
    assert not any(received.complete for received in origin.requests)


# ---- Expect ----------------------------------------------------------------------------------------------------------


def test_a_client_that_expects_100_gets_the_origins_and_then_sends(origin, client):
    client.send(raw.request("POST", "/told", "Expect: 100-continue", "Content-Length: 5"))
    assert client.read_one("POST").status == 100
    client.send(b"hello")
    assert client.read_response("POST").body == b"POST /told"
    assert origin.requests[0].body == b"hello"
    client.send(raw.request("GET", "/next"))
    assert client.read_response().status == 200


def test_a_final_answer_instead_of_100_closes_the_connection(origin, client):
    origin.on("/told", answers.Early(), response(b"no", NEVER_STORED, status=403))
    client.send(raw.request("POST", "/told", "Expect: 100-continue", "Content-Length: 5"))
    found = client.read_response("POST")
    assert (found.status, found.get("connection"), found.interim) == (403, "close", [])
    assert client.at_end() is End.CLEAN


def test_a_client_of_1_0_gets_no_interim_answer(stack):
    asked = raw.request("POST", "/told", "Expect: 100-continue", body=b"hello").replace(b"HTTP/1.1", b"HTTP/1.0")
    found = raw.ask(stack.at, asked)
    assert (found.status, found.interim) == (200, [])


def test_an_unknown_expectation_is_417(origin, client):
    client.send(raw.request("POST", "/told", "Expect: a-miracle", body=b""))
    assert client.read_response("POST").status == 417
    assert origin.requests == []


def test_a_final_answer_before_the_whole_body_arrives_though_the_rest_is_still_sent(origin, client):
    origin.on("/told", answers.Early(), response(b"enough", NEVER_STORED, status=403), Stall(0.2))
    client.send(raw.request("POST", "/told", "Content-Length: 500000") + b"x" * 1000)
    origin.wait_for(1)
    client.send(b"x" * 300_000)
    found = client.read_response("POST")
    assert (found.status, found.body, found.get("connection")) == (403, b"enough", "close")


# ---- back-pressure ---------------------------------------------------------------------------------------------------

MANY = 64 * 2**20


def send_until_full(client, piece, most):
    """How many bytes of the repeated piece went out before the other side took no more."""
    sent = 0
    while sent < most:
        try:
            sent += client.sock.send(piece[sent % len(piece) :][: most - sent])
        except TimeoutError:
            break
    return sent


def written_ahead(stack):
    return stack.call(lambda: sum(c._wire.get_write_buffer_size() for c in stack.front.connections))


@pytest.mark.slow
@pytest.mark.parametrize("head", [f"Content-Length: {MANY}", "Connection: close"], ids=["length", "until close"])
def test_a_client_that_does_not_read_stops_the_origin_and_nothing_piles_up(origin, serve, head):
    stack = serve(send_buffer=1 << 16)
    origin.on("/large", head_only(head, NEVER_STORED), Repeat(bytes(1 << 16), MANY >> 16))
    with raw.Connection(stack.at, receive_buffer=1 << 14) as client:
        client.send(raw.request("GET", "/large"))
        client.read_raw_head()
        stack.wait(lambda: any(connection.congested for connection in stack.front.connections), "the client congested")
        [exchange] = [connection._exchange for connection in stack.connections()]
        before = -1
        while before != exchange.sent:  # what the kernel holds is bounded
            before = exchange.sent
            threading.Event().wait(0.1)
        assert exchange.sent < MANY // 2
        assert written_ahead(stack) < 2**20


@pytest.mark.slow
def test_an_origin_that_does_not_read_stops_the_client(origin, stack):
    release = threading.Event()
    origin.on("/told", answers.Early(), Stall(until=release), answers.ReadBody(), response(b"done"))
    size = 16 << 20
    with raw.Connection(stack.at, timeout=0.5) as client:
        client.send(raw.request("POST", "/told", f"Content-Length: {size}"))
        sent = send_until_full(client, bytes(1 << 16), size)
        assert sent < size
        held = stack.call(lambda: max(c.transport.get_write_buffer_size() for c in stack.upstreams._all))
        assert held < 2**20
        release.set()
        client.sock.settimeout(10)
        while sent < size:
            sent += client.sock.send(bytes(min(1 << 16, size - sent)))
        assert client.read_response("POST").body == b"done"
    assert origin.requests[0].length == size


def congest(origin, stack, client):
    origin.on("/large", head_only("Content-Length: 8388608", NEVER_STORED), Repeat(bytes(1 << 16), 128))
    client.send(raw.request("GET", "/large"))
    client.read_raw_head()
    stack.wait(lambda: any(connection.congested for connection in stack.front.connections), "the client congested")


def test_a_client_that_takes_nothing_is_cut_after_its_patience(origin, serve):
    stack = serve(send_buffer=1 << 16)
    with raw.Connection(stack.at, receive_buffer=1 << 14) as client:
        congest(origin, stack, client)
        stack.advance(50)
        assert len(stack.connections()) == 1
        stack.advance(25)
        stack.wait(lambda: not stack.front.connections, "the client cut")
        wait_until(lambda: not origin.open_links, what="the connection to the origin ended")


def test_a_client_that_takes_little_is_not_cut(origin, serve):
    stack = serve(send_buffer=1 << 13)
    with raw.Connection(stack.at, receive_buffer=1 << 12) as client:
        congest(origin, stack, client)
        for _ in range(10):
            before = written_ahead(stack)
            while written_ahead(stack) >= before:
                client.discard(1024)
            stack.advance(40)
        assert len(stack.connections()) == 1


def test_reading_pauses_while_much_is_pipelined_behind_an_answer(origin, serve):
    stack = serve()
    release = threading.Event()
    origin.on("/slow", Stall(until=release), response(b"slow", NEVER_STORED))
    follower = raw.request("GET", "/x", "X: " + "y" * 1000)
    with raw.Connection(stack.at, timeout=0.5) as client:
        client.send(raw.request("GET", "/slow"))
        origin.wait_for(1)
        assert send_until_full(client, follower, 64 << 20) < 64 << 20
        assert stack.call(lambda: max(len(c._buffer) for c in stack.front.connections)) <= 512 * 2**10
        release.set()
        client.sock.settimeout(10)
        assert client.read_response().body == b"slow"
        assert client.read_response().status == 200


# ---- upgrade ---------------------------------------------------------------------------------------------------------

AGREED = head_only(
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Accept: x", status=101, reason="Switching Protocols"
)


def test_bytes_sent_ahead_of_the_101_come_first_and_in_order(origin, client):
    release = threading.Event()
    origin.on("/ws", Stall(until=release), AGREED, answers.ReadRaw(12, echo=True))
    client.send(websocket.handshake(b"abc", "/ws") + b"ahead.")
    origin.wait_for(1)
    client.send(b"later.")
    assert client.is_silent(0.05)
    assert bytes(origin.links[0].raw).endswith(b"\r\n\r\n")  # nothing raw before the other side has agreed
    release.set()
    assert client.read_response().status == 101
    assert client.read_exactly(12) == b"ahead.later."


def test_bytes_behind_an_upgrade_that_is_not_granted_are_the_next_request(origin, client):
    origin.on("/ws", response(b"no", NEVER_STORED))
    client.send(websocket.handshake(b"abc", "/ws") + raw.request("GET", "/next"))
    assert client.read_response().body == b"no"
    assert client.read_response().body == b"GET /next"


# ---- connections counted, and the drain ------------------------------------------------------------------------------


def test_connections_over_a_clients_share_are_told_503(serve):
    stack = serve(rest="[limits]\nper_client = 2\n")
    kept = [raw.Connection(stack.at) for _ in range(2)]
    stack.wait(lambda: len(stack.front.connections) == 2, "both accepted")
    with raw.Connection(stack.at) as third:
        assert third.read_response().status == 503
        assert third.at_end() is End.CLEAN
    with raw.Connection(stack.at, source="127.0.0.2") as other:
        other.send(raw.request("GET", "/x"))
        assert other.read_response().status == 200
    kept.pop().close()
    stack.wait(lambda: len(stack.front.connections) == 1, "one gone")
    assert raw.get(stack.at, "/x").status == 200
    kept.pop().close()


def test_trusted_hops_have_no_share(serve):
    stack = serve(site=SITE + '\ntrusted = ["127.0.0.1"]', rest="[limits]\nper_client = 2\n")
    kept = [raw.Connection(stack.at) for _ in range(5)]
    for client in kept:
        client.send(raw.request("GET", "/x"))
        assert client.read_response().status == 200
        client.close()


def test_a_full_worker_lets_its_oldest_idle_connection_go(origin, serve):
    stack = serve(rest="[limits]\nconnections = 3\n")
    release = threading.Event()
    origin.on("/slow", Stall(until=release), response(b"slow", NEVER_STORED))
    busy, idle, newer = (raw.Connection(stack.at) for _ in range(3))
    busy.send(raw.request("GET", "/slow"))
    origin.wait_for(1)
    for client in (idle, newer):
        client.send(raw.request("GET", "/x"))
        client.read_response()
    with raw.Connection(stack.at) as latest:
        latest.send(raw.request("GET", "/x"))
        assert latest.read_response().status == 200
        assert idle.at_end() is End.CLEAN
        assert newer.is_silent(0.02)
    release.set()
    assert busy.read_response().body == b"slow"
    for client in (busy, idle, newer):
        client.close()


def test_where_all_are_busy_a_new_connection_is_told_503(origin, serve):
    stack = serve(rest="[limits]\nconnections = 1\n")
    release = threading.Event()
    origin.on("/slow", Stall(until=release), response(b"slow", NEVER_STORED))
    with raw.Connection(stack.at) as busy:
        busy.send(raw.request("GET", "/slow"))
        origin.wait_for(1)
        with raw.Connection(stack.at) as new:
            assert new.read_response().status == 503
        release.set()
        assert busy.read_response().body == b"slow"


def test_while_draining_each_answer_is_the_last_and_says_so(origin, stack):
    store(origin)
    release = threading.Event()
    origin.on("/slow", Stall(until=release), response(b"slow", NEVER_STORED))
    asked = raw.request("GET", "/stored")
    with raw.Connection(stack.at) as idle, raw.Connection(stack.at) as waiting, raw.Connection(stack.at) as untouched:
        for _ in range(3):
            idle.send(asked)
            assert idle.read_response().get("connection") is None
        waiting.send(raw.request("GET", "/slow"))
        origin.wait_for(2)
        stack.wait(lambda: len(stack.front.connections) == 3, "all accepted")
        stack.call(stack.front.drain)
        idle.send(asked)
        found = idle.read_response()
        assert (found.body, found.get("connection")) == (b"stored", "close")
        assert idle.at_end() is End.CLEAN
        stack.call(lambda: [connection.close_if_idle() for connection in list(stack.front.connections)])
        assert untouched.at_end() is End.CLEAN
        release.set()
        found = waiting.read_response()
        assert (found.body, found.get("connection")) == (b"slow", "close")
        assert waiting.at_end() is End.CLEAN


def test_a_head_behind_pipelined_answers_of_the_memo_has_its_own_time(origin, stack, client):
    store(origin)
    for _ in range(3):
        raw.get(stack.at, "/stored")
    client.send(raw.request("GET", "/stored") * 2 + b"GET /two HTT")
    for _ in range(2):
        assert client.read_response().body == b"stored"
    stack.advance(8)
    assert client.is_silent(0.001)
    stack.advance(4)
    assert client.read_response().status == 408


def test_each_pipelined_request_may_have_its_empty_lines(origin, stack):
    store(origin)
    for _ in range(3):
        raw.get(stack.at, "/stored")
    found = raw.pipeline(stack.at, [b"GET /stored HTTP/1.1\r\nHost: test.example\r\n\r\n\r\n\r\n"] * 5)
    assert [answer.status for answer in found] == [200] * 5


# ---- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def secure(serve, authority):
    """A stack that speaks TLS, and a client's context for it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("test.example").configure_cert(context)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    return serve(tls=context), trust


def test_over_tls_a_refused_client_gets_its_answer_and_an_orderly_end(secure):
    stack, trust = secure
    with raw.Connection(stack.at, tls=trust, name="test.example") as client:
        client.send(b"nonsense\r\n\r\n" + b"x" * 50_000)
        assert client.read_response().status == 400
        assert client.at_end() is End.CLEAN


def test_over_tls_hits_and_passed_answers_are_the_same(origin, secure):
    store(origin)
    stack, trust = secure
    with raw.Connection(stack.at, tls=trust, name="test.example") as client:
        for _ in range(3):
            client.send(raw.request("GET", "/stored") + raw.request("GET", "/passed"))
            assert client.read_response().body == b"stored"
            assert client.read_response().body == b"GET /passed"
    assert origin.requests[-1].get("x-forwarded-proto") == "https"


def test_over_tls_a_client_that_leaves_ends_its_request_to_the_origin(origin, secure):
    origin.on("/slow", answers.ReadRaw(1))
    stack, trust = secure
    client = raw.Connection(stack.at, tls=trust, name="test.example")
    client.send(raw.request("GET", "/slow"))
    origin.wait_for(1)
    client.close()
    wait_until(lambda: not origin.open_links, what="the connection to the origin ended")
