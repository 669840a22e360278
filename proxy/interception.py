"""The supervisor's part in a gateway (transparent mode): what it sees of its workers, brought to the kernel's table.

When the table is there is decided in firewall/gateway.py, who hangs in beats.py. What the kernel refuses is told, and
ends nothing: clients then go past us. Invariants: without [transparent] nothing is ever due; sockets that may have a
client's address are lent only while the configuration says `spoof`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from config.units import MonoTime
from proxy import bus, console, sockets
from proxy.beats import Beats
from proxy.firewall.gateway import Gateway, Taking
from proxy.firewall.nftables import FirewallError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from config.schema import Transparent

_MOST_LENT: Final = 64  # sockets at once: half a millisecond
_LAST_BYTES: Final = 5.0  # seconds that a client has to take what is left in the kernel
_LOOK: Final = 0.05  # seconds between looks for it


class Interception:
    """Of one supervisor, for its life."""

    def __init__(self, gateway: Gateway | None = None) -> None:
        self._gateway = gateway or Gateway()
        self._options: Transparent | None = None
        self._beats = Beats()
        self._leave_by: MonoTime | None = None  # at the end, with bytes on their way to clients
        self._next_look: MonoTime | None = None  # whether they have arrived

    @property
    def _is_on(self) -> bool:
        return self._gateway.taking is not Taking.OFF

    @property
    def due(self) -> MonoTime | None:
        """When the supervisor has to come back at the latest; None if it need not."""
        moments = [self._next_look, self._beats.next if self._is_on else None]
        return min((moment for moment in moments if moment is not None), default=None)

    def adopt(self, options: Transparent | None) -> None:
        """What is accepted from now on."""
        self._options = options
        self._attempt(lambda: self._gateway.adopt(options))

    def serve(self, *, serving: bool) -> None:
        """Whether any worker takes connections now."""
        self._attempt(lambda: self._gateway.serve(serving=serving, hung=bool(self._beats.hung)))

    def look(self, count: Callable[[], Mapping[str, int]], now: MonoTime) -> bool:
        """Whether other workers hang than before; `count`: the beats of those that run, asked only when it is time.

        A worker that hangs has connections of clients in its queue, which then should not come to it.
        """
        if not self._is_on or self._beats.next > now:
            return False
        before = self._beats.hung
        changed = self._beats.look(count(), now)
        for name in sorted(self._beats.hung - before):
            console.say(f"{name} hangs; what [transparent] takes {self._gateway.without_service}")
        return changed

    def lend(self, asked: bus.Borrow, send: Callable[[bus.Lend, list[int]], object]) -> None:
        """Only where the configuration says so: whoever has such a socket can speak under any address."""
        if self._options is None or not self._options.spoof:
            return
        lent = sockets.make_lendable(asked.family, min(asked.count, _MOST_LENT))
        send(bus.Lend(asked.family), [sock.fileno() for sock in lent])
        for sock in lent:
            sock.close()

    def end(self) -> None:
        """New connections go past us; those that we have go on."""
        if self._is_on:
            self._attempt(self._gateway.end)

    def may_leave(self, now: MonoTime) -> bool:
        """What was answered last has arrived: the kernel would lose it without our table."""
        if self._leave_by is None:
            self._leave_by = MonoTime(now + _LAST_BYTES)
        self._next_look = MonoTime(now + _LOOK) if now < self._leave_by and self._gateway.has_unsent() else None
        return self._next_look is None

    def close(self) -> None:
        """Nothing of ours is left in the kernel."""
        self._attempt(self._gateway.close)

    def describe(self) -> dict[str, object] | None:
        """For state.json; None without [transparent]."""
        return {"state": self._gateway.taking.value} if self._is_on else None

    def _attempt(self, act: Callable[[], None]) -> None:
        try:
            act()
        except FirewallError as exc:
            console.say(f"transparent: {exc}")
