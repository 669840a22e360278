"""Lists of names: what a line of one means, and the set that comes of all of them. Pure.

Hosts files (`0.0.0.0 example.org`) and plain lists, comments behind `#`, `*.` or a dot in front, a dot behind, names
beyond ASCII in punycode. A name stands for itself and all below it. What is no name is counted and skipped: public
lists are never clean. Bytes are fed piece by piece and taken apart in the same way, so that a loop can serve traffic
between the pieces; 300,000 names take 30 MB and a millisecond per 16 KB (benchmarks/micro/access.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PIECE = 16 * 2**10  # bytes worth feeding at once
LONGEST_LINE = 4096  # bytes; longer ones are junk, and not kept
_SHOWN = 3  # junk lines that are told by number
_AT_ONCE = 4096  # names let go of at once
_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*")
# What every hosts file has for the machine itself.
_OWN = frozenset(
    (
        "localhost",
        "localhost.localdomain",
        "local",
        "broadcasthost",
        "ip6-localhost",
        "ip6-loopback",
        "ip6-localnet",
        "ip6-mcastprefix",
        "ip6-allnodes",
        "ip6-allrouters",
        "ip6-allhosts",
        "0.0.0.0",  # noqa: S104 - a name here, bound to nothing
    )
)


@dataclass(frozen=True, slots=True)
class Junk:
    """Lines that are no names."""

    count: int = 0
    first: tuple[int, ...] = ()  # the numbers of the first few

    def describe(self) -> str:
        """`12 lines are no names (line 3, 7, 9, …)`; "" for none."""
        if not self.count:
            return ""
        more = ", …" if self.count > len(self.first) else ""
        are = "1 line is no name" if self.count == 1 else f"{self.count} lines are no names"
        return f"{are} (line {', '.join(map(str, self.first))}{more})"


class NameSet:
    """The names of one list."""

    __slots__ = ("_names", "junk")

    def __init__(self, names: set[str], junk: Junk) -> None:
        self._names = names
        self.junk = junk

    def __len__(self) -> int:
        return len(self._names)

    def find(self, parents: Sequence[str]) -> str | None:
        """The first of these names that is in the list."""
        names = self._names
        for name in parents:
            if name in names:
                return name
        return None

    def dissolve(self) -> bool:
        """Lets go of some of the names; whether any are left. To free them all at once would hold a loop up."""
        names = self._names
        for _ in range(min(_AT_ONCE, len(names))):
            names.pop()
        return bool(names)


class Reader:
    """Makes a NameSet of bytes that are fed in any pieces."""

    __slots__ = ("_junk", "_line", "_names", "_numbers", "_rest", "_too_long")

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._rest = b""
        self._too_long = False  # what is left of the line is of no interest
        self._line = 0
        self._junk = 0
        self._numbers: list[int] = []

    def feed(self, data: bytes) -> None:
        """Takes the next bytes; lines that are whole are understood at once."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)
        if len(self._rest) > LONGEST_LINE:
            self._rest = b""
            self._too_long = True

    def end(self) -> NameSet:
        """All has been fed."""
        if self._rest or self._too_long:
            self._take(self._rest)
        return NameSet(self._names, Junk(self._junk, tuple(self._numbers)))

    def _take(self, line: bytes) -> None:
        self._line += 1
        if self._too_long:
            self._too_long = False
            self._is_junk()
            return
        if b"#" in line:
            line = line[: line.index(b"#")]
        try:
            text = line.decode().strip().lower()
        except UnicodeDecodeError:
            self._is_junk()
            return
        if text:
            name = text if _NAME.fullmatch(text) and len(text) <= 253 else None
            if name is None or name[-1].isdigit():
                self._take_others(text)
            else:
                self._names.add(name)

    def _take_others(self, text: str) -> None:
        """All but a plain name: an address with names behind it, a name in another dress, an address alone, junk."""
        words = text.split()
        address = _address(words[0])
        if address is not None and len(words) == 1:
            if words[0] not in _OWN:
                self._names.add(address)
            return
        names = words[1:] if address is not None else words[:1]
        made = [_name(word) for word in names if word not in _OWN]
        if None in made or (address is None and len(words) > 1):
            self._is_junk()
        self._names.update(name for name in made if name is not None and (address is not None or len(words) == 1))

    def _is_junk(self) -> None:
        self._junk += 1
        if len(self._numbers) < _SHOWN:
            self._numbers.append(self._line)


def _address(word: str) -> str | None:
    """The address in its usual spelling; None for all else."""
    if "%" in word:
        return None
    try:
        return str(ip_address(word))
    except ValueError:
        return None


def _name(word: str) -> str | None:
    """The name as it stands in a request: lower case, punycode, no dots at its ends; None for what is none."""
    bare = word.removeprefix("*.").removeprefix(".").removesuffix(".")
    if not bare.isascii():
        try:
            bare = bare.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    return bare if _NAME.fullmatch(bare) and len(bare) <= 253 and not bare.rpartition(".")[2].isdigit() else None
