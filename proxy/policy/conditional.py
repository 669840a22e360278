"""The client's conditions and ranges, answered from the store (RFC 9110 §13, §14, §15.3.7; RFC 9111 §4.3.2).

Judged on a stored response that may be used: fresh, stale and allowed, or just validated. The result is data: which
head, which
bytes, and what goes between them. Age is not in these heads: a validated answer gets none of ours, the others get it by
the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.http.fields import is_strong, opaque, parse_date, parse_etags, parse_range
from proxy.http.forwarding import TARGETED_SUFFIX
from proxy.http.message import Fields, ResponseHead

if TYPE_CHECKING:
    from proxy.http.fields import Range
    from proxy.http.message import RequestHead
    from proxy.http.stored import StoredResponse

RANGES_MAX = 16  # more are answered with the whole: nobody who reads needs them, RFC 9110 §17.15

_OF_304 = frozenset(
    {
        b"etag",
        b"date",
        b"cache-control",
        b"content-location",
        b"expires",
        b"vary",
    }
)
# Representation fields that a 206 to If-Range does not repeat (RFC 9110 §15.3.7).
_KNOWN_TO_CLIENT = frozenset({b"last-modified", b"content-type", b"content-encoding", b"content-language"})


@dataclass(slots=True, frozen=True)
class Full:
    """The stored response as it is."""

    head: ResponseHead


@dataclass(slots=True, frozen=True)
class NotModified:
    """304, without body."""

    head: ResponseHead


@dataclass(slots=True, frozen=True)
class Partial:
    """206. The body is, for each range, `parts[i]` and then the bytes [first, end) of the representation; `tail` closes
    it.

    A stored part of a representation holds its bytes from `stored.body.start` on.
    """

    head: ResponseHead
    ranges: tuple[tuple[int, int], ...]
    parts: tuple[bytes, ...]
    tail: bytes
    size: int  # of the whole body


@dataclass(slots=True, frozen=True)
class Unsatisfiable:
    """416, without body of its own; `length` is the complete length."""

    head: ResponseHead
    length: int


Answer = Full | NotModified | Partial | Unsatisfiable

_ASKING = frozenset({b"if-none-match", b"if-modified-since", b"range"})


def evaluate(
    request: RequestHead, stored: StoredResponse, *, validated: bool = False, boundary: bytes = b"tandem"
) -> Answer:
    """Conditions first, then ranges (RFC 9110 §13.2.2).

    `validated`: the origin has just confirmed the response, so that fields under a qualified no-cache may go out again
    (RFC 9111
    §5.2.2.4). `boundary` must not occur in the body; the caller makes it of random bytes.
    """
    head = stored.head if validated or not stored.control.no_cache_fields else _reusable(stored)
    if _ASKING.isdisjoint(request.fields.names()) or head.status not in {200, 206}:
        return _full(head)
    if not _is_modified(request, stored):
        return NotModified(ResponseHead(304, b"Not Modified", _of_304(head, stored)))
    if request.method != b"GET" or b"range" not in request.fields:
        return _full(head)
    return _answer_range(request, stored, head, boundary)


def _full(head: ResponseHead) -> Full:
    assert head.status != 206, "a stored part never answers for the whole (RFC 9111 §3.3): covers() was asked before"
    return Full(head)


def _reusable(stored: StoredResponse) -> ResponseHead:
    return stored.head.with_fields(stored.head.fields.without(stored.control.no_cache_fields))


# ---- conditions ------------------------------------------------------------------------------------------------------


def _is_modified(request: RequestHead, stored: StoredResponse) -> bool:
    """Whether the client's copy differs; If-None-Match alone decides where it is there (RFC 9110 §13.1.2, §13.1.3)."""
    tags = request.fields.all(b"if-none-match")
    if tags:
        return not _any_matches(parse_etags(tags), stored.etag)
    since = parse_date(request.fields.get(b"if-modified-since"), stored.response_time)
    if since is None:
        return True
    modified = parse_date(stored.last_modified, stored.response_time)
    # Without Last-Modified, Date or the time of receipt stands in for it (RFC 9111 §4.3.2).
    return (stored.date if modified is None else modified) > since


def _any_matches(tags: tuple[bytes, ...], own: bytes | None) -> bool:
    """Weak comparison (RFC 9110 §8.8.3.2); `*` is satisfied by whatever is stored."""
    return b"*" in tags or (own is not None and opaque(own) in {opaque(tag) for tag in tags})


def _of_304(head: ResponseHead, stored: StoredResponse) -> Fields:
    """What lets the client update its copy, and no more; Last-Modified only where it is the validator (RFC 9110
    §15.4.5).
    """
    wanted = _OF_304 if stored.etag is not None else _OF_304 | {b"last-modified"}
    return Fields(
        line
        for line in head.fields.lines
        if (name := line[0].lower()) in wanted or name.endswith(TARGETED_SUFFIX)  # they are caching metadata too
    )


# ---- ranges ----------------------------------------------------------------------------------------------------------


