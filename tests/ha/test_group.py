"""Routers that move together."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ha import events as e
from ha.events import AddVip, DelVip, Family, Fitness, SendAdvert, State
from ha.group import Group
from ha.machine import VirtualRouter
from tests.kit.lan import VIP, VIP6, Lan, config, health, source

BOTH = (Family.IPV4, Family.IPV6)


def pair():
    routers = [VirtualRouter(config(family=family, group="v")) for family in BOTH]
    group = Group(routers)
    for router in routers:
        group.handle(router, e.HealthChanged(health()), 0.0)
        group.handle(router, e.Startup(), 0.0)
    return group


def kinds(steps):
    return [type(step.command) for step in steps]


def claim(group):
    steps = []
    for router in group.members:
        steps = group.handle(router, e.TimerFired(), router.deadline)
    return steps


def test_g2_a_group_claims_only_when_each_member_may():
    group = pair()
    four, six = group.members
    assert group.handle(four, e.TimerFired(), four.deadline) == []
    assert four.claimable
    steps = group.handle(six, e.TimerFired(), six.deadline)
    assert [one.state for one in group.members] == [State.ACTIVE] * 2
    assert [step.command.vip for step in steps if isinstance(step.command, AddVip)] == [VIP, VIP6]


def test_g2_a_member_that_hears_an_active_keeps_all_from_claiming():
    group = pair()
    four, six = group.members
    while group.deadline < 20:
        now = group.deadline
        group.handle(six, e.AdvertReceived("b", source("b", Family.IPV6), 240, 1.0, now), now)
        for router in group.due(now):
            group.handle(router, e.TimerFired(), now)
    assert [one.state for one in group.members] == [State.BACKUP] * 2
    assert four.claimable


def test_g2_additions_come_before_all_but_deletions():
    steps = claim(pair())
    assert kinds(steps)[:2] == [AddVip, AddVip]
    assert AddVip not in kinds(steps)[2:]


def test_g2_one_member_that_leaves_takes_all_deletions_first():
    group = pair()
    claim(group)
    now = group.members[0].clock
    steps = group.handle(group.members[0], e.AdvertReceived("b", source("b"), 254, 1.0, now), now)
    assert kinds(steps)[:2] == [DelVip, DelVip]
    assert DelVip not in kinds(steps)[2:]
    assert [step for step in steps if step.command == SendAdvert(0)] == [(group.members[1], SendAdvert(0))]
    assert [one.state for one in group.members] == [State.BACKUP] * 2


def test_g2_a_member_whose_address_cannot_be_added_takes_all():
    group = pair()
    claim(group)
    six = group.members[1]
    steps = group.handle(six, e.CommandFailed(AddVip(VIP6, 4), "no IPv6"), six.clock)
    assert {step.command.vip for step in steps if isinstance(step.command, DelVip)} == {VIP, VIP6}


def test_g1_members_have_different_keys():
    with pytest.raises(AssertionError):
        Group([VirtualRouter(config(group="v")), VirtualRouter(config(group="v"))])


def test_a_router_alone_is_a_group():
    group = Group([VirtualRouter(config())])
    assert group.deadline is None
    (router,) = group.members
    group.handle(router, e.HealthChanged(health()), 0.0)
    group.handle(router, e.Startup(), 0.0)
    group.handle(router, e.TimerFired(), group.deadline)
    assert router.state is State.ACTIVE
    assert group.due(router.clock) == []


@pytest.mark.parametrize("link", [True, False])
def test_g3_both_families_move_as_one(link):
    lan = Lan(interval=0.1, families=BOTH, link=link)
    lan.start()
    lan.run(1)
    assert lan.holding(VIP) == lan.holding(VIP6) == ["a"]
    lan.set_health("a", 1, Fitness.UNFIT, "no live worker")
    lan.run(0.01)
    assert lan.holding(VIP) == lan.holding(VIP6) == ["b"]
    lan.set_health("a", 250)
    lan.tell("b", e.Shutdown())
    lan.run(0.3)
    assert lan.holding(VIP) == lan.holding(VIP6) == ["a"]
    times = [at for at, _, command in lan.log if isinstance(command, AddVip)]
    assert all(one == other for one, other in list(pairwise(times))[::2])
