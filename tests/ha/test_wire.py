"""What scapy builds for us: the captured vectors, and the bytes of `packet.py`; what needs interfaces is in netns/."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Ether

from ha import packet
from ha.events import Family, Form
from ha.packet import Advertisement, Datagram, Dropped, Reason
from ha.wire import build_advert, build_probe, parse_ipv6

SOURCE, GROUP = IPv4Address("192.168.8.4"), "224.0.0.18"
SOURCE6, GROUP6 = IPv6Address("fe80::ff:fe00:804"), "ff02::12"
ADVERT = Advertisement(3, 51, 150, 0.1, (IPv4Address("192.168.8.100"),))


def changed(**named):
    return Advertisement(**{name: getattr(ADVERT, name) for name in Advertisement.__slots__} | named)


@pytest.mark.rfc("9568", "5.2")
@pytest.mark.parametrize(
    ("advert", "destination", "form", "expected"),
    [
        (ADVERT, GROUP, Form.PSEUDO, "31339601000ac678c0a80864"),
        (changed(priority=0), GROUP, Form.PSEUDO, "31330001000a5c79c0a80864"),
        (ADVERT, "192.168.8.6", Form.PSEUDO, "31339601000adddcc0a80864"),
        (
            changed(version=2, interval=1, auth_type=1, password=b"s3cret"),
            GROUP,
            Form.MESSAGE,
            "21339601010142a3c0a808647333637265740000",
        ),
    ],
    ids=["v3", "priority 0", "unicast", "v2 with a password"],
)
def test_what_is_built_is_what_was_captured(advert, destination, form, expected):
    assert build_advert(advert, SOURCE, destination, form).hex() == expected


def test_an_ipv6_advertisement_is_what_was_captured():
    advert = changed(addresses=(IPv6Address("fe80::100"), IPv6Address("fd00:8::100")))
    assert build_advert(advert, SOURCE6, GROUP6, Form.MESSAGE).hex().startswith("31339602000a3604")


@pytest.mark.rfc("9568", "5.2.8")
def test_the_checksum_over_the_message_alone_adds_up_to_all_ones():
    payload = build_advert(ADVERT, SOURCE, GROUP, Form.MESSAGE)
    total = sum(struct.unpack("!6H", payload))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF


v4 = st.lists(st.ip_addresses(v=4), min_size=1, max_size=20).map(tuple)
v6 = st.lists(st.ip_addresses(v=6), min_size=1, max_size=20).map(tuple)


@settings(max_examples=150, deadline=None)
@given(
    addresses=st.one_of(v4, v6),
    version=st.sampled_from([2, 3]),
    vrid=st.integers(1, 255),
    priority=st.integers(0, 255),
    ticks=st.integers(1, 4095),
    form=st.sampled_from(Form),
    password=st.binary(max_size=8),
    data=st.data(),
)
def test_scapy_and_our_own_builder_agree_on_every_byte(addresses, version, vrid, priority, ticks, form, password, data):
    family = addresses[0].version
    if version == 2 and family == 4:
        secret = {"auth_type": 1, "password": password} if password else {}
        advert = Advertisement(2, vrid, priority, float(ticks % 255 + 1), addresses, **secret)
    else:
        advert = Advertisement(3, vrid, priority, ticks / 100, addresses)
    source, destination = (data.draw(st.ip_addresses(v=family)) for _ in range(2))
    built = build_advert(advert, source, str(destination), form)
    ours = packet.build(advert, source, destination, form)
    # 0 and 0xffff are the same sum, and RFC 1071 lets either be written.
    if built[6:8] in {b"\0\0", b"\xff\xff"}:
        built, ours = (one[:6] + bytes(2) + one[8:] for one in (built, ours))
    assert built == ours


def test_a_probe_is_an_ordinary_arp_request():
    frame = Ether(build_probe(IPv4Address("192.168.8.100"), SOURCE, "02:00:00:00:08:04"))
    assert frame.dst == "ff:ff:ff:ff:ff:ff"
    arp = frame[ARP]
    assert (arp.op, arp.psrc, arp.pdst, arp.hwsrc) == (1, str(SOURCE), "192.168.8.100", "02:00:00:00:08:04")


@pytest.mark.rfc("4861", "4.3")
def test_a_probe_of_ipv6_goes_to_the_solicited_node_group():
    frame = Ether(build_probe(IPv6Address("fd00:8::1:2345"), SOURCE6, "02:00:00:00:08:04"))
    assert frame.dst == "33:33:ff:01:23:45"
    assert (frame[IPv6].src, frame[IPv6].dst, frame[IPv6].hlim) == (str(SOURCE6), "ff02::1:ff01:2345", 255)
    assert frame[ICMPv6ND_NS].tgt == "fd00:8::1:2345"
    assert frame[ICMPv6ND_NS].payload.lladdr == "02:00:00:00:08:04"


def told(limit=255, destination=GROUP6):
    return [
        (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, struct.pack("=i", limit)),
        (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, socket.inet_pton(socket.AF_INET6, destination) + bytes(4)),
    ]


def test_an_ipv6_datagram_is_put_together_from_what_the_kernel_tells_beside_it():
    expected = Datagram(Family.IPV6, SOURCE6, IPv6Address(GROUP6), 254, b"bytes")
    assert parse_ipv6(b"bytes", told(254), "fe80::ff:fe00:804%eth0") == expected


@pytest.mark.parametrize("missing", [0, 1])
def test_an_ipv6_datagram_that_the_kernel_tells_nothing_about_is_dropped(missing):
    ancillary = told()
    del ancillary[missing]
    assert parse_ipv6(b"bytes", ancillary, "fe80::1") == Dropped(Reason.MALFORMED, IPv6Address("fe80::1"))
