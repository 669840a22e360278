"""What an operator's purge takes out of the store, and what it leaves."""

from __future__ import annotations

import asyncio

import pytest

from proxy import bus
from proxy.cache.bans import MOST_ENTRIES
from proxy.cache.coalesce import Flight, Flights
from proxy.cache.store import Store
from proxy.http.fields import CacheControl
from proxy.http.message import Fields, ResponseHead
from proxy.http.stored import Body, StoredResponse
from proxy.pipeline import Tally
from proxy.policy.rules import CacheRules
from proxy.policy.target import BadTargetError
from proxy.purging import Purger, touches

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


class Mode:
    """What a purge asks of the configuration; a site has the host of its name, on any port."""

    def __init__(self, rules):
        self.rules = rules

    def cache_rules(self):
        return self.rules

    def serves(self, site, key):
        return key.split(b"/")[2].partition(b":")[0] == site.encode()


def purger(store, rules=(PLAIN,), beside=()):
    made = Purger(store, Flights(lambda: 10.0), Tally())
    made.configure(Mode(rules), beside)
    return made


def purge(store, kind, value="", rules=(PLAIN,), beside=(), **more):
    """(how many it said, which keys are gone)."""
    count = asyncio.run(purger(store, rules, beside).apply(bus.Purge(1, kind, value, **more)))
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
        purge(store, "url", url, beside=beside, dry_run=dry_run)[0] for url in ("http://shop/a?x=1", "https://shop/a")
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
    assert purge(store, "match", "shop~^/a/")[0] == 1
    assert purge(store, "match", "*/a")[0] == 5


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
    with pytest.raises(BadTargetError, match=r"http or https address|valid host"):
        purge(store, kind, url)
    assert store.entries == len(KEYS)


def test_a_site_keeps_a_purge_to_its_own_names(store):
    assert purge(store, "all", site="shop.example") == (1, [b"http://shop.example/a"])
    assert purge(store, "tag", "red", site="shop")[0] == 3
    assert purge(store, "url", "http://shop/a?x=1", site="shop.example")[0] == 0


@pytest.mark.rfc("9875", "2")
def test_a_group_goes_by_its_bare_name_or_for_one_origin_by_both(store):
    for host in (b"a", b"b"):
        store.put(stored(b"http://%b/group" % host, (b"http://%b two words" % host,)))
    assert purge(store, "tag", "words")[0] == 0
    assert purge(store, "tag", "http://a two words")[0] == 1
    assert purge(store, "tag", "two words")[0] == 1


def test_the_same_number_at_once_is_one_purge_and_its_answer_waits_for_the_end():
    """A sweep of several steps, asked for twice while the loop does other things in between."""
    store = Store(2**24, clock=lambda: 10.0)
    for number in range(4 * MOST_ENTRIES):
        store.put(stored(b"http://shop/%d" % number))
    one = purger(store)
    turns = []

    async def turn():
        while len(turns) < 3:
            turns.append(store.entries)
            await asyncio.sleep(0)

    async def both():
        question = bus.Purge(7, "match", "/*")
        return await asyncio.gather(one.apply(question), turn(), one.apply(question))

    first, _, second = asyncio.run(both())
    assert first == second == 4 * MOST_ENTRIES
    assert 0 < turns[1] < 4 * MOST_ENTRIES  # it was not done at a stretch
    assert asyncio.run(one.apply(bus.Purge(8, "all", ""))) == store.entries == 0


def test_a_fetch_on_its_way_is_judged_by_what_it_brings(store):
    one = purger(store)
    flight = Flight(None, store, b"http://shop/new", None, started=0.0, wall=0.0)
    one._flights.open(flight, listed=True)
    asyncio.run(one.apply(bus.Purge(1, "tag", "red", dry_run=True)))
    assert one._flights.get(flight.key) is flight
    asyncio.run(one.apply(bus.Purge(2, "tag", "red", site="shop")))
    assert one._flights.get(flight.key) is None
    assert flight.is_void(stored(flight.key, (b"red",)))
    assert not flight.is_void(stored(flight.key, (b"blue",)))


@pytest.mark.parametrize(
    ("kind", "value", "concerned"),
    [
        ("url", "http://shop/a", [b"http://shop/a", KEYS[-1]]),
        ("prefix", "http://shop/a", [b"http://shop/a", b"http://shop/a?x=1", b"http://shop/a/b", KEYS[-1]]),
        ("match", "*:8080/a", [b"http://shop:8080/a"]),
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
    assert not left("match", "shop/a*")
    assert left("key", "http://shop/a")
    store.put(stored(b"http://shop/a"))
    assert not left("key", own.decode())
    assert b"http://shop/a" in {one.key for one in store}
