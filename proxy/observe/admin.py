"""The admin process: health, metrics, status, purges over `admin.sock` and, if configured, TCP; and active checks.

It serves no traffic and may die without hurting any. What is answered is in api.py, how clients come in is in
entrance.py; here is what a process does with its configurations.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from proxy import bus
from proxy.modes.every import names_of
from proxy.modes.reverse import Reverse
from proxy.observe import entrance, metrics, pair
from proxy.observe.api import Api, Served
from proxy.observe.newcomers import Newcomers
from proxy.observe.reach import Workers
from proxy.service import Refused, Service
from proxy.upstream.prober import Prober

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine, Sequence
    from pathlib import Path

    from proxy.observe.gate import Token
    from proxy.service import Listener, Settings
    from proxy.upstream.health import Verdict

SOCKET: Final = "admin.sock"

_log = logging.getLogger("tandem.admin")


@dataclass(slots=True, eq=False)
class _Plan:
    """One configuration, made ready to be served."""

    settings: Settings
    reverse: Reverse
    prober: Prober
    tokens: tuple[Token, ...]
    servers: list[asyncio.AbstractServer] = field(default_factory=list)


class AdminService:
    """Invariants: there is one `admin.sock` from the first prepare to the drain; the Prober that runs is the committed
    plan's.
    """

    def __init__(self, index: int, shared: memoryview) -> None:
        """As proxy/child.py makes every service; what is shared comes again with each Settings."""
        self._api = Api()
        self._plan: _Plan | None = None
        self._prepared: _Plan | None = None
        self._workers: Workers | None = None
        self._unix: asyncio.AbstractServer | None = None
        self._runner = web.AppRunner(self._api.application(), access_log=None, handler_cancellation=False)
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None
        self._most_workers = 0

    # ---- Service -----------------------------------------------------------------------------------------------------

    async def prepare(self, settings: Settings) -> None:
        try:
            plan = self._make_plan(settings)
            if self._runner.server is None:
                await self._runner.setup()
                assert self._runner.server is not None
                self._api.newcomers = Newcomers(self._runner.server)
            if self._unix is None:
                self._unix = await self._open_unix(settings.runtime)
            tls = entrance.tls_context(settings)
            for listener in settings.listeners:
                plan.servers.append(await self._open_tcp(listener, tls))
        except (OSError, ValueError) as problem:
            raise Refused(f"admin: {problem}") from problem
        self._prepared = plan

    def _make_plan(self, settings: Settings) -> _Plan:
        admin = settings.config.admin
        reverse = Reverse(settings.config, settings.files)
        known = self._plan.prober.current() if self._plan is not None else ()
        if self._workers is None:
            self._workers = Workers(settings.runtime, settings.workers)
        tokens = entrance.read_tokens(settings)
        for listener in settings.listeners:
            if not ip_address(listener.address[0]).is_loopback and not (admin.tls and tokens):
                raise ValueError(f"{listener.address[0]} is not loopback: [admin] needs tls and tokens there")
        return _Plan(settings, reverse, Prober(reverse.pools.values(), self._report, known), tokens)

    async def _report(self, verdicts: list[Verdict]) -> None:
        """Workers first: they send requests there; then `ha`, whose health it is."""
        assert self._workers is not None
        await self._workers.report(verdicts)
        if self._plan is not None and self._plan.settings.config.ha is not None:
            self._spawn(pair.nudge(self._plan.settings.runtime))

    def commit(self) -> None:
        assert self._prepared is not None
        assert self._workers is not None
        before, self._plan, self._prepared = self._plan, self._prepared, None
        self._workers.count = self._plan.settings.workers
        cache = self._plan.settings.config.cache
        self._workers.disk = self._plan.settings.base / cache.path if cache.path else None
        self._most_workers = max(self._most_workers, self._plan.settings.workers)
        self._api.served = Served(
            self._plan.settings,
            metrics.layout(names_of(self._plan.settings.config)),
            self._plan.reverse,
            self._plan.prober,
            self._plan.tokens,
            frozenset(name.lower() for name in self._plan.settings.config.admin.hosts),
            self._workers,
            self._most_workers,
        )
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(self._workers.keep())
        self._spawn(self._follow(before, self._plan))

    async def _follow(self, before: _Plan | None, plan: _Plan) -> None:
        """What a commit starts and cannot fail at: the new listeners and checks take over from the old ones."""
        assert self._workers is not None
        if before is not None:
            for server in before.servers:
                server.close()
            try:
                await before.prober.stop()
            except Exception:  # noqa: BLE001 - a fault of the old checks must not keep the new ones from starting
                _log.exception("a check ended by a fault of ours")
        for server in plan.servers:
            await server.start_serving()
        if before is None and self._unix is not None:
            await self._unix.start_serving()
        await plan.prober.start()
        await self._workers.replace_verdicts(plan.prober.current())

    def abort(self) -> None:
        if self._prepared is not None:
            for server in self._prepared.servers:
                server.close()
        self._prepared = None

    async def drain(self, deadline: float) -> None:
        self.abort()
        for server in (*(self._plan.servers if self._plan is not None else ()), self._unix):
            if server is not None:
                server.close()
        if self._keeper is not None:
            self._keeper.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._plan is not None:
            with suppress(Exception):
                await self._plan.prober.stop()
            with suppress(OSError):
                (self._plan.settings.runtime / SOCKET).unlink()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._runner.cleanup(), max(0.1, deadline - time.monotonic()))
        if self._workers is not None:
            self._workers.close()

    def say_close(self, on: bool) -> None:
        """Only workers serve the address that moves."""

    def in_flight(self) -> int:
        return 0

    def reopen_logs(self) -> None:
        """Admin writes to standard error only."""

    def lend(self, family: bus.Family, fds: Sequence[int]) -> None:
        """Admin borrows no sockets."""
        for fd in fds:
            os.close(fd)

    async def handle(self, message: bus.Question) -> bus.Answer:
        return bus.Failed(f"admin answers no {type(message).__name__}")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            _log.error("admin: %s", problem, exc_info=problem)

    # ---- sockets -----------------------------------------------------------------------------------------------------

    async def _open_unix(self, runtime: Path) -> asyncio.AbstractServer:
        sock = entrance.bind_unix(runtime / SOCKET)
        sock.listen()  # who asks before the first turn after the commit waits, instead of being refused
        assert self._api.newcomers is not None
        loop = asyncio.get_running_loop()
        return await loop.create_unix_server(self._api.newcomers, sock=sock, start_serving=False)

    async def _open_tcp(self, listener: Listener, tls: ssl.SSLContext | None) -> asyncio.AbstractServer:
        assert self._api.newcomers is not None
        loop = asyncio.get_running_loop()
        sock = listener.open()
        sock.setblocking(False)
        return await loop.create_server(self._api.newcomers, sock=sock, ssl=tls, start_serving=False)


def _service(service: AdminService) -> Service:  # interface guard: mypy checks it
    return service
