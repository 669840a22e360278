"""Advertisements as bytes, and what may be believed of bytes that came (RFC 9568 §5, §7.1; version 2: RFC 3768 §5).

`receive` asks the checks in the RFC's order; the first that fails names the reason and the counter. Nothing here
raises on what came from the network. Centiseconds exist in this file only. `build` and `receive` share no checksum
function: one that is wrong both ways would agree with itself and with nobody else. Address lists of version 3 over IPv4
may carry either checksum (see `Form`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from ha.events import Family, Form

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ha.events import Address

PROTOCOL: Final = 112  # IANA's number of VRRP
TTL: Final = 255  # nothing that was forwarded has it, RFC 9568 §5.1.1.3
GROUPS: Final[dict[Family, Address]] = {
    Family.IPV4: IPv4Address("224.0.0.18"),  # RFC 9568 §5.1.1.2
    Family.IPV6: IPv6Address("ff02::12"),  # RFC 9568 §5.1.2.2
}
MAX_CENTISECONDS: Final = 4095  # 12 bits, RFC 9568 §5.2.7

_ADVERTISEMENT: Final = 1  # the only type there is
_HEAD: Final = 8
_AUTH: Final = 8  # bytes of authentication data in version 2, there even when unused (RFC 3768 §5.3.10)
NO_AUTH, PASSWORD = 0, 1
_IPV4_HEAD: Final = 20
_FRAGMENT: Final = 0x3FFF  # more-fragments flag and offset


class Reason(Enum):
    """Why a packet was dropped, in the order of the checks; also the label of the counter."""

    MALFORMED = "malformed"  # the IP header, or a source that cannot be one
    OWN = "own"  # our own packet came back: a loop
    TTL = "ttl"
    TRUNCATED = "truncated"  # more or fewer bytes than the count of addresses says
    VERSION = "version"
    TYPE = "type"
    CHECKSUM = "checksum"
    VRID = "vrid"
    DESTINATION = "destination"
    AUTH = "auth"
    INTERVAL = "interval"
    STRANGER = "stranger"  # no node of the configuration
    ADDRESSES = "addresses"


@dataclass(frozen=True, slots=True)
class Advertisement:
    version: int
    vrid: int
    priority: int
    interval: float  # seconds; a multiple of 10 ms, in version 2 whole
    addresses: tuple[Address, ...]
    auth_type: int = NO_AUTH  # version 2 only
    password: bytes = b""  # of authentication type 1, which protects nothing


@dataclass(frozen=True, slots=True)
class Datagram:
    """One IP packet as far as VRRP asks: IPv4 out of `parse_ipv4`, IPv6 out of ancillary data."""

    family: Family
    source: Address
    destination: Address
    ttl: int
    payload: bytes  # by the IP length, without a frame's padding


@dataclass(frozen=True, slots=True)
class Expected:
    """What an advertisement for one virtual router must be like."""

    version: int
    interval: float
    addresses: tuple[Address, ...]
    nodes: Mapping[Address, str]  # who may speak; names by address
    unicast: bool = False
    min_ttl: int = TTL  # lower for routed unicast peers only
    password: bytes | None = None  # version 2 with a simple password


@dataclass(frozen=True, slots=True)
class Listener:
    """What is heard on one interface in one family."""

    family: Family
    own: frozenset[Address]
    routers: Mapping[int, Expected]  # by VRID
    versions: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "versions", frozenset(one.version for one in self.routers.values()))


@dataclass(frozen=True, slots=True)
class Heard:
    """An advertisement that may be obeyed. `drift`: its list of addresses is not ours, though they overlap."""

    advert: Advertisement
    node: str
    source: Address
    form: Form | None  # None where there is only one
    drift: bool


@dataclass(frozen=True, slots=True)
class Dropped:
    reason: Reason
    source: Address | None = None  # None: not even that could be read
    vrid: int | None = None


def parse_ipv4(packet: bytes) -> Datagram | Dropped:
    """The datagram in what a raw IPv4 socket gave: header first. The kernel has checked the header's checksum."""
    if len(packet) < _IPV4_HEAD:
        return Dropped(Reason.MALFORMED)
    first, total, fragment, ttl, protocol = struct.unpack_from("!BxH2xHBB", packet)
    source, destination = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
    head = (first & 15) * 4
    if first >> 4 != 4 or not _IPV4_HEAD <= head <= total <= len(packet) or protocol != PROTOCOL:
        return Dropped(Reason.MALFORMED, source)
    if fragment & _FRAGMENT:
        return Dropped(Reason.MALFORMED, source)
    return Datagram(Family.IPV4, source, destination, ttl, packet[head:total])


