"""What all client connections of a worker share: the doors they come through, the memos, who is connected, and the
drain.

A door is one listening address with what is read there and how. Connections of one kind (door and trust) share a memo
and plans.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from aiohttp.base_protocol import BaseProtocol
from cachetools import FIFOCache, LRUCache

from proxy import parsers
from proxy.cache.memo import Memo
from proxy.errors import Failure
from proxy.exchange import Client, Tunnel
from proxy.http.checks import check_request
from proxy.modes.client_hello import Hello, NoHello, Unfinished
from proxy.modes.reverse import is_in
from proxy.server.hoard import FREE, Hoard
from proxy.server.shaping import Shaper
from proxy.server.tunnel import PIPES, Pump

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from config.schema import Limits
    from config.units import Listen
    from proxy.cache.store import Store
    from proxy.http.checks import CheckedRequest, Mode
    from proxy.http.stored import StoredResponse
    from proxy.modes.reverse import SiteView
    from proxy.observe.observer import Observer
    from proxy.outbox import Outbox
    from proxy.pipeline import Pipeline
    from proxy.server.destination import Finder
    from proxy.server.protocol import ClientConnection
    from proxy.server.splicing import SplicedConnection
    from proxy.wheel import Wheel

    Connection: TypeAlias = ClientConnection | SplicedConnection

LONGEST_KEPT_HEAD = 8192  # bytes; longer heads are rare and take the long way
FRESH = 0.25  # seconds in which a client that has connected asks: a long way there and back
MEMO_SHARE = 16  # the memos' part of the cache's memory is one in so many
LEAST_MEMO = 2**18  # bytes of each memo all the same: plans pay without a cache too
LEAST_PIPES = 2
SHARE_FOR_FAREWELLS = 16  # as one in so many of the connections may be turned away at once with an answer
DESCRIPTORS_PER_PIPE = 16  # a pipe is two of them, beside those that are counted
MOST_KINDS = 256  # of connections, each with a memo: destinations of taken connections are as many as the internet has
MEMO_OF_DESTINATION = 2**16  # bytes of such a memo
Kind = tuple[frozenset[str], Memo]
Splicer = Callable[[Hello | Unfinished | NoHello, Client, float], Tunnel | Failure]  # the last is the wall time


class Kinds(LRUCache[tuple[int, frozenset[str], Hashable], Kind]):
    """By door, trust and class. A memo that has to go is empty from then on: no connection finds anything in it."""

    def popitem(self) -> tuple[tuple[int, frozenset[str], Hashable], Kind]:
        at, kind = super().popitem()
        kind[1].retire()
        return at, kind


class Door:
    """One listening address: scheme, mode, and what its sites allow in a request."""

    __slots__ = (
        "classify",
        "default_authority",
        "encode_target",
        "finds",
        "index",
        "limits",
        "listen",
        "mode",
        "scheme",
        "sites",
        "splices",
        "upgrades",
    )

    def __init__(
        self,
        listen: Listen,
        index: int,
        scheme: bytes,
        mode: Mode,
        limits: Limits,
        sites: Mapping[str, SiteView],
        default_authority: bytes,
        classify: Callable[[Client], Hashable] = lambda _client: None,
        *,
        finds: Finder | None = None,
        splices: Splicer | None = None,
    ) -> None:
        self.listen = listen
        self.index = index
        self.scheme = scheme
        self.mode = mode
        self.limits = limits
        self.sites = sites  # those reached through here
        self.default_authority = default_authority  # of HTTP/1.0 requests without Host
        self.classify = classify  # clients by what access control makes of them
        self.finds = finds  # where a connection was going that has been taken on its way
        self.splices = splices  # judges what is read of HTTPS here, which is not answered
        self.encode_target = any(view.encode_target for view in sites.values())
        self.upgrades = frozenset[bytes]().union(*(view.upgrade for view in sites.values()))

    def check(self, raw: bytes, message: Any, client: Client) -> CheckedRequest:  # aiohttp's message: no types
        """The request, with the widest of what the sites here allow; each site's own word comes with the plan."""
        going = client.destination
        return check_request(
            raw,
            message,
            scheme=self.scheme,
            mode=self.mode,
            limits=self.limits,
            default_authority=self.default_authority if going is None else authority_of(*going),
            encode_target=self.encode_target,
            allow_trace=any(view.allow_trace for view in self.sites.values()),
            upgrades=self.upgrades,
        )


