"""Stored responses as values: bodies that grow, and what is noted of the head."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.http.stored import PIECE, Body, BodyState
from tests.policy.heads import NOW, date, kept


@given(st.lists(st.binary(min_size=1, max_size=5), max_size=8), st.integers(0, 40), st.integers(0, 40))
def test_a_slice_is_the_bytes_however_they_arrived(chunks, first, end):
    body = Body()
    for chunk in chunks:
        body.append(chunk)
    whole = b"".join(chunks)
    assert body.size == len(whole)
    assert b"".join(body.slice(first, end)) == whole[first:end]


@given(st.lists(st.integers(1, 3 * PIECE), min_size=1, max_size=8), st.sets(st.integers(0, 7)))
def test_a_packed_body_has_the_same_bytes_in_even_chunks(sizes, moments):
    body = Body()
    sent = b""
    for at, size in enumerate(sizes):
        body.append(bytes([at]) * size)
        sent += bytes([at]) * size
        if at in moments:
            body.pack()
    body.pack()
    body.finish()
    kept = body.compact()
    assert b"".join(kept.chunks) == sent
    assert all(len(chunk) == PIECE for chunk in kept.chunks[:-1])
    assert body.loose <= PIECE


def test_a_body_grows_until_it_is_finished():
    body = Body()
    assert body.state is BodyState.GROWING
    body.finish()
    assert body.state is BodyState.COMPLETE


def test_validators_and_dates_are_noted_byte_for_byte():
    stored = kept(
        "max-age: 1", "ETAG: W/x", "Last-Modified: then", "Content-Language: de", f"Date: {date(-5).decode()}"
    )
    assert (stored.etag, stored.last_modified, stored.content_language) == (b"W/x", b"then", b"de")
    assert stored.date == NOW - 5
    assert kept("ETag: x", "Date: nonsense").date == NOW


def test_a_replaced_value_shares_the_body_and_is_live():
    stored = kept("Cache-Control: max-age=9", 'ETag: "a"')
    stored.live = False
    stored.memos = {b"head"}
    other = stored.replaced(lifetime=1.0)
    assert (other.lifetime, other.body, other.live, other.memos, other.etag) == (1.0, stored.body, True, None, b'"a"')
