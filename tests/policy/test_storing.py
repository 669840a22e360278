"""What may be stored, what of it, and what an unsafe request invalidates.

Rules S1 to S9, W1 to W6, C1 to C4, M3, R5, R6, T7, and K2 to K5 of the hardening.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.fields import ContentRange
from proxy.http.stored import Body
from proxy.policy import storing
from proxy.policy.reasons import Reason
from proxy.policy.rules import CacheRules
from proxy.policy.storing import NoStore, Store
from tests.policy.heads import NOW, RULES, TOMCAT, date, decided, get, kept, names, reply

FRESH = "Cache-Control: max-age=60"


def reason(*fields, **more):
    decision = decided(*fields, **more)
    return None if isinstance(decision, Store) else decision.reason


# ---- what makes it storable ------------------------------------------------------------------------------------------


@pytest.mark.rfc("9111", "3")
def test_something_must_make_it_cacheable():
    """S1, F8."""
    assert reason(FRESH) is None
    assert reason("ETag: x") is None
    assert reason() is Reason.NOT_STORED_NOTHING_SAID
    assert reason("ETag: x", status=302) is Reason.NOT_STORED_NOTHING_SAID
    assert reason("ETag: x", "Cache-Control: public", status=302) is None
    assert reason(FRESH, rules=CacheRules(enabled=False)) is Reason.NOT_STORED_RULE


@pytest.mark.rfc("9111", "3")
@pytest.mark.parametrize(
    "method", ["HEAD", "OPTIONS", "TRACE", "CONNECT", "PUT", "DELETE", "PATCH", "QUERY", "POST", "FOO"]
)
def test_only_answers_to_get_are_stored(method):
    """S1, M3."""
    assert reason(FRESH, request=get(method=method)) is Reason.NOT_STORED_METHOD


@pytest.mark.rfc("9111", "5.2.2.5")
@pytest.mark.parametrize(
    "fields",
    [
        ["Cache-Control: no-store"],
        ["Cache-Control: NO-store, max-age=60, public", f"Expires: {date(9).decode()}"],
        ["Cache-Control: max-age=60", "Cache-Control: No-Store"],
    ],
)
def test_no_store_wins_over_all_and_outdates_what_was_stored(fields):
    """S2, P10."""
    assert decided(*fields) == NoStore(Reason.NOT_STORED_NO_STORE, outdates=True)


@pytest.mark.rfc("9111", "5.2.2.7")
def test_private_is_not_stored_and_private_fields_are_left_out():
    """S3, P10."""
    assert reason("Cache-Control: max-age=60, private, public") is Reason.NOT_STORED_PRIVATE
    store = decided('Cache-Control: max-age=60, private="A, x-b"', "a: 1", "X-B: 2", "X-C: 3")
    assert names(store.head) == ["cache-control", "x-c", "date"]


@pytest.mark.rfc("9111", "5.2.2.4")
def test_no_cache_is_stored_if_it_can_be_validated():
    """S4."""
    assert reason("Cache-Control: no-cache, max-age=60", "ETag: x") is None
    assert reason("Cache-Control: no-cache, max-age=60") is Reason.NOT_STORED_NOTHING_SAID
    assert reason('Cache-Control: no-cache="a", max-age=60') is None


def test_what_comes_in_stale_is_kept_for_validation_or_for_bad_times():
    """S5, F7, St2."""
    assert reason("Cache-Control: max-age=60", "Age: 100") is None
    assert reason("Cache-Control: max-age=0") is None
    assert reason("Cache-Control: max-age=0, must-revalidate") is Reason.NOT_STORED_NOTHING_SAID
    assert reason("Cache-Control: max-age=0, must-revalidate", "ETag: x") is None
    assert reason("Cache-Control: max-age=9, must-revalidate, proxy-revalidate") is None


def test_nothing_else_hinders():
    """S6."""
    assert reason(FRESH, "Content-Disposition: attachment", request=get("Cookie: a=b", target="/a?b=c")) is None
    assert "set-cookie" in names(decided(FRESH, "Set-Cookie: a=b").head)


def test_cookies_are_stored_with_explicit_freshness_only_and_sessions_never():
    """S6."""
    old = f"Last-Modified: {date(-9999).decode()}"
    assert reason(old, "Set-Cookie: a=b") is Reason.NOT_STORED_COOKIE
    assert reason(FRESH, "Set-Cookie: JSESSIONID=1", rules=TOMCAT) is Reason.NOT_STORED_SESSION
    assert (
        reason(FRESH, "Set-Cookie: a=b", "Set-Cookie: __Host-jsessionid=1", rules=TOMCAT) is Reason.NOT_STORED_SESSION
    )
    assert reason(FRESH, "Set-Cookie: JSESSIONIDX=1", rules=TOMCAT) is None
    assert reason(FRESH, "Set-Cookie: a=b", rules=CacheRules(set_cookie="skip")) is Reason.NOT_STORED_COOKIE
    stripping = CacheRules(set_cookie="strip")
    assert "set-cookie" not in names(decided(FRESH, "Set-Cookie: a=b", rules=stripping).head)
    assert reason(old, "Set-Cookie: a=b", rules=stripping) is Reason.NOT_STORED_COOKIE
    ignoring = CacheRules(ignore_cookies=True, session_cookies=frozenset({b"JSESSIONID"}), ttl=5)
    store = decided("Set-Cookie: JSESSIONID=1", request=get("Cookie: a=b"), rules=ignoring)
    assert (store.source, names(store.head)) == ("rule", ["date"])


@pytest.mark.rfc("9111", "5.2.1.5")
def test_no_store_in_the_request_keeps_the_answer_out():
    """S8."""
    asked = get("Cache-Control: no-store")
    assert decided(FRESH, request=asked) == NoStore(Reason.NOT_STORED_REQUEST, outdates=False)
    assert reason(FRESH, request=asked, rules=CacheRules(honour_request=False)) is None


@pytest.mark.rfc("9111", "3.5")
@pytest.mark.parametrize(
    ("directive", "stored"),
    [("max-age=60", False), ("public, max-age=60", True), ("s-maxage=60", True), ("max-age=60, must-revalidate", True)],
)
def test_answers_to_authorized_requests_are_stored_only_if_the_origin_allows(directive, stored):
    assert (reason(f"Cache-Control: {directive}", request=get("Authorization: Basic eDp5")) is None) is stored
    assert reason(f"Cache-Control: {directive}, proxy-revalidate", request=get()) is None


def test_an_unclosed_quote_keeps_it_out():
    """P11."""
    assert reason('Cache-Control: max-age=60, x="a') is Reason.NOT_STORED_MALFORMED


@pytest.mark.rfc("9111", "4.1")
def test_what_no_request_could_match_is_not_stored():
    assert reason(FRESH, "Vary: *") is Reason.NOT_STORED_VARY
    assert reason(FRESH, "Vary: a, *") is Reason.NOT_STORED_VARY


def test_targeted_fields_decide_on_storing_too():
    """T1."""
    assert reason("Cache-Control: no-store", "CDN-Cache-Control: max-age=9") is None
    assert reason("Cache-Control: max-age=9", "CDN-Cache-Control: no-store") is Reason.NOT_STORED_NO_STORE
    assert reason("Cache-Control: max-age=9", "CDN-Cache-Control: private") is Reason.NOT_STORED_PRIVATE


def test_what_announces_too_much_is_not_stored():
    assert reason(FRESH, "Content-Length: 101", rules=CacheRules(max_object=100)) is Reason.NOT_STORED_SIZE
    assert reason(FRESH, "Content-Length: 100", rules=CacheRules(max_object=100)) is None


# ---- statuses --------------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9110", "15")
@pytest.mark.parametrize(
    "status", [200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 504, 599]
)
def test_with_explicit_freshness_every_final_status_is_stored(status):
    """C1."""
    assert reason(FRESH, status=status) is None
    assert reason(f"Expires: {date(60).decode()}", status=status) is None


def test_interim_partial_and_304_are_no_responses_to_store():
    """C2, N2."""
    assert reason(FRESH, status=103) is Reason.NOT_STORED_INTERIM
    assert reason(FRESH, status=304) is Reason.NOT_STORED_NOT_MODIFIED
    assert reason(FRESH, status=206) is Reason.NOT_STORED_PARTIAL


@pytest.mark.rfc("9111", "5.2.2.3")
def test_must_understand_asks_for_a_known_status_and_voids_no_store():
    """C3."""
    assert reason("Cache-Control: must-understand, max-age=9", status=299) is Reason.NOT_STORED_STATUS
    assert reason("Cache-Control: must-understand, public, s-maxage=9", status=599) is Reason.NOT_STORED_STATUS
    assert reason("Cache-Control: must-understand, no-store, max-age=9") is None
    assert reason("Cache-Control: must-understand, private, max-age=9") is Reason.NOT_STORED_PRIVATE


@pytest.mark.parametrize("status", [400, 403, 405, 414, 501, 505])
def test_errors_that_a_client_may_have_provoked_need_explicit_freshness_and_a_plain_request(status):
    """Hardening K4."""
    assert reason("ETag: x", "Cache-Control: public", status=status) is Reason.NOT_STORED_ERROR
    assert reason(FRESH, status=status) is None
    for odd in (
        "Authorization: x",
        "If-None-Match: x",
        "Range: bytes=0-1",
        "X-HTTP-Method-Override: PUT",
        "A: " + "x" * 9000,
    ):
        public = "Cache-Control: max-age=60, public"
        assert reason(public, status=status, request=get(odd)) is Reason.NOT_STORED_ERROR
        assert reason(public, status=404, request=get(odd)) is None


def test_an_operator_may_give_a_status_a_lifetime():
    """C4."""
    rules = CacheRules(status_ttl=((403, 5.0), (302, 3.0)))
    assert decided(status=403, rules=rules).lifetime == 5
    assert decided(status=302, rules=rules).lifetime == 3
    assert reason(status=405, rules=rules) is Reason.NOT_STORED_ERROR


def test_a_rules_lifetime_never_covers_cookies_and_credentials():
    """Hardening K3."""
    rules = CacheRules(ttl=9)
    assert decided(rules=rules).source == "rule"
    assert reason(rules=rules, request=get("Cookie: a=b")) is Reason.NOT_STORED_NOTHING_SAID
    assert reason("Set-Cookie: a=b", rules=rules) is Reason.NOT_STORED_COOKIE


def test_exchanges_outside_the_store_leave_nothing_in_it():
    """Hardening K2."""
    assert reason(FRESH, request=get("Expect: 100-continue")) is Reason.NOT_STORED_METHOD
    assert reason(FRESH, request=get("Upgrade: websocket")) is Reason.NOT_STORED_METHOD


def test_session_ids_in_the_target_keep_the_answer_out():
    """Hardening K5."""
    asked = get(target="/a;jsessionid=ABC.t1")
    careful = CacheRules(session_arguments=frozenset({b"jsessionid"}))
    assert reason(FRESH, request=asked, rules=careful) is Reason.NOT_STORED_SESSION
    store = decided(FRESH, request=asked, rules=TOMCAT)
    assert store.session_ids == (b"ABC.t1",)
    assert reason(FRESH, "Link: </b;jsessionid=9>", rules=TOMCAT) is Reason.NOT_STORED_SESSION
    assert reason(FRESH, "X-Trace: ABC.t1", request=asked, rules=TOMCAT) is Reason.NOT_STORED_SESSION


def test_a_target_of_many_session_ids_is_not_worth_looking_for_each_in_the_body():
    """Hardening L2: 900 ids and a body of 8 MB kept a worker busy for three seconds."""
    few, many = ("&".join(f"jsessionid={number:04}" for number in range(count)) for count in (4, 5))
    assert len(decided(FRESH, request=get(target=f"/a?{few}"), rules=TOMCAT).session_ids) == 4
    assert reason(FRESH, request=get(target=f"/a?{many}"), rules=TOMCAT) is Reason.NOT_STORED_SESSION


@pytest.mark.rfc("9110", "9.3.3")
def test_an_answer_to_post_is_stored_if_it_says_that_it_is_what_a_get_brings():
    post = get(method="POST", target="/a?b=c")
    assert reason(FRESH, "Content-Location: /a?b=c", request=post) is None
    assert reason(FRESH, "Content-Location: http://EXAMPLE.org:80/a?b=c", request=post) is None
    for other in ("/a", "http://other.org/a?b=c", "/a?b=d", "http://[", ""):
        expected = None if other == "" else Reason.NOT_STORED_METHOD  # an empty reference is the target itself
        assert reason(FRESH, f"Content-Location: {other}", request=post) is expected
    assert reason("ETag: x", "Content-Location: /a?b=c", request=post) is Reason.NOT_STORED_METHOD
    assert reason(FRESH, "Content-Location: /a?b=c", request=post, status=404) is Reason.NOT_STORED_METHOD


# ---- what is outdated ------------------------------------------------------------------------------------------------


def test_an_unstorable_answer_outdates_only_what_it_answers_for():
    """S2, St3, St5."""
    assert decided("Cache-Control: private").outdates
    assert decided(status=404).outdates
    assert not decided("Cache-Control: no-store", status=503).outdates
    assert not decided("Cache-Control: no-store", request=get(method="HEAD")).outdates
    assert not decided("Cache-Control: no-store", request=get("Range: bytes=0-1")).outdates
    assert not decided("Cache-Control: no-store", request=get("Authorization: x")).outdates
    assert not decided(FRESH, status=206).outdates


# ---- what is stored --------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9111", "3.1")
def test_all_fields_are_stored_as_they_came():
    """W1, W4."""
    fields = [
        "X-A: 1",
        "cache-CONTROL: max-age=9",
        "x-a: 2",
        "ETag: W/x",
        f"Expires: {date(5).decode()}",
        "Content-Foo: 1",
        f"Date: {date(-1).decode()}",
        "Strict-Transport-Security: max-age=1",
        "Vary: foo",
        "Last-Modified: then",
    ]
    assert decided(*fields).head.fields == reply(*fields).fields


def test_its_own_request_gets_what_is_not_stored_for_others():
    """S3, S6, A7."""
    response = reply(
        'Cache-Control: max-age=9, private="x-a, upgrade"', "X-A: 1", "Age: 5", "Set-Cookie: a=b", "Upgrade: x"
    )
    more = {"request_time": NOW, "response_time": NOW}
    stripped = storing.decide_store(get(), response, CacheRules(set_cookie="strip"), **more)
    assert storing.for_the_asker(response, stripped, RULES) == ((b"X-A", b"1"), (b"Age", b"5"), (b"Set-Cookie", b"a=b"))
    replayed = storing.decide_store(get(), response, RULES, **more)
    assert storing.for_the_asker(response, replayed, RULES) == ((b"X-A", b"1"), (b"Age", b"5"))
    ignoring = CacheRules(ignore_cookies=True)
    without = storing.decide_store(get(), response, ignoring, **more)
    assert storing.for_the_asker(response, without, ignoring) == ((b"X-A", b"1"), (b"Age", b"5"))


@pytest.mark.rfc("9110", "7.6.1")
def test_the_connections_own_fields_are_not_stored():
    """W2, W3, W5, W6."""
    own = [
        "Connection: A, close",
        "connection: b",
        "a: 1",
        "B: 2",
        "Keep-Alive: x",
        "Proxy-Connection: x",
        "TE: x",
        "Upgrade: x",
        "Transfer-Encoding: chunked",
        "Trailer: x",
        "Proxy-Authenticate: x",
        "Proxy-Authentication-Info: x",
        "Proxy-Authorization: x",
        "Age: 5",
        "Content-Length: 10",
    ]
    assert names(decided(FRESH, *own).head) == ["cache-control", "date"]
    vital = [
        "Connection: cache-control, date, expires, vary, etag, content-type",
        f"Date: {date().decode()}",
        "Expires: 0",
        "Vary: a",
        "ETag: x",
        "Content-Type: y",
    ]
    assert names(decided(FRESH, *vital).head) == ["cache-control", "date", "expires", "vary", "etag", "content-type"]


@pytest.mark.rfc("9110", "6.6.1")
def test_a_response_without_date_gets_the_time_of_receipt():
    """F9."""
    assert decided(FRESH).head.fields.get(b"date") == date()
    assert decided(FRESH, "Date: nonsense").head.fields.get(b"date") == b"nonsense"


def test_what_vary_names_is_kept_for_comparison_and_for_refreshes():
    """V2, K8."""
    asked = get("Accept-Encoding: br,  gzip", "Foo: 1", "accept-encoding: x")
    store = decided(FRESH, "Vary: Accept-Encoding", request=asked)
    assert store.selecting == ((b"accept-encoding", b"br,gzip,x"),)
    assert store.request_fields.lines == ((b"Accept-Encoding", b"br,  gzip"), (b"accept-encoding", b"x"))
    assert decided(FRESH).request_fields is None
    varied = kept(FRESH, "Vary: Foo", request=get("Foo: 2"))
    assert decided(FRESH, request=asked, variants=[varied]).selecting == ((b"foo", b"1"),)


def test_tags_come_from_the_usual_fields_once_each():
    """T7."""
    store = decided(FRESH, "Cache-Tag: a, b", "Surrogate-Key: b c", "xkey: d", 'Cache-Groups: "g", "h";x, tok')
    assert store.tags == (b"a", b"b", b"c", b"d", b"http://example.org g", b"http://example.org h")


def test_a_stored_response_carries_all_that_was_decided():
    store = decided(FRESH, "Age: 3", delay=2.0)
    stored = storing.build_stored(store, b"k", Body([b"ab"], complete=True), 2, 7.0)
    assert (stored.key, stored.length, stored.received, stored.lifetime, stored.initial_age) == (b"k", 2, 7.0, 60, 5)
    assert (stored.request_time, stored.response_time, stored.lifetime_source) == (NOW - 2, NOW, "max-age")


# ---- parts (RFC 9111 §3.3) -------------------------------------------------------------------------------------------

PARTS = CacheRules(partial=True)


@pytest.mark.rfc("9111", "3.3")
def test_a_consistent_part_with_a_lifetime_is_stored_as_what_it_is():
    """R5, R6."""
    ranged = get("Range: bytes=2-5")
    store = decided(FRESH, "Content-Range: bytes 2-5/10", "Content-Length: 4", status=206, request=ranged, rules=PARTS)
    assert store.part == ContentRange(2, 5, 10)
    stored = storing.build_stored(store, b"k", Body([b"2345"], complete=True), 4, 0.0)
    assert (stored.body.start, stored.length) == (2, 10)
    bad = [
        [FRESH, "Content-Range: bytes 2-5/10", "Content-Length: 5"],
        [FRESH, "Content-Range: items 2-5/10"],
        [FRESH, "Content-Range: bytes 5-2/10"],
        [FRESH, "Content-Type: multipart/byteranges; boundary=x"],
        ["ETag: x", "Content-Range: bytes 2-5/10"],
    ]
    for fields in bad:
        assert reason(*fields, status=206, request=ranged, rules=PARTS) is Reason.NOT_STORED_PARTIAL
    assert reason(FRESH, "Content-Range: bytes 2-5/10", status=206, rules=PARTS) is Reason.NOT_STORED_PARTIAL


# ---- invalidation ----------------------------------------------------------------------------------------------------


def invalid(method, *fields, status=200, target="/a"):
    return storing.invalidated(get(method=method, target=target), reply(*fields, status=status), RULES)


@pytest.mark.rfc("9111", "4.4")
def test_a_successful_unsafe_request_invalidates_its_target():
    for method in ("POST", "PUT", "DELETE", "PATCH", "FOO"):
        for status in (200, 204, 303):
            assert invalid(method, status=status, target="/a?x=%7e") == [b"http://example.org/a?x=~"]
    for method in ("GET", "HEAD", "OPTIONS", "TRACE", "QUERY"):
        assert invalid(method) == []
    for status in (400, 404, 500):
        assert invalid("POST", status=status) == []


@pytest.mark.rfc("9111", "4.4")
def test_it_invalidates_location_and_content_location_of_the_same_origin_only():
    own = b"http://example.org/a"
    assert invalid("POST", "Location: /b?c#d", "Content-Location: HTTP://EXAMPLE.org:80/e") == [
        own,
        b"http://example.org/b?c",
        b"http://example.org/e",
    ]
    assert invalid("POST", "Location: b/../c") == [own, b"http://example.org/c"]
    assert invalid("POST", "Location: /a") == [own]
    for foreign in (
        "https://example.org/b",
        "http://other.org/b",
        "http://example.org:81/b",
        "//other.org/b",
        "http://[::",
        "mailto:a@b",
        "http://x@example.org/b",
        "http://example.org:x/",
    ):
        assert invalid("POST", f"Location: {foreign}") == [own]


@pytest.mark.rfc("9875", "3")
def test_groups_are_invalidated_by_unsafe_requests_of_their_origin():
    """T7."""
    assert storing.invalidated_groups(get(method="POST"), reply('Cache-Group-Invalidation: "g"')) == (
        b"http://example.org g",
    )
    assert storing.invalidated_groups(get(), reply('Cache-Group-Invalidation: "g"')) == ()
    assert storing.invalidated_groups(get(method="POST"), reply('Cache-Group-Invalidation: "g"', status=500)) == ()


@given(
    st.lists(
        st.sampled_from(["no-store", "private", "max-age=60", "public", "s-maxage=9", "no-cache", "x=1"]), max_size=5
    ),
    st.sampled_from([200, 206, 302, 404, 500, 599]),
)
def test_nothing_private_or_no_store_is_ever_stored(directives, status):
    decision = decided("Cache-Control: " + ", ".join(directives), "ETag: x", status=status)
    if "no-store" in directives or "private" in directives:
        assert isinstance(decision, NoStore)
    if isinstance(decision, Store):
        assert decision.lifetime >= 0


@given(st.binary(max_size=60))
def test_junk_in_locations_never_raises(text):
    post = get(method="POST")
    head = reply().with_fields(reply().fields.plus((b"Location", text), (b"Content-Location", text)))
    assert storing.invalidated(post, head, RULES)[0] == b"http://example.org/a"
    assert isinstance(storing.decide_store(post, head, RULES, request_time=NOW, response_time=NOW), NoStore)
