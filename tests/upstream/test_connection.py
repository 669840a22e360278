"""One connection to an origin, its transport in memory: where responses end, what makes it unfit, and patience."""

from __future__ import annotations

import asyncio
import time
from math import inf

import pytest
from aiohttp.base_protocol import BaseProtocol

from config.schema import Limits, Timeouts
from config.units import Duration
from proxy import errors
from proxy.errors import Failure
from proxy.exchange import Origin
from proxy.outbox import Outbox
from proxy.upstream.connection import STEP, State, UpstreamConnection
from proxy.wheel import Wheel
from tests.kit.origin import chunked, head_only, response

ORIGIN = Origin("http", "127.0.0.1", 1)
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Turns:
    """What the outbox wants of a loop: `turn` is the end of the present one."""

    def __init__(self):
        self.due = []

    def call_soon(self, do):
        self.due.append(do)

    def turn(self):
        due, self.due = self.due, []
        for do in due:
            do()


class Wire(asyncio.Transport):
    """A transport in memory: what was written, and whether the connection reads, or has ended, and how."""

    def __init__(self):
        super().__init__()
        self.written = b""
        self.reading = True
        self.ended = ""

    def write(self, data):
        assert not self.ended
        self.written += data

    def writelines(self, parts):
        self.write(b"".join(parts))

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def is_closing(self):
        return bool(self.ended)

    def abort(self):
        self.ended = self.ended or "abort"

    def close(self):
        self.ended = self.ended or "close"


class Home:
    """The connections' surroundings: a clock that is a number, and the pool as a list."""

    def __init__(self, limits=None):
        self.loop = asyncio.new_event_loop()
        self.loop.close()
        self.turns = Turns()
        self.outbox = Outbox(self.turns)
        self.owner = BaseProtocol(self.loop)
        self.limits = limits or Limits()
        self.heads = {}
        self.head_heads = {}
        self.time = 100.0
        self.now = lambda: self.time
        self.wheel = Wheel(self.now)
        self.shelf = []
        self.gone = []

    def released(self, connection):
        connection.limit = self.time + self.limits.pool_idle
        self.shelf.append(connection)

    def lost(self, connection):
        self.gone.append(connection)
        self.wheel.forget(connection)

    def connect(self):
        connection = UpstreamConnection(self, ORIGIN, self.shelf)
        connection.connection_made(Wire())
        self.wheel.watch(connection)
        return connection

    def pass_time(self, seconds, step=0.25):
        end = self.time + seconds
        while self.time < end:
            self.time = min(end, self.time + step)
            for item in self.wheel.tick(self.time):
                item.expired(self.time)


class Hearer:
    """A call that writes down what it hears; `on_data` is done at each piece of the body."""

    def __init__(self, method=b"GET", upgrade=None):
        self.method = method
        self.upgrade = upgrade
        self.interim = []
        self.head = None
        self.body = b""
        self.ended = 0
        self.failure = None
        self.tail = None
        self.on_data = None
        self.on_head = None

    def upstream_interim(self, head):
        self.interim.append(head.status)

    def upstream_head(self, checked):
        assert self.head is None
        self.head = checked.head
        if self.on_head is not None:
            self.on_head()

    def upstream_data(self, chunk):
        assert chunk
        self.body += chunk
        if self.on_data is not None:
            self.on_data()

    def upstream_end(self):
        assert self.failure is None
        self.ended += 1

    def upstream_whole(self, checked, body):
        self.upstream_head(checked)
        if body:
            self.upstream_data(body)
        self.upstream_end()

    def upstream_failed(self, failure):
        assert self.failure is None
        assert not self.ended
        self.failure = failure.kind.token

    def upstream_upgraded(self, checked, tail):
        self.head = checked.head
        self.tail = tail

    @property
    def heard(self):
        status = None if self.head is None else self.head.status
        return self.interim, status, self.body, self.ended, self.failure


class Body:
    """A request body that the test feeds."""

    size = 0

    def __init__(self, length=None):
        self.length = length
        self.sink = None
        self.paused = False

    def start(self, sink):
        self.sink = sink

    def pause(self):
        self.paused = True

    def resume(self):
        self.paused = False


def asked(home, call=None, *, body=None, timeouts=None, whole=inf, connection=None):
    connection = connection or home.connect()
    call = call or Hearer()
    connection.ask(call, REQUEST, body, timeouts or Timeouts(), whole)
    home.turns.turn()  # the request leaves
    return connection, call