def authority_of(address: str, port: int) -> bytes:
    """As it stands in Host."""
    host = f"[{address}]" if ":" in address else address
    return (host if port == 80 else f"{host}:{port}").encode()


class Front:
    """Shared by all connections of a worker; `configure` exchanges what the configuration says."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pipeline: Pipeline,
        store: Store,
        observer: Observer,
        wheel: Wheel,
        outbox: Outbox,
        wall_offset: float,
    ) -> None:
        self.loop = loop
        self.pipeline = pipeline
        self.store = store
        self.observer = observer
        self.wheel = wheel
        self.outbox = outbox
        self.wall_offset = wall_offset  # wall time less the loop's
        self.now: Callable[[], float] = loop.time
        self.longest_kept_head = LONGEST_KEPT_HEAD
        self.memo_allowed = True
        self.draining = False
        self.empty = asyncio.Event()  # draining, and nobody is connected any more
        self.connections: dict[Connection, None] = {}  # the oldest first
        self.hoard = Hoard(store, loop)
        self.pump = Pump(loop, wheel, loop.time, self.hoard.weigh)
        self.shaper = Shaper(loop.time)
        self._turned_away = 0
        self._accepted = 0
        self.limits: Limits
        self._per_address: Counter[str] = Counter()
        self._kinds = Kinds(MOST_KINDS)
        self._classes: FIFOCache[tuple[int, str, tuple[str, int] | None], tuple[frozenset[str], Hashable]]
        self._classes = FIFOCache(4096)
        self._owner = BaseProtocol(loop)
        self._parser: Any = None
        self._most = 0
        self._descriptors = 0
        self._memo_bytes = LEAST_MEMO
        store.on_gone.append(self.forget)
        store.on_ban.append(self.doubt)
        pipeline.upstreams.admits = self.admits

    def configure(
        self,
        limits: Limits,
        *,
        memo: bool,
        most_connections: int,
        descriptors: int = 0,
        memo_bytes: int = 0,
        held: int = FREE,
        rates: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Plans and answers of an earlier configuration are void. `descriptors` is how many connections may be open at
        once, to clients and to origins (0: any number), `memo_bytes` is for each kind of connection, `held`
        what may be held for clients beside the cache, `rates` what each class of clients gets per second.
        """
        self.shaper.configure(rates)
        self.hoard.free = held
        self._memo_bytes = max(LEAST_MEMO, memo_bytes)
        self.limits = limits
        self.memo_allowed = memo
        self._most = most_connections
        self._descriptors = descriptors
        if descriptors:
            self.pump.pipes.most = max(LEAST_PIPES, min(PIPES, descriptors // DESCRIPTORS_PER_PIPE))
        self._parser = None
        self._classes.clear()
        self._kinds.clear()

    def drain(self) -> None:
        """From now on each answer is its connection's last, those of the memo too."""
        self.draining = True
        for connection in self.connections:
            connection.drain()
        if not self.connections:
            self.empty.set()
        else:  # it was empty while answers said close already
            self.empty.clear()

    # ---- parsers -----------------------------------------------------------------------------------------------------

    def take_parser(self) -> Any:
        """A parser that stands at the start of a message. Heads come whole, so one serves all connections in turn."""
        parser, self._parser = self._parser, None
        return parser if parser is not None else parsers.make_request_parser(self._owner, self.loop, self.limits)

    def keep_parser(self, parser: Any) -> None:
        """Only after one whole message without body, upgrade or close: nothing of it is left in the parser."""
        self._parser = parser

    # ---- kinds of connections ----------------------------------------------------------------------------------------

    def kind_of(self, door: Door, client: Client) -> Kind:
        """(sites that trust this client, memo): equal for connections on which equal bytes mean the same."""
        at = (door.index, client.address, client.destination)
        found = self._classes.get(at)
        if found is None:
            trusted = frozenset(name for name, view in door.sites.items() if is_in(client.address, view.trusted))
            found = self._classes[at] = (trusted, door.classify(client))
        kind = self._kinds.get((door.index, *found))
        if kind is None:
            size = self._memo_bytes if client.destination is None else MEMO_OF_DESTINATION
            kind = self._kinds[(door.index, *found)] = (found[0], Memo(size))
        return kind

    def void_plans(self, doors: Collection[int]) -> None:
        """What was decided for clients of these doors may be decided differently from now on."""
        for at in [at for at in self._kinds if at[0] in doors]:
            del self._kinds[at]
        for connection in self.connections:
            if connection.door.index in doors:
                connection.move(connection.door)

    def forget(self, stored: StoredResponse) -> None:
        """The store has let go of it: no memo answers with it any more."""
        if stored.memos:
            for _, memo in self._kinds.values():
                memo.forget(stored)
            stored.memos = None

    def doubt(self) -> None:
        """Any answer of the memos may be void: each is asked of the store before it is given again."""
        for _, memo in self._kinds.values():
            memo.doubt()

    @property
    def memo_bytes(self) -> int:
        return int(sum(memo.currsize for _, memo in self._kinds.values()))

    @property
    def memo_entries(self) -> int:
        return sum(len(memo) for _, memo in self._kinds.values())

    # ---- who is connected --------------------------------------------------------------------------------------------

    def opened(self, connection: Connection) -> bool:
        """Counted in; False where this client, or all together, have too many."""
        address = connection.client.address
        self.connections[connection] = None
        self._accepted += 1
        self._per_address[address] += 1
        over = self._open - 1 >= self._descriptors > 0 or len(self.connections) > self._most > 0
        if over and not self._make_room(connection):
            self._turned_away += 1
            return False
        most = connection.door.limits.per_client
        if most and self._per_address[address] > most and not connection.trusted:
            self._turned_away += 1
            return False
        return True

    def admits(self) -> bool:
        """A connection to an origin may be opened, perhaps in favour of one that idles."""
        return not self._open >= self._descriptors > 0 or self._make_room()

    @property
    def brims(self) -> bool:
        """Those who are turned away take what is kept for others."""
        most = self._descriptors
        return self._open > most + most // SHARE_FOR_FAREWELLS > 0

    @property
    def _open(self) -> int:
        """Descriptors of connections. A tunnel has two: its client's, which is counted as such, and its origin's."""
        return len(self.connections) + self.pipeline.tunnelling.count + self.pipeline.upstreams.descriptors

    def _make_room(self, new: Connection | None = None) -> bool:
        """An idle connection goes in favour of a new one."""
        for connection in self.connections:
            if connection.evictable and connection is not new:
                connection.close_if_idle()
                return True
        return self.pipeline.upstreams.spare()

    def closed(self, connection: Connection) -> None:
        if connection not in self.connections:
            return
        del self.connections[connection]
        self.shaper.leave(connection)
        address = connection.client.address
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]
        if self.draining and not self.connections:
            self.empty.set()

    def turned_away(self) -> None:
        """One that was here had to go."""
        self._turned_away += 1

    def take_counts(self) -> tuple[int, int]:
        """(accepted, turned away) since the last call."""
        counts = self._accepted, self._turned_away
        self._accepted = self._turned_away = 0
        return counts

    @property
    def busy(self) -> int:
        """Connections with a request in flight or under way."""
        return sum(connection.busy for connection in self.connections)

    def fresh(self) -> list[Connection]:
        """Those just made, from which nothing has come: the first request of each is on its way."""
        since = self.now() - FRESH
        return [connection for connection in self.connections if connection.is_fresh(since)]
