"""What the kernel is asked for so that clients' connections come to us: one nftables table, and for tproxy a route.

Pure: values in, text out. The table is ours alone (`inet tandem`, with the kernel's owner flag), so no rule of anybody
else is read or touched, and it is gone when its owner is. Invariants: nothing that this host sends itself is taken
(only packets that come in from a client's interface are looked at); what is for this host itself is not taken; the
ports that we listen on serve nobody who came to them by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from config.schema import Network, Transparent

TABLE: Final = "inet tandem"
TRIAL: Final = "inet tandem_trial"  # for a dry run: the kernel lets nobody but its owner look even so far at the other
MARK: Final = 0x0040_0000  # one bit, so that marks of others stay what they are
ROUTES: Final = 7453  # number of the routing table, and priority of the rule that leads there


@dataclass(frozen=True, slots=True)
class Interception:
    """Whose connections are taken, which of them, and to which ports of ours they go."""

    tproxy: bool  # else redirect
    interfaces: tuple[str, ...]
    clients: tuple[Network, ...]
    spared_clients: tuple[Network, ...]
    spared: tuple[Network, ...]  # destinations that are reached directly
    ports: tuple[tuple[tuple[int, ...], int], ...]  # (destination ports, our port)
    closed: bool = False  # what is to be taken goes nowhere while nobody listens
    refuse_quic: tuple[int, ...] = ()  # UDP ports by which HTTPS would pass unseen

    @property
    def families(self) -> tuple[int, ...]:
        """4, 6 or both: those of the clients."""
        return tuple(sorted({network.version for network in self.clients}))


def interception(config: Transparent) -> Interception:
    """What the configuration asks for."""
    splices = config.https == "splice"
    ports = [(config.http_ports, config.port)]
    if splices:
        ports.append((config.https_ports, config.https_port))
    return Interception(
        config.method == "tproxy",
        config.interface,
        config.clients,
        config.exempt_clients,
        config.exempt,
        tuple(ports),
        config.fail == "closed",
        config.https_ports if splices and config.refuse_quic else (),
    )


def table(wanted: Interception, name: str = TABLE) -> str:
    """The whole table, to be put in place as one transaction."""
    body = [
        "flags owner",
        *_sets("clients", wanted.clients),
        *_sets("spared_clients", wanted.spared_clients),
        *_sets("spared", wanted.spared),
        *_chain("intercept", _hook(wanted), _intercept(wanted)),
        *_chain("ports", "type filter hook input priority filter", _ports(wanted)),
    ]
    if wanted.refuse_quic:
        body += _chain("quic", "type filter hook forward priority filter", _quic(wanted))
    return _table(body, name)


def farewell(wanted: Interception) -> str:
    """The table that takes nothing new, and lets what has been taken go on."""
    # An empty chain of the kind nat has its use: without any, the kernel translates nothing any more, old or new.
    body = ["flags owner", *_chain("intercept", _hook(wanted), [_known()] if wanted.tproxy else [])]
    body += _chain("ports", "type filter hook input priority filter", _ports(wanted))
    return _table(body)


def removal() -> str:
    return f"delete table {TABLE}\n"


def route_commands(wanted: Interception) -> list[str]:
    """What `ip` would be told for the packets that tproxy takes: a rule for the mark, and a route to this host."""
    if not wanted.tproxy:
        return []
    commands = []
    for family, every in ((4, "0.0.0.0/0"), (6, "::/0")):
        if family in wanted.families:
            rule = f"rule add fwmark {MARK:#x}/{MARK:#x} lookup {ROUTES} priority {ROUTES}"
            commands += [f"ip -{family} {rule}", f"ip -{family} route add local {every} dev lo table {ROUTES}"]
    return commands


# ---- parts of the table ----------------------------------------------------------------------------------------------


def _table(body: Iterable[str], name: str = TABLE) -> str:
    return "\n".join([f"table {name} {{", *(f"  {line}" for line in body), "}", ""])


def _known() -> str:
    """What belongs to a connection that we have: of a client, or of an origin that answers to a client's address."""
    return f"meta l4proto tcp socket transparent 1 meta mark set {_marked()} accept"


def _sets(name: str, networks: Sequence[Network]) -> Iterator[str]:
    """One set for each family, sorted and joined, so that equal configurations give equal text."""
    four = collapse_addresses(n for n in networks if isinstance(n, IPv4Network))
    six = collapse_addresses(n for n in networks if isinstance(n, IPv6Network))
    for family, kind, members in ((4, "ipv4_addr", list(four)), (6, "ipv6_addr", list(six))):
        elements = f" elements = {{ {', '.join(map(str, members))} }}" if members else ""
        yield f"set {name}{family} {{ type {kind}; flags interval;{elements} }}"


def _chain(name: str, hook: str, rules: Iterable[str]) -> Iterator[str]:
    yield f"chain {name} {{"
    yield f"  {hook}; policy accept;"
    for rule in rules:
        yield f"  {rule}"
    yield "}"


def _hook(wanted: Interception) -> str:
    return (
        "type filter hook prerouting priority mangle" if wanted.tproxy else "type nat hook prerouting priority dstnat"
    )


def _intercept(wanted: Interception) -> Iterator[str]:
    tproxy = wanted.tproxy
    if tproxy:
        yield _known()
    yield f"iifname != {_names(wanted.interfaces)} return"
    yield "fib daddr type local return"
    yield from _spare()
    for ports, ours in wanted.ports:
        for family, word in _FAMILIES:
            if family in wanted.families:
                to = f"tproxy {word} to :{ours} meta mark set {_marked()} accept" if tproxy else f"redirect to :{ours}"
                match = f"{word} saddr @clients{family} tcp dport {_ports_set(ports)} counter"
                yield f"{match} {to}"
                if tproxy and wanted.closed:  # without a listener the rule above does not apply
                    yield f"{match} reject with tcp reset"


def _spare() -> Iterator[str]:
    """Clients and destinations that are left alone."""
    for family, word in _FAMILIES:
        yield f"{word} saddr @spared_clients{family} return"
        yield f"{word} daddr @spared{family} return"


def _ports(wanted: Interception) -> Iterator[str]:
    """Our ports are no proxy for who comes by name: what was taken is told by its translation or its own port."""
    if not wanted.tproxy:
        yield "ct status dnat accept"
    yield f"tcp dport {_ports_set(tuple(ours for _, ours in wanted.ports))} counter reject with tcp reset"


def _quic(wanted: Interception) -> Iterator[str]:
    yield f"iifname != {_names(wanted.interfaces)} return"
    yield from _spare()
    for family, word in _FAMILIES:
        if family in wanted.families:
            yield f"{word} saddr @clients{family} udp dport {_ports_set(wanted.refuse_quic)} counter reject"


_FAMILIES: Final = ((4, "ip"), (6, "ip6"))


def _marked() -> str:
    return f"meta mark or {MARK:#010x}"


def _names(interfaces: Sequence[str]) -> str:
    quoted = ", ".join(f'"{name}"' for name in interfaces)
    return f"{{ {quoted} }}"


def _ports_set(ports: Sequence[int]) -> str:
    return f"{{ {', '.join(map(str, ports))} }}"
