"""What `[ha]` means on this node: who we are, on which interface, and the virtual routers with their neighbours.

Pure, but for the interfaces, which are handed in as the kernel described them. A node knows itself by its address, so
that the same file serves both. Raises PlanError with one sentence for an operator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from config import pair
from config.units import parse_ip
from ha.events import Family, Form, Node, Path, RouterConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from config.schema import Ha
    from ha.events import Address, Vip
    from ha.raw import Interface


class PlanError(Exception):
    """This node cannot do what the configuration asks for."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One virtual router of this node."""

    name: str
    config: RouterConfig
    nodes: Mapping[Address, str]  # who may advertise, as far as it is known beforehand


@dataclass(frozen=True, slots=True)
class Plan:
    ha: Ha
    node: str
    interface: str
    address: Address  # our own, as configured
    routers: tuple[Planned, ...]
    link: tuple[str, int] | None  # where we listen for the other nodes; None: no link
    peers: Mapping[str, tuple[str, int]]  # where they listen


def find_self(ha: Ha, interface_of: Callable[[Address], Interface | None]) -> tuple[str, Interface]:
    """Our name and interface."""
    found = [
        (name, interface)
        for name, node in ha.nodes.items()
        if (interface := interface_of(parse_ip(node.address))) is not None
    ]
    if not found:
        addresses = ", ".join(node.address for node in ha.nodes.values())
        raise PlanError(f"no interface of this machine has the address of a node ({addresses})")
    if len(found) > 1:
        raise PlanError(f"this machine has the addresses of several nodes: {', '.join(name for name, _ in found)}")
    return found[0]


def build(
    ha: Ha,
    digest: str,
    node: str,
    interface: Interface,
    forms: Mapping[str, Form] | None = None,
    service_patience: float = 0.0,
) -> Plan:
    """The plan of this node. `forms`: by router, the checksum form last heard from another node."""
    own = ha.nodes[node]
    linked = ha.secret is not None and len(ha.nodes) > 1
    routers: list[Planned] = []
    sizes: dict[str, int] = {}
    wanted = [(one, family) for one in pair.routers(ha) for family in Family if _vips(one, family)]
    for one, _ in wanted:
        sizes[one.group] = sizes.get(one.group, 0) + 1
    for one, family in wanted:
        source = _source(own.address, interface, family, unicast=ha.unicast)
        priorities = pair.priorities(ha, one)
        others = tuple(
            Node(name, _known(ha, name, family), priorities[name], _path(ha, name, linked=linked))
            for name in ha.nodes
            if name != node
        )
        name = one.name if len({vip.version for vip in one.vips}) == 1 else f"{one.name}-ipv{int(family)}"
        config = RouterConfig(
            interface=own.interface or interface.name,
            vrid=one.vrid,
            family=family,
            addresses=_vips(one, family),
            node=node,
            source=source,
            nodes=others,
            priority=priorities[node],
            interval=float(ha.interval),
            version=ha.version,
            checksum=(forms or {}).get(name, Form(ha.checksum)),
            preempt=ha.preempt,
            preempt_delay=float(ha.preempt_delay),
            service_patience=service_patience,
            garp_refresh=float(ha.garp_refresh),
            link_settle=float(ha.link_settle),
            group=one.group if sizes[one.group] > 1 else "",
            digest=digest,
        )
        nodes = {other.address: other.name for other in others if other.address is not None}
        routers.append(Planned(name, config, nodes))
    peers = {name: (other.link or other.address, ha.link_port) for name, other in ha.nodes.items() if name != node}
    return Plan(
        ha,
        node,
        own.interface or interface.name,
        parse_ip(own.address),
        tuple(routers),
        (own.link or own.address, ha.link_port) if linked else None,
        peers if linked else {},
    )


def _vips(one: pair.Wanted, family: Family) -> tuple[Vip, ...]:
    return tuple(vip for vip in one.vips if vip.version == family)


def _source(address: str, interface: Interface, family: Family, *, unicast: bool) -> Address:
    """Where our advertisements come from: the address that the others know, in IPv6 the link-local one."""
    own = parse_ip(address)
    if own.version == family and (family is Family.IPV4 or unicast):
        return own
    source = interface.primary_address if family is Family.IPV4 else interface.link_local
    if source is None:
        kind = "IPv4" if family is Family.IPV4 else "IPv6 link-local"
        raise PlanError(f"{interface.name} has no {kind} address to advertise from")
    return source


def _known(ha: Ha, name: str, family: Family) -> Address | None:
    """Another node's source address, where the configuration tells it; else the link does."""
    node = ha.nodes[name]
    address = parse_ip(node.address)
    if address.version == family and (family is Family.IPV4 or ha.unicast or address.is_link_local):
        return address
    return parse_ip(node.link_local) if family is Family.IPV6 and node.link_local else None


def _path(ha: Ha, name: str, *, linked: bool) -> Path:
    if not linked:
        return Path.NONE
    return Path.OTHER if ha.nodes[name].link else Path.SAME
