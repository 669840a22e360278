"""CONNECT: an origin's address is connected to, the client is told so, and from then on bytes go by unread (RFC 9110
§9.3.6).

Whether the client may go there was decided before (modes/), and of which address is judged where it is connected to
(upstream/resolve.py). Here is how many tunnels one client may have, and the books: a tunnel has one line and counts
once, at its end. The bytes are moved by the writer's side (server/tunnel.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING

from proxy import errors
from proxy.errors import Failure, Retry
from proxy.exchange import Outcome
from proxy.http.forwarding import connect_head
from proxy.http.message import Fields, ResponseHead
from proxy.upstream.client import MOST_TRIES
from proxy.upstream.health import Evidence, evidence_of
from proxy.upstream.parent import ask_parent

if TYPE_CHECKING:
    import socket

    from proxy.exchange import Exchange, Origin, Tunnel
    from proxy.pipeline import Pipeline

log = logging.getLogger("tandem")

ESTABLISHED = ResponseHead(200, b"Connection established", Fields())  # a 2xx without framing fields


class Tunnelling:
    """Opens tunnels and closes their books. Invariant: who is counted in is counted out when the exchange ends."""

    def __init__(self, spine: Pipeline) -> None:
        self._spine = spine
        self._open: Counter[str] = Counter()  # by user, or by client address
        self.count = 0  # of all

    def open(self, x: Exchange, way: Tunnel) -> None:
        """The tunnel is under way when this returns, or refused."""
        x.site, x.rule = way.site, way.rule
        who = x.user or x.client.address
        most = self._spine.upstreams.limits.tunnels
        if most and self._open[who] >= most:
            self._spine.answers.fail(x, Failure(errors.TOO_MANY, f"more than {most} tunnels"))
            return
        if not self._spine.upstreams.admits():
            self._spine.answers.fail(x, Failure(errors.TOO_MANY, "no descriptor is left for a tunnel"))
            return
        self._open[who] += 1
        self.count += 1
        x.producer = opening = Opening(self, x, who)
        self._spine.spawn(self._connect(x, way, opening))

    async def _connect(self, x: Exchange, way: Tunnel, opening: Opening) -> None:
        if opening.gone:
            return
        opening.task = asyncio.current_task()
        try:
            if way.pool:
                sock = await self._through_parent(way)
            else:
                sock = await self._spine.upstreams.resolver.connect(way.origin, way.timeouts.connect)
        except Failure as failure:
            opening.failed(failure)
        except Exception as problem:
            log.exception("a tunnel could not be opened")
            opening.failed(Failure(errors.INTERNAL, type(problem).__name__))
        else:
            opening.task = None
            self._established(x, sock, opening)

    async def _through_parent(self, way: Tunnel) -> socket.socket:
        """A tunnel that one of several proxies has opened; where one cannot be reached, another is asked."""
        spine = self._spine
        pool = spine.pools[way.pool]
        tried: tuple[Origin, ...] = ()
        while True:
            hired = pool.hire(spine.now(), None, way.origin.address.encode(), tried, 0.0)
            if hired is None:
                raise Failure(pool.refusal(spine.now(), tried), pool.spec.name)
            peer, _ = hired
            evidence = Evidence.NONE  # of an asker who has left meanwhile
            try:
                sock = await self._ask(peer.origin, way)
            except Failure as failure:
                evidence = evidence_of(failure.kind)
                tried = (*tried, peer.origin)
                if failure.kind.retry is not Retry.ALWAYS or len(tried) >= min(MOST_TRIES, len(pool.spec.origins)):
                    raise
            else:
                evidence = Evidence.GOOD
                return sock
            finally:
                change = pool.release(peer, evidence, spine.now())
                if change is not None:
                    spine.upstreams.changed(change)

    async def _ask(self, parent: Origin, way: Tunnel) -> socket.socket:
        sock = await self._spine.upstreams.resolver.connect(parent, way.timeouts.connect)
        try:
            head = connect_head(way.origin.address.encode(), parent.parent or b"", self._spine.via)
            await ask_parent(sock, head, parent.address, way.timeouts.first_byte)
        except BaseException:
            sock.close()
            raise
        return sock

    def _established(self, x: Exchange, sock: socket.socket, opening: Opening) -> None:
        now = self._spine.now()
        self._spine.upstreams.opened += 1
        try:
            x.upstream = _name_of(sock)
        except OSError as problem:  # it was reset as soon as it was made
            sock.close()
            opening.failed(Failure(errors.UPSTREAM_CLOSED, str(problem)))
            return
        x.outcome = Outcome.TUNNEL
        x.status = ESTABLISHED.status
        x.response = ESTABLISHED
        x.first_byte = now
        try:
            x.writer.tunnel(ESTABLISHED, sock, self._spine.upstreams.limits.tunnel_idle, opening.over)
        except OSError as problem:  # no descriptor left, or the client has just gone
            sock.close()
            x.response = None
            opening.failed(Failure(errors.TOO_MANY, str(problem)))

    def leave(self, who: str) -> None:
        self._open[who] -= 1
        self.count -= 1
        if not self._open[who]:
            del self._open[who]

    def fail(self, x: Exchange, failure: Failure) -> None:
        self._spine.answers.fail(x, failure)

    def close_books(self, x: Exchange) -> None:
        self._spine.answers.close_books(x)


class Opening:
    """The producer of a tunnel's exchange: first while it is connected, then until both sides have ended."""

    __slots__ = ("_room", "_who", "gone", "task", "x")

    def __init__(self, room: Tunnelling, x: Exchange, who: str) -> None:
        self._room = room
        self._who = who
        self.x = x
        self.gone = False
        self.task: asyncio.Task[None] | None = None  # while it connects

    def failed(self, failure: Failure) -> None:
        """Nothing has been said yet."""
        self._room.leave(self._who)
        self._room.fail(self.x, failure)

    def over(self, received: int, sent: int, failure: Failure | None) -> None:
        """Both sides have ended, by themselves or by us."""
        x = self.x
        x.received, x.sent, x.failure = received, sent, failure
        self._room.leave(self._who)
        self._room.close_books(x)

    def writer_drained(self) -> None: ...

    def client_gone(self) -> None:
        """Before the tunnel stood."""
        self.gone = True
        if self.task is not None:
            self.task.cancel()
        self.x.failure = Failure(errors.CLIENT_GONE)
        self._room.leave(self._who)
        self._room.close_books(self.x)


def _name_of(sock: socket.socket) -> str:
    """The address that was connected to."""
    host, port, *_ = sock.getpeername()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
