"""What an Active does and when it lets go, as traces."""

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
    RefreshVip,
    Say,
    SendAdvert,
    SendGarp,
    State,
    Tell,
    TimerFired,
)
from tests.kit.lan import VIP, Lan, health, source
from tests.kit.trace import CLAIM, DOWN, RESIGN, TO_B, UNFIT, active, advert, backup, loud, settled, trace, word


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


@pytest.mark.rfc("9568", "6.4.3")
def test_s3_an_active_answers_priority_0_at_once():
    router, now = settled()
    trace(router, (now, advert(0, now), [SendAdvert(250), SendGarp(VIP)]))


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


def test_s10_a_stop_waits_for_the_successor_to_have_it():
    router, now = settled()
    router.handle(word(), now)
    trace(
        router,
        (now, e.Shutdown(), TO_B),
        (now + 0.001, TimerFired(), [SendAdvert(0)]),
        (now + 0.002, TimerFired(), [SendAdvert(0)]),
        (now + 0.004, word(state=State.ACTIVE, incarnation=2, say=Say.HAVE, to="a"), [e.Stopped()]),
    )


def test_s10_a_stop_waits_no_longer_than_a_quarter_of_a_second():
    router, now = settled()
    router.handle(word(), now)
    router.handle(e.Shutdown(), now)
    trace(router, (now + 0.1, TimerFired(), [SendAdvert(0)] * 2), (now + 0.25, TimerFired(), [e.Stopped()]))


def test_s11_a_lost_carrier_ends_being_active_without_an_advertisement():
    router, now = settled()
    trace(router, (now, e.InterfaceChanged(up=False), [DelVip(VIP), Tell()]))
    assert (router.state, router.why) == (State.INITIALIZE, "no carrier")


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


def test_w3_the_checksum_form_that_was_heard_last_is_sent():
    router = backup()
    router.handle(advert(255, 1.0, form=Form.PSEUDO), 1.0)
    trace(router, (1.0 + DOWN, TimerFired(), [*CLAIM[:2], SendAdvert(250, Form.PSEUDO), Tell()]))


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


def test_h1_the_last_worker_gone_means_resigning_at_once():
    router, now = settled()
    trace(router, (now, e.HealthChanged(UNFIT), RESIGN))
    assert (router.state, router.why, router.priority) == (State.BACKUP, "no live worker", 1)


def test_h1_it_resigns_to_the_node_that_can_serve():
    router, now = settled()
    router.handle(word(), now)
    trace(router, (now, e.HealthChanged(UNFIT), TO_B))


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
    trace(router, (now, word(say=Say.READY, to="a"), [e.AwaitQuiet("b")]), (now, e.QuietCame("b"), TO_B))


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
