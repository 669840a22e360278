"""Which peer of a pool takes a request. Pure: time and chance come in as arguments, nothing is connected here.

Order of choice: the peer that the session names, then the pool's balancing over those that are in, have room and were
not tried.
Panic rule: if none of the untried peers is in, those that only traffic has ejected are tried all the same, because a
wrong guess costs one more error and no guess costs all. Peers failed by their active check stay out: the check is the
operator's word.
Invariants: a peer that is out is never chosen while another untried one is in; no peer has more than
`max_connections` at once.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from hashlib import blake2b
from math import gcd
from typing import TYPE_CHECKING, assert_never

from proxy import errors
from proxy.upstream.health import (
    Evidence,
    PeerHealth,
    Standing,
    after_evidence,
    after_start,
    after_verdict,
    may_serve,
    share_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from config.units import MonoTime
    from proxy.errors import Kind
    from proxy.exchange import Origin, PoolSpec
    from proxy.upstream.health import Verdict, Why

POINTS = 128  # ring points per unit of weight: shares within about a tenth (ketama has 160)
MOST_POINTS = 2**15  # of one ring, however large the weights

_UP = Standing.UP
_GOOD = Evidence.GOOD

Place = tuple[str, str, int]  # scheme, host, port: what makes an origin the same across reloads


class Peer:
    """One origin with what is known of it now."""

    __slots__ = ("active", "credit", "health", "origin")

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.active = 0  # requests under way
        self.credit = 0.0  # smooth weighted round-robin's running number
        self.health = PeerHealth()

    @property
    def full(self) -> bool:
        return 0 < self.origin.max_connections <= self.active


@dataclass(frozen=True, slots=True)
class Change:
    """A peer's new standing, for log and metrics."""

    pool: str
    address: str
    standing: Standing
    why: Why


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """A peer as `tandem status` shows it."""

    address: str
    route: str
    standing: Standing
    why: Why
    active: int
    share: float  # of its weight
    until: float  # end of an ejection


