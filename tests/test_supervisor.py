"""Real processes: what dies is restarted, what is refused changes nothing, and the end is in order."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from proxy import bus, link, runtime
from tests.kit.instance import Instance, can_connect, free_port, is_running, wait_until

pytestmark = pytest.mark.slow


def config(port, *, workers=1, name="shop", extra="", drain="5s"):
    return (
        f'[[site]]\nname = "{name}"\nlisten = "127.0.0.1:{port}"\nupstream = "127.0.0.1:1"\n{extra}\n'
        f'[process]\nworkers = {workers}\ndrain = "{drain}"\n'
    )


@pytest.fixture
def start():
    """Starts instances in folders of their own, which the children's user may reach."""
    running = []
    with tempfile.TemporaryDirectory() as top:
        Path(top).chmod(0o755)

        def start_one(text, *, ready=True, **options):
            folder = Path(top) / str(len(running))
            folder.mkdir()
            instance = Instance(folder, text, **options)
            running.append(instance)
            return instance.ready() if ready else instance

        yield start_one
        for instance in running:
            instance.clean_up()


@pytest.fixture
def port():
    return free_port()


# ---- starting and ending ---------------------------------------------------------------------------------------------


def test_workers_and_admin_run_and_the_end_is_in_order_with_exit_0(start, port):
    instance = start(config(port, workers=2))
    state = instance.state()
    assert [p["name"] for p in state["processes"]] == ["supervisor", "worker-0", "worker-1", "admin"]
    assert {p["state"] for p in state["processes"]} == {"running"}
    assert state["processes"][0]["pid"] == instance.pid
    assert instance.ask()[1] == 1
    assert instance.end() == 0
    assert not can_connect(port)
    assert not any(is_running(p["pid"]) for p in state["processes"])
    assert [entry.name for entry in instance.runtime.iterdir()] == ["lock"]


def test_the_end_waits_for_what_is_in_flight_and_takes_nothing_new(start, port):
    instance = start(config(port))
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"slow\n")
        wait_until((instance.folder / "slow").exists)
        instance.signal(signal.SIGTERM)
        wait_until(lambda: not can_connect(port))
        assert instance.popen.poll() is None
        (instance.folder / "go").touch()
        assert sock.makefile().readline().startswith("0 1 ")
    assert instance.popen.wait(10) == 0


def test_who_does_not_end_within_the_drain_time_is_killed(start, port):
    instance = start(config(port, drain="200ms"))
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"slow\n")
        wait_until((instance.folder / "slow").exists)
        started = time.monotonic()
        assert instance.end() == 0
        assert time.monotonic() - started < 5


def test_a_second_sigint_ends_at_once(start, port):
    instance = start(config(port, drain="60s"))
    pids = [p["pid"] for p in instance.state()["processes"]]
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"slow\n")
        wait_until(instance.ask)
        instance.signal(signal.SIGINT)
        wait_until(lambda: not can_connect(port))
        assert instance.popen.poll() is None
        instance.signal(signal.SIGINT)
        assert instance.popen.wait(5) == 0
    assert not any(is_running(pid) for pid in pids)


def test_an_end_while_everything_starts_is_in_order_too(start, port):
    instance = start(config(port), ready=False)
    wait_until(lambda: instance.process("supervisor"))
    assert instance.end() == 0
    assert "died" not in instance.said()
    assert not can_connect(port)


def test_a_child_that_refuses_the_first_configuration_ends_the_start_with_its_reason(start, port):
    instance = start(config(port, name="refuse"), ready=False)
    assert instance.popen.wait(20) == 1
    assert "the dummy was told to refuse" in instance.said()
    assert not can_connect(port)


def test_a_crash_loop_before_the_first_ready_ends_the_start_with_exit_1(start, port):
    instance = start(config(port, name="die"), ready=False)
    assert instance.popen.wait(30) == 1
    assert "CRASH LOOP: worker-0 died 5 times within 30 s" in instance.said()
    assert instance.said().count("CRASH LOOP") == 1


