"""S3-FIFO: bounded, scan-resistant, and never worse than LRU where it should be better."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cache.hitratio import SEEDS, SHARES, compare
from benchmarks.cache.traces import TRACES
from proxy.cache.eviction import GONE, MAIN, MOST_STEPS, SMALL, Entry, Ghosts, S3Fifo


class Held:
    """In place of a stored response: what the order of eviction asks of one."""

    __slots__ = ("key", "uses")

    def __init__(self, key):
        self.key = key
        self.uses = 0


def insert(cache, key, size=1):
    entry = Entry(Held(key), size)
    cache[key] = entry
    return entry


def names(count, prefix=b"k"):
    return [prefix + b"%d" % number for number in range(count)]


def test_a_key_that_was_never_used_leaves_before_one_that_was():
    cache = S3Fifo(3)
    for key in (b"a", b"b", b"c"):
        insert(cache, key)
    cache[b"a"]
    insert(cache, b"d")
    assert b"a" in cache
    assert b"b" not in cache


def test_a_key_that_returns_while_its_ghost_is_known_enters_the_main_queue():
    cache = S3Fifo(2)
    for key in (b"a", b"b", b"c"):
        insert(cache, key)
    assert b"a" not in cache
    assert insert(cache, b"a").place == MAIN
    assert insert(cache, b"new").place == SMALL


def test_a_scan_does_not_evict_the_hot_set():
    cache = S3Fifo(1000)
    hot = names(500, b"hot")
    for key in hot:
        insert(cache, key)
    for _ in range(2):
        for key in hot:
            cache[key]
    for key in names(50_000, b"scan"):
        insert(cache, key)
    # One may go: the first eviction met nothing but hot keys, and does not walk for ever.
    assert sum(key in cache for key in hot) >= len(hot) - 1


def test_one_eviction_looks_at_a_bounded_number_of_keys():
    """A cache that only had hits so far: every key was used three times."""
    cache = S3Fifo(100_000)
    for key in names(100_000):
        insert(cache, key)
    for _ in range(3):
        for key in names(100_000):
            cache[key]
    before = time.thread_time()
    cache.popitem()
    assert time.thread_time() - before < 0.01
    assert sum(entry.place == MAIN for entry in cache.values()) <= MOST_STEPS


def test_what_is_larger_than_the_limit_is_refused_and_nothing_leaves():
    cache = S3Fifo(10)
    insert(cache, b"a", 4)
    with pytest.raises(ValueError, match="too large"):
        insert(cache, b"b", 11)
    assert list(cache) == [b"a"]


def test_replacing_a_key_counts_its_size_once():
    cache = S3Fifo(10)
    old = insert(cache, b"a", 4)
    insert(cache, b"a", 6)
    assert old.place == GONE
    assert cache.currsize == 6


def test_an_empty_cache_has_nothing_to_evict():
    with pytest.raises(KeyError):
        S3Fifo(10).popitem()


def test_purges_leave_no_slots_behind():
    cache = S3Fifo(10_000)
    for round_ in range(20):
        for key in names(1000, b"%d-" % round_):
            insert(cache, key)
        for key in names(1000, b"%d-" % round_):
            del cache[key]
    assert sum(len(queue) for queue in cache._queues.values()) <= 200
    assert cache.currsize == 0


def test_the_slot_of_a_key_that_has_left_holds_nothing_of_it():
    cache = S3Fifo(10)
    entry = insert(cache, b"a")
    del cache[b"a"]
    assert entry.held == ()


def test_clearing_forgets_entries_and_ghosts():
    cache = S3Fifo(2)
    gone = insert(cache, b"a")
    insert(cache, b"b")
    insert(cache, b"c")
    left = cache.peek(b"c")
    cache.clear()
    assert len(cache) == cache.currsize == 0
    assert gone.place == left.place == GONE
    assert insert(cache, b"a").place == SMALL


def test_ghosts_are_bounded_and_remember_the_latest():
    ghosts = Ghosts()
    for key in names(100):
        ghosts.add(key, 10)
    assert len(ghosts) == 10
    assert not ghosts.take(b"k89")
    assert ghosts.take(b"k90")
    assert not ghosts.take(b"k90")


steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "use", "purge", "change", "reserve", "release", "resize"]),
        st.integers(0, 12),
        st.integers(0, 60),
    ),
    max_size=80,
)


@given(steps)
def test_the_bound_holds_and_the_queues_agree_with_the_sum_whatever_happens(script):
    evicted = []
    cache = S3Fifo(100, evicted.append)
    alive = {}
    for what, number, size in script:
        key = b"%d" % number
        match what:
            case "put":
                entry = Entry(Held(key), size)
                old = alive.get(key)
                if size + cache.reserved <= cache.limit:
                    cache[key] = entry
                    alive[key] = entry
                    assert old is None or old.place == GONE
            case "use" if key in cache:
                cache[key]
            case "purge" if key in cache:
                del cache[key]
                del alive[key]
            case "change" if key in cache:
                cache.change(cache.peek(key), Held(key), size)
            case "reserve" if cache.reserved + size <= cache.limit:
                cache.make_room(size)
                cache.reserved += size
            case "release":
                cache.reserved = max(0, cache.reserved - size)
            case "resize" if size >= cache.reserved:
                cache.limit = size + 40
                cache.make_room(0)
        alive = {key: entry for key, entry in alive.items() if entry.place != GONE}
        assert cache.currsize + cache.reserved <= cache.limit
        assert cache.currsize == sum(entry.size for entry in cache.values()) == sum(cache._bytes.values())
        assert set(cache) == set(alive)
        assert all(entry.place == GONE for entry in evicted)
        for place, queue in cache._queues.items():
            assert sum(entry.place == place for entry in queue) == len(queue) - cache._gone[place]


# ---- hit ratios on generated traces --------------------------------------------------------------------------------


def judge(name, share, seeds, margin):
    lru, ours = compare(name, share, equal=True, seeds=seeds)
    assert ours.requests >= lru.requests - 0.005
    if "scans" in name:
        assert 1 - ours.requests <= (0.9 + margin) * (1 - lru.requests)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Zipf 0.8, scans", "changing"])
def test_the_hit_ratio_is_not_below_that_of_lru_and_scans_cost_less(name):
    """One seed, with a margin."""
    judge(name, 0.1, 1, 0.01)


@pytest.mark.long
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", TRACES)
def test_the_mean_hit_ratio_of_five_seeds_is_that_of_lru_or_better(name, share):
    judge(name, share, SEEDS, 0.0)
