"""An origin, in a process of its own, that sends and checks bodies of any size as fast as the kernel copies them.

`GET /length/N`, `GET /chunked/N` and `GET /close/N` send N bytes, framed by Content-Length, chunks, or the end of the
connection; arguments of the query become fields (`?cache-control=no-store`). `POST` answers with JSON: length, and
whether every byte was right. The bytes repeat with a period of BLOCK, a length that no buffer in between has.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
BLOCK = 65537 * 16  # 1 MiB and 16 bytes
PATTERN = bytes((number * 31 + number // 256) & 0xFF for number in range(65537)) * 16


class Mismatch(Exception):  # noqa: N818 - what was found
    """A byte is not the one that was sent."""


def pattern_file() -> int:
    """A descriptor of a file in memory that holds PATTERN."""
    descriptor = os.memfd_create("pattern")
    os.write(descriptor, PATTERN)
    return descriptor


def send_pattern(sock: socket.socket, descriptor: int, count: int) -> None:
    """Sends `count` bytes without copying them through this process."""
    sent = 0
    while sent < count:
        offset = sent % BLOCK
        try:
            sent += os.sendfile(sock.fileno(), descriptor, offset, min(BLOCK - offset, count - sent))
        except BlockingIOError:  # a socket with a time-out: it waits for room here
            if not select.select([], [sock], [], sock.gettimeout())[1]:
                raise TimeoutError("the receiver takes nothing") from None


def read_pattern(sock: socket.socket, count: int, before: bytes = b"") -> None:
    """Reads `count` bytes, of which `before` has been read already, and checks every one of them."""
    space = bytearray(BLOCK)
    view = memoryview(space)
    filled = len(before)
    assert filled <= BLOCK
    space[:filled] = before
    left = count - filled
    while True:
        while left and filled < BLOCK:
            got = sock.recv_into(view[filled:], min(left, BLOCK - filled))
            if not got:
                raise Mismatch(f"{left} of {count} bytes missing")
            filled += got
            left -= got
        # The first way copies nothing.
        right = space == PATTERN if filled == BLOCK else space[:filled] == PATTERN[:filled]
        if not right:
            raise Mismatch(f"a wrong byte in the {BLOCK} before the last {left}")
        if not left:
            return
        filled = 0


class Firehose:
    """The origin as a subprocess; a context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.kit.firehose"],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.at = ("127.0.0.1", self.port)
        self.address = f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


# ---- the process -----------------------------------------------------------------------------------------------------


def main() -> None:
    pattern = pattern_file()
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], flush=True)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_serve, args=(sock, pattern), daemon=True).start()


def _serve(sock: socket.socket, pattern: int) -> None:
    buffer = bytearray()
    with contextlib.suppress(OSError), sock:
        while True:
            while (end := buffer.find(b"\r\n\r\n")) < 0:
                data = sock.recv(65536)
                if not data:
                    return
                buffer += data
            head = bytes(buffer[:end]).decode("latin-1")
            del buffer[: end + 4]
            if not _answer(sock, pattern, head, buffer):
                return


def _answer(sock: socket.socket, pattern: int, head: str, buffer: bytearray) -> bool:
    """False when the connection ends with this answer."""
    first, *lines = head.split("\r\n")
    method, target, _ = first.split()
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if method == "POST":
        _receive(sock, fields, buffer)
        return True
    parts = urlsplit(target)
    _, kind, number = parts.path.split("/")
    extra = "".join(f"{name}: {value}\r\n" for name, value in parse_qsl(parts.query))
    senders: dict[str, Callable[[socket.socket, int, int, str], bool]] = {
        "length": _send_length,
        "chunked": _send_chunked,
        "close": _send_close,
    }
    return senders[kind](sock, pattern, int(number), extra)


def _send_length(sock: socket.socket, pattern: int, count: int, extra: str) -> bool:
    sock.sendall(f"HTTP/1.1 200 OK\r\n{extra}Content-Length: {count}\r\n\r\n".encode())
    send_pattern(sock, pattern, count)
    return True


def _send_close(sock: socket.socket, pattern: int, count: int, extra: str) -> bool:
    sock.sendall(f"HTTP/1.1 200 OK\r\n{extra}Connection: close\r\n\r\n".encode())
    send_pattern(sock, pattern, count)
    return False


def _send_chunked(sock: socket.socket, pattern: int, count: int, extra: str) -> bool:
    sock.sendall(f"HTTP/1.1 200 OK\r\n{extra}Transfer-Encoding: chunked\r\n\r\n".encode())
    left = count
    while left:
        size = min(left, BLOCK)  # each chunk begins where the pattern begins
        sock.sendall(f"{size:x}\r\n".encode())
        send_pattern(sock, pattern, size)
        sock.sendall(b"\r\n")
        left -= size
    sock.sendall(b"0\r\n\r\n")
    return True


def _receive(sock: socket.socket, fields: dict[str, str], buffer: bytearray) -> None:
    count = int(fields["content-length"])
    have = bytes(buffer[: min(len(buffer), count)])
    del buffer[: len(have)]
    try:
        read_pattern(sock, count, have)
        wrong = ""
    except Mismatch as mismatch:
        wrong = str(mismatch)
    body = json.dumps({"length": count, "wrong": wrong}).encode()
    sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


if __name__ == "__main__":
    main()
