"""Conditions and ranges answered from the store: I1 to I6, If-Modified-Since, R1 to R4, M1, and qualified no-cache."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy import conditional
from proxy.policy.conditional import Full, NotModified, Partial, Unsatisfiable, evaluate
from proxy.policy.rules import CacheRules
from tests.policy.heads import date, get, kept, names

LM = f"Last-Modified: {date(-1000).decode()}"
BODY = b"0123456789"


def stored(*fields, **more):
    return kept("Cache-Control: max-age=60", "Content-Type: text/plain", *fields, **more)


def answer(one, *asked, method="GET"):
    return evaluate(get(*asked, method=method), one, boundary=b"BOUND")


def body_of(part, one):
    pieces = [
        head + b"".join(one.body.slice(first - one.body.start, end - one.body.start))
        for head, (first, end) in zip(part.parts, part.ranges, strict=True)
    ]
    return b"".join(pieces) + part.tail


# ---- If-None-Match ---------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9110", "13.1.2")
@pytest.mark.parametrize(
    ("own", "asked", "matches"),
    [
        ('"a"', '"a"', True),  # I1
        ('"a"', 'W/"a"', True),
        ('W/"a"', '"a"', True),
        ('"a"', '"b"', False),
        ('"a"', '"b", "c" ,"a"', True),
        ('"a,b"', '"a,b"', True),
        ('"a,b"', '"a"', False),
        ('"a"', "*", True),
        ('"a"', "a", False),  # I5
        ("a", "a", True),
        ("a", '"a"', False),
        ('"a"', 'w/"a"', False),
        ('w/"a"', 'w/"a"', True),
        ('"a"', 'W"a"', False),
        ('"\xe9"', '"\xe9"', True),
        ('"A"', '"a"', False),
    ],
)
def test_any_tag_of_the_list_decides_by_weak_comparison(own, asked, matches):
    """I1, I5."""
    result = answer(stored(f"ETag: {own}"), f"If-None-Match: {asked}")
    assert isinstance(result, NotModified if matches else Full)
    assert isinstance(answer(stored(f"ETag: {own}"), f"If-None-Match: {asked}", method="HEAD"), type(result))


@pytest.mark.rfc("9110", "13.1.3")
def test_if_none_match_rules_alone():
    """I2."""
    one = stored('ETag: "a"', LM)
    assert isinstance(answer(one, 'If-None-Match: "b"', f"If-Modified-Since: {date().decode()}"), Full)
    assert isinstance(answer(one, 'If-None-Match: "a"', f"If-Modified-Since: {date(-5000).decode()}"), NotModified)
    assert isinstance(answer(stored(LM), 'If-None-Match: "a"', f"If-Modified-Since: {date().decode()}"), Full)
    assert isinstance(answer(stored(), "If-None-Match: *"), NotModified)


@pytest.mark.rfc("9110", "15.4.5")
def test_a_304_carries_what_updates_the_clients_copy_and_no_more():
    """I3."""
    one = stored(
        'ETag: "a"',
        LM,
        "Vary: x",
        "Expires: 0",
        "Content-Location: /b",
        "Content-Length: 10",
        "X-A: 1",
        "Age: 5",
        f"Date: {date().decode()}",
    )
    head = answer(one, 'If-None-Match: "a"').head
    assert head.status == 304
    assert names(head) == ["cache-control", "etag", "vary", "expires", "content-location", "date"]
    assert "last-modified" in names(answer(stored(LM), f"If-Modified-Since: {date().decode()}").head)


@pytest.mark.rfc("9110", "13.2.1")
@pytest.mark.parametrize("status", [204, 301, 404, 500])
def test_only_what_would_be_200_becomes_304_or_206(status):
    """I4."""
    one = stored('ETag: "a"', status=status)
    for asked in (
        'If-None-Match: "a"',
        "If-None-Match: *",
        f"If-Modified-Since: {date(99).decode()}",
        "Range: bytes=0-1",
    ):
        assert answer(one, asked) == Full(one.head)


# ---- If-Modified-Since -----------------------------------------------------------------------------------------------


@pytest.mark.rfc("9111", "4.3.2")
@pytest.mark.parametrize(
    ("fields", "asked", "modified"),
    [
        ([LM], date(-1000), False),
        ([LM], date(-999), False),
        ([LM], date(-1001), True),
        ([LM], date(10**6), False),
        ([LM], b"nonsense", True),
        ([LM], b"0", True),
        ([LM], date(-1000).upper(), False),
        ([f"Date: {date(-50).decode()}"], date(-50), False),
        ([f"Date: {date(-50).decode()}"], date(-51), True),
        ([f"Date: {date(-50).decode()}", "Last-Modified: nonsense"], date(-50), False),
        ([], date(), False),
        ([], date(-1), True),
        (["Date: nonsense"], date(), False),
    ],
)
def test_if_modified_since_compares_with_last_modified_then_date_then_receipt(fields, asked, modified):
    result = answer(stored(*fields), "If-Modified-Since: " + asked.decode())
    assert isinstance(result, Full if modified else NotModified)


@pytest.mark.rfc("9110", "13.1.3")
def test_two_dates_are_none():
    asked = f"If-Modified-Since: {date().decode()}"
    assert isinstance(answer(stored(LM), asked, asked), Full)


# ---- qualified no-cache ----------------------------------------------------------------------------------------------


@pytest.mark.rfc("9111", "5.2.2.4")
def test_fields_under_no_cache_are_left_out_until_validated():
    """S4."""
    one = kept('Cache-Control: max-age=60, no-cache="x-a, ETag"', "X-A: 1", "X-B: 2", 'ETag: "a"')
    assert names(evaluate(get(), one).head) == ["cache-control", "x-b", "date"]
    assert evaluate(get(), one, validated=True).head is one.head


# ---- ranges ----------------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9110", "14.2")
@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=2-5", 2, 5),
        ("bytes=4-", 4, 9),
        ("bytes=-3", 7, 9),
        ("bytes=-30", 0, 9),
        ("bytes=5-99999999999999999999", 5, 9),
        ("BYTES=0-9", 0, 9),
        ("bytes=0-1,99-", 0, 1),
        ("bytes=0-3,2-5", 0, 5),
        ("bytes=4-5, 2-3", 2, 5),
    ],
)
def test_a_range_is_served_out_of_the_whole(asked, first, last):
    """R1, R3."""
    one = stored('ETag: "a"', "X-A: 1", "Content-Length: 10")
    part = answer(one, f"Range: {asked}")
    assert isinstance(part, Partial)
    assert part.head.status == 206
    assert part.head.fields.get(b"content-range") == b"bytes %d-%d/10" % (first, last)
    assert names(part.head) == ["cache-control", "content-type", "etag", "x-a", "date", "content-range"]
    assert body_of(part, one) == BODY[first : last + 1]
    assert part.size == last + 1 - first


@pytest.mark.rfc("9110", "15.5.17")
@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-11", "bytes=-0", "bytes=99-, -0"])
def test_nothing_satisfiable_is_416(asked):
    """R2."""
    result = answer(stored(), f"Range: {asked}")
    assert isinstance(result, Unsatisfiable)
    assert (result.head.status, result.length) == (416, 10)
    assert result.head.fields.get(b"content-range") == b"bytes */10"


@pytest.mark.rfc("9110", "14.2")
def test_an_unreadable_range_is_ignored_and_so_is_one_of_head():
    """R2."""
    one = stored()
    for asked in ("bytes=5-2", "bytes=a-b", "pages=0-1", "bytes", "bytes=", "bytes = 0-1"):
        assert answer(one, f"Range: {asked}") == Full(one.head)
    assert answer(one, "Range: bytes=0-1", method="HEAD") == Full(one.head)
    assert answer(stored(body=b""), "Range: bytes=0-1") == Full(stored(body=b"").head)
    growing = stored().replaced(length=None)
    assert answer(growing, "Range: bytes=0-1") == Full(growing.head)


@pytest.mark.rfc("9110", "15.3.7.2")
def test_several_ranges_are_multipart_in_the_order_asked():
    """R3."""
    one = stored('ETag: "a"')
    part = answer(one, "Range: bytes=-2, 0-1")
    assert part.head.fields.all(b"content-type") == [b"multipart/byteranges; boundary=BOUND"]
    assert b"content-range" not in part.head.fields
    assert body_of(part, one) == (
        b"--BOUND\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89"
        b"\r\n--BOUND\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01"
        b"\r\n--BOUND--\r\n"
    )
    assert part.size == len(body_of(part, one))


def test_greedy_ranges_get_the_whole():
    """R3."""
    one = stored(body=b"x" * 1000)
    assert isinstance(answer(one, "Range: bytes=" + ",".join(f"{n}-{n}" for n in range(0, 32, 2))), Partial)
    assert isinstance(answer(one, "Range: bytes=" + ",".join(f"{n}-{n}" for n in range(0, 34, 2))), Full)
    assert isinstance(answer(one, "Range: bytes=0-,0-"), Full)


@pytest.mark.rfc("9110", "13.1.5")
@pytest.mark.parametrize(
    ("fields", "condition", "holds"),
    [
        (['ETag: "a"'], '"a"', True),  # R4
        (['ETag: "a"'], '"b"', False),
        (['ETag: W/"a"'], 'W/"a"', False),
        (['ETag: "a"'], 'W/"a"', False),
        (["ETag: a"], "a", False),
        ([LM], date(-1000).decode(), True),
        ([LM], date(-999).decode(), False),
        ([f"Last-Modified: {date().decode()}"], date().decode(), False),
        ([f"Last-Modified: {date(-1).decode()}", f"Date: {date().decode()}"], date(-1).decode(), True),
        ([], date().decode(), False),
        ([LM], "nonsense", False),
    ],
)
def test_if_range_holds_only_for_the_very_same_bytes(fields, condition, holds):
    """R4."""
    result = answer(stored(*fields), "Range: bytes=0-1", f"If-Range: {condition}")
    assert isinstance(result, Partial if holds else Full)


@pytest.mark.rfc("9110", "15.3.7")
def test_with_if_range_the_client_is_not_told_again_what_it_knows():
    """R4."""
    part = answer(stored('ETag: "a"', LM, "Content-Encoding: br", "X-A: 1"), "Range: bytes=0-1", 'If-Range: "a"')
    assert names(part.head) == ["cache-control", "etag", "x-a", "date", "content-range"]


@pytest.mark.rfc("9110", "13.2.2")
def test_conditions_are_judged_before_ranges():
    one = stored('ETag: "a"')
    assert isinstance(answer(one, "Range: bytes=0-1", 'If-None-Match: "a"'), NotModified)
    assert isinstance(answer(one, "Range: bytes=0-1", 'If-None-Match: "b"'), Partial)
    assert isinstance(answer(one, "Range: bytes=99-", 'If-None-Match: "a"'), NotModified)


@pytest.mark.rfc("9111", "3.3")
def test_a_stored_part_serves_the_ranges_inside_it():
    """R5, R9."""
    part = kept(
        "Cache-Control: max-age=60",
        "Content-Range: bytes 2-5/10",
        request=get("Range: bytes=2-5"),
        status=206,
        body=b"2345",
        rules=CacheRules(partial=True),
    )
    result = answer(part, "Range: bytes=3-4")
    assert body_of(result, part) == b"34"
    assert result.head.fields.all(b"content-range") == [b"bytes 3-4/10"]
    assert conditional.covers(part, get("Range: bytes=2-5"))
    tail = part.replaced(length=6)
    assert body_of(answer(tail, "Range: bytes=-3"), tail) == b"345"
    unknown = part.replaced(length=None)
    assert answer(unknown, "Range: bytes=2-2").head.fields.get(b"content-range") == b"bytes 2-2/*"
    assert not conditional.covers(unknown, get("Range: bytes=2-"))
    with pytest.raises(AssertionError):
        answer(part)


@given(
    st.lists(st.tuples(st.integers(0, 60) | st.none(), st.integers(0, 60) | st.none()), min_size=1, max_size=6),
    st.integers(0, 50),
)
def test_what_a_range_answer_holds_are_the_stored_bytes(asked, length):
    body = bytes(range(length))
    one = stored(body=body)
    text = ",".join(f"{'' if first is None else first}-{'' if last is None else last}" for first, last in asked)
    result = answer(one, f"Range: bytes={text}")
    if isinstance(result, Partial):
        assert len(body_of(result, one)) == result.size
        assert sum(end - first for first, end in result.ranges) <= length
        for first, end in result.ranges:
            assert 0 <= first < end <= length
            assert not any(a <= end and first <= b for a, b in result.ranges if (a, b) != (first, end))


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_junk_conditions_never_raise(tags, since, wanted):
    request = get("Range: bytes=0-1")
    request.fields = request.fields.plus((b"If-None-Match", tags), (b"If-Modified-Since", since), (b"If-Range", wanted))
    assert evaluate(request, stored('ETag: "a"', LM)) is not None
