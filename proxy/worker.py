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
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, cast

from config.units import MonoTime, WallTime
from proxy import bus, link, namelists, parcel, region
from proxy.cache.disk import Away, Counts, Disk
from proxy.cache.store import Store
from proxy.explaining import Explainer
from proxy.listing import Lister
from proxy.modes.every import Modes, names_of
from proxy.modes.forward import Forward
from proxy.modes.reverse import site_names
from proxy.modes.transparent import Transparent
from proxy.observe import metrics
from proxy.observe.accesslog import LogFile, compile_format
from proxy.observe.observer import EVERY, AccessLog, Observer
from proxy.outbox import Outbox
from proxy.pipeline import Pipeline
from proxy.policy.target import BadTargetError
from proxy.purging import PURGE_PATIENCE, Purger
from proxy.runtime import disk_file, stale_mark, worker_socket
from proxy.server.doors import acceptor, forward_door, transparent_door
from proxy.server.front import MEMO_SHARE, Door, Front
from proxy.server.hoard import FREE
from proxy.server.tls import Certificate, ServerTls, TlsError, build_contexts, build_origin_context
from proxy.service import Refused
from proxy.upstream.client import Upstreams
from proxy.upstream.health import Standing, Verdict
from proxy.upstream.pool import Pool
from proxy.upstream.resolve import Resolver
from proxy.users.htpasswd import parse_passwords
from proxy.users.logins import LIFETIME, Logins
from proxy.users.prover import ThreadProver
from proxy.wheel import Drive, Wheel

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from config.schema import Config, Site
    from config.units import Listen
    from proxy.exchange import Origin
    from proxy.namelists import Lists
    from proxy.server.protocol import ClientConnection
    from proxy.server.splicing import SplicedConnection
    from proxy.service import Listener, Settings
    from proxy.upstream.pool import Change
    from proxy.users.htpasswd import Passwords

log = logging.getLogger("tandem")
MOST_QUEUED = 1024  # connections that wait in the kernel to be accepted
SHARE_FOR_ORIGINS = 4  # of the descriptors, one in so many is kept for origins and files
IDLE_GRACE = 0.1  # seconds in which a request that had already arrived is still read, when draining


@dataclass(slots=True)
class Prepared:
    """What a configuration has become, ready to be swapped in."""

    settings: Settings
    mode: Modes
    doors: dict[Listen, Door]
    tls: dict[Listen, ServerTls]
    contexts: dict[tuple[bool, str], ssl.SSLContext]
    logs: list[AccessLog]
    opened: list[LogFile]
    lists: Lists
    passwords: Passwords | None
    servers: dict[int, Serving] = field(default_factory=dict)  # new ones by serial, not yet accepting


