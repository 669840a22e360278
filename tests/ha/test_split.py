"""Two Actives: noticed, ended, and announced by the winner."""

from __future__ import annotations

import pytest

from ha import events as e
from ha.events import Loud, SendGarp, State, TimerFired
from tests.kit.lan import VIP, Lan
from tests.kit.trace import advert, loud, settled, word


def test_ar4_ar5_a_claim_by_a_foreign_mac_is_answered_ten_times_a_second_and_never_given_in_to():
    router, now = settled()
    conflict = e.ConflictSeen(VIP, "02:00:00:00:00:99")
    said = [command for step in range(30) for command in router.handle(conflict, now + step / 100)]
    assert said.count(SendGarp(VIP)) == 3
    assert said.count(e.Shout(Loud.CONFLICT, "192.168.8.100 is also at 02:00:00:00:00:99")) == 30
    assert router.state is State.ACTIVE


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
