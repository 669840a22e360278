"""Tunnels through the real program: thousands of idle ones, processes that are killed, a reload, a stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from statistics import median

import pytest

from tests.kit.crowd import Crowd
from tests.kit.ends import Listener
from tests.kit.proxy import pss_of, start_proxy
from tests.kit.raw import End, wait_until

pytestmark = pytest.mark.slow

IDLE = 5000
MOST = 25 * 2**10  # bytes of the proxy's memory for each


def forward(*origins, rest=""):
    ports = ", ".join(origin.rpartition(":")[2] for origin in origins)
    allowed = ", ".join(f'"{origin}"' for origin in origins)
    return f"""
[forward]
listen = "127.0.0.1:PORT0"
clients = ["127.0.0.0/8"]
allow_private = [{allowed}]
connect_ports = [{ports}]
per_client = 0
[limits]
tunnels = 0
{rest}
"""


def files_of(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_thousands_of_idle_tunnels_cost_little_and_leave_nothing(tmp_path):
    with Crowd("origin") as origin:
        name = f"127.0.0.1:{origin.read()}"
        with start_proxy(tmp_path, forward(name)) as proxy:
            worker = proxy.pid("worker-0")
            with Crowd("clients", str(proxy.ports[0]), name, "100") as first:  # what is made once is made before
                assert first.read() == "open"
                assert first.ask() == "echoed"
            wait_until(lambda: proxy.metric("tandem_tunnels_open") == 0)
            before, files = pss_of(worker), files_of(worker)
            with Crowd("clients", str(proxy.ports[0]), name, str(IDLE)) as clients:
                assert clients.read() == "open"
                assert clients.ask() == "echoed"
                wait_until(lambda: proxy.metric("tandem_tunnels_open") == IDLE)
                each = (pss_of(worker) - before) / IDLE
                print(f"{each:.0f} bytes for each tunnel")
                assert each <= MOST
                assert files_of(worker) - files <= 2 * IDLE + 10
            # They were killed: nobody said goodbye.
            wait_until(lambda: proxy.metric("tandem_tunnels_open") == 0, deadline=30)
            wait_until(lambda: files_of(worker) <= files + 10)
            assert proxy.metric('tandem_requests_total{outcome="tunnel"}') == IDLE + 100


def test_an_origin_that_is_killed_ends_its_tunnels(tmp_path):
    with Crowd("origin") as origin:
        name = f"127.0.0.1:{origin.read()}"
        with (
            start_proxy(tmp_path, forward(name)) as proxy,
            Crowd("clients", str(proxy.ports[0]), name, "200") as clients,
        ):
            assert clients.read() == "open"
            worker = proxy.pid("worker-0")
            wait_until(lambda: proxy.metric("tandem_tunnels_open") == 200)
            origin.process.kill()
            # Its clients have not ended their side: theirs is half-closed until they do.
            clients.process.kill()
            wait_until(lambda: proxy.metric("tandem_tunnels_open") == 0)
            wait_until(lambda: files_of(worker) < 100)


def test_a_tunnel_outlives_a_reload_and_is_cut_at_the_end_of_a_drain(tmp_path):
    drain = '[process]\ndrain = "3s"'
    with Listener() as origin, start_proxy(tmp_path, forward(origin.name, rest=drain)) as proxy:
        client, end = origin.tunnel(proxy.at)
        proxy.reload(forward(origin.name, rest=drain + '\n[cache]\nmemory = "8MB"'))
        client.send(b"still")
        assert end.read_exactly(5) == b"still"
        proxy.terminate()
        proxy.wait_heard("STOPPING=1")
        client.send(b"and still")
        assert end.read_exactly(9) == b"and still"
        assert client.at_end() is End.RESET
        assert end.at_end() is End.RESET
        assert proxy.wait() == 0


def test_a_tunnel_that_ends_by_itself_lets_a_drain_end_at_once(tmp_path):
    drain = '[process]\ndrain = "60s"'
    with Listener() as origin, start_proxy(tmp_path, forward(origin.name, rest=drain)) as proxy:
        client, end = origin.tunnel(proxy.at)
        proxy.terminate()
        client.send(b"x")
        assert end.read_exactly(1) == b"x"
        client.close()
        end.close()
        assert proxy.wait(30) == 0


def test_a_worker_that_is_killed_takes_its_tunnels_along_and_the_next_one_serves(tmp_path):
    with Listener() as origin, start_proxy(tmp_path, forward(origin.name)) as proxy:
        client, end = origin.tunnel(proxy.at)
        worker = proxy.pid("worker-0")
        os.kill(worker, signal.SIGKILL)
        assert client.at_end() in {End.CLEAN, End.RESET}
        assert end.at_end() in {End.CLEAN, End.RESET}
        wait_until(lambda: proxy.pid("worker-0") not in {worker, 0})
        client, end = origin.tunnel(proxy.at)
        client.send(b"x")
        assert end.read_exactly(1) == b"x"
        client.close()
        end.close()  # else the stop would wait for them


def test_while_a_tunnel_runs_at_full_speed_others_get_quick_answers(tmp_path):
    """A round trip takes no longer than a few turns of the loop."""
    with Listener() as origin, start_proxy(tmp_path, forward(origin.name)) as proxy:
        fast_client, fast_end = origin.tunnel(proxy.at)
        client, end = origin.tunnel(proxy.at)
        stop = threading.Event()
        threads = [
            threading.Thread(target=flood, args=(fast_end.sock, stop)),
            threading.Thread(target=soak, args=(fast_client.sock,)),
        ]
        for thread in threads:
            thread.start()
        try:
            took = []
            for _ in range(100):
                began = time.monotonic()
                client.send(b"question")
                assert end.read_exactly(8) == b"question"
                end.send(b"answer")
                assert client.read_exactly(6) == b"answer"
                took.append(time.monotonic() - began)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            for one in (client, end, fast_client):
                one.close()
        assert median(took) < 0.25


def flood(sock, stop):
    data = bytes(1 << 18)
    while not stop.is_set():
        sock.sendall(data)
    sock.close()


def soak(sock):
    while sock.recv(1 << 18):
        pass


def test_the_access_log_has_a_line_of_squids_kind(tmp_path):
    rest = '[log]\naccess = { file = "access.log", format = "squid" }'
    with Listener() as origin, start_proxy(tmp_path, forward(origin.name, rest=rest)) as proxy:
        client, end = origin.tunnel(proxy.at)
        end.send(b"1234567890")
        assert client.read_exactly(10)
        client.close()
        end.close()
        log = tmp_path / "access.log"
        wait_until(lambda: log.exists() and log.read_text())
        fields = log.read_text().split()
        assert fields[2:7] == ["127.0.0.1", "TCP_TUNNEL/200", "10", "CONNECT", origin.name]
        assert fields[7:] == ["-", "HIER_DIRECT/127.0.0.1", "-"]
