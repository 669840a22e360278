"""What the store tells its tier is on disk in the order of its causes, and comes back when it is asked for."""

import asyncio
import os
import random
import subprocess
import threading
from contextlib import nullcontext, suppress

import pytest

from proxy.cache import disk as module
from proxy.cache.disk import Away, Disk
from proxy.cache.shelf import LEAST, Shelf
from proxy.cache.store import Store
from tests.cache.test_shelf import stored
from tests.kit import raw


class Life:
    """A store with its tier, from one start to one end."""

    def __init__(self, folder, limit=LEAST, memory=1 << 20, **more):
        self.store = Store(memory)
        self.disk = Disk(asyncio.get_running_loop(), folder / "cache", limit, self.store, **more)
        self.store.tier, self.store.elsewhere = self.disk, self.disk.elsewhere

    async def __aenter__(self):
        self.disk.start()
        return self

    async def __aexit__(self, *_):
        await asyncio.to_thread(self.disk.close)
        assert not self.disk._thread.is_alive()

    async def find(self, key=b"http://a/"):
        await self.disk.settled()
        await asyncio.sleep(0)
        found = self.disk.elsewhere(key)
        return () if found is None else await found


def fresh(**more):
    one = stored(**more)
    now = asyncio.get_running_loop().time()
    return one.replaced(received=now, lifetime=600.0, initial_age=0.0)


def test_what_was_stored_comes_back_in_the_next_life(tmp_path):
    async def lives():
        async with Life(tmp_path) as one:
            one.store.put(fresh())
        async with Life(tmp_path) as two:
            assert [item.body.chunks for item in await two.find()] == [[b"hello"]]
            assert two.store.entries == two.disk.counts.loaded == 1

    asyncio.run(lives())


@pytest.mark.parametrize(
    "purge",
    [
        lambda store: store.purge_key(b"http://a/"),
        lambda store: store.purge_tag(b"t"),
        lambda store: store.purge_prefix(b"http://"),
        lambda store: list(store.sweep(lambda one: b"t" in one.tags)),
        lambda store: store.remove(store.peek(b"http://a/")[0]),
    ],
)
def test_what_was_taken_away_does_not_come_back(tmp_path, purge):
    async def lives():
        async with Life(tmp_path) as one:
            one.store.put(fresh(tags=(b"t",)))
            purge(one.store)
            assert await one.find() == ()
        async with Life(tmp_path) as two:
            assert await two.find() == ()

    asyncio.run(lives())


def test_a_purge_while_it_is_being_loaded_wins(tmp_path):
    async def lives():
        async with Life(tmp_path) as one:
            one.store.put(fresh())
        async with Life(tmp_path) as two:
            await two.disk.settled()
            arriving = two.disk.elsewhere(b"http://a/")
            two.store.purge_key(b"http://a/")
            assert await arriving == ()
            assert two.store.entries == 0

    asyncio.run(lives())


def test_what_was_evicted_is_found_on_disk(tmp_path):
    async def life():
        async with Life(tmp_path, memory=20_000) as one:
            for number in range(20):
                one.store.put(fresh(key=b"%d" % number, body=bytes(3000)))
            assert not one.store.peek(b"0")
            assert len(await one.find(b"0")) == 1

    asyncio.run(life())


def test_a_slow_disk_drops_and_counts_and_forgets_the_old_version(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "QUEUE_BYTES", 100)

    async def life():
        async with Life(tmp_path) as one:
            one.store.put(fresh())
            assert one.disk.counts.dropped == 1
        async with Life(tmp_path) as two:
            assert await two.find() == ()

    asyncio.run(life())


def test_an_overflow_begins_the_file_anew(tmp_path, monkeypatch):
    async def life():
        async with Life(tmp_path) as one:
            one.store.put(fresh())
            await one.disk.settled()
            monkeypatch.setattr(module, "MOST_OPERATIONS", 0)
            one.store.purge_key(b"http://b/")
            monkeypatch.setattr(module, "MOST_OPERATIONS", 10)
            one.store._remove(one.store.peek(b"http://a/")[0])
            assert await one.find() == ()

    asyncio.run(life())


def test_a_mark_that_a_purge_was_missed_empties_the_file(tmp_path):
    async def lives():
        async with Life(tmp_path) as one:
            one.store.put(fresh())
        (tmp_path / "stale").touch()
        async with Life(tmp_path, stale=tmp_path / "stale") as two:
            assert await two.find() == ()
            assert not (tmp_path / "stale").exists()

    asyncio.run(lives())


