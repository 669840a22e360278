"""Active checks of all peers, once per node in the admin process; what changes is told to the workers as verdicts.

Each check is a connection of its own: a kept one would not notice that the origin stopped accepting. What a series of
checks means is counted in `health.py`. After a reload a new Prober takes over what the old one knew.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from proxy.upstream.health import Checks, Verdict, count_check

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from config.schema import Health
    from proxy.exchange import Origin, PoolSpec

JITTER = 0.1  # of the interval, each way: nodes and peers must not fall into step
FIRST_WITHIN = 0.5  # seconds in which all peers have had their first check


@dataclass(slots=True, eq=False)
class _Target:
    """One peer under its pool's check."""

    pool: PoolSpec
    origin: Origin
    health: Health
    tls: ssl.SSLContext | bool
    good: tuple[range, ...]  # statuses
    checks: Checks
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
        self._session: aiohttp.ClientSession | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        assert self._session is None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, use_dns_cache=False, limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"User-Agent": "tandem-check"},
        )
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._watch(self._session, target)) for target in self._targets]

    async def stop(self) -> None:
        """No check runs and none will be reported after this."""
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._session is not None:
            await self._session.close()
            self._session = None
        for result in ended:
            if isinstance(result, Exception):  # a fault of ours: no origin can cause it
                raise result

    def current(self) -> list[Verdict]:
        """All that is known, for a worker that has just started."""
        return [verdict for target in self._targets if (verdict := target.verdict) is not None]

    async def _watch(self, session: aiohttp.ClientSession, target: _Target) -> None:
        every = float(target.health.every)
        await asyncio.sleep(random.uniform(0.0, min(every, FIRST_WITHIN)))
        while True:
            good, target.detail = await _check(session, target)
            before = target.checks.up
            target.checks = count_check(target.checks, good=good, health=target.health)
            verdict = target.verdict
            if verdict is not None and verdict.up is not before:
                await self._report([verdict])
            await asyncio.sleep(every * random.uniform(1 - JITTER, 1 + JITTER))


async def _check(session: aiohttp.ClientSession, target: _Target) -> tuple[bool, str]:
    """Whether one check was good, and what was seen. The body is read to its end, since a cut answer is no good one."""
    origin = target.origin
    url = URL(f"{origin.scheme}://{origin.address}{target.health.path}", encoded=True)
    try:
        async with (
            asyncio.timeout(float(target.health.timeout)),
            session.get(
                url,
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
    except (aiohttp.ClientError, OSError, ssl.SSLError) as exc:
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
