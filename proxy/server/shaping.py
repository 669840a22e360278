"""Bandwidth of classes of clients: how much each connection of a class may send, so that together they keep its rate.

The kernel paces each connection (SO_MAX_PACING_RATE), whoever writes to it: answers, memo, spliced tunnels. Here is
only decided, four times a second, what each gets: who used little keeps a little more than it used, the others share
the rest alike (max-min fairness), and a token bucket takes back what was used beyond the rate. What goes to clients is
shaped; what they send is not. Invariants: a class without connections costs nothing; no share is below LEAST.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from proxy.modes.pace import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

TICK = 0.25  # seconds between two decisions
LEAST = 2048  # bytes per second; the kernel's timers make little of less
ROOM = 1.5  # times what it used: who begins to send more is not held back for long
_SO_MAX_PACING_RATE = 47  # asm-generic/socket.h; the socket module has no name for it
_ACKED = struct.Struct("Q")
_ACKED_AT = 120  # tcpi_bytes_acked in struct tcp_info, linux/tcp.h
_INFO = 128


def share(budget: float, used: Sequence[float]) -> list[float]:
    """The rate of each, given what each used: nobody gets less than an equal part as long as it uses that, and what one
    leaves is shared by the others. Together they get the budget, or less where all want little.
    """
    shares = [0.0] * len(used)
    left, waiting = budget, len(used)
    for at in sorted(range(len(used)), key=used.__getitem__):
        shares[at] = min(max(used[at] * ROOM, budget / (8 * len(used))), left / waiting)
        left -= shares[at]
        waiting -= 1
    greedy = [at for at, amount in enumerate(used) if amount * ROOM >= shares[at]] or list(range(len(used)))
    for at in greedy:
        shares[at] += left / len(greedy)
    return [max(LEAST, one) for one in shares]


class _Member:
    __slots__ = ("acked", "name", "paced", "sock")

    def __init__(self, name: str, sock: socket.socket) -> None:
        self.name = name
        self.sock = sock
        self.acked = _acked(sock)
        self.paced = 0.0


class Shaper:
    """All shaped connections of a worker. `rates` are bytes per second of each class, this worker's part."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._buckets: dict[str, Bucket] = {}
        self._members: dict[Hashable, _Member] = {}
        self._ticked = now()

    def __len__(self) -> int:
        return len(self._members)

    def configure(self, rates: Mapping[str, float]) -> None:
        """Connections of classes that are gone go on unshaped."""
        now = self._now()
        self._buckets = {name: Bucket(rate, rate, now) for name, rate in rates.items()}
        for holder, member in list(self._members.items()):
            if member.name not in self._buckets:
                del self._members[holder]
                _pace(member, 0.0)
        self._share(0.0)

    def join(self, holder: Hashable, name: str, sock: socket.socket) -> None:
        """This connection is of the class from now on."""
        if name not in self._buckets:
            self.leave(holder)
            return
        known = self._members.get(holder)
        if known is not None and known.name == name and known.sock is sock:
            return
        self._members[holder] = member = _Member(name, sock)
        # Until the next look it gets an equal part: the others' parts become smaller there.
        _pace(member, self._buckets[name].rate / sum(one.name == name for one in self._members.values()))

    def move(self, holder: Hashable, sock: socket.socket) -> None:
        """What it sends goes out by this socket from now on: another descriptor of the same, a tunnel's."""
        known = self._members.get(holder)
        if known is not None:
            known.sock = sock

    def leave(self, holder: Hashable) -> None:
        self._members.pop(holder, None)

    def tick(self) -> None:
        """To be called every TICK."""
        now = self._now()
        if self._members:
            self._share(now - self._ticked)
        self._ticked = now

    def _share(self, seconds: float) -> None:
        classes: dict[str, list[_Member]] = {}
        for member in self._members.values():
            classes.setdefault(member.name, []).append(member)
        now = self._now()
        for name, members in classes.items():
            used = [_used(member) for member in members]
            bucket = self._buckets[name]
            bucket.take(sum(used), now)
            # A debt is paid back over a second; savings may be spent within one.
            budget = max(bucket.rate / 8, bucket.rate + min(bucket.level, 0.0))
            per_second = [amount / seconds if seconds > 0 else 0.0 for amount in used]
            for member, rate in zip(members, share(budget, per_second), strict=True):
                _pace(member, rate)


def _acked(sock: socket.socket) -> int:
    """Bytes that the other side has confirmed; 0 where that cannot be told."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO)
    except OSError:  # gone, or no TCP
        return 0
    return int(_ACKED.unpack_from(info, _ACKED_AT)[0]) if len(info) >= _INFO else 0


def _used(member: _Member) -> int:
    before, member.acked = member.acked, _acked(member.sock)
    return max(0, member.acked - before)


def _pace(member: _Member, rate: float) -> None:
    """0: as fast as it can."""
    if abs(rate - member.paced) <= member.paced / 20:
        return
    member.paced = rate
    value = 0xFFFFFFFF if rate <= 0 else min(0xFFFFFFFE, int(rate))
    try:
        member.sock.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, struct.pack("I", value))
    except OSError:  # gone: its end is on its way
        return