def test_a_busy_port_is_one_line_with_the_holder_and_the_remedy(start, port):
    instance = start(config(port))
    second = start(config(port), ready=False)
    assert second.popen.wait(20) == 1
    (line,) = [line for line in second.said().splitlines() if "port" in line]
    assert f"port {port} is taken by " in line
    assert f"(pid {instance.pid})" in line or "(pid " in line
    assert "listen on another port" in line
    assert instance.ask()[0] == 0


def test_a_second_instance_in_the_same_folder_names_the_first(start, port):
    instance = start(config(port))
    script = Path(sys.modules["tests.kit.instance"].__file__)
    assert script.exists()
    second = subprocess.run(
        [sys.executable, "-m", "proxy", "run", "-c", instance.config, "--runtime", instance.runtime],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
        cwd=script.parent.parent.parent,
    )
    assert second.returncode == 1
    assert f"pid {instance.pid}" in second.stderr
    assert instance.ask()[0] == 0


def test_a_group_wide_sigterm_drains_as_one_to_the_supervisor_does(start, port):
    instance = start(config(port))
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"slow\n")
        wait_until((instance.folder / "slow").exists)
        os.kill(instance.process("worker-0")["pid"], signal.SIGTERM)
        instance.signal(signal.SIGTERM)
        (instance.folder / "go").touch()
        assert sock.makefile().readline().startswith("0 1 ")
    assert instance.popen.wait(10) == 0


def test_the_service_manager_is_told_ready_reloading_and_stopping(start, port, tmp_path):
    name = f"@tandem-supervisor-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:])
        manager.settimeout(20)
        instance = start(config(port), env={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "200000"})

        def wait_for(word):
            while True:
                text = manager.recv(4096).decode()
                if word in text:
                    return text

        assert f"MAINPID={instance.pid}" in wait_for("READY=1")
        wait_for("WATCHDOG=1")
        instance.signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in wait_for("RELOADING=1")
        wait_for("READY=1")
        instance.signal(signal.SIGTERM)
        wait_for("STOPPING=1")
        assert instance.popen.wait(10) == 0


# ---- deaths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["worker-0", "worker-1", "admin"])
def test_a_killed_child_is_restarted_and_no_connection_is_refused_meanwhile(start, port, name):
    instance = start(config(port, workers=2))
    before = instance.process(name)["pid"]
    os.kill(before, signal.SIGKILL)
    for _ in range(20):
        assert instance.ask()[1] == 1
    after = instance.wait_for(name, "running", not_pid=before)
    assert after["restarts"] == 1
    assert f"{name} died (pid {before}, killed by SIGKILL)" in instance.said()


def test_a_death_is_noticed_within_milliseconds(start, port):
    instance = start(config(port))
    before = instance.process("worker-0")["pid"]
    pidfd = os.pidfd_open(before)
    os.kill(before, signal.SIGKILL)
    killed = time.monotonic()
    wait_until(lambda: not Path(f"/proc/{before}").exists())  # reaped
    assert time.monotonic() - killed < 0.25
    os.close(pidfd)


def test_five_deaths_close_the_listener_and_are_told_once(start, port):
    instance = start(config(port))
    for _ in range(5):
        instance.wait_for("worker-0", "running")
        pid = instance.process("worker-0")["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: instance.process("worker-0")["pid"] != pid)
    instance.wait_for("worker-0", "crash-loop")
    assert not can_connect(port)
    assert instance.said().count("CRASH LOOP") == 1
    assert instance.process("admin")["state"] == "running"
    assert instance.reload()["ok"]  # a new configuration may be the cure: it is tried at once
    instance.wait_for("worker-0", "running")
    assert instance.ask()[1] == 2


def test_when_the_supervisor_dies_listeners_close_at_once_and_what_is_in_flight_is_finished(start, port):
    instance = start(config(port))
    worker = instance.process("worker-0")["pid"]
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"slow\n")
        wait_until(instance.ask)
        os.kill(instance.pid, signal.SIGKILL)
        killed = time.monotonic()
        wait_until(lambda: not can_connect(port))
        assert time.monotonic() - killed < 0.5  # 0.1 s on a machine with nothing else to do
        assert is_running(worker)
        second = start(config(port))  # a restart can bind
        assert second.ask()[1] == 1
        (instance.folder / "go").touch()
        assert sock.makefile().readline().startswith("0 1 ")
    wait_until(lambda: not is_running(worker))


