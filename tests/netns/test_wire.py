"""The wire in namespaces: what leaves is what the RFC says, what is dropped changes nothing but its counter."""

from __future__ import annotations

import select
import socket
import struct
import time
from contextlib import ExitStack

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import ICMPv6ND_NA, IPv6
from scapy.layers.l2 import ARP, Ether

from ha import netlink, raw, sysctls
from ha.events import Family, Form
from ha.neighbours import Neighbours
from ha.packet import Advertisement, Datagram, build
from ha.rtnl import Kernel
from ha.state import State
from ha.wire import BATCH, Wire
from tests.kit.netns import VIP, VIP6, address6_of, address_of, link_local_of, mac_of, read_interface, wait_until

pytestmark = pytest.mark.netns
FAMILIES = pytest.mark.parametrize("family", list(Family), ids=lambda family: family.name)


@pytest.fixture
def wires(lab):
    """Opens wires in hosts; all are closed afterwards."""
    with ExitStack() as opened:

        def open_wire(host, family=Family.IPV4, vrid=51, **named):
            wire = lab[host].call(Wire, read_interface(lab[host]), family, vrid, **named)
            opened.callback(wire.close)
            return wire

        yield open_wire


@pytest.fixture
def watch(lab):
    with ExitStack() as opened:

        def open_watch(host, family, addresses):
            found = lab[host].call(Neighbours, read_interface(lab[host]), family, addresses)
            opened.callback(found.close)
            return found

        yield open_watch


def advert(family=Family.IPV4, priority=150, **named):
    vips = (VIP.ip,) if family == Family.IPV4 else (VIP6.ip,)
    return Advertisement(**{"version": 3, "vrid": 51, "priority": priority, "interval": 0.1, "addresses": vips} | named)


def arrive(reader, count=1, seconds=5):
    """What came, once it is `count`."""
    found, end = [], time.monotonic() + seconds
    while len(found) < count:
        left = end - time.monotonic()
        assert left > 0, f"{len(found)} of {count} came"
        select.select([reader], [], [], left)
        found += reader.receive()
    return found


def raw_sender(lab, host, ttl=255):
    """A socket that sends any VRRP bytes from the host to the group."""
    sender = lab[host].socket(socket.AF_INET, socket.SOCK_RAW, raw.VRRP)
    index = lab[host].call(socket.if_nametoindex, "eth0")
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", bytes(4), bytes(4), index))
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
    return sender


@pytest.mark.rfc("9568", "5.1.1")
def test_an_ipv4_advertisement_is_on_the_cable_as_the_rfc_has_it(lab, wires):
    """W1, W7: addresses, TTL 255, protocol 112, TOS 0xc0, DF, 20-byte header, the group's MAC; the captured bytes."""
    capture = lab.capture("b")
    wire = wires("a")
    assert wire.send(wire.prepare(advert(), [150], Form.PSEUDO)[150]) == 0
    frame = capture.wait_for(lambda one: one.data[12:14] == b"\x08\x00" and one.data[23] == 112).data
    assert frame[:6].hex(":") == "01:00:5e:00:00:12"
    assert frame[6:12].hex(":") == mac_of("a")
    header = IP(frame[14:34])
    assert (header.version, header.ihl, header.tos, header.ttl, header.proto) == (4, 5, 0xC0, 255, 112)
    assert str(header.flags) == "DF"
    assert (header.src, header.dst, header.len) == ("192.168.8.4", "224.0.0.18", 32)
    assert frame[34:].hex() == "31339601000ac678c0a80864"


