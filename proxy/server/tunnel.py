"""Bytes between two sockets, both ways and unread: the pump of all tunnels of a worker (RFC 9110 §9.3.6).

Little goes through a buffer that all share; where much comes, a direction borrows a pipe and the kernel moves pages
(`os.splice`). A pipe goes back as soon as it is empty and nothing more is there, so an idle tunnel has two descriptors
and no buffer. One edge-triggered epoll watches all of them, so that waiting for another event costs no system call and
the end of a peer shows whoever is waited for.

Invariants: bytes leave in the order in which they came, and end before their sender's end is passed on (half-close); a
reset of one side resets the other; no tunnel moves much more than SHARE in a direction before the others that are ready
have had their turn, all together no more than TURN and one share in one turn of the loop; each tunnel tells its end
once, when both its descriptors are closed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
from collections import deque
from math import inf
from typing import TYPE_CHECKING

from proxy import errors
from proxy.errors import Failure

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from proxy.exchange import TunnelOver
    from proxy.server.hoard import Holder
    from proxy.wheel import Wheel

BUFFER = 64 * 2**10  # bytes read at once without a pipe; a read that fills it shows that much is coming
PIPE = 2**20  # bytes a pipe is asked to hold: what an unprivileged process may have (pipe(7))
TRICKLE = 16 * 2**10  # a splice that brings less than this was not worth a pipe
SHARE = 2**20  # bytes of one direction before others have their turn
TURN = 4 * 2**20  # bytes of all before the loop has its turn: below a millisecond
PIPES = 64  # as many of PIPE bytes are what one user may have together (pipe(7), pipe-user-pages-soft)
SPARE = 16  # empty pipes kept
EVENTS = 256  # taken from the kernel at once

WATCHED = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
COMES = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
GOES = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
ENDED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
BROKEN = select.EPOLLERR
AT_ONCE = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset

YOUNG = 30.0  # seconds after which a tunnel is worth the system calls of the following
# A peer that has vanished without a word is found out, also where nothing flows.
KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6))

UNFIT = frozenset((errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP))  # no splicing between these, or at all

Pipe = tuple[int, int]  # its ends to read and to write


class Pipes:
    """The pipes of a worker. Invariant: what is kept is empty, and at most `most` exist."""

    __slots__ = ("_spare", "made", "most")

    def __init__(self, most: int = PIPES) -> None:
        self.most = most
        self.made = 0
        self._spare: list[Pipe] = []

    def take(self) -> Pipe | None:
        """None where there are enough, or no descriptors for another."""
        if self._spare:
            return self._spare.pop()
        if self.made >= self.most:
            return None
        try:
            pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        with contextlib.suppress(OSError):  # a smaller one will do
            fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, PIPE)
        self.made += 1
        return pipe

    def give(self, pipe: Pipe) -> None:
        """It is empty."""
        if len(self._spare) < SPARE:
            self._spare.append(pipe)
        else:
            self.drop(pipe)

    def drop(self, pipe: Pipe) -> None:
        """With whatever is in it."""
        self.made -= 1
        os.close(pipe[0])
        os.close(pipe[1])

    def close(self) -> None:
        while self._spare:
            self.drop(self._spare.pop())


class Side:
    """One end of a tunnel: a connected socket, and what is known of it since it was tried last."""

    __slots__ = ("broken", "ending", "number", "readable", "sock", "tunnel", "writable")

    def __init__(self, sock: socket.socket, tunnel: LiveTunnel) -> None:
        self.sock = sock
        self.number = sock.fileno()
        self.tunnel = tunnel
        self.readable = False  # the kernel tells when it is
        self.writable = True
        self.ending = False  # its end is in the kernel's queue, behind what else is
        self.broken = False


class Flow:
    """One direction. Invariant: it reads nothing while something waits in it, and what waits is in one place."""

    __slots__ = ("bulk", "complete", "held", "inside", "moved", "pipe", "pump", "sink", "source")

    def __init__(self, pump: Pump, source: Side, sink: Side, held: bytes) -> None:
        self.pump = pump
        self.source = source
        self.sink = sink
        self.held = held  # what waits in our memory
        self.pipe: Pipe | None = None
        self.inside = 0  # bytes that wait in the pipe
        self.moved = 0  # bytes that have left
        self.bulk = False
        self.complete = False  # the source's end has been passed on

    def move(self, most: int) -> int:
        """Moves about `most` bytes, and fewer where a side has to be waited for; OSError where one is broken."""
        moved = 0
        while moved < most:
            if self.inside or self.held:
                if not self.sink.writable:
                    break
                moved += self._put()
            elif self.complete or not self.source.readable:
                break
            else:
                moved += self._take()
        self.moved += moved
        if self.pipe is not None and not self.inside:
            self.pump.pipes.give(self.pipe)
            self.pipe = None
        return moved

    def _take(self) -> int:
        """Reads once; the bytes that went on at once."""
        if self.bulk:
            pipe = self.pipe or self.pump.take_pipe()
            if pipe is not None:
                self.pipe = pipe
                return self._splice(pipe)
        return self._copy()

    def _splice(self, pipe: Pipe) -> int:
        source = self.source
        try:
            self.inside = os.splice(source.number, pipe[1], PIPE, flags=AT_ONCE)
        except BlockingIOError:
            source.readable = self.bulk = False
            return 0
        except OSError as problem:
            if problem.errno not in UNFIT:
                raise
            self.pump.splices = self.bulk = False
            return 0
        if not self.inside:
            return self._finish()
        if self.inside < TRICKLE:
            self.bulk = False
        return self._put() if self.sink.writable else 0

    def _copy(self) -> int:
        source, sink, buffer = self.source, self.sink, self.pump.buffer
        try:
            size = source.sock.recv_into(buffer)
        except BlockingIOError:
            source.readable = False
            return 0
        if not size:
            return self._finish()
        if size < BUFFER:
            source.readable = source.ending  # nothing more was there (epoll(7)), but for its end
        else:
            self.bulk = self.pump.splices
        sent = 0
        if sink.writable:
            try:
                sent = sink.sock.send(buffer[:size])
            except BlockingIOError:
                sink.writable = False
        if sent < size:
            self.held = bytes(buffer[sent:size])
        return sent

    def _put(self) -> int:
        """What waits goes on, as far as the sink takes it."""
        sink = self.sink
        try:
            if self.inside:
                assert self.pipe is not None
                sent = os.splice(self.pipe[0], sink.number, self.inside, flags=AT_ONCE)
                self.inside -= sent
            else:
                sent = sink.sock.send(self.held)
                self.held = self.held[sent:]
        except BlockingIOError:
            sink.writable = False
            return 0
        return sent

    def _finish(self) -> int:
        """The source sends no more, and all it sent has gone on. The second to end is ended by closing."""
        self.complete = True
        tunnel = self.source.tunnel
        if not (tunnel.up.complete and tunnel.down.complete):
            self.sink.sock.shutdown(socket.SHUT_WR)
        return 0

    @property
    def waits(self) -> bool:
        return bool(self.inside or self.held)

    def drop(self) -> None:
        if self.pipe is not None:
            self.pump.pipes.drop(self.pipe)
            self.pipe = None
        self.inside = 0
        self.held = b""


class LiveTunnel:
    """Two sockets and the bytes between them. The wheel ends it when nothing has moved for `idle` seconds."""

    __slots__ = (
        "_kept_alive",
        "_over",
        "_pump",
        "client",
        "deadline",
        "down",
        "holder",
        "idle",
        "limit",
        "listed",
        "origin",
        "up",
    )

    def __init__(
        self,
        pump: Pump,
        client: socket.socket,
        origin: socket.socket,
        over: TunnelOver,
        idle: float,
        *,
        early: bytes,
        said: bytes,
    ) -> None:
        self._pump = pump
        self._over: TunnelOver | None = over
        self.client = Side(client, self)
        self.origin = Side(origin, self)
        self.up = Flow(pump, self.client, self.origin, early)
        self.down = Flow(pump, self.origin, self.client, said)
        self.down.moved = -len(said)  # it is not the origin's
        self.idle = idle
        now = pump.now()
        self.limit = now + idle  # when it has stood still for too long; the wheel looks in at `deadline`
        self.deadline = min(self.limit, now + YOUNG)
        self._kept_alive = False
        self.holder: Holder | None = None  # for whom bytes wait
        self.listed = False  # it is in the pump's list of those that can go on

    @property
    def holding(self) -> int:
        """Bytes in our memory."""
        return len(self.up.held) + len(self.down.held)

    def work(self) -> bool:
        """Moves what can be moved; True where more could be."""
        if self._over is None:
            return False
        up, down = self.up, self.down
        try:
            sent = up.move(SHARE) if up.source.readable or up.waits else 0
            got = down.move(SHARE) if down.source.readable or down.waits else 0
        except OSError:  # a peer has reset its connection, or is gone
            self.end(None, reset=True)
            return False
        if sent or got:
            self.limit = self._pump.now() + self.idle
        if up.complete and down.complete:
            self.end(None)
            return False
        if sent >= SHARE or got >= SHARE:
            return True
        if self.client.broken or self.origin.broken:  # what it still said and could go on has gone on
            self.end(None, reset=True)
        elif self.holder is not None and (up.held or down.held):
            self._pump.holds(self.holder)
        return False

    def end(self, failure: Failure | None, *, reset: bool = False) -> None:
        """Both descriptors are closed; what waits is dropped. Told once.

        `reset`, or where something is dropped: who has not had its end from us must not take this for one.
        """
        over, self._over = self._over, None
        if over is None:
            return
        self._pump.forget(self)
        for flow in (self.up, self.down):
            if (reset or flow.waits) and not flow.complete:
                with contextlib.suppress(OSError):
                    flow.sink.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            flow.drop()
        self.client.sock.close()
        self.origin.sock.close()
        over(self.up.moved, max(0, self.down.moved), failure)

    def expired(self, now: float) -> None:
        """The wheel has let go of it: it has stood still for a while, or for as long as may be."""
        if not self._kept_alive:
            self._kept_alive = True
            for side in (self.client, self.origin):
                set_keepalive(side.sock)
        if now < self.limit:
            self.deadline = self.limit
            self._pump.wheel.watch(self)
            return
        self.end(Failure(errors.TUNNEL_IDLE, f"nothing moved for {self.idle:g} s"))


class Pump:
    """All tunnels of a worker. `weigh` is told whose tunnel has bytes in our memory."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wheel: Wheel,
        now: Callable[[], float],
        weigh: Callable[[Holder], None] | None = None,
    ) -> None:
        self._loop = loop
        self.wheel = wheel
        self.now = now
        self.pipes = Pipes()
        self.buffer = memoryview(bytearray(BUFFER))
        self.splices = True  # until the kernel refuses
        self.tunnels: dict[LiveTunnel, None] = {}
        self._weigh = weigh
        self._sides: dict[int, Side] = {}
        self._ready: deque[LiveTunnel] = deque()
        self._scheduled = False
        self._epoll: select.epoll | None = None  # with the first tunnel

    def start(
        self,
        client: socket.socket,
        origin: socket.socket,
        over: TunnelOver,
        *,
        idle: float = inf,
        early: bytes = b"",
        said: bytes = b"",
        holder: Holder | None = None,
    ) -> LiveTunnel:
        """Bytes flow from now on between these two, which are non-blocking and the pump's.

        `early` goes to the origin first, `said` to the client; `over(up, down, failure)` is told at the end how many
        bytes have left for each, `said` not counted.
        """
        tunnel = LiveTunnel(self, client, origin, over, idle, early=early, said=said)
        tunnel.holder = holder
        self.tunnels[tunnel] = None
        epoll = self._watch()
        for side in (tunnel.client, tunnel.origin):
            self._sides[side.number] = side
            epoll.register(side.number, WATCHED)
        self.wheel.watch(tunnel)
        self._list(tunnel)
        return tunnel

    def _watch(self) -> select.epoll:
        if self._epoll is None:
            self._epoll = select.epoll()
            self._loop.add_reader(self._epoll.fileno(), self._look)
        return self._epoll

    def _list(self, tunnel: LiveTunnel) -> None:
        if not tunnel.listed:
            tunnel.listed = True
            self._ready.append(tunnel)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run)

    def _look(self) -> None:
        """The kernel has news; they are noted for all before anything is moved, so that no number means another's."""
        assert self._epoll is not None
        sides, ready = self._sides, self._ready
        for number, events in self._epoll.poll(0, EVENTS):
            side = sides[number]
            if events & COMES:
                side.readable = True
                if events & ENDED:
                    side.ending = True
                    if events & BROKEN:
                        side.broken = True
            if events & GOES:
                side.writable = True
            tunnel = side.tunnel
            if not tunnel.listed:
                tunnel.listed = True
                ready.append(tunnel)
        if not self._scheduled:
            self._run()

    def _run(self) -> None:
        """One turn: tunnels in the order in which they became ready, until TURN bytes have moved."""
        self._scheduled = False
        ready = self._ready
        left = TURN
        while ready and left > 0:
            tunnel = ready.popleft()
            tunnel.listed = False
            before = tunnel.up.moved + tunnel.down.moved
            if self._work(tunnel):
                tunnel.listed = True
                ready.append(tunnel)
            left -= tunnel.up.moved + tunnel.down.moved - before
        if ready:
            self._scheduled = True
            self._loop.call_soon(self._run)

    def _work(self, tunnel: LiveTunnel) -> bool:
        try:
            return tunnel.work()
        except Exception as problem:  # noqa: BLE001 - a fault of ours in one tunnel must not stop the others
            self._loop.call_exception_handler({"message": "a tunnel", "exception": problem})
            tunnel.end(None, reset=True)
            return False

    def holds(self, holder: Holder) -> None:
        if self._weigh is not None:
            self._weigh(holder)

    def take_pipe(self) -> Pipe | None:
        return self.pipes.take() if self.splices else None

    def forget(self, tunnel: LiveTunnel) -> None:
        """It ends: its numbers may be another's from now on."""
        self.tunnels.pop(tunnel, None)
        self.wheel.forget(tunnel)
        assert self._epoll is not None
        del self._sides[tunnel.client.number], self._sides[tunnel.origin.number]
        with contextlib.suppress(
            OSError
        ):  # another descriptor of it may be open; the origin's leaves when it is closed
            self._epoll.unregister(tunnel.client.number)

    def close(self) -> None:
        """Whatever is left ends."""
        for tunnel in list(self.tunnels):
            tunnel.end(None, reset=True)
        self.pipes.close()
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None


def set_keepalive(sock: socket.socket) -> None:
    """A peer that has vanished is found out after two minutes of silence."""
    if sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
