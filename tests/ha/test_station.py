"""One virtual router's IO on real interfaces in namespaces: commands done, packets read, failures told."""

import time
from ipaddress import ip_address, ip_interface

import pytest

from config.load import accept
from config.units import MonoTime
from ha import events as e
from ha import orders, plan
from ha.events import AddVip, DelVip, Form, RefreshVip, SendAdvert, SendGarp
from ha.netlink import Netlink
from ha.station import Station
from tests.kit.netns import VIP, make_lab, wait_until, why_not

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]

TEXT = """
[ha]
vip = {vips}
vrid = 51
{extra}
[ha.nodes]
a = "192.168.8.4"
b = "192.168.8.6"
"""


class Node:
    """A station on a host; what it does, it does in the host's namespace."""

    def __init__(self, lab, host, extra="", vips='"192.168.8.100/24"'):
        self.namespace = lab[host]
        self.warned = []
        self.ha = accept(TEXT.format(extra=extra, vips=vips).encode(), "t").ha
        self.namespace.call(self._make, host)

    def _make(self, host):
        netlink = Netlink("eth0")
        (planned,) = plan.build(self.ha, "digest", host, netlink.interface).routers
        self.planned = planned
        self.station = Station(planned, self.ha, 1, netlink, netlink, lambda *what: self.warned.append(what))

    def do(self, command):
        return self.namespace.call(self.station.do, command, MonoTime(time.monotonic()))

    def call(self, name, *arguments):
        return self.namespace.call(getattr(self.station, name), *arguments)

    def close(self):
        self.call("close")
        self.namespace.call(self.station.netlink.close)

    def read(self, seconds=2):
        """The first advertisements that come."""
        found = []
        wait_until(lambda: found.extend(self.call("read")) or found, seconds)
        return found


@pytest.fixture(scope="module")
def lab():
    with make_lab(("a", "b")) as made:
        yield made


@pytest.fixture
def nodes(lab):
    made = [Node(lab, "a"), Node(lab, "b")]
    for node in made:
        node.call("open")
    yield made
    for node in made:
        node.do(DelVip(VIP))
        node.close()


def test_addresses_come_and_go(nodes):
    a, _ = nodes
    assert a.do(AddVip(VIP, 5)) is None
    assert a.namespace.holds(VIP)
    assert a.do(RefreshVip(VIP, 5)) is None
    assert a.do(DelVip(VIP)) is None
    assert not a.namespace.holds(VIP)
    assert a.do(DelVip(VIP)) is None, "one that is not there is no failure"


def test_the_other_node_reads_what_is_sent_and_its_last_word_counts(nodes):
    a, b = nodes
    for priority in (250, 240, 0):
        assert a.do(SendAdvert(priority)) is None
    found = []
    wait_until(lambda: found.extend(b.call("read")) or b.station.counts.received == 3)
    heard = found[-1]
    assert (heard.node, heard.source, heard.priority) == ("a", ip_address("192.168.8.4"), 0)
    assert (a.station.counts.sent, b.station.counts.received) == (3, 3)
    assert a.call("read") == []


def test_who_claims_the_address_at_another_mac_is_seen_with_its_name(nodes):
    a, b = nodes
    assert a.namespace.reaches("192.168.8.6")  # so its MAC is known
    b.do(AddVip(VIP, 5))
    assert b.do(SendGarp(VIP)) is None
    found = []
    wait_until(lambda: found.extend(a.call("read_claims")) or found, 2)
    assert [(one.vip, one.node) for one in found] == [(VIP, "b")]


def test_a_probe_is_answered_or_not(nodes):
    a, b = nodes
    b.do(AddVip(VIP, 5))
    assert a.do(e.Probe((VIP.ip,))) is None
    found = []
    wait_until(lambda: found.extend(a.call("read_claims")) or found, 2)
    assert e.ProbeDone(answered=True) in found
    b.do(DelVip(VIP))
    a.do(e.Probe((VIP.ip,)))
    a.call("ask_again")
    assert b.namespace.reaches("192.168.8.4")  # what it would have answered is there before
    assert not [one for one in a.call("read_claims") if isinstance(one, e.ProbeDone)]
    assert a.call("end_asking")