def finish(connection, exc=None, *, orderly=True):
    """The end of the connection, as the loop tells it."""
    if orderly and exc is None:
        connection.eof_received()
    connection.connection_lost(exc)


@pytest.fixture
def home():
    return Home()


def test_what_arrives_before_the_request_has_left_is_no_answer_to_it(home):
    connection, call = home.connect(), Hearer()
    connection.ask(call, REQUEST, None, Timeouts(), inf)
    connection.data_received(response(b"poison"))
    assert call.heard == ([], None, b"", 0, "stale-connection")
    assert connection.transport.ended


def test_an_answer_may_come_while_the_requests_body_is_on_its_way(home):
    body = Body(10)
    connection, call = asked(home, body=body)
    connection.body_data(b"hello")
    connection.data_received(response(b"enough"))
    assert (call.body, call.failure) == (b"enough", None)


# ---- where a response ends -------------------------------------------------------------------------------------------

WHOLE = [  # name, method, bytes, body, kept afterwards
    ("counted", b"GET", response(b"hello"), b"hello", True),
    ("empty", b"GET", response(b""), b"", True),
    ("chunked", b"GET", chunked([b"hel", b"lo"]), b"hello", True),
    ("trailers", b"GET", chunked([b"hello"], trailers=["X-Late: 1", "Y-Late: 2"]), b"hello", True),
    ("head", b"HEAD", head_only("Content-Length: 5"), b"", True),
    ("head, chunked", b"HEAD", head_only("Transfer-Encoding: chunked"), b"", True),
    ("204", b"GET", head_only(status=204, reason="No Content"), b"", True),
    ("304", b"GET", head_only("Content-Length: 0", status=304, reason="Not Modified"), b"", True),
    ("interim", b"GET", head_only("Link: </a>", status=103, reason="Early Hints") + response(b"x"), b"x", True),
    ("said close", b"GET", response(b"hello", "Connection: close"), b"hello", False),
    ("1.0", b"GET", response(b"hello", version="1.0"), b"hello", False),
]
NAMES = [row[0] for row in WHOLE]


@pytest.mark.rfc("9112", "6.3")
@pytest.mark.parametrize(("method", "raw", "body", "kept"), [row[1:] for row in WHOLE], ids=NAMES)
def test_a_response_is_read_alike_however_its_bytes_are_cut(home, method, raw, body, kept):
    for cut in range(len(raw)):
        connection, call = asked(home, Hearer(method))
        for piece in (raw[:cut], raw[cut:]):
            if piece:
                connection.data_received(piece)
        assert (call.body, call.ended, call.failure) == (body, 1, None), cut
        assert (connection in home.shelf) == kept, cut
        assert bool(connection.transport.ended) != kept, cut


@pytest.mark.parametrize(("method", "raw", "body", "kept"), [row[1:] for row in WHOLE], ids=NAMES)
def test_a_response_may_come_byte_by_byte(home, method, raw, body, kept):
    connection, call = asked(home, Hearer(method))
    for at in range(len(raw)):
        connection.data_received(raw[at : at + 1])
    assert (call.body, call.ended, call.failure) == (body, 1, None)
    assert (connection in home.shelf) == kept


@pytest.mark.rfc("9112", "8")
@pytest.mark.parametrize("orderly", [True, False])
@pytest.mark.parametrize(("method", "raw", "body", "kept"), [row[1:] for row in WHOLE], ids=NAMES)
def test_a_response_that_ends_before_its_end_is_no_whole_one(home, method, raw, body, kept, orderly):
    for cut in range(len(raw)):
        connection, call = asked(home, Hearer(method))
        if cut:
            connection.data_received(raw[:cut])
        finish(connection, None if orderly else ConnectionResetError(), orderly=orderly)
        assert call.ended == 0
        assert call.failure in {"upstream-closed", "bad-response", "response-cut"}, cut
        assert (call.failure == "response-cut") == (call.head is not None)
        assert connection not in home.shelf


@pytest.mark.rfc("9112", "6.3")
def test_a_body_without_length_ends_with_an_orderly_close_alone(home):
    for exc, ended, failure in ((None, 1, None), (ConnectionResetError(), 0, "response-cut")):
        connection, call = asked(home)
        connection.data_received(head_only() + b"all of ")
        connection.data_received(b"it")
        finish(connection, exc)
        assert (call.body, call.ended, call.failure) == (b"all of it", ended, failure)
        assert connection not in home.shelf


