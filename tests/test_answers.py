"""When an answer from the store changes, what completes its head, and our member of Cache-Status on each way."""

from __future__ import annotations

import math
import re
import threading

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.answers import TICK_GUARD, _with, next_change
from proxy.exchange import Route
from proxy.http.message import Fields, ResponseHead
from proxy.policy.freshness import age_value, remaining
from proxy.policy.rules import CacheRules
from tests.kit import raw
from tests.kit.bench import FRESH, benches
from tests.kit.origin import Close, Stall, response
from tests.kit.spine import exchange
from tests.policy.heads import kept


def aged(lifetime, initial_age):
    return kept("Cache-Control: max-age=1").replaced(lifetime=lifetime, initial_age=initial_age, received=1000.0)


times = st.floats(0, 10_000, allow_nan=False)


@given(times, times, times, st.floats(0, 1))
def test_between_now_and_the_next_change_age_and_ttl_say_the_same(lifetime, initial_age, resident, part):
    """The memo repeats an answer until then, so nothing in it may tick before."""
    stored = aged(lifetime, initial_age)
    now = 1000.0 + resident
    assume(remaining(stored, now) > 0)
    until = next_change(stored, now)
    assume(until > now)
    then = min(now + part * (until - now), math.nextafter(until, 0))
    assert age_value(stored, then) == age_value(stored, now)
    assert remaining(stored, then) // 1 == remaining(stored, now) // 1
    assert remaining(stored, then) > 0


@given(times, times)
def test_an_answer_is_good_for_a_second_at_most(lifetime, initial_age):
    stored = aged(lifetime, initial_age)
    assert next_change(stored, 1000.0) <= 1001.0 - TICK_GUARD


def test_our_age_takes_the_place_of_a_received_one():
    head = ResponseHead(200, b"OK", Fields([(b"age", b"7"), (b"ETag", b'"x"')]))
    assert _with(exchange(), head, ((b"Age", b"9"),)).fields.lines == ((b"ETag", b'"x"'), (b"Age", b"9"))


def test_without_an_age_of_ours_a_received_one_stays():
    head = ResponseHead(200, b"OK", Fields([(b"Age", b"7")]))
    assert _with(exchange(), head, ((b"Via", b"1.1 tandem"),)).fields.lines == ((b"Age", b"7"), (b"Via", b"1.1 tandem"))


def test_what_clients_do_not_get_is_left_out():
    head = ResponseHead(200, b"OK", Fields([(b"X-Own", b"1"), (b"X-All", b"2")]))
    x = exchange()
    x.route = Route("a", "", "a", CacheRules(hidden_fields=frozenset({b"x-own"})))
    assert _with(x, head, ()).fields.lines == ((b"X-All", b"2"),)


# ---- Cache-Status (RFC 9211), way by way -----------------------------------------------------------------------------

SITE = 'purge_from = ["127.0.0.1"]\nexplain_from = ["127.0.0.1"]'
BYPASS = '[[rule]]\nname = "b"\nmatch = { path = "/by/*" }\ncache = false\n'
TOLD = '"before"; hit; ttl=1'  # by a cache nearer to the origin
NO_CACHE, TAG = "Cache-Control: no-cache", 'If-None-Match: "x"'

# What has been asked, when, what the origin then says, and the member that is seen: status, parameters in any order.
WAYS = {
    "miss": ("", 0, "new", "GET", (), 200, "fwd=uri-miss stored ttl=9 detail=uri-miss"),
    "miss by HEAD": ("", 0, "new", "HEAD", (), 200, "fwd=uri-miss detail=uri-miss"),
    "variant": ("/", 0, "new", "GET", ("A: 1",), 200, "fwd=vary-miss stored ttl=9 detail=vary-miss"),
    "hit": ("/", 2, "new", "GET", (), 200, "hit ttl=7 detail=fresh"),
    "hit by HEAD": ("/", 2, "new", "HEAD", (), 200, "hit ttl=7 detail=fresh"),
    "hit, 304": ("/", 2, "new", "GET", (TAG,), 304, "hit ttl=7 detail=fresh"),
    "hit, 206": ("/", 2, "new", "GET", ("Range: bytes=1-2",), 206, "hit ttl=7 detail=fresh"),
    "hit, 416": ("/", 2, "new", "GET", ("Range: bytes=90-",), 416, "hit ttl=7 detail=fresh"),
    "with key": (
        "/",
        0,
        "new",
        "GET",
        ("Tandem-Explain: 1",),
        200,
        'hit ttl=9 key="http://test.example/" detail=fresh',
    ),
    "reload": ("/", 0, "new", "GET", (NO_CACHE,), 200, "fwd=request stored ttl=9 detail=request-no-cache"),
    "reload, 304": ("/", 0, "304", "GET", (NO_CACHE,), 200, "fwd=request fwd-status=304 ttl=9 detail=request-no-cache"),
    "reload, 304 to a 304": (
        "/",
        0,
        "304",
        "GET",
        (NO_CACHE, TAG),
        304,
        "fwd=request fwd-status=304 ttl=9 detail=request-no-cache",
    ),
    "stale, 304": ("/", 20, "304", "GET", (), 200, "fwd=stale fwd-status=304 ttl=9 detail=stale"),
    "stale, 304 to a 206": (
        "/",
        20,
        "304",
        "GET",
        ("Range: bytes=0-1",),
        206,
        "fwd=stale fwd-status=304 ttl=9 detail=stale",
    ),
    "stale, 200": ("/", 20, "new", "GET", (), 200, "fwd=stale stored ttl=9 detail=stale"),
    "stale, not stored": ("/", 20, "no-store", "GET", (), 200, "fwd=stale detail=not-stored-no-store"),
    "stale by max-stale": ("/", 12, "new", "GET", ("Cache-Control: max-stale",), 200, "hit ttl=-3 detail=max-stale"),
    "stale while refreshed": ("/swr", 12, "new", "GET", (), 200, "hit ttl=-3 detail=stale-while-revalidate"),
    "stale for a 503": ("/", 12, "503", "GET", (), 200, "hit ttl=-3 detail=stale-on-error"),
    "stale for a failure": ("/", 12, "close", "GET", (), 200, "hit ttl=-3 detail=stale-on-error"),
    "not stored": ("", 0, "no-store", "GET", (), 200, "fwd=uri-miss detail=not-stored-no-store"),
    "not stored again": ("/never", 0, "no-store", "GET", (), 200, "fwd=miss detail=not-stored-no-store"),
    "POST": ("/", 0, "no-store", "POST", (), 200, "fwd=method detail=method"),
    "by rule": ("/by/x", 0, "new", "GET", (), 200, "fwd=bypass detail=configured-bypass"),
    "If-Match": ("/", 0, "new", "GET", ('If-Match: "x"',), 200, "fwd=request detail=if-match"),
    "part": ("/new", 0, "part", "GET", ("Range: bytes=0-3",), 206, "fwd=uri-miss stored ttl=9 detail=uri-miss"),
    "part of a part": ("/part", 0, "new", "GET", ("Range: bytes=1-2",), 206, "hit ttl=9 detail=fresh"),
    "the rest of a part": (
        "/part",
        0,
        "rest",
        "GET",
        (),
        200,
        "fwd=partial fwd-status=206 stored ttl=9 detail=partial",
    ),
    "only-if-cached": (
        "",
        0,
        "new",
        "GET",
        ("Cache-Control: only-if-cached",),
        504,
        "fwd=uri-miss detail=not-in-cache",
    ),
    "error": ("", 0, "close", "GET", (), 502, "fwd=uri-miss detail=upstream-closed"),
    "error with key": (
        "",
        0,
        "close",
        "GET",
        ("Tandem-Explain: 1",),
        502,
        'fwd=uri-miss key="http://test.example/" detail=upstream-closed',
    ),
    "error while stale": ("/must", 20, "close", "GET", (), 504, "fwd=stale detail=not-validated"),
}
LASTS = "Cache-Control: max-age=10"
SAYS = {"/swr": LASTS + ", stale-while-revalidate=9", "/must": LASTS + ", must-revalidate"}