def _answer_range(request: RequestHead, stored: StoredResponse, head: ResponseHead, boundary: bytes) -> Answer:
    asked = parse_range(request.fields.get(b"range"))
    if asked is None or (stored.length is None and stored.status == 200) or not _if_range_holds(request, stored):
        return _full(head)
    if stored.status == 206:
        return _part_of_part(stored, head, asked)
    length = stored.length or 0
    if len(asked) > RANGES_MAX or length == 0:
        return Full(head)
    ranges = [span for one in asked if (span := _resolve(one, length)) is not None]
    if not ranges:
        return _unsatisfiable(stored, length)
    if len(ranges) > 1 and sum(end - first for first, end in ranges) > length:
        return Full(head)
    return _partial(head, _merged(ranges), length, boundary, known=b"if-range" in request.fields)


def _resolve(asked: Range, length: int) -> tuple[int, int] | None:
    """[first, end) within the representation; None where no byte of it is asked for (RFC 9110 §14.1.2)."""
    first, last = asked
    if first is None:
        return (max(0, length - last), length) if last else None
    if first >= length:
        return None
    return first, length if last is None else min(last + 1, length)


def _merged(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Overlapping and adjacent ranges become one, at the place of the first of them (RFC 9110 §15.3.7.2)."""
    merged: list[tuple[int, int]] = []
    for first, end in ranges:
        at, begin, stop = len(merged), first, end
        for index in range(len(merged) - 1, -1, -1):
            other_first, other_end = merged[index]
            if other_first <= stop and begin <= other_end:
                begin, stop, at = min(begin, other_first), max(stop, other_end), index
                del merged[index]
        merged.insert(at, (begin, stop))
    return tuple(merged)


def _if_range_holds(request: RequestHead, stored: StoredResponse) -> bool:
    """Strong comparison; a date only if it is the stored one exactly, and that one strong (RFC 9110 §13.1.5,
    §8.8.2.2).
    """
    condition = request.fields.get(b"if-range")
    if condition is None:
        return True
    if is_strong(condition):
        return condition == stored.etag
    since = parse_date(condition, stored.response_time)
    modified = parse_date(stored.last_modified, stored.response_time)
    return since is not None and since == modified and stored.date - modified >= 1


def _partial(
    head: ResponseHead, ranges: tuple[tuple[int, int], ...], length: int | None, boundary: bytes, *, known: bool
) -> Partial:
    fields = head.fields.without({b"content-range"} | (_KNOWN_TO_CLIENT if known else frozenset()))
    total = b"*" if length is None else b"%d" % length
    size = sum(end - first for first, end in ranges)
    if len(ranges) == 1:
        first, end = ranges[0]
        fields = fields.plus((b"Content-Range", b"bytes %d-%d/%b" % (first, end - 1, total)))
        return Partial(ResponseHead(206, b"Partial Content", fields), ranges, (b"",), b"", size)
    kind = head.fields.get(b"content-type")
    parts = tuple(
        b"%b--%b\r\n%bContent-Range: bytes %d-%d/%b\r\n\r\n"
        % (b"\r\n" if index else b"", boundary, b"Content-Type: %b\r\n" % kind if kind else b"", first, end - 1, total)
        for index, (first, end) in enumerate(ranges)
    )
    tail = b"\r\n--%b--\r\n" % boundary
    fields = fields.without({b"content-type"}).plus((b"Content-Type", b"multipart/byteranges; boundary=" + boundary))
    return Partial(
        ResponseHead(206, b"Partial Content", fields), ranges, parts, tail, size + sum(map(len, parts)) + len(tail)
    )


def _unsatisfiable(stored: StoredResponse, length: int) -> Unsatisfiable:
    fields = Fields(line for line in stored.head.fields.lines if line[0].lower() in {b"date", b"etag"})
    return Unsatisfiable(
        ResponseHead(416, b"Range Not Satisfiable", fields.plus((b"Content-Range", b"bytes */%d" % length))), length
    )


# ---- stored parts (RFC 9111 §3.3) ------------------------------------------------------------------------------------


def covers(stored: StoredResponse, request: RequestHead) -> bool:
    """The one range that this request asks for lies within the stored part."""
    if request.method != b"GET" or not _if_range_holds(request, stored):
        return False
    asked = parse_range(request.fields.get(b"range"))
    return asked is not None and _within(stored, asked) is not None


def _within(stored: StoredResponse, asked: tuple[Range, ...]) -> tuple[int, int] | None:
    if len(asked) != 1:
        return None
    held_first, held_end = stored.body.start, stored.body.start + stored.body.size
    first, last = asked[0]
    if stored.length is not None:
        span = _resolve(asked[0], stored.length)
    else:
        span = (first, last + 1) if first is not None and last is not None else None
    return span if span is not None and held_first <= span[0] and span[1] <= held_end else None


def _part_of_part(stored: StoredResponse, head: ResponseHead, asked: tuple[Range, ...]) -> Partial:
    span = _within(stored, asked)
    assert span is not None, "a stored part answers only for ranges within it: covers() was asked before"
    return _partial(head, (span,), stored.length, b"", known=False)
