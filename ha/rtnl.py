"""Requests to the kernel's routing tables over a plain netlink socket, and its answers; standard library only.

What is asked comes as bytes (`netlink.py` encodes them); what is read here is what must be known at once, without
waiting for the loop: which addresses an interface has, and whether it is up. The kernel answers within the call, so
a blocking socket never waits for anybody but the kernel's own lock.
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from typing import TYPE_CHECKING, Final

from ha.raw import Interface

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ha.events import Address, Vip

# linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h, linux/if_link.h
_SOL_NETLINK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 270, 11, 12
_REQUEST, _ACK, _DUMP, _DUMP_INTERRUPTED = 0x01, 0x04, 0x300, 0x10
_ERROR, _DONE = 2, 3
_NEWLINK, _GETLINK, _NEWADDR, _GETADDR = 16, 18, 20, 22
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _IFLA_ADDRESS, _IFLA_IFNAME = 1, 2, 8, 1, 3
_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_SECONDARY, _DAD_FAILED, _TENTATIVE = 0x01, 0x08, 0x40

_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_IFADDRMSG: Final = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_IFINFOMSG: Final = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ATTRIBUTE: Final = struct.Struct("=HH")
_RETRIES: Final = 5  # of a dump that a change interrupted


@dataclass(frozen=True, slots=True)
class Assigned:
    """An address on an interface."""

    index: int
    vip: Vip
    flags: int

    @property
    def usable(self) -> bool:
        """IPv6: duplicate address detection is over, and found nobody."""
        return not self.flags & (_TENTATIVE | _DAD_FAILED) or self.vip.version == 4

    @property
    def secondary(self) -> bool:
        return self.vip.version == 4 and bool(self.flags & _SECONDARY)


class Kernel:
    """A netlink socket for questions and orders, one at a time."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        self._socket.settimeout(1)
        self._socket.bind((0, 0))

    def close(self) -> None:
        self._socket.close()

    def order(self, request: bytes) -> int:
        """0, or the errno with which the kernel refused. The request asks for an acknowledgement."""
        self._socket.send(request)
        while True:
            for kind, flags, body in _messages(self._socket.recv(65536)):
                if kind == _ERROR and not flags & _REQUEST:
                    return -int(struct.unpack_from("=i", body)[0])

    def interface(self, name: str) -> Interface | None:
        """The interface of this name with its usable addresses, or None."""
        label = name.encode() + b"\0"
        return self._interface(0, _ATTRIBUTE.pack(_ATTRIBUTE.size + len(label), _IFLA_IFNAME) + label)

    def _interface(self, index: int, attribute: bytes = b"") -> Interface | None:
        answer = self._link(index, attribute)
        if answer is None:
            return None
        _, _, index, flags, _ = _IFINFOMSG.unpack_from(answer)
        attributes = dict(_attributes(answer[_IFINFOMSG.size :]))
        name, mac = attributes[_IFLA_IFNAME].rstrip(b"\0").decode(), attributes.get(_IFLA_ADDRESS, b"")
        up = flags & (_IFF_UP | _IFF_LOWER_UP) == _IFF_UP | _IFF_LOWER_UP
        # Primary ones first: the first IPv4 address is the source of advertisements.
        found = sorted((one for one in self.assigned(index) if one.usable), key=lambda one: one.secondary)
        return Interface(name, index, mac.hex(":"), up, tuple(one.vip for one in found))

    def interface_of(self, address: Address) -> Interface | None:
        """The interface that has the address, or None."""
        for one in self.assigned(0):
            if one.vip.ip == address:
                return self._interface(one.index)
        return None

    def assigned(self, index: int) -> list[Assigned]:
        """The addresses of an interface, or with index 0 of all."""
        request = _HEADER.pack(24, _GETADDR, _REQUEST | _DUMP, 0, 0) + _IFADDRMSG.pack(0, 0, 0, 0, index)
        for _ in range(_RETRIES):
            try:
                return [one for body in self._dump(request, _NEWADDR) if (one := _assigned(body)) is not None]
            except InterruptedError:
                continue
        raise OSError(errno.EBUSY, "the kernel's list of addresses changes faster than it can be read")

    def _link(self, index: int, attribute: bytes) -> bytes | None:
        body = _IFINFOMSG.pack(0, 0, index, 0, 0) + attribute + bytes(-len(attribute) % 4)
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), _GETLINK, _REQUEST, 0, 0) + body)
        for kind, _, answer in _messages(self._socket.recv(65536)):
            if kind == _NEWLINK:
                return answer
        return None

    def _dump(self, request: bytes, wanted: int) -> Iterator[bytes]:
        self._socket.send(request)
        interrupted = False
        while True:
            for kind, flags, body in _messages(self._socket.recv(65536)):
                interrupted = interrupted or bool(flags & _DUMP_INTERRUPTED)
                if kind == wanted:
                    yield body
                elif kind == _DONE and interrupted:
                    raise InterruptedError
                elif kind == _DONE:
                    return
                elif kind == _ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    if code == errno.ENODEV:  # there is no interface of this index any more
                        return
                    raise OSError(code, f"netlink: {errno.errorcode.get(code, code)}")


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, flags and content of each message."""
    place = 0
    while place + _HEADER.size <= len(data):
        length, kind, flags, _, _ = _HEADER.unpack_from(data, place)
        if length < _HEADER.size:
            return
        yield kind, flags, data[place + _HEADER.size : place + length]
        place += length + (-length % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, place)
        if length < _ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, data[place + _ATTRIBUTE.size : place + length]
        place += length + (-length % 4)


def _assigned(body: bytes) -> Assigned | None:
    family, prefix, flags, _, index = _IFADDRMSG.unpack_from(body)
    found = dict(_attributes(body[_IFADDRMSG.size :]))
    packed = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)  # of a point-to-point link the latter is the other end
    if family not in {socket.AF_INET, socket.AF_INET6} or packed is None:
        return None
    wide = found.get(_IFA_FLAGS)
    flags = struct.unpack("=I", wide)[0] if wide else flags
    return Assigned(index, ip_interface(f"{ip_address(packed)}/{prefix}"), flags)