def test_a_damaged_file_is_set_aside_with_one_line(tmp_path, caplog):
    async def lives():
        (tmp_path / "cache").write_bytes(b"rubbish" * 5000)
        async with Life(tmp_path) as one:
            one.store.put(fresh())
            await one.disk.settled()
        async with Life(tmp_path) as two:
            assert len(await two.find()) == 1

    asyncio.run(lives())
    assert (tmp_path / "cache.damaged").exists()
    assert len(caplog.records) == 1


@pytest.mark.parametrize("marks", [True, False])
def test_a_file_that_cannot_be_had_is_told_and_a_purge_says_what_of_it_may_come_back(
    tmp_path, monkeypatch, caplog, marks
):
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    stale = tmp_path / "stale"
    (tmp_path / "cache").mkdir()  # where the file should be

    async def life():
        async with Life(tmp_path, stale=stale if marks else None) as one:
            one.store.put(fresh())
            with nullcontext() if marks else pytest.raises(Away):
                await one.disk.settled()
            assert one.disk.elsewhere(b"http://a/") is None

    asyncio.run(life())
    assert stale.exists() == marks
    assert len(caplog.records) == 1


def test_where_there_can_be_no_file_nothing_comes_back_and_a_purge_is_done(tmp_path, caplog):
    (tmp_path / "file").write_text("")

    async def life():
        async with Life(tmp_path / "file") as one:
            one.store.put(fresh())
            one.store.purge_key(b"http://a/")
            await one.disk.settled()

    asyncio.run(life())
    assert len(caplog.records) == 1


def test_what_a_hop_told_in_an_earlier_life_does_not_save_a_response_from_a_purge(tmp_path):
    told = b"\nx-forwarded-proto:https"
    heard = []

    async def lives():
        async with Life(tmp_path) as one:
            for key in (b"http://a/", b"http://a/" + told, b"http://a/b" + told, b"http://ab/"):
                one.store.put(fresh(key=key))
        async with Life(tmp_path, on_endings=heard.append) as two:
            await two.disk.settled()
            two.store.purge_key(b"https://a/")
            assert await two.find(b"http://a/" + told) == ()
            assert len(await two.find(b"http://a/")) == 1
            two.store.purge_key(b"http://a/")
            assert await two.find(b"http://a/") == ()
            for key in (b"http://a/b" + told, b"http://ab/"):
                assert len(await two.find(key)) == 1

    asyncio.run(lives())
    assert heard == [[told]]


def test_who_waits_for_a_disk_that_hangs_soon_asks_the_origin(tmp_path, monkeypatch, caplog):
    """The file's reading is held up by the test: a disk that hangs cannot be had otherwise."""
    monkeypatch.setattr(module, "SLOW", 0.05)
    gate, load = threading.Event(), Shelf.load

    def hang(*given, **more):
        assert gate.wait(10)
        return load(*given, **more)

    async def lives():
        async with Life(tmp_path) as one:
            one.store.put(fresh())
        async with Life(tmp_path) as two:
            await two.disk.settled()
            monkeypatch.setattr(Shelf, "load", hang)
            assert await two.disk.elsewhere(b"http://a/") == ()
            assert two.disk.elsewhere(b"http://a/") is None, "nobody joins one that is late"
            assert two.disk.elsewhere(b"http://b/") is None, "and others do not wait at all"
            gate.set()
            await two.disk.settled()
            await asyncio.sleep(0)
            assert two.store.entries == 0, "what comes late is older than what was asked for meanwhile"
            two.disk._avoided = asyncio.get_running_loop().time()
            assert len(await two.find()) == 1

    asyncio.run(lives())
    assert len(caplog.records) == 1


def test_a_path_that_moves_there_and_back_is_used_by_one_at_a_time(tmp_path):
    async def lives():
        for number in range(5):
            one = Life(tmp_path)
            one.disk.start()
            one.store.put(fresh(body=b"%d" % number))
            await one.disk.settled()
            assert (tmp_path / "cache").exists()
            ending = asyncio.create_task(asyncio.to_thread(one.disk.forget))
            async with Life(tmp_path) as two:  # the configuration says this path again
                two.store.put(fresh(key=b"http://new/"))
                await two.disk.settled()
                await ending
                assert (tmp_path / "cache").exists(), "what is written has a name"
                assert await two.find() == (), "nobody told of purges meanwhile"
                assert len(await two.find(b"http://new/")) == 1

    asyncio.run(lives())