def test_a_connection_lost_without_an_end_of_the_other_side_is_no_orderly_close(home):
    connection, call = asked(home)
    connection.data_received(head_only() + b"x")
    finish(connection, orderly=False)  # TLS without close_notify comes so
    assert call.failure == "response-cut"


@pytest.mark.rfc("9112", "7.1.2")
def test_a_trailer_of_one_response_is_no_field_of_the_next(home):
    connection, _ = asked(home)
    connection.data_received(chunked([b"x"], trailers=["X-Late: 1"]))
    home.shelf.clear()
    _, call = asked(home, connection=connection)
    connection.data_received(response(b"y"))
    assert b"x-late" not in call.head.fields
    assert call.body == b"y"


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_has_no_certain_meaning_ends_the_connection(home, raw):
    connection, call = asked(home)
    connection.data_received(raw)
    assert (call.failure, call.ended) == ("bad-response", 0)
    assert connection.transport.ended == "abort"


def test_a_head_without_end_is_bounded(home):
    connection, call = asked(home)
    filler = b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000
    for _ in range(40):
        if call.failure is None:
            connection.data_received(filler)
    assert call.failure == "response-head-too-large"


# ---- what makes a connection unfit -----------------------------------------------------------------------------------


@pytest.mark.rfc("9112", "9.2")
@pytest.mark.parametrize(("method", "raw", "body", "kept"), [row[1:] for row in WHOLE], ids=NAMES)
def test_bytes_behind_a_response_make_the_connection_unfit(home, method, raw, body, kept):
    """In the same read, whatever the cut before it: the response counts, the connection does not."""
    for cut in range(len(raw)):
        connection, call = asked(home, Hearer(method))
        if cut:
            connection.data_received(raw[:cut])
        connection.data_received(raw[cut:] + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert (call.body, call.ended, call.failure) == (body, 1, None), cut
        assert connection not in home.shelf, cut
        assert connection.transport.ended, cut


def test_bytes_while_idle_close_the_connection(home):
    connection, _ = asked(home)
    connection.data_received(response(b"x"))
    assert connection.usable
    connection.data_received(b"H")
    assert not connection.usable
    assert connection.transport.ended


def test_the_other_sides_end_while_idle_makes_it_unusable(home):
    connection, _ = asked(home)
    connection.data_received(response(b"x"))
    connection.eof_received()
    assert not connection.usable
    connection.connection_lost(None)
    assert home.gone == [connection]


def test_an_answer_before_the_request_is_whole_is_heard_but_the_connection_not_kept(home):
    body = Body(10)
    connection, call = asked(home, body=body)
    body.sink.body_data(b"12345")
    connection.data_received(response(b"no", status=413))
    assert (call.body, call.ended) == (b"no", 1)
    assert connection not in home.shelf
    body.sink.body_data(b"67890")  # the client goes on: nobody minds
    body.sink.body_end()


def test_an_early_head_keeps_the_connection_if_the_request_is_whole_in_the_end(home):
    body = Body(2)
    connection, call = asked(home, body=body)
    connection.data_received(response(b"ab")[:-1])
    body.sink.body_data(b"12")
    body.sink.body_end()
    connection.data_received(b"b")
    assert call.ended == 1
    assert connection in home.shelf


# ---- the request goes out --------------------------------------------------------------------------------------------


def test_a_request_body_is_framed_for_this_hop(home):
    for length, wire in ((5, b"hello"), (None, b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n")):
        body = Body(length)
        connection, _ = asked(home, body=body)
        body.sink.body_data(b"hel")
        body.sink.body_data(b"lo")
        body.sink.body_end()
        home.turns.turn()
        assert connection.transport.written == REQUEST + wire


def test_a_request_body_that_breaks_off_is_never_ended(home):
    body = Body(None)
    connection, call = asked(home, body=body)
    body.sink.body_data(b"hel")
    home.turns.turn()
    body.sink.body_failed(Failure(errors.CLIENT_GONE))
    home.turns.turn()
    assert not connection.transport.written.endswith(b"0\r\n\r\n")
    assert connection.transport.ended == "abort"
    assert call.failure == "client-gone"


def test_an_origin_that_does_not_read_holds_the_client(home):
    body = Body(None)
    connection, _ = asked(home, body=body)
    connection.pause_writing()
    assert body.paused
    connection.resume_writing()
    assert not body.paused


# ---- interim responses -----------------------------------------------------------------------------------------------


@pytest.mark.rfc("9110", "15.2")
def test_interim_responses_come_in_order_before_the_final_one(home):
    raw = b"".join(head_only(status=status, reason="x") for status in (102, 103, 150, 103)) + response(b"end")
    for cut in range(len(raw)):
        connection, call = asked(home)
        for piece in (raw[:cut], raw[cut:]):
            if piece:
                connection.data_received(piece)
        assert call.heard == ([102, 103, 150, 103], 200, b"end", 1, None)


def test_interim_responses_are_bounded_in_number_and_in_bytes(home):
    connection, call = asked(home)
    for _ in range(33):
        connection.data_received(head_only(status=103, reason="x"))
    assert (len(call.interim), call.failure) == (32, "bad-response")
    connection, call = asked(home)
    for _ in range(9):
        if call.failure is None:
            connection.data_received(head_only("X: " + "y" * 8000, status=103, reason="x"))
    assert (len(call.interim), call.failure) == (8, "bad-response")


# ---- letting go in the middle ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [response(b"hello"), chunked([b"hello"]), head_only() + b"hello"])
def test_who_lets_go_on_seeing_data_hears_nothing_more(home, raw):
    head, body = raw[: raw.index(b"\r\n\r\n") + 4], raw[raw.index(b"\r\n\r\n") + 4 :]
    connection, call = asked(home)
    call.on_data = connection.close
    connection.data_received(head)
    connection.data_received(body)
    finish(connection)
    assert (call.body, call.ended, call.failure) == (b"hello", 0, None)
    assert connection not in home.shelf
    assert connection.state is State.CLOSED


def test_who_lets_go_on_seeing_the_head_hears_nothing_more(home):
    connection, call = asked(home)
    call.on_head = connection.close
    connection.data_received(response(b"hello")[:-2])
    assert (call.body, call.ended, call.failure) == (b"", 0, None)
    assert connection not in home.shelf


@pytest.mark.parametrize("raw", [response(b"hello"), chunked([b"hello"])])
def test_a_connection_held_at_its_last_byte_reads_again_for_the_next_request(home, raw):
    connection, call = asked(home)
    call.on_data = connection.pause
    connection.data_received(raw[:-1])
    connection.resume()
    connection.data_received(raw[-1:])
    assert call.ended == 1
    assert connection in home.shelf
    assert connection.transport.reading
    _, second = asked(home, connection=connection)
    connection.data_received(response(b"again"))
    assert second.body == b"again"


def test_holding_and_letting_go_of_a_connection_that_has_ended_is_nothing(home):
    connection, _ = asked(home)
    connection.data_received(head_only() + b"x")
    connection.pause()
    connection.transport.close()
    connection.resume()
    connection.connection_lost(None)
    connection.pause()
    connection.resume()


# ---- patience --------------------------------------------------------------------------------------------------------

SHORT = Timeouts(first_byte=Duration(1.0), idle=Duration(2.0))
LONG = Timeouts(first_byte=Duration(60.0), idle=Duration(30.0))


@pytest.mark.parametrize("timeouts", [SHORT, LONG])
@pytest.mark.parametrize("served", [False, True])
def test_an_origin_that_says_nothing_is_left_after_its_time_and_not_before(home, timeouts, served):
    connection = home.connect()
    if served:
        asked(home, connection=connection)
        connection.data_received(response(b"x"))
        home.pass_time(3)
    _, call = asked(home, connection=connection, timeouts=timeouts)
    home.pass_time(timeouts.first_byte - 0.5)
    assert call.failure is None
    home.pass_time(1.0)
    assert call.failure == "first-byte-timeout"


@pytest.mark.parametrize("timeouts", [SHORT, LONG])
def test_a_body_that_stands_still_is_left_after_its_time_and_not_before(home, timeouts):
    connection, call = asked(home, timeouts=timeouts)
    connection.data_received(response(b"hello")[:-3])
    home.pass_time(timeouts.idle - 0.5)
    connection.data_received(b"l")
    home.pass_time(timeouts.idle - 0.5)
    assert call.failure is None
    home.pass_time(1.0)
    assert call.failure == "response-idle"


def test_a_client_that_holds_the_body_does_not_use_up_the_origins_time(home):
    connection, call = asked(home, timeouts=SHORT)
    connection.data_received(response(b"hello")[:-3])
    connection.pause()
    home.pass_time(100)
    assert call.failure is None
    connection.resume()
    home.pass_time(SHORT.idle + 0.5)
    assert call.failure == "response-idle"


def test_the_whole_exchange_has_its_own_bound_however_busy_it_is(home):
    connection, call = asked(home, whole=home.time + 3)
    connection.data_received(head_only() + b"x")
    for _ in range(8):
        home.pass_time(0.5)
        if call.failure is None:
            connection.data_received(b"x")
    assert call.failure == "whole-timeout"


def test_the_request_body_is_the_clients_to_bring(home):
    """The origin's time begins when the request is out."""
    body = Body(5)
    _, call = asked(home, body=body, timeouts=SHORT)
    home.pass_time(20)
    assert call.failure is None
    body.sink.body_data(b"hello")
    body.sink.body_end()
    home.pass_time(SHORT.first_byte + 0.5)
    assert call.failure == "first-byte-timeout"


def test_an_idle_connection_is_closed_after_its_time_also_behind_a_bounded_exchange(home):
    connection, _ = asked(home, whole=home.time + 1)
    connection.data_received(response(b"x"))
    home.pass_time(home.limits.pool_idle - 0.5)
    assert connection.usable
    home.pass_time(1.0)
    assert connection.transport.ended


def test_an_idle_connection_is_looked_at_no_more_often_than_needed(home):
    connection, _ = asked(home, whole=home.time + 1)
    connection.data_received(response(b"x"))
    home.pass_time(2)
    assert connection.deadline > home.time + 1
    home.pass_time(STEP)
    assert connection.deadline > home.time + 1


# ---- tunnels ---------------------------------------------------------------------------------------------------------

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


def upgraded(home, tail=b"", timeouts=None):
    connection, call = asked(home, Hearer(upgrade=b"websocket"), timeouts=timeouts)
    home.turns.turn()
    connection.transport.written = b""
    connection.data_received(SWITCH + tail)
    body = Body()
    connection.start_raw(body)
    return connection, call, body


def test_bytes_flow_both_ways_after_a_switch_of_protocols(home):
    connection, call, body = upgraded(home, b"early")
    assert (call.head.status, call.tail) == (101, b"early")
    connection.data_received(b"HTTP/1.1 not parsed")
    body.sink.body_data(b"up")
    home.turns.turn()
    assert call.body == b"HTTP/1.1 not parsed"
    assert connection.transport.written == b"up"
    finish(connection)
    assert call.ended == 1


def test_the_last_words_of_a_client_that_leaves_a_tunnel_still_go_out(home):
    connection, call, body = upgraded(home)
    body.sink.body_data(b"farewell")
    body.sink.body_failed(Failure(errors.CLIENT_GONE))
    assert connection.transport.written == b"farewell"
    assert connection.transport.ended == "close"
    assert call.ended == 1
    finish(connection)
    assert call.ended == 1


def test_a_tunnel_is_idle_only_if_neither_side_speaks(home):
    connection, call, body = upgraded(home, timeouts=SHORT)
    for _ in range(4):
        home.pass_time(1.5)
        body.sink.body_data(b"up")
    for _ in range(4):
        home.pass_time(1.5)
        connection.data_received(b"down")
    assert call.failure is None
    home.pass_time(2.5)
    assert call.failure == "response-idle"


def test_another_answer_to_an_upgrade_is_an_ordinary_response(home):
    connection, call = asked(home, Hearer(upgrade=b"websocket"))
    connection.data_received(response(b"no", status=403))
    assert (call.head.status, call.body, call.ended) == (403, b"no", 1)
    assert connection in home.shelf


# ---- the memo of heads -----------------------------------------------------------------------------------------------


def test_equal_heads_are_judged_once_but_never_across_methods(home):
    raw = head_only("Content-Length: 2")
    connection, get = asked(home)
    connection.data_received(raw + b"ab")
    _, head = asked(home, Hearer(b"HEAD"), connection=connection)
    connection.data_received(raw)
    _, again = asked(home, connection=connection)
    connection.data_received(raw + b"cd")
    assert (get.body, head.body, again.body) == (b"ab", b"", b"cd")
    assert again.head is get.head


def test_a_head_that_dribbles_in_costs_work_in_proportion_to_its_length():
    """Hardening L2: twice the bytes may not cost four times the work."""

    def take(filler):
        head = b"HTTP/1.1 200 OK\r\nX-Filler: " + b"a" * filler + b"\r\nContent-Length: 0\r\n\r\n"
        connection, call = asked(Home())
        begun = time.process_time()
        for byte in head:
            connection.data_received(bytes((byte,)))
        took = time.process_time() - begun
        assert call.ended == 1
        return took

    take(1000)  # warm
    least = min(take(25_000) for _ in range(3))
    assert min(take(100_000) for _ in range(3)) < 3 * 4 * least
