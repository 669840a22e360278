"""Conditions of our own, what a 304 or the answer to a HEAD does: V1 to V7, K9, M2, RFC 9111 §3.2, §4.3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy import freshness, key, validation
from proxy.policy.rules import CacheRules
from proxy.policy.validation import FetchAgain, Freshen, HeadEffect, PassOn, conditional_fields, decide_304, decide_head
from tests.policy.heads import NOW, RULES, TOMCAT, date, get, kept, lines, names, reply

LM = date(-1000).decode()


def stored(*fields, **more):
    return kept("Cache-Control: max-age=60", *fields, **more)


def asked(request, *candidates):
    return [(name.decode(), value.decode()) for name, value in conditional_fields(request, candidates)]


def freshened(one, *fields, request=None, rules=RULES, received=500.0, status=304):
    return validation.freshen(
        one,
        reply(*fields, status=status),
        rules,
        request=request or get(),
        request_time=NOW + 499,
        response_time=NOW + 500,
        received=received,
    )


# ---- the conditional request -----------------------------------------------------------------------------------------


@pytest.mark.rfc("9111", "4.3.1")
def test_validators_are_sent_exactly_as_received():
    """V1."""
    assert asked(get(), stored('ETag: W/"a"')) == [("If-None-Match", 'W/"a"')]
    assert asked(get(), stored("ETag: a")) == [("If-None-Match", "a")]
    assert asked(get(), stored(f"Last-Modified: {LM.lower()}")) == [("If-Modified-Since", LM.lower())]
    assert asked(get(), stored('ETag: "a"', f"Last-Modified: {LM}")) == [
        ("If-None-Match", '"a"'),
        ("If-Modified-Since", LM),
    ]
    assert conditional_fields(get(), stored('ETag: "a"')) == ((b"If-None-Match", b'"a"'),)


def test_a_refresh_of_our_own_carries_what_vary_names():
    """V2."""
    one = stored('ETag: "a"', f"Last-Modified: {LM}", "Vary: Foo", request=get("FOO: 1", "Bar: 2"))
    assert validation.refresh_fields(one).lines == (
        (b"FOO", b"1"),
        (b"If-None-Match", b'"a"'),
        (b"If-Modified-Since", LM.encode()),
    )
    assert validation.refresh_fields(stored()).lines == ()


def test_the_clients_tags_join_ours():
    """V5."""
    client = get('If-None-Match: "b", W/"c"', 'if-none-match: "a"', f"If-Modified-Since: {date().decode()}")
    assert asked(client, stored('ETag: "a"')) == [("If-None-Match", '"a", "b", W/"c"')]
    assert asked(get("If-None-Match: *"), stored('ETag: "a"')) == [("If-None-Match", '"a"')]
    assert asked(get('If-None-Match: "b"'), stored(f"Last-Modified: {LM}")) == [
        ("If-None-Match", '"b"'),
        ("If-Modified-Since", LM),
    ]


def test_with_nothing_to_validate_the_clients_conditions_travel_byte_for_byte():
    """V7."""
    client = get("if-none-match: a ,b", "If-Modified-Since: junk")
    assert asked(client) == asked(client, stored()) == [("if-none-match", "a ,b"), ("If-Modified-Since", "junk")]


def test_several_variants_offer_all_their_tags():
    """K9."""
    one, two = stored('ETag: "a"', f"Last-Modified: {LM}"), stored('ETag: "b"')
    assert asked(get(), one, two, one) == [("If-None-Match", '"a", "b"')]


def test_the_date_of_a_variant_for_other_requests_says_nothing():
    """K9: variants are often made at the same time, so that only a tag can tell them apart."""
    german = stored(f"Last-Modified: {LM}", "Vary: Foo", request=get("Foo: de"))
    assert asked(get("Foo: en"), german) == []
    assert asked(get("Foo: de"), german) == [("If-Modified-Since", LM)]
    tagged = stored('ETag: "a"', f"Last-Modified: {LM}", "Vary: Foo", request=get("Foo: de"))
    assert asked(get("Foo: en"), tagged) == [("If-None-Match", '"a"')]
    assert decide_304(get("Foo: en"), reply(f"Last-Modified: {LM}", status=304), [tagged]) == FetchAgain()
    assert decide_304(get("Foo: en"), reply('ETag: "a"', status=304), [tagged]) == Freshen(tagged)


def test_the_tag_of_a_part_validates_no_request_for_the_whole():
    """R9."""
    part = stored(
        'ETag: "a"',
        "Content-Range: bytes 0-1/9",
        status=206,
        request=get("Range: bytes=0-1"),
        rules=CacheRules(partial=True),
    )
    assert asked(get(), part) == []
    assert asked(get("Range: bytes=0-1"), part) == [("If-None-Match", '"a"')]
    assert decide_304(get(), reply('ETag: "a"', status=304), [part]) == FetchAgain()


# ---- which stored response a 304 is about ----------------------------------------------------------------------------


@pytest.mark.rfc("9111", "4.3.4")
def test_a_strong_tag_selects_the_same_strong_tag_and_no_other():
    one, same, weak = stored('ETag: "a"'), stored('ETag: "a"'), stored('ETag: W/"a"')
    assert decide_304(get(), reply('ETag: "a"', status=304), [one]) == Freshen(one)
    both = decide_304(get(), reply('ETag: "a"', status=304), [weak, one, same])
    assert {id(both.stored), *map(id, both.others)} == {id(one), id(same)}
    assert decide_304(get(), reply('ETag: "a"', status=304), [weak]) == FetchAgain()
    assert decide_304(get(), reply('ETag: "b"', f"Last-Modified: {LM}", status=304), [one]) == FetchAgain()


@pytest.mark.rfc("9111", "4.3.4")
def test_a_weak_validator_selects_the_latest_that_corresponds():
    old = stored('ETag: W/"a"', f"Last-Modified: {LM}", f"Date: {date(-9).decode()}")
    new = stored('ETag: W/"a"', f"Last-Modified: {LM}", f"Date: {date().decode()}")
    assert decide_304(get(), reply('ETag: W/"a"', status=304), [new, old]) == Freshen(new)
    assert decide_304(get(), reply(f"Last-Modified: {LM}", status=304), [old, new]) == Freshen(new)
    assert decide_304(get(), reply('ETag: W/"b"', status=304), [old, new]) == FetchAgain()
    assert decide_304(get(), reply("Last-Modified: then", status=304), [old]) == FetchAgain()
    unquoted = stored("ETag: a")
    assert decide_304(get(), reply("ETag: a", status=304), [unquoted]) == Freshen(unquoted)


@pytest.mark.rfc("9111", "4.3.4")
def test_without_validators_a_304_is_about_the_only_one_asked_about():
    one, two = stored('ETag: "a"'), stored('ETag: "b"')
    assert decide_304(get(), reply(status=304), [one]) == Freshen(one)
    assert decide_304(get(), reply(status=304), [one, two]) == FetchAgain()
    assert decide_304(get('If-None-Match: "c"'), reply(status=304), [one]) == FetchAgain()
    assert decide_304(get('If-None-Match: "a"'), reply(status=304), [one]) == Freshen(one)


def test_among_variants_with_one_tag_the_one_for_this_request_answers():
    for_one = stored('ETag: "a"', "Vary: Foo", request=get("Foo: 1"))
    for_two = stored('ETag: "a"', "Vary: Foo", request=get("Foo: 2"))
    assert decide_304(get("Foo: 1"), reply('ETag: "a"', status=304), [for_two, for_one]) == Freshen(for_one, (for_two,))


def test_a_304_for_a_tag_of_the_client_goes_to_the_client():
    """V5, V6, V7."""
    one = stored('ETag: "a"')
    client = get('If-None-Match: "b"')
    assert decide_304(client, reply('ETag: "b"', status=304), [one]) == PassOn()
    assert decide_304(client, reply('ETag: "z"', status=304), [one]) == FetchAgain()
    assert decide_304(client, reply('ETag: "a"', status=304), [one]) == Freshen(one)
    assert decide_304(client, reply(status=304), []) == PassOn()
    assert decide_304(get("If-Modified-Since: x"), reply(status=304), [stored()]) == PassOn()
    assert decide_304(get(), reply(status=304), []) == FetchAgain()


# ---- freshening ------------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9111", "3.2")
def test_a_304_replaces_the_fields_it_has_and_leaves_the_others():
    one = stored(
        'ETag: "a"', "X-A: 1", "X-A: 2", "X-B: 3", "Content-Type: a/b", "Content-Encoding: br", "Content-Length: 10"
    )
    news = [
        'ETag: "a"',
        "x-a: 9",
        "New: 1",
        "Content-Type: c/d",
        "Content-Encoding: gzip",
        "Content-Length: 0",
        "Content-Range: bytes 0-1/2",
        "Connection: X-B, y",
        "X-B: 5",
        "Y: 1",
        "Keep-Alive: 5",
        "Set-Cookie: a=b",
    ]
    result = freshened(one, *news)
    assert result.head.status == 200
    assert result.head.fields == lines(
        [
            "Cache-Control: max-age=60",
            'ETag: "a"',
            "x-a: 9",
            "X-B: 3",
            "Content-Type: c/d",
            "Content-Encoding: br",
            f"Date: {date(500).decode()}",
            "New: 1",
            "Set-Cookie: a=b",
        ]
    )
    assert result.body is one.body
    assert result.length == 10
    assert one.head.fields.all(b"x-a") == [b"1", b"2"]


@pytest.mark.rfc("9111", "4.3.4")
def test_lifetime_and_age_begin_anew():
    """A1, A3."""
    one = stored('ETag: "a"', f"Date: {date(-20).decode()}", "Age: 30")
    result = freshened(one, "Cache-Control: max-age=100", "Age: 7")
    assert (result.lifetime, result.initial_age, result.received) == (100, 8, 500)
    assert freshness.age_value(result, 501.0) == 9
    silent = freshened(one)
    assert (silent.lifetime, silent.initial_age) == (60, 1)
    expiring = kept(f"Expires: {date(600).decode()}", 'ETag: "a"')
    assert freshened(expiring, f"Date: {date(500).decode()}").lifetime == 100
    assert freshened(one, f"Date: {date(400).decode()}").initial_age == 100


def test_the_news_may_end_the_storing():
    """S2, S3."""
    one = stored('ETag: "a"')
    assert validation.may_keep(freshened(one))
    for control in ("no-store", "private, max-age=9", 'max-age=9, x="'):
        assert not validation.may_keep(freshened(one, f"Cache-Control: {control}"))
    assert not validation.may_keep(freshened(one, "Vary: *"))
    assert validation.may_keep(freshened(one, "Cache-Control: no-store, must-understand, max-age=5"))


def test_news_of_vary_select_by_the_request_that_was_validated():
    one = stored('ETag: "a"', "Vary: Foo", request=get("Foo: 1"))
    same = freshened(one, "Vary: foo", request=get("Foo: 2"))
    assert same.selecting == ((b"foo", b"1"),)
    other = freshened(one, "Vary: Bar", request=get("Bar: 2"))
    assert other.selecting == ((b"bar", b"2"),)
    assert other.request_fields.lines == ((b"Bar", b"2"),)
    adopted = validation.adopt(one, get("Foo: 2"))
    assert key.matches(adopted, get("Foo: 2"))
    assert key.matches(one, get("Foo: 1"))
    assert adopted.body is one.body


def test_a_refresh_of_our_own_selects_by_the_stored_request():
    one = stored('ETag: "a"', "Vary: Foo", request=get("Foo: 1"))
    result = validation.freshen(
        one, reply("Vary: Foo, Bar"), RULES, request=None, request_time=NOW, response_time=NOW, received=1.0
    )
    assert result.selecting == ((b"bar", None), (b"foo", b"1"))


def test_tags_follow_the_news():
    one = stored('ETag: "a"', "Cache-Tag: x")
    assert freshened(one).tags == (b"x",)
    assert freshened(one, "Cache-Tag: y").tags == (b"y",)


def test_private_fields_of_the_news_are_left_out():
    """S3."""
    one = stored('ETag: "a"', "X-A: 1")
    result = freshened(one, 'Cache-Control: max-age=9, private="x-a"', "X-A: 2", "X-B: 3")
    assert names(result.head) == ["cache-control", "etag", "date", "x-b"]


@pytest.mark.rfc("9111", "3.2")
def test_cookies_of_a_304_replace_those_stored_where_they_would_be_stored_with_a_200():
    """S6, SU."""
    one = stored('ETag: "a"', "Set-Cookie: a=1")
    assert freshened(one, "Set-Cookie: a=2").head.fields.all(b"set-cookie") == [b"a=2"]
    assert freshened(one).head.fields.all(b"set-cookie") == [b"a=1"]
    for news, rules in (
        (["Set-Cookie: JSESSIONID=1"], TOMCAT),
        (["Set-Cookie: a=2"], CacheRules(set_cookie="strip")),
        (["Set-Cookie: a=2"], CacheRules(set_cookie="skip")),
        (["Set-Cookie: a=2"], CacheRules(ignore_cookies=True)),
        (["Set-Cookie: a=2", "Cache-Control: public"], RULES),
    ):
        assert b"set-cookie" not in freshened(one, *news, rules=rules).head.fields, news


def test_what_is_not_stored_of_a_304_reaches_one_client():
    """A7, S6."""
    head = reply("Set-Cookie: JSESSIONID=1", "Age: 5", "ETag: x", status=304)
    plain, cookie = stored('ETag: "a"'), stored('ETag: "a"', "Set-Cookie: a=1")
    assert validation.for_this_client(head, plain, RULES) == ((b"Set-Cookie", b"JSESSIONID=1"), (b"Age", b"5"))
    assert validation.for_this_client(head, cookie, RULES) == ((b"Age", b"5"),)
    assert validation.for_this_client(head, plain, CacheRules(ignore_cookies=True)) == ((b"Age", b"5"),)
    assert "set-cookie" not in names(freshened(plain, "Set-Cookie: JSESSIONID=1", rules=TOMCAT).head)


def test_a_lifetime_by_rule_is_kept_unless_cookies_came_along():
    """Hardening K3."""
    rules = CacheRules(ttl=30)
    one = kept('ETag: "a"', rules=rules)
    assert freshened(one, rules=rules).lifetime == 30
    assert freshened(one, rules=rules, request=get("Cookie: a=b")).lifetime == 0


# ---- HEAD ------------------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9111", "4.3.5")
@pytest.mark.parametrize(
    ("fields", "status", "effect"),
    [
        (['ETag: "a"', f"Last-Modified: {LM}", "Content-Length: 10"], 200, HeadEffect.UPDATES),
        ([], 200, HeadEffect.UPDATES),
        (['ETag: "a"'], 200, HeadEffect.UPDATES),
        (['ETag: "b"'], 200, HeadEffect.OUTDATES),
        (["Content-Length: 11"], 200, HeadEffect.OUTDATES),
        ([f"Last-Modified: {date().decode()}"], 200, HeadEffect.OUTDATES),
        ([], 404, HeadEffect.OUTDATES),
        ([], 410, HeadEffect.OUTDATES),
        ([], 500, HeadEffect.NOTHING),
        ([], 302, HeadEffect.NOTHING),
    ],
)
def test_the_answer_to_head_updates_or_outdates_the_stored_get(fields, status, effect):
    """M2."""
    assert decide_head(reply(*fields, status=status), stored('ETag: "a"', f"Last-Modified: {LM}")) is effect


def test_who_asked_by_head_gets_the_updated_fields_and_the_length_it_was_told():
    """M2."""
    one = stored('ETag: "a"', "X-A: old", "X-B: old")
    news = reply('ETag: "a"', "X-A: new", "Age: 7", "Content-Length: 10")
    updated = freshened(one, 'ETag: "a"', "X-A: new", status=200)
    told = validation.told_by_head(updated, news, RULES)
    assert [told.fields.get(name) for name in (b"x-a", b"x-b", b"age", b"content-length")] == [
        b"new",
        b"old",
        b"7",
        b"10",
    ]
    silent = validation.told_by_head(updated, reply('ETag: "a"'), RULES)
    assert silent.fields.all(b"content-length") == [b"10"]


def test_an_outdated_response_is_stale_and_waits_for_validation():
    """M2."""
    one = kept("Cache-Control: max-age=60, stale-while-revalidate=60", 'ETag: "a"')
    result = validation.outdate(one)
    assert freshness.remaining(result, 0.0) <= 0
    assert result.control.stale_while_revalidate is None
    assert result.etag == b'"a"'


FIELDS = st.lists(
    st.sampled_from(
        [
            "ETag: x",
            "X-A: 1",
            "X-A: 2",
            "Cache-Control: no-store",
            "Cache-Control: max-age=5",
            "Vary: foo",
            "Age: 9",
            "Expires: 0",
            "Set-Cookie: a=b",
            "Connection: x-a",
        ]
    ),
    max_size=6,
)


@given(FIELDS, FIELDS)
def test_freshening_twice_with_the_same_news_changes_nothing_more(old, news):
    one = kept('ETag: "a"', *[field for field in old if "no-store" not in field and "Set-Cookie" not in field])
    once = freshened(one, *news)
    twice = freshened(once, *news)
    assert once.head == twice.head
    assert (once.lifetime, once.initial_age, once.selecting) == (twice.lifetime, twice.initial_age, twice.selecting)
