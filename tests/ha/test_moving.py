"""Waiting for the right moment: with what is in flight as numbers, and a machine's refusal."""

import asyncio

from ha import orders
from ha.events import State
from ha.moving import Mover


class Station:
    """A router that is Active as long as it is told nothing."""

    def __init__(self, state):
        self.router = type("Router", (), {"state": State(state)})()


class Engine:
    def __init__(self, *states):
        self.stations = {("eth0", 51 + n, 4): Station(state) for n, state in enumerate(states)}


class Observer:
    def __init__(self, counts):
        self.counts = counts
        self.waited = []

    def wait_for_quiet(self, until):
        self.waited.append(until)
        return self.counts


class Scribe:
    def __init__(self):
        self.lines = []

    def say(self, line, level="INFO"):
        self.lines.append(line)


def run(states, counts):
    said, scribe = [], Scribe()

    async def scenario():
        observer = Observer(counts)
        await Mover(Engine(*states), observer, scribe, said.append).wait_for_quiet(0.25)
        return observer

    return asyncio.run(scenario()), said, scribe.lines


def test_who_is_active_nowhere_waits_for_nothing():
    observer, said, _ = run(["backup"], 0)
    assert (observer.waited, said) == ([], [])


def test_answers_say_close_before_the_quiet_instant_is_waited_for():
    observer, said, lines = run(["active"], 0)
    assert said == [orders.Hush(True)]
    assert len(observer.waited) == 1
    assert lines == []


def test_those_who_are_cut_are_counted_and_told():
    _, _, lines = run(["active", "backup"], 3)
    assert lines == ["3 requests in flight are cut: none of 250 ms was free of them"]


def test_a_wait_ends_when_what_is_waited_for_has_come():
    async def scenario():
        mover = Mover(Engine(), Observer(0), Scribe(), lambda _: None)
        come = []
        asyncio.get_running_loop().call_later(0.01, lambda: (come.append(1), mover.changed.set()))
        assert await mover.wait_until(lambda: bool(come), 5)
        assert not await mover.wait_until(lambda: False, 0.01)

    asyncio.run(scenario())
