"""Garbage collection by hand."""

import asyncio
import gc
import weakref

import pytest

from ha.garbage import Collector, has_room


class Ring:
    """Garbage that only the collector can find."""

    def __init__(self):
        self.own = self


@pytest.fixture
def own_garbage():
    yield
    gc.unfreeze()
    gc.enable()


@pytest.mark.parametrize(("due", "room"), [(None, True), (1.1, True), (1.002, False), (1.0, False), (0.9, False)])
def test_l4_nothing_is_collected_when_something_is_due(due, room):
    assert has_room(due, 1.0) is room


@pytest.mark.usefixtures("own_garbage")
def test_l4_garbage_is_collected_by_hand():
    async def main():
        due = None
        collector = Collector(asyncio.get_running_loop(), lambda: due)
        collector.start()
        assert not gc.isenabled()
        assert gc.get_freeze_count() > 1000
        ring = weakref.ref(Ring())
        due = 0.0
        collector.turn()
        assert ring() is not None
        due = None
        collector.turn()
        assert ring() is None

    asyncio.run(main())
