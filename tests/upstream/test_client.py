"""Requests to origins over real connections: which is taken, what is tried again, and that all is counted back."""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
from contextlib import ExitStack

import pytest

from proxy.upstream.client import Request
from proxy.upstream.health import Standing
from tests.kit import raw
from tests.kit.inproc import Clock, Stack
from tests.kit.ledger import Ledger
from tests.kit.origin import Close, FakeOrigin, ReadRaw, Reset, Stall, chunked, head_only, response
from tests.kit.proxy import reverse

HEAD = b"GET / HTTP/1.1\r\nHost: test.example\r\n\r\n"
PATIENT = "eject = { failures = 0 }"  # origins that are never put aside


class Hearer:
    """A receiver that writes down what it hears."""

    def __init__(self):
        self.interim = []
        self.head = None
        self.body = b""
        self.ends = 0
        self.failures = []
        self.switched = None
        self.on_data = None

    def upstream_interim(self, head):
        self.interim.append(head.status)

    def upstream_head(self, checked):
        self.head = checked.head

    def upstream_data(self, chunk):
        self.body += chunk
        if self.on_data is not None:
            self.on_data()

    def upstream_end(self):
        self.ends += 1

    def upstream_whole(self, checked, body):
        self.upstream_head(checked)
        if body:
            self.upstream_data(body)
        self.upstream_end()

    def upstream_failed(self, failure):
        self.failures.append(failure.kind.token)

    def upstream_upgraded(self, checked, connection, tail):
        self.switched = connection

    @property
    def is_over(self):
        return self.ends or self.failures


class Bench:
    def __init__(self, ends, origins=1, site=PATIENT, rest=""):
        self.origins = [ends.enter_context(FakeOrigin()) for _ in range(origins)]
        self.origin = self.origins[0]
        text = reverse(*(origin.address for origin in self.origins), site=site, rest=rest)
        self.stack = ends.enter_context(Stack(text, clock=Clock()))
        self.ledger = Ledger(self.stack)

    @property
    def pool(self):
        (pool,) = self.stack.pipeline.pools.values()
        return pool

    def active(self):
        return self.stack.call(lambda: [peer.active for peer in self.pool.status(self.stack.pipeline.now())])

    def standings(self):
        return self.stack.call(lambda: [peer.standing for peer in self.pool.status(self.stack.pipeline.now())])

    def begin(self, head=HEAD, method=b"GET", **more):
        """A request under way, and who hears of it."""
        hearer = Hearer()
        request = Request(self.stack.upstreams, self.pool, hearer, method, head, **more)
        self.stack.call(request.start)
        return request, hearer

    def ask(self, head=HEAD, method=b"GET", **more):
        """What is heard of a request from start to end."""
        _, hearer = self.begin(head, method, **more)
        self.stack.wait(lambda: hearer.is_over)
        assert hearer.ends + len(hearer.failures) == 1
        return hearer

    def counts(self):
        upstreams = self.stack.upstreams
        return self.stack.call(lambda: (upstreams.opened, upstreams.reused, upstreams.retries))


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


# ---- connections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [response(b"hello"), chunked([b"hello"]), head_only(status=204, reason="x")])
def test_a_connection_whose_response_is_complete_serves_the_next_request(bench, whole):
    bench.origin.otherwise(whole)
    for _ in range(3):
        assert bench.ask().ends == 1
    assert bench.counts() == (1, 2, 0)
    assert len(bench.origin.links) == 1
    assert bench.stack.upstream_counts() == (1, 1)


@pytest.mark.parametrize("scheme", ["Negotiate", "NTLM", "nTlM", "Basic"])
def test_a_connection_that_a_client_authenticates_serves_nobody_else(bench, scheme):
    """Hardening: Negotiate and NTLM speak for the connection, and the next request on it would be that client's."""
    bench.origin.otherwise(response(b"hello"))
    for _ in range(2):
        with raw.Connection(bench.stack.at) as client:
            client.send(raw.request("GET", "/", f"Authorization: {scheme} abc", "Cache-Control: no-cache"))
            assert client.read_response("GET").status == 200
    assert len(bench.origin.links) == (1 if scheme == "Basic" else 2)


