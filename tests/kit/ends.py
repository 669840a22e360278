"""Ends of tunnels that tests talk to: a server that hands out each connection it accepts, and a CONNECT to it."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Self

from proxy.exchange import Origin, Tunnel
from tests.kit.inproc import Stack
from tests.kit.raw import TIMEOUT, Connection

if TYPE_CHECKING:
    from proxy.exchange import Client
    from proxy.http.message import RequestHead


class Listener:
    """Accepts connections one by one, when it is asked to; use it as a context manager."""

    def __init__(self, receive_buffer: int = 0) -> None:
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(256)
        self.sock.settimeout(TIMEOUT)
        self._open: list[Connection] = []

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.sock.getsockname()[1]}"

    def accept(self) -> Connection:
        sock, _ = self.sock.accept()
        connection = Connection.of(sock)
        self._open.append(connection)
        return connection

    def tunnel(
        self, at: tuple[str, int], *lines: str, early: bytes = b"", **options: object
    ) -> tuple[Connection, Connection]:
        """(client, its other end) of a tunnel through the proxy at this address; `options` are Connection's."""
        client = Connection(at, **options)  # type: ignore[arg-type]  # see above
        self._open.append(client)
        client.send(connect_request(self.name, *lines) + early)
        end = self.accept()
        assert client.read_response("CONNECT").status == 200
        return client, end

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.close()


def connect_request(name: str, *lines: str, version: str = "1.1") -> bytes:
    """CONNECT to host:port."""
    return "\r\n".join([f"CONNECT {name} HTTP/{version}", f"Host: {name}", *lines, "", ""]).encode()


class ToAnywhere:
    """A mode that tunnels wherever CONNECT says."""

    def site_of(self, authority: bytes, listener: int) -> None:
        """No request belongs to a site."""

    def route(self, request: RequestHead, client: Client, user: str = "", wall: float = 0.0) -> Tunnel:
        host, _, port = request.authority.decode().rpartition(":")
        return Tunnel("forward", "some", Origin("https", host.strip("[]"), int(port)))


def tunnel_stack(limits: str = "", **options: object) -> Stack:
    """A worker's objects whose first door takes CONNECT to anywhere."""
    text = f'[[site]]\nlisten = "127.0.0.1:PORT0"\nupstream = ["127.0.0.1:9"]\n[limits]\n{limits}\n'
    stack = Stack(text, **options)  # type: ignore[arg-type]  # options are Stack's

    def open_up() -> None:
        stack.pipeline.mode = ToAnywhere()  # type: ignore[assignment]  # all that is asked of a mode
        stack.doors[0].mode = "forward"

    stack.call(open_up)
    return stack
