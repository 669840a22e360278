"""How long a response is fresh and how old it is (RFC 9111 §4.2, RFC 9213, RFC 5861).

Fresh means that the lifetime is greater than the age. Lifetimes are reckoned once, when a response is stored or
freshened; ages are
reckoned with a clock that cannot jump, so that they never fall.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from config.units import MonoTime, Seconds, WallTime
from proxy.http.fields import (
    CacheControl,
    parse_age,
    parse_cache_control,
    parse_date,
    parse_surrogate,
    parse_targeted,
)

if TYPE_CHECKING:
    from proxy.http.message import Fields, ResponseHead
    from proxy.http.stored import StoredResponse
    from proxy.policy.rules import CacheRules

AGE_MAX = 2**31  # the largest Age ever sent, RFC 9111 §1.2.2
HEURISTIC_FRACTION = 0.1  # of the time since the last modification, RFC 9111 §4.2.2
HEURISTIC_MAX = 86400.0  # departs: a day at most, so that a guess cannot outlive the notice of whoever changes a page
CLOCK_TOLERANCE = 60.0  # seconds by which an origin's clock may differ before it is worth a line in the log

# RFC 9110 §15.1; 206 has its own rules, and 405, 414, 501 are errors that one client could provoke for all others.
HEURISTIC_STATUSES = frozenset({200, 203, 204, 300, 301, 308, 404, 410})
# What a rule's lifetime covers: an error gets a lifetime of ours only by its own entry in `status_ttl`.
RULE_STATUSES = HEURISTIC_STATUSES - {404, 410}
# An origin that answers so is in trouble; what is stored may outlive it (RFC 9111 §4.3.3).
TROUBLE = frozenset({500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Governing:
    """The directives that govern a response, and whether a targeted field gave them and so silenced Expires and
    Pragma.
    """

    control: CacheControl
    targeted: bool
    field: bytes = b"cache-control"  # which gave them


def governing(fields: Fields, rules: CacheRules) -> Governing:
    """The first targeted field that is there, valid and not empty, else Cache-Control (RFC 9213 §2.2)."""
    for name in rules.targeted:
        if name in fields:
            control = parse_targeted(fields.all(name))
            if control is not None:
                return Governing(control, targeted=True, field=name)
    if rules.surrogate and b"surrogate-control" in fields:
        control = parse_surrogate(fields.all(b"surrogate-control"))
        if control is not None:
            return Governing(control, targeted=True, field=b"surrogate-control")
    return Governing(parse_cache_control(fields.all(b"cache-control")), targeted=False)


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A freshness lifetime and where it comes from: s-maxage, max-age, expires, heuristic, rule or none."""

    seconds: Seconds
    source: str

    @property
    def explicit(self) -> bool:
        return self.source in {"s-maxage", "max-age", "expires"}


NO_LIFETIME = Lifetime(Seconds(0.0), "none")


def lifetime(
    govern: Governing, response: ResponseHead, response_time: WallTime, rules: CacheRules, *, personal: bool = False
) -> Lifetime:
    """The first of s-maxage, max-age, Expires less Date, a rule's lifetime, a guess (RFC 9111 §4.2.1, §4.2.2); within
    the bounds of the rule.

    `personal`: request or response carry cookies or credentials, which no lifetime by rule covers.
    """
    span = _given(govern, response, response_time, rules, personal=personal)
    if rules.min_ttl is None and rules.max_ttl is None:
        return span
    seconds = span.seconds
    if rules.min_ttl is not None and not personal and _may_be_raised(govern, response.status, span, rules):
        seconds = max(seconds, Seconds(rules.min_ttl))
    if rules.max_ttl is not None:
        seconds = min(seconds, Seconds(rules.max_ttl))
    return Lifetime(seconds, span.source)


def _may_be_raised(govern: Governing, status: int, span: Lifetime, rules: CacheRules) -> bool:
    """The origin has said something, but not to shared caches in particular, nor that it insists (RFC 9111 §4.2.4)."""
    insists = govern.targeted or govern.control.never_stale
    return span.source != "none" and not insists and status in (rules.min_ttl_of or RULE_STATUSES)


