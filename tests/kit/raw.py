"""A client that sends exactly the bytes it is given and reads one answer strictly by its framing (RFC 9112 §6, §7).

It shares no code with the proxy, so that both cannot be wrong in the same way. An answer that is not complete and
well formed raises Broken with what had come; the end of a connection is told apart as clean or reset.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TIMEOUT = 10.0  # nothing on loopback takes that long unless it hangs
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
STATUS_LINE = re.compile(rb"HTTP/(1\.[01]) ([1-9][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)")
FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*([\t\x20-\x7e\x80-\xff]*?)[\t ]*")
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})")

Line = tuple[bytes, bytes]


class Broken(Exception):  # noqa: N818 - what happened to the answer
    """The answer is not a whole well-formed message; `raw` is what had come of it."""

    def __init__(self, why: str, raw: bytes = b"") -> None:
        super().__init__(f"{why}; received {raw[:400]!r}{'…' if len(raw) > 400 else ''}")
        self.why = why
        self.raw = raw


class Reset(Broken):
    """The peer reset the connection in the middle of an answer."""


class End(Enum):
    CLEAN = "clean"  # an orderly close: FIN
    RESET = "reset"  # also TLS that ended without close_notify (RFC 9112 §9.8)


class Framing(Enum):
    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


class Head(NamedTuple):
    version: bytes
    status: int
    reason: bytes
    lines: list[Line]


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    reason: bytes
    version: bytes
    lines: list[Line]
    body: bytes
    framing: Framing
    raw_head: bytes
    interim: list[Response] = field(default_factory=list)
    trailers: list[Line] = field(default_factory=list)
    chunks: list[int] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        """The field's value, several lines joined by `, `; None where there is none."""
        values = self.all(name)
        return ", ".join(values) if values else None

    def all(self, name: str) -> list[str]:
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self.lines if key.lower() == wanted]

    @property
    def text(self) -> str:
        return self.body.decode()


def wait_until(condition: Callable[[], object], deadline: float = TIMEOUT, what: str = "") -> None:
    """Returns when the condition is true; fails, with what was waited for, after `deadline` seconds."""
    end = time.monotonic() + deadline
    pause = 0.001
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline} s: {what or condition}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def request(
    method: str = "GET", target: str = "/", *lines: str, host: str = "test.example", body: bytes | None = None
) -> bytes:
    """The bytes of a well-formed request; `lines` are further field lines, `body` brings its Content-Length."""
    head = [f"{method} {target} HTTP/1.1", f"Host: {host}", *lines]
    if body is not None:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + (body or b"")


