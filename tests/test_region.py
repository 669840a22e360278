"""All processes see one memory, each its own part of it."""

import os

from ha import liveness
from proxy.region import ADMIN, HA_PAGE, MAX_WORKERS, SIZE, SLOTS, Region


def test_what_one_process_counts_another_reads():
    ours = Region.create()
    theirs = Region(os.dup(ours.fd))
    ours.slots(3)[5] = 77
    assert theirs.slots(3)[5] == 77
    assert theirs.all_slots()[3 * SLOTS + 5] == 77


def test_no_two_parts_overlap():
    region = Region.create()
    for place in (0, 1, MAX_WORKERS - 1, ADMIN):
        region.slots(place)[:] = bytes([place % 251 + 1]) * SLOTS
    for worker in (0, MAX_WORKERS - 1, HA_PAGE):
        assert bytes(region.page(worker)) == bytes(liveness.PAGE)
        region.page(worker)[:] = b"\xff" * liveness.PAGE
    for place in (0, 1, MAX_WORKERS - 1, ADMIN):
        assert bytes(region.slots(place)) == bytes([place % 251 + 1]) * SLOTS


def test_memory_that_nobody_touches_costs_nothing():
    region = Region.create()
    assert os.fstat(region.fd).st_size == SIZE
    assert os.fstat(region.fd).st_blocks == 0


def test_the_memory_is_not_inherited_unless_passed_on():
    assert not os.get_inheritable(Region.create().fd)
