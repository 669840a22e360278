"""What a stored response weighs in memory, so that `[cache] memory` bounds what the process really takes.

Objects are weighed as CPython 3.11+ allocates them: in steps of 16 bytes, with the collector's header where there is
one. What cannot be seen from an object (slots of dictionaries and queues, the ghost of a key) is in the constants; a
test compares the sum with the memory that many entries really take.
"""

from __future__ import annotations

from sys import getsizeof
from typing import TYPE_CHECKING, Final

from proxy.http.message import Fields

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.http.message import Line
    from proxy.http.stored import StoredResponse

_STEP: Final = 16  # pymalloc's and malloc's alignment
_BYTES_HEAD: Final = getsizeof(b"")  # 33
_POINTER: Final = 8
_PAIR: Final = 64  # a tuple of two
_FLOAT: Final = 32

# Per key: two dictionary slots of cachetools (data and sizes, each between 2/3 and 1/3 full), the Entry, its size as
# int, its tuple of variants, its place in a queue, and the ghost that stays when it leaves.
PER_KEY: Final = 2 * 64 + 80 + 32 + 64 + 8 + 80
# Per response, beside the object: six times as floats, its length, its list of memos.
PER_RESPONSE: Final = 6 * _FLOAT + 32 + 64
# Head, its Fields and the body's object with its list.
PER_HEAD: Final = 80 + 48 + 32
PER_BODY: Final = 64 + 96
PER_TAG: Final = 96  # a slot in the tag's set, a share of the set


MOST_SHARED: Final = 8192  # lines, each with at most so many bytes: about 2 MiB
LONGEST_SHARED: Final = 128
# Lines whose value belongs to one response: kept out, or a freshened response would share them with its own past.
OWN: Final = frozenset({b"age", b"content-length", b"date", b"etag", b"expires", b"last-modified", b"location"})


class KeptFields(Fields):
    """Fields without an index: with it a small response would weigh a third more, and a hit asks for few fields."""

    __slots__ = ()

    def get(self, name: bytes) -> bytes | None:
        values = self.all(name)
        return b", ".join(values) if values else None

    def all(self, name: bytes) -> list[bytes]:
        return [value for known, value in self.lines if known.lower() == name]

    def names(self) -> Iterator[bytes]:
        return iter(dict.fromkeys(known.lower() for known, _value in self.lines))

    def __contains__(self, name: bytes) -> bool:
        return any(known.lower() == name for known, _value in self.lines)


class SharedLines:
    """Field lines that many responses have in common, kept once: `Server`, `Content-Type`, names above all.

    A line costs the first response that brings it all of its weight, every other a pointer.
    """

    __slots__ = ("_lines", "_names")

    def __init__(self) -> None:
        self._lines: dict[Line, Line] = {}
        self._names: dict[bytes, bytes] = {}

    def share(self, fields: Fields) -> tuple[Fields, int]:
        """Equal fields made of shared lines, and what they weigh."""
        total = 64
        lines = []
        for line in fields.lines:
            known = self._lines.get(line)
            if known is None:
                known, weight = self._take(line)
                total += weight
            lines.append(known)
            total += _POINTER
        return KeptFields(tuple(lines)), total

    def _take(self, line: Line) -> tuple[Line, int]:
        """The line with its name shared, and what it weighs; the next response that has it shares it whole."""
        name, value = line
        if len(name) + len(value) > LONGEST_SHARED:
            return line, _PAIR + _bytes(name) + _bytes(value)
        # No order of eviction: what is common comes back at once, and starting anew costs only some sharing.
        if len(self._lines) >= MOST_SHARED:
            self._lines.clear()
        if len(self._names) >= MOST_SHARED:
            self._names.clear()
        known = (self._names.setdefault(name, name), value)
        if name.lower() not in OWN:
            self._lines[known] = known
        return known, _PAIR + _bytes(value)


def weigh(stored: StoredResponse, shared: SharedLines) -> int:
    """Bytes of memory held by one variant, the share of its key apart; its head comes to be made of shared lines."""
    fields, total = shared.share(stored.head.fields)
    stored.head = stored.head.with_fields(fields)
    total += _round(getsizeof(stored)) + PER_RESPONSE + PER_HEAD + PER_BODY + PER_TAG * len(stored.tags)
    total += _bytes(stored.key) + _round(getsizeof(stored.control))
    total += sum(map(_bytes, stored.body.chunks)) + _POINTER * len(stored.body.chunks)
    if stored.request_fields is not None:
        stored.request_fields, more = shared.share(stored.request_fields)
        total += more
    for name, value in stored.selecting or ():
        total += _POINTER + _PAIR + _bytes(name) + (0 if value is None else _bytes(value))
    return total


def _bytes(value: bytes) -> int:
    return _round(_BYTES_HEAD + len(value))


def _round(size: int) -> int:
    return (size + _STEP - 1) & -_STEP
