"""The server name in a TLS ClientHello, read without answering it (RFC 8446 §4.1.2, RFC 6066 §3). Pure.

A hello may be spread over records, and records over packets; what has come so far is looked at each time, at most
LONGEST bytes of it. What is read is input to policy and to logs, never a destination. Nothing is decrypted, and
nothing raises: bytes that are no hello are a value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

LONGEST: Final = 16 * 1024  # bytes of hello that are waited for

_HANDSHAKE: Final = 22  # ContentType, RFC 8446 §5.1
_CLIENT_HELLO: Final = 1  # HandshakeType, §4
_LONGEST_RECORD: Final = 2**14
_SERVER_NAME: Final = 0  # extensions by IANA's registry
_ALPN: Final = 16
_ENCRYPTED_HELLO: Final = 0xFE0D
_HOST_NAME: Final = 0

# Letters, digits, `-`, `_` and dots, as in a request's host; no literal address (RFC 6066 §3).
_NAME: Final = re.compile(rb"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")
_LONGEST_NAME: Final = 253
_NUMERIC: Final = re.compile(rb"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)")


@dataclass(frozen=True, slots=True)
class Hello:
    name: str = ""  # lower case; empty: none that can be read
    encrypted: bool = False  # it says of another hello inside (ECH): the name is its front's, or GREASE
    protocols: tuple[bytes, ...] = ()  # ALPN, RFC 7301


@dataclass(frozen=True, slots=True)
class Unfinished:
    """So far it may become a hello."""


@dataclass(frozen=True, slots=True)
class NoHello:
    """It is something else, or broken."""

    why: str


def parse(data: bytes) -> Hello | Unfinished | NoHello:
    """What the first bytes of a connection say. With more bytes, an answer other than Unfinished stays."""
    message, more = bytearray(), True
    at = 0
    while more:
        if at >= LONGEST:
            return _more(data)
        header = data[at : at + 5]
        if header[:1] not in (b"", b"\x16") or header[1:2] not in (b"", b"\x03"):
            return NoHello("no TLS handshake")
        if len(header) < 5:
            return _more(data)
        length = int.from_bytes(header[3:5], "big")
        if not 0 < length <= _LONGEST_RECORD:
            return NoHello("a record of no length, or too long")
        piece = data[at + 5 : at + 5 + length]
        message += piece
        if message and message[0] != _CLIENT_HELLO:
            return NoHello("another handshake message")
        at += 5 + length
        wanted = 4 + int.from_bytes(message[1:4], "big") if len(message) >= 4 else 0
        if wanted > LONGEST:
            return NoHello(f"a hello of {wanted} bytes")
        more = not wanted or len(message) < wanted
        if more and len(piece) < length:
            return _more(data)
    return _read(bytes(message[4:wanted]))


def _more(data: bytes) -> Unfinished | NoHello:
    """More is wanted than has come: it is waited for, so far."""
    return Unfinished() if len(data) < LONGEST else NoHello(f"no whole hello within {LONGEST} bytes")


def _read(body: bytes) -> Hello | NoHello:
    """The body of a whole ClientHello."""
    reader = _Reader(body)
    reader.skip(2 + 32)  # legacy_version, random
    for width in (1, 2, 1):  # session id, cipher suites, compression methods
        reader.vector(width)
    if reader.ended and not reader.broken:
        return Hello()  # before TLS 1.3 there may be no extensions
    extensions = _Reader(reader.vector(2))
    if reader.broken or not reader.ended:
        return NoHello("a broken hello")
    name, encrypted, seen = "", False, set[int]()
    protocols: tuple[bytes, ...] = ()
    while not extensions.ended and not extensions.broken:
        kind, content = extensions.number(2), extensions.vector(2)
        if kind in seen:
            return NoHello("an extension twice")
        seen.add(kind)
        if kind == _SERVER_NAME:
            name = _server_name(content)
        elif kind == _ALPN:
            protocols = _protocols(content)
        elif kind == _ENCRYPTED_HELLO:
            encrypted = True
    return NoHello("a broken hello") if extensions.broken else Hello(name, encrypted, protocols)


def _server_name(content: bytes) -> str:
    """The host name of the list; empty where there is none, or none that could be one."""
    outer = _Reader(content)
    names = _Reader(outer.vector(2))
    found = b""
    while not names.ended and not names.broken:
        kind, value = names.number(1), names.vector(2)
        if kind == _HOST_NAME and not found:
            found = value
    if names.broken or outer.broken or not outer.ended:
        return ""
    name = found.removesuffix(b".")
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name) or _NUMERIC.fullmatch(name):
        return ""
    return name.decode("ascii").lower()


def _protocols(content: bytes) -> tuple[bytes, ...]:
    listed = _Reader(_Reader(content).vector(2))
    found = []
    while not listed.ended and not listed.broken:
        found.append(listed.vector(1))
    return () if listed.broken else tuple(found)


class _Reader:
    """Numbers and vectors out of bytes; once something was not there, it is broken and gives nothing more."""

    __slots__ = ("_at", "_data", "broken")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self.broken = False

    @property
    def ended(self) -> bool:
        return self._at >= len(self._data)

    def skip(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            self.broken = True
            self._at = len(self._data)
            return b""
        self._at += count
        return taken

    def number(self, width: int) -> int:
        return int.from_bytes(self.skip(width), "big")

    def vector(self, width: int) -> bytes:
        """The bytes behind a length of `width` bytes."""
        return self.skip(self.number(width))
