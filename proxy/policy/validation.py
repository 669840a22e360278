"""Asking the origin whether what is stored still holds, and what its answer does to it (RFC 9111 §4.3, §3.2).

Freshening makes a new value that shares the body: who is still sending the old one is not disturbed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from config.units import Seconds
from proxy.http.fields import format_date, is_strong, opaque, parse_etags, parse_vary
from proxy.http.message import Fields
from proxy.http.stored import StoredResponse
from proxy.policy import key as keys
from proxy.policy import storing
from proxy.policy.freshness import governing, initial_age, lifetime

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from config.units import MonoTime, WallTime
    from proxy.http.message import Line, RequestHead, ResponseHead
    from proxy.policy.rules import CacheRules

REPLACED = frozenset({b"if-none-match", b"if-modified-since"})  # the client's conditions that ours stand in for
# The stored bytes depend on these, so that no other message may change them (RFC 9111 §3.2).
INTEGRAL = frozenset({b"content-encoding", b"content-range"})
TAG_FIELDS = frozenset({b"cache-tag", b"surrogate-key", b"xkey", b"cache-groups"})


# ---- the conditional request -----------------------------------------------------------------------------------------


def conditional_fields(request: RequestHead, stored: StoredResponse | Sequence[StoredResponse]) -> tuple[Line, ...]:
    """The lines that replace the client's If-None-Match and If-Modified-Since (RFC 9111 §4.3.1).

    With nothing to validate these are the client's own, byte for byte. Otherwise our tags, then those of the client, so
    that a
    304 can mean either; and our Last-Modified, if it is one response that is validated.
    """
    own = tuple(line for line in request.fields.lines if line[0].lower() in REPLACED)
    candidates = _validatable(request, (stored,) if isinstance(stored, StoredResponse) else stored)
    if not candidates:
        return own
    tags = tuple(dict.fromkeys(one.etag for one in candidates if one.etag is not None))
    lines: list[Line] = []
    if tags:
        lines.append((b"If-None-Match", b", ".join(tags + _foreign_tags(request, candidates))))
    else:
        lines += [line for line in own if line[0].lower() == b"if-none-match"]
    only = candidates[0]
    if len(candidates) == 1 and only.last_modified is not None and keys.matches(only, request):
        lines.append((b"If-Modified-Since", only.last_modified))
    return tuple(lines)


def _validatable(request: RequestHead, candidates: Iterable[StoredResponse]) -> tuple[StoredResponse, ...]:
    """Those with a validator that means something here: that of a stored part says nothing in a request for the whole,
    and the date of a variant for other requests nothing at all, as variants are often made at the same time.
    """
    ranged = b"range" in request.fields
    return tuple(
        one
        for one in candidates
        if (one.etag is not None or (one.last_modified is not None and keys.matches(one, request)))
        and (ranged or one.status != 206)
    )


def _foreign_tags(request: RequestHead, candidates: Iterable[StoredResponse]) -> tuple[bytes, ...]:
    """The client's tags that name nothing of ours; `*` asks for nothing in particular and is judged here afterwards."""
    known = {one.etag for one in candidates}
    return tuple(tag for tag in parse_etags(request.fields.all(b"if-none-match")) if tag not in known and tag != b"*")


def refresh_fields(stored: StoredResponse) -> Fields:
    """The fields of a refresh of our own: what Vary names, as the stored request had it, and our conditions."""
    lines = () if stored.request_fields is None else stored.request_fields.lines
    if stored.status == 206:
        return Fields(lines)
    if stored.etag is not None:
        lines += ((b"If-None-Match", stored.etag),)
    if stored.last_modified is not None:
        lines += ((b"If-Modified-Since", stored.last_modified),)
    return Fields(lines)


# ---- 304 -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Freshen:
    """The 304 is about this stored response; `others` bear the same strong tag and are updated too (RFC 9111
    §4.3.4).
    """

    stored: StoredResponse
    others: tuple[StoredResponse, ...] = ()


@dataclass(frozen=True, slots=True)
class PassOn:
    """The 304 answers the client's own condition and goes to it as it is."""


