"""The sockets under the wire: raw ones for advertisements, packet ones for whole frames, and the filters on them.

Standard library only, so that whoever cleans up after a dead process can send what that one prepared without loading
what built it. Nothing here knows what an advertisement says, but where its version and VRID stand (RFC 9568 §5.2).
Invariant: a socket has its filter before it can have read anything, so nothing comes through that the filter drops.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from ha.events import Address, Family, Vip

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Instruction: TypeAlias = tuple[int, int, int, int]  # code, jump if true, jump if false, operand

VRRP: Final = 112
_GROUPS: Final = {Family.IPV4: "224.0.0.18", Family.IPV6: "ff02::12"}  # RFC 9568 §5.1.1.2, §5.1.2.2

# Not in the socket module of 3.11.
_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27
_SO_MEMINFO: Final = 55
SO_TIMESTAMPNS_NEW: Final = 64
_IP_MTU_DISCOVER, _IP_PMTUDISC_DO, _IP_MULTICAST_ALL = 10, 2, 49
_IPV6_MULTICAST_ALL: Final = 29
_NETWORK_CONTROL: Final = 0xC0  # the class of routing protocols, as every other VRRP speaker sends it
_NEW_LINK: Final = 16  # RTM_NEWLINK
_METER: Final = 32 * 2**10  # bytes, the kernel doubles them: about 80 packets
_PRIORITY: Final = 6  # queueing disciplines send it before the answers of the proxy; 7 would need NET_ADMIN
_PACKET_KIND: Final = 0xFFFFF004  # SKF_AD_OFF + SKF_AD_PKTTYPE: 0 is what was sent to our own MAC
_NET_OFFSET: Final = 0xFFF00000  # SKF_NET_OFF: counted from the network header, wherever the socket's data begins

# Classic BPF, linux/filter.h.
_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE = 0x20, 0x28, 0x30
_LOAD_BYTE_AT_X, _LOAD_HEADER_LENGTH = 0x50, 0xB1
_AND, _JUMP, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x54, 0x05, 0x15, 0x35, 0x06
_SYN, _SYN_ACK = 0x02, 0x12  # flags of TCP, in byte 13
_PASS: Final = (_RETURN, 0, 0, 0xFFFF)
_DROP: Final = (_RETURN, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface as the kernel described it at one time."""

    name: str
    index: int
    mac: str
    up: bool  # switched on and with carrier
    addresses: tuple[Vip, ...] = ()  # usable ones of the node itself, primary ones first

    @property
    def primary_address(self) -> IPv4Address | None:
        """The source of IPv4 advertisements (RFC 9568 §1.7): the first address, which is no secondary one."""
        return next((one.ip for one in self.addresses if isinstance(one, IPv4Interface)), None)

    @property
    def link_local(self) -> IPv6Address | None:
        """The source of IPv6 advertisements (RFC 9568 §5.1.2.1)."""
        return next((one.ip for one in self.addresses if isinstance(one, IPv6Interface) and one.is_link_local), None)


@dataclass(frozen=True, slots=True)
class Prepared:
    """One advertisement to one destination, ready to leave: any process with NET_RAW may send it."""

    interface: str
    source: str
    destination: str
    payload: bytes  # what follows the IP header
    frame: bytes = b""  # the whole Ethernet frame; not empty: sent as it is, for its source is a virtual MAC


def send_once(prepared: Prepared) -> None:
    """The advertisement is on its way, over a socket made for it. Raises OSError."""
    if prepared.frame:
        with open_frames(prepared.interface) as frames:
            frames.send(prepared.frame)
        return
    with open_sender(prepared.interface, prepared.source) as sender:
        sender.sendto(prepared.payload, destination_of(prepared))


def destination_of(prepared: Prepared) -> tuple[str, int] | tuple[str, int, int, int]:
    """What `sendto` wants: a link-local address means something on its interface only."""
    if ":" not in prepared.destination:
        return prepared.destination, 0
    return prepared.destination, 0, 0, socket.if_nametoindex(prepared.interface)


def open_sender(interface: str, source: str) -> socket.socket:
    """A socket that sends VRRP from this address with TTL 255 (RFC 9568 §5.1.1.3) and hears nothing. Raises OSError."""
    domain = socket.AF_INET6 if ":" in source else socket.AF_INET
    sender = socket.socket(domain, socket.SOCK_RAW | socket.SOCK_NONBLOCK, VRRP)
    try:
        attach(sender, [_DROP])
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, _PRIORITY)
        if domain == socket.AF_INET6:
            _prepare_sender6(sender, interface, source)
        else:
            _prepare_sender4(sender, interface, source)
    except BaseException:
        sender.close()
        raise
    return sender


def _prepare_sender4(sender: socket.socket, interface: str, source: str) -> None:
    where = struct.pack("=4s4si", bytes(4), socket.inet_aton(source), socket.if_nametoindex(interface))
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, where)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _NETWORK_CONTROL)
    sender.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, _PRIORITY)  # IP_TOS has changed it
    sender.bind((source, 0))


