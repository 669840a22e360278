"""What one rule says of the cache, looked at as a whole."""

import pytest

from tests.config.test_checks import judge

SITE = '[[site]]\nname = "s"\nlisten = ":8080"\nupstream = "127.0.0.1:8081"\npreset = "tomcat"\n'


def problems(*lines, more=""):
    return judge(SITE + '[[rule]]\nname = "r"\n' + "\n".join(lines) + "\n" + more)[1]


@pytest.mark.parametrize(
    "lines",
    [
        ('min_ttl = "1s"', 'max_ttl = "1d"', 'ttl = "1h"', 'status_ttl = { 404 = "10s", 503 = "1s" }'),
        ('grace = "60s"', 'refresh_ahead = "10s"', 'hit_for_miss = "0"', "ignore_reload = true"),
        ('query = { sort = true, drop = ["utm_*", "fbclid"] }', 'drop_cookies = ["_ga*"]'),
        ('key = { header = "X-Country", cookie = "lang", device = true }', 'keep_cookies = ["lang", "JSESSIONID"]'),
        ('bypass = { cookie = "a*", header = ["X-A", "X-B: 1"], query = ["p", "m=e"], clients = "10.0.0.0/8" }',),
        ("cache = false", 'drop_cookies = ["_ga*"]', "query = { sort = true }"),
    ],
)
def test_what_fits_together_is_accepted(lines):
    assert problems(*lines) == []


@pytest.mark.parametrize(
    ("lines", "where", "what"),
    [
        (('min_ttl = "2s"', 'max_ttl = "1s"'), "min_ttl", "`2s` is more than `max_ttl` (1s)"),
        (('ttl = "2s"', 'max_ttl = "1s"'), "ttl", "more than `max_ttl`"),
        (('ttl = "2s"', 'min_ttl = "3s"'), "ttl", "less than `min_ttl`"),
        (('status_ttl = { 404 = "2s" }', 'max_ttl = "1s"'), "status_ttl.404", "more than `max_ttl`"),
        (('status_ttl = { 304 = "2s" }',), "status_ttl.304", "is not accepted"),
        (('ttl = "10s"', 'refresh_ahead = "9s"'), "refresh_ahead", "half of `ttl`"),
        (('cookies = "ignore"', 'drop_cookies = "a"'), "drop_cookies", "no cookie travels"),
        (('keep_cookies = "JSESSIONID"', 'drop_cookies = "a"'), "keep_cookies", "either"),
        (('drop_cookies = "J*"',), "drop_cookies", "sessions end"),
        (('keep_cookies = "a"',), "keep_cookies", "sessions end"),
        (('cookies = "ignore"', 'key = { cookie = "a" }'), "key.cookie[0]", "does not travel"),
        (('drop_cookies = "_ga*"', 'key = { cookie = ["a", "_gab"] }'), "key.cookie[1]", '"_gab"'),
        (('key = { header = "Cookie" }',), "key.header[0]", "not for a key"),
        (("key = {}",), "key", "nothing is added"),
        (("query = {}",), "query", "nothing is said"),
        (('query = { keep = "a", drop = "b" }',), "query.keep", "either"),
        (('query = { drop = "a*b*" }',), "query.drop[0]", "is not accepted"),
        (("bypass = {}",), "bypass", "nothing goes past"),
        (('bypass = { header = "a b" }',), "bypass.header[0]", "is not accepted"),
        (("cache = false", 'grace = "1s"'), "grace", "no effect"),
        (('redirect = "/x"', "query = { sort = true }"), "query", "no effect"),
    ],
)
def test_what_does_not_is_said_with_its_place(lines, where, what):
    said = problems(*lines)
    assert [one for one in said if one.startswith(f"rule[0].{where}: ") and what in one], said


def test_rules_that_differ_in_caching_alone_are_told_to_overlap():
    later = '[[rule]]\nname = "q"\nmatch = { path = "/a/*" }\ngrace = "2s"\n'
    assert any("dead rule" in one for one in problems('grace = "1s"', more=later))
