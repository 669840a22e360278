"""A virtual router's life told as traces: at this time this happens, and these commands follow.

Routers in the states that tests begin with, and short words for what other nodes send. Reports (Shout, Changed,
SplitEnded) are left out of traces and asked for by `loud`.
"""

from __future__ import annotations

from dataclasses import replace

from ha import events as e
from ha.events import (
    AddVip,
    DelVip,
    Fitness,
    Say,
    SendAdvert,
    SendGarp,
    State,
    Tell,
    TimerFired,
)
from ha.machine import VirtualRouter
from tests.kit.lan import VIP, config, health, source

REPORTS = (e.Shout, e.Changed, e.SplitEnded)
UNFIT = health(250, Fitness.UNFIT, "no live worker")
CLAIM = [AddVip(VIP, 4), SendGarp(VIP), SendAdvert(250)]
RESIGN = [DelVip(VIP), Tell(Say.RESIGN), SendAdvert(0)]
TO_B = [DelVip(VIP), Tell(Say.RESIGN, "b"), SendAdvert(0)]
DOWN = 3 + 6 / 256  # of priority 250 at 1 s


def trace(router, *steps):
    for at, event, commands in steps:
        done = [one for one in router.handle(event, at) if not isinstance(one, REPORTS)]
        assert done == commands, f"{event} at {at}"


def loud(router, event, at):
    return [one.what for one in router.handle(event, at) if isinstance(one, e.Shout)]


def backup(name="a", at=0.0, fitness=Fitness.SERVING, **changes):
    """A Backup that began to listen at `at`."""
    one = config(name, ("b",) if name == "a" else ("a",), **changes)
    router = VirtualRouter(one)
    router.handle(e.HealthChanged(health(one.priority, fitness)), at)
    router.handle(e.Startup(), at)
    assert router.state is State.BACKUP or one.is_owner
    return router


def active(name="a", **changes):
    """An Active since its Active_Down ran out; times of tests are counted from `router.active_since`."""
    router = backup(name, **changes)
    if not router.config.is_owner:
        router.handle(TimerFired(), router.deadline)
    assert router.state is State.ACTIVE
    return router


def settled(name="a", **changes):
    """An Active whose announcements of the claim are over: (router, time)."""
    router = active(name, **changes)
    now = router.clock
    while now < 10.0:
        now = router.deadline
        router.handle(TimerFired(), now)
    return router, now


def advert(priority, at, name="b", interval=1.0, **changes):
    return e.AdvertReceived(name, source(name), priority, interval, at, **changes)


def word(name="b", state=State.BACKUP, priority=240, fitness=Fitness.SERVING, incarnation=1, **changes):
    said = VirtualRouter(config(name, ("a",)), incarnation).word()
    return e.PeerSaid(replace(said, state=state, priority=priority, fitness=fitness, **changes))
