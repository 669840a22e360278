"""Who holds an address and since when, by the word of the kernels: a netlink socket in each node's namespace.

So moves are counted alike for every system, and two holders are seen though neither knows of the other.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from ipaddress import IPv4Address

    from tests.kit.netns import Lab

NEW, GONE = 20, 21  # RTM_NEWADDR, RTM_DELADDR
GROUP_IPV4_ADDRESSES = 0x10
LOCAL = 2  # IFA_LOCAL


class History:
    """Of each node whether it holds the address, as a list of changes."""

    def __init__(self, holders: Mapping[str, bool]) -> None:
        self._holds = dict(holders)
        self._changes: list[tuple[float, str, bool]] = []

    def note(self, at: float, node: str, holds: bool) -> None:
        """A refresh of an address that is there is no change."""
        if self._holds[node] is not holds:
            self._holds[node] = holds
            self._changes.append((at, node, holds))

    def moves(self, since: float) -> int:
        """How often a node got it."""
        return sum(holds for at, _, holds in self._changes if at >= since)

    def gained(self, node: str, since: float) -> float | None:
        """Seconds until the node got it."""
        return next((at - since for at, name, holds in self._changes if at >= since and name == node and holds), None)

    def both(self, since: float, now: float) -> float:
        """Seconds since then in which two held it."""
        holds = dict(self._holds)
        for _, node, value in reversed(self._changes):  # back to the beginning
            holds[node] = not value
        total, last = 0.0, since
        for at, node, value in [*self._changes, (now, "", False)]:
            if at > last:
                total += at - last if sum(holds.values()) > 1 else 0.0
                last = at
            if node:
                holds[node] = value
        return total


class Holders:
    """Listens until closed."""

    def __init__(self, lab: Lab, address: IPv4Address, nodes: tuple[str, ...] = ("a", "b")) -> None:
        self._address = address.packed
        self._sockets = {}
        for node in nodes:
            sock = lab[node].socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            sock.bind((0, GROUP_IPV4_ADDRESSES))
            self._sockets[node] = sock
        self.history = History({node: lab[node].holds(address) for node in nodes})
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        by_socket = {sock: node for node, sock in self._sockets.items()}
        while not self._stop.is_set():
            readable, _, _ = select.select(list(by_socket), [], [], 0.1)
            for sock in readable:
                now = time.monotonic()
                for kind, address in parse(sock.recv(65536)):
                    if address == self._address:
                        self.history.note(now, by_socket[sock], kind == NEW)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for sock in self._sockets.values():
            sock.close()


def parse(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(kind, address) of each message about an address in one netlink datagram."""
    place = 0
    while place + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, place)
        if length < 16:
            return
        if kind in {NEW, GONE}:
            at, end = place + 24, min(place + length, len(data))
            while at + 4 <= end:
                size, name = struct.unpack_from("=HH", data, at)
                if size < 4:
                    break
                if name == LOCAL:
                    yield kind, data[at + 4 : at + size]
                at += size + 3 & ~3
        place += length + 3 & ~3
