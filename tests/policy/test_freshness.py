"""Freshness lifetime and age: F1 to F9, the heuristic, A1 to A6, and the targeted fields of T1 to T5."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.fields import format_date
from proxy.policy import freshness
from proxy.policy.rules import CacheRules
from tests.policy.heads import NOW, RULES, date, kept, reply


def D(offset):  # noqa: N802 - a date as text
    return date(offset).decode()


def lifetime(*fields, status=200, rules=RULES, personal=False):
    response = reply(*fields, status=status)
    span = freshness.lifetime(freshness.governing(response.fields, rules), response, NOW, rules, personal=personal)
    return span.source, span.seconds


def age(*fields, delay=0.0, rules=RULES):
    return freshness.initial_age(reply(*fields).fields, NOW - delay, NOW, rules)


@pytest.mark.rfc("9111", "4.2.1")
@pytest.mark.parametrize(
    ("fields", "source", "seconds"),
    [
        (["Cache-Control: max-age=10"], "max-age", 10),
        (["Cache-Control: s-maxage=5, max-age=10"], "s-maxage", 5),  # F2
        (["Cache-Control: max-age=0", "Cache-Control: s-maxage=50", f"Expires: {D(-9)}"], "s-maxage", 50),
        (["Cache-Control: s-maxage=x, max-age=10"], "s-maxage", 0),
        (["Cache-Control: max-age=10", f"Expires: {D(-9)}"], "max-age", 10),  # F3
        (["Cache-Control: max-age=10", "Expires: 0"], "max-age", 10),
        (["Cache-Control: max-age=0", f"Expires: {D(99)}"], "max-age", 0),  # F4
        (["Cache-Control: max-age=2147483647"], "max-age", 2**31 - 1),  # F5
        (["Cache-Control: max-age=2147483648"], "max-age", 2**31),
        (["Cache-Control: max-age=2147483649"], "max-age", 2**31),
        (["Cache-Control: max-age=99999999999"], "max-age", 2**31),
        ([f"Expires: {D(30)}", f"Date: {D(10)}"], "expires", 20),  # F6
        ([f"Expires: {D(-10)}", f"Date: {D(-30)}"], "expires", 20),
        ([f"Expires: {D(30)}", f"Date: {D(30)}"], "expires", 0),
        ([f"Expires: {D(30)}", f"Date: {D(60)}"], "expires", 0),
        ([f"Expires: {D(30)}"], "expires", 30),
        ([f"Expires: {D(30)}", "Date: nonsense"], "expires", 30),
        (["Expires: 0"], "expires", 0),
        ([f"Expires: {D(30)}", f"Expires: {D(30)}"], "expires", 0),
        ([], "none", 0),  # F8
        (["Cache-Control: public"], "none", 0),
    ],
)
def test_the_lifetime_is_the_first_of_its_sources(fields, source, seconds):
    """F1 to F6, F8."""
    assert lifetime(*fields) == (source, seconds)


@pytest.mark.rfc("9111", "4.2.1")
def test_a_response_is_fresh_while_its_lifetime_is_greater_than_its_age():
    """F1, F7."""
    stored = kept("Cache-Control: max-age=10")
    assert freshness.remaining(stored, 9.75) > 0
    assert freshness.remaining(stored, 10.0) == 0
    assert freshness.remaining(kept("Cache-Control: max-age=10", "Age: 11"), 0.0) < 0


# ---- heuristics (RFC 9111 §4.2.2) ------------------------------------------------------------------------------------


@pytest.mark.rfc("9111", "4.2.2")
@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308, 404, 410])
def test_a_guess_is_a_tenth_of_the_time_since_the_last_modification(status):
    assert lifetime(f"Last-Modified: {D(-1000)}", f"Date: {D(0)}", status=status) == ("heuristic", 100)


@pytest.mark.rfc("9110", "15.1")
@pytest.mark.parametrize("status", [201, 202, 302, 303, 307, 400, 403, 500, 503, 599])
def test_other_statuses_are_guessed_at_only_if_public(status):
    assert lifetime(f"Last-Modified: {D(-1000)}", status=status) == ("none", 0)
    assert lifetime(f"Last-Modified: {D(-1000)}", "Cache-Control: public", status=status) == ("heuristic", 100)


@pytest.mark.rfc("9111", "4.2.2")
def test_a_guess_gives_way_to_any_explicit_lifetime_and_has_a_bound():
    old = f"Last-Modified: {D(-1000)}"
    assert lifetime(old, "Cache-Control: max-age=x") == ("max-age", 0)
    assert lifetime(old, "Expires: nonsense") == ("expires", 0)
    assert lifetime("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT") == ("heuristic", 86400)
    assert lifetime(f"Last-Modified: {D(50)}") == ("none", 0)
    assert lifetime("Last-Modified: nonsense") == ("none", 0)


@pytest.mark.rfc("9111", "5.4")
def test_pragma_keeps_us_from_guessing_and_from_nothing_else():
    """Q3."""
    assert lifetime(f"Last-Modified: {D(-1000)}", "Pragma: no-cache") == ("none", 0)
    assert lifetime("Pragma: no-cache", rules=CacheRules(ttl=5)) == ("none", 0)
    assert lifetime("Pragma: no-cache", "Cache-Control: max-age=5") == ("max-age", 5)


def test_a_rule_gives_a_lifetime_where_the_origin_gives_none():
    """Hardening K3, C4."""
    rules = CacheRules(ttl=5.0, status_ttl=((404, 2.0),))
    assert lifetime(rules=rules) == ("rule", 5)
    assert lifetime(f"Last-Modified: {D(-1000)}", rules=rules) == ("rule", 5)
    assert lifetime("Cache-Control: max-age=1", rules=rules) == ("max-age", 1)
    assert lifetime(rules=rules, personal=True) == ("none", 0)
    assert lifetime(rules=rules, status=404) == ("rule", 2)
    assert lifetime(rules=rules, status=500) == ("none", 0)


# ---- targeted fields -------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9213", "2.2")
@pytest.mark.parametrize(
    ("fields", "source", "seconds"),
    [
        (["CDN-Cache-Control: max-age=9", "Cache-Control: max-age=1"], "max-age", 9),
        (["CDN-Cache-Control: max-age=1", "Cache-Control: s-maxage=9"], "max-age", 1),
        (["CDN-Cache-Control: max-age=9", "Cache-Control: no-store", "Expires: 0"], "max-age", 9),
        (["CDN-Cache-Control: max-age=9", "Tandem-Cache-Control: max-age=5"], "max-age", 5),
        (["CDN-Cache-Control: max-age=9", 'Tandem-Cache-Control: max-age="5"'], "max-age", 9),
        (["CDN-Cache-Control:", "Cache-Control: max-age=1"], "max-age", 1),
        (["CDN-Cache-Control: max-age=9, &", "Cache-Control: max-age=1"], "max-age", 1),
        (["CDN-Cache-Control: foo", f"Expires: {D(9)}"], "none", 0),
        (["Surrogate-Control: max-age=9+5", "Cache-Control: max-age=1"], "max-age", 1),
    ],
)
def test_a_targeted_field_alone_speaks(fields, source, seconds):
    """T1, T2."""
    assert lifetime(*fields) == (source, seconds)


def test_surrogate_control_is_heard_only_if_asked_for_and_after_targeted_fields():
    """T5."""
    rules = CacheRules(surrogate=True)
    assert lifetime("Surrogate-Control: max-age=9", "Cache-Control: max-age=1", rules=rules) == ("max-age", 9)
    assert lifetime("Surrogate-Control: max-age=9", "CDN-Cache-Control: max-age=1", rules=rules) == ("max-age", 1)


# ---- age -------------------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9111", "4.2.3")
def test_the_initial_age_is_the_larger_of_date_and_age():
    """A2, A4, A5."""
    assert age() == 0
    assert age("Age: 30") == 30
    assert age("Age: 30", delay=2.0) == 32
    assert age(f"Date: {D(-50)}") == 50
    assert age(f"Date: {D(-50)}", "Age: 30") == 50
    assert age(f"Date: {D(-50)}", "Age: 60", delay=1.0) == 61
    assert age(f"Date: {D(50)}") == 0
    assert age("Age: nonsense", f"Date: {D(-5)}") == 5
    assert age("Age: 99999999999999999999") == 2**31
    assert age(f"Date: {D(-50)}", "Age: 30", rules=CacheRules(trust_age=True)) == 30


def test_a_slow_clock_is_noticed():
    """A2."""
    assert freshness.clock_is_slow(reply(f"Date: {D(-3600)}").fields, NOW)
    assert not freshness.clock_is_slow(reply(f"Date: {D(-3600)}", "Age: 3600").fields, NOW)
    assert not freshness.clock_is_slow(reply(f"Date: {D(-5)}").fields, NOW)


@pytest.mark.rfc("9111", "5.1")
def test_age_is_told_in_whole_seconds_and_has_a_greatest_value():
    """A3, A6."""
    stored = kept("Cache-Control: max-age=10", "Age: 3", received=100.0)
    assert [freshness.age_value(stored, now) for now in (100.0, 100.9, 101.0, 108.5)] == [3, 3, 4, 11]
    assert freshness.age_value(kept("Cache-Control: max-age=9", "Age: 99999999999"), 50.0) == 2**31


@given(st.integers(0, 10**6), st.floats(0, 10**6), st.floats(0, 10**6))
def test_age_never_falls_and_nothing_is_fresh_past_its_lifetime(arrived, earlier, later):
    stored = kept("Cache-Control: max-age=1000", f"Age: {arrived}")
    earlier, later = sorted((earlier, later))
    assert freshness.current_age(stored, earlier) <= freshness.current_age(stored, later)
    assert freshness.current_age(stored, -1.0) == arrived
    assert (freshness.remaining(stored, later) > 0) == (arrived + later < 1000)


@given(st.integers(-(10**7), 10**7), st.integers(-(10**7), 10**7))
def test_expires_counts_from_the_responses_own_date(expires, own):
    assert lifetime(f"Expires: {format_date(NOW + expires).decode()}", f"Date: {D(own)}") == (
        "expires",
        max(0, expires - own),
    )


# ---- bounds by rule --------------------------------------------------------------------------------------------------

BOUNDS = CacheRules(min_ttl=10.0, max_ttl=60.0)


@pytest.mark.parametrize(
    ("fields", "more", "seconds"),
    [
        (["Cache-Control: max-age=1"], {}, 10),
        ([f"Expires: {D(-9)}"], {}, 10),
        (["Cache-Control: max-age=20"], {}, 20),
        (["Cache-Control: max-age=600"], {}, 60),
        (["Cache-Control: s-maxage=600"], {}, 60),
        (["CDN-Cache-Control: max-age=600"], {}, 60),
        (["CDN-Cache-Control: max-age=1"], {}, 1),
        (["Cache-Control: s-maxage=1"], {}, 1),
        (["Cache-Control: max-age=1, must-revalidate"], {}, 1),
        (["Cache-Control: max-age=1, no-cache"], {}, 1),
        (["Cache-Control: max-age=1"], {"personal": True}, 1),
        (["Cache-Control: max-age=1"], {"status": 404}, 1),
        ([], {}, 0),
    ],
)
def test_a_rules_bounds_hold_but_for_what_the_origin_insists_on(fields, more, seconds):
    assert lifetime(*fields, rules=BOUNDS, **more)[1] == seconds


def test_a_least_lifetime_may_be_for_some_statuses_alone():
    rules = CacheRules(min_ttl=10.0, min_ttl_of=frozenset({200, 206}))
    found = {status: lifetime("Cache-Control: max-age=1", rules=rules, status=status)[1] for status in (200, 206, 301)}
    assert found == {200: 10, 206: 10, 301: 1}
