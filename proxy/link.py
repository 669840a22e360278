"""Questions and answers between our processes over a Unix socket: the asyncio ends of proxy/bus.py's envelopes.

`serve` is the worker's side, `Link` the asker's: one connection, any number of questions in flight, each with a time
limit. What is no message of ours ends the connection, and every question on it fails.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from proxy import bus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    Handler = Callable[[bus.Question], Awaitable[bus.Answer]]

_IN_FLIGHT: Final = 64  # questions of one connection being answered; further ones wait in the socket
_BACKLOG: Final = 64


class LinkError(Exception):
    """The question got no answer: nobody listens, the other process ended, or time is up."""


async def serve(path: Path, handle: Handler) -> asyncio.Server:
    """A server on a new socket at `path`, 0600, in place of what a dead process left there.

    Nobody else may want the path: the supervisor's lock on the folder sees to that. The path stays when the server
    ends: it may be a successor's by then (asyncio from 3.13 on compares inodes before it removes a path).
    """
    return await asyncio.get_running_loop().create_unix_server(lambda: _Answering(handle), sock=_listen(path))


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    path.chmod(0o600)
    sock.listen(_BACKLOG)
    return sock


class _Connection(asyncio.Protocol):
    """One end: frames in, frames out."""

    def __init__(self) -> None:
        self._frames = bus.Frames()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                self.received(bus.decode_envelope(frame))
        except bus.BadFrameError:
            self.abort()

    def received(self, envelope: bus.Envelope) -> None:
        raise NotImplementedError

    def send(self, envelope: bus.Envelope) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(bus.encode_envelope(envelope))

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class _Answering(_Connection):
    def __init__(self, handle: Handler) -> None:
        super().__init__()
        self._handle = handle
        self._tasks: set[asyncio.Task[None]] = set()

    def received(self, envelope: bus.Envelope) -> None:
        if not isinstance(envelope.message, bus.Question):
            raise bus.BadFrameError("an answer came where questions are asked")
        task = asyncio.ensure_future(self._answer(envelope.id, envelope.message))
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        if len(self._tasks) >= _IN_FLIGHT and self.transport is not None:
            self.transport.pause_reading()

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self.transport is not None and not self.transport.is_closing() and not self.transport.is_reading():
            self.transport.resume_reading()

    async def _answer(self, number: int, question: bus.Question) -> None:
        answer: bus.Answer
        try:
            answer = await self._handle(question)
        except Exception as exc:  # noqa: BLE001 - a border: the asker is told, the process lives on
            answer = bus.Failed(bus.cut_reason(f"{type(exc).__name__}: {exc}"))
        try:
            self.send(bus.Envelope(number, answer))
        except bus.BadFrameError as exc:
            self.send(bus.Envelope(number, bus.Failed(str(exc))))

    def connection_lost(self, exc: Exception | None) -> None:
        for task in tuple(self._tasks):
            task.cancel()


class Link(_Connection):
    """The asker's connection to one process; made by `Link.connect`, good until an `ask` raises LinkError."""

    def __init__(self) -> None:
        super().__init__()
        self._number = 0
        self._waiting: dict[int, asyncio.Future[bus.Answer]] = {}
        self._lost = False

    @classmethod
    async def connect(cls, path: Path, limit: float = 2.0) -> Link:
        """Raises LinkError when nobody listens there."""
        try:
            async with asyncio.timeout(limit):
                _, link = await asyncio.get_running_loop().create_unix_connection(cls, str(path))
        except OSError as exc:  # TimeoutError is one
            raise LinkError(f"{path.name}: {exc or 'no answer'}") from exc
        return link

    async def ask(self, question: bus.Question, limit: float = 2.0) -> bus.Answer:
        """The answer, which may be bus.Failed. Raises LinkError when there is none within `limit` seconds."""
        if self._lost:
            raise LinkError("the connection is lost")
        self._number += 1
        number = self._number
        self._waiting[number] = future = asyncio.get_running_loop().create_future()
        try:
            self.send(bus.Envelope(number, question))
            async with asyncio.timeout(limit):
                answer: bus.Answer = await future
                return answer
        except TimeoutError as exc:
            raise LinkError(f"no answer within {limit:g} s") from exc
        finally:
            self._waiting.pop(number, None)

    def received(self, envelope: bus.Envelope) -> None:
        if not isinstance(envelope.message, bus.Answer):
            raise bus.BadFrameError("a question came where answers are given")
        future = self._waiting.get(envelope.id)
        if future is not None and not future.done():  # else: its asker has given up
            future.set_result(envelope.message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(LinkError("the other process closed the connection"))

    @property
    def lost(self) -> bool:
        return self._lost

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


async def ask_once(path: Path, question: bus.Question, limit: float = 2.0) -> bus.Answer:
    """One question over a connection of its own. Raises LinkError."""
    link = await Link.connect(path, limit)
    try:
        return await link.ask(question, limit)
    finally:
        with suppress(OSError):
            link.close()
