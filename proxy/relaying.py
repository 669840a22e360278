"""Past the store: to the origin and back, and what an answer on that way does to what is stored.

An answer that was not expected to be storable and is all the same goes on as a flight. Unsafe methods invalidate,
HEAD updates, and where the origin fails what is stored may stand in (RFC 9111 §4.2.4, §4.3.5, §4.4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from config.units import MonoTime, WallTime
from proxy import errors
from proxy.cache.coalesce import Flight, Waiting
from proxy.delivery import Relay
from proxy.errors import Failure
from proxy.exchange import NO_BODY, Exchange, Outcome
from proxy.http.checks import Framing
from proxy.http.fields import format_date
from proxy.http.forwarding import via_line
from proxy.http.message import SAFE
from proxy.http.rewriting import rewrite_response
from proxy.plan import Relayed
from proxy.policy import conditional, freshness, key, reuse, storing, target, validation
from proxy.policy.cache_status import NAME, cache_status
from proxy.policy.reasons import Reason
from proxy.upstream.client import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.http.checks import CheckedResponse
    from proxy.http.fields import ContentRange
    from proxy.http.message import ResponseHead
    from proxy.http.stored import StoredResponse
    from proxy.pipeline import Pipeline


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


# The origin may not be asked: what is stored of it does not answer in its place.
REFUSED = frozenset({errors.ADDRESS_REFUSED, errors.LOOP})


class Relaying:
    """Begins relays and takes their heads; the books of `delivery.Relay`."""

    def __init__(self, spine: Pipeline) -> None:
        self._spine = spine
        self._now = spine.now

    def relay(
        self, x: Exchange, reason: Reason, update: Sequence[StoredResponse] = (), *, storable: bool = False
    ) -> None:
        """To the origin and back, nothing stored; a `storable` one may turn out to be good for the store after all."""
        route, plan = x.route, x.plan
        assert route is not None
        assert plan is not None
        x.reason = reason
        relay = Relay(self, x)
        relay.update = update
        relay.purges = self._spine.flights.purges
        if storable:
            relay.storable = True
        make = Request if route.mirrored is None else self._spine.request_for(route)
        relay.request = request = make(
            self._spine.upstreams,
            self._spine.pool_of(route),
            relay,
            x.request.method,
            self._spine.planner.head_for(x),
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
            self._take_off(x, request, relay).upstream_head(checked)

    def relay_whole(
        self, x: Exchange, checked: CheckedResponse, body: bytes, request: Request | None, relay: Relay
    ) -> None:
        """The same for an answer that has come as a whole."""
        if relay.update and self._stands_in(x, checked, request, relay):
            return
        head = self._relayed(x, checked, request, relay)
        if head is not None:
            x.sent = len(body)
            self._spine.answers.close_books(x)
            length = checked.content_length if checked.framing is Framing.LENGTH else NO_BODY
            x.writer.whole(head, (body,) if body else (), length)  # type: ignore[arg-type]  # LENGTH has a length
        elif request is not None:
            self._take_off(x, request, relay).upstream_whole(checked, body)

    def relay_failed(self, x: Exchange, failure: Failure, relay: Relay) -> None:
        """No head came: as with a flight."""
        old = self.stand_in(x, relay.update) if relay.update and failure.kind not in REFUSED else None
        if old is not None:
            self._spine.brake.failed(x.key)
            self.answer_stale(x, old)
        else:
            self._spine.answers.fail(x, self.told(x, failure, relay.update))

    def _take_off(self, x: Exchange, request: Request, relay: Relay) -> Flight:
        """What was relayed may be stored after all: its fetch goes on as a flight that nobody joins."""
        flight = Flight(self._spine.landing, self._spine.store, x.key, x, started=x.started, wall=x.wall)
        flight.outdated = self._spine.flights.is_outdated(x.key, relay.purges)
        self._spine.flights.open(flight, listed=False)
        flight.pattern = x
        flight.request = request
        request.receiver = flight
        x.producer = Waiting(flight, x)
        if x.plan is not None:
            x.plan.unshared_until = 0.0
        return flight

    def close_books(self, x: Exchange) -> None:
        self._spine.answers.close_books(x)

    def interim(self, x: Exchange, head: ResponseHead) -> None:
        self._spine.answers.interim(x, head)

    # ---- the head ----------------------------------------------------------------------------------------------------

    def _relayed(
        self, x: Exchange, checked: CheckedResponse, request: Request | None, relay: Relay
    ) -> ResponseHead | None:
        """The head as it goes out; None if the answer is one for the store. Equal bytes were judged before."""
        now = x.first_byte = self._now()
        x.status = checked.head.status
        x.upstream = address = address_of(request)
        plan = x.plan
        assert plan is not None
        known = plan.relayed.get(address)
        if known is not None and known.checked is checked and known.reason is x.reason:
            x.detail = known.detail
            x.response = known.head
            x.equal = known
            return known.head
        head = self.received(x, checked, request, now)
        if relay.storable and not self._is_refused(x, checked, head, now):
            return None
        if x.request.method not in SAFE:
            outdated = self._spine.flights.is_outdated(x.key, relay.purges)
            self._invalidate(x, checked.head)
            if not outdated and request is not None and self._answers_get(x, checked, head, now):
                relay.purges = self._spine.flights.purges  # its own invalidation does not concern it
                return None
        elif (
            relay.update
            and x.request.method == b"HEAD"
            and not self._spine.flights.is_outdated(x.key, relay.purges)  # a purge is not undone by older news
        ):
            head = self._update_by_head(x, head, relay.update, now)
        assert x.reason is not None
        told = x.key if plan.tells_key else None
        member = cache_status(x.reason, hit=False, detail=x.detail.token if x.detail else None, key=told)
        if x.route is not None and x.route.rules.hidden_fields:
            head = head.with_fields(head.fields.without(x.route.rules.hidden_fields))
        head = head.with_fields(head.fields.plus(via_line(head.version, NAME), (b"Cache-Status", member)))
        if (
            b"date" in checked.head.fields and not relay.update and x.request.method in SAFE
        ):  # the others invalidate each time
            plan.relayed[address] = Relayed(checked, head, x.reason, x.detail)
        x.response = head
        return head

    def received(self, x: Exchange, checked: CheckedResponse, request: Request | None, now: MonoTime) -> ResponseHead:
        """The origin's head as it is stored and passed on: dated, and without the origin's own address in it."""
        head = checked.head
        if b"date" not in head.fields:
            head = head.with_fields(head.fields.plus((b"Date", format_date(self._spine.wall(now)))))
        view = x.plan.view if x.plan is not None else None
        if view is not None and view.rewrite_redirects and request is not None and request.origin is not None:
            head = rewrite_response(head, request.origin, x.plan.checked.head, x.plan.public_scheme)  # type: ignore[union-attr]  # view came from it
        return head

    def _is_refused(self, x: Exchange, checked: CheckedResponse, head: ResponseHead, now: MonoTime) -> bool:
        """As expected, it is not for the store."""
        verdict = self.judge(x, checked, head, x.wall, now)
        if isinstance(verdict, storing.Store):
            return False
        x.detail = verdict.reason
        if x.plan is not None:
            assert x.route is not None
            x.plan.unshared_until = now + x.route.rules.hit_for_miss
        return True

    def judge(
        self, x: Exchange, checked: CheckedResponse, head: ResponseHead, asked: float, now: MonoTime
    ) -> storing.Store | storing.NoStore:
        """RFC 9111 §3, and whether it fits; what an unstorable answer outdates is dropped."""
        assert x.route is not None
        rules = x.route.rules
        variants = self._spine.store.peek(x.key)
        verdict = storing.decide_store(
            x.request,
            head,
            rules,
            request_time=WallTime(asked),
            response_time=self._spine.wall(now),
            variants=variants,
        )
        if isinstance(verdict, storing.Store) and (checked.content_length or 0) > rules.max_object:
            verdict = storing.NoStore(Reason.NOT_STORED_SIZE, outdates=True)
        elif isinstance(verdict, storing.Store) and verdict.part and _is_useless(verdict.part, x, checked, variants):
            verdict = storing.NoStore(Reason.NOT_STORED_PARTIAL)
        if isinstance(verdict, storing.NoStore) and verdict.outdates:
            for old in variants:
                if key.matches(old, x.request):
                    self._spine.store.remove(old)
        return verdict

    def _invalidate(self, x: Exchange, head: ResponseHead) -> None:
        """An unsafe method has changed something at the origin (RFC 9111 §4.4)."""
        assert x.route is not None
        for gone in storing.invalidated(x.request, head, x.route.rules):
            for beside in (b"", *self._spine.planner.beside):
                self._spine.flights.outdate(gone + beside)
                self._spine.tally.invalidated += self._spine.store.purge_key(gone + beside)
            if x.route.rules.many_keys:
                prefix = gone + b"\n"
                self._spine.flights.outdate_where(lambda key, prefix=prefix: key.startswith(prefix))  # type: ignore[misc]  # a default is no parameter
                self._spine.tally.invalidated += self._spine.store.purge_prefix(prefix)
            if self._spine.invalidate_elsewhere is not None:
                self._spine.invalidate_elsewhere("key", target.bare(gone))
        for group in storing.invalidated_groups(x.request, head, x.route.rules):
            origin = group.partition(b" ")[0] + b"/"
            self._spine.flights.outdate_where(
                lambda key, origin=origin: key.startswith(origin),  # type: ignore[misc]  # as above
                lambda stored, group=group: group in stored.tags,  # type: ignore[misc]
            )
            self._spine.tally.invalidated += self._spine.store.purge_tag(group)
            if self._spine.invalidate_elsewhere is not None:
                self._spine.invalidate_elsewhere("tag", group)

    def _answers_get(self, x: Exchange, checked: CheckedResponse, head: ResponseHead, now: MonoTime) -> bool:
        """The answer to this POST is what a GET would bring, and may be kept for that (RFC 9110 §9.3.3)."""
        if not storing.is_post_for_get(x.request, head):
            return False
        verdict = self.judge(x, checked, head, x.wall, now)
        return isinstance(verdict, storing.Store)

    def _update_by_head(
        self, x: Exchange, head: ResponseHead, update: Sequence[StoredResponse], now: MonoTime
    ) -> ResponseHead:
        """What a HEAD tells of a stored GET (RFC 9111 §4.3.5); the head for its client, with what else is stored."""
        assert x.route is not None
        told = head
        for old in update:
            if not old.live or not key.matches(old, x.request):
                continue  # purged or replaced meanwhile, or a variant that this request would not have chosen
            match validation.decide_head(head, old):
                case validation.HeadEffect.UPDATES:
                    new = validation.freshen(
                        old,
                        head,
                        x.route.rules,
                        request=x.request,
                        request_time=x.wall,
                        response_time=self._spine.wall(now),
                        received=now,
                    )
                    self._spine.store.put(new) if validation.may_keep(new) else self._spine.store.remove(old)
                    told = validation.told_by_head(new, head, x.route.rules)
                case validation.HeadEffect.OUTDATES:
                    self._spine.store.put(validation.outdate(old))
                case validation.HeadEffect.NOTHING:
                    pass
                case unreachable:
                    assert_never(unreachable)
        return told

    # ---- a failing origin --------------------------------------------------------------------------------------------

    def _stands_in(self, x: Exchange, checked: CheckedResponse, request: Request | None, relay: Relay) -> bool:
        """The origin is in trouble, and what is stored answers in its place (RFC 9111 §4.3.3)."""
        old = self.stand_in(x, relay.update) if checked.head.status in freshness.TROUBLE else None
        if old is None:
            return False
        self._spine.brake.failed(x.key)
        relay.request = None
        if request is not None:
            request.cancel()
        self.answer_stale(x, old)
        return True

    def stand_in(self, x: Exchange, stored: Sequence[StoredResponse]) -> StoredResponse | None:
        """What may answer this request although the origin fails."""
        assert x.route is not None
        now, rules = self._now(), x.route.rules
        fit = (s for s in stored if key.matches(s, x.request) and reuse.may_serve_on_error(s, now, rules, x.request))
        return next((s for s in fit if s.head.status != 206 or conditional.covers(s, x.request)), None)

    def answer_stale(self, x: Exchange, old: StoredResponse) -> None:
        x.outcome = Outcome.STALE
        x.reason = Reason.STALE_ON_ERROR
        self._spine.answers.from_stored(x, old)

    @staticmethod
    def told(x: Exchange, failure: Failure, stored: Sequence[StoredResponse]) -> Failure:
        """Cut off from the origin, with something stored that must not be used without its word: 504 (RFC 9111
        §5.2.2.2).
        """
        bound = any((one.control.never_stale or one.control.no_cache) and key.matches(one, x.request) for one in stored)
        return Failure(errors.NOT_VALIDATED, failure.kind.token) if bound and failure.kind in UNREACHED else failure


def _is_useless(part: ContentRange, x: Exchange, checked: CheckedResponse, variants: Sequence[StoredResponse]) -> bool:
    """A part whose length is not the one announced, or that belongs to a whole which is stored."""
    tag = checked.head.fields.get(b"etag")
    return checked.content_length != part.last + 1 - part.first or any(
        one.status != 206 and one.etag == tag and key.matches(one, x.request) for one in variants
    )


def address_of(request: Request | None) -> str:
    """The origin that a request has gone to; empty where there is none."""
    return "" if request is None or request.origin is None else request.origin.address


def _length(checked: CheckedResponse) -> int | None:
    match checked.framing:
        case Framing.NONE:
            return NO_BODY
        case Framing.LENGTH:
            return checked.content_length
        case Framing.CHUNKED | Framing.CLOSE:
            return None
