"""Composition root of a worker: builds the objects of one worker from its settings, and exchanges them at a reload.
Nothing else.

Store, connections, counters and the wheel live as long as the process; mode, pools, doors and options are those of
the accepted configuration. `prepare` does everything that can fail, `commit` only swaps (proxy/service.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import logging
import os
import resource
import time
from math import inf
from typing import TYPE_CHECKING, cast

from config.units import MonoTime, WallTime
from proxy import bus, namelists, region
from proxy.accepting import Accepting
from proxy.cache.disk import Away, Counts, Disk
from proxy.cache.store import Store
from proxy.explaining import Explainer
from proxy.gauges import Gauges
from proxy.listing import Lister
from proxy.modes.every import names_of
from proxy.neighbours import Neighbours
from proxy.observe import metrics
from proxy.observe.observer import EVERY, Observer
from proxy.outbox import Outbox
from proxy.pipeline import Pipeline
from proxy.policy.target import BadTargetError
from proxy.prepared import build
from proxy.purging import Purger
from proxy.runtime import disk_file, stale_mark
from proxy.server.front import MEMO_SHARE, Front
from proxy.server.hoard import FREE
from proxy.server.tls import TlsError
from proxy.service import Refused
from proxy.upstream.client import Upstreams
from proxy.upstream.health import Standing, Verdict
from proxy.upstream.pool import Pool
from proxy.upstream.resolve import Resolver
from proxy.users.logins import LIFETIME, Logins
from proxy.users.prover import ThreadProver
from proxy.wheel import Drive, Wheel

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from proxy.exchange import Origin
    from proxy.namelists import Lists
    from proxy.prepared import Prepared
    from proxy.service import Settings
    from proxy.upstream.pool import Change

log = logging.getLogger("tandem")
SHARE_FOR_ORIGINS = 4  # of the descriptors, one in so many may be that of a connection kept for the next request
SHARE_FOR_OTHERS = 8  # one in so many is kept for pipes, files, sockets of a moment, and those who are turned away
FOR_OURSELVES = 64  # listeners, channels, logs, questions for names
LEAST_CONNECTIONS = 16
IDLE_GRACE = 0.1  # seconds in which a request that had already arrived is still read, when draining
EJECTIONS = metrics.slot("tandem_ejections_total")


class Worker:
    """One worker process's service. Invariant: what `commit` swaps is of one configuration, never of two."""

    _loop: asyncio.AbstractEventLoop  # these are made at the first prepare, inside the running loop
    _wheel: Wheel
    _drive: Drive
    _resolver: Resolver
    _store: Store
    _observer: Observer
    _upstreams: Upstreams
    _pipeline: Pipeline
    _front: Front
    _accepting: Accepting
    _gauges: Gauges
    _purger: Purger
    _logins: Logins
    _prover: ThreadProver
    _explainer: Explainer

    def __init__(self, index: int, shared: memoryview) -> None:
        self._index = index
        self._slots = metrics.view(shared)
        metrics.clear_gauges(self._slots)
        self._started = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._current: Prepared | None = None
        self._next: Prepared | None = None
        self._neighbours = Neighbours(index)
        self._pools: dict[str, Pool] = {}
        self._disk: Disk | None = None
        self._leaving: dict[Path, Disk] = {}  # those that a reload has ended
        self._ticker: asyncio.TimerHandle | None = None
        self._expected = 0.0
        self._memory = 0  # of store and memos, in bytes
        self._wall_offset = 0.0
        self._steady_until = inf

    def _start(self, settings: Settings) -> None:
        """What lives as long as the process."""
        self._started = True
        loop = self._loop = asyncio.get_running_loop()
        limits = settings.config.limits
        self._wall_offset = time.time() - loop.time()
        self._wheel = Wheel(loop.time)
        self._drive = Drive(self._wheel, loop)
        self._resolver = Resolver(clock=loop.time)
        self._store = Store(0)
        self._observer = Observer(self._slots, metrics.layout(), offset=lambda: self._wall_offset)
        outbox = Outbox(loop)
        self._upstreams = Upstreams(loop, limits, self._wheel, self._resolver, outbox, self._context, self._changed)
        self._pipeline = Pipeline(
            self._store,
            self._upstreams,
            self._observer,
            now=cast("Callable[[], MonoTime]", loop.time),
            wall=self._wall,
            via=_pseudonym(settings.runtime),
            spawn=self._spawn,
        )
        self._purger = Purger(self._store, self._pipeline.flights, self._pipeline.tally)
        self._front = Front(loop, self._pipeline, self._store, self._observer, self._wheel, outbox, self._wall_offset)
        self._accepting = Accepting(loop, self._front, self._spawn)
        self._gauges = Gauges(self._slots, self._front, self._upstreams, self._store, self._pipeline.tally)
        self._prover = ThreadProver(loop)
        self._logins = Logins(self._prover, cast("Callable[[], MonoTime]", loop.time))
        self._explainer = Explainer(self._front, self._pipeline)
        self._expected = loop.time() + EVERY
        self._ticker = loop.call_later(EVERY, self._tick)

    # ---- Service -----------------------------------------------------------------------------------------------------

    async def prepare(self, settings: Settings) -> None:
        """Everything that can fail, and nothing that shows."""
        if not self._started:
            self._start(settings)
        try:
            now = self._current
            lists = await namelists.read_lists(settings.config, settings.lists, now.lists if now is not None else {})
            self._next = coming = build(settings, lists, now.logs if now is not None else ())
            await self._accepting.prepare(settings.listeners, coming.doors, coming.tls)
        except (TlsError, ValueError, OSError) as problem:
            self._forget_next()
            raise Refused(str(problem)) from problem

    def commit(self) -> None:
        prepared, self._next = self._next, None
        assert prepared is not None
        before, self._current = self._current, prepared
        self._exchange_lists(prepared.lists, before.lists if before is not None else {})
        if before is None:
            gc.collect()
            gc.freeze()  # what was loaded to start is never garbage: no collection looks at it again
        self._apply(prepared)
        self._accepting.commit()

    def _exchange_lists(self, lists: Lists, before: Lists) -> None:
        if self._index == 0:  # the others have the same
            for line in namelists.describe(lists, before):
                log.info("%s", line)
        if gone := namelists.gone_from(before, lists):
            self._spawn(namelists.dissolve(gone))

    def _apply(self, prepared: Prepared) -> None:
        settings, config = prepared.settings, prepared.settings.config
        masked = {name.encode() for site in config.site for name in site.session_arguments}
        self._observer.configure(metrics.layout(names_of(config)), prepared.logs, masked)
        memory = config.cache.memory // settings.workers
        memos = memory // MEMO_SHARE
        self._memory = memory
        self._fit_store()
        self._store.most_variants = config.cache.variants
        self._change_disk(settings)
        self._upstreams.limits = config.limits
        self._resolver.configure(config.dns.servers, config.dns.negative_ttl)
        self._resolver.sources.ask = settings.borrow
        self._pools = {name: Pool(spec, self._pools.get(name)) for name, spec in prepared.mode.pools.items()}
        self._pipeline.configure(prepared.mode, self._pools)
        if prepared.passwords is not None:
            self._logins.adopt(prepared.passwords)
        self._pipeline.logins = self._logins if prepared.passwords is not None else None
        self._steady_until = self._decisions_hold()
        self._purger.configure(prepared.mode, self._pipeline.planner.beside)
        self._neighbours.configure(
            settings.runtime, settings.workers, self._disk.path.parent if self._disk is not None else None
        )
        self._pipeline.purge = self._purge_everywhere
        self._pipeline.invalidate_elsewhere = self._invalidate_elsewhere if settings.workers > 1 else None
        self._upstreams.retain({origin for spec in prepared.mode.pools.values() for origin in spec.origins})
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._upstreams.most = files // SHARE_FOR_ORIGINS
        self._front.configure(
            config.limits,
            memo=config.cache.memo and memory > 0,
            most_connections=config.limits.connections,
            descriptors=max(LEAST_CONNECTIONS, files - files // SHARE_FOR_OTHERS - FOR_OURSELVES),
            memo_bytes=memos // max(1, len(prepared.doors)),
            held=FREE // settings.workers,
            rates={name: one.rate / settings.workers for name, one in config.bandwidth.items()},
        )
        for connection in list(self._front.connections):
            connection.move(prepared.doors.get(connection.door.listen))

    def abort(self) -> None:
        self._forget_next()

    def _forget_next(self) -> None:
        prepared, self._next = self._next, None
        if prepared is not None:
            self._accepting.abort()
            for file in prepared.opened:
                file.close()
            if gone := namelists.gone_from(prepared.lists, self._current.lists if self._current is not None else {}):
                self._spawn(namelists.dissolve(gone))

    async def drain(self, deadline: float) -> None:
        """Listeners close, what has arrived is answered, and the rest is cut at the deadline."""
        if not self._started:
            return
        front = self._front
        await self._accepting.drain()
        front.drain()
        await asyncio.sleep(IDLE_GRACE)  # what the kernel had received for us is read in these turns of the loop
        for connection in list(front.connections):
            connection.close_if_idle()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await front.empty.wait()
        for connection in list(front.connections):
            connection.cut()
        await self._end()

    def _decisions_hold(self) -> float:
        """The loop's time until which what was decided of clients stays so; then plans made before are void."""
        now = self._loop.time()
        mode = self._current.mode if self._current is not None else None
        if mode is None:
            return inf
        logins = now + LIFETIME if self._pipeline.logins is not None else inf
        return min(logins, now + mode.steady_for(self._wall(now)))

    def _change_disk(self, settings: Settings) -> None:
        """The tier on disk is the one that is configured; one that is no more ends in the background."""
        config = settings.config.cache
        folder = settings.base / config.path if config.path and config.memory else None
        path = disk_file(folder, self._index) if folder is not None else None
        limit = config.disk // settings.workers
        if self._disk is not None and self._disk.path == path:
            self._disk.resize(limit)
            return
        before, self._disk = self._disk, None
        self._store.tier = self._store.elsewhere = None
        if before is not None:  # nothing tells it of purges any more, so that nothing of it may be used later
            self._leaving[before.path] = before
            self._loop.run_in_executor(None, before.forget)
        if folder is None or path is None:
            return
        surplus: tuple[Path, ...] = ()
        if self._index == 0:
            surplus = tuple(disk_file(folder, n) for n in range(settings.workers, region.MAX_WORKERS))
        stale = stale_mark(folder, self._index)
        recall = self._pipeline.planner.remember_endings
        self._disk = disk = Disk(
            self._loop,
            path,
            limit,
            self._store,
            stale=stale,
            surplus=surplus,
            on_endings=recall,
            after=self._leaving.pop(path, None),
        )
        self._store.tier = disk
        self._store.elsewhere = disk.elsewhere
        disk.start()

    async def _end(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        await self._upstreams.close()
        self._front.pump.close()
        self._drive.stop()
        self._prover.close()
        await self._resolver.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._loop.run_in_executor(None, self._observer.close)
        if self._disk is not None:
            await self._loop.run_in_executor(None, self._disk.close)

    def say_close(self, on: bool) -> None:
        """The address moves to the other node: clients that connect again find it there."""
        self._front.draining = on
        if on:
            for connection in self._front.connections:
                connection.drain()
            self._loop.call_later(IDLE_GRACE / 10, self._close_idle)

    def _close_idle(self) -> None:
        if self._front.draining:
            fresh = set(self._front.fresh())
            for connection in [one for one in self._front.connections if one not in fresh]:
                connection.close_if_idle()

    def in_flight(self) -> int:
        return self._front.busy + len(self._front.fresh())

    def lend(self, family: bus.Family, fds: Sequence[int]) -> None:
        self._resolver.sources.arrived(family, fds)

    def reopen_logs(self) -> None:
        self._observer.reopen()

    async def handle(self, message: bus.Question) -> bus.Answer:
        match message:
            case bus.Purge():
                try:
                    return bus.Purged(message.number, await self._purge_here(message))
                except (BadTargetError, Away) as problem:
                    return bus.Failed(str(problem))
            case bus.List():
                try:
                    return await Lister(self._store, self._purger, self._now).list(message)
                except BadTargetError as problem:
                    return bus.Failed(str(problem))
            case bus.Recent(limit=limit):
                self._observer.flush()
                return bus.Recently(tuple(self._observer.recent.rows(limit, self._wall_offset)))
            case bus.Explain():
                try:
                    assert self._current is not None, "no socket is served before the first commit"
                    return bus.Explained(self._explainer.explain(message, self._current.doors.values()))
                except BadTargetError as problem:
                    return bus.Failed(str(problem))
            case bus.Status():
                return bus.StatusAnswer(self._status())
            case bus.HealthVerdicts(verdicts=verdicts):
                for verdict in verdicts:
                    pool = self._pools.get(verdict.pool)
                    if pool is not None:
                        for change in pool.apply(Verdict(verdict.pool, verdict.address, verdict.healthy), self._now()):
                            self._changed(change)
                return bus.Done()
            case bus.Ping():
                return bus.Pong(os.getpid(), 0)

    # ---- purges ------------------------------------------------------------------------------------------------------

    async def _purge_everywhere(self, kind: str, value: str, site: str, soft: bool) -> int:
        """A purge that came over HTTP: here and on the other workers, before it is answered."""
        purge = self._neighbours.number(cast("bus.PurgeKind", kind), value, soft=soft, site=site)
        return sum(await asyncio.gather(self._purge_here(purge), self._neighbours.purge(purge)))

    async def _purge_here(self, purge: bus.Purge) -> int:
        """In memory, and out of what is on disk."""
        count = await self._purger.apply(purge)
        if self._disk is not None and not purge.dry_run:
            await self._disk.settled()
        return count

    def _invalidate_elsewhere(self, kind: str, value: bytes) -> None:
        purge = self._neighbours.number(cast("bus.PurgeKind", kind), value.decode("ascii"))
        self._spawn(self._neighbours.tell(purge))

    # ---- what the objects need of each other -------------------------------------------------------------------------

    def _status(self) -> dict[str, object]:
        now = self._now()
        open_, idle = self._upstreams.counts
        return {
            "pools": {
                name: [
                    {
                        "address": peer.address,
                        "route": peer.route,
                        "standing": peer.standing.value,
                        "why": peer.why.value,
                        "active": peer.active,
                        "share": peer.share,
                        "for": max(0.0, peer.until - now) if peer.until > now else 0.0,
                    }
                    for peer in pool.status(now)
                ]
                for name, pool in self._pools.items()
            },
            "store": {"bytes": self._store.bytes, "entries": self._store.entries, "limit": self._store.limit},
            "connections": len(self._front.connections),
            "upstream_connections": {"open": open_, "idle": idle},
            "trouble": self._observer.trouble(),
        }

    def _tick(self) -> None:
        """Every quarter of a second: logs out, gauges, and how late the loop is."""
        now = self._loop.time()
        lag = max(0.0, now - self._expected)
        self._expected = now + EVERY
        self._ticker = self._loop.call_later(EVERY, self._tick)
        self._wall_offset = self._front.wall_offset = time.time() - now
        self._observer.flush()
        self._store.settle_garbage()
        self._fit_store()
        self._front.shaper.tick()
        if now >= self._steady_until:
            doors = self._current.doors.values() if self._current is not None else ()
            self._front.void_plans({door.index for door in doors if door.mode in {"forward", "transparent"}})
            self._steady_until = self._decisions_hold()
        self._gauges.take(lag, self._disk.counts if self._disk is not None else Counts())

    def _fit_store(self) -> None:
        """Store and memos together keep to the memory. Memos have their share, and each of them a least size: where
        that is more, it is the store's loss, down to half of the memory.
        """
        memory = self._memory
        limit = max(memory // 2, memory - max(memory // MEMO_SHARE, self._front.memo_bytes))
        if limit != self._store.limit:
            self._store.resize(limit)

    def _wall(self, now: float) -> WallTime:
        return WallTime(self._wall_offset + now)

    def _now(self) -> MonoTime:
        return MonoTime(self._loop.time())

    def _context(self, origin: Origin) -> ssl.SSLContext | None:
        if origin.scheme != "https" or self._current is None:
            return None
        return self._current.contexts[origin.tls_verify, origin.tls_ca]

    def _changed(self, change: Change) -> None:
        """An origin's standing has changed: for the error log."""
        if change.standing is Standing.EJECTED:
            self._slots[EJECTIONS] += 1
        log.warning(
            "pool %s: origin %s is %s (%s)", change.pool, change.address, change.standing.value, change.why.value
        )

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _pseudonym(runtime: Path) -> bytes:
    """Our name in Via towards origins: the same for all workers of an instance, another for each instance (RFC 9110
    §7.6.3).
    """
    said = f"{os.uname().nodename}:{runtime}".encode()
    return b"tandem-" + hashlib.blake2b(said, digest_size=4).hexdigest().encode()
