"""Routers that were woken late trust no old timer."""

from __future__ import annotations

import pytest

from ha import events as e
from ha.events import DelVip, Loud, Probe, RefreshVip, Say, SendAdvert, SendGarp, State, Tell, TimerFired
from tests.kit.lan import VIP, Lan
from tests.kit.trace import DOWN, advert, backup, loud, settled, trace, word


def test_l2_a_backup_woken_late_listens_for_a_whole_active_down():
    router = backup()
    assert loud(router, TimerFired(), 5.0) == [Loud.LATE]
    assert router.state is State.BACKUP
    assert router.deadline == pytest.approx(5.0 + DOWN)


def test_l2_a_backup_woken_late_does_not_believe_an_old_resignation():
    router = backup()
    router.handle(word(say=Say.RESIGN, to="a"), 5.0)
    assert router.state is State.BACKUP


def test_l2_an_active_woken_a_little_late_advertises_and_announces():
    router, now = settled()
    trace(
        router,
        (now + 2.1, TimerFired(), [RefreshVip(VIP, 4), SendAdvert(250), SendGarp(VIP)]),
    )


def test_l2_an_active_woken_very_late_asks_the_network_before_it_says_anything():
    router, now = settled()
    trace(
        router,
        (now + 5.0, TimerFired(), [Probe((VIP.ip,))]),
        (now + 5.02, e.ProbeDone(answered=False), [RefreshVip(VIP, 4), SendAdvert(250), SendGarp(VIP)]),
    )


def test_l2_silence_is_an_answer():
    router, now = settled()
    router.handle(TimerFired(), now + 5.0)
    assert router.deadline == pytest.approx(now + 5.05)
    trace(router, (now + 5.05, TimerFired(), [RefreshVip(VIP, 4), SendAdvert(250), SendGarp(VIP)]))


@pytest.mark.parametrize(
    "event",
    [
        lambda now: advert(240, now),  # worse than we are, but it is awake
        lambda now: word(state=State.ACTIVE, priority=240),
        lambda now: e.VipChanged(VIP, present=False),
    ],
)
def test_l2_an_active_woken_very_late_gives_way_to_any_other_and_to_the_kernel(event):
    router, now = settled()
    router.handle(event(now + 5), now + 5)
    assert router.state is State.BACKUP


def test_l2_another_that_answers_for_the_address_has_it():
    router, now = settled()
    router.handle(TimerFired(), now + 5.0)
    trace(router, (now + 5.02, e.ProbeDone(answered=True), [DelVip(VIP), Tell()]))


def test_l2_who_slept_does_not_answer_what_waited_for_it():
    router, now = settled()
    router.handle(word(), now + 5)
    trace(router, (now + 5, advert(240, now + 4), []), (now + 5, advert(0, now + 4), []))
    assert router.doubt


def test_l2_with_all_others_backup_by_their_word_nobody_is_asked():
    router, now = settled()
    router.handle(word(), now + 5)
    trace(router, (now + 5, TimerFired(), [RefreshVip(VIP, 4), SendAdvert(250), SendGarp(VIP)]))


def test_l2_t5_a_suspended_machine_trusts_no_timer():
    router, now = settled()
    trace(router, (now + 0.1, e.Suspended(), []), (now + 0.1, TimerFired(), [Probe((VIP.ip,))]))
    idle = backup()
    idle.handle(e.Suspended(), 3.0)
    assert idle.deadline == pytest.approx(3.0 + DOWN)


@pytest.mark.parametrize("interval", [0.01, 0.1])
@pytest.mark.parametrize("link", [True, False])
def test_l2_a_freeze_costs_two_holders_for_a_lifetime_and_no_move_after_the_thaw(interval, link):
    lan = Lan(interval=interval, link=link)
    lan.start()
    lan.run(1)
    lan.freeze("a")
    lan.run(5)
    assert lan.active == ["a", "b"]
    assert lan.holding() == ["b"]
    lan.thaw("a")
    lan.run(5)
    assert lan.moves[3:] == [(pytest.approx(1, abs=0.5), "b", State.ACTIVE), (6.0, "a", State.BACKUP)]
    assert lan.holders[2] <= 1.2