@dataclass(frozen=True, slots=True)
class FetchAgain:
    """The 304 says nothing that helps: ask again, with the client's own conditions and none of ours."""


def decide_304(
    request: RequestHead, response: ResponseHead, candidates: Sequence[StoredResponse]
) -> Freshen | PassOn | FetchAgain:
    """What a 304 is about. `request` is the client's; `candidates` are the stored responses given to
    `conditional_fields`.
    """
    sent = _validatable(request, candidates)
    identified = _identified(request, response, sent)
    if identified:
        chosen = max(identified, key=lambda one: (keys.matches(one, request), one.date, one.received))
        return Freshen(chosen, tuple(one for one in identified if one is not chosen))
    return PassOn() if _answers_the_client(request, response, sent) else FetchAgain()


def _identified(request: RequestHead, response: ResponseHead, sent: Sequence[StoredResponse]) -> list[StoredResponse]:
    """The stored responses that the validators of a 304 select (RFC 9111 §4.3.4)."""
    tag = response.fields.get(b"etag")
    if tag is not None and is_strong(tag):
        return [one for one in sent if one.etag == tag]
    if tag is not None:
        return _latest([one for one in sent if one.etag is not None and opaque(one.etag) == opaque(tag)])
    if _foreign_tags(request, sent):
        return []  # a 304 without tag could be about a tag that only the client knows
    modified = response.fields.get(b"last-modified")
    if modified is not None:
        return _latest([one for one in sent if one.last_modified == modified and keys.matches(one, request)])
    # departs: RFC 9111 §4.3.4 wants a stored response without validator here. But many origins leave ETag out of a 304,
    # and where
    # only one stored response was asked about, there is nothing else that it could be about.
    return list(sent) if len(sent) == 1 else []


def _latest(matching: list[StoredResponse]) -> list[StoredResponse]:
    return [max(matching, key=lambda one: (one.date, one.received))] if matching else []


def _answers_the_client(request: RequestHead, response: ResponseHead, sent: Sequence[StoredResponse]) -> bool:
    fields = request.fields
    if not sent:
        return not storing.CONDITIONS.isdisjoint(fields.names())  # its conditions travelled as they were
    tag = response.fields.get(b"etag")
    return tag is not None and opaque(tag) in {opaque(own) for own in parse_etags(fields.all(b"if-none-match"))}


def freshen(
    stored: StoredResponse,
    response: ResponseHead,
    rules: CacheRules,
    *,
    request: RequestHead | None,
    request_time: WallTime,
    response_time: WallTime,
    received: MonoTime,
) -> StoredResponse:
    """The stored response updated by the head of a 304, or of a 200 to HEAD (RFC 9111 §3.2, §4.3.4, §4.3.5).

    `request` is the client's that was validated for; None for a refresh of our own. Whether the result may stay in the
    store is
    another question: `may_keep`.
    """
    news = response.fields
    if b"date" not in news:
        news = news.plus((b"Date", format_date(response_time)))  # the old Date must not make the news old
    fields = _updated(stored.head.fields, news, rules)
    govern = governing(fields, rules)
    fields = storing.storable_fields(fields, govern.control, rules)
    sent = request.fields if request is not None else stored.request_fields or Fields()
    personal = storing.is_personal(sent, fields, rules)
    span = lifetime(govern, stored.head.with_fields(fields), response_time, rules, personal=personal)
    if not storing.keeps_cookies(fields, span, rules):
        fields = fields.without({b"set-cookie"})
    head = stored.head.with_fields(fields)
    names = parse_vary(news.all(b"vary")) if b"vary" in news else _names(stored)
    same = names == _names(stored)
    return stored.replaced(
        head=head,
        control=govern.control,
        lifetime=span.seconds,
        lifetime_source=span.source,
        initial_age=initial_age(news, request_time, response_time, rules),
        request_time=request_time,
        response_time=response_time,
        received=received,
        selecting=stored.selecting if same else keys.selecting(names, sent),
        request_fields=stored.request_fields if same else storing.fields_named(sent, names or ()),
        tags=stored.tags
        if request is None or TAG_FIELDS.isdisjoint(news.names())
        else storing.tags_of(request, head, rules),
    )


