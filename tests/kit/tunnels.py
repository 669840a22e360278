"""What tests of tunnels share: a pump in a loop of its own, and pairs of sockets that it lies between.

The ends are blocking TCP sockets of the test, so that a half-close or a reset is the kernel's own.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import uvloop

from proxy.server.tunnel import Pump
from proxy.wheel import Wheel
from tests.kit.raw import TIMEOUT, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from proxy.errors import Failure
    from proxy.server.tunnel import LiveTunnel

    T = TypeVar("T")


def tcp_pair(buffer: int = 0) -> tuple[socket.socket, socket.socket]:
    """Two connected TCP sockets; what the kernel holds between them is small where `buffer` says so."""
    with socket.socket() as listener:
        if buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        one = socket.socket()
        if buffer:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        one.connect(listener.getsockname())
        other, _ = listener.accept()
    for sock in (one, other):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one.settimeout(TIMEOUT)
    return one, other


def reset(sock: socket.socket) -> None:
    """Closes with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def read_all(sock: socket.socket) -> tuple[bytes, str]:
    """What comes up to the end, and which end it is: `end` or `reset`."""
    got = bytearray()
    while True:
        try:
            data = sock.recv(1 << 18)
        except ConnectionResetError:
            return bytes(got), "reset"
        if not data:
            return bytes(got), "end"
        got += data


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@dataclass(slots=True, eq=False)
class Laid:
    """A tunnel with its two ends."""

    client: socket.socket
    origin: socket.socket
    live: LiveTunnel
    over: Future[tuple[int, int, Failure | None]] = field(default_factory=Future)

    def close(self) -> None:
        for sock in (self.client, self.origin):
            with contextlib.suppress(OSError):
                sock.close()


class PumpThread:
    """A pump in a uvloop of its own; use it as a context manager. Whatever the loop complains of fails the test."""

    pump: Pump
    wheel: Wheel

    def __init__(self, now: float | None = None) -> None:
        self.now = now  # a number stands still; None: the loop's clock
        self.complaints: list[str] = []
        self._loop = uvloop.new_event_loop()
        self._loop.set_exception_handler(lambda _, context: self.complaints.append(repr(context)))
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._laid: list[Laid] = []

    def clock(self) -> float:
        return self._loop.time() if self.now is None else self.now

    def __enter__(self) -> Self:
        self._thread.start()
        self.call(self._make)
        return self

    def _make(self) -> None:
        self.wheel = Wheel(self.clock)
        self.pump = Pump(self._loop, self.wheel, self.clock)

    def __exit__(self, kind: object, *_: object) -> None:
        for laid in self._laid:
            laid.close()
        self.call(self.pump.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT)
        self._loop.close()
        if kind is None:
            assert not self.complaints, self.complaints

    def call(self, do: Callable[[], T]) -> T:
        """What `do` returns, called in the loop."""
        done: Future[T] = Future()

        def turn() -> None:
            try:
                done.set_result(do())
            except BaseException as problem:  # noqa: BLE001 - it is the caller's
                done.set_exception(problem)

        self._loop.call_soon_threadsafe(turn)
        return done.result(TIMEOUT)

    def wait(self, condition: Callable[[], object], what: str = "") -> None:
        wait_until(lambda: self.call(condition), what=what)

    def lay(self, *, buffer: int = 0, idle: float = 1000.0, early: bytes = b"", said: bytes = b"") -> Laid:
        """A tunnel between two new pairs."""
        client, near = tcp_pair(buffer)
        origin, far = tcp_pair(buffer)
        return self.lay_between(client, near, far, origin, idle=idle, early=early, said=said)

    def lay_between(
        self,
        client: socket.socket,
        near: socket.socket,
        far: socket.socket,
        origin: socket.socket,
        *,
        idle: float = 1000.0,
        early: bytes = b"",
        said: bytes = b"",
    ) -> Laid:
        near.setblocking(False)
        far.setblocking(False)
        over: Future[tuple[int, int, Failure | None]] = Future()

        def start() -> LiveTunnel:
            return self.pump.start(near, far, lambda *told: over.set_result(told), idle=idle, early=early, said=said)

        laid = Laid(client, origin, self.call(start), over)
        self._laid.append(laid)
        return laid

    def turn_wheel(self) -> None:
        """What is due expires."""

        def turn() -> None:
            for item in self.wheel.tick(self.clock()):
                item.expired(self.clock())

        self.call(turn)

    def each_turn(self, look: Callable[[], None], turns: int) -> None:
        """`look` is called in so many turns of the loop."""
        done = threading.Event()

        def again(left: int) -> None:
            look()
            if left:
                self._loop.call_soon(again, left - 1)
            else:
                done.set()

        self._loop.call_soon_threadsafe(again, turns)
        assert done.wait(TIMEOUT)
