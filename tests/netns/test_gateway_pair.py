"""Two gateways, one default route: the one that has the address takes the traffic, and the other follows at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

from tests.kit.netns import read_interface, wait_until
from tests.kit.origin import response
from tests.kit.yard import GATEWAY, GATEWAY6, ORIGIN, ORIGIN6, Gate, TwinYard, make_yard, origin_at

VIPS = (ip_address(GATEWAY), ip_address(GATEWAY6))
TEXT = """
[transparent]
interface = "lan0"
clients = ["192.168.8.0/24", "fd00:8::/64"]
[ha]
vip = ["192.168.8.1/24", "fd00:8::1/64"]
interval = "100ms"
nodes = { a = "192.168.8.2", b = "192.168.8.3" }
[log]
access = { file = "access.log", format = "common" }
"""


class Reader(threading.Thread):
    """A client that reads page after page, each over a connection of its own."""

    def __init__(self, yard, origin):
        super().__init__()
        self.url = f"http://{origin}/page"
        self.yard = yard
        self.pages: list[tuple[float, bool]] = []  # when it was asked for, whether it came through a proxy
        self.ended = threading.Event()

    def run(self):
        while not self.ended.is_set():
            at = time.monotonic()
            head = self.yard.client.run("curl", "-sSi", "-m", "2", "--connect-timeout", "0.5", self.url, check=False)
            self.pages.append((at, "cache-status: tandem" in head.lower()))

    def good_since(self, moment):
        return sum(good for at, good in self.pages if at > moment)

    def stop(self):
        self.ended.set()
        self.join()


@pytest.fixture
def pair(tmp_path):
    with make_yard(TwinYard) as yard:
        page = response(b"page", "Cache-Control: no-store")
        origins = [origin_at(yard, address).otherwise(page) for address in (ORIGIN, ORIGIN6)]
        gates = {host: Gate(yard, tmp_path / host, TEXT, host) for host in ("a", "b")}
        for gate in gates.values():
            gate.start()
        wait_until(lambda: holders(yard) == ["a"], 20)
        yield yard, gates
        for gate in gates.values():
            gate.stop()
        for origin in origins:
            origin.stop()


def holders(yard):
    """Who has any of the addresses; with a comma: who has not all of them."""
    found = {host: sum(yard[host].holds(vip) for vip in VIPS) for host in ("a", "b")}
    return [host if count == len(VIPS) else f"{host}," for host, count in found.items() if count]


@contextmanager
def reading(yard):
    """A reader of each family, both at work."""
    readers = [Reader(yard, origin) for origin in (ORIGIN, f"[{ORIGIN6}]")]
    for reader in readers:
        reader.start()
    try:
        wait_for_pages(readers, 0)
        yield readers
    finally:
        for reader in readers:
            reader.stop()


def wait_for_pages(readers, moment):
    wait_until(lambda: all(reader.good_since(moment) >= 5 for reader in readers), 20)


def all_good(readers, moment):
    return all(good for reader in readers for at, good in reader.pages if at > moment)


def wait_for_b(yard):
    """It has the addresses, and the client has heard so: packets go there."""
    wait_until(lambda: holders(yard) == ["b"], 20)
    mac = read_interface(yard["b"], "lan0").mac
    wait_until(lambda: all(yard.client.neighbour(vip) == mac for vip in VIPS), 20)
    return time.monotonic()


@pytest.mark.timeout(120)
def test_when_the_gateway_that_has_the_address_dies_the_other_takes_the_traffic(pair):
    yard, gates = pair
    assert holders(yard) == ["a"]
    assert all("inet tandem" in yard[host].run("nft", "list", "tables") for host in ("a", "b"))
    with reading(yard) as readers:
        state = gates["a"].state
        moment = time.monotonic()
        for one in state["processes"]:  # the supervisor first: it would clean up after the others
            yard["a"].call(os.kill, one["pid"], signal.SIGKILL)
        moved = wait_for_b(yard)
        wait_for_pages(readers, moved)
        assert "inet tandem" not in yard["a"].run("nft", "list", "tables")
        wait_until(gates["b"].log)
        assert moved - moment < 10
    # Until then pages may go directly, or not at all for a moment.
    assert all_good(readers, moved)


@pytest.mark.timeout(120)
def test_a_polite_stop_of_one_gateway_hands_the_traffic_to_the_other(pair):
    yard, gates = pair
    with reading(yard) as readers:
        gates["a"].stop()
        moved = wait_for_b(yard)
        wait_for_pages(readers, moved)
    assert all_good(readers, moved)
    assert "inet tandem" not in yard["a"].run("nft", "list", "tables")
