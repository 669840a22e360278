"""Advertisements, announcements and probes of one virtual router on its interface: built by scapy, sent as they are.

Building takes scapy half a millisecond, so it happens when the content changes, never when a packet is due; each
interval sends bytes. What is received is handed on with its arrival: the checks of RFC 9568 §7.1 are `packet.py`'s,
but three of them (TTL, version, VRID) the kernel makes beforehand, and what fails there is counted here.
Invariant: nothing in here raises for what the network does; a failed send is a number, a malformed packet a count.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from scapy.layers.inet import IP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vrrp import VRRP, VRRPv3
from scapy.utils import checksum

from config.units import MonoTime
from ha import raw
from ha.events import Address, Family, Form
from ha.packet import GROUPS, Advertisement, Datagram, Dropped, Reason, parse_ipv4

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from scapy.packet import Packet

    from ha.raw import Interface, Prepared

BATCH: Final = 64  # packets of one turn of the loop: timers come first
_BROADCAST: Final = "ff:ff:ff:ff:ff:ff"
_ALL_NODES: Final = "ff02::1"
_GROUP_MAC: Final = {Family.IPV4: "01:00:5e:00:00:12", Family.IPV6: "33:33:00:00:00:12"}
_NO_MAC: Final = "00:00:00:00:00:00"
_STAMP: Final = struct.Struct("=qq")
_NO_FAULT: Final = frozenset({errno.ECONNREFUSED})  # a unicast peer whose daemon is down: protocol unreachable


@dataclass(frozen=True, slots=True)
class Received:
    """One packet: `packet.receive` says what may be believed of it, unless it was no whole datagram."""

    datagram: Datagram | Dropped
    at: MonoTime  # its arrival by the kernel's stamp


class Wire:
    """One virtual router's sockets. Its interface, source and nodes are fixed: when they change, open another one."""

    def __init__(
        self,
        interface: Interface,
        family: Family,
        vrid: int,
        *,
        version: int = 3,
        unicast: Sequence[Address] = (),
        nodes: Sequence[Address] = (),
        min_ttl: int = 255,
        source: Address | None = None,
        virtual: Interface | None = None,
    ) -> None:
        """Everything is open. `unicast`: the nodes, instead of the group; `virtual`: the macvlan of a virtual MAC.

        `nodes`: what others send is kept apart, in `strangers`; none: it is all in `receive`.
        Raises OSError; also (EADDRNOTAVAIL) if the interface has no address of this family to send from.
        """
        sender = source or (interface.primary_address if family == Family.IPV4 else interface.link_local)
        if sender is None:
            raise OSError(errno.EADDRNOTAVAIL, f"{interface.name} has no IPv{int(family)} address to send from")
        self.interface, self.family, self.vrid = interface, family, vrid
        self.source: Address = sender
        self.destinations = tuple(map(str, unicast)) or (str(GROUPS[family]),)
        self.errors: Counter[str] = Counter()  # of sending, by their names
        self._announcer = virtual or interface
        # Without the group there is no MAC of a group either: such advertisements go as the interface sends them.
        self._virtual = virtual if virtual is not None and not unicast else None
        self._frames_of: dict[Address, bytes] = {}
        self._probes_of: dict[Address, bytes] = {}
        self._drained = time.monotonic()
        self._filtered: Counter[str] = Counter()
        with ExitStack() as opened:
            open_with = partial(_entered, opened)
            program, strange = raw.adverts_of(family, version, vrid, min_ttl), None
            if nodes:
                program, strange = raw.adverts_from(nodes, family, version, vrid, min_ttl)
            # The meters first: what comes between the two is counted twice rather than not at all.
            self._meters = {
                name: open_with(raw.open_meter(interface.name, family, rejected))
                for name, rejected in raw.rejects_of(family, version, vrid, min_ttl).items()
            }
            self._strangers = open_with(raw.open_meter(interface.name, family, strange)) if strange else None
            self._receiver = open_with(raw.open_receiver(interface.name, family, program, group=not unicast))
            self._sender = open_with(raw.open_sender(interface.name, str(sender)))
            self._frames = open_with(raw.open_frames(self._announcer.name))
            self._prober = open_with(raw.open_frames(interface.name))
            self._opened = opened.pop_all()

    def close(self) -> None:
        self._opened.close()

    def fileno(self) -> int:
        """Readable when `receive` has something to tell."""
        return self._receiver.fileno()

    # ---- advertisements ----------------------------------------------------------------------------------------------

    def prepare(
        self, advert: Advertisement, priorities: Iterable[int], form: Form = Form.MESSAGE
    ) -> dict[int, tuple[Prepared, ...]]:
        """For each priority the advertisement to each destination. Half a millisecond each: not for the loop's turn."""
        return {
            priority: tuple(self._prepare(replace(advert, priority=priority), one, form) for one in self.destinations)
            for priority in priorities
        }

    def _prepare(self, advert: Advertisement, destination: str, form: Form) -> Prepared:
        payload = build_advert(advert, self.source, destination, form)
        prepared = raw.Prepared(self.interface.name, str(self.source), destination, payload)
        if self._virtual is None:
            return prepared
        mac = Ether(src=self._virtual.mac, dst=_GROUP_MAC[self.family])
        frame = bytes(mac / build_header(self.source, destination) / payload)
        return replace(prepared, interface=self._virtual.name, frame=frame)

    def send(self, prepared: Iterable[Prepared]) -> int:
        """0, or the errno of the last that did not leave; each is counted in `errors`."""
        failure = 0
        for one in prepared:
            try:
                if one.frame:
                    self._frames.send(one.frame)
                else:
                    self._sender.sendto(one.payload, self._where(one.destination))
            except OSError as error:
                failure = self._count(error) or failure
        return failure

    def _where(self, destination: str) -> tuple[str, int] | tuple[str, int, int, int]:
        return (destination, 0) if self.family == Family.IPV4 else (destination, 0, 0, self.interface.index)

    def _count(self, error: OSError) -> int:
        number = error.errno or errno.EIO
        if number in _NO_FAULT:
            return 0
        self.errors[errno.errorcode.get(number, str(number))] += 1
        return number

    def receive(self) -> list[Received]:
        """What has come, oldest first, at most 64 of them; there may be more when it is as many."""
        self._read_meters()
        begun = time.monotonic()
        packets = self._read(self._receiver, begun)
        if len(packets) < BATCH:
            self._drained = begun
        return packets

    def strangers(self) -> list[Received]:
        """What came from no node and passes the kernel's checks, at most 64: to be asked every second or so.

        They have a socket of their own, with little room: a flood of them costs nothing, and displaces no node's words.
        """
        if self._strangers is None:
            return []
        return self._read(self._strangers, time.monotonic())

    def _read(self, receiver: socket.socket, begun: float) -> list[Received]:
        to_monotonic = begun - time.time()  # the kernel stamps packets with the wall clock
        packets: list[Received] = []
        for _ in range(BATCH):
            try:
                data, ancillary, _, sender = receiver.recvmsg(2048, 256)
            except BlockingIOError:
                break
            except OSError as error:  # the interface went away: netlink tells
                self._count(error)
                break
            # Nothing that was there when the socket was last empty can still come, whatever the wall clock did since.
            at = MonoTime(min(max(_stamp(ancillary, begun, to_monotonic), self._drained), begun))
            packets.append(Received(self._datagram(data, ancillary, sender[0]), at))
        return packets

    def _datagram(self, data: bytes, ancillary: list[tuple[int, int, bytes]], sender: str) -> Datagram | Dropped:
        return parse_ipv4(data) if self.family == Family.IPV4 else parse_ipv6(data, ancillary, sender)

    def drops(self) -> Counter[str]:
        """What never came out of `receive`, by the reason: `ttl`, `version`, `vrid`, `overflow`, `stranger-overflow`.

        To be asked every second or so, then a flood of one kind is not counted as another.
        """
        self._read_meters()
        found = Counter({name: n + raw.overflow(self._meters[name]) for name, n in self._filtered.items()})
        found["overflow"] += raw.overflow(self._receiver)
        if self._strangers is not None:
            found["stranger-overflow"] = raw.overflow(self._strangers)
        return found

    def _read_meters(self) -> None:
        """Makes room in them: recent kernels count for a full socket before they ask its filter."""
        for name, meter in self._meters.items():
            self._filtered[name] += _drain(meter)

    # ---- ARP and neighbour discovery ---------------------------------------------------------------------------------

    def prepare_addresses(self, addresses: Iterable[Address], *, router: bool = False) -> None:
        """`announce` and `probe` find these built. `router`: this node forwards IPv6 (RFC 9568 §8.2.4)."""
        for address in addresses:
            self._frames_of[address] = build_announcement(address, self._announcer.mac, router=router)
            self._probes_of[address] = build_probe(address, self.source, self.interface.mac)

    def announce(self, addresses: Iterable[Address]) -> int:
        """One gratuitous ARP or unsolicited NA each; 0, or the last errno. The addresses were prepared."""
        return self._send_frames(self._frames, (self._frames_of[address] for address in addresses))

    def probe(self, address: Address) -> int:
        """One ARP request or neighbour solicitation; who answers is heard by `Neighbours`. 0, or the errno."""
        if address not in self._probes_of:
            self._probes_of[address] = build_probe(address, self.source, self.interface.mac)
        return self._send_frames(self._prober, (self._probes_of[address],))

    def _send_frames(self, through: socket.socket, frames: Iterable[bytes]) -> int:
        failure = 0
        for frame in frames:
            try:
                through.send(frame)
            except OSError as error:
                failure = self._count(error) or failure
        return failure


