"""One child in the supervisor's hands."""

import os
import select
import signal

import pytest

from ha import liveness
from proxy import bus, region
from proxy.process import Process, State
from proxy.rights import Identity
from tests.kit.instance import open_files, wait_until

DUMMY = "tests.kit.dummy:Dummy"


@pytest.fixture
def shared():
    one = region.Region.create()
    liveness.initialise(one.page(0))
    yield one
    os.close(one.fd)


@pytest.fixture
def process(shared):
    one = Process("worker-0", 0, DUMMY)
    one.spawn(Identity("us"), shared.fd)
    yield one
    if one.alive:
        one.kill()
        one.reap()


def wait_readable(fd, seconds=20):
    assert select.select([fd], [], [], seconds)[0]


def test_a_killed_child_is_told_by_its_pidfd_and_reaped_with_its_signal(process):
    assert process.alive
    assert process.pid > 0
    process.kill()
    wait_readable(process.pidfd)
    assert process.reap() == "killed by SIGKILL"
    assert (process.alive, process.pid, process.pidfd) == (False, 0, -1)
    process.kill()  # of a dead one: nothing
    assert not process.send(bus.ReopenLogs())


def test_a_child_told_to_drain_before_it_serves_anything_ends_in_order(process):
    assert process.send(bus.Drain(1.0))
    wait_readable(process.pidfd)
    assert process.reap() == "exit 0"


def test_a_child_ends_when_the_supervisors_end_of_the_channel_closes(process):
    process.control.close()
    wait_readable(process.pidfd)
    assert process.reap() == "exit 0"


def test_a_service_that_is_not_there_ends_the_child(shared, capfd):
    one = Process("worker-0", 0, "tests.kit.dummy:NoSuch")
    one.spawn(Identity("us"), shared.fd)
    wait_readable(one.pidfd)
    assert one.reap() == "exit 1"
    assert "NoSuch" in capfd.readouterr().err


def test_a_child_inherits_nothing_but_its_two_descriptors(process):
    wait_until(lambda: any("eventpoll" in name for name in open_files(process.pid)))  # its loop runs
    assert sum("memfd" in name for name in open_files(process.pid)) <= 2
    assert len(open_files(process.pid)) < 16


def test_ctrl_c_during_the_start_of_a_child_is_not_its_death(shared):
    one = Process("worker-0", 0, DUMMY)
    one.spawn(Identity("us"), shared.fd)

    def is_running():
        os.kill(one.pid, signal.SIGINT)  # at each step of its start
        return any("eventpoll" in name for name in open_files(one.pid))

    wait_until(is_running)
    os.kill(one.pid, signal.SIGINT)
    assert one.send(bus.Drain(1.0))
    wait_readable(one.pidfd)
    assert one.reap() == "exit 0"


def test_a_change_of_state_has_its_time():
    one = Process("admin", -1, DUMMY)
    one.turn(State.BACKOFF, 12.0)
    assert (one.state, one.due) == (State.BACKOFF, 12.0)
    assert one.since > 0
