"""HTTPS that is passed on unopened: what goes first, who is refused, what is counted. The taking is pretended."""

from __future__ import annotations

import socket
import ssl
from contextlib import contextmanager

import pytest
import trustme

from proxy.server import splicing
from tests.kit import raw
from tests.kit.inproc import Stack
from tests.kit.ledger import Ledger
from tests.kit.origin import FakeOrigin, response
from tests.modes.test_client_hello import real

TEXT = (
    '[transparent]\ninterface = "lo"\nclients = ["127.0.0.1"]\nport = PORT0\nhttps_port = PORT1\n'
    'allow_private = ["127.0.0.0/8"]\n'
)


@contextmanager
def gateway(destination, more=""):
    """A stack whose clients were all going to `destination`."""
    with Stack(TEXT + more, log='{client} "{request}" {status} {outcome} {error} {upstream}') as stack:
        for door in stack.doors:
            door.finds = lambda _transport: destination
        ledger = Ledger(stack)
        yield stack
        ledger.settle()


def logged(stack):
    """The lines of the log, when there are some."""
    raw.wait_until(stack.log_lines)
    return stack.log_lines()


def connect(stack):
    return raw.Connection(("127.0.0.1", stack.ports[1]))


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def origin(authority):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("shop.example").configure_cert(context)
    with FakeOrigin(tls=context) as made:
        yield made.otherwise(response(b"sealed"))


def test_a_client_speaks_with_its_origin_as_if_nobody_stood_between(origin, authority):
    with gateway((origin.host, origin.port)) as stack:
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        sock = socket.create_connection(("127.0.0.1", stack.ports[1]))
        with trusting.wrap_socket(sock, server_hostname="shop.example") as tls:
            tls.sendall(raw.request(host="shop.example"))
            assert b"sealed" in tls.recv(4096)
        assert logged(stack) == [
            f'127.0.0.1 "CONNECT shop.example:{origin.port} HTTP/1.1" 200 tunnel - {origin.address}'
        ]


@contextmanager
def listener():
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(5)
        yield made


@pytest.mark.parametrize("size", [1, 7, 100])
def test_the_bytes_of_a_hello_in_pieces_arrive_as_they_were_sent(size):
    hello = real("shop.example")
    with listener() as made, gateway(made.getsockname()) as stack, connect(stack) as client:
        for at in range(0, len(hello), size):
            client.send(hello[at : at + size])
        client.send(b"and more")
        taken = made.accept()[0]
        with taken:
            taken.settimeout(5)
            heard = b""
            while len(heard) < len(hello) + 8:
                heard += taken.recv(4096)
            assert heard == hello + b"and more"
            taken.sendall(b"answer")
            assert client.sock.recv(100) == b"answer"
        client.close()


def test_what_is_no_tls_goes_on_where_no_name_is_demanded(origin):
    with listener() as made, gateway(made.getsockname()) as stack, connect(stack) as client:
        client.send(b"SSH-2.0-x\r\n")
        taken = made.accept()[0]
        with taken:
            taken.settimeout(5)
            assert taken.recv(100) == b"SSH-2.0-x\r\n"
        client.close()


@pytest.mark.parametrize("said", [real(None), b"SSH-2.0-x\r\n", real()[:9]])
def test_without_a_name_it_ends_with_an_alert_where_one_is_demanded(said, monkeypatch):
    monkeypatch.setattr(splicing, "HELLO_TIME", 0.1)
    with listener() as made, gateway(made.getsockname(), 'nameless = "deny"') as stack:
        with connect(stack) as client:
            client.send(said)
            assert client.read_to_end()[0] == splicing.ACCESS_DENIED
        made.setblocking(False)
        with pytest.raises(BlockingIOError):
            made.accept()
        [line] = logged(stack)
    assert line.split('"')[2].split()[:3] == ["403", "refused", "forbidden"]


def test_who_says_nothing_is_judged_by_its_address_when_its_time_is_up(monkeypatch):
    monkeypatch.setattr(splicing, "HELLO_TIME", 0.1)
    with listener() as made, gateway(made.getsockname()) as stack, connect(stack) as client:
        taken = made.accept()[0]
        with taken:
            taken.sendall(b"220 hello\r\n")
            assert client.sock.recv(100) == b"220 hello\r\n"
        client.close()


def test_an_origin_that_is_not_there_ends_the_connection_and_is_logged():
    with listener() as made:
        nowhere = made.getsockname()
    with gateway(nowhere) as stack:
        with connect(stack) as client:
            client.send(real())
            assert client.read_to_end()[0] == splicing.ACCESS_DENIED
        assert " 502 failed connect-refused " in logged(stack)[0]


def test_a_private_destination_is_not_reached_and_a_client_that_leaves_is_forgotten(origin):
    with gateway((origin.host, origin.port), "") as stack:
        for door in stack.doors:
            door.finds = lambda _transport: ("10.0.0.1", 443)
        with connect(stack) as client:
            client.send(real())
            assert client.read_to_end()[0] == splicing.ACCESS_DENIED
        assert " 403 refused " in logged(stack)[0]
        with connect(stack) as client:
            client.send(real()[:20])
        stack.wait(lambda: not stack.front.connections)
    assert origin.links == []