def build_header(source: Address, destination: str) -> IP | IPv6:
    """The IP header that our raw sockets send (RFC 9568 §5.1); scapy fills in the rest."""
    if isinstance(source, IPv4Address):
        return IP(src=str(source), dst=destination, ttl=255, tos=0xC0, flags="DF", id=0, proto=raw.VRRP)
    return IPv6(src=str(source), dst=destination, hlim=255, tc=0xC0, nh=raw.VRRP)


def build_advert(advert: Advertisement, source: Address, destination: str, form: Form) -> bytes:
    """The message of RFC 9568 §5.2 (or RFC 3768 §5.3), with its checksum; what follows the IP header."""
    header = build_header(source, destination)
    payload = bytes(header / _message(advert))[20 if advert.addresses[0].version == 4 else 40 :]
    if advert.version == 3 and isinstance(source, IPv4Address) and form is Form.MESSAGE:  # scapy knows the other one
        return payload[:6] + struct.pack("!H", checksum(payload[:6] + bytes(2) + payload[8:])) + payload[8:]
    return payload


def _message(advert: Advertisement) -> Packet:
    addresses = [str(address) for address in advert.addresses]
    if advert.version == 3:
        ticks = round(advert.interval * 100)  # centiseconds, RFC 9568 §5.2.7
        return VRRPv3(vrid=advert.vrid, priority=advert.priority, adv=ticks, addrlist=addresses)
    first, second = struct.unpack("!II", advert.password.ljust(8, b"\0"))
    return VRRP(
        vrid=advert.vrid,
        priority=advert.priority,
        adv=round(advert.interval),
        addrlist=addresses,
        authtype=advert.auth_type,
        auth1=first,
        auth2=second,
    )


