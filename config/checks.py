"""What can only be seen by looking at several options together: contradictions (faults) and slips (warnings).

Pure, over tables that are sound by themselves. A table with a fault of its own is left out, and what follows from its
absence alone is not reported: one slip, one fault. The files that the configuration names are files.py's business.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import combinations
from typing import TYPE_CHECKING

from config import access, caching, mirrors, pair, patterns
from config.faults import Path, Problem, quote, suggest
from config.schema import FORWARD, TRANSPARENT, Admin, Cache, Forward, Ha, Limits, NameList, Rule, Site, Transparent
from config.units import Listen, is_own, parse_address

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from config.schema import Match, Upstream
    from config.units import Duration

_TOMCAT_KEEPALIVE = 20.0  # connectionTimeout in the server.xml that Tomcat comes with; keepAliveTimeout follows it


@dataclass(slots=True)
class View:
    """The sound tables of one file, by their index in it; sites have their names and presets."""

    sites: dict[int, Site] = field(default_factory=dict)
    rules: dict[int, Rule] = field(default_factory=dict)
    site_names: frozenset[str] = frozenset()  # of the faulty sites too
    lists: dict[str, NameList] = field(default_factory=dict)
    list_names: frozenset[str] = frozenset()  # of the faulty lists too
    bandwidth_names: frozenset[str] = frozenset()  # likewise
    admin: Admin = field(default_factory=Admin)
    cache: Cache = field(default_factory=Cache)
    limits: Limits = field(default_factory=Limits)
    ha: Ha | None = None
    forward: Forward | None = None
    transparent: Transparent | None = None
    complete: bool = True  # no table is missing


@dataclass(slots=True)
class Findings:
    faults: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def fault(self, path: Path, what: str, hint: str = "") -> None:
        self.faults.append(Problem(path, what, hint))

    def warn(self, path: Path, what: str, hint: str = "") -> None:
        self.warnings.append(Problem(path, what, hint))


def check(view: View) -> Findings:
    """All that is wrong or doubtful between the tables."""
    found = Findings()
    for i, site in view.sites.items():
        _check_addresses(found, i, site)
        _check_origins(found, ("site", i), site.upstream, site.listen)
        _check_patience(found, i, site)
    _check_site_names(found, view)
    for (_, one), (j, other) in combinations(sorted(view.sites.items()), 2):
        _check_pair_of_sites(found, one, j, other)
    _check_admin(found, view)
    if view.transparent is not None:
        _check_transparent(found, view, view.transparent)
    if view.forward is not None:
        _check_forward(found, view, view.forward)
    for i, rule in view.rules.items():
        if rule.match.mode == "reverse":
            _check_rule(found, view, i, rule)
    _check_rule_names(found, view)
    _check_rule_order(found, view)
    access.check(found, view.rules, view.lists, view.list_names, view.bandwidth_names, view.forward)
    if view.complete:
        _check_sites_without_origin(found, view)
    _check_limits(found, view)
    if view.ha is not None:
        pair.check(found, view.ha)
    return found


# ---- sites -----------------------------------------------------------------------------------------------------------


def _check_addresses(found: Findings, i: int, site: Site) -> None:
    if not site.listen:
        found.fault(("site", i, "listen"), "no address to listen on", "such as `:80`")
    for n, listen in enumerate(site.listen):
        path = ("site", i, "listen", n)
        if listen in site.listen[:n]:
            found.fault(path, f"`{listen.text}` is given twice")
        if listen.port == 443 and not site.speaks_tls(listen):
            if site.tls:
                found.fault(path, "port 443 speaks TLS, but is not in `tls_ports`", "add 443 to `tls_ports`")
            else:
                found.fault(path, "port 443 needs a certificate", 'add tls = { cert = "site.pem", key = "site.key" }')
    for m, n in combinations(range(len(site.listen)), 2):
        _check_clash(found, ("site", i, "listen", n), site.listen[n], site.listen[m], "this site")
    ports = {listen.port for listen in site.listen}
    for n, port in enumerate(site.tls_ports):
        if port not in ports:
            found.fault(("site", i, "tls_ports", n), f"no address of `listen` has the port {port}")
    if site.tls_ports and not site.tls:
        found.fault(("site", i, "tls_ports"), "TLS needs a certificate", 'add tls = { cert = "…", key = "…" }')
    if site.tls and not any(site.speaks_tls(listen) for listen in site.listen):
        found.fault(("site", i, "tls"), "no address of this site speaks TLS", "add `:443` to `listen`")
    for n, host in enumerate(site.hosts):
        if _fold(host) in map(_fold, site.hosts[:n]):
            found.warn(("site", i, "hosts", n), f"{quote(host)} is given twice")


def _fold(host: str) -> str:
    return host.lower().removesuffix(".")


def _check_clash(found: Findings, path: Path, listen: Listen, earlier: Listen, whose: str) -> None:
    """Two sockets that the kernel would not let be bound side by side."""
    if listen == earlier or listen.port != earlier.port:
        return
    wide, other = (earlier, listen) if not earlier.host else (listen, earlier)
    same_family = (":" in wide.host) == (":" in other.host)
    if not wide.host or ("0.0.0.0" in {wide.host, other.host} and same_family):  # noqa: S104 - compared, not bound
        clash = True
    else:
        clash = "::" in {wide.host, other.host} and same_family
    if clash:
        found.fault(
            path,
            f"`{listen.text}` and `{earlier.text}` of {whose} share addresses and cannot both be bound",
            "write the wider one in both places",
        )


def _check_origins(found: Findings, path: Path, upstream: Sequence[Upstream], listens: Sequence[Listen]) -> None:
    addresses = [parse_address(one.address) for one in upstream]
    routes: set[str] = set()
    for n, (one, address) in enumerate(zip(upstream, addresses, strict=True)):
        own = (*path, "upstream", n)
        if any(is_own(listen, address) for listen in listens):
            found.fault((*own, "address"), f"`{address.text}` is this site itself: requests would go in a circle")
        if address in addresses[:n]:
            found.warn(own, f"`{address.text}` is given twice", "use `weight` for a larger share")
        if one.route and one.route in routes:
            found.fault((*own, "route"), f"two origins have the route {quote(one.route)}", "each Tomcat has its own")
        routes.add(one.route)


def _check_patience(found: Findings, i: int, site: Site) -> None:
    timeouts = site.timeouts
    for name in ("connect", "first_byte"):
        part: Duration = getattr(timeouts, name)
        if 0 < timeouts.whole < part:
            found.warn(
                ("site", i, "timeouts", "whole"),
                f"`{timeouts.whole.text}` ends a request before `{name}` ({part.text}) can",
            )


def _check_site_names(found: Findings, view: View) -> None:
    names: dict[str, int] = {}
    for i, site in sorted(view.sites.items()):
        if site.name in names:
            found.fault(
                ("site", i, "name"),
                f"the name {quote(site.name)} belongs to site[{names[site.name]}]",
                "give each site a `name` of its own",
            )
        names.setdefault(site.name, i)


def _check_pair_of_sites(found: Findings, one: Site, j: int, other: Site) -> None:
    for n, listen in enumerate(other.listen):
        for earlier in one.listen:
            _check_clash(found, ("site", j, "listen", n), listen, earlier, f"site {quote(one.name)}")
    shared = [n for n, listen in enumerate(other.listen) if listen in one.listen]
    if not shared:
        return
    for n in shared:
        if one.speaks_tls(other.listen[n]) != other.speaks_tls(other.listen[n]):
            found.fault(
                ("site", j, "listen", n),
                f"`{other.listen[n].text}` speaks TLS for one of the sites {quote(one.name)}, {quote(other.name)} only",
                "give both a certificate, or set `tls_ports`",
            )
    address = other.listen[shared[0]].text
    if not one.hosts and not other.hosts:
        found.fault(
            ("site", j, "hosts"),
            f"site {quote(one.name)} takes every host on `{address}` already",
            "give one of them `hosts`",
        )
    taken = set(map(_fold, one.hosts))
    for n, host in enumerate(other.hosts):
        if _fold(host) in taken:
            found.fault(
                ("site", j, "hosts", n), f"{quote(host)} on `{address}` belongs to site {quote(one.name)} already"
            )


def _check_sites_without_origin(found: Findings, view: View) -> None:
    for i, site in view.sites.items():
        if site.upstream:
            continue
        mine = [rule for rule in _reverse(view) if rule.match.site in {"", site.name}]
        if not any(rule.upstream or rule.redirect or rule.answer for rule in mine):
            found.fault(
                ("site", i),
                "no origin, and no rule that answers",
                'add upstream = "host:port", or a rule with upstream, redirect or answer',
            )


# ---- rules -----------------------------------------------------------------------------------------------------------


def _reverse(view: View) -> list[Rule]:
    return [rule for _, rule in sorted(view.rules.items()) if rule.match.mode == "reverse"]


def _check_rule(found: Findings, view: View, i: int, rule: Rule) -> None:
    actions = [name for name in ("upstream", "redirect", "answer") if getattr(rule, name)]
    if len(actions) > 1:
        found.fault(("rule", i, actions[1]), f"a rule has one of {' and '.join(actions)}", "make it two rules")
    if rule.answer and rule.answer.file and rule.answer.body:
        found.fault(("rule", i, "answer", "file"), "an answer has either `body` or `file`")
    if rule.match.site and rule.match.site not in view.site_names:
        hint = suggest(rule.match.site, view.site_names, f"there are: {', '.join(sorted(view.site_names)) or 'none'}")
        found.fault(("rule", i, "match", "site"), f"no site has the name {quote(rule.match.site)}", hint)
    for idle in _without_effect(rule):
        found.warn(("rule", i, idle), f"`{idle}` has no effect here")
    caching.check(found, i, rule, [site.preset for site in _sites_of(view, rule)])
    listens = [listen for site in _sites_of(view, rule) for listen in site.listen]
    _check_origins(found, ("rule", i), rule.upstream, listens)
    sites = _sites_of(view, rule)
    if view.complete and sites and rule.match.host and not any(_serves_any(site, rule.match.host) for site in sites):
        found.warn(("rule", i, "match", "host"), "dead rule: no site that it applies to serves such a host")
    if view.complete and not actions:
        bare = [site for site in sites if not site.upstream]
        if bare:
            found.fault(
                ("rule", i),
                f"site {quote(bare[0].name)} has no origin, and this rule names none",
                "add upstream, redirect or answer",
            )


def _without_effect(rule: Rule) -> list[str]:
    """What is said of the cache where it has no say; what travels to origins is said all the same."""
    defaults = Rule(name=rule.name)
    said = [name for name in caching.OPTIONS if getattr(rule, name) != getattr(defaults, name)]
    if rule.redirect or rule.answer:
        return said
    return [name for name in said if name not in caching.TRAVELLING and name != "cache"] if not rule.cache else []


def _sites_of(view: View, rule: Rule) -> list[Site]:
    return [site for site in view.sites.values() if rule.match.site in {"", site.name}]


def _serves_any(site: Site, hosts: Sequence[str]) -> bool:
    return not site.hosts or any(patterns.overlaps_host(own, host) for own in site.hosts for host in hosts)


def _check_rule_names(found: Findings, view: View) -> None:
    names: dict[str, int] = {}
    for i, rule in sorted(view.rules.items()):
        if rule.name in names:
            found.fault(("rule", i, "name"), f"the name {quote(rule.name)} belongs to rule[{names[rule.name]}]")
        names.setdefault(rule.name, i)


def _check_rule_order(found: Findings, view: View) -> None:
    only = next(iter(view.site_names)) if len(view.site_names) == 1 else ""
    rules = [(i, rule) for i, rule in sorted(view.rules.items()) if rule.match.mode == "reverse"]
    for position, (i, rule) in enumerate(rules):
        for _, earlier in rules[:position]:
            if covers(earlier.match, rule.match, only):
                found.warn(
                    ("rule", i),
                    f"dead rule: {quote(earlier.name)} comes first and matches all that it matches",
                    f"put {quote(rule.name)} before {quote(earlier.name)}",
                )
                break
            if _effect(earlier) != _effect(rule) and not covers(rule.match, earlier.match, only):
                both = overlap(earlier.match, rule.match, only)
                if both:
                    found.warn(
                        ("rule", i, "match"), f"overlaps {quote(earlier.name)} ({both}), which comes first and wins"
                    )


def _effect(rule: Rule) -> tuple[object, ...]:
    return tuple(getattr(rule, name) for name in (*caching.OPTIONS, "upstream", "redirect", "answer"))


def covers(outer: Match, inner: Match, only_site: str = "") -> bool:
    """Each request that `inner` matches is matched by `outer`; with a single site, naming it says nothing."""
    return (
        (outer.site in {"", only_site} or outer.site == (inner.site or only_site))
        and _all_covered(outer.path, inner.path, patterns.covers_path)
        and _all_covered(outer.host, inner.host, patterns.covers_host)
        and _all_covered(outer.method, inner.method, str.__eq__)
    )


def _all_covered(outer: Sequence[str], inner: Sequence[str], covers_one: Callable[[str, str], bool]) -> bool:
    if not outer:
        return True
    return bool(inner) and all(any(covers_one(wide, narrow) for wide in outer) for narrow in inner)


def overlap(one: Match, other: Match, only_site: str = "") -> str:
    """What both match, in words; empty if no request is matched by both."""
    sites = {site for site in (one.site, other.site) if site not in {"", only_site}}
    if len(sites) > 1:
        return ""
    shared = [
        _shared(one.path, other.path, patterns.overlaps_path),
        _shared(one.host, other.host, patterns.overlaps_host),
        _shared(one.method, other.method, str.__eq__),
    ]
    return "" if None in shared else ", ".join(text for text in shared if text) or "all requests"


def _shared(one: Sequence[str], other: Sequence[str], overlaps: Callable[[str, str], bool]) -> str | None:
    if not one or not other:
        return ""
    return next((f"{a} and {b}" if a != b else a for a in one for b in other if overlaps(a, b)), None)


# ---- forward mode ----------------------------------------------------------------------------------------------------


def _check_forward(found: Findings, view: View, forward: Forward) -> None:
    if not forward.listen:
        found.fault(("forward", "listen"), "no address to listen on", "such as `:3128`")
    if not forward.clients:
        found.warn(("forward",), "no `clients`: nobody is served", 'add clients = ["192.168.8.0/24"]')
    if FORWARD in view.site_names:
        found.fault(("forward",), f"a site has the name {quote(FORWARD)}, which counts and logs what [forward] does")
    for n, listen in enumerate(forward.listen):
        path = ("forward", "listen", n)
        if listen in forward.listen[:n]:
            found.fault(path, f"`{listen.text}` is given twice")
        others = [(other, "[forward]") for other in forward.listen[:n]]
        others += [(other, f"site {quote(site.name)}") for site in view.sites.values() for other in site.listen]
        others += [(other, "[admin]") for other in view.admin.listen]
        for other, whose in others:
            if other == listen and whose != "[forward]":
                found.fault(path, f"`{listen.text}` belongs to {whose} already")
            _check_clash(found, path, listen, other, whose)
    for n, parent in enumerate(forward.parent):
        address = parse_address(parent.address)
        if address.scheme != "http":
            found.fault(("forward", "parent", n, "address"), "a parent is asked in plain HTTP: `host:port`")
        if any(is_own(listen, address) for listen in forward.listen):
            found.fault(
                ("forward", "parent", n, "address"),
                f"`{address.text}` is this proxy itself: requests would go in a circle",
            )
    mirrors.check(found, forward)
    if forward.direct and not forward.parent:
        found.warn(("forward", "direct"), "`direct` has no effect without `parent`")
    for n, network in enumerate(forward.clients):
        if network.prefixlen == 0:
            found.warn(("forward", "clients", n), f"`{network}` is everybody: this is an open proxy")


def _check_transparent(found: Findings, view: View, options: Transparent) -> None:
    for key, without in (("interface", "nothing comes in"), ("clients", "nobody's connections are taken")):
        if not getattr(options, key):
            found.fault(("transparent", key), f"without `{key}` {without}")
    if TRANSPARENT in view.site_names:
        found.fault(
            ("transparent",), f"a site has the name {quote(TRANSPARENT)}, which counts and logs what [transparent] does"
        )
    if options.spoof and options.method != "tproxy":
        found.fault(
            ("transparent", "spoof"),
            f'with method = "{options.method}" answers to a client\'s address would not come back here',
            'set method = "tproxy", or leave `spoof` out',
        )
    if options.https == "splice" and options.port == options.https_port:
        found.fault(("transparent", "https_port"), "HTTP and HTTPS arrive at different ports", "such as 3130")
    for port in set(options.http_ports) & set(options.https_ports):
        found.fault(("transparent", "https_ports"), f"{port} is in `http_ports` too")
    others = [(other, f"site {quote(site.name)}") for site in view.sites.values() for other in site.listen]
    others += [(other, "[forward]") for other in (view.forward.listen if view.forward is not None else ())]
    others += [(other, "[admin]") for other in view.admin.listen]
    for listen, key in zip(options.arrivals, ("port", "https_port"), strict=False):
        for other, whose in others:
            if other.port == listen.port:
                found.fault(("transparent", key), f"port {listen.port} belongs to {whose} already")


# ---- the rest --------------------------------------------------------------------------------------------------------


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _check_admin(found: Findings, view: View) -> None:
    for n, listen in enumerate(view.admin.listen):
        path = ("admin", "listen", n)
        missing = [name for name in ("tls", "tokens") if not getattr(view.admin, name)]
        if missing and not _is_loopback(listen.host):
            found.fault(
                path,
                f"off loopback the admin surface needs {' and '.join(missing)}",
                "listen on 127.0.0.1, or add "
                + " and ".join(
                    {"tls": 'tls = { cert = "…", key = "…" }', "tokens": 'tokens = { file = "…" }'}[m] for m in missing
                ),
            )
        for site in view.sites.values():
            for other in site.listen:
                if other == listen:
                    found.fault(path, f"`{listen.text}` belongs to site {quote(site.name)} already")
                _check_clash(found, path, listen, other, f"site {quote(site.name)}")


def _check_limits(found: Findings, view: View) -> None:
    limits, cache = view.limits, view.cache
    for name in ("request_line", "field"):
        if getattr(limits, name) > limits.head:
            found.warn(
                ("limits", name),
                f"`{getattr(limits, name).text}` is more than the whole head may have ({limits.head.text})",
            )
    if 0 < cache.memory < cache.max_object:
        found.warn(
            ("cache", "max_object"), f"`{cache.max_object.text}` does not fit into `memory` ({cache.memory.text})"
        )
    if limits.pool_idle >= _TOMCAT_KEEPALIVE and any(site.preset == "tomcat" for site in view.sites.values()):
        found.warn(
            ("limits", "pool_idle"),
            f"Tomcat closes idle connections after 20 s, before `{limits.pool_idle.text}`",
            "keep it below Tomcat's keepAliveTimeout",
        )
