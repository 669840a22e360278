"""The addresses and the state of one interface: changed by prepared netlink bytes, watched through pyroute2.

A virtual address is added for a lifetime and refreshed: nobody alive to refresh it, the kernel removes it. Requests are
encoded when they are prepared, so that taking an address costs one system call, here or in whoever else has the bytes.
Watching compares what the kernel has with what we hold: only a difference is told, never our own doing.
Invariants: an address is in `held` exactly from a successful `add` to `delete`; no route of a subnet is ever ours.
"""

from __future__ import annotations

import asyncio
import errno
import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import TYPE_CHECKING, Any, Final

from pyroute2 import AsyncIPRoute
from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTM_DELADDR, RTM_NEWADDR, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR, RTMGRP_LINK
from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_NODAD, IFA_F_NOPREFIXROUTE, ifaddrmsg

from ha import raw
from ha.events import Family, Vip
from ha.raw import Interface
from ha.rtnl import Assigned, Kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ha.events import Address

_GROUPS: Final = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR
_VIRTUAL_MAC: Final = {Family.IPV4: "00:00:5e:00:01", Family.IPV6: "00:00:5e:00:02"}  # RFC 9568 §7.3
_GENERATE_NONE: Final = 1  # IN6_ADDR_GEN_MODE_NONE: no link-local address of its own
_VIRTUAL_NAME: Final = re.compile(r"vrrp[46]-[0-9]+-[0-9]+")
_NOT_THERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.ENODEV})
_REOPEN: Final = 0.1  # seconds before a watch that failed begins anew


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """The interface came, went, gained or lost its carrier, or has other addresses of its own."""

    interface: Interface | None  # None: there is none of this name


@dataclass(frozen=True, slots=True)
class AddressChanged:
    """Somebody else removed an address that we held (it is not held any more), or there is one that we do not hold."""

    vip: Vip
    present: bool


Change = LinkChanged | AddressChanged


