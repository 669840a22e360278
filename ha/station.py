"""One virtual router's IO on this node: its wire, its announcements, its addresses; commands done, packets read.

It decides nothing. A failure is told back as CommandFailed, a packet that fails a check is counted and changes nothing
(RFC 9568 §7.1). What is sent is built beforehand, once per priority and checksum form. Invariant: whatever happens to
the interface, `will` names every address that may be on it, before it is.
"""

from __future__ import annotations

import errno
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ha import events as e
from ha import orders, packet, raw, timing
from ha.events import AddVip, CommandFailed, DelVip, Form, RefreshVip, SendAdvert, SendGarp
from ha.machine import VirtualRouter
from ha.neighbours import Neighbours
from ha.packet import Advertisement, Dropped, Expected, Heard, Listener
from ha.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.schema import Ha
    from config.units import MonoTime
    from ha.events import Address, Command
    from ha.netlink import Netlink
    from ha.plan import Planned
    from ha.raw import Interface

_ARP: Final = Path("/proc/thread-self/net/arp")


@dataclass(slots=True)
class Counts:
    """Of one virtual router since `ha` has started."""

    sent: int = 0
    received: int = 0
    transitions: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    shouts: Counter[str] = field(default_factory=Counter)
    split_seconds: float = 0.0
    gap: float = 0.0  # the longest between two of our advertisements while Active, since it was last asked for
    changed_at: float = 0.0  # wall time of the last change of state
    outage: float | None = None  # from the last advertisement heard to our claim, the last time


