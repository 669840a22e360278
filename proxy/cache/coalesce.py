"""One fetch per key at a time: others who ask for the same meanwhile wait for its head and then read the body as it
arrives.

A flight is a fetch that may fill the store. Who joins before the head is a waiter, judged again when it has come; who
joins later reads what has arrived so far. What proves unshareable is remembered for a while, so that its requests do
not queue (hit-for-miss). What a head means (store, freshen, serve stale) is decided by the pipeline; here is who
waits, who reads, and what memory is held.

Invariants: a body in flight is reserved in the store or bounded by a window; each exchange that joined is answered
once.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from cachetools import TLRUCache

from proxy import errors
from proxy.errors import Failure
from proxy.http.stored import Body, BodyState

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.cache.store import Store
    from proxy.delivery import Delivery
    from proxy.exchange import Exchange
    from proxy.http.checks import CheckedResponse
    from proxy.http.message import ResponseHead
    from proxy.http.stored import StoredResponse
    from proxy.policy.parts import Fill
    from proxy.upstream.client import Request
    from proxy.upstream.connection import UpstreamConnection

PACK_AT = 2**20  # bytes of a body to be stored that have come: they are cut into even chunks, in some 0.2 ms
WINDOW = 256 * 2**10  # bytes ahead of the slowest reader, of a body that is not stored after all
PURGES = 256  # remembered by their keys; a fetch during which there were more is taken for outdated
UNSHAREABLE = 4096  # keys remembered as not worth waiting for


class Judge(Protocol):
    """The pipeline, as a flight sees it: what comes is told, what is to be done is called back on the flight."""

    def flight_head(self, flight: Flight, checked: CheckedResponse) -> None: ...
    def flight_failed(self, flight: Flight, failure: Failure) -> None: ...
    def flight_interim(self, flight: Flight, head: ResponseHead) -> None: ...
    def part_landed(self, flight: Flight, stored: StoredResponse) -> StoredResponse:
        """What to store in place of a part that has come whole."""

    def flight_cut(self, flight: Flight, stored: StoredResponse) -> StoredResponse | None:
        """What to store of a response that was cut short, if anything."""

    def waiter_gone(self, x: Exchange) -> None: ...
    def reads_on(self, reader: Delivery, body: Body) -> None:
        """All has come and is stored, and this one has not read it yet."""


class Flights:
    """The flights of a worker by key, and what has proved unshareable."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._flights: dict[bytes, Flight] = {}  # those that can be joined
        self._loose: set[Flight] = set()  # those that cannot, or not any more
        self.purges = 0  # how often something was outdated, and
        self._purged: deque[bytes | None] = deque(maxlen=PURGES)  # which keys the last times; None: by another mark
        self._unshareable: TLRUCache[bytes, float] = TLRUCache(
            UNSHAREABLE, lambda _, seconds, at: at + seconds, timer=now
        )

    def get(self, key: bytes) -> Flight | None:
        return self._flights.get(key)

    def open(self, flight: Flight, *, listed: bool) -> None:
        """It is under way from now on; `listed`: others may join it."""
        flight.home = self
        if listed:
            assert flight.key not in self._flights
            self._flights[flight.key] = flight
        else:
            self._loose.add(flight)

    def close(self, flight: Flight) -> None:
        """Nobody joins it any more."""
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
            self._loose.add(flight)

    def over(self, flight: Flight) -> None:
        """It has ended."""
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
        self._loose.discard(flight)

    def outdate(self, key: bytes) -> None:
        """What is stored under the key has been purged: nothing that was asked for before comes after it into the
        store.
        """
        self._note_purge(key)
        flight = self._flights.get(key)
        if flight is not None:
            self.close(flight)
        for flight in self._loose:
            flight.outdated = flight.outdated or flight.key == key

    def is_outdated(self, key: bytes, since: int) -> bool:
        """Something under this key may have been outdated after so many purges."""
        count = self.purges - since
        return count > len(self._purged) or any(self._purged[-n] in {None, key} for n in range(1, count + 1))

    def _note_purge(self, key: bytes | None) -> None:
        self.purges += 1
        self._purged.append(key)

    def outdate_where(
        self, concerned: Callable[[bytes], bool], matches: Callable[[StoredResponse], bool] | None = None
    ) -> None:
        """As `outdate`, for all keys that are concerned; with `matches`, those whose response proves to match."""
        self._note_purge(None)
        for flight in [flight for flight in self._flights.values() if concerned(flight.key)]:
            self.close(flight)
        for flight in self._loose:
            if concerned(flight.key):
                flight.doubt(matches)

    def is_unshareable(self, key: bytes) -> bool:
        return bool(self._unshareable) and key in self._unshareable

    def remember_unshareable(self, key: bytes, seconds: float) -> None:
        """Its requests are not made to wait for one another for so long (hit-for-miss)."""
        self._unshareable[key] = seconds

    def forget_unshareable(self, key: bytes) -> None:
        if self._unshareable:
            self._unshareable.pop(key, None)

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._flights) + len(self._loose)


