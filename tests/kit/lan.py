"""Virtual routers on a LAN in memory: time is a number, loss, delay, partitions, freezes and deaths are switches.

A node drives its routers as the real runtime does: socket, link and netlink before timers, a frozen node reads what
has waited for it, the kernel ends addresses that nobody refreshes.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface
from itertools import count
from random import Random

from ha import events as e
from ha.events import Family, Fitness, Health, Node, Path, RouterConfig, State
from ha.group import Group
from ha.machine import VirtualRouter

VIP = ip_interface("192.168.8.100/24")
VIP6 = ip_interface("fd00:8::100/64")
SOURCES = {
    "a": ("192.168.8.4", "fe80::4"),
    "b": ("192.168.8.6", "fe80::6"),
    "c": ("192.168.8.8", "fe80::8"),
}
PRIORITIES = {"a": 250, "b": 240, "c": 230}
LINK_DELAY = 0.0002
PROBE_TIME = 0.02
QUIET = 0.005  # until an instant without requests comes


def source(name, family=Family.IPV4):
    return ip_address(SOURCES[name][family is Family.IPV6])


def config(name="a", others=("b",), *, family=Family.IPV4, path=Path.SAME, **changes):
    """The configuration of a node of the pair: priorities 250 and 240, an interval of 1 s."""
    base = RouterConfig(
        interface="eth0",
        vrid=51,
        family=family,
        addresses=(VIP if family is Family.IPV4 else VIP6,),
        node=name,
        source=source(name, family),
        nodes=tuple(Node(other, source(other, family), PRIORITIES[other], path) for other in others),
        priority=PRIORITIES[name],
    )
    return replace(base, **changes)


def health(priority=250, fitness=Fitness.SERVING, *reasons):
    return Health(priority, fitness, reasons)


@dataclass
class SimNode:
    name: str
    routers: tuple[VirtualRouter, ...]
    alive: bool = True
    frozen: bool = False
    carrier: bool = True
    inbox: list = field(default_factory=list)  # what waits while it is frozen
    vips: dict = field(default_factory=dict)  # vip -> when the kernel removes it
    life: int = 1  # which life of the node an event was meant for

    def __post_init__(self):
        self.group = Group(self.routers)

    @property
    def router(self):
        return self.routers[0]

    @property
    def active(self):
        return self.alive and self.router.state is State.ACTIVE


class Lan:
    def __init__(self, names=("a", "b"), *, seed=0, link=True, families=(Family.IPV4,), path=Path.SAME, **changes):
        self.now = 0.0
        self.random = Random(seed)
        self.delay = (0.0001, 0.0001)  # seconds, least and most; different ones reorder
        self.loss = 0.0
        self.duplicates = 0.0
        self.link = link  # or a set of names that are linked
        self.islands = {}  # name -> island; nodes of one island hear each other
        self.mute = set()  # names whose advertisements get lost
        self.log = []  # (time, node, command)
        self.moves = []  # (time, node, new state)
        self.families, self.path, self.changes, self.names = families, path, changes, tuple(names)
        self._queue, self._order = [], count()
        self.nodes = {name: self._make(name) for name in names}
        self.health = {name: health(PRIORITIES[name]) for name in names}
        self.holders = defaultdict(float)  # how many held the address, for how long

    def _make(self, name, incarnation=1):
        group = "g" if len(self.families) > 1 else ""
        others = tuple(other for other in self.names if other != name)
        configs = [
            config(name, others, family=family, path=self.path, group=group, **self.changes) for family in self.families
        ]
        return SimNode(name, tuple(VirtualRouter(one, incarnation) for one in configs))

    # ---- switches ----------------------------------------------------------------------------------------------------

    def start(self, *names):
        for name in names or self.names:
            self.tell(name, e.HealthChanged(self.health[name]))
            self.tell(name, e.Startup())
            self._beat(name, self.nodes[name].life)

    def tell(self, name, event):
        """The same event for every router of a node, now."""
        for router in self.nodes[name].routers:
            self._give(self.nodes[name], router, event)

    def set_health(self, name, priority, fitness=Fitness.SERVING, *reasons):
        self.health[name] = health(priority, fitness, *reasons)
        self.tell(name, e.HealthChanged(self.health[name]))

    def kill(self, name, *, ended=True):
        """Power off: nothing is said. `ended`: the link tells, as after the death of the process alone."""
        node = self.nodes[name]
        node.alive, node.vips, node.life = False, {}, node.life + 1
        for other in self.names if ended else ():
            if other != name and self._linked(other, name):
                self.at(LINK_DELAY, other, lambda other=other: self.tell(other, e.PeerLost(name, ended=True)))

    def revive(self, name):
        old = self.nodes[name]
        node = self.nodes[name] = self._make(name, old.router.incarnation + 1)
        node.life = old.life
        node.carrier = old.carrier
        self.start(name)
        if not node.carrier:
            self.tell(name, e.InterfaceChanged(up=False))

    def freeze(self, name):
        self.nodes[name].frozen = True

    def thaw(self, name):
        """What has waited is read first: advertisements, words, the kernel's news; then timers."""
        node = self.nodes[name]
        node.frozen = False
        waiting, node.inbox = node.inbox, []
        for router, event in waiting:
            self._give(node, router, event)

    def cut(self, name):
        """The cable is out, and the node sees it."""
        self.nodes[name].carrier = False
        self.tell(name, e.InterfaceChanged(up=False))

    def plug(self, name):
        self.nodes[name].carrier = True
        self.tell(name, e.InterfaceChanged(up=True))

    def partition(self, *islands):
        self.islands = {name: number for number, names in enumerate(islands) for name in names}

    def heal(self):
        self.islands = {}

    def at(self, after, name, action):
        """Something that happens to this life of a node."""
        life = self.nodes[name].life if name else 0
        heapq.heappush(self._queue, (self.now + after, next(self._order), name, life, action))

    # ---- what is seen ------------------------------------------------------------------------------------------------

    @property
    def active(self):
        return [name for name, node in self.nodes.items() if node.active]

    def holding(self, vip=VIP):
        return [name for name, node in self.nodes.items() if node.alive and vip in node.vips]

    def commands(self, name, kind, since=0.0):
        return [command for at, who, command in self.log if who == name and at >= since and isinstance(command, kind)]

    # ---- time --------------------------------------------------------------------------------------------------------

    def run(self, seconds):
        end, same = self.now + seconds, 0
        while True:
            at, act = self._next()
            if at is None or at > end:
                self._advance(end)
                return
            same = same + 1 if at <= self.now else 0
            assert same < 1000, "a deadline that does not go away"
            self._advance(at)
            act()

    def _advance(self, to):
        self.holders[len(self.holding())] += to - self.now
        self.now = max(self.now, to)

    def _next(self):
        best = (self._queue[0][0], self._act) if self._queue else (None, None)
        for node in self.nodes.values():
            if not node.alive or node.frozen:
                continue
            due = node.group.deadline
            if due is not None and (best[0] is None or due < best[0]):
                best = (max(due, self.now), lambda node=node: self._fire(node))
        return best

    def _act(self):
        _, _, name, life, action = heapq.heappop(self._queue)
        if not name or self.nodes[name].life == life:
            action()

    def _fire(self, node):
        for router in node.group.due(self.now):
            self._give(node, router, e.TimerFired())

    # ---- wires -------------------------------------------------------------------------------------------------------

    def _give(self, node, router, event):
        if not node.alive:
            return
        if node.frozen:
            node.inbox.append((router, event))
            return
        before = node.router.state
        for step in node.group.handle(router, event, self.now):
            self.log.append((self.now, node.name, step.command))
            self._execute(node, step.router, step.command)
        if node.router.state is not before:
            self.moves.append((self.now, node.name, node.router.state))
        assert router.deadline is None or router.deadline >= self.now, "property 4: no deadline in the past"

    def _execute(self, node, router, command):
        match command:
            case e.SendAdvert(priority):
                self._broadcast(node, router, priority)
            case e.AddVip(vip, lifetime) | e.RefreshVip(vip, lifetime):
                ends = node.vips[vip] = self.now + lifetime
                self.at(lifetime, node.name, lambda: self._expire(node, router, vip, ends))
            case e.DelVip(vip):
                node.vips.pop(vip, None)
            case e.AwaitQuiet(to):
                self.at(QUIET, node.name, lambda: self._give(node, router, e.QuietCame(to)))
            case e.Tell(say, to):
                self._say(node, router.word(say, to))
            case e.Probe(addresses):
                self.at(PROBE_TIME, node.name, lambda: self._answer_probe(node, router, addresses))

    def _expire(self, node, router, vip, ends):
        if node.vips.get(vip) == ends:
            del node.vips[vip]
            self._give(node, router, e.VipChanged(vip, present=False))

    def _reaches(self, one, other):
        near = self.islands.get(one) == self.islands.get(other)
        return near and self.nodes[one].carrier and self.nodes[other].carrier

    def _linked(self, one, other):
        if self.path is not Path.OTHER and not self._reaches(one, other):
            return False
        return self.link if isinstance(self.link, bool) else {one, other} <= self.link

    def _broadcast(self, node, router, priority):
        family, interval, form = router.config.family, router.config.interval, None
        for name in self.names:
            if name == node.name or node.name in self.mute or not self._reaches(node.name, name):
                continue
            for _ in range(1 + (self.random.random() < self.duplicates)):
                if self.random.random() >= self.loss:
                    wait = self.random.uniform(*self.delay)
                    event = e.AdvertReceived(node.name, router.config.source, priority, interval, self.now + wait, form)
                    self.at(wait, name, lambda name=name, event=event: self._arrive(name, family, event))

    def _arrive(self, name, family, event):
        node = self.nodes[name]
        self._give(node, next(one for one in node.routers if one.config.family is family), event)

    def _say(self, node, word):
        for name in self.names:
            if name != node.name and self._linked(name, node.name):
                self.at(LINK_DELAY, name, lambda name=name: self._arrive(name, word.family, e.PeerSaid(word)))

    def _beat(self, name, life):
        node = self.nodes[name]
        if not node.alive or node.life != life:
            return
        if not node.frozen and not node.active:
            for router in node.routers:
                self._say(node, router.word())
        self.at(node.router.config.interval, name, lambda: self._beat(name, life))

    def _answer_probe(self, node, router, addresses):
        others = [other for name, other in self.nodes.items() if name != node.name and self._reaches(name, node.name)]
        held = {vip.ip for other in others if other.alive for vip in other.vips}
        self._give(node, router, e.ProbeDone(answered=bool(held & set(addresses))))
