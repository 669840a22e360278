"""Which addresses a client of forward mode may make us connect to (RFC 6890; the IANA special-purpose registries).

Judged on the address connected to, never on a name. Public addresses may be reached, others only if the operator allows
them; an IPv6 address that carries an IPv4 address is judged by both. Our own listeners may never be reached: that would
be a circle. Pure: who has which address now is told by the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

from proxy import errors
from proxy.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from config.units import Destination, Listen

Address = IPv4Address | IPv6Address

# Own tables instead of `ip_address.is_global`, whose answer depends on the release of Python.
# The IPv4 registry: what is not globally reachable, without the exceptions below; and what is no unicast at all.
_IPV4_CLOSED = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "168.63.129.16/32",  # in no registry: a cloud's host and metadata, seen by its machines alone
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",  # withdrawn relays (RFC 7526)
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),
    )
)
_IPV4_OPEN = tuple(map(IPv4Network, ("192.0.0.9/32", "192.0.0.10/32")))  # inside 192.0.0.0/24, globally reachable
# IPv6 the other way round: only this is unicast for everybody (RFC 4291 §2.4), and of it these parts are not.
_IPV6_UNICAST = tuple(map(IPv6Network, ("2000::/3", "64:ff9b::/96")))
_IPV6_CLOSED = tuple(
    map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))  # 6to4 is withdrawn (RFC 7526)
)
_IPV6_OPEN = tuple(
    map(
        IPv6Network,
        (
            "2001:1::1/128",
            "2001:1::2/128",
            "2001:1::3/128",
            "2001:3::/32",
            "2001:4:112::/48",
            "2001:20::/28",
            "2001:30::/28",
        ),
    )
)
_NAT64 = tuple(map(IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48")))  # RFC 6052, RFC 8215
_LOW_96 = tuple(map(IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96")))  # compatible, mapped, translated
_SIX_TO_FOUR = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")
_ISATAP = (0x00005EFE, 0x02005EFE)  # upper half of the interface identifier (RFC 5214 §6.1)
_LOW = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class PublicReach:
    """All public addresses, and what is allowed beside them. `ours` are addresses of this node and its pair that this
    host need not have at the moment; `listeners` what is listened on here.
    """

    allowed: tuple[Destination, ...] = ()
    ours: tuple[Address, ...] = ()
    listeners: tuple[Listen, ...] = ()
    mode: str = ""  # whose permission it is: what was connected under it serves no other mode

    def refusal(self, address: str, port: int, *, here: bool) -> Failure | None:
        """See `exchange.Reach`."""
        if "%" in address:
            return Failure(errors.ADDRESS_REFUSED, f"{address}: an address of one link")
        ip = ip_address(address)
        here = here or ip in self.ours
        if self._is_listener(ip, port, here=here):
            return Failure(errors.LOOP, f"{address} port {port} is this proxy itself")
        faces = (ip, *embedded(ip))
        if all(self._allows(face, port) for face in faces):
            return None
        if here:
            return Failure(errors.ADDRESS_REFUSED, f"{address} belongs to this proxy's own host")
        for face in faces:
            if not is_public(face) and not self._allows(face, port):
                within = "" if face is ip else f", in {address},"
                return Failure(errors.ADDRESS_REFUSED, f"{face}{within} is no public address")
        return None

    def allows(self, address: str, port: int) -> bool:
        """It is named among what is allowed."""
        return self._allows(ip_address(address), port)

    def _allows(self, ip: Address, port: int) -> bool:
        return any(ip in one.network and one.port in {0, port} for one in self.allowed)

    def _is_listener(self, ip: Address, port: int, *, here: bool) -> bool:
        """A wide listener has all addresses of this host; the unspecified address leads to this host too."""
        faces = {ip, *embedded(ip)}
        for listen in self.listeners:
            if listen.port != port:
                continue
            wide = listen.host in {"", "0.0.0.0", "::"}  # noqa: S104 - compared, not bound
            if wide and (here or any(face.is_loopback or face.is_unspecified for face in faces)):
                return True
            if not wide and (ip_address(listen.host) in faces or any(face.is_unspecified for face in faces)):
                return True
        return False


@lru_cache(maxsize=4096)
def is_public(ip: Address) -> bool:
    """Whether this one address, without what it may carry, is reachable by everybody."""
    if isinstance(ip, IPv4Address):
        return not _in(ip, _IPV4_CLOSED) or _in(ip, _IPV4_OPEN)
    return _in(ip, _IPV6_UNICAST) and (not _in(ip, _IPV6_CLOSED) or _in(ip, _IPV6_OPEN))


def _in(ip: Address, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    return any(ip in network for network in networks)


def embedded(ip: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that an IPv6 address carries: where a gateway, or the kernel, would send its packets."""
    if isinstance(ip, IPv4Address):
        return
    number = int(ip)
    if _in(ip, _LOW_96) or _in(ip, _NAT64):
        yield IPv4Address(number & _LOW)
    elif ip in _SIX_TO_FOUR:
        yield IPv4Address(number >> 80 & _LOW)
    elif ip in _TEREDO:
        yield IPv4Address(number >> 64 & _LOW)  # the server
        yield IPv4Address(~number & _LOW)  # the client, every bit turned
    if number >> 32 & _LOW in _ISATAP:
        yield IPv4Address(number & _LOW)
