"""Evidence about workers that live, hang and die; about origins; about tracked things."""

import asyncio
import contextlib
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from config.load import accept
from ha import evidence, liveness
from ha.evidence import Evidence, Observer, Seen, Worker, judge_origins, look_at_file, look_at_interface, run_program
from proxy import bus, link

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIG = """
[[site]]
name = "shop"
listen = ":80"
upstream = "10.0.0.1:80"
[process]
workers = {workers}
[ha]
vip = "192.168.8.100/24"
nodes = {{ a = "192.168.8.4" }}
{extra}
"""

# Stands in for a worker: holds its page, beats, and stops beating on SIGUSR1.
HOLDER = """
import mmap, signal, sys, time
from ha import liveness
page = memoryview(mmap.mmap(int(sys.argv[1]), 4096))
life = liveness.Life(page)
beating = True
def toggle(*_):
    global beating
    beating = not beating
signal.signal(signal.SIGUSR1, toggle)
print("held", flush=True)
while True:
    time.sleep(0.01)
    if beating:
        life.beat()
"""


class Lab:
    """One page with holders of it, and an observer that looks."""

    def __init__(self, folder):
        self.folder = folder
        self.fd = os.memfd_create("page")
        os.ftruncate(self.fd, liveness.PAGE)
        self.page = memoryview(mmap.mmap(self.fd, liveness.PAGE))
        liveness.initialise(self.page)
        self.holders = []
        self.changed = asyncio.Event()
        self.history = []

    def start(self):
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(self.fd)],
            pass_fds=[self.fd],
            env={"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
        )
        assert holder.stdout.readline() == b"held\n"
        self.holders.append(holder)
        return holder

    async def serve(self):
        async def answer(_):
            return bus.Pong(1, 1)

        return await link.serve(self.folder / "worker-0.sock", answer)

    def observe(self, text=None):
        self.observer = Observer(asyncio.get_running_loop(), self.folder, lambda _: self.page, self.told)
        config = accept((text or CONFIG.format(workers=1, extra="")).encode(), "t")
        self.observer.configure(config, self.folder)

    def told(self, found):
        self.history.append((time.monotonic(), found))
        self.changed.set()

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition(self.observer.evidence):
                self.changed.clear()
                await self.changed.wait()

    async def worker(self, state):
        await self.until(lambda found: found.workers == (state,))

    def close(self):
        self.observer.stop()
        for holder in self.holders:
            holder.kill()
            holder.wait()
            holder.stdout.close()


def run(tmp_path, scenario):
    async def all_of_it():
        lab = Lab(tmp_path)
        try:
            await scenario(lab)
        finally:
            lab.close()

    asyncio.run(all_of_it())


@pytest.mark.slow
def test_a_worker_serves_when_it_has_answered_and_its_death_is_seen_at_once(tmp_path):
    async def scenario(lab):
        lab.observe()
        await lab.worker(Worker.GONE)
        holder = lab.start()
        await lab.worker(Worker.STARTING)
        server = await lab.serve()
        await lab.worker(Worker.SERVING)
        killed = time.monotonic()
        holder.kill()
        await lab.worker(Worker.GONE)
        assert lab.history[-1][0] - killed < 0.1
        lab.start()  # the next life answers anew
        await lab.worker(Worker.SERVING)
        assert Worker.STARTING in [found.workers[0] for _, found in lab.history[-3:]]
        server.close()

    run(tmp_path, scenario)


@pytest.mark.slow
def test_a_worker_whose_loop_stands_is_hung_and_comes_back(tmp_path):
    async def scenario(lab):
        lab.observe()
        holder = lab.start()
        server = await lab.serve()
        await lab.worker(Worker.SERVING)
        stopped = time.monotonic()
        holder.send_signal(signal.SIGSTOP)
        await lab.worker(Worker.HUNG)
        assert 0.19 < time.monotonic() - stopped < 2
        holder.send_signal(signal.SIGCONT)
        await lab.worker(Worker.SERVING)
        server.close()

    run(tmp_path, scenario)


@pytest.mark.slow
def test_requests_in_flight_are_known_once_every_worker_counts(tmp_path):
    async def scenario(lab):
        lab.observe()
        lab.start()
        await lab.worker(Worker.STARTING)
        assert lab.observer.in_flight() is None
        lab.page[152] = 3  # as Life.report(2) does
        assert lab.observer.in_flight() == 2

    run(tmp_path, scenario)


@pytest.mark.slow
def test_it_is_quiet_when_each_worker_has_looked_so_often_and_found_nothing(tmp_path):
    """Reports as Life.report makes them: the count and one more, and how often."""

    async def scenario(lab):
        lab.observe()
        lab.start()
        await lab.worker(Worker.STARTING)
        look = lab.observer.wait_for_quiet
        lab.page[152] = 1
        assert look(time.monotonic()) == 0
        assert look(time.monotonic(), turns=2) is None, "it does not look"
        waiting = asyncio.create_task(asyncio.to_thread(look, time.monotonic() + 10, 0.0, 2))
        while not waiting.done():
            lab.page[160] += 1
            await asyncio.sleep(0.005)
        assert waiting.result() == 0
        assert lab.page[160] >= 2
        lab.page[152] = 3
        assert look(time.monotonic(), turns=2) == 2

    run(tmp_path, scenario)