class Connection:
    """One client connection, with a buffer of what was received and not yet read as an answer."""

    def __init__(
        self,
        address: tuple[str, int] | str,
        *,
        timeout: float = TIMEOUT,
        tls: ssl.SSLContext | None = None,
        name: str | None = None,
        source: str | None = None,
        receive_buffer: int = 0,
    ) -> None:
        self.sock = self._connect(address, timeout, source, receive_buffer)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname=name, suppress_ragged_eofs=False)
        self.buffer = bytearray()
        self.ended: End | None = None

    @classmethod
    def of(cls, sock: socket.socket) -> Self:
        """A connection over a socket that is connected already."""
        connection = cls.__new__(cls)
        sock.settimeout(TIMEOUT)
        connection.sock = sock
        connection.buffer = bytearray()
        connection.ended = None
        return connection

    @staticmethod
    def _connect(
        address: tuple[str, int] | str, timeout: float, source: str | None, receive_buffer: int
    ) -> socket.socket:
        if isinstance(address, str):
            family = socket.AF_UNIX
        else:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        try:
            if receive_buffer:  # before connect, so that the window is small from the start
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if source is not None:
                sock.bind((source, 0))
            sock.connect(address)
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            sock.close()
            raise
        return sock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_cut(self, data: bytes, offsets: Iterable[int], pause: float = 0.002) -> None:
        """Sends data in pieces that end at the offsets. The pause lets each piece arrive as a read of its own."""
        start = 0
        for offset in [*sorted(offsets), len(data)]:
            if offset > start:
                self.sock.sendall(data[start:offset])
                start = offset
                time.sleep(pause)

    def half_close(self) -> None:
        """No more bytes will be sent; answers can still be read."""
        self.sock.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Closes with a reset instead of an orderly end."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def read_response(self, method: str = "GET") -> Response:
        """The next final answer, with the interim ones before it; `method` is the request's (HEAD has no body)."""
        interim: list[Response] = []
        while True:
            response = self.read_one(method)
            if response.status >= 200 or response.status == 101:
                response.interim.extend(interim)
                return response
            interim.append(response)

    def read_one(self, method: str = "GET") -> Response:
        """The next answer, interim or final."""
        raw_head = self.read_raw_head()
        head = parse_head(raw_head)
        framing, length = framing_of(head, method, raw_head)
        body, trailers, chunks = self._body(framing, length, raw_head)
        return Response(
            head.status, head.reason, head.version, head.lines, body, framing, raw_head, [], trailers, chunks
        )

    def read_raw_head(self) -> bytes:
        """The bytes up to and with the empty line."""
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            if not self._fill():
                raise self._broken("no whole head")
        return self._take(end + 4)

    def read_exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            if not self._fill():
                raise self._broken(f"{count} bytes wanted")
        return self._take(count)

    def discard(self, count: int) -> None:
        """Reads and forgets: for bodies too large to keep."""
        have = min(count, len(self.buffer))
        del self.buffer[:have]
        space = bytearray(1 << 20)
        left = count - have
        while left:
            got = self.sock.recv_into(space, min(left, len(space)))
            if not got:
                raise Broken(f"{left} of {count} bytes missing")
            left -= got

    def at_end(self) -> End:
        """How the peer ended the connection; fails if bytes come instead, or if it stays open all the time."""
        if self.ended is None and not self.buffer:
            self._fill()
        if self.buffer:
            raise Broken("bytes instead of the end of the connection", bytes(self.buffer))
        assert self.ended is not None
        return self.ended

    def read_to_end(self) -> tuple[bytes, End]:
        """All bytes up to the end of the connection, and how it ended."""
        while self._fill():
            pass
        assert self.ended is not None
        return self._take(len(self.buffer)), self.ended

    def is_silent(self, seconds: float) -> bool:
        """Nothing came within the time: neither bytes nor an end."""
        if self.buffer or self.ended is not None:
            return False
        before = self.sock.gettimeout()
        self.sock.settimeout(seconds)
        try:
            self._fill()
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(before)
        return False

    def _take(self, count: int) -> bytes:
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def _fill(self) -> bool:
        if self.ended is not None:
            return False
        try:
            data = self.sock.recv(1 << 18)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
            self.ended = End.RESET
            return False
        if not data:
            self.ended = End.CLEAN
            return False
        self.buffer += data
        return True

    def _broken(self, why: str, before: bytes = b"") -> Broken:
        kind = Reset if self.ended is End.RESET else Broken
        return kind(f"{why}, connection ended {self.ended.value if self.ended else 'not'}", before + bytes(self.buffer))

    def _body(self, framing: Framing, length: int, raw_head: bytes) -> tuple[bytes, list[Line], list[int]]:
        try:
            match framing:
                case Framing.NONE:
                    return b"", [], []
                case Framing.LENGTH:
                    return self.read_exactly(length), [], []
                case Framing.CHUNKED:
                    return self._chunked()
                case Framing.CLOSE:
                    body, end = self.read_to_end()
                    if end is End.RESET:
                        raise Reset("reset in a body that ends with the connection", body)
                    return body, [], []
        except Broken as error:
            error.raw = raw_head + error.raw
            raise

    def _line(self) -> bytes:
        while (end := self.buffer.find(b"\r\n")) < 0:
            if not self._fill():
                raise self._broken("no whole line")
        return self._take(end + 2)[:-2]

    def _chunked(self) -> tuple[bytes, list[Line], list[int]]:
        body = bytearray()
        sizes: list[int] = []
        try:
            while True:
                line = self._line()
                size = _chunk_size(line)
                if size == 0:
                    break
                body += self.read_exactly(size)
                sizes.append(size)
                _expect_crlf(self.read_exactly(2))
            trailers = []
            while line := self._line():
                trailers.append(parse_line(line))
        except Broken as error:
            error.raw = bytes(body) + error.raw
            raise
        return bytes(body), trailers, sizes


