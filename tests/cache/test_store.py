"""What is in the store is live and within the bound; what left is neither."""

import gc
import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.cache.store import FREEZE_AFTER, Store
from proxy.http.message import Fields, ResponseHead
from proxy.http.stored import Body, StoredResponse
from proxy.policy.freshness import current_age, remaining


class Control:
    """In place of parsed directives: the store looks at none."""

    __slots__ = ("flags",)


def make(key=b"http://example.org/", body=b"hello", *, selecting=(), tags=(), real=0, touched=False):
    """A stored response; `real` makes each line, number and body an object of its own, as they come from the wire."""
    raw = [
        (b"Content-Type", b"text/html"),
        (b"Cache-Control", b"max-age=60"),
        (b"ETag", b'"%x"' % real),
        (b"Date", b"Tue, 24 Nov 2026 12:00:00 GMT"),
        (b"Last-Modified", b"Tue, 24 Nov 2026 %02d:%02d:%02d GMT" % (real // 3600 % 24, real // 60 % 60, real % 60)),
        (b"Server", b"Apache-Coyote/1.1"),
    ]
    fields = Fields([(bytes(bytearray(name)), bytes(bytearray(value))) for name, value in raw])
    if touched:
        fields.get(b"etag")
    return StoredResponse(
        key=key,
        head=ResponseHead(200, b"OK", fields),
        body=Body([bytes(bytearray(body))], complete=True),
        length=len(body),
        control=Control(),
        lifetime=60.0 + real,
        lifetime_source="max-age",
        initial_age=0.0 + real,
        request_time=1000.0 + real,
        response_time=1000.5 + real,
        received=50.0 + real,
        selecting=selecting,
        tags=tags,
    )


def encoding(value):
    return ((b"accept-encoding", value),)


@pytest.fixture
def store():
    return Store(1 << 20)


@pytest.fixture
def gone(store):
    told = []
    store.on_gone.append(told.append)
    return told


def test_what_was_put_is_found(store):
    stored = make()
    assert store.put(stored)
    assert store.variants(stored.key) == (stored,)
    assert store.variants(b"http://example.org/other") == ()
    assert store.entries == store.keys == 1
    assert store.bytes >= 5


def test_a_variant_replaces_the_one_with_the_same_selecting_fields(store, gone):
    old, other, new = (
        make(selecting=encoding(b"gzip")),
        make(selecting=encoding(None)),
        make(selecting=encoding(b"gzip")),
    )
    for stored in (old, other, new):
        store.put(stored)
    assert set(store.variants(old.key)) == {other, new}
    assert gone == [old]
    assert not old.live
    assert new.live
    assert store.entries == 2


def test_variants_live_side_by_side_and_the_longest_unused_leaves_first(gone):
    store = Store(1 << 20, most_variants=3)
    store.on_gone.append(gone.append)
    first, second, third, fourth = (make(selecting=encoding(b"%d" % number)) for number in range(4))
    for stored in (first, second, third):
        store.put(stored)
    store.touch(first)
    store.put(fourth)
    assert set(store.variants(first.key)) == {first, third, fourth}
    assert gone == [second]


def test_putting_a_freshened_response_again_keeps_it_and_voids_its_memos(store, gone):
    stored = make()
    store.put(stored)
    stored.head = stored.head.with_fields(stored.head.fields.plus((b"X-More", bytes(1000))))
    before = store.bytes
    store.put(stored)
    assert gone == [stored]
    assert stored.live
    assert store.variants(stored.key) == (stored,)
    assert store.entries == 1
    assert store.bytes >= before + 700  # its common lines are shared by now


def test_a_response_that_is_too_large_is_refused_and_not_live(store, gone):
    small, huge = make(b"small"), make(b"huge", bytes(2 << 20))
    store.put(small)
    assert not store.put(huge)
    assert not huge.live
    assert store.variants(b"small") == (small,)


def test_a_store_without_memory_keeps_nothing_and_reserves_nothing():
    store = Store(0)
    stored = make()
    assert not store.put(stored)
    assert not stored.live
    assert not store.reserve(1)
    assert store.variants(stored.key) == ()
    store.resize(1 << 20)
    assert store.put(make())


def test_variants_that_are_too_large_together_leave_the_newest(gone):
    store = Store(100_000)
    first, second = (
        make(body=bytes(60_000), selecting=encoding(b"a")),
        make(body=bytes(60_000), selecting=encoding(b"b")),
    )
    store.put(first)
    assert store.put(second)
    assert store.variants(first.key) == (second,)
    assert not first.live
    assert store.entries == 1


def test_a_removed_response_is_gone_and_its_siblings_stay(store, gone):
    one, two = make(selecting=encoding(b"a")), make(selecting=encoding(b"b"))
    store.put(one)
    store.put(two)
    assert store.remove(one)
    assert not store.remove(one)
    assert store.variants(one.key) == (two,)
    assert gone == [one]
    assert store.remove(two)
    assert store.entries == store.bytes - store.shared == 0


def test_removing_a_namesake_that_is_not_here_removes_nothing(store):
    store.put(make())
    assert not store.remove(make())
    assert store.entries == 1


def fill(store):
    """Three keys, four responses."""
    a = make(b"http://a/x", tags=(b"red", b"all"))
    b1 = make(b"http://a/y", selecting=encoding(b"gzip"), tags=(b"all",))
    b2 = make(b"http://a/y", selecting=encoding(None))
    c = make(b"http://c/x", tags=(b"red",))
    for stored in (a, b1, b2, c):
        store.put(stored)
    return a, b1, b2, c


def swept(store, matches, **how):
    sweep = store.sweep(matches, **how)
    assert list(sweep) == []  # one step was enough
    return sweep.count


@pytest.mark.parametrize(
    ("purge", "expected"),
    [
        (lambda store, **how: store.purge_key(b"http://a/y", **how), {1, 2}),
        (lambda store, **how: store.purge_key(b"http://nowhere/", **how), set()),
        (lambda store, **how: store.purge_prefix(b"http://a/", **how), {0, 1, 2}),
        (lambda store, **how: store.purge_tag(b"red", **how), {0, 3}),
        (lambda store, **how: store.purge_tag(b"blue", **how), set()),
        (lambda store, **how: swept(store, lambda stored: stored.selecting == encoding(None), **how), {2}),
        (lambda store, **how: swept(store, lambda _: True, tag=b"red", **how), {0, 3}),
        (lambda store, **how: store.purge_prefix(b"", **how), {0, 1, 2, 3}),
    ],
)
@pytest.mark.parametrize("soft", [False, True])
def test_a_purge_takes_exactly_what_it_names(store, gone, purge, expected, soft):
    filled = fill(store)
    assert purge(store, soft=soft) == len(expected)
    chosen = {filled[index] for index in expected}
    assert set(gone) == chosen
    for stored in filled:
        assert stored.outdated == (soft and stored in chosen)
        assert stored.live == (soft or stored not in chosen)
        assert (stored in store.variants(stored.key)) == stored.live


def test_a_soft_purge_makes_stale_and_lengthens_no_lifetime():
    """Stale from the moment of the purge on: that is where stale-while-revalidate counts from."""
    store = Store(1 << 20, clock=lambda: 70.0)
    young, old = make(b"young"), make(b"old")  # received at 50, lifetime 60
    old.lifetime = 5.0
    store.put(young)
    store.put(old)
    store.purge_prefix(b"", soft=True)
    assert young.lifetime == current_age(young, 70.0) == 20.0
    assert remaining(young, 71.0) == -1.0
    assert old.lifetime == 5.0


@pytest.mark.rfc("9875", "2")
def test_a_group_is_known_with_its_origin_and_by_its_bare_name(store):
    store.put(make(b"http://a/x", tags=(b"http://a news",)))
    store.put(make(b"http://b/x", tags=(b"http://b news",)))
    assert store.purge_tag(b"http://a news") == 1
    assert store.purge_tag(b"news") == 1
    assert store._tagged == {}


def test_the_index_of_tags_empties_with_the_store(store):
    fill(store)
    store.purge_prefix(b"")
    assert store._tagged == {}


def test_reserved_bytes_push_out_entries_and_come_back(gone):
    store = Store(100_000)
    store.on_gone.append(gone.append)
    for number in range(20):
        store.put(make(b"%d" % number, bytes(4000)))
    assert store.reserve(50_000)
    assert store.bytes <= 100_000
    assert gone
    assert not store.reserve(1)
    store.release(50_000)
    assert store.reserved == 0


def test_a_smaller_limit_evicts_at_once(store):
    for number in range(50):
        store.put(make(b"%d" % number, bytes(4000)))
    store.resize(20_000)
    assert store.limit == 20_000
    assert 0 < store.bytes <= 20_000
    assert store.evictions > 0


def test_use_of_a_variant_without_look_up_keeps_its_key(gone):
    """Answers from the memo never look the key up: touch alone must keep it."""
    store = Store(40_000)
    hot = make(b"hot", bytes(1000))
    store.put(hot)
    for number in range(200):
        store.touch(hot)
        store.put(make(b"%d" % number, bytes(1000)))
    assert store.peek(b"hot") == (hot,)


def test_iteration_gives_every_response_and_survives_changes(store):
    filled = fill(store)
    seen = []
    for stored in store:
        store.purge_prefix(b"")
        seen.append(stored)
    assert len(seen) >= 1
    assert set(fill(store)) == set(store)
    assert not set(filled) & set(store)


def test_what_is_elsewhere_is_asked_for_by_whoever_sets_the_seam(store):
    assert store.elsewhere is None
    store.elsewhere = lambda _key: None
    assert store.elsewhere(b"k") is None


@pytest.mark.slow
def test_a_look_up_costs_little_and_does_not_grow_with_the_store():
    """Bounds are wide: machines differ; the ratio is the point."""

    def cost(count):
        store = Store(1 << 40)
        for number in range(count):
            store.put(make(b"http://example.org/%d" % number))
        keys = [b"http://example.org/%d" % number for number in range(0, count, count // 500)]
        look_up = store.variants
        best = 1.0
        for _ in range(30):
            start = time.perf_counter()
            for key in keys:
                look_up(key)
            best = min(best, (time.perf_counter() - start) / len(keys))
        return best

    small, large = cost(500), cost(50_000)
    assert large < 2e-6
    assert large < 3 * small


# ---- properties ----------------------------------------------------------------------------------------------------

KEYS = [b"http://a/1", b"http://a/2", b"http://b/1", b"http://b/2"]
SELECTING = [(), encoding(None), encoding(b"gzip"), encoding(b"br")]
events = st.lists(
    st.tuples(
        st.sampled_from(
            ["put", "again", "look", "touch", "remove", "key", "prefix", "tag", "soft", "reserve", "release", "resize"]
        ),
        st.integers(0, 3),
        st.integers(0, 3),
        st.integers(0, 12_000),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(events)
def test_the_bound_holds_and_gone_means_not_live_whatever_happens(script):
    store = Store(30_000, most_variants=3)
    told = []
    store.on_gone.append(told.append)
    made, kept = [], []
    for what, key, which, size in script:
        match what:
            case "put":
                stored = make(KEYS[key], bytes(size), selecting=SELECTING[which], tags=(b"tag-%d" % which,))
                if store.put(stored):
                    kept.append(stored)
                assert stored.live == (stored in kept)
                made.append(stored)
            case "again" if made and made[key % len(made)].live:
                store.put(made[key % len(made)])
            case "look":
                store.variants(KEYS[key])
            case "touch" if made:
                store.touch(made[size % len(made)])
            case "remove" if made:
                store.remove(made[size % len(made)])
            case "key":
                store.purge_key(KEYS[key])
            case "prefix":
                store.purge_prefix(b"http://a/" if which else b"http://b/")
            case "tag":
                store.purge_tag(b"tag-%d" % which)
            case "soft":
                store.purge_key(KEYS[key], soft=True)
            case "reserve":
                store.reserve(size)
            case "release":
                store.release(min(size, store.reserved))
            case "resize":
                store.resize(max(20_000 + size, store.reserved))
        inside = list(store)
        assert store.bytes <= store.limit
        assert store.entries == len(inside)
        assert {stored for stored in made if stored.live} == set(inside)
        for key_ in KEYS:
            variants = store.peek(key_)
            assert len({stored.selecting for stored in variants}) == len(variants) <= 3
        tagged = (same if type(same) is set else {same} for same in store._tagged.values())
        assert set(itertools.chain.from_iterable(tagged)) == set(inside)
    assert all(stored in told for stored in kept if not stored.live)
    store.release(store.reserved)
    store.purge_prefix(b"")
    assert store.bytes - store.shared == store.entries == store.keys == len(store._tagged) == 0


@given(st.permutations(range(8)))
def test_two_orders_of_the_same_events_give_the_same_store(order):
    """Puts of different variants below the bound, and purges of what none of them is."""

    def after(sequence):
        store = Store(1 << 20)
        for number in sequence:
            store.put(make(KEYS[number % 4], b"%d" % number, selecting=SELECTING[number // 4]))
            store.purge_key(b"http://elsewhere/%d" % number)
        return {(stored.key, stored.selecting, stored.body.chunks[0], stored.weight) for stored in store}, store.bytes

    assert after(order) == after(range(8))


def test_what_is_stored_leaves_the_collectors_sight_and_is_freed_all_the_same():
    store = Store(1 << 30)
    frozen = gc.get_freeze_count()
    try:
        for number in range(FREEZE_AFTER):
            store.settle_garbage()
            assert gc.get_freeze_count() == frozen
            store.put(make(b"%d" % number))
        store.settle_garbage()
        full = gc.get_freeze_count()
        assert full >= frozen + 2 * FREEZE_AFTER
        store.purge_prefix(b"")
        assert gc.get_freeze_count() <= full - 2 * FREEZE_AFTER
    finally:
        gc.unfreeze()


def test_a_store_leaves_no_cycles_behind():
    gc.collect()
    gc.disable()
    try:
        store = Store(40_000, most_variants=3)
        for number in range(500):
            store.put(make(b"%d" % (number % 100), selecting=encoding(b"%d" % (number % 7)), tags=(b"t",)))
            store.variants(b"%d" % number)
        store.purge_tag(b"t")
        assert gc.collect() == 0
    finally:
        gc.enable()
