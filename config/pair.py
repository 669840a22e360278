"""The virtual routers that `[ha]` asks for, seen from each node; and what is wrong or doubtful between its options.

Pure. `routers` is the one place where `vip` and `[[ha.router]]` become the same thing, and where a node's priorities
come from: 250 for the preferred node and 10 less for each further one, because what is missing to 256 is what clients
wait for after each resignation (RFC 9568 §6.1, Skew_Time).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from config.faults import Path, quote, suggest
from config.units import parse_ip, parse_vip

if TYPE_CHECKING:
    from ipaddress import IPv4Interface, IPv6Interface

    from config.schema import Ha

OWNER: Final = 255
_FIRST: Final = 250
_STEP: Final = 10
_FINEST: Final = 0.01  # seconds: the interval travels in centiseconds, RFC 9568 §5.2.7
_LONGEST: Final = 40.95
_LONGEST_DELAY: Final = 1000.0
_LONGEST_PASSWORD: Final = 8  # bytes, RFC 2338 §5.3.6.1


class Findings(Protocol):
    def fault(self, path: Path, what: str, hint: str = "") -> None: ...
    def warn(self, path: Path, what: str, hint: str = "") -> None: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """One entry of the configuration: a virtual router of one family or, where it has addresses of both, of each."""

    name: str
    vrid: int
    vips: tuple[IPv4Interface | IPv6Interface, ...]  # in the order of the file: adverts have them so
    group: str  # its own name where the file gives none: the families of one entry move together
    first: str  # the preferred node
    place: Path


def routers(ha: Ha) -> tuple[Wanted, ...]:
    """Every entry, in the order of the file."""
    preferred = next(iter(ha.nodes), "")
    if not ha.router:
        name = f"vip-{ha.vrid}"
        return (Wanted(name, ha.vrid, tuple(map(parse_vip, ha.vip)), name, preferred, ("ha",)),) if ha.vip else ()
    found = []
    for i, one in enumerate(ha.router):
        name = one.name or f"vip-{one.vrid}"
        vips = tuple(map(parse_vip, one.vip))
        found.append(Wanted(name, one.vrid, vips, one.group or name, one.first or preferred, ("ha", "router", i)))
    return tuple(found)


def priorities(ha: Ha, router: Wanted) -> dict[str, int]:
    """The configured priority of each node for this router."""
    order = [router.first, *(name for name in ha.nodes if name != router.first)]
    return {name: ha.nodes[name].priority or max(1, _FIRST - _STEP * n) for n, name in enumerate(order)}


# ---- checks ----------------------------------------------------------------------------------------------------------


def check(found: Findings, ha: Ha) -> None:
    """All that is wrong or doubtful within `[ha]`."""
    _check_nodes(found, ha)
    _check_routers(found, ha)
    _check_times(found, ha)
    for i, track in enumerate(ha.track):
        kinds = [kind for kind in ("interface", "file", "script") if getattr(track, kind)]
        if len(kinds) != 1:
            found.fault(("ha", "track", i), "looks at one of interface, file or script", "make it one for each")
        if track.name in {other.name for other in ha.track[:i]}:
            found.fault(("ha", "track", i, "name"), f"the name {quote(track.name)} is given twice")
    if ha.min_ttl != OWNER and not ha.unicast:
        found.warn(("ha", "min_ttl"), "`min_ttl` has no effect without `unicast`")
    if ha.secret is None and len(ha.nodes) > 1:
        found.warn(
            ("ha",),
            "no `secret`, so no peer link: handovers wait for the skew time, filtered advertisements look like death",
            'make one by `tandem ha key > ha.key` and add secret = { file = "ha.key" } on both nodes',
        )


def _check_nodes(found: Findings, ha: Ha) -> None:
    if not ha.nodes:
        found.fault(("ha", "nodes"), "no node", 'such as a = "192.168.8.4" and b = "192.168.8.6"')
    taken: dict[object, str] = {}
    for name, node in ha.nodes.items():
        for key in ("address", "link"):
            text = getattr(node, key)
            if not text:
                continue
            address = parse_ip(text)
            if taken.get(address, name) != name:
                found.fault(("ha", "nodes", name, key), f"`{address}` belongs to node {quote(taken[address])} already")
            taken.setdefault(address, name)
        if node.link_local and not parse_ip(node.link_local).is_link_local:
            found.fault(("ha", "nodes", name, "link_local"), f"`{node.link_local}` is not link-local (fe80::/10)")
    chosen = [(name, node.priority) for name, node in ha.nodes.items() if node.priority]
    for n, (name, priority) in enumerate(chosen):
        twin = next((other for other, its in chosen[:n] if its == priority), None)
        if twin is None:
            continue
        path: Path = ("ha", "nodes", name, "priority")
        if priority == OWNER:
            found.fault(path, f"node {quote(twin)} is the owner (255) already", "there is one owner of an address")
        else:
            found.warn(path, f"as much as node {quote(twin)} has: the higher address is the better one then")


def _check_routers(found: Findings, ha: Ha) -> None:
    if ha.router and ha.vip:
        found.fault(("ha", "vip"), "either `vip` or [[ha.router]]", "give each router its own `vip`")
    if not ha.router and not ha.vip:
        found.fault(("ha",), "no virtual address", 'add vip = ["192.168.8.100/24"]')
    seen: dict[object, str] = {}
    names: set[str] = set()
    for router in routers(ha):
        if router.name in names:
            found.fault((*router.place, "name"), f"the name {quote(router.name)} is given twice")
        names.add(router.name)
        if not router.vips:
            found.fault((*router.place, "vip"), "no virtual address", "such as `192.168.8.100/24`")
        if router.first not in ha.nodes:
            found.fault(
                (*router.place, "first"), f"no node has the name {quote(router.first)}", suggest(router.first, ha.nodes)
            )
        for version in {vip.version for vip in router.vips}:
            key = (version, router.vrid)
            if key in seen:
                found.fault(
                    (*router.place, "vrid"),
                    f"{router.vrid} is the IPv{version} router {quote(seen[key])} already",
                    "each router has a VRID of its own",
                )
            seen.setdefault(key, router.name)
        for n, vip in enumerate(router.vips):
            if vip.ip in seen:
                found.fault((*router.place, "vip", n), f"`{vip.ip}` belongs to {quote(seen[vip.ip])} already")
            seen.setdefault(vip.ip, router.name)
            _check_vip(found, ha, (*router.place, "vip", n), n, router)


def _check_vip(found: Findings, ha: Ha, path: Path, n: int, router: Wanted) -> None:
    vip = router.vips[n]
    addresses = {name: parse_ip(node.address) for name, node in ha.nodes.items()}
    for name, address in addresses.items():
        if address == vip.ip and ha.nodes[name].priority != OWNER:
            found.fault(path, f"`{vip.ip}` is the own address of node {quote(name)}", "an owner has the priority 255")
    near = [address for address in addresses.values() if address.version == vip.version]
    full = vip.max_prefixlen == vip.network.prefixlen
    if near and not full and not vip.ip.is_link_local and not any(address in vip.network for address in near):
        found.warn(path, f"no node has its address in `{vip.network}`, the network of this virtual address")
    if ha.version == 2 and vip.version == 6:
        found.fault(path, "version 2 knows IPv4 only", "take version = 3")


def _check_times(found: Findings, ha: Ha) -> None:
    steps = ha.interval / _FINEST
    if not _FINEST <= ha.interval <= _LONGEST or abs(steps - round(steps)) > 1e-6:
        found.fault(("ha", "interval"), f"`{ha.interval.text}` cannot be advertised", "10ms to 40s, in steps of 10ms")
    elif ha.version == 2 and not float(ha.interval).is_integer():
        found.fault(("ha", "interval"), "version 2 has whole seconds only", 'such as `"1s"`; version 3 has 10ms')
    if ha.password and ha.version != 2:
        found.fault(
            ("ha", "password"), "only version 2 has a password", "the peer link proves `secret` in every version"
        )
    elif len(ha.password.encode()) > _LONGEST_PASSWORD:
        found.fault(("ha", "password"), f"at most {_LONGEST_PASSWORD} bytes")
    if ha.preempt_delay > _LONGEST_DELAY:
        found.fault(("ha", "preempt_delay"), "at most 1000s")
    if ha.preempt_delay and not ha.preempt:
        found.warn(("ha", "preempt_delay"), "`preempt_delay` has no effect without `preempt`")
