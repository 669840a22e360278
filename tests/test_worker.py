"""A worker's service in a thread: prepared, committed, reloaded, asked and drained as its process would do it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest
import trustme
import uvloop

from config.load import parse
from config.units import Listen
from proxy import bus, link
from proxy.observe import metrics
from proxy.service import Listener, Refused, Settings
from proxy.worker import Worker
from tests.kit import raw
from tests.kit.origin import FakeOrigin, Stall, response

FRESH = "Cache-Control: max-age=60"


class Running:
    """A worker in a loop of its own, with listening sockets as the supervisor keeps them."""

    def __init__(self, folder: Path, ports: int = 1, workers: int = 1, index: int = 0):
        self.folder = folder
        self.workers = workers
        self.index = index
        self.listeners = []
        for serial in range(ports):
            sock = raw.socket.create_server(("127.0.0.1", 0), backlog=64)
            address = sock.getsockname()
            self.listeners.append(Listener(Listen("127.0.0.1", address[1]), address, serial, sock.detach()))
        self.shared = memoryview(bytearray(metrics.REGION))
        self.generation = 0
        self.loop = uvloop.new_event_loop()
        self.complaints = []
        self.loop.set_exception_handler(lambda _loop, context: self.complaints.append(context))
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.worker = Worker(index, self.shared)
        self.drained = False

    @property
    def at(self):
        return self.listeners[0].address

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(raw.TIMEOUT)

    def call(self, do):
        async def turn():
            return do()

        return self.run(turn())

    def settings(self, text, listeners=None, files=None, secrets=None):
        self.generation += 1
        for number, listener in enumerate(self.listeners):
            text = text.replace(f"PORT{number}", str(listener.address[1]))
        return Settings(
            config=parse(text.encode(), "test.toml", Path("/")).config,
            generation=self.generation,
            digest="0123456789abcdef",
            name=f"worker-{self.index}",
            index=self.index,
            workers=self.workers,
            listeners=tuple(self.listeners if listeners is None else listeners),
            secrets=secrets or {},
            files=files or {},
            base=self.folder,
            runtime=self.folder,
            shared=self.shared,
        )

    def prepare(self, text, **more):
        self.run(self.worker.prepare(self.settings(text, **more)))

    def commit(self):
        self.call(self.worker.commit)

    def load(self, text, **more):
        self.prepare(text, **more)
        self.commit()

    def ask(self, question):
        return self.run(self.worker.handle(question))

    def status(self):
        return self.ask(bus.Status()).data

    def drain(self, seconds=5.0):
        self.drained = True
        self.run(self.worker.drain(time.monotonic() + seconds))

    def end(self):
        if not self.drained:
            self.drain(0.0)
        self.call(lambda: None)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(raw.TIMEOUT)
        self.loop.close()
        for listener in self.listeners:
            os.close(listener.fd)
        assert not self.complaints, self.complaints


@pytest.fixture
def start(tmp_path):
    running = []

    def begin(**options):
        running.append(Running(tmp_path, **options))
        return running[-1]

    yield begin
    for one in running:
        one.end()


@pytest.fixture
def origin():
    with FakeOrigin() as origin:
        origin.otherwise(response(b"hello", FRESH))
        yield origin


def site(origin, port="PORT0", extra="", rest=""):
    return f'[[site]]\nlisten = "127.0.0.1:{port}"\nupstream = ["{origin.address}"]\n{extra}\n{rest}\n'


def descriptors():
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough


def certificate(folder, cert, key):
    """(descriptor of the key, the paths of both, what settings say of files and secrets)."""
    paths = [folder / "cert.pem", folder / "key.pem"]
    for path, content in zip(paths, (cert, key), strict=True):
        path.write_bytes(content)
        path.chmod(0o600)
    fd = os.memfd_create("key")
    os.write(fd, key)
    return fd, *paths, {str(paths[0]): cert}, {str(paths[1]): fd}


# ---- prepare, commit, abort ------------------------------------------------------------------------------------------


def test_nothing_is_served_before_the_commit_and_all_that_waited_after_it(start, origin):
    running = start()
    running.prepare(site(origin))
    with raw.Connection(running.at) as connection:
        connection.send(raw.request())
        assert connection.is_silent(0.05)
        running.commit()
        assert connection.read_response().body == b"hello"


def test_what_was_prepared_and_given_up_leaves_nothing_behind(start, origin, tmp_path):
    running = start()
    running.load(site(origin))
    raw.get(running.at)
    before = descriptors()
    for _ in range(3):
        running.prepare(site(origin, rest='[log]\naccess = ["access.log"]'))
        running.call(running.worker.abort)
    assert raw.get(running.at).body == b"hello"
    raw.wait_until(lambda: descriptors() <= before)


def test_a_reload_keeps_connections_and_what_is_stored_and_follows_the_new_file(start, origin):
    running = start()
    running.load(site(origin))
    with raw.Connection(running.at) as connection:
        connection.send(raw.request())
        connection.read_response()
        running.load(site(origin, rest='[[rule]]\nname = "no"\nmatch = { path = "/no" }\nanswer = { status = 410 }'))
        connection.send(raw.request())
        assert "hit" in connection.read_response().get("cache-status")
        connection.send(raw.request("GET", "/no"))
        assert connection.read_response().status == 410
    assert len(origin.requests) == 1


def test_an_address_that_goes_is_served_no_more_and_one_that_comes_is(start, origin):
    running = start(ports=2)
    running.load(site(origin))
    raw.get(running.at)
    kept = raw.Connection(running.at)
    running.load(site(origin, "PORT1"))
    assert raw.get(running.listeners[1].address).body == b"hello"
    with kept:
        assert kept.at_end() is raw.End.CLEAN


def test_connections_to_origins_that_go_are_closed_and_running_answers_come_to_their_end(start, origin):
    gate = threading.Event()
    with FakeOrigin() as second:
        second.otherwise(response(b"second"))
        running = start()
        running.load(site(origin))
        raw.get(running.at, "/a")
        origin.otherwise(response(b"slow")[:-2], Stall(until=gate), b"ow")
        with raw.Connection(running.at) as connection:
            connection.send(raw.request("GET", "/slow"))
            connection.read_raw_head()
            running.load(site(second))
            gate.set()
            assert connection.read_exactly(4) == b"slow"
        assert raw.get(running.at, "/b").body == b"second"


def test_a_certificate_that_cannot_be_read_refuses_the_configuration_and_leaves_the_old_one(start, origin, tmp_path):
    running = start()
    running.load(site(origin))
    fd, cert, key, files, secrets = certificate(tmp_path, b"no certificate", b"no key")
    broken = site(origin, extra=f'tls = [{{ cert = "{cert}", key = "{key}" }}]')
    before = descriptors()
    for _ in range(3):
        with pytest.raises(Refused):
            running.prepare(broken, files=files, secrets=secrets)
    assert descriptors() <= before
    assert raw.get(running.at).body == b"hello"
    os.close(fd)


def test_a_site_speaks_tls_with_what_it_was_given_and_reloads_leak_nothing(start, origin, tmp_path):
    authority = trustme.CA()
    made = authority.issue_cert("test.example")
    chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
    fd, cert, key, files, secrets = certificate(tmp_path, chain, made.private_key_pem.bytes())
    running = start()
    text = site(origin, extra=f'tls = [{{ cert = "{cert}", key = "{key}" }}]')
    context = raw.ssl.create_default_context()
    authority.configure_trust(context)
    before = None
    for _ in range(4):
        running.load(text, files=files, secrets=secrets)
        answer = raw.ask(running.at, raw.request(), tls=context, name="test.example")
        assert answer.body == b"hello"
        raw.wait_until(lambda: running.status()["connections"] == 0)
        before = before or descriptors()
        assert descriptors() <= before
    os.close(fd)


# ---- questions -------------------------------------------------------------------------------------------------------


def test_a_purge_is_done_once_for_its_number_and_what_is_no_address_is_told(start, origin):
    running = start()
    running.load(site(origin))
    url = f"http://test.example:{running.at[1]}/"
    host = f"test.example:{running.at[1]}"
    raw.get(running.at, host=host)
    assert running.ask(bus.Purge(1, "url", url, dry_run=True)) == bus.Purged(1, 1)
    assert running.ask(bus.Purge(2, "url", url)) == bus.Purged(2, 1)
    raw.get(running.at, host=host)
    assert running.ask(bus.Purge(2, "url", url)) == bus.Purged(2, 1)
    assert running.status()["store"]["entries"] == 1
    assert running.ask(bus.Purge(3, "all", "")) == bus.Purged(3, 1)
    assert isinstance(running.ask(bus.Purge(4, "url", "nonsense")), bus.Failed)
    raw.wait_until(lambda: running.shared.cast("Q")[metrics.slot("tandem_purged_total")] == 2)


@pytest.mark.parametrize(
    ("kind", "value"), [("all", ""), ("tag", "news"), ("prefix", "http://test.example"), ("match", "~^/$")]
)
def test_a_purge_concerns_what_is_on_its_way_as_well(start, origin, kind, value):
    gate = threading.Event()
    running = start()
    running.load(site(origin))
    origin.otherwise(Stall(until=gate), response(b"old", FRESH, "Cache-Tag: news"))
    with raw.Connection(running.at) as connection:
        connection.send(raw.request())
        origin.wait_for(1)
        running.ask(bus.Purge(1, kind, value))
        gate.set()
        assert connection.read_response().body == b"old"
    origin.otherwise(response(b"new", FRESH))
    assert raw.get(running.at).body == b"new"


def test_a_purge_over_http_reaches_the_other_workers_or_goes_on_without_the_dead(start, origin, tmp_path):
    running = start(workers=3)
    heard = []

    async def answer(question):
        heard.append(question)
        return bus.Purged(question.number, 5)

    async def serve():
        loop = asyncio.get_running_loop()
        return await loop.create_unix_server(lambda: link._Answering(answer), path=str(tmp_path / "worker-1.sock"))

    server = running.run(serve())
    running.load(site(origin, extra='purge_from = ["127.0.0.0/8"]'))
    raw.get(running.at, "/a")
    assert raw.get(running.at, "/a", method="PURGE").body == b"purged 6\n"
    for _ in range(2):
        raw.get(running.at, "/a", method="DELETE")
    raw.wait_until(lambda: len(heard) == 3)
    numbers = [one.number for one in heard]
    assert numbers == sorted(set(numbers))
    assert {one.value for one in heard} == {"http://test.example/a"}
    running.call(server.close)


def test_the_active_checks_word_takes_an_origin_out_and_back(start, origin):
    running = start()
    running.load(site(origin))
    (pool,) = running.status()["pools"]
    for healthy, standing in ((False, "failed"), (True, "up")):
        verdict = bus.Verdict(pool, origin.address, healthy)
        assert running.ask(bus.HealthVerdicts((verdict, bus.Verdict("gone", "x:1", False)))) == bus.Done()
        assert running.status()["pools"][pool][0]["standing"] == standing
        assert raw.get(running.at, f"/{healthy}").status == (200 if healthy else 503)


def test_the_gauges_tell_what_there_is(start, origin):
    running = start()
    running.load(site(origin))
    slots = running.shared.cast("Q")
    with raw.Connection(running.at) as connection:
        connection.send(raw.request())
        connection.read_response()
        raw.wait_until(lambda: slots[metrics.slot("tandem_store_entries")] == 1)
        assert slots[metrics.slot("tandem_connections_open")] == 1
        assert slots[metrics.slot("tandem_upstream_connections_idle")] == 1
        assert slots[metrics.slot("tandem_upstream_connections_total")] == 1
    raw.wait_until(lambda: slots[metrics.slot("tandem_connections_open")] == 0)


# ---- logs ------------------------------------------------------------------------------------------------------------


def test_lines_go_to_the_file_that_is_named_also_after_it_was_moved_away(start, origin, tmp_path):
    running = start()
    running.load(site(origin, rest='[log]\naccess = ["access.log"]'))
    log = tmp_path / "access.log"
    raw.get(running.at, "/one")
    raw.wait_until(lambda: log.exists() and "/one" in log.read_text())
    log.rename(tmp_path / "old.log")
    running.call(running.worker.reopen_logs)
    raw.get(running.at, "/two")
    raw.wait_until(lambda: log.exists() and "/two" in log.read_text())
    assert "/two" not in (tmp_path / "old.log").read_text()


# ---- draining --------------------------------------------------------------------------------------------------------


def test_a_drain_ends_idle_connections_finishes_what_is_in_flight_and_takes_no_more(start, origin):
    gate = threading.Event()
    running = start()
    running.load(site(origin))
    idle = raw.Connection(running.at)
    idle.send(raw.request())
    idle.read_response()
    origin.otherwise(Stall(until=gate), response(b"last", FRESH))
    with raw.Connection(running.at) as busy:
        busy.send(raw.request("GET", "/slow"))
        origin.wait_for(2)
        draining = threading.Thread(target=running.drain)
        draining.start()
        assert idle.at_end() is raw.End.CLEAN
        gate.set()
        answer = busy.read_response()
        assert (answer.body, answer.get("connection")) == (b"last", "close")
    draining.join(raw.TIMEOUT)
    assert not draining.is_alive()
    idle.close()


def test_what_is_in_flight_at_the_deadline_is_cut(start, origin):
    gate = threading.Event()
    running = start()
    running.load(site(origin))
    origin.otherwise(response(b"never")[:-1], Stall(until=gate))
    with raw.Connection(running.at) as busy:
        busy.send(raw.request("GET", "/slow"))
        busy.read_raw_head()
        running.drain(0.2)
        assert busy.read_to_end()[0] == b"neve"
    gate.set()


def test_a_worker_that_never_served_has_nothing_to_drain(start):
    start().drain()
