"""Sends a request to one of a pool's origins, over a kept connection where there is one, and tries again where that
is safe.

Which origin: `pool.py`. What may be repeated: the `retry` of the failure's row in `errors.py`. How a response is
read: `connection.py`. Foreign exceptions of connecting and TLS become rows here and in `resolve.py`, nowhere else.

Invariants: each `started` told to a pool is met by one `finished`; a receiver hears exactly one of end, failed or
upgraded, unless it cancels, after which it hears nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import ssl
from math import inf
from random import random
from typing import TYPE_CHECKING, Protocol

from aiohttp.base_protocol import BaseProtocol
from cachetools import FIFOCache

from proxy import errors
from proxy.errors import Failure, Retry
from proxy.http.message import SAFE
from proxy.upstream.connection import IDLE, UpstreamConnection
from proxy.upstream.health import Evidence, evidence_of

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence

    from config.schema import Limits
    from config.units import MonoTime
    from proxy.exchange import BodyReader, Origin
    from proxy.http.checks import CheckedResponse
    from proxy.http.message import ResponseHead
    from proxy.outbox import Outbox
    from proxy.upstream.pool import Change, Peer, Pool
    from proxy.upstream.resolve import Resolver
    from proxy.wheel import Wheel

MOST_TRIES = 3  # origins asked for one request whose connect fails: enough for a rolling restart of a pool
_GOOD = Evidence.GOOD
MEMO_HEADS = 512  # response heads repeat within a second (Date changes), so few are ever alive


class Receiver(Protocol):
    """Takes the response to one request."""

    def upstream_interim(self, head: ResponseHead) -> None: ...
    def upstream_head(self, checked: CheckedResponse) -> None: ...
    def upstream_data(self, chunk: bytes) -> None: ...
    def upstream_end(self) -> None: ...
    def upstream_whole(self, checked: CheckedResponse, body: bytes) -> None:
        """head, data and end at once."""

    def upstream_failed(self, failure: Failure) -> None: ...
    def upstream_upgraded(self, checked: CheckedResponse, connection: UpstreamConnection, tail: bytes) -> None: ...


class Upstreams:
    """All connections of a worker to origins: those in use and those that wait for the next request."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        wheel: Wheel,
        resolver: Resolver,
        outbox: Outbox,
        context: Callable[[Origin], ssl.SSLContext | None],
        changed: Callable[[Change], None],
    ) -> None:
        self.loop = loop
        self.owner = BaseProtocol(loop)
        self.limits = limits
        self.wheel = wheel
        self.resolver = resolver
        self.outbox = outbox
        self.context = context
        self.changed = changed
        self.now: Callable[[], float] = loop.time
        self.heads: MutableMapping[bytes, CheckedResponse] = FIFOCache(MEMO_HEADS)
        self.head_heads: MutableMapping[bytes, CheckedResponse] = FIFOCache(MEMO_HEADS)
        self._idle: dict[Origin, list[UpstreamConnection]] = {}
        self._all: set[UpstreamConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.most = inf  # connections open; over it, one that waits for the next request is closed for each new one
        self._closing = False
        self.admits: Callable[[], bool] = lambda: True  # there is a descriptor left for another connection
        self._sockets = select.epoll()  # of all connections: who has something unread
        self._asked: list[UpstreamConnection] = []  # kept connections that were taken in this turn of the loop
        outbox.before.append(self._look_before_asking)
        self.opened = self.reused = self.retries = 0  # since the worker last took them over into the counters

    # ---- connections -------------------------------------------------------------------------------------------------

    def take(self, origin: Origin, *, sure: bool = False) -> UpstreamConnection | None:
        """A kept connection that is still good, the one used last: its peer is the least likely to have closed it."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            transport = connection.transport
            # As `usable`, here without a call.
            if (
                connection.state is IDLE
                and not connection.ended
                and transport is not None
                and not transport.is_closing()
                and not (sure and self._stirs(connection))
            ):
                self.reused += 1
                self._asked.append(connection)
                return connection
            connection.close()
        return None

    def _stirs(self, connection: UpstreamConnection) -> bool:
        return any(number == connection.number for number, _ in self._sockets.poll(0))

    def _look_before_asking(self) -> None:
        """What a kept connection has to say before its request leaves is a late byte of its last answer, or its end.

        The kernel is asked once for all requests of a turn (for each it would cost 0.5 µs), right before they leave.
        """
        asked, self._asked = self._asked, []
        if asked:
            stirring = {number for number, _ in self._sockets.poll(0)}
            for connection in asked:
                if connection.number in stirring and connection.is_asking:
                    connection.spoke_early()

    def connect(self, origin: Origin, timeout: float, call: Request) -> None:
        """A new connection is made for the call, which hears `connected` or `connect_failed`, perhaps at once."""
        if not self.admits():
            call.connect_failed(Failure(errors.TOO_MANY, "no descriptor is left for an origin"))
            return
        task = self.loop.create_task(self._connect(origin, timeout, call))
        call.connecting = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, origin: Origin, timeout: float, call: Request) -> None:  # noqa: ASYNC109 - one bound for all steps
        try:
            async with asyncio.timeout(timeout):
                connection = await self._open(origin, timeout)
        except Failure as failure:
            call.connect_failed(failure)
        except TimeoutError:
            call.connect_failed(Failure(errors.CONNECT_TIMEOUT, origin.address))
        except Exception as problem:  # noqa: BLE001 - a fault of ours must not leave a client waiting for ever
            self.loop.call_exception_handler({"message": f"connecting to {origin.address}", "exception": problem})
            call.connect_failed(Failure(errors.INTERNAL, type(problem).__name__))
        else:
            call.connected(connection)

    async def _open(self, origin: Origin, timeout: float) -> UpstreamConnection:  # noqa: ASYNC109 - as above
        context = self.context(origin)
        sock = await self.resolver.connect(origin, timeout)
        name = (origin.tls_name or origin.host) if context is not None else None
        connection = UpstreamConnection(self, origin, self._idle.setdefault(origin, []))
        try:
            await self.loop.create_connection(lambda: connection, sock=sock, ssl=context, server_hostname=name)
        except ssl.SSLError as problem:
            raise Failure(errors.TLS_ERROR, f"{origin.address}: {problem.reason or problem}") from problem
        except OSError as problem:
            raise Failure(errors.CONNECT_ERROR, f"{origin.address}: {problem.strerror or problem}") from problem
        if connection.transport is not None:  # else it is lost already, and its number may be another's
            self._all.add(connection)
            if connection.number >= 0 and not self._sockets.closed:
                self._sockets.register(connection.number, select.EPOLLIN | select.EPOLLRDHUP)
        self.opened += 1
        if len(self._all) > self.most:
            self.spare()
        connection.shelf = self._idle.setdefault(origin, connection.shelf)  # emptied and forgotten meanwhile, perhaps
        return connection

    def spare(self) -> bool:
        """An idle connection was closed, if there is one: of the origin that was turned to longest ago.

        Requests that name origins may name any number of them.
        """
        shelf = next((shelf for shelf in self._idle.values() if shelf), None)
        if shelf is not None:
            shelf[0].close()
        return shelf is not None

    def released(self, connection: UpstreamConnection) -> None:
        """The response is over and the connection may serve another request."""
        if self._closing:
            connection.close()
            return
        connection.limit = self.now() + self.limits.pool_idle
        shelf = connection.shelf
        if not shelf:  # it may have been forgotten since, when another connection was lost
            shelf = connection.shelf = self._idle.setdefault(connection.origin, shelf)
        shelf.append(connection)

    def lost(self, connection: UpstreamConnection) -> None:
        if connection in self._all:
            self._all.discard(connection)
            with contextlib.suppress(OSError, ValueError):  # a closed socket has left by itself
                self._sockets.unregister(connection.number)
        self.wheel.forget(connection)
        shelf = connection.shelf
        if connection in shelf:
            shelf.remove(connection)
        if not shelf and self._idle.get(connection.origin) is shelf:
            del self._idle[connection.origin]

    def retain(self, origins: set[Origin]) -> None:
        """After a reload: kept connections to origins that are no longer configured are closed."""
        for origin in [origin for origin in self._idle if origin not in origins]:
            for connection in list(self._idle.get(origin, ())):
                connection.close()

    @property
    def descriptors(self) -> int:
        """Connections open or being opened."""
        return len(self._all) + len(self._tasks)

    @property
    def counts(self) -> tuple[int, int]:
        """(connections open, of these idle)."""
        return len(self._all), sum(map(len, self._idle.values()))

    async def close(self) -> None:
        """No connection is kept from now on; those in use end with their call."""
        self._closing = True
        for idle in list(self._idle.values()):
            for connection in list(idle):
                connection.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not self._sockets.closed:
            self.outbox.before.remove(self._look_before_asking)
            self._sockets.close()


class Request:
    """One request on its way: an origin is chosen, a connection taken, and once more where the table of errors allows
    it.
    """

    connection: UpstreamConnection | None = None
    connecting: asyncio.Task[None] | None = None
    origin: Origin | None = None
    peer: Peer | None = None  # hired from the pool until the try is over
    repeats: int = 0
    bound = False  # it authenticates its connection (Negotiate, NTLM), which then serves nobody else
    _answered = False
    _avoid: Origin | None = None  # not tried in vain, but another is better
    _fresh = False  # a kept connection has failed: the next try makes its own
    _whole = inf
    _tried: Sequence[Origin] = ()

    def __init__(
        self,
        upstreams: Upstreams,
        pool: Pool,
        receiver: Receiver,
        method: bytes,
        head: bytes | Callable[[Origin], bytes],
        body: BodyReader | None = None,
        session: str | None = None,
        key: bytes = b"",
        upgrade: bytes | None = None,
    ) -> None:
        """`head` is the request's head, or made for the origin once that is chosen."""
        self._upstreams = upstreams
        self._pool = pool
        self.receiver = receiver
        self.method = method
        self._head = head
        self._body = body
        self._session = session
        self._key = key
        self.upgrade = upgrade

    def start(self) -> None:
        """Sends the request; everything else comes through the receiver, possibly before this returns."""
        whole = self._pool.spec.timeouts.whole
        if whole:
            self._whole = self._upstreams.now() + whole
        self._try()

    def _try(self, after: Failure | None = None) -> None:
        """`after` is why the try before was lost; it is told where nobody is left to be asked."""
        upstreams = self._upstreams
        now = self._now()
        pool = self._pool
        tried = self._tried
        avoid = tried if self._avoid is None else (*tried, self._avoid)
        hired = pool.hire(now, self._session, self._key, avoid, random())
        if hired is None and self._avoid is not None:  # nobody else: the same once more, on a new connection
            hired = pool.hire(now, self._session, self._key, tried, random())
        if hired is None:
            self.receiver.upstream_failed(after or Failure(pool.refusal(now, tried), pool.spec.name))
            return
        if after is not None:
            self.repeats += 1
            upstreams.retries += 1
        peer, change = hired
        self.peer = peer
        self.origin = origin = peer.origin
        if change is not None:
            upstreams.changed(change)
        # A body is not sent twice, so its connection is looked at before, the others' when all leave (see below).
        connection = None if self._fresh else upstreams.take(origin, sure=self._body is not None)
        if connection is None:
            upstreams.connect(origin, pool.spec.timeouts.connect, self)
        elif type(self._head) is bytes:  # as in `_send`, without a call
            self.connection = connection
            connection.bound = self.bound
            connection.ask(self, self._head, self._body, pool.spec.timeouts, self._whole)
        else:
            self._send(connection)

    def connected(self, connection: UpstreamConnection) -> None:
        self.connecting = None
        if not connection.usable:  # it has ended, or said something unasked, right behind the handshake
            connection.close()
            self.upstream_failed(Failure(errors.UPSTREAM_CLOSED, "closed before a request"))
            return
        self._upstreams.wheel.watch(connection)
        self._send(connection)

    def connect_failed(self, failure: Failure) -> None:
        self.connecting = None
        self.upstream_failed(failure)

    def _send(self, connection: UpstreamConnection) -> None:
        self.connection = connection
        connection.bound = self.bound
        head = self._head
        if not isinstance(head, bytes):
            assert self.origin is not None
            try:
                head = head(self.origin)
            except Failure as failure:
                connection.close()
                self.upstream_failed(failure)
                return
        connection.ask(self, head, self._body, self._pool.spec.timeouts, self._whole)

    # ---- what the connection says ------------------------------------------------------------------------------------

    def upstream_interim(self, head: ResponseHead) -> None:
        self._answered = True  # a part of an answer, after which nothing is repeated
        self.receiver.upstream_interim(head)

    def upstream_head(self, checked: CheckedResponse) -> None:
        self._answered = True
        self._witness()
        try:
            self.receiver.upstream_head(checked)
        except Exception as problem:  # noqa: BLE001 - see _fault
            self._fault(problem)

    def upstream_data(self, chunk: bytes) -> None:
        try:
            self.receiver.upstream_data(chunk)
        except Exception as problem:  # noqa: BLE001 - see _fault
            self._fault(problem)

    def upstream_end(self) -> None:
        self.connection = None
        self._finished(Evidence.GOOD)
        try:
            self.receiver.upstream_end()
        except Exception as problem:  # noqa: BLE001 - see _fault
            self._fault(problem)

    def _fault(self, problem: Exception) -> None:
        """A fault of ours in taking the answer ends this one exchange, loudly; nobody may be left waiting for it."""
        self._upstreams.loop.call_exception_handler({"message": "taking an answer", "exception": problem})
        self.cancel()
        self.receiver.upstream_failed(Failure(errors.INTERNAL, type(problem).__name__))

    def upstream_whole(self, checked: CheckedResponse, body: bytes) -> None:
        peer, self.peer, self.connection = self.peer, None, None
        assert peer is not None
        upstreams = self._upstreams
        change = self._pool.release(peer, _GOOD, upstreams.now())  # type: ignore[arg-type]  # the loop's clock is MonoTime
        if change is not None:
            upstreams.changed(change)
        try:
            self.receiver.upstream_whole(checked, body)
        except Exception as problem:  # noqa: BLE001 - see _fault
            self._fault(problem)

    def upstream_upgraded(self, checked: CheckedResponse, tail: bytes) -> None:
        assert self.connection is not None
        self._answered = True
        self._witness()
        self.receiver.upstream_upgraded(checked, self.connection, tail)

    def upstream_failed(self, failure: Failure) -> None:
        """The try is lost; another one follows, or the receiver hears of it."""
        connection, self.connection = self.connection, None
        reused = connection is not None and connection.served > 0
        raced = reused and failure.kind is errors.UPSTREAM_CLOSED
        self._finished(evidence_of(failure.kind, reused=reused))
        if failure.kind is errors.STALE_CONNECTION and self._body is None:  # nothing has left: it was not tried at all
            self._upstreams.reused -= 1
            self._fresh = True
            self._try()
            return
        if self._answered or not self._may_repeat(failure):
            self.receiver.upstream_failed(failure)
            return
        # A kept connection that closed unanswered: its origin is well and was closing it (RFC 9112 §9.5), or is dying
        # and may yet take a connection that it will not answer. So another origin, but where the session is at this
        # one.
        if raced:
            self._fresh = True
            self._avoid = None if self._session is not None else self.origin
        elif self.origin is not None:
            self._tried = (*self._tried, self.origin)
        self._try(failure)

    def _may_repeat(self, failure: Failure) -> bool:
        if not self._pool.spec.retry:
            return False
        match failure.kind.retry:
            case Retry.ALWAYS:
                return len(self._tried) + 1 < MOST_TRIES and len(self._pool.spec.origins) > len(self._tried) + 1
            case Retry.IF_SAFE:
                return self._is_repeatable and self.repeats == 0
            case Retry.NEVER:
                return False

    @property
    def _is_repeatable(self) -> bool:
        return self._body is None and self.upgrade is None and self.method in SAFE

    def _finished(self, evidence: Evidence) -> None:
        peer, self.peer = self.peer, None
        assert peer is not None
        change = self._pool.release(peer, evidence, self._now())
        if change is not None:
            self._upstreams.changed(change)

    def _witness(self) -> None:
        """The head has come: a body may take long, and its origin is well meanwhile."""
        assert self.peer is not None
        change = self._pool.hear(self.peer, Evidence.GOOD, self._now())
        if change is not None:
            self._upstreams.changed(change)

    def _now(self) -> MonoTime:
        return self._upstreams.now()  # type: ignore[return-value]  # the loop's clock is MonoTime

    # ---- what the receiver says --------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """The response is not wanted any more: its connection is closed, and the receiver hears nothing."""
        if self.connecting is not None:
            self.connecting.cancel()
            self.connecting = None
            self._finished(Evidence.NONE)
        elif self.connection is not None:
            connection, self.connection = self.connection, None
            connection.close()
            self._finished(Evidence.NONE)

    def pause(self) -> None:
        if self.connection is not None:
            self.connection.pause()

    def resume(self) -> None:
        if self.connection is not None:
            self.connection.resume()
