"""Exchange: the one mutable record that travels down the spine, and the seams around it.

An exchange has a request head, a body reader and a response writer. The spine knows no HTTP/1: framing lives behind
these two protocols in server/ (towards clients) and upstream/ (towards origins), so that another version of HTTP is
one more of each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from config.schema import Timeouts
from proxy.errors import Failure

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from config.schema import Ejection, Health, Network
    from config.units import MonoTime, WallTime
    from proxy.http.forwarding import Hop
    from proxy.http.links import Links
    from proxy.http.message import RequestHead, ResponseHead
    from proxy.http.stored import StoredResponse
    from proxy.modes.reverse import SiteView
    from proxy.plan import Plan, Relayed
    from proxy.policy.reasons import Reason
    from proxy.policy.rules import CacheRules


class Outcome(Enum):
    """What became of an exchange, as log field and metric label."""

    HIT = "hit"
    STALE = "stale"  # answered from a stale stored response (RFC 9111 §4.2.4)
    REVALIDATED = "revalidated"  # the origin's 304 made the stored response answer
    MISS = "miss"
    BYPASS = "bypass"
    ANSWER = "answer"  # a redirect or fixed answer of a rule, a purge
    REFUSED = "refused"  # an error of ours before any origin was asked
    FAILED = "failed"  # an error of ours in place of the origin's answer
    TUNNEL = "tunnel"


@dataclass(slots=True, eq=False)
class Client:
    """The peer of one client connection."""

    address: str  # of the connection itself; text of an IP address, or "unix"
    port: int
    local: tuple[str, int]  # the address it reached
    scheme: bytes  # b"http" or b"https"
    listener: int = 0  # index of the listening address
    destination: tuple[str, int] | None = None  # where it wanted to, taken on its way (transparent mode)
    hop: Hop | None = None  # what each of its requests says about it towards origins
    said: tuple[Plan, bytes] | None = None  # the head sent last, for the next request that is equal


NO_BODY = -1  # as a length: the message has no body, and its head says of length what its fields say (HEAD, 204, 304)


class BodySink(Protocol):
    """Takes a body piece by piece."""

    @property
    def backlog(self) -> int:
        """Bytes taken and not passed on yet."""

    def body_data(self, chunk: bytes) -> None: ...
    def body_end(self) -> None: ...
    def body_failed(self, failure: Failure) -> None: ...


class BodyReader(Protocol):
    """A request body that has not been read yet. `length` is None where it is not announced."""

    length: int | None
    size: int  # bytes received so far

    def start(self, sink: BodySink) -> None:
        """Bytes flow to the sink from now on; what has already arrived comes at once."""

    def limit(self, most: int) -> None:
        """No more than this many bytes are taken; 0 for no bound."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def detach(self) -> None:
        """Nobody reads any more; what still comes is dropped."""


class TunnelOver(Protocol):
    """Told at a tunnel's end, once: bytes that went to the origin, to the client, and why where we ended it."""

    def __call__(self, received: int, sent: int, failure: Failure | None, /) -> None: ...


class ResponseWriter(Protocol):
    """Where the answer goes. Order of calls: interim*, then start, data*, end; reset at any time instead of what is
    left.
    """

    def interim(self, head: ResponseHead) -> None: ...
    def start(self, head: ResponseHead, length: int | None) -> None:
        """The final head. `length` is the body's length, None where it is not known, NO_BODY where there is none to
        come. Framing and Connection are the writer's.
        """

    def data(self, chunk: bytes) -> None: ...
    def end(self) -> None: ...
    def whole(self, head: ResponseHead, chunks: Sequence[bytes], length: int) -> None:
        """start, data and end at once: the whole answer is here."""

    def shape(self, bandwidth: str) -> None:
        """What the connection sends shares the rate of this class from now on."""

    def last(self) -> None:
        """The connection ends with this answer; said before it starts."""

    def reset(self) -> None:
        """The answer cannot be finished: the client must see the cut (RFC 9112 §8)."""

    def upgrade(self, head: ResponseHead) -> BodyReader:
        """A 101: from now on data, end and the reader carry raw bytes."""

    def tunnel(self, head: ResponseHead, origin: socket.socket, idle: float, over: TunnelOver) -> None:
        """A 2xx to CONNECT, which has no framing (RFC 9110 §9.3.6): from now on bytes flow between the client and this
        socket, which is the writer's. `over` is told at the end, once.
        """

    @property
    def congested(self) -> bool:
        """More is buffered than the client takes: `Exchange.producer` is told when that is over."""


class Producer(Protocol):
    """Whoever feeds a response writer."""

    def writer_drained(self) -> None:
        """The client takes bytes again."""

    def client_gone(self) -> None:
        """Nobody will take any more."""


@dataclass(slots=True)
class Reusable:
    """The answer just written in full is the stored response's: the same request may be given it again until then."""

    stored: StoredResponse
    until: MonoTime


class Reach(Protocol):
    """Which addresses may be connected to. By value: what was connected under one serves nobody under another."""

    def refusal(self, address: str, port: int, *, here: bool) -> Failure | None:
        """Why this address (text of an IP address) may not be connected to; None where it may. `here`: this host has
        it.
        """


