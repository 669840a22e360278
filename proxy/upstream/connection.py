"""One connection to an origin: sends one request at a time and finds where the response ends (RFC 9112 §6, §7, §8).

Heads seen before as identical bytes come from a memo; others go through a strict parser made for this response alone.
Bodies of known length are counted, chunked ones go through a parser, close-delimited ones end by an orderly close.
What is received is handed to the call that owns the connection. Nothing here decides about retries, caching or the
pool: `upstream/client.py` does.

Invariants: a connection serves one call at a time; it is offered for reuse only when the response is complete, the
request was sent whole, both sides keep the connection alive, and no byte is left over; what arrives before a request
has left is no answer to it.
"""

from __future__ import annotations

import asyncio
from enum import IntEnum
from math import inf
from typing import TYPE_CHECKING, Protocol

from proxy import errors, parsers
from proxy.chunked import BadChunks, ChunkedBody
from proxy.errors import Failure
from proxy.http import checks
from proxy.http.checks import Framing
from proxy.outbox import Sender
from proxy.upstream.parent import PARENT_WANTS_LOGIN, refuse_challenge

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from aiohttp.base_protocol import BaseProtocol

    from config.schema import Limits, Timeouts
    from proxy.exchange import BodyReader, Origin
    from proxy.http.checks import CheckedResponse
    from proxy.http.message import ResponseHead
    from proxy.outbox import Outbox
    from proxy.wheel import Wheel

HEAD_END = b"\r\n\r\n"
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"  # for a body whose own head was read before
STEP = 5.0  # seconds: how often the wheel looks at a connection, so that a nearer limit needs no work of its own


class State(IntEnum):
    IDLE = 0  # in the pool, or not yet used
    HEAD = 1  # a request is out, its response head is awaited
    COUNTED = 2  # a body of known length
    CHUNKED = 3
    UNTIL_CLOSE = 4
    RAW = 5  # upgraded: bytes belong to the tunnel
    CLOSED = 6


# Looked at for each event: a global is found faster than a member of a class.
IDLE, _HEAD, _COUNTED, _CHUNKED, _UNTIL_CLOSE, _RAW, _CLOSED = State
_LENGTH = Framing.LENGTH


class Call(Protocol):
    """Who owns the connection while a request is out."""

    method: bytes
    upgrade: bytes | None  # protocol that the request asked to upgrade to

    def upstream_interim(self, head: ResponseHead) -> None: ...
    def upstream_head(self, checked: CheckedResponse) -> None: ...
    def upstream_data(self, chunk: bytes) -> None: ...
    def upstream_end(self) -> None: ...
    def upstream_whole(self, checked: CheckedResponse, body: bytes) -> None:
        """head, data and end at once."""

    def upstream_failed(self, failure: Failure) -> None: ...
    def upstream_upgraded(self, checked: CheckedResponse, tail: bytes) -> None: ...


class Home(Protocol):
    """Where a connection goes when a response is over."""

    loop: asyncio.AbstractEventLoop
    outbox: Outbox
    owner: BaseProtocol  # what the C parsers want to belong to; never asked to pause
    limits: Limits
    heads: MutableMapping[bytes, CheckedResponse]  # memo of response heads by their bytes
    head_heads: MutableMapping[bytes, CheckedResponse]  # likewise, of answers to HEAD
    now: Callable[[], float]
    wheel: Wheel

    def released(self, connection: UpstreamConnection) -> None: ...
    def lost(self, connection: UpstreamConnection) -> None: ...


