"""The filters, run by a machine of their own, against what they are meant to say; the sockets are in netns/."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ha import raw
from ha.events import Family

NET_OFFSET = 0xFFF00000


class OutOfPacketError(Exception):
    pass


def run(program, data, header=b""):
    """What the kernel's machine for classic BPF returns; `header` is the network header before the data."""
    accumulator = index = place = 0

    def load(where, size):
        source = data
        if where >= NET_OFFSET:
            source, where = header + data, where - NET_OFFSET
        if where + size > len(source):
            raise OutOfPacketError
        return int.from_bytes(source[where : where + size])

    while True:
        code, jump_true, jump_false, operand = program[place]
        place += 1
        match code:
            case 0x20:
                accumulator = load(operand, 4)
            case 0x28:
                accumulator = load(operand, 2)
            case 0x30:
                accumulator = load(operand, 1)
            case 0x50:
                accumulator = load(index + operand, 1)
            case 0xB1:
                index = (load(operand, 1) & 15) * 4
            case 0x54:
                accumulator &= operand
            case 0x15:
                place += jump_true if accumulator == operand else jump_false
            case 0x35:
                place += jump_true if accumulator >= operand else jump_false
            case 0x06:
                return operand
            case _:
                raise AssertionError(f"no such instruction: {code:#x}")


def passes(program, data, header=b""):
    try:
        return run(program, data, header) > 0
    except OutOfPacketError:  # the kernel drops it
        return False


def header4(ttl, options=0):
    return struct.pack("!BBHHHBBH4s4s", 0x45 + options, 0, 0, 0, 0, ttl, 112, 0, bytes(4), bytes(4)) + bytes(
        options * 4
    )


def header6(ttl):
    return struct.pack("!IHBB16s16s", 6 << 28, 0, 112, ttl, bytes(16), bytes(16))


near = st.sampled_from([0, 1, 50, 51, 52, 63, 64, 254, 255])
octet = st.one_of(near, st.integers(0, 255))


@given(
    family=st.sampled_from(Family),
    version=st.sampled_from([2, 3]),
    vrid=octet,
    least=st.sampled_from([1, 64, 255]),
    ttl=octet,
    first=st.one_of(st.sampled_from([0x21, 0x31, 0x32]), octet),
    second=octet,
    options=st.integers(0, 10),
    length=st.integers(0, 4),
)
@example(Family.IPV4, 3, 51, 255, 255, 0x31, 51, 3, 2)
@example(Family.IPV6, 3, 51, 255, 255, 0x31, 51, 0, 2)
def test_each_packet_passes_the_filter_or_is_counted_once_by_its_first_fault(
    family, version, vrid, least, ttl, first, second, options, length
):
    message = bytes([first, second, 0, 0])[:length]
    data, header = (header4(ttl, options) + message, b"") if family == Family.IPV4 else (message, header6(ttl))
    fault = ""
    if ttl < least:
        fault = "ttl"
    elif length < 1:
        fault = "short"
    elif first >> 4 != version:
        fault = "version"
    elif length < 2:
        fault = "short"
    elif second != vrid:
        fault = "vrid"
    assert passes(raw.adverts_of(family, version, vrid, least), data, header) == (not fault)
    counted = [
        name for name, program in raw.rejects_of(family, version, vrid, least).items() if passes(program, data, header)
    ]
    assert counted == ([fault] if fault in {"ttl", "version", "vrid"} else [])


@given(st.sampled_from(Family), octet, st.data())
def test_what_passes_comes_from_a_node_or_from_a_stranger_never_both(family, ttl, data):
    addresses = st.ip_addresses(v=int(family))
    nodes = data.draw(st.lists(addresses, min_size=1, max_size=5))
    source = data.draw(st.one_of(st.sampled_from(nodes), addresses))
    if family == Family.IPV4:
        packet, header = header4(ttl)[:12] + source.packed + bytes(4) + b"\x31\x33", b""
    else:
        packet, header = b"\x31\x33", header6(ttl)[:8] + source.packed + bytes(16)
    ours, others = raw.adverts_from(nodes, family, 3, 51, 255)
    assert passes(ours, packet, header) == (ttl == 255 and source in nodes)
    assert passes(others, packet, header) == (ttl == 255 and source not in nodes)


@given(st.lists(st.ip_addresses(v=4), min_size=1, max_size=60), st.ip_addresses(v=4), st.data())
def test_claims_by_arp_pass_for_the_addresses_and_for_no_others(wanted, other, data):
    sender = data.draw(st.one_of(st.sampled_from(wanted), st.just(other)))
    packet = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 2, bytes(6), sender.packed, bytes(6), bytes(4))
    assert passes(raw.claims_of(Family.IPV4, wanted), packet) == (sender in wanted)
    assert not passes(raw.claims_of(Family.IPV4, wanted), packet[:17])


@given(st.lists(st.ip_addresses(v=6), min_size=1, max_size=60), st.ip_addresses(v=6), octet, octet, st.data())
def test_claims_by_neighbour_advertisement_pass_for_the_addresses(wanted, other, following, kind, data):
    target = data.draw(st.one_of(st.sampled_from(wanted), st.just(other)))
    packet = bytearray(header6(255) + bytes([kind, 0, 0, 0, 0, 0, 0, 0]) + target.packed)
    packet[6] = following
    last_word = {address.packed[-4:] for address in wanted}
    expected = following == 58 and kind == 136 and target.packed[-4:] in last_word
    assert passes(raw.claims_of(Family.IPV6, wanted), bytes(packet)) == expected


@pytest.mark.parametrize("kind", [135, 136, 137])
def test_of_neighbour_discovery_only_advertisements_are_claims(kind):
    target = IPv6Address("fd00:8::100")
    packet = bytearray(header6(255) + bytes([kind, 0, 0, 0, 0, 0, 0, 0]) + target.packed)
    packet[6] = 58
    assert passes(raw.claims_of(Family.IPV6, [target]), bytes(packet)) == (kind == 136)


@given(st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1), st.sampled_from([16, 17, 20, 21]))
def test_of_netlink_messages_only_those_about_one_interface_pass(index, other, kind):
    for about in (index, other):
        message = struct.pack("=IHHIIBBHI", 32, kind, 0, 0, 0, 0, 0, 0, about)
        assert passes(raw.messages_about(index), message) == (about == index)
        assert passes(raw.messages_about(0), message) == (kind == 16)


def test_the_sources_of_advertisements_are_the_first_ipv4_and_the_link_local_address():
    interface = raw.Interface(
        "eth0",
        2,
        "02:00:00:00:08:04",
        up=True,
        addresses=(
            IPv6Interface("fd00:8::4/64"),
            IPv4Interface("192.168.8.4/24"),
            IPv4Interface("192.168.8.5/24"),
            IPv6Interface("fe80::4/64"),
        ),
    )
    assert interface.primary_address == IPv4Address("192.168.8.4")
    assert interface.link_local == IPv6Address("fe80::4")


def test_an_interface_without_addresses_has_no_source():
    interface = raw.Interface("eth0", 2, "02:00:00:00:08:04", up=True)
    assert interface.primary_address is None
    assert interface.link_local is None


def test_a_filter_that_cannot_be_attached_leaves_no_socket_open():
    with pytest.raises(OSError, match=r"nowhere|No such device|not permitted"):
        raw.open_receiver("nowhere-at-all", Family.IPV4, raw.adverts_of(Family.IPV4, 3, 51, 255), group=True)
