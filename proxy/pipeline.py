"""THE SPINE: the life of a request. plan -> lookup -> decide -> (answer | join | fetch -> store | relay) -> answer -> close_books.

Every step is a method that either hands the exchange to the next one or leaves it with a producer that will (a flight, a relay, a
delivery); no step waits, so there is no task per exchange. Decisions are asked of policy/, modes/ and upstream/pool.py; IO is done
by the response writer and upstream/client.py. Every path, errors too, ends in `close_books`, once.
"""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, assert_never

from config.units import MonoTime, WallTime
from proxy import errors
from proxy.cache.coalesce import Flight, Flights, Waiting
from proxy.delivery import Delivery, Relay
from proxy.errors import Failure, Source
from proxy.exchange import NO_BODY, Exchange, FixedAnswer, Outcome, Reusable, Route
from proxy.http.checks import Framing
from proxy.http.fields import format_date
from proxy.http.forwarding import ForwardOptions, forward_request, make_hop, readdress, refuse_loop, via_line, without_forgeable
from proxy.http.message import Fields, RequestHead, ResponseHead
from proxy.http.pages import error_page, reason_phrase
from proxy.http.rewriting import rewrite_response
from proxy.http.stored import Body, BodyState
from proxy.modes.reverse import is_in
from proxy.plan import Plan, Relayed
from proxy.policy import conditional, freshness, key, reuse, storing, validation
from proxy.policy.cache_status import NAME, cache_status
from proxy.policy.reasons import Reason
from proxy.upstream.client import SAFE, Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from proxy.cache.store import Store
    from proxy.exchange import Client, Origin, ResponseWriter
    from proxy.http.checks import CheckedRequest, CheckedResponse
    from proxy.http.message import Line
    from proxy.http.stored import StoredResponse
    from proxy.modes.reverse import Reverse, SiteView
    from proxy.observe.observer import Observer
    from proxy.upstream.client import Upstreams
    from proxy.upstream.pool import Pool

