"""The seam between a process and its service."""

import socket

from config.units import Listen
from proxy.service import Listener


def test_a_listener_is_opened_as_often_as_asked_and_each_can_be_closed_alone():
    with socket.create_server(("127.0.0.1", 0)) as original:
        listener = Listener(Listen("127.0.0.1", 80), original.getsockname(), 1, original.fileno())
        with listener.open() as first, listener.open() as second:
            assert first.getsockname() == second.getsockname() == listener.address
            assert not first.get_inheritable()
        with socket.create_connection(listener.address, timeout=5):
            original.accept()[0].close()
