"""The verdicts: §7 to §9 of the caching rules (request directives, Pragma, stale answers) and Q1, Q2, St1 to St5."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy import reuse
from proxy.policy.freshness import current_age
from proxy.policy.reasons import Reason
from proxy.policy.reuse import Bypass, Fresh, Miss, OnlyIfCached, Revalidate, StaleUsable
from proxy.policy.rules import CacheRules
from proxy.policy.storing import NoStore
from tests.policy.heads import RULES, TOMCAT, decided, get, kept


def stored(control="max-age=60", *fields, **more):
    return kept(f"Cache-Control: {control}", 'ETag: "a"', *fields, **more)


def verdict(one, *asked, now=10.0, rules=RULES, method="GET"):
    return reuse.decide(get(*asked, method=method), [one], now, rules)


# ---- before the store ------------------------------------------------------------------------------------------------


def test_some_exchanges_stay_outside_the_store():
    """Hardening K2, K5."""
    before = reuse.before_lookup
    assert before(get("Cache-Control: no-cache"), False, RULES) is None
    assert before(get(method="HEAD"), False, RULES) is None
    assert before(get(method="POST"), False, RULES) == Bypass(Reason.METHOD)
    assert before(get(), True, RULES) == Bypass(Reason.BODY)
    assert before(get("Expect: 100-continue"), False, RULES) == Bypass(Reason.EXPECT)
    assert before(get("Upgrade: websocket"), False, RULES) == Bypass(Reason.UPGRADE)
    assert before(get(), False, CacheRules(enabled=False)) == Bypass(Reason.CONFIGURED_BYPASS)
    careful = CacheRules(session_arguments=frozenset({b"jsessionid"}))
    assert before(get(target="/a;jsessionid=1"), False, careful) == Bypass(Reason.SESSION_IN_TARGET)
    assert before(get(target="/a;jsessionid=1"), False, TOMCAT) is None


# ---- fresh, miss, no-cache -------------------------------------------------------------------------------------------


@pytest.mark.rfc("9111", "4")
def test_a_fresh_response_answers_get_and_head():
    """M1."""
    one = stored()
    assert verdict(one) == Fresh(one)
    assert verdict(one, method="HEAD") == Fresh(one)
    assert verdict(one, method="POST") == Bypass(Reason.METHOD)
    assert verdict(one, now=60.0) == Revalidate(one, Reason.STALE)
    assert verdict(stored("max-age=60, must-revalidate, proxy-revalidate")).reason is Reason.FRESH  # S5, V3


def test_nothing_stored_is_a_miss_and_other_variants_offer_their_tags():
    """K9."""
    assert reuse.decide(get(), [], 0.0, RULES) == Miss(Reason.URI_MISS)
    one = stored("max-age=60", "Vary: Foo")
    two = kept("Cache-Control: max-age=60", "Vary: Foo", request=get("Foo: 2"))
    assert reuse.decide(get("Foo: 3"), [one, two], 0.0, RULES) == Miss(Reason.VARY_MISS, (one,))


@pytest.mark.rfc("9111", "5.2.2.4")
def test_a_response_with_no_cache_is_validated_whatever_else_it_says():
    """S4, P10."""
    one = stored("no-cache, max-age=60, s-maxage=60")
    assert verdict(one) == Revalidate(one, Reason.RESPONSE_NO_CACHE)
    assert verdict(one, "Cache-Control: max-stale") == Revalidate(one, Reason.RESPONSE_NO_CACHE)
    assert isinstance(verdict(stored('no-cache="a", max-age=60')), Fresh)


def test_the_origin_judges_if_match():
    """I7."""
    assert verdict(stored(), 'If-Match: "a"') == Bypass(Reason.IF_MATCH)
    assert verdict(stored(), "If-Unmodified-Since: then") == Bypass(Reason.IF_MATCH)


# ---- what the request says (RFC 9111 §5.2.1) -------------------------------------------------------------------------


@pytest.mark.rfc("9111", "5.2.1")
@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("Cache-Control: max-age=10", Reason.FRESH),
        ("Cache-Control: max-age=9", Reason.REQUEST_MAX_AGE),
        ("Cache-Control: max-age=0", Reason.REQUEST_MAX_AGE),
        ("Cache-Control: max-age=x", Reason.REQUEST_MAX_AGE),
        ("Cache-Control: min-fresh=50", Reason.FRESH),
        ("Cache-Control: min-fresh=51", Reason.REQUEST_MIN_FRESH),
        ("Cache-Control: no-cache", Reason.REQUEST_NO_CACHE),
        ("Cache-Control: NO-CACHE=x", Reason.REQUEST_NO_CACHE),
        ("Cache-Control: no-store", Reason.FRESH),
        ("Cache-Control: only-if-cached", Reason.FRESH),
        ("Cache-Control: no-transform, foo=bar", Reason.FRESH),
        ("Cache-Control: max-stale=5", Reason.FRESH),
        ("Pragma: no-cache", Reason.REQUEST_NO_CACHE),
        ("Pragma: foo, No-Cache", Reason.REQUEST_NO_CACHE),
        ("Pragma: foo", Reason.FRESH),
    ],
)
def test_the_request_has_a_say(asked, reason):
    """§8, Q2."""
    assert verdict(stored(), asked).reason is reason


def test_max_age_zero_asks_even_in_the_second_of_arrival():
    assert verdict(stored(), "Cache-Control: max-age=0", now=0.0).reason is Reason.REQUEST_MAX_AGE


def test_age_on_arrival_counts_in_the_clients_sums():
    """Q1."""
    one = stored("max-age=3600", "Age: 1800")
    assert verdict(one, "Cache-Control: max-age=600").reason is Reason.REQUEST_MAX_AGE
    assert verdict(one, "Cache-Control: min-fresh=1795").reason is Reason.REQUEST_MIN_FRESH


@pytest.mark.rfc("9111", "5.4")
def test_pragma_counts_only_without_any_cache_control():
    """Q2."""
    assert isinstance(verdict(stored(), "Pragma: no-cache", "Cache-Control: foo"), Fresh)


def test_an_option_ignores_what_the_request_says():
    deaf = CacheRules(honour_request=False)
    for asked in (
        "Cache-Control: no-cache",
        "Pragma: no-cache",
        "Cache-Control: max-age=0",
        "Cache-Control: only-if-cached",
    ):
        assert isinstance(verdict(stored(), asked, rules=deaf), Fresh)
    assert isinstance(verdict(stored(), "Cache-Control: max-stale", now=99.0, rules=deaf), Revalidate)


@pytest.mark.rfc("9111", "5.2.1.2")
@pytest.mark.parametrize(
    ("asked", "now", "usable"),
    [("max-stale=5", 65.0, True), ("max-stale=5", 65.5, False), ("max-stale", 9e8, True), ("max-stale=x", 60.5, False)],
)
def test_max_stale_allows_as_much_as_it_says(asked, now, usable):
    one = stored()
    given_verdict = verdict(one, f"Cache-Control: {asked}", now=now)
    expected = StaleUsable(one, Reason.STALE_ALLOWED, refresh=False) if usable else Revalidate(one, Reason.STALE)
    assert given_verdict == expected


@pytest.mark.rfc("9111", "4.2.4")
@pytest.mark.parametrize("control", ["max-age=60, must-revalidate", "max-age=60, proxy-revalidate", "s-maxage=60"])
def test_no_max_stale_and_no_window_overrides_these(control):
    """St1."""
    one = stored(control + ", stale-while-revalidate=999, stale-if-error=999")
    assert verdict(one, "Cache-Control: max-stale", now=61.0) == Revalidate(one, Reason.STALE)
    assert verdict(one, now=61.0) == Revalidate(one, Reason.STALE)
    assert not reuse.may_serve_on_error(one, 61.0, RULES, get())
    assert reuse.may_serve_on_error(one, 59.0, RULES, get())


@pytest.mark.rfc("9111", "5.2.1.7")
def test_only_if_cached_does_not_ask_onward_with_a_condition_that_is_the_origins_to_judge():
    assert verdict(stored(), "Cache-Control: only-if-cached", 'If-Match: "a"') == OnlyIfCached(Reason.IF_MATCH)


@pytest.mark.rfc("9111", "5.2.1.7")
def test_only_if_cached_never_asks_onward():
    one = stored("max-age=60, stale-while-revalidate=60")
    asked = "Cache-Control: only-if-cached"
    assert reuse.decide(get(asked), [], 0.0, RULES) == OnlyIfCached(Reason.URI_MISS)
    assert verdict(one, asked, now=200.0) == OnlyIfCached(Reason.STALE)
    assert verdict(one, asked + ", no-cache") == OnlyIfCached(Reason.REQUEST_NO_CACHE)
    assert verdict(one, asked, now=61.0) == StaleUsable(one, Reason.STALE_WHILE_REVALIDATE, refresh=False)
    assert verdict(one, asked + ", max-stale", now=200.0) == StaleUsable(one, Reason.STALE_ALLOWED, refresh=False)


@pytest.mark.rfc("8246", "2")
def test_a_reload_of_what_is_immutable_is_honoured_unless_an_option_spares_the_origin():
    """T6."""
    one, sparing = stored("max-age=60, immutable"), CacheRules(ignore_reload=True)
    for asked in ("Cache-Control: no-cache", "Cache-Control: max-age=0"):
        assert isinstance(verdict(one, asked), Revalidate)
        assert isinstance(verdict(one, asked, rules=sparing), Fresh)
        assert isinstance(verdict(stored(), asked, rules=sparing), Revalidate)
        assert isinstance(verdict(one, asked, rules=sparing, now=61.0), Revalidate)


# ---- stale (RFC 5861) ------------------------------------------------------------------------------------------------


@pytest.mark.rfc("5861", "3")
def test_stale_while_revalidate_answers_at_once_and_never_past_its_window():
    """St5."""
    one = stored("max-age=60, stale-while-revalidate=30")
    assert verdict(one, now=89.9) == StaleUsable(one, Reason.STALE_WHILE_REVALIDATE, refresh=True)
    assert verdict(one, now=90.0) == Revalidate(one, Reason.STALE)
    assert verdict(one, "Cache-Control: no-cache", now=61.0) == Revalidate(one, Reason.REQUEST_NO_CACHE)
    assert verdict(one, "Cache-Control: max-age=300", now=61.0) == Revalidate(one, Reason.STALE)
    assert verdict(one, "Cache-Control: min-fresh=1", now=61.0) == Revalidate(one, Reason.REQUEST_MIN_FRESH)
    broken = stored("max-age=60, stale-while-revalidate=x")
    assert verdict(broken, now=60.0) == Revalidate(broken, Reason.STALE)


@pytest.mark.rfc("9111", "4.2.4")
def test_a_failing_origin_is_covered_for_as_long_as_the_option_says():
    """St2, F7."""
    assert reuse.may_serve_on_error(stored(), 60.0 + 86400, RULES, get())
    assert not reuse.may_serve_on_error(stored(), 61.0 + 86400, RULES, get())
    assert not reuse.may_serve_on_error(stored(), 61.0, CacheRules(stale_on_error=0), get())
    assert reuse.may_serve_on_error(stored("max-age=60", "Age: 900"), 0.0, RULES, get())
    assert reuse.may_serve_on_error(stored(), 10.0, RULES, get("Cache-Control: no-cache"))
    assert not reuse.may_serve_on_error(stored("no-cache, max-age=60"), 10.0, RULES, get())


@pytest.mark.rfc("5861", "4")
@pytest.mark.parametrize(
    ("control", "asked", "window"),
    [
        ("stale-if-error=10", "", 10),
        ("stale-if-error=999999", "", 999999),
        ("stale-if-error=0", "", 0),
        ("x", "Cache-Control: stale-if-error=20", 20),
        ("stale-if-error=10", "Cache-Control: stale-if-error=20", 10),
        ("stale-if-error=30", "Cache-Control: stale-if-error=20", 20),
    ],
)
def test_stale_if_error_takes_the_place_of_the_option(control, asked, window):
    """St4."""
    one = stored(f"max-age=60, {control}")
    request = get(asked) if asked else get()
    assert reuse.may_serve_on_error(one, 60.0 + window, RULES, request)
    assert not reuse.may_serve_on_error(one, 61.0 + window, RULES, request)


# ---- parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9111", "3.3")
def test_a_stored_part_answers_only_for_ranges_within_it():
    """R5, R9."""
    ranged = get("Range: bytes=2-5")
    part = kept(
        "Cache-Control: max-age=60",
        'ETag: "a"',
        "Content-Range: bytes 2-5/10",
        request=ranged,
        status=206,
        body=b"2345",
        rules=CacheRules(partial=True),
    )
    for inside in ("bytes=2-5", "bytes=3-3"):
        assert verdict(part, f"Range: {inside}") == Fresh(part)
    for outside in ("bytes=2-6", "bytes=2-", "bytes=-3", "bytes=2-3,4-5", "pages=2-3", "bytes=99-"):
        assert verdict(part, f"Range: {outside}") == Miss(Reason.PARTIAL, (part,))
    assert verdict(part) == Miss(Reason.PARTIAL, (part,))
    assert verdict(part, "Range: bytes=2-5", method="HEAD") == Miss(Reason.PARTIAL, (part,))
    assert verdict(part, "Range: bytes=2-5", 'If-Range: "b"') == Miss(Reason.PARTIAL, (part,))
    assert verdict(part, "Range: bytes=2-5", now=61.0) == Revalidate(part, Reason.STALE)


# ---- for any input ---------------------------------------------------------------------------------------------------

DIRECTIVES = [
    "no-cache",
    "no-store",
    "max-age=0",
    "max-age=50",
    "min-fresh=20",
    "max-stale",
    "max-stale=30",
    "foo",
    "only-if-cached",
    "s-maxage=9",
    "must-revalidate",
    "stale-while-revalidate=40",
    "stale-if-error=5",
    "public",
]


@given(
    st.lists(st.sampled_from(DIRECTIVES), max_size=4),
    st.lists(st.sampled_from(DIRECTIVES), max_size=4),
    st.integers(0, 300),
    st.floats(0, 500),
    st.sampled_from(["GET", "HEAD"]),
    st.sampled_from([RULES, CacheRules(grace=30.0)]),
)
def test_no_verdict_goes_past_what_the_directives_allow(said, asked, arrived, now, method, rules):
    head = ["Cache-Control: " + ", ".join([*said, "max-age=100"]), "ETag: x", f"Age: {arrived}"]
    if isinstance(decided(*head), NoStore):
        return
    one = kept(*head)
    request = get("Cache-Control: " + ", ".join(asked), method=method)
    result = reuse.decide(request, [one], now, rules)
    again = reuse.decide(request, [one], now, rules)
    assert result == again
    age = current_age(one, now)
    match result:
        case Fresh():
            assert one.lifetime > age
            assert "no-cache" not in said + asked
            assert "max-age=0" not in asked
        case StaleUsable(reason=Reason.STALE_WHILE_REVALIDATE):
            assert age < one.lifetime + 40
            assert not {"no-cache", "must-revalidate", "s-maxage=9"} & set(said)
        case StaleUsable(reason=Reason.GRACE):
            assert age < one.lifetime + rules.grace
            assert not {"no-cache", "must-revalidate", "s-maxage=9"} & set(said)
            assert "max-age=0" not in said + asked
            assert "max-age=50" not in asked
        case StaleUsable():
            assert {"max-stale", "max-stale=30"} & set(asked)
            assert not {"no-cache", "must-revalidate", "s-maxage=9"} & set(said)
        case Revalidate() | Miss():
            assert "only-if-cached" not in asked
        case OnlyIfCached():
            assert "only-if-cached" in asked
        case Bypass():
            pytest.fail("a plain GET or HEAD is no bypass")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Cache-Control", "Range", "If-Range", "Pragma", "If-None-Match"]), st.text(max_size=20)
        )
    )
)
def test_junk_in_the_request_never_raises(fields):
    request = get(*(f"{name}: {value.encode('ascii', 'replace').decode()}" for name, value in fields))
    reuse.decide(request, [stored()], 5.0, RULES)
    reuse.may_serve_on_error(stored(), 99.0, RULES, request)


# ---- a rule's allowances ---------------------------------------------------------------------------------------------

GRACE = CacheRules(grace=30.0)


@pytest.mark.rfc("9111", "4.2.4")
def test_grace_answers_while_one_fetch_renews_and_for_no_longer():
    one = stored()
    assert verdict(one, now=60.0, rules=GRACE) == StaleUsable(one, Reason.GRACE, refresh=True)
    assert verdict(one, now=89.0, rules=GRACE).reason is Reason.GRACE
    assert verdict(one, now=90.0, rules=GRACE) == Revalidate(one, Reason.STALE)
    assert verdict(one, "Cache-Control: max-age=600", now=61.0, rules=GRACE) == Revalidate(one, Reason.STALE)
    assert verdict(one, "Cache-Control: only-if-cached", now=61.0, rules=GRACE) == StaleUsable(
        one, Reason.GRACE, refresh=False
    )


@pytest.mark.rfc("9111", "4.2.4")
@pytest.mark.parametrize(
    "control",
    ["must-revalidate", "proxy-revalidate", "s-maxage=60", "no-cache", "stale-while-revalidate=0", "max-age=0"],
)
def test_grace_is_no_more_than_an_allowance_where_the_origin_says_nothing(control):
    one = stored(f"max-age=60, {control}")
    assert isinstance(verdict(one, now=61.0, rules=GRACE), Revalidate)


def test_a_hit_is_worth_a_renewal_near_the_end_of_freshness_alone():
    ahead = CacheRules(refresh_ahead=10.0)
    one = stored("max-age=60")
    assert not reuse.is_due(one, 49.0, ahead)
    assert reuse.is_due(one, 51.0, ahead)
    assert not reuse.is_due(one, 59.0, RULES)
    short = stored("max-age=8")
    assert not reuse.is_due(short, 3.0, ahead)
    assert reuse.is_due(short, 5.0, ahead)


def test_a_stored_error_is_no_answer_in_place_of_another():
    assert reuse.may_serve_on_error(stored("max-age=60"), 100.0, RULES, get())
    assert not reuse.may_serve_on_error(stored("max-age=60", status=503), 100.0, RULES, get())
