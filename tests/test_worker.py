"""A worker's service in a thread: prepared, committed, reloaded, asked and drained as its process would do it."""

from __future__ import annotations

import os
import threading

import pytest

from proxy import bus
from proxy.observe import metrics
from tests.kit import raw
from tests.kit.origin import FakeOrigin, Stall, response
from tests.kit.worker import site

FRESH = "Cache-Control: max-age=60"


def descriptors():
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough


# ---- prepare, commit, abort ------------------------------------------------------------------------------------------


def test_what_was_prepared_and_given_up_leaves_nothing_behind(start_worker, origin, tmp_path):
    running = start_worker()
    running.load(site(origin))
    raw.get(running.at)
    before = descriptors()
    for _ in range(3):
        running.prepare(site(origin, rest='[log]\naccess = ["access.log"]'))
        running.call(running.worker.abort)
    assert raw.get(running.at).body == b"hello"
    raw.wait_until(lambda: descriptors() <= before)


def test_a_reload_keeps_connections_and_what_is_stored_and_follows_the_new_file(start_worker, origin):
    running = start_worker()
    running.load(site(origin))
    with raw.Connection(running.at) as connection:
        connection.send(raw.request())
        connection.read_response()
        running.load(site(origin, rest='[[rule]]\nname = "no"\nmatch = { path = "/no" }\nanswer = { status = 410 }'))
        connection.send(raw.request())
        assert "hit" in connection.read_response().get("cache-status")
        connection.send(raw.request("GET", "/no"))
        assert connection.read_response().status == 410
    assert len(origin.requests) == 1


def test_connections_to_origins_that_go_are_closed_and_running_answers_come_to_their_end(start_worker, origin):
    gate = threading.Event()
    with FakeOrigin() as second:
        second.otherwise(response(b"second"))
        running = start_worker()
        running.load(site(origin))
        raw.get(running.at, "/a")
        origin.otherwise(response(b"slow")[:-2], Stall(until=gate), b"ow")
        with raw.Connection(running.at) as connection:
            connection.send(raw.request("GET", "/slow"))
            connection.read_raw_head()
            running.load(site(second))
            gate.set()
            assert connection.read_exactly(4) == b"slow"
        assert raw.get(running.at, "/b").body == b"second"


# ---- questions -------------------------------------------------------------------------------------------------------


def test_a_purge_is_done_once_for_its_number_and_what_is_no_address_is_told(start_worker, origin):
    running = start_worker()
    running.load(site(origin))
    url = f"http://test.example:{running.at[1]}/"
    host = f"test.example:{running.at[1]}"
    raw.get(running.at, host=host)
    assert running.ask(bus.Purge(1, "url", url, dry_run=True)) == bus.Purged(1, 1)
    assert running.ask(bus.Purge(2, "url", url)) == bus.Purged(2, 1)
    raw.get(running.at, host=host)
    assert running.ask(bus.Purge(2, "url", url)) == bus.Purged(2, 1)
    assert running.status()["store"]["entries"] == 1
    assert running.ask(bus.Purge(3, "all", "")) == bus.Purged(3, 1)
    assert isinstance(running.ask(bus.Purge(4, "url", "nonsense")), bus.Failed)
    raw.wait_until(lambda: running.shared.cast("Q")[metrics.slot("tandem_purged_total")] == 2)


@pytest.mark.parametrize(
    ("kind", "value"), [("all", ""), ("tag", "news"), ("prefix", "http://test.example"), ("match", "~^/$")]
)
def test_a_purge_concerns_what_is_on_its_way_as_well(start_worker, origin, kind, value):
    gate = threading.Event()
    running = start_worker()
    running.load(site(origin))
    origin.otherwise(Stall(until=gate), response(b"old", FRESH, "Cache-Tag: news"))
    with raw.Connection(running.at) as connection:
        connection.send(raw.request())
        origin.wait_for(1)
        running.ask(bus.Purge(1, kind, value))
        gate.set()
        assert connection.read_response().body == b"old"
    origin.otherwise(response(b"new", FRESH))
    assert raw.get(running.at).body == b"new"


def test_the_active_checks_word_takes_an_origin_out_and_back(start_worker, origin):
    running = start_worker()
    running.load(site(origin))
    (pool,) = running.status()["pools"]
    for healthy, standing in ((False, "failed"), (True, "up")):
        verdict = bus.Verdict(pool, origin.address, healthy)
        assert running.ask(bus.HealthVerdicts((verdict, bus.Verdict("gone", "x:1", False)))) == bus.Done()
        assert running.status()["pools"][pool][0]["standing"] == standing
        assert raw.get(running.at, f"/{healthy}").status == (200 if healthy else 503)


# ---- logs ------------------------------------------------------------------------------------------------------------


# ---- draining --------------------------------------------------------------------------------------------------------


def test_a_drain_ends_idle_connections_finishes_what_is_in_flight_and_takes_no_more(start_worker, origin):
    gate = threading.Event()
    running = start_worker()
    running.load(site(origin))
    idle = raw.Connection(running.at)
    idle.send(raw.request())
    idle.read_response()
    origin.otherwise(Stall(until=gate), response(b"last", FRESH))
    with raw.Connection(running.at) as busy:
        busy.send(raw.request("GET", "/slow"))
        origin.wait_for(2)
        draining = threading.Thread(target=running.drain)
        draining.start()
        assert idle.at_end() is raw.End.CLEAN
        gate.set()
        answer = busy.read_response()
        assert (answer.body, answer.get("connection")) == (b"last", "close")
    draining.join(raw.TIMEOUT)
    assert not draining.is_alive()
    idle.close()


def test_what_is_in_flight_at_the_deadline_is_cut(start_worker, origin):
    gate = threading.Event()
    running = start_worker()
    running.load(site(origin))
    origin.otherwise(response(b"never")[:-1], Stall(until=gate))
    with raw.Connection(running.at) as busy:
        busy.send(raw.request("GET", "/slow"))
        busy.read_raw_head()
        running.drain(0.2)
        assert busy.read_to_end()[0] == b"neve"
    gate.set()


def test_when_the_address_moves_who_has_just_connected_is_waited_for_and_answered(start_worker, origin, monkeypatch):
    monkeypatch.setattr("proxy.server.front.FRESH", 60)  # as long as this machine may take for a step of the test
    running = start_worker()
    running.load(site(origin))
    front = running.worker._front
    with raw.Connection(running.at) as idle, raw.Connection(running.at) as fresh:
        idle.send(raw.request())
        idle.read_response()
        raw.wait_until(lambda: running.call(lambda: len(front.connections)) == 2)
        running.call(lambda: running.worker.say_close(True))
        assert idle.at_end() is raw.End.CLEAN
        assert running.call(running.worker.in_flight) == 1
        fresh.send(raw.request())
        answer = fresh.read_response()
        assert (answer.status, answer.get("connection")) == (200, "close")
    raw.wait_until(lambda: running.call(running.worker.in_flight) == 0)


def test_a_worker_that_never_served_has_nothing_to_drain(start_worker):
    start_worker().drain()
