"""Joining parts of one representation: R5 to R9."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.stored import Body
from proxy.policy import parts
from proxy.policy.rules import CacheRules
from tests.policy.heads import NOW, get, kept, names, reply

RULES = CacheRules(partial=True)
WHOLE = bytes(range(48, 58))


def part(first, last, *fields, length="10", etag='"a"'):
    tag = (f"ETag: {etag}",) if etag else ()
    return kept(
        "Cache-Control: max-age=60",
        f"Content-Range: bytes {first}-{last}/{length}",
        *tag,
        *fields,
        request=get(f"Range: bytes={first}-{last}"),
        status=206,
        body=WHOLE[first : last + 1],
        rules=RULES,
    )


def news(first, last, *fields, length="10", etag='"a"', status=206):
    return reply(f"ETag: {etag}", f"Content-Range: bytes {first}-{last}/{length}", *fields, status=status)


def joined(old, head, data):
    return parts.join(
        old, head, Body([data], complete=True), RULES, request=get(), request_time=NOW, response_time=NOW, received=5.0
    )


@pytest.mark.rfc("9111", "3.3")
def test_only_the_missing_bytes_are_asked_for_and_only_under_the_same_tag():
    """R8."""
    assert parts.plan_fill(part(0, 3)) == parts.Fill(4, 10, ((b"Range", b"bytes=4-9"), (b"If-Range", b'"a"')))
    assert parts.plan_fill(part(4, 9)) == parts.Fill(0, 4, ((b"Range", b"bytes=0-3"), (b"If-Range", b'"a"')))
    assert parts.plan_fill(part(4, 5)) is None
    assert parts.plan_fill(part(0, 3, etag='W/"a"')) is None
    assert parts.plan_fill(part(0, 3, "Last-Modified: x", etag="")) is None
    assert parts.plan_fill(part(0, 3, length="*")) is None
    assert parts.plan_fill(kept("Cache-Control: max-age=1", 'ETag: "a"')) is None


@pytest.mark.rfc("9111", "3.4")
def test_a_part_that_has_become_whole_is_a_200_with_the_newer_fields():
    """R7, R8."""
    result = joined(part(0, 3, "X-A: 1", "X-B: 1"), news(4, 9, "X-A: 2"), WHOLE[4:])
    assert result.head.status == 200
    assert b"".join(result.body.chunks) == WHOLE
    assert (result.length, result.body.start, result.received) == (10, 0, 5.0)
    assert result.head.fields.all(b"x-a") == [b"2"]
    assert "x-b" in names(result.head)
    assert "content-range" not in names(result.head)


def test_parts_that_are_not_of_one_thing_are_not_joined():
    """R6, R7, R9."""
    old = part(0, 3)
    for head in (
        news(5, 9),
        news(4, 9, etag='"b"'),
        news(4, 9, etag='W/"a"'),
        news(4, 9, length="11"),
        news(4, 9, status=200),
        reply('ETag: "a"', status=206),
    ):
        assert parts.joinable(old, head) is None
        assert joined(old, head, WHOLE[4:]) is None
    assert joined(old, news(4, 9), WHOLE[5:]) is None
    assert parts.joinable(part(0, 3, etag='W/"a"'), news(4, 9, etag='W/"a"')) is None
    assert (
        parts.join(
            old, news(4, 9), Body([WHOLE[4:]]), RULES, request=None, request_time=NOW, response_time=NOW, received=0.0
        )
        is None
    )


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.booleans())
def test_what_is_joined_holds_exactly_the_bytes_of_both(a, b, c, d, known):
    a, b, c, d = *sorted((a, b)), *sorted((c, d))
    length = "10" if known else "*"
    result = joined(part(a, b, length=length), news(c, d, length=length), WHOLE[c : d + 1])
    if c > b + 1 or a > d + 1:
        assert result is None
        return
    first, last = min(a, c), max(b, d)
    assert (result.body.start, b"".join(result.body.chunks)) == (first, WHOLE[first : last + 1])
    assert (result.head.status == 200) == (known and (first, last) == (0, 9))
    if result.head.status == 206:
        assert result.head.fields.all(b"content-range") == [f"bytes {first}-{last}/{length}".encode()]


def begun(old, fill, head):
    return parts.begin_completion(
        old, fill, head, RULES, request=get(), request_time=NOW, response_time=NOW, received=5.0
    )


@pytest.mark.rfc("9111", "3.4")
@pytest.mark.parametrize(("held", "missing"), [((0, 3), (4, 9)), ((4, 9), (0, 3))])
def test_a_completion_has_the_bytes_in_order_whichever_end_is_missing(held, missing):
    """R8."""
    old = part(*held)
    made = begun(old, parts.plan_fill(old), news(*missing, "X-A: 2"))
    made.stored.body.append(WHOLE[missing[0] : missing[1] + 1])
    assert b"".join([*made.stored.body.chunks, *made.tail]) == WHOLE
    assert (made.stored.head.status, made.stored.length) == (200, 10)
    assert b"content-range" not in made.stored.head.fields
    assert b"".join(old.body.chunks) == WHOLE[held[0] : held[1] + 1]


def test_a_completion_is_exactly_what_was_asked_for():
    old = part(0, 3)
    fill = parts.plan_fill(old)
    assert begun(old, fill, news(4, 9, etag='"b"')) is None
    assert begun(old, fill, news(4, 8)) is None
    assert begun(old, fill, news(3, 9)) is None
    assert begun(old, fill, news(4, 9, length="11")) is None
    assert begun(old, fill, reply('ETag: "a"', status=416)) is None


@pytest.mark.rfc("9111", "3.3")
def test_what_has_come_of_a_whole_is_a_part_of_it_if_it_can_be_completed():
    """S7."""
    cut = kept("Cache-Control: max-age=60", 'ETag: "a"', body=WHOLE).replaced(body=Body([b"0123"]))
    remains = parts.remains(cut, cut.body)
    assert (remains.head.status, remains.length, remains.body.size) == (206, 10, 4)
    assert remains.head.fields.get(b"content-range") == b"bytes 0-3/10"
    assert parts.plan_fill(remains).first == 4
    assert parts.remains(cut, Body()) is None
    assert parts.remains(cut.replaced(length=None), cut.body) is None
    weak = kept("Cache-Control: max-age=60", 'ETag: W/"a"', body=WHOLE)
    assert parts.remains(weak, Body([b"0123"])) is None


def test_a_part_that_has_landed_joins_what_was_there_if_that_fits():
    """R7, R9."""
    assert parts.gathered(part(0, 3), part(4, 9), RULES, get()).head.status == 200
    assert parts.gathered(None, part(0, 9), RULES, get()).head.status == 200
    alone = parts.gathered(part(0, 2), part(4, 9), RULES, get())
    assert (alone.head.status, alone.body.start, alone.body.size) == (206, 4, 6)
    small = CacheRules(partial=True, max_object=9)
    assert parts.gathered(part(0, 3), part(4, 9), small, get()).body.size == 6