def _chunk_size(line: bytes) -> int:
    found = CHUNK_SIZE.fullmatch(line)
    if found is None:
        raise Broken(f"bad chunk size {line!r}")
    return int(found[1], 16)


def _expect_crlf(data: bytes) -> None:
    if data != b"\r\n":
        raise Broken("chunk without its CRLF")


def parse_line(line: bytes) -> Line:
    found = FIELD_LINE.fullmatch(line)
    if found is None:
        raise Broken(f"bad field line {line!r}")
    return found[1], found[2]


def parse_head(raw: bytes) -> Head:
    """Strictly: CRLF everywhere, no folds, no blanks before the colon, nothing unprintable."""
    first, *rest = raw[:-4].split(b"\r\n")
    found = STATUS_LINE.fullmatch(first)
    if found is None:
        raise Broken("bad status line", raw)
    return Head(found[1], int(found[2]), found[3], [parse_line(line) for line in rest])


def framing_of(head: Head, method: str, raw: bytes) -> tuple[Framing, int]:
    """How the body ends, and its length where it is known (RFC 9112 §6.3); both framings at once are broken."""
    lengths = [value for name, value in head.lines if name.lower() == b"content-length"]
    codings = [value for name, value in head.lines if name.lower() == b"transfer-encoding"]
    if lengths and codings:
        raise Broken("Content-Length and Transfer-Encoding", raw)
    if len(lengths) > 1 or len(codings) > 1 or any(not value.isdigit() for value in lengths):
        raise Broken("bad framing fields", raw)
    if head.status < 200 or head.status == 204:
        if lengths or codings:
            raise Broken("framing fields in an answer without body (RFC 9110 §8.6, RFC 9112 §6.1)", raw)
        return Framing.NONE, 0
    if method == "HEAD" or head.status == 304 or (method == "CONNECT" and head.status < 300):
        return Framing.NONE, 0
    if codings:
        if codings[0].lower() != b"chunked" or head.version == b"1.0":
            raise Broken(f"Transfer-Encoding {codings[0]!r} in HTTP/{head.version.decode()}", raw)
        return Framing.CHUNKED, 0
    if lengths:
        return Framing.LENGTH, int(lengths[0])
    return Framing.CLOSE, 0


def ask(address: tuple[str, int], data: bytes, method: str | None = None, **options: object) -> Response:
    """The final answer to one request on a connection of its own."""
    with Connection(address, **options) as connection:  # type: ignore[arg-type]  # options are Connection's
        connection.send(data)
        return connection.read_response(method or data.split(b" ", 1)[0].decode("latin-1"))


def get(
    address: tuple[str, int], target: str = "/", *lines: str, host: str = "test.example", method: str = "GET"
) -> Response:
    """The final answer to one request without body."""
    return ask(address, request(method, target, *lines, host=host))


def pipeline(address: tuple[str, int], requests: Iterable[bytes], **options: object) -> list[Response]:
    """The answers to requests that were sent in one write, in order."""
    wanted = list(requests)
    with Connection(address, **options) as connection:  # type: ignore[arg-type]  # options are Connection's
        connection.send(b"".join(wanted))
        return [connection.read_response(data.split(b" ", 1)[0].decode("latin-1")) for data in wanted]
