"""A client's connection on its way to being a tunnel: its descriptor goes to the pump, and its transport ends.

What is still unsent of earlier answers goes first. TLS ends with us, so such a transport stays (`transports.py`). The
connection itself stays as what is counted, limited and drained. Invariant: the origin's socket has one owner: whoever
asked for the tunnel until `begin` returns, then this or the pump, which tells its end once.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Protocol

from proxy.server.hoard import Holder
from proxy.server.transports import TransportTunnel

if TYPE_CHECKING:
    from proxy.errors import Failure
    from proxy.exchange import TunnelOver
    from proxy.server.front import Front
    from proxy.server.tunnel import LiveTunnel


class Leaving(Holder, Hashable, Protocol):
    """The connection that becomes one."""

    def leave(self) -> bytes:
        """What the client has sent ahead; from here on the connection is watched by others."""

    def became(self, live: LiveTunnel | TransportTunnel) -> None: ...

    def tunnel_over(self) -> None:
        """Both sides are closed."""


class Handover:
    """One tunnel that is to be."""

    __slots__ = ("_front", "_idle", "_leaving", "_origin", "_over", "_waiting", "_wire")

    def __init__(
        self,
        front: Front,
        leaving: Leaving,
        wire: asyncio.Transport,
        origin: socket.socket,
        idle: float,
        over: TunnelOver,
    ) -> None:
        self._front = front
        self._leaving = leaving
        self._wire = wire
        self._origin = origin
        self._idle = idle
        self._over = over
        self._waiting = False  # for what is unsent

    def begin(self, said: bytes) -> None:
        """`said` is the client's answer. Raises OSError: nothing has been said, and the origin is the caller's."""
        wire = self._wire
        if wire.get_extra_info("sslcontext") is not None:
            self._keep_transport(said)
        elif not wire.get_write_buffer_size():
            self._pass_on(said)
        else:
            self._waiting = True
            wire.set_write_buffer_limits(0)
            wire.write(said)  # more is waiting than nothing: `resume_writing` tells when all is out
            if not wire.get_write_buffer_size():
                self.sent()

    def sent(self) -> bool:
        """All is out that was written; True where that was waited for."""
        if not self._waiting:
            return False
        self._waiting = False
        try:
            self._pass_on(b"")
        except OSError:  # no descriptor left, and its client has been told that it has a tunnel
            self._origin.close()
            self._wire.abort()
        return True

    def lost(self) -> None:
        """The client has gone."""
        if self._waiting:
            self._waiting = False
            self._origin.close()

    def _pass_on(self, said: bytes) -> None:
        front, wire, leaving = self._front, self._wire, self._leaving
        raw: Any = wire.get_extra_info("socket")
        client = socket.socket(raw.family, socket.SOCK_STREAM, 0, os.dup(raw.fileno()))
        front.shaper.move(leaving, client)
        early = leaving.leave()
        live = front.pump.start(
            client, self._origin, self._ended, idle=self._idle, early=early, said=said, holder=leaving
        )
        leaving.became(live)
        wire.set_protocol(asyncio.Protocol())  # what ends now is the transport, not the connection
        wire.abort()

    def _keep_transport(self, said: bytes) -> None:
        front = self._front
        early = self._leaving.leave()
        live = TransportTunnel(self._wire, self._ended, self._idle, front.now, front.wheel)
        self._leaving.became(live)
        front.pipeline.spawn(live.start(front.loop, self._origin, early, said))

    def _ended(self, received: int, sent: int, failure: Failure | None) -> None:
        self._over(received, sent, failure)
        self._leaving.tunnel_over()
