"""Access control: who may reach what, how and when. First match decides; pure, and compiled once per configuration.

A rule is one bit. Each dimension of a question (client, user, domain, address, port, method, time) gives the bits of
the rules that it leaves possible; the lowest bit of all of them together is the rule that decides, so a decision costs
the same for one rule and for a hundred. What cannot be known yet is a verdict of its own: who it is (`Login`), and
which address the name has (`ByAddress`). What a mode refuses for other reasons (ports, private networks) is not
decided here. Invariants: an unlisted client is denied whatever the rules say; a rule that only reports decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from functools import reduce
from ipaddress import ip_address
from operator import or_
from typing import TYPE_CHECKING, NamedTuple, Protocol

from proxy.modes.reverse import is_in

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence
    from time import struct_time

    from config.schema import Config, Match, Network, Rule

LIST = "list:"
WEEK = 7 * 24 * 60  # minutes
_QUARTER = 15  # minutes; clocks are set forward and back, and zones differ, by whole quarters of an hour
_KNOWN_CLIENTS = 4096  # addresses whose rules are remembered
_KNOWN_PORTS = 256  # likewise


class Why(Enum):
    """Why somebody is denied, where it is no rule."""

    RULE = "rule"
    CLIENT = "client"  # its address is not served
    DEFAULT = "default"  # no rule allows it


@dataclass(frozen=True, slots=True)
class Allow:
    rule: str = ""  # its name; "" where no rule matched
    reports: tuple[str, ...] = ()  # rules on trial that would have denied


@dataclass(frozen=True, slots=True)
class Deny:
    why: Why = Why.RULE
    rule: str = ""
    list: str = ""  # name of the list that has the destination
    entry: str = ""  # the name in it, or in the rule, that the destination is or is below of
    reports: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Login:
    """Nobody has logged in, and it depends on who it is."""

    rule: str = ""  # the one that wants to know


@dataclass(frozen=True, slots=True)
class Step:
    """What a rule leads to if the address is in one of these networks."""

    networks: tuple[Network, ...]  # none: any address
    leads_to: Allow | Deny | None  # None: it reports
    rule: str


@dataclass(frozen=True, slots=True)
class ByAddress:
    """The address that the name turns out to have decides. Equal ones decide equally."""

    steps: tuple[Step, ...]
    last: Allow | Deny
    reports: tuple[str, ...] = ()  # of rules before them

    def judge(self, address: str) -> Allow | Deny:
        """What this address leads to; text of an IP address, mapped IPv4 counting as IPv4."""
        reports = self.reports
        for step in self.steps:
            if not step.networks or is_in(address, step.networks):
                if step.leads_to is not None:
                    return _with_reports(step.leads_to, reports)
                reports = (*reports, step.rule)
        return _with_reports(self.last, reports)


Verdict = Allow | Deny | Login | ByAddress


class Question(NamedTuple):
    client: str  # text of its IP address
    user: str  # "": nobody has logged in
    host: str  # name in lower case without the root's dot, or IP address without brackets
    port: int
    method: str
    minute: int  # of the week in the node's local time: `minute_of_week`


class Names(Protocol):
    """A list of names (modes/domains.py)."""

    def find(self, parents: Sequence[str]) -> str | None:
        """The first of these that is in the list."""


def minute_of_week(local: struct_time) -> int:
    """Of a local time, Monday 00:00 being 0."""
    return (local.tm_wday * 24 + local.tm_hour) * 60 + local.tm_min


def parents_of(host: str) -> tuple[str, ...]:
    """The name itself and all above it: `a.example.org`, `example.org`, `org`. An address is above nothing."""
    if ":" in host or host.rpartition(".")[2].isdigit():
        return (host,)
    found = [host]
    dot = host.find(".")
    while dot >= 0:
        found.append(host[dot + 1 :])
        dot = host.find(".", dot + 1)
    return tuple(found)


def access_rules(config: Config, mode: str) -> tuple[Rule, ...]:
    """Those that decide about access in this mode, in their order."""
    return tuple(rule for rule in config.rule if rule.action != "none" and rule.match.mode == mode)


class Access:
    """All access rules of one mode, compiled.

    `clients` is who is served at all; `groups` has the members of each group; `lists` each list that a rule names;
    `login`: users must log in; `otherwise`: what becomes of a served client's request that no rule matches.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        clients: Sequence[Network],
        *,
        groups: Mapping[str, Iterable[str]] | None = None,
        lists: Mapping[str, Names] | None = None,
        login: bool = False,
        otherwise: bool = True,
    ) -> None:
        self._rules = tuple(rules)
        self._served = tuple(clients)
        self._login = login
        self._otherwise = otherwise
        self._all = (1 << len(rules)) - 1
        matches = [rule.match for rule in rules]
        members = groups or {}
        self._clients = _Nets([match.client for match in matches])
        self._addresses = _Nets([match.destination for match in matches])
        self._of_address = self._all & ~self._addresses.free  # those that ask for the address
        self._users = _Sets([match.user for match in matches])
        self._groups = _Sets([_members(match, members) for match in matches])
        self._of_user = self._all & ~(self._users.free & self._groups.free)
        self._methods = _Sets([match.method for match in matches])
        self._ports = [(_bit(at), tuple(match.port)) for at, match in enumerate(matches) if match.port]
        self._any_port = self._all & ~_joined(bit for bit, _ in self._ports)
        self._plain = [_plain(match) for match in matches]
        self._domains = _Sets([own if match.domain else None for own, match in zip(self._plain, matches, strict=True)])
        self._of_name = self._all & ~self._domains.free
        self._lists = _lists(matches, lists or {})
        self._hours = [(_bit(at), _minutes(match)) for at, match in enumerate(matches) if match.time]
        self._any_time = self._all & ~_joined(bit for bit, _ in self._hours)
        self._changes = sorted(_changes([minutes for _, minutes in self._hours]))
        self._now = (-1, 0)  # minute of the week, rules possible then
        self._known_ports: dict[int, int] = {}
        self._known: dict[str, int] = {}  # clients' rules, and the bit above them where the client is served

    def decide(self, asked: Question) -> Verdict:
        """What becomes of it. Reads no clock and waits for nothing."""
        client = self._known.get(asked.client)
        if client is None:
            client = self._learn(asked.client)
        if client <= self._all:
            return Deny(Why.CLIENT)
        left = client & self._methods.of(asked.method) & self._at(asked.minute) & self._of_port(asked.port)
        if asked.user:
            left &= self._users.of(asked.user) & self._groups.of(asked.user)
        elif not self._login:
            left &= ~self._of_user
        parents = parents_of(asked.host)
        if left & self._of_name:
            left &= self._of_names(parents, left)
        address_known = bool(left & self._of_address) and is_address(asked.host)
        if address_known:
            left &= self._addresses.of(asked.host)
        return self._first(left, parents, unnamed=self._login and not asked.user, address_known=address_known)

    def _first(self, left: int, parents: tuple[str, ...], *, unnamed: bool, address_known: bool) -> Verdict:
        """What the first of the rules left that decides leads to."""
        reports: tuple[str, ...] = ()
        steps: list[Step] = []
        while left:
            bit = left & -left
            left ^= bit
            at = bit.bit_length() - 1
            rule = self._rules[at]
            if unnamed and (bit & self._of_user or (rule.action == "allow" and rule.login)):
                return Login(rule.name)
            leads_to = self._lead(at, parents)
            if bit & self._of_address and not address_known:
                steps.append(Step(rule.match.destination, leads_to, rule.name))
            elif leads_to is not None:
                return _settle(steps, leads_to, reports)
            elif steps:
                steps.append(Step((), None, rule.name))
            else:
                reports = (*reports, rule.name)
        if unnamed and self._otherwise:
            return Login()
        return _settle(steps, Allow() if self._otherwise else Deny(Why.DEFAULT), reports)

    def _lead(self, at: int, parents: tuple[str, ...]) -> Allow | Deny | None:
        """None: the rule reports."""
        rule = self._rules[at]
        if rule.action == "allow":
            return Allow(rule.name)
        if rule.action == "report":
            return None
        own = self._plain[at]
        entry = next((name for name in parents if name in own), None)
        if entry is not None:
            return Deny(Why.RULE, rule.name, "", entry)
        for name, names, bits in self._lists:
            if bits >> at & 1 and (entry := names.find(parents)) is not None:
                return Deny(Why.RULE, rule.name, name, entry)
        return Deny(Why.RULE, rule.name)

    # ---- dimensions --------------------------------------------------------------------------------------------------

    def _learn(self, address: str) -> int:
        rules = self._clients.of(address)
        if is_in(address, self._served):
            rules |= self._all + 1
        if len(self._known) >= _KNOWN_CLIENTS:
            self._known.clear()
        self._known[address] = rules
        return rules

    def _of_names(self, parents: tuple[str, ...], wanted: int) -> int:
        """The rules that any of these names leaves possible; lists are asked only where one of `wanted` names them."""
        found = self._domains.free
        bound = self._domains.by_value
        if bound:
            for name in parents:
                found |= bound.get(name, 0)
        for _, names, bits in self._lists:
            if bits & wanted & ~found and names.find(parents) is not None:
                found |= bits
        return found

    def _of_port(self, port: int) -> int:
        found = self._known_ports.get(port)
        if found is not None:
            return found
        found = self._any_port
        for bit, ranges in self._ports:
            if any(first <= port <= last for first, last in ranges):
                found |= bit
        if len(self._known_ports) >= _KNOWN_PORTS:
            self._known_ports.clear()
        self._known_ports[port] = found
        return found

    def _at(self, minute: int) -> int:
        if not self._hours:
            return self._all
        if self._now[0] != minute:
            self._now = minute, self._any_time | _joined(bit for bit, bits in self._hours if bits >> minute & 1)
        return self._now[1]

    # ---- for whom and how long a decision holds ----------------------------------------------------------------------

    def class_of(self, client: str) -> Hashable:
        """Equal for clients that no rule tells apart: a decision about one of them holds for all."""
        known = self._known.get(client)
        return self._learn(client) if known is None else known

    def minutes_left(self, minute: int) -> int | None:
        """For how many minutes from the start of this one decisions stay as they are; None: for good.

        Never past a quarter of an hour: there the local clock may jump (summer time).
        """
        if not self._changes:
            return None
        later = next((change for change in self._changes if change > minute), self._changes[0] + WEEK)
        return min(later - minute, _QUARTER - minute % _QUARTER)


