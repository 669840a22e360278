"""Where a connection was going that has been taken on its way, as the kernel tells (transparent mode).

With `redirect` the kernel has translated the destination and remembers it (SO_ORIGINAL_DST, linux/netfilter_ipv4.h);
with `tproxy` it has not, so our own end of the connection has the address that the client asked for.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    import asyncio

Finder = Callable[["asyncio.Transport"], tuple[str, int] | None]

_SO_ORIGINAL_DST: Final = 80  # and IP6T_SO_ORIGINAL_DST, the same number
_SOCKADDR_IN: Final = 16
_SOCKADDR_IN6: Final = 28


def finder(method: Literal["redirect", "tproxy"], port: int) -> Finder:
    """Tells the original destination; None for who came to our own `port` by name."""
    ask = _translated if method == "redirect" else _own

    def find(transport: asyncio.Transport) -> tuple[str, int] | None:
        raw: Any = transport.get_extra_info("socket")
        try:
            found = ask(raw)
        except OSError:  # it was never translated
            return None
        return None if found[1] == port and found == tuple(raw.getsockname()[:2]) else found

    return find


def _translated(raw: Any) -> tuple[str, int]:
    if raw.family == socket.AF_INET6:
        told = raw.getsockopt(socket.IPPROTO_IPV6, _SO_ORIGINAL_DST, _SOCKADDR_IN6)
        return socket.inet_ntop(socket.AF_INET6, told[8:24]), struct.unpack_from("!H", told, 2)[0]
    told = raw.getsockopt(socket.IPPROTO_IP, _SO_ORIGINAL_DST, _SOCKADDR_IN)
    return socket.inet_ntop(socket.AF_INET, told[4:8]), struct.unpack_from("!H", told, 2)[0]


def _own(raw: Any) -> tuple[str, int]:
    host, port, *_ = raw.getsockname()
    return host, port