@pytest.mark.parametrize(
    "steps",
    [
        [response(b"hello", "Connection: close")],
        [response(b"hello", version="1.0")],
        [response(b"hello") + b"HTTP/1.1 200 OK\r\n"],
        [chunked([b"hello"]) + b"\r\n"],
        [head_only() + b"hello", Close()],
        [response(b"hello"), Close()],
    ],
    ids=["close", "1.0", "more", "more behind chunks", "until close", "closed"],
)
def test_a_connection_that_may_not_be_trusted_serves_no_other(bench, steps):
    bench.origin.otherwise(*steps)
    for _ in range(2):
        assert bench.ask().body == b"hello"
        raw.wait_until(lambda: bench.stack.upstream_counts() == (0, 0))
    assert len(bench.origin.links) == 2
    assert bench.origin.faults == []


def test_bytes_on_an_idle_connection_close_it(bench):
    gate = threading.Event()
    bench.origin.otherwise(response(b"x"), Stall(until=gate), b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
    bench.ask()
    gate.set()
    raw.wait_until(lambda: bench.stack.upstream_counts() == (0, 0))
    bench.origin.otherwise(response(b"good"))
    assert bench.ask().body == b"good"


@pytest.mark.rfc("9112", "9.2")
@pytest.mark.parametrize("late", [response(b"poison"), Close()], ids=["bytes", "end"])
def test_what_came_unseen_on_an_idle_connection_keeps_it_from_its_next_request(bench, late):
    """The loop is busy while the late bytes arrive: they must not be the answer to the next request."""
    go = threading.Event()
    bench.origin.then(response(b"first"), Stall(until=go), late)
    bench.ask()
    hearer = Hearer()

    def next_request():
        (kept,) = next(iter(bench.stack.upstreams._idle.values()))
        go.set()
        assert select.select([kept.transport.get_extra_info("socket").fileno()], [], [], 5)[0]
        Request(bench.stack.upstreams, bench.pool, hearer, b"POST", HEAD.replace(b"GET", b"POST")).start()

    bench.stack.call(next_request)
    bench.stack.wait(lambda: hearer.is_over)
    assert (hearer.body, hearer.failures) == (b"hello", [])
    assert bench.counts() == (2, 0, 0)


def test_an_idle_connection_goes_after_its_time(bench):
    bench.ask()
    bench.stack.advance(14)
    assert bench.stack.upstream_counts() == (1, 1)
    bench.stack.advance(2)
    raw.wait_until(lambda: bench.stack.upstream_counts() == (0, 0))


def test_requests_at_the_same_time_have_connections_of_their_own(bench):
    gate = threading.Event()
    bench.origin.otherwise(Stall(until=gate), response(b"x"))
    hearers = [bench.begin()[1] for _ in range(5)]
    bench.origin.wait_for(5)
    assert bench.active() == [5]
    gate.set()
    bench.stack.wait(lambda: all(hearer.ends for hearer in hearers))
    assert bench.stack.upstream_counts() == (5, 5)


def test_a_connection_in_use_while_another_is_lost_is_kept_afterwards(bench):
    gate = threading.Event()
    bench.origin.then(Stall(until=gate), response(b"x"))
    _, hearer = bench.begin()
    bench.origin.wait_for(1)
    bench.origin.then(head_only("Content-Length: 9") + b"cut", Close())
    assert bench.ask().failures
    gate.set()
    bench.stack.wait(lambda: hearer.ends)
    bench.stack.wait(lambda: bench.stack.upstreams.counts == (1, 1))
    assert bench.ask().ends == 1
    assert len(bench.origin.links) == 2


def test_connections_of_origins_that_are_gone_from_the_configuration_are_closed(bench):
    bench.ask()
    bench.stack.call(lambda: bench.stack.upstreams.retain(set()))
    raw.wait_until(lambda: bench.stack.upstream_counts() == (0, 0))
    assert bench.ask().ends == 1


def test_after_closing_nothing_is_kept(bench):
    gate = threading.Event()
    bench.ask()
    bench.origin.otherwise(Stall(until=gate), response(b"last"))
    _, hearer = bench.begin()
    bench.origin.wait_for(2)
    bench.stack.run(bench.stack.upstreams.close())
    gate.set()
    bench.stack.wait(lambda: hearer.ends)
    raw.wait_until(lambda: bench.stack.upstream_counts() == (0, 0))


# ---- trying again ----------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9112", "9.3.1")
@pytest.mark.parametrize("how", [Close(), Reset()])
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
def test_a_safe_request_is_repeated_once_where_a_kept_connection_was_just_closed(bench, method, how):
    bench.ask()
    bench.origin.then(how)
    bench.origin.otherwise(response(b"") if method != b"HEAD" else head_only("Content-Length: 0"))
    hearer = bench.ask(HEAD.replace(b"GET", method), method)
    assert (hearer.ends, hearer.failures) == (1, [])
    assert bench.counts() == (2, 1, 1)
    assert bench.standings() == [Standing.UP]


class Body:
    """A body that has come already."""

    length = 4
    size = 4

    def start(self, sink):
        sink.body_data(b"data")
        sink.body_end()

    def pause(self): ...
    def resume(self): ...


def test_what_is_not_safe_or_has_a_body_is_not_repeated(bench):
    for head, method, body in (
        (HEAD.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n"), b"POST", None),
        (HEAD.replace(b"\r\n\r\n", b"\r\nContent-Length: 4\r\n\r\n"), b"GET", Body()),
    ):
        bench.ask()
        bench.origin.forget()
        bench.origin.then(Close())
        assert bench.ask(head, method, body=body).failures == ["upstream-closed"]
        assert len(bench.origin.requests) == 1


@pytest.mark.parametrize("first", [b"H", b"HTTP/1.1 200 OK\r\n", head_only(status=103, reason="x")])
def test_nothing_is_repeated_once_a_byte_of_an_answer_has_come(make, first):
    bench = make(origins=2)
    for origin in bench.origins:
        origin.otherwise(first, Close())
    assert len(bench.ask().failures) == 1
    assert sum(len(origin.requests) for origin in bench.origins) == 1


def test_a_safe_request_that_nobody_answered_goes_to_one_other_origin(make):
    bench = make(origins=3)
    for origin in bench.origins:
        origin.otherwise(Close())
    assert bench.ask().failures == ["upstream-closed"]
    assert sorted(len(origin.requests) for origin in bench.origins) == [0, 1, 1]


def test_with_one_origin_the_failure_told_is_its_own(bench):
    bench.origin.otherwise(Close())
    assert bench.ask().failures == ["upstream-closed"]
    assert bench.counts() == (1, 0, 0)


def test_a_failed_connect_lets_any_request_go_elsewhere_at_most_twice(make):
    bench = make(origins=4)
    for origin in bench.origins[:3]:
        origin.refuse()
    heard = [bench.ask(HEAD, body=None).failures for _ in range(4)]
    assert heard.count([]) >= 3
    assert all(failure in ([], ["connect-refused"]) for failure in heard)
    assert bench.active() == [0] * 4


def test_without_retry_the_first_failure_is_the_last(make):
    bench = make(origins=2, site=f"{PATIENT}\nretry = false")
    for origin in bench.origins:
        origin.refuse()
    assert bench.ask().failures == ["connect-refused"]
    assert bench.counts()[2] == 0


def test_an_origin_that_fails_in_a_row_is_put_aside_and_told_of(make):
    bench = make(origins=2, site="eject = { failures = 2 }")
    bench.origins[0].refuse()
    for _ in range(6):
        assert bench.ask().ends == 1
    assert bench.standings()[0] is Standing.EJECTED
    assert [change.standing for change in bench.stack.changes] == [Standing.EJECTED]


def test_a_pool_whose_origins_are_full_says_so_at_once(make):
    with ExitStack() as ends:
        origin = ends.enter_context(FakeOrigin())
        table = f'{{ address = "{origin.address}", max_connections = 1 }}'
        text = f'[[site]]\nlisten = "127.0.0.1:PORT0"\nupstream = [{table}]\n'
        stack = ends.enter_context(Stack(text, clock=Clock()))
        gate = threading.Event()
        origin.otherwise(Stall(until=gate), response(b"x"))
        with raw.Connection(stack.at) as first:
            first.send(raw.request("GET", "/a"))
            origin.wait_for(1)
            answer = raw.get(stack.at, "/b")
            assert (answer.status, "connection_limit_reached" in answer.get("proxy-status")) == (503, True)
            gate.set()
            assert first.read_response().status == 200
        assert raw.get(stack.at, "/b").status == 200


# ---- cancelling ------------------------------------------------------------------------------------------------------


def test_who_cancels_hears_nothing_more_wherever_the_request_is(bench):
    gate = threading.Event()
    bench.origin.otherwise(Stall(until=gate), response(b"x"))
    request, connecting = bench.begin()
    bench.stack.call(request.cancel)
    second, waiting = bench.begin()
    bench.origin.wait_for(1)
    bench.stack.call(second.cancel)
    bench.stack.call(second.cancel)
    gate.set()
    bench.ledger.settle()
    assert not connecting.is_over
    assert not waiting.is_over
    bench.origin.otherwise(response(b"y"))
    done, hearer = bench.begin()
    bench.stack.wait(lambda: hearer.ends)
    bench.stack.call(done.cancel)
    assert bench.active() == [0]


@pytest.mark.parametrize("whole", [response(b"hello"), chunked([b"hello"])])
def test_who_cancels_on_the_last_data_hears_no_end_and_spoils_no_connection(bench, whole):
    cut = whole.index(b"\r\n\r\n") + 4
    bench.origin.otherwise(whole[:cut], Stall(0.02), whole[cut:])
    request, hearer = bench.begin()
    hearer.on_data = request.cancel
    bench.stack.wait(lambda: hearer.body)
    bench.ledger.settle()
    assert not hearer.is_over
    assert bench.active() == [0]
    bench.origin.otherwise(response(b"next"))
    assert bench.ask().body == b"next"


def test_a_pause_at_the_last_byte_does_not_hold_the_next_request(bench):
    bench.origin.otherwise(response(b"hello")[:-1], Stall(0.02), b"o")
    request, hearer = bench.begin()
    hearer.on_data = request.pause
    bench.stack.wait(lambda: hearer.body)
    bench.stack.call(request.resume)
    bench.stack.wait(lambda: hearer.ends)
    bench.origin.otherwise(response(b"next"))
    assert bench.ask().body == b"next"
    assert bench.counts() == (1, 1, 0)


# ---- heads, and what goes wrong in making them -----------------------------------------------------------------------


def test_a_head_may_be_made_for_the_origin_that_was_chosen(bench):
    bench.ask(lambda origin: b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % origin.address.encode())
    assert bench.origin.targets() == [f"/{bench.origin.address}"]


def test_a_fault_of_ours_while_connecting_leaves_nobody_waiting(bench):
    def broken(origin):
        raise ZeroDivisionError

    upstreams = bench.stack.upstreams
    bench.stack.call(lambda: setattr(upstreams, "context", broken))
    assert bench.ask().failures == ["internal"]
    assert len(bench.stack.complaints) == 1
    bench.stack.complaints.clear()
    assert bench.active() == [0]


@pytest.mark.parametrize(
    ("said", "failure"), [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "tls-error"), (b"", "connect-refused")]
)
def test_an_origin_that_does_not_speak_tls_leaves_no_descriptor(said, failure):
    def refuse_tls():
        for _ in range(3):
            sock, _peer = listener.accept()
            with sock:
                sock.recv(65536)
                sock.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as ends:
        context = ssl.create_default_context()
        stack = ends.enter_context(
            Stack(reverse(f"127.0.0.1:{listener.getsockname()[1]}", site=PATIENT), clock=Clock())
        )
        stack.call(lambda: setattr(stack.upstreams, "context", lambda origin: context))
        thread = threading.Thread(target=refuse_tls)
        thread.start()
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
        (pool,) = stack.pipeline.pools.values()
        for _ in range(3):
            hearer = Hearer()
            stack.call(Request(stack.upstreams, pool, hearer, b"GET", HEAD).start)
            stack.wait(lambda hearer=hearer: hearer.is_over)
            assert hearer.failures == [failure]
        thread.join()
        raw.wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)  # noqa: PTH208 - likewise
        assert stack.upstream_counts() == (0, 0)