@pytest.mark.rfc("9568", "5.1.2")
def test_an_ipv6_advertisement_is_on_the_cable_as_the_rfc_has_it(lab, wires):
    capture = lab.capture("b")
    wire = wires("a", Family.IPV6)
    addresses = (link_local_of("a"), VIP6.ip)
    assert wire.send(wire.prepare(advert(Family.IPV6, addresses=addresses), [150])[150]) == 0
    frame = capture.wait_for(lambda one: one.data[12:14] == b"\x86\xdd" and one.data[20] == 112).data
    assert frame[:6].hex(":") == "33:33:00:00:00:12"
    header = IPv6(frame[14:54])
    assert (header.hlim, header.nh, header.tc, header.plen) == (255, 112, 0xC0, 40)
    assert (header.src, header.dst) == (str(link_local_of("a")), "ff02::12")


@FAMILIES
def test_what_one_wire_sends_the_other_receives_whole(wires, family):
    ours, theirs = wires("a", family), wires("b", family)
    before = time.monotonic()
    prepared = ours.prepare(advert(family), [0, 150])
    assert ours.send(prepared[150]) == 0
    (received,) = arrive(theirs)
    group = raw._GROUPS[family]
    source = address_of("a") if family == Family.IPV4 else link_local_of("a")
    assert received.datagram == Datagram(family, source, type(source)(group), 255, prepared[150][0].payload)
    assert before <= received.at <= time.monotonic()
    assert ours.receive() == []  # nothing of its own comes back


@FAMILIES
def test_the_arrival_is_when_the_packet_came_not_when_it_was_read(wires, family):
    """The kernel begins to stamp a moment after it was asked to, as it does for all sockets of the machine."""
    ours, theirs = wires("a", family), wires("b", family)
    prepared = ours.prepare(advert(family), [150])[150]

    def lateness():
        """Of the stamp, as a part of the reader's."""
        theirs.receive()
        ours.send(prepared)
        sent = time.monotonic()
        wait_until(lambda: bool(select.select([theirs], [], [], 0)[0]))
        time.sleep(0.05)  # the reader is late
        read = time.monotonic()
        (received,) = theirs.receive()
        return (received.at - sent) / (read - sent)

    wait_until(lambda: lateness() < 0.5)
    assert max(lateness() for _ in range(3)) < 0.5


def test_an_arrival_is_never_before_the_socket_was_last_empty(wires, monkeypatch):
    """The kernel stamps with the wall clock: one that jumps between arrival and reading must not age a packet."""
    ours, theirs = wires("a"), wires("b")
    prepared = ours.prepare(advert(), [150])[150]
    theirs.receive()
    empty = time.monotonic()
    ours.send(prepared)
    wait_until(lambda: bool(select.select([theirs], [], [], 0)[0]))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    (received,) = theirs.receive()
    assert received.at >= empty - 0.001


@FAMILIES
def test_a_batch_has_at_most_64_packets_in_their_order(wires, family):
    ours, theirs = wires("a", family), wires("b", family)
    prepared = ours.prepare(advert(family), range(1, 101))
    for priority in range(1, 101):
        assert ours.send(prepared[priority]) == 0
    first = theirs.receive()
    rest = arrive(theirs, 100 - BATCH)
    assert len(first) == BATCH
    assert [one.datagram.payload[2] for one in first + rest] == list(range(1, 101))


@FAMILIES
def test_another_ttl_version_or_vrid_dies_in_the_kernel_and_is_counted(lab, wires, family):
    """A3: what fails these three checks is never read; each is counted under the first that it fails."""
    theirs = wires("b", family)
    ours, other = wires("a", family), wires("a", family, 52)
    good = ours.prepare(advert(family), [150])[150]
    other.send(other.prepare(advert(family, vrid=52), [150])[150])
    destination = raw.destination_of(good[0])[0:2] if family == Family.IPV4 else (good[0].destination, 0, 0, 0)
    for ttl in (1, 64, 254):
        with lab["a"].call(raw.open_sender, "eth0", str(ours.source)) as sender:
            if family == Family.IPV4:
                sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
            else:
                sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
            sender.sendto(good[0].payload, destination)
    with lab["a"].call(raw.open_sender, "eth0", str(ours.source)) as sender:
        sender.sendto(b"\x21" + good[0].payload[1:], destination)
        sender.sendto(b"\x31", destination)  # too short to have a VRID: no filter can say anything about it
    ours.send(good)
    assert [one.datagram.payload for one in arrive(theirs)] == [good[0].payload]
    assert theirs.drops() == {"ttl": 3, "version": 1, "vrid": 1, "overflow": 0}


