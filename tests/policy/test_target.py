"""What an operator names: addresses as keys are made, patterns of hosts and paths, tags of a PURGE."""

from __future__ import annotations

import time

import pytest

from proxy.policy.rules import CacheRules
from proxy.policy.target import (
    BadTargetError,
    asks_soft,
    check_tag,
    key_prefix,
    keys_of,
    parse_pattern,
    parse_url,
    tags_asked,
)
from tests.policy.heads import get

TOMCAT = CacheRules(session_arguments=frozenset({b"jsessionid"}), drop_session_from_key=True)


def test_an_address_is_read_as_a_request_for_it():
    head = parse_url("HTTPS://Shop.Example:443/a/%7eb?x=1", b"HEAD")
    assert (head.method, head.scheme) == (b"HEAD", b"https")
    assert (head.authority, head.target) == (b"shop.example", b"/a/%7eb?x=1")
    assert parse_url("http://shop").path == b"/"
    assert parse_url("http://bücher.example/").authority == b"xn--bcher-kva.example"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop/a",
        "ftp://shop/",
        "http:///a",
        "http://u@shop/",
        "http://shop/a#b",
        "http://s/ a",
        "http://s/ä",
        "http://s/\n",
    ],
)
def test_what_is_no_address_is_told(url):
    with pytest.raises(BadTargetError):
        parse_url(url)


def test_an_address_has_the_keys_that_sites_may_give_it():
    assert keys_of("http://shop/a;jsessionid=12", (CacheRules(), TOMCAT)) == {
        b"http://shop/a",
        b"http://shop/a;jsessionid=12",
    }
    assert key_prefix("http://Shop:80/%61") == b"http://shop/a"


KEYS = {
    "png": b"http://shop.example/images/a.png",
    "png?": b"https://shop.example/images/a.png?v=2",
    "deep": b"http://shop.example/images/x/y.png\nx-field:1",
    "port": b"http://shop.example:8080/images/a.png",
    "www": b"http://www.shop.example/images/a.png",
    "news": b"http://shop.example/news?page=1",
}


@pytest.mark.parametrize(
    ("pattern", "matching"),
    [
        ("shop.example/images/*", "png png? deep port"),
        ("Shop.Example/images/*", "png png? deep port"),
        ("https://shop.example/images/*.png", "png png? deep port"),  # a scheme may be written, and says nothing
        ("shop.example/images/*.png?v=*", "png?"),
        ("shop.example/images/?", ""),
        ("shop.example:8080/*", "port"),
        ("*.shop.example/*", "www"),
        ("/news", "news"),
        ("*/images/*/*.png", "deep"),
        ("/images/**", "png png? deep port www"),
        ("shop.example/images", ""),
        ("~^/images/[a-z]+[.]png$", "png port www"),
        ("shop.example~page=[0-9]+$", "news"),
        ("*.shop.example~.", "www"),
        ("*~(?i)A\\.PNG", "png png? port www"),
    ],
)
def test_a_pattern_is_a_host_with_a_glob_or_an_expression(pattern, matching):
    found = parse_pattern(pattern)
    assert [name for name, key in KEYS.items() if found.matches(key)] == matching.split()


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "1 to 1024"),
        ("shop", "write host/glob"),
        ("sh op/x", "host is a name"),
        ("a*b/x", "host is a name"),
        ("~(", "without its"),
        ("shop~", "1 to 512"),
        ("shop/ä", "ASCII"),
    ],
)
def test_a_faulty_pattern_says_how_one_is_written(pattern, why):
    with pytest.raises(BadTargetError, match=why):
        parse_pattern(pattern)


def test_a_glob_full_of_stars_is_quick():
    pattern = parse_pattern("/" + "a*" * 200 + "b")
    started = time.process_time()
    assert not pattern.matches(b"http://shop/" + b"a" * 8000)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("tag", ["", " a", "a\n", "a" * 2000])
def test_what_can_be_no_tag_is_told(tag):
    with pytest.raises(BadTargetError, match="tag"):
        check_tag(tag)


@pytest.mark.parametrize(
    ("fields", "tags", "soft"),
    [
        ({}, (), False),
        ({"Surrogate-Key": "a b"}, ("a", "b"), False),
        ({"xkey": "a", "Surrogate-Key": "a c"}, ("a", "c"), False),
        ({"Cache-Tag": "a, b"}, ("a", "b"), False),
        ({"xkey-purge": "a"}, ("a",), False),
        ({"xkey-softpurge": "a"}, ("a",), True),
        ({"Fastly-Soft-Purge": "1"}, (), True),
        ({"Tandem-Soft-Purge": "1", "xkey": "a"}, ("a",), True),
        ({"Tandem-Soft-Purge": "0"}, (), False),
    ],
)
def test_a_purge_names_its_tags_as_other_caches_are_told(fields, tags, soft):
    head = get(*(f"{name}: {value}" for name, value in fields.items()), method="PURGE")
    assert tags_asked(head) == tags
    assert asks_soft(head) is soft
