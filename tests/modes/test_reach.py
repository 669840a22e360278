"""Which addresses a client of forward mode may make us connect to."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.units import Destination, Listen
from proxy import errors
from proxy.modes.reach import PublicReach, embedded, is_public

PRIVATE_IPV4 = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.8.100",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
]
PUBLIC_IPV4 = ["1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1"]
PUBLIC_IPV4 += ["192.0.0.9", "192.0.1.1", "192.31.196.1", "192.167.1.1", "198.17.0.1", "198.20.0.1", "223.255.255.255"]
PRIVATE_IPV6 = [
    "::",
    "::1",
    "100::1",
    "2001::1",
    "2001:2::1",
    "2001:10::1",
    "2001:db8::1",
    "2002::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "64:ff9b:1::1",
]
PUBLIC_IPV6 = [
    "2606:4700::1111",
    "2001:4860:4860::8888",
    "2a00:1450::1",
    "2001:200::1",
    "2620:4f:8000::1",
    "2001:20::1",
]
EVERYWHERE = PublicReach()


def refused(address, port=80, *, here=False, reach=EVERYWHERE):
    failure = reach.refusal(address, port, here=here)
    return None if failure is None else failure.kind


def allowing(*texts, **more):
    return PublicReach(tuple(map(Destination.parse, texts)), **more)


@pytest.mark.parametrize("address", PRIVATE_IPV4 + PRIVATE_IPV6)
def test_what_is_not_public_is_refused(address):
    assert refused(address) is errors.ADDRESS_REFUSED


@pytest.mark.parametrize("address", PUBLIC_IPV4 + PUBLIC_IPV6)
def test_what_is_public_may_be_reached(address):
    assert refused(address) is None


def ways_into(address):
    """Every IPv6 spelling that carries this IPv4 address."""
    number = int(IPv4Address(address))
    a, b = f"{number >> 16:x}", f"{number & 0xFFFF:x}"
    turned = number ^ 0xFFFFFFFF
    return {
        "mapped": f"::ffff:{address}",
        "compatible": f"::{a}:{b}",
        "translated": f"::ffff:0:{a}:{b}",
        "nat64": f"64:ff9b::{a}:{b}",
        "local nat64": f"64:ff9b:1::{a}:{b}",
        "6to4": f"2002:{a}:{b}::1",
        "teredo client": f"2001:0:101:101::{turned >> 16:x}:{turned & 0xFFFF:x}",
        "teredo server": f"2001:0:{a}:{b}::",
        "isatap": f"2606:4700::5efe:{a}:{b}",
        "isatap, universal": f"2606:4700::200:5efe:{a}:{b}",
    }


@pytest.mark.parametrize("kind", ways_into("10.0.0.1"))
@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.8.100"])
def test_an_ipv4_address_inside_ipv6_is_judged_too(kind, address):
    """However wide the outer addresses are allowed, the inner one is not."""
    way = ways_into(address)[kind]
    assert IPv4Address(address) in set(embedded(ip_address(way)))
    assert refused(way) is errors.ADDRESS_REFUSED
    assert refused(way, reach=allowing("::/0")) is errors.ADDRESS_REFUSED


@pytest.mark.parametrize("kind", ["nat64", "isatap", "isatap, universal"])
def test_a_public_ipv4_address_inside_public_ipv6_may_be_reached(kind):
    assert refused(ways_into("9.9.9.9")[kind]) is None


@pytest.mark.parametrize("kind", ["mapped", "compatible", "translated", "6to4", "teredo client"])
def test_a_public_ipv4_address_does_not_open_what_carries_it(kind):
    assert refused(ways_into("9.9.9.9")[kind]) is errors.ADDRESS_REFUSED


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_carried_by_nat64_an_address_fares_as_by_itself(inner):
    outer = str(IPv6Address(int(IPv6Address("64:ff9b::")) + int(inner)))
    assert (refused(outer) is None) == is_public(inner)


@given(st.ip_addresses(v=6).map(str))
def test_no_ipv6_address_outside_what_is_given_out_is_public(address):
    if ip_address(address).packed[0] >> 5 != 1 and not address.startswith("64:ff9b::"):
        assert refused(address) is errors.ADDRESS_REFUSED


def test_an_address_of_one_link_is_refused():
    assert refused("fe80::1%eth0", reach=allowing("fe80::/10")) is errors.ADDRESS_REFUSED


def test_what_is_allowed_may_be_reached_and_its_neighbours_not():
    reach = allowing("192.168.8.0/24", "10.0.0.5:8080", "[fd00::5]:443", "127.0.0.1")
    assert refused("192.168.8.7", 12345, reach=reach) is None
    assert refused("192.168.9.7", reach=reach) is errors.ADDRESS_REFUSED
    assert refused("10.0.0.5", 8080, reach=reach) is None
    assert refused("10.0.0.5", 8081, reach=reach) is errors.ADDRESS_REFUSED
    assert refused("10.0.0.6", 8080, reach=reach) is errors.ADDRESS_REFUSED
    assert refused("fd00::5", 443, reach=reach) is None
    assert refused("fd00::5", 444, reach=reach) is errors.ADDRESS_REFUSED
    assert refused("127.0.0.1", 9, reach=reach) is None
    assert refused("::ffff:192.168.8.7", reach=reach) is errors.ADDRESS_REFUSED


def test_this_host_and_the_pair_are_no_destination_even_with_public_addresses():
    reach = PublicReach(ours=(ip_address("9.9.9.9"),))
    assert refused("8.8.8.8", here=True) is errors.ADDRESS_REFUSED
    assert refused("9.9.9.9", reach=reach) is errors.ADDRESS_REFUSED
    assert refused("8.8.8.8", here=True, reach=allowing("8.8.8.8:80")) is None
    assert refused("8.8.8.8", 81, here=True, reach=allowing("8.8.8.8:80")) is errors.ADDRESS_REFUSED


@pytest.mark.parametrize("listen", [":3128", "127.0.0.1:3128", "0.0.0.0:3128"])
def test_our_own_listeners_are_a_loop_whatever_is_allowed(listen):
    reach = allowing("0.0.0.0/0", "::/0", listeners=(Listen.parse(listen),))
    assert refused("127.0.0.1", 3128, here=True, reach=reach) is errors.LOOP
    assert refused("0.0.0.0", 3128, reach=reach) is errors.LOOP
    assert refused("::ffff:127.0.0.1", 3128, reach=reach) is errors.LOOP
    assert refused("::", 3128, reach=reach) is errors.LOOP
    assert refused("127.0.0.1", 3129, here=True, reach=reach) is None
    assert refused("9.9.9.9", 3128, reach=reach) is None


def test_a_wide_listener_is_met_at_every_address_of_this_host_and_of_the_pair():
    reach = allowing("0.0.0.0/0", listeners=(Listen("", 80),), ours=(ip_address("192.168.8.100"),))
    assert refused("192.168.8.4", 80, here=True, reach=reach) is errors.LOOP
    assert refused("192.168.8.100", 80, reach=reach) is errors.LOOP
    assert refused("192.168.8.100", 81, reach=reach) is None


def test_permissions_are_compared_by_value():
    assert allowing("10.0.0.0/8") == allowing("10.0.0.0/8")
    assert allowing("10.0.0.0/8") != EVERYWHERE