@dataclass(slots=True)
class Serving:
    """One listening socket being served."""

    listen: Listen
    scheme: bytes
    server: asyncio.Server
    sock: socket.socket
    accepted: Callable[[], ClientConnection | SplicedConnection]  # makes the protocol of one connection
    tls: ssl.SSLContext | None


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
        self._servers: dict[int, Serving] = {}
        self._pools: dict[str, Pool] = {}
        self._disk: Disk | None = None
        self._disk_counted = (0, 0, 0)
        self._moment = 0  # of the last purge of ours that others were told of, in microseconds
        self._ticker: asyncio.TimerHandle | None = None
        self._expected = 0.0
        self._evictions = 0
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
            have = self._current.lists if self._current is not None else {}
            lists = await namelists.read_lists(settings.config, settings.lists, have)
            self._next = self._build(settings, lists)
            await self._open_servers(self._next)
        except (TlsError, ValueError, OSError) as problem:
            self._forget_next()
            raise Refused(str(problem)) from problem

    def _build(self, settings: Settings, lists: Lists) -> Prepared:
        config = settings.config
        secrets = {path: parcel.unseal(settings.secrets[path]) for path in _logins_of(config)}
        mode = Modes(config, settings.files, {name: names for name, (_, names) in lists.items()}, secrets)
        doors: dict[Listen, Door] = {}
        tls: dict[Listen, ServerTls] = {}
        names = site_names(config)
        for index, listen in enumerate(mode.listeners):
            owner = mode.mode_of(index)
            if isinstance(owner, Forward):
                doors[listen] = forward_door(listen, index, owner, config.limits)
                continue
            if isinstance(owner, Transparent):
                doors[listen] = transparent_door(listen, index, owner, config.limits)
                continue
            sites = [(site, name) for site, name in zip(config.site, names, strict=True) if listen in site.listen]
            secure = any(site.speaks_tls(listen) for site, _ in sites)
            views = {name: mode.sites[name] for _, name in sites}
            default = _default_authority(sites[0][0], listen)
            doors[listen] = Door(
                listen, index, b"https" if secure else b"http", "reverse", config.limits, views, default
            )
            if secure:
                tls[listen] = _server_tls([site for site, _ in sites], settings)
        contexts = {
            (origin.tls_verify, origin.tls_ca): _origin_context(origin, settings)
            for spec in mode.pools.values()
            for origin in spec.origins
            if origin.scheme == "https"
        }
        passwords = _read_passwords(settings)
        logs, opened = self._open_logs(config, settings.base)
        return Prepared(settings, mode, doors, tls, contexts, logs, opened, lists, passwords)

    def _open_logs(self, config: Config, base: Path) -> tuple[list[AccessLog], list[LogFile]]:
        """Files that are open already stay open."""
        have = {log.file.path: log.file for log in (self._current.logs if self._current else ())}
        logs, opened = [], []
        for entry in config.log.access:
            path = entry.file if entry.file == "-" else str(log_path(entry.file, base))
            file = have.get(path)
            if file is None:
                have[path] = file = LogFile(path)
                opened.append(file)
            logs.append(AccessLog(file, compile_format(entry.format)))
        return logs, opened

    async def _open_servers(self, prepared: Prepared) -> None:
        """Sockets not yet served get a server that does not accept before the commit."""
        for listener in prepared.settings.listeners:
            door = prepared.doors.get(listener.listen)
            if door is None:
                continue
            serving = self._servers.get(listener.serial)
            if serving is not None and serving.scheme == door.scheme:
                continue
            prepared.servers[listener.serial] = await self._open_server(listener, door.scheme, prepared)

    async def _open_server(self, listener: Listener, scheme: bytes, prepared: Prepared) -> Serving:
        listen = listener.listen
        tls = self._current.tls.get(listen) if self._current is not None else None
        tls = tls or prepared.tls.get(listen)

        def door() -> Door:
            assert self._current is not None
            return self._current.doors[listen]

        accepted = acceptor(self._front, door)
        sock = listener.open()
        context = tls.context if scheme == b"https" and tls is not None else None
        server = await self._loop.create_server(
            accepted,
            sock=sock,
            ssl=context,
            backlog=MOST_QUEUED,
            start_serving=False,
            # Before its handshake a connection is no client's yet, and counts towards no limit but this one.
            ssl_handshake_timeout=prepared.settings.config.limits.head_time if context is not None else None,
        )
        return Serving(listen, scheme, server, sock, accepted, context)

    def commit(self) -> None:
        prepared, self._next = self._next, None
        assert prepared is not None
        before, self._current = self._current, prepared
        self._exchange_lists(prepared.lists, before.lists if before is not None else {})
        if before is None:
            gc.collect()
            gc.freeze()  # what was loaded to start is never garbage: no collection looks at it again
        if before is not None:
            for listen, tls in before.tls.items():  # the old object stays with its server: new certificates go into it
                new = prepared.tls.get(listen)
                if new is not None:
                    tls.adopt(new)
                    prepared.tls[listen] = tls
        self._apply(prepared)
        wanted = {listener.serial for listener in prepared.settings.listeners if listener.listen in prepared.doors}
        for serial in [serial for serial in self._servers if serial not in wanted or serial in prepared.servers]:
            self._servers.pop(serial).server.close()
        for serial, serving in prepared.servers.items():
            self._servers[serial] = serving
            self._spawn(serving.server.start_serving())

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
        self._store.resize(memory - memos)
        self._store.most_variants = config.cache.variants
        self._change_disk(settings)
        self._upstreams.limits = config.limits
        self._resolver.configure(config.dns.servers, config.dns.negative_ttl)
        self._pools = {name: Pool(spec, self._pools.get(name)) for name, spec in prepared.mode.pools.items()}
        self._pipeline.configure(prepared.mode, self._pools)
        if prepared.passwords is not None:
            self._logins.adopt(prepared.passwords)
        self._pipeline.logins = self._logins if prepared.passwords is not None else None
        self._steady_until = self._decisions_hold()
        alone = settings.workers == 1
        self._purger.configure(prepared.mode, self._pipeline.planner.beside)
        self._pipeline.purge = self._purge_everywhere
        self._pipeline.invalidate_elsewhere = None if alone else self._invalidate_elsewhere
        self._upstreams.retain({origin for spec in prepared.mode.pools.values() for origin in spec.origins})
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = config.limits.connections or files - files // SHARE_FOR_ORIGINS
        self._upstreams.most = files // SHARE_FOR_ORIGINS
        self._front.configure(
            config.limits,
            memo=config.cache.memo and memory > 0,
            most_connections=most,
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
            for serving in prepared.servers.values():
                serving.server.close()
            for file in prepared.opened:
                file.close()
            if gone := namelists.gone_from(prepared.lists, self._current.lists if self._current is not None else {}):
                self._spawn(namelists.dissolve(gone))

    async def drain(self, deadline: float) -> None:
        """Listeners close, what has arrived is answered, and the rest is cut at the deadline."""
        if not self._started:
            return
        front = self._front
        for serving in self._servers.values():
            await self._accept_queued(serving)
            serving.server.close()
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

    async def _accept_queued(self, serving: Serving) -> None:
        """Whoever the kernel has connected for us is served: closing the listener would reset them."""
        for _ in range(MOST_QUEUED):
            try:
                sock, _ = serving.sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # gone while it waited
                continue
            sock.setblocking(False)
            with contextlib.suppress(OSError):
                await self._loop.connect_accepted_socket(serving.accepted, sock, ssl=serving.tls)

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
            self._loop.run_in_executor(None, before.forget)
        if folder is None or path is None:
            return
        surplus: tuple[Path, ...] = ()
        if self._index == 0:
            surplus = tuple(disk_file(folder, n) for n in range(settings.workers, region.MAX_WORKERS))
        stale = stale_mark(folder, self._index)
        self._disk = disk = Disk(self._loop, path, limit, self._store, stale=stale, surplus=surplus)
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
            for connection in list(self._front.connections):
                connection.close_if_idle()

    def in_flight(self) -> int:
        return self._front.busy

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

    # ---- the other workers -------------------------------------------------------------------------------------------

    async def _purge_everywhere(self, kind: str, value: str, site: str, soft: bool) -> int:
        """A purge that came over HTTP: here and on the other workers, before it is answered."""
        purge = self._number_purge(cast("bus.PurgeKind", kind), value, soft=soft, site=site)
        here, elsewhere = await asyncio.gather(self._purge_here(purge), self._purge_elsewhere(purge))
        return here + elsewhere

    async def _purge_here(self, purge: bus.Purge) -> int:
        """In memory, and out of what is on disk."""
        count = await self._purger.apply(purge)
        if self._disk is not None and not purge.dry_run:
            await self._disk.settled()
        return count

    def _number_purge(self, kind: bus.PurgeKind, value: str, *, soft: bool = False, site: str = "") -> bus.Purge:
        self._moment = max(self._moment + 1, time.time_ns() // 1000)
        number = self._moment * region.MAX_WORKERS + self._index  # grows, and no two workers make the same
        return bus.Purge(number, kind, value, soft=soft, site=site)

    async def _purge_elsewhere(self, purge: bus.Purge) -> int:
        assert self._current is not None
        settings = self._current.settings
        others = [index for index in range(settings.workers) if index != self._index]
        answers = await asyncio.gather(*(self._ask(settings.runtime, index, purge) for index in others))
        return sum(answers)

    async def _ask(self, folder: Path, index: int, purge: bus.Purge) -> int:
        """One that does not answer is dead or starting: its memory will be empty, and what it has on disk may not be
        used.
        """
        try:
            answer = await link.ask_once(worker_socket(folder, index), purge, PURGE_PATIENCE)
        except link.LinkError as problem:
            log.warning("purge: worker-%d was not reached: %s", index, problem)
            if self._disk is not None:
                stale_mark(self._disk.path.parent, index).touch(mode=0o600)
            return 0
        return answer.count if isinstance(answer, bus.Purged) else 0

    def _invalidate_elsewhere(self, kind: str, value: bytes) -> None:
        """The other workers are told; the answer to the unsafe request does not wait for them (RFC 9111 §4.4)."""
        purge = self._number_purge(cast("bus.PurgeKind", kind), value.decode("ascii"))

        async def tell() -> None:
            await self._purge_elsewhere(purge)

        self._spawn(tell())

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
        self._front.shaper.tick()
        if now >= self._steady_until:
            doors = self._current.doors.values() if self._current is not None else ()
            self._front.void_plans({door.index for door in doors if door.mode == "forward"})
            self._steady_until = self._decisions_hold()
        self._gauges(lag)

    def _gauges(self, lag: float) -> None:
        slots = self._slots
        open_, idle = self._upstreams.counts
        slots[_CONNECTIONS] = len(self._front.connections)
        slots[_UPSTREAM_OPEN] = open_
        slots[_UPSTREAM_IDLE] = idle
        slots[_EXCHANGES] = self._front.busy
        slots[_TUNNELS] = sum(connection.is_tunnel for connection in self._front.connections)
        slots[_STORE_BYTES] = self._store.bytes
        slots[_STORE_ENTRIES] = self._store.entries
        disk = self._disk.counts if self._disk is not None else Counts()
        slots[_DISK_BYTES], slots[_DISK_ENTRIES] = disk.bytes, disk.entries
        counted, before = (disk.loaded, disk.dropped, disk.damaged), self._disk_counted
        self._disk_counted = counted
        for at, now, then in zip((_DISK_LOADED, _DISK_DROPPED, _DISK_DAMAGED), counted, before, strict=True):
            slots[at] += max(0, now - then)
        slots[_MEMO_ENTRIES] = self._front.memo_entries
        slots[_LAG] = int(lag * 1e6)
        slots[_EVICTED] += self._store.evictions - self._evictions
        self._evictions = self._store.evictions
        self._take_over()

    def _take_over(self) -> None:
        """What the objects counted by themselves since the last tick, into the counters."""
        slots, upstreams, tally = self._slots, self._upstreams, self._pipeline.tally
        accepted, refused = self._front.take_counts()
        slots[_ACCEPTED] += accepted
        slots[_REFUSED] += refused
        slots[_OPENED] += upstreams.opened
        slots[_REUSED] += upstreams.reused
        slots[_RETRIES] += upstreams.retries
        upstreams.opened = upstreams.reused = upstreams.retries = 0
        slots[_COLLAPSED] += tally.collapsed
        slots[_INVALIDATED] += tally.invalidated
        slots[_PURGED] += tally.purged
        tally.collapsed = tally.invalidated = tally.purged = 0

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
            self._slots[_EJECTIONS] += 1
        log.warning(
            "pool %s: origin %s is %s (%s)", change.pool, change.address, change.standing.value, change.why.value
        )

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_CONNECTIONS = metrics.slot("tandem_connections_open")
_UPSTREAM_OPEN = metrics.slot("tandem_upstream_connections_open")
_UPSTREAM_IDLE = metrics.slot("tandem_upstream_connections_idle")
_EXCHANGES = metrics.slot("tandem_exchanges_open")
_TUNNELS = metrics.slot("tandem_tunnels_open")
_STORE_BYTES = metrics.slot("tandem_store_bytes")
_STORE_ENTRIES = metrics.slot("tandem_store_entries")
_DISK_BYTES = metrics.slot("tandem_disk_bytes")
_DISK_ENTRIES = metrics.slot("tandem_disk_entries")
_DISK_LOADED = metrics.slot("tandem_disk_loaded_total")
_DISK_DROPPED = metrics.slot("tandem_disk_dropped_total")
_DISK_DAMAGED = metrics.slot("tandem_disk_damaged_total")
_MEMO_ENTRIES = metrics.slot("tandem_memo_entries")
_LAG = metrics.slot("tandem_loop_lag_seconds")
_REFUSED = metrics.slot("tandem_connections_refused_total")
_ACCEPTED = metrics.slot("tandem_connections_total")
_OPENED = metrics.slot("tandem_upstream_connections_total")
_REUSED = metrics.slot("tandem_upstream_reused_total")
_RETRIES = metrics.slot("tandem_retries_total")
_COLLAPSED = metrics.slot("tandem_collapsed_total")
_INVALIDATED = metrics.slot("tandem_invalidated_total")
_PURGED = metrics.slot("tandem_purged_total")
_EJECTIONS = metrics.slot("tandem_ejections_total")
_EVICTED = metrics.slot("tandem_evicted_total")


def _logins_of(config: Config) -> list[str]:
    """Files with what parents want to be told."""
    return [] if config.forward is None else [parent.login for parent in config.forward.parent if parent.login]


def _read_passwords(settings: Settings) -> Passwords | None:
    """Those of the users who must log in; None: nobody has to. ValueError with all that is wrong with the file."""
    forward = settings.config.forward
    if forward is None or not forward.users:
        return None
    passwords = parse_passwords(parcel.unseal(settings.secrets[forward.users]), forward.users)
    if passwords.faults:
        raise ValueError("\n".join(passwords.faults))
    for warning in passwords.warnings:
        log.warning("%s", warning)
    return passwords


def log_path(file: str, base: Path) -> Path:
    """Relative names count from $LOGS_DIRECTORY, or where the configuration is."""
    folder = os.environ.get("LOGS_DIRECTORY", "").split(":")[0]
    return (base if not folder else base.__class__(folder)) / file


def _server_tls(sites: list[Site], settings: Settings) -> ServerTls:
    """The certificates of a listener's sites. They go through memfds, as their keys do: a worker reads no file."""
    with contextlib.ExitStack() as stack:
        certificates = [
            Certificate(
                stack.enter_context(_in_memory(settings.files[pair.cert])),
                f"/proc/self/fd/{settings.secrets[pair.key]}",
                f"{pair.cert}, {pair.key}",
            )
            for site in sites
            for pair in site.tls
        ]
        return ServerTls(build_contexts(certificates))


def _origin_context(origin: Origin, settings: Settings) -> ssl.SSLContext:
    if not origin.tls_ca:
        return build_origin_context(verify=origin.tls_verify)
    with _in_memory(settings.files[origin.tls_ca]) as path:
        try:
            return build_origin_context(verify=origin.tls_verify, ca=path)
        except TlsError as problem:
            raise TlsError(str(problem).replace(path, origin.tls_ca)) from problem


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A path that ssl can read the content from, for as long as the context lasts."""
    fd = os.memfd_create("tandem-file", os.MFD_CLOEXEC)
    try:
        os.write(fd, content)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _default_authority(site: Site, listen: Listen) -> bytes:
    """For HTTP/1.0 requests without Host."""
    host = next((host for host in site.hosts if not host.startswith("*.")), "localhost")
    return host.encode() if listen.port in {80, 443} else b"%b:%d" % (host.encode(), listen.port)


def _pseudonym(runtime: Path) -> bytes:
    """Our name in Via towards origins: the same for all workers of an instance, another for each instance (RFC 9110
    §7.6.3).
    """
    said = f"{os.uname().nodename}:{runtime}".encode()
    return b"tandem-" + hashlib.blake2b(said, digest_size=4).hexdigest().encode()
