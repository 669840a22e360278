"""Forward mode: whether this client may ask for that, and which origin the request itself names. Pure.

A request comes in absolute-form or as CONNECT (RFC 9112 §3.2); its host has been checked (`http/checks.py`). What is
asked in another form is asked of the proxy itself. Where a name leads is judged by `reach.py` when its addresses are
known, before any of them is connected to.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b
from ipaddress import ip_address
from math import inf
from typing import TYPE_CHECKING, assert_never

from cachetools import LRUCache

from config.schema import FORWARD, Ejection
from config.units import parse_address
from proxy import errors
from proxy.errors import Failure
from proxy.exchange import FixedAnswer, Origin, PoolSpec, Route, Tunnel
from proxy.http.checks import DEFAULT_PORTS, split_authority
from proxy.modes.access import (
    Access,
    Allow,
    ByAddress,
    Deny,
    Login,
    Question,
    Why,
    access_rules,
    explain,
    is_address,
    minute_of_week,
    parents_of,
)
from proxy.modes.mirror import Mirrors
from proxy.modes.pac import Pac, virtual_addresses
from proxy.modes.pace import Pace
from proxy.modes.reach import PublicReach
from proxy.modes.reverse import SiteView, is_in, lone_pool
from proxy.policy.rules import CacheRules
from proxy.users.htpasswd import parse_groups

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from config.schema import Config
    from config.schema import Forward as Options
    from config.units import Listen, Ports
    from proxy.exchange import Client, Reach, Way
    from proxy.http.message import RequestHead
    from proxy.modes.access import Names
    from proxy.modes.mirror import Mirror
    from proxy.modes.reach import Address

PARENTS = "forward/parents"  # name of their pool
RULINGS = 1024  # of rules that wait for an address, kept
_SESSION_ARGUMENTS = frozenset({b"jsessionid", b"phpsessid", b"sid", b"sessionid"})


class Forward:
    """The forward proxy, compiled. `listeners` are those that belong to it."""

    def __init__(
        self,
        config: Config,
        options: Options,
        files: Mapping[str, bytes],
        lists: Mapping[str, Names],
        secrets: Mapping[str, bytes],
    ) -> None:
        """`files` has the contents of the files that the configuration names, by their paths as they stand there."""
        self.listeners: tuple[Listen, ...] = tuple(dict.fromkeys(options.listen))
        self.view = _view(options, files)
        self.reach = PublicReach(options.allow_private, ours_of(config), listeners_of(config))
        self.rules = public_rules(
            config, self.reach, honour_request=options.honour_request, stale_on_error=float(options.stale_on_error)
        )
        self.options = options
        self.access = Access(
            access_rules(config, "forward"),
            options.clients,
            groups=_groups(options, files),
            lists=lists,
            login=bool(options.users),
            otherwise=options.otherwise == "allow",
        )
        self.mirrors = Mirrors(config, options, secrets)
        self.pools = _parents(options, secrets) | self.mirrors.pools
        self._has_parents = bool(options.parent)
        self._direct = frozenset(name.lower().removesuffix(".") for name in options.direct)
        self._pac = Pac(
            FORWARD,
            options.pac.proxy,
            options.pac.direct,
            [one.network for one in options.allow_private if not one.port],
            last_resort=options.pac.last_resort,
            vips=virtual_addresses(config),
        )
        self._pace = Pace(-(-options.requests // config.process.workers))  # each worker has its part
        self._bandwidth = {rule.name: rule.bandwidth for rule in config.rule if rule.bandwidth}
        self._timed = self.access.minutes_left(0) is not None
        self._ruled: LRUCache[ByAddress, tuple[Reach, CacheRules]] = LRUCache(RULINGS)

    def site_of(self, authority: bytes, listener: int) -> SiteView:
        """What the rest of the proxy needs to know of this mode: the same for every request."""
        return self.view

    def classify(self, client: Client) -> Hashable:
        """Equal for clients whose equal requests fare alike."""
        return self.access.class_of(client.address)

    def cache_rules(self) -> tuple[CacheRules, ...]:
        """All under which something may be stored now."""
        return (self.rules, *(rules for _, rules in self._ruled.values()), *self.mirrors.cache_rules())

    def steady_for(self, wall: float) -> float:
        """For how many seconds from now on decisions stay as they are."""
        return steady_for(self.access, wall)

    def route(self, request: RequestHead, client: Client, user: str = "", wall: float = 0.0) -> Way:
        """Where the request goes, or why it goes nowhere."""
        if not is_in(client.address, self.options.clients):
            return Failure(errors.STRANGER, "the client's address is in none of `clients`")
        if not request.scheme and request.method != b"CONNECT":
            mirror = self.mirrors.find(request.path)
            if mirror is not None:
                return self._by_mirror(mirror, request, client, user, wall)
            return self._own(request, client)
        host, port = _host_and_port(request.authority, request.scheme)
        minute = minute_at(wall) if self._timed else 0
        asked = Question(client.address, user, host, port, request.method.decode("ascii"), minute)
        match self.access.decide(asked):
            case Allow() as verdict:
                way = self._onward(request.method, host, port, self.reach, self.rules, verdict.rule, verdict.reports)
                return self._measured(way, verdict, user or client.address, wall)
            case ByAddress() as verdict:
                reach, rules = self._by_address(verdict)
                way = self._onward(request.method, host, port, reach, rules, "", verdict.reports)
                # The class is that of what most addresses lead to.
                return self._measured(way, verdict.last, user or client.address, wall)
            case Deny() as verdict:
                return denial(verdict, host)
            case Login() as verdict:
                return Failure(errors.LOGIN, "nobody has logged in", rule=verdict.rule)
            case unreachable:
                assert_never(unreachable)

    def _by_mirror(
        self, mirror: Mirror, request: RequestHead, client: Client, user: str, wall: float
    ) -> Route | Tunnel | Failure:
        """Under the same rules as if the client asked for the mirrored origin; any address is the operator's to name.

        A login is asked for as an origin does (401): 407 is a proxy's word.
        """
        origin = mirror.origin_of(request)
        minute = minute_at(wall) if self._timed else 0
        method = request.method.decode("ascii")
        verdict = self.access.decide(Question(client.address, user, origin.host, origin.port, method, minute))
        if isinstance(verdict, ByAddress):
            verdict = verdict.last
        match verdict:
            case Allow():
                way = mirror.route(request, client, verdict.rule, verdict.reports)
                return self._measured(way, verdict, user or client.address, wall)
            case Deny():
                return denial(verdict, origin.host)
            case Login():
                return Failure(errors.MIRROR_LOGIN, "nobody has logged in", rule=verdict.rule)
            case unreachable:
                assert_never(unreachable)

    def _measured(
        self, way: Route | Tunnel | Failure, verdict: Allow | Deny, who: str, wall: float
    ) -> Route | Tunnel | Failure:
        """How fast and how often, where that is bounded."""
        bandwidth = self._bandwidth.get(verdict.rule, "")
        if isinstance(way, Failure) or not (bandwidth or self._pace.rate):
            return way
        wait = self._pace.wait(who, wall)
        if wait:
            return Failure(errors.TOO_FAST, f"more than {self._pace.rate} requests per second", wait=wait)
        return replace(way, bandwidth=bandwidth, counted=self._pace.rate > 0)

    def _own(self, request: RequestHead, client: Client) -> FixedAnswer | Failure:
        """What is asked of the proxy itself. A browser fetches it before it can log in."""
        made = self._pac.answer(request.path, client.local) if request.method in {b"GET", b"HEAD"} else None
        return made or Failure(errors.NO_SERVER, "asked in origin-form")

    def _onward(
        self, method: bytes, host: str, port: int, reach: Reach, rules: CacheRules, rule: str, reports: tuple[str, ...]
    ) -> Route | Tunnel | Failure:
        tunnel = method == b"CONNECT"
        if not _is_among(port, self.options.connect_ports if tunnel else self.options.ports):
            return Failure(errors.PORT_REFUSED, f"port {port} is not in `{'connect_ports' if tunnel else 'ports'}`")
        if self._has_parents and not self._is_near(host, port):
            return self._by_parent(host, port, reach, rules, rule, reports, tunnel=tunnel)
        origin = Origin("http", host, port, reach=reach)
        if tunnel:
            return Tunnel(FORWARD, rule, origin, self.options.timeouts, "", reports)
        return Route(FORWARD, rule, "", rules, origin=origin, reports=reports)

    def _is_near(self, host: str, port: int) -> bool:
        """Reached without a parent: by name, or as an address that `allow_private` names."""
        return not self._direct.isdisjoint(parents_of(host)) or (is_address(host) and self.reach.allows(host, port))

    def _by_parent(
        self,
        host: str,
        port: int,
        reach: Reach,
        rules: CacheRules,
        rule: str,
        reports: tuple[str, ...],
        *,
        tunnel: bool,
    ) -> Route | Tunnel | Failure:
        """What a name leads to is the parent's to judge; an address is judged here, and so is a rule about one."""
        if is_address(host):
            failure = reach.refusal(host, port, here=False)
            if failure is not None:
                return failure
        elif reach is not self.reach:
            return Failure(errors.DENIED, f"{host}: a rule wants its address, which its parent alone finds out")
        if tunnel:
            origin = Origin("http", host, port)
            return Tunnel(FORWARD, rule, origin, self.options.timeouts, PARENTS, reports)
        return Route(FORWARD, rule, PARENTS, rules, reports=reports)

    def _by_address(self, ruling: ByAddress) -> tuple[Reach, CacheRules]:
        """Where the address decides, it does so for what is stored too: each ruling has keys of its own."""
        found = self._ruled.get(ruling)
        if found is None:
            reach = RuledReach(self.reach, ruling)
            space = self.rules.space[:-1] + b"-%b " % _digest(repr(ruling).encode())
            found = self._ruled[ruling] = (reach, replace(self.rules, space=space))
        return found

    def pool_spec(self, origin: Origin) -> PoolSpec:
        """The pool of an origin that a request names."""
        return lone_pool(FORWARD, origin.address, origin, self.options.timeouts, retry=self.options.retry)


