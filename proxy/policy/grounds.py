"""Why a verdict is what it is, for people: each reason as a sentence with its section, and the sums behind it.

Nothing is decided here. What reuse.py, freshness.py, key.py and storing.py decide is asked of them and written down as
plain values; a sentence that contradicts a verdict would be a fault of this file alone, so there are no conditions in
it that they have already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from proxy.http.message import Fields, ResponseHead
from proxy.policy import freshness, key, reuse, storing
from proxy.policy.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from config.units import MonoTime, WallTime
    from proxy.http.message import Line, RequestHead
    from proxy.http.stored import StoredResponse
    from proxy.policy.rules import CacheRules

    Plain = dict[str, Any]

# reason: (what it says, where that is written)
SAYS: Final[dict[Reason, tuple[str, str]]] = {
    Reason.FRESH: ("its freshness lifetime is greater than its age", "RFC 9111 §4.2"),
    Reason.STALE_WHILE_REVALIDATE: (
        "stale, and the origin lets it be used while it is refreshed in the background",
        "RFC 5861 §3",
    ),
    Reason.GRACE: ("stale, and the rule's grace lets it be used while it is refreshed", "RFC 9111 §4.2.4"),
    Reason.STALE_ALLOWED: ("stale, and the request's max-stale takes it so", "RFC 9111 §5.2.1.2"),
    Reason.STALE_ON_ERROR: ("stale, and the origin fails", "RFC 9111 §4.2.4"),
    Reason.CONFIGURED_BYPASS: ("the configuration leaves this request out of the cache", ""),
    Reason.METHOD: ("only GET and HEAD are looked up", "RFC 9111 §4"),
    Reason.BODY: ("a request with a body is not looked up", "RFC 9110 §9.3.1"),
    Reason.UPGRADE: ("it asks for another protocol", "RFC 9110 §7.8"),
    Reason.EXPECT: ("it waits for 100, which is the origin's to say", "RFC 9110 §10.1.1"),
    Reason.URI_MISS: ("nothing is stored under this key", "RFC 9111 §4"),
    Reason.VARY_MISS: ("what is stored was selected by other request fields", "RFC 9111 §4.1"),
    Reason.REQUEST_NO_CACHE: ("the request's no-cache wants it validated", "RFC 9111 §5.2.1.4"),
    Reason.REQUEST_MAX_AGE: ("it is older than the request's max-age", "RFC 9111 §5.2.1.1"),
    Reason.REQUEST_MIN_FRESH: ("less freshness is left than the request's min-fresh", "RFC 9111 §5.2.1.3"),
    Reason.RESPONSE_NO_CACHE: ("the response's no-cache wants it validated before each use", "RFC 9111 §5.2.2.4"),
    Reason.STALE: ("its age has reached its freshness lifetime, and nothing lets it be used stale", "RFC 9111 §4.2.4"),
    Reason.PARTIAL: ("only a part is stored, which does not cover what is asked for", "RFC 9111 §3.3"),
    Reason.ONLY_IF_CACHED: ("the request wants no answer but a stored one", "RFC 9111 §5.2.1.7"),
    Reason.IF_MATCH: ("If-Match and If-Unmodified-Since are the origin's to judge", "RFC 9111 §4.3.2"),
    Reason.HIT_FOR_MISS: ("equal requests lately had answers that may not be stored", ""),
    Reason.SESSION_IN_TARGET: ("its target carries a session id, which is part of the key here", ""),
    Reason.TOLD_BY_HOP: ("a trusted hop tells more different things than keys can hold apart", ""),
    Reason.NAME_UNPROVEN: ("the name has not been found to have the address that the client was going to", ""),
    Reason.STORABLE: ("it may be stored", "RFC 9111 §3"),
    Reason.NOT_STORED_METHOD: ("answers to this method are not stored", "RFC 9111 §3"),
    Reason.NOT_STORED_RULE: ("the rule stores nothing", ""),
    Reason.NOT_STORED_INTERIM: ("an interim response", "RFC 9111 §3"),
    Reason.NOT_STORED_NOT_MODIFIED: ("a 304 that is about nothing stored", "RFC 9111 §4.3.4"),
    Reason.NOT_STORED_PARTIAL: ("a part that is not one consistent range with a lifetime", "RFC 9111 §3.3"),
    Reason.NOT_STORED_STATUS: ("must-understand, and its status is not understood", "RFC 9111 §5.2.2.3"),
    Reason.NOT_STORED_ERROR: ("an error that this request may have caused by itself", ""),
    Reason.NOT_STORED_REQUEST: ("the request says no-store", "RFC 9111 §5.2.1.5"),
    Reason.NOT_STORED_NO_STORE: ("the response says no-store", "RFC 9111 §5.2.2.5"),
    Reason.NOT_STORED_PRIVATE: ("the response says private", "RFC 9111 §5.2.2.7"),
    Reason.NOT_STORED_AUTHORIZATION: (
        "the request has Authorization, and the response has none of public, s-maxage and must-revalidate",
        "RFC 9111 §3.5",
    ),
    Reason.NOT_STORED_MALFORMED: ("its Cache-Control cannot be read to the end", "RFC 9111 §4.2.1"),
    Reason.NOT_STORED_VARY: ("its Vary matches no other request", "RFC 9111 §4.1"),
    Reason.NOT_STORED_COOKIE: ("it sets a cookie, and says no lifetime of its own", "RFC 9111 §7.3"),
    Reason.NOT_STORED_SESSION: ("it belongs to a session", "RFC 9111 §7.3"),
    Reason.NOT_STORED_NOTHING_SAID: ("it says neither a lifetime nor a validator that would be of use", "RFC 9111 §3"),
    Reason.NOT_STORED_SIZE: ("it is larger than max_object", ""),
}


def step(says: str, rfc: str = "") -> Plain:
    """One rule that was applied: a sentence, and where it is written."""
    return {"says": says, "rfc": rfc}


def step_of(reason: Reason) -> Plain:
    return {"token": reason.token, **step(*SAYS[reason])}


# ---- what is stored --------------------------------------------------------------------------------------------------


def describe_variant(
    stored: StoredResponse, now: MonoTime, rules: CacheRules | None = None, request: RequestHead | None = None
) -> Plain:
    """One stored response; with a `request`, how its Vary compares, and with `rules`, who gave its lifetime."""
    part = None
    if stored.status == 206:
        part = {"first": stored.body.start, "end": stored.body.start + stored.body.size}
    return {
        "status": stored.status,
        "bytes": stored.body.size,
        "weight": stored.weight,
        "length": stored.length,
        "part": part,
        "vary": vary_of(stored, request),
        "matches": None if request is None else key.matches(stored, request),
        "freshness": freshness_of(stored, now, rules),
        "outdated": stored.outdated,
        "etag": text(stored.etag),
        "last_modified": text(stored.last_modified),
        "tags": [text(tag) for tag in stored.tags],
        "fields": [[text(name), text(value)] for name, value in stored.head.fields.lines],
    }


def vary_of(stored: StoredResponse, request: RequestHead | None) -> list[Plain] | None:
    """Each field that its Vary names: as it was when it was stored, and as this request has it; None: `Vary: *`."""
    if stored.selecting is None:
        return None
    found = []
    for name, value in stored.selecting:
        here = None if request is None else key.normal_value(name, request.fields.get(name))
        line: Plain = {"field": text(name), "stored": text(value)}
        if request is not None:
            line |= {"request": text(here), "same": here == value}
        found.append(line)
    return found


def freshness_of(stored: StoredResponse, now: MonoTime, rules: CacheRules | None = None) -> Plain:
    """The sums of RFC 9111 §4.2 in seconds. Remaining is lifetime less age; at zero it is stale."""
    apparent = max(0.0, stored.response_time - stored.date)
    resident = max(0.0, now - stored.received)
    age = freshness.current_age(stored, now)
    return {
        "lifetime": stored.lifetime,
        "lifetime_from": stored.lifetime_source,
        "lifetime_said": "" if rules is None else _said(stored, rules),
        "least": None if rules is None else rules.min_ttl,
        "most": None if rules is None else rules.max_ttl,
        "age": age,
        "initial_age": stored.initial_age,
        "apparent_age": apparent,
        "resident": resident,
        "response_delay": max(0.0, stored.response_time - stored.request_time),
        "remaining": freshness.remaining(stored, now),
        "stale_while_revalidate": stored.control.stale_while_revalidate,
        "stale_if_error": stored.control.stale_if_error,
        "never_stale": stored.control.never_stale,
    }


def _said(stored: StoredResponse, rules: CacheRules) -> str:
    """The field that governs, as received; empty where it was the rule that spoke, or a guess."""
    fields = stored.head.fields
    name = freshness.governing(fields, rules).field
    if stored.lifetime_source == "expires":
        name = b"expires"
    elif stored.lifetime_source == "heuristic":
        name = b"last-modified"
    elif stored.lifetime_source not in {"s-maxage", "max-age"}:
        return ""
    value = fields.get(name)
    return "" if value is None else f"{name.decode('latin-1').title()}: {text(value)}"


def text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


# ---- a verdict -------------------------------------------------------------------------------------------------------


def request_steps(request: RequestHead, rules: CacheRules) -> list[Plain]:
    """What the request's directives ask of the cache."""
    fields = request.fields
    if not rules.honour_request:
        if b"cache-control" in fields or b"pragma" in fields:
            return [step("the request's Cache-Control and Pragma are not heard here (honour_request = false)")]
        return []
    asked = reuse.directives_asked(fields, rules)
    told = [
        f"{name.replace('_', '-')}={value:g}" if not isinstance(value, bool) else name.replace("_", "-")
        for name in ("no_cache", "no_store", "only_if_cached", "max_age", "min_fresh", "max_stale", "stale_if_error")
        if (value := getattr(asked, name)) is not None and value is not False
    ]
    if not told:
        return []
    where = "Cache-Control" if b"cache-control" in fields else "Pragma, in the absence of Cache-Control,"
    rfc = "RFC 9111 §5.2.1" if b"cache-control" in fields else "RFC 9111 §5.4"
    return [step(f"the request's {where} says {', '.join(told)}", rfc)]


