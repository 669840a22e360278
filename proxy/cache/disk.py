"""The second tier of a worker's store: what is stored is written behind it, and what it lacks is looked for there.

The loop never waits: it appends to a queue, and a thread of its own owns the file (shelf.py). Where the thread falls
behind, responses are not written (and counted); what takes something away (replaced, purged, invalidated) is never
left out: if even that queue overflows, or the file cannot be written, all that is in it goes. The file is opened and if
need be set aside in the thread too, so a start is never delayed.

Invariants: operations reach the file in the order of their causes; a key with an operation under way is not looked
for; what was taken away while it was being loaded does not come back.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, assert_never

from config.units import MonoTime, WallTime
from proxy.cache.shelf import Shelf, ShelfError, files_of, set_aside, variant_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from proxy.cache.shelf import Named
    from proxy.cache.store import Store, Variants
    from proxy.http.stored import StoredResponse

log = logging.getLogger("tandem")

QUEUE_BYTES: Final = 16 * 2**20  # of responses that wait to be written
MOST_OPERATIONS: Final = 65536  # that wait
STEP: Final = 64  # operations written in one transaction, and
STEP_BYTES: Final = 2**20  # about so many bytes: a look-up waits for one transaction at most
MOST_LOADS: Final = 256  # look-ups that wait; who comes then asks the origin
WORTH: Final = 30.0  # seconds of freshness for which one without validator is worth writing
AGAIN: Final = 30.0  # seconds until a file that could not be used is tried again; twice as many after each failure,
LATEST: Final = 480.0  # but no more
LOCKED: Final = 0.2  # seconds between tries while a predecessor that was killed still holds it, for
PATIENCE: Final = 15.0  # so many seconds
MOST_ERRORS: Final = 3  # of the disk when it is opened that may be over in a moment as well
CLOSING: Final = 10.0  # seconds in which what waits is written at the end
SLOW: Final = (
    0.5  # seconds after which who waits for the file asks the origin instead, and others do not wait at all for
)
AVOIDED: Final = 5.0  # so many seconds
ENDINGS: Final = 1024  # of keys in the file that are told when it is opened


class Away(Exception):  # noqa: N818 - what is so
    """The file cannot be reached, so that what was to be taken out of it may still be there."""


@dataclass(frozen=True, slots=True)
class Put:
    stored: StoredResponse


@dataclass(frozen=True, slots=True)
class Drop:
    key: bytes
    variant: bytes


@dataclass(frozen=True, slots=True)
class PurgeKey:
    key: bytes
    soft: bool


@dataclass(frozen=True, slots=True)
class PurgeTag:
    tag: bytes
    soft: bool


@dataclass(frozen=True, slots=True)
class PurgeWhere:
    matches: Callable[[Named], bool]
    soft: bool


@dataclass(frozen=True, slots=True)
class Told:
    """Whoever waits for it is told when all before it is on the disk."""

    future: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class Resize:
    limit: int


Operation = Put | Drop | PurgeKey | PurgeTag | PurgeWhere | Told | Resize


class Tier(Protocol):
    """What a store tells of its changes, and asks."""

    def kept(self, stored: StoredResponse) -> None: ...
    def removed(self, stored: StoredResponse) -> None: ...
    def purged_key(self, key: bytes, *, soft: bool) -> None: ...
    def purged_tag(self, tag: bytes, *, soft: bool) -> None: ...
    def purged_where(self, matches: Callable[[Named], bool], *, soft: bool) -> None: ...


@dataclass(slots=True)
class Counts:
    """For the metrics; written by the thread but for `dropped`."""

    bytes: int = 0
    entries: int = 0
    loaded: int = 0  # responses that came back
    dropped: int = 0  # not written
    damaged: int = 0  # found to be not what was written


@dataclass(slots=True)
class _Loading:
    future: asyncio.Future[None]
    void: bool = False


class Disk:
    """Made in the loop; `start` begins. Where `stale` exists, a purge did not reach this worker: all in the file goes,
    and then the mark.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: Path,
        limit: int,
        store: Store,
        *,
        stale: Path | None = None,
        surplus: Iterable[Path] = (),
        on_endings: Callable[[list[bytes]], None] | None = None,
        after: Disk | None = None,
    ) -> None:
        self._loop = loop
        self.path = path
        self._limit = limit
        self._store = store
        self._stale = stale
        self._surplus = tuple(surplus)  # files of workers that are no more: purges would not reach them
        self._on_endings = on_endings  # is told what the keys in the file have behind their addresses
        self._after = after  # one that had this file and may still be leaving it
        self.counts = Counts()
        self._operations: deque[Operation] = deque()
        self._waiting: deque[bytes] = deque()  # keys to look for
        self._turn = threading.Condition()
        self._closing = False
        self._gone = False  # the file is to go with this
        self._locked = True  # or else in trouble, perhaps only for a moment
        self._errors = 0  # of the disk, at opening
        self._avoided = 0.0  # the loop's time until which nobody waits for the file, because it was slow
        self._pause = AGAIN  # seconds before the next try
        self._wipe = False  # what is in the file may not be used any more
        self._queued = 0  # bytes
        self._pending: Counter[bytes] = Counter()  # operations under way, by key
        self._broad = 0  # purges under way that concern any key
        self._loading: dict[bytes, _Loading] = {}
        self._open = False
        self._said = ""  # the trouble that was told last: told once
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)

    def start(self) -> None:
        self._thread.start()

    # ---- in the loop: what has changed -------------------------------------------------------------------------------

    def kept(self, stored: StoredResponse) -> None:
        """It is in the store, and goes to the file if it is worth that and there is room in the queue."""
        if not self._is_worth(stored):
            self.removed(stored)
        elif self._queued + stored.weight > QUEUE_BYTES:
            self.counts.dropped += 1
            self.removed(stored)
        else:
            self._queued += stored.weight
            self._push(Put(stored), stored.key)

    def _is_worth(self, stored: StoredResponse) -> bool:
        left = stored.fresh_until - self._loop.time()
        return left > WORTH or stored.etag is not None or stored.last_modified is not None

    def removed(self, stored: StoredResponse) -> None:
        self._push(Drop(stored.key, variant_of(stored)), stored.key)

    def purged_key(self, key: bytes, *, soft: bool) -> None:
        self._push(PurgeKey(key, soft), key)

    def purged_tag(self, tag: bytes, *, soft: bool) -> None:
        self._push_broad(PurgeTag(tag, soft))

    def purged_where(self, matches: Callable[[Named], bool], *, soft: bool) -> None:
        self._push_broad(PurgeWhere(matches, soft))

    def resize(self, limit: int) -> None:
        if limit != self._limit:
            self._limit = limit
            self._push(Resize(limit))

    async def settled(self) -> None:
        """All that was purged until now is out of the file, on the disk itself. Raises Away where it cannot be."""
        future = self._loop.create_future()
        self._push(Told(future))
        await future

    def _push(self, operation: Operation, key: bytes | None = None) -> None:
        if key is not None:
            self._pending[key] += 1
            loading = self._loading.get(key)
            if loading is not None:
                loading.void = True
        with self._turn:
            if len(self._operations) >= MOST_OPERATIONS and not isinstance(operation, Told):
                self._overflow()
            else:
                self._operations.append(operation)
            self._turn.notify()

    def _push_broad(self, operation: PurgeTag | PurgeWhere) -> None:
        self._broad += 1
        for loading in self._loading.values():
            loading.void = True
        self._push(operation)

    def _overflow(self) -> None:
        """So much waits that it is dearer than what the file holds: it is begun anew."""
        self._wipe = True
        self.counts.dropped += sum(type(one) is Put for one in self._operations)
        tellers = [one for one in self._operations if isinstance(one, Told)]
        self._operations.clear()
        self._operations.extend(tellers)
        self._pending.clear()
        self._queued = self._broad = 0
        for loading in self._loading.values():
            loading.void = True

    # ---- in the loop: what is asked ----------------------------------------------------------------------------------

    def elsewhere(self, key: bytes) -> Awaitable[Variants] | None:
        """The key's responses, brought into the store; None where the file need not be asked."""
        loading = self._loading.get(key)
        if loading is None:
            if not self._open or self._broad or key in self._pending or len(self._loading) >= MOST_LOADS:
                return None
            if self._avoided and self._loop.time() < self._avoided:
                return None
            loading = self._loading[key] = _Loading(self._loop.create_future())
            with self._turn:
                self._waiting.append(key)
                self._turn.notify()
        return None if loading.void else self._arrival(key, loading)

    async def _arrival(self, key: bytes, loading: _Loading) -> Variants:
        try:
            await asyncio.wait_for(asyncio.shield(loading.future), SLOW)
        except TimeoutError:
            loading.void = True  # what it brings would be older than what the origin is asked for now
            if not self._avoided:
                log.warning("the cache on disk is slow: while it is, what is not in memory is fetched (%s)", self.path)
            self._avoided = self._loop.time() + AVOIDED
        return self._store.variants(key)

    def _loaded(self, key: bytes, found: list[StoredResponse]) -> None:
        loading = self._loading.pop(key)
        if not loading.void and not self._store.peek(key):
            self.counts.loaded += len(found)
            for stored in found:
                self._store.adopt(stored)
        if not loading.future.done():
            loading.future.set_result(None)

    def _written(self, done: list[Operation], told: list[asyncio.Future[None]], problem: str) -> None:
        for operation in done:
            match operation:
                case Put(stored=stored):
                    self._queued = max(0, self._queued - stored.weight)
                    self._less(stored.key)
                case Drop(key=key) | PurgeKey(key=key):
                    self._less(key)
                case PurgeTag() | PurgeWhere():
                    self._broad = max(0, self._broad - 1)
                case Told() | Resize():
                    pass
                case unreachable:
                    assert_never(unreachable)
        for future in told:
            if not future.done():
                future.set_exception(Away(problem)) if problem else future.set_result(None)

    def _less(self, key: bytes) -> None:
        if self._pending[key] <= 1:
            del self._pending[key]
        else:
            self._pending[key] -= 1

    def close(self) -> None:
        """What waits is written, and the thread has ended. Blocks: not for the loop."""
        with self._turn:
            self._closing = True
            self._turn.notify()
        self._thread.join(CLOSING)

    def forget(self) -> None:
        """It has ended, and what it had is gone. Blocks."""
        self._gone = True
        self.close()

    # ---- in the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        shelf: Shelf | None = None
        tried = -LATEST
        if self._after is not None:
            self._after._thread.join()  # noqa: SLF001 - another of this class
            self._after = None
        begun = time.monotonic()
        while True:
            waits = self._locked and self._is_young(begun)
            pause = LOCKED if waits else self._pause
            if shelf is None and time.monotonic() - tried >= pause:
                tried = time.monotonic()
                shelf = self._try_open(quiet=waits)
            keys, operations, over = self._take(ready=shelf is not None, hold=shelf is None and self._locked and waits)
            try:
                if shelf is not None and (self._wipe or self._is_stale()):
                    shelf = self._begin_anew(shelf)
                self._look(shelf, keys)
                self._write(shelf, operations)
            except ShelfError as problem:
                assert shelf is not None
                shelf = self._give_up(shelf, problem, keys, operations)
                tried = time.monotonic()
            if shelf is not None:
                with suppress(ShelfError):
                    self.counts.bytes, self.counts.entries = shelf.bytes, shelf.entries
                if self._said and time.monotonic() - tried > LATEST:
                    self._said, self._pause = "", AGAIN  # it has been well for long
            else:
                self.counts.bytes = self.counts.entries = 0
            if over:
                break
        if self._gone:
            self._leave_nothing(shelf)
        elif shelf is not None:
            shelf.close()

    def _leave_nothing(self, shelf: Shelf | None) -> None:
        """The file goes. One that was never had may be another process's: it is marked, to be begun anew by who has it
        next.
        """
        self._open = False
        with suppress(OSError):
            if shelf is not None:
                shelf.close()
                _remove(self.path)
            else:
                self._is_void()
        with self._turn:
            keys, operations = list(self._waiting), list(self._operations)
            self._waiting.clear()
            self._operations.clear()
        for key in keys:
            self._in_loop(self._loaded, key, [])
        told = [one.future for one in operations if isinstance(one, Told)]
        self._in_loop(self._written, operations, told, "")

    def _is_young(self, begun: float) -> bool:
        return time.monotonic() - begun < PATIENCE

    def _take(self, *, ready: bool, hold: bool) -> tuple[list[bytes], list[Operation], bool]:
        """Keys to look for, operations for one step, and whether these are the last. On `hold` operations wait: the
        file may be had in a moment.
        """
        with self._turn:
            while not (self._waiting or (self._operations and not hold) or self._closing):
                if not self._turn.wait(1.0 if ready else LOCKED):
                    break
            keys = list(self._waiting)
            self._waiting.clear()
            operations: list[Operation] = []
            size = 0
            while self._operations and len(operations) < STEP and size < STEP_BYTES and (self._closing or not hold):
                operations.append(one := self._operations.popleft())
                size += one.stored.weight if isinstance(one, Put) else 0
            return keys, operations, self._closing and (self._gone or not self._operations)

    def _try_open(self, *, quiet: bool) -> Shelf | None:
        """The file; None where it cannot be had for now, which is told once."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shelf = self._open_shelf()
            endings = shelf.endings(ENDINGS) if self._on_endings is not None else []
        except (ShelfError, OSError) as problem:
            self._errors += "I/O" in str(problem)
            self._locked = "locked" in str(problem) or ("I/O" in str(problem) and self._errors <= MOST_ERRORS)
            if not (quiet and self._locked):
                self._tell(f"the cache on disk is not used: {problem}")
            return None
        if self._on_endings is not None and endings:
            self._in_loop(self._on_endings, endings)
        self._locked = False
        self._open = True
        return shelf

    def _open_shelf(self) -> Shelf:
        """The file, a damaged one begun anew. Those of workers that are no more go once it is ours: before, they may be
        those of a living instance.
        """
        try:
            shelf = Shelf(self.path, self._limit)
        except ShelfError as problem:
            if not problem.damaged:
                raise
            self._tell_damage(problem)
            shelf = Shelf(self.path, self._limit)
        try:
            for file in self._surplus:
                _remove(file)
        except OSError:
            shelf.close()
            raise
        return shelf

    def _tell(self, trouble: str) -> None:
        if trouble != self._said:
            log.warning("%s", trouble)
        self._said = trouble
        self._pause = min(LATEST, 2 * self._pause)

    def _tell_damage(self, problem: ShelfError) -> None:
        aside = set_aside(self.path)
        log.warning("the cache on disk is damaged and begun anew; the old file is %s: %s", aside, problem)

    def _is_stale(self) -> bool:
        return self._stale is not None and self._stale.exists()

    def _look(self, shelf: Shelf | None, keys: list[bytes]) -> None:
        """What is there for these keys goes to the store; each is taken off the list when that is done."""
        while keys:
            found: list[StoredResponse] = []
            if shelf is not None:
                mono, wall = MonoTime(time.monotonic()), WallTime(time.time())
                found, damaged = shelf.load(keys[-1], self._store.most_variants, wall=wall, mono=mono)
                self.counts.damaged += len(damaged)
                for variant in damaged:
                    shelf.drop(keys[-1], variant)
                if found:
                    shelf.used(keys[-1])
            self._in_loop(self._loaded, keys.pop(), found)

    def _write(self, shelf: Shelf | None, operations: list[Operation]) -> None:
        if not operations:
            return
        told = [one.future for one in operations if isinstance(one, Told)]
        if shelf is None:
            self._wipe = self._wipe or any(not isinstance(one, (Told, Resize)) for one in operations)
            problem = "" if not told or self._is_void() else self._said or "the file is not open"
            self._in_loop(self._written, operations, told, problem)
            return
        shelf.begin()
        for one in operations:
            self._apply(shelf, one)
        shelf.commit()
        if told:
            shelf.sync()
        self._in_loop(self._written, operations, told, "")

    def _is_void(self) -> bool:
        """Nothing of a file that is not open comes back in this life or another: there is none, or it is marked."""
        with suppress(OSError):
            if not self.path.exists():
                return True
            if self._stale is not None:
                self._stale.touch(mode=0o600)
                return True
        return False

    def _apply(self, shelf: Shelf, operation: Operation) -> None:
        match operation:
            case Put(stored=stored):
                # It may have left the memory by now: for want of space, or by what follows in the queue.
                if shelf.fits(stored.weight):
                    shelf.put(stored, wall=WallTime(time.time()), mono=MonoTime(time.monotonic()))
                else:
                    shelf.drop(stored.key, variant_of(stored))
            case Drop(key=key, variant=variant):
                shelf.drop(key, variant)
            case PurgeKey(key=key, soft=soft):
                shelf.purge_key(key, soft=soft)
            case PurgeTag(tag=tag, soft=soft):
                shelf.purge_tag(tag, soft=soft)
            case PurgeWhere(matches=matches, soft=soft):
                shelf.purge_where(matches, soft=soft)
            case Resize(limit=limit):
                shelf.resize(limit)
            case Told():
                pass
            case unreachable:
                assert_never(unreachable)

    def _give_up(
        self, shelf: Shelf, problem: ShelfError, keys: list[bytes], operations: list[Operation]
    ) -> Shelf | None:
        """The file failed, and goes: what was to be taken out of it may still be in it."""
        self._open = False
        shelf.roll_back()
        shelf.close()
        told = [one.future for one in operations if isinstance(one, Told)]
        self.counts.dropped += sum(isinstance(one, Put) for one in operations)
        left = ""
        try:
            if problem.damaged:
                self._tell_damage(problem)
            else:
                _remove(self.path)
                self._tell(f"the cache on disk is begun anew: {problem}")
        except OSError as why:
            self._wipe = True
            left = "" if self._is_void() else str(why)
        for key in keys:
            self._in_loop(self._loaded, key, [])
        self._in_loop(self._written, operations, told, left)
        return None

    def _begin_anew(self, shelf: Shelf) -> Shelf:
        shelf.close()
        try:
            _remove(self.path)
        except OSError as problem:
            raise ShelfError(str(problem), damaged=False) from problem
        self._wipe = False
        if self._stale is not None:
            self._stale.unlink(missing_ok=True)  # after the file: a crash between the two removes it once more
        return Shelf(self.path, self._limit)

    def _in_loop(self, do: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            self._loop.call_soon_threadsafe(do, *arguments)


def _remove(path: Path) -> None:
    for file in files_of(path):
        file.unlink(missing_ok=True)


def _tier(disk: Disk) -> Tier:  # interface guard: mypy checks it
    return disk
