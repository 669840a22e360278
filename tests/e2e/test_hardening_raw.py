"""Malformed requests and responses as bytes on a socket: status, closed connection, and nothing doubtful goes further.

Each refused sample is followed by a well-formed request, which must never be read as one; beside each family stand its
nearest legal neighbours. The origin is strict: what it finds doubtful would be in its `faults`.
"""

from __future__ import annotations

import pytest

from tests.kit import origin as answers
from tests.kit import raw
from tests.kit.origin import FakeOrigin
from tests.kit.proxy import reverse, start_proxy
from tests.kit.raw import wait_until

pytestmark = pytest.mark.slow

HOST = "Host: a.example"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n"


def req(line, *fields, body=b"", host=True):
    lines = [line, *([HOST] if host else []), *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


REFUSED = {
    # Framing (RFC 9112 §6).
    "CL with TE": (req("POST / HTTP/1.1", "Content-Length: 3", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    "TE with CL": (req("POST / HTTP/1.1", "Transfer-Encoding: chunked", "Content-Length: 3", body=b"0\r\n\r\n"), 400),
    "two CL": (req("POST / HTTP/1.1", "Content-Length: 3", "Content-Length: 3", body=b"abc"), 400),
    "CL list": (req("POST / HTTP/1.1", "Content-Length: 3, 3", body=b"abc"), 400),
    "CL with sign": (req("POST / HTTP/1.1", "Content-Length: +3", body=b"abc"), 400),
    "CL negative": (req("POST / HTTP/1.1", "Content-Length: -3", body=b"abc"), 400),
    "CL hex": (req("POST / HTTP/1.1", "Content-Length: 0x3", body=b"abc"), 400),
    "CL with underscore": (req("POST / HTTP/1.1", "Content-Length: 1_0", body=b"abc"), 400),
    "CL empty": (req("POST / HTTP/1.1", "Content-Length:", body=b"abc"), 400),
    "CL of all ones": (req("POST / HTTP/1.1", "Content-Length: 18446744073709551615", body=b"abc"), (400, 413)),
    "CL beyond 64 bits": (req("POST / HTTP/1.1", "Content-Length: 99999999999999999999999", body=b"abc"), (400, 413)),
    "blank before the colon of CL": (req("POST / HTTP/1.1", "Content-Length : 3", body=b"abc"), 400),
    "folded CL": (req("POST / HTTP/1.1", "Content-Length:\r\n 3", body=b"abc"), 400),
    "TE unknown": (req("POST / HTTP/1.1", "Transfer-Encoding: foo", body=b"0\r\n\r\n"), (400, 501)),
    "TE not ending in chunked": (
        req("POST / HTTP/1.1", "Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"),
        (400, 501),
    ),
    "TE gzip, chunked": (req("POST / HTTP/1.1", "Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 501),
    "TE with empty members": (req("POST / HTTP/1.1", "Transfer-Encoding: ,chunked", body=b"0\r\n\r\n"), (400, 501)),
    "TE twice": (
        req("POST / HTTP/1.1", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        (400, 501),
    ),
    "TE identity": (req("POST / HTTP/1.1", "Transfer-Encoding: identity", body=b"0\r\n\r\n"), (400, 501)),
    "TE with vertical tab": (req("POST / HTTP/1.1", "Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"), (400, 501)),
    "TE in HTTP/1.0": (req("POST / HTTP/1.0", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    # Line ends and field syntax (RFC 9112 §2.2, §5).
    "bare LF": (b"GET / HTTP/1.1\nHost: a.example\n\n", 400),
    "one bare LF": (b"GET / HTTP/1.1\r\nHost: a.example\nX: y\r\n\r\n", 400),
    "bare CR in a value": (req("GET / HTTP/1.1", "X: a\rb"), 400),
    "fold": (req("GET / HTTP/1.1", "X: a\r\n b"), 400),
    "fold first": (b"GET / HTTP/1.1\r\n X: a\r\nHost: a.example\r\n\r\n", 400),
    "blank before the colon": (req("GET / HTTP/1.1", "X : a"), 400),
    "name with blank": (req("GET / HTTP/1.1", "X Y: a"), 400),
    "name empty": (req("GET / HTTP/1.1", ": a"), 400),
    "no colon": (req("GET / HTTP/1.1", "nonsense"), 400),
    "NUL in a value": (req("GET / HTTP/1.1", "X: a\0b"), 400),
    "NUL in a name": (req("GET / HTTP/1.1", "X\0: a"), 400),
    "DEL in a value": (req("GET / HTTP/1.1", "X: a\x7fb"), 400),
    "high byte in a name": (req("GET / HTTP/1.1", "X\xe9: a"), 400),
    # Request line (RFC 9112 §3).
    "two blanks": (req("GET  / HTTP/1.1"), 400),
    "trailing blank": (req("GET / HTTP/1.1 "), 400),
    "tab for blank": (req("GET\t/ HTTP/1.1"), 400),
    "lower-case version": (req("GET / http/1.1"), (400, 505)),
    "version 2.0": (req("GET / HTTP/2.0"), 505),
    "version 1.2": (req("GET / HTTP/1.2"), (400, 505)),
    "version 0.9": (req("GET / HTTP/0.9"), 505),
    "simple request": (b"GET /\r\n\r\n", (400, 505)),
    "other protocol": (req("GET / RTSP/1.0"), (400, 505)),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 501, 505)),
    "TLS on a clear port": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "unknown method": (req("BAN / HTTP/1.1"), 501),
    "lower-case method": (req("get / HTTP/1.1"), (400, 501)),
    "method that is no token": (req("G@T / HTTP/1.1"), 400),
    # Target (RFC 3986 §3).
    "fragment": (req("GET /a#b HTTP/1.1"), 400),
    "broken percent": (req("GET /%zz HTTP/1.1"), 400),
    "short percent": (req("GET /%4 HTTP/1.1"), 400),
    "quote in target": (req('GET /"x HTTP/1.1'), 400),
    "backslash": (req("GET /a\\b HTTP/1.1"), 400),
    "high byte in target": (req("GET /\xe9 HTTP/1.1"), 400),
    "NUL in target": (req("GET /\0 HTTP/1.1"), 400),
    "no slash": (req("GET index.html HTTP/1.1"), 400),
    "star for GET": (req("GET * HTTP/1.1"), 400),
    "https target on a clear port": (req("GET https://a.example/ HTTP/1.1"), 400),
    "foreign scheme": (req("GET ftp://a.example/ HTTP/1.1"), 400),
    "userinfo in target": (req("GET http://u@a.example/ HTTP/1.1"), 400),
    "port 0 in target": (req("GET http://a.example:0/ HTTP/1.1"), 400),
    "port 65536 in target": (req("GET http://a.example:65536/ HTTP/1.1"), 400),
    # Host (RFC 9110 §7.2).
    "no Host": (req("GET / HTTP/1.1", host=False), 400),
    "two Host": (req("GET / HTTP/1.1", HOST), 400),
    "two different Host": (req("GET / HTTP/1.1", "Host: b.example"), 400),
    "empty Host": (req("GET / HTTP/1.1", "Host:", host=False), 400),
    "Host with userinfo": (req("GET / HTTP/1.1", "Host: u@a.example", host=False), 400),
    "Host with path": (req("GET / HTTP/1.1", "Host: a.example/x", host=False), 400),
    "Host list": (req("GET / HTTP/1.1", "Host: a.example, b.example", host=False), 400),
    "Host with blank": (req("GET / HTTP/1.1", "Host: a b", host=False), 400),
    "Host with bad port": (req("GET / HTTP/1.1", "Host: a.example:8x", host=False), 400),
    "Host with high byte": (req("GET / HTTP/1.1", "Host: \xe9.example", host=False), 400),
    # Fields that decide and may occur once (RFC 9110 §5.3).
    "two Authorization": (req("GET / HTTP/1.1", "Authorization: Basic YTpi", "Authorization: Basic Yzpk"), 400),
    # Expectations, CONNECT, TRACE.
    "unknown expectation": (req("POST / HTTP/1.1", "Expect: 200-maybe", "Content-Length: 3", body=b"abc"), 417),
    "CONNECT": (req("CONNECT a.example:443 HTTP/1.1"), 405),
    # Limits.
    "long target": (req(f"GET /{'a' * 17000} HTTP/1.1"), 414),
    "long field": (req("GET / HTTP/1.1", f"X: {'a' * 17000}"), 431),
    "many fields": (req("GET / HTTP/1.1", *[f"X-{number}: y" for number in range(101)]), 431),
    "large head": (req("GET / HTTP/1.1", *[f"X-{number}: {'y' * 8000}" for number in range(9)]), 431),
}

LEGAL = {
    "plain": req("GET / HTTP/1.1"),
    "empty lines before": b"\r\n\r\n" + req("GET / HTTP/1.1"),
    "CL 0": req("POST / HTTP/1.1", "Content-Length: 0"),
    "CL with leading zeros": req("POST / HTTP/1.1", "Content-Length: 003", body=b"abc"),
    "CL with blanks": req("POST / HTTP/1.1", "Content-Length: \t3 \t", body=b"abc"),
    "chunked": req("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n"),
    "chunked, other case": req("POST / HTTP/1.1", "Transfer-Encoding: Chunked", body=b"3\r\nabc\r\n0\r\n\r\n"),
    "chunk extension": req("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=b'3;a=b;c="d"\r\nabc\r\n0\r\n\r\n'),
    "trailers": req("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\nX: y\r\nHost: b\r\n\r\n"),
    "tab in a value": req("GET / HTTP/1.1", "X: a\tb"),
    "high bytes in a value": req("GET / HTTP/1.1", "X: caf\xe9"),
    "empty value": req("GET / HTTP/1.1", "X:"),
    "odd but legal target": req("GET /a;b=c//d/../e?f=g&h=/?:@!$'()*+,;=%00 HTTP/1.1"),
    "absolute-form": req("GET http://a.example/x HTTP/1.1"),
    "Host with port": req("GET / HTTP/1.1", "Host: a.example:8080", host=False),
    "Host literal": req("GET / HTTP/1.1", "Host: [::1]:80", host=False),
    "OPTIONS *": req("OPTIONS * HTTP/1.1"),
    "HTTP/1.0": req("GET / HTTP/1.0"),
    "HTTP/1.0 without Host": req("GET / HTTP/1.0", host=False),
    "a field of 15,000 bytes": req("GET / HTTP/1.1", f"X: {'a' * 15000}"),
    "99 fields": req("GET / HTTP/1.1", *[f"X-{number}: y" for number in range(99)]),
    "WebDAV": req("PROPFIND / HTTP/1.1", "Depth: 1"),
}


@pytest.fixture(scope="module")
def origin():
    with FakeOrigin() as fake:
        yield fake


@pytest.fixture(scope="module")
def proxy(origin, tmp_path_factory):
    toml = reverse(origin.address, site="trusted = []", rest='[limits]\nhead_time = "3s"')
    with start_proxy(tmp_path_factory.mktemp("proxy"), toml) as running:
        yield running


@pytest.fixture(autouse=True)
def _clean(origin):
    origin.forget()
    origin.otherwise(answers.response(b"hello"))


def canary(proxy, origin):
    """The proxy still serves others."""
    origin.forget()
    assert raw.get(proxy.at, "/canary").body == b"hello"


def method_of(data):
    return data.lstrip(b"\r\n").split(b" ", 1)[0].decode("latin-1")


# ---- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REFUSED)
def test_a_malformed_request_is_refused_and_reaches_nobody(proxy, origin, name):
    sample, expected = REFUSED[name]
    with raw.Connection(proxy.at) as connection:
        connection.send(sample + SMUGGLED)
        answer = connection.read_response()
        assert answer.status in (expected if isinstance(expected, tuple) else (expected,))
        assert connection.at_end() is raw.End.CLEAN, "the answer must not be lost in a reset"
    assert origin.targets() == []
    assert answer.get("connection") == "close"
    canary(proxy, origin)


@pytest.mark.parametrize("name", LEGAL)
def test_its_legal_neighbour_is_served_and_the_origin_finds_one_reading(proxy, origin, name):
    sample = LEGAL[name]
    answer = raw.ask(proxy.at, sample, method_of(sample))
    assert answer.status == 200
    assert len(origin.requests) == 1
    assert origin.faults == []


@pytest.mark.parametrize("name", [name for name in LEGAL if len(LEGAL[name]) < 1000])
def test_a_legal_request_in_single_bytes_is_the_same_request(proxy, origin, name):
    sample = LEGAL[name]
    with raw.Connection(proxy.at) as connection:
        connection.send_cut(sample, range(len(sample)), pause=0.0002)
        assert connection.read_response(method_of(sample)).status == 200
    whole = raw.ask(proxy.at, sample, method_of(sample))
    assert whole.status == 200
    first, second = origin.requests
    assert (first.method, first.target, first.body) == (second.method, second.target, second.body)
    assert origin.faults == []


@pytest.mark.parametrize(
    "name",
    ["CL with TE", "two CL", "fold", "bare CR in a value", "version 2.0", "fragment", "TE in HTTP/1.0", "no Host"],
)
def test_a_malformed_request_cut_at_every_byte_gets_the_same_verdict(proxy, origin, name):
    sample, expected = REFUSED[name]
    for offset in range(1, len(sample)):
        with raw.Connection(proxy.at) as connection:
            connection.send_cut(sample, [offset], pause=0.0005)
            assert connection.read_response().status in (expected if isinstance(expected, tuple) else (expected,)), (
                offset
            )
    assert origin.targets() == []


BROKEN_CHUNKS = {
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "size that is no number": b"x\r\nabc\r\n0\r\n\r\n",
    "size with 0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "negative size": b"-3\r\nabc\r\n0\r\n\r\n",
    "size beyond 64 bits": b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "data longer than its size": b"2\r\nabc\r\n0\r\n\r\n",
    "LF for CRLF after a size": b"3\nabc\r\n0\r\n\r\n",
    "LF for CRLF after data": b"3\r\nabc\n0\r\n\r\n",
    "blank before the size": b" 3\r\nabc\r\n0\r\n\r\n",
    "endless extension": b"3;" + b"a" * 40000 + b"\r\nabc\r\n0\r\n\r\n",
    "endless trailers": b"3\r\nabc\r\n0\r\n" + b"X: y\r\n" * 8000 + b"\r\n",
    "malformed trailer": b"3\r\nabc\r\n0\r\nX y\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN_CHUNKS)
def test_a_broken_chunked_request_is_never_whole_at_the_origin(proxy, origin, name):
    head = req("POST / HTTP/1.1", "Transfer-Encoding: chunked")
    with raw.Connection(proxy.at) as connection:
        connection.send(head + BROKEN_CHUNKS[name] + SMUGGLED)
        assert connection.read_response("POST").status in (400, 413, 431)
        assert connection.at_end() is raw.End.CLEAN
    wait_until(lambda: not any(link.open and link.requests and not link.requests[-1].complete for link in origin.links))
    assert [received.target for received in origin.requests if received.complete] == []
    assert b"/smuggled" not in [received.target for received in origin.requests]


def test_a_trailer_never_becomes_a_field_of_the_next_request(proxy, origin):
    head = req("POST /one HTTP/1.1", "Transfer-Encoding: chunked")
    chunks = b"3\r\nabc\r\n0\r\nX-Leak: 1\r\nAuthorization: Basic YTpi\r\n\r\n"
    with raw.Connection(proxy.at) as connection:
        connection.send(head + chunks)
        assert connection.read_response("POST").status == 200
        if connection.ended is None and connection.is_silent(0.05):  # it may have closed: that is safe too
            connection.send(req("GET /two HTTP/1.1"))
            connection.read_response()
    for received in origin.requests:
        assert received.get("x-leak") is None
        assert received.get("authorization") is None
        assert received.trailers == []


def test_bytes_behind_a_chunked_request_in_the_same_read_are_not_misread(proxy, origin):
    """Either answered as the request that they are, or the connection closes after the first answer."""
    head = req("POST /one HTTP/1.1", "Transfer-Encoding: chunked")
    with raw.Connection(proxy.at) as connection:
        connection.send(head + b"3\r\nabc\r\n0\r\nX-Leak: 1\r\n\r\n" + req("GET /two HTTP/1.1"))
        assert connection.read_response("POST").status == 200
        rest, _ = read_rest(connection)
        assert rest in ([], [200])
    assert all(received.get("x-leak") is None for received in origin.requests)


def read_rest(connection):
    statuses = []
    try:
        while True:
            if connection.is_silent(0.2):
                return statuses, None
            statuses.append(connection.read_response().status)
    except raw.Broken:
        return statuses, connection.ended


def test_requests_before_a_bad_one_in_the_same_read_are_answered(proxy, origin):
    good = [req(f"GET /{number} HTTP/1.1") for number in range(3)]
    with raw.Connection(proxy.at) as connection:
        connection.send(b"".join(good) + REFUSED["fold"][0] + SMUGGLED)
        assert [connection.read_response().status for _ in range(4)] == [200, 200, 200, 400]
        assert connection.at_end() is raw.End.CLEAN
    assert origin.targets() == ["/0", "/1", "/2"]


def test_pipelined_requests_are_answered_in_order(proxy, origin):
    origin.otherwise(
        by=lambda received: [answers.Stall(0.02 if received.path == "/0" else 0), answers.response(received.target)]
    )
    answered = raw.pipeline(proxy.at, [raw.request(target=f"/{number}") for number in range(20)])
    assert [answer.text for answer in answered] == [f"/{number}" for number in range(20)]


def test_nothing_is_read_as_a_request_after_connection_close(proxy, origin):
    with raw.Connection(proxy.at) as connection:
        connection.send(req("GET /last HTTP/1.1", "Connection: close") + SMUGGLED)
        assert connection.read_response().get("connection") == "close"
        assert connection.at_end() is raw.End.CLEAN
    assert origin.targets() == ["/last"]


def test_a_half_received_request_reaches_no_origin_as_whole(proxy, origin):
    with raw.Connection(proxy.at) as connection:
        connection.send(req("POST / HTTP/1.1", "Content-Length: 10", body=b"abc"))
        connection.close()
    with raw.Connection(proxy.at) as connection:
        connection.send(b"GET /partial HTTP/1.1\r\nHost: a.example\r\n")
        connection.half_close()
        connection.read_to_end()
    canary(proxy, origin)
    assert not any(received.complete and received.path != "/canary" for received in origin.requests)


def test_hop_by_hop_fields_do_not_travel(proxy, origin):
    fields = [
        "Connection: keep-alive, X-Private, Host, Content-Length",
        "Keep-Alive: timeout=5",
        "X-Private: 1",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic YTpi",
        "TE: trailers",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
        "Proxy: http://evil.example",
        "X-Public: 1",
    ]
    raw.ask(proxy.at, req("POST / HTTP/1.1", *fields, "Content-Length: 3", body=b"abc"))
    (received,) = origin.requests
    names = {name.lower() for name, _ in received.lines}
    gone = b"keep-alive x-private proxy-connection proxy-authorization te upgrade http2-settings proxy".split()
    assert names.isdisjoint(gone)
    assert {b"x-public", b"host", b"content-length"} <= names
    assert received.body == b"abc"


def test_forwarding_fields_of_strangers_are_replaced_by_ours(proxy, origin):
    forged = [
        "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example",
        "X-Forwarded-Port: 1", "X_Forwarded_For: 192.0.2.2", "Forwarded: for=192.0.2.3", "X-Real-IP: 192.0.2.4",
        "X-Original-URL: /admin", "X-Rewrite-URL: /admin", "X-HTTP-Method-Override: DELETE", "X-Host: evil.example",
    ]  # fmt: skip
    raw.ask(proxy.at, req("GET / HTTP/1.1", *forged))
    (received,) = origin.requests
    head = received.raw_head
    for value in (b"192.0.2.", b"evil.example", b"/admin", b"DELETE"):
        assert value not in head
    assert received.get("x-forwarded-for") == "127.0.0.1"
    assert received.get("x-forwarded-proto") == "http"


def test_trace_is_refused(proxy, origin):
    assert raw.ask(proxy.at, req("TRACE / HTTP/1.1")).status == 405
    assert origin.requests == []


# ---- responses -------------------------------------------------------------------------------------------------------

BAD_RESPONSES = {
    "no status line": b"hello\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "status 99": b"HTTP/1.1 99 OK\r\nContent-Length: 5\r\n\r\nhello",
    "status 1000": b"HTTP/1.1 1000 OK\r\nContent-Length: 5\r\n\r\nhello",
    "control byte in the reason": b"HTTP/1.1 200 O\x01K\r\nContent-Length: 5\r\n\r\nhello",
    "CL with TE": answers.head_only("Content-Length: 5", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
    "two different CL": answers.head_only("Content-Length: 5", "Content-Length: 6") + b"hello!",
    "two equal CL": answers.head_only("Content-Length: 5", "Content-Length: 5") + b"hello",
    "CL with sign": answers.head_only("Content-Length: +5") + b"hello",
    "CL list": answers.head_only("Content-Length: 5, 5") + b"hello",
    "CL of all ones": answers.head_only("Content-Length: 18446744073709551615") + b"hello",
    "blank before the colon": answers.head_only("Content-Length : 5") + b"hello",
    "TE gzip, chunked": answers.head_only("Transfer-Encoding: gzip, chunked") + b"5\r\nhello\r\n0\r\n\r\n",
    "TE unknown": answers.head_only("Transfer-Encoding: foo") + b"hello",
    "TE in HTTP/1.0": answers.head_only("Transfer-Encoding: chunked", version="1.0") + b"5\r\nhello\r\n0\r\n\r\n",
    "fold": answers.head_only("X: a\r\n b", "Content-Length: 5") + b"hello",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    "bare CR": answers.head_only("X: a\rb", "Content-Length: 5") + b"hello",
    "NUL in a value": answers.head_only("X: a\0b", "Content-Length: 5") + b"hello",
    "name with blank": answers.head_only("X Y: a", "Content-Length: 5") + b"hello",
    "101 nobody asked for": answers.head_only("Upgrade: foo", "Connection: Upgrade", status=101, reason="Switching"),
    "head too large": answers.head_only(*[f"X-{n}: {'y' * 8000}" for n in range(20)], "Content-Length: 5") + b"hello",
    "too many fields": answers.head_only(*[f"X-{n}: y" for n in range(210)], "Content-Length: 5") + b"hello",
    "too many interim answers": answers.head_only(status=102, reason="Processing") * 40 + answers.response(b"hello"),
    "end inside the head": b"HTTP/1.1 200 OK\r\nContent-Le",
}


@pytest.mark.parametrize("name", BAD_RESPONSES)
def test_a_malformed_response_becomes_502_and_its_connection_is_not_used_again(proxy, origin, name):
    origin.then(BAD_RESPONSES[name], answers.Close())
    with raw.Connection(proxy.at) as connection:
        connection.send(raw.request("POST", f"/{name.replace(' ', '-')}", body=b"x"))  # POST: never repeated
        assert connection.read_response("POST").status == 502
    used = origin.requests[-1].connection
    assert raw.get(proxy.at, "/next").body == b"hello"
    assert origin.requests[-1].connection != used


BROKEN_BODIES = {
    "shorter than announced": answers.response(b"hello", "Cache-Control: max-age=60", length=10),
    "chunked without end": answers.head_only("Cache-Control: max-age=60", "Transfer-Encoding: chunked")
    + b"5\r\nhello\r\n",
    "chunked without the last CRLF": answers.head_only("Cache-Control: max-age=60", "Transfer-Encoding: chunked")
    + b"5\r\nhello\r\n0\r\n",
    "chunk with a bad size": answers.head_only("Cache-Control: max-age=60", "Transfer-Encoding: chunked")
    + b"5\r\nhello\r\nzz\r\n",
}


@pytest.mark.parametrize("name", BROKEN_BODIES)
def test_a_broken_body_is_visibly_cut_and_not_stored(proxy, origin, name):
    target = f"/cut/{name.replace(' ', '-')}"
    origin.then(BROKEN_BODIES[name], answers.Close())
    with raw.Connection(proxy.at) as connection:
        connection.send(raw.request(target=target))
        try:
            answer = connection.read_response()
        except raw.Broken:
            pass
        else:
            assert answer.status == 502, "an answer that looks whole"
    origin.otherwise(answers.response(b"whole"))
    assert raw.get(proxy.at, target).body == b"whole"


def test_a_reset_in_a_body_without_length_is_not_a_clean_end(proxy, origin):
    origin.then(answers.head_only("Cache-Control: max-age=60"), b"hello", answers.Stall(0.05), answers.Reset())
    with pytest.raises(raw.Broken):
        raw.get(proxy.at, "/reset")
    assert raw.get(proxy.at, "/reset").body == b"hello"
    assert len(origin.requests) == 2


def test_a_cut_towards_a_client_of_http_1_0_is_a_reset(proxy, origin):
    """It has no other way to see that a body without length is not whole (hardening of RFC 9112 §8)."""
    origin.then(
        answers.head_only("Transfer-Encoding: chunked"), b"5\r\nhello\r\n", answers.Stall(0.05), answers.Close()
    )
    with raw.Connection(proxy.at) as connection:
        connection.send(req("GET /old HTTP/1.0"))
        with pytest.raises(raw.Broken):
            connection.read_response()
        assert connection.ended is raw.End.RESET


def test_bytes_beyond_a_response_are_nobodys_answer(proxy, origin):
    poison = answers.response(b"poison", "Cache-Control: max-age=60")
    origin.then(answers.response(b"first") + poison)
    with raw.Connection(proxy.at) as connection:
        connection.send(raw.request(target="/a"))
        first = connection.read_response()
        assert (first.status, first.body) in ((200, b"first"), (502, first.body))
    for _ in range(3):
        assert raw.get(proxy.at, "/b").body == b"hello"


def test_bytes_on_an_idle_upstream_connection_make_it_unfit(proxy, origin):
    origin.then(answers.response(b"first"), answers.Stall(0.1), answers.response(b"poison"))
    assert raw.get(proxy.at, "/a").body == b"first"
    wait_until(lambda: not origin.links[origin.requests[0].connection].open, what="the connection closed by the proxy")
    assert raw.get(proxy.at, "/b").body == b"hello"


def test_answers_to_head_204_and_304_have_no_body_whatever_they_announce(proxy, origin):
    origin.then(answers.response(b"", length=100))
    assert raw.get(proxy.at, "/h", method="HEAD").body == b""
    origin.then(answers.head_only("X: y", status=204, reason="No Content"))
    answer = raw.get(proxy.at, "/n")
    assert (answer.status, answer.body, answer.get("content-length")) == (204, b"", None)
    origin.then(answers.head_only('ETag: "a"', "Content-Length: 100", status=304, reason="Not Modified"))
    assert raw.get(proxy.at, "/c", 'If-None-Match: "a"').status == 304
    assert raw.get(proxy.at, "/after").body == b"hello"


def test_trailers_of_a_response_are_dropped_and_never_merged(proxy, origin):
    origin.then(answers.chunked([b"hello"], "Trailer: X-T", trailers=["X-T: 1", "Set-Cookie: a=b"]))
    answer = raw.get(proxy.at, "/t")
    assert (answer.body, answer.trailers) == (b"hello", [])
    assert answer.get("set-cookie") is None
    assert raw.get(proxy.at, "/u").get("x-t") is None


def test_interim_answers_travel_to_clients_of_http_1_1_alone(proxy, origin):
    early = answers.head_only("Link: </a.css>; rel=preload", status=103, reason="Early Hints")
    origin.then(early, answers.response(b"x")).then(early, answers.response(b"x"))
    assert [interim.status for interim in raw.get(proxy.at, "/e").interim] == [103]
    old = raw.ask(proxy.at, req("GET /e2 HTTP/1.0"))
    assert (old.interim, old.body) == ([], b"x")


# ---- Expect, early answers -------------------------------------------------------------------------------------------


def test_expect_100_continue_gets_its_100_before_the_body(proxy, origin):
    with raw.Connection(proxy.at) as connection:
        connection.send(req("POST / HTTP/1.1", "Expect: 100-continue", "Content-Length: 3"))
        assert connection.read_one("POST").status == 100
        connection.send(b"abc")
        assert connection.read_response("POST").status == 200
    assert origin.requests[-1].body == b"abc"


def test_after_a_final_answer_before_the_body_the_client_connection_closes(proxy, origin):
    origin.then(answers.Early(), answers.response(b"no", status=403, reason="Forbidden"), answers.Close())
    with raw.Connection(proxy.at) as connection:
        connection.send(req("POST / HTTP/1.1", "Content-Length: 100000", body=b"x" * 1000))
        answer = connection.read_response("POST")
        assert (answer.status, answer.get("connection")) == (403, "close")
    canary(proxy, origin)