def test_a_flood_that_the_kernel_drops_is_counted_to_the_last_packet(lab, wires):
    theirs = wires("b")
    with raw_sender(lab, "a", ttl=254) as sender:
        for _ in range(3000):
            sender.sendto(b"\x31\x33\x96\x01", ("224.0.0.18", 0))
    wait_until(lambda: theirs.drops()["ttl"] >= 3000)
    assert theirs.drops()["ttl"] == 3000
    assert theirs.receive() == []


def test_packets_that_the_socket_has_no_room_for_are_counted(lab, wires):
    theirs = wires("b")
    with raw_sender(lab, "a") as sender:
        for _ in range(5000):
            sender.sendto(b"\x31\x33\x96\x01", ("224.0.0.18", 0))
    read = 0
    while batch := theirs.receive():
        read += len(batch)
    assert theirs.drops()["overflow"] == 5000 - read > 0


@FAMILIES
def test_what_strangers_send_is_kept_apart_from_what_nodes_say(lab, wires, family):
    """A4: their flood displaces no node's advertisement, and is there to be shouted about."""
    source = address_of if family == Family.IPV4 else link_local_of
    theirs = wires("b", family, nodes=[source("a"), source("origin")])
    node, stranger = wires("a", family), wires("client", family)
    forged = stranger.prepare(advert(family, priority=255), [255])[255]
    for _ in range(5000):
        stranger.send(forged)
    assert node.send(node.prepare(advert(family), [150])[150]) == 0
    (received,) = arrive(theirs)
    assert received.datagram.source == source("a")
    strange = theirs.strangers()
    assert strange
    assert {one.datagram.source for one in strange} == {source("client")}
    assert theirs.drops()["stranger-overflow"] > 4000
    assert theirs.drops()["overflow"] == 0


def test_without_nodes_all_are_heard_and_none_is_strange(wires):
    theirs, ours = wires("b"), wires("client")
    ours.send(ours.prepare(advert(), [150])[150])
    assert len(arrive(theirs)) == 1
    assert theirs.strangers() == []


def test_padding_of_a_short_frame_is_no_part_of_the_packet(lab, wires):
    """W5: cards pad to 60 bytes; a veth does not, so it is done by hand."""
    theirs = wires("b")
    payload = build(advert(), address_of("a"), raw_address(Family.IPV4))
    header = IP(src="192.168.8.4", dst="224.0.0.18", ttl=255, proto=112)
    frame = bytes(Ether(src=mac_of("a"), dst="01:00:5e:00:00:12") / header / payload).ljust(60, b"\xff")
    with lab["a"].call(raw.open_frames, "eth0") as frames:
        frames.send(frame)
    (received,) = arrive(theirs)
    assert received.datagram.payload == payload


def raw_address(family):
    return (type(VIP.ip) if family == Family.IPV4 else type(VIP6.ip))(raw._GROUPS[family])


@FAMILIES
def test_unicast_goes_to_each_node_and_hears_no_group(wires, family):
    """U1, U2."""
    nodes = {host: address_of(host) if family == Family.IPV4 else link_local_of(host) for host in "ab"}
    ours = wires("a", family, unicast=[nodes["b"]])
    theirs = wires("b", family, unicast=[nodes["a"]])
    grouped = wires("a", family)
    grouped.send(grouped.prepare(advert(family, priority=7), [7])[7])
    assert ours.send(ours.prepare(advert(family), [150])[150]) == 0
    (received,) = arrive(theirs)
    assert (received.datagram.source, received.datagram.destination) == (nodes["a"], nodes["b"])
    assert received.datagram.payload[2] == 150
    assert received.datagram.ttl == 255


