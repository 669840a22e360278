"""What a stored response weighs in memory, so that `[cache] memory` bounds what the process really takes; and what
responses share, so that it is little.

Objects are weighed as CPython 3.11+ allocates them: in steps of 16 bytes, with the collector's header where there is
one. What cannot be seen from an object (slots of dictionaries and queues, the ghost of a key) is in the constants; a
test compares the sum with the memory that many entries really take.
"""

from __future__ import annotations

from sys import getsizeof
from typing import TYPE_CHECKING, Final, TypeVar

from proxy.http.pattern import Patterns

if TYPE_CHECKING:
    from proxy.http.message import Fields
    from proxy.http.stored import StoredResponse

_BYTES_HEAD: Final = getsizeof(b"")  # 33
_POINTER: Final = 8
_PAIR: Final = 64  # a tuple of two
_FLOAT: Final = 32
_INT: Final = 32
_LARGE: Final = 512  # bytes; beyond, an object comes from malloc, which adds a word of its own

# Per key: a dictionary's slot (it is between 1/3 and 2/3 full), the Entry, its place in a queue, the ghost that stays.
PER_KEY: Final = 64 + 64 + 8 + 40
PER_SEVERAL: Final = 64  # the tuple of a key with several variants
# Per response: itself, four times of its own as floats, its weight and its length.
PER_RESPONSE: Final = 240 + 4 * _FLOAT + 2 * _INT
PER_BODY: Final = 64 + 64 + 16  # with its list
PER_TAG: Final = 96  # a slot in the index of tags

MOST_SHARED: Final = 4096  # values of each kind; starting anew costs only some sharing

T = TypeVar("T")


class Shared:
    """Values that many responses have in common, kept once: head patterns, directives, what Vary named.

    A value costs the first response that brings it all of its weight, every other a pointer.
    """

    __slots__ = ("_controls", "_fields", "_selecting", "patterns")

    def __init__(self) -> None:
        self.patterns = Patterns()
        self._controls: dict[int, object] = {}  # by identity: parsing remembers what is equal
        self._fields: dict[Fields, Fields] = {}
        self._selecting: dict[tuple[tuple[bytes, bytes | None], ...], tuple[tuple[bytes, bytes | None], ...]] = {}

    def control(self, control: object) -> int:
        """What these directives weigh on who brings them."""
        if id(control) in self._controls:
            return 0
        if len(self._controls) >= MOST_SHARED:
            self._controls.clear()
        self._controls[id(control)] = control
        return _round(getsizeof(control))

    def request_fields(self, fields: Fields) -> tuple[Fields, int]:
        known = self._fields.get(fields)
        if known is not None:
            return known, 0
        _remember(self._fields, fields)
        return fields, 64 + sum(_POINTER + _PAIR + _bytes(name) + _bytes(value) for name, value in fields.lines)

    def selecting(
        self, chosen: tuple[tuple[bytes, bytes | None], ...]
    ) -> tuple[tuple[tuple[bytes, bytes | None], ...], int]:
        known = self._selecting.get(chosen)
        if known is not None:
            return known, 0
        _remember(self._selecting, chosen)
        return chosen, 64 + sum(_POINTER + _PAIR + _bytes(name) + _bytes(value or b"") for name, value in chosen)


def _remember(known: dict[T, T], value: T) -> None:
    if len(known) >= MOST_SHARED:
        known.clear()
    known[value] = value


def settle(stored: StoredResponse, shared: Shared) -> int:
    """The response takes the form in which it is kept: bytes of memory it then holds, the share of its key included."""
    packed = stored.pack(shared.patterns)
    total = PER_KEY + PER_RESPONSE + PER_BODY + (_plain_head(stored) if packed is None else _BYTES_HEAD + packed)
    total += shared.control(stored.control) + _bytes(stored.key)
    stored.body = stored.body.compact()
    if stored.length == stored.body.size:
        stored.length = stored.body.size  # one number instead of two
    total += sum(map(_bytes, stored.body.chunks)) + _POINTER * len(stored.body.chunks)
    if stored.request_fields is not None:
        stored.request_fields, more = shared.request_fields(stored.request_fields)
        total += more
    if stored.selecting:
        stored.selecting, more = shared.selecting(stored.selecting)
        total += more
    return _round(total) + sum(PER_TAG + _POINTER + _bytes(tag) for tag in stored.tags)


def _plain_head(stored: StoredResponse) -> int:
    """Of a head that could not be packed."""
    lines = stored.head.fields.lines
    return 256 + sum(_POINTER + _PAIR + _bytes(name) + _bytes(value) for name, value in lines)


def _bytes(value: bytes) -> int:
    size = _BYTES_HEAD + len(value)
    return _round(size) if size <= _LARGE else _round(size + _POINTER)


def _round(size: int) -> int:
    return (size + 15) & -16