class Netlink:
    """The virtual addresses of one interface; `alone`: the interface is a macvlan and has no others."""

    def __init__(self, name: str, *, alone: bool = False) -> None:
        self.name = name
        self.held: set[Vip] = set()
        self._alone = alone
        self._kernel = Kernel()
        self._lifetimes: dict[Vip, int] = {}
        self._requests: dict[tuple[str, Vip], bytes] = {}
        self._unexpected: set[Vip] = set()
        self._focused = -1  # the index of the interface that the watch hears of; 0: of new ones
        self.interface = self._read()

    def close(self) -> None:
        self._kernel.close()

    # ---- what there is -----------------------------------------------------------------------------------------------

    def interface_of(self, address: Address) -> Interface | None:
        """The interface that has an address of this node."""
        return self._kernel.interface_of(address)

    def _assigned(self) -> list[Assigned]:
        return self._kernel.assigned(self.interface.index) if self.interface is not None else []

    def _read(self) -> Interface | None:
        """The interface with its own addresses only."""
        found = self._kernel.interface(self.name)
        if found is None:
            return None
        virtual = {vip.ip for vip in self._lifetimes}
        own = tuple(one for one in found.addresses if one.ip not in virtual)
        return Interface(found.name, found.index, found.mac, found.up, own)

    # ---- taking and leaving ------------------------------------------------------------------------------------------

    def prepare(self, vips: Iterable[Vip], lifetime: int) -> None:
        """The requests for these addresses are ready, with this lifetime in whole seconds."""
        for vip in vips:
            self._lifetimes[vip] = lifetime
        self.interface = self._read()
        self._encode()

    def forget(self, vip: Vip) -> None:
        """The address is no virtual one any more. It is not held."""
        assert vip not in self.held
        self._lifetimes.pop(vip, None)
        self._unexpected.discard(vip)
        self.interface = self._read()
        self._encode()

    def _encode(self) -> None:
        self._requests.clear()
        interface = self.interface
        if interface is None:
            return
        for vip, lifetime in self._lifetimes.items():
            fitted = fit(vip, () if self._alone else interface.addresses)
            self._requests["add", vip] = encode_add(interface.index, fitted, lifetime)
            self._requests["delete", vip] = encode_delete(interface.index, fitted)

    def add(self, vip: Vip, lifetime: int) -> None:
        """The address is on the interface and held, for `lifetime` seconds from now. Raises OSError."""
        self._set(vip, lifetime)
        self.held.add(vip)
        self._unexpected.discard(vip)

    def refresh(self, vip: Vip, lifetime: int) -> None:
        """As `add`: an address that has gone meanwhile comes back. Raises OSError."""
        self.add(vip, lifetime)

    def _set(self, vip: Vip, lifetime: int) -> None:
        if self._lifetimes.get(vip) != lifetime:
            self.prepare([vip], lifetime)
        code = self._order("add", vip)
        if code:
            raise OSError(code, f"cannot add {vip} to {self.name}: {errno.errorcode.get(code, code)}")

    def delete(self, vip: Vip) -> bool:
        """The address is off the interface, and not held. False if it was not there. Raises OSError."""
        self.held.discard(vip)
        self._unexpected.discard(vip)
        code = self._order("delete", vip)
        if code in _NOT_THERE:  # or there with another prefix length, by somebody else
            return bool([self._remove(one) for one in self._assigned() if one.vip.ip == vip.ip])
        if code:
            raise OSError(code, f"cannot remove {vip} from {self.name}: {errno.errorcode.get(code, code)}")
        return True

    def prepared_delete(self, vip: Vip) -> bytes:
        """The netlink request that removes the address, for any plain socket; empty while there is no interface.

        It names the interface by its index: another one is wanted after LinkChanged. The kernel acknowledges it.
        """
        return self._requests.get(("delete", vip), b"")

    def _order(self, what: str, vip: Vip) -> int:
        request = self._requests.get((what, vip))
        return errno.ENODEV if request is None else self._kernel.order(request)

    def _remove(self, one: Assigned) -> int:
        return self._kernel.order(encode_delete(one.index, one.vip))

    def remove_leftovers(self, addresses: Iterable[Address], keep: Iterable[Address] = ()) -> list[Vip]:
        """What was there of these addresses, on any interface; it is gone. `keep`: the node's own."""
        unwanted = set(addresses) - set(keep)
        found = [one for one in self._kernel.assigned(0) if one.vip.ip in unwanted]
        return [one.vip for one in found if self._remove(one) == 0]

    # ---- watching ----------------------------------------------------------------------------------------------------

    async def watch(self, callback: Callable[[Change], None]) -> None:
        """Tells changes until it is cancelled, first those since the last look.

        What the kernel has is read anew each time, so that a lost message loses nothing; what concerns other interfaces
        is not even heard, for a machine that starts a hundred containers would keep this loop busy with it.
        """
        while True:
            async with AsyncIPRoute() as kernel:
                try:
                    await kernel.bind(groups=_GROUPS)
                    self._focused = -1
                    self._follow(kernel, callback)
                    while True:
                        batch = [self._concerns_us(message) async for message in kernel.get()]
                        if any(batch):
                            self._follow(kernel, callback)
                except (OSError, NetlinkError):  # messages lost (ENOBUFS), or the socket
                    self.look(callback)
            await asyncio.sleep(_REOPEN)

    def _follow(self, kernel: AsyncIPRoute, callback: Callable[[Change], None]) -> None:
        """Looks, and again if it was another interface that the kernel told of until now."""
        self.look(callback)
        while self._focused != (index := self.interface.index if self.interface is not None else 0):
            raw.attach(kernel, raw.messages_about(index))
            self._focused = index
            self.look(callback)

    def _concerns_us(self, message: Any) -> bool:
        """Whether something may have changed; our own refreshes come by here four times a lifetime."""
        if message.get("event") in {"RTM_NEWLINK", "RTM_DELLINK"}:
            return bool(message.get_attr("IFLA_IFNAME") == self.name or self._is_ours(message))
        if not self._is_ours(message):
            return False
        address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        return message.get("event") != "RTM_NEWADDR" or address not in {str(vip.ip) for vip in self.held}

    def _is_ours(self, message: Any) -> bool:
        return self.interface is not None and message.get("index") == self.interface.index

    def look(self, callback: Callable[[Change], None]) -> None:
        """Tells what is other than at the last look."""
        before, self.interface = self.interface, self._read()
        if before != self.interface:
            self._encode()
            callback(LinkChanged(self.interface))
        present = {one.vip.ip for one in self._assigned()}
        for vip in [vip for vip in self.held if vip.ip not in present]:
            self.held.discard(vip)
            callback(AddressChanged(vip, present=False))
        self._unexpected = {vip for vip in self._unexpected if vip.ip in present}
        for vip in [vip for vip in self._lifetimes if vip.ip in present and vip not in self.held | self._unexpected]:
            self._unexpected.add(vip)
            callback(AddressChanged(vip, present=True))


