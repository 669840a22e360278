"""What an operator's purge takes out of the store, and what it leaves."""

from __future__ import annotations

import pytest

from proxy import bus
from proxy.cache.store import Store
from proxy.http.fields import CacheControl
from proxy.http.message import Fields, ResponseHead
from proxy.http.stored import Body, StoredResponse
from proxy.policy.rules import CacheRules
from proxy.purging import BadPurgeError, apply_purge, keys_of, touches

PLAIN = CacheRules()
TOMCAT = CacheRules(session_arguments=frozenset({b"jsessionid"}), drop_session_from_key=True)
FIELDS = CacheRules(key_fields=(b"x-forwarded-host",))

KEYS = (
    b"http://shop/",
    b"http://shop/a",
    b"http://shop/a?x=1",
    b"http://shop/a/b",
    b"http://shop:8080/a",
    b"https://shop/a",
    b"http://shop.example/a",
    b"http://shop/a\nx-forwarded-host:other",
)


def stored(key, tags=()):
    return StoredResponse(
        key=key,
        head=ResponseHead(200, b"OK", Fields()),
        body=Body([b"x"], complete=True),
        length=1,
        control=CacheControl(),
        lifetime=60.0,
        lifetime_source="max-age",
        initial_age=0.0,
        request_time=0.0,
        response_time=0.0,
        received=0.0,
        tags=tags,
    )


@pytest.fixture
def store():
    store = Store(2**20, clock=lambda: 10.0)
    for key in KEYS:
        store.put(stored(key, (b"red",) if key.endswith(b"/a") else ()))
    return store


def purge(store, kind, value="", rules=(PLAIN,), **more):
    """(how many it said, which keys are gone)."""
    count = apply_purge(store, bus.Purge(1, kind, value, **more), rules)
    left = {one.key for one in store}
    return count, [key for key in KEYS if key not in left]


@pytest.mark.parametrize(
    "url",
    ["http://shop/a", "HTTP://Shop:80/a", "http://SHOP/%61", "http://shop:80/%61"],
)
@pytest.mark.rfc("3986", "6.2.2")
def test_an_address_is_purged_however_it_is_written(store, url):
    assert purge(store, "url", url) == (1, [b"http://shop/a"])


@pytest.mark.parametrize("dry_run", [False, True])
def test_an_address_is_purged_with_what_trusted_hops_have_told_beside_it(store, dry_run):
    """A hop that ends TLS asks under http for what its clients, and operators, know as https."""
    beside = {b"\nx-forwarded-host:other", b"\nx-forwarded-proto:https"}
    store.put(stored(b"http://shop/a\nx-forwarded-proto:https"))
    counts = [
        apply_purge(store, bus.Purge(1, "url", url, dry_run=dry_run), (PLAIN,), beside)
        for url in ("http://shop/a?x=1", "https://shop/a")
    ]
    assert counts == [1, 4]
    assert (b"http://shop/a\nx-forwarded-proto:https" in {one.key for one in store}) == dry_run


def test_an_address_without_a_path_is_that_of_the_root(store):
    assert purge(store, "url", "http://shop") == (1, [b"http://shop/"])


def test_a_query_is_part_of_the_address(store):
    assert purge(store, "url", "http://shop/a?x=1") == (1, [b"http://shop/a?x=1"])
    assert purge(store, "url", "http://shop/a?") == (0, [b"http://shop/a?x=1"])


def test_where_fields_join_the_key_an_address_goes_with_all_its_keys(store):
    gone = [b"http://shop/a", b"http://shop/a\nx-forwarded-host:other"]
    assert purge(store, "url", "http://shop/a", (PLAIN, FIELDS)) == (2, gone)


def test_a_session_that_is_left_out_of_keys_is_left_out_of_purges(store):
    assert purge(store, "url", "http://shop/a;jsessionid=1234.t1", (TOMCAT,)) == (1, [b"http://shop/a"])
    assert keys_of("http://shop/a;jsessionid=12", (PLAIN, TOMCAT)) == {b"http://shop/a", b"http://shop/a;jsessionid=12"}


