"""What stands around the producers of the spine, in memory: a writer that keeps what it is given, books, a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from config.units import MonoTime, WallTime
from proxy.exchange import Client, Exchange
from proxy.http.message import Fields, RequestHead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.exchange import BodyReader
    from proxy.http.message import ResponseHead


class MemoryWriter:
    """A response writer; with `room` it is congested once so many bytes have come, until `take` makes room again."""

    def __init__(self, room: int | None = None) -> None:
        self.interims: list[int] = []
        self.head: ResponseHead | None = None
        self.length: int | None = None
        self.body = b""
        self.end_seen = ""  # how it ended: "end", "reset", or not yet
        self.upgraded = False
        self.room = room

    @property
    def congested(self) -> bool:
        return self.room is not None and len(self.body) >= self.room

    def take(self, more: int) -> None:
        assert self.room is not None
        self.room = len(self.body) + more

    def interim(self, head: ResponseHead) -> None:
        self.interims.append(head.status)

    def start(self, head: ResponseHead, length: int | None) -> None:
        assert self.head is None
        self.head, self.length = head, length

    def data(self, chunk: bytes) -> None:
        assert chunk
        assert not self.end_seen
        self.body += chunk

    def end(self) -> None:
        assert not self.end_seen
        self.end_seen = "end"

    def whole(self, head: ResponseHead, chunks: Sequence[bytes], length: int) -> None:
        self.start(head, length)
        self.body += b"".join(chunks)
        self.end()

    def shape(self, bandwidth: str) -> None: ...
    def last(self) -> None: ...

    def reset(self) -> None:
        assert not self.end_seen
        self.end_seen = "reset"

    def upgrade(self, head: ResponseHead) -> BodyReader:
        self.head = head
        self.upgraded = True
        return cast("BodyReader", object())


def exchange(writer: MemoryWriter | None = None, target: bytes = b"/") -> Exchange:
    """A GET for the target whose answer goes to the writer."""
    request = RequestHead(b"GET", b"http", b"test.example", target, None, (1, 1), Fields())
    client = Client("192.0.2.1", 1, ("192.0.2.2", 80), b"http")
    return Exchange(client, request, None, writer or MemoryWriter(), MonoTime(0.0), WallTime(0.0))


class MemoryBooks:
    """The pipeline, as far as producers speak to it."""

    def __init__(self) -> None:
        self.closed: list[Exchange] = []
        self.failed: list[tuple[Exchange, str]] = []

    def close_books(self, x: Exchange) -> None:
        if not x.done:
            x.done = True
            x.producer = None
            self.closed.append(x)


class MemoryRequest:
    """A request to an origin: whether it is held, or was cancelled."""

    def __init__(self) -> None:
        self.held = False
        self.cancelled = 0
        self.receiver: object = None

    def pause(self) -> None:
        self.held = True

    def resume(self) -> None:
        self.held = False

    def cancel(self) -> None:
        self.cancelled += 1
