"""The wheel with a clock that is a number, and its drive on a real loop."""

import asyncio
from math import inf

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from proxy.wheel import Drive, Wheel

TICK = 0.25


class Clock:
    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


class Patience:
    def __init__(self, deadline):
        self.deadline = deadline
        self.at = None

    def expired(self, now):
        self.at = now


def turn(wheel, clock, until, step=TICK, most=512):
    """Ticks up to a time; expired items are told, slices are taken to their end."""
    gone = []
    while clock.now < until:
        clock.now += step
        while True:
            for item in wheel.tick(clock.now, most):
                item.expired(clock.now)
                gone.append(item)
            if not wheel.behind:
                break
    return gone


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def wheel(clock):
    return Wheel(clock, TICK)


def test_an_item_expires_within_a_tick_of_its_deadline(wheel, clock):
    item = Patience(1010.1)
    wheel.watch(item)
    assert turn(wheel, clock, 1010.0) == []
    assert turn(wheel, clock, 1011.0) == [item]
    assert 1010.1 <= item.at <= 1010.1 + TICK
    assert item not in wheel


def test_a_deadline_that_moved_later_needs_only_the_attribute(wheel, clock):
    item = Patience(1001.0)
    wheel.watch(item)
    item.deadline = 1060.0
    assert turn(wheel, clock, 1059.75) == []
    assert turn(wheel, clock, 1061.0) == [item]


def test_a_deadline_that_moved_earlier_is_hastened(wheel, clock):
    item = Patience(1060.0)
    wheel.watch(item)
    item.deadline = 1002.0
    wheel.hasten(item)
    assert turn(wheel, clock, 1003.0) == [item]
    assert len(wheel) == 0


def test_watching_twice_is_the_same_as_hastening(wheel, clock):
    item = Patience(1060.0)
    wheel.watch(item)
    item.deadline = 1001.0
    wheel.watch(item)
    assert turn(wheel, clock, 1100.0) == [item]


def test_a_forgotten_item_never_expires(wheel, clock):
    item = Patience(1001.0)
    wheel.watch(item)
    wheel.forget(item)
    wheel.forget(item)
    assert turn(wheel, clock, 1100.0) == []
    assert item not in wheel


def test_an_item_forgotten_while_a_slice_waits_is_not_expired(wheel, clock):
    first, second = Patience(1001.0), Patience(1001.0)
    wheel.watch(first)
    wheel.watch(second)
    clock.now = 1002.0
    assert wheel.tick(clock.now, 1) == [first]
    assert wheel.behind
    wheel.forget(second)
    assert not wheel.behind
    assert wheel.tick(clock.now) == []


def test_hastening_or_forgetting_what_is_not_watched_does_nothing(wheel):
    wheel.hasten(Patience(1.0))
    wheel.forget(Patience(1.0))
    assert len(wheel) == 0


def test_an_infinite_deadline_waits_until_it_is_made_finite(wheel, clock):
    item = Patience(inf)
    wheel.watch(item)
    assert turn(wheel, clock, 5000.0) == []
    item.deadline = 5001.0
    wheel.hasten(item)
    assert turn(wheel, clock, 5002.0) == [item]


def test_a_deadline_that_becomes_infinite_is_parked(wheel, clock):
    item = Patience(1001.0)
    wheel.watch(item)
    item.deadline = inf
    assert turn(wheel, clock, 1010.0) == []
    assert item in wheel
    wheel.forget(item)
    assert item not in wheel


def test_a_deadline_in_the_past_expires_at_the_next_tick(wheel, clock):
    item = Patience(3.0)
    wheel.watch(item)
    assert turn(wheel, clock, clock.now + TICK) == [item]


def test_a_slice_looks_at_no_more_than_it_may(wheel, clock):
    items = [Patience(1001.0) for _ in range(20_000)]
    for item in items:
        wheel.watch(item)
    clock.now = 1002.0
    slices = 0
    gone = 0
    while True:
        expired = wheel.tick(clock.now, 512)
        assert len(expired) <= 512
        gone += len(expired)
        slices += 1
        if not wheel.behind:
            break
    assert gone == 20_000
    assert slices == 40


