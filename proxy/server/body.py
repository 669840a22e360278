"""A request body while it comes in over HTTP/1.1: counted or chunked, handed to whoever fetches, held back when told
to.

Invariants: no byte behind the body's end is taken; what nobody has asked for yet is held up to HOLD bytes, then
reading pauses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from proxy import errors
from proxy.chunked import BadChunks
from proxy.errors import Failure

if TYPE_CHECKING:
    from proxy.chunked import ChunkedBody
    from proxy.exchange import BodySink

HOLD = 64 * 2**10  # bytes held for a sink that has not come yet, or has paused: hardening's bound per direction


WHOLE_READ = 2**30  # more than one read brings


class Source(Protocol):
    """The connection a body comes from."""

    def pause_body(self) -> None: ...
    def resume_body(self) -> None: ...
    def body_broken(self, failure: Failure) -> None: ...


class RequestBody:
    """The body of one request; `length` is None for a chunked one. `most` bounds it where its site does."""

    __slots__ = (
        "_chunks",
        "_held",
        "_holding",
        "_measured",
        "_most",
        "_paused",
        "_remaining",
        "_sink",
        "_source",
        "complete",
        "length",
        "size",
    )

    def __init__(self, source: Source, length: int | None, chunks: ChunkedBody | None) -> None:
        assert (length is None) == (chunks is not None)
        self.length = length
        self.size = 0  # bytes received so far
        self.complete = length == 0
        self._remaining = length or 0
        self._chunks = chunks
        self._source = source
        self._sink: BodySink | None = None
        self._held: list[bytes] = []
        self._holding = 0
        self._paused = False
        self._most = 0
        self._measured: tuple[float, int] = (0.0, 0)

    def measure(self, now: float) -> None:
        """Its speed counts from here on."""
        self._measured = (now, self.size)

    def is_too_slow(self, now: float, window: float, least: float) -> bool:
        """It drips below its least speed, bytes a second over the window in which it must not stand still either."""
        since, size = self._measured
        if now - since < window:
            return False
        self.measure(now)
        return self.size - size < least * (now - since)

    def limit(self, most: int) -> None:
        """No more than this many bytes are taken; 0 for no bound."""
        self._most = most
        self._judge_size()

    def _judge_size(self) -> bool:
        """False, and the body is broken, where more has come than may be."""
        if self._most and self.size > self._most:
            self.broken(Failure(errors.BODY_TOO_LARGE, f"more than {self._most} bytes"))
            return False
        return True

    @property
    def holding(self) -> int:
        """Bytes that wait here, or behind the sink."""
        sink = self._sink
        return self._holding if sink is None else self._holding + sink.backlog

    @property
    def turn(self) -> int:
        """Bytes that it may be fed in one turn of the loop."""
        return WHOLE_READ if self._chunks is None else self._chunks.turn

    # ---- from the connection -----------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> bytes:
        """Takes what belongs to the body and returns the rest."""
        if self._chunks is None:
            chunk, rest = data[: self._remaining], data[self._remaining :]
            self._remaining -= len(chunk)
            self.complete = self._remaining == 0
        else:
            try:
                chunk, rest = self._chunks.feed(data)
            except BadChunks as problem:
                self.broken(Failure(errors.BAD_REQUEST, f"chunked body: {problem}"))
                return b""
            self.complete = self._chunks.done
        self.size += len(chunk)
        if not self._judge_size():
            return b""
        self._pass(chunk)
        return rest

    def _pass(self, chunk: bytes) -> None:
        sink = self._sink
        if sink is None or self._paused:
            if chunk:
                self._held.append(chunk)
                self._holding += len(chunk)
                if self._holding >= HOLD:
                    self._source.pause_body()
            return
        if chunk:
            sink.body_data(chunk)
        if self.complete and not self._held and self._sink is sink:
            self._sink = None
            sink.body_end()

    def broken(self, failure: Failure) -> None:
        """The rest will not come, or must not be taken."""
        sink, self._sink = self._sink, None
        self._held.clear()
        self._source.body_broken(failure)
        if sink is not None:
            sink.body_failed(failure)

    # ---- from whoever fetches ----------------------------------------------------------------------------------------

    def start(self, sink: BodySink) -> None:
        assert self._sink is None
        self._sink = sink
        self._flow()

    def pause(self) -> None:
        self._paused = True
        self._source.pause_body()

    def resume(self) -> None:
        self._paused = False
        self._flow()

    def _flow(self) -> None:
        """What was held goes out first, in order."""
        held, self._held, self._holding = self._held, [], 0
        for at, chunk in enumerate(held):
            if self._paused or self._sink is None:
                rest = held[at:]
                self._held = rest + self._held
                self._holding = sum(map(len, self._held))
                return
            self._sink.body_data(chunk)
        sink = self._sink
        if sink is not None and self.complete and not self._paused:
            self._sink = None
            sink.body_end()
        elif not self.complete:
            self._source.resume_body()

    def detach(self) -> None:
        """Nobody reads any more; what still comes is counted and dropped."""
        self._sink = None
        self._held.clear()
        self._holding = 0


class RawBody:
    """What a client sends after an upgrade: bytes until one side closes. `ahead` came before the other side had
    agreed.
    """

    __slots__ = ("_ahead", "_paused", "_sink", "_source", "complete", "length", "size")
    turn = WHOLE_READ

    def __init__(self, source: Source, ahead: bytes = b"") -> None:
        self.length: int | None = None
        self.size = len(ahead)
        self.complete = False
        self._ahead = ahead
        self._source = source
        self._sink: BodySink | None = None
        self._paused = False

    @property
    def holding(self) -> int:
        return len(self._ahead) if self._sink is None else self._sink.backlog

    def feed(self, data: bytes) -> bytes:
        self.size += len(data)
        if self._sink is not None:
            self._sink.body_data(data)
        return b""

    def start(self, sink: BodySink) -> None:
        self._sink = sink
        ahead, self._ahead = self._ahead, b""
        if ahead:
            sink.body_data(ahead)

    def pause(self) -> None:
        self._source.pause_body()

    def resume(self) -> None:
        self._source.resume_body()

    def finish(self) -> None:
        """The client sends no more, and may still listen."""
        sink, self._sink = self._sink, None
        self.complete = True
        if sink is not None:
            sink.body_end()

    def broken(self, failure: Failure) -> None:
        sink, self._sink = self._sink, None
        self.complete = True
        if sink is not None:
            sink.body_failed(failure)

    def limit(self, most: int) -> None:
        """A tunnel has no end that could be known."""

    def detach(self) -> None:
        self._sink = None
