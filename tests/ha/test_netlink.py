"""Requests as bytes, and the prefix an address is added with; what the kernel makes of them is in netns/."""

from __future__ import annotations

import struct
from ipaddress import ip_interface

import pytest

from ha.events import Family
from ha.netlink import encode_add, encode_delete, fit, virtual_name

OWN = [ip_interface("192.168.8.4/24"), ip_interface("fd00:8::4/64"), ip_interface("fe80::4/64")]


def read(request):
    """Header, ifaddrmsg and attributes of a request."""
    length, kind, flags, _, _ = struct.unpack_from("=IHHII", request)
    assert length == len(request)
    place, attributes = 24, {}
    while place < len(request):
        size, name = struct.unpack_from("=HH", request, place)
        attributes[name] = request[place + 4 : place + size]
        place += size + -size % 4
    return kind, flags, struct.unpack_from("=BBBBI", request, 16), attributes


def test_an_ipv4_address_is_added_for_its_lifetime():
    kind, flags, head, attributes = read(encode_add(7, ip_interface("192.168.8.100/24"), 3))
    assert (kind, flags) == (20, 0x1 | 0x4 | 0x100 | 0x400)  # RTM_NEWADDR; request, acknowledge, replace, create
    assert head == (2, 24, 0, 0, 7)
    assert attributes[1] == attributes[2] == bytes([192, 168, 8, 100])
    assert struct.unpack("=IIII", attributes[6]) == (3, 3, 0, 0)  # preferred, valid
    assert 8 not in attributes


def test_an_ipv6_address_is_added_deprecated_without_detection_and_without_route():
    _, _, head, attributes = read(encode_add(7, ip_interface("fd00:8::100/64"), 3))
    assert head == (10, 64, 0, 0, 7)
    assert struct.unpack("=IIII", attributes[6])[:2] == (0, 3)
    assert struct.unpack("=I", attributes[8]) == (0x02 | 0x200,)  # IFA_F_NODAD, IFA_F_NOPREFIXROUTE


@pytest.mark.parametrize("text", ["192.168.8.100/24", "fd00:8::100/64"])
def test_a_deletion_asks_for_an_answer_and_has_no_lifetime(text):
    kind, flags, head, attributes = read(encode_delete(7, ip_interface(text)))
    assert (kind, flags) == (21, 0x5)
    assert head[4] == 7
    assert attributes[2] == ip_interface(text).ip.packed
    assert 6 not in attributes


@pytest.mark.parametrize(
    ("vip", "fitted"),
    [
        ("192.168.8.100/24", "192.168.8.100/24"),
        ("192.168.8.100/32", "192.168.8.100/32"),
        ("192.168.8.100/25", "192.168.8.100/32"),
        ("10.0.0.1/8", "10.0.0.1/32"),
        ("fd00:8::100/64", "fd00:8::100/64"),
        ("fd00:9::100/64", "fd00:9::100/128"),
        ("fe80::100/64", "fe80::100/64"),
    ],
)
def test_a_prefix_is_used_only_where_the_node_has_the_same(vip, fitted):
    assert fit(ip_interface(vip), OWN) == ip_interface(fitted)


def test_on_a_macvlan_every_address_is_that_of_a_host():
    assert fit(ip_interface("192.168.8.100/24"), ()) == ip_interface("192.168.8.100/32")


def test_the_name_of_a_macvlan_fits_and_tells_routers_apart():
    names = {virtual_name(vrid, family, index) for vrid in (1, 255) for family in Family for index in (2, 9999)}
    assert len(names) == 8
    assert all(len(name) <= 15 for name in names)