def test_a_path_that_is_given_up_leaves_nothing_and_tells_who_waits(tmp_path):
    async def life():
        one = Life(tmp_path)
        one.disk.start()
        one.store.put(fresh())
        await one.disk.settled()
        waits = asyncio.create_task(one.disk.settled())
        await asyncio.sleep(0)
        await asyncio.to_thread(one.disk.forget)
        await waits
        assert list(tmp_path.iterdir()) == []

    asyncio.run(life())


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_costs_the_cache_there_and_is_told_once(tmp_path, caplog):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)

    async def life():
        async with Life(small, memory=64 << 20) as one:
            for number in range(300):
                one.store.put(fresh(key=b"%d" % number, body=os.urandom(20_000)))
                if number % 50 == 0:
                    with suppress(Away):
                        await one.disk.settled()
            raw.wait_until(lambda: one.disk.counts.dropped, what="the disk full")
            assert one.store.entries == 300, "memory is as it was"
            one.store.purge_key(b"1")
            with suppress(Away):
                await one.disk.settled()
        async with Life(small) as two:
            assert await two.find(b"1") == (), "what was purged meanwhile does not come back"

    try:
        asyncio.run(life())
    finally:
        subprocess.run(["umount", "-l", small], check=True)
    assert len(caplog.records) == 1, caplog.text
    assert "full" in caplog.text


def test_a_file_that_is_damaged_at_every_start_is_begun_anew_at_every_start(tmp_path, caplog):
    async def life(count):
        async with Life(tmp_path) as one:
            assert await one.find() == ()
            one.store.put(fresh())
            await one.disk.settled()
        assert len(caplog.records) == count
        (tmp_path / "cache").write_bytes(b"rubbish" * 5000)

    (tmp_path / "cache").write_bytes(b"rubbish" * 5000)
    for count in (1, 2, 3):
        asyncio.run(life(count))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cache", "cache.damaged"], "old ones do not heap up"


@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_nothing_but_the_last_that_was_put_and_not_purged_is_found(tmp_path, seed):
    """Puts, purges and look-ups in any order, with a memory for few of them, over three lives."""
    rng = random.Random(seed)
    keys = [b"http://%s/%d" % (host, number) for host in (b"a", b"b") for number in range(6)]
    last = {}  # key -> body, tag, whether it is to be validated

    def purge(store, what):
        soft = rng.random() < 0.5
        if what == "key":
            meant = [rng.choice(keys)]
            store.purge_key(meant[0], soft=soft)
        elif what == "tag":
            tag = rng.choice([b"t", b"u"])
            meant = [key for key in keys if key in last and last[key][1] == tag]
            store.purge_tag(tag, soft=soft)
        else:
            meant = [key for key in keys if key.startswith(b"http://a/")]
            store.purge_prefix(b"http://a/", soft=soft)
        for key in meant:
            if soft and key in last:
                last[key] = (*last[key][:2], True)
            else:
                last.pop(key, None)

    async def look(life, key):
        found = life.store.variants(key)
        if not found:
            asked = life.disk.elsewhere(key)
            found = () if asked is None else await asked
        for one in found:
            body, _, outdated = last[key]
            assert (one.body.chunks, one.outdated) == ([body], outdated)
        return bool(found)

    async def life(number):
        hits = 0
        async with Life(tmp_path, memory=20_000) as one:
            for step in range(400):
                what = rng.choice(["put", "put", "look", "look", "look", "key", "tag", "prefix", "wait"])
                key = rng.choice(keys)
                if what == "put":
                    body, tag = b"%d %d" % (number, step) + bytes(3000), rng.choice([b"t", b"u"])
                    last[key] = (body, tag, False)
                    one.store.put(fresh(key=key, body=body, tags=(tag,)))
                elif what == "look":
                    hits += await look(one, key)
                elif what == "wait":
                    await one.disk.settled()
                elif rng.random() < 0.4:
                    purge(one.store, what)
            await one.disk.settled()
            for key in keys:
                hits += await look(one, key)
        return hits

    assert all(asyncio.run(life(number)) for number in range(3))


def test_files_of_workers_that_are_no_more_go_once_the_own_one_is_had(tmp_path):
    other = tmp_path / "other"

    async def lives():
        async with Life(tmp_path) as one:
            await one.disk.settled()
            other.touch()
            async with Life(tmp_path, surplus=[other]) as two:
                await asyncio.sleep(3 * module.LOCKED)  # a few tries
                assert not two.disk._open
            assert other.exists(), "it may be a living instance's"
        async with Life(tmp_path, surplus=[other]) as three:
            await three.disk.settled()
            assert not other.exists()

    asyncio.run(lives())
