"""Tunnels whose client speaks TLS to us: the same bytes, ends and counts, over transports."""

from __future__ import annotations

import ssl
import threading
from contextlib import suppress

import pytest
import trustme

from tests.kit.ends import Listener, tunnel_stack
from tests.kit.raw import End


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def trust(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def stack(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("proxy.example").configure_cert(context)
    with tunnel_stack('tunnel_idle = "20s"', tls=context, log="{status} {bytes} {request_bytes} {error}") as running:
        yield running


@pytest.fixture
def origin():
    with Listener() as listener:
        yield listener


def opened(stack, origin, trust, early=b""):
    return origin.tunnel(stack.at, early=early, tls=trust, name="proxy.example")


def test_bytes_go_both_ways_and_early_ones_first(stack, origin, trust):
    client, end = opened(stack, origin, trust, b"early ")
    client.send(b"words")
    assert end.read_exactly(11) == b"early words"
    data = bytes(range(256)) * 20_000
    sender = threading.Thread(target=end.send, args=(data,))
    sender.start()
    assert client.read_exactly(len(data)) == data
    sender.join()
    end.close()
    assert client.at_end() is End.CLEAN
    client.close()
    stack.wait(lambda: not stack.front.connections)
    assert stack.log_lines() == [f"200 {len(data)} 11 -"]


def test_a_client_that_ends_ends_the_tunnel_with_all_it_said(stack, origin, trust):
    client, end = opened(stack, origin, trust)
    client.send(b"last words")
    client.sock.unwrap()
    assert end.read_to_end() == (b"last words", End.CLEAN)
    stack.wait(lambda: not stack.front.connections)
    assert stack.log_lines() == ["200 0 10 -"]


def test_a_reset_of_the_origin_does_not_look_like_an_end(stack, origin, trust):
    client, end = opened(stack, origin, trust)
    end.abort()
    assert client.at_end() is End.RESET
    stack.wait(lambda: not stack.front.connections)


def test_an_origin_that_does_not_read_stops_the_client(stack, trust):
    with Listener(receive_buffer=4096) as slow:
        client, _ = opened(stack, slow, trust)
        client.sock.settimeout(0.5)
        with suppress(TimeoutError):
            for _ in range(1000):
                client.sock.send(bytes(65536))
            pytest.fail("all of it was taken")
        (connection,) = stack.connections()
        assert stack.call(lambda: connection.holding) < 2**20
        stack.call(connection.cut)
        stack.wait(lambda: not stack.front.connections)


def test_a_cut_ends_both_sides(stack, origin, trust):
    client, end = opened(stack, origin, trust)
    (connection,) = stack.connections()
    stack.call(connection.cut)
    assert client.at_end() is End.RESET
    assert end.at_end() is End.RESET
    stack.wait(lambda: not stack.front.connections)
    assert stack.log_lines() == ["200 0 0 stopping"]


def test_it_ends_when_nothing_has_moved_for_its_time(stack, origin, trust):
    client, end = opened(stack, origin, trust)
    (connection,) = stack.connections()
    stack.call(lambda: connection._live.expired(0.0))
    assert end.at_end() is End.CLEAN
    assert client.at_end() in {End.CLEAN, End.RESET}
    stack.wait(lambda: not stack.front.connections)
    assert stack.log_lines() == ["200 0 0 tunnel-idle"]