def test_a_long_pause_costs_no_walk_over_the_time_that_passed(wheel, clock):
    late, later = Patience(1001.0), Patience(1e12 + 5)
    wheel.watch(late)
    wheel.watch(later)
    clock.now = 1e12
    assert wheel.tick(clock.now) == [late]
    assert turn(wheel, clock, 1e12 + 6) == [later]


def test_an_empty_wheel_that_rested_starts_at_the_time_of_the_first_item(wheel, clock):
    clock.now = 9e9
    item = Patience(9e9 + 1)
    wheel.watch(item)
    assert wheel.next_time == pytest.approx(9e9 + TICK)
    assert turn(wheel, clock, 9e9 + 2) == [item]


moves = st.lists(
    st.tuples(
        st.sampled_from(["watch", "later", "earlier", "forget", "pass"]), st.integers(0, 9), st.floats(0.0, 30.0)
    ),
    max_size=60,
)


@given(moves, st.sampled_from([0.1, 0.25, 0.3, 1.0]))
def test_every_item_expires_within_a_tick_of_its_deadline_and_never_before(steps, tick):
    """Any order of watching, moving and forgetting; a step of the clock is at most one tick, as the drive's is."""
    clock = Clock(100.0)
    wheel = Wheel(clock, tick)
    items = [Patience(inf) for _ in range(10)]

    def run(seconds):
        end = clock.now + seconds
        while clock.now < end:
            clock.now = max(wheel.next_time, clock.now + tick / 7) if len(wheel) else end
            while True:
                for item in wheel.tick(clock.now, 3):
                    assert item.deadline <= clock.now
                    item.expired(clock.now)
                if not wheel.behind:
                    break
            for item in items:
                assert item not in wheel or item.deadline > clock.now - tick - 1e-6

    for what, which, amount in steps:
        item = items[which]
        match what:
            case "watch":
                item.deadline = clock.now + amount
                wheel.watch(item)
            case "later" if item in wheel:
                item.deadline += amount
            case "earlier" if item in wheel and item.deadline < inf:
                item.deadline -= amount
                wheel.hasten(item)
                # Already past: it is due at the coming tick, and the bound counts from now.
                item.deadline = max(item.deadline, clock.now)
            case "forget":
                wheel.forget(item)
            case "pass":
                run(amount)
    run(2000.0)
    assert len(wheel) == 0


@pytest.mark.parametrize("factory", ["asyncio", "uvloop"])
def test_the_drive_expires_items_on_a_real_loop_and_survives_a_failing_one(factory):
    faults = []

    async def scenario():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: faults.append(context))
        wheel = Wheel(loop.time, 0.01)
        drive = Drive(wheel, loop)
        done = loop.create_future()

        class Failing(Patience):
            def expired(self, now):
                raise RuntimeError("of its own")

        class Last(Patience):
            def expired(self, now):
                super().expired(now)
                done.set_result(None)

        start = loop.time()
        bad, good = Failing(start + 0.01), Last(start + 0.03)
        wheel.watch(bad)
        wheel.watch(good)
        await asyncio.wait_for(done, 5)
        drive.stop()
        return good.at - start

    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop if factory == "uvloop" else None)
    with runner:
        assert runner.run(scenario()) >= 0.03
    assert [str(fault["exception"]) for fault in faults] == ["of its own"]


def test_a_stopped_drive_expires_nothing_even_when_stopped_by_an_item():
    async def scenario():
        loop = asyncio.get_running_loop()
        wheel = Wheel(loop.time, 0.005)
        stopped = loop.create_future()

        class Stopper(Patience):
            def expired(self, now):
                drive.stop()
                stopped.set_result(None)

        other = Patience(loop.time() + 0.01)
        wheel.watch(Stopper(loop.time()))
        wheel.watch(other)
        drive = Drive(wheel, loop)
        await stopped
        await asyncio.sleep(0.05)
        return other.at

    assert asyncio.run(scenario()) is None
