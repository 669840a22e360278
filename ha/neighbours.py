"""Who on the clients' network says that an address is at a MAC: ARP, and neighbour advertisements of IPv6.

Watches the addresses it was made for, and no others; what a claim means is decided elsewhere. A request or an
announcement is as good a claim as a reply: all of them change the caches of the clients (RFC 826, RFC 4861 §7.2.5).
Invariant: what is read never raises; what does not fit whole into its message is no claim.
"""

from __future__ import annotations

import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from config.units import MonoTime
from ha import raw
from ha.events import Address, Family

if TYPE_CHECKING:
    from collections.abc import Iterable

BATCH: Final = 64
_ARP: Final = 0x0806
_IPV6: Final = 0x86DD
_ARP_HEAD: Final = struct.Struct("!HHBBH6s4s")  # RFC 826, for IPv4 over Ethernet
_ETHERNET, _IPV4 = 1, 0x0800
_TARGET_LINK_LAYER: Final = b"\x02\x01"  # option 2, one unit of 8 bytes: RFC 4861 §4.6.1


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody says that `address` is at `mac`."""

    address: Address
    mac: str
    at: MonoTime


class Neighbours:
    """The claims on one interface about some addresses of one family."""

    def __init__(self, interface: raw.Interface, family: Family, addresses: Iterable[Address]) -> None:
        """Raises OSError."""
        self._wanted = frozenset(addresses)
        self._ours = {interface.mac}
        self._parse = parse_arp if family == Family.IPV4 else parse_advertisement
        program = raw.claims_of(family, sorted(self._wanted, key=int))
        self._socket = raw.open_listener(interface.name, _ARP if family == Family.IPV4 else _IPV6, program)
        self.drops: Counter[str] = Counter()

    def fileno(self) -> int:
        return self._socket.fileno()

    def ignore(self, mac: str) -> None:
        """Claims of this MAC are our own too: the virtual one."""
        self._ours.add(mac)

    def receive(self) -> list[Claim]:
        """The claims since the last call, at most 64 of them."""
        claims = []
        for _ in range(BATCH):
            try:
                data, (*_, sender) = self._socket.recvfrom(2048)
            except BlockingIOError:
                break
            except OSError:  # the interface went down, or is gone: netlink tells
                self.drops["error"] += 1
                break
            claim = self._parse(data, sender)
            if claim is None or claim[0] not in self._wanted:
                self.drops["malformed"] += 1
            elif claim[1] not in self._ours:
                claims.append(Claim(*claim, MonoTime(time.monotonic())))
        return claims

    def close(self) -> None:
        self._socket.close()


def parse_arp(data: bytes, _sender: bytes = b"") -> tuple[Address, str] | None:
    """The address and the MAC of the sender of an ARP packet, or None if it is no ARP for IPv4 over Ethernet."""
    if len(data) < 28:
        return None
    hardware, protocol, hardware_size, protocol_size, operation, mac, address = _ARP_HEAD.unpack_from(data)
    if (hardware, protocol, hardware_size, protocol_size) != (_ETHERNET, _IPV4, 6, 4) or operation not in {1, 2}:
        return None
    return IPv4Address(address), mac.hex(":")


def parse_advertisement(data: bytes, sender: bytes = b"") -> tuple[Address, str] | None:
    """The target of a neighbour advertisement with its MAC, or None if RFC 4861 §7.1.2 says that it is none.

    Without the option that names the MAC it is the one that the frame came from.
    """
    if len(data) < 64 or data[0] >> 4 != 6 or data[6] != socket.IPPROTO_ICMPV6 or data[7] != 255:
        return None
    end = 40 + int.from_bytes(data[4:6])
    if end > len(data) or end < 64 or data[40:42] != b"\x88\x00":
        return None
    target = IPv6Address(data[48:64])
    place = 64
    while place + 8 <= end:
        if data[place : place + 2] == _TARGET_LINK_LAYER:
            return target, data[place + 2 : place + 8].hex(":")
        if data[place + 1] == 0:
            return None
        place += data[place + 1] * 8
    return (target, sender.hex(":")) if len(sender) == 6 and sender != bytes(6) else None
