"""Two real Tomcats behind the proxy: balancing, sessions that stay by jvmRoute, and the death of one under load."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter

import pytest

from tests.kit import raw
from tests.kit.proxy import start_proxy
from tests.kit.raw import wait_until
from tests.kit.tomcat import start_tomcat

pytestmark = [pytest.mark.tomcat, pytest.mark.slow]

CLIENTS = 12
BEGUN = 4  # answers under way when a Tomcat is killed
WARM_UP = 300  # requests answered before the kill
AFTER = 600  # and after it


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    with start_tomcat(folder, route="t1") as one, start_tomcat(folder, route="t2") as two:
        yield {"t1": one, "t2": two}


@pytest.fixture
def proxy(pair, tmp_path):
    for tomcat in pair.values():
        if tomcat.process.poll() is not None:
            tomcat.restart()
    toml = f"""
[[site]]
name = "pair"
listen = "127.0.0.1:PORT0"
preset = "tomcat"
upstream = [
  {{ address = "{pair["t1"].address}", route = "t1" }},
  {{ address = "{pair["t2"].address}", route = "t2" }},
]
"""
    with start_proxy(tmp_path / "proxy", toml) as running:
        yield running


def route_of(proxy, target="/kit/echo", *lines):
    return json.loads(raw.get(proxy.at, target, *lines).body)["route"]


def session_on(proxy, route):
    """The id of a new session on this Tomcat."""
    for _ in range(20):
        page = json.loads(raw.get(proxy.at, "/kit/session").body)
        if page["route"] == route:
            return page["id"]
    raise AssertionError(f"no session on {route} in 20 attempts")


class Load:
    """Clients that ask without pause over kept connections; every answer that is not whole and right is noted."""

    def __init__(self, proxy, target, methods=("GET", "HEAD")):
        self.answered = 0
        self.lost = []
        self.cut = 0
        self._proxy = proxy
        self._target = target
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(methods[number % len(methods)],)) for number in range(CLIENTS)
        ]

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
        wait_until(lambda: self.answered >= goal, 60, f"{goal} answers under load; lost {self.lost[:3]}")

    def _run(self, method):
        connection = raw.Connection(self._proxy.at, timeout=30)
        while not self._stop.is_set():
            try:
                connection.send(raw.request(method, self._target))
                answer = connection.read_response(method)
            except (raw.Broken, OSError) as error:
                connection.close()
                self._note_failure(error)
                connection = raw.Connection(self._proxy.at, timeout=30)
                continue
            with self._lock:
                self.answered += 1
                if answer.status != 200:
                    self.lost.append(answer.status)
            if (answer.get("connection") or "").lower() == "close":
                connection.close()
                connection = raw.Connection(self._proxy.at, timeout=30)
        connection.close()

    def _note_failure(self, error):
        with self._lock:
            if isinstance(error, raw.Broken) and error.raw:
                self.cut += 1
            else:
                self.lost.append(repr(error))


def test_requests_without_session_are_spread_over_both(proxy):
    routes = Counter(route_of(proxy) for _ in range(20))
    assert set(routes) == {"t1", "t2"}
    assert min(routes.values()) >= 5


@pytest.mark.parametrize("route", ["t1", "t2"])
def test_a_session_stays_on_its_tomcat_by_cookie(proxy, route):
    identity = session_on(proxy, route)
    for count in range(2, 12):
        page = json.loads(raw.get(proxy.at, "/kit/session", f"Cookie: a=b; JSESSIONID={identity}; c=d").body)
        assert (page["route"], page["count"], page["id"]) == (route, count, identity)


@pytest.mark.parametrize("route", ["t1", "t2"])
def test_a_session_stays_on_its_tomcat_by_path_parameter(proxy, route):
    identity = session_on(proxy, route)
    for count in range(2, 12):
        page = json.loads(raw.get(proxy.at, f"/kit/session;jsessionid={identity}").body)
        assert (page["route"], page["count"]) == (route, count)
        assert page["from_url"]


def test_a_session_of_an_unknown_route_is_served_by_somebody(proxy):
    assert route_of(proxy, "/kit/echo", "Cookie: JSESSIONID=0123456789ABCDEF.t9") in {"t1", "t2"}


def test_a_session_whose_tomcat_died_goes_on_elsewhere(pair, proxy):
    identity = session_on(proxy, "t1")
    pair["t1"].kill9()
    for _ in range(5):
        assert route_of(proxy, "/kit/session", f"Cookie: JSESSIONID={identity}") == "t2"


def test_a_tomcat_killed_under_load_loses_no_get_or_head_without_an_answer(pair, proxy):
    with Load(proxy, "/kit/slow?ms=5") as load:
        load.wait_for(WARM_UP)
        pair["t1"].kill9()
        load.wait_for(AFTER)
    assert load.lost == []


def test_a_tomcat_that_returns_gets_requests_again(pair, proxy):
    pair["t2"].kill9()
    for _ in range(10):
        assert route_of(proxy) == "t1"
    pair["t2"].restart()
    wait_until(lambda: route_of(proxy) == "t2", 30, "a request at the Tomcat that returned")


def test_answers_begun_on_a_tomcat_that_dies_are_visibly_cut_and_counted(pair, proxy):
    identity = session_on(proxy, "t1")
    before = proxy.metric("tandem_responses_cut_total")
    connections = [raw.Connection(proxy.at, timeout=20) for _ in range(BEGUN)]
    try:
        for connection in connections:
            connection.send(raw.request("GET", "/kit/slow?ms=1&then=15000", f"Cookie: JSESSIONID={identity}"))
        for connection in connections:
            assert connection.read_raw_head().startswith(b"HTTP/1.1 200")
            assert connection.read_exactly(4) == b"slow"
        started = time.monotonic()
        pair["t1"].kill9()
        for connection in connections:
            rest, _ = connection.read_to_end()
            assert rest == b""  # 4 of the announced 8 bytes: no client can take that for the whole
        assert time.monotonic() - started < 5
    finally:
        for connection in connections:
            connection.close()
    wait_until(lambda: proxy.metric("tandem_responses_cut_total") - before == BEGUN, what=f"{BEGUN} counted as cut")


def test_a_post_is_not_repeated_when_its_tomcat_dies(pair, proxy):
    """An unsafe request may have been carried out: the client must be told, not the other Tomcat (RFC 9110 §9.2.2)."""
    identity = session_on(proxy, "t1")
    with raw.Connection(proxy.at, timeout=20) as connection:
        cookie = f"Cookie: JSESSIONID={identity}"
        connection.send(raw.request("POST", "/kit/slow?ms=15000", cookie, body=b"x"))
        assert connection.is_silent(0.3)
        pair["t1"].kill9()
        assert connection.read_response("POST").status == 502
