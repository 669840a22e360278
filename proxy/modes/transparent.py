"""Transparent mode: connections that were taken on their way, to where they were going. Pure.

A client names a host on its own word, in Host or in a ClientHello. The original destination is what is connected to,
whatever is named; a name is a key of the cache only where our own resolver gives that destination for it, so nobody
fills the store under a foreign name. HTTPS is never opened: its name is read for rules and logs (client_hello.py).
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, assert_never

from config.schema import TRANSPARENT
from proxy import errors
from proxy.errors import Failure
from proxy.exchange import Origin, PoolSpec, Route, Tunnel, Unproven
from proxy.http.checks import split_authority
from proxy.modes.access import Access, Allow, ByAddress, Deny, Login, Question, access_rules
from proxy.modes.client_hello import Hello
from proxy.modes.forward import (
    denial,
    listeners_of,
    minute_at,
    ours_of,
    public_rules,
    public_view,
    steady_for,
)
from proxy.modes.reach import PublicReach
from proxy.modes.reverse import lone_pool

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from config.schema import Config
    from config.schema import Transparent as Options
    from proxy.exchange import Client, Way
    from proxy.http.message import RequestHead
    from proxy.modes.access import Names
    from proxy.modes.client_hello import NoHello, Unfinished
    from proxy.modes.reverse import SiteView


class Transparent:
    """The gateway's proxy, compiled. `listeners`: where taken HTTP arrives, then where taken HTTPS does."""

    def __init__(self, config: Config, options: Options, lists: Mapping[str, Names]) -> None:
        self.options = options
        self.access = Access(
            access_rules(config, TRANSPARENT), options.clients, lists=lists, otherwise=options.otherwise == "allow"
        )
        self._timed = self.access.minutes_left(0) is not None
        self.listeners = options.arrivals
        self.view = public_view(TRANSPARENT)
        self.reach = PublicReach(options.allow_private, ours_of(config), listeners_of(config), TRANSPARENT)
        self.rules = public_rules(
            config, self.reach, honour_request=options.honour_request, stale_on_error=float(options.stale_on_error)
        )

    def site_of(self, authority: bytes, listener: int) -> SiteView:
        """The same for every request."""
        return self.view

    def classify(self, client: Client) -> Hashable:
        """Equal for clients whose equal requests fare alike."""
        return self.access.class_of(client.address), client.destination, self._source(client)

    def steady_for(self, wall: float) -> float:
        """For how many seconds from now on decisions stay as they are."""
        return steady_for(self.access, wall)

    def route(self, request: RequestHead, client: Client, user: str = "", wall: float = 0.0) -> Way:
        """Where the client was going, with what the name that it gives is worth."""
        if client.destination is None:
            return Failure(errors.STRANGER, "came to this port by name, not on its way to another")
        address, port = client.destination
        host, asked = split_authority(request.authority)
        name = host.strip(b"[]").decode("ascii")
        method = request.method.decode("ascii")
        same_port = int(asked[1:] or b"80") == port if asked else port == _HTTP
        if _is_literal(name):
            if same_port and ip_address(name) == ip_address(address):
                return self._route(client, address, method, wall)
            name = ""
        proven = self._route(client, name, method, wall) if name else self._route(client, address, method, wall)
        if isinstance(proven, Failure):
            return proven
        # A name that is a lie must not lead past a rule about what it hides, nor past one about itself.
        return Unproven(name if same_port else "", address, proven, self._route(client, address, method, wall))

    def _route(self, client: Client, host: str, method: str, wall: float) -> Route | Failure:
        verdict = self._decide(client, host, method, wall)
        if isinstance(verdict, Deny):
            return denial(verdict, host)
        return Route(TRANSPARENT, verdict.rule, "", self.rules, origin=self.origin(client), reports=verdict.reports)

    def _decide(self, client: Client, host: str, method: str, wall: float) -> Allow | Deny:
        """What rules say of this name at the address that the client was going to."""
        assert client.destination is not None
        address, port = client.destination
        minute = minute_at(wall) if self._timed else 0
        verdict = self.access.decide(Question(client.address, "", host, port, method, minute))
        match verdict:
            case ByAddress():
                return verdict.judge(address)
            case Login(rule=rule):  # nobody can log in here, so nobody has
                return Deny(rule=rule)
            case Allow() | Deny():
                return verdict
            case unreachable:
                assert_never(unreachable)

    def origin(self, client: Client) -> Origin:
        """Where it was going."""
        assert client.destination is not None
        address, port = client.destination
        return Origin("http", address, port, reach=self.reach, source=self._source(client))

    def _source(self, client: Client) -> str:
        """Whose address an origin sees: what was connected under one client's serves no other."""
        return client.address if self.options.spoof else ""

    def judge_hello(self, said: Hello | Unfinished | NoHello, client: Client, wall: float = 0.0) -> Tunnel | Failure:
        """What becomes of a connection of HTTPS that began with this; Unfinished: it has said no more in time."""
        if client.destination is None:
            return Failure(errors.STRANGER, "came to this port by name, not on its way to another")
        name = said.name if isinstance(said, Hello) else ""
        host = name or client.destination[0]
        verdict = self._decide(client, host, "CONNECT", wall)
        if isinstance(verdict, Deny):
            return denial(verdict, host)
        if not name and self.options.nameless == "deny":
            return Failure(errors.FORBIDDEN, "no server name that could be read")
        return Tunnel(TRANSPARENT, verdict.rule, self.origin(client), self.options.timeouts, reports=verdict.reports)

    def pool_spec(self, origin: Origin) -> PoolSpec:
        """The pool of an origin that a client was going to."""
        return lone_pool(TRANSPARENT, origin.address, origin, self.options.timeouts, retry=True)


_HTTP = 80


def _is_literal(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