# ---- a switch of protocols -------------------------------------------------------------------------------------------


def test_an_upgraded_connection_is_counted_until_its_end(bench):
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    bench.origin.otherwise(switch, ReadRaw(4), b"bye", Close())
    head = HEAD.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    _, hearer = bench.begin(head, upgrade=b"websocket")
    bench.stack.wait(lambda: hearer.switched)
    assert bench.active() == [1]
    bench.stack.call(lambda: hearer.switched.start_raw(Body()))
    bench.stack.wait(lambda: hearer.ends)
    assert hearer.body == b"bye"
    assert bench.active() == [0]


# ---- the n-th step fails, for every n --------------------------------------------------------------------------------

STEPS = {
    "counted": response(b"hello"),
    "chunked": chunked([b"hel", b"lo"], trailers=["X: y"]),
    "interim": head_only(status=103, reason="x") + response(b"hello"),
}


@pytest.mark.parametrize("how", [Close(), Reset()])
@pytest.mark.parametrize("name", STEPS)
def test_a_connection_that_ends_after_any_byte_leaves_nothing_behind(bench, name, how):
    whole = STEPS[name]
    bench.ask()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
    for cut in range(len(whole)):
        bench.origin.otherwise(whole[:cut], Stall(0.001), how)
        hearer = bench.ask()
        assert len(hearer.failures) == 1, cut
        assert hearer.failures[0] in {"upstream-closed", "bad-response", "response-cut"}
    assert bench.active() == [0]
    raw.wait_until(lambda: bench.stack.upstream_counts() == (0, 0) and not bench.origin.open_links)
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208 - likewise