def _prepare_sender6(sender: socket.socket, interface: str, source: str) -> None:
    index = socket.if_nametoindex(interface)
    sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
    sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
    sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _NETWORK_CONTROL)
    sender.bind((source, 0, 0, index))


def open_receiver(interface: str, family: Family, program: list[Instruction], *, group: bool) -> socket.socket:
    """A socket that gets the VRRP packets of one family that `program` lets through. Raises OSError.

    `group`: those to the multicast group too.
    """
    domain = socket.AF_INET6 if family == Family.IPV6 else socket.AF_INET
    receiver = socket.socket(domain, socket.SOCK_RAW | socket.SOCK_NONBLOCK, VRRP)
    try:
        attach(receiver, [_DROP])  # until it is bound to the interface it would hear all of them
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS_NEW, 1)
        if family == Family.IPV6:
            receiver.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
            receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            receiver.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        if group:
            _join(receiver, interface, family)
        attach(receiver, program)
    except BaseException:
        receiver.close()
        raise
    return receiver


def open_meter(interface: str, family: Family, program: list[Instruction]) -> socket.socket:
    """A receiver that is there to count more than to be read: it has little room. Raises OSError."""
    meter = open_receiver(interface, family, program, group=False)
    meter.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _METER)
    level, option = (
        (socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL) if family == Family.IPV6 else (socket.IPPROTO_IP, _IP_MULTICAST_ALL)
    )
    meter.setsockopt(level, option, 1)  # the group is joined by the socket beside it
    return meter


def open_frames(interface: str) -> socket.socket:
    """A socket that sends whole Ethernet frames and hears nothing. Raises OSError."""
    frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    try:
        frames.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, _PRIORITY)
        frames.bind((interface, 0))
    except BaseException:
        frames.close()
        raise
    return frames


def open_listener(interface: str, protocol: int, program: list[Instruction]) -> socket.socket:
    """A socket that gets packets of one Ethernet protocol that `program` lets through, from the network header on."""
    listener = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
    try:
        attach(listener, program)
        listener.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS_NEW, 1)
        listener.bind((interface, protocol))
    except BaseException:
        listener.close()
        raise
    return listener


def overflow(receiver: socket.socket) -> int:
    """How many packets this socket had no room for, since it was made."""
    words = receiver.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36)
    return int(struct.unpack_from("=I", words, 32)[0])  # SK_MEMINFO_DROPS


def _join(receiver: socket.socket, interface: str, family: Family) -> None:
    index = socket.if_nametoindex(interface)
    if family == Family.IPV6:
        request = struct.pack("=16sI", socket.inet_pton(socket.AF_INET6, _GROUPS[Family.IPV6]), index)
        receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
    else:
        request = struct.pack("=4s4si", socket.inet_aton(_GROUPS[Family.IPV4]), bytes(4), index)
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)


class Attachable(Protocol):
    """A socket, or what hands its options on to one."""

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None: ...