@dataclass(frozen=True, slots=True)
class RuledReach:
    """What may be reached within the wider permission and by what rules say of the address."""

    within: PublicReach
    ruling: ByAddress

    def refusal(self, address: str, port: int, *, here: bool) -> Failure | None:
        """See `exchange.Reach`."""
        failure = self.within.refusal(address, port, here=here)
        if failure is not None:
            return failure
        verdict = self.ruling.judge(address)
        return denial(verdict, address) if isinstance(verdict, Deny) else None


def denial(verdict: Deny, host: str) -> Failure:
    kind = errors.STRANGER if verdict.why is Why.CLIENT else errors.DENIED
    return Failure(kind, f"{host} by rule", says=explain(verdict, host), rule=verdict.rule)


def minute_at(wall: float) -> int:
    return minute_of_week(datetime.fromtimestamp(wall).timetuple())  # noqa: DTZ006 - rules are for local time


def _host_and_port(authority: bytes, scheme: bytes) -> tuple[str, int]:
    """Of a checked authority; IPv6 without brackets."""
    host, port = split_authority(authority)
    return host.strip(b"[]").decode("ascii"), int(port[1:]) if port else DEFAULT_PORTS[scheme]


def _is_among(port: int, ports: Iterable[Ports]) -> bool:
    return any(one.first <= port <= one.last for one in ports)


