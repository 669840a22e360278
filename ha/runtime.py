"""`ha` from its first order to its end: configurations, health and the peer link, around the engine.

Nothing is decided here; what may take time is elsewhere (evidence.py, scribe.py). Health, words of other nodes and
orders become events, all on one thread, and go to `engine.py`. Invariants: an exception ends the process, whose will
the supervisor carries out; a configuration that cannot be served changes nothing.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from config import load
from config.faults import Faults
from config.units import MonoTime
from ha import control, netlink, orders, peer, privileges, report, sayings, sysctls
from ha import events as e
from ha import plan as planning
from ha.engine import Engine, Hooks
from ha.events import Loud, State
from ha.evidence import ORIGINS_EVERY, Evidence, Observer
from ha.garbage import Collector
from ha.moving import Mover
from ha.netlink import Netlink
from ha.past import Past
from ha.sayings import Ask
from ha.station import Station
from ha.verdict import Judge

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from config.schema import Config
    from ha.engine import Key
    from ha.events import PeerWord
    from ha.machine import VirtualRouter
    from ha.plan import Plan
    from ha.scribe import Scribe

_SILENT: Final = 10  # intervals without a frame, and at least a second: then the link is made anew
_ADDRESS_LIMIT: Final = 3.0  # seconds in which an interface may get its link-local address: DAD takes 1.7 s
_ROUTES: Final = Path("/proc/thread-self/net/route")
_BEAT_OF_LINK: Final = 0.05  # seconds for it to be told
_STOP_LIMIT: Final = 0.6  # seconds for all machines to say that they have stopped


@dataclass(frozen=True, slots=True)
class Prepared:
    """A configuration that can be served."""

    generation: int
    config: Config
    digest: str
    plan: Plan
    key: bytes | None  # of the peer link
    base: Path


class Runtime:
    def __init__(
        self,
        channel: socket.socket,
        runtime: Path,
        page_of: Callable[[int], memoryview],
        scribe: Scribe,
        *,
        real_time: bool = True,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._channel = channel
        self._folder = runtime
        self._scribe = scribe
        self._real_time = real_time
        self._past = Past(runtime / "ha.state", scribe)
        self._observer = Observer(self._loop, runtime, page_of, self._on_evidence)
        self._messages: asyncio.Queue[tuple[orders.ToHa, list[int]]] = asyncio.Queue()
        self._next: Prepared | None = None
        self._now: Prepared | None = None
        self._judge: Judge | None = None
        hooks = Hooks(
            lambda router, say, to: self._send_words([router.word(say, to)]),
            self._note_change,
            self._note_shout,
            self._note_split,
            self._note_stop,
            self._tell_will,
            self._await_quiet,
            lambda: self._observer.look_at_origins(self._on_origins),
        )
        self._engine = Engine(scribe, hooks)
        self._mover = Mover(self._engine, self._observer, scribe, self._say)
        self._heard: dict[str, MonoTime] = {}  # by node: the last frame on the link
        self._words: dict[Key, PeerWord] = {}  # by node, VRID and family
        self._server: asyncio.Server | None = None
        self._stopped: set[Key] = set()
        self._beat_timer: asyncio.TimerHandle | None = None
        self._settle_timer: asyncio.TimerHandle | None = None
        self._denied: list[str] = []
        self._ended = asyncio.Event()

    # ---- the supervisor's orders -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serves until told to stop, or the supervisor is gone."""
        self._channel.setblocking(False)
        self._loop.add_reader(self._channel.fileno(), self._on_order)
        obeying = asyncio.create_task(self._obey())
        ending = asyncio.create_task(self._ended.wait())
        await asyncio.wait((obeying, ending), return_when=asyncio.FIRST_COMPLETED)
        if obeying.done():
            obeying.result()
        obeying.cancel()
        ending.cancel()
        await self._close()

    def _on_order(self) -> None:
        try:
            while (received := orders.receive(self._channel)) is not None:
                order = orders.decode_to_ha(received[0])
                if isinstance(order, orders.Gated):
                    self._mover.gated.set()
                else:
                    self._messages.put_nowait((order, received[1]))
        except (EOFError, orders.BadOrderError):  # the supervisor is gone
            self.end()

    def end(self) -> None:
        """Let go at once: nobody is there who would clean up after us."""
        self._loop.remove_reader(self._channel.fileno())
        self._ended.set()

    async def _obey(self) -> None:
        while True:
            message, fds = await self._messages.get()
            match message:
                case orders.Prepare():
                    await self._prepare(message, fds)
                case orders.Commit():
                    await self._commit()
                case orders.Abort():
                    self._next = None
                case orders.Stop(seconds):
                    await self._mover.wait_for_quiet(float(seconds))
                    return

    def _say(self, message: orders.FromHa, fds: Sequence[int] = ()) -> None:
        orders.send(self._channel, message, fds)

    async def _prepare(self, order: orders.Prepare, fds: list[int]) -> None:
        try:
            texts = [_read_all(fd) for fd in fds]
            config = load.accept(texts[0], order.name)
            assert config.ha is not None, "who has no [ha] needs no ha"
            key = peer.parse_secret(texts[1]) if len(texts) > 1 else None
            plan = await self._plan(config, order.digest)
        except (Faults, ValueError, planning.PlanError, OSError) as exc:
            self._say(orders.Refused(order.generation, orders.cut(f"[ha] {exc}")))
            return
        finally:
            for fd in fds:
                os.close(fd)
        base = self._folder.__class__(order.base)
        self._next = Prepared(order.generation, config, order.digest, plan, key, base)
        self._say(orders.Prepared(order.generation))

    async def _plan(self, config: Config, digest: str) -> Plan:
        """The plan; a link-local address may need a moment after the interface has come up."""
        assert config.ha is not None
        until = self._loop.time() + _ADDRESS_LIMIT
        while True:
            kernel = Netlink("lo")
            try:
                node, interface = planning.find_self(config.ha, kernel.interface_of)
                return planning.build(config.ha, digest, node, interface, self._past.forms, _service_patience(config))
            except planning.PlanError:
                if self._loop.time() > until:
                    raise
            finally:
                kernel.close()
            await asyncio.sleep(0.1)

    async def _commit(self) -> None:
        prepared, self._next = self._next, None
        assert prepared is not None, "commit comes after prepare"
        before, self._now = self._now, prepared
        if before is None:
            await self._start(prepared)
        else:
            await self._reload(before, prepared)
        self._say(orders.Ready(prepared.generation))

    # ---- start, reload, end ------------------------------------------------------------------------------------------

    async def _start(self, prepared: Prepared) -> None:
        """Leftovers, sockets, settings, and then listening: nothing is claimed before a whole Active_Down."""
        assert prepared.config.ha is not None
        await self._past.remove_leftovers(prepared.plan)
        self._judge = Judge(prepared.config.ha)
        for planned in prepared.plan.routers:
            await self._add_station(planned, prepared.config)
        self._engine.regroup(prepared.plan.routers)
        self._mover.node = prepared.plan.node
        await self._open_links(prepared)
        self._server = await control.serve(self._folder / control.SOCKET, self._answer)
        if self._real_time:
            self._denied = privileges.go_real_time(self._overran)
            for line in self._denied:
                self._scribe.say(line, "WARNING")
        self._observer.configure(prepared.config, prepared.base)
        self._tell_will()
        if self._real_time:
            Collector(self._loop, self._engine.due).start()
        for key in list(self._engine.stations):
            self._engine.handle(key, e.Startup())
        self._tell_standings()
        self._beat()

    async def _add_station(self, planned: planning.Planned, config: Config) -> None:
        assert config.ha is not None
        name = planned.config.interface
        parent = self._engine.netlink(name)
        addresses = parent
        values = sysctls.wanted(name, _routes())
        if config.ha.virtual_mac and parent.interface is not None:
            virtual = netlink.virtual_name(planned.config.vrid, planned.config.family, parent.interface.index)
            self._past.note_link(virtual)
            await netlink.add_virtual_mac(parent.interface, planned.config.vrid, planned.config.family)
            addresses = self._engine.netlink(virtual, alone=True)
            values = dict(sysctls.FOR_MACVLAN)
        self._past.set_up(dict.fromkeys([name, addresses.name]), values)
        station = Station(planned, config.ha, self._past.next_incarnation(), parent, addresses, self._scribe.warn)
        self._engine.stations[planned.config.key] = station
        self._engine.open_station(station)
        if parent.interface is None or not parent.interface.up:
            station.router.link = False

    async def _open_links(self, prepared: Prepared) -> None:
        plan = prepared.plan
        if plan.link is None or prepared.key is None:
            return
        callbacks = peer.Callbacks(self._on_link_up, self._on_frame, self._on_link_down, self._on_stranger)
        links = peer.Links(plan.node, prepared.key, plan.link, plan.peers, callbacks)
        try:
            await links.start()
        except OSError as exc:
            self._scribe.warn(
                "link", f"no peer link: cannot listen on {plan.link[0]} port {plan.link[1]}: {exc.strerror}"
            )
            await links.close()
            return
        self._mover.links = links

    async def _reload(self, before: Prepared, prepared: Prepared) -> None:
        """Unchanged routers keep state, timers and addresses; others change with their next advertisement."""
        assert prepared.config.ha is not None
        assert self._judge is not None
        wanted = {planned.config.key: planned for planned in prepared.plan.routers}
        self._past.remember(prepared.plan, besides=True)
        for key in [key for key in self._engine.stations if key not in wanted]:
            await self._remove_station(key)
        for key, planned in wanted.items():
            station = self._engine.stations.get(key)
            if station is None:
                await self._add_station(planned, prepared.config)
                continue
            station.reconfigure(planned, prepared.config.ha)
            grouped = replace(planned.config, group=station.router.config.group)
            if grouped != station.router.config:
                self._engine.handle(key, e.Reconfigured(grouped))
            if _shape(before.config) != _shape(prepared.config):
                self._engine.open_station(station)
        self._engine.regroup(prepared.plan.routers)
        self._past.remember(prepared.plan)
        self._judge.configure(prepared.config.ha)
        self._observer.configure(prepared.config, prepared.base)
        if (before.plan.link, before.plan.peers, before.key) != (prepared.plan.link, prepared.plan.peers, prepared.key):
            await self._close_links()
            await self._open_links(prepared)
        self._tell_will()
        for key, station in self._engine.stations.items():
            if not station.router.started:
                self._engine.handle(key, e.Startup())
        self._judge_all()
        self._tell_standings()

    async def _remove_station(self, key: Key) -> None:
        """It lets go as at a stop: priority 0 three times, and the other node has had its chance to answer."""
        self._engine.handle(key, e.Shutdown())
        await self._mover.wait_until(lambda: key in self._stopped, _STOP_LIMIT)
        self._stopped.discard(key)
        self._engine.remove_station(key)

    async def _close(self) -> None:
        """All addresses are off, the other nodes know it, and the machine is as it was."""
        self._mover.leave()
        for key in list(self._engine.stations):
            self._engine.handle(key, e.Shutdown())
        await self._mover.wait_until(lambda: self._stopped >= self._engine.stations.keys(), _STOP_LIMIT)
        await self._mover.linger()
        assert not any(station.router.held for station in self._engine.stations.values())
        self._observer.stop()
        for timer in (*self._engine.timers.values(), self._beat_timer, self._settle_timer):
            if timer is not None:
                timer.cancel()
        if self._server is not None:
            self._server.close()
        await self._close_links()
        for station in self._engine.stations.values():
            self._engine.close_station(station)
        for task in self._engine.tasks:
            task.cancel()
        await asyncio.gather(*self._engine.tasks, return_exceptions=True)
        await self._past.end()
        (self._folder / control.SOCKET).unlink(missing_ok=True)
        for one in self._engine.netlinks.values():
            one.close()
        self._say(orders.Will())
        self._channel.close()

    async def _close_links(self) -> None:
        links, self._mover.links = self._mover.links, None
        if links is not None:
            await links.close()

    # ---- health ------------------------------------------------------------------------------------------------------

    def _on_evidence(self, evidence: Evidence) -> None:
        if self._judge is not None:
            self._judge.note(evidence, _now())
            self._judge_all()

    def _on_origins(self, good: bool, asked: MonoTime) -> None:
        for key in list(self._engine.stations):
            self._engine.handle(key, e.OriginsSeen(good, asked))

    def _judge_all(self) -> None:
        assert self._judge is not None
        now = _now()
        for key, station in list(self._engine.stations.items()):
            router = station.router
            whole = any(
                (word := router.words.of(node.name, now)) is not None and word.priority == node.priority
                for node in router.config.nodes
            )
            health = self._judge.judge(router.config.priority, now, peer_is_whole=whole)
            if health != router.health:
                self._engine.handle(key, e.HealthChanged(health))
        if self._settle_timer is not None:
            self._settle_timer.cancel()
        at = self._judge.settles_at()
        self._settle_timer = None if at is None else self._loop.call_at(max(at, now + 0.001), self._judge_all)

    # ---- the link ----------------------------------------------------------------------------------------------------

    def _on_link_up(self, node: str) -> None:
        self._heard[node] = _now()
        self._scribe.say(f"link to {node} is up")
        self._tell_will()
        self._send_words([station.router.word() for station in self._engine.stations.values()])

    def _on_frame(self, node: str, payload: bytes) -> None:
        self._heard[node] = _now()
        try:
            saying = sayings.decode(node, payload)
        except sayings.BadSayingError as exc:
            self._scribe.warn(f"link {node}", f"link to {node}: {exc}")
            return
        if isinstance(saying, Ask):
            self._engine.spawn(self._mover.hand_over(saying.to))
            return
        for word in saying:
            self._on_word(word)

    def _on_word(self, word: PeerWord) -> None:
        known = (word.node, word.vrid, word.family)
        before, self._words[known] = self._words.get(known), word
        for key, station in list(self._engine.stations.items()):
            if key[1:] != (word.vrid, word.family):
                continue
            if station.learn_source(word.node, word.source):
                self._engine.open_station(station)
            self._engine.handle(key, e.PeerSaid(word))
        if before is None or before.state is not word.state:
            self._mover.changed.set()
        if before is None or before.priority != word.priority:
            self._judge_all()

    def _on_link_down(self, node: str, reason: str, ended: bool) -> None:
        self._tell_will()  # whoever shares the socket lets go of it too
        self._scribe.say(f"link to {node} is down: {reason}", "WARNING")
        for key in list(self._engine.stations):
            self._engine.handle(key, e.PeerLost(node, ended))

    def _on_stranger(self, where: str, why: str) -> None:
        self._scribe.warn(f"link {where} {why}", f"link: a connection with {where} came to nothing: {why}")

    def _send_words(self, words: list[PeerWord]) -> None:
        if self._mover.links is not None and words:
            payload = sayings.encode_words(words)
            for node in self._mover.links.peers:
                self._mover.links.send(node, payload)

    def _beat(self) -> None:
        """Who is not Active says so each interval; an Active's words go with its advertisements."""
        self._beat_timer = self._loop.call_later(self._interval(), self._beat)
        self._engine.notice_sleep()
        for station in self._engine.stations.values():
            station.read_strangers()
        waiting = [s.router.word() for s in self._engine.stations.values() if s.router.state is not State.ACTIVE]
        self._send_words(waiting)
        silence = max(1.0, _SILENT * self._interval())
        if self._mover.links is not None:
            for node, at in self._heard.items():
                if self._mover.links.is_up(node) and _now() - at > silence:
                    self._mover.links.cut(node, "silent")

    def _interval(self) -> float:
        return min((station.router.config.interval for station in self._engine.stations.values()), default=1.0)

    # ---- telling -----------------------------------------------------------------------------------------------------

    def _note_change(self, station: Station, change: e.Changed, now: MonoTime) -> None:
        station.note_change(change, now)
        router = station.router
        if change.old is change.new:
            return
        self._scribe.say(f"{station.name}: {change.old.value} -> {change.new.value}: {change.why}")
        assert self._now is not None
        ha = self._now.config.ha
        if ha is not None and ha.notify:
            stopped = change.new is State.INITIALIZE and change.why == "stopped"
            self._scribe.notify(ha.notify, station.name, change.new, router.priority, stopped=stopped)
        self._mover.changed.set()
        self._loop.call_soon(self._after_change)

    def _after_change(self) -> None:
        assert self._now is not None
        self._tell_standings()
        self._learn_forms()
        self._engine.regroup(self._now.plan.routers)

    def _learn_forms(self) -> None:
        """A checksum form that another node was heard with is kept for the next life."""
        if self._past.learn_forms({station.name: station.router.form for station in self._engine.stations.values()}):
            self._tell_will()

    def _note_shout(self, station: Station, what: Loud, detail: str) -> None:
        station.counts.shouts[what.value] += 1
        line = f"{station.name}: {what.value}" + (f": {detail}" if detail else "")
        if what is Loud.REFUSED:
            self._mover.refusal = detail
        self._scribe.warn(f"{station.name} {what.value}", line)

    def _note_split(self, station: Station, seconds: float) -> None:
        station.counts.split_seconds += seconds
        self._scribe.say(f"{station.name}: two were Active for {seconds * 1000:.0f} ms", "WARNING")

    def _await_quiet(self, router: VirtualRouter, to: str) -> None:
        self._engine.spawn(self._mover.yield_to(router.config.key, to))

    def _note_stop(self, key: Key) -> None:
        self._stopped.add(key)
        self._mover.changed.set()

    def _tell_standings(self) -> None:
        self._say(
            orders.Standings(
                tuple(
                    orders.Standing(
                        station.name,
                        int(station.router.config.family),
                        station.router.config.vrid,
                        tuple(str(vip) for vip in station.router.config.addresses),
                        station.router.state.value,
                        station.router.why,
                    )
                    for station in self._engine.stations.values()
                )
            )
        )

    def _tell_will(self) -> None:
        """With the links: their end says that we are dead, while the kernel still frees our memory."""
        links = [] if self._mover.links is None else self._mover.links.descriptors()
        self._say(orders.Will(tuple(station.bequest() for station in self._engine.stations.values())), links)

    def _overran(self) -> None:
        self._scribe.warn("overrun", "the loop ran for 200 ms without a pause: real-time priority is given up")
        self._denied = [*self._denied, "real-time priority was given up after a loop of 200 ms"]

    # ---- questions ---------------------------------------------------------------------------------------------------

    async def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        match question:
            case {"command": "status"}:
                return {"ok": True, **self.status()}
            case {"command": "metrics"}:
                status = self.status()
                for station in self._engine.stations.values():
                    station.counts.gap = 0.0
                return {"ok": True, **status}
            case {"command": "look"}:  # admin: something has changed
                self._observer.ask_soon()
                return {"ok": True}
            case {"command": "handover"}:
                return await self._mover.hand_over(str(question.get("to") or ""))
            case {"command": "drill"}:
                seconds = question.get("seconds")
                return await self._mover.drill(min(20.0, float(seconds)) if isinstance(seconds, int | float) else 2.0)
        return {"ok": False, "error": f"no such command: {question['command']}"}

    def status(self) -> dict[str, Any]:
        assert self._now is not None
        plan = self._now.plan
        evidence = self._observer.evidence
        return {
            "node": plan.node,
            "interface": plan.interface,
            "digest": self._now.digest,
            "denied": self._denied,
            "workers": [worker.value for worker in evidence.workers],
            "origins": {name: seen.value for name, seen in evidence.origins.items()},
            "tracks": {name: look.seen.value for name, look in evidence.tracks.items()},
            "routers": [report.describe_router(station) for station in self._engine.stations.values()],
            "nodes": [self._describe_node(name) for name in plan.ha.nodes if name != plan.node],
        }

    def _describe_node(self, name: str) -> dict[str, Any]:
        assert self._now is not None
        now = _now()
        up = self._mover.links is not None and self._mover.links.is_up(name)
        link = "none" if self._mover.links is None else "up" if up else "down"
        words = (station.router.words.of(name, now) for station in self._engine.stations.values())
        address = self._now.plan.ha.nodes[name].address
        return report.describe_node(name, address, link, self._now.digest, [word for word in words if word is not None])


def _shape(config: Config) -> tuple[object, ...]:
    """What sockets and built packets depend on: vips and intervals too, for they are in every packet."""
    ha = config.ha
    assert ha is not None
    return (
        ha.nodes,
        ha.vip,
        ha.router,
        ha.interval,
        ha.version,
        ha.password,
        ha.unicast,
        ha.min_ttl,
        ha.others,
        ha.virtual_mac,
    )


def _service_patience(config: Config) -> float:
    """How long after another node we may find out that an origin is gone, when nobody answers who could look now."""
    checks = [site.health for site in config.site if site.health is not None]
    periods = [(float(check.every) + float(check.timeout)) * check.fall for check in checks]
    return max(periods) + ORIGINS_EVERY + _BEAT_OF_LINK if periods else 0.0


def _routes() -> str:
    try:
        return _ROUTES.read_text()
    except OSError:
        return ""


def _read_all(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    return os.pread(fd, size, 0)


def _now() -> MonoTime:
    return MonoTime(time.monotonic())
