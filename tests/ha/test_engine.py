"""Groups and timers of the engine; the rest of it is tested with the loop around it (test_runtime.py)."""

import asyncio
import tempfile
from pathlib import Path

import pytest

from ha.engine import asleep
from tests.ha.test_runtime import Boss, text
from tests.kit.netns import make_lab, why_not

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]


@pytest.fixture(scope="module")
def lab():
    with make_lab(("a",)) as made:
        yield made


def run(lab, scenario):
    with tempfile.TemporaryDirectory() as folder:

        async def all_of_it():
            loop = asyncio.get_running_loop()
            faults = []
            loop.set_exception_handler(lambda _, context: faults.append(context))
            boss = Boss(lab, "a", Path(folder))
            await boss.start()
            await scenario(boss, boss.runtime._engine)
            await boss.stop()
            boss.close()
            assert faults == []

        lab["a"].call(lambda: asyncio.run(all_of_it()), timeout=60)


def test_both_families_are_one_group_with_one_timer(lab):
    async def scenario(_, engine):
        assert len(set(map(id, engine.group_of.values()))) == 1
        assert len(engine.timers) == 1

    run(lab, scenario)


def test_a_router_that_leaves_takes_its_timer_along(lab):
    async def scenario(boss, engine):
        boss.well()
        await boss.until("active")
        await boss.serve(text('"192.168.8.100/24"'))
        assert len(engine.stations) == 1
        assert set(engine.timers) <= set(engine.group_of.values())
        await asyncio.sleep(0.2)
        await boss.until("active")

    run(lab, scenario)


def test_a_new_family_joins_the_group_when_it_is_where_the_others_are(lab):
    async def scenario(boss, engine):
        await boss.serve(text('"192.168.8.100/24"'))
        boss.well()
        await boss.until("active")
        await boss.serve(text())
        assert len(set(map(id, engine.group_of.values()))) == 2
        await boss.until("active")
        async with asyncio.timeout(10):
            while len(set(map(id, engine.group_of.values()))) > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        assert {station.router.config.group for station in engine.stations.values()} == {"vip-51"}

    run(lab, scenario)


def test_a_machine_that_slept_makes_nobody_trust_old_timers(lab):
    async def scenario(boss, engine):
        boss.well()
        await boss.until("active")
        engine._asleep -= 5
        before = asleep()
        engine.notice_sleep()
        assert engine._asleep >= before
        doubting = [station.router.doubt for station in engine.stations.values()]
        assert doubting == [True, True]
        await asyncio.sleep(0.3)
        await boss.until("active")

    run(lab, scenario)
