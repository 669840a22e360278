"""The doors of the modes, and which protocol a connection that comes through one of them speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from proxy.modes.forward import Forward
from proxy.modes.reverse import site_names
from proxy.modes.transparent import Transparent
from proxy.server.destination import finder
from proxy.server.front import Door
from proxy.server.protocol import ClientConnection
from proxy.server.splicing import SplicedConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from config.schema import Config, Limits, Site
    from config.units import Listen
    from proxy.modes.every import Modes
    from proxy.modes.reverse import SiteView
    from proxy.server.front import Front


def doors_of(mode: Modes, config: Config) -> dict[Listen, Door]:
    """The door of each address, in the order in which clients count listeners."""
    doors: dict[Listen, Door] = {}
    named = dict(zip(site_names(config), config.site, strict=True))
    for index, listen in enumerate(mode.listeners):
        owner = mode.mode_of(index)
        if isinstance(owner, Forward):
            doors[listen] = _forward_door(listen, index, owner, config.limits)
        elif isinstance(owner, Transparent):
            doors[listen] = _transparent_door(listen, index, owner, config.limits)
        else:
            here = {name: site for name, site in named.items() if listen in site.listen}
            doors[listen] = _reverse_door(listen, index, here, owner.sites, config.limits)
    return doors


def _reverse_door(
    listen: Listen, index: int, sites: Mapping[str, Site], views: Mapping[str, SiteView], limits: Limits
) -> Door:
    """An address of these sites, by their names: the first answers those who name no host."""
    secure = any(site.speaks_tls(listen) for site in sites.values())
    first = next(iter(sites.values()))
    host = next((host for host in first.hosts if not host.startswith("*.")), "localhost")
    authority = host if listen.port in {80, 443} else f"{host}:{listen.port}"
    return Door(
        listen,
        index,
        b"https" if secure else b"http",
        "reverse",
        limits,
        {name: views[name] for name in sites},
        authority.encode(),
    )


def _forward_door(listen: Listen, index: int, forward: Forward, limits: Limits) -> Door:
    """A listening address of the forward proxy. Its views are in no need of trust: nobody stands in front of it."""
    return Door(
        listen,
        index,
        b"http",
        "forward",
        replace(limits, per_client=forward.options.per_client),
        {forward.view.name: forward.view},
        b"localhost:%d" % listen.port,
        forward.classify,
    )


def _transparent_door(listen: Listen, index: int, transparent: Transparent, limits: Limits) -> Door:
    """Where taken connections arrive: of HTTP, or of HTTPS."""
    splices = listen != transparent.listeners[0]
    return Door(
        listen,
        index,
        b"http",
        "transparent",
        replace(limits, per_client=transparent.options.per_client),
        {transparent.view.name: transparent.view},
        b"localhost",
        transparent.classify,
        finds=finder(transparent.options.method, listen.port),
        splices=transparent.judge_hello if splices else None,
    )


def acceptor(front: Front, door_now: Callable[[], Door]) -> Callable[[], ClientConnection | SplicedConnection]:
    """Makes the protocol of each new connection, by what its door is when it comes."""

    def accepted() -> ClientConnection | SplicedConnection:
        door = door_now()
        return ClientConnection(front, door) if door.splices is None else SplicedConnection(front, door)

    return accepted
