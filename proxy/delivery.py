"""Moves a body to one client at that client's pace, and an uncached response from its origin to its client.

Two producers for a response writer: Delivery reads a Body that is stored or still growing, Relay passes on what an
origin sends. Neither decides anything about caching; what an exchange leaves in counters and logs is told to the
pipeline (`close_books`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from proxy import errors
from proxy.errors import Failure
from proxy.exchange import Outcome
from proxy.http.message import Fields
from proxy.http.stored import PIECE, BodyState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.exchange import Exchange
    from proxy.http.checks import CheckedResponse
    from proxy.http.message import ResponseHead
    from proxy.http.stored import Body, StoredResponse
    from proxy.upstream.client import Request
    from proxy.upstream.connection import UpstreamConnection


class Books(Protocol):
    """Where a producer tells that its exchange has ended."""

    def close_books(self, x: Exchange) -> None: ...


class Relays(Books, Protocol):
    """What becomes of what an origin sends to one client."""

    def interim(self, x: Exchange, head: ResponseHead) -> None: ...
    def begin_relayed(self, x: Exchange, checked: CheckedResponse, request: Request | None, relay: Relay) -> None: ...
    def relay_whole(
        self, x: Exchange, checked: CheckedResponse, body: bytes, request: Request | None, relay: Relay
    ) -> None: ...
    def relay_failed(self, x: Exchange, failure: Failure, relay: Relay) -> None: ...


class Feeder(Protocol):
    """The fetch that a growing body comes from."""

    def reader_moved(self) -> None: ...
    def reader_left(self, reader: Delivery) -> None: ...


class Delivery:
    """One client's place in a body. `end` is the offset behind its last byte, None: all there will be.

    Invariant: `at` chunks and `skip` bytes of the next have been written; the writer is ended or reset exactly once.
    """

    __slots__ = ("_body", "_books", "_end", "_feeder", "_left", "_skip", "at", "x")

    def __init__(
        self,
        books: Books,
        x: Exchange,
        body: Body,
        feeder: Feeder | None = None,
        *,
        first: int = 0,
        end: int | None = None,
    ) -> None:
        self._books = books
        self.x = x
        self._body = body
        self._feeder = feeder
        self.at = 0
        self._skip = first
        self._left = None if end is None else end - first
        self._end = end
        x.producer = self

    def pump(self) -> None:
        """Writes what is there and the client takes; ends the answer when the body does."""
        x, body = self.x, self._body
        writer = x.writer
        while self.at < len(body.chunks) and self._left != 0 and not x.done:
            if writer.congested:
                return
            chunk = body.chunks[self.at]
            self.at += 1
            if self._skip:
                if self._skip >= len(chunk):
                    self._skip -= len(chunk)
                    continue
                chunk = chunk[self._skip :]
                self._skip = 0
            if self._left is not None:
                chunk = chunk[: self._left]
                self._left -= len(chunk)
            x.sent += len(chunk)
            writer.data(chunk)
        if x.done:
            return
        if self._left == 0 or body.state is BodyState.COMPLETE:
            self._leave()
            self._books.close_books(x)
            writer.end()
        elif body.state is BodyState.BROKEN:
            self._leave()
            x.failure = x.failure or Failure(errors.RESPONSE_CUT, "the origin broke off")
            self._books.close_books(x)
            writer.reset()

    def _leave(self) -> None:
        if self._feeder is not None:
            feeder, self._feeder = self._feeder, None
            feeder.reader_left(self)

    @property
    def offset(self) -> int:
        """Of the next byte to be written, from the first of the body; it may not have come yet."""
        return sum(map(len, self._body.chunks[: self.at])) + self._skip

    def go_on(self, offset: int) -> None:
        """The body has been packed (`Body.pack`): this is the next byte."""
        self.at = min(offset, self._body.size) // PIECE
        self._skip = offset - self.at * PIECE

    def hand_over(self, feeder: Feeder) -> None:
        """The fetch is over; somebody else wants to know when this has read it all."""
        self._feeder = feeder

    def cut(self) -> None:
        """Too much memory is held for clients as slow as this one."""
        self._leave()
        self.x.failure = Failure(errors.TOO_MANY, "too much is held for slow clients")
        self._books.close_books(self.x)
        self.x.writer.reset()

    def writer_drained(self) -> None:
        self.pump()
        if self._feeder is not None:
            self._feeder.reader_moved()

    def client_gone(self) -> None:
        self._leave()
        self.x.failure = Failure(errors.CLIENT_GONE)
        self._books.close_books(self.x)


class Relay:
    """An answer that is not stored, on its way from origin to client."""

    request: Request | None = None
    storable = False  # the answer was not expected to be storable, and may be all the same
    purges = 0  # how many there had been when it was asked for
    # Stored responses that this answer tells something of (HEAD), and that stand in where there is none.
    update: Sequence[StoredResponse] = ()
    _started = False

    def __init__(self, books: Relays, x: Exchange) -> None:
        self._books = books
        self.x = x
        x.producer = self

    # ---- from the origin ---------------------------------------------------------------------------------------------

    def upstream_interim(self, head: ResponseHead) -> None:
        self._books.interim(self.x, head)

    def upstream_head(self, checked: CheckedResponse) -> None:
        self._started = True
        self._books.begin_relayed(self.x, checked, self.request, self)

    def upstream_data(self, chunk: bytes) -> None:
        x = self.x
        x.sent += len(chunk)
        writer = x.writer
        writer.data(chunk)
        if writer.congested and self.request is not None:
            self.request.pause()

    def upstream_end(self) -> None:
        self.request = None
        x = self.x
        if not x.done:
            self._books.close_books(x)
            x.writer.end()

    def upstream_whole(self, checked: CheckedResponse, body: bytes) -> None:
        """As head, data and end, in one write."""
        self._started = True
        request, self.request = self.request, None
        if not self.x.done:
            self._books.relay_whole(self.x, checked, body, request, self)

    def upstream_failed(self, failure: Failure) -> None:
        self.request = None
        x = self.x
        if x.done:
            return
        if not self._started:
            self._books.relay_failed(x, failure, self)
            return
        x.failure = failure
        self._books.close_books(x)
        x.writer.reset()

    def upstream_upgraded(self, checked: CheckedResponse, connection: UpstreamConnection, tail: bytes) -> None:
        """Both sides speak another protocol from here on: bytes flow as they come."""
        self._started = True
        x = self.x
        head = checked.head
        assert checked.upgrade is not None
        lines = (*head.fields.lines, (b"Connection", b"upgrade"), (b"Upgrade", checked.upgrade))
        x.outcome = Outcome.TUNNEL
        x.status = 101
        body = x.writer.upgrade(head.with_fields(Fields(lines)))
        connection.start_raw(body)
        if tail:
            self.upstream_data(tail)

    # ---- from the client ---------------------------------------------------------------------------------------------

    def writer_drained(self) -> None:
        if self.request is not None:
            self.request.resume()

    def client_gone(self) -> None:
        """Nobody waits for this answer: its origin is told so by closing (the request ends at once)."""
        request, self.request = self.request, None
        if request is not None:
            request.cancel()
        x = self.x
        if not x.done:
            if x.outcome is not Outcome.TUNNEL:
                x.failure = Failure(errors.CLIENT_GONE)
            self._books.close_books(x)
