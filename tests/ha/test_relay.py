"""What waits while an address moves, and that it arrives whole: by hand, by hypothesis, and over a real cable."""

import select
import socket
import struct
from contextlib import suppress
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from ha import orders
from ha.events import Family
from ha.relay import MOST, Relay, Waiting, parse, with_checksum
from tests.kit import netns
from tests.kit.netns import VIP, mac_of, make_lab, read_interface, wait_until

CLIENT, ADDRESS = "192.168.8.50", "192.168.8.100"


def packet(flags="S", port=1024, to=ADDRESS, data=b""):
    return bytes(IP(src=CLIENT, dst=to) / TCP(sport=port, dport=80, flags=flags) / Raw(data))


def segment(*words, **named):
    return parse(packet(*words, **named))


# ---- what waits ------------------------------------------------------------------------------------------------------


def test_while_the_address_is_here_only_beginnings_wait_and_who_goes_on_was_answered():
    waiting = Waiting()
    waiting.note(segment("S", 1))
    waiting.note(segment("S", 2))
    waiting.note(segment("A", 1))
    waiting.note(segment("PA", 3))
    assert [one.packet for one in waiting.take(ip_address(ADDRESS))] == [packet("S", 2)]


def test_once_it_has_left_everything_waits_in_its_order():
    waiting = Waiting(left=True)
    waiting.note(segment("S", 1))
    waiting.note(segment("A", 1))
    waiting.note(segment("S", 1, to="192.168.8.101"))
    assert [one.packet for one in waiting.take(ip_address(ADDRESS))] == [packet("S", 1), packet("A", 1)]
    assert waiting.take(ip_address(ADDRESS)) == []
    assert waiting.count == 1


def test_no_more_wait_than_the_bound_and_those_that_are_taken_make_room():
    waiting = Waiting()
    for port in range(MOST + 5):
        waiting.note(segment("S", port))
    assert len(waiting.take(ip_address(ADDRESS))) == MOST
    waiting.note(segment("S", 1))
    assert waiting.count == 1


# ---- segments --------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=120))
def test_any_bytes_are_a_segment_or_none(data):
    found = parse(data)
    if found is not None:
        assert len(with_checksum(data)) <= len(data)


@pytest.mark.parametrize("flags", ["SA", "A", "F", "R"])
def test_only_a_lone_syn_begins_a_connection(flags):
    assert segment("S").begins
    assert segment("SEC").begins, "with ECN too"
    assert not segment(flags).begins


def test_fragments_and_other_protocols_are_none():
    assert parse(bytes(IP(dst=ADDRESS, flags="MF") / TCP())) is None
    assert parse(bytes(IP(dst=ADDRESS, frag=3) / TCP())) is None
    assert parse(bytes(IP(dst=ADDRESS, proto=17) / Raw(bytes(40)))) is None
    assert parse(bytes(IPv6(dst="fd00::1", nh=17) / Raw(bytes(40)))) is None
    assert parse(packet()[:39]) is None


@given(st.binary(max_size=40), st.booleans(), st.integers(0, 0xFFFF))
def test_the_checksum_is_what_scapy_makes_it(data, six, wrong):
    header = IPv6(src="fd00::50", dst="fd00::100") if six else IP(src=CLIENT, dst=ADDRESS)
    good = bytes(header / TCP(sport=7, dport=80, flags="S") / Raw(data))
    place = (40 if six else 20) + 16
    spoilt = good[:place] + struct.pack("!H", wrong) + good[place + 2 :]
    made = with_checksum(spoilt + b"padding")
    assert len(made) == len(good)
    assert made[:place] + made[place + 2 :] == good[:place] + good[place + 2 :]
    assert {made[place : place + 2], good[place : place + 2]} in ({good[place : place + 2]}, {b"\0\0", b"\xff\xff"})


# ---- over a cable ----------------------------------------------------------------------------------------------------

