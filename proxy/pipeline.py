"""THE SPINE: the life of a request. plan -> lookup -> decide -> (answer | join | fetch -> store | relay) -> answer ->
books.

Every step either hands the exchange to the next one or leaves it with a producer that will (a flight, a relay, a
delivery); no step waits, so there is no task per exchange. The rooms off this corridor: planning.py (before any
response), answers.py (towards the client, and the books), relaying.py (past the store), landing.py (what a shared
fetch brings), tunnelling.py (CONNECT). Decisions are asked of policy/, modes/ and upstream/pool.py. Every path, errors
too, ends in `answers.close_books`, once.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, assert_never

from cachetools import LRUCache

from proxy import errors
from proxy.admission import Admission
from proxy.answers import CHALLENGES, Answers
from proxy.cache.brake import Brake
from proxy.cache.coalesce import Flight, Flights, Waiting
from proxy.cache.reading import Reading
from proxy.delivery import Relay
from proxy.errors import Failure
from proxy.exchange import Exchange, FixedAnswer, Outcome, Route, Tunnel, Unproven
from proxy.http.fields import format_date
from proxy.http.message import Fields, RequestHead, ResponseHead
from proxy.landing import Landing
from proxy.planning import SAYING, Planner
from proxy.policy import parts, reuse, storing, target, validation
from proxy.policy.reasons import Reason
from proxy.relaying import Relaying
from proxy.tunnelling import Tunnelling
from proxy.upstream.client import Request
from proxy.upstream.mirrored import MirroredRequest
from proxy.upstream.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from config.units import MonoTime, WallTime
    from proxy.cache.store import Store
    from proxy.exchange import Mode, Origin, PoolSpec
    from proxy.http.message import Line
    from proxy.http.stored import StoredResponse
    from proxy.modes.every import Modes
    from proxy.observe.observer import Observer
    from proxy.plan import Plan
    from proxy.upstream.client import Upstreams
    from proxy.users.logins import Logins

    Purging = Callable[[str, str, str, bool], Awaitable[int]]  # (kind, value, site, soft) -> how many went

log = logging.getLogger("tandem")


NAMED_ORIGINS = 1024  # origins named by requests whose pools are kept
RANGING = frozenset({b"range", b"if-range"})


class Tally:
    """What has happened since the worker last took it over into the counters."""

    __slots__ = ("collapsed", "invalidated", "purged")

    def __init__(self) -> None:
        self.collapsed = self.invalidated = self.purged = 0


class Pipeline:
    """One per worker; `configure` exchanges what the configuration says, at a reload."""

    def __init__(
        self,
        store: Store,
        upstreams: Upstreams,
        observer: Observer,
        *,
        now: Callable[[], MonoTime],
        wall: Callable[[MonoTime], WallTime],
        via: bytes,
        spawn: Callable[[Coroutine[None, None, None]], None],
    ) -> None:
        self.store = store
        self.upstreams = upstreams
        self.observer = observer
        self.flights = Flights(now)
        self.brake = Brake(now)
        self.reading = Reading(store, spawn)
        self.now = now
        self.wall = wall
        self.via = via
        self.spawn = spawn
        # Done here and by the other workers, and answered when all have done it; an invalidation they are only told of.
        self.purge: Purging | None = None
        self.invalidate_elsewhere: Callable[[str, bytes], None] | None = None
        self.tally = Tally()
        self.mode: Mode
        self.pools: Mapping[str, Pool] = {}
        self._named: LRUCache[Origin, Pool] = LRUCache(NAMED_ORIGINS)
        self._spec_of: Callable[[str, Origin], PoolSpec]
        self.planner = Planner(self)
        self.answers = Answers(self)
        self.relaying = Relaying(self)
        self.landing = Landing(self)
        self.logins: Logins | None = None  # where users log in
        self.admission = Admission(self)
        self.tunnelling = Tunnelling(self)
        self.plan = self.planner.plan
        self.refuse_unread = self.answers.refuse_unread

    def configure(self, modes: Modes, pools: Mapping[str, Pool]) -> None:
        self.mode = modes
        self.pools = pools
        self._named.clear()
        self._spec_of = modes.pool_spec
        self.planner.configure(modes.sites.values())

    def pool_of(self, route: Route) -> Pool:
        """The pool that answers: a configured one, or one of the single origin that the request names."""
        origin = route.origin
        if origin is None:
            return self.pools[route.pool]
        try:
            return self._named[origin]
        except KeyError:
            pool = self._named[origin] = Pool(self._spec_of(route.site, origin))
            return pool

    def request_for(self, route: Route) -> Callable[..., Request]:
        """What makes requests by this route."""
        mirrored = route.mirrored
        return Request if mirrored is None else partial(MirroredRequest, mirrored, self.pools)

    # ---- the spine ---------------------------------------------------------------------------------------------------

    def begin(self, x: Exchange) -> None:
        """Route -> lookup, or straight to an answer."""
        try:
            plan = x.plan
            assert plan is not None
            way = plan.way
            if plan.unshared_until > x.started and isinstance(way, Route):
                x.route = way
                x.key = plan.key
                self.relaying.relay(x, Reason.HIT_FOR_MISS, storable=True)
            elif plan.checked.head.method == b"PURGE":
                self._purge(x, plan)
            elif isinstance(way, Route):
                x.route = way
                x.key = plan.key
                if x.body is not None and plan.view is not None:
                    x.body.limit(plan.view.max_body)
                    if x.done:
                        return  # what came with the head was too much already
                if plan.checked.max_forwards == 0:
                    self.answers.last_hop(x)
                elif plan.bypass is not None:
                    x.outcome = Outcome.BYPASS
                    self.relaying.relay(x, plan.bypass)
                else:
                    self._lookup(x)
            elif isinstance(way, FixedAnswer):
                self.answers.fixed(x, way)
            elif isinstance(way, Unproven):
                self._prove(x, plan, way)
            elif isinstance(way, Tunnel):
                x.user = plan.user
                self.tunnelling.open(x, way)
            elif way.kind in CHALLENGES and plan.checked.credentials is not None:
                self.admission.prove(x)
            else:
                x.user = plan.user
                self.answers.fail(x, way)
        except Exception as problem:  # noqa: BLE001 - the end of the spine: a fault of ours must not cost the others
            self._broken(x, problem)

    def _prove(self, x: Exchange, plan: Plan, way: Unproven) -> None:
        """Whether the host that the client names has the address that it was going to, by our own resolver."""
        proved = self.upstreams.resolver.has(way.name, way.address)
        if proved is None:
            x.producer = asking = Asking(self, x)
            self.spawn(self._ask_name(x, plan, way, asking))
        else:
            self._go_on(x, plan, proved=proved)

    async def _ask_name(self, x: Exchange, plan: Plan, way: Unproven, asking: Asking) -> None:
        proved = await self.upstreams.resolver.ask_whether(way.name, way.address)
        if not asking.gone:
            x.producer = None
            self._go_on(x, plan, proved=proved)

    def _go_on(self, x: Exchange, plan: Plan, *, proved: bool) -> None:
        x.plan = plan.proven if proved else plan.disproved
        if proved and isinstance(plan.way, Unproven):
            plan.proved_until = self.upstreams.resolver.known_until(plan.way.name)
        self.begin(x)

    def _broken(self, x: Exchange, problem: Exception) -> None:
        """A fault of ours ends this one exchange, loudly: an error if nothing was said yet, else a cut."""
        log.error("an exchange was ended by a fault of ours", exc_info=problem)
        failure = Failure(errors.INTERNAL, type(problem).__name__)
        if x.done or x.response is not None:
            x.failure = failure
            self.answers.close_books(x)
            x.writer.reset()
        else:
            self.answers.fail(x, failure)

    def _lookup(self, x: Exchange) -> None:
        """What is here is here at once; what may be in another tier is waited for."""
        variants = self.store.variants(x.key)
        if not variants and self.store.elsewhere is not None:
            found = self.store.elsewhere(x.key)
            if found is not None:
                x.producer = asking = Asking(self, x)
                self.spawn(self._ask_elsewhere(x, found, asking))
                return
        self.decide(x, variants)

    async def _ask_elsewhere(self, x: Exchange, found: Awaitable[Sequence[StoredResponse]], asking: Asking) -> None:
        try:
            variants = await found
        except Exception:
            log.exception("another tier could not be asked")
            variants = ()
        if not asking.gone:
            x.producer = None
            self.decide(x, variants)

    def decide(self, x: Exchange, variants: Sequence[StoredResponse], *, joins: bool = True) -> None:
        """RFC 9111 §4: what the stored responses are good for. `joins`: it may wait for what others have asked for."""
        route = x.route
        assert route is not None
        verdict = reuse.decide(x.request, variants, self.now(), route.rules)
        x.reason = verdict.reason
        match verdict:
            case reuse.Fresh(stored=stored):
                x.outcome = Outcome.HIT
                if route.rules.refresh_ahead and reuse.is_due(stored, self.now(), route.rules):
                    self._refresh_soon(x, stored)
                self.store.answered(stored)
                self.answers.from_stored(x, stored)
            case reuse.StaleUsable(stored=stored, refresh=refresh):
                x.outcome = Outcome.STALE
                if refresh:
                    self._refresh_soon(x, stored)
                self.store.answered(stored)
                self.answers.from_stored(x, stored)
            case reuse.Revalidate(stored=stored):
                old = self._braked(x, stored, verdict.reason) if self.brake else None
                if old is not None:
                    self.relaying.answer_stale(x, old)
                else:
                    self._fetch(x, verdict.reason, (stored,), joins=joins)
            case reuse.Miss(candidates=candidates):
                self._fetch(x, verdict.reason, candidates, joins=joins)
            case reuse.Bypass():
                x.outcome = Outcome.BYPASS
                self.relaying.relay(x, verdict.reason)
            case reuse.OnlyIfCached(because=because):
                x.reason = because
                self.answers.fail(x, Failure(errors.NOT_IN_CACHE, "only-if-cached"))
            case unreachable:
                assert_never(unreachable)

    def _braked(self, x: Exchange, stored: StoredResponse, reason: Reason) -> StoredResponse | None:
        """The origin has failed for this more than once, a moment ago, and what may stand in for it does so at once."""
        if reason is not Reason.STALE or stored.outdated or not self.brake.holds(x.key, after=2):
            return None
        return self.relaying.stand_in(x, (stored,))

    def _fetch(self, x: Exchange, reason: Reason, stale: tuple[StoredResponse, ...], *, joins: bool) -> None:
        """One fetch for all who ask; what cannot be shared goes alone."""
        request = x.request
        joins = joins and not (x.plan is not None and x.plan.alone)
        flight = self.flights.get(x.key) if joins else None
        if flight is not None and flight.stored is not None and self._arrives(x, flight, flight.stored):
            self.tally.collapsed += 1
            self.landing.follow(x, flight, flight.stored)
            return
        if request.method != b"GET":
            self.relaying.relay(x, reason, update=stale)
            return
        part = stale[0] if reason is Reason.PARTIAL else None
        if part is not None:
            stale = ()  # it says nothing of what is asked for (RFC 9111 §4.3.2)
        if b"range" in request.fields:
            self.fly(x, stale, listed=False)
            return
        if not stale and any(name in request.fields for name in validation.REPLACED):
            joins = False
        if joins and flight is not None and flight.body is None:
            self.tally.collapsed += 1
            flight.join(x)
            return
        self.fly(x, stale, listed=joins and flight is None and not self.flights.is_unshareable(x.key), part=part)

    def _arrives(self, x: Exchange, flight: Flight, stored: StoredResponse) -> bool:
        """What is on its way into the store answers this request; a part of it, if its length is known."""
        known = stored.length is not None or b"range" not in x.request.fields
        return flight.storing and known and self.landing.may_follow(x, stored)

    def fly(
        self, x: Exchange, stale: tuple[StoredResponse, ...], *, listed: bool, part: StoredResponse | None = None
    ) -> None:
        """A fetch for this exchange and who joins; of a stored `part` only what is missing is asked for."""
        now = self.now()
        flight = Flight(self.landing, self.store, x.key, x, started=now, wall=self.wall(now))
        if part is not None and storing.CONDITIONS.isdisjoint(x.request.fields.names()):
            flight.part = part
            flight.fill = parts.plan_fill(part)
        self._launch(flight, x, stale, listed=listed)

    def _refresh_soon(self, x: Exchange, stored: StoredResponse) -> None:
        """In the background, once per key (RFC 5861 §3); nobody waits for it. One that failed is put off."""
        if self.flights.get(x.key) is None and not self.brake.holds(x.key):
            now = self.now()
            flight = Flight(self.landing, self.store, x.key, None, started=now, wall=self.wall(now))
            self._launch(flight, self._refreshing(x, now), (stored,), listed=True)

    def _refreshing(self, x: Exchange, now: MonoTime) -> Exchange:
        """A request of our own, like the client's but for what it wants for itself: conditions, range, credentials,
        reloads.
        """
        old = x.request
        fields = old.fields.without(SAYING)
        request = RequestHead(b"GET", old.scheme, old.authority, old.path, old.query, old.version, fields)
        return Exchange(x.client, request, None, x.writer, now, self.wall(now), x.plan, route=x.route, key=x.key)

    def _launch(self, flight: Flight, x: Exchange, stale: tuple[StoredResponse, ...], *, listed: bool) -> None:
        route = x.route
        assert route is not None
        self.flights.open(flight, listed=listed)
        flight.pattern = x
        if flight.leader is not None:
            lines, head = self.asking(x, stale, flight.fill)
        else:
            asked = validation.refresh_fields(stale[0]).lines
            lines = tuple(line for line in asked if line[0].lower() in validation.REPLACED)
            head = self.planner.head_for(x, lines, SAYING, b"GET")
        flight.stale = stale if lines else ()
        flight.fallback = stale
        flight.request = request = self.request_for(route)(
            self.upstreams, self.pool_of(route), flight, b"GET", head, session=route.session, key=x.key
        )
        request.bound = x.plan is not None and x.plan.bound
        if flight.leader is not None:
            flight.leader.producer = Waiting(flight, flight.leader)
        request.start()

    def asking(
        self, x: Exchange, stale: Sequence[StoredResponse], fill: parts.Fill | None
    ) -> tuple[tuple[Line, ...], bytes | Callable[[Origin], bytes]]:
        """Our conditions, and with them the head of a fetch for this exchange."""
        if fill is not None:
            return (), self.planner.head_for(x, fill.lines, RANGING)
        lines = validation.conditional_fields(x.request, stale) if stale else ()
        return lines, self.planner.head_for(x, lines, validation.REPLACED) if lines else self.planner.head_for(x)

    # ---- purge -------------------------------------------------------------------------------------------------------

    def _purge(self, x: Exchange, plan: Plan) -> None:
        """PURGE from the networks a site names: the address, or what bears the tags named, on every worker, before the
        answer.
        """
        x.outcome = Outcome.ANSWER
        if not plan.may_purge or not plan.key or plan.view is None or self.purge is None:
            self.answers.fail(x, Failure(errors.FORBIDDEN, "PURGE from here"))
            return
        tags = target.tags_asked(plan.request)
        key = target.bare(plan.key).decode("ascii", "replace")
        wanted = [("tag", tag) for tag in tags] if tags else [("key", key)]
        x.producer = asking = Asking(self, x)
        self.spawn(self._purge_all(x, wanted, plan.view.name, target.asks_soft(plan.request), self.purge, asking))

    async def _purge_all(
        self, x: Exchange, wanted: list[tuple[str, str]], site: str, soft: bool, purge: Purging, asking: Asking
    ) -> None:
        count = 0
        try:
            for kind, value in wanted:
                count += await purge(kind, value, site, soft)
        except Exception:
            log.exception("a purge did not reach all workers")
            if not asking.gone:
                self.answers.fail(x, Failure(errors.INTERNAL, "not purged everywhere"))
            return
        if not asking.gone:
            self._purged(x, count)

    def _purged(self, x: Exchange, count: int) -> None:
        lines = (
            (b"Date", format_date(self.wall(self.now()))),
            (b"Content-Type", b"text/plain"),
            (b"Cache-Control", b"no-store"),
        )
        self.answers.own(x, ResponseHead(200, b"OK", Fields(lines)), b"purged %d\n" % count)

    # ---- ends --------------------------------------------------------------------------------------------------------

    def body_refused(self, x: Exchange, failure: Failure) -> None:
        """The request's body broke off or is too much, and no answer has begun."""
        if isinstance(x.producer, Relay) and x.producer.request is not None:
            request, x.producer.request = x.producer.request, None
            request.cancel()
        self.answers.fail(x, failure)


class Asking:
    """The producer of an exchange that waits for another process."""

    __slots__ = ("_spine", "_x", "gone")

    def __init__(self, spine: Pipeline, x: Exchange) -> None:
        self._spine = spine
        self._x = x
        self.gone = False

    def writer_drained(self) -> None: ...

    def client_gone(self) -> None:
        self.gone = True
        self._x.failure = Failure(errors.CLIENT_GONE)
        self._spine.answers.close_books(self._x)
