"""`status` and `purge` against the real admin service on its Unix socket, which runs in a thread."""

import argparse
import asyncio
import json
import os
import socket
import threading

import pytest
import uvloop

from config.schema import Config, Site, Upstream
from config.units import Listen
from proxy import bus, commands
from proxy.observe.admin import AdminService
from tests.observe.settings import settings
from tests.observe.workers import FakeWorker, until

SHOP = Config(
    site=(
        Site(
            name="shop",
            listen=(Listen("", 80),),
            upstream=(Upstream(address="10.0.0.1:80", route="t1"), Upstream(address="10.0.0.2:80")),
        ),
    )
)


class Instance:
    """Admin with one worker, on a loop in a thread of its own."""

    def __init__(self, runtime):
        self.runtime = runtime
        self.worker = FakeWorker(runtime, 0, count=3)
        self.say("up", "up")
        self._ready, self._end = threading.Event(), None

    def say(self, *standings):
        peers = [
            {"address": f"10.0.0.{number}:80", "standing": word, "why": "failures-in-a-row"}
            for number, word in enumerate(standings, 1)
        ]
        self.worker.data = {"pid": 5, "pools": {"shop": peers}}

    def __enter__(self):
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def _run(self):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self):
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        await self.worker.start()
        plan = settings(self.runtime, SHOP)
        service = AdminService(-1, plan.shared)
        await service.prepare(plan)
        service.commit()
        await until(lambda: not service._tasks)
        self._ready.set()
        await self._end.wait()
        await service.drain(self._loop.time() + 2)
        self.worker.die()
        await asyncio.sleep(0.01)

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def instance(tmp_path):
    with Instance(tmp_path) as running:
        yield running


def tandem(*words):
    """The exit status of `tandem words…`, as far as these commands go."""
    parser = argparse.ArgumentParser(prog="tandem", allow_abbrev=False)
    commands.add_arguments(parser.add_subparsers(required=True))
    options = parser.parse_args(words)
    return options.run(options)


