"""An origin that answers with exactly the bytes a test wants, and keeps exactly the bytes it received.

It is strict where real servers are lenient: whatever in a request has more than one reading is noted in `faults`,
refused, and its connection closed. Plain threads and blocking sockets, so that synchronous tests can use it; every
answer is a list of steps.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from tests.kit.raw import TIMEOUT, wait_until

if TYPE_CHECKING:
    import ssl

REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/1\.([01])")
FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*([\t\x20-\x7e\x80-\xff]*?)[\t ]*")
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})")
LENGTH = re.compile(rb"[0-9]{1,18}")
HOST = re.compile(rb"[^/@?#\s,]*")

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Line = tuple[bytes, bytes]


# ---- steps of an answer: bytes are sent as they are ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stall:
    """Waits, for a time or for an event that the test sets; ends early when the origin stops."""

    seconds: float = TIMEOUT
    until: threading.Event | None = None


@dataclass(frozen=True, slots=True)
class Trickle:
    """Sends the bytes in small pieces, each a write of its own."""

    data: bytes
    size: int = 1
    pause: float = 0.001


@dataclass(frozen=True, slots=True)
class Repeat:
    """Sends the same bytes many times: large bodies without large memory."""

    data: bytes
    times: int


@dataclass(frozen=True, slots=True)
class Close:
    """Ends the connection in an orderly way (FIN)."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Ends the connection with a reset (RST)."""


@dataclass(frozen=True, slots=True)
class ReadBody:
    """Reads the request body now; used with `Early`, whose steps begin before it."""


@dataclass(frozen=True, slots=True)
class ReadRaw:
    """Reads that many bytes outside HTTP (after a 101); echoes them if asked."""

    count: int
    echo: bool = False


@dataclass(frozen=True, slots=True)
class Early:
    """Marks an answer that begins before the request body is read; must be the first step."""


Step = bytes | Stall | Trickle | Repeat | Close | Reset | ReadBody | ReadRaw | Early


# ---- what was received -----------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Received:
    """One request as it arrived."""

    method: bytes
    target: bytes
    version: bytes
    lines: list[Line]
    raw_head: bytes
    connection: int  # number of the connection, from 0 in order of acceptance
    body: bytes = b""
    length: int = 0  # bytes of the body read so far; `body` keeps the first `FakeOrigin.keep` of them
    chunked: bool = False
    complete: bool = False  # head and body arrived whole
    trailers: list[Line] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        values = self.all(name)
        return ", ".join(values) if values else None

    def all(self, name: str) -> list[str]:
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self.lines if key.lower() == wanted]

    @property
    def path(self) -> str:
        return self.target.split(b"?", 1)[0].decode("latin-1")


@dataclass(slots=True, eq=False)
class Link:
    """One connection: the exact bytes received (up to a bound), and how it ended."""

    number: int
    peer: tuple[str, int]
    raw: bytearray = field(default_factory=bytearray)
    requests: list[Received] = field(default_factory=list)
    open: bool = True
    ended_by: str = ""  # "peer", "peer-reset", "origin", "fault"


Answer = Iterable[Step] | Callable[[Received], Iterable[Step]]


class Fault(Exception):  # noqa: N818 - what the peer did wrong
    """A request with more than one reading, or none."""


class PeerGone(Exception):  # noqa: N818 - what happened
    """The peer ended the connection."""


