"""A chunked body as it is read from a connection: decoded bytes out, and the exact end found (RFC 9112 §7.1).

The C parser decodes. It does not tell where in a read a message ended, and would take what follows for the next
message, with a trailer field left over in it. A chunked body always ends with CRLF CRLF (last chunk or last trailer
line, then the empty line), so a read is cut behind each CRLF CRLF and fed piece by piece: the piece after which the
parser has ended is the last, and what follows was never shown to it. Trailers are consumed and dropped (RFC 9110
§6.5.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp.http_exceptions import HttpProcessingError

if TYPE_CHECKING:
    from collections.abc import Iterator

END = b"\r\n\r\n"
TURN = 64 * 2**10  # bytes looked at in one turn of the loop, so that others are served in between,
FIRST_TURN = 16 * 2**10  # while nothing is known of it, and
SLOW_TURN = 2 * 2**10  # where chunks are tiny, or the body is full of what may be its end: up to 0.5 ms


class BadChunks(Exception):  # noqa: N818 - what was wrong, for a Failure's detail
    """The body is not well framed, or spends too much on framing."""


class ChunkedBody:
    """Invariant: no byte behind the body's end is ever fed to the parser."""

    __slots__ = ("_allowance", "_carry", "_parser", "_payload", "_pieces", "done", "framing", "size")

    def __init__(self, parser: Any, payload: Any, allowance: int) -> None:  # C objects without types
        self._parser = parser
        self._payload = payload
        self._allowance = allowance  # framing bytes allowed beyond 8 times the body
        self._carry = b""
        self._pieces = 0
        self.done = False
        self.size = 0  # decoded bytes so far
        self.framing = 0  # chunk sizes, extensions, line ends and trailers so far

    @property
    def turn(self) -> int:
        """Bytes to feed in one turn of the loop."""
        if not self._pieces:
            return FIRST_TURN
        return SLOW_TURN if self.laborious else TURN

    @property
    def laborious(self) -> bool:
        """Its bytes cost far more than usual: half a microsecond for each chunk, and for each CRLF CRLF in one."""
        return self.size < 4 * self.framing or self.size < 256 * self._pieces

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """(decoded bytes, what follows the body); raises BadChunks."""
        decoded: list[bytes] = []
        at = 0
        for cut in self._cuts(data):
            decoded.append(self._feed_piece(data[at:cut]))
            at = cut
            if self.done:
                break
        self._carry = (self._carry + data[:at])[-3:]
        return (decoded[0] if len(decoded) == 1 else b"".join(decoded)), data[at:]

    def _cuts(self, data: bytes) -> Iterator[int]:
        straddling = (self._carry + data[:3]).find(END)
        at = 0
        if straddling >= 0:
            at = straddling + 4 - len(self._carry)
            yield at
        while (found := data.find(END, at)) >= 0:
            at = found + 4
            yield at
        if at < len(data):
            yield len(data)

    def _feed_piece(self, piece: bytes) -> bytes:
        payload = self._payload
        try:
            self._parser.feed_data(piece)
            chunk: bytes = payload.read_nowait(-1)
        except HttpProcessingError as problem:
            raise BadChunks(type(problem).__name__) from problem
        self._pieces += 1
        self.size += len(chunk)
        self.framing += len(piece) - len(chunk)
        if self.framing > self._allowance + 8 * self.size:
            raise BadChunks("too much framing")
        self.done = payload.is_eof()
        return chunk
