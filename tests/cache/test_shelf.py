"""The file holds what was put last, within its bound, and tells of damage."""

import random
import stat

import pytest

from proxy.cache.shelf import LEAST, Shelf, ShelfError, set_aside
from proxy.http.fields import CacheControl
from tests.cache.test_store import encoding, make

NOW = {"wall": 2000.0, "mono": 100.0}


def stored(key=b"http://a/", body=b"hello", **more):
    one = make(key, body, **more)
    one.control = CacheControl(max_age=60)
    return one


@pytest.fixture
def shelf(tmp_path):
    shelf = Shelf(tmp_path / "cache", LEAST)
    yield shelf
    shelf.close()


def bodies(shelf, key=b"http://a/"):
    return [b"".join(one.body.chunks) for one in shelf.load(key, 32, **NOW)[0]]


def test_what_was_put_comes_back_after_the_file_was_closed_as_old_as_it_is(tmp_path):
    shelf = Shelf(tmp_path / "cache", LEAST)
    shelf.put(stored(), **NOW)
    shelf.close()
    again = Shelf(tmp_path / "cache", LEAST)
    found, damaged = again.load(b"http://a/", 32, wall=2100.0, mono=7.0)
    again.close()
    assert damaged == []
    assert [7.0 - one.received for one in found] == [150.0]  # 50 s in memory, 100 s on disk
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o600


def test_the_last_of_a_variant_replaces_the_one_before(shelf):
    for body in (b"old", b"new"):
        shelf.put(stored(body=body), **NOW)
    shelf.put(stored(body=b"other", selecting=encoding(b"gzip")), **NOW)
    assert bodies(shelf) == [b"new", b"other"]
    assert shelf.entries == 2


@pytest.mark.parametrize(
    "purge",
    [
        lambda shelf, **how: shelf.purge_key(b"http://a/", **how),
        lambda shelf, **how: shelf.purge_tag(b"t", **how),
        lambda shelf, **how: shelf.purge_where(lambda row: b"t" in row.tags and row.key == b"http://a/", **how),
    ],
)
def test_purges_take_out_what_they_mean_or_make_it_stale(shelf, purge):
    for _ in range(2):
        shelf.put(stored(tags=(b"t",)), **NOW)
        shelf.put(stored(b"http://b/"), **NOW)
        purge(shelf, soft=True)
        assert [one.outdated for one in shelf.load(b"http://a/", 9, **NOW)[0]] == [True]
        purge(shelf, soft=False)
        assert bodies(shelf) == []
        assert bodies(shelf, b"http://b/") == [b"hello"]
        assert shelf.entries == 1


def test_what_is_rolled_back_was_never_there(shelf):
    shelf.begin()
    shelf.put(stored(), **NOW)
    shelf.roll_back()
    assert (bodies(shelf), shelf.entries) == ([], 0)


def test_the_file_is_bounded_and_the_longest_unused_leaves(tmp_path, shelf):
    for number in range(600):
        shelf.put(stored(b"%d" % number, bytes(40_000)), **NOW)
        shelf.used(b"0")
        assert shelf.bytes <= LEAST
    assert bodies(shelf, b"0")
    assert not bodies(shelf, b"1")
    assert bodies(shelf, b"599")
    assert (tmp_path / "cache").stat().st_size <= LEAST


def test_damaged_bytes_are_errors_or_not_there_and_never_another_response(tmp_path):
    path = tmp_path / "cache"
    shelf = Shelf(path, LEAST)
    for number in range(200):
        shelf.put(stored(b"%d" % number, b"%d " % number * 300), **NOW)
    shelf.close()
    good = path.read_bytes()
    blamed = []
    for seed in range(30):
        rnd = random.Random(seed)
        bad = bytearray(good)
        for _ in range(rnd.choice([1, 50, 5000])):
            bad[rnd.randrange(len(bad))] = rnd.randrange(256)
        path.write_bytes(bad[: rnd.choice([len(bad), len(bad) // 2])])
        try:
            shelf = Shelf(path, LEAST)
        except ShelfError as problem:
            blamed.append(problem.damaged)
            set_aside(path)
            continue
        for number in range(200):
            try:
                for body in bodies(shelf, b"%d" % number):
                    assert body == b"%d " % number * 300
            except ShelfError as problem:
                blamed.append(problem.damaged)
        shelf.close()
    assert all(blamed)


def test_a_second_process_or_a_strange_file_is_told(tmp_path, shelf):
    shelf.put(stored(), **NOW)
    with pytest.raises(ShelfError, match="locked") as locked:
        Shelf(tmp_path / "cache", LEAST)
    assert not locked.value.damaged
    (tmp_path / "strange").write_bytes(b"no database" * 1000)
    with pytest.raises(ShelfError) as strange:
        Shelf(tmp_path / "strange", LEAST)
    assert strange.value.damaged