def attach(one: Attachable, program: list[Instruction]) -> None:
    """The kernel drops for this socket what `program` says."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
    one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(code)))


def detach(one: socket.socket) -> None:
    """Nothing is dropped for this socket any more; without a filter nothing happens."""
    with suppress(FileNotFoundError):
        one.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def adverts_of(family: Family, version: int, vrid: int, min_ttl: int) -> list[Instruction]:
    """Passes what has at least this TTL, and the version of VRRP and the VRID."""
    return [*_unless_right(family, version, vrid, min_ttl), _PASS]


def adverts_from(
    nodes: Iterable[Address], family: Family, version: int, vrid: int, min_ttl: int
) -> tuple[list[Instruction], list[Instruction]]:
    """Two programs that share what `adverts_of` passes: what comes from one of the nodes, and the rest."""
    right = _unless_right(family, version, vrid, min_ttl)
    from_nodes = [one for node in nodes for one in _if_address(node, _SOURCE, _PASS)]
    from_others = [one for node in nodes for one in _if_address(node, _SOURCE, _DROP)]
    return [*right, *from_nodes, _DROP], [*right, *from_others, _PASS]


def _unless_right(family: Family, version: int, vrid: int, min_ttl: int) -> list[Instruction]:
    checks = _checks(family, version, vrid, min_ttl)
    return [one for load, test, operand in checks for one in (*load, (test, 1, 0, operand), _DROP)]


_SOURCE: Final = {4: 12, 6: 8}  # where it stands in the header
_DESTINATION: Final = {4: 16, 6: 24}


def _if_address(address: Address, where: Mapping[int, int], verdict: Instruction) -> list[Instruction]:
    """The verdict for what has this address there; for the rest the program goes on behind it."""
    start = where[address.version]
    words = [int.from_bytes(address.packed[at : at + 4]) for at in range(0, len(address.packed), 4)]
    block: list[Instruction] = []
    for place, word in enumerate(words):
        to_the_end = 2 * (len(words) - place) - 1  # the tests that are left, and the verdict
        block += [(_LOAD_WORD, 0, 0, _NET_OFFSET + start + 4 * place), (_IF_EQUAL, 0, to_the_end, word)]
    return [*block, verdict]


def all_but_new_connections(addresses: Iterable[Address]) -> list[Instruction]:
    """For a listening TCP socket: drops what would begin a connection to one of the addresses, as if it were lost.

    A connection inherits the program of its listener, and so must not be harmed by it: only what has SYN alone is.
    """
    listed = tuple(addresses)
    blocks = [
        [one for address in listed if address.version == version for one in _if_address(address, _DESTINATION, _DROP)]
        for version in (4, 6)
    ]
    return [
        *((_LOAD_BYTE, 0, 0, 13), (_AND, 0, 0, _SYN_ACK), (_IF_EQUAL, 1, 0, _SYN), _PASS),
        *((_LOAD_BYTE, 0, 0, _NET_OFFSET), (_AND, 0, 0, 0xF0), (_IF_EQUAL, 1, 0, 0x40)),
        (_JUMP, 0, 0, len(blocks[0]) + 1),
        *(*blocks[0], _PASS),
        *(*blocks[1], _PASS),
    ]


def segments_to(family: Family, addresses: Iterable[Address]) -> list[Instruction]:
    """For a packet socket: passes TCP for one of the addresses that came to our own MAC."""
    protocol = 9 if family == Family.IPV4 else 6
    return [
        *((_LOAD_WORD, 0, 0, _PACKET_KIND), (_IF_EQUAL, 1, 0, 0), _DROP),
        *((_LOAD_BYTE, 0, 0, protocol), (_IF_EQUAL, 1, 0, socket.IPPROTO_TCP), _DROP),
        *(one for address in addresses for one in _if_address(address, _DESTINATION, _PASS)),
        _DROP,
    ]


def rejects_of(family: Family, version: int, vrid: int, min_ttl: int) -> dict[str, list[Instruction]]:
    """Programs that pass what `adverts_of` drops, told apart by the first check that fails."""
    programs = {}
    passed: list[Instruction] = []
    for name, (load, test, operand) in zip(
        ("ttl", "version", "vrid"), _checks(family, version, vrid, min_ttl), strict=True
    ):
        programs[name] = [*passed, *load, (test, 0, 1, operand), _DROP, _PASS]
        passed += [*load, (test, 1, 0, operand), _DROP]
    return programs


def _checks(
    family: Family, version: int, vrid: int, min_ttl: int
) -> list[tuple[list[Instruction], int, int]]:  # how to load, the test, its operand
    ttl = (_LOAD_BYTE, 0, 0, 8 if family == Family.IPV4 else _NET_OFFSET + 7)
    return [
        ([ttl], _IF_AT_LEAST, min_ttl),
        ([*_load_message(family, 0), (_AND, 0, 0, 0xF0)], _IF_EQUAL, version << 4),
        (_load_message(family, 1), _IF_EQUAL, vrid),
    ]


def claims_of(family: Family, addresses: list[Address]) -> list[Instruction]:
    """Passes ARP (4) whose sender is one of the addresses, or neighbour advertisements (6) that may be for one."""
    if family == Family.IPV4:
        start: list[Instruction] = [(_LOAD_WORD, 0, 0, 14)]
        wanted = [int(address) for address in addresses]
    else:
        advertisement = ((6, socket.IPPROTO_ICMPV6), (40, 136))  # next header, ICMP type
        start = [
            *(one for at, value in advertisement for one in ((_LOAD_BYTE, 0, 0, at), (_IF_EQUAL, 1, 0, value), _DROP)),
            (_LOAD_WORD, 0, 0, 60),  # the last word of the target; the reader compares all of it
        ]
        wanted = [int(address) & 0xFFFFFFFF for address in addresses]
    return [*start, *(one for word in wanted for one in ((_IF_EQUAL, 0, 1, word), _PASS)), _DROP]


def messages_about(index: int) -> list[Instruction]:
    """Passes netlink messages about the links and addresses of one interface; with index 0 those about new links.

    Both kinds have the index at the same place, in the order of this machine's bytes.
    """
    if index:
        wanted = int.from_bytes(struct.pack("=I", index))
        return [(_LOAD_WORD, 0, 0, 20), (_IF_EQUAL, 0, 1, wanted), _PASS, _DROP]
    return [(_LOAD_HALF, 0, 0, 4), (_IF_EQUAL, 0, 1, int.from_bytes(struct.pack("=H", _NEW_LINK))), _PASS, _DROP]


def _load_message(family: Family, offset: int) -> list[Instruction]:
    """The data of a raw IPv4 socket begin with the IP header, those of an IPv6 one behind it."""
    if family == Family.IPV6:
        return [(_LOAD_BYTE, 0, 0, offset)]
    return [(_LOAD_HEADER_LENGTH, 0, 0, 0), (_LOAD_BYTE_AT_X, 0, 0, offset)]