def test_an_error_of_the_supervisor_itself_ends_it_and_the_children_finish_what_is_in_flight(start, port):
    broken = "import proxy.supervisor as s\ndef fail(self): raise RuntimeError('on purpose')\n"
    instance = start(config(port), first=broken + "s.Supervisor._reopen_logs = fail")
    worker = instance.process("worker-0")["pid"]
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"slow\n")
        wait_until(instance.ask)
        instance.signal(signal.SIGUSR1)
        assert instance.popen.wait(10) == 1
        assert "RuntimeError: on purpose" in instance.said()
        wait_until(lambda: not can_connect(port))
        (instance.folder / "go").touch()
        assert sock.makefile().readline() == f"0 1 {worker}\n"
    wait_until(lambda: not is_running(worker))


# ---- reload ----------------------------------------------------------------------------------------------------------


def test_a_reload_keeps_connections_and_processes(start, port):
    instance = start(config(port))
    before = instance.process("worker-0")["pid"]
    with socket.create_connection(("127.0.0.1", port)) as sock:
        lines = sock.makefile()
        sock.sendall(b"hello\n")
        assert lines.readline() == f"0 1 {before}\n"
        assert instance.reload() == {**instance.state()["reload"], "ok": True, "reason": ""}
        sock.sendall(b"hello\n")
        wait_until(lambda: instance.ask() == [0, 2, before])
        assert lines.readline() in (f"0 1 {before}\n", f"0 2 {before}\n")


def test_a_faulty_file_is_refused_with_its_faults_and_everything_stays(start, port):
    instance = start(config(port))
    instance.config.write_text("[[site]]\nlisten = 7\nupstrem = 3\n")
    result = instance.reload()
    assert not result["ok"]
    assert "did you mean `upstream`?" in result["reason"]
    assert "did you mean `upstream`?" in instance.said()
    assert instance.ask()[1] == 1
    instance.config.write_text(config(port))
    assert instance.reload()["ok"]


def test_what_one_worker_refuses_nobody_commits(start, port):
    other = free_port()
    instance = start(config(port, workers=2))
    instance.config.write_text(config(other, workers=2, name="refuse"))
    result = instance.reload()
    assert (result["ok"], result["reason"]) == (False, "the dummy was told to refuse")
    assert instance.ask()[1] == 1
    wait_until(lambda: not can_connect(other))  # the other worker, which had prepared, is told to forget it
    instance.config.write_text(config(other, workers=2))
    assert instance.reload()["ok"]
    wait_until(lambda: not can_connect(port))
    assert instance.ask(port=other)[1] == 3


def test_a_worker_that_dies_while_preparing_refuses_the_reload(start, port):
    instance = start(config(port))
    before = instance.process("worker-0")["pid"]
    instance.config.write_text(config(port, name="hang"))
    instance.signal(signal.SIGHUP)
    wait_until((instance.folder / "hanging").exists)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: instance.state()["reload"])
    assert "worker-0 died while preparing" in instance.state()["reload"]["reason"]
    instance.wait_for("worker-0", "running", not_pid=before)
    assert instance.ask()[1] == 1


def test_a_restarted_worker_gets_the_accepted_configuration_and_not_the_file(start, port):
    instance = start(config(port))
    instance.config.write_text("nonsense")
    before = instance.process("worker-0")["pid"]
    os.kill(before, signal.SIGKILL)
    instance.wait_for("worker-0", "running", not_pid=before)
    assert instance.ask()[1] == 1


