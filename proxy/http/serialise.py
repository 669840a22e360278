"""The one place where a head becomes bytes on a connection: request line or status line, field lines, empty line.

What is written has one reading (RFC 9112 §2.2, §11): it raises on a name that is no token, on control bytes other than
tab in a value, on blanks or controls in the start line. Which fields travel, and their framing, is decided elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.http.message import Line

# RFC 9110 §5.6.2
TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
VISIBLE = bytes(range(0x21, 0x7F))
TEXT = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))  # RFC 9110 §5.5: all but controls other than tab


class UnsafeHeadError(ValueError):
    """A head that must not be written; a fault of ours, since all that was received has been checked."""


def field_bytes(lines: Sequence[Line]) -> bytes:
    """The field lines, each with its CRLF, without the empty line that ends a head."""
    if not lines:
        return b""
    names = b" ".join([name for name, _ in lines])
    # With all token bytes taken out, only our separators may be left; an empty name shows as two of them, or one at an
    # end.
    if (
        names.translate(None, TOKEN) != b" " * (len(lines) - 1)
        or b"  " in names
        or b" " in (names[:1], names[-1:])
        or not names
    ):
        raise UnsafeHeadError("field name is not a token")
    written = b"".join([b"%b: %b\r\n" % line for line in lines])
    # Likewise for values: what is left after the legal text is one CRLF for each line, else a control byte came with a
    # value.
    if written.translate(None, TEXT) != b"\r\n" * len(lines):
        raise UnsafeHeadError("control byte in a field value")
    return written


def request_line(method: bytes, target: bytes) -> bytes:
    """The request line with its CRLF; always HTTP/1.1, our own version (RFC 9110 §2.5)."""
    if not method or method.translate(None, TOKEN):
        raise UnsafeHeadError("method is not a token")
    if not target or target.translate(None, VISIBLE):
        raise UnsafeHeadError("blank or control byte in the target")
    return b"%b %b HTTP/1.1\r\n" % (method, target)


def response_bytes(status: int, reason: bytes, lines: Sequence[Line]) -> bytes:
    """A whole response head."""
    if not 100 <= status <= 999:
        raise UnsafeHeadError("status is not three digits")
    if reason.translate(None, TEXT):
        raise UnsafeHeadError("control byte in the reason")
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, field_bytes(lines))


def framing_lines(length: int | None, *, chunked: bool, keep: bool, old: bool) -> tuple[Line, ...]:
    """How a client finds the end of a response, and whether another may follow (RFC 9112 §6.3, §9.3); `old` is a client
    of HTTP/1.0. A length of None is unknown, or is not said.
    """
    lines: list[Line] = []
    if length is not None:
        lines.append((b"Content-Length", b"%d" % length))
    elif chunked:
        lines.append((b"Transfer-Encoding", b"chunked"))
    if not keep:
        lines.append((b"Connection", b"close"))
    elif old:
        lines.append((b"Connection", b"keep-alive"))
    return tuple(lines)
