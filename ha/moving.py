"""Moving addresses on purpose: a polite stop, a handover, a drill, a better node; at an instant without requests.

The machines move the addresses; here is waited for the right moment before, and for the other node's word after. First
answers say close, until no request is in flight; then no connection begins here any more, those who try wait for the
other node (relay.py), and as soon as the last ones from before are answered, the addresses may go. Whoever is cut is
counted and told. Invariant: answers say close, and connections wait, only while a move is under way.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from config.units import MonoTime
from ha import events as e
from ha import orders, peer, sayings
from ha.events import State
from ha.sayings import Ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from ha.engine import Engine, Key
    from ha.evidence import Observer
    from ha.relay import Relay
    from ha.scribe import Scribe

_QUIET_LIMIT: Final = 0.25  # seconds to wait for an instant without requests in flight
_GATED_LIMIT: Final = 0.02  # seconds for the supervisor to hold new connections back,
_LAST_LIMIT: Final = 0.02  # for the last ones from before to be answered: so long others may wait,
_LASTING: Final = 0.002  # and without any of them until all that was on its way has come,
_TURNS: Final = 4  # and was seen by each worker: accepted, read, counted, and one turn that had begun before
_LINGER: Final = 1.0  # seconds in which clients may still send what is the other node's to us,
_SHORT_LINGER: Final = 0.02  # or, at a stop, after the other node's word
_MOVE_LIMIT: Final = 2.0


class Mover:
    def __init__(
        self, engine: Engine, observer: Observer, scribe: Scribe, say: Callable[[orders.FromHa], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._engine = engine
        self._observer = observer
        self._scribe = scribe
        self._say = say
        self._moving = False
        self._relays: list[Relay] = []  # of the move under way
        self.gated = asyncio.Event()  # the supervisor has done what Gate asked for
        self.node = ""  # our own name
        self.links: peer.Links | None = None
        self.refusal = ""  # the last one that a machine gave
        self.changed = asyncio.Event()  # some state of ours, or of another node

    async def wait_until(self, condition: Callable[[], bool], limit: float) -> bool:
        until = self._loop.time() + limit
        while not condition():
            self.changed.clear()
            left = until - self._loop.time()
            if left <= 0:
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self.changed.wait()
        return True

    async def wait_for_quiet(self, limit: float) -> None:
        """An instant without requests in flight has come, and nothing new begins here; or the time is up."""
        active = [key for key, station in self._engine.stations.items() if station.router.state is State.ACTIVE]
        if not active:
            return
        self._say(orders.Hush(on=True))
        await asyncio.to_thread(self._observer.wait_for_quiet, self._loop.time() + limit)
        self._relays += self._engine.keep_connections(active)
        self.gated.clear()
        self._say(orders.Gate(tuple(str(vip.ip) for key in active for vip in self._engine.stations[key].router.held)))
        with suppress(TimeoutError):
            async with asyncio.timeout(_GATED_LIMIT):
                await self.gated.wait()
        until = self._loop.time() + _LAST_LIMIT
        cut = await asyncio.to_thread(self._observer.wait_for_quiet, until, _LASTING, _TURNS)
        if cut:
            self._scribe.say(
                f"{cut} requests in flight are cut: none of {limit * 1000:.0f} ms was free of them", "WARNING"
            )

    def leave(self) -> None:
        """The addresses go now."""
        for relay in self._relays:
            relay.leave()

    def end_quiet(self) -> None:
        """The move is over; what clients still send here is handed on for a while."""
        self._say(orders.Gate(()))
        self._say(orders.Hush(on=False))
        relays, self._relays = self._relays, []
        self._loop.call_later(_LINGER, self._engine.forget, relays)

    async def linger(self) -> None:
        """At a stop: until what waits here is handed on, if somebody has the addresses."""
        if any(self._holder(key) for key in self._engine.stations):
            await asyncio.sleep(_SHORT_LINGER)
        self._engine.forget_all()

    async def hand_over(self, to: str) -> dict[str, Any]:
        """The addresses are at the other node, or why not."""
        active = [key for key, station in self._engine.stations.items() if station.router.state is State.ACTIVE]
        if self._moving:
            return {"ok": False, "error": "a handover is under way"}
        if not active:
            return await self._ask_for_it(to)
        self._moving = True
        try:
            await self.wait_for_quiet(_QUIET_LIMIT)
            self.refusal = ""
            begun = self._loop.time()
            self.leave()
            for key in active:
                if self._engine.stations[key].router.state is State.ACTIVE:  # its group may have left with it
                    self._engine.handle(key, e.HandoverAsked(to))
            if any(self._engine.stations[key].router.state is State.ACTIVE for key in active):
                return {"ok": False, "error": self.refusal or "refused"}
            taken = await self.wait_until(lambda: all(self._holder(key) for key in active), _MOVE_LIMIT)
            took = (self._loop.time() - begun) * 1000
            holder = self._holder(active[0])
            error = {} if taken else {"error": f"nobody said within {_MOVE_LIMIT:g} s that it has the addresses"}
            return {"ok": taken, "to": holder, "milliseconds": round(took, 2), **error}
        finally:
            self._moving = False
            self.end_quiet()

    async def yield_to(self, key: Key, to: str) -> None:
        """The machine is told when the moment has come to let a better node have the addresses."""
        if self._moving:
            return
        self._moving = True
        try:
            await self.wait_for_quiet(_QUIET_LIMIT)
            station = self._engine.stations.get(key)
            if station is not None:
                self.leave()
                self._engine.handle(key, e.QuietCame(to))
            await self.wait_until(lambda: bool(self._holder(key)), _MOVE_LIMIT if self._left(key) else 0)
        finally:
            self._moving = False
            self.end_quiet()

    def _left(self, key: Key) -> bool:
        station = self._engine.stations.get(key)
        return station is not None and station.router.state is not State.ACTIVE

    def _holder(self, key: Key) -> str:
        """The other node that says it is Active."""
        now = _moment()
        station = self._engine.stations.get(key)
        return next((word.node for word in station.router.words.active(now)), "") if station is not None else ""

    async def _ask_for_it(self, to: str) -> dict[str, Any]:
        """We are not Active: whoever is, is asked over the link."""
        own = self.node
        keys = list(self._engine.stations)
        holder = next((name for key in keys if (name := self._holder(key))), "")
        if not holder or self.links is None:
            return {"ok": False, "error": "no node is known to be Active"}
        target = to or own
        begun = self._loop.time()
        self.links.send(holder, sayings.encode_ask(Ask(target)))
        moved = await self.wait_until(
            lambda: all(
                self._engine.stations[key].router.state is State.ACTIVE
                if target == own
                else self._holder(key) == target
                for key in keys
            ),
            _MOVE_LIMIT + _QUIET_LIMIT,
        )
        took = (self._loop.time() - begun) * 1000
        error = {} if moved else {"error": f"{holder} did not hand over"}
        return {"ok": moved, "to": target, "milliseconds": round(took, 2), **error}

    async def drill(self, seconds: float) -> dict[str, Any]:
        """There and back again."""
        if not any(station.router.state is State.ACTIVE for station in self._engine.stations.values()):
            return {"ok": False, "error": "this node is not Active: a drill begins at the one that is"}
        there = await self.hand_over("")
        if not there["ok"]:
            return there
        await asyncio.sleep(seconds)
        back = await self._ask_for_it("")
        return {"ok": back["ok"], "there": there, "back": back, **({} if back["ok"] else {"error": back["error"]})}


def _moment() -> MonoTime:
    return MonoTime(time.monotonic())
