"""Peers that are slow, silent or gone: each has its time and its bound, and nobody else waits for them."""

from __future__ import annotations

import threading
import time

import pytest

from tests.kit import origin as answers
from tests.kit import raw
from tests.kit.proxy import reverse, start_proxy
from tests.kit.raw import wait_until

pytestmark = pytest.mark.slow

SITE = """
eject = { failures = 0 }
timeouts = { connect = "500ms", first_byte = "700ms", idle = "700ms" }
"""
LIMITS = """
[limits]
head_time = "700ms"
keepalive = "700ms"
body_idle = "700ms"
client_idle = "1s"
"""
PATIENCE = 5.0  # a second of tolerance would do on an idle machine


@pytest.fixture
def proxy(start, origin):
    return start(reverse(origin.address, site=SITE, rest=LIMITS))


class Clock:
    """How long the block took."""

    def __enter__(self):
        self.started = time.monotonic()
        return self

    def __exit__(self, *_):
        self.took = time.monotonic() - self.started


def test_a_head_that_does_not_end_is_answered_408(proxy, origin):
    with Clock() as clock, raw.Connection(proxy.at) as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: a.example\r\n")
        assert connection.read_response().status == 408
        assert connection.at_end() is raw.End.CLEAN
    assert 0.5 < clock.took < PATIENCE
    assert origin.requests == []


def test_a_dripping_head_gets_no_more_time_than_a_silent_one(proxy, origin):
    stop = threading.Event()
    with Clock() as clock, raw.Connection(proxy.at) as connection:

        def drip():
            for byte in raw.request(target="/" + "a" * 500):
                if stop.wait(0.05):
                    return
                try:
                    connection.send(bytes([byte]))
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        assert connection.read_response().status == 408
        stop.set()
        thread.join()
    assert clock.took < PATIENCE
    assert origin.requests == []


def test_an_idle_connection_ends_without_an_answer(proxy):
    with raw.Connection(proxy.at) as connection:
        connection.send(raw.request())
        connection.read_response()
        with Clock() as clock:
            assert connection.at_end() is raw.End.CLEAN
    assert 0.5 < clock.took < PATIENCE


def test_a_connection_that_never_says_anything_ends_too(proxy):
    with raw.Connection(proxy.at) as connection:
        assert connection.at_end() is raw.End.CLEAN


def test_a_request_body_without_progress_is_answered_408_and_not_whole_at_the_origin(proxy, origin):
    with Clock() as clock, raw.Connection(proxy.at) as connection:
        connection.send(raw.request("POST", "/", "Content-Length: 100") + b"some")
        assert connection.read_response("POST").status == 408
    assert clock.took < PATIENCE
    assert not any(received.complete for received in origin.requests)


def test_an_origin_without_first_byte_becomes_504_and_its_connection_closes(proxy, origin):
    origin.then(answers.Stall(20))
    with Clock() as clock:
        assert raw.get(proxy.at).status == 504
    assert 0.5 < clock.took < PATIENCE
    assert raw.get(proxy.at).status == 200
    assert origin.requests[0].connection != origin.requests[-1].connection


def test_an_origin_that_stalls_in_its_body_gets_the_answer_cut(proxy, origin):
    origin.then(answers.response(b"hello", length=100), answers.Stall(20))
    with Clock() as clock, pytest.raises(raw.Broken) as caught:
        raw.get(proxy.at)
    assert caught.value.raw.endswith(b"hello")
    assert clock.took < PATIENCE


def test_a_slow_origin_that_goes_on_is_not_cut(proxy, origin):
    """Idle is between two pieces: a body that takes longer than it in all, but never pauses so long, arrives."""
    origin.then(answers.head_only("Content-Length: 10"), answers.Trickle(b"0123456789", pause=0.15))
    assert raw.get(proxy.at).body == b"0123456789"


def test_an_origin_that_refuses_connections_becomes_502(proxy, origin):
    origin.refuse()
    with Clock() as clock:
        assert raw.get(proxy.at).status in (502, 503)
    assert clock.took < PATIENCE
    origin.listen()
    wait_until(lambda: raw.get(proxy.at).status == 200, what="the origin used again")


def test_a_refused_connect_goes_to_another_origin_even_for_a_post(start, origin):
    with answers.FakeOrigin() as other:
        proxy = start(reverse(origin.address, other.address, site=SITE))
        origin.refuse()
        for _ in range(6):
            assert raw.ask(proxy.at, raw.request("POST", "/", body=b"abc")).status == 200
        assert len(other.requests) == 6
        assert all(received.body == b"abc" for received in other.requests)


def test_an_idle_upstream_connection_closed_in_the_race_is_retried_once_for_a_get(proxy, origin):
    """The origin ends the kept connection when the next request is already on its way."""
    for _ in range(10):
        origin.forget()
        origin.then(answers.response(b"one")).then(answers.Close())
        assert raw.get(proxy.at, "/one").body == b"one"
        assert raw.get(proxy.at, "/two").body == b"hello"
        assert origin.targets() == ["/one", "/two", "/two"]