# ---- configuration into values ---------------------------------------------------------------------------------------


def listeners_of(config: Config) -> tuple[Listen, ...]:
    """All that this instance listens on."""
    listens = [listen for site in config.site for listen in site.listen]
    listens += config.admin.listen
    if config.forward is not None:
        listens += config.forward.listen
    if config.transparent is not None:
        listens += config.transparent.arrivals
    return tuple(dict.fromkeys(listens))


def ours_of(config: Config) -> tuple[Address, ...]:
    """The addresses of the pair: of its nodes, its links and its virtual routers."""
    if config.ha is None:
        return ()
    vips = [*config.ha.vip, *(vip for router in config.ha.router for vip in router.vip)]
    texts = [vip.partition("/")[0] for vip in vips]
    texts += [text for node in config.ha.nodes.values() for text in (node.address, node.link, node.link_local) if text]
    return tuple(dict.fromkeys(map(ip_address, texts)))


def _space(reach: PublicReach) -> bytes:
    """What stands before the keys of public origins: what was reached under one permission answers under no other."""
    said = " ".join(one.text for one in reach.allowed)
    return b"public-%b " % _digest(said.encode())


def _digest(said: bytes) -> bytes:
    return blake2b(said, digest_size=3).hexdigest().encode()


def public_rules(config: Config, reach: PublicReach, *, honour_request: bool, stale_on_error: float) -> CacheRules:
    """As a cache that many users share: nothing with a cookie or a session in it is stored."""
    return CacheRules(
        enabled=config.cache.memory > 0,
        set_cookie="skip",
        session_arguments=_SESSION_ARGUMENTS,
        space=_space(reach),
        honour_request=honour_request,
        trust_age=config.cache.trust_age,
        stale_on_error=stale_on_error,
        max_object=config.cache.max_object,
        partial=True,
    )


