"""When a Backup wants the address, and when it may have it."""

from __future__ import annotations

import pytest

from ha import events as e
from ha.events import Fitness, Node, Path, Say, State, Tell, TimerFired
from tests.kit.lan import Lan, health, source
from tests.kit.trace import CLAIM, DOWN, UNFIT, active, advert, backup, settled, trace, word


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


def test_h5_what_the_active_has_lost_may_be_lost_to_us_too_so_we_wait_to_know():
    router = backup("b", service_patience=0.7)
    ill = word("a", State.ACTIVE, 220, Fitness.LISTENING)
    trace(router, (1.0, ill, [e.LookAtOrigins()]), (1.6, ill, []), (1.7, ill, [Tell(Say.READY, "a")]))
    router = backup("b", service_patience=0.7)
    router.handle(ill, 1.0)
    router.handle(e.HealthChanged(health(210, Fitness.LISTENING, "pool")), 1.5)
    router.handle(ill, 1.6)
    router.handle(e.HealthChanged(health(240)), 1.65)
    trace(router, (1.8, ill, [e.LookAtOrigins()]), (2.6, ill, [Tell(Say.READY, "a")]))
    router = backup("b", service_patience=0.7)
    hopeless = word("a", State.ACTIVE, 1, Fitness.UNFIT)
    trace(router, (1.0, hopeless, [e.LookAtOrigins(), Tell(Say.READY, "a")]))


def test_h5_who_has_seen_its_own_origins_good_since_then_waits_for_nothing():
    ill = word("a", State.ACTIVE, 220, Fitness.LISTENING)
    router = backup("b", service_patience=9.0)
    trace(
        router,
        (1.0, ill, [e.LookAtOrigins()]),
        (1.05, e.OriginsSeen(good=True, asked=0.9), []),  # by checks that are older than the news
        (1.1, e.OriginsSeen(good=False, asked=1.0), []),
        (1.2, ill, []),
        (1.3, e.OriginsSeen(good=True, asked=1.0), [Tell(Say.READY, "a")]),
    )


def test_h5_without_a_loss_of_the_active_good_origins_are_no_reason():
    router = backup("b", service_patience=9.0)
    router.handle(word("a", State.ACTIVE, 250), 1.0)
    trace(router, (1.1, e.OriginsSeen(good=True, asked=1.0), []), (1.2, word("a", State.ACTIVE, 250), []))


def test_s7_preempt_delay_counts_from_when_the_node_can_serve():
    router = backup(preempt=True, preempt_delay=10.0, fitness=Fitness.LISTENING)
    router.handle(e.HealthChanged(health()), 20.0)
    trace(
        router,
        (29.0, word(state=State.ACTIVE), []),
        (30.0, word(state=State.ACTIVE), [Tell(Say.READY, "b")]),
    )


def test_h1_an_unfit_backup_claims_only_after_everybody_else_could_have():
    router, now = settled()
    router.handle(e.HealthChanged(UNFIT), now)
    assert router.active_down_interval == pytest.approx(3 + 255 / 256)
    while router.state is State.BACKUP:
        router.handle(TimerFired(), router.deadline)
    assert router.clock == pytest.approx(now + 3 + 255 / 256)


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


def test_backup_vacant_the_better_claims_now_and_the_other_waits():
    for name, other, state in (("a", "b", State.ACTIVE), ("b", "a", State.BACKUP)):
        router = backup(name)
        router.handle(advert(254, 3.0, other), 3.0)
        router.handle(advert(254, 5.0, other), 5.0)
        router.handle(word(other, State.ACTIVE), 5.0)
        router.handle(word(other, State.INITIALIZE, 250 if other == "a" else 240), 5.5)
        assert router.state is state
