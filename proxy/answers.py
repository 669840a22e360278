"""Answers as they go to a client: from a stored response, from a rule, or an error of ours; and the end of every
exchange.

What may be answered is decided before; here heads are completed (Age, Via, Cache-Status), bodies handed to the writer
whole or at the client's pace, and the books closed, once for each exchange.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, assert_never

from config.units import MonoTime
from proxy import errors
from proxy.delivery import Delivery
from proxy.errors import Failure, Source
from proxy.exchange import NO_BODY, Exchange, FixedAnswer, Outcome, Reusable
from proxy.http.fields import format_date, parse_content_range
from proxy.http.forwarding import via_line
from proxy.http.message import Fields, RequestHead, ResponseHead
from proxy.http.pages import ALLOWED, error_page, reason_phrase
from proxy.http.stored import Body, BodyState
from proxy.policy import conditional, freshness
from proxy.policy.cache_status import NAME, cache_status
from proxy.policy.reasons import Reason

if TYPE_CHECKING:
    from proxy.cache.coalesce import Flight
    from proxy.exchange import Client, ResponseWriter
    from proxy.http.message import Line
    from proxy.http.stored import StoredResponse
    from proxy.pipeline import Pipeline


WHOLE = 256 * 2**10  # stored bodies up to this size are written at once; larger ones at the client's pace
TICK_GUARD = 1e-5  # seconds: sums of times are rounded, and an answer must not outlive its tick
CHALLENGES = {errors.LOGIN: b"Proxy-Authenticate", errors.MIRROR_LOGIN: b"WWW-Authenticate"}  # RFC 9110 §11.6, §11.7
NOWHERE = RequestHead(b"-", b"http", b"", b"", None, (1, 1), Fields())  # for the log line of what could not be read


class Answers:
    """Writes answers and closes exchanges."""

    def __init__(self, spine: Pipeline) -> None:
        self._spine = spine
        self._now = spine.now
        self._observer = spine.observer
        self._boundary = b"tandem-" + secrets.token_hex(12).encode()  # of multipart answers; in no body by chance

    # ---- from what is stored -----------------------------------------------------------------------------------------

    def from_stored(
        self,
        x: Exchange,
        stored: StoredResponse,
        flight: Flight | None = None,
        *,
        came: int | None = None,
        collapsed: bool = False,
        said: tuple[Line, ...] = (),
    ) -> None:
        """From a stored response, whole or still arriving: full, partial or 304 (RFC 9110 §13, §14).

        `came`: it has just come or been confirmed, by an answer with this status; `said`: lines of it that are for
        this client alone.
        """
        now = self._now()
        fetched = came is not None
        if fetched and not collapsed and x.outcome is Outcome.MISS:
            answer: conditional.Answer = conditional.Full(stored.head)  # the origin has judged the client's conditions
        else:
            answer = conditional.evaluate(x.request, stored, validated=fetched, boundary=self._boundary)
        complete = stored.body.state is BodyState.COMPLETE
        if isinstance(answer, conditional.Partial) and len(answer.ranges) > 1 and not complete:
            answer = conditional.Full(stored.head)  # several ranges of what is still arriving
        sent = answer.head.status
        keeps = flight is not None and flight.storing and not collapsed
        member = self._member(x, freshness.remaining(stored, now), came, sent, keeps=keeps, collapsed=collapsed)
        lines = said + _answer_lines(stored, now, member, fetched=fetched)
        match answer:
            case conditional.Full(head=head):
                self._full(x, stored, head, lines, flight, now)
            case conditional.NotModified(head=head):
                self._short(x, _with(x, head, lines))
            case conditional.Unsatisfiable(head=head):
                self._short(x, _with(x, head, lines), length=0)
            case conditional.Partial():
                self._partial(x, stored, answer, lines, flight)
            case unreachable:
                assert_never(unreachable)

    @staticmethod
    def _member(x: Exchange, left: float, came: int | None, sent: int, *, keeps: bool, collapsed: bool) -> bytes:
        """Of Cache-Status. What the origin said is told if it was a 304 or differs from what is sent (RFC 9211
        §2.3).
        """
        assert x.reason is not None
        told = x.key if x.plan is not None and x.plan.tells_key else None
        if came is None:
            return cache_status(x.reason, hit=True, ttl=left, key=told)
        said = came if came == 304 or came != sent else None
        return cache_status(x.reason, hit=False, ttl=left, fwd_status=said, stored=keeps, collapsed=collapsed, key=told)

    def _full(
        self,
        x: Exchange,
        stored: StoredResponse,
        head: ResponseHead,
        lines: tuple[Line, ...],
        flight: Flight | None,
        now: MonoTime,
    ) -> None:
        x.response = head = _with(x, head, lines)
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
            x.writer.start(head, stored.length if head.status != 206 else span_of(head))
            self._deliver(Delivery(self, x, body, flight), body, flight)

    def _deliver(self, delivery: Delivery, body: Body, flight: Flight | None = None) -> None:
        """At the client's pace; `body` is what that keeps in memory."""
        if flight is not None:
            flight.read(delivery)
            return
        delivery.pump()
        if not delivery.x.done:
            delivery.hand_over(self._spine.reading)
            self._spine.reading.begin(body, delivery)

    def _partial(
        self,
        x: Exchange,
        stored: StoredResponse,
        part: conditional.Partial,
        lines: tuple[Line, ...],
        flight: Flight | None,
    ) -> None:
        x.response = head = _with(x, part.head, lines)
        x.status = head.status
        if len(part.ranges) == 1 and not part.tail:
            first, end = part.ranges[0]
            held = stored.body.start  # of a stored part, the first byte that is here
            x.writer.start(head, part.size)
            delivery = Delivery(self, x, stored.body, flight, first=first - held, end=end - held)
            self._deliver(delivery, stored.body, flight)
            return
        chunks: list[bytes] = []
        for opening, (first, end) in zip(part.parts, part.ranges, strict=True):
            chunks.append(opening)
            chunks.extend(stored.body.slice(first, end))
        chunks.append(part.tail)
        x.writer.start(head, part.size)
        self._deliver(Delivery(self, x, Body(chunks, complete=True)), stored.body)

    def _short(self, x: Exchange, head: ResponseHead, length: int = NO_BODY) -> None:
        """An answer without body."""
        x.response = head
        x.status = head.status
        self.close_books(x)
        x.writer.whole(head, (), length)

    # ---- our own -----------------------------------------------------------------------------------------------------

    def fixed(self, x: Exchange, way: FixedAnswer) -> None:
        """What a rule answers itself. To CONNECT a 2xx would be a tunnel (RFC 9110 §9.3.6)."""
        x.site, x.rule = way.site, way.rule
        if x.request.method == b"CONNECT":
            if way.head.status < 300:
                self.fail(x, Failure(errors.FORBIDDEN, "a rule answers in place of a tunnel"))
                return
            x.writer.last()
        x.outcome = Outcome.ANSWER
        now = self._now()
        lines = (*way.head.fields.lines, (b"Date", format_date(self._spine.wall(now))))
        self.own(
            x, ResponseHead(way.head.status, way.head.reason or reason_phrase(way.head.status), Fields(lines)), way.body
        )

    def last_hop(self, x: Exchange) -> None:
        """Max-Forwards has run out: this is as far as it goes (RFC 9110 §7.6.2)."""
        x.outcome = Outcome.ANSWER
        lines = (
            (b"Date", format_date(self._spine.wall(self._now()))),
            (b"Allow", ALLOWED),
        )
        self.own(x, ResponseHead(200, b"OK", Fields(lines)), b"")

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
        if kind.close or x.request.method == b"CONNECT":  # bytes for a tunnel may follow (RFC 9112 §9.6)
            x.writer.last()
        view = x.plan.view if x.plan is not None else None
        pages = view.error_pages if view is not None else None
        if view is not None:
            x.site = view.name
        if failure.rule and x.route is None:
            x.rule = failure.rule
        head, body = error_page(failure, name=NAME, date=format_date(self._spine.wall(self._now())), pages=pages)
        if kind in CHALLENGES and view is not None:
            head = head.with_fields(head.fields.plus((CHALLENGES[kind], view.challenge)))
        if x.route is not None:
            told = x.key if x.plan is not None and x.plan.tells_key else None
            member = cache_status(x.reason or Reason.URI_MISS, hit=False, key=told, detail=kind.token)
            head = head.with_fields(head.fields.plus((b"Cache-Status", member)))
        self.own(x, head, body)

    def refuse_unread(self, client: Client, writer: ResponseWriter, failure: Failure) -> tuple[ResponseHead, bytes]:
        """The answer to what could not be read as a request; it has a log line like all others."""
        now = self._now()
        x = Exchange(
            client=client,
            request=NOWHERE,
            body=None,
            writer=writer,
            started=now,
            wall=self._spine.wall(now),
            failure=failure,
        )
        x.outcome = Outcome.REFUSED
        x.status = failure.kind.status
        head, body = error_page(failure, name=NAME, date=format_date(self._spine.wall(now)))
        x.sent = len(body)
        self.close_books(x)
        return head, body

    def own(self, x: Exchange, head: ResponseHead, body: bytes) -> None:
        x.response = head
        x.status = head.status
        bodiless = head.status in {204, 304}
        x.sent = 0 if bodiless or x.request.method == b"HEAD" else len(body)
        self.close_books(x)
        x.writer.whole(head, (body,) if x.sent else (), NO_BODY if bodiless else len(body))

    def interim(self, x: Exchange, head: ResponseHead) -> None:
        """1xx on their way; 100 is for those who wait for it (RFC 9110 §10.1.1, §15.2)."""
        if head.status != 100 or (x.plan is not None and x.plan.checked.expect_continue):
            x.writer.interim(head.with_fields(head.fields.plus(via_line(head.version, NAME))))

    # ---- the end -----------------------------------------------------------------------------------------------------

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
            self._observer.finished(x, self._now())
            return
        if known.template is None or known.sent != x.sent:
            known.template = self._observer.likeness(x)
            known.sent = x.sent
        self._observer.alike(known.template, x, self._now())


