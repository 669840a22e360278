"""What is known of one peer's health: evidence in, state out, with the reason as a value; `now` is an argument.

Two witnesses: active checks (counted by `count_check`, told to all workers as a Verdict) and the traffic of one
worker (`after_evidence`). Traffic ejects a peer after failures in a row, for a time that doubles up to 8 times; then
one request probes it, and its share grows back over `slow_start`. A status is the application's word and no failure:
one broken page must not put an origin aside; who wants statuses to count configures a check. What a pool does when
nobody is left: `pool.py`, the panic rule.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from proxy import errors

if TYPE_CHECKING:
    from config.schema import Ejection, Health
    from config.units import MonoTime
    from proxy.errors import Kind

LEAST_SHARE = 0.1  # of its weight, for a peer that has just returned: less would starve a small pool's probe
MOST_DOUBLINGS = 3  # 2 ** 3 = 8 times the configured time


class Evidence(Enum):
    """What one exchange says about its peer."""

    GOOD = "good"  # a whole response head arrived
    BAD = "bad"  # the peer could not be reached, fell silent, or did not speak HTTP
    NONE = "none"  # ended for reasons that are not the peer's


class Standing(Enum):
    UP = "up"
    EJECTED = "ejected"  # put aside after failures in traffic
    PROBING = "probing"  # ejected, and one request is trying it
    FAILED = "failed"  # left out by its active check


class Why(Enum):
    """The reason of a standing, as it is logged."""

    ASSUMED = "assumed"  # nothing is known yet
    FAILURES = "failures-in-a-row"
    PROBE_FAILED = "probe-failed"
    PROBE_SENT = "probe-sent"
    PROBE_UNDECIDED = "probe-undecided"
    PROBE_PASSED = "probe-passed"
    CHECK_FAILED = "check-failed"
    CHECK_PASSED = "check-passed"


@dataclass(frozen=True, slots=True)
class PeerHealth:
    """Invariant: `until` means something only while ejected or probing."""

    standing: Standing = Standing.UP
    why: Why = Why.ASSUMED
    failures: int = 0  # in a row, in traffic
    ejections: int = 0  # without a good spell between them
    until: float = 0.0  # end of the ejection
    since: float | None = None  # when it came back; slow start counts from here


@dataclass(frozen=True, slots=True)
class Verdict:
    """The word of the active check on one peer, as it travels to the workers."""

    pool: str
    address: str  # Origin.address
    up: bool
    detail: str = ""  # status or error, for logs


@dataclass(frozen=True, slots=True)
class Checks:
    """The checks of one peer so far; `up` is None until they have said something."""

    up: bool | None = None
    good: int = 0  # in a row
    bad: int = 0  # in a row


_NOT_THE_PEER = frozenset(
    {
        errors.NO_UPSTREAM.token,  # never got to a peer
        errors.UPSTREAM_BUSY.token,
        errors.STALE_CONNECTION.token,  # noticed before anything was asked
        errors.RESPONSE_HEAD_TOO_LARGE.token,  # an answer, only more than we take
        errors.UPGRADE_FAILED.token,
        errors.WHOLE_TIMEOUT.token,  # long, not silent
    }
)


def evidence_of(kind: Kind | None, *, reused: bool = False) -> Evidence:
    """What the end of an exchange says: None is a good answer of any status.

    `reused`: the request went out on a kept connection, whose closing is then the idle race (RFC 9112 §9.5).
    """
    if kind is None:
        return Evidence.GOOD
    if kind.source is not errors.Source.UPSTREAM or kind.token in _NOT_THE_PEER:
        return Evidence.NONE
    if reused and kind is errors.UPSTREAM_CLOSED:
        return Evidence.NONE
    return Evidence.BAD


def after_start(health: PeerHealth) -> PeerHealth:
    """A request goes to the peer: for an ejected one this is its probe."""
    if health.standing is Standing.EJECTED:
        return replace(health, standing=Standing.PROBING, why=Why.PROBE_SENT)
    return health


def after_evidence(health: PeerHealth, evidence: Evidence, now: MonoTime, eject: Ejection) -> PeerHealth:
    """The state after one exchange. While ejected or failed, late news of older requests changes nothing."""
    match health.standing:
        case Standing.UP:
            return _up_after(health, evidence, now, eject)
        case Standing.PROBING:
            return _probed(health, evidence, now, eject)
        case Standing.EJECTED | Standing.FAILED:
            return health


def _up_after(health: PeerHealth, evidence: Evidence, now: MonoTime, eject: Ejection) -> PeerHealth:
    if evidence is Evidence.NONE or (evidence is Evidence.GOOD and not health.failures):
        return health
    if evidence is Evidence.GOOD:
        return replace(health, failures=0)
    failures = health.failures + 1
    if not eject.failures or failures < eject.failures:
        return replace(health, failures=failures)
    return _ejected(Why.FAILURES, _ejections_to_count(health, now, eject), now, eject)


def _ejections_to_count(health: PeerHealth, now: MonoTime, eject: Ejection) -> int:
    """Earlier ejections are forgotten once the peer has been up for as long as the last of them lasted."""
    if health.since is None or now - health.since > _span(health.ejections - 1, eject):
        return 0
    return health.ejections


def _probed(health: PeerHealth, evidence: Evidence, now: MonoTime, eject: Ejection) -> PeerHealth:
    if evidence is Evidence.GOOD:
        return PeerHealth(Standing.UP, Why.PROBE_PASSED, ejections=health.ejections, since=now)
    if evidence is Evidence.BAD and now >= health.until:
        return _ejected(Why.PROBE_FAILED, health.ejections, now, eject)
    # Undecided, or tried before its time because nobody else was left (the panic rule): that costs it nothing.
    return replace(health, standing=Standing.EJECTED, why=Why.PROBE_UNDECIDED)


def _ejected(why: Why, ejections: int, now: MonoTime, eject: Ejection) -> PeerHealth:
    return PeerHealth(Standing.EJECTED, why, ejections=ejections + 1, until=now + _span(ejections, eject))


def _span(ejections: int, eject: Ejection) -> float:
    return float(eject.time) * float(1 << max(0, min(ejections, MOST_DOUBLINGS)))


def after_verdict(health: PeerHealth, *, up: bool, now: MonoTime) -> PeerHealth:
    """The state after the word of the active check; a good word ends no ejection, since traffic knows better."""
    if not up:
        return health if health.standing is Standing.FAILED else PeerHealth(Standing.FAILED, Why.CHECK_FAILED)
    if health.standing is Standing.FAILED:
        return PeerHealth(Standing.UP, Why.CHECK_PASSED, since=now)
    return health


def count_check(checks: Checks, *, good: bool, health: Health) -> Checks:
    """The checks after one more. The first of all is believed if good: nothing spoke against the peer before it."""
    if good:
        row = checks.good + 1
        up = True if checks.up is None or row >= health.rise else checks.up
        return Checks(up, good=row)
    row = checks.bad + 1
    return Checks(False if row >= health.fall else checks.up, bad=row)


def may_serve(health: PeerHealth, now: MonoTime) -> bool:
    """In use, or due for its one probe."""
    return health.standing is Standing.UP or (health.standing is Standing.EJECTED and now >= health.until)


def share_of(health: PeerHealth, now: MonoTime, slow_start: float) -> float:
    """The part of its weight that a peer gets now, LEAST_SHARE to 1 (slow start)."""
    if health.standing is not Standing.UP:
        return LEAST_SHARE
    if health.since is None or slow_start <= 0:
        return 1.0
    return min(1.0, max(LEAST_SHARE, (now - health.since) / slow_start))
