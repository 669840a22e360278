"""A stored response as bytes and back: for disk, for the standby, for a shared tier.

What is written carries what both clocks say: how long the response had been here (monotonic) and when it was written
(wall), so its age goes on through a restart or on another machine (RFC 9111 §4.2.3). Every byte is under a digest: what
has been damaged is an error and never another response. Unknown versions are errors too; the reader does without.

    magic, version | digest of all that follows | length of the record | record (msgpack) | body, unless kept apart
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct as Layout
from typing import Final

import msgspec

from config.units import MonoTime, Seconds, WallTime
from proxy.http.fields import CacheControl  # noqa: TC001 - msgspec reads the annotations of the record
from proxy.http.message import Fields, ResponseHead
from proxy.http.stored import Body, BodyState, StoredResponse

MAGIC: Final = b"tdm\x01"  # the last byte is the version
_DIGEST: Final = 16
_FRAME: Final = Layout(f">4s{_DIGEST}sI")
_CLOCK_SLACK: Final = (
    5.0  # seconds by which two machines' wall clocks may differ and an entry still counts as just written
)

Lines = tuple[tuple[bytes, bytes], ...]


class Undecodable(Exception):  # noqa: N818 - a verdict about the data; the reader treats it as not there
    """The data is no whole stored response of this version; the text says what is wrong with it."""


class _Record(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """All but the body. Positions are the format: a change here is a new version."""

    key: bytes
    status: int
    reason: bytes
    version: tuple[int, int]
    lines: Lines
    length: int | None
    control: CacheControl
    lifetime: float
    lifetime_source: str
    initial_age: float
    request_time: float
    response_time: float
    resident: float  # seconds since receipt or validation, at the time of writing
    written: float  # wall time of writing
    selecting: tuple[tuple[bytes, bytes | None], ...] | None
    request_lines: Lines | None
    tags: tuple[bytes, ...]
    outdated: bool
    body_start: int
    body_size: int
    body_digest: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Record)


def encode(stored: StoredResponse, *, wall: WallTime, mono: MonoTime, with_body: bool = True) -> bytes:
    """The response as it is at this moment of both clocks. Without its body the reader brings that to `decode`."""
    assert stored.body.state is BodyState.COMPLETE
    record = _encoder.encode(_record(stored, wall, mono))
    rest = [len(record).to_bytes(4, "big"), record]
    if with_body:
        rest += stored.body.chunks
    return b"".join((MAGIC, _digest(*rest), *rest))


def decode(data: bytes, *, wall: WallTime, mono: MonoTime, body: bytes | None = None) -> StoredResponse:
    """The response, as old as it is by now. Raises Undecodable for whatever is not exactly what `encode` gave."""
    record, carried = _unframe(data)
    if body is None:
        body = carried
    elif carried:
        raise Undecodable("the body is there twice")
    if len(body) != record.body_size or _digest(body) != record.body_digest:
        raise Undecodable("the body is not the one that belongs to it")
    elapsed = wall - record.written
    if elapsed < -_CLOCK_SLACK:
        # How much time has really passed cannot be known; guessing would make it younger than it is.
        raise Undecodable("written in the future: the wall clock went back")
    return _stored(record, body, MonoTime(mono - record.resident - max(0.0, elapsed)))


def _record(stored: StoredResponse, wall: WallTime, mono: MonoTime) -> _Record:
    return _Record(
        key=stored.key,
        status=stored.status,
        reason=stored.head.reason,
        version=stored.head.version,
        lines=stored.head.fields.lines,
        length=stored.length,
        control=stored.control,
        lifetime=stored.lifetime,
        lifetime_source=stored.lifetime_source,
        initial_age=stored.initial_age,
        request_time=stored.request_time,
        response_time=stored.response_time,
        resident=max(0.0, mono - stored.received),
        written=wall,
        selecting=stored.selecting,
        request_lines=None if stored.request_fields is None else stored.request_fields.lines,
        tags=stored.tags,
        outdated=stored.outdated,
        body_start=stored.body.start,
        body_size=stored.body.size,
        body_digest=_digest(*stored.body.chunks),
    )


def _stored(record: _Record, body: bytes, received: MonoTime) -> StoredResponse:
    stored = StoredResponse(
        key=record.key,
        head=ResponseHead(record.status, record.reason, Fields(record.lines), record.version),
        body=Body([body] if body else [], complete=True, start=record.body_start),
        length=record.length,
        control=record.control,
        lifetime=Seconds(record.lifetime),
        lifetime_source=record.lifetime_source,
        initial_age=Seconds(record.initial_age),
        request_time=WallTime(record.request_time),
        response_time=WallTime(record.response_time),
        received=received,
        selecting=record.selecting,
        request_fields=None if record.request_lines is None else Fields(record.request_lines),
        tags=record.tags,
    )
    stored.outdated = record.outdated
    return stored


def _unframe(data: bytes) -> tuple[_Record, bytes]:
    """The record, and the bytes behind it."""
    if len(data) < _FRAME.size:
        raise Undecodable("cut short")
    magic, digest, length = _FRAME.unpack_from(data)
    if magic != MAGIC:
        raise Undecodable("another format or version")
    if _digest(memoryview(data)[4 + _DIGEST :]) != digest:
        raise Undecodable("damaged: the digest does not match")
    end = _FRAME.size + length
    try:
        return _decoder.decode(memoryview(data)[_FRAME.size : end]), data[end:]
    except msgspec.DecodeError as exc:  # whole, but written by somebody else
        raise Undecodable(f"not a record of this version: {exc}") from exc


def _digest(*parts: bytes | memoryview) -> bytes:
    """Against damage, not against forgers: who may write here is not decided by a digest."""
    total = blake2b(digest_size=_DIGEST)
    for part in parts:
        total.update(part)
    return total.digest()
