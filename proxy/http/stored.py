"""A stored response and its body, as values that the policy judges and the store keeps (RFC 9111 §2).

Pure data: when an entry is fresh, whether it matches, and how it is kept are decided in policy/ and cache/.
Invariant: a stored response whose `live` is False is in no store and no memo may answer with it.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from proxy.http.fields import parse_date

if TYPE_CHECKING:
    from collections.abc import Iterator

    from config.units import MonoTime, Seconds, WallTime
    from proxy.http.fields import CacheControl
    from proxy.http.message import Fields, ResponseHead


class BodyState(Enum):
    GROWING = "growing"  # bytes are still arriving; the end is not known to be good
    COMPLETE = "complete"  # ended as its framing said it would (RFC 9112 §8)
    BROKEN = "broken"  # cut short: whoever reads it must show the cut


class Body:
    """Bytes in order of arrival, readable while they grow.

    `start` is the offset of the first byte within the whole representation: 0 but for a stored partial response (RFC
    9111 §3.3).
    """

    __slots__ = ("chunks", "size", "start", "state")

    def __init__(self, chunks: list[bytes] | None = None, *, complete: bool = False, start: int = 0) -> None:
        self.chunks = [] if chunks is None else chunks
        self.size = sum(map(len, self.chunks))
        self.start = start
        self.state = BodyState.COMPLETE if complete else BodyState.GROWING

    def append(self, chunk: bytes) -> None:
        self.chunks.append(chunk)
        self.size += len(chunk)

    def finish(self) -> None:
        """The body is whole; many small chunks become few, so that a hit writes few buffers."""
        self.state = BodyState.COMPLETE

    def slice(self, first: int, end: int) -> Iterator[bytes]:
        """The bytes [first, end), counted from the first byte held here."""
        at = 0
        for chunk in self.chunks:
            if at >= end:
                return
            if at + len(chunk) > first:
                yield chunk[max(0, first - at) : end - at]
            at += len(chunk)


class StoredResponse:
    """One stored response: a variant of a key, with what is needed to judge, to validate and to replay it.

    Times: `request_time` and `response_time` are wall time for the arithmetic on Date (RFC 9111 §4.2.3), `received` is
    the
    monotonic time of receipt or of the last validation. An entry that is written out carries both clocks.
    """

    __slots__ = (
        "body",
        "content_language",
        "control",
        "date",
        "etag",
        "head",
        "initial_age",
        "key",
        "last_modified",
        "length",
        "lifetime",
        "lifetime_source",
        "live",
        "memos",
        "outdated",
        "received",
        "request_fields",
        "request_time",
        "response_time",
        "selecting",
        "tags",
        "used",
        "uses",
        "weight",
    )

    def __init__(
        self,
        *,
        key: bytes,
        head: ResponseHead,
        body: Body,
        length: int | None,
        control: CacheControl,
        lifetime: Seconds,
        lifetime_source: str,
        initial_age: Seconds,
        request_time: WallTime,
        response_time: WallTime,
        received: MonoTime,
        selecting: tuple[tuple[bytes, bytes | None], ...] | None = (),
        request_fields: Fields | None = None,
        tags: tuple[bytes, ...] = (),
    ) -> None:
        self.key = key  # primary key, policy/key.py
        self.head = head  # as received, less what is never stored (RFC 9111 §3.1)
        self.body = body
        self.length = length  # complete length of the representation, None while unknown
        self.control = control  # the directives that govern it, after RFC 9213
        self.lifetime = lifetime  # freshness lifetime, RFC 9111 §4.2.1
        self.lifetime_source = lifetime_source  # "s-maxage", "max-age", "expires", "heuristic", "rule", "none"
        self.initial_age = initial_age  # corrected_initial_age, RFC 9111 §4.2.3
        self.request_time = request_time
        self.response_time = response_time
        self.received = received
        self.selecting = (
            selecting  # ((lower-case name, normalised value or None), …) by Vary; None: `Vary: *`, matches nothing
        )
        self.request_fields = request_fields  # the request's lines that Vary names, for refreshes of our own
        self.tags = tags  # for purges by tag
        self.etag: bytes | None = None  # the validators, byte for byte (RFC 9111 §4.3.1)
        self.last_modified: bytes | None = None
        self.content_language: bytes | None = None
        self.date: WallTime = response_time  # Date, or the time of receipt where it is unreadable
        self._note_fields()
        self.live = True
        self.memos: set[bytes] | None = None  # request heads whose memo answers come from here
        self.uses = 0  # the store's counter for eviction
        self.used = 0  # number of the store's use that was the last of this variant
        self.weight = 0  # bytes of memory, as the store weighed it
        self.outdated = False  # by a soft purge, which ended its lifetime; until it is validated

    def replaced(self, **changes: object) -> StoredResponse:
        """A new value that differs in these arguments of the constructor and shares the body; live, without memos."""
        arguments = {name: getattr(self, name) for name in _ARGUMENTS}
        assert changes.keys() <= arguments.keys()

        return StoredResponse(**{**arguments, **changes})

    def _note_fields(self) -> None:
        """What the policy asks of every stored response, found without the index of its fields, which costs more than
        the head.
        """
        for name, value in self.head.fields.lines:
            if len(name) not in _NOTED_LENGTHS:
                continue
            key = name.lower()
            if key == b"etag":
                self.etag = value
            elif key == b"last-modified":
                self.last_modified = value
            elif key == b"content-language":
                self.content_language = value
            elif key == b"date":
                date = parse_date(value, self.response_time)
                self.date = self.response_time if date is None else date


_NOTED_LENGTHS = frozenset(map(len, (b"etag", b"last-modified", b"content-language", b"date")))
_ARGUMENTS = (
    "key",
    "head",
    "body",
    "length",
    "control",
    "lifetime",
    "lifetime_source",
    "initial_age",
    "request_time",
    "response_time",
    "received",
    "selecting",
    "request_fields",
    "tags",
)
