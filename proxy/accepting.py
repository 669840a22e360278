"""The listening sockets of a worker: which of them are served, and by which door.

In two phases, like all that a reload exchanges: `prepare` makes servers for what is new, which accept nothing yet;
`commit` lets them, and closes what is no longer listened to. A socket that stays is not touched, and its server gets
new certificates in place. Before a drain whoever the kernel has connected already is served: a close would reset them.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.server.doors import acceptor

if TYPE_CHECKING:
    import asyncio
    import socket
    import ssl
    from collections.abc import Callable, Coroutine, Sequence

    from config.units import Listen
    from proxy.server.front import Door, Front
    from proxy.server.protocol import ClientConnection
    from proxy.server.splicing import SplicedConnection
    from proxy.server.tls import ServerTls
    from proxy.service import Listener

MOST_QUEUED = 1024  # connections that wait in the kernel to be accepted


@dataclass(frozen=True, slots=True)
class Serving:
    """One listening socket being served."""

    scheme: bytes
    server: asyncio.Server
    sock: socket.socket
    accepted: Callable[[], ClientConnection | SplicedConnection]  # makes the protocol of one connection
    tls: ssl.SSLContext | None


@dataclass(frozen=True, slots=True)
class _Next:
    """What is to be served after the commit."""

    doors: dict[Listen, Door]
    tls: dict[Listen, ServerTls]
    serials: frozenset[int]
    new: dict[int, Serving] = field(default_factory=dict)  # by serial


class Accepting:
    """Invariant: nothing is accepted through a door that is not committed."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        front: Front,
        spawn: Callable[[Coroutine[None, None, None]], None],
    ) -> None:
        self._loop = loop
        self._front = front
        self._spawn = spawn
        self.doors: dict[Listen, Door] = {}  # the committed ones
        self._tls: dict[Listen, ServerTls] = {}
        self._serving: dict[int, Serving] = {}
        self._next: _Next | None = None

    async def prepare(
        self, listeners: Sequence[Listener], doors: dict[Listen, Door], tls: dict[Listen, ServerTls]
    ) -> None:
        """Raises OSError; whatever it raises, `abort` is to be called."""
        wanted = [listener for listener in listeners if listener.listen in doors]
        self._next = coming = _Next(doors, tls, frozenset(listener.serial for listener in wanted))
        for listener in wanted:
            door = doors[listener.listen]
            serving = self._serving.get(listener.serial)
            if serving is None or serving.scheme != door.scheme:
                coming.new[listener.serial] = await self._open(listener, door, coming)

    async def _open(self, listener: Listener, door: Door, coming: _Next) -> Serving:
        listen = listener.listen
        accepted = acceptor(self._front, lambda: self.doors[listen])
        sock = listener.open()
        tls = (self._tls.get(listen) or coming.tls[listen]) if door.scheme == b"https" else None
        context = tls.context if tls is not None else None
        server = await self._loop.create_server(
            accepted,
            sock=sock,
            ssl=context,
            backlog=MOST_QUEUED,
            start_serving=False,
            # Before its handshake a connection is no client's yet, and counts towards no limit but this one.
            ssl_handshake_timeout=door.limits.head_time if context is not None else None,
        )
        return Serving(door.scheme, server, sock, accepted, context)

    def commit(self) -> None:
        coming, self._next = self._next, None
        assert coming is not None
        for listen, new in coming.tls.items():
            old = self._tls.get(listen)
            if old is not None:  # it stays with its server: new certificates go into it
                old.adopt(new)
                coming.tls[listen] = old
        self.doors, self._tls = coming.doors, coming.tls
        for serial in [one for one in self._serving if one not in coming.serials or one in coming.new]:
            self._serving.pop(serial).server.close()
        for serial, serving in coming.new.items():
            self._serving[serial] = serving
            self._spawn(serving.server.start_serving())

    def abort(self) -> None:
        coming, self._next = self._next, None
        if coming is not None:
            for serving in coming.new.values():
                serving.server.close()

    async def drain(self) -> None:
        """Everything is closed, and whoever was connected by then is a client."""
        for serving in self._serving.values():
            await self._accept_queued(serving)
            serving.server.close()

    async def _accept_queued(self, serving: Serving) -> None:
        for _ in range(MOST_QUEUED):
            try:
                sock, _ = serving.sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # gone while it waited
                continue
            sock.setblocking(False)
            with suppress(OSError):
                await self._loop.connect_accepted_socket(serving.accepted, sock, ssl=serving.tls)
