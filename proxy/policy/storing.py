"""Whether a response may be stored, what of it is stored, and what an unsafe request invalidates (RFC 9111 §3, §4.4).

Storing depends on the words of request and response, never on the look of the path. What is not allowed here is still
forwarded;
`NoStore` names the reason, and says whether the response makes what was stored before it outdated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from proxy.http import structured
from proxy.http.fields import (
    ContentRange,
    format_date,
    parse_cache_control,
    parse_content_range,
    parse_range,
    parse_vary,
)
from proxy.http.forwarding import HOP_BY_HOP, nameable, parse_options
from proxy.http.message import SAFE, Fields
from proxy.http.stored import StoredResponse
from proxy.policy import cookies
from proxy.policy import key as keys
from proxy.policy.freshness import (
    HEURISTIC_STATUSES,
    TROUBLE,
    Governing,
    Lifetime,
    clock_is_slow,
    governing,
    initial_age,
    lifetime,
)
from proxy.policy.names import any_matches
from proxy.policy.reasons import Reason
from proxy.policy.rules import CacheRules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from config.units import MonoTime, Seconds, WallTime
    from proxy.http.fields import CacheControl
    from proxy.http.message import Line, RequestHead, ResponseHead
    from proxy.http.stored import Body

# Never stored and never replayed (RFC 9111 §3.1). Age is told anew, Content-Length is the writer's.
UNSTORED = HOP_BY_HOP | {b"age", b"content-length"}

# Final statuses of RFC 9110 whose caching rules are implemented here, for must-understand (RFC 9111 §5.2.2.3).
UNDERSTOOD = frozenset(
    {200, 201, 202, 203, 204, 205, 300, 301, 302, 303, 305, 307, 308}
    | set(range(400, 418))
    | {421, 422, 426}
    | set(range(500, 506))
)

CONDITIONS = frozenset({b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"})
UNUSUAL = CONDITIONS | {
    b"authorization",
    b"range",
    b"expect",
    b"upgrade",
    b"x-http-method-override",
    b"x-http-method",
    b"x-method-override",
}
PLAIN_HEAD_MAX = 8192  # bytes of a request head that cannot by itself have provoked an error
TAGS_MAX = 128
SESSION_IDS_MAX = 4  # in one target: each is looked for in all of the body
DEFAULT_RULES = CacheRules()


@dataclass(frozen=True, slots=True)
class Store:
    """All that makes a stored response but its key and body."""

    head: ResponseHead
    control: CacheControl
    lifetime: Seconds
    source: str
    initial_age: Seconds
    selecting: keys.Selecting
    request_fields: Fields | None
    tags: tuple[bytes, ...]
    request_time: WallTime
    response_time: WallTime
    session_ids: tuple[bytes, ...] = ()  # ids left out of the key: a body that contains one may not be stored
    part: ContentRange | None = None  # of a partial response (RFC 9111 §3.3)
    slow_clock: bool = False  # the origin's clock costs it its caching; worth one line in the log
    reason: Reason = Reason.STORABLE


@dataclass(frozen=True, slots=True)
class NoStore:
    """Why not; `outdates`: the variant that was stored for this request is no longer what the origin says, and goes."""

    reason: Reason
    outdates: bool = False


def decide_store(
    request: RequestHead,
    response: ResponseHead,
    rules: CacheRules,
    *,
    request_time: WallTime,
    response_time: WallTime,
    variants: Sequence[StoredResponse] = (),
) -> Store | NoStore:
    """May this response be stored (RFC 9111 §3)? `variants` are those of its key, whose Vary speaks for a response
    without.
    """
    govern = governing(response.fields, rules)
    refusal = _refused_by_request(request, response, govern.control, rules) or _refused_by_response(
        response, govern.control, rules
    )
    if refusal is None and _says_nothing(response, govern.control, rules):
        refusal = Reason.NOT_STORED_NOTHING_SAID
    if refusal is not None:
        return _refuse(refusal, request, response)
    fields = storable_fields(response.fields, govern.control, rules)
    personal = is_personal(request.fields, fields, rules)
    span = lifetime(govern, response.with_fields(fields), response_time, rules, personal=personal)
    age = initial_age(response.fields, request_time, response_time, rules)
    names = _varying(response, variants)
    refusal = _refused_by_freshness(request, response, fields, govern, span, rules)
    if refusal is None and names is None:
        refusal = Reason.NOT_STORED_VARY
    if refusal is not None or names is None:
        return _refuse(refusal or Reason.NOT_STORED_VARY, request, response)
    if rules.set_cookie == "strip":
        fields = fields.without({b"set-cookie"})
    if b"date" not in fields:
        fields = fields.plus((b"Date", format_date(response_time)))  # RFC 9110 §6.6.1
    return Store(
        head=response.with_fields(fields),
        control=govern.control,
        lifetime=span.seconds,
        source=span.source,
        initial_age=age,
        selecting=keys.selecting(names, request.fields) or (),
        request_fields=fields_named(request.fields, names),
        tags=tags_of(request, response, rules),
        request_time=request_time,
        response_time=response_time,
        session_ids=keys.session_ids(request, rules),
        part=parse_content_range(response.fields.get(b"content-range")) if response.status == 206 else None,
        slow_clock=clock_is_slow(response.fields, response_time) and not rules.trust_age,
    )


def build_stored(store: Store, key: bytes, body: Body, length: int | None, received: MonoTime) -> StoredResponse:
    """The stored response; `length` is the body's, or None while it grows. Of a part, the complete length is what it
    says itself.
    """
    if store.part is not None:
        length = store.part.length
        body.start = store.part.first
    return StoredResponse(
        key=key,
        head=store.head,
        body=body,
        length=length,
        control=store.control,
        lifetime=store.lifetime,
        lifetime_source=store.source,
        initial_age=store.initial_age,
        request_time=store.request_time,
        response_time=store.response_time,
        received=received,
        selecting=store.selecting,
        request_fields=store.request_fields,
        tags=store.tags,
    )


def _refuse(reason: Reason, request: RequestHead, response: ResponseHead) -> NoStore:
    return NoStore(reason, outdates=_outdates(reason, request, response))


def _outdates(reason: Reason, request: RequestHead, response: ResponseHead) -> bool:
    """The origin's word replaces what was stored, even where it may not be kept itself (RFC 9111 §4.3.3).

    Not so if it was given to a request of another kind, which the stored response would not have answered.
    """
    about_this_request = {
        Reason.NOT_STORED_METHOD,
        Reason.NOT_STORED_RULE,
        Reason.NOT_STORED_REQUEST,
        Reason.NOT_STORED_AUTHORIZATION,
        Reason.NOT_STORED_INTERIM,
        Reason.NOT_STORED_NOT_MODIFIED,
        Reason.NOT_STORED_PARTIAL,
    }
    if reason in about_this_request or response.status in TROUBLE or response.status in {206, 304, 412, 416}:
        return False
    return request.method == b"GET" and UNUSUAL.isdisjoint(request.fields.names())


# ---- reasons against -------------------------------------------------------------------------------------------------


def _refused_by_request(
    request: RequestHead, response: ResponseHead, control: CacheControl, rules: CacheRules
) -> Reason | None:
    if not rules.enabled:
        return Reason.NOT_STORED_RULE
    if request.method != b"GET" and not is_post_for_get(request, response):
        return Reason.NOT_STORED_METHOD
    fields = request.fields
    if not {b"expect", b"upgrade"}.isdisjoint(fields.names()):
        return Reason.NOT_STORED_METHOD  # hardening: such exchanges stay outside the store in both directions
    if rules.honour_request and b"cache-control" in fields:
        asked = parse_cache_control(fields.all(b"cache-control"))
        if asked.no_store or asked.malformed:
            return Reason.NOT_STORED_REQUEST
    if b"authorization" in fields and not _allows_authorization(control):
        return Reason.NOT_STORED_AUTHORIZATION
    ids = keys.session_ids(request, rules)
    if ids and (not rules.drop_session_from_key or len(ids) > SESSION_IDS_MAX):
        return Reason.NOT_STORED_SESSION
    return None


def _allows_authorization(control: CacheControl) -> bool:
    """RFC 9111 §3.5."""
    return control.public or control.must_revalidate or control.s_maxage is not None


def is_post_for_get(request: RequestHead, response: ResponseHead) -> bool:
    """A POST whose answer says that it is what a GET would bring (RFC 9110 §9.3.3); the lifetime is looked at later."""
    if request.method != b"POST" or response.status not in {200, 203}:
        return False
    location = response.fields.get(b"content-location")
    own = _uri(request)
    return location is not None and _resolve(own, location) == own


def _refused_by_response(response: ResponseHead, control: CacheControl, rules: CacheRules) -> Reason | None:
    status = response.status
    if status < 200:
        return Reason.NOT_STORED_INTERIM
    if status == 304:
        return Reason.NOT_STORED_NOT_MODIFIED
    if status == 206 and not rules.partial:
        return Reason.NOT_STORED_PARTIAL
    if control.malformed:
        return Reason.NOT_STORED_MALFORMED
    if control.must_understand:
        if status not in UNDERSTOOD and status != 206:
            return Reason.NOT_STORED_STATUS
    elif control.no_store:
        return Reason.NOT_STORED_NO_STORE
    if control.private:
        return Reason.NOT_STORED_PRIVATE
    announced = response.fields.get(b"content-length") or b""
    if announced.isdigit() and (len(announced) > 18 or int(announced) > rules.max_object):
        return Reason.NOT_STORED_SIZE
    return None


def _refused_by_freshness(
    request: RequestHead, response: ResponseHead, fields: Fields, govern: Governing, span: Lifetime, rules: CacheRules
) -> Reason | None:
    control, status = govern.control, response.status
    if b"set-cookie" in fields and (reason := _refused_by_cookie(fields, span, rules)):
        return reason
    if _session_is_told(request, fields, rules):
        return Reason.NOT_STORED_SESSION
    if status == 206 and (not span.explicit or not _is_consistent_part(request, response)):
        return Reason.NOT_STORED_PARTIAL
    if request.method == b"POST" and not span.explicit:
        return Reason.NOT_STORED_METHOD
    if _is_error(status) and not (_is_plain(request) and (span.explicit or span.source == "rule")):
        return Reason.NOT_STORED_ERROR
    if span.source == "none" and not control.public and status not in HEURISTIC_STATUSES:
        return Reason.NOT_STORED_NOTHING_SAID
    if b"etag" in fields or b"last-modified" in fields:
        return None
    if span.source == "none" or control.no_cache or (span.seconds <= 0 and control.never_stale):
        return Reason.NOT_STORED_NOTHING_SAID  # neither to be reused nor to be validated, ever
    return None


_SPEAKING = frozenset({b"expires", b"etag", b"last-modified"})


def _says_nothing(response: ResponseHead, control: CacheControl, rules: CacheRules) -> bool:
    """The short way for most dynamic pages: no lifetime, no validator, and no rule that could give one."""
    silent = not control.explicit and rules.ttl is None and not rules.status_ttl
    return silent and _SPEAKING.isdisjoint(response.fields.names())


def _is_error(status: int) -> bool:
    """An error that the request may have caused by itself: it must not answer for others unless the origin says so
    clearly.
    """
    return (400 <= status < 500 and status not in {404, 410}) or status in {501, 505}


def _is_plain(request: RequestHead) -> bool:
    lines = request.fields.lines
    size = len(request.target) + sum(len(name) + len(value) + 4 for name, value in lines)
    return size < PLAIN_HEAD_MAX and UNUSUAL.isdisjoint(request.fields.names())


def is_personal(asked: Fields, fields: Fields, rules: CacheRules) -> bool:
    """Request or response carry cookies or credentials: no lifetime of ours is for these."""
    return b"authorization" in asked or b"set-cookie" in fields or cookies.are_personal(asked, rules)


def _refused_by_cookie(fields: Fields, span: Lifetime, rules: CacheRules) -> Reason | None:
    """Set-Cookie is replayed only with explicit freshness (RFC 9111 §7.3), and never one that is a session."""
    if not span.explicit or rules.set_cookie == "skip":
        return Reason.NOT_STORED_COOKIE
    sessions = tuple(sorted(name.lower() for name in rules.session_cookies))
    for value in fields.all(b"set-cookie"):
        name = value.partition(b"=")[0].strip(b" \t").lower()
        if any_matches(sessions, name.removeprefix(b"__host-").removeprefix(b"__secure-")):
            return Reason.NOT_STORED_SESSION
    return None


def keeps_cookies(fields: Fields, span: Lifetime, rules: CacheRules) -> bool:
    """Set-Cookie among these fields is stored with them, or there is none."""
    if b"set-cookie" not in fields:
        return True
    return rules.set_cookie == "store" and _refused_by_cookie(fields, span, rules) is None


def _session_is_told(request: RequestHead, fields: Fields, rules: CacheRules) -> bool:
    """A field repeats the session id that was left out of the key, or hands one out as a path parameter (a Location, a
    Link).
    """
    if not rules.session_arguments:
        return False
    told = b"\n".join([value for name, value in fields.lines if len(name) != 10 or name.lower() != b"set-cookie"])
    ids = keys.session_ids(request, rules)
    if any(one in told for one in ids):
        return True
    told = told.lower()
    for name in rules.session_arguments:
        at = told.find(name + b"=")
        while at >= 0:
            if told[at - 1 : at] in {b";", b"?", b"&"}:
                return True
            at = told.find(name + b"=", at + 1)
    return False


def _is_consistent_part(request: RequestHead, response: ResponseHead) -> bool:
    """One range of bytes, as announced, in answer to a Range (RFC 9110 §15.3.7.1); the span is checked against the
    length.
    """
    part = parse_content_range(response.fields.get(b"content-range"))
    if part is None or parse_range(request.fields.get(b"range")) is None or b"if-range" in request.fields:
        return False  # the answer to If-Range leaves out fields that the client knows (RFC 9110 §15.3.7)
    announced = response.fields.get(b"content-length")
    return announced is None or announced == b"%d" % (part.last - part.first + 1)


# ---- what is stored --------------------------------------------------------------------------------------------------


def storable_fields(fields: Fields, control: CacheControl, rules: CacheRules) -> Fields:
    """The response's fields less those never stored, those that are private, and those that a rule leaves out."""
    drop = UNSTORED | control.private_fields
    if b"connection" in fields:
        drop |= nameable(parse_options(fields.all(b"connection")))
    if rules.ignore_cookies:
        drop |= {b"set-cookie"}
    return fields.without(drop)


