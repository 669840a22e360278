"""What must be even when a stack has come to rest: books, reserved memory, requests at pools, connections, flights."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.exchange import Exchange
    from proxy.observe.observer import Template
    from tests.kit.inproc import Stack


class Ledger:
    """Listens to a stack: which exchanges began, and how often each closed its books."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.begun: list[Exchange] = []
        self.ended: list[Exchange] = []
        self._doubtful: list[str] = []
        stack.call(self._listen)

    def _listen(self) -> None:
        pipeline, observer = self.stack.pipeline, self.stack.observer
        known: set[int] = set()
        begin, finished, alike = pipeline.begin, observer.finished, observer.alike

        def begins(x: Exchange) -> None:
            if id(x) not in known:  # one that waited for a login begins again
                known.add(id(x))
                self.begun.append(x)
            begin(x)

        def ends(x: Exchange, now: float) -> None:
            self.ended.append(x)
            finished(x, now)  # type: ignore[arg-type]  # MonoTime

        def ends_alike(template: Template, x: Exchange, now: float) -> None:
            self.ended.append(x)
            alike(template, x, now)  # type: ignore[arg-type]  # MonoTime

        observer.alike = ends_alike  # type: ignore[method-assign]  # likewise
        pipeline.begin = begins  # type: ignore[method-assign]  # a listener, not a replacement
        observer.finished = ends  # type: ignore[method-assign]  # likewise

    def _uneven(self) -> list[str]:
        """What is not even now; asked in the loop."""
        stack = self.stack
        begun, ended = Counter(map(id, self.begun)), Counter(map(id, self.ended))
        now = stack.pipeline.now()
        opened, idle = stack.upstreams.counts
        found = {
            "exchanges that have not closed their books": sum((begun - ended).values()),
            "books closed twice": sum(times - 1 for times in ended.values()),
            "bytes reserved": stack.store.reserved,
            "flights": len(stack.pipeline.flights),
            "connections in use": opened - idle,
            "requests at pools": sum(
                peer.active
                for pool in (*stack.pipeline.pools.values(), *stack.pipeline._named.values())
                for peer in pool.status(now)
            ),
        }
        return [f"{number} {what}" for what, number in found.items() if number]

    def settle(self) -> None:
        """Everything is even, or becomes so within the time that nothing on loopback takes."""
        try:
            self.stack.wait(lambda: not self._uneven())
        except AssertionError:
            raise AssertionError(f"uneven: {self.stack.call(self._uneven)}") from None