def test_a_stranger_is_dropped_counted_and_told(lab, nodes):
    a, b = nodes
    b.station._nodes.clear()
    b.call("open")
    a.do(SendAdvert(250))
    wait_until(lambda: b.call("read") or b.station.counts.dropped["stranger"], 2)
    assert b.warned == [("vip-51 stranger 192.168.8.4", "vip-51: advertisement of 192.168.8.4 dropped: stranger")]
    known = Node(lab, "b", 'others = ["192.168.8.4"]')
    known.station._nodes.clear()
    known.call("open")
    a.do(SendAdvert(250))
    wait_until(lambda: known.call("read") or known.station.counts.dropped["stranger"], 2)
    assert known.warned == []
    known.close()


def test_what_a_stranger_sends_waits_apart_until_somebody_has_time_for_it(lab, nodes):
    a, b = nodes
    b.station._nodes = {ip_address("192.168.8.9"): "a"}
    b.call("open")
    a.do(SendAdvert(250))
    wait_until(lambda: b.call("read_strangers") or b.station.counts.dropped["stranger"], 2)
    assert b.call("read") == []
    assert b.warned[0][0] == "vip-51 stranger 192.168.8.4"


def test_another_list_of_addresses_is_obeyed_and_told(lab, nodes):
    a, _ = nodes
    other = Node(lab, "b", vips='["192.168.8.100/24", "192.168.8.101/24"]')
    other.call("open")
    a.do(SendAdvert(250))
    assert other.read()[0].priority == 250
    assert "other addresses than we" in other.warned[0][1]
    other.close()


def test_what_cannot_be_done_is_told(lab):
    one = Node(lab, "a")
    assert one.do(SendAdvert(250)).reason == "the interface is not there"
    assert one.do(SendGarp(VIP)).reason == "the interface is not there"
    foreign = e.AddVip(ip_interface("192.168.8.4/24"), 5)
    failed = one.do(foreign)
    assert failed is None or failed.command == foreign
    one.close()


def test_the_will_lets_go_of_what_is_held(nodes):
    a, b = nodes
    a.do(AddVip(VIP, 5))
    will = orders.Will((a.call("bequest"),))
    will = orders.decode_from_ha(orders.encode(will))

    def carry_out():
        executor = orders.Executor()
        held = executor.carry_out(will)
        executor.close()
        return held

    assert a.namespace.call(carry_out) == ["vip-51"]
    assert not a.namespace.holds(VIP)
    assert b.read()[0].priority == 0
    assert a.namespace.call(carry_out) == []


def test_w8_an_advertisement_is_built_once_and_sent_often(nodes):
    a, b = nodes
    first = a.station._advert(SendAdvert(250))
    for _ in range(3):
        a.do(SendAdvert(250))
    assert a.station._advert(SendAdvert(250)) is first
    assert a.station._advert(SendAdvert(0)) is not first
    assert a.station._advert(SendAdvert(250, Form.PSEUDO)) is not first
    assert b.read()


def test_a2_drops_are_counted_each_and_told_by_reason_and_source(lab, nodes):
    """How often a line of one subject is written is the scribe's matter."""
    a, b = nodes
    b.station._nodes.clear()
    b.call("open")
    for _ in range(5):
        a.do(SendAdvert(250))
    wait_until(lambda: b.call("read") or b.station.counts.dropped["stranger"] >= 5, 2)
    assert set(b.warned) == {("vip-51 stranger 192.168.8.4", "vip-51: advertisement of 192.168.8.4 dropped: stranger")}
    assert b.call("drops")["stranger"] == 5


def test_the_longest_gap_between_advertisements_is_kept(nodes):
    a, _ = nodes
    for at in (1.0, 1.1, 1.5, 1.6):
        a.namespace.call(a.station.do, SendAdvert(250), MonoTime(at))
    assert a.station.counts.gap == pytest.approx(0.4)
    a.station.note_change(e.Changed(e.State.ACTIVE, e.State.BACKUP, "x"), MonoTime(2))
    a.namespace.call(a.station.do, SendAdvert(250), MonoTime(9.0))
    assert a.station.counts.gap == pytest.approx(0.4)


def test_an_ipv6_source_is_learned_once_and_a_configured_ipv4_one_stays(nodes):
    a, _ = nodes
    assert not a.station.learn_source("b", ip_address("192.168.8.7"))
    assert not a.station.learn_source("b", ip_address("fe80::7"))  # of the other family
