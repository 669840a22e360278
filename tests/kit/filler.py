"""Fills a proxy's store over sockets: an origin whose bodies are as long as their target says, and an asking client.

Fast, for tests that need thousands of stored responses: a thread that answers with canned bytes, a client that sends
the next request when the answer before it is whole.
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

PIECE = 1 << 18


class Sizes:
    """An origin: `/1024/x` is answered by 1,024 bytes that may be stored for an hour; use it as a context manager."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._open:
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = b""
        try:
            while data := sock.recv(65536):
                buffer += data
                while b"\r\n\r\n" in buffer:
                    head, _, buffer = buffer.partition(b"\r\n\r\n")
                    sock.sendall(answer(int(head.split(b"/", 2)[1]), hash(head)))
        except OSError:
            return


def answer(size: int, number: int) -> bytes:
    tag = b"%016x" % (number & (1 << 64) - 1)
    lines = (
        b"HTTP/1.1 200 OK",
        b"Server: Apache-Coyote/1.1",
        b"Content-Type: image/png",
        b"Cache-Control: max-age=3600",
        b'ETag: "%b"' % tag,
        b"Content-Length: %d" % size,
        b"",
        tag + bytes(size - len(tag)),
    )
    return b"\r\n".join(lines)


def fetch(at: tuple[str, int], targets: Iterable[str], fields: bytes = b"") -> None:
    """Each target is asked for and read to its end, over one connection."""
    place = memoryview(bytearray(PIECE))
    with socket.create_connection(at, timeout=30) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for target in targets:
            sock.sendall(b"GET %b HTTP/1.1\r\nHost: shop.example.org\r\n%b\r\n" % (target.encode(), fields))
            _read(sock, place)


def _read(sock: socket.socket, place: memoryview) -> None:
    count = sock.recv_into(place)
    while (end := bytes(place[:count]).find(b"\r\n\r\n")) < 0:
        more = sock.recv_into(place[count:])
        assert more, "the connection ended in a head"
        count += more
    head = bytes(place[:end]).lower()
    assert head.startswith(b"http/1.1 200"), head
    left = int(head.partition(b"content-length:")[2].split(b"\r\n")[0]) - (count - end - 4)
    while left:
        more = sock.recv_into(place)
        assert more, "the connection ended in a body"
        left -= more


def rss_of(pid: int) -> int:
    """Bytes of memory that are the process's own."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private"))


def names(size: int, count: int, first: int = 0) -> list[str]:
    return [f"/{size}/products/pictures/{number}" for number in range(first, first + count)]
