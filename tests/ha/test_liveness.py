"""A process's death and hang are seen by others, whatever the size of its memory."""

import mmap
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ha import liveness
from ha.liveness import Watched

CHILD = """
import mmap, sys, time
from ha import liveness
page = memoryview(mmap.mmap(int(sys.argv[1]), liveness.PAGE))
life = liveness.Life(page)
heap = bytearray(int(sys.argv[2]))
heap[::4096] = b"x" * len(heap[::4096])
print("held", flush=True)
for line in sys.stdin:
    if line == "beat\\n":
        print(life.beat(), flush=True)
    elif line == "release\\n":
        life.release()
        print("released", flush=True)
"""


@pytest.fixture
def shared():
    fd = os.memfd_create("page")
    os.ftruncate(fd, liveness.PAGE)
    page = memoryview(mmap.mmap(fd, liveness.PAGE))
    liveness.initialise(page)
    yield fd, page
    os.close(fd)


@pytest.fixture
def start(shared):
    running = []

    def start_child(heap=0):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(shared[0]), str(heap)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[shared[0]],
        )
        running.append(child)
        assert child.stdout.readline() == "held\n"
        return child

    yield start_child
    for child in running:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


def tell(child, word):
    child.stdin.write(word + "\n")
    child.stdin.flush()
    return child.stdout.readline().strip()


def seconds_from_kill_to_news(page, child):
    news = []

    def wait():
        news.append((liveness.wait_for_death(page, 10), time.monotonic()))

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert not news
    killed = time.monotonic()
    child.send_signal(signal.SIGKILL)
    waiter.join()
    verdict, at = news[0]
    assert verdict is Watched.DEAD
    return at - killed


def test_a_page_without_a_life_is_held_by_nobody(shared):
    assert liveness.wait_for_death(shared[1], 0.01) is Watched.NOBODY
    assert liveness.holder(shared[1]) == 0


def test_a_living_holder_is_alive_and_named(shared, start):
    child = start()
    assert liveness.wait_for_death(shared[1], 0.02) is Watched.ALIVE
    assert liveness.holder(shared[1]) == child.pid
    assert liveness.lives(shared[1]) == 1


def test_a_kill_is_seen_while_the_waiter_waits(shared, start):
    assert seconds_from_kill_to_news(shared[1], start()) < 0.25
    assert liveness.holder(shared[1]) == 0


@pytest.mark.slow
def test_the_news_of_a_death_does_not_wait_for_a_large_heap_to_be_freed(shared, start):
    child = start(heap=400 * 2**20)
    assert seconds_from_kill_to_news(shared[1], child) < 0.1


def test_a_death_that_nobody_waited_for_is_told_to_the_next_waiter(shared, start):
    child = start()
    child.kill()
    child.wait()
    assert liveness.wait_for_death(shared[1], 1) is Watched.DEAD
    assert liveness.wait_for_death(shared[1], 0.01) is Watched.NOBODY


def test_a_new_life_takes_the_page_of_one_that_was_killed(shared, start):
    first = start()
    first.kill()
    first.wait()
    second = start()
    assert liveness.wait_for_death(shared[1], 0.01) is Watched.ALIVE
    assert (liveness.holder(shared[1]), liveness.lives(shared[1])) == (second.pid, 2)
    assert seconds_from_kill_to_news(shared[1], second) < 0.25


def test_an_end_in_good_order_is_no_death(shared, start):
    child = start()
    assert tell(child, "release") == "released"
    child.kill()
    child.wait()
    assert liveness.wait_for_death(shared[1], 0.01) is Watched.NOBODY


def test_beats_are_seen_by_others_and_begin_anew_with_a_new_life(shared, start):
    first = start()
    assert [tell(first, "beat") for _ in range(3)] == ["1", "2", "3"]
    assert liveness.beats(shared[1]) == 3
    first.kill()
    first.wait()
    start()
    assert liveness.beats(shared[1]) == 0


def test_two_processes_cannot_hold_one_page(shared, start):
    start()
    with pytest.raises(OSError, match="held by another"):
        liveness.Life(shared[1], patience=0.02)


def test_requests_in_flight_are_told_while_they_are_counted():
    page = memoryview(bytearray(liveness.PAGE))
    liveness.initialise(page)
    life = liveness.Life(page)
    assert liveness.in_flight(page) is None
    life.report(0)
    assert liveness.in_flight(page) == 0
    life.report(3)
    assert liveness.in_flight(page) == 3
    assert liveness.reports(page) == 2
    life.report(None)
    assert liveness.in_flight(page) is None
    life.release()
