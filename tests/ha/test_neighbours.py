"""What is a claim on an address and what is none; junk is none, and never raises. The socket is in netns/."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP

from ha.neighbours import parse_advertisement, parse_arp

MAC, SENDER = "02:00:00:00:08:06", bytes.fromhex("020000000899")
VIP, VIP6 = IPv4Address("192.168.8.100"), IPv6Address("fd00:8::100")


@pytest.mark.parametrize("operation", [1, 2], ids=["request", "reply"])
def test_a_request_is_as_good_a_claim_as_a_reply(operation):
    packet = bytes(ARP(op=operation, hwsrc=MAC, psrc=str(VIP), pdst="192.168.8.50"))
    assert parse_arp(packet) == (VIP, MAC)
    assert parse_arp(packet + bytes(18)) == (VIP, MAC)  # padding


@pytest.mark.parametrize(
    "packet",
    [
        bytes(ARP(op=3, hwsrc=MAC, psrc=str(VIP))),
        bytes(ARP(op=1, hwsrc=MAC, psrc=str(VIP)))[:27],
        struct.pack("!HHBBH", 6, 0x0800, 6, 4, 1) + bytes(20),
        struct.pack("!HHBBH", 1, 0x86DD, 6, 16, 1) + bytes(50),
        b"",
    ],
    ids=["RARP", "cut", "not Ethernet", "not IPv4", "nothing"],
)
def test_what_is_no_arp_for_ipv4_over_ethernet_is_no_claim(packet):
    assert parse_arp(packet) is None


def advertisement(**named):
    header = {"src": "fe80::6", "dst": "ff02::1", "hlim": 255} | named
    return IPv6(**header) / ICMPv6ND_NA(R=0, S=0, O=1, tgt=str(VIP6))


@pytest.mark.rfc("4861", "4.4")
def test_an_advertisement_claims_its_target_for_the_mac_of_its_option():
    assert parse_advertisement(bytes(advertisement() / ICMPv6NDOptDstLLAddr(lladdr=MAC)), SENDER) == (VIP6, MAC)


def test_options_before_the_one_that_counts_are_passed_over():
    packet = advertisement() / ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:01") / ICMPv6NDOptDstLLAddr(lladdr=MAC)
    assert parse_advertisement(bytes(packet), SENDER) == (VIP6, MAC)


def test_without_the_option_the_mac_is_that_of_the_frame():
    assert parse_advertisement(bytes(advertisement()), SENDER) == (VIP6, "02:00:00:00:08:99")
    assert parse_advertisement(bytes(advertisement()), b"") is None


@pytest.mark.rfc("4861", "7.1.2")
def test_an_advertisement_that_was_forwarded_is_no_claim():
    assert parse_advertisement(bytes(advertisement(hlim=254)), SENDER) is None


def test_an_option_without_length_ends_the_reading():
    packet = bytearray(bytes(advertisement() / ICMPv6NDOptSrcLLAddr(lladdr=MAC)))
    packet[65] = 0
    assert parse_advertisement(bytes(packet), SENDER) is None


def test_a_frames_padding_is_no_option():
    packet = bytes(advertisement()) + b"\x02\x01" + bytes(6)
    assert parse_advertisement(packet, SENDER) == (VIP6, "02:00:00:00:08:99")


def test_a_length_beyond_the_packet_is_no_claim():
    packet = bytearray(bytes(advertisement()))
    packet[4:6] = b"\x10\x00"
    assert parse_advertisement(bytes(packet), SENDER) is None


@given(st.binary(max_size=120), st.binary(max_size=8))
def test_junk_never_raises(data, sender):
    for parse in (parse_arp, parse_advertisement):
        found = parse(data, sender)
        assert found is None or len(found[1]) == 17


@given(st.binary(max_size=60), st.integers(0, 100))
def test_junk_behind_a_good_head_never_raises(tail, length):
    packet = bytearray(bytes(advertisement()) + tail)
    packet[4:6] = length.to_bytes(2)
    found = parse_advertisement(bytes(packet), SENDER)
    assert found is None or found[0] == VIP6
