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
from tests.kit.yard import GATEWAY, GATEWAY6, ORIGIN, ORIGIN6, Gate, TwinYard, make_yard, origin_at

VIPS = (ip_address(GATEWAY), ip_address(GATEWAY6))
FAMILIES = pytest.mark.parametrize("origin", [ORIGIN, f"[{ORIGIN6}]"], ids=["ipv4", "ipv6"])
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
        self.version = 6 if ":" in origin else 4
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


def wait_for_b(yard, version):
    """It has the address, and the client has heard so: packets go there."""
    wait_until(lambda: holders(yard) == ["b"], 20)
    mac = read_interface(yard["b"], "lan0").mac
    wait_until(lambda: all(yard.client.neighbour(vip) == mac for vip in VIPS if vip.version == version), 20)
    return time.monotonic()


@FAMILIES
@pytest.mark.timeout(120)
def test_when_the_gateway_that_has_the_address_dies_the_other_takes_the_traffic(pair, origin):
    yard, gates = pair
    assert holders(yard) == ["a"]
    assert all("inet tandem" in yard[host].run("nft", "list", "tables") for host in ("a", "b"))
    reader = Reader(yard, origin)
    reader.start()
    try:
        wait_until(lambda: reader.good_since(0) >= 5, 20)
        state = gates["a"].state
        moment = time.monotonic()
        for one in state["processes"]:  # the supervisor first: it would clean up after the others
            yard["a"].call(os.kill, one["pid"], signal.SIGKILL)
        moved = wait_for_b(yard, reader.version)
        wait_until(lambda: reader.good_since(moved) >= 5, 20)
        assert "inet tandem" not in yard["a"].run("nft", "list", "tables")
        wait_until(gates["b"].log)
        assert moved - moment < 10
    finally:
        reader.stop()
    # Until then pages may go directly, or not at all for a moment.
    assert all(good for at, good in reader.pages if at > moved)


@FAMILIES
@pytest.mark.timeout(120)
def test_a_polite_stop_of_one_gateway_hands_the_traffic_to_the_other(pair, origin):
    yard, gates = pair
    reader = Reader(yard, origin)
    reader.start()
    try:
        wait_until(lambda: reader.good_since(0) >= 5, 20)
        gates["a"].stop()
        moved = wait_for_b(yard, reader.version)
        wait_until(lambda: reader.good_since(moved) >= 5, 20)
    finally:
        reader.stop()
    assert all(good for at, good in reader.pages if at > moved)
    assert "inet tandem" not in yard["a"].run("nft", "list", "tables")
