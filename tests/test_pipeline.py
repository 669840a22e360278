"""The life of a request through the whole data plane, over real sockets, with a clock that is a number."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack

import pytest

from tests.kit import raw
from tests.kit.inproc import Clock, Stack
from tests.kit.ledger import Ledger
from tests.kit.origin import Close, FakeOrigin, ReadRaw, Repeat, Reset, Stall, chunk, chunked, head_only, response
from tests.kit.proxy import reverse

FRESH = "Cache-Control: max-age=60"


class Bench:
    """A stack in front of fake origins, both ended with the test, everything even at the end."""

    def __init__(self, ends, origins=1, site="", rest=""):
        self.origins = [ends.enter_context(FakeOrigin()) for _ in range(origins)]
        self.origin = self.origins[0]
        text = reverse(*(origin.address for origin in self.origins), site=site, rest=rest)
        self.stack = ends.enter_context(Stack(text, clock=Clock()))
        self.ledger = Ledger(self.stack)
        self.at = self.stack.at

    def get(self, target="/", *lines, method="GET"):
        return raw.get(self.at, target, *lines, method=method)

    def dated(self, body=b"hello", *lines, **more):
        return response(body, *lines, f"Date: {self.stack.date()}", **more)

    def ask(self, target="/", *lines, method="GET", version="1.1"):
        """A request under way on a connection of its own."""
        connection = raw.Connection(self.at)
        connection.send(raw.request(method, target, *lines).replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
        return connection

    def waiters(self):
        return self.stack.call(
            lambda: sum(len(f.waiting_ones()) for f in self.stack.pipeline.flights._flights.values())
        )

    def wait_for_waiters(self, count):
        raw.wait_until(lambda: self.waiters() == count, what=f"{count} waiting, not {self.waiters()}")

    def leave_alone(self):
        """The origin is gone, and that is known here."""
        self.origin.refuse()
        self.origin.drop_connections()
        raw.wait_until(lambda: self.stack.upstream_counts() == (0, 0))

    @property
    def stored(self):
        return self.stack.call(lambda: self.stack.store.entries)

    def outcomes(self):
        names = {"hit", "stale", "revalidated", "miss", "bypass", "answer", "refused", "failed", "tunnel"}
        counters = self.stack.counters()
        found = {name: counters.get(f'tandem_requests_total{{outcome="{name}"}}') for name in names}
        return {name: int(value) for name, value in found.items() if value}


@pytest.fixture
def make():
    with ExitStack() as ends:
        made = []

        def bench(**options):
            made.append(Bench(ends, **options))
            return made[-1]

        yield bench
        for one in made:
            one.ledger.settle()


@pytest.fixture
def bench(make):
    return make()


# ---- framings, there and back ----------------------------------------------------------------------------------------

FRAMINGS = {
    "counted": (response(b"hello"), b"hello"),
    "empty": (response(b""), b""),
    "chunked": (chunked([b"hel", b"lo"], trailers=["X-Late: 1"]), b"hello"),
    "until close": (head_only() + b"hello", b"hello"),
    "204": (head_only(status=204, reason="No Content"), b""),
}


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_response_of_any_framing_reaches_the_client_whole(bench, framing, fresh, version):
    raw_response, body = FRAMINGS[framing]
    if fresh:
        raw_response = raw_response.replace(b"\r\n", b"\r\n" + FRESH.encode() + b"\r\n", 1)
    bench.origin.otherwise(raw_response, *([Close()] if framing == "until close" else []))
    for _ in range(2):
        with bench.ask(version=version) as connection:
            answer = connection.read_response()
            assert answer.body == body
            assert answer.get("x-late") is None
            if version == "1.0":
                assert answer.framing is not raw.Framing.CHUNKED
    assert len(bench.origin.requests) == (1 if fresh else 2)
    assert bench.stored == int(fresh)


@pytest.mark.rfc("9110", "9.3.2")
def test_head_is_answered_from_a_stored_get_with_its_length(bench):
    bench.origin.otherwise(chunked([b"hello"], FRESH))
    bench.get()
    answer = bench.get(method="HEAD")
    assert (answer.get("content-length"), answer.body) == ("5", b"")
    assert len(bench.origin.requests) == 1


def test_a_304_to_the_clients_own_condition_goes_back_as_it_is(bench):
    bench.origin.otherwise(head_only('ETag: "x"', status=304, reason="Not Modified"))
    answer = bench.get("/", 'If-None-Match: "x"')
    assert (answer.status, answer.get("etag")) == (304, '"x"')
    assert bench.stored == 0


@pytest.mark.rfc("9112", "8")
@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("how", [Close(), Reset()])
@pytest.mark.parametrize("framing", ["counted", "chunked"])
def test_the_client_sees_a_body_that_was_cut_and_nothing_is_stored(bench, framing, how, fresh):
    lines = [FRESH] if fresh else []
    whole = response(b"hello" * 100, *lines) if framing == "counted" else chunked([b"hello" * 100], *lines)
    head = whole.index(b"\r\n\r\n") + 4
    for cut in (head, head + 1, head + 100, len(whole) - 1):
        bench.origin.otherwise(whole[:cut], Stall(0.01), how)
        with bench.ask() as connection, pytest.raises(raw.Broken):
            connection.read_response()
    assert bench.stored == 0


@pytest.mark.rfc("9112", "8")
def test_a_cut_that_a_plain_close_would_hide_is_a_reset(bench):
    bench.origin.otherwise(chunked([b"hello" * 100])[:-1], Stall(0.01), Close())
    with bench.ask(version="1.0") as connection:
        data, end = connection.read_to_end()
    assert end is raw.End.RESET
    bench.origin.otherwise(head_only(FRESH) + b"hello", Stall(0.01), Reset())
    with bench.ask(version="1.0") as connection:
        data, end = connection.read_to_end()
    assert end is raw.End.RESET
    assert b"200" in data or not data
    assert bench.stored == 0


def test_a_response_head_cut_anywhere_is_an_error_of_ours(make):
    bench = make(site="eject = { failures = 0 }\nretry = false")
    head = head_only("Content-Length: 0")
    for cut in range(len(head)):
        bench.origin.otherwise(head[:cut], Close())
        answer = bench.get()
        assert (answer.status, answer.get("cache-control")) == (502, "no-store")
    assert bench.stored == 0


# ---- interim responses -----------------------------------------------------------------------------------------------


@pytest.mark.rfc("9110", "15.2")
@pytest.mark.parametrize("fresh", [True, False])
def test_interim_responses_come_in_order_to_new_clients_and_never_to_old_ones(bench, fresh):
    hints = head_only("Link: </a>; rel=preload", status=103, reason="Early Hints")
    final = response(b"x", *([FRESH] if fresh else []))
    bench.origin.otherwise(head_only(status=102, reason="Processing"), hints, Stall(0.02), final)
    with bench.ask("/a") as connection:
        answer = connection.read_response()
    assert [one.status for one in answer.interim] == [102, 103]
    assert answer.interim[1].get("link") == "</a>; rel=preload"
    assert answer.get("link") is None
    with bench.ask("/b", version="1.0") as connection:
        assert connection.read_response().interim == []
    if fresh:
        assert bench.get("/a").interim == []
        assert bench.outcomes() == {"miss": 2, "hit": 1}


def test_too_many_interim_responses_are_a_broken_origin(bench):
    bench.origin.otherwise(*[head_only(status=103, reason="x")] * 33, Close())
    assert bench.get("/", "Cache-Control: no-cache").status == 502


# ---- what is tried again ---------------------------------------------------------------------------------------------


def test_a_request_that_met_a_closed_kept_connection_is_repeated_once_if_it_is_safe(bench):
    bench.origin.otherwise(response(b"x"))
    bench.get("/warm")
    bench.origin.then(Close())
    assert bench.get("/a").body == b"x"
    assert bench.origin.targets() == ["/warm", "/a", "/a"]
    bench.origin.forget()
    bench.origin.then(Close())
    with bench.ask("/b", "Content-Length: 0", method="POST") as connection:
        assert connection.read_response().status == 502
    assert bench.origin.targets() == ["/b"]


def test_a_repeated_request_is_not_repeated_again(bench):
    bench.get("/warm")
    bench.origin.otherwise(Close())
    assert bench.get("/a").status == 502
    assert bench.origin.targets() == ["/warm", "/a", "/a"]


def test_nothing_is_repeated_once_a_byte_of_an_answer_has_come(make):
    bench = make(origins=2)
    for origin in bench.origins:
        origin.otherwise(b"H", Close())
    assert bench.get("/a").status == 502
    for origin in bench.origins:
        origin.otherwise(head_only(status=103, reason="x"), Close())
    assert bench.get("/b").status == 502
    assert sum(len(origin.requests) for origin in bench.origins) == 2


def test_a_single_origin_that_closes_without_an_answer_is_a_bad_gateway_and_not_unavailable(make):
    bench = make(site="eject = { failures = 0 }")
    bench.origin.otherwise(Close())
    answer = bench.get()
    assert answer.status == 502
    assert "connection_terminated" in answer.get("proxy-status")


def test_any_request_whose_connect_failed_goes_to_another_origin(make):
    bench = make(origins=2, site="eject = { failures = 0 }")
    bench.origins[0].refuse()
    bench.origins[1].otherwise(response(b"second"))
    for _ in range(4):
        with raw.Connection(bench.at) as connection:
            connection.send(raw.request("POST", "/", body=b"data"))
            assert connection.read_response().body == b"second"
    assert {one.body for one in bench.origins[1].requests} == {b"data"}


def test_without_an_origin_that_listens_the_answer_is_502_and_when_all_are_out_503(make):
    bench = make(site="eject = { failures = 2 }")
    bench.origin.refuse()
    assert [bench.get().status for _ in range(3)] == [502, 502, 502]  # the panic rule tries the last one all the same
    assert bench.outcomes() == {"failed": 3}


def test_a_request_that_has_passed_here_before_is_a_loop(bench):
    assert bench.get("/", "Via: 1.1 other, 1.1 tandem-test").status == 508
    assert bench.get("/", "Via: 1.1 tandem-test2").status == 200
    assert bench.origin.targets() == ["/"]


# ---- patience --------------------------------------------------------------------------------------------------------


def test_an_origin_that_does_not_answer_in_time_is_504_and_one_that_stops_a_cut(make):
    bench = make(site='timeouts = { first_byte = "2s", idle = "3s" }')
    gate = threading.Event()
    bench.origin.otherwise(Stall(until=gate))
    with bench.ask() as connection:
        bench.origin.wait_for(1)
        bench.stack.advance(3)
        assert connection.read_response().status == 504
    bench.origin.otherwise(response(b"hello")[:-1], Stall(until=gate))
    with bench.ask() as connection:
        connection.read_raw_head()
        bench.stack.advance(4)
        assert connection.read_to_end()[0] == b"hell"
    gate.set()


def test_an_exchange_as_a_whole_has_its_bound(make):
    bench = make(site='timeouts = { whole = "2s" }')
    gate = threading.Event()
    bench.origin.otherwise(Stall(until=gate))
    with bench.ask() as connection:
        bench.origin.wait_for(1)
        bench.stack.advance(3)
        assert connection.read_response().status == 504
    gate.set()


# ---- clients that leave ----------------------------------------------------------------------------------------------


def test_a_client_that_leaves_before_the_head_ends_its_request(bench):
    gate = threading.Event()
    bench.origin.otherwise(Stall(until=gate))
    connection = bench.ask()
    bench.origin.wait_for(1)
    connection.abort()
    raw.wait_until(lambda: bench.stack.upstream_counts() == (0, 0))
    gate.set()
    bench.ledger.settle()
    assert bench.stack.counters()['tandem_errors_total{error="client-gone"}'] == 1


@pytest.mark.parametrize("fresh", [True, False])
def test_a_client_that_leaves_inside_the_body_ends_it_unless_it_is_being_stored(bench, fresh):
    gate = threading.Event()
    whole = response(b"hello" * 10, *([FRESH] if fresh else []))
    bench.origin.otherwise(whole[:-10], Stall(until=gate), whole[-10:])
    connection = bench.ask()
    connection.read_raw_head()
    connection.abort()
    bench.stack.wait(lambda: not bench.stack.front.connections)
    if not fresh:
        raw.wait_until(lambda: bench.stack.upstream_counts() == (0, 0))
    gate.set()
    bench.ledger.settle()
    assert bench.stored == int(fresh)
    if fresh:
        assert bench.get().body == b"hello" * 10
        assert len(bench.origin.requests) == 1


# ---- one fetch for all who ask ---------------------------------------------------------------------------------------


def test_many_who_ask_for_the_same_wait_for_one_fetch(bench):
    gate = threading.Event()
    bench.origin.otherwise(Stall(until=gate), response(b"hello", FRESH))
    connections = [bench.ask() for _ in range(20)]
    bench.wait_for_waiters(20)
    gate.set()
    answers = [connection.read_response() for connection in connections]
    assert {answer.body for answer in answers} == {b"hello"}
    assert sum("collapsed" in answer.get("cache-status") for answer in answers) == 19
    assert len(bench.origin.requests) == 1
    for connection in connections:
        connection.close()


def test_who_comes_late_reads_what_has_arrived_and_then_the_rest(bench):
    gate = threading.Event()
    whole = response(b"hello" * 10, FRESH)
    bench.origin.otherwise(whole[:-10], Stall(until=gate), whole[-10:])
    with bench.ask() as first:
        first.read_raw_head()
        first.read_exactly(40)
        with bench.ask() as second:
            second.read_raw_head()
            assert second.read_exactly(40) == b"hello" * 8
            gate.set()
            assert second.read_exactly(10) == b"hello" * 2
    assert len(bench.origin.requests) == 1


def test_a_late_client_sees_the_cut_as_the_first_does(bench):
    gate = threading.Event()
    bench.origin.otherwise(response(b"hello" * 10, FRESH)[:-10], Stall(until=gate), Close())
    with bench.ask() as first, bench.ask() as second:
        first.read_raw_head()
        second.read_raw_head()
        gate.set()
        assert first.read_to_end()[0] == second.read_to_end()[0] == b"hello" * 8
    assert bench.stored == 0


@pytest.mark.rfc("9111", "4.1")
def test_a_waiter_whom_vary_sets_apart_asks_for_itself(bench):
    gate = threading.Event()

    def answer(received):
        body = (received.get("accept-language") or "none").encode()
        return [Stall(until=gate), response(body, FRESH, "Vary: Accept-Language")]

    bench.origin.otherwise(by=answer)
    languages = ["de", "fr", "de", "it"]
    connections = [bench.ask("/", f"Accept-Language: {language}") for language in languages]
    bench.wait_for_waiters(4)
    gate.set()
    assert [connection.read_response().text for connection in connections] == languages
    assert bench.stored == 3
    for connection in connections:
        connection.close()


@pytest.mark.rfc("9111", "3.5")
def test_waiters_never_get_what_was_made_for_somebodys_credentials(bench):
    gate = threading.Event()

    def answer(received):
        return [Stall(until=gate), response((received.get("authorization") or "nobody").encode(), FRESH)]

    bench.origin.otherwise(by=answer)
    with bench.ask("/", "Authorization: Basic YQ==") as first:
        bench.origin.wait_for(1)
        with bench.ask() as second, bench.ask("/", "Authorization: Basic Yg==") as third:
            bench.wait_for_waiters(3)
            gate.set()
            assert first.read_response().text == "Basic YQ=="
            assert second.read_response().text == "nobody"
            assert third.read_response().text in {"Basic Yg==", "nobody"}
    assert bench.get().text == "nobody"


def test_what_proves_unshareable_is_fetched_for_each_at_once(bench):
    gate, second = threading.Event(), threading.Event()
    seen = []

    def answer(received):
        seen.append(received)
        return [Stall(until=gate if len(seen) == 1 else second), response(b"mine", "Cache-Control: private")]

    bench.origin.otherwise(by=answer)
    connections = [bench.ask("/", f"X-N: {n}") for n in range(5)]
    bench.wait_for_waiters(5)
    gate.set()
    bench.origin.wait_for(5)  # all of them, though none of these has been answered
    connections += [bench.ask("/", f"X-N: {n}") for n in range(5, 8)]
    bench.origin.wait_for(8)  # nor does anybody queue from now on
    second.set()
    assert {connection.read_response().body for connection in connections} == {b"mine"}
    for connection in connections:
        connection.close()


def test_what_becomes_storable_is_stored_although_it_was_not_before(bench):
    bench.origin.otherwise(response(b"mine", "Cache-Control: private"))
    for _ in range(3):
        bench.get()
    bench.origin.otherwise(chunked([b"ours"], FRESH))
    assert bench.get().body == b"ours"
    assert bench.get().body == b"ours"
    assert len(bench.origin.requests) == 4


@pytest.mark.rfc("9111", "5.2.1.5")
def test_a_client_that_wants_nothing_stored_does_not_spoil_it_for_others(bench):
    bench.origin.otherwise(response(b"x", FRESH))
    bench.get("/", "Cache-Control: no-store")
    assert bench.stored == 0
    assert not bench.stack.call(lambda: bench.stack.pipeline.flights.is_unshareable(b"http://test.example/"))
    bench.get()
    assert bench.stored == 1


def test_reloads_of_many_are_not_served_one_after_another(bench):
    bench.origin.otherwise(bench.dated(b"x", FRESH, 'ETag: "x"'))
    bench.get()
    gate, later = threading.Event(), threading.Event()
    bench.origin.forget()
    seen = []

    def answer(received):
        seen.append(received)
        return [Stall(until=gate if len(seen) == 1 else later), head_only('ETag: "x"', status=304, reason="x")]

    bench.origin.otherwise(by=answer)
    connections = [bench.ask("/", "Cache-Control: no-cache") for _ in range(5)]
    bench.wait_for_waiters(5)
    gate.set()
    bench.origin.wait_for(5)
    later.set()
    assert {connection.read_response().status for connection in connections} == {200}
    for connection in connections:
        connection.close()


def test_a_leader_that_leaves_does_not_end_the_fetch_of_its_waiters(bench):
    gate = threading.Event()
    bench.origin.otherwise(Stall(until=gate), response(b"hello", FRESH))
    leader = bench.ask()
    bench.origin.wait_for(1)
    with bench.ask() as waiter:
        bench.wait_for_waiters(2)
        leader.abort()
        bench.wait_for_waiters(1)
        gate.set()
        assert waiter.read_response().body == b"hello"
    assert len(bench.origin.requests) == 1


def test_when_all_waiters_leave_the_fetch_is_given_up(bench):
    gate = threading.Event()
    bench.origin.otherwise(Stall(until=gate), response(b"hello", FRESH))
    connections = [bench.ask() for _ in range(3)]
    bench.wait_for_waiters(3)
    for connection in connections:
        connection.abort()
    raw.wait_until(lambda: bench.stack.upstream_counts() == (0, 0))
    gate.set()
    assert bench.stored == 0


def test_a_failing_fetch_fails_for_all_who_wait(make):
    bench = make(site="retry = false")
    gate = threading.Event()
    bench.origin.otherwise(Stall(until=gate), Close())
    connections = [bench.ask() for _ in range(3)]
    bench.wait_for_waiters(3)
    gate.set()
    assert [connection.read_response().status for connection in connections] == [502] * 3
    for connection in connections:
        connection.close()


# ---- validation ------------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9111", "4.3")
def test_a_304_makes_the_stored_response_answer_again(bench):
    bench.origin.otherwise(bench.dated(b"x", "Cache-Control: max-age=5", 'ETag: "x"'))
    bench.get()
    bench.stack.advance(6)
    bench.origin.otherwise(
        by=lambda _: [head_only('ETag: "x"', f"Date: {bench.stack.date()}", status=304, reason="Not Modified")]
    )
    answer = bench.get()
    assert (answer.status, answer.body) == (200, b"x")
    assert bench.origin.requests[-1].get("if-none-match") == '"x"'
    assert "fwd-status=304" in answer.get("cache-status")
    bench.get()
    assert len(bench.origin.requests) == 2
    assert bench.outcomes() == {"miss": 1, "revalidated": 1, "hit": 1}


def test_a_200_to_a_validation_replaces_what_was_stored(bench):
    bench.origin.otherwise(bench.dated(b"old", "Cache-Control: max-age=5", 'ETag: "old"'))
    bench.get()
    bench.stack.advance(6)
    bench.origin.otherwise(bench.dated(b"new", FRESH, 'ETag: "new"'))
    assert [bench.get().body for _ in range(2)] == [b"new", b"new"]
    assert (len(bench.origin.requests), bench.stored) == (2, 1)


@pytest.mark.rfc("9111", "4.2.4")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("trouble", ["refused", "closed", "500", "503", "cut"])
def test_a_stale_response_stands_in_for_an_origin_in_trouble(make, trouble, method):
    bench = make(site="eject = { failures = 0 }")
    bench.origin.otherwise(bench.dated(b"x", "Cache-Control: max-age=5", 'ETag: "x"'))
    bench.get()
    bench.stack.advance(6)
    if trouble == "refused":
        bench.leave_alone()
    elif trouble == "closed":
        bench.origin.otherwise(Close())
    elif trouble == "cut":
        bench.origin.otherwise(b"HTTP/1.1 20", Close())
    else:
        bench.origin.otherwise(response(b"trouble" * 10000, status=int(trouble)))
    answer = bench.get(method=method)
    assert (answer.status, answer.get("age"), answer.get("content-length")) == (200, "6", "1")
    assert "ttl=-" in answer.get("cache-status")
    assert bench.outcomes() == {"miss": 1, "stale": 1}


def test_a_part_of_a_stale_response_stands_in_as_well(make):
    bench = make(site="eject = { failures = 0 }")
    bench.origin.otherwise(bench.dated(b"hello", "Cache-Control: max-age=5", 'ETag: "x"'))
    bench.get()
    bench.stack.advance(6)
    bench.origin.otherwise(response(b"trouble", status=503))
    answer = bench.get("/", "Range: bytes=1-2")
    assert (answer.status, answer.body) == (206, b"el")


@pytest.mark.rfc("9111", "5.2.2.2")
@pytest.mark.parametrize("lines", [(), ("Range: bytes=0-1",)])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("directive", ["must-revalidate", "proxy-revalidate", "no-cache"])
def test_where_validation_is_owed_nothing_stale_is_given_but_504_or_502(make, directive, method, lines):
    bench = make(site="eject = { failures = 0 }")
    bench.origin.otherwise(bench.dated(b"x", f"Cache-Control: max-age=5, {directive}", 'ETag: "x"'))
    bench.get()
    bench.stack.advance(6)
    bench.origin.otherwise(b"nonsense\r\n\r\n", Close())
    assert bench.get("/", *lines, method=method).status == 502
    bench.leave_alone()
    answer = bench.get("/", *lines, method=method)
    assert (answer.status, answer.get("etag")) == (504, None)


def test_stale_if_error_of_the_origin_bounds_the_time_of_standing_in(bench):
    bench.origin.otherwise(bench.dated(b"x", "Cache-Control: max-age=5, stale-if-error=10"))
    bench.get()
    bench.origin.otherwise(response(b"trouble", status=503))
    bench.stack.advance(10)
    assert bench.get().status == 200
    bench.stack.advance(6)
    assert bench.get().status == 503


@pytest.mark.rfc("5861", "3")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_while_stale_all_are_answered_at_once_and_one_refresh_runs(bench, method):
    bench.origin.otherwise(bench.dated(b"old", "Cache-Control: max-age=5, stale-while-revalidate=60", 'ETag: "x"'))
    bench.get()
    bench.stack.advance(6)
    gate = threading.Event()
    bench.origin.otherwise(by=lambda _: [Stall(until=gate), bench.dated(b"new", FRESH)])
    wants = ("Cache-Control: stale-if-error=1", "Range: bytes=0-0", "Cookie: a=b") if method == "GET" else ()
    for _ in range(3):
        assert bench.get("/", *wants, method=method).status in {200, 206}
    bench.origin.wait_for(2)
    refresh = bench.origin.requests[1]
    assert (refresh.method, refresh.get("if-none-match")) == (b"GET", '"x"')
    assert (refresh.get("range"), refresh.get("cache-control")) == (None, None)
    gate.set()
    bench.ledger.settle()
    assert bench.get().body == b"new"
    assert len(bench.origin.requests) == 2


def test_a_refresh_that_fails_leaves_what_is_stored(bench):
    bench.origin.otherwise(bench.dated(b"old", "Cache-Control: max-age=5, stale-while-revalidate=60"))
    bench.get()
    bench.stack.advance(6)
    bench.origin.otherwise(response(b"trouble", status=503))
    for _ in range(2):
        assert bench.get().body == b"old"
        bench.ledger.settle()


@pytest.mark.rfc("9111", "5.2.1.7")
def test_only_if_cached_asks_nobody(bench):
    answer = bench.get("/", "Cache-Control: only-if-cached")
    assert (answer.status, bench.origin.requests) == (504, [])
    bench.origin.otherwise(response(b"x", FRESH))
    bench.get()
    assert bench.get("/", "Cache-Control: only-if-cached").body == b"x"


@pytest.mark.rfc("9111", "4.3.5")
def test_a_head_updates_the_stored_get_it_agrees_with_and_outdates_one_it_does_not(bench):
    bench.origin.otherwise(bench.dated(b"x", "Cache-Control: max-age=5", 'ETag: "x"'))
    bench.get()
    bench.stack.advance(6)
    bench.origin.otherwise(
        head_only(FRESH, 'ETag: "x"', "X-New: 1", f"Date: {bench.stack.date()}", "Content-Length: 1")
    )
    bench.get(method="HEAD")
    answer = bench.get()
    assert (answer.body, answer.get("x-new"), len(bench.origin.requests)) == (b"x", "1", 2)
    bench.origin.otherwise(head_only(FRESH, 'ETag: "y"', "Content-Length: 1"))
    bench.get("/", "Cache-Control: no-cache", method="HEAD")
    bench.origin.otherwise(response(b"y", FRESH))
    assert bench.get().body == b"y"


def test_a_head_says_nothing_of_variants_it_would_not_have_chosen(bench):
    bench.origin.otherwise(
        by=lambda r: [
            bench.dated((r.get("accept-language") or "").encode(), "Vary: Accept-Language", "Cache-Control: max-age=5")
        ]
    )
    bench.get("/", "Accept-Language: de")
    bench.stack.advance(6)
    bench.origin.otherwise(head_only(FRESH, "Vary: Accept-Language", "Content-Length: 2"))
    bench.get("/", "Accept-Language: fr", method="HEAD")
    bench.origin.otherwise(response(b"DE", "Vary: Accept-Language", FRESH))
    assert bench.get("/", "Accept-Language: de").body == b"DE"


def test_a_whole_answer_to_a_range_does_not_make_another_body_fresh(bench):
    bench.origin.otherwise(bench.dated(b"old!!", "Cache-Control: max-age=5"))
    bench.get()
    bench.stack.advance(6)
    bench.origin.otherwise(bench.dated(b"new!!", FRESH))
    assert bench.get("/", "Range: bytes=0-1").status == 200
    assert bench.get().body == b"new!!"


# ---- conditions and ranges from what is stored -----------------------------------------------------------------------


def test_conditions_and_ranges_are_answered_from_the_store(bench):
    bench.origin.otherwise(bench.dated(b"0123456789", FRESH, 'ETag: "x"', "Content-Type: text/plain"))
    bench.get()
    assert bench.get("/", 'If-None-Match: "y", W/"x"').status == 304
    assert bench.get("/", 'If-None-Match: "y"').status == 200
    assert bench.get("/", f"If-Modified-Since: {bench.stack.date()}").status == 304
    part = bench.get("/", "Range: bytes=2-4")
    assert (part.status, part.body, part.get("content-range")) == (206, b"234", "bytes 2-4/10")
    assert bench.get("/", "Range: bytes=-3").body == b"789"
    assert bench.get("/", "Range: bytes=4-", 'If-Range: "y"').status == 200
    nothing = bench.get("/", "Range: bytes=10-")
    assert (nothing.status, nothing.get("content-range"), nothing.body) == (416, "bytes */10", b"")
    many = bench.get("/", "Range: bytes=0-1,8-9")
    assert many.status == 206
    assert b"Content-Range: bytes 0-1/10\r\n\r\n01\r\n" in many.body
    assert b"Content-Range: bytes 8-9/10\r\n\r\n89\r\n" in many.body
    assert bench.get("/", "Range: bytes=0-1", method="HEAD").status == 200
    assert len(bench.origin.requests) == 1


@pytest.fixture
def arriving(bench):
    """A bench with a response of known length of which half has come, and the event that lets the rest come."""
    gate = threading.Event()
    whole = response(b"0123456789" * 10, FRESH, 'ETag: "x"')
    bench.origin.otherwise(whole[:-50], Stall(until=gate), whole[-50:])
    with bench.ask() as first:
        first.read_raw_head()
        first.read_exactly(50)
        yield bench, gate
        gate.set()
        first.read_exactly(50)
    assert len(bench.origin.requests) == 1


def test_what_is_still_arriving_answers_conditions_and_heads_at_once(arriving):
    bench, _ = arriving
    assert bench.get("/", 'If-None-Match: "x"').status == 304
    assert bench.get(method="HEAD").get("content-length") == "100"


def test_a_part_of_what_is_still_arriving_comes_as_it_arrives(arriving):
    bench, gate = arriving
    early = bench.get("/", "Range: bytes=10-12")
    assert (early.status, early.body, early.get("content-range")) == (206, b"012", "bytes 10-12/100")
    with bench.ask("/", "Range: bytes=45-54") as across, bench.ask("/", "Range: bytes=-5") as late:
        across.read_raw_head()
        assert across.read_exactly(5) == b"56789"
        gate.set()
        assert across.read_exactly(5) == b"01234"
        assert late.read_response().body == b"56789"


def test_a_part_of_what_has_no_known_length_is_the_origins_to_give(bench):
    gate = threading.Event()
    bench.origin.then(head_only(FRESH, "Transfer-Encoding: chunked"), chunk(b"01"), Stall(until=gate), b"0\r\n\r\n")
    with bench.ask() as first:
        first.read_raw_head()
        bench.origin.otherwise(response(b"1", "Content-Range: bytes 1-1/2", status=206))
        assert bench.get("/", "Range: bytes=1-1").body == b"1"
        gate.set()
        assert first._chunked()[0] == b"01"


# ---- unsafe methods, purges ------------------------------------------------------------------------------------------


@pytest.mark.rfc("9111", "4.4")
@pytest.mark.parametrize("lines", [(), ("Content-Length: 0",)])
def test_an_unsafe_method_invalidates_each_time_however_equal_its_answers(bench, lines):
    bench.origin.otherwise(bench.dated(b"x", FRESH))
    bench.origin.on("/a", bench.dated(b"x", FRESH))
    for _ in range(3):
        bench.get("/a")
        assert bench.stored == 1
        with bench.ask("/a", *lines, method="DELETE") as connection:
            assert connection.read_response().status == 200
        assert bench.stored == 0


@pytest.mark.rfc("9111", "4.4")
def test_an_unsafe_method_that_failed_invalidates_nothing(bench):
    bench.origin.then(response(b"x", FRESH))
    bench.get()
    bench.origin.otherwise(response(b"no", status=403))
    with bench.ask(method="DELETE") as connection:
        connection.read_response()
    assert bench.stored == 1


def test_what_was_asked_for_before_an_invalidation_does_not_come_into_the_store_after_it(bench):
    gate = threading.Event()
    bench.origin.on("/a", Stall(until=gate), response(b"old", FRESH))
    with bench.ask("/a") as early:
        bench.origin.wait_for(1)
        bench.origin.on("/a", response(b"done"))
        with bench.ask("/a", method="DELETE") as connection:
            connection.read_response()
        bench.origin.on("/a", response(b"new", FRESH))
        assert bench.get("/a").body == b"new"
        gate.set()
        assert early.read_response().body == b"old"
    bench.ledger.settle()
    assert bench.get("/a").body == b"new"


def test_a_field_that_joins_the_key_does_not_save_from_invalidation_what_is_stored_or_on_its_way(make):
    bench = make(site='pass_fields = ["X-Forwarded-Host"]')
    gate = threading.Event()
    bench.origin.otherwise(response(b"old", FRESH))
    bench.get("/a", "X-Forwarded-Host: one")
    bench.origin.otherwise(Stall(until=gate), response(b"old", FRESH))
    with bench.ask("/a", "X-Forwarded-Host: two") as early:
        bench.origin.wait_for(2)
        bench.origin.otherwise(response(b"new", FRESH))
        with bench.ask("/a", method="DELETE") as connection:
            connection.read_response()
        gate.set()
        assert early.read_response().body == b"old"
    bench.ledger.settle()
    assert {bench.get("/a", f"X-Forwarded-Host: {name}").body for name in ("one", "two")} == {b"new"}


def test_a_head_under_way_brings_nothing_back_that_was_purged_meanwhile(bench):
    bench.origin.otherwise(bench.dated(b"x", "Cache-Control: max-age=5", 'ETag: "x"'))
    bench.get()
    bench.stack.advance(6)
    gate = threading.Event()
    bench.origin.otherwise(Stall(until=gate), head_only(FRESH, 'ETag: "x"', "Content-Length: 1"))
    with bench.ask(method="HEAD") as connection:
        bench.origin.wait_for(2)
        bench.stack.call(bench.stack.store.purge_all)
        gate.set()
        assert connection.read_response("HEAD").status == 200
    assert bench.stored == 0


def test_a_validation_under_way_brings_nothing_back_that_was_purged_meanwhile(bench):
    bench.origin.otherwise(bench.dated(b"x", "Cache-Control: max-age=5", 'ETag: "x"'))
    bench.get()
    bench.stack.advance(6)
    gate = threading.Event()
    bench.origin.otherwise(Stall(until=gate), head_only(FRESH, 'ETag: "x"', status=304, reason="x"))
    with bench.ask() as connection:
        bench.origin.wait_for(2)
        bench.stack.call(bench.stack.store.purge_all)
        gate.set()
        assert connection.read_response().body == b"x"
    assert bench.stored == 0


def test_purge_takes_an_url_out_for_those_who_may(make):
    bench = make(site='purge_from = ["127.0.0.2/32"]')
    bench.origin.otherwise(response(b"x", FRESH))
    bench.get("/a")
    bench.get("/b")
    assert bench.get("/a", method="PURGE").status == 403
    assert bench.stored == 2
    with raw.Connection(bench.at, source="127.0.0.2") as connection:
        connection.send(raw.request("PURGE", "/a"))
        answer = connection.read_response()
        assert (answer.status, answer.body) == (200, b"purged 1\n")
        connection.send(raw.request("PURGE", "/a"))
        assert connection.read_response().body == b"purged 0\n"
    assert bench.stored == 1
    bench.get("/a")
    assert bench.origin.targets() == ["/a", "/b", "/a"]


# ---- what is not stored ----------------------------------------------------------------------------------------------

SMALL = '[cache]\nmemory = "8MB"\nmax_object = "1MB"\n'


@pytest.mark.parametrize("announced", [True, False])
def test_what_is_too_large_reaches_all_and_is_not_stored(make, announced):
    bench = make(rest=SMALL)
    body = bytes(range(256)) * 8192  # 2 MiB
    pieces = [body[at : at + 2**16] for at in range(0, len(body), 2**16)]
    bench.origin.otherwise(response(body, FRESH) if announced else chunked(pieces, FRESH))
    for _ in range(2):
        assert bench.get().body == body
    bench.ledger.settle()
    assert bench.stored == 0
    assert len(bench.origin.requests) == 2


def test_a_slow_reader_of_what_is_too_large_holds_the_origin_and_its_memory_is_counted(make):
    bench = make(rest=SMALL)
    head = head_only(FRESH, "Transfer-Encoding: chunked")
    bench.origin.otherwise(head, Repeat(chunk(bytes(2**16)), 256), b"0\r\n\r\n")  # 16 MiB

    def held():
        return [flight for flight in bench.stack.pipeline.flights._loose if flight._paused]

    with raw.Connection(bench.at, receive_buffer=4096) as connection:
        connection.send(raw.request())
        connection.read_raw_head()
        bench.stack.wait(held, "the origin is held")
        flight = held()[0]
        counted, waiting = bench.stack.call(lambda: (bench.stack.store.reserved, sum(map(len, flight.body.chunks))))
        assert counted == flight._reserved <= 2**20
        assert waiting <= 2**20 + 2**18
        assert len(connection._chunked()[0]) == 2**24
    bench.ledger.settle()
    assert bench.stored == 0


def test_session_ids_neither_come_into_the_store_nor_hide_in_what_is_stored(make):
    bench = make(site='preset = "tomcat"')
    bench.origin.otherwise(response(b"plain", FRESH))
    assert bench.get("/a;jsessionid=ABCDEF.t1").body == b"plain"
    bench.ledger.settle()
    assert bench.get("/a").body == b"plain"
    assert len(bench.origin.requests) == 1
    bench.origin.otherwise(
        head_only(FRESH, "Transfer-Encoding: chunked") + chunk(b"<a href='/x;jsessionid=ABC"),
        chunk(b"DEF.t1'>"),
        b"0\r\n\r\n",
    )
    bench.get("/b;jsessionid=ABCDEF.t1")
    bench.origin.otherwise(response(b"x", FRESH, "Set-Cookie: JSESSIONID=1234; Path=/"))
    bench.get("/c")
    bench.ledger.settle()
    assert bench.stored == 1


def test_our_own_errors_are_never_stored(make):
    bench = make(site="eject = { failures = 0 }")
    bench.origin.otherwise(b"nonsense\r\n\r\n", Close())
    assert bench.get().status == 502
    bench.origin.otherwise(response(b"well", FRESH))
    assert bench.get().body == b"well"


# ---- upgrade ---------------------------------------------------------------------------------------------------------


def test_after_a_101_bytes_travel_both_ways_and_the_end_of_either_side_ends_both(bench):
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    bench.origin.otherwise(switch + b"early", ReadRaw(4, echo=True), Close())
    lines = ("Connection: upgrade", "Upgrade: websocket")
    with bench.ask("/", *lines) as connection:
        assert connection.read_response().status == 101
        connection.send(b"ping")
        assert connection.read_to_end() == (b"earlyping", raw.End.CLEAN)
    bench.ledger.settle()
    assert bench.outcomes() == {"tunnel": 1}
    bench.origin.otherwise(switch, ReadRaw(8), Close())
    with bench.ask("/", *lines) as connection:
        assert connection.read_response().status == 101
        connection.send(b"farewell")
    raw.wait_until(lambda: bytes(bench.origin.links[-1].raw).endswith(b"farewell"))


def test_an_upgrade_that_is_refused_leaves_http_on_both_sides(bench):
    bench.origin.otherwise(response(b"no", status=403))
    with bench.ask("/", "Connection: upgrade", "Upgrade: websocket") as connection:
        assert connection.read_response().status == 403
        connection.send(raw.request())
        assert connection.read_response().status == 403
    assert bench.stack.upstream_counts()[0] == 1


# ---- the n-th step fails, for every n --------------------------------------------------------------------------------


def heard(connection):
    """All that comes up to the end of an answer, or of the connection."""
    try:
        answer = connection.read_response()
    except raw.Broken as cut:
        return cut.raw
    return answer.raw_head + answer.body


def descriptors():
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough


@pytest.mark.parametrize("stale", [False, True])
@pytest.mark.parametrize("how", [Close(), Reset()])
def test_an_origin_that_ends_after_any_byte_leaves_all_even_and_nobody_with_wrong_bytes(make, how, stale):
    """A shared fetch with a waiter: whole or visibly cut for both, and nothing of a cut one stored."""
    bench = make(site="eject = { failures = 0 }")
    whole = bench.dated(b"fresh bytes", FRESH, 'ETag: "y"')
    before = None
    for cut in range(len(whole)):
        if stale:
            bench.origin.otherwise(bench.dated(b"stale bytes", "Cache-Control: max-age=5", 'ETag: "x"'))
            bench.get(f"/{cut}")
            bench.stack.advance(6)
        gate = threading.Event()
        bench.origin.otherwise(Stall(until=gate), whole[:cut], Stall(0.001), how)
        with bench.ask(f"/{cut}") as first, bench.ask(f"/{cut}") as second:
            bench.wait_for_waiters(2)
            gate.set()
            for connection in (first, second):
                data = heard(connection)
                assert b"fresh bytes" not in data, cut
                assert (b"200 OK" in data) or (b" 502 " in data and not stale), cut
        bench.ledger.settle()
        assert bench.stored == (cut + 1 if stale else 0)
        bench.stack.wait(lambda: not bench.stack.front.connections)
        raw.wait_until(lambda: not bench.origin.open_links)
        before = before or descriptors()
        assert descriptors() <= before


@pytest.mark.parametrize("fresh", [True, False])
def test_a_client_that_is_gone_after_any_byte_it_sent_or_took_leaves_all_even(make, fresh):
    bench = make()
    bench.origin.otherwise(chunked([b"some", b"thing"], *([FRESH] if fresh else [])))
    request = raw.request("POST", "/", body=b"data")
    answer_length = 150
    before = None
    for sent in range(len(request)):
        connection = raw.Connection(bench.at)
        connection.send(request[:sent])
        connection.abort()
    for taken in range(0, answer_length, 3):
        connection = bench.ask(f"/{taken}")
        connection.sock.recv(taken) if taken else None
        connection.abort()
        bench.ledger.settle()
        bench.stack.wait(lambda: not bench.stack.front.connections)
        before = before or descriptors()
        assert descriptors() <= before + 4  # both ends of idle connections to the origin


def test_memory_that_is_refused_at_any_step_costs_the_storing_and_nothing_else(bench):
    pieces = [bytes([65 + n]) * 100 for n in range(6)]
    bench.origin.otherwise(
        head_only(FRESH, "Transfer-Encoding: chunked"),
        *[step for p in pieces for step in (chunk(p), Stall(0.002))],
        b"0\r\n\r\n",
    )
    store = bench.stack.store
    reserve = store.reserve
    for n in range(8):
        calls = []

        def failing(size, n=n, calls=calls):
            calls.append(size)
            return len(calls) != n + 1 and reserve(size)

        bench.stack.call(lambda failing=failing: setattr(store, "reserve", failing))
        assert bench.get(f"/{n}").body == b"".join(pieces)
        bench.ledger.settle()
        assert bool(bench.stack.call(lambda n=n: store.variants(b"http://test.example/%d" % n))) == (len(calls) <= n)


def broken(*_, **__):
    raise ZeroDivisionError


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_a_fault_of_ours_in_taking_an_answer_ends_that_exchange_alone(bench, whole, fresh):
    body = b"x" if whole else bytes(2**20)
    bench.origin.otherwise(response(body, *([FRESH] if fresh else [])))
    landing = bench.stack.pipeline.landing
    head = landing.flight_head
    bench.stack.call(lambda: setattr(landing, "flight_head", broken))
    assert bench.get().status == 500
    bench.stack.call(lambda: setattr(landing, "flight_head", head))
    bench.ledger.settle()
    assert bench.get().body == body
    assert len(bench.stack.complaints) == 1
    bench.stack.complaints.clear()


def test_a_fault_of_ours_before_any_answer_ends_that_exchange_alone(bench, caplog):
    bench.origin.otherwise(response(b"x", FRESH))
    decide = bench.stack.pipeline.decide
    bench.stack.call(lambda: setattr(bench.stack.pipeline, "decide", broken))
    assert bench.get().status == 500
    bench.stack.call(lambda: setattr(bench.stack.pipeline, "decide", decide))
    assert bench.get().body == b"x"
    assert "ZeroDivisionError" in caplog.text
