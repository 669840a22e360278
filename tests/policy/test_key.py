"""Which stored response a request may be answered with: K1 to K9 of the caching rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy import key
from proxy.policy.rules import CacheRules, QueryRules
from tests.policy.heads import RULES, TOMCAT, date, get, kept


def keyed(target, rules=RULES, **more):
    return key.primary_key(get(target=target, **more), rules)


@pytest.mark.rfc("9111", "2")
def test_the_key_is_scheme_authority_path_and_query():
    """K1."""
    assert keyed("/a?x=1") == b"http://example.org/a?x=1"
    assert len({keyed("/a"), keyed("/a?"), keyed("/a?x=1"), keyed("/a?x=2"), keyed("/a?x=1", authority=b"other")}) == 5
    assert keyed("/a", method="HEAD") == keyed("/a")


@pytest.mark.rfc("9110", "4.2.3")
def test_only_what_is_equivalent_by_definition_is_normalised():
    """K2."""
    assert keyed("/%7ea?b=%2f%c3") == keyed("/~a?b=%2F%C3") == b"http://example.org/~a?b=%2F%C3"
    assert keyed("/%41") == keyed("/A")
    assert key.uri_key(b"http", b"example.org", b"", None) == keyed("/")
    assert keyed("/%2e%2e/a") != keyed("/../a")
    assert keyed("/a%2fb") != keyed("/a/b")
    assert keyed("/a?b&c") != keyed("/a?c&b")
    assert keyed("/%zz%") == b"http://example.org/%zz%"


def test_a_session_id_leaves_the_key_only_where_the_site_says_so():
    """Hardening K5."""
    assert keyed("/a;jsessionid=1/b;x=2?JSESSIONID=3&c=4", TOMCAT) == keyed("/a/b;x=2?c=4", TOMCAT)
    assert keyed("/a?jsessionid=1", TOMCAT) == keyed("/a", TOMCAT)
    assert keyed("/a;jsessionid=1") != keyed("/a")
    assert key.session_ids(get(target="/a;jsessionid=1.t1/b?x=1&jsessionid=2"), TOMCAT) == (b"1.t1", b"2")
    assert key.session_ids(get(target="/a;b"), TOMCAT) == ()


def test_fields_let_through_by_configuration_are_part_of_the_key():
    """Hardening K1."""
    rules = CacheRules(key_fields=(b"x-host",))
    keys = {key.primary_key(get(*fields), rules) for fields in ((), ("X-Host: a",), ("X-Host: b",), ("X-Host:",))}
    assert len(keys) == 4


def test_the_digest_is_the_same_everywhere():
    assert key.digest(b"http://example.org/").hex() == "3fd807b80b084d5d4cc99bc20279f6d8"


# ---- Vary ------------------------------------------------------------------------------------------------------------


def variant(vary, *fields, extra=(), **more):
    return kept("Cache-Control: max-age=60", f"Vary: {vary}", *extra, request=get(*fields), **more)


@pytest.mark.rfc("9111", "4.1")
@pytest.mark.parametrize(
    ("vary", "first", "second", "same"),
    [
        ("Foo", ["Foo: 1"], ["Foo: 1"], True),
        ("Foo", ["Foo: 1"], ["Foo: 2"], False),
        ("Foo", ["Foo: 1"], [], False),
        ("Foo", [], [], True),
        ("Foo", [], ["Foo:"], False),
        ("Foo, bar", ["Foo: 1", "Bar: 2"], ["BAR: 2", "other: x", "fOO: 1"], True),
        ("Foo, Bar", ["Foo: 1", "Bar: 2"], ["Foo: 1", "Bar: 3"], False),
        ("A,B,C,D,E,F,G,H,I,J", ["A: 1", "J: 2"], ["J: 2", "A: 1"], True),
        ("A,B,C,D,E,F,G,H,I,J", ["A: 1", "J: 2"], ["A: 1"], False),
        ("Foo", ["Foo: 1,2"], ["Foo: 1 ,\t2"], True),  # K6
        ("Foo", ["Foo: 1,2"], ["Foo: 1", "Foo: 2"], True),
        ("Foo", ["Foo: 1,2"], ["Foo: 2,1"], False),
        ("Foo", ["Foo: a"], ["Foo: A"], False),
        ("Foo", ['Foo: "a, b"'], ['Foo: "a,b"'], False),
        ("Accept-Encoding", ["Accept-Encoding: gzip, br"], ["Accept-Encoding: BR,GZIP"], True),
        ("Accept-Encoding", ["Accept-Encoding: gzip"], ["Accept-Encoding: gzip;q=1.0"], True),
        ("Accept-Encoding", ["Accept-Encoding: gzip;q=0.5, br"], ["Accept-Encoding: br, gzip ; q=0.500"], True),
        ("Accept-Encoding", ["Accept-Encoding: gzip;q=0.5, br"], ["Accept-Encoding: gzip, br;q=0.5"], False),
        ("Accept", ["Accept: text/html;level=1"], ["Accept: TEXT/html; Level=1;q=1"], True),
        ("Accept", ["Accept: text/html;v=a"], ["Accept: text/html;v=A"], False),
        ("Accept-Charset", ["Accept-Charset: utf-8"], ["Accept-Charset: UTF-8"], True),
        ("Accept", ["Accept: a/b;q=x"], ["Accept: a/b"], False),
    ],
)  # fmt: skip
def test_a_variant_answers_if_all_that_vary_names_is_the_same(vary, first, second, same):
    """K3, K6."""
    stored = variant(vary, *first)
    assert key.matches(stored, get(*second)) is same
    assert (key.select([stored], get(*second)) is stored) is same


def test_without_vary_every_request_matches():
    assert key.matches(kept("Cache-Control: max-age=1"), get("Foo: 1"))


def test_variants_live_side_by_side():
    """K4."""
    one, two = variant("Foo", "Foo: 1"), variant("Foo", "Foo: 2")
    assert [key.select([one, two], get(f"Foo: {n}")) for n in (1, 2, 3)] == [one, two, None]


@pytest.mark.rfc("9111", "4.1")
def test_a_star_in_vary_matches_nothing():
    """K5."""
    assert key.selecting(None, get().fields) is None
    assert not key.matches(kept("max-age: 1", "ETag: x").replaced(selecting=None), get())


@pytest.mark.parametrize(
    ("asked", "hit"),
    [
        ("fr;q=0.5, de;q=1.0", True),
        ("DE", True),
        ("de, en", True),
        ("en, de", False),
        ("en, de;q=0.9", False),
        ("*", False),
        ("de;q=0", False),
        ("de;q=x", False),
        ("de-AT", False),
    ],
)
def test_a_language_wanted_most_serves_though_the_lists_differ(asked, hit):
    """K7."""
    stored = variant("Accept-Language", "Accept-Language: en;q=0.1, de", extra=("Content-Language: de",))
    assert key.matches(stored, get(f"Accept-Language: {asked}")) is hit


def test_a_long_list_is_read_once_however_many_variants_are_compared_with_it():
    """Hardening L2: it was read twice for each variant, which made a tenth of a second of 16 KiB."""
    variants = [
        variant("Accept-Language", f"Accept-Language: x{n}", extra=("Content-Language: de",)) for n in range(32)
    ]
    asked = get("Accept-Language: " + ", ".join(f"a{n};q=0.5" for n in range(120)))
    known = [kept.cache_info().misses for kept in (key._remembered_long, key.most_wanted)]
    assert key.select(variants, asked) is None
    again = [kept.cache_info().misses for kept in (key._remembered_long, key.most_wanted)]
    assert [after - before for before, after in zip(known, again, strict=True)] == [1, 1]


def test_a_list_of_too_many_members_wants_no_language():
    stored = variant("Accept-Language", "Accept-Language: en", extra=("Content-Language: de",))
    assert not key.matches(stored, get("Accept-Language: de" + ", fr;q=0.1" * 128))


def test_the_same_list_outranks_the_language_and_other_fields_of_vary_still_count():
    exact = variant(
        "Accept-Language", "Accept-Language: de", extra=("Content-Language: en", f"Date: {date(-9).decode()}")
    )
    spoken = variant("Accept-Language", "Accept-Language: de, fr", extra=("Content-Language: de",))
    assert key.select([spoken, exact], get("Accept-Language: de")) is exact
    both = variant("Accept-Language, Foo", "Accept-Language: de, fr", "Foo: 1", extra=("Content-Language: de",))
    assert not key.matches(both, get("Accept-Language: de", "Foo: 2"))
    assert key.matches(both, get("Accept-Language: de", "Foo: 1"))


@pytest.mark.rfc("9111", "4.1")
def test_of_several_the_latest_date_answers():
    """K8."""
    old = variant("Foo", extra=(f"Date: {date(-5).decode()}",))
    new = variant("Bar", extra=(f"Date: {date().decode()}",))
    assert key.select([new, old], get()) is key.select([old, new], get()) is new


@pytest.mark.rfc("9111", "4.1")
def test_where_some_responses_lack_vary_the_latest_vary_seen_governs():
    """K8."""
    varied, silent = variant("Foo", "Foo: 1"), kept("Cache-Control: max-age=60", request=get("Foo: 2"))
    assert key.select([varied, silent], get("Foo: 1")) is varied
    assert key.select([varied, silent], get("Foo: 3")) is None
    later = kept("Cache-Control: max-age=60", request=get("Foo: 2"), variants=[varied])
    assert key.select([varied, later], get("Foo: 2")) is later
    assert key.select([varied, later], get("Foo: 3")) is None
    assert key.governing([silent]) is None


MEMBERS = st.lists(
    st.tuples(st.sampled_from(["gzip", "br", "deflate", "*"]), st.sampled_from(["", ";q=1", ";q=0.5", ";q=0"])),
    max_size=4,
    unique_by=lambda member: member[0],
)


@given(MEMBERS, st.randoms(use_true_random=False))
def test_order_case_and_blanks_of_a_weighted_list_do_not_matter(members, rng):
    texts = [coding + weight for coding, weight in members]
    plain = ",".join(texts).encode()
    rng.shuffle(texts)
    other = " , ".join(rng.choice([str.upper, str])(text) for text in texts).encode()
    assert key.normal_value(b"accept-encoding", plain) == key.normal_value(b"accept-encoding", other)


@given(st.binary(max_size=40))
def test_normalising_junk_is_stable(value):
    for name in (b"accept", b"foo"):
        once = key.normal_value(name, value)
        assert key.normal_value(name, once) == once


# ---- what a rule says of keys ----------------------------------------------------------------------------------------

CLEAN = QueryRules(sort=True, drop=(b"utm_*", b"fbclid"))


@pytest.mark.parametrize(
    ("rules", "query", "normal"),
    [
        (CLEAN, b"b=2&a=1", b"a=1&b=2"),
        (CLEAN, b"a=2&b&a=1", b"a=2&a=1&b"),
        (CLEAN, b"utm_a=1&fbclid&x=%7E", b"x=%7E"),
        (CLEAN, b"%75tm_a=1&x", b"x"),
        (CLEAN, b"utm_a=1", None),
        (CLEAN, b"", None),
        (CLEAN, b"&&a&", b"a"),
        (CLEAN, b"xutm_a=1&a=utm_b", b"a=utm_b&xutm_a=1"),
        (QueryRules(keep=(b"id",)), b"x=1&id=2&id=1&ID=3", b"id=2&id=1"),
    ],
)
def test_a_query_has_one_spelling_where_a_rule_says_so(rules, query, normal):
    assert key.normal_query(query, rules) == normal


@given(st.text("ab=&%6_1", max_size=30))
def test_the_spelling_of_a_query_is_its_own_spelling(text):
    once = key.normal_query(text.encode(), CLEAN)
    assert once is None or key.normal_query(once, CLEAN) == once


def test_a_rule_adds_fields_and_cookies_to_the_key():
    rules = CacheRules(key_fields=(b"x-a",), key_cookies=(b"lang",))
    assert keyed("/a", rules) == b"http://example.org/a"
    told = get("X-A: 1", "Cookie: b=1; lang=de", target="/a")
    assert key.primary_key(told, rules) == b"http://example.org/a\nx-a:1\ncookie lang=de"
    both = get("Cookie: lang=de; lang=en", target="/a")
    assert key.primary_key(both, rules) == b"http://example.org/a\ncookie lang=de;lang=en"
