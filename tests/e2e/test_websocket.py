"""WebSocket through the proxy to Tomcat's own implementation, and what may not become a tunnel."""

from __future__ import annotations

import os

import pytest

from tests.kit import origin as answers
from tests.kit import raw
from tests.kit import websocket as ws
from tests.kit.proxy import reverse, start_proxy
from tests.kit.raw import wait_until

pytestmark = pytest.mark.slow

ECHO = "/kit/ws/echo"


@pytest.fixture(scope="module")
def proxy(tomcat, tmp_path_factory):
    with start_proxy(tmp_path_factory.mktemp("proxy"), reverse(tomcat.address)) as running:
        yield running


@pytest.mark.tomcat
def test_messages_of_each_size_come_back_from_tomcat(proxy):
    with raw.Connection(proxy.at) as connection:
        assert ws.upgrade(connection, ECHO).status == 101
        for size in (0, 1, 125, 126, 65535, 65536, 1_000_000):
            payload = os.urandom(size)
            connection.send(ws.frame(ws.BINARY, payload))
            assert ws.read_message(connection) == (ws.BINARY, payload), size
        connection.send(ws.frame(ws.TEXT, "héllo".encode()))
        assert ws.read_message(connection) == (ws.TEXT, "héllo".encode())


@pytest.mark.tomcat
def test_a_message_sent_with_the_handshake_is_not_lost(proxy):
    """Its bytes wait until the origin has agreed."""
    key = b"dGhlIHNhbXBsZSBub25jZQ=="
    with raw.Connection(proxy.at) as connection:
        connection.send(ws.handshake(key, ECHO) + ws.frame(ws.TEXT, b"early"))
        assert connection.read_response().get("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 §1.3
        assert ws.read_message(connection) == (ws.TEXT, b"early")


@pytest.mark.tomcat
def test_a_close_goes_through_and_both_connections_end(proxy):
    with raw.Connection(proxy.at) as connection:
        assert ws.upgrade(connection, ECHO).status == 101
        wait_until(lambda: proxy.metric("tandem_tunnels_open") == 1, what="one tunnel open")
        connection.send(ws.frame(ws.CLOSE, b"\x03\xe8"))
        opcode, payload = ws.read_message(connection)
        assert (opcode, payload[:2]) == (ws.CLOSE, b"\x03\xe8")
        assert connection.at_end() is raw.End.CLEAN
    wait_until(lambda: proxy.metric("tandem_tunnels_open") == 0, what="no tunnel open")


@pytest.mark.tomcat
def test_many_tunnels_at_once_do_not_mix(proxy):
    connections = [raw.Connection(proxy.at) for _ in range(20)]
    try:
        for connection in connections:
            assert ws.upgrade(connection, ECHO).status == 101
        for number, connection in enumerate(connections):
            connection.send(ws.frame(ws.TEXT, b"message %d" % number))
        for number, connection in enumerate(connections):
            assert ws.read_message(connection) == (ws.TEXT, b"message %d" % number)
    finally:
        for connection in connections:
            connection.close()


@pytest.mark.tomcat
def test_an_upgrade_that_tomcat_declines_leaves_http_on_the_connection(proxy):
    with raw.Connection(proxy.at) as connection:
        assert ws.upgrade(connection, "/kit/missing").status == 404
        connection.send(raw.request(target="/kit/style.css"))
        assert connection.read_response().status == 200


@pytest.mark.parametrize("protocol", ["h2c", "TLS/1.0", "foo"])
def test_other_protocols_are_not_asked_for_at_the_origin(start, origin, protocol):
    proxy = start(reverse(origin.address))
    lines = [f"Upgrade: {protocol}", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__"]
    assert raw.get(proxy.at, "/", *lines).body == b"hello"
    (received,) = origin.requests
    assert received.get("upgrade") is None
    assert received.get("http2-settings") is None


def test_a_101_for_another_protocol_is_a_bad_response(start, origin):
    proxy = start(reverse(origin.address))
    switching = answers.head_only("Connection: Upgrade", "Upgrade: foo", status=101, reason="Switching Protocols")
    origin.then(switching, answers.Stall(1))
    with raw.Connection(proxy.at) as connection:
        assert ws.upgrade(connection, "/").status == 502


def test_raw_bytes_before_the_origin_agreed_are_never_requests_at_the_origin(start, origin):
    """A declined upgrade must not leave the client's early bytes on the upstream connection (RFC 9931)."""
    proxy = start(reverse(origin.address))
    smuggled = raw.request(target="/smuggled")
    origin.otherwise(answers.response(b"no", status=403, reason="Forbidden"))
    with raw.Connection(proxy.at) as connection:
        connection.send(ws.handshake(b"dGhlIHNhbXBsZSBub25jZQ==", "/ws") + smuggled)
        assert connection.read_response().status == 403
        if not connection.is_silent(0.2) and connection.buffer:
            # Read as the client's next request: allowed, since that is what it is in HTTP.
            assert connection.read_response().status == 403
    first, *rest = origin.requests
    assert first.target == b"/ws"
    assert all(received.raw_head.startswith(b"GET /smuggled HTTP/1.1\r\n") for received in rest)


def test_both_half_closes_pass_through_a_tunnel(start, origin):
    proxy = start(reverse(origin.address))

    def switch(received):
        key = received.get("sec-websocket-key").encode()
        accept = ws.base64.b64encode(ws.hashlib.sha1(key + ws.MAGIC).digest()).decode()
        head = answers.head_only(
            "Connection: Upgrade",
            "Upgrade: websocket",
            f"Sec-WebSocket-Accept: {accept}",
            status=101,
            reason="Switching",
        )
        return [head, answers.ReadRaw(5, echo=True), b"bye", answers.Close()]

    origin.otherwise(by=switch)
    with raw.Connection(proxy.at) as connection:
        assert ws.upgrade(connection, "/").status == 101
        connection.send(b"12345")
        connection.half_close()
        assert connection.read_to_end() == (b"12345bye", raw.End.CLEAN)
