"""From findings to priority, fitness and reasons; hysteresis."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha.events import Fitness, Health
from ha.health import (
    Effect,
    Finding,
    Patience,
    Track,
    after_result,
    assess,
    find_workers,
    settles_at,
    verdict,
)

POOL = Finding("pool shop", Effect.SERVICE, good=False, weight=20)
DISK = Finding("disk", Effect.WEIGHT, good=False, weight=5)
LISTENER = Finding("listener :80", Effect.RESIGN, good=False)


def test_h1_the_priority_loses_the_weights_of_what_is_bad_and_says_why():
    assert assess(250, [POOL, DISK]) == Health(225, Fitness.LISTENING, ("pool shop: -20", "disk: -5"))


@pytest.mark.parametrize(("configured", "weight", "left"), [(100, 254, 1), (254, 0, 254), (250, 249, 1), (1, 0, 1)])
def test_h1_the_priority_stays_between_1_and_254(configured, weight, left):
    assert assess(configured, [Finding("x", Effect.WEIGHT, good=False, weight=weight)]).priority == left


def test_h1_a_cause_with_resign_makes_a_node_unfit():
    assert assess(250, [LISTENER]) == Health(250, Fitness.UNFIT, ("listener :80: resign",))


def test_s8_an_owner_is_never_degraded_but_may_be_unfit():
    assert assess(255, [POOL]).priority == 255
    assert assess(255, [LISTENER]) == Health(255, Fitness.UNFIT, ("listener :80: resign",))


def test_h7_what_is_not_known_is_not_good_but_costs_nothing():
    unknown = Finding("pool shop", Effect.SERVICE, good=None, weight=20)
    assert assess(250, [unknown]) == Health(250, Fitness.LISTENING, ("pool shop: not known yet",))
    listeners = Finding("listeners", Effect.RESIGN, good=None)
    assert assess(250, [listeners]).fitness is Fitness.UNFIT
    script = Finding("script", Effect.WEIGHT, good=None, weight=20)
    assert assess(250, [script]) == Health(250, Fitness.SERVING)


def test_h3_only_the_last_worker_makes_unfit():
    assert assess(250, find_workers(0, 4, 10, peer_is_whole=True)).fitness is Fitness.UNFIT
    assert assess(250, find_workers(1, 4, 10, peer_is_whole=True)) == Health(
        240, Fitness.SERVING, ("1 of 4 workers: -10",)
    )


def test_h3_a_lost_worker_costs_nothing_while_the_peer_has_lost_one_too():
    assert assess(250, find_workers(3, 4, 10, peer_is_whole=False)) == Health(250, Fitness.SERVING)


def feed(results, patience, step=0.1, start=0.0):
    track = Track()
    for number, good in enumerate(results):
        track = after_result(track, good=good, now=start + number * step, patience=patience)
    return track


def test_h6_the_first_good_result_is_believed_after_rise_without_waiting():
    patience = Patience(rise=2)
    assert verdict(feed([True], patience), 9.0, patience) is None
    assert verdict(feed([True, True], patience), 0.1, patience) is True


def test_h6_a_death_is_believed_at_once_a_check_after_fall():
    assert verdict(feed([True, False], Patience()), 0.1, Patience()) is False
    patience = Patience(fall=3)
    assert verdict(feed([True, False, False], patience), 0.2, patience) is True
    assert verdict(feed([True, False, False, False], patience), 0.3, patience) is False


def test_h6_a_recovery_counts_after_a_second_of_stability():
    patience = Patience(rise=2)
    track = feed([True, False, True, True], patience)  # good since 0.2
    assert verdict(track, 1.19, patience) is False
    assert settles_at(track, patience) == pytest.approx(1.2)
    assert verdict(track, 1.21, patience) is True


def test_h6_a_bad_result_begins_the_second_anew():
    patience = Patience()
    track = feed([True, False, True, False, True], patience)
    assert settles_at(track, patience) == pytest.approx(1.4)
    assert settles_at(feed([True], patience), patience) is None


FINDINGS = st.lists(
    st.builds(
        Finding,
        st.sampled_from("abc"),
        st.sampled_from(Effect),
        st.sampled_from([True, False, None]),
        st.integers(0, 254),
    ),
    max_size=6,
)


@given(st.integers(1, 255), FINDINGS, st.data())
def test_property_10_one_more_thing_gone_bad_never_makes_a_node_better(configured, findings, data):
    before = assess(configured, findings)
    worse = [
        Finding(one.name, one.effect, False if data.draw(st.booleans()) else one.good, one.weight) for one in findings
    ]
    after = assess(configured, worse)
    assert after.priority <= before.priority
    assert after.fitness <= before.fitness


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 4), st.integers(1, 4))
def test_property_hysteresis_moves_only_after_enough_results(results, rise, fall):
    patience = Patience(rise, fall)
    track, now = Track(), 0.0
    for number, good in enumerate(results):
        was = verdict(track, now, patience)
        now = number * 0.3
        track = after_result(track, good=good, now=now, patience=patience)
        if was and verdict(track, now, patience) is False:
            assert results[number + 1 - fall : number + 1] == [False] * fall
        if was is False and verdict(track, now, patience):
            assert results[max(0, number + 1 - rise) : number + 1] == [True] * rise
