"""What a Backup hears and what it makes of silence, as traces."""

from __future__ import annotations

import pytest

from ha import events as e
from ha.events import Loud, Node, Path, Probe, Say, SendAdvert, State, Tell, TimerFired
from ha.machine import VirtualRouter
from tests.kit.lan import VIP, Lan, config, health, source
from tests.kit.trace import CLAIM, DOWN, advert, backup, loud, trace, word


def filtered(path=Path.OTHER):
    """A Backup that hears words but no advertisements, when Active_Down has run out."""
    router = backup("b", nodes=(Node("a", source("a"), 250, path),))
    for at in (1.0, 2.0, 3.0):
        router.handle(word("a", State.ACTIVE, 250), at)
    return router, router.deadline


@pytest.mark.rfc("9568", "6.1")
def test_t3_a_version_3_backup_takes_the_interval_of_the_active():
    router = backup("b", interval=0.1)
    router.handle(advert(250, 0.0, "a", interval=1.0), 0.0)
    assert router.active_down_interval == pytest.approx(3 + 16 / 256)


def test_t3_an_interval_beyond_ten_times_ours_is_not_learned():
    router = backup("b", interval=0.1)
    assert loud(router, advert(250, 0.0, "a", interval=40.95), 0.0) == [Loud.LONG_INTERVAL]
    assert router.deadline == pytest.approx(0.3 + 0.1 * 16 / 256)
    assert loud(router, advert(250, 0.0, "a", interval=1.0), 0.0) == []


def test_t5_an_advertisement_counts_from_its_arrival():
    router = backup()
    router.handle(advert(255, 1.0), 1.5)
    assert router.deadline == pytest.approx(1.0 + DOWN)
    router.handle(advert(255, 0.5), 1.6)  # overtaken by a later one
    assert router.deadline == pytest.approx(1.0 + DOWN)


def test_t6_an_advertisement_read_before_the_timer_is_told_cancels_the_claim():
    router = backup()
    trace(router, (DOWN, advert(255, 3.0), []), (DOWN, TimerFired(), []))
    assert router.state is State.BACKUP


def test_s4_priority_0_lets_a_backup_claim_after_its_skew_time():
    router = backup("b")
    router.handle(advert(250, 5.0, "a"), 5.0)
    trace(router, (6.0, advert(0, 6.0, "a"), []))
    assert router.deadline == pytest.approx(6.0 + 16 / 256)


def test_s4_priority_0_of_somebody_who_is_not_the_holder_wakes_nobody():
    router = VirtualRouter(config("b", ("a", "c")))
    router.handle(e.HealthChanged(health(240)), 0.0)
    router.handle(e.Startup(), 0.0)
    router.handle(advert(250, 5.0, "a"), 5.0)
    router.handle(advert(0, 5.1, "c"), 5.1)
    assert router.deadline == pytest.approx(8 + 16 / 256)


def test_s4_a_lower_active_is_discarded_with_preempt_and_obeyed_without():
    for preempt, down in ((True, DOWN), (False, 2.0 + DOWN)):
        router = backup(preempt=preempt)
        router.handle(advert(240, 2.0), 2.0)
        assert router.deadline == pytest.approx(down)


def test_backup_heard_alive_stays():
    router = backup()
    trace(router, (1.0, word(state=State.ACTIVE, priority=240), []), (1.0, advert(240, 1.0), []))


def test_backup_silent_but_active_by_its_word_stays_and_is_loud():
    router = backup()
    for at in (1.0, 2.0, 3.0):
        router.handle(word(state=State.ACTIVE), at)
    assert loud(router, TimerFired(), DOWN) == [Loud.FILTERED]
    assert router.deadline == pytest.approx(2 * DOWN)


@pytest.mark.parametrize("path", [Path.SAME, Path.OTHER])
@pytest.mark.parametrize("interval", [0.01, 0.1, 1.0])
def test_mute_with_the_link_alive_moves_nothing_while_the_address_answers(path, interval):
    lan = Lan(interval=interval, path=path)
    lan.start()
    lan.run(10 * interval)
    before = list(lan.moves)
    lan.mute.add("a")
    lan.run(5)
    lan.mute.clear()
    lan.run(20 * interval)
    assert lan.moves == before
    assert {one.what for one in lan.commands("b", e.Shout)} <= {Loud.FILTERED}
    assert 2 not in lan.holders