log = logging.getLogger("tandem")
WHOLE = 256 * 2**10  # stored bodies up to this size are written at once; larger ones at the client's pace
SAYING = storing.UNUSUAL | {b"cache-control", b"pragma"}  # a request without these leaves all to the stored response
UNSHARED_TIME = 120.0  # seconds for which equal requests are not made to wait for one another (Varnish's hit-for-miss)
# Failures in which the origin had no word; the others are broken answers.
UNREACHED = frozenset(
    {
        errors.DNS_ERROR,
        errors.CONNECT_ERROR,
        errors.CONNECT_TIMEOUT,
        errors.TLS_ERROR,
        errors.NO_UPSTREAM,
        errors.UPSTREAM_BUSY,
        errors.UPSTREAM_CLOSED,
        errors.FIRST_BYTE_TIMEOUT,
    }
)
TICK_GUARD = 1e-5  # seconds: sums of times are rounded, and an answer must not outlive its tick
NOWHERE = RequestHead(b"-", b"http", b"", b"", None, (1, 1), Fields())  # for the log line of what could not be read


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
        self.now = now
        self.wall = wall
        self.via = via
        self.spawn = spawn
        # Told to the other workers, and answered when all have done it; alone, there is nobody to tell.
        self.purge_elsewhere: Callable[[bytes], Awaitable[int]] | None = None
        self.invalidate_elsewhere: Callable[[bytes], None] | None = None
        self.tally = Tally()
        self._told_slow: set[str] = set()
        self.mode: Reverse
        self.pools: Mapping[str, Pool] = {}

    def configure(self, mode: Reverse, pools: Mapping[str, Pool]) -> None:
        self.mode = mode
        self.pools = pools
        self._boundary = b"tandem-" + secrets.token_hex(12).encode()
        self._options = {name: self._forward_options(view, None) for name, view in mode.sites.items()}

    def _forward_options(self, view: SiteView, host: bytes | None) -> ForwardOptions:
        return ForwardOptions(via=self.via, host=host, passing=view.pass_fields, upgrades=view.upgrade)

    # ---- plan: what is known before any response -------------------------------------------------------------------------------

    def plan(self, checked: CheckedRequest, client: Client, trusted: frozenset[str]) -> Plan:
        """Where equal requests of equal clients go; pure but for the configuration."""
        head = checked.head
        view = self.mode.site_of(head.authority, client.listener)
        believed = view is not None and view.name in trusted
        request = head
        if not believed:
            passing = view.pass_fields if view is not None else frozenset[bytes]()
            request = readdress(head, without_forgeable(head.fields, passing))
        way = self.mode.route(request, client)
        plan = Plan(checked, request, way, view, believed)
        if believed:
            told = head.fields.get(b"x-forwarded-proto")
            plan.public_scheme = told.lower() if told in {b"http", b"https"} else None
        plan.may_purge = view is not None and is_in(client.address, view.purge_from)
        if view is not None:
            refusal = self._refusal(checked, view)
            if refusal is not None:
                plan.way = refusal
        try:
            refuse_loop(head.fields, self.via)
        except Failure as failure:
            plan.way = failure
        if isinstance(plan.way, Route) and view is not None:
            self._plan_route(plan, plan.way, view)
        return plan

    @staticmethod
    def _refusal(checked: CheckedRequest, view: SiteView) -> Failure | None:
        """What the site itself does not take, though its listener would."""
        if checked.head.method == b"TRACE" and not view.allow_trace:
            return Failure(errors.NO_METHOD, "TRACE")
        if view.max_body and checked.content_length is not None and checked.content_length > view.max_body:
            return Failure(errors.BODY_TOO_LARGE, f"{checked.content_length} bytes announced, {view.max_body} allowed")
        return None

    @staticmethod
    def _plan_route(plan: Plan, route: Route, view: SiteView) -> None:
        checked, request = plan.checked, plan.request
        if route.rules.ignore_cookies:
            plan.request = request = readdress(request, request.fields.without((b"cookie",)))
        if checked.upgrade is not None and checked.upgrade in view.upgrade:
            plan.upgrade = checked.upgrade
            plan.bypass = Reason.UPGRADE
        elif checked.expect_continue:
            plan.bypass = Reason.EXPECT
        else:
            bypass = reuse.before_lookup(request, checked.has_body, route.rules)
            plan.bypass = bypass.reason if bypass is not None else None
        plan.key = key.primary_key(request, route.rules)
        plan.bound = (request.fields.get(b"authorization") or b"").lower().startswith((b"negotiate", b"ntlm"))
        plan.alone = bool(key.session_ids(request, route.rules))
        plan.plain = request.method == b"GET" and plan.bypass is None and SAYING.isdisjoint(request.fields.names())

    # ---- the spine -------------------------------------------------------------------------------------------------------------

    def begin(self, x: Exchange) -> None:
        """Route -> lookup, or straight to an answer."""
        plan = x.plan
        assert plan is not None
        way = plan.way
        if plan.unshared_until > x.started and isinstance(way, Route):
            x.route = way
            x.key = plan.key
            self._relay(x, Reason.HIT_FOR_MISS, storable=True)
        elif plan.checked.head.method == b"PURGE":
            self._purge(x, plan)
        elif isinstance(way, Route):
            x.route = way
            x.key = plan.key
            if x.body is not None and plan.view is not None:
                x.body.limit(plan.view.max_body)
                if x.done:
                    return
                if x.done:
                    return  # what came with the head was too much already
            if plan.checked.max_forwards == 0:
                self._answer_here(x)
            elif plan.bypass is not None:
                x.outcome = Outcome.BYPASS
                self._relay(x, plan.bypass)
            else:
                self._lookup(x)
        elif isinstance(way, FixedAnswer):
            self._fixed(x, way)
        else:
            self.fail(x, way)

    def _lookup(self, x: Exchange) -> None:
        """What is here is here at once; what may be in another tier is waited for."""
        variants = self.store.variants(x.key)
        if not variants and self.store.elsewhere is not None:
            found = self.store.elsewhere(x.key)
            if found is not None:
                x.producer = asking = Asking(self, x)
                self.spawn(self._ask_elsewhere(x, found, asking))
                return
        self._decide(x, variants)

    async def _ask_elsewhere(self, x: Exchange, found: Awaitable[Sequence[StoredResponse]], asking: Asking) -> None:
        variants = await found
        if not asking.gone:
            x.producer = None
            self._decide(x, variants)

    def _decide(self, x: Exchange, variants: Sequence[StoredResponse], *, joins: bool = True) -> None:
        """RFC 9111 §4: what the stored responses are good for. `joins`: it may wait for what others have asked for."""
        route = x.route
        assert route is not None
        verdict = reuse.decide(x.request, variants, self.now(), route.rules)
        x.reason = verdict.reason
        match verdict:
            case reuse.Fresh(stored=stored):
                x.outcome = Outcome.HIT
                self.store.answered(stored)
                self._answer(x, stored)
            case reuse.StaleUsable(stored=stored, refresh=refresh):
                x.outcome = Outcome.STALE
                if refresh:
                    self._refresh_soon(x, stored)
                self.store.answered(stored)
                self._answer(x, stored)
            case reuse.Revalidate(stored=stored):
                self._fetch(x, verdict.reason, (stored,), joins=joins)
            case reuse.Miss(candidates=candidates):
                self._fetch(x, verdict.reason, candidates, joins=joins)
            case reuse.Bypass():
                x.outcome = Outcome.BYPASS
                self._relay(x, verdict.reason)
            case reuse.OnlyIfCached(because=because):
                x.reason = because
                self.fail(x, Failure(errors.NOT_IN_CACHE, "only-if-cached"))
            case unreachable:
                assert_never(unreachable)

    # ---- fetch: through the store's door ---------------------------------------------------------------------------------------

    def _fetch(self, x: Exchange, reason: Reason, stale: tuple[StoredResponse, ...], *, joins: bool) -> None:
        """One fetch for all who ask; what cannot be shared goes alone."""
        request = x.request
        if request.method != b"GET" or b"range" in request.fields:
            self._relay(x, reason, update=stale)
            return
        alone = not joins or (not stale and any(name in request.fields for name in validation.REPLACED))
        alone = alone or (x.plan is not None and x.plan.alone)
        flight = None if alone else self.flights.get(x.key)
        if flight is not None and flight.body is None:
            self.tally.collapsed += 1
            flight.join(x)
            return
        if flight is not None and flight.stored is not None and flight.storing and self._may_follow(x, flight.stored):
            self.tally.collapsed += 1
            self._follow(x, flight, flight.stored)
            return
        self._fly(x, stale, listed=not alone and flight is None and not self.flights.is_unshareable(x.key))

    def _may_follow(self, x: Exchange, stored: StoredResponse) -> bool:
        """What is arriving for somebody else answers this request as well (RFC 9111 §4, as if it were stored)."""
        assert x.route is not None
        return isinstance(reuse.decide(x.request, (stored,), self.now(), x.route.rules), reuse.Fresh)

    def _fly(self, x: Exchange, stale: tuple[StoredResponse, ...], *, listed: bool) -> None:
        now = self.now()
        flight = Flight(self, self.store, x.key, x, started=now, wall=self.wall(now))
        self._launch(flight, x, stale, listed=listed)

    def _refresh_soon(self, x: Exchange, stored: StoredResponse) -> None:
        """In the background, once per key (RFC 5861 §3); nobody waits for it."""
        if self.flights.get(x.key) is None:
            now = self.now()
            flight = Flight(self, self.store, x.key, None, started=now, wall=self.wall(now))
            self._launch(flight, self._refreshing(x, now), (stored,), listed=True)

    def _refreshing(self, x: Exchange, now: MonoTime) -> Exchange:
        """A request of our own, like the client's but for what it wants for itself: conditions, range, credentials, reloads."""
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
            lines = validation.conditional_fields(x.request, stale) if stale else ()
            head = self._head_for(x, lines, validation.REPLACED) if lines else self._head_for(x)
        else:
            asked = validation.refresh_fields(stale[0]).lines
            lines = tuple(line for line in asked if line[0].lower() in validation.REPLACED)
            head = self._head_for(x, lines, SAYING, b"GET")
        flight.stale = stale if lines else ()
        flight.fallback = stale
        flight.request = request = Request(
            self.upstreams, self.pools[route.pool], flight, b"GET", head, session=route.session, key=x.key
        )
        request.bound = x.plan is not None and x.plan.bound
        if flight.leader is not None:
            flight.leader.producer = Waiting(flight, flight.leader)
        request.start()

    # ---- what a flight brings --------------------------------------------------------------------------------------------------

    def interim(self, x: Exchange, head: ResponseHead) -> None:
        """1xx on their way; 100 is for those who wait for it (RFC 9110 §10.1.1, §15.2)."""
        if head.status != 100 or (x.plan is not None and x.plan.checked.expect_continue):
            x.writer.interim(head)

    def flight_interim(self, flight: Flight, head: ResponseHead) -> None:
        if flight.leader is not None:
            self.interim(flight.leader, head)

    def flight_head(self, flight: Flight, checked: CheckedResponse) -> None:
        """The head decides: freshen, store, serve stale, or pass on to the one who asked."""
        pattern = flight.pattern
        assert pattern is not None
        assert pattern.route is not None
        now = self.now()
        head = self._received(pattern, checked, flight.request, now)
        for x in flight.waiting_ones():
            x.first_byte = now
            x.upstream = _address(flight.request)
        if head.status == 304 and flight.stale:
            self._validated(flight, checked, head)
            return
        if head.status in storing.TROUBLE and self._serve_stale(flight, Failure(errors.BAD_RESPONSE, f"status {head.status}")):
            return
        verdict = self._judge(pattern, checked, head, flight.wall, now)
        if isinstance(verdict, storing.NoStore):
            self._pass_alone(flight, checked, verdict.reason)
        else:
            self.flights.forget_unshareable(flight.key)
            stored = storing.build_stored(verdict, flight.key, Body(), checked.content_length, now)
            flight.begin_body(stored, pattern.route.rules.max_object, verdict.session_ids)
            if verdict.slow_clock:
                self._slow_clock(pattern)
            self._serve_flight(flight, stored, storing.for_the_asker(head, verdict, pattern.route.rules))

    def _slow_clock(self, x: Exchange) -> None:
        """Once for each site: an origin whose clock is behind loses its caching by it."""
        site = x.route.site if x.route is not None else ""
        if site not in self._told_slow:
            self._told_slow.add(site)
            log.warning("site %s: the clock of %s is behind, so its responses count as old; see trust_age", site, x.upstream)

    def _serve_flight(self, flight: Flight, stored: StoredResponse, said: tuple[Line, ...]) -> None:
        """The leader gets what it asked for, all of it (`said`); each waiter is judged anew by what came (hardening: re-check before a byte)."""
        leader = flight.leader
        for x in flight.everybody():
            if x is leader:
                x.outcome = Outcome.MISS
                self._answer(x, stored, flight, fetched=True, said=said)
            elif self._may_follow(x, stored):
                self._follow(x, flight, stored)
            else:
                self._alone(x)

    def _follow(self, x: Exchange, flight: Flight, stored: StoredResponse) -> None:
        x.outcome = Outcome.MISS
        self._answer(x, stored, flight, fetched=True, collapsed=True)

    def _alone(self, x: Exchange) -> None:
        """A waiter for whom it was not good: its own look-up and fetch, at once."""
        x.producer = None
        variants = self.store.variants(x.key)
        self._decide(x, variants, joins=False)

    def _pass_alone(self, flight: Flight, checked: CheckedResponse, why: Reason) -> None:
        """Not for the store: the leader gets it as it comes, the others ask for themselves, at once."""
        self.flights.over(flight)
        if checked.head.status != 304 and why is not Reason.NOT_STORED_REQUEST:  # which is no word of the origin's
            self.flights.remember_unshareable(flight.key)
            if flight.leader is not None and flight.leader.plan is not None and flight.leader.plan.plain:
                flight.leader.plan.unshared_until = self.now() + UNSHARED_TIME
        waiters, flight.waiters = flight.waiters, []
        leader, flight.leader = flight.leader, None
        request, flight.request = flight.request, None
        if leader is None:
            if request is not None:
                request.cancel()
        elif request is not None:
            leader.detail = why
            relay = Relay(self, leader)
            relay.request = request
            request.receiver = relay
            relay.upstream_head(checked)
        for x in waiters:
            self._alone(x)

    def _validated(self, flight: Flight, checked: CheckedResponse, head: ResponseHead) -> None:
        """304: the stored response is good again (RFC 9111 §4.3.4), or it was not ours that was meant."""
        pattern = flight.pattern
        assert pattern is not None
        assert pattern.route is not None
        self.flights.over(flight)
        asked = pattern.request if flight.leader is not None else None
        match validation.decide_304(pattern.request, head, flight.stale):
            case validation.Freshen(stored=old, others=others):
                new = self._freshen(flight, pattern, old, head, asked)
                for other in others:
                    self._freshen(flight, pattern, other, head, None)
                leader = flight.leader
                for x in flight.everybody():
                    x.outcome = Outcome.REVALIDATED
                    if x is leader:
                        self._answer(x, new, fetched=True, said=validation.for_this_client(head, pattern.route.rules))
                    elif self._may_follow(x, new):
                        self._answer(x, new, fetched=True, collapsed=True)
                    else:
                        self._alone(x)
            case validation.PassOn():
                self._pass_alone(flight, checked, Reason.NOT_STORED_NOT_MODIFIED)
            case validation.FetchAgain():
                for x in flight.everybody():
                    x.producer = None
                    self._fly(x, (), listed=False)
            case unreachable:
                assert_never(unreachable)

    def _freshen(
        self, flight: Flight, pattern: Exchange, old: StoredResponse, head: ResponseHead, asked: RequestHead | None
    ) -> StoredResponse:
        """The stored response with the news of a 304, in the store if it may stay there."""
        assert pattern.route is not None
        now = self.now()
        new = validation.freshen(
            old,
            head,
            pattern.route.rules,
            request=asked,
            request_time=WallTime(flight.wall),
            response_time=self.wall(now),
            received=now,
        )
        if asked is not None and not key.matches(new, asked) and new.selecting is not None:
            new = validation.adopt(new, asked)
        if not validation.may_keep(new):
            self.store.remove(old)
        elif old.live:  # else it was purged or replaced meanwhile, which must not be undone
            self.store.put(new)
        return new

    def flight_failed(self, flight: Flight, failure: Failure) -> None:
        """No head came: stale if it may be, else an error for all who wait."""
        if self._serve_stale(flight, failure):
            return
        for x in flight.everybody():
            self.fail(x, self._told(x, failure, flight.fallback))

    @staticmethod
    def _told(x: Exchange, failure: Failure, stored: Sequence[StoredResponse]) -> Failure:
        """Cut off from the origin, with something stored that must not be used without its word: 504 (RFC 9111 §5.2.2.2)."""
        bound = any((one.control.never_stale or one.control.no_cache) and key.matches(one, x.request) for one in stored)
        return Failure(errors.NOT_VALIDATED, failure.kind.token) if bound and failure.kind in UNREACHED else failure

    def _serve_stale(self, flight: Flight, failure: Failure) -> bool:
        """RFC 9111 §4.2.4, RFC 5861 §4: the origin fails, what is stored may stand in. False if nobody may have it."""
        pattern = flight.pattern
        assert pattern is not None
        if not flight.fallback or self._stand_in(pattern, flight.fallback) is None:
            return False
        flight.give_up()
        for x in flight.everybody():
            old = self._stand_in(x, flight.fallback)
            if old is not None:
                self._answer_stale(x, old)
            else:
                self.fail(x, self._told(x, failure, flight.fallback))
        return True

    def _stand_in(self, x: Exchange, stored: Sequence[StoredResponse]) -> StoredResponse | None:
        """What may answer this request although the origin fails."""
        assert x.route is not None
        now, rules = self.now(), x.route.rules
        fit = (s for s in stored if key.matches(s, x.request) and reuse.may_serve_on_error(s, now, rules, x.request))
        return next(fit, None)

    def _answer_stale(self, x: Exchange, old: StoredResponse) -> None:
        x.outcome = Outcome.STALE
        x.reason = Reason.STALE_ON_ERROR
        self._answer(x, old)

    def waiter_gone(self, x: Exchange) -> None:
        self.close_books(x)

    # ---- relay: past the store -----------------------------------------------------------------------------------

    def _relay(
        self, x: Exchange, reason: Reason, update: Sequence[StoredResponse] = (), *, storable: bool = False
    ) -> None:
        """To the origin and back, nothing stored; but for a `storable` one, whose answer turns out to be good for it."""
        route, plan = x.route, x.plan
        assert route is not None
        assert plan is not None
        x.reason = reason
        relay = Relay(self, x)
        relay.update = update
        relay.storable = storable
        relay.request = request = Request(
            self.upstreams,
            self.pools[route.pool],
            relay,
            x.request.method,
            self._head_for(x),
            x.body,
            route.session,
            x.key,
            plan.upgrade,
        )
        if plan.bound:
            request.bound = True
        request.start()

    def begin_relayed(self, x: Exchange, checked: CheckedResponse, request: Request | None, relay: Relay) -> None:
        """A head that is not for the store goes out."""
        if relay.update and self._stands_in(x, checked, request, relay):
            return
        head = self._relayed(x, checked, request, relay)
        if head is not None:
            x.writer.start(head, _length(checked))
        elif request is not None:
            self._take_off(x, request).upstream_head(checked)

    def relay_whole(
        self, x: Exchange, checked: CheckedResponse, body: bytes, request: Request | None, relay: Relay
    ) -> None:
        """The same for an answer that has come as a whole."""
        if relay.update and self._stands_in(x, checked, request, relay):
            return
        head = self._relayed(x, checked, request, relay)
        if head is not None:
            x.sent = len(body)
            self.close_books(x)
            length = checked.content_length if checked.framing is Framing.LENGTH else NO_BODY
            x.writer.whole(head, (body,) if body else (), length)  # type: ignore[arg-type]  # LENGTH has a length
        elif request is not None:
            self._take_off(x, request).upstream_whole(checked, body)

    def _stands_in(self, x: Exchange, checked: CheckedResponse, request: Request | None, relay: Relay) -> bool:
        """The origin is in trouble, and what is stored answers in its place (RFC 9111 §4.3.3)."""
        old = self._stand_in(x, relay.update) if checked.head.status in storing.TROUBLE else None
        if old is None:
            return False
        relay.request = None
        if request is not None:
            request.cancel()
        self._answer_stale(x, old)
        return True

    def relay_failed(self, x: Exchange, failure: Failure, relay: Relay) -> None:
        """No head came: as with a flight."""
        old = self._stand_in(x, relay.update) if relay.update else None
        if old is not None:
            self._answer_stale(x, old)
        else:
            self.fail(x, self._told(x, failure, relay.update))

    def _take_off(self, x: Exchange, request: Request) -> Flight:
        """What was relayed may be stored after all: its fetch goes on as a flight that nobody joins."""
        flight = Flight(self, self.store, x.key, x, started=x.started, wall=x.wall)
        self.flights.open(flight, listed=False)
        flight.pattern = x
        flight.request = request
        request.receiver = flight
        x.producer = Waiting(flight, x)
        if x.plan is not None:
            x.plan.unshared_until = 0.0
        return flight

    def _relayed(
        self, x: Exchange, checked: CheckedResponse, request: Request | None, relay: Relay
    ) -> ResponseHead | None:
        """The head as it goes out; None if the answer is one for the store. Equal bytes were judged before."""
        now = x.first_byte = self.now()
        x.status = checked.head.status
        x.upstream = address = "" if request is None or request.origin is None else request.origin.address
        plan = x.plan
        assert plan is not None
        known = plan.relayed.get(address)
        if known is not None and known.checked is checked and known.reason is x.reason:
            x.detail = known.detail
            x.response = known.head
            x.equal = known
            return known.head
        head = self._received(x, checked, request, now)
        if relay.storable and not self._is_refused(x, checked, head, now):
            return None
        if x.request.method not in SAFE:
            self._invalidate(x, checked.head)
        elif relay.update and x.request.method == b"HEAD":
            self._update_by_head(x, checked, relay.update, now)
        assert x.reason is not None
        member = cache_status(x.reason, hit=False, detail=x.detail.token if x.detail else None)
        head = head.with_fields(head.fields.plus(via_line(head.version, NAME), (b"Cache-Status", member)))
        if b"date" in checked.head.fields and not relay.update and x.request.method in SAFE:  # the others invalidate each time
            plan.relayed[address] = Relayed(checked, head, x.reason, x.detail)
        x.response = head
        return head

    def _is_refused(self, x: Exchange, checked: CheckedResponse, head: ResponseHead, now: MonoTime) -> bool:
        """As expected, it is not for the store."""
        verdict = self._judge(x, checked, head, x.wall, now)
        if isinstance(verdict, storing.Store):
            return False
        x.detail = verdict.reason
        if x.plan is not None:
            x.plan.unshared_until = now + UNSHARED_TIME
        return True

    def _judge(
        self, x: Exchange, checked: CheckedResponse, head: ResponseHead, asked: float, now: MonoTime
    ) -> storing.Store | storing.NoStore:
        """RFC 9111 §3, and whether it fits; what an unstorable answer outdates is dropped."""
        assert x.route is not None
        rules = x.route.rules
        variants = self.store.peek(x.key)
        verdict = storing.decide_store(
            x.request,
            head,
            rules,
            request_time=WallTime(asked),
            response_time=self.wall(now),
            variants=variants,
        )
        if isinstance(verdict, storing.Store) and (checked.content_length or 0) > rules.max_object:
            verdict = storing.NoStore(Reason.NOT_STORED_SIZE, outdates=True)
        if isinstance(verdict, storing.NoStore) and verdict.outdates:
            for old in variants:
                if key.matches(old, x.request):
                    self.store.remove(old)
        return verdict

    def _invalidate(self, x: Exchange, head: ResponseHead) -> None:
        """An unsafe method has changed something at the origin (RFC 9111 §4.4)."""
        assert x.route is not None
        for gone in storing.invalidated(x.request, head, x.route.rules):
            self.flights.outdate(gone)
            self.tally.invalidated += self.store.purge_key(gone)
            if x.route.rules.key_fields:
                self.tally.invalidated += self.store.purge_prefix(gone + b"\n")
            if self.invalidate_elsewhere is not None:
                self.invalidate_elsewhere(gone)
        for group in storing.invalidated_groups(x.request, head):
            self.tally.invalidated += self.store.purge_tag(group)

    def _update_by_head(
        self, x: Exchange, checked: CheckedResponse, update: Sequence[StoredResponse], now: MonoTime
    ) -> None:
        """What a HEAD tells of a stored GET (RFC 9111 §4.3.5)."""
        assert x.route is not None
        for old in update:
            if not key.matches(old, x.request):
                continue  # a variant that this request would not have chosen
            match validation.decide_head(checked.head, old):
                case validation.HeadEffect.UPDATES:
                    new = validation.freshen(
                        old,
                        checked.head,
                        x.route.rules,
                        request=x.request,
                        request_time=x.wall,
                        response_time=self.wall(now),
                        received=now,
                    )
                    self.store.put(new) if validation.may_keep(new) else self.store.remove(old)
                case validation.HeadEffect.OUTDATES:
                    self.store.put(validation.outdate(old))
                case validation.HeadEffect.NOTHING:
                    pass
                case unreachable:
                    assert_never(unreachable)

    def _received(self, x: Exchange, checked: CheckedResponse, request: Request | None, now: MonoTime) -> ResponseHead:
        """The origin's head as it is stored and passed on: dated, and without the origin's own address in it."""
        head = checked.head
        if b"date" not in head.fields:
            head = head.with_fields(head.fields.plus((b"Date", format_date(self.wall(now)))))
        view = x.plan.view if x.plan is not None else None
        if view is not None and view.rewrite_redirects and request is not None and request.origin is not None:
            head = rewrite_response(head, request.origin, x.plan.checked.head, x.plan.public_scheme)  # type: ignore[union-attr]  # view came from it
        return head

    # ---- towards the origin ----------------------------------------------------------------------------------------------------

    def _head_for(
        self, x: Exchange, replace: tuple[Line, ...] = (), drop: frozenset[bytes] = frozenset(), method: bytes | None = None
    ) -> bytes | Callable[[Origin], bytes]:
        """The request head for whichever origin is chosen; at once where it is known."""
        plan = x.plan
        assert plan is not None
        view = plan.view
        assert view is not None
        client = x.client
        plain = not replace and not drop
        if plain and client.said is not None and client.said[0] is plan and not view.rewrite_host:
            return client.said[1]
        if client.hop is None:
            client.hop = make_hop(client.address, client.scheme)
        hop = client.hop

        def head(origin: Origin) -> bytes:
            host = origin.address.encode() if view.rewrite_host else None
            template = plan.templates.get(host) if plain else None
            if template is None:
                options = self._options[view.name] if host is None else self._forward_options(view, host)
                leave = drop | {b"cookie"} if x.route is not None and x.route.rules.ignore_cookies else drop
                template = forward_request(plan.checked, options, trusted=plan.trusted, replace=replace, drop=leave, method=method)
                if plain:
                    plan.templates[host] = template
            whole = template.head(hop)
            if plain:
                client.said = (plan, whole)
            return whole

        return head

    # ---- answers ---------------------------------------------------------------------------------------------------------------

    def _answer(
        self,
        x: Exchange,
        stored: StoredResponse,
        flight: Flight | None = None,
        *,
        fetched: bool = False,
        collapsed: bool = False,
        said: tuple[Line, ...] = (),
    ) -> None:
        """From a stored response, whole or still arriving: full, partial or 304 (RFC 9110 §13, §14).

        `fetched`: it has just come or been confirmed; `said`: lines of the confirmation that are for this client alone.
        """
        now = self.now()
        lines = said + self._answer_lines(x, stored, now, fetched=fetched, collapsed=collapsed)
        if fetched and not collapsed and x.outcome is Outcome.MISS:
            answer: conditional.Answer = conditional.Full(stored.head)  # the origin has judged the client's conditions
        else:
            answer = conditional.evaluate(x.request, stored, validated=fetched, boundary=self._boundary)
        match answer:
            case conditional.Full(head=head):
                self._full(x, stored, head, lines, flight, now)
            case conditional.NotModified(head=head):
                self._short(x, _with(head, lines))
            case conditional.Unsatisfiable(head=head):
                self._short(x, _with(head, lines), length=0)
            case conditional.Partial():
                if stored.body.state is BodyState.COMPLETE or len(answer.ranges) == 1:
                    self._partial(x, stored, answer, lines, flight)
                else:
                    self._full(x, stored, stored.head, lines, flight, now)
            case unreachable:
                assert_never(unreachable)

    def _answer_lines(
        self, x: Exchange, stored: StoredResponse, now: MonoTime, *, fetched: bool, collapsed: bool
    ) -> tuple[Line, ...]:
        """What we add to a stored response: Age unless it was just fetched or validated, Via, Cache-Status."""
        assert x.reason is not None
        via = via_line(stored.head.version, NAME)
        left = freshness.remaining(stored, now)
        if fetched:
            confirmed = x.outcome is Outcome.REVALIDATED
            member = cache_status(
                x.reason,
                hit=False,
                ttl=left,
                fwd_status=304 if confirmed else None,
                stored=not confirmed and not collapsed,
                collapsed=collapsed,
            )
            return (via, (b"Cache-Status", member))
        member = cache_status(x.reason, hit=True, ttl=left)
        return ((b"Age", b"%d" % freshness.age_value(stored, now)), via, (b"Cache-Status", member))

    def _full(
        self,
        x: Exchange,
        stored: StoredResponse,
        head: ResponseHead,
        lines: tuple[Line, ...],
        flight: Flight | None,
        now: MonoTime,
    ) -> None:
        x.response = head = _with(head, lines)
        x.status = head.status
        body = stored.body
        if x.request.method == b"HEAD" or head.status == 204:
            self.close_books(x)
            x.writer.whole(head, (), NO_BODY if stored.length is None or head.status == 204 else stored.length)
        elif body.state is BodyState.COMPLETE and body.size <= WHOLE:
            x.sent = body.size
            if x.outcome is Outcome.HIT and flight is None:
                x.reusable = Reusable(stored, next_change(stored, now))
            self.close_books(x)
            x.writer.whole(head, body.chunks, body.size)
        else:
            x.writer.start(head, stored.length)
            self._deliver(Delivery(self, x, body, flight), flight)

    @staticmethod
    def _deliver(delivery: Delivery, flight: Flight | None) -> None:
        if flight is not None:
            flight.read(delivery)
        else:
            delivery.pump()

    def _partial(self, x: Exchange, stored: StoredResponse, part: conditional.Partial, lines: tuple[Line, ...], flight: Flight | None) -> None:
        x.response = head = _with(part.head, lines)
        x.status = head.status
        if len(part.ranges) == 1 and not part.tail:
            first, end = part.ranges[0]
            x.writer.start(head, part.size)
            self._deliver(Delivery(self, x, stored.body, flight, first=first, end=end), flight)
            return
        chunks: list[bytes] = []
        for opening, (first, end) in zip(part.parts, part.ranges, strict=True):
            chunks.append(opening)
            chunks.extend(stored.body.slice(first, end))
        chunks.append(part.tail)
        x.sent = part.size
        self.close_books(x)
        x.writer.whole(head, chunks, part.size)

    def _short(self, x: Exchange, head: ResponseHead, length: int = NO_BODY) -> None:
        """An answer without body."""
        x.response = head
        x.status = head.status
        self.close_books(x)
        x.writer.whole(head, (), length)

    def _fixed(self, x: Exchange, way: FixedAnswer) -> None:
        """What a rule answers itself."""
        x.outcome = Outcome.ANSWER
        x.site, x.rule = way.site, way.rule
        now = self.now()
        lines = (*way.head.fields.lines, (b"Date", format_date(self.wall(now))))
        self._own(x, ResponseHead(way.head.status, way.head.reason or reason_phrase(way.head.status), Fields(lines)), way.body)

    def _own(self, x: Exchange, head: ResponseHead, body: bytes) -> None:
        x.response = head
        x.status = head.status
        bodiless = head.status in {204, 304}
        x.sent = 0 if bodiless or x.request.method == b"HEAD" else len(body)
        self.close_books(x)
        x.writer.whole(head, (body,) if x.sent else (), NO_BODY if bodiless else len(body))

    def _answer_here(self, x: Exchange) -> None:
        """Max-Forwards has run out: this is as far as it goes (RFC 9110 §7.6.2)."""
        x.outcome = Outcome.ANSWER
        lines = ((b"Date", format_date(self.wall(self.now()))), (b"Allow", b"GET, HEAD, POST, PUT, DELETE, OPTIONS"))
        self._own(x, ResponseHead(200, b"OK", Fields(lines)), b"")

    # ---- purge -----------------------------------------------------------------------------------------------------------------

    def _purge(self, x: Exchange, plan: Plan) -> None:
        """PURGE from the networks a site names: the URL's stored responses go, on every worker, before the answer."""
        x.outcome = Outcome.ANSWER
        if not plan.may_purge or not plan.key:
            self.fail(x, Failure(errors.FORBIDDEN, "PURGE from here"))
            return
        self.flights.outdate(plan.key)
        count = self.store.purge_key(plan.key)
        if self.purge_elsewhere is None:
            self._purged(x, count)
        else:
            x.producer = asking = Asking(self, x)
            self.spawn(self._purge_all(x, plan.key, count, self.purge_elsewhere, asking))

    async def _purge_all(
        self, x: Exchange, at: bytes, count: int, elsewhere: Callable[[bytes], Awaitable[int]], asking: Asking
    ) -> None:
        count += await elsewhere(at)
        if not asking.gone:
            self._purged(x, count)

    def _purged(self, x: Exchange, count: int) -> None:
        self.tally.purged += count
        lines = ((b"Date", format_date(self.wall(self.now()))), (b"Content-Type", b"text/plain"), (b"Cache-Control", b"no-store"))
        self._own(x, ResponseHead(200, b"OK", Fields(lines)), b"purged %d\n" % count)

    # ---- ends ------------------------------------------------------------------------------------------------------------------

    def fail(self, x: Exchange, failure: Failure) -> None:
        """An error of ours in place of an answer."""
        if x.done:
            return
        kind = failure.kind
        x.failure = failure
        x.outcome = Outcome.FAILED if kind.source is Source.UPSTREAM else Outcome.REFUSED
        if kind is errors.CLIENT_GONE:
            self.close_books(x)
            x.writer.reset()
            return
        if kind.close:
            x.writer.last()
        view = x.plan.view if x.plan is not None else None
        pages = view.error_pages if view is not None else None
        if view is not None:
            x.site = view.name
        head, body = error_page(failure, name=NAME, date=format_date(self.wall(self.now())), pages=pages)
        if x.route is not None:
            member = cache_status(x.reason or Reason.URI_MISS, hit=False, detail=kind.token)
            head = head.with_fields(head.fields.plus((b"Cache-Status", member)))
        self._own(x, head, body)

    def body_refused(self, x: Exchange, failure: Failure) -> None:
        """The request's body broke off or is too much, and no answer has begun."""
        if isinstance(x.producer, Relay) and x.producer.request is not None:
            request, x.producer.request = x.producer.request, None
            request.cancel()
        self.fail(x, failure)

    def refuse_unread(self, client: Client, writer: ResponseWriter, failure: Failure) -> tuple[ResponseHead, bytes]:
        """The answer to what could not be read as a request; it has a log line like all others."""
        now = self.now()
        x = Exchange(client=client, request=NOWHERE, body=None, writer=writer, started=now, wall=self.wall(now), failure=failure)
        x.outcome = Outcome.REFUSED
        x.status = failure.kind.status
        head, body = error_page(failure, name=NAME, date=format_date(self.wall(now)))
        x.sent = len(body)
        self.close_books(x)
        return head, body

    def close_books(self, x: Exchange) -> None:
        """The end of every exchange."""
        if x.done:
            return
        x.done = True
        x.producer = None
        if x.body is not None:
            x.received = x.body.size
        known = x.equal
        if known is None or x.failure is not None:
            self.observer.finished(x, self.now())
            return
        if known.template is None or known.sent != x.sent:
            known.template = self.observer.likeness(x)
            known.sent = x.sent
        self.observer.alike(known.template, x, self.now())