@pytest.mark.slow
def test_tracked_things_are_looked_at(tmp_path):
    extra = (
        'track = [{ name = "file", file = "there", every = "50ms" }, { name = "loop", interface = "lo" },'
        ' { name = "false", script = ["/bin/false"], every = "50ms" }]'
    )

    async def scenario(lab):
        (tmp_path / "there").touch()
        lab.observe(CONFIG.format(workers=1, extra=extra))
        await lab.until(lambda found: found.tracks["file"].seen is Seen.GOOD)
        await lab.until(lambda found: found.tracks["false"].seen is Seen.BAD and found.tracks["false"].number > 2)
        (tmp_path / "there").write_text("1\n")
        await lab.until(lambda found: found.tracks["file"].seen is Seen.BAD)
        assert lab.observer.evidence.origins == {"shop": Seen.UNKNOWN}

    run(tmp_path, scenario)


def test_the_question_on_a_workers_socket_is_the_one_of_the_bus():
    assert bus.encode_envelope(bus.Envelope(1, bus.Ping())) == evidence.PING
    assert evidence.PONG in bus.encode_envelope(bus.Envelope(1, bus.Pong(5, 6)))


def test_serving_workers_are_counted():
    assert Evidence((Worker.SERVING, Worker.HUNG, Worker.SERVING)).serving == 2


def peer(state, **more):
    return {"address": "10.0.0.1:80", "state": state, **more}


@pytest.mark.parametrize(
    ("upstreams", "checked", "seen"),
    [
        ([peer("up")], False, Seen.GOOD),
        ([peer("up")], True, Seen.UNKNOWN),
        ([peer("up", check="200 in 1 ms")], True, Seen.GOOD),
        ([peer("failed"), peer("up", check="200")], True, Seen.GOOD),
        ([peer("failed", check="refused"), peer("ejected")], True, Seen.BAD),
        ([peer("ejected")], False, Seen.BAD),
        ([peer("unknown")], True, Seen.UNKNOWN),
        ([], False, Seen.UNKNOWN),
    ],
)
def test_a_site_is_as_good_as_its_best_origin(upstreams, checked, seen):
    status = {"sites": [{"name": "shop", "upstreams": upstreams}, {"name": "other", "upstreams": []}, "junk"]}
    assert judge_origins(status, {"shop": checked}) == {"shop": seen}


@pytest.mark.parametrize("junk", [None, [], {}, {"sites": None}, {"sites": [None]}])
def test_junk_says_nothing_of_origins(junk):
    assert judge_origins(junk, {"shop": True}) == {}


def test_admin_that_does_not_answer_says_nothing_of_origins(tmp_path):
    assert evidence.ask_origins(tmp_path / "admin.sock", {"shop": True}) == {}
    assert evidence.check_origins(tmp_path / "admin.sock", {"shop"}) is None


@pytest.fixture
def admin(tmp_path):
    """A socket that answers each question with the next of these texts."""
    answers: list[str] = []
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "admin.sock"))
    server.listen()

    def serve():
        with contextlib.suppress(OSError):
            while True:
                sock, _ = server.accept()
                with sock:
                    sock.recv(4096)
                    sock.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + answers.pop(0).encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield answers
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)


@pytest.mark.parametrize(
    ("answer", "good"),
    [
        ('{"sites": {"shop": true, "other": false}}', True),
        ('{"sites": {"shop": false}}', False),
        ('{"sites": {}}', False),
        ('{"sites": []}', None),
        ("junk", None),
    ],
)
def test_checks_made_now_say_whether_what_was_good_still_is(tmp_path, admin, answer, good):
    admin.append(answer)
    assert evidence.check_origins(tmp_path / "admin.sock", {"shop"}) is good


def test_who_asks_while_a_look_is_under_way_gets_one_that_begins_later(tmp_path, admin):
    admin += ['{"sites": {}}', '{"sites": {}}']

    async def scenario(lab):
        told = asyncio.Queue()
        lab.observer = Observer(asyncio.get_running_loop(), tmp_path, lambda _: lab.page, lambda _: None)
        begun = time.monotonic()
        lab.observer.look_at_origins(lambda *said: told.put_nowait(said))
        lab.observer.look_at_origins(lambda *said: told.put_nowait(said))
        first, second = [await asyncio.wait_for(told.get(), 5) for _ in range(2)]
        assert first[0] is second[0] is True  # nothing was good before
        assert begun <= first[1] < second[1]

    run(tmp_path, scenario)


def test_a_file_is_good_when_it_exists_and_holds_no_other_number_than_0(tmp_path):
    file = tmp_path / "f"
    assert look_at_file(file) is Seen.BAD
    for content, seen in (("", Seen.GOOD), ("0\n", Seen.GOOD), ("7", Seen.BAD), ("words", Seen.GOOD)):
        file.write_text(content)
        assert look_at_file(file) is seen


def test_an_interface_is_good_with_carrier():
    assert look_at_interface("lo") is Seen.GOOD
    assert look_at_interface("no-such-one") is Seen.BAD


@pytest.mark.slow
def test_a_program_over_its_time_dies_with_what_it_started(tmp_path):
    mark = tmp_path / "pid"
    begun = time.monotonic()
    assert run_program(["/bin/sh", "-c", f"sleep 60 & echo $! > {mark}; wait"], 0.3) is Seen.BAD
    assert time.monotonic() - begun < 5
    pid = int(mark.read_text())
    end = time.monotonic() + 5
    while Path(f"/proc/{pid}/stat").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < end
    assert run_program(["/bin/true"], 1) is Seen.GOOD
    assert run_program(["/no/such/program"], 1) is Seen.BAD
    assert threading.active_count() < 50
