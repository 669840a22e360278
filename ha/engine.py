"""Where events meet machines: stations and groups of this node, their timers, sockets and interfaces.

An event of one router goes to its group, the steps are done in order, and what failed goes back as an event. What is no
station's IO (words, logs, changes of state) goes to the owner's hooks. Invariant: before a timer is told, the socket is
read, for an advertisement that waits there may cancel it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from config.units import MonoTime
from ha import events as e
from ha import netlink as watching
from ha.events import Family, Loud, Say, State
from ha.group import Group
from ha.netlink import Netlink
from ha.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from ha.events import Command, Event
    from ha.group import Step
    from ha.machine import VirtualRouter
    from ha.netlink import Change
    from ha.plan import Planned
    from ha.raw import Interface
    from ha.scribe import Scribe
    from ha.station import Station

Key = tuple[str, int, Family]

_PROBE_AGAIN: Final = 0.01  # a probe is two questions within 20 ms
_PROBE_END: Final = 0.025
_SLEPT: Final = 0.01  # seconds by which the clocks may differ without the machine having slept


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the owner does about commands that are no station's."""

    tell: Callable[[VirtualRouter, Say, str], None]
    changed: Callable[[Station, e.Changed, MonoTime], None]
    shouted: Callable[[Station, Loud, str], None]
    split_ended: Callable[[Station, float], None]
    stopped: Callable[[Key], None]
    rewired: Callable[[], None]  # prepared bytes are other ones now
    await_quiet: Callable[[VirtualRouter, str], None]
    look_at_origins: Callable[[], None]


