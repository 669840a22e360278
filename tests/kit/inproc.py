"""The data plane of one worker in a thread of the test: a uvloop loop, real sockets, and a clock that is a number.

The same objects as in `proxy/worker.py`, without processes: what a test wants to look at, or to change between two
requests, it does by `call` inside the loop. Time stands still until `advance`, which also lets the wheel look at who
has waited too long; with `clock=None` it is the loop's own. Whatever the loop complains of fails the test at the end.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import re
import socket
import threading
import time
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Self

import uvloop

from config.load import parse
from config.units import MonoTime, WallTime
from proxy import bus
from proxy.cache.store import Store
from proxy.modes.every import Modes, names_of
from proxy.observe import metrics
from proxy.observe.accesslog import compile_format
from proxy.observe.observer import AccessLog, Observer
from proxy.outbox import Outbox
from proxy.pipeline import Pipeline
from proxy.purging import Purger
from proxy.server.doors import acceptor, doors_of
from proxy.server.front import MEMO_SHARE, Door, Front
from proxy.upstream.client import Upstreams
from proxy.upstream.pool import Pool
from proxy.upstream.resolve import Resolver
from proxy.users.htpasswd import parse_passwords
from proxy.users.logins import Logins
from proxy.users.prover import ThreadProver
from proxy.wheel import Drive, Wheel
from tests.kit.raw import TIMEOUT, wait_until

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine
    from typing import TypeVar

    from config.schema import Config
    from proxy.server.protocol import ClientConnection
    from proxy.server.splicing import SplicedConnection
    from proxy.upstream.pool import Change

    T = TypeVar("T")

PORT = re.compile(r"PORT([0-9]+)")
SAMPLE = re.compile(r"(\S+(?:\{[^}]*\})?) ([0-9.eE+-]+)")
WALL = 1_800_000_000.0  # wall time at the clock's zero: any moment, but a fixed one


class Clock:
    """A time that moves when it is told to; it may be shared by several stacks.

    It starts between two ticks of Age: at a tick, an answer is good for that moment only and the memo has no use.
    """

    def __init__(self, at: float = 10_000.25) -> None:
        self.at = at

    def __call__(self) -> MonoTime:
        return MonoTime(self.at)


class MemoryLog:
    """An access log's file that keeps its lines."""

    path = "-"
    trouble = None

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, lines: bytes, count: int) -> None:
        self.lines += lines.decode().splitlines()

    def reopen(self) -> None: ...
    def close(self) -> None: ...
    def take_dropped(self) -> int:
        return 0


