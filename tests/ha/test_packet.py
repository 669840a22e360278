"""Advertisements as bytes: captured ones, scapy as an oracle, and every check in its order."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.vrrp import VRRP, VRRPv3

from ha.events import Family, Form
from ha.packet import (
    GROUPS,
    Advertisement,
    Datagram,
    Dropped,
    Expected,
    Heard,
    Listener,
    Reason,
    build,
    parse,
    parse_ipv4,
    receive,
)

VIP = ip_address("192.168.8.100")
A, B, STRANGER = ip_address("192.168.8.4"), ip_address("192.168.8.6"), ip_address("192.168.8.99")
GROUP = GROUPS[Family.IPV4]
A6, B6, GROUP6 = ip_address("fe80::ff:fe00:804"), ip_address("fe80::6"), GROUPS[Family.IPV6]
VIPS6 = (ip_address("fe80::100"), ip_address("fd00:8::100"))

ADVERT = Advertisement(3, 51, 150, 0.1, (VIP,))
ADVERT6 = Advertisement(3, 51, 150, 0.1, VIPS6)
PASSWORD = Advertisement(2, 51, 150, 1.0, (VIP,), 1, b"s3cret")

EXPECTED = Expected(3, 0.1, (VIP,), {A: "a"})
OURS = Listener(Family.IPV4, frozenset({B}), {51: EXPECTED})
OURS6 = Listener(Family.IPV6, frozenset({B6}), {51: Expected(3, 0.1, VIPS6, {A6: "a"})})
OURS2 = Listener(Family.IPV4, frozenset({B}), {51: Expected(2, 1.0, (VIP,), {A: "a"}, password=b"s3cret")})


def datagram(payload, source=A, destination=GROUP, ttl=255):
    return Datagram(Family(source.version), source, destination, ttl, payload)


def message(advert=ADVERT, source=A, destination=GROUP, form=Form.MESSAGE):
    return build(advert, source, destination, form)


def reason(payload, listener=OURS, **changes):
    answer = receive(datagram(payload, **changes), listener)
    return answer.reason if isinstance(answer, Dropped) else answer


def fixed(payload):
    """The same bytes with a right checksum over the message alone, whatever they say."""
    summed = payload[:6] + b"\0\0" + payload[8:]
    summed += b"\0" * (len(summed) % 2)
    return payload[:6] + struct.pack("!H", -int.from_bytes(summed, "big") % 0xFFFF) + payload[8:]


# ---- bytes -----------------------------------------------------------------------------------------------------------

CAPTURED = [
    (ADVERT, A, GROUP, "31339601000ac678c0a80864"),
    (replace(ADVERT, priority=0), A, GROUP, "31330001000a5c79c0a80864"),
    (ADVERT, A, B, "31339601000adddcc0a80864"),
    (PASSWORD, A, GROUP, "21339601010142a3c0a808647333637265740000"),
    (ADVERT6, A6, GROUP6, "31339602000a3604" + VIPS6[0].packed.hex() + VIPS6[1].packed.hex()),
]


@pytest.mark.rfc("9568", "5.2")
@pytest.mark.parametrize(("advert", "source", "destination", "captured"), CAPTURED)
def test_w7_w2_w4_what_is_built_is_what_keepalived_was_seen_to_send(advert, source, destination, captured):
    assert build(advert, source, destination, Form.PSEUDO).hex() == captured


@pytest.mark.parametrize(("advert", "source", "destination", "captured"), CAPTURED)
def test_w7_what_keepalived_sends_is_understood(advert, source, destination, captured):
    assert parse(bytes.fromhex(captured), Family(source.version)) == advert


@pytest.mark.rfc("9568", "5.2.8")
def test_w3_over_ipv4_the_checksum_is_of_the_message_alone_unless_the_other_form_is_asked_for():
    assert message().hex() == "31339601000a6fb4c0a80864"
    assert sum(struct.unpack("!6H", message())) % 0xFFFF == 0
    assert message(form=Form.PSEUDO) != message()


@pytest.mark.parametrize("form", Form)
def test_w3_either_form_is_accepted_and_named(form):
    heard = reason(message(form=form))
    assert isinstance(heard, Heard)
    assert heard.form is form


def test_w3_over_ipv6_the_pseudo_header_is_always_covered():
    heard = reason(message(ADVERT6, A6, GROUP6), OURS6, source=A6, destination=GROUP6)
    assert heard == Heard(ADVERT6, "a", A6, None, drift=False)
    assert reason(fixed(message(ADVERT6, A6, GROUP6)), OURS6, source=A6, destination=GROUP6) is Reason.CHECKSUM


ADDRESSES = st.lists(st.ip_addresses(v=4), min_size=1, max_size=20)
TICKS = st.integers(1, 4095)


@given(st.integers(1, 255), st.integers(0, 255), TICKS, ADDRESSES, st.ip_addresses(v=4), st.ip_addresses(v=4))
def test_scapy_builds_the_same_version_3_over_ipv4(vrid, priority, ticks, vips, source, destination):
    """Its own layer knows the pseudo form only."""
    advert = Advertisement(3, vrid, priority, ticks / 100, tuple(vips))
    layer = VRRPv3(version=3, vrid=vrid, priority=priority, adv=ticks, addrlist=[str(vip) for vip in vips])
    theirs = bytes(IP(src=str(source), dst=str(destination), proto=112) / layer)[20:]
    assert build(advert, source, destination, Form.PSEUDO) == theirs


@given(st.integers(1, 255), st.integers(0, 255), TICKS, st.lists(st.ip_addresses(v=6), min_size=1, max_size=5))
def test_scapy_builds_the_same_version_3_over_ipv6(vrid, priority, ticks, vips):
    advert = Advertisement(3, vrid, priority, ticks / 100, tuple(vips))
    layer = VRRPv3(version=3, vrid=vrid, priority=priority, adv=ticks, addrlist=[str(vip) for vip in vips])
    assert build(advert, A6, GROUP6) == bytes(IPv6(src=str(A6), dst=str(GROUP6), nh=112) / layer)[40:]


@given(st.integers(1, 255), st.integers(0, 255), st.integers(1, 255), ADDRESSES, st.binary(max_size=8))
def test_scapy_builds_the_same_version_2(vrid, priority, seconds, vips, password):
    data = password.ljust(8, b"\0")
    advert = Advertisement(2, vrid, priority, float(seconds), tuple(vips), 1, password)
    layer = VRRP(
        version=2,
        vrid=vrid,
        priority=priority,
        authtype=1,
        adv=seconds,
        addrlist=[str(vip) for vip in vips],
        auth1=int.from_bytes(data[:4], "big"),
        auth2=int.from_bytes(data[4:], "big"),
    )
    assert build(advert, A, GROUP) == bytes(IP(src=str(A), dst=str(GROUP), proto=112) / layer)[20:]


@pytest.mark.parametrize(
    "changes",
    [
        {"vrid": 0},
        {"priority": 256},
        {"interval": 0.001},
        {"interval": 0.005},
        {"interval": 41.0},
        {"addresses": ()},
        {"addresses": (VIP, VIPS6[0])},
        {"version": 4},
        {"version": 2, "interval": 0.1},
        {"version": 2, "interval": 1.0, "password": b"123456789"},
    ],
)
def test_w6_what_cannot_be_said_on_the_wire_is_not_built(changes):
    with pytest.raises(ValueError, match=r"interval|range|addresses|password"):
        build(replace(ADVERT, **changes), A, GROUP)


# ---- the checks, in order --------------------------------------------------------------------------------------------


def test_a_good_advertisement_is_heard_with_its_node():
    assert reason(message()) == Heard(ADVERT, "a", A, Form.MESSAGE, drift=False)


@pytest.mark.parametrize("source", ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.18", "255.255.255.255"])
def test_check_1_no_such_address_sends(source):
    assert reason(message(), source=ip_address(source)) is Reason.MALFORMED


@pytest.mark.parametrize("source", ["::", "::1", "ff02::12"])
def test_check_1_no_such_ipv6_address_sends(source):
    assert (
        reason(message(ADVERT6, A6, GROUP6), OURS6, source=ip_address(source), destination=GROUP6) is Reason.MALFORMED
    )


def test_check_1_our_own_advertisement_is_a_loop():
    assert reason(message(), source=B) is Reason.OWN


@pytest.mark.parametrize("ttl", [0, 1, 64, 254])
def test_check_2_w1_the_ttl_is_255(ttl):
    assert reason(message(), ttl=ttl) is Reason.TTL
    assert reason(message(ADVERT6, A6, GROUP6), OURS6, source=A6, destination=GROUP6, ttl=ttl) is Reason.TTL


def test_u1_a_routed_unicast_peer_may_have_a_lower_ttl_down_to_the_least_allowed():
    routed = replace(EXPECTED, unicast=True, min_ttl=250)
    listener = Listener(Family.IPV4, frozenset({B}), {51: routed})
    assert isinstance(reason(message(), listener, destination=B, ttl=250), Heard)
    assert reason(message(), listener, destination=B, ttl=249) is Reason.TTL


@pytest.mark.parametrize(
    "payload", [b"", b"\x31", message()[:7], message()[:-1], message() + b"\0", message() + VIP.packed]
)
def test_check_3_w5_the_message_has_exactly_the_length_that_its_count_says(payload):
    assert reason(fixed(payload) if len(payload) > 8 else payload) is Reason.TRUNCATED


def test_check_3_a_count_of_zero_is_no_advertisement():
    assert reason(fixed(b"\x31\x33\x96\x00\x00\x0a\0\0")) is Reason.TRUNCATED


def test_check_4_version_and_type_are_those_configured():
    assert reason(fixed(b"\x41" + message()[1:])) is Reason.VERSION
    assert reason(message(PASSWORD)) is Reason.VERSION
    assert reason(message(), OURS2) is Reason.VERSION
    assert reason(fixed(b"\x32" + message()[1:])) is Reason.TYPE


def test_check_4_version_2_has_no_ipv6():
    listener = Listener(Family.IPV6, frozenset(), {51: Expected(2, 1.0, VIPS6, {A6: "a"})})
    payload = b"\x21\x33\x96\x01\0\x01\0\0" + VIPS6[0].packed + b"\0" * 8
    assert reason(payload, listener, source=A6, destination=GROUP6) is Reason.VERSION


@pytest.mark.parametrize("bit", range(12 * 8))
def test_check_5_no_bit_can_be_flipped_unnoticed(bit):
    flipped = (int.from_bytes(message(), "big") ^ 1 << bit).to_bytes(12, "big")
    assert isinstance(receive(datagram(flipped), OURS), Dropped)


def test_check_6_another_virtual_router_is_not_ours():
    assert reason(message(replace(ADVERT, vrid=52))) is Reason.VRID


def test_check_7_u2_the_destination_is_the_group_or_in_unicast_our_address():
    unicast = Listener(Family.IPV4, frozenset({B}), {51: replace(EXPECTED, unicast=True)})
    assert isinstance(reason(message(), unicast, destination=B), Heard)
    assert reason(message(), unicast) is Reason.DESTINATION
    assert reason(message(), destination=B) is Reason.DESTINATION


def test_check_8_w4_version_2_has_our_password_and_our_interval():
    assert reason(message(PASSWORD), OURS2) == Heard(PASSWORD, "a", A, None, drift=False)
    assert reason(message(replace(PASSWORD, password=b"guess")), OURS2) is Reason.AUTH
    assert reason(message(replace(PASSWORD, auth_type=0, password=b"")), OURS2) is Reason.AUTH
    assert reason(message(replace(PASSWORD, auth_type=2)), OURS2) is Reason.AUTH
    assert reason(message(replace(PASSWORD, interval=2.0)), OURS2) is Reason.INTERVAL


def test_check_8_version_2_without_password_takes_none():
    listener = Listener(Family.IPV4, frozenset({B}), {51: Expected(2, 1.0, (VIP,), {A: "a"})})
    assert reason(message(PASSWORD), listener) is Reason.AUTH
    assert isinstance(reason(message(replace(PASSWORD, auth_type=0, password=b"")), listener), Heard)


def test_check_8_an_interval_of_zero_is_not_believed():
    assert reason(fixed(message()[:4] + b"\0\0\0\0" + message()[8:])) is Reason.INTERVAL


def test_w2_the_reserved_bits_are_ignored():
    heard = reason(fixed(message()[:4] + b"\xf0" + message()[5:]))
    assert heard.advert == ADVERT


def test_check_9_a4_who_is_no_node_is_a_stranger():
    answer = receive(datagram(message(), source=STRANGER), OURS)
    assert answer == Dropped(Reason.STRANGER, STRANGER, 51)


def test_check_10_overlapping_lists_are_obeyed_and_reported_disjoint_ones_dropped():
    other = ip_address("192.168.8.101")
    assert reason(message(replace(ADVERT, addresses=(other, VIP)))).drift
    assert reason(message(replace(ADVERT, addresses=(other,)))) is Reason.ADDRESSES


def test_check_10_the_order_of_the_list_does_not_matter():
    swapped = message(replace(ADVERT6, addresses=VIPS6[::-1]), A6, GROUP6)
    assert not reason(swapped, OURS6, source=A6, destination=GROUP6).drift


def test_w2_an_ipv6_list_without_a_link_local_address_is_no_fault():
    only = replace(ADVERT6, addresses=VIPS6[1:])
    listener = Listener(Family.IPV6, frozenset(), {51: Expected(3, 0.1, VIPS6[1:], {A6: "a"})})
    assert isinstance(reason(message(only, A6, GROUP6), listener, source=A6, destination=GROUP6), Heard)


FAULTS = [  # one more fault each: the reason stays that of the first check
    (Reason.MALFORMED, {"source": ip_address("127.0.0.1")}),
    (Reason.OWN, {"source": B}),
    (Reason.TTL, {"ttl": 1}),
    (Reason.DESTINATION, {"destination": STRANGER}),
    (Reason.STRANGER, {"source": STRANGER}),
]


@pytest.mark.parametrize("first", range(len(FAULTS)))
def test_the_first_check_that_fails_names_the_reason(first):
    changes = {}
    for _, change in reversed(FAULTS[first:]):
        changes |= change
    assert reason(message(), **changes) is FAULTS[first][0]


# ---- IPv4 headers ----------------------------------------------------------------------------------------------------


def packet(payload, **fields):
    return bytes(IP(src=str(A), dst=str(GROUP), ttl=255, proto=112, **fields) / payload)


def test_w5_a_frame_that_was_padded_is_read_by_its_ip_length():
    assert parse_ipv4(packet(message()) + b"\0" * 14) == datagram(message())


def test_check_1_ip_options_are_skipped():
    assert parse_ipv4(packet(message(), options=[b"\x01\x01\x01\x00"])) == datagram(message())


@pytest.mark.parametrize("fields", [{"flags": "MF"}, {"frag": 1}, {"version": 5}, {"len": 19}, {"len": 60}, {"ihl": 4}])
def test_check_1_fragments_and_headers_that_lie_are_malformed(fields):
    assert parse_ipv4(packet(message(), **fields)).reason is Reason.MALFORMED


def test_check_1_do_not_fragment_is_no_fragment():
    assert parse_ipv4(packet(message(), flags="DF")) == datagram(message())


def test_check_1_other_protocols_and_stumps_are_malformed():
    assert parse_ipv4(b"\x45" + b"\0" * 10).reason is Reason.MALFORMED
    assert parse_ipv4(bytes(IP(src=str(A), proto=17) / message())).reason is Reason.MALFORMED


# ---- properties ------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=80))
@example(message())
@example(message(PASSWORD))
def test_property_5_any_bytes_parse_to_a_value_or_one_reason(data):
    for family in Family:
        assert isinstance(parse(data, family), Advertisement | Reason)
    assert isinstance(parse_ipv4(data), Datagram | Dropped)
    for listener, source, destination in ((OURS, A, GROUP), (OURS2, A, GROUP), (OURS6, A6, GROUP6)):
        assert isinstance(receive(datagram(data, source, destination), listener), Heard | Dropped)


@st.composite
def adverts(draw):
    version = draw(st.sampled_from([2, 3]))
    family = draw(st.sampled_from([4, 6])) if version == 3 else 4
    interval = draw(TICKS) / 100 if version == 3 else float(draw(st.integers(1, 255)))
    vips = tuple(draw(st.lists(st.ip_addresses(v=family), min_size=1, max_size=8)))
    head = (version, draw(st.integers(1, 255)), draw(st.integers(0, 255)), interval, vips)
    if version == 2 and draw(st.booleans()):
        return Advertisement(*head, 1, draw(st.binary(max_size=8)).rstrip(b"\0"))
    return Advertisement(*head)


@given(adverts(), st.sampled_from(Form))
def test_property_5_valid_ones_round_trip(advert, form):
    kind = type(advert.addresses[0])
    source, destination = (A, GROUP) if kind is IPv4Address else (A6, GROUP6)
    assert kind in {IPv4Address, IPv6Address}
    payload = build(advert, source, destination, form)
    assert parse(payload, Family(source.version)) == advert
    expected = Expected(
        advert.version,
        advert.interval,
        advert.addresses,
        {source: "a"},
        password=advert.password if advert.auth_type else None,
    )
    listener = Listener(Family(source.version), frozenset(), {advert.vrid: expected})
    heard = receive(datagram(payload, source, destination), listener)
    assert isinstance(heard, Heard)
    assert heard.advert == advert
