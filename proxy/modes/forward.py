"""Forward mode: whether this client may ask for that, and which origin the request itself names. Pure.

A request comes in absolute-form or as CONNECT (RFC 9112 §3.2); its host has been checked (`http/checks.py`). What is
asked in another form is asked of the proxy itself. Where a name leads is judged by `reach.py` when its addresses are
known, before any of them is connected to.
"""

from __future__ import annotations

from hashlib import blake2b
from ipaddress import ip_address
from typing import TYPE_CHECKING

from config.schema import FORWARD, Ejection
from proxy import errors
from proxy.errors import Failure
from proxy.exchange import Origin, PoolSpec, Route, Tunnel
from proxy.http.checks import DEFAULT_PORTS, split_authority
from proxy.modes.reach import PublicReach
from proxy.modes.reverse import SiteView, is_in
from proxy.policy.rules import CacheRules

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from config.schema import Config
    from config.schema import Forward as Options
    from config.units import Listen, Ports
    from proxy.exchange import Client, Way
    from proxy.http.message import RequestHead
    from proxy.modes.reach import Address

_SESSION_ARGUMENTS = frozenset({b"jsessionid", b"phpsessid", b"sid", b"sessionid"})


class Forward:
    """The forward proxy, compiled. `listeners` are those that belong to it."""

    def __init__(self, config: Config, options: Options, files: Mapping[str, bytes]) -> None:
        """`files` has the contents of the files that the configuration names, by their paths as they stand there."""
        self.listeners: tuple[Listen, ...] = tuple(dict.fromkeys(options.listen))
        self.view = _view(options, files)
        self.reach = PublicReach(options.allow_private, ours_of(config), listeners_of(config))
        self.rules = public_rules(
            config, self.reach, honour_request=options.honour_request, stale_on_error=float(options.stale_on_error)
        )
        self.options = options

    def site_of(self, authority: bytes, listener: int) -> SiteView:
        """What the rest of the proxy needs to know of this mode: the same for every request."""
        return self.view

    def classify(self, address: str) -> bool:
        """Equal for clients whose equal requests fare alike."""
        return is_in(address, self.options.clients)

    def route(self, request: RequestHead, client: Client) -> Way:
        """Where the request goes, or why it goes nowhere."""
        if not is_in(client.address, self.options.clients):
            return Failure(errors.STRANGER, "the client's address is in none of `clients`")
        if request.method == b"CONNECT":
            return self._connect(request.authority)
        if not request.scheme:
            return Failure(errors.NO_SERVER, "asked in origin-form")
        host, port = _host_and_port(request.authority, request.scheme)
        if not _is_among(port, self.options.ports):
            return Failure(errors.PORT_REFUSED, f"port {port} is not in `ports`")
        return Route(FORWARD, "", "", self.rules, origin=self.origin(host, port))

    def _connect(self, authority: bytes) -> Tunnel | Failure:
        host, port = _host_and_port(authority, b"")
        if not _is_among(port, self.options.connect_ports):
            return Failure(errors.PORT_REFUSED, f"port {port} is not in `connect_ports`")
        return Tunnel(FORWARD, "", self.origin(host, port), self.options.timeouts)

    def origin(self, host: str, port: int) -> Origin:
        return Origin("http", host, port, reach=self.reach)

    def pool_spec(self, origin: Origin) -> PoolSpec:
        """The pool of an origin that a request names: it is the only one, so nothing puts it aside."""
        return PoolSpec(
            name=origin.address,
            site=FORWARD,
            origins=(origin,),
            balance="round-robin",
            health=None,
            eject=Ejection(failures=0),
            timeouts=self.options.timeouts,
            retry=self.options.retry,
        )


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
    return b"public-%b " % blake2b(said.encode(), digest_size=3).hexdigest().encode()


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


def _view(options: Options, files: Mapping[str, bytes]) -> SiteView:
    return SiteView(
        name=FORWARD,
        trusted=(),
        purge_from=(),
        pass_fields=frozenset(),
        rewrite_host=False,
        rewrite_redirects=False,
        error_pages={int(status): files[path] for status, path in options.error_pages.items()},
        upgrade=frozenset({b"websocket"}),
        max_body=options.max_body,
        encode_target=False,
        allow_trace=False,
        identify=options.identify,
    )
