"""The health of one peer as traces: time is a number, evidence comes in, standing comes out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.schema import Ejection, Health
from config.units import Duration
from proxy import errors
from proxy.upstream.health import (
    LEAST_SHARE,
    Checks,
    Evidence,
    PeerHealth,
    Standing,
    Why,
    after_evidence,
    after_start,
    after_verdict,
    count_check,
    evidence_of,
    may_serve,
    share_of,
)

GOOD, BAD, NONE = Evidence.GOOD, Evidence.BAD, Evidence.NONE
UP, EJECTED, PROBING, FAILED = Standing.UP, Standing.EJECTED, Standing.PROBING, Standing.FAILED
EJECT = Ejection(failures=3, time=Duration(10.0), slow_start=Duration(20.0))


def trace(*steps, eject=EJECT, health=None):
    """Each step is (time, evidence or "start" or "up" or "down", standing after it)."""
    health = health or PeerHealth()
    for now, event, standing in steps:
        match event:
            case Evidence():
                health = after_evidence(health, event, now, eject)
            case "start":
                health = after_start(health)
            case "up" | "down":
                health = after_verdict(health, up=event == "up", now=now)
        assert health.standing is standing, (now, event, health)
    return health


def test_failures_in_a_row_eject_and_a_success_between_them_does_not():
    health = trace((0, BAD, UP), (1, BAD, UP), (2, GOOD, UP), (3, BAD, UP), (4, BAD, UP), (5, BAD, EJECTED))
    assert health.why is Why.FAILURES
    assert health.until == 15.0


def test_what_is_not_the_peers_fault_counts_for_nothing():
    assert trace((0, BAD, UP), (1, BAD, UP), (2, NONE, UP)).failures == 2


def test_ejection_can_be_switched_off():
    trace(*((now, BAD, UP) for now in range(100)), eject=Ejection(failures=0))


def test_one_request_probes_and_brings_the_peer_back():
    health = trace((0, BAD, UP), (0, BAD, UP), (0, BAD, EJECTED))
    assert not may_serve(health, 9.9)
    assert may_serve(health, 10.0)
    health = trace((10, "start", PROBING), health=health)
    assert not may_serve(health, 11.0)  # one only
    health = trace((11, GOOD, UP), health=health)
    assert health.why is Why.PROBE_PASSED
    assert may_serve(health, 11.0)


def test_each_failed_probe_doubles_the_time_up_to_eight_times():
    health = trace((0, BAD, UP), (0, BAD, UP), (0, BAD, EJECTED))
    spans = [health.until]
    for _ in range(5):
        now = health.until
        health = trace((now, "start", PROBING), (now, BAD, EJECTED), health=health)
        spans.append(health.until - now)
    assert spans == [10, 20, 40, 80, 80, 80]
    assert health.why is Why.PROBE_FAILED


def test_a_probe_that_ends_undecided_lets_the_next_request_probe():
    health = trace((0, BAD, UP), (0, BAD, UP), (0, BAD, EJECTED), (12, "start", PROBING), (13, NONE, EJECTED))
    assert may_serve(health, 13.0)


def test_a_peer_tried_before_its_time_is_not_punished_for_it():
    health = trace((0, BAD, UP), (0, BAD, UP), (0, BAD, EJECTED), (1, "start", PROBING), (2, BAD, EJECTED))
    assert health.until == 10.0


def test_a_relapse_soon_after_the_return_lasts_longer_and_a_late_one_does_not():
    back = trace((0, BAD, UP), (0, BAD, UP), (0, BAD, EJECTED), (10, "start", PROBING), (10, GOOD, UP))
    soon = trace((12, BAD, UP), (12, BAD, UP), (12, BAD, EJECTED), health=back)
    assert soon.until == 32.0
    late = trace((40, BAD, UP), (40, BAD, UP), (40, BAD, EJECTED), health=back)
    assert late.until == 50.0


def test_late_news_of_older_requests_change_nothing_while_ejected_or_failed():
    trace((0, BAD, UP), (0, BAD, UP), (0, BAD, EJECTED), (1, GOOD, EJECTED), (1, BAD, EJECTED))
    trace((0, "down", FAILED), (1, GOOD, FAILED), (1, BAD, FAILED), (1, "start", FAILED))


def test_the_active_check_leaves_out_and_brings_back():
    health = trace((0, "down", FAILED), (1, "down", FAILED))
    assert health.why is Why.CHECK_FAILED
    assert not may_serve(health, 1e9)
    assert trace((5, "up", UP), health=health).why is Why.CHECK_PASSED


def test_a_good_check_ends_no_ejection_and_repeats_itself_without_effect():
    ejected = trace((0, BAD, UP), (0, BAD, UP), (0, BAD, EJECTED), (1, "up", EJECTED))
    assert ejected.until == 10.0
    assert after_verdict(PeerHealth(), up=True, now=3.0) == PeerHealth()


def test_a_returning_peer_takes_its_share_slowly():
    back = trace((0, "down", FAILED), (100, "up", UP))
    assert [share_of(back, 100.0 + at, 20.0) for at in (0, 1, 10, 20, 30)] == [LEAST_SHARE, LEAST_SHARE, 0.5, 1.0, 1.0]
    assert share_of(back, 100.0, 0.0) == 1.0
    assert share_of(PeerHealth(), 0.0, 20.0) == 1.0  # at start everybody is there


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 5), st.sampled_from([GOOD, BAD, NONE, "start", "up", "down"])), max_size=60))
def test_an_ejection_never_lasts_longer_than_eight_times_and_a_share_stays_a_share(events):
    health, now = PeerHealth(), 0.0
    for wait, event in events:
        now += wait
        match event:
            case Evidence():
                health = after_evidence(health, event, now, EJECT)
            case "start":
                health = after_start(health)
            case _:
                health = after_verdict(health, up=event == "up", now=now)
        assert health.until <= now + 80.0
        assert LEAST_SHARE <= share_of(health, now, 20.0) <= 1.0
        assert health.failures < EJECT.failures


@pytest.mark.parametrize(
    ("kind", "evidence"),
    [
        (None, GOOD),
        (errors.CONNECT_ERROR, BAD),
        (errors.CONNECT_TIMEOUT, BAD),
        (errors.DNS_ERROR, BAD),
        (errors.TLS_ERROR, BAD),
        (errors.FIRST_BYTE_TIMEOUT, BAD),
        (errors.RESPONSE_CUT, BAD),
        (errors.BAD_RESPONSE, BAD),
        (errors.UPSTREAM_CLOSED, BAD),
        (errors.CLIENT_GONE, NONE),
        (errors.TOO_MANY, NONE),
        (errors.INTERNAL, NONE),
        (errors.NO_UPSTREAM, NONE),
        (errors.RESPONSE_HEAD_TOO_LARGE, NONE),
    ],
)
def test_only_what_the_peer_did_speaks_against_it(kind, evidence):
    assert evidence_of(kind) is evidence


@pytest.mark.rfc("9112", "9.5")
def test_a_kept_connection_that_closes_in_the_race_is_no_failure():
    assert evidence_of(errors.UPSTREAM_CLOSED, reused=True) is NONE
    assert evidence_of(errors.RESPONSE_CUT, reused=True) is BAD


@pytest.mark.parametrize(
    ("row", "up"),
    [
        ("g", True),
        ("b", None),
        ("bb", False),
        ("bg", True),
        ("gb", True),
        ("gbb", False),
        ("gbbg", False),
        ("gbbgg", False),
        ("gbbggg", True),
        ("gbbggbggg", True),
        ("gbbggbgg", False),
    ],
)
def test_checks_count_in_rows_of_rise_and_fall(row, up):
    checks, config = Checks(), Health(rise=3, fall=2)
    for letter in row:
        checks = count_check(checks, good=letter == "g", health=config)
    assert checks.up is up
