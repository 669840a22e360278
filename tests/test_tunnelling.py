"""CONNECT from the client's request to the line in the log: what is said, counted, bounded, and how it ends."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from proxy.exchange import FixedAnswer
from proxy.http.message import Fields, ResponseHead
from tests.kit.ends import Listener, connect_request, tunnel_stack
from tests.kit.inproc import Clock
from tests.kit.raw import Connection, End, request


@pytest.fixture
def origin():
    with Listener() as listener:
        yield listener


@pytest.fixture
def stack():
    with tunnel_stack(
        log='{squid_code} {status} {bytes} {request_bytes} {url} {squid_peer} "{error}" {site} {rule}'
    ) as running:
        yield running


def test_a_tunnel_is_told_without_framing_and_carries_bytes_both_ways(stack, origin):
    client, end = origin.tunnel(stack.at)
    client.send(b"\x16\x03\x01 no HTTP")
    assert end.read_exactly(11) == b"\x16\x03\x01 no HTTP"
    end.send(b"HTTP/1.1 400 Bad\r\n\r\n")
    assert client.read_exactly(20) == b"HTTP/1.1 400 Bad\r\n\r\n"


def test_the_answer_has_no_field_at_all(stack, origin):
    with Connection(stack.at) as client:
        client.send(connect_request(origin.name))
        assert client.read_raw_head() == b"HTTP/1.1 200 Connection established\r\n\r\n"


def test_what_a_client_sends_behind_its_request_waits_for_the_200(stack, origin):
    with Connection(stack.at) as client:
        client.send(connect_request(origin.name) + b"early")
        end = origin.accept()
        assert end.read_exactly(5) == b"early"
        assert client.read_response("CONNECT").status == 200


def test_a_tunnel_has_one_line_at_its_end_with_the_bytes_of_both_ways(stack, origin):
    client, end = origin.tunnel(stack.at)
    client.send(b"12345")
    assert end.read_exactly(5)
    end.send(b"1234567")
    assert client.read_exactly(7)
    assert stack.log_lines() == []
    client.half_close()
    assert end.at_end() is End.CLEAN
    end.close()
    assert client.at_end() is End.CLEAN
    stack.wait(lambda: not stack.front.connections)
    assert stack.log_lines() == [f'TCP_TUNNEL 200 7 5 {origin.name} HIER_DIRECT/127.0.0.1 "-" forward some']
    counters = stack.counters()
    assert counters['tandem_requests_total{outcome="tunnel"}'] == 1
    assert (counters["tandem_request_bytes_total"], counters["tandem_response_bytes_total"]) == (5, 7)


def test_the_combined_line_names_the_authority():
    with tunnel_stack() as stack, Listener() as origin:
        client, end = origin.tunnel(stack.at, "User-Agent: try/1")
        client.close()
        assert end.at_end() is End.CLEAN
        end.close()
        stack.wait(lambda: not stack.front.connections)
        (line,) = stack.log_lines()
        assert line.endswith(f'"CONNECT {origin.name} HTTP/1.1" 200 0 "-" "try/1"')


def test_an_http_1_0_client_gets_its_tunnel_too(stack, origin):
    with Connection(stack.at) as client:
        client.send(connect_request(origin.name, version="1.0"))
        end = origin.accept()
        assert client.read_response("CONNECT").status == 200
        end.send(b"x")
        assert client.read_exactly(1) == b"x"


def test_a_tunnel_behind_answered_requests_of_the_same_connection(stack, origin):
    with Connection(stack.at) as client:
        client.send(request("GET", "http://127.0.0.1:1/", host="127.0.0.1:1") + connect_request(origin.name))
        # The mode of this test tunnels whatever is asked, so the first request is one too, and fails.
        assert client.read_response().status == 502


def test_where_the_connection_fails_the_client_is_told_and_the_connection_ends(stack):
    with Listener() as gone:
        name = gone.name
    with Connection(stack.at) as client:
        client.send(connect_request(name) + b"\x16\x03\x01early")
        answer = client.read_response("CONNECT")
        assert (answer.status, answer.get("Proxy-Status")) == (502, "tandem; error=connection_refused")
        assert answer.get("Connection") == "close"
        assert client.at_end() is End.CLEAN
    (line,) = stack.log_lines()
    assert line.endswith(f' 502 {len(answer.body)} 0 {name} HIER_DIRECT/127.0.0.1 "connect-refused" forward some')


def test_an_origin_that_resets_what_it_has_just_accepted_is_502(stack, origin):
    """The socket comes from the resolver connected, and is no more when its peer is asked for."""
    resolver = stack.upstreams.resolver
    connect = resolver.connect

    async def connect_and_be_reset(*arguments):
        sock = await connect(*arguments)
        sock.shutdown(socket.SHUT_RDWR)
        origin.accept().abort()
        while True:  # until the kernel has heard of it
            try:
                sock.getpeername()
            except OSError:
                return sock
            await asyncio.sleep(0.001)

    stack.call(lambda: setattr(resolver, "connect", connect_and_be_reset))
    with Connection(stack.at) as client:
        client.send(connect_request(origin.name))
        answer = client.read_response("CONNECT")
        assert (answer.status, answer.get("Proxy-Status")) == (502, "tandem; error=connection_terminated")
        assert client.at_end() is End.CLEAN
    assert stack.call(lambda: not stack.pipeline.tunnelling._open)


def test_a_name_that_does_not_exist_is_502_with_its_own_word(stack):
    with Connection(stack.at) as client:
        client.send(connect_request("nowhere.invalid:443"))
        answer = client.read_response("CONNECT")
        assert (answer.status, answer.get("Proxy-Status")) == (502, "tandem; error=dns_error")


@pytest.mark.parametrize("status", [200, 204, 302, 403])
def test_a_fixed_answer_is_never_taken_for_a_tunnel(stack, origin, status):
    """And the connection ends with it: what follows may be no HTTP."""
    fixed = FixedAnswer("forward", "deny", ResponseHead(status, b"", Fields()), b"no")
    stack.call(lambda: setattr(stack.pipeline.mode, "route", lambda request, client, *_: fixed))
    with Connection(stack.at) as client:
        client.send(connect_request(origin.name))
        answer = client.read_response("CONNECT")
        assert answer.status == (403 if status < 300 else status)
        assert client.at_end() is End.CLEAN


def test_half_closes_go_both_ways(stack, origin):
    client, end = origin.tunnel(stack.at)
    client.half_close()
    assert end.at_end() is End.CLEAN
    end.send(b"answer to all of it")
    assert client.read_exactly(19) == b"answer to all of it"
    end.half_close()
    assert client.at_end() is End.CLEAN


def test_a_client_that_half_closes_before_the_200_is_served_all_the_same(stack, origin):
    with Connection(stack.at) as client:
        client.send(connect_request(origin.name) + b"all I have to say")
        client.half_close()
        end = origin.accept()
        assert end.read_to_end() == (b"all I have to say", End.CLEAN)
        end.send(b"well then")
        end.close()
        client.read_response("CONNECT")
        assert client.read_to_end() == (b"well then", End.CLEAN)


@pytest.mark.parametrize("who", ["client", "origin"])
def test_a_reset_of_either_side_resets_the_other_and_frees_everything(stack, origin, who):
    client, end = origin.tunnel(stack.at)
    one, other = (client, end) if who == "client" else (end, client)
    one.abort()
    assert other.at_end() is End.RESET
    stack.wait(lambda: not stack.front.connections)
    assert stack.call(lambda: (len(stack.wheel), len(stack.front.pump.tunnels))) == (0, 0)


def test_a_client_that_leaves_while_its_tunnel_is_made_costs_nothing(stack):
    """The connection to the origin hangs: its queue is full."""
    with socket.socket() as full, Connection(stack.at) as client:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        client.send(connect_request(f"127.0.0.1:{port}"))
        stack.wait(lambda: any(connection.busy for connection in stack.front.connections))
        client.abort()
        stack.wait(lambda: not stack.front.connections)
        stack.wait(lambda: not stack._tasks)
        for sock in waiting:
            sock.close()
    assert stack.log_lines()[0].startswith("TCP_MISS_ABORTED 0 0 0")


def test_so_many_tunnels_a_client_may_have_and_no_more():
    with tunnel_stack("tunnels = 3") as stack, Listener() as origin:
        pairs = [origin.tunnel(stack.at) for _ in range(3)]
        with Connection(stack.at) as client:
            client.send(connect_request(origin.name))
            answer = client.read_response("CONNECT")
            assert (answer.status, answer.get("Proxy-Status")) == (503, "tandem; error=connection_limit_reached")
        pairs[0][0].abort()
        stack.wait(lambda: len(stack.front.pump.tunnels) == 2)
        origin.tunnel(stack.at)


def test_failed_tunnels_do_not_count_against_their_client():
    with tunnel_stack("tunnels = 1") as stack, Listener() as origin:
        with Listener() as gone:
            name = gone.name
        for _ in range(3):
            with Connection(stack.at) as client:
                client.send(connect_request(name))
                assert client.read_response("CONNECT").status == 502
        origin.tunnel(stack.at)


def test_a_tunnel_in_which_nothing_moves_ends_after_its_time(origin):
    with tunnel_stack('tunnel_idle = "20s"', clock=Clock(), log="{status} {error}") as stack:
        client, end = origin.tunnel(stack.at)
        stack.advance(19)
        client.send(b"x")
        assert end.read_exactly(1) == b"x"
        stack.call(bool)  # its turn of the loop is over
        stack.advance(19)
        assert len(stack.connections()) == 1
        stack.advance(2)
        assert client.at_end() is End.CLEAN
        assert end.at_end() is End.CLEAN
        stack.wait(lambda: not stack.front.connections)
        assert stack.log_lines() == ["200 tunnel-idle"]


def test_a_drain_waits_for_tunnels_and_then_cuts_them(stack, origin):
    client, end = origin.tunnel(stack.at)
    stack.call(stack.front.drain)

    def close_idle():
        for connection in list(stack.front.connections):
            connection.close_if_idle()

    stack.call(close_idle)
    client.send(b"still")
    assert end.read_exactly(5) == b"still"
    assert not stack.call(stack.front.empty.is_set)

    def cut():
        for connection in list(stack.front.connections):
            connection.cut()

    stack.call(cut)
    assert client.at_end() is End.RESET
    assert end.at_end() is End.RESET
    assert stack.call(stack.front.empty.is_set)
    assert '"stopping"' in stack.log_lines()[0]


def test_a_tunnel_outlives_a_reload_that_closes_its_door(stack, origin):
    client, end = origin.tunnel(stack.at)
    stack.call(lambda: [connection.move(None) for connection in list(stack.front.connections)])
    client.send(b"still")
    assert end.read_exactly(5) == b"still"


def test_tunnels_are_counted_as_such_and_as_busy_connections(stack, origin):
    origin.tunnel(stack.at)
    (connection,) = stack.connections()
    assert (connection.is_tunnel, connection.busy, connection.evictable) == (True, True, False)


def test_much_goes_through_byte_by_byte_the_same(stack, origin):
    client, end = origin.tunnel(stack.at)
    data = bytes(range(256)) * 40_000
    sender = threading.Thread(target=end.send, args=(data,))
    sender.start()
    assert client.read_exactly(len(data)) == data
    sender.join()


def test_reverse_mode_has_no_tunnels(stack, origin):
    stack.call(lambda: setattr(stack.doors[0], "mode", "reverse"))
    with Connection(stack.at) as client:
        client.send(connect_request(origin.name))
        answer = client.read_response("CONNECT")
        assert (answer.status, answer.get("Connection")) == (405, "close")
        assert client.at_end() is End.CLEAN