def _answer_lines(stored: StoredResponse, now: MonoTime, member: bytes, *, fetched: bool) -> tuple[Line, ...]:
    """What we add to a stored response: Age unless it was just fetched or validated, Via, Cache-Status."""
    via = via_line(stored.head.version, NAME)
    if fetched:
        return (via, (b"Cache-Status", member))
    return ((b"Age", b"%d" % freshness.age_value(stored, now)), via, (b"Cache-Status", member))


def _with(x: Exchange, head: ResponseHead, lines: tuple[Line, ...]) -> ResponseHead:
    """A stored head with what we add, less what clients do not get; a received Age gives way to ours (RFC 9111
    §5.1).
    """
    fields = head.fields
    if x.route is not None and x.route.rules.hidden_fields:
        fields = fields.without(x.route.rules.hidden_fields)
    if b"age" in fields and any(name == b"Age" for name, _ in lines):
        fields = fields.without((b"age",))
    return head.with_fields(fields.plus(*lines))


def span_of(head: ResponseHead) -> int | None:
    """How many bytes a single part has, by its own word."""
    part = parse_content_range(head.fields.get(b"content-range"))
    return None if part is None else part.last + 1 - part.first


def next_change(stored: StoredResponse, now: MonoTime) -> MonoTime:
    """Until when an answer from this stored response stays as it is: Age and ttl tick in whole seconds, freshness
    ends.
    """
    age = freshness.current_age(stored, now)
    left = stored.lifetime - age
    wait = min(1.0 - age % 1.0, left % 1.0)
    return MonoTime(now + wait - TICK_GUARD)
