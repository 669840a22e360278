"""What of the other nodes' words still counts."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from ha.events import Fitness, State
from ha.machine import VirtualRouter
from ha.words import Words, claim_order, rank
from tests.kit.lan import config


def word(node="b", **changes):
    said = VirtualRouter(config(node, ("a",))).word()
    return replace(said, **({"fitness": Fitness.SERVING, "state": State.BACKUP} | changes))


@pytest.fixture
def words():
    return Words(patience=3.0)


def test_k2_a_word_counts_for_three_intervals(words):
    assert words.note(word(), 1.0)
    assert words.of("b", 4.0) == word()
    assert words.of("b", 4.1) is None
    assert words.of("c", 1.0) is None
    assert words.alive(4.1) == []


def test_k2_a_word_of_an_earlier_incarnation_does_not_count(words):
    words.note(word(incarnation=5), 1.0)
    assert not words.note(word(incarnation=4), 2.0)
    assert words.of("b", 2.0).incarnation == 5
    assert words.note(word(incarnation=5), 3.0)


def test_what_was_said_before_the_link_was_lost_no_longer_counts(words):
    words.note(word(incarnation=5), 1.0)
    assert words.lose("b", ended=False)
    assert words.of("b", 1.0) is None
    assert not words.lose("b", ended=True)  # nothing new
    assert not words.note(word(incarnation=4), 2.0)  # but its incarnation is remembered


def test_k5_an_incarnation_ends_by_end_of_file_until_the_node_speaks_again(words):
    assert not words.lose("b", ended=True)  # never heard of
    assert words.ended == set()
    words.note(word(), 1.0)
    words.lose("b", ended=True)
    assert words.ended == {"b"}
    words.note(word(), 2.0)
    assert words.ended == set()


def test_a_state_has_a_beginning(words):
    words.note(word(), 1.0)
    words.note(word(), 2.0)
    assert words.said["b"].since == 1.0
    words.note(word(state=State.ACTIVE), 3.0)
    assert words.said["b"].since == 3.0
    assert words.active(3.0) == [word(state=State.ACTIVE)]


@pytest.mark.rfc("9568", "6.4.3")
def test_b1_the_higher_priority_is_better_then_the_higher_address():
    low, high = ip_address("192.168.8.9"), ip_address("192.168.8.100")
    assert rank(101, low) > rank(100, high)
    assert rank(100, high) > rank(100, low)


def test_fitness_comes_before_priority_for_a_claim(words):
    ill = word("b", priority=254, fitness=Fitness.LISTENING)
    well = word("c", priority=10)
    assert claim_order(well) > claim_order(ill)
    words.note(ill, 1.0)
    words.note(well, 1.0)
    assert words.best(1.0, Fitness.LISTENING) == well
    assert words.best(5.0, Fitness.LISTENING) is None
    words.note(replace(well, fitness=Fitness.UNFIT), 1.0)
    assert words.best(1.0, Fitness.LISTENING) == ill
    assert words.best(1.0, Fitness.SERVING) is None