needs_namespaces = pytest.mark.skipif(bool(netns.why_not()), reason=netns.why_not() or "-")


def listening(namespace, address):
    def make():
        one = socket.create_server((str(address), 80))
        one.setblocking(False)
        return one

    return namespace.call(make)


def connecting(namespace, address):
    def make():
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex((str(address), 80))
        return one

    return namespace.call(make)


def is_connected(one):
    return one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b"\x01"


def move(host, address, *, add):
    def work(ipr):
        index = ipr.link_lookup(ifname="eth0")[0]
        ipr.addr("add" if add else "del", index=index, address=str(address.ip), prefixlen=address.network.prefixlen)

    host.netlink(work)


@needs_namespaces
@pytest.mark.netns
@pytest.mark.slow
def test_a_gate_keeps_connections_from_beginning_and_harms_none_that_has_begun():
    with make_lab(("client", "a")) as lab:
        move(lab["a"], VIP, add=True)
        server, before = listening(lab["a"], "0.0.0.0"), connecting(lab["client"], VIP.ip)
        wait_until(lambda: is_connected(before))
        accepted, _ = server.accept()
        orders.gate([server], [str(VIP.ip), "fd00::1"])
        kept = connecting(lab["client"], VIP.ip)
        elsewhere = connecting(lab["client"], "192.168.8.4")
        wait_until(lambda: is_connected(elsewhere))
        before.send(b"still here")
        wait_until(lambda: accepted.recv(20) == b"still here" if readable(accepted) else False)
        assert not is_connected(kept)
        orders.gate([server], [])
        orders.gate([server], [])
        wait_until(lambda: is_connected(kept))
        for one in (server, before, accepted, kept, elsewhere):
            one.close()


def readable(one):
    one.setblocking(False)
    try:
        return bool(one.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


@needs_namespaces
@pytest.mark.netns
@pytest.mark.slow
def test_who_tries_to_connect_while_nobody_has_the_address_is_answered_by_who_gets_it():
    with make_lab(("client", "a", "b")) as lab:
        move(lab["a"], VIP, add=True)
        ours, theirs = listening(lab["a"], "0.0.0.0"), listening(lab["b"], "0.0.0.0")
        first = connecting(lab["client"], VIP.ip)  # so that the client knows our MAC
        wait_until(lambda: is_connected(first))
        relay = lab["a"].call(Relay, read_interface(lab["a"]), Family.IPV4, [VIP.ip])
        orders.gate([ours], [str(VIP.ip)])
        early = connecting(lab["client"], VIP.ip)
        wait_until(lambda: relay.read() or relay._waiting.count == 1)
        relay.leave()
        move(lab["a"], VIP, add=False)
        late = connecting(lab["client"], VIP.ip)
        wait_until(lambda: relay.read() or relay._waiting.count == 2)
        move(lab["b"], VIP, add=True)
        relay.follow(VIP.ip, mac_of("b"))
        assert relay.handed_on == 2

        def both_arrived():
            relay.read()  # the client has heard no announcement: all that it sends comes here
            return is_connected(early) and is_connected(late)

        wait_until(both_arrived, 0.9)  # before they would try again
        arrived = []

        def accepted():
            relay.read()
            with suppress(BlockingIOError):
                arrived.append(theirs.accept()[0])
            return len(arrived) == 2

        wait_until(accepted)
        handed_on = relay.handed_on
        relay.follow(VIP.ip, mac_of("client"))
        stale = ("neigh", "replace", str(VIP.ip), "lladdr", mac_of("a"), "nud", "permanent", "dev", "eth0")
        lab["client"].run("ip", *stale)  # who has answered has told its MAC by asking for the client's
        late.send(b"to and fro?")
        wait_until(lambda: select.select([relay], [], [], 0)[0])
        relay.read()
        assert relay.handed_on == handed_on, "nothing goes back to where it came from"
        for one in (relay, ours, theirs, first, early, late, *arrived):
            one.close()
