"""Sockets are served from the commit on and not before; what stays is not touched."""

from __future__ import annotations

from tests.kit import raw
from tests.kit.worker import site

FRESH = "Cache-Control: max-age=60"


def test_nothing_is_served_before_the_commit_and_all_that_waited_after_it(start_worker, origin):
    running = start_worker()
    running.prepare(site(origin))
    with raw.Connection(running.at) as connection:
        connection.send(raw.request())
        assert connection.is_silent(0.05)
        running.commit()
        assert connection.read_response().body == b"hello"


def test_an_address_that_goes_is_served_no_more_and_one_that_comes_is(start_worker, origin):
    running = start_worker(ports=2)
    running.load(site(origin))
    raw.get(running.at)
    kept = raw.Connection(running.at)
    running.load(site(origin, "PORT1"))
    assert raw.get(running.listeners[1].address).body == b"hello"
    with kept:
        assert kept.at_end() is raw.End.CLEAN
