"""Of connections that nobody took; those that are taken need a gateway (tests/firewall, tests/netns)."""

from __future__ import annotations

import socket

import pytest

from proxy.server.destination import finder


class Transport:
    """What is asked of one."""

    def __init__(self, sock):
        self.sock = sock

    def get_extra_info(self, name):
        assert name == "socket"
        return self.sock


@pytest.mark.parametrize("method", ["redirect", "tproxy"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_who_came_to_our_port_by_name_was_going_nowhere_else(method, host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection((host, port)), listener.accept()[0] as taken:
            assert finder(method, port)(Transport(taken)) is None


def test_with_tproxy_our_own_end_has_the_address_that_was_asked_for():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        at = listener.getsockname()
        with socket.create_connection(at), listener.accept()[0] as taken:
            assert finder("tproxy", 3129)(Transport(taken)) == at


def test_what_cannot_be_told_is_nowhere():
    one, other = socket.socketpair()
    with one, other:
        assert finder("redirect", 3129)(Transport(one)) is None