def test_status_shows_processes_origins_and_cache(instance, capsys):
    assert tandem("status", "--runtime", str(instance.runtime)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("tandem ")
    assert "site shop on :80: no requests yet" in lines
    assert [line.split() for line in lines if "10.0.0." in line] == [
        ["10.0.0.1:80", "t1", "up", "-"],
        ["10.0.0.2:80", "up", "-"],
    ]
    assert any(line.split()[:1] == ["admin"] and line.endswith("running") for line in lines)
    assert "cache 0B of 256.0MB, 0 stored responses" in lines
    assert lines[-1] == "all is well"


def test_status_ends_with_one_and_says_what_is_faulty(instance, capsys):
    instance.say("ejected", "up")
    assert tandem("status", "--runtime", str(instance.runtime)) == 1
    out = capsys.readouterr().out
    assert "ejected (failures-in-a-row)" in out
    assert out.splitlines()[-1] == "! origin 10.0.0.1:80 of site shop is ejected"


def test_status_for_programs_is_json_with_names_pids_and_states(instance, capsys):
    assert tandem("status", "--json", "--socket", str(instance.runtime / "admin.sock")) == 0
    data = json.loads(capsys.readouterr().out)
    processes = {one["name"]: one for one in data["processes"]}
    assert processes["worker-0"]["state"] == processes["admin"]["state"] == "running"
    assert processes["admin"]["pid"] == os.getpid()


@pytest.mark.parametrize(
    ("words", "kind", "value", "soft", "dry_run"),
    [
        (["http://a/x?y=1"], "url", "http://a/x?y=1", True, False),
        (["http://a/%C3%A4 ö"], "url", "http://a/%C3%A4%20%C3%B6", True, False),
        (["--prefix", "http://a/"], "prefix", "http://a/", True, False),
        (["--all", "--hard"], "all", "", False, False),
        (["http://a/", "--dry-run"], "url", "http://a/", True, True),
    ],
)
def test_purge_reaches_the_worker_as_asked(instance, words, kind, value, soft, dry_run):
    assert tandem("purge", *words, "--runtime", str(instance.runtime)) == 0
    (asked,) = instance.worker.of(bus.Purge)
    assert (asked.kind, asked.value, asked.soft, asked.dry_run) == (kind, value, soft, dry_run)


def test_purge_says_how_many_and_where(instance, capsys):
    runtime = ["--runtime", str(instance.runtime)]
    assert tandem("purge", "--all", *runtime) == 0
    assert capsys.readouterr().out == "purged 3 stored responses; applied on 1/1 workers\n"
    instance.worker.count = 1
    assert tandem("purge", "--all", "--dry-run", *runtime) == 0
    assert capsys.readouterr().out == "would purge 1 stored response; applied on 1/1 workers\n"
    assert tandem("purge", "--all", "--json", *runtime) == 0
    assert json.loads(capsys.readouterr().out)["purged"] == 1


def test_a_purge_that_a_worker_did_not_apply_ends_with_one_and_names_it(instance, capsys):
    async def fail():
        raise ValueError("no room")

    instance.worker.hold = fail
    assert tandem("purge", "--all", "--runtime", str(instance.runtime)) == 1
    assert capsys.readouterr().out.splitlines() == [
        "purged 0 stored responses; applied on 0/1 workers",
        "! worker-0: ValueError: no room",
    ]


def test_what_is_no_address_is_wrong_usage(instance, capsys):
    assert tandem("purge", "shop/x", "--runtime", str(instance.runtime)) == 2
    assert capsys.readouterr().err == (
        "tandem: 'shop/x' is no http or https address; one is http://shop.example.org/path?query\n"
    )


@pytest.mark.parametrize("words", [[], ["http://a/", "--all"], ["--prefix", "a", "--all"], ["http://a/", "--wonder"]])
def test_purge_wants_exactly_one_target(words):
    with pytest.raises(SystemExit) as ended:
        tandem("purge", *words)
    assert ended.value.code == 2


def test_where_nothing_runs_one_line_says_so_and_what_to_do(tmp_path, capsys):
    assert tandem("status", "--runtime", str(tmp_path)) == 1
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "admin.sock"))
    assert tandem("purge", "--all", "--runtime", str(tmp_path)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"tandem: no tandem runs behind {tmp_path}/admin.sock; start one") for line in lines)


def test_an_answer_that_is_not_tandems_is_a_fault(tmp_path, capsys):
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def answer(text):
            peer, _ = server.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(text)

        for text in (b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\n\r\nhello", b"HTTP/1.1 200 OK\r\n\r\n[]", b""):
            thread = threading.Thread(target=answer, args=(text,))
            thread.start()
            assert tandem("status", "--socket", str(path)) == 1
            thread.join(10)
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 4
    assert all(line.startswith(f"tandem: {path}: ") for line in errors)


def test_a_refusal_of_admin_is_quoted(tmp_path, capsys):
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def refuse():
            peer, _ = server.accept()
            with peer, peer.makefile("rb") as stream:
                while stream.read(1) != b"}":  # the end of the body
                    pass
                peer.sendall(b'HTTP/1.1 403 Forbidden\r\nContent-Length: 22\r\n\r\n{"error": "not\\u001b"}')

        thread = threading.Thread(target=refuse)
        thread.start()
        assert tandem("purge", "--all", "--socket", str(path)) == 1
        thread.join(10)
    assert capsys.readouterr().err == "tandem: not\\x1b\n"


def test_the_runtime_folder_is_found_as_the_instance_finds_it(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    assert commands.socket_path(argparse.Namespace(socket=None, runtime=None)) == tmp_path / "admin.sock"
    assert commands.socket_path(argparse.Namespace(socket="/x", runtime=None)) == commands.Path("/x")


@pytest.mark.parametrize(("count", "text"), [(0, "0B"), (1023, "1023B"), (1536, "1.5KB"), (3 * 2**30, "3.0GB")])
def test_sizes_are_read_by_people(count, text):
    assert commands.size(count) == text