def response(
    body: bytes = b"",
    *lines: str,
    status: int = 200,
    reason: str = "OK",
    length: int | None = None,
    version: str = "1.1",
) -> bytes:
    """A response with Content-Length; `length` announces another one than the body has. No other field is added."""
    announced = len(body) if length is None else length
    head = [f"HTTP/{version} {status} {reason}", *lines, f"Content-Length: {announced}", "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def head_only(*lines: str, status: int = 200, reason: str = "OK", version: str = "1.1") -> bytes:
    """A response head with exactly these field lines."""
    return "\r\n".join([f"HTTP/{version} {status} {reason}", *lines, "", ""]).encode("latin-1")


def chunk(data: bytes, extension: str = "") -> bytes:
    return f"{len(data):x}{extension}\r\n".encode() + data + b"\r\n"


def chunked(pieces: Iterable[bytes], *lines: str, trailers: Iterable[str] = (), status: int = 200) -> bytes:
    """A whole chunked response."""
    head = head_only(*lines, "Transfer-Encoding: chunked", status=status)
    tail = "".join(f"{line}\r\n" for line in trailers).encode("latin-1")
    return head + b"".join(chunk(piece) for piece in pieces) + b"0\r\n" + tail + b"\r\n"


class FakeOrigin:
    """Listens on a free loopback port from construction on; a context manager that ends all its threads.

    An answer is looked up in this order: the queue filled by `then`, the path by `on`, the default by `otherwise`.
    """

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1", port: int = 0, keep: int = 1 << 20
    ) -> None:
        self.keep = keep  # bytes kept of each body and connection
        self.links: list[Link] = []
        self.requests: list[Received] = []  # in order of their heads' arrival
        self.faults: list[str] = []
        self._tls = tls
        self._queue: deque[Answer] = deque()
        self._paths: dict[str, Answer] = {}
        self._default: Answer = (response(b"hello"),)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sockets: dict[int, socket.socket] = {}
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener: socket.socket | None = socket.create_server((address, port), family=family, backlog=512)
        self.host, self.port = self._listener.getsockname()[:2]
        self._start(self._accept, self._listener)

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def on(self, path: str, *steps: Step, by: Callable[[Received], Iterable[Step]] | None = None) -> FakeOrigin:
        """Requests for this path get these steps, or those that `by` gives for each."""
        self._paths[path] = by or steps
        return self

    def then(self, *steps: Step) -> FakeOrigin:
        """The next request not yet provided for, whatever its path, gets these steps, once."""
        self._queue.append(steps)
        return self

    def otherwise(self, *steps: Step, by: Callable[[Received], Iterable[Step]] | None = None) -> FakeOrigin:
        self._default = by or steps
        return self

    def refuse(self) -> None:
        """From now on connecting fails; connections that are open go on."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def listen(self) -> None:
        """Takes connections again, on the same port."""
        assert self._listener is None
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listener = socket.create_server((self.host, self.port), family=family, backlog=512)
        self._start(self._accept, self._listener)

    def drop_connections(self) -> None:
        """Resets every open connection."""
        with self._lock:
            sockets = list(self._sockets.values())
        for sock in sockets:
            _reset(sock)

    def stop(self) -> None:
        self._stopping.set()
        self.refuse()
        with self._lock:
            sockets = list(self._sockets.values())
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive(), "a thread of the fake origin does not end"

    def wait_for(self, count: int, deadline: float = TIMEOUT) -> list[Received]:
        """The requests, once there are that many."""
        wait_until(lambda: len(self.requests) >= count, deadline, f"{count} requests at the origin")
        return self.requests

    @property
    def open_links(self) -> list[Link]:
        return [link for link in self.links if link.open]

    def targets(self) -> list[str]:
        return [received.target.decode("latin-1") for received in self.requests]

    def forget(self) -> None:
        """Empties what was recorded of requests and faults, and the queue of answers."""
        with self._lock:
            self.requests.clear()
            self.faults.clear()
            self._queue.clear()

    # ---- connections -------------------------------------------------------------------------------------------------

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while not self._stopping.is_set():
            try:
                sock, peer = listener.accept()
            except OSError:  # closed by refuse()
                return
            with self._lock:
                link = Link(len(self.links), peer[:2])
                self.links.append(link)
                self._sockets[link.number] = sock
            self._start(self._serve, sock, link)

    def _serve(self, sock: socket.socket, link: Link) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
                with self._lock:
                    self._sockets[link.number] = sock
            _Conversation(self, sock, link).run()
        except PeerGone as gone:
            link.ended_by = str(gone)
        except OSError:
            link.ended_by = "peer-reset"
        finally:
            link.open = False
            with self._lock:
                self._sockets.pop(link.number, None)
            sock.close()

    def answer_for(self, received: Received) -> list[Step]:
        with self._lock:
            answer = self._queue.popleft() if self._queue else self._paths.get(received.path, self._default)
        return list(answer(received) if callable(answer) else answer)

    def note(self, received: Received, link: Link) -> None:
        with self._lock:
            self.requests.append(received)
            link.requests.append(received)

    @property
    def stopping(self) -> threading.Event:
        return self._stopping


class _Conversation:
    """Reads requests of one connection one after the other and plays the steps of their answers."""

    def __init__(self, origin: FakeOrigin, sock: socket.socket, link: Link) -> None:
        self.origin = origin
        self.sock = sock
        self.link = link
        self.buffer = bytearray()

    def run(self) -> None:
        while not self.origin.stopping.is_set():
            try:
                received = self._read_head()
                steps = self.origin.answer_for(received)
                if not (steps and isinstance(steps[0], Early)):
                    self._read_body(received)
                goes_on = all(self._play(step, received) for step in steps)
                if goes_on and not received.complete:
                    self._read_body(received)
            except Fault as fault:
                self.origin.faults.append(str(fault))
                self.link.ended_by = "fault"
                self.sock.sendall(response(b"", "Connection: close", status=400, reason="Bad Request"))
                return
            if not goes_on or _wants_close(received):
                self.link.ended_by = self.link.ended_by or "origin"
                return

    def _play(self, step: Step, received: Received) -> bool:
        """False when the connection ends with this step."""
        match step:
            case bytes():
                self.sock.sendall(step)
            case Trickle(data, size, pause):
                for start in range(0, len(data), size):
                    self.sock.sendall(data[start : start + size])
                    time.sleep(pause)
            case Repeat(data, times):
                for _ in range(times):
                    self.sock.sendall(data)
            case Stall(seconds, until):
                self._stall(seconds, until)
            case Close():
                return False
            case Reset():
                _reset(self.sock)
                return False
            case ReadBody():
                self._read_body(received)
            case ReadRaw(count, echo):
                data = self._exactly(count)
                if echo:
                    self.sock.sendall(data)
            case Early():
                pass
        return True

    def _stall(self, seconds: float, until: threading.Event | None) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.origin.stopping.is_set():
            if (until or self.origin.stopping).wait(min(0.05, max(0.0, end - time.monotonic()))):
                return

    # ---- strict reading ----------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        try:
            data = self.sock.recv(1 << 18)
        except ConnectionResetError:
            raise PeerGone("peer-reset") from None
        if not data:
            raise PeerGone("peer")
        room = self.origin.keep - len(self.link.raw)
        if room > 0:
            self.link.raw += data[:room]
        self.buffer += data

    def _exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self._fill()
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def _until(self, mark: bytes, limit: int = 1 << 20) -> bytes:
        while (end := self.buffer.find(mark)) < 0:
            if len(self.buffer) > limit:
                raise Fault("a head or line without end")
            self._fill()
        return self._exactly(end + len(mark))

    def _read_head(self) -> Received:
        raw = self._until(b"\r\n\r\n")
        first, *rest = raw[:-4].split(b"\r\n")
        found = REQUEST_LINE.fullmatch(first)
        if found is None:
            raise Fault(f"request line {first!r}")
        received = Received(
            found[1], found[2], b"1." + found[3], [_field(line) for line in rest], raw, self.link.number
        )
        self.origin.note(received, self.link)
        _check(received)
        return received

    def _read_body(self, received: Received) -> None:
        if received.complete:
            return
        if (received.get("expect") or "").lower() == "100-continue" and not self.buffer:
            self.sock.sendall(CONTINUE)  # RFC 9110 §10.1.1: an origin that waits for the body must say so
        if received.chunked:
            self._read_chunks(received)
        else:
            self._keep(received, int(received.get("content-length") or 0))
        received.complete = True

    def _keep(self, received: Received, count: int) -> None:
        left = count
        while left:
            if not self.buffer:
                self._fill()
            piece = self._exactly(min(left, len(self.buffer)))
            left -= len(piece)
            received.length += len(piece)
            if len(received.body) < self.origin.keep:
                received.body += piece

    def _read_chunks(self, received: Received) -> None:
        while True:
            line = self._until(b"\r\n", 1 << 16)[:-2]
            found = CHUNK_LINE.fullmatch(line)
            if found is None:
                raise Fault(f"chunk size line {line!r}")
            size = int(found[1], 16)
            if size == 0:
                break
            self._keep(received, size)
            if self._exactly(2) != b"\r\n":
                raise Fault("chunk without its CRLF")
        while line := self._until(b"\r\n", 1 << 16)[:-2]:
            received.trailers.append(_field(line))


def _field(line: bytes) -> Line:
    found = FIELD_LINE.fullmatch(line)
    if found is None:
        raise Fault(f"field line {line!r}")
    return found[1], found[2]


def _check(received: Received) -> None:
    """Notes how the body is framed; what two readers could frame differently is a fault (RFC 9112 §6.3, §11.2)."""
    hosts = received.all("host")
    lengths = received.all("content-length")
    codings = received.all("transfer-encoding")
    if received.version == b"1.1" and len(hosts) != 1:
        raise Fault(f"{len(hosts)} Host fields")
    if any(HOST.fullmatch(host.encode("latin-1")) is None for host in hosts):
        raise Fault(f"Host {hosts!r}")
    if lengths and codings:
        raise Fault("Content-Length and Transfer-Encoding")
    if len(lengths) > 1 or any(LENGTH.fullmatch(value.encode("latin-1")) is None for value in lengths):
        raise Fault(f"Content-Length {lengths!r}")
    if codings and (codings != ["chunked"] or received.version != b"1.1"):
        raise Fault(f"Transfer-Encoding {codings!r} in HTTP/{received.version.decode()}")
    received.chunked = bool(codings)


def _wants_close(received: Received) -> bool:
    options = {option.strip().lower() for option in (received.get("connection") or "").split(",")}
    return "close" in options or (received.version == b"1.0" and "keep-alive" not in options)


def _reset(sock: socket.socket) -> None:
    """Lingering 0 turns the close that follows into a reset; the shutdown of reading wakes a thread blocked in it."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RD)
