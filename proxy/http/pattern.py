"""Heads kept small: what many of them have in common, once, and the values that are one head's own, joined.

A stored head of eight lines as objects weighs more than a small body. As a pattern (status, names, common values;
shared) and a single value (the rest, joined by line feeds) it weighs little more than its own bytes. Pure.

Invariant: what is unpacked equals what was packed, line by line.
"""

from __future__ import annotations

from sys import getsizeof
from typing import TYPE_CHECKING, Final

from proxy.http.message import Fields, ResponseHead

if TYPE_CHECKING:
    from proxy.http.message import Line

    Values = bytes
    Shape = tuple[tuple[bytes, bytes | None], ...]

MOST_PATTERNS: Final = 4096  # about 8 MB of them, with the names known; starting anew costs only some sharing
MOST_NAMES: Final = 1024
MOST_VALUES: Final = 32  # of one name that count as common; what varies more is each head's own
LONGEST_COMMON: Final = 128
# Lines whose value belongs to one response, whatever the first few look like.
OWN: Final = frozenset({b"age", b"content-length", b"date", b"etag", b"expires", b"last-modified", b"location"})
_SEPARATOR: Final = b"\n"  # in no field value (RFC 9110 §5.5)


class Pattern:
    """Status line and field lines with holes for values."""

    __slots__ = ("_holes", "_lines", "_pool", "_where", "reason", "status", "version", "weight")

    def __init__(self, head: ResponseHead, shape: Shape, pool: Patterns) -> None:
        self._pool = pool
        self.status = head.status
        self.reason = head.reason
        self.version = head.version
        self._lines: list[Line] = [(name, value or b"") for name, value in shape]
        self._holes = [(at, name) for at, (name, value) in enumerate(shape) if value is None]
        self._where: dict[bytes, int | bytes] = {}  # by lower-case name: the common value, or the number of the hole
        hole = 0
        for name, value in shape:
            self._where[name.lower()] = hole if value is None else value
            hole += value is None
        self.weight = _weigh(self._lines, self._where) + 64 * len(self._holes)
        pool.bytes += self.weight

    def __del__(self) -> None:
        """Nobody has it any more: neither the pool nor a head that is kept by it."""
        self._pool.bytes -= self.weight

    def unpack(self, values: bytes) -> ResponseHead:
        lines = self._lines.copy()
        if self._holes:
            for (at, name), value in zip(self._holes, values.split(_SEPARATOR), strict=True):
                lines[at] = (name, value)
        return ResponseHead(self.status, self.reason, Fields(tuple(lines)), self.version)

    def last(self, values: bytes, name: bytes) -> bytes | None:
        """The value of the last line of this lower-case name, without unpacking the others."""
        found = self._where.get(name)
        return values.split(_SEPARATOR)[found] if type(found) is int else found  # type: ignore[return-value]


def _weigh(lines: list[Line], where: dict[bytes, int | bytes]) -> int:
    total = getsizeof(where) + getsizeof(lines) + 200
    for name, value in lines:
        total += 2 * (33 + len(name) + 8) + 33 + len(value) + 8 + 64 + 16
    return total


class Patterns:
    """The patterns in use, found again by equality; bounded."""

    __slots__ = ("_common", "_patterns", "bytes")

    def __init__(self) -> None:
        self.bytes = 0  # of all patterns alive, those among them that are found no more
        self._common: dict[bytes, dict[bytes, bytes] | None] = {}  # common values by name; None: always its own
        self._patterns: dict[tuple[int, bytes, tuple[int, int], Shape], Pattern] = {}

    def __len__(self) -> int:
        return len(self._patterns)

    def pack(self, head: ResponseHead) -> tuple[Pattern, Values] | None:
        """Pattern and own values; None for a head that cannot be packed."""
        shape: list[tuple[bytes, bytes | None]] = []
        own: list[bytes] = []
        for name, value in head.fields.lines:
            if self._is_common(name, value):
                shape.append((name, value))
            else:
                shape.append((name, None))
                own.append(value)
        values = _SEPARATOR.join(own)
        if own and values.count(_SEPARATOR) != len(own) - 1:
            return None
        key = (head.status, head.reason, head.version, tuple(shape))
        pattern = self._patterns.get(key)
        if pattern is not None:
            return pattern, values
        if len(self._patterns) >= MOST_PATTERNS:  # what is common comes back at once
            self.clear()
        self._patterns[key] = pattern = Pattern(head, key[3], self)
        return pattern, values

    def clear(self) -> None:
        """Sharing begins anew; what heads are kept by lives on with them."""
        self._patterns.clear()
        self._common.clear()

    def _is_common(self, name: bytes, value: bytes) -> bool:
        """This value of this name is worth sharing: one of the first few that were seen."""
        try:
            known = self._common[name]
        except KeyError:
            if len(self._common) >= MOST_NAMES:
                return False
            known = self._common[name] = None if name.lower() in OWN else {}
        if known is None or len(value) > LONGEST_COMMON:
            return False
        if value in known:
            return True
        if len(known) >= MOST_VALUES:
            return False
        known[value] = value
        return True
