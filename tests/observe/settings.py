"""Settings for the admin service in tests: what the supervisor would have given it."""

import socket

from config.schema import Config
from config.units import Listen
from proxy import region
from proxy.service import Listener, Settings


def settings(runtime, config=None, *, workers=1, listeners=(), secrets=None, files=None, generation=1, shared=None):
    return Settings(
        config=config or Config(),
        generation=generation,
        digest="0123456789abcdef",
        name="admin",
        index=-1,
        workers=workers,
        listeners=tuple(listeners),
        secrets=secrets or {},
        files=files or {},
        base=runtime,
        runtime=runtime,
        shared=region.Region.create().all_slots() if shared is None else shared,
    )


def listener(host="127.0.0.1", serial=1):
    """A bound, listening socket as the supervisor hands it over; its descriptor is the caller's."""
    sock = socket.create_server((host, 0))
    address = sock.getsockname()[:2]
    return Listener(Listen(host, address[1]), address, serial, sock.detach())
