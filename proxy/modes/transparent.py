"""Transparent mode: connections that were taken on their way, to where they were going. Pure.

A client names a host on its own word, in Host or in a ClientHello. The original destination is what is connected to,
whatever is named; a name is a key of the cache only where our own resolver gives that destination for it, so nobody
fills the store under a foreign name. HTTPS is never opened: its name is read for rules and logs (client_hello.py).
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from config.schema import TRANSPARENT, Ejection
from proxy import errors
from proxy.errors import Failure
from proxy.exchange import Origin, PoolSpec, Route, Tunnel, Unproven
from proxy.http.checks import split_authority
from proxy.modes.client_hello import Hello
from proxy.modes.forward import listeners_of, ours_of, public_rules
from proxy.modes.reach import PublicReach
from proxy.modes.reverse import SiteView, is_in

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from config.schema import Config
    from config.schema import Transparent as Options
    from proxy.exchange import Client, Way
    from proxy.http.message import RequestHead
    from proxy.modes.client_hello import NoHello, Unfinished


class Transparent:
    """The gateway's proxy, compiled. `listeners`: where taken HTTP arrives, then where taken HTTPS does."""

    def __init__(self, config: Config, options: Options, files: Mapping[str, bytes]) -> None:
        self.options = options
        self.listeners = options.arrivals
        self.view = _view()
        self.reach = PublicReach(options.allow_private, ours_of(config), listeners_of(config), TRANSPARENT)
        self.rules = public_rules(
            config, self.reach, honour_request=options.honour_request, stale_on_error=float(options.stale_on_error)
        )

    def site_of(self, authority: bytes, listener: int) -> SiteView:
        """The same for every request."""
        return self.view

    def classify(self, client: Client) -> Hashable:
        """Equal for clients whose equal requests fare alike."""
        return is_in(client.address, self.options.clients), client.destination

    def route(self, request: RequestHead, client: Client, user: str = "", wall: float = 0.0) -> Way:
        """Where the client was going, with what the name that it gives is worth."""
        if client.destination is None:
            return Failure(errors.STRANGER, "came to this port by name, not on its way to another")
        if not is_in(client.address, self.options.clients):
            return Failure(errors.STRANGER, "the client's address is in none of `clients`")
        address, port = client.destination
        host, asked = split_authority(request.authority)
        name = host.strip(b"[]").decode("ascii")
        origin = self.origin(client)
        sure = Route(TRANSPARENT, "", "", self.rules, origin=origin)
        doubtful = Route(TRANSPARENT, "", "", self.rules, origin=origin)
        same_port = int(asked[1:] or b"80") == port if asked else port == _HTTP
        if _is_literal(name):
            if same_port and ip_address(name) == ip_address(address):
                return sure
            name = ""
        return Unproven(name if same_port else "", address, sure, doubtful)

    def origin(self, client: Client) -> Origin:
        assert client.destination is not None
        address, port = client.destination
        return Origin("http", address, port, reach=self.reach)

    def judge_hello(self, said: Hello | Unfinished | NoHello, client: Client) -> Tunnel | Failure:
        """What becomes of a connection of HTTPS that began with this; Unfinished: it has said no more in time."""
        if client.destination is None or not is_in(client.address, self.options.clients):
            return Failure(errors.STRANGER, "the client's address is in none of `clients`, or came by name")
        if not (isinstance(said, Hello) and said.name) and self.options.nameless == "deny":
            return Failure(errors.FORBIDDEN, "no server name that could be read")
        return Tunnel(TRANSPARENT, "", self.origin(client), self.options.timeouts)

    def pool_spec(self, origin: Origin) -> PoolSpec:
        """The pool of an origin that a client was going to: it is the only one, so nothing puts it aside."""
        return PoolSpec(
            name=origin.address,
            site=TRANSPARENT,
            origins=(origin,),
            balance="round-robin",
            health=None,
            eject=Ejection(failures=0),
            timeouts=self.options.timeouts,
            retry=True,
        )


_HTTP = 80


def _is_literal(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _view() -> SiteView:
    return SiteView(
        name=TRANSPARENT,
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
