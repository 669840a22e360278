"""Reaches the workers of this node from admin: questions, purges, and the verdicts of active checks.

A worker is reached over its own Unix socket; one that nobody listens for has died or not yet begun, and is empty then.
Invariants: purge numbers grow, across restarts of admin too; a purge is answered when every living worker has applied
it; a worker that has started anew is told all verdicts before it hears of a single one.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from proxy import bus
from proxy.link import Link, LinkError
from proxy.runtime import stale_mark

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from proxy.upstream import health

PATIENCE: Final = 2.0  # seconds for an ordinary answer
PURGE_PATIENCE: Final = 5.0  # seconds until a worker that is alive and silent makes a purge fail
SWEEP_PATIENCE: Final = 60.0  # the same where all that is stored is looked at, bit by bit beside the traffic
KEEP: Final = 0.5  # seconds between two looks whether a worker has been replaced

_A = TypeVar("_A", bound=bus.Answer)


@dataclass(frozen=True, slots=True)
class Applied:
    """What one worker did with a purge. `count` None: not applied, for the reason given."""

    worker: str
    count: int | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class PurgeResult:
    number: int
    applied: tuple[Applied, ...]

    @property
    def complete(self) -> bool:
        return all(part.count is not None for part in self.applied)

    @property
    def purged(self) -> int:
        return sum(part.count or 0 for part in self.applied)


class Workers:
    """The workers 0 … count-1, each by a connection that is made when it is needed and kept while it lives."""

    def __init__(self, runtime: Path, count: int) -> None:
        self.disk: Path | None = None  # the folder of `[cache] path`
        self._runtime = runtime
        self.count = count
        self._links: dict[int, Link] = {}
        self._number = 0
        self._verdicts: dict[tuple[str, str], health.Verdict] = {}
        self._news = asyncio.Event()
        self._told: dict[int, tuple[int, int]] = {}  # worker -> (its pid, the version of the verdicts that it has)
        self._version = 0

    async def ask(self, index: int, question: bus.Question, limit: float = PATIENCE) -> bus.Answer:
        """Raises LinkError when there is no answer."""
        link = self._links.get(index)
        if link is None or link.lost:
            link = await self._connect(index, limit)
        return await link.ask(question, limit)

    async def _connect(self, index: int, limit: float) -> Link:
        link = await Link.connect(self._path(index), limit)
        before = self._links.get(index)
        if before is not None and not before.lost:  # another question was faster
            link.close()
            return before
        self._links[index] = link
        return link

    async def ask_for(self, index: int, question: bus.Question, kind: type[_A], limit: float = PATIENCE) -> _A:
        """An answer of this kind. Raises LinkError with the reason of any other, too."""
        answer = await self.ask(index, question, limit)
        if isinstance(answer, kind):
            return answer
        raise LinkError(answer.reason if isinstance(answer, bus.Failed) else f"answered {type(answer).__name__}")

    def _path(self, index: int) -> Path:
        return self._runtime / f"worker-{index}.sock"

    # ---- purges ------------------------------------------------------------------------------------------------------

    async def purge(self, kind: bus.PurgeKind, value: str, *, soft: bool, dry_run: bool, site: str = "") -> PurgeResult:
        # Microseconds of wall time are above every number that an admin before us can have given.
        self._number = max(self._number + 1, time.time_ns() // 1000)
        purge = bus.Purge(self._number, kind, value, soft, dry_run, site)
        applied = await asyncio.gather(*(self._apply(index, purge) for index in range(self.count)))
        return PurgeResult(purge.number, tuple(applied))

    async def _apply(self, index: int, purge: bus.Purge) -> Applied:
        name = f"worker-{index}"
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (PURGE_PATIENCE if purge.kind == "url" else SWEEP_PATIENCE)
        while True:
            try:
                answer = await self.ask(index, purge, max(0.001, deadline - loop.time()))
            except LinkError as problem:
                if isinstance(problem.__cause__, OSError) and not isinstance(problem.__cause__, TimeoutError):
                    return self._absent(index, purge)
                if loop.time() >= deadline:
                    return Applied(name, None, str(problem))
                # The connection broke under the question: the next try tells whether its process lives, and a
                # number that it has seen is no second purge.
                await asyncio.sleep(0.02)
                continue
            if isinstance(answer, bus.Purged):
                return Applied(name, answer.count)
            return Applied(name, None, answer.reason if isinstance(answer, bus.Failed) else "answered something else")

    def _absent(self, index: int, purge: bus.Purge) -> Applied:
        """What it had in memory is gone; what it has on disk is not to be used."""
        if self.disk is not None and not purge.dry_run:
            try:
                stale_mark(self.disk, index).touch(mode=0o600)
            except FileNotFoundError:
                pass  # no folder: nothing was ever written
            except OSError as problem:
                return Applied(
                    f"worker-{index}", None, f"not running, and its cache on disk is out of reach: {problem}"
                )
        return Applied(f"worker-{index}", 0, "not running: its cache starts empty")

    async def count_living(self) -> int:
        """How many workers answer at all."""
        questions = (self.ask_for(index, bus.Ping(), bus.Pong) for index in range(self.count))
        answers = await asyncio.gather(*questions, return_exceptions=True)
        return sum(isinstance(answer, bus.Pong) for answer in answers)

    # ---- status ------------------------------------------------------------------------------------------------------

    async def status(self) -> dict[str, bus.StatusAnswer | str]:
        """By worker: what it says of itself, or why it says nothing."""
        answers = await self.ask_all(bus.Status(), bus.StatusAnswer)
        return {name: str(answer) if isinstance(answer, LinkError) else answer for name, answer in answers.items()}

    # ---- what is asked of all -------------------------------------------------------------------------------------

    async def ask_all(
        self, question: bus.Question, kind: type[_A], limit: float = PATIENCE
    ) -> dict[str, _A | LinkError]:
        """By worker: its answer, or why there is none."""

        async def one(index: int) -> _A | LinkError:
            try:
                return await self.ask_for(index, question, kind, limit)
            except LinkError as problem:
                return problem

        answers = await asyncio.gather(*(one(index) for index in range(self.count)))
        return {f"worker-{index}": answer for index, answer in enumerate(answers)}

    # ---- verdicts ----------------------------------------------------------------------------------------------------

    async def report(self, verdicts: Iterable[health.Verdict]) -> None:
        """The active check has made up its mind about origins; every worker is told."""
        for verdict in verdicts:
            self._verdicts[verdict.pool, verdict.address] = verdict
        self._version += 1
        self._news.set()

    async def replace_verdicts(self, verdicts: Iterable[health.Verdict]) -> None:
        """After a reload: these are all that hold now, and workers whose pools are new are told again."""
        self._verdicts.clear()
        await self.report(verdicts)

    @property
    def verdicts(self) -> tuple[health.Verdict, ...]:
        return tuple(self._verdicts.values())

    def _message(self) -> bus.HealthVerdicts:
        return bus.HealthVerdicts(tuple(bus.Verdict(v.pool, v.address, v.up) for v in self._verdicts.values()))

    async def keep(self) -> None:
        """Runs for life: tells news at once, and everything to a worker that has been replaced."""
        while True:
            self._news.clear()
            await asyncio.gather(*(self._tell(index) for index in range(self.count)))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), KEEP)

    async def _tell(self, index: int) -> None:
        version = self._version
        try:
            pid = (await self.ask_for(index, bus.Ping(), bus.Pong)).pid
            if self._told.get(index) != (pid, version) and self._verdicts:
                await self.ask_for(index, self._message(), bus.Done)
            self._told[index] = (pid, version)
        except LinkError:
            self._told.pop(index, None)  # the next round tries again

    def close(self) -> None:
        for link in self._links.values():
            link.close()
        self._links.clear()