def test_a_unicast_node_whose_process_is_down_is_no_error(lab, wires):
    """X2: the kernel there answers protocol unreachable."""
    ours = wires("a", unicast=[address_of("b")])
    prepared = ours.prepare(advert(), [150])[150]
    for _ in range(20):
        assert ours.send(prepared) == 0
        time.sleep(0.005)
    assert ours.errors == {}


def test_without_carrier_or_interface_sending_is_an_errno_and_receiving_nothing(lab, wires):
    ours = wires("a")
    prepared = ours.prepare(advert(), [150])[150]
    lab.unplug("a")
    assert ours.send(prepared) != 0
    assert ours.announce([]) == 0
    assert ours.receive() == []
    assert sum(ours.errors.values()) == 1


def test_an_interface_without_an_address_to_send_from_is_one_clear_error(lab):
    nowhere = raw.Interface("eth0", 2, mac_of("a"), up=True)
    with pytest.raises(OSError, match="eth0 has no IPv4 address to send from"):
        lab["a"].call(Wire, nowhere, Family.IPV4, 51)


@FAMILIES
def test_what_was_prepared_can_be_sent_by_anybody(lab, wires, family):
    """The reaper has the bytes and no scapy."""
    theirs = wires("b", family)
    ours = wires("a", family)
    (prepared,) = ours.prepare(advert(family), [0])[0]
    ours.close()
    lab["a"].call(raw.send_once, prepared)
    (received,) = arrive(theirs)
    assert received.datagram.payload[2] == 0
    assert received.datagram.ttl == 255


@pytest.mark.rfc("9568", "6.4.1")
def test_a_gratuitous_arp_is_a_broadcast_request_for_the_address_by_the_address(lab, wires):
    capture = lab.capture("client")
    ours = wires("a")
    ours.prepare_addresses([VIP.ip])
    assert ours.announce([VIP.ip]) == 0
    frame = Ether(capture.wait_for(lambda one: one.data[12:14] == b"\x08\x06").data)
    assert (frame.dst, frame.src) == ("ff:ff:ff:ff:ff:ff", mac_of("a"))
    arp = frame[ARP]
    assert (arp.op, arp.psrc, arp.pdst, arp.hwsrc) == (1, "192.168.8.100", "192.168.8.100", mac_of("a"))


@pytest.mark.rfc("9568", "8.2.2")
@pytest.mark.parametrize("router", [False, True])
def test_an_unsolicited_advertisement_goes_to_all_nodes_and_overrides(lab, wires, router):
    """AR3: S=0, O=1, the link-layer address; R=1 only of a router."""
    capture = lab.capture("client")
    ours = wires("a", Family.IPV6)
    ours.prepare_addresses([VIP6.ip], router=router)
    assert ours.announce([VIP6.ip]) == 0
    frame = Ether(capture.wait_for(lambda one: one.data[12:14] == b"\x86\xdd" and one.data[54] == 136).data)
    advertisement = frame[ICMPv6ND_NA]
    assert (frame.dst, frame[IPv6].dst, frame[IPv6].hlim) == ("33:33:00:00:00:01", "ff02::1", 255)
    assert (advertisement.R, advertisement.S, advertisement.O, advertisement.tgt) == (router, 0, 1, str(VIP6.ip))
    assert advertisement.payload.lladdr == mac_of("a")


@FAMILIES
def test_an_announcement_moves_the_address_in_a_clients_cache(lab, wires, family):
    """The client has heard of B, then A announces."""
    vip = VIP if family == Family.IPV4 else VIP6
    index = lab["b"].call(socket.if_nametoindex, "eth0")
    lab["b"].call(order, netlink.encode_add(index, vip, 60))
    wait_until(lambda: lab["client"].reaches(vip))
    assert lab["client"].neighbour(vip.ip) == mac_of("b")
    lab["b"].call(order, netlink.encode_delete(index, vip))
    ours = wires("a", family)
    ours.prepare_addresses([vip.ip])
    lab["a"].call(order, netlink.encode_add(lab["a"].call(socket.if_nametoindex, "eth0"), vip, 60))
    assert ours.announce([vip.ip]) == 0
    wait_until(lambda: lab["client"].neighbour(vip.ip) == mac_of("a"))
    wait_until(lambda: lab["client"].reaches(vip))


