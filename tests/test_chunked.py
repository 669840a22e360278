"""A chunked body is decoded and ends at the same byte however it is cut; framing has its bound, work stays linear."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from config.schema import Limits
from proxy.chunked import BadChunks, ChunkedBody
from tests.kit.heads import request_parser, response_parser

REQUEST = b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a.example\r\n\r\n"
ALLOWANCE = Limits().chunk_overhead


def body_of(head=REQUEST, allowance=ALLOWANCE):
    parser = request_parser() if head is REQUEST else response_parser()
    messages, _, tail = parser.feed_data(head)
    assert not tail
    return ChunkedBody(parser, messages[0][1], allowance)


def chunked(pieces, extensions=(), trailers=()):
    """The pieces as chunks, extensions in turn, then the last chunk and trailers."""
    out = bytearray()
    for at, piece in enumerate(pieces):
        extension = extensions[at % len(extensions)] if extensions else b""
        out += b"%x%b\r\n%b\r\n" % (len(piece), extension, piece)
    return bytes(out) + b"0\r\n" + b"".join(b"%b\r\n" % line for line in trailers) + b"\r\n"


def read(data, cuts=(), head=REQUEST):
    """(decoded, what follows): fed in pieces that end at the cuts, until the body is done."""
    body = body_of(head)
    decoded = bytearray()
    start = 0
    for cut in [*sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]:
        piece, rest = body.feed(data[start:cut])
        decoded += piece
        start = cut
        if body.done:
            return bytes(decoded), rest + data[cut:]
        assert rest == b""
    raise AssertionError("the body has not ended")


def feed_all(body, reads):
    for data in reads:
        body.feed(data)


# What may look like an end, inside chunks and beside them.
pieces = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=40), st.sampled_from([b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"\r", b"\n\r\n\r"])
    ),
    max_size=8,
)
extensions = st.lists(st.sampled_from([b"", b";a", b";a=b", b';a="x\\"y"']), max_size=3)
trailers = st.lists(st.sampled_from([b"X-A: 1", b"X-B: ", b"Cookie: a=b", b"X-Forwarded-For: 192.0.2.9"]), max_size=3)
following = st.sampled_from([b"", NEXT, b"\r\n\r\n", b"0\r\n\r\n", b"\x00junk", NEXT + NEXT])
cuts = st.lists(st.integers(1, 600), max_size=12)


@pytest.mark.parametrize("head", [REQUEST, RESPONSE], ids=["request", "response"])
@given(pieces, extensions, trailers, following, cuts)
@example([b"\r\n", b"\r\n\r\n"], [], [b"X-A: 1"], NEXT, list(range(1, 100)))
def test_body_and_rest_are_the_same_however_the_bytes_are_cut(head, pieces, extensions, trailers, following, cuts):
    data = chunked(pieces, extensions, trailers)
    assert read(data + following, cuts, head) == (b"".join(pieces), following)


@given(pieces, trailers)
def test_single_bytes_end_the_body_with_its_last_byte(pieces, trailers):
    body = body_of()
    data = chunked(pieces, trailers=trailers)
    decoded = bytearray()
    for at in range(len(data)):
        assert not body.done, at
        piece, rest = body.feed(data[at : at + 1])
        decoded += piece
        assert rest == b""
    assert body.done
    assert decoded == b"".join(pieces)
    assert body.size == len(decoded)
    assert body.framing == len(data) - len(decoded)


BROKEN = {
    "no size": b"x\r\nabc\r\n0\r\n\r\n",
    "sign": b"+3\r\nabc\r\n0\r\n\r\n",
    "prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "blank before": b" 3\r\nabc\r\n0\r\n\r\n",
    "too long a chunk": b"2\r\nabc\r\n0\r\n\r\n",
    "too short a chunk": b"4\r\nabc\r\n0\r\n\r\n",
    "bare line feed": b"3\nabc\n0\n\n",
    "huge size": b"fffffffffffffffff\r\n",
    "trailer without colon": b"3\r\nabc\r\n0\r\nrubbish\r\n\r\n",
    "trailer with bare LF": b"3\r\nabc\r\n0\r\nX: a\nY: b\r\n\r\n",
    "length among the trailers": b"3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n",
    "control byte in an extension": b"3;\x00\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
@settings(max_examples=20)
@given(cuts)
def test_what_is_badly_framed_is_refused_however_it_is_cut(name, cuts):
    with pytest.raises((BadChunks, AssertionError)) as caught:
        read(BROKEN[name], cuts)
    assert caught.type is BadChunks or "not ended" in str(caught.value)


@pytest.mark.parametrize("name", [name for name in BROKEN if name != "too short a chunk"])
def test_what_is_badly_framed_is_refused_at_once(name):
    with pytest.raises(BadChunks):
        body_of().feed(BROKEN[name])


def test_framing_beyond_its_allowance_is_refused_before_it_is_kept():
    body = body_of(allowance=1000)
    with pytest.raises(BadChunks, match="too much framing"):
        body.feed(b"1;" + b"e" * 2000 + b"\r\nx\r\n")


def test_a_size_line_that_never_ends_is_refused_once_it_exceeds_the_allowance():
    body = body_of(allowance=1000)
    with pytest.raises(BadChunks):
        feed_all(body, [b"0"] * 2000)
    assert body.framing <= 1001


def test_trailers_without_end_are_refused():
    body = body_of(allowance=1000)
    body.feed(b"1\r\nx\r\n0\r\n")
    with pytest.raises(BadChunks):
        feed_all(body, (b"X-%d: y\r\n" % number for number in range(2000)))


def test_a_body_in_small_chunks_pays_for_their_framing():
    """One byte a chunk costs six bytes of framing, within the eightfold that each body byte allows."""
    pieces = [b"x"] * 20_000
    assert read(chunked(pieces)) == (b"x" * 20_000, b"")


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit", [b"\r\n\r\n", b"x" * 1000, b"0\r\n\r\n"], ids=["ends of message everywhere", "large", "like last chunks"]
)
@pytest.mark.parametrize("step", [1 << 16, 997])
def test_twice_the_body_takes_about_twice_the_time(unit, step):
    def cost(size):
        data = chunked([unit * (4000 // len(unit))] * (size // 4000))
        best = float("inf")
        for _ in range(3):
            started = time.thread_time()
            read(data, range(step, len(data), step))
            best = min(best, time.thread_time() - started)
        return best

    cost(10_000)  # warm
    assert cost(200_000) < 4 * cost(100_000) + 0.005  # quadratic work would be nearer 4 than 2, and grow with the size
    assert cost(400_000) < 10 * cost(100_000) + 0.005
