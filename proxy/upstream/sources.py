"""Sockets from which a worker connects under a client's address: transparent mode with `spoof`.

To let a socket have a foreign address is a right that no worker has. The supervisor, which has it, makes unconnected
ones and hands them over; here a few are kept ahead of need, and whoever finds none waits until more have come.
Invariant: every socket is handed out once, to one caller, who closes it.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.bus import Family

BATCH: Final = 32  # sockets asked for at once
LOW: Final = 16  # fewer in stock: more are asked for
ASK_AGAIN: Final = 1.0  # seconds without an answer
_BIND_ADDRESS_NO_PORT: Final = 24  # <linux/in.h>; the socket module lacks it before 3.13


class Sources:
    """Of one worker. `ask` may be another after each reload; what was asked for comes to `arrived`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.ask: Callable[[Family, int], None] = lambda *_: None
        self._stock: dict[Family, deque[socket.socket]] = {4: deque(), 6: deque()}
        self._waiting: dict[Family, deque[asyncio.Future[socket.socket]]] = {4: deque(), 6: deque()}
        self._asked: dict[Family, float] = {}  # when, of what has not come yet

    async def take(self, family: Family) -> socket.socket:
        """A non-blocking socket that is the caller's; waits for as long as the supervisor takes."""
        stock = self._stock[family]
        if len(stock) < LOW:
            self._ask_for(family)
        if stock:
            return stock.popleft()
        future: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        self._waiting[family].append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # it came as we were told to stop
                stock.append(future.result())
            raise

    def _ask_for(self, family: Family) -> None:
        now = self._clock()
        if now >= self._asked.get(family, 0.0) + ASK_AGAIN:
            self._asked[family] = now
            self.ask(family, BATCH)

    def arrived(self, family: Family, fds: Sequence[int]) -> None:
        """Those who wait get theirs, the rest is kept."""
        self._asked.pop(family, None)
        waiting, stock = self._waiting[family], self._stock[family]
        stock.extend(socket.socket(fileno=fd) for fd in fds)
        while waiting and stock:
            future = waiting.popleft()
            if not future.done():
                future.set_result(stock.popleft())
        if fds and any(not future.done() for future in waiting):
            self._ask_for(family)

    def close(self) -> None:
        for stock in self._stock.values():
            while stock:
                stock.pop().close()


def bind(sock: socket.socket, source: str) -> None:
    """Its connection will come from this address; which port, the kernel finds when it is known where to. Raises
    OSError.
    """
    try:
        sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
    except OSError as exc:
        if exc.errno != errno.ENOPROTOOPT:
            raise
    sock.bind((source, 0))
