from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.brake import FORGOTTEN, MOST, Brake
from tests.kit.inproc import Clock


def test_each_failure_puts_off_the_next_question_for_longer_within_a_bound():
    clock = Clock()
    brake = Brake(clock)
    waits = []
    for _ in range(8):
        brake.failed(b"k")
        begun = clock.at
        while brake.holds(b"k"):
            clock.at += 0.5
        waits.append(clock.at - begun)
    assert waits == [1, 2, 4, 8, MOST, MOST, MOST, MOST]


def test_questions_under_way_together_are_one_failure():
    brake = Brake(Clock())
    for _ in range(20):
        brake.failed(b"k")
    assert brake.holds(b"k")
    assert not brake.holds(b"k", after=2)
    assert not brake.holds(b"other")


def test_an_answer_ends_it_and_so_does_time():
    clock = Clock()
    brake = Brake(clock)
    brake.failed(b"k")
    clock.at += 1
    brake.failed(b"k")
    assert brake.holds(b"k", after=2)
    brake.answered(b"k")
    assert not brake
    brake.failed(b"k")
    clock.at += FORGOTTEN + 2
    brake.failed(b"k")
    assert brake.holds(b"k")
    assert not brake.holds(b"k", after=2)


@given(st.lists(st.tuples(st.floats(0, 30), st.booleans())))
def test_it_never_holds_for_longer_than_its_bound(events):
    clock = Clock()
    brake = Brake(clock)
    for pause, fails in events:
        clock.at += pause
        brake.failed(b"k") if fails else brake.answered(b"k")
        assert fails == brake.holds(b"k")
    clock.at += MOST
    assert not brake.holds(b"k")
