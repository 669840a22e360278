"""What the words of other nodes do to a router, the link's truth table."""

from __future__ import annotations

import pytest

from ha import events as e
from ha.events import DelVip, Fitness, Loud, Node, Path, Say, SendAdvert, State, Tell, TimerFired
from tests.kit.lan import VIP, Lan, source
from tests.kit.trace import CLAIM, DOWN, TO_B, active, advert, backup, loud, settled, trace, word


def filtered(path=Path.OTHER):
    """A Backup that hears words but no advertisements, when Active_Down has run out."""
    router = backup("b", nodes=(Node("a", source("a"), 250, path),))
    for at in (1.0, 2.0, 3.0):
        router.handle(word("a", State.ACTIVE, 250), at)
    return router, router.deadline


def test_s6_an_active_resigns_by_name_to_a_better_one_that_is_ready_when_no_request_is_in_flight():
    router, now = settled("b")
    trace(
        router,
        (now, word("a", priority=250, say=Say.READY, to="b"), [e.AwaitQuiet("a")]),
        (now + 0.1, e.QuietCame("a"), [DelVip(VIP), Tell(Say.RESIGN, "a"), SendAdvert(0)]),
    )
    assert router.state is State.BACKUP


def test_s6_who_became_worse_or_silent_while_the_instant_was_waited_for_does_not_get_the_address():
    router, now = settled("b")
    router.handle(word("a", priority=250, say=Say.READY, to="b"), now)
    router.handle(word("a", priority=230), now + 0.1)
    trace(router, (now + 0.1, e.QuietCame("a"), []))
    router.handle(word("a", priority=250, fitness=Fitness.LISTENING), now + 0.2)
    trace(router, (now + 0.2, e.QuietCame("a"), []))
    assert router.state is State.ACTIVE
    assert not [one for one in router.handle(e.QuietCame("c"), now + 0.3) if isinstance(one, DelVip)]


def test_s6_an_active_does_not_resign_to_a_worse_one_whatever_it_says():
    router, now = settled("a")
    trace(router, (now, word("b", say=Say.READY, to="a"), []))
    trace(router, (now, word("b", priority=254, fitness=Fitness.LISTENING, say=Say.READY, to="a"), []))
    trace(router, (now, word("b", priority=254, say=Say.READY, to="c"), []))


def test_k3_backup_heard_gone_stays_and_is_loud():
    router = backup()
    router.handle(advert(240, 1.0), 1.0)
    router.handle(word(state=State.ACTIVE), 1.0)
    assert loud(router, e.PeerLost("b", ended=False), 1.5) == [Loud.LINK_LOST]
    assert router.deadline == pytest.approx(1.0 + DOWN)
    assert loud(router, e.PeerLost("b", ended=False), 1.6) == []


def test_backup_told_resign_to_you_claims_now_without_skew():
    router = backup()
    trace(router, (1.0, word(say=Say.RESIGN, to="a"), [*CLAIM, Tell(Say.HAVE, "b")]))


def test_backup_told_resign_to_another_waits():
    router = backup()
    trace(router, (5.0, advert(240, 5.0), []), (6.0, word(say=Say.RESIGN, to="c"), []))
    assert router.deadline == pytest.approx(5.0 + DOWN)


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