class Pool:
    def __init__(self, spec: PoolSpec, previous: Pool | None = None) -> None:
        """`previous` is this pool before a reload: peers that stay keep their health and running requests."""
        old = {} if previous is None else previous._peers  # noqa: SLF001 - our own kind
        self.spec = spec
        self._slow_start = float(spec.eject.slow_start)
        self._peers: dict[Place, Peer] = {}
        for origin in spec.origins:
            peer = old.get(_place(origin)) or Peer(origin)
            peer.origin = origin
            self._peers[_place(origin)] = peer
        self._list = list(self._peers.values())
        self._only = self._list[0] if len(self._list) == 1 and not self._list[0].origin.max_connections else None
        self._routes = {peer.origin.route: peer for peer in self._list if peer.origin.route}
        self._ring = Ring([peer.origin for peer in self._list]) if spec.balance == "consistent-hash" else None
        self._balance = self._balancer()

    # ---- choice ---------------------------------------------------------------------------------

    def choose(
        self,
        now: MonoTime,
        *,
        session: str | None = None,
        key: bytes = b"",
        tried: Collection[Origin] = (),
        random: float = 0.0,
    ) -> Origin | None:
        """The origin for one request, or None (`refusal` says why). `random`, in [0, 1), is the place on
        the ring of a request without key.

        A session's peer that is in but full gives None: elsewhere the user's session would be lost for good.
        """
        if session is not None:
            peer = self._routes.get(session)
            if peer is not None and may_serve(peer.health, now) and peer.origin not in tried:
                return None if peer.full else peer.origin
        peers = self._untried_in(now, tried)
        room = [peer for peer in peers if not peer.full]
        if not room:
            return None
        return (room[0] if len(room) == 1 else self._balance(room, now, key, random)).origin

    def likely(self, now: MonoTime, session: str | None, key: bytes) -> tuple[Origin, ...]:
        """Those of whom `choose` would take one now, without a turn being taken; empty: it gives None."""
        if session is not None:
            peer = self._routes.get(session)
            if peer is not None and may_serve(peer.health, now):
                return () if peer.full else (peer.origin,)
        room = [peer for peer in self._untried_in(now, ()) if not peer.full]
        if self._ring is not None and key and len(room) > 1:
            return (self._by_key(room, now, key, 0.0).origin,)
        return tuple(peer.origin for peer in room)

    def hire(
        self, now: MonoTime, session: str | None, key: bytes, tried: Collection[Origin], random: float
    ) -> tuple[Peer, Change | None] | None:
        """The chosen peer, which has one request more from now on; it goes back by `release`, once for each."""
        peer = self._only
        if peer is None or tried or peer.health.standing is not _UP:
            origin = self.choose(now, session=session, key=key, tried=tried, random=random)
            if origin is None:
                return None
            peer = self._peers[_place(origin)]
        peer.active += 1
        if peer.health.standing is _UP:
            return peer, None
        return peer, self._become(peer, after_start(peer.health))

    def release(self, peer: Peer, evidence: Evidence, now: MonoTime) -> Change | None:
        """The request that hired the peer is over."""
        peer.active -= 1
        health = peer.health
        if evidence is _GOOD and health.standing is _UP and not health.failures:  # as in `hear`, without a call
            return None
        return self.hear(peer, evidence, now)

    def hear(self, peer: Peer, evidence: Evidence, now: MonoTime) -> Change | None:
        """What a request says of its peer; the usual, good news of a peer that is well, changes nothing."""
        health = peer.health
        if evidence is _GOOD and health.standing is _UP and not health.failures:
            return None
        return self._become(peer, after_evidence(health, evidence, now, self.spec.eject))

    def refusal(self, now: MonoTime, tried: Collection[Origin] = ()) -> Kind:
        """Why `choose` gave None: all that are in are full, or none is in."""
        return errors.UPSTREAM_BUSY if self._untried_in(now, tried) else errors.NO_UPSTREAM

    def _untried_in(self, now: MonoTime, tried: Collection[Origin]) -> list[Peer]:
        up = Standing.UP
        peers = [peer for peer in self._list if peer.health.standing is up or may_serve(peer.health, now)]
        if tried:
            peers = [peer for peer in peers if peer.origin not in tried]
        if peers:
            return peers
        return [p for p in self._list if p.health.standing is not Standing.FAILED and p.origin not in tried]  # panic

    def _balancer(self) -> Callable[[list[Peer], MonoTime, bytes, float], Peer]:
        match self.spec.balance:
            case "least-requests":
                return self._least_requests
            case "consistent-hash":
                return self._by_key
            case _:
                return self._round_robin

    def _weight(self, peer: Peer, now: MonoTime) -> float:
        health = peer.health
        if health.since is None and health.standing is Standing.UP:
            return peer.origin.weight
        return peer.origin.weight * share_of(health, now, self._slow_start)

    def _round_robin(self, peers: list[Peer], now: MonoTime, key: bytes, random: float) -> Peer:
        """Smooth weighted round-robin as nginx has it: turns are interleaved, and exact over a cycle of weights."""
        total = 0.0
        best = peers[0]
        most = -float("inf")
        for peer in peers:
            weight = self._weight(peer, now)
            total += weight
            peer.credit += weight
            if peer.credit > most:
                most, best = peer.credit, peer
        best.credit -= total
        return best

    def _least_requests(self, peers: list[Peer], now: MonoTime, key: bytes, random: float) -> Peer:
        """Fewest running requests per weight; turns by weight among equals, so that an idle pool is shared as well."""
        loads = [peer.active / self._weight(peer, now) for peer in peers]
        least = min(loads)
        ties = [peer for peer, load in zip(peers, loads, strict=True) if load == least]
        return ties[0] if len(ties) == 1 else self._round_robin(ties, now, key, random)

    def _by_key(self, peers: list[Peer], now: MonoTime, key: bytes, random: float) -> Peer:
        """The first peer on the key's way round the ring that may take it; without key a random place on it."""
        assert self._ring is not None
        point, lot = _digest(key) if key else (int(random * 2**64), 0.0)
        may = {_place(peer.origin): peer for peer in peers}
        first: Peer | None = None
        for place in self._ring.walk(point):
            peer = may.get(place)
            if peer is None:
                continue
            first = first or peer
            # A returning peer takes a growing, always the same part of its keys.
            if lot < share_of(peer.health, now, self._slow_start):
                return peer
        return first or peers[0]

    # ---- bookkeeping ----------------------------------------------------------------------------

    def apply(self, verdict: Verdict, now: MonoTime) -> list[Change]:
        """The active check's word on one address."""
        assert verdict.pool == self.spec.name
        concerned = [peer for peer in self._list if peer.origin.address == verdict.address]
        changes = [self._become(peer, after_verdict(peer.health, up=verdict.up, now=now)) for peer in concerned]
        return [change for change in changes if change is not None]

    def _become(self, peer: Peer, health: PeerHealth) -> Change | None:
        before = peer.health
        if health is before:
            return None
        peer.health = health
        if health.standing is before.standing:
            return None
        return Change(self.spec.name, peer.origin.address, health.standing, health.why)

    # ---- what others may know -------------------------------------------------------------------

    def status(self, now: MonoTime) -> tuple[PeerStatus, ...]:
        return tuple(
            PeerStatus(
                peer.origin.address,
                peer.origin.route,
                peer.health.standing,
                peer.health.why,
                peer.active,
                _shown_share(peer.health, now, self._slow_start),
                peer.health.until,
            )
            for peer in self._list
        )


def _shown_share(health: PeerHealth, now: MonoTime, slow_start: float) -> float:
    match health.standing:
        case Standing.UP | Standing.PROBING:
            return share_of(health, now, slow_start)
        case Standing.EJECTED | Standing.FAILED:
            return 0.0
        case unreachable:
            assert_never(unreachable)


class Ring:
    """Points of all origins on a circle of 2^64, by a digest that is the same in every process and on every node."""

    __slots__ = ("_count", "_owners", "_points")

    def __init__(self, origins: Sequence[Origin]) -> None:
        unit = gcd(*(origin.weight for origin in origins)) if origins else 1
        weights = [origin.weight // unit for origin in origins]
        per_unit = min(float(POINTS), MOST_POINTS / max(1, sum(weights)))
        marks = [
            (_digest(f"{origin.scheme}://{origin.address}#{turn}".encode())[0], _place(origin))
            for origin, weight in zip(origins, weights, strict=True)
            for turn in range(max(1, round(per_unit * weight)))
        ]
        marks.sort()
        self._points = [point for point, _ in marks]
        self._owners = [place for _, place in marks]
        self._count = len(origins)

    def walk(self, point: int) -> Iterator[Place]:
        """All places, each once, in the order in which they are met from `point` on."""
        owners = self._owners
        start = bisect_right(self._points, point)
        met: set[Place] = set()
        for turn in range(len(owners)):
            place = owners[(start + turn) % len(owners)]
            if place not in met:
                met.add(place)
                yield place
                if len(met) == self._count:
                    return


def _digest(key: bytes) -> tuple[int, float]:
    """A point on the ring, and an independent lot in [0, 1)."""
    digest = blake2b(key, digest_size=16).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big") / 2**64


def _place(origin: Origin) -> Place:
    return origin.scheme, origin.host, origin.port