def _given(
    govern: Governing, response: ResponseHead, response_time: WallTime, rules: CacheRules, *, personal: bool
) -> Lifetime:
    control, fields = govern.control, response.fields
    if control.s_maxage is not None:
        return Lifetime(Seconds(float(control.s_maxage)), "s-maxage")
    if control.max_age is not None:
        return Lifetime(Seconds(float(control.max_age)), "max-age")
    if not govern.targeted and b"expires" in fields:
        return Lifetime(_until_expires(fields, response_time), "expires")
    if not govern.targeted and b"no-cache" in (fields.get(b"pragma") or b"").lower():
        return NO_LIFETIME
    return _lifetime_by_rule(response.status, rules, personal=personal) or _guess(control, response, response_time)


def _until_expires(fields: Fields, response_time: WallTime) -> Seconds:
    """Expires less the response's own Date, so that the origin's clock need not be right; unreadable means expired
    (§5.3).
    """
    expires = parse_date(fields.get(b"expires"), response_time)
    return Seconds(0.0 if expires is None else max(0.0, expires - date_of(fields, response_time)))


def date_of(fields: Fields, response_time: WallTime) -> WallTime:
    """Date, or the time of receipt where it is missing or unreadable (RFC 9110 §6.6.1)."""
    date = parse_date(fields.get(b"date"), response_time)
    return response_time if date is None else date


def _lifetime_by_rule(status: int, rules: CacheRules, *, personal: bool) -> Lifetime | None:
    if personal:
        return None
    for code, seconds in rules.status_ttl:
        if code == status:
            return Lifetime(Seconds(seconds), "rule")
    if rules.ttl is not None and status in RULE_STATUSES:
        return Lifetime(Seconds(rules.ttl), "rule")
    return None


def _guess(control: CacheControl, response: ResponseHead, response_time: WallTime) -> Lifetime:
    if response.status not in HEURISTIC_STATUSES and not control.public:
        return NO_LIFETIME
    modified = parse_date(response.fields.get(b"last-modified"), response_time)
    if modified is None:
        return NO_LIFETIME
    unchanged = date_of(response.fields, response_time) - modified
    if unchanged <= 0:
        return NO_LIFETIME
    return Lifetime(Seconds(min(unchanged * HEURISTIC_FRACTION, HEURISTIC_MAX)), "heuristic")


# ---- age -------------------------------------------------------------------------------------------------------------


def initial_age(fields: Fields, request_time: WallTime, response_time: WallTime, rules: CacheRules) -> Seconds:
    """corrected_initial_age: the larger of what Date and what Age tell (RFC 9111 §4.2.3)."""
    corrected = (parse_age(fields.all(b"age")) or 0) + max(0.0, response_time - request_time)
    if rules.trust_age:
        return Seconds(corrected)
    return Seconds(max(corrected, response_time - date_of(fields, response_time)))


def clock_is_slow(fields: Fields, response_time: WallTime) -> bool:
    """Date lies in the past and no Age explains it: the origin loses its caching by a wrong clock, which deserves a
    line in the log.
    """
    return b"age" not in fields and response_time - date_of(fields, response_time) > CLOCK_TOLERANCE


def current_age(stored: StoredResponse, now: MonoTime) -> Seconds:
    """Age on arrival plus the time since receipt or the last validation (RFC 9111 §4.2.3)."""
    return Seconds(stored.initial_age + max(0.0, now - stored.received))


def remaining(stored: StoredResponse, now: MonoTime) -> Seconds:
    """Freshness left; zero and less is stale."""
    return Seconds(stored.lifetime - current_age(stored, now))


def age_value(stored: StoredResponse, now: MonoTime) -> int:
    """What the Age field of an answer from the store says: whole seconds (RFC 9111 §5.1)."""
    return min(int(current_age(stored, now)), AGE_MAX)