def receive(datagram: Datagram, listener: Listener) -> Heard | Dropped:
    """The advertisement, if it passes all checks; else the first reason against it (RFC 9568 §7.1)."""
    payload, source = datagram.payload, datagram.source
    vrid = payload[1] if len(payload) > 1 else None
    expected = listener.routers.get(vrid) if vrid is not None else None
    reason, form = _check_bytes(datagram, listener, expected)
    if reason is not None:
        return Dropped(reason, source, vrid)
    if expected is None:
        return Dropped(Reason.VRID, source, vrid)
    advert = _read(payload, datagram.family)
    reason = _check_meaning(advert, datagram, listener, expected)
    if reason is not None:
        return Dropped(reason, source, vrid)
    drift = set(advert.addresses) != set(expected.addresses)
    return Heard(advert, expected.nodes[source], source, form, drift)


def parse(payload: bytes, family: Family) -> Advertisement | Reason:
    """The advertisement in a VRRP message, by its own measure: no checksum, no expectation."""
    return _check_form(payload, family) or _read(payload, family)


# ---- checks, in order ------------------------------------------------------------------------------------------------


def _check_bytes(
    datagram: Datagram, listener: Listener, expected: Expected | None
) -> tuple[Reason | None, Form | None]:
    """Checks 1 to 5: those that need no knowledge of the virtual router but its version and reach."""
    payload = datagram.payload
    if _is_no_source(datagram.source):
        return Reason.MALFORMED, None
    if datagram.source in listener.own:
        return Reason.OWN, None
    if datagram.ttl < (expected.min_ttl if expected and expected.unicast else TTL):
        return Reason.TTL, None
    if len(payload) < _HEAD or (payload[0] >> 4 in (2, 3) and not _is_whole(payload, datagram.family)):
        return Reason.TRUNCATED, None
    if payload[0] >> 4 not in ((expected.version,) if expected else listener.versions):
        return Reason.VERSION, None
    if reason := _check_form(payload, datagram.family):
        return reason, None
    return _verify(datagram)


def _check_form(payload: bytes, family: Family) -> Reason | None:
    """Checks 3 and 4 for anybody's version."""
    if len(payload) < _HEAD:
        return Reason.TRUNCATED
    version = payload[0] >> 4
    if version not in (2, 3) or (version == 2 and family is Family.IPV6):
        return Reason.VERSION
    if not _is_whole(payload, family):
        return Reason.TRUNCATED
    if payload[0] & 15 != _ADVERTISEMENT:
        return Reason.TYPE
    return None


def _check_meaning(advert: Advertisement, datagram: Datagram, listener: Listener, expected: Expected) -> Reason | None:
    """Checks 7 to 10."""
    destinations = listener.own if expected.unicast else (GROUPS[datagram.family],)
    if datagram.destination not in destinations:
        return Reason.DESTINATION
    if advert.version == 2 and not _is_authentic(advert, expected.password):
        return Reason.AUTH
    if advert.interval <= 0 or (advert.version == 2 and advert.interval != expected.interval):
        return Reason.INTERVAL
    if datagram.source not in expected.nodes:
        return Reason.STRANGER
    if not set(advert.addresses) & set(expected.addresses):
        return Reason.ADDRESSES
    return None


def _is_no_source(source: Address) -> bool:
    """0/8, 127/8, multicast and broadcast send nothing; nor do :: and ::1."""
    if source.is_multicast or source.is_unspecified or source.is_loopback:
        return True
    return source.version == 4 and (source.packed[0] == 0 or source.packed == b"\xff\xff\xff\xff")


def _is_whole(payload: bytes, family: Family) -> bool:
    count, version = payload[3], payload[0] >> 4
    size = 4 if family is Family.IPV4 else 16
    return count >= 1 and len(payload) == _HEAD + count * size + (_AUTH if version == 2 else 0)


def _is_authentic(advert: Advertisement, password: bytes | None) -> bool:
    if password is None:
        return advert.auth_type == NO_AUTH
    return advert.auth_type == PASSWORD and advert.password == password[:_AUTH]


