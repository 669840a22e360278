"""The one thread of a worker in which passwords are proved, and the way back to its loop."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class ThreadProver:
    """A Prover (users/logins.py). One thread: proofs share the core with the loop, and more of them would starve it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pool: ThreadPoolExecutor | None = None  # made by the first proof: most workers have no users

    def __call__(self, work: Callable[[], bool], then: Callable[[bool], None]) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "logins")

        def prove() -> None:
            good = False
            try:
                good = work()
            finally:  # whoever waits is answered, come what may
                if not self._loop.is_closed():
                    self._loop.call_soon_threadsafe(then, good)

        self._pool.submit(prove)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
