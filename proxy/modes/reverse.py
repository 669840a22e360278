"""Reverse mode: which site a request is for, which rule governs it, and which pool of origins answers it.

Pure, and compiled once per configuration: `Reverse.route` only looks things up. A rule sees the path that keys the
request, byte for byte but for escaped unreserved characters (`%61` is `a`, RFC 3986 §6.2.2.2) and, under the tomcat
preset, session path parameters; dot segments, `//` and `%2f` are the origin's to resolve. Nothing here contacts an
origin or knows its health.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from config.schema import Ejection, Key, Query, Rule
from config.units import parse_address
from proxy import errors
from proxy.errors import Failure
from proxy.exchange import FixedAnswer, Origin, PoolSpec, Route
from proxy.http.message import Fields, ResponseHead
from proxy.policy import cookies, device
from proxy.policy.rules import Bypassing, CacheRules, QueryRules
from proxy.policy.target import glob_fits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from config.schema import Answer, Bypass, Config, Network, Redirect, Site, Timeouts, Upstream, UpstreamTls
    from config.units import Duration, Listen
    from proxy.exchange import Client
    from proxy.http.message import RequestHead

LONGEST_HOST = (
    255  # octets of a name, RFC 1035 §2.3.4; longer ones match no wildcard, which bounds the walk over their labels
)
SURROGATE = frozenset({b"surrogate-control"})
DEVICE = device.FIELD.lower()
NO_RULE = Rule(name="-")  # what holds where none matches
KNOWN_AUTHORITIES = 1024  # per listener

_ESCAPED_UNRESERVED = re.compile(rb"%(?:2[dDeE]|3[0-9]|4[1-9a-fA-F]|5[0-9aAfF]|6[1-9a-fA-F]|7[0-9aAeE])")
# Tomcat's session cookie; behind the first dot of the id stands the jvmRoute of the node that holds the session.
_SESSION_COOKIE = re.compile(rb'(?:^|[;,])[ \t]*JSESSIONID="?[^.;,"\s]*\.([^;,"\s]+)')
_SESSION_PARAMETER = re.compile(rb";jsessionid=[^.;/]*\.([^;/]+)")


@dataclass(frozen=True, slots=True)
class SiteView:
    """What the rest of the proxy needs to know of one site."""

    name: str
    trusted: tuple[Network, ...]
    purge_from: tuple[Network, ...]
    pass_fields: frozenset[bytes]  # lower case
    rewrite_host: bool  # Host towards the origin is the origin's own address
    rewrite_redirects: bool
    error_pages: Mapping[int, bytes]  # HTML by status
    upgrade: frozenset[bytes]  # lower case
    max_body: int  # 0: no bound
    encode_target: bool
    allow_trace: bool
    explain_from: tuple[Network, ...] = ()
    identify: bool = True  # origins are told who the client is
    challenge: bytes = b""  # Proxy-Authenticate, where users log in


class Reverse:
    """All sites, compiled. `Client.listener` is an index into `listeners`: each address once, in the file's order."""

    def __init__(self, config: Config, files: Mapping[str, bytes]) -> None:
        """`files` has what error pages and answers are made of, by their paths as they stand in the configuration."""
        names = site_names(config)
        self.listeners: tuple[Listen, ...] = tuple(dict.fromkeys(at for site in config.site for at in site.listen))
        self.pools: dict[str, PoolSpec] = {}
        self.sites: dict[str, SiteView] = {}
        own = [rule for rule in config.rule if rule.match.mode == "reverse"]
        self._cache_rules = [_cache_rules(config, site, rule) for site in config.site for rule in (None, *own)]
        self._doors = [_Door() for _ in self.listeners]
        for site, name in zip(config.site, names, strict=True):
            self.sites[name] = view = _view(site, name, files)
            rules = [rule for rule in own if rule.match.site in {"", name}]
            compiled = _Site(config, site, view, rules, self.pools, files)
            for listen in site.listen:
                self._doors[self.listeners.index(listen)].add(site.hosts, compiled)

    def route(
        self, request: RequestHead, client: Client, user: str = "", wall: float = 0.0
    ) -> Route | FixedAnswer | Failure:
        """Where the request goes, whoever asks and whenever. A name that no site of its listener has is 421 (RFC 9110
        §15.5.20).
        """
        authority = request.authority
        door = self._doors[client.listener]
        site = door.known.get(authority) or door.find(authority)
        if site is None:
            return Failure(errors.MISDIRECTED, "no site has this name")
        return site.decide(request)

    def cache_rules(self) -> tuple[CacheRules, ...]:
        """All that differ, for who must know every key that a URL may have."""
        return tuple(dict.fromkeys(self._cache_rules))

    def serves(self, site: str, authority: bytes, listener: int) -> bool:
        """A request for this authority goes to this site, if it comes here."""
        view = self.site_of(authority, listener)
        return view is not None and view.name == site

    def site_of(self, authority: bytes, listener: int) -> SiteView | None:
        """The site that `route` would take."""
        door = self._doors[listener]
        site = door.known.get(authority) or door.find(authority)
        return None if site is None else site.view