def _verify(datagram: Datagram) -> tuple[Reason | None, Form | None]:
    """The words of the message, checksum included, add up to all ones (RFC 1071 §1)."""
    message, version = datagram.payload, datagram.payload[0] >> 4
    if version == 2:
        return (None, None) if _sums_up(message) else (Reason.CHECKSUM, None)
    ends = datagram.source.packed + datagram.destination.packed
    if datagram.family is Family.IPV6:
        good = _sums_up(ends + struct.pack("!I3xB", len(message), PROTOCOL) + message)
        return (None, None) if good else (Reason.CHECKSUM, None)
    if _sums_up(message):
        return None, Form.MESSAGE
    if _sums_up(ends + struct.pack("!xBH", PROTOCOL, len(message)) + message):
        return None, Form.PSEUDO
    return Reason.CHECKSUM, None


def _sums_up(data: bytes) -> bool:
    """All that is summed has an even length: heads of 8, addresses of 4 or 16."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


def _read(payload: bytes, family: Family) -> Advertisement:
    """The fields of a whole message; the reserved bits are ignored (RFC 9568 §5.2.6)."""
    version, vrid, priority, count = payload[0] >> 4, payload[1], payload[2], payload[3]
    size, kind = (4, IPv4Address) if family is Family.IPV4 else (16, IPv6Address)
    end = _HEAD + count * size
    addresses = tuple(kind(payload[at : at + size]) for at in range(_HEAD, end, size))
    if version == 3:
        centiseconds = int.from_bytes(payload[4:6], "big") & MAX_CENTISECONDS
        return Advertisement(3, vrid, priority, centiseconds / 100, addresses)
    auth_type, interval = payload[4], payload[5]
    password = payload[end:].rstrip(b"\0") if auth_type == PASSWORD else b""
    return Advertisement(2, vrid, priority, float(interval), addresses, auth_type, password)


# ---- building --------------------------------------------------------------------------------------------------------


def build(advert: Advertisement, source: Address, destination: Address, form: Form = Form.MESSAGE) -> bytes:
    """The VRRP message, without an IP header. ValueError for what cannot be said on the wire."""
    _check_sayable(advert)
    first = advert.version << 4 | _ADVERTISEMENT
    if advert.version == 3:
        timing = round(advert.interval * 100).to_bytes(2, "big")
        tail = b""
    else:
        timing = bytes((advert.auth_type, round(advert.interval)))
        tail = advert.password.ljust(_AUTH, b"\0")
    head = bytes((first, advert.vrid, advert.priority, len(advert.addresses))) + timing
    rest = b"".join(address.packed for address in advert.addresses) + tail
    covered = _pseudo(advert, source, destination, form, len(head) + 2 + len(rest)) + head + b"\0\0" + rest
    return head + _checksum(covered).to_bytes(2, "big") + rest


def _check_sayable(advert: Advertisement) -> None:
    if advert.version not in (2, 3) or not 1 <= advert.vrid <= 255 or not 0 <= advert.priority <= 255:
        raise ValueError("version, VRID or priority out of range")
    families = {address.version for address in advert.addresses}
    if len(families) != 1 or len(advert.addresses) > 255 or (advert.version == 2 and families != {4}):
        raise ValueError("an advertisement has 1 to 255 addresses of one family, in version 2 IPv4")
    ticks = advert.interval * 100 if advert.version == 3 else advert.interval
    if abs(ticks - round(ticks)) > 1e-6 or not 1 <= round(ticks) <= (MAX_CENTISECONDS if advert.version == 3 else 255):
        raise ValueError("the interval is 10 ms to 40.95 s in steps of 10 ms, in version 2 whole seconds to 255")
    if len(advert.password) > _AUTH:
        raise ValueError("a password of version 2 has at most 8 bytes")


def _pseudo(advert: Advertisement, source: Address, destination: Address, form: Form, length: int) -> bytes:
    """The pseudo-header of RFC 8200 §8.1, or its IPv4 likeness where the form asks for it; version 2 has none."""
    if advert.version == 2:
        return b""
    if source.version == 6:
        return source.packed + destination.packed + length.to_bytes(4, "big") + b"\0\0\0" + bytes((PROTOCOL,))
    if form is Form.MESSAGE:
        return b""
    return source.packed + destination.packed + bytes((0, PROTOCOL)) + length.to_bytes(2, "big")


def _checksum(data: bytes) -> int:
    """RFC 1071 §1 by other means than the check: 2**16 is 1 modulo 65535, so the sum of words is the remainder."""
    return -int.from_bytes(data, "big") % 0xFFFF
