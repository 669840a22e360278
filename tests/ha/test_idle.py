"""What a router does that is not Active, owners and carriers included."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest

from ha import events as e
from ha.events import DelVip, Loud, RefreshVip, SendAdvert, SendGarp, State, Tell, TimerFired
from ha.machine import VirtualRouter
from tests.kit.lan import VIP, config, health
from tests.kit.trace import CLAIM, DOWN, UNFIT, advert, backup, loud, settled, trace, word


@pytest.mark.rfc("9568", "6.4.1")
def test_s8_s1_an_owner_starts_active_and_yields_to_nobody():
    router = VirtualRouter(config(priority=255))
    router.handle(e.HealthChanged(health(255)), 0.0)
    trace(router, (0.0, e.Startup(), [*CLAIM[:2], SendAdvert(255), Tell()]))
    trace(router, (2.0, advert(254, 2.0), [SendAdvert(255), SendGarp(VIP)]))
    assert router.state is State.ACTIVE


def test_s8_an_owner_that_cannot_serve_is_in_initialize_and_says_why():
    router = VirtualRouter(config(priority=255))
    assert loud(router, e.Startup(), 0.0) == [Loud.UNFIT]
    assert router.state is State.INITIALIZE
    router.handle(e.HealthChanged(health(255)), 1.0)
    assert router.state is State.ACTIVE
    router.handle(e.HealthChanged(UNFIT), 2.0)
    assert (router.state, router.why) == (State.INITIALIZE, "no live worker")


def test_s9_the_second_owner_stands_back():
    router = VirtualRouter(config(priority=255))
    router.handle(e.HealthChanged(health(255)), 0.0)
    router.handle(word(state=State.ACTIVE, priority=255), 0.0)
    assert loud(router, e.Startup(), 0.0) == [Loud.TWO_OWNERS]
    assert router.state is State.BACKUP


def test_s9_of_two_owners_the_higher_address_stays_loudly():
    router, now = settled(priority=255)
    assert Loud.TWO_OWNERS in loud(router, advert(255, now), now)
    assert router.state is State.BACKUP


def test_s10_a_backup_stops_without_a_word_to_clients():
    trace(backup(), (1.0, e.Shutdown(), [Tell(), e.Stopped()]))


def test_s10_the_farewells_that_a_late_timer_finds_due_are_all_said():
    router, now = settled()
    router.handle(e.Shutdown(), now)
    assert router.handle(TimerFired(), now + 1).count(SendAdvert(e.LET_GO)) == 2


def test_s11_a_carrier_that_is_back_has_to_last_before_we_listen_for_a_whole_active_down():
    router, _ = settled()
    router.handle(e.InterfaceChanged(up=False), 20.0)
    router.handle(e.InterfaceChanged(up=True), 21.0)
    router.handle(e.InterfaceChanged(up=False), 21.1)
    assert router.deadline is None
    router.handle(e.InterfaceChanged(up=True), 22.0)
    assert router.deadline == pytest.approx(22.2)
    router.handle(TimerFired(), 22.2)
    assert router.state is State.BACKUP
    assert router.deadline == pytest.approx(22.2 + DOWN)


def test_s12_s13_an_address_that_is_there_while_backup_is_removed():
    router = backup()
    trace(router, (1.0, e.VipChanged(VIP, present=True), [DelVip(VIP)]))
    assert loud(router, e.VipChanged(VIP, present=True), 1.0) == [Loud.VIP_FOREIGN]
    trace(router, (1.0, e.VipChanged(ip_interface("192.168.8.4/24"), present=True), []))


def test_l1_another_key_is_another_router():
    with pytest.raises(AssertionError):
        backup().handle(e.Reconfigured(config(vrid=52)), 1.0)


def test_other_failures_are_loud_and_change_nothing():
    router, now = settled()
    assert loud(router, e.CommandFailed(RefreshVip(VIP, 4), "busy"), now) == [Loud.CANNOT_ADD]
    assert loud(router, e.CommandFailed(SendGarp(VIP), "busy"), now) == [Loud.CANNOT_SEND]
    assert router.state is State.ACTIVE
    assert loud(backup(), e.CommandFailed(DelVip(VIP), "busy"), 0.0) == [Loud.CANNOT_ADD]