# ---- sites by name -----------------------------------------------------------------------------


class _Door:
    """The sites of one listening address: exact names, then the longest wildcard, then the site without names."""

    __slots__ = ("default", "exact", "known", "wild")

    def __init__(self) -> None:
        # Sites of authorities as they came. It only grows, up to a bound: names that clients invent can fill it, which
        # costs the others a search each time, and pushes nothing out.
        self.known: dict[bytes, _Site] = {}
        self.exact: dict[bytes, _Site] = {}
        self.wild: dict[bytes, _Site] = {}  # by what follows `*.`
        self.default: _Site | None = None

    def add(self, hosts: Sequence[str], site: _Site) -> None:
        """The first site of a name keeps it; two of the same are a fault that the configuration check reports."""
        if not hosts:
            self.default = self.default or site
        for host in hosts:
            name = host_bytes(host)
            if name.startswith(b"*."):
                self.wild.setdefault(name[2:], site)
            else:
                self.exact.setdefault(name, site)

    def find(self, authority: bytes) -> _Site | None:
        site = self._search(host_of(authority))
        if site is not None and len(self.known) < KNOWN_AUTHORITIES and len(authority) <= LONGEST_HOST:
            self.known[authority] = site
        return site

    def _search(self, host: bytes) -> _Site | None:
        site = self.exact.get(host)
        if site is None and self.wild and len(host) <= LONGEST_HOST:
            site = next((self.wild[parent] for parent in _parents(host) if parent in self.wild), None)
        return site or self.default


def host_of(authority: bytes) -> bytes:
    """The authority's host without port and without the root's dot; brackets of IPv6 literals stay."""
    host, colon, port = authority.rpartition(b":")
    if not colon or (port and not port.isdigit()) or (host.startswith(b"[") and not host.endswith(b"]")):
        host = authority
    return host[:-1] if host.endswith(b".") else host


def host_bytes(host: str) -> bytes:
    """A configured name as it stands in an authority: lower case, punycode."""
    return host.lower().encode("ascii" if host.isascii() else "idna").removesuffix(b".")


def _parents(host: bytes) -> Iterator[bytes]:
    """`b.c` and `c` of `a.b.c`."""
    dot = host.find(b".")
    while dot >= 0:
        yield host[dot + 1 :]
        dot = host.find(b".", dot + 1)


def _names_match(host: bytes, patterns: Sequence[bytes]) -> bool:
    return any(host.endswith(p[1:]) and len(host) > len(p) - 1 if p.startswith(b"*.") else host == p for p in patterns)


def is_in(address: str, networks: Iterable[Network]) -> bool:
    """The address lies in one of the networks; IPv4 inside IPv6 counts as IPv4, what is no IP address is nowhere."""
    if not networks:
        return False
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return any(ip in network for network in networks)


# ---- path patterns -----------------------------------------------------------------------------


class Patterns:
    """Groups of path patterns in which `*` stands for any bytes; `first` is the number of the first group that matches.

    Matching is linear in the path. Patterns with one star at an end are looked for all at once, so that the last of
    twenty rules costs as much as the first; the others one by one.
    """

    __slots__ = ("_any", "_exact", "_general", "_prefixes", "_suffixes", "count")

    def __init__(self, groups: Sequence[Iterable[str]]) -> None:
        self.count = len(groups)
        self._any = self.count
        self._exact: dict[bytes, int] = {}
        self._general: list[tuple[int, tuple[bytes, ...]]] = []
        prefixes: list[tuple[bytes, int]] = []
        suffixes: list[tuple[bytes, int]] = []
        for number, group in enumerate(groups):
            for pattern in group:
                match unescaped(pattern.encode()).split(b"*"):
                    case [whole]:
                        self._exact.setdefault(whole, number)
                    case [b"", b""]:
                        self._any = min(self._any, number)
                    case [first, b""]:
                        prefixes.append((first, number))
                    case [b"", last]:
                        suffixes.append((last[::-1], number))
                    case pieces:
                        self._general.append((number, tuple(pieces)))
        self._prefixes = _Starts(prefixes)
        self._suffixes = _Starts(suffixes)

    def first(self, path: bytes) -> int:
        """The number of the first group that has a matching pattern, `count` if none has."""
        found = min(self._any, self._exact.get(path, self._any))
        starts = self._prefixes
        if path.startswith(starts.texts):
            found = min(found, starts.first(path))
        starts = self._suffixes
        if starts.texts:
            turned = path[::-1]
            if turned.startswith(starts.texts):
                found = min(found, starts.first(turned))
        for number, pieces in self._general:
            if number >= found:
                break
            if glob_fits(path, pieces):
                return number
        return found