def _parents(options: Options, secrets: Mapping[str, bytes]) -> dict[str, PoolSpec]:
    """The pool of proxies to ask: a URL goes to the same one while it is well, whose cache then knows it."""
    if not options.parent:
        return {}
    origins = []
    for parent in options.parent:
        address = parse_address(parent.address)
        login = b""
        if parent.login:
            said = secrets[parent.login].strip(b"\r\n")
            if b":" not in said or b"\n" in said:
                raise ValueError(f"{parent.login}: a login is one line, `user:password`")
            login = b"Basic " + base64.b64encode(said)
        origins.append(Origin("http", address.host, address.port, parent=login))
    spec = PoolSpec(
        name=PARENTS,
        site=FORWARD,
        origins=tuple(origins),
        balance="consistent-hash",
        health=None,
        eject=Ejection(),
        timeouts=options.timeouts,
        retry=options.retry,
    )
    return {PARENTS: spec}


def _groups(options: Options, files: Mapping[str, bytes]) -> dict[str, frozenset[str]]:
    if not options.groups:
        return {}
    groups, faults = parse_groups(files[options.groups], options.groups)
    if faults:
        raise ValueError("\n".join(faults))
    return groups


def _view(options: Options, files: Mapping[str, bytes]) -> SiteView:
    return replace(
        public_view(FORWARD),
        error_pages={int(status): files[path] for status, path in options.error_pages.items()},
        max_body=options.max_body,
        identify=options.identify,
        challenge=b'Basic realm="%b", charset="UTF-8"' % options.realm.encode() if options.users else b"",
    )


# ---- what transparent mode has too -----------------------------------------------------------------------------------


def public_view(name: str) -> SiteView:
    """Of a mode whose origins are anybody's: nobody stands in front of it, and nothing of them is rewritten."""
    return SiteView(
        name=name,
        trusted=(),
        purge_from=(),
        pass_fields=frozenset(),
        rewrite_host=False,
        rewrite_redirects=False,
        error_pages={},
        upgrade=frozenset({b"websocket"}),
        max_body=0,
        encode_target=False,
        allow_trace=False,
        identify=False,
    )


def steady_for(access: Access, wall: float) -> float:
    """For how many seconds from this wall time on its decisions stay as they are."""
    left = access.minutes_left(minute_at(wall))
    return inf if left is None else left * 60 - wall % 60