class Stack:
    """A worker's objects, serving; use it as a context manager. PORT0, PORT1, … in the configuration are free ports.

    `tls` makes every listener speak it. `log` is the access log's format.
    """

    front: Front  # these are made inside the loop
    pipeline: Pipeline
    store: Store
    upstreams: Upstreams
    observer: Observer
    wheel: Wheel
    doors: list[Door]

    def __init__(
        self,
        text: str,
        *,
        clock: Clock | None = None,
        memo: bool | None = None,
        tls: ssl.SSLContext | None = None,
        log: str = "combined",
        send_buffer: int = 0,
    ) -> None:
        ports: dict[str, int] = {}
        self._sockets: list[socket.socket] = []
        for name in dict.fromkeys(PORT.findall(text)):
            sock = socket.create_server(("127.0.0.1", 0), backlog=512)
            if send_buffer:  # inherited by what is accepted: what the kernel holds is bounded
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
            ports[name] = sock.getsockname()[1]
            self._sockets.append(sock)
        text = PORT.sub(lambda found: str(ports[found[1]]), text)
        self.ports = list(ports.values())
        self.config: Config = parse(text.encode(), "test.toml", Path("/")).config
        forward = self.config.forward
        users = forward.users if forward is not None else ""
        logins = [one.login for one in forward.parent] if forward is not None else []
        logins += [one.token for one in forward.mirror] if forward is not None else []
        self._secrets = {login: Path(login).read_bytes() for login in logins if login}
        self._users = parse_passwords(Path(users).read_bytes(), users) if users else None
        self.clock = clock
        self.log = MemoryLog()
        self.complaints: list[str] = []  # of the loop: exceptions nobody caught
        self.changes: list[Change] = []  # of origins' standing
        self._format = log
        self._memo = self.config.cache.memo if memo is None else memo
        self._tls = tls
        self._purges = 0
        self._region = bytearray(metrics.REGION)
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = uvloop.new_event_loop()
        self._loop.set_exception_handler(self._complain)
        self._thread = threading.Thread(target=self._loop.run_forever, name="stack", daemon=True)
        self._thread.start()
        self.run(self._build())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.stop()
        if kind is None:
            assert not self.complaints, "\n".join(self.complaints)

    @property
    def at(self) -> tuple[str, int]:
        """Address of the first listener."""
        return "127.0.0.1", self.ports[0]

    # ---- in the loop -------------------------------------------------------------------------------------------------

    def run(self, coroutine: Coroutine[None, None, T]) -> T:
        """The coroutine's result; it runs in the stack's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(TIMEOUT)

    def call(self, do: Callable[[], T]) -> T:
        """What `do` returns, called between two events of the loop."""
        done: concurrent.futures.Future[T] = concurrent.futures.Future()

        def turn() -> None:
            try:
                done.set_result(do())
            except BaseException as problem:  # noqa: BLE001 - it is the caller's
                done.set_exception(problem)

        self._loop.call_soon_threadsafe(turn)
        return done.result(TIMEOUT)

    def wait(self, condition: Callable[[], object], what: str = "") -> None:
        """Returns when the condition, asked in the loop, is true."""
        wait_until(lambda: self.call(condition), what=what)

    # ---- time --------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.clock.at if self.clock is not None else self._loop.time()

    def date(self, ago: float = 0.0) -> str:
        """The Date field's value of so many seconds ago."""
        return formatdate(self.front.wall_offset + self.now - ago, usegmt=True)

    def advance(self, seconds: float) -> None:
        """Time passes, in steps no longer than a tick would be late, and patience ends where it is over."""
        assert self.clock is not None, "real time cannot be moved"
        clock = self.clock
        end = clock.at + seconds
        while clock.at < end:
            clock.at = min(end, clock.at + 1.0)
            self.call(self.turn_wheel)

    def turn_wheel(self) -> None:
        """What is due expires; called by whoever moves a clock that stacks share."""
        while True:
            for item in self.wheel.tick(self.now):
                item.expired(self.now)
            if not self.wheel.behind:
                return

    # ---- looking -----------------------------------------------------------------------------------------------------

    def counters(self) -> dict[str, float]:
        """All samples of /metrics that are not zero."""
        self.call(self.observer.flush)
        text = metrics.render({"worker-0": metrics.view(self._region)}, self._layout)
        samples = (SAMPLE.fullmatch(line) for line in text.splitlines() if not line.startswith("#"))
        return {found[1]: float(found[2]) for found in samples if found is not None and float(found[2])}

    def log_lines(self) -> list[str]:
        """Lines of the access log so far."""
        self.call(self.observer.flush)
        return list(self.log.lines)

    def connections(self) -> list[ClientConnection]:
        return self.call(lambda: list(self.front.connections))

    def upstream_counts(self) -> tuple[int, int]:
        """(connections to origins open, of these idle)."""
        return self.call(lambda: self.upstreams.counts)

    # ---- made and ended ----------------------------------------------------------------------------------------------

    async def _build(self) -> None:
        loop, config = self._loop, self.config
        now: Callable[[], float] = self.clock if self.clock is not None else loop.time
        offset = WALL if self.clock is not None else time.time() - loop.time()
        self.wheel = Wheel(now)
        self._drive = Drive(self.wheel, loop) if self.clock is None else None
        self._resolver = Resolver(clock=now)
        self.store = Store(config.cache.memory, most_variants=config.cache.variants, clock=lambda: MonoTime(now()))
        self._layout = metrics.layout(names_of(config))
        logs = [AccessLog(self.log, compile_format(self._format))]  # type: ignore[arg-type]  # all that is asked of a file
        self.observer = Observer(metrics.view(self._region), self._layout, logs, offset=lambda: offset, clock=now)
        outbox = Outbox(loop)
        self.upstreams = Upstreams(
            loop, config.limits, self.wheel, self._resolver, outbox, lambda _origin: None, self.changes.append
        )
        self.upstreams.now = now
        self.pipeline = Pipeline(
            self.store,
            self.upstreams,
            self.observer,
            now=lambda: MonoTime(now()),
            wall=lambda at: WallTime(offset + at),
            via=b"tandem-test",
            spawn=self._spawn,
        )
        self.logins = Logins(ThreadProver(loop), lambda: MonoTime(now()))
        self.front = Front(loop, self.pipeline, self.store, self.observer, self.wheel, outbox, offset)
        self.front.now = self.front.pump.now = now
        mode = Modes(config, {}, secrets=self._secrets)
        self._resolver.configure(config.dns.servers, config.dns.negative_ttl)
        self.purger = Purger(self.store, self.pipeline.flights, self.pipeline.tally)
        self.purger.configure(mode, self.pipeline.planner.beside)
        self.pipeline.purge = self._purge
        self.pipeline.configure(mode, {name: Pool(spec, None) for name, spec in mode.pools.items()})
        if self._users is not None:
            self.logins.adopt(self._users)
            self.pipeline.logins = self.logins
        self.front.configure(
            config.limits,
            memo=self._memo and config.cache.memory > 0,
            most_connections=config.limits.connections or 10_000,
            memo_bytes=config.cache.memory // MEMO_SHARE,
            rates={name: float(one.rate) for name, one in config.bandwidth.items()},
        )
        self.doors = list(doors_of(mode, config).values())
        for door in self.doors if self._tls is not None else ():
            door.scheme = b"https"
        sockets = {sock.getsockname()[1]: sock for sock in self._sockets}
        self._servers = [
            await loop.create_server(self._acceptor(door), sock=sockets[door.listen.port], ssl=self._tls)
            for door in self.doors
        ]

    async def _purge(self, kind: str, value: str, site: str, soft: bool) -> int:
        self._purges += 1
        return await self.purger.apply(bus.Purge(self._purges, kind, value, soft=soft, site=site))  # type: ignore[arg-type]  # the spine names kinds

    def _acceptor(self, door: Door) -> Callable[[], ClientConnection | SplicedConnection]:
        return acceptor(self.front, lambda: door)

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _complain(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        problem = context.get("exception")
        self.complaints.append(f"{context.get('message')}: {problem!r}")
        if isinstance(problem, BaseException) and problem.__traceback__ is not None:
            at = problem.__traceback__
            while at.tb_next is not None:
                at = at.tb_next
            self.complaints[-1] += f" at {at.tb_frame.f_code.co_filename}:{at.tb_lineno}"

    def stop(self) -> None:
        """Everything is cut and the thread has ended."""
        if not self._thread.is_alive():
            return
        self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive(), "the stack's loop does not end"
        self._loop.close()

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        for connection in list(self.front.connections):
            connection.cut()
        await self.upstreams.close()
        self.front.pump.close()
        if self._drive is not None:
            self._drive.stop()
        for task in list(self._tasks):
            task.cancel()
        await self._resolver.close()
        await asyncio.sleep(0.01)  # transports that were cut tell their protocols in the next turns