def says(bench, what, path="/"):
    """Steps of the origin's answer."""
    own, lasts = f"Cache-Status: {TOLD}", SAYS.get(path, LASTS)
    match what:
        case "304":
            return [bench.dated(b"", lasts, 'ETag: "x"', status=304)]
        case "503":
            return [response(b"trouble", status=503)]
        case "close":
            return [Close()]
        case "no-store":
            return [bench.dated(b"no", "Cache-Control: no-store", own)]
        case "part":
            return [bench.dated(b"0123", LASTS, 'ETag: "x"', "Content-Range: bytes 0-3/10", own, status=206)]
        case "rest":
            return [bench.dated(b"456789", LASTS, 'ETag: "x"', "Content-Range: bytes 4-9/10", status=206)]
    return [bench.dated(b"0123456789", lasts, 'ETag: "x"', "Vary: A", own)]


def parameters(answer):
    """Of the last member, sorted; the others are as the origin sent them."""
    lines = answer.all("cache-status")
    assert set(lines[:-1]) <= {TOLD}
    name, *rest = lines[-1].split("; ")
    assert name == "tandem"
    return sorted(rest)


@pytest.mark.rfc("9211", "2")
@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_answering_has_its_members_of_cache_status(way):
    stored, after, then, method, lines, status, wanted = WAYS[way]
    with benches() as make:
        bench = make(site=SITE, rest=BYPASS)
        path = stored or "/"
        if stored and path not in {"/by/x", "/new"}:
            what = {"/part": "part", "/never": "no-store"}.get(path, "new")
            bench.origin.otherwise(by=lambda _: says(bench, what, path))
            bench.get(path, *(["Range: bytes=0-3"] if what == "part" else []))
        if after:
            bench.stack.advance(after)
        bench.origin.otherwise(by=lambda _: says(bench, then, path))
        answer = bench.get(path, *lines, method=method)
        bench.ledger.settle()
        assert answer.status == status
        assert parameters(answer) == sorted(wanted.split())
        assert ("hit" in parameters(answer)) != any(one.startswith("fwd=") for one in parameters(answer))
        assert (answer.get("proxy-status") is not None) == (status >= 500)


@pytest.mark.rfc("9211", "2.3")
def test_who_shares_a_fetch_is_told_the_origins_status_where_its_own_is_another():
    with benches() as make:
        bench = make()
        gate = threading.Event()
        whole = bench.dated(b"0123456789", FRESH, 'ETag: "x"')
        bench.origin.otherwise(whole[:-2], Stall(until=gate), whole[-2:])
        first = bench.ask()
        first.read_raw_head()
        asked = {(): (200, ""), (TAG,): (304, "200"), ("Range: bytes=0-3",): (206, "200")}
        for lines, (status, came) in asked.items():
            with bench.ask("/", *lines) as connection:
                head = connection.read_raw_head().decode()
            assert head.startswith(f"HTTP/1.1 {status} ")
            member = re.search(r"Cache-Status: (tandem; .*)\r", head)[1]
            assert "; collapsed" in member
            assert "; stored" not in member
            assert re.findall(r"fwd-status=(\d+)", member) == ([came] if came else [])
        gate.set()
        first.close()
        raw.wait_until(lambda: bench.stored == 1)
        assert len(bench.origin.requests) == 1
