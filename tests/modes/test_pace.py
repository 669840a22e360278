"""Token buckets: never more than rate and burst, and who waits is served."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.modes.pace import MOST_KNOWN, Bucket, Pace


def test_a_bucket_gives_its_burst_and_then_its_rate():
    bucket = Bucket(10.0, 20.0, 100.0)
    assert bucket.take(20, 100.0) == 0
    assert bucket.take(5, 100.0) == pytest.approx(0.5)
    assert bucket.fill(100.5) == pytest.approx(0.0)
    assert bucket.fill(1000.0) == 20.0


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 50)), max_size=50))
def test_who_waits_as_told_never_has_more_than_rate_and_burst_and_one_taking(steps):
    bucket, now, sent, largest = Bucket(10.0, 20.0, 0.0), 0.0, 0.0, 0.0
    for pause, amount in steps:
        now += pause + bucket.take(amount, now + pause)
        sent += amount
        largest = max(largest, amount)
        assert sent <= 10.0 * now + 20.0 + largest + 1e-6


@given(st.lists(st.floats(-10, 10), max_size=30))
def test_a_clock_that_goes_back_makes_no_tokens(moments):
    bucket = Bucket(10.0, 20.0, 0.0)
    bucket.take(20, 0.0)
    for moment in moments:
        bucket.fill(moment)
    assert bucket.level <= 20.0
    assert bucket.level <= 10.0 * max([0.0, *moments]) + 1e-6


def test_requests_beyond_the_rate_wait_and_those_who_keep_asking_are_served_at_the_rate():
    pace = Pace(10)
    assert sum(pace.wait("anna", 0.0) == 0 for _ in range(100)) == 20
    assert pace.wait("anna", 0.0) == pytest.approx(0.1)
    assert pace.wait("ben", 0.0) == 0
    served = sum(pace.wait("anna", step / 100) == 0 for step in range(1, 1001))
    assert served in range(99, 102)


def test_without_a_rate_nobody_waits_and_nobody_is_remembered():
    pace = Pace(0)
    assert all(pace.wait("anna", 0.0) == 0 for _ in range(1000))
    assert not pace._buckets


def test_who_is_remembered_is_bounded():
    pace = Pace(1)
    for number in range(MOST_KNOWN + 10):
        pace.wait(str(number), 0.0)
    assert len(pace._buckets) == MOST_KNOWN
