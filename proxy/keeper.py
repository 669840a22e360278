"""`ha` as the supervisor has it: a child with a language of its own (ha/orders.py), with rights, and with a will.

To the supervisor it is a process like the others: here their messages become its orders and back. It gets the text of
the configuration and the secret of the peer link, nothing else of a parcel. Its death is known by a mutex that it holds
(`Witness`), before the kernel has freed its locked memory and tells the end. Invariant: when it has ended, however it
did, its will has been carried out before it is started again, so nobody of us holds an address that it lost.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, assert_never

from ha import liveness, orders
from ha.liveness import Watched
from proxy import bus, parcel, region, rights
from proxy.process import Barrier, News, Process, Wish
from proxy.rights import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_LOOK: Final = 0.02  # seconds between looks for a holder of the page
_PATIENCE: Final = 1.0


class Witness:
    """A thread that calls `told`, from itself, whenever a holder of the page has died."""

    def __init__(self, page: memoryview, told: Callable[[], object]) -> None:
        self._page = page
        self._told = told
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, name="witness", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            watched = liveness.wait_for_death(self._page, _PATIENCE)
            if watched is Watched.DEAD:
                self._told()
            if watched is not Watched.ALIVE:
                self._stopped.wait(_LOOK)


@dataclass(slots=True, eq=False)
class Keeper(Process):
    runtime: Path = Path()
    executor: orders.Executor = field(default_factory=orders.Executor)
    standings: tuple[orders.Standing, ...] = ()
    will: orders.Will = field(default_factory=orders.Will)
    identity: Identity | None = None  # whom it becomes
    links: list[int] = field(default_factory=list)  # descriptors of its peer links, shared with us
    let_go: list[str] = field(default_factory=list)  # routers whose addresses were taken off in its place

    def spawn(self, identity: Identity, shared: int) -> None:
        """It starts as we are, with rights lent: it becomes the children's user by itself, for exec would drop them."""
        self.standings = ()
        self.identity = identity
        lent = frozenset({*rights.NETWORK_NEEDS.values(), *rights.HA_LIKES, rights.SETUID, rights.SETGID})
        with rights.lending(lent):
            Process.spawn(self, Identity(identity.name), shared)

    def send(self, message: bus.ToChild, fds: Sequence[int] = ()) -> bool:
        match message:
            case bus.Prepare():
                return self._prepare(message, fds)
            case bus.Commit(generation):
                return self._send(orders.Commit(generation))
            case bus.Abort(generation):
                return self._send(orders.Abort(generation))
            case bus.Drain(seconds):
                return self._send(orders.Stop(seconds))
            case bus.ReopenLogs() | bus.SayClose() | bus.Lend() | bus.Attach():
                return True
            case unreachable:
                assert_never(unreachable)

    def _prepare(self, message: bus.Prepare, fds: Sequence[int]) -> bool:
        box = parcel.decode(parcel.unseal(fds[0]))
        text = parcel.seal("tandem-ha", box.text)
        order = orders.Prepare(message.generation, message.digest, box.name, box.runtime, box.base)
        try:
            return self._send(order, [text, *fds[1:]])
        finally:
            os.close(text)

    def _send(self, order: orders.ToHa, fds: Sequence[int] = ()) -> bool:
        return self.control is not None and self.control.send_bytes(orders.encode(order), fds)

    def confirm_gate(self) -> None:
        self._send(orders.Gated())

    def receive(self) -> bus.ToSupervisor | News | Wish | Barrier | None:
        received = None if self.control is None else self.control.receive()
        if received is None:
            return None
        try:
            message = orders.decode_from_ha(received[0])
        except orders.BadOrderError as exc:
            _close(received[1])
            raise bus.BadFrameError(str(exc)) from exc
        if isinstance(message, orders.Will):
            _close(self.links)
            self.links = received[1]
        else:
            _close(received[1])
        return self._understand(message)

    def _understand(self, message: orders.FromHa) -> bus.ToSupervisor | News | Wish | Barrier:
        match message:
            case orders.Prepared(generation):
                return bus.Prepared(generation)
            case orders.Refused(generation, reason):
                return bus.Refused(generation, reason)
            case orders.Ready(generation):
                return bus.Ready(generation)
            case orders.Hush(on):
                return Wish(on)
            case orders.Gate(addresses):
                return Barrier(addresses)
            case orders.Standings(routers):
                self.standings = routers
            case orders.Will():
                self.will = message
            case unreachable:
                assert_never(unreachable)
        return News()

    def reap(self) -> str:
        """How it ended; what it held is gone, and the other node has been told."""
        self.carry_out()
        how = Process.reap(self)
        self.standings = ()
        held, self.let_go = self.let_go, []
        return f"{how}; let go of {', '.join(held)} in its place" if held else how

    def carry_out(self) -> None:
        """What it held is gone. It is dead, though the kernel may still be freeing its memory."""
        self.let_go += self.executor.carry_out(self.will, self.links)
        _close(self.links)
        self.will, self.links = orders.Will(), []

    def describe(self) -> list[dict[str, object]]:
        """The virtual routers, for state.json."""
        return [
            {
                "name": one.name,
                "family": one.family,
                "vrid": one.vrid,
                "vips": list(one.vips),
                "state": one.state,
                "why": one.why,
            }
            for one in self.standings
        ]

    def _command(self, control: int, shared: int) -> list[str]:
        words = [f"--control={control}", f"--shared={shared}", f"--pages={region.PAGES}", f"--page={region.HA_PAGE}"]
        words.append(f"--runtime={self.runtime}")
        if self.identity is not None and self.identity.owner is not None:
            uid, gid = self.identity.owner
            words += [f"--uid={uid}", f"--gid={gid}"]
        return [*rights.interpreter(), "-m", "ha", "run", *words]


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
