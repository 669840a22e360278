"""The listening sockets of a run: opened by the supervisor alone, one per process and address, and kept while wanted.

A port is tried without SO_REUSEPORT first: with it a second instance would bind it silently and take half of the
connections. IP_FREEBIND lets an address be bound that is not there yet. `:80` is both families, a socket for each.
Invariant: a set of sockets is never changed; a reload makes another, which shares the sockets that stay.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy import bus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from config.schema import Config
    from config.units import Listen

_IP_FREEBIND: Final = 15  # <linux/in.h>, <linux/in6.h>; the socket module lacks them before 3.12
_IPV6_FREEBIND: Final = 78
_IP_TRANSPARENT: Final = 19
_IPV6_TRANSPARENT: Final = 75
_BACKLOG: Final = 4096  # cut to net.core.somaxconn by the kernel
_LISTENING: Final = "0A"  # state in /proc/net/tcp

ADMIN: Final = -1  # the index of the admin process, beside the workers' 0, 1, …
HA: Final = -2  # of ha, which listens on nothing that is opened here


class PortError(Exception):
    """An address cannot be listened on; one line names it, what holds it or which right is missing, and the remedy."""


@dataclass(frozen=True, slots=True)
class Place:
    """One socket's reason to be: which process, which address as written, which family."""

    index: int
    listen: Listen
    family: socket.AddressFamily
    foreign: bool = False  # it takes connections to addresses that are not ours (transparent mode)


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """An open listening socket."""

    sock: socket.socket
    address: tuple[str, int]
    serial: int

    def note(self, place: Place) -> bus.ListenerNote:
        return bus.ListenerNote(place.listen.host, place.listen.port, *self.address, self.serial)


Sockets = dict[Place, Held]


def wanted_places(config: Config, has_ipv6: bool) -> Iterator[Place]:
    """Every place that this configuration asks for. Raises PortError for what is no address."""
    forward = () if config.forward is None else config.forward.listen
    for listen in dict.fromkeys([*(listen for site in config.site for listen in site.listen), *forward]):
        for family in _families(listen, has_ipv6):
            for index in range(config.process.workers):
                yield Place(index, listen, family)
    for listen in config.transparent.arrivals if config.transparent is not None else ():
        for family in _families(listen, has_ipv6):
            for index in range(config.process.workers):
                yield Place(index, listen, family, foreign=True)
    for listen in dict.fromkeys(config.admin.listen):
        for family in _families(listen, has_ipv6):
            yield Place(ADMIN, listen, family)


def open_missing(config: Config, existing: Mapping[Place, Held], serials: Iterator[int]) -> Sockets:
    """The sockets that this configuration asks for: those of `existing` that it still wants, and new ones.

    Raises PortError, with everything closed again that was opened.
    """
    result: Sockets = {}
    try:
        for place in wanted_places(config, socket.has_ipv6 and _kernel_has_ipv6()):
            result[place] = existing.get(place) or _open(place, [*existing.items(), *result.items()], next(serials))
    except PortError:
        close(result, spare=existing)
        raise
    return result


