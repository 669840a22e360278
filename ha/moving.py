"""Moving addresses on purpose: a polite stop, a handover, a drill; at an instant without requests, if one comes.

The machines move the addresses; here is waited for the right moment before, and for the other node's word after.
Invariant: answers say close only while a move is under way.
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
    from ha.scribe import Scribe

_QUIET_LIMIT: Final = 0.25  # seconds to wait for an instant without requests in flight
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
        """Answers say close, and an instant without requests in flight has come; or the time is up."""
        if not any(station.router.state is State.ACTIVE for station in self._engine.stations.values()):
            return
        self._say(orders.Hush(on=True))
        cut = await asyncio.to_thread(self._observer.wait_for_quiet, self._loop.time() + limit)
        if cut:
            self._scribe.say(
                f"{cut} requests in flight are cut: none of {limit * 1000:.0f} ms was free of them", "WARNING"
            )

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
            self._say(orders.Hush(on=False))

    def _holder(self, key: Key) -> str:
        """The other node that says it is Active."""
        now = _moment()
        return next((word.node for word in self._engine.stations[key].router.words.active(now)), "")

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
