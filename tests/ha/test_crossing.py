"""What is done on each way into a state, and in which order."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest

from ha import events as e
from ha.events import AddVip, DelVip, Fitness, SendAdvert, SendGarp, State, Tell, TimerFired
from tests.kit.lan import VIP
from tests.kit.trace import DOWN, RESIGN, active, advert, backup, settled, trace, word


@pytest.mark.rfc("9568", "6.4.2")
def test_s2_the_address_comes_first_then_who_has_it_then_the_advertisement():
    vips = (VIP, ip_interface("192.168.8.101/24"))
    trace(
        backup(addresses=vips),
        (DOWN, TimerFired(), [*(AddVip(v, 4) for v in vips), *(SendGarp(v) for v in vips), SendAdvert(250), Tell()]),
    )


@pytest.mark.rfc("9568", "6.4.3")
@pytest.mark.parametrize("priority", [251, 255])
def test_s3_b1_b2_an_active_gives_way_to_a_higher_priority_and_says_nothing_before_the_address_is_off(priority):
    router, now = settled()
    trace(router, (now, advert(priority, now), [DelVip(VIP), Tell()]))
    assert router.state is State.BACKUP
    assert router.deadline == pytest.approx(now + DOWN)


def test_s10_a_stop_removes_the_address_and_says_priority_0_three_times():
    router, now = settled()
    trace(
        router,
        (now, e.Shutdown(), RESIGN),
        (now + 0.001, TimerFired(), [SendAdvert(0)]),
        (now + 0.002, TimerFired(), [SendAdvert(0), e.Stopped()]),
    )
    assert router.deadline is None


@pytest.mark.parametrize(("interval", "seconds"), [(0.01, 1), (0.1, 1), (1.0, 4), (10.0, 31)])
def test_ar1_an_address_lives_for_the_least_whole_seconds_above_active_down(interval, seconds):
    router = active(interval=interval)
    assert router.refresh_at == pytest.approx(router.active_since + seconds / 4)


def test_ar6_nothing_is_claimed_before_a_whole_active_down_of_listening():
    router = backup()
    trace(router, (1.0, word(fitness=Fitness.UNFIT), []), (3.0, TimerFired(), []), (3.0, word(), []))
    assert router.state is State.BACKUP
