"""The doors of the modes, and which protocol a connection that comes through one of them speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from proxy.server.destination import finder
from proxy.server.front import Door
from proxy.server.protocol import ClientConnection
from proxy.server.splicing import SplicedConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.schema import Limits
    from config.units import Listen
    from proxy.modes.forward import Forward
    from proxy.modes.transparent import Transparent
    from proxy.server.front import Front


def forward_door(listen: Listen, index: int, forward: Forward, limits: Limits) -> Door:
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


def acceptor(front: Front, door_now: Callable[[], Door]) -> Callable[[], ClientConnection | SplicedConnection]:
    """Makes the protocol of each new connection, by what its door is when it comes."""

    def accepted() -> ClientConnection | SplicedConnection:
        door = door_now()
        return ClientConnection(front, door) if door.splices is None else SplicedConnection(front, door)

    return accepted


def transparent_door(listen: Listen, index: int, transparent: Transparent, limits: Limits) -> Door:
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
