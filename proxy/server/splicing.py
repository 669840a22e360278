"""A connection of HTTPS that was taken on its way: its hello is read, never answered, and the bytes go on as they came.

What the hello says decides whether it goes on at all (modes/transparent.py); then it is a tunnel like any other, whose
first bytes are those that were read. It is refused by an alert of TLS and a close, since no page could be shown. What
says nothing within HELLO_TIME, or no hello, is judged by its address alone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from config.schema import TRANSPARENT
from proxy.exchange import Client, Exchange, Tunnel
from proxy.http.message import Fields, RequestHead
from proxy.modes.client_hello import Hello, Unfinished, parse
from proxy.server.handover import Handover

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from proxy.exchange import BodyReader, TunnelOver
    from proxy.http.message import ResponseHead
    from proxy.modes.client_hello import NoHello
    from proxy.server.front import Door, Front
    from proxy.server.transports import TransportTunnel
    from proxy.server.tunnel import LiveTunnel

HELLO_TIME = 5.0  # seconds that a hello is waited for
ACCESS_DENIED = b"\x15\x03\x01\x00\x02\x02\x31"  # a fatal alert, RFC 8446 §6.2


class SplicedConnection(asyncio.Protocol):
    """See the module. To the front and to the spine it is a connection like those of HTTP, with one exchange."""

    __slots__ = (
        "_buffer",
        "_exchange",
        "_front",
        "_gone",
        "_live",
        "_wire",
        "client",
        "deadline",
        "door",
        "trusted",
    )

    def __init__(self, front: Front, door: Door) -> None:
        self._front = front
        self.door = door
        self._wire: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else is called
        self.client: Client = None  # type: ignore[assignment]  # likewise
        self.trusted: frozenset[str] = frozenset()
        self.deadline = 0.0
        self._buffer = bytearray()
        self._exchange: Exchange | None = None
        self._live: LiveTunnel | TransportTunnel | None = None
        self._gone = False

    # ---- the connection ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = transport = cast("asyncio.Transport", transport)
        peer, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self.client = Client(peer[0], peer[1], (local[0], local[1]), self.door.scheme, self.door.index)
        assert self.door.finds is not None
        self.client.destination = self.door.finds(transport)
        front = self._front
        self.deadline = front.now() + HELLO_TIME
        front.wheel.watch(self)
        if not front.opened(self):
            self._wire.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._exchange is None:
            said = parse(bytes(self._buffer))
            if not isinstance(said, Unfinished):
                self._judge(said)

    def expired(self, now: float) -> None:
        """The hello has not come, or not whole."""
        if self._exchange is None and not self._gone:
            self._judge(Unfinished())

    def eof_received(self) -> bool:
        if self._exchange is None:
            self._judge(Unfinished())
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._live is not None:
            return
        self._gone = True
        x = self._exchange
        self._leave()
        if x is not None and x.producer is not None:
            x.producer.client_gone()

    def _leave(self) -> None:
        self._exchange = None
        self._front.wheel.forget(self)
        self._front.closed(self)
        self._front.hoard.forget(self)

    # ---- what becomes of it ------------------------------------------------------------------------------------------

    def _judge(self, said: Hello | Unfinished | NoHello) -> None:
        assert self.door.splices is not None
        front = self._front
        front.wheel.forget(self)
        self._wire.pause_reading()
        way = self.door.splices(said, self.client, front.now() + front.wall_offset)
        self._exchange = x = self._exchange_for(said)
        if isinstance(way, Tunnel):
            front.pipeline.tunnelling.open(x, way)
        else:
            x.site = TRANSPARENT
            front.pipeline.answers.fail(x, way)

    def _exchange_for(self, said: Hello | Unfinished | NoHello) -> Exchange:
        """As if the client had asked for a tunnel: to the name, where one could be read."""
        front, client = self._front, self.client
        address, port = client.destination or client.local
        host = said.name if isinstance(said, Hello) and said.name else f"[{address}]" if ":" in address else address
        request = RequestHead(b"CONNECT", b"", f"{host}:{port}".encode(), b"", None, (1, 1), Fields(()))
        now: Any = front.now()
        return Exchange(client, request, None, self, now, front.pipeline.wall(now))

    # ---- the response writer -----------------------------------------------------------------------------------------

    def tunnel(self, head: ResponseHead, origin: socket.socket, idle: float, over: TunnelOver) -> None:
        """Nothing is said; the bytes that were read go first."""
        Handover(self._front, self, self._wire, origin, idle, over).begin(b"")

    def leave(self) -> bytes:
        early, self._buffer = bytes(self._buffer), bytearray()
        return early

    def became(self, live: LiveTunnel | TransportTunnel) -> None:
        self._live = live

    def tunnel_over(self) -> None:
        self._gone = True
        self._live = None
        self._leave()

    def whole(self, head: ResponseHead, chunks: Sequence[bytes], length: int) -> None:
        """A refusal or failure of ours."""
        if not self._gone:
            self._wire.write(ACCESS_DENIED)
            self._wire.close()

    def reset(self) -> None:
        if self._live is not None:
            self._live.end(None, reset=True)
        elif not self._gone:
            self._wire.abort()

    def shape(self, bandwidth: str) -> None: ...
    def last(self) -> None: ...

    def interim(self, head: ResponseHead) -> None: ...

    def start(self, head: ResponseHead, length: int | None) -> None:
        raise AssertionError("nothing but a tunnel or a refusal comes here")

    def data(self, chunk: bytes) -> None:
        raise AssertionError("see start")

    def end(self) -> None:
        raise AssertionError("see start")

    def upgrade(self, head: ResponseHead) -> BodyReader:
        raise AssertionError("see start")

    congested = False

    # ---- for the front -----------------------------------------------------------------------------------------------

    def move(self, door: Door | None) -> None:
        """After a reload: what has been judged goes on."""
        if door is None or door.splices is None:
            self.close_if_idle()
            return
        self.door = door
        self.client.listener = door.index

    evictable = False

    @property
    def is_tunnel(self) -> bool:
        return self._live is not None

    @property
    def busy(self) -> bool:
        return self._exchange is not None

    @property
    def holding(self) -> int:
        return 0 if self._gone else len(self._buffer) if self._live is None else self._live.holding

    def is_fresh(self, since: float) -> bool:
        """Whether it was made since then and has not said where it goes."""
        return self._exchange is None and not self._gone and self.deadline - HELLO_TIME > since

    def drain(self) -> None: ...

    def close_if_idle(self) -> None:
        if self._exchange is None and not self._gone:
            self._wire.abort()

    def let_go(self) -> None:
        self.cut()

    def cut(self) -> None:
        """At once, whatever is in flight."""
        if self._live is not None:
            self._live.end(None, reset=True)
        elif not self._gone:
            self._wire.abort()
