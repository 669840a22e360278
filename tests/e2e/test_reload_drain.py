"""Reload and drain under load: no request fails at a reload, and what came before a stop is answered in full."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.kit import origin as answers
from tests.kit import raw
from tests.kit.proxy import reverse
from tests.kit.raw import wait_until

pytestmark = pytest.mark.slow

CLIENTS = 8
RULE = '[[rule]]\nname = "fixed"\nmatch = { path = ["/fixed"] }\nanswer = { body = "from the rule" }\n'


class Load:
    """Clients on kept connections; a connection that ends without `Connection: close`, or any failure, is noted."""

    def __init__(self, proxy, target="/page"):
        self.answered = 0
        self.failed = []
        self._at = proxy.at
        self._target = target
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, more):
        goal = self.answered + more
        wait_until(lambda: self.failed or self.answered >= goal, 30, "answers under load")

    def _run(self):
        with raw.Connection(self._at) as connection:
            while not self._stop.is_set():
                try:
                    connection.send(raw.request(target=self._target))
                    answer = connection.read_response()
                except (raw.Broken, OSError) as error:
                    self.failed.append(repr(error))
                    return
                if answer.status != 200 or "close" in (answer.get("connection") or ""):
                    self.failed.append(answer.raw_head)
                    return
                self.answered += 1


def test_no_request_fails_at_a_reload_and_the_new_rules_hold(start, origin):
    proxy = start(reverse(origin.address))
    with Load(proxy) as load:
        load.wait_for(100)
        for number in range(5):
            proxy.reload(reverse(origin.address, rest=RULE if number % 2 == 0 else ""))
            expected = b"from the rule" if number % 2 == 0 else b"hello"
            assert raw.get(proxy.at, "/fixed").body == expected
            load.wait_for(100)
    assert load.failed == []


def test_a_reload_keeps_connections_and_the_cache(start, origin):
    origin.otherwise(answers.response(b"stored", "Cache-Control: max-age=600"))
    proxy = start(reverse(origin.address))
    with raw.Connection(proxy.at) as connection:
        connection.send(raw.request(target="/kept"))
        connection.read_response()
        worker = proxy.pid("worker-0")
        proxy.reload(reverse(origin.address, rest=RULE))
        connection.send(raw.request(target="/kept"))
        assert connection.read_response().body == b"stored"
        connection.send(raw.request(target="/fixed"))
        assert connection.read_response().body == b"from the rule"
    assert origin.targets() == ["/kept"]
    assert proxy.pid("worker-0") == worker


def test_a_bad_file_is_refused_and_the_old_one_stays(start, origin):
    proxy = start(reverse(origin.address, rest=RULE))
    proxy.reload(reverse(origin.address, rest="[cash]\nmemory = 1\n"))
    assert raw.get(proxy.at, "/fixed").body == b"from the rule"
    assert "cash" in proxy.output


def test_a_reload_can_open_and_close_addresses(start, origin):
    two = f'[[site]]\nlisten = ["127.0.0.1:PORT0", "127.0.0.1:PORT1"]\nupstream = ["{origin.address}"]\n'
    proxy = start(two)
    second = (proxy.host, proxy.ports[1])
    assert raw.get(second).body == b"hello"
    proxy.reload(reverse(origin.address))
    assert raw.get(proxy.at).body == b"hello"
    wait_until(lambda: is_refused(second), what="the second port closed")
    proxy.reload(two)
    assert raw.get(second).body == b"hello"


def is_refused(at):
    try:
        with raw.Connection(at):
            return False
    except ConnectionRefusedError:
        return True


def test_a_stop_answers_what_is_in_flight_and_ends_with_0(start, origin):
    go = threading.Event()
    origin.otherwise(answers.Stall(60, until=go), answers.response(b"x" * 100_000))
    proxy = start(reverse(origin.address))
    connections = [raw.Connection(proxy.at) for _ in range(CLIENTS)]
    try:
        for number, connection in enumerate(connections):
            connection.send(raw.request(target=f"/{number}"))  # different ones: equal ones would be collapsed
        origin.wait_for(CLIENTS)
        proxy.terminate()
        wait_until(lambda: is_refused(proxy.at), what="the listener closed")
        go.set()
        for connection in connections:
            answer = connection.read_response()
            assert len(answer.body) == 100_000
            assert answer.get("connection") == "close"
            assert connection.at_end() is raw.End.CLEAN
    finally:
        for connection in connections:
            connection.close()
    assert proxy.wait() == 0


def test_every_request_received_before_the_listeners_closed_is_answered_in_full(start, origin):
    """Under load: a client may lose only a request sent on a connection that the stop had ended in the same moment."""
    proxy = start(reverse(origin.address))
    broken, answered = [], []

    def client():
        with raw.Connection(proxy.at) as connection:
            while True:
                try:
                    connection.send(raw.request())
                    answer = connection.read_response()
                except (raw.Broken, OSError) as error:
                    if getattr(error, "raw", b""):
                        broken.append(repr(error))
                    return
                if answer.status != 200 or answer.body != b"hello":
                    broken.append(answer.raw_head)
                    return
                answered.append(1)
                if answer.get("connection") == "close":
                    return

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answered) > 200, what="some load")
    proxy.terminate()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert broken == []
    assert len(answered) == len(origin.requests)
    assert proxy.wait() == 0


def test_idle_connections_end_at_once_when_it_stops(start, origin):
    proxy = start(reverse(origin.address))
    with raw.Connection(proxy.at) as connection:
        connection.send(raw.request())
        connection.read_response()
        started = time.monotonic()
        proxy.terminate()
        assert connection.at_end() is raw.End.CLEAN
        assert proxy.wait() == 0
        assert time.monotonic() - started < 5


def test_the_drain_ends_at_its_deadline(start, origin):
    origin.otherwise(answers.Stall(60))
    proxy = start(reverse(origin.address, rest='[process]\ndrain = "1s"'))
    with raw.Connection(proxy.at) as connection:
        connection.send(raw.request())
        origin.wait_for(1)
        started = time.monotonic()
        proxy.terminate()
        proxy.wait(10)
        assert 0.9 < time.monotonic() - started < 6


def test_a_worker_that_is_killed_comes_back_and_the_port_stays(start, origin):
    proxy = start(reverse(origin.address))
    before = proxy.pid("worker-0")
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: worker_after(proxy, before), 20, "a new worker")
    wait_until(lambda: answers_hello(proxy), 10, "answers of the new worker")


def worker_after(proxy, before):
    pids = [entry["pid"] for entry in proxy.status()["processes"] if entry["name"] == "worker-0"]
    return pids and pids[0] not in (before, None)


def answers_hello(proxy):
    try:
        return raw.get(proxy.at).body == b"hello"
    except (raw.Broken, OSError):
        return False


def test_workers_and_admin_have_no_capabilities(start, origin):
    proxy = start(reverse(origin.address))
    for name in ("worker-0", "admin"):
        status = Path(f"/proc/{proxy.pid(name)}/status").read_text()
        lines = dict(line.split(":", 1) for line in status.splitlines())
        for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):  # none, and NoNewPrivs: no program run can gain one
            assert int(lines[kind], 16) == 0, (name, kind)
        assert lines["NoNewPrivs"].strip() == "1"