@dataclass(frozen=True, slots=True)
class Origin:
    """One origin of a pool, as `upstream/` connects to it."""

    scheme: str  # "http" or "https"
    host: str  # name or literal, without brackets
    port: int
    route: str = ""  # jvmRoute
    weight: int = 1
    max_connections: int = 0
    tls_name: str = ""  # name sent and expected; empty: host
    tls_verify: bool = True
    tls_ca: str = ""
    parent: bytes | None = field(default=None, repr=False)  # a proxy, with its Proxy-Authorization; b"": it wants none
    reach: Reach | None = None  # None: configured by the operator, who may name any address
    source: str = ""  # the client's address, from which it is connected to; empty: from our own
    address: str = field(init=False, compare=False)  # host:port, worked out once: it is looked at for each request
    number: int = field(init=False, compare=False)  # its hash, likewise

    def __post_init__(self) -> None:
        host = f"[{self.host}]" if ":" in self.host else self.host
        object.__setattr__(self, "address", f"{host}:{self.port}")
        object.__setattr__(self, "number", hash((self.host, self.port, self.source)))

    def __hash__(self) -> int:
        return self.number


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """The origins of one site or rule, and how one of them is chosen, checked and waited for."""

    name: str  # the site's name, or `site/rule` for a rule with origins of its own
    site: str
    origins: tuple[Origin, ...]
    balance: str  # round-robin | least-requests | consistent-hash
    health: Health | None
    eject: Ejection
    timeouts: Timeouts
    retry: bool
    check_host: str = ""  # Host of active checks; empty: the origin's own address


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What was asked of the proxy itself, as it is asked of a mirrored origin, and how that's words are turned back."""

    request: RequestHead  # as the cache sees it
    sent: RequestHead  # as it travels: with the operator's credentials
    links: Links
    base: int  # of the places of `links`, the one that is asked
    pools: tuple[str, ...]  # of each place
    rewrites: bool  # links in bodies
    follows: bool  # redirects to one of the places
    says: str  # which rule of its kind it is under


@dataclass(frozen=True, slots=True)
class Route:
    """Where an exchange goes, and under which rules: the answer of a mode to the one question it is asked."""

    site: str
    rule: str  # name of the rule that matched, or ""
    pool: str  # name of the pool of origins, upstream/pool.py
    rules: CacheRules
    session: str | None = None  # jvmRoute asked for by the request
    origin: Origin | None = None  # named by the request (forward, transparent), in place of a pool's
    reports: tuple[str, ...] = ()  # rules on trial that would have denied it
    bandwidth: str = ""  # class whose rate the client's connection shares
    counted: bool = False  # each request is, so that equal ones are judged anew
    past_cache: tuple[Network, ...] = ()  # networks whose clients the rule lets past the cache
    mirrored: Mirrored | None = None  # what goes to the origin is not what was asked


@dataclass(frozen=True, slots=True)
class Unproven:
    """Two ways for a client that has named a host on its own word: whether the name has the address that it was going
    to decides between them.
    """

    name: str
    address: str
    proven: Route
    disproved: Route | Failure  # outside of the cache: nobody else may get what comes, nor this client what others got


@dataclass(frozen=True, slots=True)
class FixedAnswer:
    """A redirect or fixed answer given by a rule."""

    site: str
    rule: str
    head: ResponseHead
    body: bytes


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Bytes both ways, unread, between the client and this origin (CONNECT, RFC 9110 §9.3.6)."""

    site: str
    rule: str
    origin: Origin
    timeouts: Timeouts = field(default_factory=Timeouts)  # of these `connect`
    pool: str = ""  # of proxies that are asked for a tunnel to the origin
    reports: tuple[str, ...] = ()  # rules on trial that would have denied it
    bandwidth: str = ""  # class whose rate the client's connection shares
    counted: bool = False  # each request is, so that equal ones are judged anew


Way = Route | Unproven | FixedAnswer | Tunnel | Failure


class Mode(Protocol):
    """Answers one question: where does this request go, or why nowhere. Nothing after it knows the mode."""

    def route(self, request: RequestHead, client: Client, user: str = "", wall: float = 0.0) -> Way:
        """`user`: who has proved to be it; `wall`: the time, for rules that are for parts of the week."""

    def site_of(self, authority: bytes, listener: int) -> SiteView | None:
        """What is the same for all requests to this authority, through this listener; None where nobody has it."""

    def has_mirror(self, listener: int, path: bytes) -> bool:
        """What is asked of this listener itself, for this path, is mirrored."""


class Exchange:
    """One request with its response. What most exchanges never have stands on the class: making one is cheap so."""

    route: Route | None = None
    key: bytes = b""
    outcome: Outcome = Outcome.MISS
    reason: Reason | None = None
    detail: Reason | None = None  # why the answer was not stored
    status: int = 0
    sent: int = 0  # bytes of the answer's body
    received: int = 0  # bytes of the request's body
    upstream: str = ""  # address of the origin that answered
    first_byte: MonoTime | None = None  # when the origin's head arrived
    failure: Failure | None = None
    user: str = ""  # who has proved to be it (forward mode)
    remote: str = ""  # the client as told by trusted hops; equals client.address without them
    producer: Producer | None = None
    reusable: Reusable | None = None  # set before `whole` where the memo may repeat the answer
    equal: Relayed | None = None  # an earlier exchange that this one repeats, byte for byte
    done: bool = False
    site: str = ""  # where `route` is None: the site, and the rule, of a fixed answer or refusal
    rule: str = ""
    response: ResponseHead | None = None  # the final head given to the writer, for the log

    def __init__(
        self,
        client: Client,
        request: RequestHead,
        body: BodyReader | None,
        writer: ResponseWriter,
        started: MonoTime,
        wall: WallTime,
        plan: Plan | None = None,
        **known: object,
    ) -> None:
        self.client = client
        self.request = request
        self.body = body
        self.writer = writer
        self.started = started
        self.wall = wall
        self.plan = plan
        if known:
            self.__dict__.update(known)