def order(request):
    kernel = Kernel()
    try:
        assert kernel.order(request) == 0
    finally:
        kernel.close()


@FAMILIES
def test_a_probe_is_answered_by_whoever_has_the_address_and_by_nobody_else(lab, wires, watch, family):
    peer, vip = (address_of("b"), VIP.ip) if family == Family.IPV4 else (address6_of("b"), VIP6.ip)
    ours, neighbours = wires("a", family), watch("a", family, [peer, vip])
    assert ours.probe(vip) == 0  # nobody has it
    assert ours.probe(peer) == 0
    (claim,) = arrive(neighbours)
    assert (claim.address, claim.mac) == (peer, mac_of("b"))


@FAMILIES
def test_an_announcement_by_another_is_a_claim_and_our_own_is_none(wires, watch, family):
    vip = VIP.ip if family == Family.IPV4 else VIP6.ip
    ours, theirs, neighbours = wires("a", family), wires("b", family), watch("a", family, [vip])
    for wire in (ours, theirs):
        wire.prepare_addresses([vip])
        wire.announce([vip])
    (claim,) = arrive(neighbours)
    assert (claim.address, claim.mac) == (vip, mac_of("b"))


@FAMILIES
def test_from_a_virtual_mac_everything_comes_from_it(lab, wires, tmp_path, family):
    """AR8: advertisements and announcements have its MAC as their source; clients reach the address at it."""
    vip = VIP if family == Family.IPV4 else VIP6
    parent = read_interface(lab["a"])
    name = lab["a"].run_async(netlink.add_virtual_mac(parent, 51, family))
    virtual = read_interface(lab["a"], name)
    assert virtual.mac == ("00:00:5e:00:01:33" if family == Family.IPV4 else "00:00:5e:00:02:33")
    assert virtual.addresses == ()
    state = State(tmp_path / "ha.state")
    for interface, values in (("eth0", sysctls.FOR_ADDRESSES), (name, sysctls.FOR_MACVLAN)):
        assert lab["a"].call(sysctls.apply, interface, values, state) == []
    capture, theirs = lab.capture("b"), wires("b", family)
    ours = wires("a", family, virtual=virtual)
    prepared = ours.prepare(advert(family), [150])[150]
    assert ours.send(prepared) == 0
    (received,) = arrive(theirs)
    assert received.datagram.payload == prepared[0].payload
    assert received.datagram.ttl == 255
    lab["a"].call(order, netlink.encode_add(virtual.index, netlink.fit(vip, ()), 60))
    ours.prepare_addresses([vip.ip])
    assert ours.announce([vip.ip]) == 0
    ours_frames = [frame for frame in capture.read() if frame.data[6:12] == bytes.fromhex(virtual.mac.replace(":", ""))]
    assert len(ours_frames) >= 2
    wait_until(lambda: lab["client"].reaches(vip))
    assert lab["client"].neighbour(vip.ip) == virtual.mac
    lab["a"].run_async(netlink.remove_virtual_mac(name))
    assert read_interface(lab["a"], name) is None


def test_a_message_cut_short_comes_out_as_it_is(lab, wires):
    """What may be believed of it is said by `packet.receive`, with a reason."""
    theirs = wires("b")
    with raw_sender(lab, "a") as sender:
        sender.sendto(b"\x31\x33", ("224.0.0.18", 0))
    (received,) = arrive(theirs)
    assert received.datagram.payload == b"\x31\x33"
