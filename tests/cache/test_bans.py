"""Purges of many, bit by bit: what is meant answers nobody from the first step on, whatever happens in between."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.cache.bans import MOST_BYTES, MOST_ENTRIES
from proxy.cache.store import Store
from tests.cache.test_store import make

NOW = 70.0  # what make() gives was received at 50
MANY = 3 * MOST_ENTRIES


def key(number):
    return b"http://a/%06d" % number


def filled(count=MANY):
    store = Store(1 << 24, clock=lambda: NOW)
    for number in range(count):
        store.put(make(key(number)))
    return store


def is_even(stored):
    return int(stored.key[-6:]) % 2 == 0


@pytest.mark.parametrize("soft", [False, True])
def test_what_is_banned_answers_nobody_from_the_first_step_on(soft):
    store = filled()
    sweep = store.sweep(is_even, soft=soft)
    next(iter(steps := iter(sweep)))
    assert sweep.count == MOST_ENTRIES / 2
    [last] = store.variants(key(1))
    assert not last.outdated
    before_last = store.variants(key(2))
    assert [stored.outdated for stored in before_last] == ([True] if soft else [])
    assert sweep.count == MOST_ENTRIES / 2 + 1
    assert len(list(steps)) == MANY // MOST_ENTRIES - 1
    assert sweep.count == MANY / 2
    assert store.entries == (MANY if soft else MANY // 2)
    assert sum(stored.outdated for stored in store) == (MANY / 2 if soft else 0)


def test_no_step_looks_at_more_than_its_share():
    seen = []
    store = filled()
    for step, _ in enumerate(store.sweep(lambda stored: bool(seen.append(stored))), 1):
        assert len(seen) == step * MOST_ENTRIES
    long = Store(1 << 24, clock=lambda: NOW)
    for number in range(40):
        long.put(make(key(number) + b"/" * (MOST_BYTES // 4)))
    assert len(list(long.sweep(lambda _: True))) == 40 // 4


def test_what_comes_after_a_ban_is_not_meant():
    store = filled()
    steps = iter(store.sweep(lambda _: True))
    next(steps)
    newer = make(key(1))
    newer.received = NOW + 1
    store.put(newer)
    assert store.variants(newer.key) == (newer,)
    list(steps)
    assert list(store) == [newer]


def test_look_ups_ask_nothing_once_the_sweep_is_over():
    asked = []
    store = filled()
    for _ in store.sweep(lambda stored: bool(asked.append(stored))):
        pass
    asked.clear()
    store.variants(key(1))
    assert asked == []


def test_a_sweep_that_is_given_up_lifts_its_ban():
    store = filled()
    steps = iter(store.sweep(lambda _: True))
    next(steps)
    steps.close()
    assert store.variants(key(1))


def test_two_sweeps_at_once_each_lift_their_own_ban():
    store = filled()
    even, third = iter(store.sweep(is_even)), iter(store.sweep(lambda stored: int(stored.key[-6:]) % 3 == 0))
    next(even)
    next(third)
    list(even)
    assert store.variants(key(3)) == ()
    assert store.variants(key(1))
    list(third)
    assert {int(stored.key[-6:]) % 6 for stored in store} == {1, 5}


def test_prepared_answers_are_doubted_only_where_one_step_is_not_enough():
    doubted = []
    store = filled()
    store.on_ban.append(lambda: doubted.append(1))
    list(store.sweep(lambda _: False, tag=b"none"))
    list(store.sweep(lambda _: True, dry_run=True))
    assert doubted == []
    list(store.sweep(lambda _: False))
    assert doubted == [1]


def test_a_dry_run_counts_and_changes_nothing():
    store = filled()
    sweep = store.sweep(is_even, dry_run=True)
    steps = iter(sweep)
    next(steps)
    assert store.variants(key(2))
    list(steps)
    assert sweep.count == MANY / 2
    assert store.entries == MANY


EVENTS = st.tuples(st.sampled_from(["step", "put", "purge", "find"]), st.integers(0, MANY))


@settings(deadline=None, max_examples=30)
@given(st.lists(EVENTS, max_size=60))
def test_whatever_happens_between_the_steps_nothing_banned_is_found_and_the_rest_stays(events):
    """`find` never gives what was there before the ban and matches; at the end the store has exactly the rest."""
    store = filled()
    steps = iter(store.sweep(is_even))
    next(steps, None)
    gone, newer = set(), set()
    for event, number in events:
        match event:
            case "step":
                next(steps, None)
            case "put":
                one = make(key(number))
                one.received = NOW + 1
                store.put(one)
                newer.add(one.key)
            case "purge":
                store.purge_key(key(number))
                gone.add(key(number))
                newer.discard(key(number))
            case "find":
                found = store.variants(key(number))
                assert not any(is_even(stored) and stored.received <= NOW for stored in found)
    list(steps)
    left = {key(number) for number in range(MANY) if number % 2} - gone | newer
    assert {stored.key for stored in store} == left