class Station:
    """A virtual router with its sockets; without them while the interface has none of what they need."""

    def __init__(
        self,
        planned: Planned,
        ha: Ha,
        incarnation: int,
        netlink: Netlink,
        addresses: Netlink,
        warn: Callable[[str, str], None],
    ) -> None:
        """`netlink` watches the interface; `addresses` holds ours, on it or on its macvlan."""
        self.name = planned.name
        self.router = VirtualRouter(planned.config, incarnation)
        self.netlink, self.addresses = netlink, addresses
        self.counts = Counts()
        self._ha = ha
        self._warn = warn  # (subject, sentence): one line per minute of each subject
        self._nodes = dict(planned.nodes)
        self._wire: Wire | None = None
        self._neighbours: Neighbours | None = None
        self._adverts: dict[tuple[int, Form], tuple[raw.Prepared, ...]] = {}
        self._asked: frozenset[Address] = frozenset()  # by a probe under way
        self._sent_at: MonoTime | None = None
        self.heard_at: MonoTime | None = None

    # ---- sockets -----------------------------------------------------------------------------------------------------

    @property
    def wire(self) -> Wire | None:
        return self._wire

    @property
    def neighbours(self) -> Neighbours | None:
        return self._neighbours

    def open(self) -> None:
        """Everything is open and built. Raises OSError when the interface does not allow it."""
        self.close()
        config = self.router.config
        self.addresses.prepare(config.addresses, timing.lifetime(config))  # reads the interface anew
        interface = self.netlink.interface
        if interface is None:
            raise OSError(errno.ENODEV, f"there is no interface {config.interface}")
        virtual = self.addresses.interface if self.addresses is not self.netlink else None
        unicast = tuple(self._nodes) if self._ha.unicast else ()
        if self._ha.unicast and not unicast:
            raise OSError(errno.EDESTADDRREQ, "no address of another node is known yet")
        self._wire = Wire(
            interface,
            config.family,
            config.vrid,
            version=config.version,
            unicast=unicast,
            min_ttl=self._ha.min_ttl if self._ha.unicast else 255,
            source=config.source,
            virtual=virtual,
            nodes=tuple(self._nodes),
        )
        self._wire.prepare_addresses([vip.ip for vip in config.addresses], router=_forwards(interface.name))
        watched = {vip.ip for vip in config.addresses} | set(self._nodes)
        self._neighbours = Neighbours(interface, config.family, watched)
        if virtual is not None:
            self._neighbours.ignore(virtual.mac)
        self._listener = self._listen(interface)
        self._adverts.clear()
        for priority in (self.router.priority, e.LET_GO):
            self._advert(SendAdvert(priority, self.router.form))

    def close(self) -> None:
        for one in (self._wire, self._neighbours):
            if one is not None:
                one.close()
        self._wire = self._neighbours = None

    def _listen(self, interface: Interface) -> Listener:
        config = self.router.config
        own = frozenset({one.ip for one in interface.addresses} | {config.source})
        addresses = tuple(vip.ip for vip in config.addresses)
        expected = Expected(
            config.version,
            config.interval,
            addresses,
            dict(self._nodes),
            self._ha.unicast,
            self._ha.min_ttl,
            self._ha.password.encode() or None,
        )
        return Listener(config.family, own, {config.vrid: expected})

    def learn_source(self, node: str, source: Address) -> bool:
        """Whether the link told a source address that was not known: then the sockets are to be opened again."""
        if self._nodes.get(source) == node or source.version != self.router.config.family:
            return False
        if any(known == node for known in self._nodes.values()) and self.router.config.family == e.Family.IPV4:
            return False  # configured: the file counts
        self._nodes = {address: name for address, name in self._nodes.items() if name != node} | {source: node}
        return True

    def reconfigure(self, planned: Planned, ha: Ha) -> None:
        """New values of the same router; sockets are opened again by the caller."""
        learned = {a: n for a, n in self._nodes.items() if n not in planned.nodes.values()}
        self._ha, self._nodes = ha, {**learned, **planned.nodes}
        self._adverts.clear()
        self.addresses.prepare(planned.config.addresses, timing.lifetime(planned.config))
        if self._wire is not None:  # what comes of the change is done before the sockets are opened again
            addresses = [vip.ip for vip in planned.config.addresses]
            self._wire.prepare_addresses(addresses, router=_forwards(planned.config.interface))

    # ---- reading -----------------------------------------------------------------------------------------------------

    def read(self) -> list[e.AdvertReceived]:
        """What has come and may be obeyed: of each source its last advertisement, in the order of arrival."""
        if self._wire is None:
            return []
        found: dict[Address, e.AdvertReceived] = {}
        for received in self._wire.receive():
            heard = (
                received.datagram
                if isinstance(received.datagram, Dropped)
                else packet.receive(received.datagram, self._listener)
            )
            if isinstance(heard, Dropped):
                self._drop(heard)
                continue
            self._note_drift(heard)
            self.counts.received += 1
            self.heard_at = received.at
            advert = heard.advert
            found.pop(heard.source, None)
            found[heard.source] = e.AdvertReceived(
                heard.node, heard.source, advert.priority, advert.interval, received.at, heard.form
            )
        return list(found.values())

    def read_strangers(self) -> None:
        """What came from nobody of the configuration: counted and told, at leisure; most of a flood dies unread."""
        for received in self._wire.strangers() if self._wire is not None else ():
            datagram = received.datagram
            heard = datagram if isinstance(datagram, Dropped) else packet.receive(datagram, self._listener)
            if isinstance(heard, Dropped):
                self._drop(heard)

    def _drop(self, dropped: Dropped) -> None:
        reason = dropped.reason
        self.counts.dropped[reason.value] += 1
        if reason is packet.Reason.OWN:
            return
        if dropped.source is not None and any(dropped.source in network for network in self._ha.others):
            return
        self._warn(
            f"{self.name} {reason.value} {dropped.source}",
            f"{self.name}: advertisement of {dropped.source} dropped: {reason.value}",
        )

    def _note_drift(self, heard: Heard) -> None:
        if heard.drift:
            listed = ", ".join(map(str, heard.advert.addresses))
            self.counts.dropped["addresses-differ"] += 1
            self._warn(f"{self.name} drift", f"{self.name}: {heard.node} has other addresses than we: {listed}")

    def read_claims(self) -> list[e.Event]:
        """What ARP or neighbour discovery says of our addresses: conflicts, and answers to a probe."""
        if self._neighbours is None:
            return []
        found: list[e.Event] = []
        vips = {vip.ip: vip for vip in self.router.config.addresses}
        for claim in self._neighbours.receive():
            if claim.address in self._asked:
                self._asked = frozenset()
                found.append(e.ProbeDone(answered=True))
            if claim.address in vips:
                found.append(e.ConflictSeen(vips[claim.address], claim.mac, self._node_at(claim.mac)))
        return found

    def _node_at(self, mac: str) -> str:
        """The node whose MAC this is, as far as this machine's own ARP table knows; "" if no node's."""
        addresses = {str(address): name for address, name in self._nodes.items()}
        addresses |= {node.address: name for name, node in self._ha.nodes.items()}
        with suppress(OSError):
            for line in _ARP.read_text().splitlines()[1:]:
                columns = line.split()
                if len(columns) > 3 and columns[3] == mac and columns[0] in addresses:
                    return addresses[columns[0]]
        return ""

    # ---- doing -------------------------------------------------------------------------------------------------------

    def do(self, command: Command, now: MonoTime) -> CommandFailed | None:
        """The command is done, or why not. Only those that need our sockets or addresses."""
        try:
            match command:
                case SendAdvert():
                    return self._send(command, now)
                case AddVip(vip, lifetime):
                    self.addresses.add(vip, lifetime)
                case RefreshVip(vip, lifetime):
                    self.addresses.refresh(vip, lifetime)
                case DelVip(vip):
                    self.addresses.delete(vip)
                case SendGarp(vip):
                    return self._announce(command, vip.ip)
                case e.Probe(addresses):
                    self.ask(addresses)
        except OSError as exc:
            return CommandFailed(command, exc.strerror or str(exc))
        return None

    def _send(self, command: SendAdvert, now: MonoTime) -> CommandFailed | None:
        if self._wire is None:
            return CommandFailed(command, "the interface is not there")
        if code := self._wire.send(self._advert(command)):
            return CommandFailed(command, errno.errorcode.get(code, str(code)))
        self.counts.sent += 1
        if command.priority != e.LET_GO:
            if self._sent_at is not None:
                self.counts.gap = max(self.counts.gap, now - self._sent_at)
            self._sent_at = now
        return None

    def left_active(self) -> None:
        self._sent_at = None

    def _advert(self, command: SendAdvert) -> tuple[raw.Prepared, ...]:
        key = (command.priority, command.form)
        if key not in self._adverts:
            assert self._wire is not None
            self._adverts |= {
                (priority, command.form): prepared
                for priority, prepared in self._wire.prepare(self._content(), [command.priority], command.form).items()
            }
        return self._adverts[key]

    def _content(self) -> Advertisement:
        config = self.router.config
        addresses = tuple(vip.ip for vip in config.addresses)
        password = self._ha.password.encode()
        kind = packet.PASSWORD if password else packet.NO_AUTH
        return Advertisement(config.version, config.vrid, config.priority, config.interval, addresses, kind, password)

    def _announce(self, command: SendGarp, address: Address) -> CommandFailed | None:
        if self._wire is None:
            return CommandFailed(command, "the interface is not there")
        code = self._wire.announce([address])
        return CommandFailed(command, errno.errorcode.get(code, str(code))) if code else None

    def ask(self, addresses: tuple[Address, ...]) -> None:
        """Who answers for these is told by `read_claims`."""
        self._asked = frozenset(addresses)
        if self._wire is not None:
            for address in addresses:
                self._wire.probe(address)

    def ask_again(self) -> None:
        """Those who have not answered."""
        self.ask(tuple(self._asked))

    def end_asking(self) -> bool:
        """Whether nobody has answered."""
        unanswered, self._asked = bool(self._asked), frozenset()
        return unanswered

    # ---- telling -----------------------------------------------------------------------------------------------------

    def bequest(self) -> orders.Bequest:
        """What is to be done about our addresses if we cannot do it any more."""
        config = self.router.config
        deletes = tuple(request for vip in config.addresses if (request := self.addresses.prepared_delete(vip)))
        farewells = self._advert(SendAdvert(e.LET_GO, self.router.form)) if self._wire is not None else ()
        return orders.Bequest(self.name, deletes, farewells)

    def drops(self) -> Counter[str]:
        """Advertisements dropped, by the reason; those that the kernel dropped for us too."""
        return self.counts.dropped + (self._wire.drops() if self._wire is not None else Counter())

    def errors(self) -> Counter[str]:
        return Counter(self._wire.errors) if self._wire is not None else Counter()

    def note_change(self, change: e.Changed, now: MonoTime) -> None:
        self.counts.transitions += 1
        self.counts.changed_at = time.time()
        if change.new is e.State.ACTIVE:
            self.counts.outage = None if self.heard_at is None else now - self.heard_at
        else:
            self.left_active()


def _forwards(interface: str) -> bool:
    """Whether this node is an IPv6 router there (RFC 9568 §8.2.4)."""
    with suppress(OSError):
        return Path(f"/proc/sys/net/ipv6/conf/{interface}/forwarding").read_text().strip() == "1"
    return False
