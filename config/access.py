"""Rules about who may what (`action`): what of them contradicts, can never match, or names what is not there. Pure.

Called by checks.py, over rules that are sound by themselves.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Protocol, TypeVar

from config.faults import Path, quote, suggest
from config.schema import Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from config.schema import Forward, Match, NameList, Network
    from config.units import Hours, Ports

LIST = "list:"
T = TypeVar("T")
_OWN = ("client", "user", "group", "domain", "destination", "port", "time")  # conditions about access alone
_OTHERS = ("site", "path", "host")  # conditions of sites
_ALSO = frozenset(("name", "match", "action", "login", "bandwidth"))  # what such a rule has; the others are of sites


class Findings(Protocol):
    def fault(self, path: Path, what: str, hint: str = "") -> None: ...
    def warn(self, path: Path, what: str, hint: str = "") -> None: ...


def check(
    found: Findings,
    rules: Mapping[int, Rule],
    lists: Mapping[str, NameList],
    list_names: frozenset[str],
    bandwidths: frozenset[str] = frozenset(),
    forward: Forward | None = None,
) -> None:
    """All that is wrong or doubtful with access rules and the lists that they name."""
    own = {i: rule for i, rule in sorted(rules.items()) if rule.action != "none"}
    for i, rule in sorted(rules.items()):
        if i in own:
            _check_rule(found, i, rule)
            if rule.bandwidth and rule.bandwidth not in bandwidths:
                known = f"there are: {', '.join(sorted(bandwidths)) or 'none'}; `[bandwidth]` names them"
                hint = suggest(rule.bandwidth, bandwidths, known)
                found.fault(("rule", i, "bandwidth"), f"no bandwidth has the name {quote(rule.bandwidth)}", hint)
        elif rule.match.mode == "reverse":
            for name in _given(rule.match, _OWN):
                found.fault(("rule", i, "match", name), f"`{name}` is a condition of rules with `action`")
        else:
            what = f"dead rule: without `action` it says nothing of {rule.match.mode} mode"
            found.warn(("rule", i), what, "what is cached, and how, is said by rule for sites alone")
        if forward is not None and rule.match.mode == "forward":
            _check_users(found, i, rule, forward)
        for n, domain in enumerate(rule.match.domain):
            if domain.startswith(LIST) and domain[len(LIST) :] not in list_names:
                known = ", ".join(sorted(list_names)) or "none"
                hint = suggest(domain[len(LIST) :], list_names, f"there are: {known}; `[lists]` names them")
                found.fault(
                    ("rule", i, "match", "domain", n), f"no list has the name {quote(domain[len(LIST) :])}", hint
                )
    _check_order(found, own)
    used = {domain[len(LIST) :] for rule in rules.values() for domain in rule.match.domain if domain.startswith(LIST)}
    for name in lists:
        if name not in used:
            found.warn(("lists", name), "no rule uses this list", f'match = {{ domain = "{LIST}{name}" }}')


def _check_rule(found: Findings, i: int, rule: Rule) -> None:
    if rule.match.mode == "reverse":
        found.fault(("rule", i, "action"), "a site serves everybody", 'add `mode = "forward"` to `match`')
    for name in _given(rule.match, _OTHERS):
        found.fault(("rule", i, "match", name), f"`{name}` is no condition of a rule with `action`", _instead(name))
    defaults = Rule(name=rule.name)
    for name in (name for name in Rule.__struct_fields__ if name not in _ALSO):
        if getattr(rule, name) != getattr(defaults, name):
            found.fault(("rule", i, name), f"a rule has either `action` or `{name}`", "make it two rules")
    if not rule.login and rule.action != "allow":
        found.warn(("rule", i, "login"), "`login` has an effect with `allow` alone")
    if rule.bandwidth and rule.action != "allow":
        found.warn(("rule", i, "bandwidth"), "`bandwidth` has an effect with `allow` alone")
    for n, domain in enumerate(rule.match.domain):
        wide = next((one for m, one in enumerate(rule.match.domain) if m != n and _covers_domain(one, domain)), None)
        if wide is not None and (wide.lower() != domain.lower() or domain in rule.match.domain[:n]):
            found.warn(("rule", i, "match", "domain", n), f"{quote(wide)} means {quote(domain)} already")


def _check_users(found: Findings, i: int, rule: Rule, forward: Forward) -> None:
    """Rules about users who cannot be known."""
    for name in _given(rule.match, ("user", "group")):
        if not forward.users:
            made = 'add users = "users.htpasswd" to [forward]; made by: tandem user add NAME'
            found.fault(("rule", i, "match", name), "nobody logs in: [forward] has no `users`", made)
        elif name == "group" and not forward.groups:
            found.fault(
                ("rule", i, "match", name),
                "nobody is in a group: [forward] has no `groups`",
                'add groups = "groups.txt" to [forward], with lines such as `pupils: anna ben`',
            )


def _instead(name: str) -> str:
    return "" if name == "site" else "write `domain`: host names, with all below"


def _given(match: Match, names: Sequence[str]) -> Iterator[str]:
    return (name for name in names if getattr(match, name))


# ---- order -----------------------------------------------------------------------------------------------------------


def _check_order(found: Findings, rules: Mapping[int, Rule]) -> None:
    """Rules that can never decide, since an earlier one matches all that they match."""
    earlier: list[Rule] = []
    for i, rule in rules.items():
        first = next((one for one in earlier if _decides_for(one, rule)), None)
        if first is not None:
            found.warn(
                ("rule", i),
                f"dead rule: {quote(first.name)} comes first and matches all that it matches",
                f"put {quote(rule.name)} before {quote(first.name)}",
            )
        earlier.append(rule)


def _decides_for(first: Rule, rule: Rule) -> bool:
    if first.action == "report" or (first.action == "allow" and first.login and not rule.login):
        return False
    return covers(first.match, rule.match)


def covers(outer: Match, inner: Match) -> bool:
    """Each question that `inner` matches is matched by `outer` too."""
    return (
        outer.mode == inner.mode
        and _all_covered(outer.client, inner.client, _covers_network)
        and _all_covered(outer.destination, inner.destination, _covers_network)
        and _all_covered(outer.domain, inner.domain, _covers_domain)
        and _all_covered(outer.port, inner.port, _covers_ports)
        and _all_covered(outer.user, inner.user, str.__eq__)
        and _all_covered(outer.group, inner.group, str.__eq__)
        and _all_covered(outer.method, inner.method, str.__eq__)
        and _covers_time(outer.time, inner.time)
    )


def _all_covered(outer: Sequence[T], inner: Sequence[T], covers_one: Callable[[T, T], bool]) -> bool:
    if not outer:
        return True
    return bool(inner) and all(any(covers_one(wide, narrow) for wide in outer) for narrow in inner)


def _covers_network(wide: Network, narrow: Network) -> bool:
    if wide.version == 4 and narrow.version == 4:
        return narrow.subnet_of(wide)
    return wide.version == 6 and narrow.version == 6 and narrow.subnet_of(wide)


def _covers_domain(wide: str, narrow: str) -> bool:
    wide, narrow = wide.lower().removesuffix("."), narrow.lower().removesuffix(".")
    return wide == narrow or (LIST not in wide + narrow and narrow.endswith(f".{wide}"))


def _covers_ports(wide: Ports, narrow: Ports) -> bool:
    return wide.first <= narrow.first and narrow.last <= wide.last


def _covers_time(wide: Sequence[Hours], narrow: Sequence[Hours]) -> bool:
    if not wide:
        return True
    covered = reduce(or_, (hours.minutes for hours in wide))
    return bool(narrow) and not reduce(or_, (hours.minutes for hours in narrow)) & ~covered
