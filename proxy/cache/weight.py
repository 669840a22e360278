"""What a stored response weighs in memory, so that `[cache] memory` bounds what the process really takes.

Objects are weighed as CPython 3.11+ allocates them: in steps of 16 bytes, with the collector's header where there is
one. What cannot be seen from an object (slots of dictionaries and queues, the ghost of a key) is in the constants; a
test compares the sum with the memory that many entries really take.
"""

from __future__ import annotations

from sys import getsizeof
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.http.message import Fields
    from proxy.http.stored import StoredResponse

_STEP: Final = 16  # pymalloc's and malloc's alignment
_BYTES_HEAD: Final = getsizeof(b"")  # 33
_POINTER: Final = 8
_PAIR: Final = 64  # a tuple of two
_FLOAT: Final = 32

# Per key: two dictionary slots of cachetools (data and sizes, each between 2/3 and 1/3 full), the Entry, its size as
# int, its tuple of variants, its place in a queue, and the ghost that stays when it leaves.
PER_KEY: Final = 2 * 64 + 80 + 32 + 64 + 8 + 80
# Per response: the object, five times as floats, its length, its list of memos.
PER_RESPONSE: Final = 208 + 5 * _FLOAT + 32 + 64
# Head, its Fields and the body's object with its list.
PER_HEAD: Final = 64 + 48 + 32
PER_BODY: Final = 64 + 96
PER_TAG: Final = 96  # a slot in the tag's set, a share of the set


def weigh(stored: StoredResponse) -> int:
    """Bytes of memory held by one variant, the share of its key apart."""
    total = PER_RESPONSE + PER_HEAD + PER_BODY + PER_TAG * len(stored.tags)
    total += _bytes(stored.key) + _round(getsizeof(stored.control))
    total += _fields(stored.head.fields) + sum(map(_bytes, stored.body.chunks)) + _POINTER * len(stored.body.chunks)
    if stored.request_fields is not None:
        total += _fields(stored.request_fields)
    if stored.selecting:
        total += _lines(stored.selecting)
    return total


def _fields(fields: Fields) -> int:
    return _lines(fields.lines)


def _lines(lines: Iterable[tuple[bytes, bytes | None]]) -> int:
    total = 64
    for name, value in lines:
        total += _POINTER + _PAIR + _bytes(name) + (0 if value is None else _bytes(value))
    return total


def _bytes(value: bytes) -> int:
    return _round(_BYTES_HEAD + len(value))


def _round(size: int) -> int:
    return (size + _STEP - 1) & -_STEP
