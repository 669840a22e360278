"""What a flight brings: its head decides whether to store, to freshen, to serve stale, or to pass it on to the one
who asked.

Whoever waited is judged again by what came before it gets a byte (RFC 9111 §4, as if it had been stored before).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, assert_never

from config.units import WallTime
from proxy import errors
from proxy.delivery import Relay
from proxy.errors import Failure
from proxy.exchange import Exchange, Outcome
from proxy.http.stored import Body
from proxy.policy import freshness, key, parts, reuse, storing, validation
from proxy.policy.reasons import Reason
from proxy.relaying import REFUSED, address_of

if TYPE_CHECKING:
    from config.units import MonoTime
    from proxy.cache.coalesce import Flight
    from proxy.delivery import Delivery
    from proxy.http.checks import CheckedResponse
    from proxy.http.message import Line, RequestHead, ResponseHead
    from proxy.http.stored import StoredResponse
    from proxy.pipeline import Pipeline
    from proxy.policy.parts import Fill


log = logging.getLogger("tandem")


class Landing:
    """The judge of flights (cache/coalesce.py)."""

    def __init__(self, spine: Pipeline) -> None:
        self._spine = spine
        self._now = spine.now
        self._told_slow: set[str] = set()

    def flight_interim(self, flight: Flight, head: ResponseHead) -> None:
        if flight.leader is not None:
            self._spine.answers.interim(flight.leader, head)

    def flight_head(self, flight: Flight, checked: CheckedResponse) -> None:
        """The head decides: freshen, store, serve stale, or pass on to the one who asked."""
        pattern = flight.pattern
        assert pattern is not None
        assert pattern.route is not None
        now = self._now()
        flight.came = checked.head.status
        head = self._spine.relaying.received(pattern, checked, flight.request, now)
        for x in flight.waiting_ones():
            x.first_byte = now
            x.upstream = address_of(flight.request)
        if flight.fallback:
            self._note_outcome(flight.key, failed=head.status in freshness.TROUBLE)
        if flight.fill is not None and head.status in {206, 416}:
            self._filled(flight, flight.fill, checked, head, now)
            return
        if head.status == 304 and flight.stale:
            self._validated(flight, checked, head)
            return
        if head.status in freshness.TROUBLE and self._serve_stale(
            flight, Failure(errors.BAD_RESPONSE, f"status {head.status}")
        ):
            return
        verdict = self._spine.relaying.judge(pattern, checked, head, flight.wall, now)
        if isinstance(verdict, storing.NoStore):
            self._pass_alone(flight, checked, verdict.reason)
        else:
            self._spine.flights.forget_unshareable(flight.key)
            stored = storing.build_stored(verdict, flight.key, Body(), checked.content_length, now)
            flight.begin_body(stored, pattern.route.rules.max_object, verdict.session_ids)
            if verdict.slow_clock:
                self._slow_clock(pattern)
            self._serve_flight(flight, stored, storing.for_the_asker(head, verdict, pattern.route.rules))

    def _note_outcome(self, key: bytes, *, failed: bool) -> None:
        brake = self._spine.brake
        brake.failed(key) if failed else brake.answered(key)

    def _filled(self, flight: Flight, fill: Fill, checked: CheckedResponse, head: ResponseHead, now: MonoTime) -> None:
        """What a stored part lacks is coming: all who wait get the whole. Else that is asked for (RFC 9111 §3.4)."""
        pattern, part = flight.pattern, flight.part
        assert pattern is not None
        assert pattern.route is not None
        assert part is not None
        made = None
        if checked.content_length == fill.end - fill.first:
            made = parts.begin_completion(
                part,
                fill,
                head,
                pattern.route.rules,
                request=pattern.request,
                request_time=WallTime(flight.wall),
                response_time=self._spine.wall(now),
                received=now,
            )
        if made is None:
            flight.give_up()
            for x in flight.everybody():
                x.producer = None
                self._spine.fly(x, (), listed=False)
            return
        flight.outdated = flight.outdated or not validation.may_keep(made.stored)
        flight.tail = made.tail
        flight.begin_body(made.stored, pattern.route.rules.max_object)
        said = validation.for_this_client(head, made.stored, pattern.route.rules)
        self._serve_flight(flight, made.stored, said)

    def part_landed(self, flight: Flight, stored: StoredResponse) -> StoredResponse:
        """Joined with the part that was there, if they are of one thing (RFC 9111 §3.4)."""
        pattern = flight.pattern
        assert pattern is not None
        assert pattern.route is not None
        return parts.gathered(self._rival(flight, stored), stored, pattern.route.rules, pattern.request)

    def flight_cut(self, flight: Flight, stored: StoredResponse) -> StoredResponse | None:
        """A part to be completed later, unless there is something better."""
        kept = parts.remains(stored, stored.body)
        old = self._rival(flight, stored)
        if kept is None or (old is not None and (old.status != 206 or old.body.size >= kept.body.size)):
            return None
        return kept

    def _rival(self, flight: Flight, stored: StoredResponse) -> StoredResponse | None:
        """What the store has in the place of this response."""
        there = self._spine.store.peek(flight.key)
        return next((one for one in there if one.selecting == stored.selecting), None)

    def _slow_clock(self, x: Exchange) -> None:
        """Once for each site: an origin whose clock is behind loses its caching by it."""
        site = x.route.site if x.route is not None else ""
        if site not in self._told_slow:
            self._told_slow.add(site)
            log.warning(
                "site %s: the clock of %s is behind, so its responses count as old; see trust_age", site, x.upstream
            )

    def _serve_flight(self, flight: Flight, stored: StoredResponse, said: tuple[Line, ...]) -> None:
        """The leader gets what it asked for, all of it (`said`); each waiter is judged anew by what came (hardening:
        re-check before a byte).
        """
        leader = flight.leader
        for x in flight.everybody():
            if x is leader:
                x.outcome = Outcome.MISS
                self._spine.answers.from_stored(x, stored, flight, came=flight.came, said=said)
            elif self.may_follow(x, stored):
                self.follow(x, flight, stored)
            else:
                self._alone(x)

    def may_follow(self, x: Exchange, stored: StoredResponse) -> bool:
        """What is arriving for somebody else answers this request as well (RFC 9111 §4, as if it were stored)."""
        assert x.route is not None
        return isinstance(reuse.decide(x.request, (stored,), self._now(), x.route.rules), reuse.Fresh)

    def follow(self, x: Exchange, flight: Flight, stored: StoredResponse) -> None:
        x.outcome = Outcome.MISS
        self._spine.answers.from_stored(x, stored, flight, came=flight.came, collapsed=True)

    def _alone(self, x: Exchange) -> None:
        """A waiter for whom it was not good: its own look-up and fetch, at once."""
        x.producer = None
        variants = self._spine.store.variants(x.key)
        self._spine.decide(x, variants, joins=False)

    def _pass_alone(self, flight: Flight, checked: CheckedResponse, why: Reason) -> None:
        """Not for the store: the leader gets it as it comes, the others ask for themselves, at once."""
        self._spine.flights.over(flight)
        no_word = checked.head.status == 304 or why is Reason.NOT_STORED_REQUEST or _is_ranged(flight.pattern)
        if not no_word:  # of the origin's on what others will get
            rules = flight.pattern.route.rules  # type: ignore[union-attr]  # a flight has both
            self._spine.flights.remember_unshareable(flight.key, rules.hit_for_miss)
            if flight.leader is not None and flight.leader.plan is not None and flight.leader.plan.plain:
                flight.leader.plan.unshared_until = self._now() + rules.hit_for_miss
        waiters, flight.waiters = flight.waiters, []
        leader, flight.leader = flight.leader, None
        request, flight.request = flight.request, None
        if leader is None:
            if request is not None:
                request.cancel()
        elif request is not None:
            leader.detail = why
            relay = Relay(self._spine.relaying, leader)
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
        self._spine.flights.over(flight)
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
                        self._spine.answers.from_stored(
                            x, new, came=304, said=validation.for_this_client(head, new, pattern.route.rules)
                        )
                    elif self.may_follow(x, new):
                        self._spine.answers.from_stored(x, new, came=304, collapsed=True)
                    else:
                        self._alone(x)
            case validation.PassOn():
                self._pass_alone(flight, checked, Reason.NOT_STORED_NOT_MODIFIED)
            case validation.FetchAgain():
                for x in flight.everybody():
                    x.producer = None
                    self._spine.fly(x, (), listed=False)
            case unreachable:
                assert_never(unreachable)

    def _freshen(
        self, flight: Flight, pattern: Exchange, old: StoredResponse, head: ResponseHead, asked: RequestHead | None
    ) -> StoredResponse:
        """The stored response with the news of a 304, in the store if it may stay there."""
        assert pattern.route is not None
        now = self._now()
        new = validation.freshen(
            old,
            head,
            pattern.route.rules,
            request=asked,
            request_time=WallTime(flight.wall),
            response_time=self._spine.wall(now),
            received=now,
        )
        if asked is not None and not key.matches(new, asked) and new.selecting is not None:
            new = validation.adopt(new, asked)
        if not validation.may_keep(new):
            self._spine.store.remove(old)
        elif old.live and not (flight.is_void(old) or flight.is_void(new)):
            # else it was purged or replaced meanwhile, which must not be undone
            self._spine.store.put(new)
        return new

    def flight_failed(self, flight: Flight, failure: Failure) -> None:
        """No head came: stale if it may be, else an error for all who wait."""
        if flight.fallback:
            self._note_outcome(flight.key, failed=True)
        if self._serve_stale(flight, failure):
            return
        for x in flight.everybody():
            self._spine.answers.fail(x, self._spine.relaying.told(x, failure, flight.fallback))

    def _serve_stale(self, flight: Flight, failure: Failure) -> bool:
        """RFC 9111 §4.2.4, RFC 5861 §4: the origin fails, what is stored may stand in. False if nobody may have it."""
        pattern = flight.pattern
        assert pattern is not None
        if (
            not flight.fallback
            or failure.kind in REFUSED
            or self._spine.relaying.stand_in(pattern, flight.fallback) is None
        ):
            return False
        flight.give_up()
        for x in flight.everybody():
            old = self._spine.relaying.stand_in(x, flight.fallback)
            if old is not None:
                self._spine.relaying.answer_stale(x, old)
            else:
                self._spine.answers.fail(x, self._spine.relaying.told(x, failure, flight.fallback))
        return True

    def reads_on(self, reader: Delivery, body: Body) -> None:
        reader.hand_over(self._spine.reading)
        self._spine.reading.begin(body, reader)

    def waiter_gone(self, x: Exchange) -> None:
        self._spine.answers.close_books(x)


def _is_ranged(x: Exchange | None) -> bool:
    return x is not None and b"range" in x.request.fields
