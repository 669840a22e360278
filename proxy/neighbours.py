"""The other workers of this instance, told of the purges that came to this one.

Each worker stores for itself, so a purge over HTTP concerns them all; what an unsafe request invalidates too, but its
answer does not wait for them (RFC 9111 §4.4). Purges by the admin socket do not come this way: admin tells every
worker. Invariant: the numbers of this worker's purges grow, and no other worker makes the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from proxy import bus, link, region
from proxy.purging import PURGE_PATIENCE
from proxy.runtime import stale_mark, worker_socket

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("tandem")


class Neighbours:
    """See the module."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._moment = 0  # of the last purge, in microseconds
        self._folder: Path | None = None
        self._others: list[int] = []
        self._disk: Path | None = None

    def configure(self, runtime: Path, workers: int, disk: Path | None) -> None:
        """Where they listen, how many they are with this one, and the folder of all their stores on disk, if any."""
        self._folder = runtime
        self._others = [index for index in range(workers) if index != self._index]
        self._disk = disk

    def number(self, kind: bus.PurgeKind, value: str, *, soft: bool = False, site: str = "") -> bus.Purge:
        """A purge of ours that nobody has heard of yet."""
        self._moment = max(self._moment + 1, time.time_ns() // 1000)
        return bus.Purge(self._moment * region.MAX_WORKERS + self._index, kind, value, soft=soft, site=site)

    async def purge(self, purge: bus.Purge) -> int:
        """How many stored responses went, at all of them together."""
        return sum(await asyncio.gather(*(self._ask(index, purge) for index in self._others)))

    async def tell(self, purge: bus.Purge) -> None:
        """As `purge`, where nobody waits for the count."""
        await self.purge(purge)

    async def _ask(self, index: int, purge: bus.Purge) -> int:
        """One that does not answer is dead or starting: its memory will be empty, and what it has on disk may not be
        used.
        """
        assert self._folder is not None, "no purge comes before the first commit"
        try:
            answer = await link.ask_once(worker_socket(self._folder, index), purge, PURGE_PATIENCE)
        except link.LinkError as problem:
            log.warning("purge: worker-%d was not reached: %s", index, problem)
            if self._disk is not None:
                stale_mark(self._disk, index).touch(mode=0o600)
            return 0
        return answer.count if isinstance(answer, bus.Purged) else 0
