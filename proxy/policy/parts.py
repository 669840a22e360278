"""Stored parts of a representation: what is missing, and when two parts may be joined (RFC 9111 §3.3, §3.4; RFC 9110
§15.3.7.3).

Parts are joined only under one strong entity tag, if they touch, and if they agree on the complete length. A part that
has become
whole is a 200, and a whole that was cut short is a part. Which bytes are asked for is decided here; fetching them, and
serving them meanwhile, is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.http.fields import is_strong, parse_content_range
from proxy.http.message import ResponseHead
from proxy.http.stored import Body, BodyState
from proxy.policy import validation

if TYPE_CHECKING:
    from config.units import MonoTime, WallTime
    from proxy.http.fields import ContentRange
    from proxy.http.message import Line, RequestHead
    from proxy.http.stored import StoredResponse
    from proxy.policy.rules import CacheRules


@dataclass(frozen=True, slots=True)
class Fill:
    """The bytes [first, end) would make a stored part whole; `lines` ask for them, or for all of it if it has
    changed.
    """

    first: int
    end: int
    lines: tuple[Line, ...]


def plan_fill(stored: StoredResponse) -> Fill | None:
    """What to ask for when the whole is wanted and a part is stored; None: fetch the whole (no strong tag, or more than
    one gap).
    """
    length, tag = stored.length, stored.etag
    if stored.status != 206 or length is None or tag is None or not is_strong(tag):
        return None
    first, end = stored.body.start, stored.body.start + stored.body.size
    if stored.body.state is not BodyState.COMPLETE or (first > 0 and end < length):
        return None
    gap = (end, length) if first == 0 else (0, first)
    return Fill(*gap, ((b"Range", b"bytes=%d-%d" % (gap[0], gap[1] - 1)), (b"If-Range", tag)))


@dataclass(frozen=True, slots=True)
class Completion:
    """The whole that a stored part becomes: what comes goes behind what its body holds already, `tail` behind that."""

    stored: StoredResponse
    tail: tuple[bytes, ...]


def begin_completion(
    stored: StoredResponse,
    fill: Fill,
    response: ResponseHead,
    rules: CacheRules,
    *,
    request: RequestHead | None,
    request_time: WallTime,
    response_time: WallTime,
    received: MonoTime,
) -> Completion | None:
    """The answer to a `Fill`, of which the head has come; None where it does not bring exactly what is missing."""
    part = joinable(stored, response)
    if part is None or (part.first, part.last + 1) != (fill.first, fill.end):
        return None
    fresh = validation.freshen(
        stored,
        response,
        rules,
        request=request,
        request_time=request_time,
        response_time=response_time,
        received=received,
    )
    before, tail = (list(stored.body.chunks), ()) if fill.first else ([], tuple(stored.body.chunks))
    head = ResponseHead(200, b"OK", fresh.head.fields.without({b"content-range"}), fresh.head.version)
    return Completion(fresh.replaced(head=head, body=Body(before)), tail)


def remains(stored: StoredResponse, body: Body) -> StoredResponse | None:
    """What has come of a whole response that was cut short, as a part of it (RFC 9111 §3.3); None where it is of no
    use.
    """
    if stored.status != 200 or stored.length is None or not body.size or not is_strong(stored.etag):
        return None
    kept = Body(list(body.chunks), complete=True)
    return stored.replaced(head=_head(stored.head, kept, stored.length), body=kept)


def gathered(
    old: StoredResponse | None, new: StoredResponse, rules: CacheRules, request: RequestHead | None
) -> StoredResponse:
    """What to store when a part has come: it, with the one stored before if that fits; a 200 if that makes a whole."""
    joined = None
    if old is not None and old.body.size + new.body.size <= rules.max_object:
        joined = join(
            old,
            new.head,
            new.body,
            rules,
            request=request,
            request_time=new.request_time,
            response_time=new.response_time,
            received=new.received,
        )
    if joined is None:
        return new.replaced(head=_head(new.head, new.body, new.length))
    return joined.replaced(initial_age=new.initial_age)  # Age is not among the fields of what is stored


def joinable(stored: StoredResponse, response: ResponseHead) -> ContentRange | None:
    """The range that a 206 adds to a stored part; None where the two may not be joined."""
    part = parse_content_range(response.fields.get(b"content-range")) if response.status == 206 else None
    tag = response.fields.get(b"etag")
    if part is None or stored.status != 206 or not is_strong(tag) or tag != stored.etag:
        return None
    first, end = stored.body.start, stored.body.start + stored.body.size
    touches = part.first <= end and first <= part.last + 1
    agrees = part.length is None or stored.length is None or part.length == stored.length
    return part if touches and agrees else None


def join(
    stored: StoredResponse,
    response: ResponseHead,
    body: Body,
    rules: CacheRules,
    *,
    request: RequestHead | None,
    request_time: WallTime,
    response_time: WallTime,
    received: MonoTime,
) -> StoredResponse | None:
    """Stored part and newer part as one, with the newer response's fields and the older's others (RFC 9111 §3.4).

    `body` is that of the newer part; None where they may not be joined, or where it is not what its head announced.
    """
    part = joinable(stored, response)
    if part is None or body.state is not BodyState.COMPLETE or body.size != part.last + 1 - part.first:
        return None
    length = part.length if stored.length is None else stored.length
    whole = _spliced(stored.body, body, part.first)
    fresh = validation.freshen(
        stored,
        response,
        rules,
        request=request,
        request_time=request_time,
        response_time=response_time,
        received=received,
    )
    return fresh.replaced(head=_head(fresh.head, whole, length), body=whole, length=length)


def _spliced(old: Body, new: Body, new_start: int) -> Body:
    """The bytes of both in order; where they overlap, those of the newer."""
    old_end, new_end = old.start + old.size, new_start + new.size
    before = list(old.slice(0, max(0, new_start - old.start)))
    after = list(old.slice(new_end - old.start, old.size)) if new_end < old_end else []
    return Body([*before, *new.chunks, *after], complete=True, start=min(old.start, new_start))


def _head(head: ResponseHead, body: Body, length: int | None) -> ResponseHead:
    fields = head.fields.without({b"content-range"})
    if body.start == 0 and body.size == length:
        return ResponseHead(200, b"OK", fields, head.version)
    total = b"*" if length is None else b"%d" % length
    told = (b"Content-Range", b"bytes %d-%d/%b" % (body.start, body.start + body.size - 1, total))
    return ResponseHead(206, b"Partial Content", fields.plus(told), head.version)