def make_lendable(family: bus.Family, count: int) -> list[socket.socket]:
    """Unconnected sockets that may be bound to addresses that are not ours, whoever has them; fewer where there are no
    descriptors. Needs NET_ADMIN or NET_RAW, here alone: the kernel looks when the option is set, not when it is used.
    """
    number = socket.AF_INET if family == 4 else socket.AF_INET6
    made: list[socket.socket] = []
    with suppress(OSError):
        for _ in range(count):
            sock = socket.socket(number, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            made.append(sock)
            _accept_foreign(sock, number)
    return made


def reopen(place: Place, closed: Held, existing: Mapping[Place, Held], serial: int) -> Held:
    """A socket where one was closed, on the port that it had. Raises PortError."""
    return _bind(place, closed.address, [*existing.items()], serial)


def close(sockets: Mapping[Place, Held], spare: Mapping[Place, Held]) -> None:
    """Every socket is closed that `spare` does not have."""
    kept = {id(held) for held in spare.values()}
    for held in sockets.values():
        if id(held) not in kept:
            held.sock.close()


def of_process(sockets: Mapping[Place, Held], index: int) -> Iterable[tuple[Place, Held]]:
    return [(place, held) for place, held in sockets.items() if place.index == index]


def addresses(sockets: Mapping[Place, Held]) -> list[tuple[int, str, int]]:
    """What is listened on, each address once: (ADMIN or 0, address, port)."""
    return list(dict.fromkeys((min(place.index, 0), *held.address) for place, held in sockets.items()))


def _families(listen: Listen, has_ipv6: bool) -> list[socket.AddressFamily]:
    if not listen.host:
        return [socket.AF_INET, socket.AF_INET6] if has_ipv6 else [socket.AF_INET]
    if listen.host == "localhost":
        return [socket.AF_INET]
    try:
        version = ipaddress.ip_address(listen.host).version
    except ValueError as exc:
        raise PortError(f"{listen.host}:{listen.port}: listen takes an address, or `:{listen.port}` for all") from exc
    return [socket.AF_INET if version == 4 else socket.AF_INET6]


def _kernel_has_ipv6() -> bool:
    return Path("/proc/net/if_inet6").exists()


def _open(place: Place, others: list[tuple[Place, Held]], serial: int) -> Held:
    unspecified = "::" if place.family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104 - asked for by `:80`
    host = {"": unspecified, "localhost": "127.0.0.1"}.get(place.listen.host, place.listen.host)
    return _bind(place, (host, place.listen.port), others, serial)


def _bind(place: Place, address: tuple[str, int], others: list[tuple[Place, Held]], serial: int) -> Held:
    _check_admin_apart(place, others)
    try:
        if not any(address[1] == held.address[1] for _, held in others):  # a port that is ours already is not taken
            _try_alone(place.family, address)
        sock = _make(place.family)
        if place.foreign:
            _accept_foreign(sock, place.family)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(address)
            sock.listen(_BACKLOG)
        except OSError:
            sock.close()
            raise
    except OSError as exc:
        raise PortError(explain(address, exc)) from exc
    return Held(sock, sock.getsockname()[:2], serial)


def _check_admin_apart(place: Place, others: list[tuple[Place, Held]]) -> None:
    for other, _ in others:
        if other.listen == place.listen and (other.index == ADMIN) != (place.index == ADMIN):
            raise PortError(
                f"port {place.listen.port}: [admin] and a site ask for the same address; change one of them"
            )


def _make(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    return sock


def _accept_foreign(sock: socket.socket, family: socket.AddressFamily) -> None:
    """For tproxy. Needs NET_ADMIN or NET_RAW, which [transparent] has anyway."""
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)


def _try_alone(family: socket.AddressFamily, address: tuple[str, int]) -> None:
    with _make(family) as probe:
        probe.bind(address)


# ---- telling why -----------------------------------------------------------------------------------------------------


def explain(address: tuple[str, int], error: OSError) -> str:
    """One line: which port, why not, and what to do."""
    host, port = address
    if error.errno == errno.EADDRINUSE:
        holder = find_holder(port)
        return f"port {port} is taken by {holder or 'another process'}: stop it, or listen on another port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"port {port} needs the right CAP_NET_BIND_SERVICE: start as root, or as a unit with this capability "
            f"ambient, or allow it to all: sysctl net.ipv4.ip_unprivileged_port_start={port}"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"address {host} cannot be listened on here (port {port}): is its family on?"
    return f"cannot listen on {host} port {port}: {error.strerror}"


def find_holder(port: int) -> str:
    """The process that listens on this TCP port, as `nginx (pid 1234)`; empty where we may not see it."""
    inodes = {inode for table in ("tcp", "tcp6") for inode in _listening(Path("/proc/net") / table, port)}
    if not inodes:
        return ""
    targets = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _holds(process, targets):
            with suppress(OSError):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return ""


def _listening(table: Path, port: int) -> Iterator[str]:
    with suppress(OSError):
        for line in table.read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == _LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                yield columns[9]


def _holds(process: Path, targets: set[str]) -> bool:
    with suppress(OSError):
        for entry in (process / "fd").iterdir():
            with suppress(OSError):
                if os.readlink(entry) in targets:  # noqa: PTH115 - no path: `socket:[N]`
                    return True
    return False
