"""The wire and keepalived 2.2 understand each other: both roles, both versions and families, multicast and unicast."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Interface, ip_address

import pytest

from ha import packet
from ha.events import Family, Form
from ha.packet import Advertisement, Expected, Heard, Listener
from ha.wire import Wire
from tests.kit.keepalived import Instance, Keepalived, is_installed
from tests.kit.netns import VIP, VIP6, address_of, link_local_of, read_interface, wait_until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.skipif(not is_installed(), reason="keepalived is not installed"),
]

VIPS = {Family.IPV4: (VIP,), Family.IPV6: (IPv6Interface("fe80::100/64"), VIP6)}
# keepalived sends IPv6 unicast with the system's hop limit, not with 255: such a pair has to lower `min_ttl`.
UNICAST_HOPS = 64


@dataclass(frozen=True, slots=True)
class Case:
    version: int
    family: Family
    unicast: bool = False
    password: str = ""

    def __str__(self):
        cast = "unicast" if self.unicast else "multicast"
        return f"v{self.version}-{self.family.name}-{cast}{'-password' if self.password else ''}"

    @property
    def interval(self):
        """Half of its silence is more than a busy machine takes for anything here."""
        return 1 if self.version == 2 else 0.5

    @property
    def min_ttl(self):
        return UNICAST_HOPS if self.unicast and self.family == Family.IPV6 else 255

    def source(self, host):
        return address_of(host) if self.family == Family.IPV4 else link_local_of(host)

    def advert(self, priority):
        auth = {"auth_type": 1, "password": self.password.encode()} if self.password else {}
        addresses = tuple(vip.ip for vip in VIPS[self.family])
        return Advertisement(self.version, 51, priority, self.interval, addresses, **auth)

    def listener(self):
        """A listens for B."""
        expected = Expected(
            version=self.version,
            interval=self.interval,
            addresses=tuple(vip.ip for vip in VIPS[self.family]),
            nodes={self.source("b"): "b"},
            unicast=self.unicast,
            min_ttl=self.min_ttl,
            password=self.password.encode() or None,
        )
        return Listener(self.family, frozenset({self.source("a")}), {51: expected})

    def instance(self, priority):
        return Instance(
            addresses=VIPS[self.family],
            priority=priority,
            interval=self.interval,
            version=self.version,
            unicast=(self.source("b"), self.source("a")) if self.unicast else (),
            password=self.password,
        )


CASES = [
    Case(3, Family.IPV4),
    Case(3, Family.IPV6),
    Case(3, Family.IPV4, unicast=True),
    Case(3, Family.IPV6, unicast=True),
    Case(2, Family.IPV4),
    Case(2, Family.IPV4, unicast=True),
    Case(2, Family.IPV4, password="s3cret"),
]
ALL = pytest.mark.parametrize("case", CASES, ids=str)


@pytest.fixture
def ours(lab):
    with ExitStack() as opened:

        def open_wire(case):
            peers = [case.source("b")] if case.unicast else []
            named = {"version": case.version, "unicast": peers, "min_ttl": case.min_ttl}
            wire = lab["a"].call(Wire, read_interface(lab["a"]), case.family, 51, **named)
            opened.callback(wire.close)
            return wire

        yield open_wire


def hear(wire, case, wanted, seconds=6):
    """The first advertisement that `wanted` is true of; every one that comes must pass all checks."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for received in wire.receive():
            heard = packet.receive(received.datagram, case.listener())
            assert isinstance(heard, Heard), heard
            if wanted(heard):
                return heard
        time.sleep(0.002)
    raise AssertionError(f"no such advertisement; dropped: {wire.drops()}")


@contextmanager
def advertising(wire, prepared, interval):
    """The advertisement goes out each interval, as an Active's does."""
    over = threading.Event()

    def advertise():
        while True:
            wire.send(prepared)
            if over.wait(interval):
                return

    thread = threading.Thread(target=advertise)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@ALL
def test_an_active_keepalived_is_heard_and_its_resignation_too(lab, ours, tmp_path, case):
    wire = ours(case)
    keepalived = Keepalived(lab["b"], tmp_path, case.instance(100))
    heard = hear(wire, case, lambda heard: True, seconds=8)
    assert (heard.node, heard.advert.priority, heard.advert.interval) == ("b", 100, case.interval)
    assert heard.advert.addresses == case.advert(100).addresses
    assert not heard.drift
    assert heard.form == (Form.PSEUDO if case.version == 3 and case.family == Family.IPV4 else None)
    wait_until(keepalived.is_active)
    keepalived.stop()
    assert hear(wire, case, lambda heard: heard.advert.priority == 0).node == "b"
    assert sum(wire.drops().values()) == 0


@ALL
def test_keepalived_obeys_our_advertisements_and_claims_when_we_resign(lab, ours, tmp_path, case):
    """Ours is better, so it stays Backup; at our priority 0 it waits its skew time only."""
    wire = ours(case)
    prepared = wire.prepare(case.advert(200), [0, 200], Form.PSEUDO)
    keepalived = Keepalived(lab["b"], tmp_path, case.instance(100))
    with advertising(wire, prepared[200], case.interval):
        wait_until(lambda: "Entering BACKUP STATE" in keepalived.log)
        time.sleep(4 * case.interval)
        assert not keepalived.is_active(), keepalived.log
    resigned = time.monotonic()
    assert wire.send(prepared[0]) == 0
    wait_until(keepalived.is_active)
    skew = (256 - 100) / 256 * (1 if case.version == 2 else case.interval)
    assert time.monotonic() - resigned < skew + 2 * case.interval, "without our word it waits for three"
    # And a better one is obeyed by an Active too.
    with advertising(wire, prepared[200], case.interval):
        wait_until(lambda: not keepalived.is_active())


def test_keepalived_takes_only_the_checksum_with_the_pseudo_header(lab, ours, tmp_path):
    """W3: so the form last heard is the form to send. If this fails one day the default may be enough."""
    case = CASES[0]
    wire = ours(case)
    prepared = wire.prepare(case.advert(200), [200], Form.MESSAGE)
    keepalived = Keepalived(lab["b"], tmp_path, case.instance(100))
    with advertising(wire, prepared[200], case.interval):
        wait_until(keepalived.is_active)
        assert "checksum" in keepalived.log


def test_a_configuration_is_written_as_keepalived_reads_it(tmp_path):
    text = Instance(unicast=(ip_address("192.168.8.4"), ip_address("192.168.8.6")), preempt=False, interval=0.01).text()
    for line in ("unicast_src_ip 192.168.8.4", "unicast_peer {\n 192.168.8.6", "nopreempt", "advert_int 0.01"):
        assert line in text
