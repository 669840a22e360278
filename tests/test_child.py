"""The process around a service: it gets all by descriptor, answers on its socket, and its death is seen."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from proxy import bus, link, runtime
from tests.kit.instance import ROOT, Instance, free_port, open_files, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def instance():
    with tempfile.TemporaryDirectory() as top:
        Path(top).chmod(0o755)
        (Path(top) / "shop.pem").write_text("certificate")
        (Path(top) / "shop.key").write_text("private")
        (Path(top) / "shop.key").chmod(0o600)
        text = f'[[site]]\nlisten = "127.0.0.1:{free_port()}"\nupstream = "127.0.0.1:1"\n'
        text += 'tls = { cert = "shop.pem", key = "shop.key" }\n[process]\nworkers = 2\n'
        one = Instance(Path(top), text)
        yield one.ready()
        one.clean_up()


def ask(instance, question, index=0):
    return asyncio.run(link.ask_once(runtime.worker_socket(instance.runtime, index), question))


def test_each_worker_answers_on_its_own_socket_which_is_its_users_alone(instance):
    for index in (0, 1):
        answer = ask(instance, bus.Ping(), index)
        assert answer.pid == instance.process(f"worker-{index}")["pid"]
        assert stat.S_IMODE(runtime.worker_socket(instance.runtime, index).stat().st_mode) == 0o600


def test_beats_go_on_while_the_loop_turns_and_stop_with_it(instance):
    first = ask(instance, bus.Ping()).beats
    wait_until(lambda: ask(instance, bus.Ping()).beats > first)
    pid = instance.process("worker-0")["pid"]
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(link.LinkError, match="no answer"):
        asyncio.run(link.ask_once(runtime.worker_socket(instance.runtime, 0), bus.Ping(), limit=0.2))
    os.kill(pid, signal.SIGCONT)


def test_questions_reach_the_service_and_failures_come_back(instance):
    assert ask(instance, bus.Purge(4, "all", "")) == bus.Purged(4, 1)
    assert ask(instance, bus.HealthVerdicts(())) == bus.Failed("unknown")


def test_secrets_and_files_come_by_descriptor_and_none_is_left_open(instance):
    assert ask(instance, bus.Status()).data["secrets"] == {"shop.key": "private"}
    assert ask(instance, bus.Status()).data["files"] == {"shop.pem": "certificate"}
    for process in instance.state()["processes"][1:]:
        names = open_files(process["pid"])
        assert not [name for name in names if "tandem-secret" in name or "tandem-parcel" in name]
        assert len([name for name in names if "tandem-shared" in name]) <= 2  # inherited, and mapped


def test_sigusr1_reopens_the_logs_of_every_child(instance):
    instance.signal(signal.SIGUSR1)
    wait_until(lambda: all(ask(instance, bus.Status(), n).data["reopened"] == 1 for n in (0, 1)))


def test_a_terminals_ctrl_c_does_not_reach_through_to_the_children(instance):
    pids = [p["pid"] for p in instance.state()["processes"][1:]]
    for pid in pids:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            os.kill(pid, number)
    assert ask(instance, bus.Ping()).pid in pids
    assert [p["pid"] for p in instance.state()["processes"][1:]] == pids
    assert instance.said().count("died") == 0


def test_the_socket_of_a_killed_worker_is_its_successors(instance):
    before = instance.process("worker-0")["pid"]
    os.kill(before, signal.SIGKILL)
    after = instance.wait_for("worker-0", "running", not_pid=before)
    assert ask(instance, bus.Ping()).pid == after["pid"]


def test_a_child_is_named_for_what_it_is(instance):
    for process in instance.state()["processes"][1:]:
        assert Path(f"/proc/{process['pid']}/comm").read_text().strip() == f"tandem-{process['name']}"[:15]


def test_the_supervisor_imports_none_of_the_heavy_libraries():
    code = "import sys, proxy.cli, proxy.supervisor; print([m for m in sys.modules if m.split('.')[0] in "
    code += "('aiohttp', 'uvloop', 'asyncio', 'cachetools', 'scapy', 'pyroute2', 'ssl')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