def _updated(old: Fields, news: Fields, rules: CacheRules) -> Fields:
    """Each field of the news in place of the old lines of its name, new ones at the end (RFC 9111 §3.2)."""
    govern = governing(news, rules)
    allowed = storing.storable_fields(news, govern.control, rules).without(INTEGRAL)
    pending = {name: [line for line in allowed.lines if line[0].lower() == name] for name in allowed.names()}
    gone = frozenset(pending)
    lines: list[Line] = []
    for line in old.lines:
        name = line[0].lower()
        if name in gone:
            lines += pending.pop(name, ())
        else:
            lines.append(line)
    for late in pending.values():
        lines += late
    return Fields(lines)


def for_this_client(response: ResponseHead, updated: StoredResponse, rules: CacheRules) -> tuple[Line, ...]:
    """Lines of a 304 that go out with the answer it confirmed, but into no store: the upstream's Age, and cookies.

    departs: RFC 9111 §3.2 would store every Set-Cookie of a 304. One that would not be stored with a 200 was made for
    one client, and reaches that one only.
    """
    alone = {b"age"}
    if not rules.ignore_cookies and b"set-cookie" not in updated.head.fields:
        alone.add(b"set-cookie")
    return tuple(line for line in response.fields.lines if line[0].lower() in alone)


def may_keep(stored: StoredResponse) -> bool:
    """A freshened response may stay in the store; the news may have said no-store, private, or `Vary: *`."""
    control = stored.control
    refused = (control.no_store and not control.must_understand) or control.private or control.malformed
    return not refused and stored.selecting is not None


def adopt(stored: StoredResponse, request: RequestHead) -> StoredResponse:
    """The same response as a variant for this request: a 304 chose it although Vary's fields differ (RFC 9111
    §4.3.4).
    """
    names = _names(stored) or ()
    selecting = keys.selecting(names, request.fields)
    return stored.replaced(selecting=selecting, request_fields=storing.fields_named(request.fields, names))


def _names(stored: StoredResponse) -> tuple[bytes, ...] | None:
    return None if stored.selecting is None else tuple(name for name, _ in stored.selecting)


# ---- HEAD (RFC 9111 §4.3.5) ------------------------------------------------------------------------------------------


class HeadEffect(Enum):
    """What the answer to a HEAD does to the stored GET."""

    UPDATES = "updates"  # freshen() it
    OUTDATES = "outdates"  # outdate() it
    NOTHING = "nothing"


def decide_head(response: ResponseHead, stored: StoredResponse) -> HeadEffect:
    """Validators and length that the answer has must be those stored; 404 and 410 say that what is stored is gone."""
    if response.status in {404, 410}:
        return HeadEffect.OUTDATES
    if response.status != 200 or stored.status != 200:
        return HeadEffect.NOTHING
    fields = response.fields
    known = (
        (b"etag", stored.etag),
        (b"last-modified", stored.last_modified),
        (b"content-length", None if stored.length is None else b"%d" % stored.length),
    )
    differs = any(name in fields and fields.get(name) != value for name, value in known)
    return HeadEffect.OUTDATES if differs else HeadEffect.UPDATES


def told_by_head(updated: StoredResponse, response: ResponseHead, rules: CacheRules) -> ResponseHead:
    """What the client of the HEAD gets: the updated fields with those that were stored, and the length it was told."""
    length = response.fields.get(b"content-length")
    if length is None and updated.length is not None:
        length = b"%d" % updated.length
    lines = for_this_client(response, updated, rules)
    if length is not None:
        lines += ((b"Content-Length", length),)
    return response.with_fields(updated.head.fields.plus(*lines))


def outdate(stored: StoredResponse) -> StoredResponse:
    """The same response, stale from now on, and not to be used before it is validated but when the origin fails."""
    return stored.replaced(lifetime=Seconds(0.0), control=replace(stored.control, stale_while_revalidate=None))