class _Starts:
    """Literal beginnings, in order of their numbers."""

    __slots__ = ("_numbers", "_one_of", "texts")

    def __init__(self, starts: Sequence[tuple[bytes, int]]) -> None:
        self.texts = tuple(text for text, _ in starts)  # startswith with a tuple is the cheapest way to say no
        self._numbers = [number for _, number in starts]
        self._one_of = re.compile(b"|".join(b"(%b)" % re.escape(text) for text in self.texts))

    def first(self, text: bytes) -> int:
        """The least number of those the text starts with; there is one. Alternatives are tried in their order."""
        found = self._one_of.match(text)
        assert found is not None
        assert found.lastindex is not None
        return self._numbers[found.lastindex - 1]


def unescaped(path: bytes) -> bytes:
    """The path with escaped unreserved characters in clear (RFC 3986 §6.2.2.2)."""
    if b"%" not in path:
        return path
    return _ESCAPED_UNRESERVED.sub(lambda found: bytes([int(found[0][1:], 16)]), path)


# ---- one site ----------------------------------------------------------------------------------


class _Site:
    """The rules of one site in order, and what becomes of a request that none of them matches."""

    __slots__ = ("_dropped", "_last", "_paths", "_rules", "view")

    def __init__(
        self,
        config: Config,
        site: Site,
        view: SiteView,
        rules: Sequence[Rule],
        pools: dict[str, PoolSpec],
        files: Mapping[str, bytes],
    ) -> None:
        self.view = view
        own = _pool(site, view.name, view.name, site.upstream)
        if own is not None:
            pools[own.name] = own
        self._rules: list[_Rule] = []
        for rule in rules:
            pool = _pool(site, view.name, f"{view.name}/{rule.name}", rule.upstream) or own
            if pool is not None:
                pools[pool.name] = pool
            self._rules.append(_Rule(rule, _target(config, site, view.name, rule, pool, files)))
        self._paths = Patterns([rule.match.path or ("*",) for rule in rules])
        self._last = _way(view.name, "", own, _cache_rules(config, site, None))
        self._dropped = _parameter_pattern(site.session_arguments) if site.preset == "tomcat" else None

    def decide(self, request: RequestHead) -> Route | FixedAnswer | Failure:
        path = request.path
        if b"%" in path:
            path = unescaped(path)
        if self._dropped is not None and b";" in path:
            path = self._dropped.sub(b"", path)
        first = self._paths.first(path)
        if first == self._paths.count:
            return self._last.answer(request)
        rule = self._rules[first]
        if rule.plain:
            return rule.target.answer(request)
        for rule in self._rules[first:]:
            if rule.matches(request, path):
                return rule.target.answer(request)
        return self._last.answer(request)


def _parameter_pattern(names: Sequence[str]) -> re.Pattern[bytes] | None:
    if not names:
        return None
    return re.compile(rb"(?i);(?:%b)=[^;/]*" % b"|".join(re.escape(name.encode()) for name in names))


class _Rule:
    __slots__ = ("hosts", "methods", "paths", "plain", "target")

    def __init__(self, rule: Rule, target: _Target) -> None:
        self.target = target
        self.paths = Patterns([rule.match.path or ("*",)])
        self.hosts = tuple(map(host_bytes, rule.match.host))
        self.methods = frozenset(method.encode() for method in rule.match.method)
        self.plain = not self.hosts and not self.methods

    def matches(self, request: RequestHead, path: bytes) -> bool:
        if self.paths.first(path):
            return False
        if self.methods and request.method not in self.methods:
            return False
        return not self.hosts or _names_match(host_of(request.authority), self.hosts)


# ---- what a rule leads to ----------------------------------------------------------------------


