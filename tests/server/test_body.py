"""A request body reaches whoever asks for it whole and in order, is bounded, and never takes a byte behind its end."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import errors
from proxy.chunked import ChunkedBody
from proxy.errors import Failure
from proxy.server.body import HOLD, RawBody, RequestBody
from tests.kit.heads import request_parser

CHUNKED = b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n"


class Source:
    """The connection, as a body sees it."""

    def __init__(self):
        self.paused = False
        self.failures = []

    def pause_body(self):
        self.paused = True

    def resume_body(self):
        self.paused = False

    def body_broken(self, failure):
        self.failures.append(failure.kind)


class Sink:
    """Takes a body; pauses it after each piece if `picky`."""

    def __init__(self, body, picky=False):
        self.body = body
        self.picky = picky
        self.got = bytearray()
        self.ended = 0
        self.failures = []

    def body_data(self, chunk):
        assert not self.ended
        assert chunk
        self.got += chunk
        if self.picky:
            self.body.pause()

    def body_end(self):
        self.ended += 1

    def body_failed(self, failure):
        self.failures.append(failure.kind)


def chunked_body(source):
    parser = request_parser()
    messages, _, _ = parser.feed_data(CHUNKED)
    return RequestBody(source, None, ChunkedBody(parser, messages[0][1], 1000))


@given(
    data=st.binary(min_size=1, max_size=300),
    cuts=st.lists(st.integers(1, 299), max_size=6),
    begins=st.integers(0, 7),
    picky=st.booleans(),
    rest=st.binary(max_size=20),
)
def test_a_counted_body_comes_whole_whenever_it_is_asked_for_and_however_it_pauses(data, cuts, begins, picky, rest):
    body = RequestBody(Source(), len(data), None)
    sink = Sink(body, picky)
    places = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]
    for number, (start, end) in enumerate(pairwise(places)):
        if number == begins:
            body.start(sink)
        last = end == len(data)
        assert body.feed(data[start:end] + (rest if last else b"")) == (rest if last else b"")
    if begins >= len(places) - 1:
        body.start(sink)
    while picky and not sink.ended:
        body.resume()
    assert sink.got == data
    assert (sink.ended, sink.failures) == (1, [])
    assert (body.size, body.complete) == (len(data), True)


def test_what_nobody_has_asked_for_is_held_up_to_a_bound_and_flows_in_order():
    source = Source()
    body = RequestBody(source, 3 * HOLD, None)
    body.feed(b"a" * (HOLD - 1))
    assert not source.paused
    body.feed(b"b")
    assert source.paused
    sink = Sink(body)
    body.start(sink)
    assert not source.paused
    assert sink.got == b"a" * (HOLD - 1) + b"b"


def test_a_sink_that_pauses_holds_the_source_until_it_resumes():
    source = Source()
    body = RequestBody(source, 6, None)
    sink = Sink(body, picky=True)
    body.start(sink)
    body.feed(b"abc")
    assert source.paused
    body.feed(b"def")  # was on its way already
    assert sink.got == b"abc"
    body.resume()
    assert sink.got == b"abcdef"
    assert not sink.ended  # it has paused again
    body.resume()
    assert sink.ended == 1


def test_a_chunked_body_ends_exactly_and_its_rest_is_given_back():
    body = chunked_body(Source())
    sink = Sink(body)
    body.start(sink)
    assert body.feed(b"3\r\nabc\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n") == b"GET / HTTP/1.1\r\n"
    assert (sink.got, sink.ended) == (b"abc", 1)


def test_bad_chunks_break_the_body_for_source_and_sink():
    source = Source()
    body = chunked_body(source)
    sink = Sink(body)
    body.start(sink)
    assert body.feed(b"zz\r\nmore") == b""
    assert source.failures == sink.failures == [errors.BAD_REQUEST]
    assert not body.complete


@pytest.mark.parametrize("limited", ["before", "after"])
def test_more_than_the_limit_breaks_the_body_even_if_it_came_before_the_limit_was_known(limited):
    source = Source()
    body = chunked_body(source)
    if limited == "before":
        body.limit(5)
        body.feed(b"6\r\nabcdef\r\n")
    else:
        body.feed(b"6\r\nabcdef\r\n0\r\n\r\n")
        body.limit(5)
    assert source.failures == [errors.BODY_TOO_LARGE]


def test_exactly_the_limit_is_no_fault_and_none_is_no_limit():
    for most in (6, 0):
        source = Source()
        body = chunked_body(source)
        body.limit(most)
        body.feed(b"6\r\nabcdef\r\n0\r\n\r\n")
        assert body.complete
        assert not source.failures


def test_a_body_nobody_reads_any_more_is_counted_and_dropped():
    body = RequestBody(Source(), 10, None)
    sink = Sink(body)
    body.start(sink)
    body.feed(b"abc")
    body.detach()
    assert body.feed(b"defghij!") == b"!"
    assert body.complete
    assert sink.got == b"abc"
    assert not sink.ended


def test_raw_bytes_sent_ahead_come_first_and_none_is_lost():
    body = RawBody(Source(), b"ahead ")
    sink = Sink(body)
    body.start(sink)
    body.feed(b"later")
    assert sink.got == b"ahead later"
    assert body.size == 11


def test_the_end_of_raw_bytes_is_told_once():
    body = RawBody(Source())
    sink = Sink(body)
    body.start(sink)
    body.finish()
    body.broken(Failure(errors.CLIENT_GONE))
    assert (sink.ended, sink.failures) == (1, [])
