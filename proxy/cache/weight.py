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
    from collections.abc import Sequence

    from proxy.http.message import Fields
    from proxy.http.stored import StoredResponse

    Selecting = tuple[tuple[bytes, bytes | None], ...]

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
LARGEST_SHARED: Final = 512  # bytes of a value; whoever sends many different ones must not fill the pools with them
PER_SHARED: Final = 104  # a slot in its dictionary

K = TypeVar("K")
T = TypeVar("T")


class Shared:
    """Values that many responses have in common, kept once: head patterns, directives, what Vary named.

    They weigh on nobody, so that what a response weighs does not depend on who came first: `bytes` is what all of them
    take. What is too large for a pool is each response's own.
    """

    __slots__ = ("_controls", "_fields", "_selecting", "_taken", "patterns")

    def __init__(self) -> None:
        self.patterns = Patterns()
        self._controls: dict[int, object] = {}  # by identity: parsing remembers what is equal
        self._fields: dict[Fields, Fields] = {}
        self._selecting: dict[Selecting, Selecting] = {}
        self._taken = 0

    @property
    def bytes(self) -> int:
        return self._taken + self.patterns.bytes

    def clear(self) -> None:
        """Sharing begins anew."""
        self.patterns.clear()
        for pool in (self._controls, self._fields, self._selecting):
            pool.clear()
        self._taken = 0

    def control(self, control: object) -> None:
        if id(control) not in self._controls:
            self._remember(self._controls, id(control), control, _round(getsizeof(control)))

    def request_fields(self, fields: Fields) -> tuple[Fields, int]:
        """What to keep, and what of it is its bearer's own."""
        size = _pairs(fields.lines)
        return (fields, size) if size > LARGEST_SHARED else (self._remember(self._fields, fields, fields, size), 0)

    def selecting(self, chosen: Selecting) -> tuple[Selecting, int]:
        size = _pairs(chosen)
        return (chosen, size) if size > LARGEST_SHARED else (self._remember(self._selecting, chosen, chosen, size), 0)

    def _remember(self, pool: dict[K, T], key: K, value: T, size: int) -> T:
        known = pool.get(key)
        if known is not None:
            return known
        if len(pool) >= MOST_SHARED:
            self.clear()
        pool[key] = value
        self._taken += size + PER_SHARED
        return value


def _pairs(pairs: Sequence[tuple[bytes, bytes | None]]) -> int:
    return 64 + sum(_POINTER + _PAIR + _bytes(name) + _bytes(value or b"") for name, value in pairs)


def settle(stored: StoredResponse, shared: Shared) -> int:
    """The response takes the form in which it is kept: bytes of memory it then holds, the share of its key included.

    A function of what it is: values of its head weigh what they are long, even where a pattern has them in common.
    """
    head = stored.head
    lines = head.fields.lines
    if stored.pack(head, shared.patterns):
        in_head = _BYTES_HEAD + sum(len(value) + 1 for _, value in lines)
    else:
        in_head = 256 + sum(_POINTER + _PAIR + _bytes(name) + _bytes(value) for name, value in lines)
    total = PER_KEY + PER_RESPONSE + PER_BODY + in_head + _bytes(stored.key)
    shared.control(stored.control)
    stored.body = stored.body.compact()
    if stored.length == stored.body.size:
        stored.length = stored.body.size  # one number instead of two
    total += sum(map(_bytes, stored.body.chunks)) + _POINTER * len(stored.body.chunks)
    if stored.request_fields is not None:
        stored.request_fields, own = shared.request_fields(stored.request_fields)
        total += own
    if stored.selecting:
        stored.selecting, own = shared.selecting(stored.selecting)
        total += own
    return _round(total) + sum(PER_TAG + _POINTER + _bytes(tag) for tag in stored.tags)


def _bytes(value: bytes) -> int:
    size = _BYTES_HEAD + len(value)
    return _round(size) if size <= _LARGE else _round(size + _POINTER)


def _round(size: int) -> int:
    return (size + 15) & -16
