"""What the store tells its tier is on disk in the order of its causes, and comes back when it is asked for."""

import asyncio

import pytest

from proxy.cache import disk as module
from proxy.cache.disk import Away, Disk
from proxy.cache.shelf import LEAST
from proxy.cache.store import Store
from tests.cache.test_shelf import stored


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
    monkeypatch.setattr(module, "QUEUE_BYTES", 1000)

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


def test_a_folder_that_cannot_be_had_is_told_and_a_purge_does_not_pretend(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    (tmp_path / "file").write_text("")

    async def life():
        async with Life(tmp_path / "file") as one:
            one.store.put(fresh())
            with pytest.raises(Away):
                await one.disk.settled()
            assert one.disk.elsewhere(b"http://a/") is None

    asyncio.run(life())
    assert "not used" in caplog.text
