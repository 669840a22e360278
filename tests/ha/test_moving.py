"""Waiting for the right moment: with what is in flight as numbers, and a machine's refusal."""

import asyncio
from ipaddress import ip_interface

from ha import orders
from ha.events import State
from ha.moving import Mover

VIP = ip_interface("192.168.8.100/24")


class Station:
    """A router that is Active as long as it is told nothing."""

    def __init__(self, state):
        self.router = type("Router", (), {"state": State(state), "held": (VIP,) if state == "active" else ()})()


class Relay:
    def __init__(self):
        self.left = False

    def leave(self):
        self.left = True


class Engine:
    def __init__(self, *states):
        self.stations = {("eth0", 51 + n, 4): Station(state) for n, state in enumerate(states)}
        self.relays = []
        self.forgotten = []

    def keep_connections(self, keys):
        self.relays = [Relay() for _ in keys]
        return list(self.relays)

    def forget(self, relays):
        self.forgotten += relays


class Observer:
    def __init__(self, counts):
        self.counts = counts
        self.waited = []
        self.turns = []

    def wait_for_quiet(self, until, lasting=0.0, turns=0):
        self.waited.append(lasting)
        self.turns.append(turns)
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
        mover = Mover(Engine(*states), observer, scribe, said.append)
        mover.gated.set()
        await mover.wait_for_quiet(0.25)
        return observer

    return asyncio.run(scenario()), said, scribe.lines


def test_who_is_active_nowhere_waits_for_nothing():
    observer, said, _ = run(["backup"], 0)
    assert (observer.waited, said) == ([], [])


def test_answers_say_close_before_the_quiet_instant_is_waited_for():
    observer, said, lines = run(["active"], 0)
    assert said == [orders.Hush(True), orders.Gate(("192.168.8.100",))]
    assert observer.waited[0] == 0
    assert observer.waited[1] > 0, "and then for the last ones that began before"
    assert observer.turns[1] > 2, "of which each worker has to have looked"
    assert lines == []


def test_those_who_are_cut_are_counted_and_told():
    _, _, lines = run(["active", "backup"], 3)
    assert lines == ["3 requests in flight are cut: none of 250 ms was free of them"]


def test_at_the_end_of_a_move_connections_begin_again_and_strays_are_handed_on_for_a_while():
    async def scenario():
        said, engine = [], Engine("active")
        mover = Mover(engine, Observer(0), Scribe(), said.append)
        mover.gated.set()
        await mover.wait_for_quiet(0.25)
        mover.leave()
        assert all(relay.left for relay in engine.relays)
        mover.end_quiet()
        assert said[2:] == [orders.Gate(()), orders.Hush(False)]
        assert engine.forgotten == []

    asyncio.run(scenario())


def test_a_supervisor_that_does_not_answer_costs_a_moment_and_no_more():
    async def scenario():
        await Mover(Engine("active"), Observer(0), Scribe(), lambda _: None).wait_for_quiet(0.25)

    asyncio.run(asyncio.wait_for(scenario(), 2))


def test_a_wait_ends_when_what_is_waited_for_has_come():
    async def scenario():
        mover = Mover(Engine(), Observer(0), Scribe(), lambda _: None)
        come = []
        asyncio.get_running_loop().call_later(0.01, lambda: (come.append(1), mover.changed.set()))
        assert await mover.wait_until(lambda: bool(come), 5)
        assert not await mover.wait_until(lambda: False, 0.01)

    asyncio.run(scenario())
