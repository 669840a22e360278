"""Active checks of all peers, once per node in the admin process; what changes is told to the workers as verdicts.

Each check is a connection of its own: a kept one would not notice that the origin stopped accepting. What a series of
checks means is counted in `health.py`. After a reload a new Prober takes over what the old one knew.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakSet

import aiohttp
from yarl import URL

from proxy.upstream.health import Checks, Verdict, count_check

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    import aiohappyeyeballs

    from config.schema import Health
    from proxy.exchange import Origin, PoolSpec

JITTER = 0.1  # of the interval, each way: nodes and peers must not fall into step
FIRST_WITHIN = 0.5  # seconds in which all peers have had their first check
GRACE = 0.5  # seconds that `stop` gives to checks under way, and then to their connections


@dataclass(slots=True, eq=False)
class _Target:
    """One peer under its pool's check."""

    pool: PoolSpec
    origin: Origin
    health: Health
    tls: ssl.SSLContext | bool
    good: tuple[range, ...]  # statuses
    checks: Checks
    told: bool | None = None  # the last verdict reported
    detail: str = ""

    @property
    def verdict(self) -> Verdict | None:
        if self.checks.up is None:
            return None
        return Verdict(self.pool.name, self.origin.address, self.checks.up, self.detail)


class Prober:
    """Checks the pools that want it, from `start` to `stop`; `report` is called with what has changed."""

    def __init__(
        self,
        pools: Iterable[PoolSpec],
        report: Callable[[list[Verdict]], Awaitable[None]],
        known: Iterable[Verdict] = (),
    ) -> None:
        """`known` are the verdicts of the Prober before a reload. ValueError or OSError for a CA file that is none."""
        self._report = report
        before = {(verdict.pool, verdict.address): verdict.up for verdict in known}
        self._targets = [
            _Target(
                pool,
                origin,
                pool.health,
                _tls(origin),
                parse_statuses(pool.health.status),
                Checks(up=before.get((pool.name, origin.address))),
            )
            for pool in pools
            if pool.health is not None
            for origin in pool.origins
        ]
        self._stopping = asyncio.Event()
        self._sockets: WeakSet[socket.socket] = WeakSet()  # of all checks whose connection may not be gone yet
        self._tasks: list[asyncio.Task[None]] = []
        self._looking = asyncio.Lock()
        self._looks: set[asyncio.Task[dict[str, bool]]] = set()
        self._next_look: asyncio.Task[dict[str, bool]] | None = None  # that has not begun

    async def start(self) -> None:
        assert not self._tasks
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._watch(target)) for target in self._targets]

    async def stop(self) -> None:
        """No check runs, no connection is open, and nothing will be reported after this."""
        self._stopping.set()
        for look in self._looks:
            look.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=GRACE)
            for task in late:
                task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._wait_disconnected()
        for result in ended:
            if isinstance(result, Exception):  # a fault of ours: no origin can cause it
                raise result

    async def _wait_disconnected(self) -> None:
        """The loop has let go of all sockets: one that ends with a connection half closed complains."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                while any(sock.fileno() >= 0 for sock in self._sockets):  # noqa: ASYNC110 - no event tells it
                    await asyncio.sleep(0.001)

    def current(self) -> list[Verdict]:
        """All that is known, for a worker that has just started."""
        return [verdict for target in self._targets if (verdict := target.verdict) is not None]

    async def look(self) -> dict[str, bool]:
        """By site, whether one of its origins is good, by checks that begin now; they change no verdict.

        One look at a time: those who ask while one is under way share the next.
        """
        if self._next_look is None:
            self._next_look = asyncio.get_running_loop().create_task(self._look())
            self._looks.add(self._next_look)
            self._next_look.add_done_callback(self._looks.discard)
        return await asyncio.shield(self._next_look)

    async def _look(self) -> dict[str, bool]:
        async with self._looking:
            self._next_look = None
            results = await asyncio.gather(*(self._checked(target) for target in self._targets))
        sites: dict[str, bool] = {}
        for target, (good, _) in zip(self._targets, results, strict=True):
            sites[target.pool.site] = good or sites.get(target.pool.site, False)
        return sites

    async def _watch(self, target: _Target) -> None:
        every = float(target.health.every)
        await self._pause(random.uniform(0.0, min(every, FIRST_WITHIN)))
        while not self._stopping.is_set():
            good, target.detail = await self._checked(target)
            target.checks = count_check(target.checks, good=good, health=target.health)
            verdict = target.verdict
            # The first word is always told: an earlier Prober may have said another one after `known` was taken.
            news = verdict is not None and verdict.up is good and verdict.up is not target.told
            if verdict is not None and news and not self._stopping.is_set():
                target.told = verdict.up
                await self._report([verdict])
            await self._pause(every * random.uniform(1 - JITTER, 1 + JITTER))

    async def _checked(self, target: _Target) -> tuple[bool, str]:
        """One check, after which its connection is cut: TLS would wait half a minute for the peer's goodbye."""
        sockets: list[socket.socket] = []

        def make_socket(info: aiohappyeyeballs.AddrInfoType) -> socket.socket:
            sockets.append(socket.socket(*info[:3]))
            self._sockets.add(sockets[-1])
            return sockets[-1]

        connector = aiohttp.TCPConnector(force_close=True, use_dns_cache=False, socket_factory=make_socket)
        try:
            async with aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers={"User-Agent": "tandem-check"},
            ) as session:
                return await _check(session, target)
        finally:
            for sock in sockets:
                with contextlib.suppress(OSError):  # closed already
                    sock.shutdown(socket.SHUT_RDWR)

    async def _pause(self, seconds: float) -> None:
        """That long, or until `stop`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


async def _check(session: aiohttp.ClientSession, target: _Target) -> tuple[bool, str]:
    """Whether one check was good, and what was seen. The body is read to its end, since a cut answer is no good one."""
    origin = target.origin
    try:
        async with (
            asyncio.timeout(float(target.health.timeout)),
            session.get(
                URL(f"{origin.scheme}://{origin.address}{target.health.path}", encoded=True),
                headers={"Host": target.pool.check_host} if target.pool.check_host else None,
                allow_redirects=False,
                ssl=target.tls,
                server_hostname=origin.tls_name or None,
            ) as response,
        ):
            async for _ in response.content.iter_any():
                pass
    except TimeoutError:
        return False, f"no answer within {target.health.timeout:g} s"
    except (aiohttp.ClientError, OSError) as exc:
        return False, str(exc) or type(exc).__name__
    return any(response.status in statuses for statuses in target.good), f"status {response.status}"


def _tls(origin: Origin) -> ssl.SSLContext | bool:
    """What aiohttp takes as `ssl`: False does not verify, True does with the system's authorities."""
    if origin.scheme != "https" or (origin.tls_verify and not origin.tls_ca):
        return True
    return ssl.create_default_context(cafile=origin.tls_ca) if origin.tls_verify else False


def parse_statuses(text: str) -> tuple[range, ...]:
    """`200-399, 404` as ranges; ValueError for anything else."""
    found: list[range] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ValueError(f"statuses {text!r}: want codes and ranges, as 200-399,404")
        span = range(int(first), int(last if dash else first) + 1)
        if not span or span.start < 100 or span.stop > 600:
            raise ValueError(f"statuses {text!r}: want codes from 100 to 599, ranges upwards")
        found.append(span)
    return tuple(found)