async def add_virtual_mac(parent: Interface, vrid: int, family: Family) -> str:
    """The name of a new macvlan with the virtual router's MAC (RFC 9568 §7.3); it is up. Raises OSError.

    It hears nothing of its host, and its host nothing of it (private mode), so that only frames to that MAC reach it.
    """
    name = virtual_name(vrid, family, parent.index)
    async with AsyncIPRoute() as kernel:
        try:
            await _remove_link(kernel, name)
            await kernel.link(
                "add",
                ifname=name,
                kind="macvlan",
                link=parent.index,
                macvlan_mode="private",
                address=f"{_VIRTUAL_MAC[family]}:{vrid:02x}",
            )
            index = socket.if_nametoindex(name)
            inet6 = {"attrs": [["IFLA_INET6_ADDR_GEN_MODE", _GENERATE_NONE]]}
            await kernel.link("set", index=index, IFLA_AF_SPEC={"attrs": [["AF_INET6", inet6]]})
            await kernel.link("set", index=index, state="up")
        except NetlinkError as exc:
            raise OSError(exc.code, f"cannot make {name} on {parent.name}: {exc}") from exc
    return name


async def remove_virtual_mac(name: str) -> None:
    """There is no such macvlan. Raises OSError; ValueError for a name that `virtual_name` never gives."""
    if not _VIRTUAL_NAME.fullmatch(name):
        raise ValueError(f"{name} is no macvlan of ours")
    async with AsyncIPRoute() as kernel:
        try:
            await _remove_link(kernel, name)
        except NetlinkError as exc:
            raise OSError(exc.code, f"cannot remove {name}: {exc}") from exc


def virtual_name(vrid: int, family: Family, index: int) -> str:
    """The parent's index is in it, since a VRID may be used on several interfaces; 15 characters have room for 9999."""
    return f"vrrp{int(family)}-{index % 10000}-{vrid}"


async def _remove_link(kernel: AsyncIPRoute, name: str) -> None:
    try:
        index = socket.if_nametoindex(name)
    except OSError:
        return
    await kernel.link("del", index=index)


def fit(vip: Vip, own: Iterable[Vip]) -> Vip:
    """The address with the prefix length it is added with: that of the file in the node's own subnet, else of a host.

    With a prefix of its own it would bring a route, and deleting the first address of a subnet deletes the others.
    """
    if any(one.network == vip.network for one in own):
        return vip
    return IPv4Interface(f"{vip.ip}/32") if isinstance(vip, IPv4Interface) else IPv6Interface(f"{vip.ip}/128")


def encode_add(index: int, vip: Vip, lifetime: int) -> bytes:
    """RTM_NEWADDR for a number of seconds, for a new address as for one that is there.

    IPv6: no detection of duplicates, which would take 1.7 s; deprecated from the start, so that it is no source; and no
    prefix route, for the kernel would make the one that the node has end with this lifetime.
    """
    message = _begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, index, vip)
    preferred = lifetime if isinstance(vip, IPv4Interface) else 0
    message["attrs"].append(
        ("IFA_CACHEINFO", {"ifa_preferred": preferred, "ifa_valid": lifetime, "cstamp": 0, "tstamp": 0})
    )
    if isinstance(vip, IPv6Interface):
        message["attrs"].append(("IFA_FLAGS", IFA_F_NODAD | IFA_F_NOPREFIXROUTE))
    return _finish(message)


def encode_delete(index: int, vip: Vip) -> bytes:
    """RTM_DELADDR; of IPv4 whatever the prefix length is."""
    return _finish(_begin(RTM_DELADDR, 0, index, vip))


def _begin(kind: int, flags: int, index: int, vip: Vip) -> Any:
    message = ifaddrmsg()
    message["header"] = {"type": kind, "flags": NLM_F_REQUEST | NLM_F_ACK | flags, "sequence_number": 0, "pid": 0}
    message["family"] = socket.AF_INET if vip.version == 4 else socket.AF_INET6
    message["prefixlen"] = vip.network.prefixlen
    message["index"] = index
    message["attrs"] = [("IFA_LOCAL", str(vip.ip))]
    if vip.version == 6 or kind == RTM_NEWADDR:
        message["attrs"].append(("IFA_ADDRESS", str(vip.ip)))
    return message


def _finish(message: Any) -> bytes:
    message.encode()
    return bytes(message.data)