def explain(verdict: Deny, host: str) -> str:
    """Why, in a sentence for the person who asked."""
    match verdict.why:
        case Why.CLIENT:
            return "This proxy does not serve your address."
        case Why.DEFAULT:
            return f"No rule of this proxy allows {host}."
        case Why.RULE:
            pass
    where = ""
    if verdict.list:
        below = "" if verdict.entry == host else f", as {verdict.entry}"
        where = f" {host} is in the list `{verdict.list}`{below}."
    elif verdict.entry and verdict.entry != host:
        where = f" It names {verdict.entry} with all below."
    return f"The rule `{verdict.rule}` of this proxy denies it.{where}"


# ---- compiling -------------------------------------------------------------------------------------------------------


def _bit(at: int) -> int:
    return 1 << at


def _joined(bits: Iterable[int]) -> int:
    return reduce(or_, bits, 0)


class _Sets:
    """Rules by the values that they name; `free`: those that name none."""

    __slots__ = ("by_value", "free")

    def __init__(self, wanted: Sequence[Iterable[str] | None]) -> None:
        """For each rule the values, of which one must be the question's; None, or none of them, for any."""
        self.by_value: dict[str, int] = {}
        self.free = 0
        for at, values in enumerate(wanted):
            if values is None or values == ():
                self.free |= _bit(at)
                continue
            for value in values:
                self.by_value[value] = self.by_value.get(value, 0) | _bit(at)

    def of(self, value: str) -> int:
        return self.free | self.by_value.get(value, 0)