def test_a_reload_opens_new_addresses_and_keeps_those_that_stay(start, port):
    other = free_port()
    instance = start(config(port))
    more = f'[[site]]\nname = "more"\nhosts = "more"\nlisten = "127.0.0.1:{other}"\nupstream = "127.0.0.1:1"\n'
    instance.config.write_text(config(port) + more)
    assert instance.reload()["ok"]
    wait_until(lambda: instance.ask(port=other)[1] == 2)
    assert instance.ask(port=port)[1] == 2
    assert {entry["port"] for entry in instance.state()["listeners"]} == {port, other}


def test_a_list_is_taken_over_when_it_changes_and_the_file_of_the_configuration_is_not_read(start, port, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("one.test")
    lists = f'[lists]\none = {{ file = "{names}", refresh = "50ms" }}\n'
    instance = start(config(port) + lists)

    def told():
        question = link.ask_once(runtime.worker_socket(instance.runtime, 0), bus.Status())
        return asyncio.run(question).data["lists"]

    assert told() == {str(names): "one.test"}
    instance.config.write_text("nonsense")
    names.write_text("two.test")
    wait_until(lambda: told() == {str(names): "two.test"})
    wait_until(lambda: f"reloaded {names}" in instance.said())  # all children, admin too
    names.unlink()
    wait_until(lambda: "the list stays as it was read last" in instance.said())
    assert told() == {str(names): "two.test"}
    assert instance.ask()[0] == 0


def test_a_reload_to_an_address_that_is_taken_is_refused(start, port):
    instance = start(config(port))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        instance.config.write_text(config(taken.getsockname()[1]))
        assert "is taken by" in instance.reload()["reason"]
    assert instance.ask()[1] == 1


def test_a_reload_changes_the_number_of_workers(start, port):
    instance = start(config(port))
    instance.config.write_text(config(port, workers=3))
    assert instance.reload()["ok"]
    for name in ("worker-1", "worker-2"):
        instance.wait_for(name, "running")
    assert {instance.ask()[0] for _ in range(200)} == {0, 1, 2}
    instance.config.write_text(config(port))
    assert instance.reload()["ok"]
    wait_until(lambda: instance.process("worker-2") is None and instance.process("worker-1") is None)
    assert {instance.ask()[0] for _ in range(20)} == {0}
    instance.config.write_text(config(port, workers=2))
    assert instance.reload()["ok"]
    instance.wait_for("worker-1", "running")


def test_no_request_fails_while_reloads_come_one_after_the_other(start, port):
    instance = start(config(port, workers=2))
    for round_ in range(5):
        instance.signal(signal.SIGHUP)
        for _ in range(20):
            assert instance.ask()[0] in (0, 1)
        wait_until(lambda round_=round_: instance.state()["generation"] > 1 + round_ // 2)
    assert instance.said().count("refused") == 0


def test_a_hangup_while_a_worker_starts_is_done_once_it_runs(start, port):
    instance = start(config(port))
    before = instance.process("worker-0")["pid"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: instance.process("worker-0")["pid"] != before)
    assert instance.process("worker-0")["state"] == "starting"
    assert instance.reload()["ok"]
    instance.wait_for("worker-0", "running", not_pid=before)
    wait_until(lambda: instance.ask()[1] == 2)


def test_supervisor_and_children_leak_no_descriptor_over_reloads_and_deaths(start, port):
    instance = start(config(port, workers=2))

    def descriptors():
        pids = [p["pid"] for p in instance.state()["processes"]]
        return [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids]

    assert instance.reload()["ok"]
    instance.ask()
    wait_until(lambda: instance.ask()[1] == 2)
    before = descriptors()
    text = instance.config.read_text()
    for n in range(6):
        instance.config.write_text(text if n % 2 else config(port, workers=2, name="refuse"))
        assert instance.reload()["ok"] == bool(n % 2)
    killed = instance.process("worker-1")["pid"]
    os.kill(killed, signal.SIGKILL)
    instance.wait_for("worker-1", "running", not_pid=killed)
    # A connection of ours may have been open in `before`; a leak would have been six times as large.
    wait_until(lambda: all(a <= b for a, b in zip(descriptors(), before, strict=True)), why=f"{before}")