def test_a_request_with_a_body_is_not_given_to_a_connection_that_has_something_to_say(bench):
    """Its body would be half gone when the late bytes are noticed, and could not be sent again."""
    go = threading.Event()
    bench.origin.then(response(b"first"), Stall(until=go), Close())
    bench.ask()
    hearer = Hearer()
    body = HeldBody(b"all of it")

    def next_request():
        (kept,) = next(iter(bench.stack.upstreams._idle.values()))
        go.set()
        assert select.select([kept.transport.get_extra_info("socket").fileno()], [], [], 5)[0]
        head = HEAD.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 9\r\n\r\n")
        Request(bench.stack.upstreams, bench.pool, hearer, b"POST", head, body).start()

    bench.stack.call(next_request)
    bench.stack.wait(lambda: hearer.is_over)
    assert (hearer.body, hearer.failures) == (b"hello", [])
    assert bench.origin.requests[-1].body == b"all of it"


class HeldBody:
    """A whole request body that can be read once."""

    def __init__(self, content):
        self.content = content
        self.length = len(content)
        self.size = len(content)

    def start(self, sink):
        content, self.content = self.content, None
        sink.body_data(content)
        sink.body_end()

    def pause(self): ...
    def resume(self): ...
    def limit(self, most): ...
    def detach(self): ...


@pytest.mark.parametrize("session", [None, "t0"])
def test_a_kept_connection_that_closes_unanswered_sends_the_request_elsewhere_unless_its_session_is_there(
    make, session
):
    """A dying origin may yet take a connection that it will not answer; a session is lost anywhere else."""
    with ExitStack() as ends:
        first, second = (ends.enter_context(FakeOrigin()) for _ in range(2))
        text = reverse(
            {"address": first.address, "route": "t0"}, {"address": second.address, "route": "t1"}, site=PATIENT
        )
        stack = ends.enter_context(Stack(text, clock=Clock()))
        (pool,) = stack.pipeline.pools.values()

        def ask():
            hearer = Hearer()
            stack.call(Request(stack.upstreams, pool, hearer, b"GET", HEAD, None, session).start)
            stack.wait(lambda: hearer.is_over)
            return hearer

        for origin in (first, second):
            origin.otherwise(response(b"hello"))
        for _ in range(2):  # without a session each origin has a kept connection now
            ask()
        first.then(Close())
        assert [ask().failures for _ in range(2)] == [[], []]
        asked = (len(first.requests), len(second.requests))
        assert asked == ((5, 0) if session else (2, 3))