def for_the_asker(response: ResponseHead, store: Store, rules: CacheRules) -> tuple[Line, ...]:
    """Lines of the response that its own request gets beside those stored: Age, private fields, a cookie left out of
    the store.
    """
    stored = store.head.fields
    alone = store.control.private_fields | {b"age", b"set-cookie"}
    if rules.ignore_cookies:
        alone -= {b"set-cookie"}
    return tuple(
        (name, value)
        for name, value in response.fields.lines
        if (key := name.lower()) in alone and key not in stored and key not in HOP_BY_HOP
    )


def _varying(response: ResponseHead, variants: Sequence[StoredResponse]) -> tuple[bytes, ...] | None:
    """The names that select among responses: of Vary, or where it is missing, of the latest one seen (RFC 9111
    §4.1).
    """
    lines = response.fields.all(b"vary")
    return parse_vary(lines) if lines else keys.governing(variants) or ()


def fields_named(fields: Fields, names: Sequence[bytes]) -> Fields | None:
    """The request's lines that Vary names, kept for refreshes of our own; None where there are none."""
    lines = tuple(line for line in fields.lines if line[0].lower() in names) if names else ()
    return Fields(lines) if lines else None


def tags_of(request: RequestHead, response: ResponseHead, rules: CacheRules = DEFAULT_RULES) -> tuple[bytes, ...]:
    """Tags for purges: Cache-Tag, Surrogate-Key, xkey; and the groups of this origin (RFC 9875 §2)."""
    fields = response.fields
    tags = [part for value in fields.all(b"cache-tag") for part in value.replace(b",", b" ").split()]
    tags += [part for name in (b"surrogate-key", b"xkey") for value in fields.all(name) for part in value.split()]
    tags += _groups(request, fields.all(b"cache-groups"), rules)
    return tuple(dict.fromkeys(tags))[:TAGS_MAX]


