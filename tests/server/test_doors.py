"""Which doors the modes have, and who receives at them."""

from __future__ import annotations

from proxy.server.protocol import ClientConnection
from proxy.server.splicing import SplicedConnection
from tests.kit import raw
from tests.kit.inproc import Stack
from tests.kit.raw import wait_until

TEXT = """[[site]]
listen = "127.0.0.1:PORT0"
upstream = "127.0.0.1:9"
[forward]
listen = "127.0.0.1:PORT1"
clients = "127.0.0.1"
[transparent]
interface = "lo"
clients = "127.0.0.1"
port = PORT2
https_port = PORT3
"""


def test_each_mode_has_its_doors_and_https_is_received_by_who_does_not_answer_it():
    with Stack(TEXT) as stack:
        assert [door.mode for door in stack.doors] == ["reverse", "forward", "transparent", "transparent"]
        for door in stack.doors:
            door.finds = door.finds and (lambda _transport: ("100.200.0.20", 443))
        kinds = []
        for port in stack.ports:
            with raw.Connection(("127.0.0.1", port)):
                wait_until(stack.connections)
                kinds += map(type, stack.connections())
            wait_until(lambda: not stack.connections())
        assert kinds == [ClientConnection] * 3 + [SplicedConnection]


def test_taken_connections_have_a_bound_of_their_own():
    with Stack(TEXT + "per_client = 7\n") as stack:
        assert [door.limits.per_client for door in stack.doors] == [1000, 200, 7, 7]
