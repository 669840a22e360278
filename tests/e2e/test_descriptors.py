"""A worker with few descriptors: clients, tunnels and origins together never take the last one."""

from __future__ import annotations

import resource
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kit import raw
from tests.kit.origin import FakeOrigin, Stall, response
from tests.kit.proxy import start_proxy
from tests.kit.raw import wait_until

FILES = 256
ASKED = 400
BURST = 20


@pytest.fixture
def origin():
    with FakeOrigin() as made:
        yield made


@pytest.fixture
def running(origin, tmp_path):
    """A proxy whose worker may have FILES descriptors."""
    text = (
        '[forward]\nlisten = "127.0.0.1:PORT0"\nclients = "127.0.0.1"\nper_client = 0\n'
        f'allow_private = "{origin.address}"\nconnect_ports = {origin.port}\n'
        '[limits]\ntunnels = 0\n[log]\naccess = { file = "-", format = "common" }\n'
    )
    with start_proxy(tmp_path / "proxy", text) as proxy:
        worker = proxy.pid("worker-0")
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (FILES, FILES))
        proxy.reload(text)
        yield proxy, worker


def descriptors(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def status(connection):
    """0 for one that was closed without an answer: before its request was read, or one of many turned away at once."""
    try:
        return int(connection.read_raw_head().split()[1])
    except raw.Reset:
        return 0


def statuses(proxy, pid, requests):
    """What each of them is told over a connection of its own, and how many descriptors the worker has at most.

    All stay open until the last has its answer; as many as a burst of clients ask at once.
    """
    used, answers = 0, []
    with ExitStack() as ends:
        for at in range(0, len(requests), BURST):
            told = []
            for data in requests[at : at + BURST]:
                connection = ends.enter_context(raw.Connection(proxy.at))
                connection.send(data)
                told.append(connection)
            answers += map(status, told)
            used = max(used, descriptors(pid))
    assert "open files" not in proxy.output
    return answers, used


def test_tunnels_are_refused_while_there_is_still_a_descriptor_to_say_so(running, origin):
    proxy, worker = running
    connect = raw.request("CONNECT", origin.address, host=origin.address)
    before = descriptors(worker)
    answers, used = statuses(proxy, worker, [connect] * ASKED)
    assert {200, 503} <= set(answers) <= {0, 200, 503}
    assert answers.count(200) >= (FILES // 2 - before) // 2  # two descriptors each
    assert used < FILES
    wait_until(lambda: descriptors(worker) <= before + 8, what="the descriptors are back")
    with raw.Connection(proxy.at) as again:
        again.send(connect)
        assert b" 200 " in again.read_raw_head()


def test_connections_that_idle_make_room_for_tunnels(running, origin):
    proxy, worker = running
    with ExitStack() as ends:
        for _ in range(FILES // 2):
            ends.enter_context(raw.Connection(proxy.at))
        wait_until(lambda: descriptors(worker) > FILES // 2, what="all are accepted")
        connect = raw.request("CONNECT", origin.address, host=origin.address)
        answers, _ = statuses(proxy, worker, [connect] * 50)
        assert set(answers) == {200}


def test_requests_in_flight_leave_a_descriptor_too(running, origin):
    proxy, worker = running
    origin.otherwise(Stall(0.05), response(b"x" * 10, "Cache-Control: no-store"))
    requests = [raw.request("GET", f"http://{origin.address}/{n}", host=origin.address) for n in range(ASKED)]
    answers, used = statuses(proxy, worker, requests)
    assert set(answers) <= {0, 200, 503}
    assert answers.count(200) >= FILES // 8
    assert used < FILES
