"""Structured fields, read strictly by the algorithms of RFC 9651 §4.2: dictionaries, and lists of strings.

Parsers return None on the first error anywhere, as the standard asks; they never raise. Parameters are checked and then
forgotten,
and an inner list is only known to be one: no field that this proxy reads gives them a meaning.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error


class String(str):
    """A String, as against a Token or Display String."""

    __slots__ = ()


class Token(str):
    __slots__ = ()


class Text(str):
    """A Display String, RFC 9651 §3.3.8."""

    __slots__ = ()


class Date(int):
    """Seconds since the epoch, RFC 9651 §3.3.7."""

    __slots__ = ()


class InnerList:
    """Something in parentheses."""

    __slots__ = ()


Bare = bool | int | float | bytes | String | Token | Text | Date | InnerList

_KEY = re.compile(rb"[a-z*][a-z0-9_\-.*]*")
_NUMBER = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?\.?")
_INTEGER = re.compile(rb"-?[0-9]{1,15}\Z")
_DECIMAL = re.compile(rb"-?[0-9]{1,12}\.[0-9]{1,3}\Z")
_STRING = re.compile(rb'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_TOKEN = re.compile(rb"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*")
_BINARY = re.compile(rb":([A-Za-z0-9+/=]*):")
_TEXT = re.compile(rb'%"((?:[\x20\x21\x23\x24\x26-\x7e]|%[0-9a-f]{2})*)"')
_TEXT_BYTE = re.compile(rb"%([0-9a-f]{2})")


class _Malformed(Exception):  # noqa: N818 - never leaves this module
    pass


class _Reader:
    """A position in the text; each method takes what it is named after, or raises."""

    __slots__ = ("at", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.at = 0

    def peek(self) -> bytes:
        return self.text[self.at : self.at + 1]

    def skip(self, blanks: bytes) -> None:
        while self.at < len(self.text) and self.text[self.at] in blanks:
            self.at += 1

    def match(self, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise _Malformed
        self.at = match.end()
        return match

    def key(self) -> str:
        return self.match(_KEY)[0].decode()

    def parameters(self) -> None:
        while self.peek() == b";":
            self.at += 1
            self.skip(b" ")
            self.key()
            if self.peek() == b"=":
                self.at += 1
                self.bare()

    def item(self) -> Bare:
        value: Bare = self.inner_list() if self.peek() == b"(" else self.bare()
        self.parameters()
        return value

    def inner_list(self) -> InnerList:
        self.at += 1
        while True:
            self.skip(b" ")
            if self.peek() == b")":
                self.at += 1
                return InnerList()
            self.bare()
            self.parameters()
            if self.peek() not in {b" ", b")"}:
                raise _Malformed

    def bare(self) -> Bare:
        first = self.peek()
        if first == b'"':
            return String(re.sub(rb"\\(.)", rb"\1", self.match(_STRING)[1]).decode())
        if first == b"?":
            return self.boolean()
        if first == b":":
            return self.binary()
        if first == b"%":
            return self.display()
        if first == b"@":
            return self.date()
        if first == b"-" or first.isdigit():
            return self.number()
        return Token(self.match(_TOKEN)[0].decode())

    def boolean(self) -> bool:
        self.at += 2
        if self.text[self.at - 1 : self.at] not in {b"0", b"1"}:
            raise _Malformed
        return self.text[self.at - 1 : self.at] == b"1"

    def number(self) -> int | float:
        text = self.match(_NUMBER)[0]
        if _INTEGER.match(text):
            return int(text)
        if _DECIMAL.match(text):
            return float(text)
        raise _Malformed

    def date(self) -> Date:
        self.at += 1
        value = self.number()
        if isinstance(value, float):
            raise _Malformed
        return Date(value)

    def binary(self) -> bytes:
        try:
            return b64decode(self.match(_BINARY)[1] + b"==")  # padding may be missing, RFC 9651 §4.2.7
        except Base64Error:
            raise _Malformed from None

    def display(self) -> Text:
        raw = _TEXT_BYTE.sub(lambda match: bytes([int(match[1], 16)]), self.match(_TEXT)[1])
        try:
            return Text(raw.decode())
        except UnicodeDecodeError:
            raise _Malformed from None

    def comma(self) -> bool:
        """Whether another member follows; the end of the text and a trailing comma are not the same (RFC 9651
        §4.2.1).
        """
        self.skip(b" \t")
        if self.at == len(self.text):
            return False
        if self.peek() != b",":
            raise _Malformed
        self.at += 1
        self.skip(b" \t")
        if self.at == len(self.text):
            raise _Malformed
        return True


def parse_dictionary(text: bytes) -> dict[str, Bare] | None:
    """Members by key, of equal keys the last; empty for an empty field, None for any error (RFC 9651 §4.2.2)."""
    reader = _Reader(text.strip(b" "))
    members: dict[str, Bare] = {}
    if not reader.text:
        return members
    try:
        while True:
            key = reader.key()
            if reader.peek() == b"=":
                reader.at += 1
                members[key] = reader.item()
            else:
                reader.parameters()
                members[key] = True
            if not reader.comma():
                return members
    except _Malformed:
        return None


def parse_list(text: bytes) -> list[Bare] | None:
    """The members of a list, or None for any error (RFC 9651 §4.2.1)."""
    reader = _Reader(text.strip(b" "))
    members: list[Bare] = []
    if not reader.text:
        return members
    try:
        while True:
            members.append(reader.item())
            if not reader.comma():
                return members
    except _Malformed:
        return None