def test_a_prefix_takes_all_below_it_on_its_own_host_alone(store):
    count, gone = purge(store, "prefix", "http://shop/a")
    assert count == 4
    assert set(gone) == {b"http://shop/a", b"http://shop/a?x=1", b"http://shop/a/b", KEYS[-1]}
    assert purge(store, "prefix", "http://shop")[0] == 1
    assert {one.key for one in store} == {b"http://shop:8080/a", b"https://shop/a", b"http://shop.example/a"}


def test_a_tag_takes_what_bears_it(store):
    count, gone = purge(store, "tag", "red")
    assert count == 4
    assert all(key.endswith(b"/a") for key in gone)
    assert purge(store, "tag", "blue")[0] == 0


def test_a_pattern_is_held_against_whole_addresses(store):
    assert purge(store, "match", "*/a?x=*") == (1, [b"http://shop/a?x=1"])
    assert purge(store, "match", "/a")[0] == 0
    assert purge(store, "match", "http://shop*/a")[0] == 4


def test_all_is_all(store):
    assert purge(store, "all") == (len(KEYS), list(KEYS))


@pytest.mark.parametrize(
    ("kind", "value"),
    [("url", "http://shop/a"), ("prefix", "http://shop/a"), ("tag", "red"), ("match", "*/a"), ("all", "")],
)
def test_a_dry_run_counts_what_would_go_and_a_soft_purge_makes_it_stale(store, kind, value):
    rules = (PLAIN, FIELDS)
    would, gone = purge(store, kind, value, rules, dry_run=True)
    assert would > 0
    assert gone == []
    assert not any(one.outdated for one in store)
    assert purge(store, kind, value, rules, soft=True) == (would, [])
    assert sum(one.outdated for one in store) == would
    assert purge(store, kind, value, rules)[0] == would
    assert store.entries == len(KEYS) - would


@pytest.mark.parametrize(
    "url",
    ["", "shop/a", "ftp://shop/a", "http:///a", "http://us er/a", "http://u@shop/", "http://shop/a#b", "http://[/"],
)
@pytest.mark.parametrize("kind", ["url", "prefix"])
def test_what_is_no_address_is_refused_with_its_reason(store, kind, url):
    with pytest.raises(BadPurgeError, match=r"http or https address|valid host"):
        purge(store, kind, url)
    assert store.entries == len(KEYS)


def test_names_in_other_letters_are_those_of_the_wire():
    assert keys_of("http://bücher.example/", (PLAIN,)) == {b"http://xn--bcher-kva.example/"}


@pytest.mark.parametrize(
    ("kind", "value", "concerned"),
    [
        ("url", "http://shop/a", [b"http://shop/a", KEYS[-1]]),
        ("prefix", "http://shop/a", [b"http://shop/a", b"http://shop/a?x=1", b"http://shop/a/b", KEYS[-1]]),
        ("match", "https:*", [b"https://shop/a"]),
        ("tag", "red", list(KEYS)),  # what a fetch will bring bears tags that nobody knows yet
        ("all", "", list(KEYS)),
    ],
)
def test_what_is_on_its_way_is_known_by_its_key(kind, value, concerned):
    touched = touches(bus.Purge(1, kind, value), (PLAIN,))
    assert [key for key in KEYS if touched(key)] == concerned


def test_what_another_mode_stored_is_purged_by_its_address_too(store):
    """A command means the resource, wherever it was stored; an exact key, told by another worker, that one alone."""
    space = CacheRules(space=b"forward-1 ")
    own = b"forward-1 http://shop/a"

    def left(kind, value):
        store.put(stored(own))
        purge(store, kind, value, (PLAIN, space))
        return own in {one.key for one in store}

    assert not left("url", "http://shop/a")
    assert not left("prefix", "http://shop/")
    assert not left("match", "http://shop/a*")
    assert left("key", "http://shop/a")
    store.put(stored(b"http://shop/a"))
    assert not left("key", own.decode())
    assert b"http://shop/a" in {one.key for one in store}