def test_a_get_with_a_body_is_not_repeated(proxy, origin):
    origin.then(answers.response(b"one")).then(answers.Close())
    raw.get(proxy.at, "/one")
    assert raw.ask(proxy.at, raw.request("GET", "/two", body=b"x")).status == 502
    assert origin.targets() == ["/one", "/two"]


def test_a_client_that_leaves_ends_its_upstream_request(proxy, origin):
    origin.then(
        answers.head_only("Cache-Control: no-store", "Content-Length: 1000000"),
        answers.Trickle(b"x" * 1000, pause=0.005),
    )
    with raw.Connection(proxy.at) as connection:
        connection.send(raw.request())
        connection.read_raw_head()
        connection.abort()
    wait_until(lambda: not origin.links[0].open, PATIENCE, "the upstream connection closed")


def test_a_client_that_leaves_before_the_answer_ends_its_upstream_request(start, origin):
    proxy = start(reverse(origin.address))
    origin.then(answers.Stall(20), answers.response(b"late", "Cache-Control: no-store"))
    connection = raw.Connection(proxy.at)
    connection.send(raw.request("POST", "/", body=b"x"))
    origin.wait_for(1)
    connection.close()
    # The origin's thread sees the end when it writes; the proxy's side is seen from its own gauge.
    wait_until(lambda: proxy.metric("tandem_exchanges_open") == 0, PATIENCE, "no exchange open")


def test_a_client_that_takes_nothing_is_cut(proxy, origin):
    origin.then(
        answers.head_only("Cache-Control: no-store", "Content-Length: 50000000"), answers.Repeat(b"x" * 100_000, 500)
    )
    with raw.Connection(proxy.at, receive_buffer=4096) as connection:
        connection.send(raw.request())
        wait_until(lambda: origin.links and not origin.links[0].open, 15, "the upstream connection closed")
    canary = raw.get(proxy.at)
    assert canary.body == b"hello"


def test_hundreds_of_silent_connections_delay_nobody(start, origin):
    proxy = start(reverse(origin.address))
    silent = [raw.Connection(proxy.at) for _ in range(400)]
    try:
        for connection in silent:
            connection.send(b"GET / HTTP/1.1\r\nHost: a")
        with Clock() as clock:
            for _ in range(50):
                assert raw.get(proxy.at).status == 200
        assert clock.took < PATIENCE
    finally:
        for connection in silent:
            connection.close()


def test_more_connections_than_a_client_may_have_are_refused(start, origin):
    proxy = start(reverse(origin.address, rest="[limits]\nper_client = 10"))
    kept = [raw.Connection(proxy.at) for _ in range(10)]
    try:
        for connection in kept:
            connection.send(raw.request())
            assert connection.read_response().status == 200
        with raw.Connection(proxy.at) as one_more:
            one_more.send(raw.request())
            try:
                assert one_more.read_response().status == 503
            except raw.Broken as error:
                assert error.raw == b""  # noqa: PT017 - either is right: an answer, or a close
        assert raw.ask(proxy.at, raw.request(), source="127.0.0.2").status == 200
    finally:
        for connection in kept:
            connection.close()


def test_a_body_over_the_limit_is_refused_before_it_is_read(start, origin):
    proxy = start(reverse(origin.address, site='max_body = "1KB"'))
    with raw.Connection(proxy.at) as connection:
        connection.send(raw.request("POST", "/", "Content-Length: 5000"))
        assert connection.read_response("POST").status == 413
    assert origin.requests == []
    chunks = b"".join(b"100\r\n" + b"x" * 256 + b"\r\n" for _ in range(20)) + b"0\r\n\r\n"
    with raw.Connection(proxy.at) as connection:
        connection.send(raw.request("POST", "/", "Transfer-Encoding: chunked") + chunks)
        assert connection.read_response("POST").status == 413
    assert not any(received.complete for received in origin.requests)


def test_late_clients_of_one_fetch_stream_what_has_arrived_so_far(tmp_path, origin):
    """One request reaches the origin, and the second client gets its first bytes before the origin is done."""
    go = threading.Event()
    origin.otherwise(
        answers.head_only("Cache-Control: max-age=60", "Content-Length: 10"),
        b"first",
        answers.Stall(until=go),
        b"later",
    )
    with start_proxy(tmp_path / "proxy", reverse(origin.address)) as proxy:
        connections = [raw.Connection(proxy.at) for _ in range(3)]
        try:
            for connection in connections:
                connection.send(raw.request(target="/shared"))
                assert connection.read_raw_head().startswith(b"HTTP/1.1 200")
                assert connection.read_exactly(5) == b"first"
            go.set()
            assert [connection.read_exactly(5) for connection in connections] == [b"later"] * 3
        finally:
            for connection in connections:
                connection.close()
    assert len(origin.requests) == 1