class _Way:
    """To a pool. The Route values are made once: one without session, and one per jvmRoute of the pool."""

    __slots__ = ("_by_session", "_cookies", "_plain")

    def __init__(
        self, site: str, rule: str, pool: PoolSpec, rules: CacheRules, past_cache: tuple[Network, ...] = ()
    ) -> None:
        def route(session: str | None) -> Route:
            return Route(site, rule, pool.name, rules, session, past_cache=past_cache)

        self._plain = route(None)
        self._by_session = {o.route.encode(): route(o.route) for o in pool.origins if o.route}
        # A Cookie that never travels leads nowhere.
        self._cookies = bool(rules.bypass or past_cache) or not cookies.is_dropped(b"JSESSIONID", rules)

    def answer(self, request: RequestHead) -> Route:
        """With the session of the cookie, else of the path: Tomcat looks at them in this order."""
        if not self._by_session:
            return self._plain
        if self._cookies:
            for line in request.fields.all(b"cookie"):
                if b"JSESSIONID" in line:
                    # A browser may send several, of different paths: the first that one of our origins made counts.
                    for name in _SESSION_COOKIE.findall(line):
                        if name in self._by_session:
                            return self._by_session[name]
        if b";" in request.path:
            found = _SESSION_PARAMETER.search(request.path)
            if found is not None:
                return self._by_session.get(found[1], self._plain)
        return self._plain


class _Fixed:
    """To an answer that is always the same."""

    __slots__ = ("_answer",)

    def __init__(self, site: str, rule: str, answer: Answer, files: Mapping[str, bytes]) -> None:
        body = files[answer.file] if answer.file else answer.body.encode()
        head = ResponseHead(answer.status, b"", Fields([(b"Content-Type", answer.type.encode("latin-1"))]))
        self._answer = FixedAnswer(site, rule, head, body)

    def answer(self, request: RequestHead) -> FixedAnswer:
        return self._answer


class _Redirect:
    """To a place made of the request's parts. `{host}` is without port; without query, `?{query}` is nothing."""

    __slots__ = ("_local", "_parts", "_rule", "_site", "_status")

    def __init__(self, site: str, rule: str, redirect: Redirect) -> None:
        self._site = site
        self._rule = rule
        self._status = redirect.status
        self._parts = re.split(rb"(\{scheme\}|\{host\}|\{path\}|\??\{query\})", redirect.to.encode())
        self._local = redirect.to.startswith("{path}")

    def answer(self, request: RequestHead) -> FixedAnswer:
        path = b"/" if request.path == b"*" else request.path
        if self._local:
            path = b"/" + path.lstrip(b"/\\")  # `//elsewhere` would name another host (RFC 3986 §4.2)
        query = request.query
        values = {
            b"{scheme}": request.scheme,
            b"{host}": host_of(request.authority),
            b"{path}": path,
            b"{query}": query or b"",
            b"?{query}": b"" if query is None else b"?" + query,
        }
        to = b"".join(values.get(part, part) for part in self._parts)
        head = ResponseHead(self._status, b"", Fields([(b"Location", to)]))
        return FixedAnswer(self._site, self._rule, head, b"")


class _Nowhere:
    """The site has no origins, and no rule answers instead."""

    __slots__ = ()

    def answer(self, request: RequestHead) -> Failure:
        return Failure(errors.NOT_FOUND, "no rule and no origin for this path")


_Target = _Way | _Fixed | _Redirect | _Nowhere


def _target(
    config: Config, site: Site, name: str, rule: Rule, pool: PoolSpec | None, files: Mapping[str, bytes]
) -> _Target:
    if rule.redirect is not None:
        return _Redirect(name, rule.name, rule.redirect)
    if rule.answer is not None:
        return _Fixed(name, rule.name, rule.answer, files)
    past_cache = rule.bypass.clients if rule.bypass is not None else ()
    return _way(name, rule.name, pool, _cache_rules(config, site, rule), past_cache)


def _way(
    site: str, rule: str, pool: PoolSpec | None, rules: CacheRules, past_cache: tuple[Network, ...] = ()
) -> _Way | _Nowhere:
    return _Nowhere() if pool is None else _Way(site, rule, pool, rules, past_cache)


# ---- configuration into values -----------------------------------------------------------------


def site_names(config: Config) -> tuple[str, ...]:
    """The name of each site: its own, its first host, or its number."""
    return tuple(
        site.name or (site.hosts[0] if site.hosts else f"site-{number}") for number, site in enumerate(config.site, 1)
    )


def _view(site: Site, name: str, files: Mapping[str, bytes]) -> SiteView:
    return SiteView(
        name=name,
        trusted=site.trusted,
        purge_from=site.purge_from,
        pass_fields=frozenset(_lowered(site.pass_fields)),
        rewrite_host=site.host == "rewrite",
        rewrite_redirects=site.rewrite_redirects,
        error_pages={int(status): files[path] for status, path in site.error_pages.items()},
        upgrade=frozenset(_lowered(site.upgrade)),
        max_body=site.max_body,
        encode_target=site.encode_target,
        allow_trace=site.allow_trace,
        explain_from=site.explain_from,
    )


