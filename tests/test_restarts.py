"""Back-off and crash loops are a matter of times alone."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.restarts import DEATHS, WINDOW, Restart, Restarts


def test_a_first_death_is_followed_by_a_start_at_once():
    assert Restarts().died(100.0, 50.0) == Restart(100.0)


def test_pauses_grow_and_the_fifth_death_within_30_s_is_a_crash_loop():
    restarts = Restarts()
    assert [restarts.died(100.0, 0.0).at - 100.0 for _ in range(4)] == [0, 0.25, 0.5, 1.0]
    assert restarts.died(100.0, 0.0) == Restart(130.0, crash_loop=True, news=True)
    assert restarts.looping
    assert restarts.count == 5


def test_a_failed_try_prolongs_the_crash_loop_without_being_news():
    restarts = Restarts()
    for _ in range(5):
        restarts.died(100.0, 0.0)
    assert restarts.died(131.0, 1.0) == Restart(161.0, crash_loop=True)
    assert restarts.died(300.0, 5.0) == Restart(330.0, crash_loop=True)


def test_a_life_of_30_s_ends_a_crash_loop():
    restarts = Restarts()
    for _ in range(5):
        restarts.died(100.0, 0.0)
    restarts.survived()
    assert restarts.died(200.0, 70.0) == Restart(200.0)


def test_deaths_far_apart_are_no_crash_loop():
    restarts = Restarts()
    assert not any(restarts.died(at, 7.0).crash_loop for at in range(0, 400, 8))


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30))
def test_a_crash_loop_needs_five_deaths_within_the_window(gaps):
    restarts, now, deaths = Restarts(), 0.0, []
    for gap in gaps:
        now += gap
        deaths.append(now)
        was = restarts.looping
        restart = restarts.died(now, gap)
        assert restart.at >= now
        if restart.news and not was:
            assert deaths[-1] - deaths[-DEATHS] < WINDOW
