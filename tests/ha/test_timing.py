"""The times of a virtual router, to the figures of the RFC."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha import timing
from tests.kit.lan import config


@pytest.mark.rfc("9568", "6.1")
@pytest.mark.parametrize(
    ("priority", "interval", "skew", "down"),
    [
        (100, 1.0, 0.609, 3.609),
        (100, 0.1, 0.0609, 0.3609),
        (100, 0.01, 0.0061, 0.0361),
        (200, 1.0, 0.219, 3.219),
        (250, 1.0, 0.023, 3.023),
        (250, 0.1, 0.0023, 0.3023),
        (254, 0.01, 0.0001, 0.0301),
    ],
)
def test_t1_skew_time_and_active_down(priority, interval, skew, down):
    assert timing.skew_time(3, priority, interval) == pytest.approx(skew, abs=max(interval / 1000, 5e-5))
    assert timing.active_down_interval(3, priority, interval) == pytest.approx(down, abs=max(interval / 1000, 5e-5))


@pytest.mark.parametrize(("priority", "skew", "down"), [(100, 0.609, 3.609), (254, 0.008, 3.008)])
def test_t1_version_2_skews_by_parts_of_a_second_whatever_the_interval(priority, skew, down):
    assert timing.skew_time(2, priority, 1.0) == pytest.approx(skew, abs=0.001)
    assert timing.skew_time(2, priority, 10.0) == pytest.approx(skew, abs=0.001)
    assert timing.active_down_interval(2, priority, 1.0) == pytest.approx(down, abs=0.001)


@pytest.mark.parametrize(("interval", "seconds"), [(0.01, 1), (0.1, 1), (0.3, 1), (0.34, 2), (1.0, 4)])
def test_ar1_a_lifetime_is_the_least_whole_seconds_above_active_down(interval, seconds):
    assert timing.lifetime(config(interval=interval)) == seconds


def test_ar4_announcements_are_repeated_and_after_a_split_twice_more():
    assert timing.garp_times(10.0) == pytest.approx((10.002, 10.01, 10.05, 10.25, 11.0))
    after = timing.garp_times(0.0, after_split=True)
    assert list(after) == sorted(after)
    assert {0.1, 1.0, 1.1, 2.0} <= {round(at, 3) for at in after}


@given(st.floats(0, 1e6), st.sampled_from([0.01, 0.1, 0.37, 1.0]), st.floats(0, 100))
def test_t4_the_next_slot_is_on_the_grid_and_in_the_future(due, interval, late):
    now = due + late
    slot = timing.next_slot(due, interval, now)
    assert now < slot <= now + interval * 1.001
    assert abs((slot - due) / interval - round((slot - due) / interval)) < 1e-3


@pytest.mark.parametrize(("losses", "wait"), [(0, 0), (1, 0), (2, 2), (3, 4), (4, 8), (6, 32), (7, 60), (50, 60)])
def test_h6_the_wait_doubles_up_to_a_minute(losses, wait):
    assert timing.wait_after_losses(losses) == wait