def _cache_rules(config: Config, site: Site, rule: Rule | None) -> CacheRules:
    """What the site says, and what the rule says instead or beside it."""
    own = rule if rule is not None else NO_RULE
    keyed = own.key if own.key is not None else Key()
    fields = {*_lowered(site.pass_fields), *_lowered(keyed.header), *((DEVICE,) if keyed.device else ())}
    return CacheRules(
        enabled=config.cache.memory > 0 and own.cache,
        ttl=_seconds(own.ttl),
        status_ttl=tuple(sorted((int(status), float(ttl)) for status, ttl in own.status_ttl.items())),
        min_ttl=_seconds(own.min_ttl),
        max_ttl=_seconds(own.max_ttl),
        grace=float(own.grace),
        refresh_ahead=float(own.refresh_ahead),
        hit_for_miss=float(own.hit_for_miss),
        ignore_cookies=own.cookies == "ignore",
        drop_cookies=_bytes(own.drop_cookies),
        keep_cookies=_bytes(own.keep_cookies),
        set_cookie=site.set_cookie if own.set_cookie is None else own.set_cookie,
        session_cookies=frozenset(_bytes(site.session_cookies)),
        session_arguments=frozenset(_lowered(site.session_arguments)),
        drop_session_from_key=site.preset == "tomcat",
        key_fields=tuple(sorted(fields)),
        key_cookies=tuple(sorted(set(_bytes(keyed.cookie)))),
        device=keyed.device,
        query=_query_rules(own.query),
        bypass=_bypassing(own.bypass),
        honour_request=site.honour_request if own.honour_request is None else own.honour_request,
        ignore_reload=own.ignore_reload,
        trust_age=config.cache.trust_age,
        stale_on_error=float(site.stale_on_error if own.stale_on_error is None else own.stale_on_error),
        max_object=config.cache.max_object,
        partial=True,
        targeted=tuple(_lowered(site.targeted)),
        surrogate=site.surrogate,
        hidden_fields=frozenset(_lowered(site.hide_fields)) | (SURROGATE if site.surrogate else frozenset()),
    )


def _query_rules(query: Query | None) -> QueryRules | None:
    if query is None or query == Query():
        return None
    return QueryRules(query.sort, _bytes(query.drop), _bytes(query.keep))


def _bypassing(said: Bypass | None) -> Bypassing | None:
    """The conditions that a request's head can meet; networks are looked at elsewhere."""
    if said is None or not (said.cookie or said.header or said.query):
        return None
    fields = []
    for text in said.header:
        name, colon, value = text.partition(":")
        fields.append((name.lower().encode(), value.strip().encode() if colon else None))
    return Bypassing(_bytes(said.cookie), tuple(fields), _bytes(said.query))


def _seconds(duration: Duration | None) -> float | None:
    return None if duration is None else float(duration)


def _bytes(texts: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(text.encode() for text in texts)


def _lowered(names: Iterable[str]) -> list[bytes]:
    return [name.lower().encode() for name in names]


def _pool(site: Site, name: str, pool: str, upstream: Sequence[Upstream]) -> PoolSpec | None:
    """The pool of a site or of a rule's own origins; None where there are none."""
    if not upstream:
        return None
    named = next((host for host in site.hosts if not host.startswith("*.")), "") if site.host == "keep" else ""
    return PoolSpec(
        name=pool,
        site=name,
        origins=tuple(build_origin(one, site.upstream_tls) for one in upstream),
        balance=site.balance,
        health=site.health,
        eject=site.eject,
        timeouts=site.timeouts,
        retry=site.retry,
        check_host=named,
    )


def lone_pool(site: str, name: str, origin: Origin, timeouts: Timeouts, *, retry: bool) -> PoolSpec:
    """The pool of an origin that stands alone, whoever names it: it is the only one, so nothing puts it aside."""
    return PoolSpec(
        name=name,
        site=site,
        origins=(origin,),
        balance="round-robin",
        health=None,
        eject=Ejection(failures=0),
        timeouts=timeouts,
        retry=retry,
    )


def build_origin(upstream: Upstream, tls: UpstreamTls) -> Origin:
    """The origin that one entry of `upstream` means; ValueError for a faulty address."""
    address = parse_address(upstream.address)
    return Origin(
        scheme=address.scheme,
        host=address.host,
        port=address.port,
        route=upstream.route,
        weight=upstream.weight,
        max_connections=upstream.max_connections,
        tls_name=tls.name,
        tls_verify=tls.verify,
        tls_ca=tls.ca,
    )
