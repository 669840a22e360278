"""Two gateways, one default route: the one that has the address takes the traffic, and the other follows at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from ipaddress import ip_address

import pytest

from tests.kit.netns import read_interface, wait_until
from tests.kit.origin import response
from tests.kit.yard import GATEWAY, ORIGIN, Gate, TwinYard, make_yard, origin_at

VIP = ip_address(GATEWAY)
TEXT = """
[transparent]
interface = "lan0"
clients = ["192.168.8.0/24"]
[ha]
vip = ["192.168.8.1/24"]
interval = "100ms"
nodes = { a = "192.168.8.2", b = "192.168.8.3" }
[log]
access = { file = "access.log", format = "common" }
"""


class Reader(threading.Thread):
    """A client that reads page after page, each over a connection of its own."""

    def __init__(self, yard):
        super().__init__()
        self.yard = yard
        self.pages: list[tuple[float, bool]] = []  # when it was asked for, whether it came through a proxy
        self.ended = threading.Event()

    def run(self):
        url = f"http://{ORIGIN}/page"
        while not self.ended.is_set():
            at = time.monotonic()
            head = self.yard.client.run("curl", "-sSi", "-m", "2", "--connect-timeout", "0.5", url, check=False)
            self.pages.append((at, "cache-status: tandem" in head.lower()))

    def good_since(self, moment):
        return sum(good for at, good in self.pages if at > moment)

    def stop(self):
        self.ended.set()
        self.join()


@pytest.fixture
def pair(tmp_path):
    with make_yard(TwinYard) as yard:
        origin = origin_at(yard).otherwise(response(b"page", "Cache-Control: no-store"))
        gates = {host: Gate(yard, tmp_path / host, TEXT, host) for host in ("a", "b")}
        for gate in gates.values():
            gate.start()
        wait_until(lambda: yard["a"].holds(VIP), 20)
        yield yard, gates
        for gate in gates.values():
            gate.stop()
        origin.stop()


def holders(yard):
    return [host for host in ("a", "b") if yard[host].holds(VIP)]


def wait_for_b(yard):
    """It has the address, and the client has heard so: packets go there."""
    wait_until(lambda: holders(yard) == ["b"], 20)
    mac = read_interface(yard["b"], "lan0").mac
    wait_until(lambda: yard.client.neighbour(VIP) == mac, 20)
    return time.monotonic()


@pytest.mark.timeout(120)
def test_when_the_gateway_that_has_the_address_dies_the_other_takes_the_traffic(pair):
    yard, gates = pair
    assert holders(yard) == ["a"]
    assert all("inet tandem" in yard[host].run("nft", "list", "tables") for host in ("a", "b"))
    reader = Reader(yard)
    reader.start()
    try:
        wait_until(lambda: reader.good_since(0) >= 5, 20)
        state = gates["a"].state
        moment = time.monotonic()
        for one in state["processes"]:  # the supervisor first: it would clean up after the others
            yard["a"].call(os.kill, one["pid"], signal.SIGKILL)
        moved = wait_for_b(yard)
        wait_until(lambda: reader.good_since(moved) >= 5, 20)
        assert "inet tandem" not in yard["a"].run("nft", "list", "tables")
        wait_until(gates["b"].log)
        assert moved - moment < 10
    finally:
        reader.stop()
    # Until then pages may go directly, or not at all for a moment.
    assert all(good for at, good in reader.pages if at > moved)


@pytest.mark.timeout(120)
def test_a_polite_stop_of_one_gateway_hands_the_traffic_to_the_other(pair):
    yard, gates = pair
    reader = Reader(yard)
    reader.start()
    try:
        wait_until(lambda: reader.good_since(0) >= 5, 20)
        gates["a"].stop()
        moved = wait_for_b(yard)
        wait_until(lambda: reader.good_since(moved) >= 5, 20)
    finally:
        reader.stop()
    assert all(good for at, good in reader.pages if at > moved)
    assert "inet tandem" not in yard["a"].run("nft", "list", "tables")