class Flight:
    """A fetch on its way. `leader` is the exchange that caused it, None for a refresh of our own."""

    __slots__ = (
        "_let_go",
        "_paused",
        "_readers",
        "_reserved",
        "_store",
        "body",
        "came",
        "doubts",
        "fallback",
        "fill",
        "forbidden",
        "home",
        "judge",
        "key",
        "leader",
        "most",
        "outdated",
        "part",
        "pattern",
        "request",
        "stale",
        "started",
        "stored",
        "storing",
        "tail",
        "waiters",
        "wall",
    )

    def __init__(
        self, judge: Judge, store: Store, key: bytes, leader: Exchange | None, *, started: float, wall: float
    ) -> None:
        self.judge = judge
        self._store = store
        self.key = key
        self.leader = leader
        self.started = started  # when the request went out: the loop's time, and
        self.wall = wall  # wall time
        self.waiters: list[Exchange] = []
        self.pattern: Exchange | None = None  # whose request was sent; it may have left since
        self.fallback: tuple[StoredResponse, ...] = ()  # what may stand in for a failing origin
        self.stale: tuple[StoredResponse, ...] = ()  # what is being validated
        self.came = 0  # the status that the origin said
        self.part: StoredResponse | None = None  # what is being completed, and
        self.fill: Fill | None = None  # by which bytes (RFC 9111 §3.4)
        self.tail: tuple[bytes, ...] = ()  # chunks that stand behind what comes
        self.request: Request | None = None
        self.home: Flights | None = None
        self.outdated = False  # what it brings was purged or invalidated meanwhile
        self.doubts: tuple[Callable[[StoredResponse], bool], ...] = ()  # or was, if one of these matches it
        self.body: Body | None = None
        self.stored: StoredResponse | None = None
        self.storing = False
        self.forbidden: tuple[bytes, ...] = ()
        self.most = 0  # bytes that may be stored
        self._readers: list[Delivery] = []
        self._reserved = 0
        self._let_go = 0  # bytes of the body that all have read, once it is not stored
        self._paused = False

    # ---- joining -----------------------------------------------------------------------------------------------------

    def join(self, x: Exchange) -> None:
        """Waits for the head."""
        assert self.body is None
        self.waiters.append(x)
        x.producer = Waiting(self, x)

    def waiting_ones(self) -> list[Exchange]:
        """All who wait for the head, the leader first."""
        return [self.leader, *self.waiters] if self.leader is not None else list(self.waiters)

    def leave(self, x: Exchange) -> None:
        """An exchange whose client left before the head came. Without anybody left the fetch is given up."""
        if self.leader is x:
            self.leader = None
        elif x in self.waiters:
            self.waiters.remove(x)
        if self.leader is None and not self.waiters and self.body is None:
            self.give_up()

    def give_up(self) -> None:
        self._is_over()
        request, self.request = self.request, None
        if request is not None:
            request.cancel()

    def everybody(self) -> list[Exchange]:
        """Takes out all who wait, the leader first."""
        exchanges = self.waiting_ones()
        self.leader = None
        self.waiters = []
        return exchanges

    def read(self, reader: Delivery) -> None:
        """One more reads the body from its start."""
        self._readers.append(reader)
        reader.pump()

    # ---- storing -----------------------------------------------------------------------------------------------------

    def doubt(self, matches: Callable[[StoredResponse], bool] | None) -> None:
        """A purge came of what matches (None: of this key), and this was asked for before it."""
        if matches is None:
            self.outdated = True
        elif self.stored is not None:
            self.outdated = self.outdated or matches(self.stored)
        else:
            self.doubts = (*self.doubts, matches)

    def is_void(self, stored: StoredResponse) -> bool:
        """This response was purged while it was on its way."""
        return self.outdated or any(matches(stored) for matches in self.doubts)

    def begin_body(self, stored: StoredResponse, most: int, forbidden: tuple[bytes, ...] = ()) -> None:
        """The head has come and may be stored; the body is collected for all. With one of `forbidden` in it, it is
        not kept.
        """
        self.forbidden = forbidden
        self.stored = stored
        self.body = stored.body
        self.outdated = self.is_void(stored)
        self.storing = not self.outdated
        self.most = most
        if self.outdated:
            self._unlist()

    def reader_left(self, reader: Delivery) -> None:
        if reader in self._readers:
            self._readers.remove(reader)
        if not self.storing:
            self._slide()
            if not self._readers and self.request is not None:
                self.give_up()

    def reader_moved(self) -> None:
        if not self.storing:
            self._slide()

    def _stop_storing(self) -> None:
        """It has become too large, or memory is short: it travels on to those who read, through a window."""
        self.storing = False
        self._unlist()
        self._slide()
        if not self._readers:
            self.give_up()

    def _slide(self) -> None:
        """What all have read is let go; the origin waits for the slowest (bounded window)."""
        body = self.body
        if body is None:
            return
        passed = min((reader.at for reader in self._readers), default=len(body.chunks))
        if passed:
            self._let_go += sum(map(len, body.chunks[:passed]))
            del body.chunks[:passed]
            for reader in self._readers:
                reader.at -= passed
        waiting = body.size - self._let_go
        if self._reserved > waiting:
            self._store.release(self._reserved - waiting)
            self._reserved = waiting
        if self.request is None:
            return
        if waiting > WINDOW and not self._paused:
            self._paused = True
            self.request.pause()
        elif waiting <= WINDOW // 2 and self._paused:
            self._paused = False
            self.request.resume()

    def _unlist(self) -> None:
        if self.home is not None:
            self.home.close(self)

    def _is_over(self) -> None:
        if self.home is not None:
            self.home.over(self)
            self.home = None

    # ---- from the origin ---------------------------------------------------------------------------------------------

    def upstream_interim(self, head: ResponseHead) -> None:
        self.judge.flight_interim(self, head)

    def upstream_head(self, checked: CheckedResponse) -> None:
        self.judge.flight_head(self, checked)

    def upstream_data(self, chunk: bytes) -> None:
        body = self.body
        if body is None:
            return
        if self.storing:
            if body.size + len(chunk) > self.most or not self._store.reserve(len(chunk)):
                body.append(chunk)
                for reader in list(self._readers):
                    reader.pump()
                self._stop_storing()
                return
            self._reserved += len(chunk)
        body.append(chunk)
        for reader in list(self._readers):
            reader.pump()
        if not self.storing:
            self._slide()
        elif body.loose >= PACK_AT:
            self._pack(body)

    def _pack(self, body: Body) -> None:
        """It is kept in even pieces, and whoever reads goes on at the same byte: no memory is held twice."""
        places = [(reader, reader.offset) for reader in self._readers]
        if body.pack():
            for reader, offset in places:
                reader.go_on(offset)

    def upstream_end(self) -> None:
        self.request = None
        self._is_over()
        body = self.body
        if body is None:
            return
        for chunk in self.tail:
            body.append(chunk)
        body.finish()
        if self.storing and self.stored is not None:
            self._pack(body)
            self._keep(self.stored, body)
        for reader in list(self._readers):
            reader.pump()
        if self.storing:
            for reader in self._readers:
                self.judge.reads_on(reader, body)
            self._readers.clear()
        else:
            self._slide()

    def _keep(self, stored: StoredResponse, body: Body) -> None:
        """Into the store with it; where that may not be, its memory stays reserved until all have read it."""
        part = stored.status == 206
        if not part:
            stored.length = body.size
        if self.outdated or any(_occurs(one, body) for one in self.forbidden):
            self.storing = False
            return
        self._store.release(self._reserved)
        self._reserved = 0
        self._store.put(self.judge.part_landed(self, stored) if part else stored)

    def _keep_remains(self, stored: StoredResponse, body: Body) -> None:
        """A body cut short is kept as the part that it is, if that may be of use."""
        if self.outdated or any(_occurs(one, body) for one in self.forbidden):
            return
        kept = self.judge.flight_cut(self, stored)
        if kept is not None:
            self._store.release(self._reserved)
            self._reserved = 0
            self._store.put(kept)

    def upstream_whole(self, checked: CheckedResponse, body: bytes) -> None:
        """As head, data and end; the head may have passed the rest on to a relay."""
        request = self.request
        assert request is not None
        self.upstream_head(checked)
        receiver = request.receiver
        if body:
            receiver.upstream_data(body)
        receiver.upstream_end()

    def upstream_failed(self, failure: Failure) -> None:
        self.request = None
        self._is_over()
        body = self.body
        if body is None:
            self.judge.flight_failed(self, failure)
            return
        body.state = BodyState.BROKEN
        if self.storing and self.stored is not None:
            self._keep_remains(self.stored, body)
        self.storing = False
        for reader in list(self._readers):
            reader.x.failure = failure
            reader.pump()
        self._slide()

    def upstream_upgraded(self, checked: CheckedResponse, connection: UpstreamConnection, tail: bytes) -> None:
        raise AssertionError("a fetch for the store asks for no upgrade")


def _occurs(text: bytes, body: Body) -> bool:
    """Also where two chunks meet."""
    last = b""
    for chunk in body.chunks:
        if text in chunk or text in last + chunk[: len(text) - 1]:
            return True
        last = (last + chunk)[-(len(text) - 1) :] if len(text) > 1 else b""
    return False


class Waiting:
    """The producer of an exchange that has nothing to read yet."""

    __slots__ = ("_flight", "_x")

    def __init__(self, flight: Flight, x: Exchange) -> None:
        self._flight = flight
        self._x = x

    def writer_drained(self) -> None: ...

    def client_gone(self) -> None:
        self._x.failure = Failure(errors.CLIENT_GONE)
        self._flight.leave(self._x)
        self._flight.judge.waiter_gone(self._x)
