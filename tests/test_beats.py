"""Workers that beat and workers that do not, without a clock."""

from __future__ import annotations

from proxy.beats import EVERY, MISSED, Beats


def test_who_misses_several_looks_hangs_and_does_not_once_it_beats_again():
    beats = Beats()
    for turn in range(MISSED):
        assert not beats.look({"worker-0": 7, "worker-1": turn}, turn * EVERY)
    assert beats.look({"worker-0": 7, "worker-1": MISSED}, MISSED * EVERY)
    assert beats.hung == {"worker-0"}
    assert beats.next == (MISSED + 1) * EVERY
    assert beats.look({"worker-0": 8, "worker-1": MISSED + 1}, 2.0)
    assert not beats.hung


def test_who_is_gone_does_not_hang_and_its_successor_begins_anew():
    beats = Beats()
    for turn in range(MISSED + 1):
        beats.look({"worker-0": 3}, turn * EVERY)
    assert beats.look({}, 2.0)
    assert not beats.hung
    for _ in range(MISSED):
        beats.look({"worker-0": 0}, 2.0)
    assert not beats.hung


def test_a_long_time_without_a_look_is_no_hang():
    beats = Beats()
    beats.look({"worker-0": 3}, 0.0)
    assert not beats.look({"worker-0": 3}, 1000.0)
