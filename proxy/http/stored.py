"""A stored response and its body, as values that the policy judges and the store keeps (RFC 9111 §2).

Pure data: when an entry is fresh, whether it matches, and how it is kept are decided in policy/ and cache/.
Invariant: a stored response whose `live` is False is in no store and no memo may answer with it.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from math import floor, inf
from typing import TYPE_CHECKING, Final

from proxy.http.fields import parse_date

if TYPE_CHECKING:
    from collections.abc import Iterator

    from config.units import MonoTime, Seconds, WallTime
    from proxy.http.fields import CacheControl
    from proxy.http.message import Fields, ResponseHead
    from proxy.http.pattern import Pattern, Patterns

PIECE: Final = 65536  # bytes; a body up to this is one chunk, a larger one chunks of this size


class BodyState(Enum):
    GROWING = "growing"  # bytes are still arriving; the end is not known to be good
    COMPLETE = "complete"  # ended as its framing said it would (RFC 9112 §8)
    BROKEN = "broken"  # cut short: whoever reads it must show the cut


class Body:
    """Bytes in order of arrival, readable while they grow.

    `start` is the offset of the first byte within the whole representation: 0 but for a stored partial response (RFC
    9111 §3.3).
    """

    __slots__ = ("_packed", "chunks", "size", "start", "state")

    def __init__(self, chunks: list[bytes] | None = None, *, complete: bool = False, start: int = 0) -> None:
        self.chunks = [] if chunks is None else chunks
        self.size = sum(map(len, self.chunks))
        self.start = start
        self._packed = 0  # chunks at the start that are of one size
        self.state = BodyState.COMPLETE if complete else BodyState.GROWING

    def append(self, chunk: bytes) -> None:
        self.chunks.append(chunk)
        self.size += len(chunk)

    def finish(self) -> None:
        """The body is whole."""
        self.state = BodyState.COMPLETE

    @property
    def loose(self) -> int:
        """Bytes that are still in the chunks they came in."""
        return self.size - self._packed * PIECE

    def pack(self) -> bool:
        """What is loose is cut anew, into chunks of one size; False: all stays as it is.

        As they come chunks have every size, and their memory is used again for smaller ones: a quarter of the heap
        would be the gaps between stored bodies.
        """
        if self.size <= PIECE or (self.loose <= PIECE and len(self.chunks) <= self._packed + 1):
            return False  # of a small one compact() makes one chunk
        joined = b"".join(self.chunks[self._packed :])
        self.chunks[self._packed :] = [joined[at : at + PIECE] for at in range(0, len(joined), PIECE)]
        self._packed = self.size // PIECE
        return True

    def compact(self) -> Body:
        """An equal body as it is kept: a small one in one chunk. Who reads this one meanwhile goes on with it."""
        assert self.state is BodyState.COMPLETE
        small = len(self.chunks) > 1 and self.size <= PIECE
        chunks = [b"".join(self.chunks)] if small else [*self.chunks]  # a list that grew has room to spare
        return Body(chunks, complete=True, start=self.start)

    def slice(self, first: int, end: int) -> Iterator[bytes]:
        """The bytes [first, end), counted from the first byte held here."""
        at = 0
        for chunk in self.chunks:
            if at >= end:
                return
            if at + len(chunk) > first:
                yield chunk[max(0, first - at) : end - at]
            at += len(chunk)


class _Judged:
    """What the verdict on a hit reads, side by side in memory: slots of a class lie in the order of their names, those
    of a base first. Among a million responses each cache line not yet seen costs as much as the judging.
    """

    __slots__ = ("control", "fresh_until", "outdated", "selecting", "status")

    control: CacheControl
    fresh_until: float
    outdated: bool
    selecting: tuple[tuple[bytes, bytes | None], ...] | None
    status: int


class StoredResponse(_Judged):
    """One stored response: a variant of a key, with what is needed to judge, to validate and to replay it.

    Times: `request_time` and `response_time` are wall time for the arithmetic on Date (RFC 9111 §4.2.3), `received` is
    the monotonic time of receipt or of the last validation. An entry that is written out carries both clocks. Times are
    changed by `replaced` and `outdate` alone, which keep `fresh_until` in step.
    """

    __slots__ = (
        "_head",
        "_pattern",
        "_values",
        "body",
        "date",
        "initial_age",
        "key",
        "length",
        "lifetime",
        "lifetime_source",
        "live",
        "memos",
        "received",
        "request_fields",
        "request_time",
        "response_time",
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
        self._head: ResponseHead | None = head  # None once it is packed: then `_pattern` has it, with `_values`
        self._pattern: Pattern | None = None
        self._values = b""
        self.status = head.status
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
        date = parse_date(_last(head, b"date"), response_time)
        self.date = response_time if date is None else date  # Date, or the time of receipt where it is unreadable
        # Until this moment of the loop's time it is certainly fresh; in the second after it the exact sum decides.
        self.fresh_until = _whole_second(received + (lifetime - initial_age)) if lifetime > initial_age else -inf
        self.live = True
        self.memos: set[bytes] | None = None  # request heads whose memo answers come from here
        self.uses = 0  # the store's counter for eviction
        self.used = 0  # number of the store's use that was the last of this variant
        self.weight = 0  # bytes of memory, as the store weighed it
        self.outdated = False  # by a soft purge, which ended its lifetime; until it is validated

    @property
    def head(self) -> ResponseHead:
        """As received, less what is never stored (RFC 9111 §3.1). Of a packed one each call makes a new value."""
        head = self._head
        if head is None:
            assert self._pattern is not None
            return self._pattern.unpack(self._values)
        return head

    @head.setter
    def head(self, head: ResponseHead) -> None:
        self._head = head
        self._pattern = None
        self._values = b""
        self.status = head.status

    def pack(self, head: ResponseHead, patterns: Patterns) -> bool:
        """`head` is its own, and is kept in few bytes from now on. False: it stays as it is."""
        packed = patterns.pack(head)
        if packed is None:
            return False
        self._pattern, self._values = packed
        self._head = None
        return True

    # The validators, byte for byte (RFC 9111 §4.3.1), and what else is asked of packed heads.

    @property
    def etag(self) -> bytes | None:
        return self._last(b"etag")

    @property
    def last_modified(self) -> bytes | None:
        return self._last(b"last-modified")

    @property
    def content_language(self) -> bytes | None:
        return self._last(b"content-language")

    def _last(self, name: bytes) -> bytes | None:
        """Of several lines of a field that has one value, the last counts."""
        if self._pattern is not None:
            return self._pattern.last(self._values, name)
        return _last(self.head, name)

    def outdate(self, age: Seconds) -> None:
        """Stale from this age on, and not usable before it is validated."""
        self.outdated = True
        self.lifetime = min(self.lifetime, age)
        self.fresh_until = -inf

    def replaced(self, **changes: object) -> StoredResponse:
        """A new value that differs in these arguments of the constructor and shares the body; live, without memos."""
        arguments = {name: getattr(self, name) for name in _ARGUMENTS}
        assert changes.keys() <= arguments.keys()

        return StoredResponse(**{**arguments, **changes})


def _whole_second(moment: float) -> float:
    """Not after the moment, by more than sums of times are rounded by; one object for many responses."""
    return _second(floor(min(moment, _FOR_EVER) - _ROUNDING))


_second = lru_cache(maxsize=8192)(float)
_ROUNDING: Final = 1e-3
_FOR_EVER: Final = 2.0**40


def _last(head: ResponseHead, name: bytes) -> bytes | None:
    """Without the index of the fields, which costs more than the head."""
    length = len(name)
    found = None
    for known, value in head.fields.lines:
        if len(known) == length and known.lower() == name:
            found = value
    return found


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
