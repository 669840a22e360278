"""The fake origin and the raw client, against each other: what one sends and breaks, the other sees."""

from __future__ import annotations

import threading

import pytest

from tests.kit import origin, raw
from tests.kit.origin import FakeOrigin


@pytest.fixture
def server():
    with FakeOrigin() as fake:
        yield fake


def address(fake):
    return fake.host, fake.port


def test_the_exact_bytes_of_a_request_are_kept(server):
    sent = raw.request("POST", "/x?y=1", "X-Odd:  a b ", body=b"12345")
    assert raw.ask(address(server), sent).body == b"hello"
    assert bytes(server.links[0].raw) == sent
    (received,) = server.requests
    assert (received.method, received.path, received.body, received.get("x-odd")) == (b"POST", "/x", b"12345", "a b")


def test_answers_come_from_the_queue_then_the_path_then_the_default(server):
    server.on("/a", origin.response(b"path")).then(origin.response(b"queue")).otherwise(origin.response(b"default"))
    bodies = [raw.get(address(server), target).body for target in ("/a", "/a", "/b")]
    assert bodies == [b"queue", b"path", b"default"]


def test_pipelined_requests_are_answered_in_order(server):
    server.otherwise(by=lambda received: [origin.response(received.target)])
    answers = raw.pipeline(address(server), [raw.request(target=f"/{number}") for number in range(5)])
    assert [answer.text for answer in answers] == [f"/{number}" for number in range(5)]


def test_a_request_cut_into_single_bytes_is_one_request(server):
    sent = raw.request("POST", "/", body=b"abc")
    with raw.Connection(address(server)) as connection:
        connection.send_cut(sent, range(len(sent)), pause=0)
        assert connection.read_response("POST").status == 200
    assert server.requests[0].body == b"abc"


def test_a_client_that_waits_for_100_gets_it_before_the_body(server):
    with raw.Connection(address(server)) as connection:
        connection.send(raw.request("PUT", "/", "Expect: 100-continue", "Content-Length: 3"))
        assert connection.read_one().status == 100
        connection.send(b"abc")
        assert connection.read_response().status == 200


def test_a_chunked_request_is_read_to_its_end(server):
    sent = raw.request("PUT", "/", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n"
    raw.ask(address(server), sent)
    assert server.requests[0].body == b"abcde"
    assert server.requests[0].trailers == [(b"X", b"y")]


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\n",
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    ],
)
def test_what_has_two_readings_is_a_fault(server, sent):
    with raw.Connection(address(server)) as connection:
        connection.send(sent)
        assert connection.read_response().status == 400
    assert len(server.faults) == 1


def test_a_cut_answer_is_seen_as_broken_with_what_had_come(server):
    server.then(origin.response(b"abc", length=10), origin.Close())
    with pytest.raises(raw.Broken) as caught:
        raw.get(address(server))
    assert caught.value.raw.endswith(b"abc")
    assert not isinstance(caught.value, raw.Reset)


def test_a_reset_is_told_apart_from_a_clean_end(server):
    server.then(origin.head_only(), b"abc", origin.Stall(0.05), origin.Reset())
    with pytest.raises(raw.Reset):
        raw.get(address(server))


def test_a_clean_close_ends_a_body_without_length(server):
    server.then(origin.head_only(), b"abc", origin.Close())
    answer = raw.get(address(server))
    assert (answer.body, answer.framing) == (b"abc", raw.Framing.CLOSE)


def test_interim_answers_are_listed_before_the_final_one(server):
    server.then(origin.head_only("Link: </a>", status=103, reason="Early Hints"), origin.response(b"x"))
    answer = raw.get(address(server))
    assert [interim.status for interim in answer.interim] == [103]
    assert answer.body == b"x"


def test_a_trickled_chunked_answer_arrives_whole(server):
    server.then(origin.Trickle(origin.chunked([b"ab", b"c"], trailers=["T: u"])))
    answer = raw.get(address(server))
    assert (answer.body, answer.chunks, answer.trailers) == (b"abc", [2, 1], [(b"T", b"u")])


def test_an_early_answer_is_sent_before_the_body_is_read(server):
    server.then(origin.Early(), origin.response(b"no", status=403, reason="Forbidden"), origin.Close())
    with raw.Connection(address(server)) as connection:
        connection.send(raw.request("POST", "/", "Content-Length: 5"))
        assert connection.read_response("POST").status == 403
    assert not server.requests[0].complete


def test_a_stall_lasts_until_its_event(server):
    go = threading.Event()
    server.then(origin.Stall(until=go), origin.response(b"late"))
    with raw.Connection(address(server)) as connection:
        connection.send(raw.request())
        assert connection.is_silent(0.05)
        go.set()
        assert connection.read_response().body == b"late"


def test_connecting_is_refused_until_it_listens_again(server):
    server.refuse()
    with pytest.raises(ConnectionRefusedError):
        raw.get(address(server))
    server.listen()
    assert raw.get(address(server)).status == 200


def test_open_connections_can_be_reset(server):
    with raw.Connection(address(server)) as connection:
        connection.send(raw.request())
        connection.read_response()
        server.drop_connections()
        assert connection.at_end() is raw.End.RESET


def test_a_head_answer_has_no_body_whatever_it_announces(server):
    server.otherwise(
        by=lambda received: [origin.response(length=5) if received.method == b"HEAD" else origin.response(b"12345")]
    )
    answers = raw.pipeline(address(server), [raw.request("HEAD"), raw.request("GET")])
    assert [answer.body for answer in answers] == [b"", b"12345"]