class UpstreamConnection(Sender, asyncio.Protocol):
    """See the module. The wheel looks in every STEP seconds (`deadline`); what counts is `limit`, and `whole` beside
    it.
    """

    __slots__ = (
        "_asked",
        "_body",
        "_buffer",
        "_chunked_out",
        "_chunks",
        "_held",
        "_interim",
        "_interim_bytes",
        "_keep",
        "_later",
        "_remaining",
        "_sent_whole",
        "_timeouts",
        "bound",
        "call",
        "deadline",
        "ended",
        "home",
        "limit",
        "number",
        "origin",
        "served",
        "shelf",
        "state",
        "whole",
    )

    def __init__(self, home: Home, origin: Origin, shelf: list[UpstreamConnection]) -> None:
        super().__init__(home.outbox)
        self.home = home
        self.origin = origin
        self.shelf = shelf  # where it waits for its next request, beside its like
        self.call: Call | None = None
        self.number = -1  # of its socket
        self.state = IDLE
        self.bound = False  # to one client, by what it authenticates: never used for another
        self.served = 0  # responses completed here; 0: a fresh connection
        self.deadline = home.now() + STEP
        self.limit = self.whole = inf
        self._timeouts: Timeouts | None = None
        self._buffer = bytearray()  # a response head that is not all here yet
        self._remaining = 0
        self._keep = True
        self.ended = False
        self._held = False  # reading is paused
        self._later: bytes | None = None  # came in this turn and is for the next; nothing more is read meanwhile
        self._sent_whole = True
        self._body: BodyReader | None = None
        self._chunked_out = False
        self._chunks: ChunkedBody | None = None
        self._interim = 0
        self._interim_bytes = 0

    # ---- sending -----------------------------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """A request may go out now: the other side has not closed, and sent nothing it was not asked for."""
        return self.state is IDLE and not self.ended and self.transport is not None and not self.transport.is_closing()

    def ask(self, call: Call, head: bytes, body: BodyReader | None, timeouts: Timeouts, whole: float) -> None:
        """The request goes out; its response comes back through `call`. `whole` is the time at which all must be
        over.
        """
        assert self.state is IDLE
        assert self.transport is not None
        self.call = call
        self.limit = limit = self.home.now() + timeouts.first_byte
        self.whole = whole
        if limit < self.deadline or whole < self.deadline:
            self._hasten(min(limit, whole))
        self._timeouts = timeouts
        self.state = _HEAD
        self._interim = self._interim_bytes = 0
        self._asked = head
        self.send(head)
        if body is not None:
            self._sent_whole = False
            self._body = body
            self.limit = inf
            self._chunked_out = body.length is None
            body.start(self)

    def _hasten(self, deadline: float) -> None:
        """A limit nearer than the wheel's next look: only where a configuration has less patience than STEP."""
        self.deadline = deadline
        self.home.wheel.hasten(self)

    @property
    def backlog(self) -> int:
        """Bytes of a request that the origin has not taken."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def body_data(self, chunk: bytes) -> None:
        """A piece of the request's body, framed for this hop."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if self.state is _RAW:
            self._moved()
        if self._chunked_out:
            self.send(b"%x\r\n" % len(chunk))
            self.send(chunk)
            self.send(b"\r\n")
        else:
            self.send(chunk)

    def body_end(self) -> None:
        transport = self.transport
        if self._chunked_out and transport is not None and not transport.is_closing():
            self.send(b"0\r\n\r\n")
        self._sent_whole = True
        self._body = None
        if self.state is _RAW and transport is not None and not transport.is_closing():
            self.flush()
            if transport.can_write_eof():
                transport.write_eof()
        if self.state is _HEAD and self._timeouts is not None:
            self.limit = limit = self.home.now() + self._timeouts.first_byte
            if limit < self.deadline:
                self._hasten(limit)

    def body_failed(self, failure: Failure) -> None:
        """The client's body broke off: the origin must not take what it got for the whole (RFC 9112 §8)."""
        if self.state is _RAW:
            self._hang_up()
        else:
            self._fail(failure)

    def _hang_up(self) -> None:
        """The client has left the tunnel: its last words still go out, then the origin sees an orderly end."""
        call = self.call
        self.call = self._body = None
        self.state = _CLOSED
        self.flush()
        if self.transport is not None:
            self.transport.close()
        if call is not None:
            call.upstream_end()

    def pause_writing(self) -> None:
        """The origin takes no more of the request for now: its patience runs, the client's does not."""
        if self._body is not None:
            self._body.pause()
            if self.state is _HEAD:
                self._moved()

    def resume_writing(self) -> None:
        if self._body is not None:
            self._body.resume()
            if self.state is _HEAD:
                self.limit = inf  # the client's body has limits of its own

    def pause(self) -> None:
        """The client takes no more for now: its slowness is not the origin's silence."""
        if self.transport is not None and not self._held and not self.transport.is_closing():
            self._held = True
            if self._later is None:
                self.transport.pause_reading()
            self.limit = inf

    def resume(self) -> None:
        if self._held and self.transport is not None and not self.transport.is_closing():
            self._held = False
            if self._later is None:
                self.transport.resume_reading()
            elif self._later:
                self.home.loop.call_soon(self._take_up)
            self._moved()

    def _moved(self) -> None:
        assert self._timeouts is not None
        self.limit = limit = self.home.now() + self._timeouts.idle
        if limit < self.deadline:
            self._hasten(limit)

    # ---- receiving ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a stream transport: made by create_connection
        sock = transport.get_extra_info("socket")
        if sock is not None:
            self.number = sock.fileno()

    def data_received(self, data: bytes) -> None:
        state = self.state
        call = self.call
        if state is _HEAD:
            if self.is_asking:
                self.spoke_early()
            elif self._buffer or not self._answered_at_once(data):
                self._head_received(data)
        elif state is _COUNTED:
            assert call is not None
            left = self._remaining - len(data)
            if left > 0:
                self._remaining = left
                self._moved()
                call.upstream_data(data)
            else:
                self._last_counted(call, data)
        elif state is _CHUNKED:
            self._chunked_received(data)
        elif state is _UNTIL_CLOSE or state is _RAW:
            assert call is not None
            self._moved()
            call.upstream_data(data)
        else:  # nobody asked: response splitting or a late answer; this connection is unfit (RFC 9112 §9.2)
            self.close()

    @property
    def is_asking(self) -> bool:
        """The request still waits for the end of this turn."""
        return self.state is _HEAD and bool(self.pending) and self.pending[0] is self._asked

    def spoke_early(self) -> None:
        """What has come is no answer to what has not left yet (RFC 9112 §9.2)."""
        self.pending.clear()
        self._fail(Failure(errors.STALE_CONNECTION, "spoke before it was asked"))

    def _last_counted(self, call: Call, data: bytes) -> None:
        if len(data) > self._remaining:
            self._keep = False
            data = data[: self._remaining]
        self._remaining = 0
        if data:
            call.upstream_data(data)
        if self.call is call:  # it may have let go of us on seeing this
            self._complete(call)

    def _answered_at_once(self, data: bytes) -> bool:
        """The usual case in one go: a read brings a head seen before, and the whole of its body with it."""
        call, home = self.call, self.home
        assert call is not None
        end = data.find(HEAD_END) + 4
        try:
            checked = (home.head_heads if call.method == b"HEAD" else home.heads)[data[:end]]
        except KeyError:
            return False
        if checked.framing is not _LENGTH or len(data) - end != checked.content_length:
            return False
        self._keep = checked.keep_alive
        if checked.keep_alive and self._sent_whole and not (self.bound or self.ended or self._held):
            self.call = None  # as in `_free`, without a call
            self.served += 1
            self.state = IDLE
            home.released(self)
        else:
            self._free()
        call.upstream_whole(checked, data[end:])
        return True

    def _head_received(self, data: bytes) -> None:
        """Heads are taken off the front one by one: interim ones first, then the final one with what follows it."""
        buffer = self._buffer
        if buffer:  # a head that dribbles in: only what is new is searched and copied
            seen = max(0, len(buffer) - 3)
            buffer += data
            if buffer.find(HEAD_END, seen) < 0 and len(buffer) <= self.home.limits.response_head:
                return
            data = bytes(buffer)
            buffer.clear()
        call = self.call
        while self.state is _HEAD and call is not None:
            end = data.find(HEAD_END)
            if end < 0:
                if len(data) > self.home.limits.response_head:
                    self._fail(Failure(errors.RESPONSE_HEAD_TOO_LARGE, f"{len(data)} bytes without an end"))
                else:
                    buffer += data
                return
            raw = data[: end + 4] if len(data) > end + 4 else data
            data = data[end + 4 :]
            try:
                checked = self._check_head(raw, call)
            except Failure as failure:
                self._fail(failure)
                return
            if checked.interim:
                self._interim_received(call, checked, len(raw))
            else:
                self._final_received(call, checked, data)
                return

    def _check_head(self, raw: bytes, call: Call) -> CheckedResponse:
        heads = self.home.head_heads if call.method == b"HEAD" else self.home.heads
        try:
            return heads[raw]
        except KeyError:
            pass
        if len(raw) > self.home.limits.response_head:
            raise Failure(errors.RESPONSE_HEAD_TOO_LARGE, f"{len(raw)} bytes")
        home = self.home
        message = parsers.parse_response_head(
            lambda: parsers.make_response_head_parser(home.owner, home.loop, home.limits), raw
        )
        checked = checks.check_response(
            message, raw, request_method=call.method, limits=home.limits, upgrade=call.upgrade
        )
        if checked.head.status == PARENT_WANTS_LOGIN:  # never remembered: of another peer it may mean something else
            refuse_challenge(self.origin)
        elif len(raw) <= 4096 and checked.upgrade is None:
            heads[raw] = checked
        return checked

    def _interim_received(self, call: Call, checked: CheckedResponse, size: int) -> None:
        self._interim += 1
        self._interim_bytes += size
        limits = self.home.limits
        if self._interim > limits.interim or self._interim_bytes > 64 * 2**10:
            self._fail(Failure(errors.BAD_RESPONSE, "too many interim responses"))
            return
        call.upstream_interim(checked.head)

    def start_raw(self, body: BodyReader) -> None:
        """After a 101 was passed on: the client's bytes flow as they are."""
        assert self.state is _RAW
        self._body = body
        self._chunked_out = False
        body.start(self)

    def _final_received(self, call: Call, checked: CheckedResponse, rest: bytes) -> None:
        framing = checked.framing
        self._keep = checked.keep_alive
        if framing is _LENGTH:
            assert checked.content_length is not None
            if len(rest) == checked.content_length:  # all of it is here: most answers are small
                self._whole(call, checked, rest)
                return
            self._remaining = checked.content_length
            self.state = _COUNTED
        elif framing is Framing.CHUNKED:
            self.state = _CHUNKED
            self._open_chunked()
        elif framing is Framing.CLOSE:
            self.state = _UNTIL_CLOSE
        elif checked.upgrade is not None:
            self.state = _RAW
            self._moved()
            call.upstream_upgraded(checked, rest)
            return
        else:
            self._keep = self._keep and not rest
            self._whole(call, checked, b"")
            return
        self._moved()
        call.upstream_head(checked)
        if self.call is not call:  # the call let go of us on seeing the head
            return
        if rest:
            self.data_received(rest)

    def _open_chunked(self) -> None:
        parser = parsers.make_response_parser(self.home.owner, self.home.loop, self.home.limits)
        messages, _upgraded, _tail = parser.feed_data(CHUNKED_HEAD)
        self._chunks = ChunkedBody(parser, messages[0][1], self.home.limits.chunk_overhead)

    def _chunked_received(self, data: bytes) -> None:
        call, chunks = self.call, self._chunks
        assert call is not None
        assert chunks is not None
        turn = chunks.turn
        if len(data) > turn:
            self._put_off(data[turn:])
            data = data[:turn]
        try:
            chunk, rest = chunks.feed(data)
        except BadChunks as problem:
            self._fail(Failure(errors.BAD_RESPONSE, f"chunked body: {problem}"))
            return
        self._moved()
        if chunk:
            call.upstream_data(chunk)
        if self.call is call and chunks.done:
            self._keep = self._keep and not rest and not self._later
            self._complete(call)

    def _put_off(self, data: bytes) -> None:
        """For the next turn of the loop: tiny chunks are much work, and others are served in between."""
        assert self.transport is not None
        if self._later is None and not self._held:
            self.transport.pause_reading()
        self._later = data
        self.home.loop.call_soon(self._take_up)

    def _take_up(self) -> None:
        data = self._later
        if not data or self._held or self.state is not _CHUNKED:
            return  # gone, or it goes on when the client takes more
        self._later = b""
        self._chunked_received(data)
        if not self._later:
            self._later = None
            if not self._held and self.transport is not None and not self.transport.is_closing():
                self.transport.resume_reading()

    def _complete(self, call: Call) -> None:
        """The response ended as announced: the connection is free before the call hears of it."""
        self._free()
        call.upstream_end()

    def _whole(self, call: Call, checked: CheckedResponse, body: bytes) -> None:
        """The same for a response that came at once."""
        self._free()
        call.upstream_whole(checked, body)

    def _free(self) -> None:
        self.call = self._chunks = None
        self.served += 1
        if self._keep and not self.bound and self._sent_whole and not self.ended and not self._buffer:
            if self._held:  # by the last client, which is not the next one's business
                self.resume()
            self.state = IDLE
            self.home.released(self)
        else:
            self.close()

    # ---- ends --------------------------------------------------------------------------------------------------------

    def eof_received(self) -> bool:
        self.ended = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        call, state = self.call, self.state
        self.state = _CLOSED
        self.transport = None
        self.call = self._body = None
        self.home.lost(self)
        if call is None:
            return
        if (state is _UNTIL_CLOSE and exc is None and self.ended) or state is _RAW:
            call.upstream_end()
        else:
            call.upstream_failed(self._end_failure(state))

    def _end_failure(self, state: State) -> Failure:
        if state is not _HEAD:
            return Failure(errors.RESPONSE_CUT, f"{self._remaining} bytes missing" if self._remaining else "closed")
        if self._buffer:
            return Failure(errors.BAD_RESPONSE, "closed inside the response head")
        return Failure(
            errors.UPSTREAM_CLOSED, "closed before a response" + (", reused connection" if self.served else "")
        )

    def expired(self, now: float) -> None:
        """The wheel looks in: silence past the limit ends the call, or the wait in the pool."""
        if now >= self.whole and self.call is not None:
            self._fail(Failure(errors.WHOLE_TIMEOUT, "the whole exchange takes too long"))
        elif now < self.limit:
            whole = inf if self.call is None else self.whole
            self.deadline = min(self.limit, whole, now + STEP)
            self.home.wheel.watch(self)
        elif self.state is IDLE:
            self.close()
        elif self.state is _HEAD:
            self._fail(Failure(errors.FIRST_BYTE_TIMEOUT, "no response head in time"))
        elif self.state is not _CLOSED:
            self._fail(Failure(errors.RESPONSE_IDLE, "response body stands still"))

    def _fail(self, failure: Failure) -> None:
        call = self.call
        self.call = None
        self.close()
        if call is not None:
            call.upstream_failed(failure)

    def close(self) -> None:
        """Nothing more is read or written here; a call that still owned it hears nothing."""
        self.call = self._body = None
        self.state = _CLOSED
        if self.transport is not None:
            self.transport.abort()
