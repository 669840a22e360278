"""The life of a virtual router, told as traces: at this time this happens, and these commands follow.

Reports (Shout, Changed, SplitEnded) are left out of traces and asked for by `loud`.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface

import pytest

from ha import events as e
from ha.events import (
    AddVip,
    DelVip,
    Family,
    Fitness,
    Form,
    Loud,
    Node,
    Path,
    Probe,
    RefreshVip,
    Say,
    SendAdvert,
    SendGarp,
    State,
    Tell,
    TimerFired,
)
from ha.machine import TRANSITIONS, VirtualRouter
from tests.kit.lan import VIP, Lan, config, health, source

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


# ---- the table -------------------------------------------------------------------------------------------------------


def test_s1_every_state_has_a_rule_for_every_event_and_every_rule_a_handler():
    kinds = set(e.Event.__args__)
    for rules in TRANSITIONS.values():
        assert set(rules) == kinds
        assert all(callable(getattr(VirtualRouter, rule.handler)) for rule in rules.values())


def test_s1_an_unknown_event_is_an_error():
    with pytest.raises(KeyError):
        VirtualRouter(config()).handle("what?", 0.0)


def test_s1_initialize_backup_active_and_back():
    router = VirtualRouter(config())
    assert router.state is State.INITIALIZE
    trace(router, (0.0, e.HealthChanged(health()), [Tell()]), (0.0, e.Startup(), []))
    assert router.state is State.BACKUP
    trace(router, (DOWN, TimerFired(), [*CLAIM, Tell()]))
    assert router.state is State.ACTIVE
    router.handle(e.Shutdown(), 4.0)
    assert router.state is State.INITIALIZE


# ---- timers ----------------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9568", "6.4.2")
def test_t1_a_backup_takes_over_when_the_active_falls_silent():
    router = backup("a", priority=100)
    router.handle(e.HealthChanged(health(100)), 0.0)
    router.handle(advert(240, 0.0), 0.0)
    assert router.deadline == pytest.approx(3 + 156 / 256)
    trace(router, (3.60, TimerFired(), []), (3.61, TimerFired(), [*CLAIM[:2], SendAdvert(100), Tell()]))


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


def test_t4_advertisements_are_due_on_the_grid_that_began_with_the_claim():
    router, _ = settled()
    slot = router.advert_at
    assert (slot - router.active_since) % 1 == pytest.approx(0.0)
    assert SendAdvert(250) in router.handle(TimerFired(), slot + 0.25)
    assert router.advert_at == pytest.approx(slot + 1)


def test_a1_t4_what_is_received_does_not_move_our_advertisements():
    lan = Lan(("a",), interval=0.1)
    lan.start()
    lan.run(1)
    start = lan.nodes["a"].router.active_since
    for _ in range(400):  # 40 a second
        lan.run(0.025)
        lan.tell("a", advert(1, lan.now))
    grid = {round(at - start, 6) for at, _, command in lan.log if command == SendAdvert(250)}
    assert {round(step / 10, 6) for step in range(100)} <= grid


def test_t4_a_missed_slot_is_sent_once_and_at_once():
    router, now = settled()
    router.handle(TimerFired(), now + 2.5)
    assert router.deadline > now + 2.5


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


# ---- states ----------------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9568", "6.4.2")
def test_s2_the_address_comes_first_then_who_has_it_then_the_advertisement():
    vips = (VIP, ip_interface("192.168.8.101/24"))
    trace(
        backup(addresses=vips),
        (DOWN, TimerFired(), [*(AddVip(v, 4) for v in vips), *(SendGarp(v) for v in vips), SendAdvert(250), Tell()]),
    )


@pytest.mark.rfc("9568", "6.4.3")
def test_s3_an_active_answers_priority_0_at_once():
    router, now = settled()
    trace(router, (now, advert(0, now), [SendAdvert(250), SendGarp(VIP)]))


@pytest.mark.rfc("9568", "6.4.3")
@pytest.mark.parametrize("priority", [251, 255])
def test_s3_b1_b2_an_active_gives_way_to_a_higher_priority_and_says_nothing_before_the_address_is_off(priority):
    router, now = settled()
    trace(router, (now, advert(priority, now), [DelVip(VIP), Tell()]))
    assert router.state is State.BACKUP
    assert router.deadline == pytest.approx(now + DOWN)


@pytest.mark.rfc("9568", "6.4.3")
def test_s3_s9_b1_of_equal_priorities_the_higher_address_stays():
    router, now = settled("a")  # .4 against .6
    router.handle(advert(250, now), now)
    assert router.state is State.BACKUP
    router, now = settled("b")
    router.handle(advert(240, now, "a"), now)
    assert router.state is State.ACTIVE


def test_s3_ipv6_addresses_compare_as_numbers():
    router, now = settled("a", family=Family.IPV6)
    router.handle(e.AdvertReceived("b", source("b", Family.IPV6), 250, 1.0, now), now)
    assert router.state is State.BACKUP


@pytest.mark.rfc("9568", "6.4.3")
def test_s3_a_lower_one_is_answered_four_times_an_interval_and_announced_once_a_second():
    router, now = settled()
    answers = [router.handle(advert(1, at), at) for at in [now + step / 100 for step in range(200)]]
    said = [command for commands in answers for command in commands]
    assert said.count(SendAdvert(250)) == 8
    assert said.count(SendGarp(VIP)) == 2
    assert router.state is State.ACTIVE


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


def test_s5_without_preempt_the_holder_keeps_the_address():
    router = backup()
    for at in range(1, 30):
        assert router.handle(advert(240, at), at) == []
    assert router.state is State.BACKUP


def test_s5_h5_on_evidence_the_healthier_takes_over_even_with_preempt_off():
    router = backup()
    for at in (1.0, 2.0, 3.0):
        router.handle(advert(220, at), at)  # configured as 240: it has lost 20
    assert router.deadline == pytest.approx(DOWN)


def test_s5_who_lost_as_much_is_no_healthier():
    router = backup()
    router.handle(e.HealthChanged(health(230)), 1.0)
    router.handle(advert(220, 2.0), 2.0)
    assert router.deadline == pytest.approx(2.0 + 3 + 26 / 256)


def test_s5_of_a_node_whose_configuration_is_not_known_a_low_priority_is_no_evidence():
    router = backup(nodes=(Node("b", source("b"), None, Path.NONE),))
    router.handle(advert(100, 2.0), 2.0)
    assert router.deadline == pytest.approx(2.0 + DOWN)


def test_s6_with_the_link_up_preempting_is_asking():
    router = backup(preempt=True)
    trace(
        router,
        (1.0, word(state=State.ACTIVE), [Tell(Say.READY, "b")]),
        (1.2, advert(240, 1.2), []),  # not twice an interval
        (2.1, word(state=State.ACTIVE), [Tell(Say.READY, "b")]),
        (2.2, word(say=Say.RESIGN, to="a"), [*CLAIM, Tell(Say.HAVE, "b")]),
    )


def test_s6_an_active_resigns_by_name_to_a_better_one_that_is_ready():
    router, now = settled("b")
    trace(
        router,
        (now, word("a", priority=250, say=Say.READY, to="b"), [DelVip(VIP), Tell(Say.RESIGN, "a"), SendAdvert(0)]),
    )
    assert router.state is State.BACKUP


def test_s6_an_active_does_not_resign_to_a_worse_one_whatever_it_says():
    router, now = settled("a")
    trace(router, (now, word("b", say=Say.READY, to="a"), []))
    trace(router, (now, word("b", priority=254, fitness=Fitness.LISTENING, say=Say.READY, to="a"), []))
    trace(router, (now, word("b", priority=254, say=Say.READY, to="c"), []))


def test_s7_preempt_delay_counts_from_when_the_node_can_serve():
    router = backup(preempt=True, preempt_delay=10.0, fitness=Fitness.LISTENING)
    router.handle(e.HealthChanged(health()), 20.0)
    trace(
        router,
        (29.0, word(state=State.ACTIVE), []),
        (30.0, word(state=State.ACTIVE), [Tell(Say.READY, "b")]),
    )


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


def test_s10_a_stop_removes_the_address_and_says_priority_0_three_times():
    router, now = settled()
    trace(
        router,
        (now, e.Shutdown(), RESIGN),
        (now + 0.001, TimerFired(), [SendAdvert(0)]),
        (now + 0.002, TimerFired(), [SendAdvert(0), e.Stopped()]),
    )
    assert router.deadline is None


def test_s10_a_stop_waits_for_the_successor_to_have_it():
    router, now = settled()
    router.handle(word(), now)
    trace(
        router,
        (now, e.Shutdown(), TO_B),
        (now + 0.002, TimerFired(), [SendAdvert(0)]),
        (now + 0.004, word(state=State.ACTIVE, incarnation=2, say=Say.HAVE, to="a"), [e.Stopped()]),
    )


def test_s10_a_stop_waits_no_longer_than_a_quarter_of_a_second():
    router, now = settled()
    router.handle(word(), now)
    router.handle(e.Shutdown(), now)
    trace(router, (now + 0.1, TimerFired(), [SendAdvert(0)]), (now + 0.25, TimerFired(), [e.Stopped()]))


def test_s10_a_backup_stops_without_a_word_to_clients():
    trace(backup(), (1.0, e.Shutdown(), [Tell(), e.Stopped()]))


def test_s11_a_lost_carrier_ends_being_active_without_an_advertisement():
    router, now = settled()
    trace(router, (now, e.InterfaceChanged(up=False), [DelVip(VIP), Tell()]))
    assert (router.state, router.why) == (State.INITIALIZE, "no carrier")


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


def test_s12_an_address_that_somebody_removed_is_put_back_once():
    router, now = settled()
    gone = e.VipChanged(VIP, present=False)
    trace(router, (now, gone, [AddVip(VIP, 4), SendGarp(VIP)]))
    trace(router, (now + 0.9, gone, [Tell(Say.RESIGN), SendAdvert(0)]))
    assert router.state is State.BACKUP


def test_s12_late_news_of_our_own_removal_is_none():
    router = active()
    trace(router, (router.clock + 0.01, e.VipChanged(VIP, present=False), []))


def test_s12_removals_far_apart_are_put_back_each_time():
    router, now = settled()
    gone = e.VipChanged(VIP, present=False)
    router.handle(gone, now)
    while router.clock < now + 11:
        router.handle(TimerFired(), router.deadline)
    trace(router, (router.clock, gone, [AddVip(VIP, 4), SendGarp(VIP)]))


def test_s12_s13_an_address_that_is_there_while_backup_is_removed():
    router = backup()
    trace(router, (1.0, e.VipChanged(VIP, present=True), [DelVip(VIP)]))
    assert loud(router, e.VipChanged(VIP, present=True), 1.0) == [Loud.VIP_FOREIGN]
    trace(router, (1.0, e.VipChanged(ip_interface("192.168.8.4/24"), present=True), []))


def test_w3_the_checksum_form_that_was_heard_last_is_sent():
    router = backup()
    router.handle(advert(255, 1.0, form=Form.PSEUDO), 1.0)
    trace(router, (1.0 + DOWN, TimerFired(), [*CLAIM[:2], SendAdvert(250, Form.PSEUDO), Tell()]))


# ---- addresses and announcements -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("interval", "seconds"), [(0.01, 1), (0.1, 1), (1.0, 4), (10.0, 31)])
def test_ar1_an_address_lives_for_the_least_whole_seconds_above_active_down(interval, seconds):
    router = active(interval=interval)
    assert router.refresh_at == pytest.approx(router.active_since + seconds / 4)


def test_ar1_addresses_are_refreshed_four_times_per_lifetime():
    lan = Lan(("a",), interval=0.1)
    lan.start()
    lan.run(10.3)
    assert len(lan.commands("a", RefreshVip)) == pytest.approx(40, abs=2)
    assert lan.holding() == ["a"]


def test_ar4_a_claim_is_announced_six_times_within_a_second_then_every_half_minute():
    lan = Lan(("a",), interval=0.1)
    lan.start()
    lan.run(62)
    start = lan.nodes["a"].router.active_since
    at = [round(when - start, 3) for when, _, command in lan.log if command == SendGarp(VIP)]
    assert at == [0, 0.002, 0.01, 0.05, 0.25, 1.0, 31.0, 61.0]


def test_ar4_no_refresh_if_it_is_off():
    lan = Lan(("a",), interval=0.1, garp_refresh=0.0)
    lan.start()
    lan.run(62)
    assert len(lan.commands("a", SendGarp)) == 6


def test_ar4_carrier_news_while_active_is_announced():
    router, now = settled()
    trace(router, (now, e.InterfaceChanged(up=True), [SendGarp(VIP)]))


def test_ar4_ar5_a_claim_by_a_foreign_mac_is_answered_ten_times_a_second_and_never_given_in_to():
    router, now = settled()
    conflict = e.ConflictSeen(VIP, "02:00:00:00:00:99")
    said = [command for step in range(30) for command in router.handle(conflict, now + step / 100)]
    assert said.count(SendGarp(VIP)) == 3
    assert said.count(e.Shout(Loud.CONFLICT, "192.168.8.100 is also at 02:00:00:00:00:99")) == 30
    assert router.state is State.ACTIVE


def test_ar6_nothing_is_claimed_before_a_whole_active_down_of_listening():
    router = backup()
    trace(router, (1.0, word(fitness=Fitness.UNFIT), []), (3.0, TimerFired(), []), (3.0, word(), []))
    assert router.state is State.BACKUP


# ---- health ----------------------------------------------------------------------------------------------------------


def test_h1_the_last_worker_gone_means_resigning_at_once():
    router, now = settled()
    trace(router, (now, e.HealthChanged(UNFIT), RESIGN))
    assert (router.state, router.why, router.priority) == (State.BACKUP, "no live worker", 1)


def test_h1_it_resigns_to_the_node_that_can_serve():
    router, now = settled()
    router.handle(word(), now)
    trace(router, (now, e.HealthChanged(UNFIT), TO_B))


def test_h1_an_unfit_backup_claims_only_after_everybody_else_could_have():
    router, now = settled()
    router.handle(e.HealthChanged(UNFIT), now)
    assert router.active_down_interval == pytest.approx(3 + 255 / 256)
    while router.state is State.BACKUP:
        router.handle(TimerFired(), router.deadline)
    assert router.clock == pytest.approx(now + 3 + 255 / 256)


def test_h5_never_dual_loss_with_nobody_better_the_holder_keeps_the_address():
    router, now = settled()
    router.handle(word(fitness=Fitness.UNFIT), now)
    assert loud(router, e.HealthChanged(UNFIT), now) == [Loud.UNFIT]
    assert router.state is State.ACTIVE
    trace(router, (now + 0.1, word(fitness=Fitness.SERVING), TO_B))  # until one can serve


def test_h5_an_ill_active_yields_to_a_better_one_only_when_it_asks():
    router, now = settled()
    router.handle(word(), now)
    trace(router, (now, e.HealthChanged(health(230, Fitness.LISTENING, "pool")), [Tell()]))
    assert router.state is State.ACTIVE
    trace(router, (now, word(say=Say.READY, to="a"), TO_B))


def test_h5_both_ill_nothing_moves():
    lan = Lan(interval=0.1)
    lan.start()
    lan.run(1)
    lan.set_health("b", 220, Fitness.LISTENING, "pool")
    lan.set_health("a", 230, Fitness.LISTENING, "pool")
    lan.run(5)
    assert lan.active == ["a"]
    assert len(lan.moves) == 3


@pytest.mark.parametrize("link", [True, False])
def test_h5_the_origin_of_the_active_gone_moves_the_address_to_the_healthy_one(link):
    lan = Lan(interval=0.1, link=link)
    lan.start()
    lan.run(1)
    lan.set_health("a", 230, Fitness.LISTENING, "pool")
    lan.run(0.01 if link else 0.5)
    assert lan.active == ["b"]
    assert lan.holding() == ["b"]


def test_h6_who_lost_the_address_twice_in_a_minute_waits_before_wanting_it_back():
    router = active(preempt=True)
    for number, wait in enumerate([0.0, 2.0, 4.0, 8.0]):
        now = router.clock
        router.handle(e.HealthChanged(UNFIT), now)
        assert max(0.0, router.wanted_from - now) == wait, number
        router.handle(e.HealthChanged(health()), now)
        asked = [at for at in range(20) if Tell(Say.READY, "b") in router.handle(word(state=State.ACTIVE), now + at)]
        assert asked[0] == wait
        router.handle(word(say=Say.RESIGN, to="a"), router.clock)
        assert router.state is State.ACTIVE
        router.losses = tuple(router.clock for _ in router.losses)  # all within the minute


def test_h7_a_node_that_never_could_serve_claims_nothing():
    router = backup(fitness=Fitness.UNFIT)
    while router.clock < 20:
        router.handle(TimerFired(), router.deadline)
    assert router.state is State.BACKUP
    router.handle(e.HealthChanged(health(250, Fitness.LISTENING)), 20.0)  # alone, as soon as listeners answer
    assert router.state is State.ACTIVE


def test_h7_who_does_not_know_its_origins_leaves_the_claim_to_who_does():
    router = backup(fitness=Fitness.LISTENING)
    trace(router, (3.0, word(), []), (DOWN, TimerFired(), []), (4.0, word(), []))
    assert router.state is State.BACKUP
    while router.state is State.BACKUP:  # the other falls silent on the link too
        router.handle(TimerFired(), router.deadline)
    assert router.clock == pytest.approx(7, abs=1.1)


def test_h7_boot_never_takes_the_address_from_a_working_peer():
    lan = Lan(interval=0.1, preempt=True)
    lan.start("b")
    lan.run(1)
    lan.health["a"] = health(250, Fitness.LISTENING, "pool: not known yet")
    lan.start("a")
    lan.run(2)
    assert lan.active == ["b"]
    lan.set_health("a", 250)
    lan.run(0.2)
    assert lan.active == ["a"]
    assert 2 not in lan.holders


# ---- the link and the advertisements ---------------------------------------------------------------------------------


def test_backup_heard_alive_stays():
    router = backup()
    trace(router, (1.0, word(state=State.ACTIVE, priority=240), []), (1.0, advert(240, 1.0), []))


def test_k3_backup_heard_gone_stays_and_is_loud():
    router = backup()
    router.handle(advert(240, 1.0), 1.0)
    router.handle(word(state=State.ACTIVE), 1.0)
    assert loud(router, e.PeerLost("b", ended=False), 1.5) == [Loud.LINK_LOST]
    assert router.deadline == pytest.approx(1.0 + DOWN)
    assert loud(router, e.PeerLost("b", ended=False), 1.6) == []


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


def test_backup_vacant_the_better_claims_now_and_the_other_waits():
    for name, other, state in (("a", "b", State.ACTIVE), ("b", "a", State.BACKUP)):
        router = backup(name)
        router.handle(advert(254, 3.0, other), 3.0)
        router.handle(advert(254, 5.0, other), 5.0)
        router.handle(word(other, State.ACTIVE), 5.0)
        router.handle(word(other, State.INITIALIZE, 250 if other == "a" else 240), 5.5)
        assert router.state is state


def test_backup_told_resign_to_you_claims_now_without_skew():
    router = backup()
    trace(router, (1.0, word(say=Say.RESIGN, to="a"), [*CLAIM, Tell(Say.HAVE, "b")]))


def test_backup_told_resign_to_another_waits():
    router = backup()
    trace(router, (5.0, advert(240, 5.0), []), (6.0, word(say=Say.RESIGN, to="c"), []))
    assert router.deadline == pytest.approx(5.0 + DOWN)


def test_backup_priority_0_of_who_is_active_by_its_word_is_forged():
    router = backup("b")
    router.handle(advert(250, 5.0, "a"), 5.0)
    router.handle(word("a", State.ACTIVE, 250), 5.0)
    due = router.deadline
    assert loud(router, advert(0, 5.1, "a"), 5.1) == [Loud.CONTRADICTED]
    assert router.deadline == due


def test_active_alone_on_the_air_with_a_backup_on_the_link_is_fine():
    router, now = settled()
    trace(router, (now, word(), []))
    assert router.state is State.ACTIVE


@pytest.mark.parametrize("priority", [251, 255])
def test_active_a_better_advertisement_of_who_is_backup_by_its_word_is_forged_or_late(priority):
    router, now = settled()
    router.handle(word(), now)
    trace(router, (now, advert(priority, now), [SendAdvert(250), SendGarp(VIP)]))
    assert loud(router, advert(priority, now), now) == [Loud.CONTRADICTED]
    assert router.state is State.ACTIVE


def test_active_without_link_gives_way_as_plain_vrrp_does():
    router, now = settled()
    router.handle(word(), now)
    router.handle(e.PeerLost("b", ended=False), now)
    router.handle(advert(251, now), now)
    assert router.state is State.BACKUP


def test_k3_active_with_nothing_heard_stays():
    router, now = settled()
    router.handle(e.PeerLost("b", ended=True), now)
    router.handle(TimerFired(), now + 1)
    assert router.state is State.ACTIVE


def test_k1_drift_of_the_configuration_is_loud_once():
    router = backup()
    assert loud(router, word(digest="other"), 1.0) == [Loud.DRIFT]
    assert loud(router, word(digest="other"), 2.0) == []


def test_k1_a_word_has_what_the_other_node_decides_by():
    router = active()
    said = router.word(Say.HAVE, "b")
    assert (said.state, said.priority, said.fitness) == (State.ACTIVE, 250, Fitness.SERVING)
    assert (said.say, said.to, said.source, said.addresses) == (Say.HAVE, "b", source("a"), (VIP,))
    assert said.incarnation == 2  # rises with each claim


def test_k2_a_word_of_an_earlier_incarnation_is_a_replay():
    router = backup()
    router.handle(word(state=State.ACTIVE, incarnation=7), 1.0)
    trace(router, (1.1, word(say=Say.RESIGN, to="a", incarnation=6), []))
    assert router.state is State.BACKUP


def test_k2_a_word_older_than_three_intervals_no_longer_counts():
    router, now = settled()
    router.handle(word(), now)
    for step in (1, 2, 3):
        router.handle(TimerFired(), now + step)
    router.handle(advert(251, now + 3.1), now + 3.1)
    assert router.state is State.BACKUP


def filtered(path=Path.OTHER):
    """A Backup that hears words but no advertisements, when Active_Down has run out."""
    router = backup("b", nodes=(Node("a", source("a"), 250, path),))
    for at in (1.0, 2.0, 3.0):
        router.handle(word("a", State.ACTIVE, 250), at)
    return router, router.deadline


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


def test_k4_who_goes_on_saying_active_is_not_overruled():
    router, now = filtered()
    router.handle(TimerFired(), now)
    router.handle(e.ProbeDone(answered=False), now + 0.02)
    router.handle(word("a", State.ACTIVE, 250), now + 0.9)
    router.handle(TimerFired(), now + 1.02)
    assert router.state is State.BACKUP


def test_k4_an_active_asked_to_let_go_does():
    router, now = settled()
    trace(router, (now, word(say=Say.LET_GO, to="a"), TO_B))


@pytest.mark.parametrize("preempt", [True, False])
def test_k4_two_nodes_that_only_see_each_other_on_the_link_do_not_pass_the_address_to_and_fro(preempt):
    lan = Lan(interval=0.1, path=Path.OTHER, preempt=preempt)
    lan.start()
    lan.run(1)
    lan.partition({"a"}, {"b"})
    lan.run(20)
    assert lan.active == ["b"]
    assert [name for _, name, _ in lan.moves[3:]] == ["a", "b"]
    lan.heal()
    lan.run(1)
    assert lan.active == (["a"] if preempt else ["b"])


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


# ---- split brain -----------------------------------------------------------------------------------------------------


def test_b1_of_two_actives_on_the_link_the_better_stays():
    for name, other, state in (("a", "b", State.ACTIVE), ("b", "a", State.BACKUP)):
        router, now = settled(name)
        router.handle(word(other, State.ACTIVE, 250 if other == "a" else 240), now)
        assert router.state is state


def test_b2_the_winner_announces_when_the_loser_has_let_go_and_again():
    router, now = settled()
    assert loud(router, word(state=State.ACTIVE), now) == [Loud.SPLIT]
    said = router.handle(word(), now + 0.4)
    assert SendGarp(VIP) in said
    assert [one for one in said if isinstance(one, e.SplitEnded)] == [e.SplitEnded(pytest.approx(0.4))]
    after = [at - now - 0.4 for at in router.garps]
    assert after == pytest.approx(
        [0.002, 0.01, 0.05, 0.1, 0.102, 0.11, 0.15, 0.25, 0.35, 1, 1.002, 1.01, 1.05, 1.1, 1.25, 2]
    )


def test_b2_the_winner_of_a_split_that_it_never_saw_announces_too():
    """The loser heard the better Active first, and let go without a word on the network."""
    router, now = settled()
    router.handle(word(incarnation=1), now)
    assert SendGarp(VIP) not in router.handle(word(incarnation=1), now + 0.1)
    assert SendGarp(VIP) in router.handle(word(incarnation=2), now + 0.2)


def test_b3_a_split_is_seen_by_advertisements_words_and_arp():
    for event in (
        lambda now: advert(240, now),
        lambda now: word(state=State.ACTIVE),
        lambda now: e.ConflictSeen(VIP, "02:00:00:00:00:06", "b"),
    ):
        router, now = settled()
        assert Loud.SPLIT in loud(router, event(now), now)


def test_b3_a_split_that_is_not_seen_any_more_has_ended():
    router, now = settled()
    router.handle(advert(240, now), now)
    said = [command for step in range(1, 5) for command in router.handle(TimerFired(), now + step)]
    assert [one for one in said if isinstance(one, e.SplitEnded)] == [e.SplitEnded(pytest.approx(3.0))]


@pytest.mark.parametrize("link", [True, False])
@pytest.mark.parametrize("interval", [0.01, 0.1, 1.0])
def test_b4_a_partition_that_heals_costs_one_move_and_no_oscillation(link, interval):
    lan = Lan(interval=interval, link=link)
    lan.start()
    lan.run(10 * interval)
    lan.partition({"a"}, {"b"})
    lan.run(50 * interval)
    assert lan.active == ["a", "b"]
    before = len(lan.moves)
    lan.heal()
    lan.run(2.1 * interval)
    assert lan.active == ["a"]
    lan.run(50 * interval)
    assert len(lan.moves) == before + 1


# ---- reload, freeze --------------------------------------------------------------------------------------------------


def test_l1_an_unchanged_configuration_changes_nothing_for_clients():
    router, now = settled()
    router.handle(e.Reconfigured(router.config), now)
    assert router.state is State.ACTIVE
    assert router.held == (VIP,)


def test_l1_addresses_go_and_come_in_one_list_with_one_advertisement():
    router, now = settled()
    other = ip_interface("192.168.8.101/24")
    trace(
        router,
        (
            now,
            e.Reconfigured(replace(router.config, addresses=(other,))),
            [DelVip(VIP), AddVip(other, 4), SendGarp(other), SendAdvert(250), Tell()],
        ),
    )


def test_l1_a_new_interval_counts_from_the_next_advertisement_on():
    router, now = settled()
    router.handle(e.Reconfigured(replace(router.config, interval=0.1)), now)
    assert router.advert_at == pytest.approx(now + 0.1)
    idle = backup()
    idle.handle(e.Reconfigured(replace(idle.config, interval=0.1)), 1.0)
    assert idle.deadline == pytest.approx(DOWN)
    assert idle.active_down_interval == pytest.approx(DOWN / 10)


def test_l1_another_key_is_another_router():
    with pytest.raises(AssertionError):
        backup().handle(e.Reconfigured(config(vrid=52)), 1.0)


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


# ---- failures --------------------------------------------------------------------------------------------------------


def test_an_active_that_cannot_add_its_address_resigns_rather_than_pretends():
    router = active()
    now = router.clock
    trace(router, (now, e.CommandFailed(AddVip(VIP, 4), "no such device"), RESIGN))
    assert router.word().fitness is Fitness.UNFIT
    trace(router, (now + 0.5, word(say=Say.RESIGN, to="a"), []))  # not again at once


def test_x2_three_intervals_without_sending_move_the_address_to_a_peer_that_can_serve():
    router, now = settled()
    for step in (1, 2, 3):
        router.handle(word(), now + step - 0.1)
        router.handle(e.CommandFailed(SendAdvert(250), "ENOBUFS"), now + step - 0.1)
        router.handle(TimerFired(), now + step)
    assert router.state is State.BACKUP


def test_x2_without_such_a_peer_the_node_stays_and_is_loud():
    router, now = settled()
    heard = []
    for step in (1, 2, 3):
        router.handle(e.CommandFailed(SendAdvert(250), "ENOBUFS"), now + step - 0.1)
        heard = loud(router, TimerFired(), now + step)
    assert heard == [Loud.CANNOT_SEND]
    assert router.state is State.ACTIVE


def test_other_failures_are_loud_and_change_nothing():
    router, now = settled()
    assert loud(router, e.CommandFailed(RefreshVip(VIP, 4), "busy"), now) == [Loud.CANNOT_ADD]
    assert loud(router, e.CommandFailed(SendGarp(VIP), "busy"), now) == [Loud.CANNOT_SEND]
    assert router.state is State.ACTIVE
    assert loud(backup(), e.CommandFailed(DelVip(VIP), "busy"), 0.0) == [Loud.CANNOT_ADD]


# ---- handover by an operator -----------------------------------------------------------------------------------------


def test_a_handover_goes_to_the_best_node_that_can_serve():
    router, now = settled()
    router.handle(word(), now)
    trace(router, (now, e.HandoverAsked(), TO_B))


@pytest.mark.parametrize("to", ["", "b", "nobody"])
def test_a_handover_to_who_cannot_serve_is_refused(to):
    router, now = settled()
    router.handle(word(fitness=Fitness.LISTENING), now)
    assert loud(router, e.HandoverAsked(to), now) == [Loud.REFUSED]
    assert router.state is State.ACTIVE
    assert loud(backup(), e.HandoverAsked(), 0.0) == [Loud.REFUSED]


def test_s6_a_handover_with_preempt_on_is_not_taken_back():
    lan = Lan(interval=0.1, preempt=True)
    lan.start()
    lan.run(1)
    lan.tell("a", e.HandoverAsked())
    lan.run(5)
    assert lan.active == ["b"]
    lan.set_health("b", 230, Fitness.LISTENING, "pool")  # but evidence is evidence
    lan.run(0.2)
    assert lan.active == ["a"]