def _groups(request: RequestHead, lines: list[bytes], rules: CacheRules) -> list[bytes]:
    members = structured.parse_list(b", ".join(lines)) if lines else None
    origin = rules.space + request.scheme + b"://" + request.authority + b" "
    return [origin + group.encode() for group in members or () if type(group) is structured.String]


# ---- invalidation (RFC 9111 §4.4) ------------------------------------------------------------------------------------


def invalidated(request: RequestHead, response: ResponseHead, rules: CacheRules = DEFAULT_RULES) -> list[bytes]:
    """The keys that a non-error answer to an unsafe request invalidates: the target's, and those of Location and
    Content-Location where they have the same origin. A site with `key_fields` has more keys behind each of them.
    """
    if request.method in SAFE or not 200 <= response.status < 400:
        return []
    own = _uri(request)
    found = [keys.primary_key(request, rules).partition(b"\n")[0]]
    for name in (b"location", b"content-location"):
        location = response.fields.get(name)
        other = None if location is None else _resolve(own, location)
        if other is not None and other[:2] == own[:2]:
            found.append(rules.space + keys.uri_key(*other))
    return list(dict.fromkeys(found))


def invalidated_groups(
    request: RequestHead, response: ResponseHead, rules: CacheRules = DEFAULT_RULES
) -> tuple[bytes, ...]:
    """The tags whose responses go, by Cache-Group-Invalidation in the answer to an unsafe request (RFC 9875 §3)."""
    if request.method in SAFE or not 200 <= response.status < 400:
        return ()
    return tuple(_groups(request, response.fields.all(b"cache-group-invalidation"), rules))


Uri = tuple[bytes, bytes, bytes, bytes | None]


def _uri(request: RequestHead) -> Uri:
    return request.scheme, request.authority, request.path or b"/", request.query


def _resolve(base: Uri, reference: bytes) -> Uri | None:
    """A reference against a base, its authority normalised; None for what is no http(s) URI (RFC 3986 §5.2, §6.2.3)."""
    scheme, authority, path, query = base
    text = (scheme + b"://" + authority + path + (b"" if query is None else b"?" + query)).decode("latin-1")
    try:
        parts = urlsplit(urljoin(text, reference.decode("latin-1")))
        port = parts.port
    except ValueError:
        return None
    host = (parts.hostname or "").lower()
    if parts.scheme not in {"http", "https"} or not host or parts.username is not None:
        return None
    host = f"[{host}]" if ":" in host else host
    default = 443 if parts.scheme == "https" else 80
    netloc = host if port in {None, default} else f"{host}:{port}"
    asked = "?" in reference.decode("latin-1").partition("#")[0] or (not reference and query is not None)
    return (
        parts.scheme.encode(),
        netloc.encode("latin-1"),
        (parts.path or "/").encode("latin-1"),
        parts.query.encode("latin-1") if parts.query or asked else None,
    )
