"""state.json, from values."""

from __future__ import annotations

import itertools
import json

import pytest

from config import load
from proxy import runtime, sockets, statefile
from proxy.candidate import Candidate
from proxy.process import Process, State
from tests.kit.instance import free_port

OWN = statefile.Own(4711, "running", 12.5, "tandem.toml", "tandem")


@pytest.fixture
def accepted():
    text = f'[[site]]\nlisten = "127.0.0.1:{free_port()}"\nupstream = "127.0.0.1:1"\n[process]\nworkers = 2\n'
    text += f'[admin]\nlisten = "127.0.0.1:{free_port()}"\n'
    config = load.accept(text.encode(), "test")
    held = sockets.open_missing(config, {}, itertools.count(1))
    yield Candidate(3, 64 * "d", config, (), -1, {}, held)
    sockets.close(held, spare={})


@pytest.fixture
def processes():
    made = [Process("worker-0", 0, ""), Process("worker-1", 1, ""), Process("admin", sockets.ADMIN, "")]
    for process in made:
        process.turn(State.RUNNING)
    return made


def test_it_tells_of_the_supervisor_of_each_process_and_of_what_is_listened_on(accepted, processes):
    processes[1].turn(State.CRASH_LOOP)
    processes[1].restarts.count = 5
    state = statefile.build(OWN, accepted, processes, None, None, None)
    assert (state["config"], state["user"]) == ("tandem.toml", "tandem")
    assert (state["generation"], state["digest"]) == (3, 64 * "d")
    assert [(one["name"], one["state"], one["restarts"]) for one in state["processes"]] == [
        ("supervisor", "running", 0),
        ("worker-0", "running", 0),
        ("worker-1", "crash-loop", 5),
        ("admin", "running", 0),
    ]
    assert [(one["process"], one["address"]) for one in state["listeners"]][-1] == ("admin", "127.0.0.1")
    assert {one["process"] for one in state["listeners"]} == {"admin", "worker"}
    assert runtime.supervisor_of(json.loads(json.dumps(state))) == 4711


def test_what_is_not_configured_is_not_told_of(accepted, processes):
    bare = statefile.build(OWN, accepted, processes, None, None, None)
    assert "ha" not in bare
    assert "transparent" not in bare
    routers, taking, reload = [{"name": "vip-51"}], {"state": "taking"}, {"ok": True}
    full = statefile.build(OWN, accepted, processes, reload, routers, taking)
    assert (full["ha"], full["transparent"], full["reload"]) == ({"routers": routers}, taking, reload)
    assert "ha" in statefile.build(OWN, accepted, processes, None, [], None), "ha without a router yet is ha"


def test_the_summary_counts_workers_that_run_of_those_that_are_wanted(processes):
    assert statefile.summarise(processes, 64 * "d") == "2 of 2 workers, configuration dddddddddddd"
    processes[0].turn(State.BACKOFF)
    assert statefile.summarise(processes, "0123456789abcdef").startswith("1 of 2 workers, configuration 0123456789ab")
    processes[0].surplus = True
    assert statefile.summarise(processes, "").startswith("1 of 1 workers")
