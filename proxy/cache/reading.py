"""Bodies that leave the store while clients still read them: their bytes stay, and stay counted.

Who reads a large body at its own pace is noted here. What is evicted, purged or replaced meanwhile stays in memory for
its readers, so it is reserved in the store as a body in flight is, until the last of them has read it. Where nothing
more may be reserved, those that left the longest ago go, and their readers see the cut: else a few hundred clients
that read slowly, and whatever makes the store change, would fill the machine.

Invariant: a body that is read from here is in the store or reserved in it, but for the turn of the loop in which it
leaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from proxy.cache.store import Store
    from proxy.http.stored import Body, StoredResponse


class Reader(Protocol):
    """One client on its way through a body."""

    def cut(self) -> None:
        """It gets no more; it leaves here by `reader_left`."""


class _Read:
    """A body with readers."""

    __slots__ = ("body", "key", "readers", "reserved")

    def __init__(self, body: Body) -> None:
        self.body = body
        self.key = b""  # under which it was stored, once it has left or changed there
        self.readers: set[Reader] = set()
        self.reserved = 0


class Reading:
    """Who reads what. It is the feeder of these readers (`delivery.Feeder`)."""

    def __init__(self, store: Store, spawn: Callable[[Coroutine[None, None, None]], None]) -> None:
        self._store = store
        self._spawn = spawn
        self._bodies: dict[int, _Read] = {}  # by their first chunk: a stored body and its copies share it
        self._readers: dict[Reader, _Read] = {}
        self._changed: list[_Read] = []
        self._held: dict[_Read, None] = {}  # reserved, the longest first
        store.on_gone.append(self._note_gone)

    def begin(self, body: Body, reader: Reader) -> None:
        """The body is complete and not empty."""
        read = self._bodies.setdefault(id(body.chunks[0]), _Read(body))
        read.readers.add(reader)
        self._readers[reader] = read

    def reader_moved(self) -> None: ...

    def reader_left(self, reader: Reader) -> None:
        read = self._readers.pop(reader)
        read.readers.remove(reader)
        if not read.readers:
            del self._bodies[id(read.body.chunks[0])]
            if read.reserved:
                del self._held[read]
                self._store.release(read.reserved)

    def _note_gone(self, stored: StoredResponse) -> None:
        """It left, or something about it changed; the store is in the middle of it, so what follows is for later."""
        chunks = stored.body.chunks
        read = self._bodies.get(id(chunks[0])) if self._bodies and chunks else None
        if read is not None and not read.reserved:
            read.key = stored.key
            if not self._changed:
                self._spawn(self._settle())
            self._changed.append(read)

    async def _settle(self) -> None:
        changed, self._changed = self._changed, []
        for read in changed:
            if read.readers and not read.reserved and not self._is_kept(read):
                self._hold(read)

    def _is_kept(self, read: _Read) -> bool:
        first = read.body.chunks[0]
        return any(one.body.chunks and one.body.chunks[0] is first for one in self._store.peek(read.key))

    def _hold(self, read: _Read) -> None:
        while not self._store.reserve(read.body.size):
            oldest = next(iter(self._held), read)
            for reader in list(oldest.readers):
                reader.cut()
            if oldest is read:
                return
        read.reserved = read.body.size
        self._held[read] = None
