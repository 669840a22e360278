"""Reaching workers: purges answered when all have applied them, verdicts that a replaced worker hears again."""

import asyncio

import pytest

from proxy import bus
from proxy.link import LinkError
from proxy.observe import reach
from proxy.observe.reach import Workers
from proxy.upstream.health import Verdict
from tests.observe.workers import FakeWorker, run, until


def test_a_purge_is_applied_by_every_worker_with_one_number(tmp_path):
    async def main():
        fakes = [await FakeWorker(tmp_path, index, count=index + 1).start() for index in range(3)]
        workers = Workers(tmp_path, 3)
        result = await workers.purge("url", "http://a/", soft=True, dry_run=False)
        assert (result.complete, result.purged) == (True, 6)
        assert {q for fake in fakes for q in fake.asked} == {bus.Purge(result.number, "url", "http://a/", soft=True)}
        again = await workers.purge("all", "", soft=False, dry_run=True)
        assert again.number > result.number

    run(main())


def test_an_answer_waits_for_the_slowest_worker(tmp_path):
    async def main():
        slow, _ = await FakeWorker(tmp_path, 0).start(), await FakeWorker(tmp_path, 1).start()
        gate = asyncio.Event()
        slow.hold = gate.wait
        task = asyncio.ensure_future(Workers(tmp_path, 2).purge("all", "", soft=False, dry_run=False))
        await until(lambda: slow.of(bus.Purge))
        await asyncio.sleep(0.02)
        assert not task.done()
        gate.set()
        assert (await task).complete

    run(main())


def test_a_worker_that_is_not_there_has_an_empty_cache(tmp_path):
    async def main():
        await FakeWorker(tmp_path, 0).start()
        dead = await FakeWorker(tmp_path, 1).start()
        dead.die()
        result = await Workers(tmp_path, 3).purge("all", "", soft=False, dry_run=False)
        assert result.complete
        assert [part.count for part in result.applied] == [1, 0, 0]
        assert "not running" in result.applied[1].note

    run(main())


def test_a_cut_connection_is_tried_again_with_the_same_number(tmp_path):
    async def main():
        fake = await FakeWorker(tmp_path, 0).start()

        async def once():
            fake.hold = None
            fake.cut()
            await asyncio.sleep(0)

        fake.hold = once
        result = await Workers(tmp_path, 1).purge("all", "", soft=False, dry_run=False)
        assert result.complete
        assert [purge.number for purge in fake.of(bus.Purge)] == [result.number] * 2

    run(main())


def test_a_worker_that_dies_under_the_purge_counts_as_empty(tmp_path):
    async def main():
        fake = await FakeWorker(tmp_path, 0).start()

        async def die():
            fake.die()
            await asyncio.sleep(0)

        fake.hold = die
        assert (await Workers(tmp_path, 1).purge("all", "", soft=False, dry_run=False)).complete

    run(main())


def test_a_silent_worker_makes_the_purge_incomplete(tmp_path, monkeypatch):
    monkeypatch.setattr(reach, "SWEEP_PATIENCE", 0.1)

    async def main():
        fake = await FakeWorker(tmp_path, 0).start()
        fake.hold = asyncio.Event().wait
        result = await Workers(tmp_path, 1).purge("all", "", soft=False, dry_run=False)
        assert not result.complete
        assert result.applied[0].note == "no answer within 0.1 s"

    run(main())


def test_a_worker_that_cannot_is_quoted(tmp_path):
    async def main():
        fake = await FakeWorker(tmp_path, 0).start()

        async def fail():
            raise ValueError("no")

        fake.hold = fail
        workers = Workers(tmp_path, 1)
        result = await workers.purge("all", "", soft=False, dry_run=False)
        assert (result.complete, result.applied[0].note) == (False, "ValueError: no")
        with pytest.raises(LinkError, match="ValueError"):
            await workers.ask_for(0, bus.Purge(1, "all", ""), bus.Purged)

    run(main())


def test_questions_asked_at_once_share_one_connection_in_the_end(tmp_path):
    async def main():
        await FakeWorker(tmp_path, 0).start()
        workers = Workers(tmp_path, 1)
        answers = await asyncio.gather(*(workers.ask(0, bus.Ping()) for _ in range(5)))
        assert len(answers) == 5
        assert len(workers._links) == 1
        assert await workers.count_living() == 1
        workers.close()

    run(main())


def test_status_tells_who_says_nothing(tmp_path):
    async def main():
        await FakeWorker(tmp_path, 0, data={"pid": 7}).start()
        answers = await Workers(tmp_path, 2).status()
        assert answers["worker-0"] == bus.StatusAnswer({"pid": 7})
        assert "worker-1.sock" in answers["worker-1"]

    run(main())


def test_a_verdict_reaches_every_worker_at_once(tmp_path):
    async def main():
        fakes = [await FakeWorker(tmp_path, index).start() for index in range(2)]
        workers = Workers(tmp_path, 2)
        keeping = asyncio.ensure_future(workers.keep())
        await until(lambda: all(fake.of(bus.Ping) for fake in fakes))
        assert not any(fake.of(bus.HealthVerdicts) for fake in fakes)
        await workers.report([Verdict("shop", "10.0.0.1:80", up=False, detail="status 500")])
        await until(lambda: all(fake.of(bus.HealthVerdicts) for fake in fakes))
        told = bus.HealthVerdicts((bus.Verdict("shop", "10.0.0.1:80", healthy=False),))
        assert fakes[0].of(bus.HealthVerdicts) == [told]
        keeping.cancel()

    run(main())


def test_a_replaced_worker_is_told_all_verdicts(tmp_path, monkeypatch):
    monkeypatch.setattr(reach, "KEEP", 0.02)

    async def main():
        old = await FakeWorker(tmp_path, 0).start()
        workers = Workers(tmp_path, 1)
        keeping = asyncio.ensure_future(workers.keep())
        for number in (1, 2):
            await workers.report([Verdict("shop", f"10.0.0.{number}:80", up=number == 1)])
        await until(lambda: len((old.of(bus.HealthVerdicts) or [bus.HealthVerdicts(())])[-1].verdicts) == 2)
        old.die()
        new = FakeWorker(tmp_path, 0)
        new.pid = old.pid + 1
        await new.start()
        await until(lambda: new.of(bus.HealthVerdicts))
        assert len(new.of(bus.HealthVerdicts)[0].verdicts) == 2
        await until(lambda: len(new.of(bus.Ping)) > 3)
        assert len(new.of(bus.HealthVerdicts)) == 1
        keeping.cancel()

    run(main())


def test_after_a_reload_only_the_new_verdicts_hold(tmp_path):
    async def main():
        workers = Workers(tmp_path, 0)
        await workers.report([Verdict("gone", "10.0.0.1:80", up=True)])
        await workers.replace_verdicts([Verdict("shop", "10.0.0.2:80", up=True)])
        assert [verdict.pool for verdict in workers.verdicts] == ["shop"]

    run(main())