class _Nets:
    """Rules by the networks that they name."""

    __slots__ = ("_nets", "free")

    def __init__(self, wanted: Sequence[Sequence[Network]]) -> None:
        self._nets = [(_bit(at), tuple(networks)) for at, networks in enumerate(wanted) if networks]
        self.free = _joined(_bit(at) for at, networks in enumerate(wanted) if not networks)

    def of(self, address: str) -> int:
        return self.free | _joined(bit for bit, networks in self._nets if is_in(address, networks))


def _members(match: Match, groups: Mapping[str, Iterable[str]]) -> frozenset[str] | None:
    """Who is in the groups of the rule; None: it names none. A group without members matches nobody."""
    if not match.group:
        return None
    return frozenset(user for group in match.group for user in groups.get(group, ()))


def _plain(match: Match) -> frozenset[str]:
    """The domains that stand in the rule itself."""
    return frozenset(domain.lower().removesuffix(".") for domain in match.domain if not domain.startswith(LIST))


def _lists(matches: Sequence[Match], lists: Mapping[str, Names]) -> tuple[tuple[str, Names, int], ...]:
    """(name, list, rules that name it) of all lists named."""
    bits: dict[str, int] = {}
    for at, match in enumerate(matches):
        for domain in match.domain:
            if domain.startswith(LIST):
                bits[domain[len(LIST) :]] = bits.get(domain[len(LIST) :], 0) | _bit(at)
    return tuple((name, lists[name], rules) for name, rules in bits.items())


def _minutes(match: Match) -> int:
    return _joined(hours.minutes for hours in match.time)


def _changes(windows: Sequence[int]) -> set[int]:
    """The minutes of the week at which one of these begins or ends."""
    found: set[int] = set()
    for bits in windows:
        turned = bits ^ ((bits << 1) & ((1 << WEEK) - 1) | bits >> WEEK - 1)
        while turned:
            lowest = turned & -turned
            found.add(lowest.bit_length() - 1)
            turned ^= lowest
    return found


def is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _settle(steps: Sequence[Step], last: Allow | Deny, reports: tuple[str, ...]) -> Allow | Deny | ByAddress:
    return ByAddress(tuple(steps), last, reports) if steps else _with_reports(last, reports)


def _with_reports(verdict: Allow | Deny, reports: tuple[str, ...]) -> Allow | Deny:
    return replace(verdict, reports=reports) if reports else verdict
