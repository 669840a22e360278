"""Which cookies of a request travel and count, and which are part of the key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy import cookies
from proxy.policy.rules import CacheRules
from tests.policy.heads import lines

ANALYTICS = CacheRules(drop_cookies=(b"_ga*", b"_gid"))
LANGUAGE = CacheRules(keep_cookies=(b"lang",), key_cookies=(b"lang",))


def left(rules, *values):
    return cookies.counting(lines([f"Cookie: {value}" for value in values]), rules).all(b"cookie")


@pytest.mark.parametrize(
    ("rules", "sent", "kept"),
    [
        (CacheRules(), "_ga=1; a=2", [b"_ga=1; a=2"]),
        (CacheRules(ignore_cookies=True), "a=2", []),
        (ANALYTICS, "_ga=1; a=2;_gid=3", [b"a=2"]),
        (ANALYTICS, "a=1;b=2", [b"a=1;b=2"]),
        (ANALYTICS, "_ga=1; _gid=2", []),
        (ANALYTICS, "_GA=1", [b"_GA=1"]),
        (ANALYTICS, "_ga", []),
        (ANALYTICS, 'a="x;_ga=1; b=2', [b'a="x; b=2']),
        (LANGUAGE, "a=1; lang=de; b", [b"lang=de"]),
        (LANGUAGE, "language=de", []),
    ],
)
def test_the_cookies_that_a_rule_leaves_out_are_gone_and_the_others_as_they_came(rules, sent, kept):
    assert left(rules, sent) == kept


def test_each_line_is_looked_at_for_itself():
    assert left(ANALYTICS, "_ga=1", "a=1", "_gid=2; b=3") == [b"a=1", b"b=3"]


def test_two_cookies_of_one_name_are_both_told():
    fields = lines(["Cookie: lang=de; a=1; lang=en", "Cookie: lang"])
    assert cookies.values(fields, b"lang") == b"lang=de;lang=en;lang"
    assert cookies.values(fields, b"b") is None


@pytest.mark.parametrize(
    ("rules", "sent", "personal"),
    [
        (CacheRules(), "a=1", True),
        (CacheRules(ignore_cookies=True), "a=1", False),
        (LANGUAGE, "lang=de", False),
        (LANGUAGE, "lang=de; a=1", True),
    ],
)
def test_cookies_that_are_part_of_the_key_make_nothing_personal(rules, sent, personal):
    assert cookies.are_personal(lines([f"Cookie: {sent}"]), rules) is personal
    assert not cookies.are_personal(lines([]), rules)


@given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=40))
def test_any_bytes_are_read_and_what_is_left_out_stays_out(value):
    once = cookies.counting(lines([f"Cookie: {value}"]), ANALYTICS)
    assert cookies.counting(once, ANALYTICS) == once
    assert not any(name.startswith(b"_ga") for line in once.all(b"cookie") for name, _ in cookies.pairs(line))