class Engine:
    def __init__(self, scribe: Scribe, hooks: Hooks) -> None:
        self._loop = asyncio.get_running_loop()
        self._scribe = scribe
        self._hooks = hooks
        self.stations: dict[Key, Station] = {}
        self.group_of: dict[Key, Group] = {}
        self.timers: dict[Group, asyncio.TimerHandle] = {}
        self.netlinks: dict[str, Netlink] = {}  # by interface: the real ones and macvlans
        self.tasks: set[asyncio.Task[Any]] = set()
        self._relays: list[Relay] = []  # for addresses that are about to leave, or have left
        self._asleep = asleep()

    # ---- interfaces and stations -------------------------------------------------------------------------------------

    def netlink(self, name: str, *, alone: bool = False) -> Netlink:
        if name not in self.netlinks:
            self.netlinks[name] = Netlink(name, alone=alone)
            self.spawn(self.netlinks[name].watch(lambda change: self._on_change(name, change)))
        return self.netlinks[name]

    def open_station(self, station: Station) -> None:
        """Its sockets are open and read; or a line says why not, and the next change of the interface tries again."""
        self.close_station(station)
        try:
            station.open()
        except OSError as exc:
            self._scribe.warn(f"{station.name} open", f"{station.name}: {exc.strerror or exc}")
            station.close()
            return
        key = station.router.config.key
        assert station.wire is not None
        assert station.neighbours is not None
        self._loop.add_reader(station.wire.fileno(), self._on_packets, key)
        self._loop.add_reader(station.neighbours.fileno(), self._on_claims, key)
        self._loop.call_soon(self.check_news, station)

    def check_news(self, station: Station) -> None:
        """Its opening may have taken note of a change before the watch could tell it."""
        interface = station.netlink.interface
        up = interface is not None and interface.up
        if up != station.router.link and self.stations.get(station.router.config.key) is station:
            self._check_carrier(station.netlink.name)

    def close_station(self, station: Station) -> None:
        for one in (station.wire, station.neighbours):
            if one is not None:
                self._loop.remove_reader(one.fileno())
        station.close()

    def remove_station(self, key: Key) -> None:
        station = self.stations.pop(key)
        self.close_station(station)
        group = self.group_of.pop(key)
        self._arm(group)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            raise exc  # into the loop's handler, which ends the process

    # ---- events ------------------------------------------------------------------------------------------------------

    def handle(self, key: Key, event: Event) -> None:
        """The event is told, and what comes of it is done."""
        waiting = [(key, event)]
        groups = set()
        while waiting:
            key, event = waiting.pop(0)
            group = self.group_of[key]
            groups.add(group)
            now = _moment()
            steps = group.handle(self.stations[key].router, event, now)
            waiting += self._do_all(steps, now)
        for group in groups:
            self._arm(group)

    def _do_all(self, steps: list[Step], now: MonoTime) -> list[tuple[Key, Event]]:
        """What has failed, as events. An address that could not be added ends its router's list."""
        failed: list[tuple[Key, Event]] = []
        given_up: set[int] = set()
        for router, command in steps:
            if id(router) in given_up and not isinstance(command, e.DelVip):
                if isinstance(command, e.Changed):
                    self._hooks.changed(self.stations[router.config.key], command, now)
                continue
            failure = self._do(router, command, now)
            if failure is not None:
                failed.append((router.config.key, failure))
                if isinstance(command, e.AddVip):
                    given_up.add(id(router))
        return failed

    def _do(self, router: VirtualRouter, command: Command, now: MonoTime) -> e.CommandFailed | None:
        station = self.stations[router.config.key]
        match command:
            case e.Tell(say, to):
                self._hooks.tell(router, say, to)
            case e.Changed():
                self._hooks.changed(station, command, now)
            case e.Shout(what, detail):
                self._hooks.shouted(station, what, detail)
            case e.SplitEnded(seconds):
                self._hooks.split_ended(station, seconds)
            case e.Stopped():
                self._hooks.stopped(router.config.key)
            case e.Probe():
                self._probe(station, command)
            case e.AddVip(vip):
                self.forget([relay for relay in self._relays if vip.ip in relay.addresses])  # it is ours again
                return station.do(command, now)
            case e.LookAtOrigins():
                self._hooks.look_at_origins()
            case e.AwaitQuiet(to):
                self._hooks.await_quiet(router, to)
            case _:
                return station.do(command, now)
        return None

    def due(self) -> MonoTime | None:
        """When the next timer of all groups is."""
        return min((at for group in set(self.group_of.values()) if (at := group.deadline) is not None), default=None)

    def _arm(self, group: Group) -> None:
        timer = self.timers.pop(group, None)
        if timer is not None:
            timer.cancel()
        deadline = group.deadline
        if deadline is not None and any(self.group_of.get(one.config.key) is group for one in group.members):
            self.timers[group] = self._loop.call_at(deadline, self._on_timer, group)

    def _on_timer(self, group: Group) -> None:
        """Sockets first: an advertisement that waits there may cancel what is due."""
        self.timers.pop(group, None)
        self.notice_sleep()
        for router in group.members:
            self._read(router.config.key)
        now = _moment()
        for router in group.due(now):
            if router.config.key in self.stations and self.group_of.get(router.config.key) is group:
                self.handle(router.config.key, e.TimerFired())
        self._arm(group)

    def _on_packets(self, key: Key) -> None:
        self.notice_sleep()
        self._read(key)

    def _read(self, key: Key) -> None:
        station = self.stations.get(key)  # it may have left while its group's timer ran
        for advert in station.read() if station is not None else ():
            self.handle(key, advert)

    def _on_claims(self, key: Key) -> None:
        for event in self.stations[key].read_claims():
            if isinstance(event, e.ConflictSeen):
                for relay in self._relays:
                    relay.follow(event.vip.ip, event.mac)
            self.handle(key, event)

    # ---- moves -------------------------------------------------------------------------------------------------------

    def keep_connections(self, keys: Iterable[Key]) -> list[Relay]:
        """What comes for the addresses of these routers is kept from now on, for who gets them; until `forget`."""
        made = []
        for key in keys:
            station = self.stations[key]
            interface = station.netlink.interface
            if interface is None or station.addresses is not station.netlink:
                continue  # a virtual MAC moves with the address: frames find the other node by themselves
            try:
                relay = Relay(interface, station.router.config.family, [vip.ip for vip in station.router.held])
            except OSError as exc:
                self._scribe.warn("relay", f"connections are not handed on: {exc.strerror}")
                continue
            self._loop.add_reader(relay.fileno(), relay.read)
            made.append(relay)
        self._relays += made
        return made

    def forget(self, relays: Iterable[Relay]) -> None:
        for relay in [one for one in relays if one in self._relays]:
            self._relays.remove(relay)
            self._loop.remove_reader(relay.fileno())
            relay.close()

    def forget_all(self) -> None:
        self.forget(list(self._relays))

    def _probe(self, station: Station, command: e.Probe) -> None:
        """Two questions within 20 ms; silence after 25 is an answer too."""
        key = station.router.config.key

        def end() -> None:
            if key in self.stations and station.end_asking():
                self.handle(key, e.ProbeDone(answered=False))

        station.ask(command.addresses)
        self._loop.call_later(_PROBE_AGAIN, station.ask_again)
        self._loop.call_later(_PROBE_END, end)

    def _on_change(self, name: str, change: Change) -> None:
        match change:
            case watching.LinkChanged(interface):
                if interface is None or not interface.up:
                    self._check_carrier(name)  # before anything that takes time: clients wait
                stale = [s for s in self.stations.values() if s.netlink.name == name and _is_stale(s, interface)]
                for station in stale:
                    self.open_station(station)
                if stale:
                    self._hooks.rewired()
                self._check_carrier(name)
            case watching.AddressChanged(vip, present):
                for key, station in list(self.stations.items()):
                    if station.addresses.name == name and vip in station.router.config.addresses:
                        self.handle(key, e.VipChanged(vip, present))

    def _check_carrier(self, name: str) -> None:
        """To open a station reads the interface anew: what is said of it is how it is now, not how it was."""
        interface = self.netlinks[name].interface
        up = interface is not None and interface.up
        for key, station in list(self.stations.items()):
            if station.netlink.name == name and (up or station.router.link):
                self.handle(key, e.InterfaceChanged(up))

    def notice_sleep(self) -> None:
        """CLOCK_BOOTTIME goes on while the machine sleeps, the loop's clock does not."""
        slept = asleep()
        if slept - self._asleep > _SLEPT:
            self._asleep = slept
            for key in list(self.stations):
                self.handle(key, e.Suspended())

    def regroup(self, routers: Iterable[Planned]) -> None:
        """Routers of one group move together, as soon as all of them are Active, or none is."""
        by_name: dict[str, list[Station]] = {}
        for planned in routers:
            if planned.config.key in self.stations:
                by_name.setdefault(planned.config.group or planned.name, []).append(self.stations[planned.config.key])
        for name, stations in by_name.items():
            agree = len({station.router.state is State.ACTIVE for station in stations}) == 1
            together = [stations] if agree else [[station] for station in stations]
            for members in together:
                self._set_group(name if len(members) > 1 else "", members)

    def _set_group(self, name: str, members: list[Station]) -> None:
        routers = tuple(station.router for station in members)
        keys = [router.config.key for router in routers]
        current = {id(self.group_of.get(key)) for key in keys}
        known = self.group_of.get(keys[0])
        if known is not None and len(current) == 1 and known.members == routers:
            return
        for router in routers:
            router.config = replace(router.config, group=name)
        group = Group(routers)
        for key in keys:
            old = self.group_of.get(key)
            if old is not None and old in self.timers:
                self.timers.pop(old).cancel()
            self.group_of[key] = group
        self._arm(group)


def _is_stale(station: Station, interface: Interface | None) -> bool:
    """Whether its sockets and packets are of another interface than this; carrier alone changes nothing in them."""
    if interface is None:
        return False
    return station.wire is None or replace(station.wire.interface, up=interface.up) != interface


def asleep() -> float:
    """Seconds that the machine has slept since it was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


def _moment() -> MonoTime:
    return MonoTime(time.monotonic())