def test_backup_silent_on_both_ways_claims_when_the_last_word_is_void():
    router = backup()
    router.handle(advert(240, 1.0), 1.0)
    router.handle(word(state=State.ACTIVE), 1.0)
    trace(router, (1.0 + DOWN, TimerFired(), [*CLAIM, Tell()]))


def test_backup_priority_0_of_who_is_active_by_its_word_is_forged():
    router = backup("b")
    router.handle(advert(250, 5.0, "a"), 5.0)
    router.handle(word("a", State.ACTIVE, 250), 5.0)
    due = router.deadline
    assert loud(router, advert(0, 5.1, "a"), 5.1) == [Loud.CONTRADICTED]
    assert router.deadline == due


def test_backup_priority_0_is_believed_when_the_link_ends_a_moment_later():
    """The supervisor of a dead `ha` ends its links and sends priority 0: which is read first is chance."""
    router = backup("b")
    router.handle(advert(250, 5.0, "a"), 5.0)
    router.handle(word("a", State.ACTIVE, 250), 5.0)
    router.handle(advert(0, 5.1, "a"), 5.1)
    router.handle(e.PeerLost("a", ended=True), 5.101)
    assert router.deadline == pytest.approx(5.101 + 16 / 256)


@pytest.mark.parametrize("ended", [True, False])
def test_backup_priority_0_stays_forged_when_the_active_goes_on_or_the_link_is_only_silent(ended):
    router = backup("b")
    router.handle(advert(250, 5.0, "a"), 5.0)
    router.handle(word("a", State.ACTIVE, 250), 5.0)
    router.handle(advert(0, 5.1, "a"), 5.1)
    if ended:
        router.handle(advert(250, 6.0, "a"), 6.0)
    due = router.deadline
    router.handle(e.PeerLost("a", ended=ended), 6.1)
    assert router.deadline == due


def test_k4_with_the_link_on_another_path_the_network_of_the_clients_is_asked():
    router, now = filtered()
    trace(router, (now, TimerFired(), [Probe((VIP.ip,))]))
    trace(router, (now + 0.02, e.ProbeDone(answered=True), []))
    assert router.state is State.BACKUP


def test_k4_an_active_that_is_not_seen_is_asked_to_let_go():
    router, now = filtered()
    trace(
        router,
        (now, TimerFired(), [Probe((VIP.ip,))]),
        (now + 0.02, e.ProbeDone(answered=False), [Tell(Say.LET_GO, "a")]),
        (now + 0.03, word("a", say=Say.RESIGN, to="b"), [*CLAIM[:2], SendAdvert(240), Tell(Say.HAVE, "a")]),
    )


def test_k4_who_is_silent_for_an_interval_after_that_is_dead():
    router, now = filtered()
    router.handle(TimerFired(), now)
    router.handle(e.ProbeDone(answered=False), now + 0.02)
    router.handle(TimerFired(), now + 1.02)
    assert router.state is State.ACTIVE


@pytest.mark.parametrize("path", Path)
def test_s11_a_cut_seen_as_lost_carrier_costs_a_link_on_another_path_no_waiting(path):
    lan = Lan(interval=0.1, path=path)
    lan.start()
    lan.run(1)
    lan.cut("a")
    lan.run(0.01 if path is Path.OTHER else 0.35)
    assert lan.active == ["b"]
    lan.plug("a")
    lan.run(5)
    assert lan.active == ["b"]


def test_k4_on_the_same_path_nobody_is_asked():
    router, now = filtered(Path.SAME)
    trace(router, (now, TimerFired(), []))


def test_k5_replayed_advertisements_of_an_ended_life_do_not_keep_a_backup_asleep():
    router = backup("b")
    router.handle(word("a", State.ACTIVE, 250), 1.0)
    router.handle(e.PeerLost("a", ended=True), 1.5)
    trace(
        router,
        (2.0, advert(250, 2.0, "a"), [Probe((VIP.ip,))]),
        (2.02, e.ProbeDone(answered=False), [*CLAIM[:2], SendAdvert(240), Tell()]),
    )


def test_k5_an_address_that_answers_keeps_it_asleep():
    router = backup("b")
    router.handle(word("a", State.ACTIVE, 250), 1.0)
    router.handle(e.PeerLost("a", ended=True), 1.5)
    router.handle(advert(250, 2.0, "a"), 2.0)
    router.handle(e.ProbeDone(answered=True), 2.02)
    trace(router, (2.5, advert(250, 2.5, "a"), []))  # asked once per Active_Down
    assert router.state is State.BACKUP
