"""The listening sockets of children in a crash loop: closed while nobody serves them, opened again for each new try.

Clients are refused at once then, instead of waiting in a queue. Invariants: a socket is reopened on the address that it
had; a try whose addresses cannot be had changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy import sockets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.sockets import Held, Place, Sockets


class ClosedListeners:
    def __init__(self, serials: Iterator[int]) -> None:
        self._serials = serials
        self._closed: dict[Place, Held] = {}

    def close(self, index: int, opened: Sockets) -> Sockets:
        """What of `opened` stays open: all but this process's."""
        own = dict(sockets.of_process(opened, index))
        self._closed |= own
        rest = {place: held for place, held in opened.items() if place not in own}
        sockets.close(own, spare=rest)
        return rest

    def reopen(self, index: int, opened: Sockets) -> Sockets:
        """`opened` with this process's sockets again. Raises PortError."""
        result = dict(opened)
        own = [place for place in self._closed if place.index == index]
        try:
            for place in own:
                result[place] = sockets.reopen(place, self._closed[place], result, next(self._serials))
        except sockets.PortError:
            sockets.close(result, spare=opened)
            raise
        for place in own:
            del self._closed[place]
        return result

    def forget(self) -> None:
        """A new configuration has opened all that it wants."""
        self._closed.clear()
