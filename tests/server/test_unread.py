"""Heads are cut out of what a client sent, whatever pieces it comes in, and what is no request is told at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.schema import Limits
from proxy import errors
from proxy.errors import Failure
from proxy.server.unread import Unread

LIMITS = Limits(head=1024, request_line=512)
HEADS = [b"GET / HTTP/1.1\r\n\r\n", b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n", b"POST /b HTTP/1.1\r\nX: y\r\n\r\n"]


@given(st.lists(st.sampled_from(HEADS), max_size=4), st.lists(st.integers(1, 30)))
def test_the_same_heads_are_cut_whatever_the_pieces(heads, sizes):
    unread, cut, rest = Unread(), [], b"".join(heads)
    for size in [*sizes, len(rest)]:
        unread += rest[:size]
        rest = rest[size:]
        while (head := unread.take_head(LIMITS)) is not None:
            cut.append(head)
    assert cut == heads
    assert not unread


def test_what_stands_behind_a_head_stays():
    unread = Unread()
    unread += HEADS[0] + b"GET /next"
    assert unread.take_head(LIMITS) == HEADS[0]
    assert unread.take_head(LIMITS) is None
    assert unread == b"GET /next"


@pytest.mark.rfc("9112", "2.2")
def test_two_empty_lines_are_skipped_and_a_third_is_no_request():
    unread = Unread()
    unread += b"\r\n\r\n" + HEADS[0]
    assert unread.take_head(LIMITS) == HEADS[0]
    unread += b"\r\n"
    with pytest.raises(Failure) as failure:
        unread.take_head(LIMITS)
    assert failure.value.kind is errors.BAD_REQUEST


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (b"\x16\x03\x01", errors.BAD_REQUEST),
        (b"GET / HTTP/1.1\nHost: a", errors.BAD_REQUEST),
        (b"GET /" + b"a" * 600, errors.TARGET_TOO_LONG),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 1100, errors.HEAD_TOO_LARGE),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 1100 + b"\r\n\r\n", errors.HEAD_TOO_LARGE),
    ],
)
def test_what_cannot_become_a_request_is_told_before_it_is_whole(sent, kind):
    unread = Unread()
    unread += sent
    with pytest.raises(Failure) as failure:
        unread.take_head(LIMITS)
    assert failure.value.kind is kind
