"""What came for an address while nobody had it, handed on to who has it now: so a move loses no connection.

Before an address leaves, no connection to it begins here any more (`orders.gate`); those who try are not refused, their
first segments wait here. When the other node announces the address, they are sent to its MAC, and so is what clients
send us until they have heard the announcement too. Invariants: what was answered here is not handed on as new; at most
MOST segments wait; nothing goes back to where it came from, so two nodes never send it to and fro.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from ha import raw
from ha.events import Address, Family

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST: Final = 512
_TYPES: Final = {Family.IPV4: 0x0800, Family.IPV6: 0x86DD}
_SYN, _ACK = 0x02, 0x10

Flow = tuple[Address, bytes]  # whom it was sent to; source address and port


@dataclass(frozen=True, slots=True)
class Segment:
    flow: Flow
    begins: bool  # a connection
    packet: bytes  # from the IP header on
    sender: bytes  # the MAC that it came from


@dataclass(slots=True)
class Waiting:
    """The segments that nobody has answered. Pure."""

    left: bool = False  # the addresses are not ours any more
    held: dict[Flow, list[Segment]] = field(default_factory=dict)
    count: int = 0

    def note(self, segment: Segment) -> None:
        """Until the addresses have left, only what begins a connection waits, and a flow that goes on was answered."""
        if not self.left and not segment.begins:
            self.count -= len(self.held.pop(segment.flow, ()))
        elif self.count < MOST:
            self.held.setdefault(segment.flow, []).append(segment)
            self.count += 1

    def take(self, address: Address) -> list[Segment]:
        """What waits for this address, and waits no more."""
        flows = [flow for flow in self.held if flow[0] == address]
        segments = [segment for flow in flows for segment in self.held.pop(flow)]
        self.count -= len(segments)
        return segments


class Relay:
    """For some addresses on one interface, from when it is made until it is closed."""

    def __init__(self, interface: raw.Interface, family: Family, addresses: Iterable[Address]) -> None:
        """Raises OSError."""
        self._family = family
        self.addresses = frozenset(addresses)
        self._mac = bytes.fromhex(interface.mac.replace(":", ""))
        self._waiting = Waiting()
        self._macs: dict[Address, bytes] = {}
        self.handed_on = 0
        self._sender = raw.open_frames(interface.name)
        try:
            self._listener = raw.open_listener(interface.name, _TYPES[family], raw.segments_to(family, self.addresses))
        except BaseException:
            self._sender.close()
            raise

    def fileno(self) -> int:
        return self._listener.fileno()

    def close(self) -> None:
        self._listener.close()
        self._sender.close()

    def leave(self) -> None:
        """The addresses are taken off the interface now."""
        self.read()
        self._waiting.left = True

    def follow(self, address: Address, mac: str) -> None:
        """Somebody else has this address."""
        if self._waiting.left:
            self._macs[address] = bytes.fromhex(mac.replace(":", ""))
            self.read()

    def read(self) -> None:
        """What has come waits, or is handed on."""
        for _ in range(MOST):
            try:
                packet, (*_, sender) = self._listener.recvfrom(65536)
            except OSError:  # nothing more; or the interface is gone: netlink tells
                break
            segment = parse(packet, sender)
            if segment is not None:
                self._waiting.note(segment)
        for address, mac in self._macs.items():
            for segment in self._waiting.take(address):
                if segment.sender != mac:
                    self._hand_on(segment.packet, mac)

    def _hand_on(self, packet: bytes, mac: bytes) -> None:
        frame = mac + self._mac + _TYPES[self._family].to_bytes(2, "big") + with_checksum(packet)
        try:
            self._sender.send(frame)
        except OSError:  # several segments in one, joined by the kernel: of a connection that is lost anyway
            return
        self.handed_on += 1


def parse(packet: bytes, sender: bytes = b"") -> Segment | None:
    """None if it is no whole TCP header without extension headers of IPv6: then it is lost, as any packet may be."""
    place = _place_of_tcp(packet)
    if place is None:
        return None
    if packet[0] >> 4 == 4:
        source, address = packet[12:16], packet[16:20]
        destination: Address = IPv4Address(address)
    else:
        source, address = packet[8:24], packet[24:40]
        destination = IPv6Address(address)
    begins = packet[place + 13] & (_SYN | _ACK) == _SYN
    return Segment((destination, source + packet[place : place + 2]), begins, packet, sender)


def _place_of_tcp(packet: bytes) -> int | None:
    if len(packet) < 20:
        return None
    version, place = packet[0] >> 4, (packet[0] & 15) * 4
    if version == 6:
        place = 40
        if len(packet) < place or packet[6] != socket.IPPROTO_TCP:
            return None
    elif version != 4 or place < 20 or packet[9] != socket.IPPROTO_TCP or packet[6] & 0x3F or packet[7]:
        return None  # fragments have no header to go by
    return place if len(packet) >= place + 20 else None


def with_checksum(packet: bytes) -> bytes:
    """The packet with its TCP checksum made anew: one from this very machine may have left it to a network card."""
    place = _place_of_tcp(packet)
    assert place is not None, "`parse` lets nothing else through"
    version = packet[0] >> 4
    end = int.from_bytes(packet[2:4], "big") if version == 4 else 40 + int.from_bytes(packet[4:6], "big")
    tcp = packet[place:end]
    ends = packet[12:20] if version == 4 else packet[8:40]
    covered = ends + len(tcp).to_bytes(4, "big") + bytes((0, 0, 0, socket.IPPROTO_TCP)) + tcp[:16] + b"\0\0" + tcp[18:]
    if len(covered) % 2:
        covered += b"\0"
    total = -int.from_bytes(covered, "big") % 0xFFFF  # RFC 1071 §1: 2**16 is 1 modulo 65535
    return packet[: place + 16] + total.to_bytes(2, "big") + packet[place + 18 : end]
