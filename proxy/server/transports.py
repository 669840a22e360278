"""A tunnel between transports, for a client side that is no plain socket: TLS ends with us, so its bytes pass through.

The same interface as `tunnel.LiveTunnel`, at three times its price. TLS cannot be half-closed (uvloop ends it for both
sides at once), so the end of one side, with all it said, ends the other.

Invariants: a side that is full stops the reading of the other; what is told as the end is told once, when both
transports are lost.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, cast

from proxy import errors
from proxy.errors import Failure
from proxy.server.tunnel import RESET, set_keepalive

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.exchange import TunnelOver
    from proxy.wheel import Wheel


class End(asyncio.Protocol):
    """One side. What it receives is written to the other."""

    __slots__ = ("lost", "other", "taken", "transport", "tunnel")
    other: End

    def __init__(self, tunnel: TransportTunnel, transport: asyncio.Transport | None = None) -> None:
        self.tunnel = tunnel
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # or set when it is made
        self.lost = False
        self.taken = 0  # bytes written to it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def write(self, data: bytes) -> None:
        if not self.lost and not self.transport.is_closing():
            self.taken += len(data)
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        self.tunnel.moved()
        self.other.write(data)

    def eof_received(self) -> bool:
        """It sends no more. The other side gets what is written, then its end."""
        if not self.other.lost:
            self.other.transport.close()
        return True

    def pause_writing(self) -> None:
        if not self.other.lost:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.tunnel.moved()
        if not self.other.lost and not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.tunnel.lost(self, reset=exc is not None)


class TransportTunnel:
    """Two transports and the bytes between them. The wheel ends it when nothing has come for `idle` seconds."""

    __slots__ = ("_failure", "_now", "_over", "_wheel", "client", "deadline", "idle", "origin")

    def __init__(
        self, client: asyncio.Transport, over: TunnelOver, idle: float, now: Callable[[], float], wheel: Wheel
    ) -> None:
        self.client = End(self, client)
        self.origin = End(self)
        self.client.other, self.origin.other = self.origin, self.client
        self._over: TunnelOver | None = over
        self._failure: Failure | None = None
        self._now = now
        self._wheel = wheel
        self.idle = idle
        self.deadline = now() + idle

    async def start(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, early: bytes, said: bytes) -> None:
        """The client's transport is paused; from now on its bytes go to the origin's socket."""
        set_keepalive(sock)
        self.client.transport.set_protocol(self.client)
        try:
            await loop.create_connection(lambda: self.origin, sock=sock)
        except OSError:  # it was lost again
            sock.close()
            self.end(None, reset=True)
            return
        self._wheel.watch(self)
        if self.client.lost or self.origin.lost:  # it left while this was made
            self.end(None)
            return
        self.client.transport.write(said)
        if early:
            self.origin.write(early)
        self.client.transport.resume_reading()

    @property
    def holding(self) -> int:
        """Bytes in our memory."""
        return sum(0 if end.lost else end.transport.get_write_buffer_size() for end in (self.client, self.origin))

    def moved(self) -> None:
        self.deadline = self._now() + self.idle

    def lost(self, end: End, *, reset: bool) -> None:
        other = end.other
        if other.lost or other.transport is None:
            self._finish()
        elif reset:
            self.end(None, reset=True)
        else:
            other.transport.close()

    def end(self, failure: Failure | None, *, reset: bool = False) -> None:
        """Both are closed at once; a reset must not look like an end."""
        self._failure = self._failure or failure
        for end in (self.client, self.origin):
            if end.lost or end.transport is None:
                continue
            sock = end.transport.get_extra_info("socket")
            if (reset or end.transport.get_write_buffer_size()) and sock is not None and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            end.transport.abort()

    def _finish(self) -> None:
        over, self._over = self._over, None
        self._wheel.forget(self)
        if over is not None:
            over(self.origin.taken, self.client.taken, self._failure)

    def expired(self, now: float) -> None:
        """The wheel has let go of it."""
        self.end(Failure(errors.TUNNEL_IDLE, f"nothing moved for {self.idle:g} s"))