def build_announcement(address: Address, mac: str, *, router: bool = False) -> bytes:
    """A gratuitous ARP request (RFC 9568 §6.4.1), or an unsolicited NA with S=0, O=1 (RFC 9568 §8.2.2, §8.2.4)."""
    if isinstance(address, IPv4Address):
        arp = ARP(op=1, hwsrc=mac, psrc=str(address), hwdst=_NO_MAC, pdst=str(address))
        return bytes(Ether(src=mac, dst=_BROADCAST) / arp)
    advertisement = ICMPv6ND_NA(R=int(router), S=0, O=1, tgt=str(address)) / ICMPv6NDOptDstLLAddr(lladdr=mac)
    header = IPv6(src=str(address), dst=_ALL_NODES, hlim=255)
    return bytes(Ether(src=mac, dst="33:33:00:00:00:01") / header / advertisement)


def build_probe(address: Address, source: Address, mac: str) -> bytes:
    """An ARP request for the address, or a neighbour solicitation to its solicited-node group (RFC 4861 §4.3)."""
    if isinstance(address, IPv4Address):
        arp = ARP(op=1, hwsrc=mac, psrc=str(source), hwdst=_NO_MAC, pdst=str(address))
        return bytes(Ether(src=mac, dst=_BROADCAST) / arp)
    last = address.packed[-3:]
    group = IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:13] + last)
    header = IPv6(src=str(source), dst=str(group), hlim=255)
    solicitation = ICMPv6ND_NS(tgt=str(address)) / ICMPv6NDOptSrcLLAddr(lladdr=mac)
    return bytes(Ether(src=mac, dst=f"33:33:ff:{last.hex(':')}") / header / solicitation)


def parse_ipv6(data: bytes, ancillary: list[tuple[int, int, bytes]], sender: str) -> Datagram | Dropped:
    """The datagram, with hop limit and destination as the kernel tells them beside it."""
    told = {kind: value for level, kind, value in ancillary if level == socket.IPPROTO_IPV6}
    source = IPv6Address(sender.partition("%")[0])
    limit, info = told.get(socket.IPV6_HOPLIMIT), told.get(socket.IPV6_PKTINFO)
    if limit is None or info is None:
        return Dropped(Reason.MALFORMED, source)
    return Datagram(Family.IPV6, source, IPv6Address(info[:16]), int.from_bytes(limit, sys.byteorder), data)


def _stamp(ancillary: list[tuple[int, int, bytes]], otherwise: float, to_monotonic: float) -> float:
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == raw.SO_TIMESTAMPNS_NEW:
            seconds, nanoseconds = _STAMP.unpack(value)
            return float(seconds + nanoseconds / 1e9 + to_monotonic)
    return otherwise


def _drain(meter: socket.socket) -> int:
    for count in range(BATCH):
        try:
            meter.recv(1)
        except OSError:
            return count
    return BATCH


def _entered(stack: ExitStack, one: socket.socket) -> socket.socket:
    return stack.enter_context(one)
