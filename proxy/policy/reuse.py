"""May a stored response answer this request, and how: the verdicts of RFC 9111 §4, in its order.

Method, key and variant; no-cache in the stored response; what the request asks; fresh, or stale and allowed, or to be
validated.
A verdict is a pure function of the request head, the stored heads, the configuration and the time; it names its reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from proxy.http.fields import CacheControl, parse_cache_control
from proxy.policy import conditional
from proxy.policy import key as keys
from proxy.policy.freshness import TROUBLE, current_age
from proxy.policy.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from config.units import MonoTime
    from proxy.http.message import Fields, RequestHead
    from proxy.http.stored import StoredResponse
    from proxy.policy.rules import CacheRules


@dataclass(slots=True, frozen=True)
class Fresh:
    """Answer from the store."""

    stored: StoredResponse
    reason: ClassVar[Reason] = Reason.FRESH


@dataclass(slots=True, frozen=True)
class StaleUsable:
    """Answer from the store although stale; `refresh`: and fetch a newer one in the background, once per key (RFC 5861
    §3).
    """

    stored: StoredResponse
    reason: Reason
    refresh: bool


@dataclass(slots=True, frozen=True)
class Revalidate:
    """Ask the origin whether the stored response still holds, before answering (RFC 9111 §4.3)."""

    stored: StoredResponse
    reason: Reason


@dataclass(slots=True, frozen=True)
class Miss:
    """Nothing stored answers; `candidates` are variants of the key with an entity tag, among which a 304 may pick one
    (§4.3.1).
    """

    reason: Reason
    candidates: tuple[StoredResponse, ...] = ()


@dataclass(slots=True, frozen=True)
class Bypass:
    """The store has no say: forward, and store nothing."""

    reason: Reason


@dataclass(slots=True, frozen=True)
class OnlyIfCached:
    """The client wants no answer but one from the store, which has none: 504 (RFC 9111 §5.2.1.7). `because`: why it has
    none.
    """

    because: Reason
    reason: Reason = Reason.ONLY_IF_CACHED


Verdict = Fresh | StaleUsable | Revalidate | Miss | Bypass | OnlyIfCached

# A request without any of these is plain: its head has no say in whether a stored response may be used.
_SPOKEN = frozenset({b"cache-control", b"pragma", b"if-match", b"if-unmodified-since"})
_OUTSIDE = frozenset({b"expect", b"upgrade"})
_PRECONDITIONS = frozenset({b"if-match", b"if-unmodified-since"})
CANDIDATES_MAX = 32  # tags in one If-None-Match of ours

_UNASKED = CacheControl()
_NO_CACHE = CacheControl(no_cache=True)


def before_lookup(request: RequestHead, has_body: bool, rules: CacheRules) -> Bypass | None:
    """Exchanges that stay outside the store in both directions: nothing is looked up for them, and nothing of them is
    stored.
    """
    if not rules.enabled:
        return Bypass(Reason.CONFIGURED_BYPASS)
    if request.method not in {b"GET", b"HEAD"}:
        return Bypass(Reason.METHOD)
    if has_body:
        return Bypass(Reason.BODY)
    if not _OUTSIDE.isdisjoint(request.fields.names()):
        return Bypass(Reason.EXPECT if b"expect" in request.fields else Reason.UPGRADE)
    if rules.session_arguments and not rules.drop_session_from_key and keys.session_ids(request, rules):
        return Bypass(Reason.SESSION_IN_TARGET)
    return None


def decide(request: RequestHead, variants: Sequence[StoredResponse], now: MonoTime, rules: CacheRules) -> Verdict:
    """The verdict on one request and the variants stored under its key (RFC 9111 §4)."""
    if request.method not in {b"GET", b"HEAD"}:
        return Bypass(Reason.METHOD)
    if _SPOKEN.isdisjoint(request.fields.names()):
        return _judge(request, variants, now, rules, _UNASKED)
    asked = directives_asked(request.fields, rules)
    verdict: Verdict
    if _PRECONDITIONS.isdisjoint(request.fields.names()):
        verdict = _judge(request, variants, now, rules, asked)
    else:
        verdict = Bypass(Reason.IF_MATCH)  # the origin's to judge
    return _from_store_only(verdict) if asked.only_if_cached else verdict


def directives_asked(fields: Fields, rules: CacheRules) -> CacheControl:
    """The request's directives as far as they are honoured; `Pragma: no-cache` counts in their absence (RFC 9111
    §5.4).
    """
    if not rules.honour_request:
        return _UNASKED
    if b"cache-control" in fields:
        return parse_cache_control(fields.all(b"cache-control"))
    pragma = fields.get(b"pragma")
    if pragma is not None and parse_cache_control([pragma]).no_cache:
        return _NO_CACHE
    return _UNASKED


def _from_store_only(verdict: Verdict) -> Verdict:
    if isinstance(verdict, Fresh):
        return verdict
    if isinstance(verdict, StaleUsable):
        return StaleUsable(verdict.stored, verdict.reason, refresh=False)
    return OnlyIfCached(verdict.reason)


def _judge(
    request: RequestHead, variants: Sequence[StoredResponse], now: MonoTime, rules: CacheRules, asked: CacheControl
) -> Verdict:
    if not variants:
        return Miss(Reason.URI_MISS)
    stored = variants[0] if len(variants) == 1 and variants[0].selecting == () else keys.select(variants, request)
    if stored is None:
        tagged = tuple(one for one in variants if one.etag is not None and one.status != 206)
        return Miss(Reason.VARY_MISS, tagged[:CANDIDATES_MAX])
    if stored.status == 206 and not conditional.covers(stored, request):
        return Miss(Reason.PARTIAL, (stored,))
    control = stored.control
    if control.no_cache:
        return Revalidate(stored, Reason.RESPONSE_NO_CACHE)
    if stored.outdated:  # a soft purge: nothing but the origin's word makes it usable again
        return Revalidate(stored, Reason.STALE)
    if asked is _UNASKED and now < stored.fresh_until:
        return Fresh(stored)
    age = current_age(stored, now)
    if asked is _UNASKED:
        if stored.lifetime > age:
            return Fresh(stored)
    else:
        against = _refused_by_request(stored, age, asked, rules)
        if against is not None:
            return Revalidate(stored, against)
        if stored.lifetime > age:
            return Fresh(stored)
    return _stale(stored, age - stored.lifetime, asked, rules)


def _refused_by_request(stored: StoredResponse, age: float, asked: CacheControl, rules: CacheRules) -> Reason | None:
    """Which directive of the request forbids what is stored, fresh or stale (RFC 9111 §5.2.1)."""
    spared = rules.ignore_reload and stored.control.immutable and stored.lifetime > age
    if (asked.no_cache or asked.no_cache_fields) and not spared:
        return Reason.REQUEST_NO_CACHE
    # The client counts in whole seconds, as Age tells them; 0 asks for validation whatever the age.
    if asked.max_age is not None and (asked.max_age == 0 or int(age) > asked.max_age) and not spared:
        return Reason.REQUEST_MAX_AGE
    if asked.min_fresh is not None and stored.lifetime - age < asked.min_fresh:
        return Reason.REQUEST_MIN_FRESH
    return None


def is_due(stored: StoredResponse, now: MonoTime, rules: CacheRules) -> bool:
    """A hit so near to the end of freshness lets the response be renewed before; of a part nothing is renewed."""
    left = stored.lifetime - current_age(stored, now)
    return left < min(rules.refresh_ahead, stored.lifetime / 2) and stored.head.status != 206


def _stale(stored: StoredResponse, staleness: float, asked: CacheControl, rules: CacheRules) -> Verdict:
    """Stale answers without any failure (RFC 9111 §4.2.4, RFC 5861 §3)."""
    control = stored.control
    if control.never_stale:
        return Revalidate(stored, Reason.STALE)
    if asked.max_stale is not None and staleness <= asked.max_stale:
        return StaleUsable(stored, Reason.STALE_ALLOWED, refresh=False)
    window = control.stale_while_revalidate
    # A client that names the age it takes, takes nothing stale (RFC 9111 §5.2.1.1).
    if window is not None and staleness < window and asked.max_age is None:
        return StaleUsable(stored, Reason.STALE_WHILE_REVALIDATE, refresh=True)
    # An operator's allowance, where the origin has none of its own. What never was fresh has nothing to be prolonged.
    if window is None and staleness < rules.grace and stored.lifetime > 0 and asked.max_age is None:
        return StaleUsable(stored, Reason.GRACE, refresh=True)
    return Revalidate(stored, Reason.STALE)


def may_serve_on_error(stored: StoredResponse, now: MonoTime, rules: CacheRules, request: RequestHead) -> bool:
    """The origin failed, or answered with one of `freshness.TROUBLE`: may the stored response answer (RFC 9111 §4.2.4,
    RFC 5861 §4)?
    """
    control = stored.control
    if control.no_cache or stored.head.status in TROUBLE:
        return False  # an error is no answer in place of another
    staleness = current_age(stored, now) - stored.lifetime
    if staleness < 0:
        return True
    return not control.never_stale and staleness <= _error_window(
        control, directives_asked(request.fields, rules), rules
    )


def _error_window(control: CacheControl, asked: CacheControl, rules: CacheRules) -> float:
    windows = [window for window in (control.stale_if_error, asked.stale_if_error) if window is not None]
    return min(windows) if windows else rules.stale_on_error
