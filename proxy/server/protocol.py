"""One client connection over HTTP/1.1: heads are cut out and given to the C parser, answers are framed, the memo is
tried first.

The hot path is `data_received` on an idle connection: the bytes that came are looked up in the memo and its answer is
written, no parsing, no task. Everything else takes the long way: cut one head (RFC 9112 §2), parse, check
(`http/checks.py`), plan, spine. An exchange runs at a time, so pipelined requests are answered in order (RFC 9112
§9.3.2). This connection is the response writer of its exchange and the source of its request body.

Invariants: the parser is never fed more than one head's bytes; nothing is read as a request after a message that
closes (RFC 9112 §9.6); `_quick` is True only while nothing is buffered, in flight, congested, upgraded or closing.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from math import inf
from typing import TYPE_CHECKING, Any, cast

from proxy import errors, parsers
from proxy.cache.memo import COPY_BELOW, Answer
from proxy.chunked import ChunkedBody
from proxy.errors import Failure
from proxy.exchange import NO_BODY, Client, Exchange, Outcome
from proxy.http.serialise import framing_lines, response_bytes
from proxy.outbox import Sender
from proxy.server.body import RawBody, RequestBody
from proxy.server.handover import Handover
from proxy.server.hoard import LIGHT
from proxy.server.unread import Unread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.cache.memo import Memo
    from proxy.exchange import BodyReader, TunnelOver
    from proxy.http.checks import CheckedRequest
    from proxy.http.message import ResponseHead
    from proxy.plan import Plan
    from proxy.server.front import Door, Front
    from proxy.server.transports import TransportTunnel
    from proxy.server.tunnel import LiveTunnel

STEP = 5.0  # seconds: how often the wheel looks at a connection, so that a nearer limit needs no work of its own
TURN = 16  # requests answered in one turn of the loop before others have theirs
AHEAD = 64 * 2**10  # bytes taken ahead of the answer being written
HIGH_WATER = 64 * 2**10  # bytes buffered towards a client before its producer is held
LINGER_TIME = 2.0  # seconds of draining after a last answer (RFC 9112 §9.6), and
LINGER_BYTES = 2**20  # bytes; a client that goes on longer gets its reset
HALF_CLOSED = 0.25  # seconds a client that closed its side is still waited for: it cannot be told from one that left
ABORT_LINGER = struct.pack("ii", 1, 0)
FETCHED = frozenset({Outcome.MISS, Outcome.BYPASS})  # answers whose bytes are in memory for this client's sake


class ClientConnection(Sender, asyncio.Protocol):
    """See the module. The wheel looks in every STEP seconds (`deadline`); what counts is `limit`."""

    __slots__ = (
        "_advancing",
        "_body",
        "_buffer",
        "_checked",
        "_chunked",
        "_closing",
        "_congested",
        "_drained",
        "_exchange",
        "_front",
        "_gone",
        "_handing",
        "_head_only",
        "_keep",
        "_later",
        "_lingered",
        "_live",
        "_made",
        "_memo",
        "_owes",
        "_quick",
        "_raw",
        "_reading_paused",
        "_started",
        "_until_close",
        "_upgraded",
        "_waiting_eof",
        "_wire",
        "client",
        "deadline",
        "door",
        "limit",
        "transport",
        "trusted",
    )

    def __init__(self, front: Front, door: Door) -> None:
        super().__init__(front.outbox)
        self._front = front
        self.door = door
        self._wire: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else is called
        self.client: Client = None  # type: ignore[assignment]  # likewise
        self.deadline = 0.0
        self.limit = inf
        self._made = 0.0
        self.trusted: frozenset[str] = frozenset()
        self._memo: Memo = None  # type: ignore[assignment]  # likewise
        self._buffer = Unread()
        self._exchange: Exchange | None = None
        self._checked: CheckedRequest | None = None
        self._body: RequestBody | RawBody | None = None
        self._raw: bytes | None = None  # the head of the exchange in flight, if its answer may go into the memo
        self._quick = False
        self._advancing = False
        self._keep = True
        self._started = False
        self._chunked = False
        self._head_only = False
        self._until_close = False
        self._upgraded = False
        self._handing: Handover | None = None
        self._live: LiveTunnel | TransportTunnel | None = None  # has taken the transport's place
        self._closing = False
        self._gone = False
        self._congested = False
        self._owes = False  # what it does not take is held for it alone
        self._reading_paused = False
        self._later: bytes | None = None  # came in this turn and is for the next; nothing more is read meanwhile
        self._waiting_eof = False
        self._drained = 0  # bytes of the answer the client had taken when it was looked at last
        self._lingered = 0

    # ---- the connection ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = self._wire = transport = cast("asyncio.Transport", transport)  # uvloop's is registered as none
        transport.set_write_buffer_limits(HIGH_WATER)
        peer, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        address, port = (peer[0], peer[1]) if isinstance(peer, tuple) else ("unix", 0)
        here = (local[0], local[1]) if isinstance(local, tuple) else ("unix", 0)
        self.client = Client(address, port, here, self.door.scheme, self.door.index)
        if self.door.finds is not None:
            self.client.destination = self.door.finds(transport)
        front = self._front
        now = front.now()
        self._made = now
        self.limit = now + front.limits.keepalive
        self.deadline = min(self.limit, now + STEP)
        front.wheel.watch(self)
        self.trusted, self._memo = front.kind_of(self.door, self.client)
        self._quick = not front.draining
        if not front.opened(self):
            self._quick = False
            self._refuse(Failure(errors.TOO_MANY, "connections of this client or in all"))
            if front.brims:  # who waits for its farewell to arrive has a descriptor too
                self._wire.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = self._closing = True
        self._quick = False
        if self._handing is not None:
            self._handing.lost()
        front = self._front
        front.closed(self)
        front.wheel.forget(self)
        front.hoard.forget(self)
        x = self._exchange
        if x is None:
            return
        body = self._body
        if body is not None and not body.complete:
            body.broken(Failure(errors.CLIENT_GONE, "client left inside its request"))
        if self._exchange is x and x.producer is not None:
            x.producer.client_gone()
        self._exchange = self._body = None

    def eof_received(self) -> bool:
        """The client sends no more. Whether it still listens cannot be seen, so it is waited for, a little."""
        if self._upgraded and isinstance(self._body, RawBody):
            self._body.finish()
            return self._wire.can_write_eof()
        if self._exchange is None or self._closing or (self._body is not None and not self._body.complete):
            return False
        if not self._wire.can_write_eof():
            return False  # TLS ends for both sides at once
        self._waiting_eof = True
        self._front.loop.call_later(HALF_CLOSED, self._half_closed_long_enough)
        return True

    def _half_closed_long_enough(self) -> None:
        if not self._gone and self._exchange is not None and not self._started:
            self._wire.abort()

    # ---- what comes in -----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._quick:
            try:
                plan = self._memo[data]
            except KeyError:
                pass
            else:
                answer = plan.answer
                if answer is not None:
                    now = self._front.now()
                    if now < answer.until:
                        self._repeat(answer, now)
                        return
                self._begin(data, plan)
                return
        self._receive(data)

    def _repeat(self, answer: Answer, now: float) -> None:
        """The memo's answer, once more: the same bytes, counters and log line as on the long way."""
        front = self._front
        self.limit = now + front.limits.keepalive  # before the write, which may find the client congested
        if answer.parts is None:
            if self.pending or self._advancing:  # one of several: they go out together
                self.send(answer.payload)
            else:  # nothing to join it with: at once is cheaper (measured: 6.0 against 6.4 µs a hit)
                self._wire.write(answer.payload)
        else:
            for part in answer.parts:
                self.send(part)
        front.observer.repeated(answer.template, self.client, now)  # type: ignore[arg-type]  # the loop's clock is MonoTime
        front.store.touch(answer.stored)

    def _receive(self, data: bytes) -> None:
        """Body bytes go to the body; the rest is looked at as the next request's."""
        if self._closing:
            self._linger(len(data))
            return
        body = self._body
        if body is not None and not body.complete:
            self._touch_body()
            data = self._feed(body, data)
            if body.complete and self._body is body and not self._congested:
                self.limit = inf  # from here on it is the origin's time
            if not data:
                return
        if not self._buffer:
            self._quick = False
            if self._exchange is None:
                self._expect_head()
        self._buffer += data
        if self._exchange is None:
            self._advance()
        elif len(self._buffer) > AHEAD:
            self._pause_reading()
        if len(self._buffer) > LIGHT:
            self._front.hoard.weigh(self)

    def _feed(self, body: RequestBody | RawBody, data: bytes) -> bytes:
        """As `body.feed`, in turns where it is much work: others are served in between (RFC 9112 §7.1 bounds no chunk
        from below).
        """
        turn = body.turn
        if len(data) > turn:
            if self._later is None and not self._reading_paused:
                self._wire.pause_reading()
            self._later = data[turn:]
            self._front.loop.call_soon(self._take_up)
            data = data[:turn]
        return body.feed(data)

    def _take_up(self) -> None:
        data, self._later = self._later, b""
        if self._gone:
            return
        assert data
        self._receive(data)
        if not self._later:
            self._later = None
            if not self._reading_paused and not self._gone:
                self._wire.resume_reading()

    def _expect_head(self) -> None:
        self.limit = self._front.now() + self._front.limits.head_time
        self._hasten()

    def _hasten(self) -> None:
        """The wheel looks in when the limit is reached, not only at its next round."""
        if self.limit < self.deadline:
            self.deadline = self.limit
            self._front.wheel.watch(self)

    def _advance(self) -> None:
        """Requests are taken from the buffer, one after the other, until one is under way or no whole head is left."""
        if self._advancing:
            return
        self._advancing = True
        try:
            for _ in range(TURN):
                if self._exchange is not None or self._closing or self._congested or not self._take_one():
                    break
            else:
                self._front.loop.call_soon(self._advance)
        finally:
            self._advancing = False
        if self._exchange is None and not self._closing:
            self._rest()

    def _rest(self) -> None:
        """Nothing is in flight: the connection waits for the next request, or for the rest of one."""
        if self._congested:
            return  # its patience runs; reading goes on when the client takes bytes again
        if self._reading_paused and len(self._buffer) <= AHEAD:
            self._resume_reading()
        if self._buffer:
            if self.limit == inf:  # it came behind the request that was answered just now
                self._expect_head()
            return
        self._buffer.rewind()
        front = self._front
        if self._waiting_eof or front.draining:
            self._close()
            return
        self.limit = front.now() + front.limits.keepalive
        self._quick = True

    def _take_one(self) -> bool:
        """One request is taken; False where its head is not all here yet."""
        front = self._front
        try:
            raw = self._buffer.take_head(front.limits)
        except Failure as failure:
            self._refuse(failure)
            return False
        if raw is None:
            return False
        try:
            plan = self._memo[raw]
        except KeyError:
            self._begin_new(raw)
        else:
            answer = plan.answer
            now = front.now()
            if answer is not None and now < answer.until and not front.draining:
                self._buffer.empty_lines = 0
                self._repeat(answer, now)
                if not self._congested:
                    self.limit = inf  # `_rest` sees what there is to wait for
            else:
                self._begin(raw, plan)
        return True

    def _begin_new(self, raw: bytes) -> None:
        """A head not seen before: the parser and the checks decide what it is."""
        front = self._front
        try:
            checked, chunks = self._parse(raw)
        except Failure as failure:
            self._refuse(failure)
            return
        if checked.chunked or checked.content_length:
            self._body = RequestBody(self, None if checked.chunked else checked.content_length, chunks)
            self._body.measure(front.now())
        plan = front.pipeline.plan(checked, self.client, self.trusted)
        if self._body is None and len(raw) <= front.longest_kept_head and plan.keepable:
            self._memo.remember_plan(raw, plan)
        if plan.bandwidth:
            self.shape(plan.bandwidth)
        self._begin(raw, plan)

    def _parse(self, raw: bytes) -> tuple[CheckedRequest, ChunkedBody | None]:
        front = self._front
        parser = front.take_parser()
        message, payload = parsers.parse_request_head(parser, raw, front.limits)
        checked = self.door.check(raw, message, self.client)
        if checked.chunked:
            return checked, ChunkedBody(parser, payload, front.limits.chunk_overhead)
        if not checked.content_length and not message.upgrade and not message.should_close:
            front.keep_parser(parser)  # it has seen one whole message and stands at the start of another
        return checked, None

    def _begin(self, raw: bytes, plan: Plan) -> None:
        """An exchange starts; it may be over before this returns."""
        front = self._front
        checked = plan.checked
        head = checked.head
        now = front.now()
        self.limit = inf
        self._buffer.empty_lines = 0
        self._quick = self._started = self._chunked = self._until_close = False
        self._checked = checked
        self._keep = checked.keep_alive and not front.draining
        self._head_only = head.method == b"HEAD"
        self._raw = raw if self._keep and self._body is None and head.version == (1, 1) else None
        x = Exchange(self.client, plan.request, self._body, self, now, front.wall_offset + now, plan)  # type: ignore[arg-type]  # the loop's clock is MonoTime
        self._exchange = x
        body = self._body
        if body is not None:
            if self._buffer:
                data = bytes(self._buffer)
                self._buffer.clear()
                self._buffer += self._feed(body, data)
            if self._exchange is not x or self._closing:
                return
            self._touch_body()
        front.pipeline.begin(x)

    def _touch_body(self) -> None:
        body = self._body
        if body is not None and not body.complete and not self._upgraded and not self._reading_paused:
            self.limit = self._front.now() + self._front.limits.body_idle

    # ---- the request body's source -----------------------------------------------------------------------------------

    def pause_body(self) -> None:
        self._pause_reading()
        self.limit = inf  # whoever holds the body has limits of its own
        self._front.hoard.weigh(self)

    def resume_body(self) -> None:
        self._resume_reading()
        self._touch_body()
        if isinstance(self._body, RequestBody):
            self._body.measure(self._front.now())

    def body_broken(self, failure: Failure) -> None:
        """Nothing that follows can be read as a request. A sink hears it too; without one the answer is given here."""
        self._keep = False
        self._buffer.clear()
        x = self._exchange
        if x is not None and not self._started and not self._gone:
            self._front.pipeline.body_refused(x, failure)

    def _pause_reading(self) -> None:
        if not self._reading_paused and not self._gone:
            self._reading_paused = True
            if self._later is None:
                self._wire.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and not self._gone:
            self._reading_paused = False
            if self._later is None:
                self._wire.resume_reading()

    # ---- the response writer -----------------------------------------------------------------------------------------

    @property
    def congested(self) -> bool:
        return self._congested

    def interim(self, head: ResponseHead) -> None:
        """Interim answers are for HTTP/1.1 clients only (RFC 9110 §15.2)."""
        assert self._checked is not None
        if self._checked.head.version == (1, 1) and not self._gone:
            self.send(response_bytes(head.status, head.reason, head.fields.lines))

    def start(self, head: ResponseHead, length: int | None) -> None:
        self._started = True
        if not self._gone:
            self.send(self._frame(head, length))

    def _frame(self, head: ResponseHead, length: int | None) -> bytes:
        """The head as it is written, framing decided (RFC 9112 §6.3): worked out once for a head that comes again."""
        assert self._checked is not None
        body = self._body
        if self._front.draining or (body is not None and not body.complete and length is not None):
            self._keep = False
        old = self._checked.head.version != (1, 1)
        if length is None and not self._head_only:
            self._chunked, self._until_close = not old, old
            self._keep = self._keep and not old
        key = (length, old, self._keep, self._head_only)
        derived = head.derived
        if derived is None:
            derived = head.derived = {}
        frame = derived.get(key)
        if frame is None:
            known = None if length == NO_BODY else length
            lines = framing_lines(known, chunked=self._chunked, keep=self._keep, old=old)
            derived[key] = frame = response_bytes(head.status, head.reason, head.fields.lines + lines)
        return frame  # type: ignore[return-value]  # under this kind of key there are only frames

    def data(self, chunk: bytes) -> None:
        if self._gone or self._head_only:
            return
        if self._chunked:
            self.send(b"%x\r\n" % len(chunk))
            self.send(chunk)
            self.send(b"\r\n")
        else:
            self.send(chunk)

    def end(self) -> None:
        if self._upgraded:
            self._exchange = self._body = None
            self._close()
            return
        if self._chunked and not self._gone:
            self.send(b"0\r\n\r\n")
        self._over()

    def whole(self, head: ResponseHead, chunks: Sequence[bytes], length: int) -> None:
        self._started = True
        x = self._exchange
        assert x is not None
        if self._gone:
            self._over()
            return
        frame = self._frame(head, length)
        if self._head_only:
            chunks = ()
        if x.reusable is not None and self._raw is not None and self._keep:
            self._remember(x, self._raw, frame, chunks)
        if len(chunks) == 1 and length <= COPY_BELOW:
            self.send(frame + chunks[0])
        else:
            self.send(frame)
            for chunk in chunks:
                self.send(chunk)
        if self._body is None and self._keep and not self._advancing and not self._buffer:
            self._exchange = self._raw = None  # as in `_over`, without a call
            self._rest()
        else:
            self._over()

    def _remember(self, x: Exchange, raw: bytes, frame: bytes, chunks: Sequence[bytes]) -> None:
        assert x.reusable is not None
        assert x.plan is not None
        front = self._front
        if front.memo_allowed:
            plan, until = x.plan, float(x.reusable.until)
            kept = self._memo.get(raw) if plan.size == 0 else None
            if kept is not None and kept.proven is plan:  # for as long as the name is proved, it goes the same way
                plan, until = kept, min(until, kept.proved_until)
            answer = Answer(frame, chunks, x.reusable.stored, until, front.observer.template(x))
            self._memo.remember_answer(raw, plan, answer)

    def shape(self, bandwidth: str) -> None:
        self._front.shaper.join(self, bandwidth, self._wire.get_extra_info("socket"))

    def last(self) -> None:
        self._keep = False

    def reset(self) -> None:
        self._keep = False
        if self._live is not None:
            self._live.end(None, reset=True)
            return
        self._exchange = self._body = None
        if self._gone:
            return
        self._closing = True
        if self._until_close or not self._started:
            # A plain close would look like a good end (RFC 9112 §8): the client gets a reset.
            sock: Any = self._wire.get_extra_info("socket")
            if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT_LINGER)
            self._wire.abort()
        else:
            self._close()

    def upgrade(self, head: ResponseHead) -> BodyReader:
        """After the 101 all bytes are raw; what the client has sent ahead comes first."""
        assert self._exchange is not None
        self._started = self._upgraded = True
        self._keep = False
        self._chunked = self._head_only = False
        self.send(response_bytes(head.status, head.reason, head.fields.lines))
        self._body = body = RawBody(self, bytes(self._buffer))
        self._buffer.clear()
        self.limit = inf
        self._resume_reading()
        return body

    def tunnel(self, head: ResponseHead, origin: socket.socket, idle: float, over: TunnelOver) -> None:
        """All bytes are others' from now on; this connection stays as what is counted, limited and drained."""
        assert self._exchange is not None
        self._started = self._upgraded = True
        self._keep = False
        self._pause_reading()
        self.flush()
        self._handing = Handover(self._front, self, self._wire, origin, idle, over)
        self._handing.begin(response_bytes(head.status, head.reason, head.fields.lines))

    def leave(self) -> bytes:
        early, self._buffer = bytes(self._buffer), Unread()
        self.transport = None
        self._front.wheel.forget(self)
        return early

    def became(self, live: LiveTunnel | TransportTunnel) -> None:
        self._live = live

    def tunnel_over(self) -> None:
        self._gone = self._closing = True
        self._live = self._exchange = self._handing = None
        self._front.closed(self)
        self._front.hoard.forget(self)

    def _over(self) -> None:
        """The answer is written; what comes next is another request, or the end."""
        body, self._body = self._body, None
        self._exchange = self._raw = None
        if self._gone:
            return
        if body is not None:
            body.detach()
            if not body.complete:
                self._keep = False  # what follows is the rest of a body nobody reads (RFC 9112 §9.3)
        if not self._keep:
            self._finish_closing(unread=bool(self._buffer or self._later) or (body is not None and not body.complete))
        elif not self._advancing:
            if self._buffer:
                self._advance()
            else:
                self._rest()

    # ---- ends --------------------------------------------------------------------------------------------------------

    def _refuse(self, failure: Failure) -> None:
        """No exchange came of these bytes: one answer, and the connection ends (RFC 9112 §2.2)."""
        self._buffer = Unread()
        if self._gone:
            return
        head, body = self._front.pipeline.refuse_unread(self.client, self, failure)
        lines = (*head.fields.lines, (b"Content-Length", b"%d" % len(body)), (b"Connection", b"close"))
        self.send(response_bytes(head.status, head.reason, lines) + body)
        self._finish_closing(unread=True)

    def _finish_closing(self, *, unread: bool) -> None:
        """Closes so that the last answer arrives: unread bytes would turn the close into a reset that eats it (RFC
        9112 §9.6).
        """
        self._closing = True
        self._quick = False
        self._buffer = Unread()
        if not unread or not self._wire.can_write_eof():
            self._close()
            return
        self.flush()
        self._wire.write_eof()
        self._resume_reading()
        if not self._congested:  # else it gets the time that it takes to read
            self._wait_for_end()

    def _wait_for_end(self) -> None:
        """All is written, and so is our side's end; the client has a moment to see it and to end its own."""
        self.limit = self._front.now() + LINGER_TIME
        self._hasten()

    def _linger(self, size: int) -> None:
        self._lingered += size
        if self._lingered > LINGER_BYTES:
            self._wire.abort()

    def _close(self) -> None:
        """What is written goes out first; a client that does not take it is cut after its patience."""
        self._closing = True
        self._quick = False
        if not self._gone:
            self.limit = self._front.now() + self._front.limits.client_idle
            self.flush()
            self._wire.close()

    def move(self, door: Door | None) -> None:
        """After a reload: the same address as it is now; None where nothing listens there any more."""
        if door is None:
            self._keep = False
            self.close_if_idle()
            return
        self.door = door
        self._raw = None  # the plan in flight is of the configuration before: no memo may learn it
        self.client.listener = door.index
        self.client.said = None
        self.trusted, self._memo = self._front.kind_of(door, self.client)

    @property
    def is_tunnel(self) -> bool:
        return self._upgraded

    @property
    def evictable(self) -> bool:
        return self._quick

    def drain(self) -> None:
        """The memo's answers say nothing of the end: from now on all goes the long way."""
        self._quick = False

    def is_fresh(self, since: float) -> bool:
        """Whether it was made since then and has not asked yet: its first request may be on its way.

        Read off the limit, which every request changes, so that requests do no work for it.
        """
        asked = self.busy or self.limit != self._made + self._front.limits.keepalive
        return not (asked or self._closing) and self._made > since

    def close_if_idle(self) -> None:
        """For a drain: a connection without request in flight or under way ends."""
        if self._exchange is None and not self._buffer and not self._closing:
            self._close()

    @property
    def holding(self) -> int:
        """Bytes that came from this client and wait, or wait for it."""
        if self._gone:  # whoever took its body may still speak of it
            return 0
        if self._live is not None:
            return self._live.holding
        size = len(self._buffer) + len(self._later or b"")
        if self._body is not None:
            size += self._body.holding
        return size + self._wire.get_write_buffer_size() if self._owes else size

    def let_go(self) -> None:
        """Too much is held for clients, and by this one (hoard.py)."""
        if self._gone:
            return
        self._front.turned_away()
        if self._live is not None:
            self._live.end(Failure(errors.TOO_MANY, "too much is held for clients"), reset=True)
        elif self._exchange is None and not self._closing:
            self._refuse(Failure(errors.TOO_MANY, "too much is held for clients"))
        else:
            self._wire.abort()

    def cut(self) -> None:
        """At once, whatever is in flight."""
        if self._live is not None:
            self._live.end(Failure(errors.STOPPING), reset=True)
        elif not self._gone:
            self._wire.abort()

    @property
    def busy(self) -> bool:
        return self._exchange is not None or bool(self._buffer)

    # ---- patience ----------------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        self._congested = True
        self._quick = False
        self.limit = self._front.now() + self._front.limits.client_idle
        self._drained = self._wire.get_write_buffer_size()
        x = self._exchange
        if x is None:
            self._pause_reading()
        elif x.outcome in FETCHED:
            self._owes = True
            self._front.hoard.weigh(self)

    def resume_writing(self) -> None:
        self._congested = self._owes = False
        self.limit = inf
        if self._handing is not None and self._handing.sent():
            return
        x = self._exchange
        if x is None:
            if self._closing:
                self._wait_for_end()
            else:
                self._advance()
            return
        self._touch_body()
        if x.producer is not None:
            x.producer.writer_drained()

    def expired(self, now: float) -> None:
        """The wheel looks in: whoever has stood still for too long ends."""
        if self._gone:
            return
        if (self._congested or self._closing) and self._takes_something():
            self.limit = now + self._front.limits.client_idle
        if now >= self.limit or self._too_slow(now):
            self._lose_patience()
        self.deadline = min(max(self.limit, now), now + STEP)
        self._front.wheel.watch(self)

    def _lose_patience(self) -> None:
        body = self._body
        if self._closing or self._congested:
            self._wire.abort()
        elif self._exchange is not None:
            self.limit = inf
            if body is not None and not body.complete:
                body.broken(Failure(errors.REQUEST_TIMEOUT, "request body stands still or is too slow"))
        elif self._buffer:
            self._refuse(Failure(errors.REQUEST_TIMEOUT, "no whole request head in time"))
        else:
            self._close()

    def _takes_something(self) -> bool:
        left = self._wire.get_write_buffer_size()
        before, self._drained = self._drained, left
        return left < before

    def _too_slow(self, now: float) -> bool:
        body, limits = self._body, self._front.limits
        if not isinstance(body, RequestBody) or body.complete or self._upgraded or self._reading_paused:
            return False
        return body.is_too_slow(now, limits.body_idle, limits.body_rate)