class Asking:
    """The producer of an exchange that waits for another process."""

    __slots__ = ("_books", "_x", "gone")

    def __init__(self, books: Pipeline, x: Exchange) -> None:
        self._books = books
        self._x = x
        self.gone = False

    def writer_drained(self) -> None: ...

    def client_gone(self) -> None:
        self.gone = True
        self._x.failure = Failure(errors.CLIENT_GONE)
        self._books.close_books(self._x)


def _with(head: ResponseHead, lines: tuple[Line, ...]) -> ResponseHead:
    """A stored head with what we add; a received Age gives way to ours (RFC 9111 §5.1)."""
    fields = head.fields
    if b"age" in fields and any(name == b"Age" for name, _ in lines):
        fields = fields.without((b"age",))
    return head.with_fields(fields.plus(*lines))


def next_change(stored: StoredResponse, now: MonoTime) -> MonoTime:
    """Until when an answer from this stored response stays as it is: Age and ttl tick in whole seconds, freshness ends."""
    age = freshness.current_age(stored, now)
    left = stored.lifetime - age
    wait = min(1.0 - age % 1.0, left % 1.0)
    return MonoTime(now + wait - TICK_GUARD)


def _length(checked: CheckedResponse) -> int | None:
    match checked.framing:
        case Framing.NONE:
            return NO_BODY
        case Framing.LENGTH:
            return checked.content_length
        case Framing.CHUNKED | Framing.CLOSE:
            return None


def _address(request: Request | None) -> str:
    return request.origin.address if request is not None and request.origin is not None else ""