def stale_steps(stored: StoredResponse, now: MonoTime, rules: CacheRules, request: RequestHead) -> list[Plain]:
    """What becomes of it if the origin fails now."""
    if reuse.may_serve_on_error(stored, now, rules, request):
        return [step("should the origin fail, what is stored answers", "RFC 9111 §4.2.4, RFC 5861 §4")]
    if stored.control.never_stale or stored.control.no_cache:
        return [step("should the origin not be reached: 504, for it must not be used stale", "RFC 9111 §4.2.4")]
    return [step("should the origin fail, so does the answer: it has been stale for too long", "RFC 9111 §4.2.4")]


def storing_step(
    request: RequestHead, rules: CacheRules, now: WallTime, variants: Sequence[StoredResponse] = ()
) -> Plain:
    """Whether a plain 200 with a lifetime would be stored for this request, and else why it would not."""
    lines: tuple[Line, ...] = ((b"Cache-Control", b"max-age=60"), (b"ETag", b'"x"'))
    verdict = storing.decide_store(
        request,
        ResponseHead(200, b"OK", Fields(lines)),
        rules,
        request_time=now,
        response_time=now,
        variants=variants,
    )
    if isinstance(verdict, storing.Store):
        return step("an answer with a lifetime would be stored", "RFC 9111 §3")
    found = step_of(verdict.reason)
    return found | {"says": f"an answer would not be stored: {found['says']}"}
