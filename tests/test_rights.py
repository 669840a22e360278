"""Children can do nothing that needs a right; the supervisor, four things."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

from proxy import rights
from proxy.rights import Identity
from tests.kit.instance import ROOT, Instance, can_connect, free_port

FOUR = sum(1 << capability for capability in rights.SUPERVISOR_KEEPS)
NOBODY = Identity("nobody", 65534, 65534)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives up its rights")


def status(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def capabilities(pid):
    return {kind: int(status(pid)[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Amb")}


NONE = {"Inh": 0, "Prm": 0, "Eff": 0, "Amb": 0}


def python_for_nobody():
    """An interpreter that the user nobody can run with our packages: (path, extra import paths); or a skip."""
    packages = [sysconfig.get_path("purelib")]
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            done = subprocess.run(
                [python, "-c", "import msgspec, uvloop, aiohttp, proxy.child"],
                user="nobody",
                group="nogroup",
                extra_groups=[],
                env={"PYTHONPATH": os.pathsep.join([str(ROOT), *packages])},
                cwd="/",
                check=False,
                capture_output=True,
            )
        except OSError:
            continue
        if done.returncode == 0:
            return python, packages
    pytest.skip("no interpreter here that the user nobody can run with these packages")


def start(folder, user, python=sys.executable, packages=()):
    Path(folder).chmod(0o755)
    text = (
        f'[[site]]\nlisten = "127.0.0.1:{free_port()}"\nupstream = "127.0.0.1:1"\n'
        f'[process]\nuser = "{user}"\n[log]\naccess = {{ file = "access.log" }}\n'
    )
    return Instance(Path(folder), text, python=python, env={"PATHS": list(packages)}).ready()


def check_children(instance, uid):
    for process in instance.state()["processes"][1:]:
        facts = status(process["pid"])
        assert facts["Uid"].split() == [str(uid)] * 4
        assert capabilities(process["pid"]) == NONE
        assert facts["NoNewPrivs"] == "1"
        core = [line for line in Path(f"/proc/{process['pid']}/limits").read_text().splitlines() if "core" in line]
        assert core[0].split()[-3:] == ["1", "1", "bytes"]


@needs_root
def test_started_as_root_children_are_the_user_and_have_nothing():
    python, packages = python_for_nobody()
    with tempfile.TemporaryDirectory() as folder:
        instance = start(folder, "nobody", python, packages)
        try:
            assert "workers stay root" not in instance.said()
            check_children(instance, pwd.getpwnam("nobody").pw_uid)
            for process in instance.state()["processes"][1:]:
                assert status(process["pid"])["Groups"] == ""
            assert instance.runtime.stat().st_uid == pwd.getpwnam("nobody").pw_uid
            assert stat.S_IMODE(instance.runtime.stat().st_mode) == 0o750
            before = instance.process("worker-0")["pid"]
            os.kill(before, signal.SIGKILL)  # and it can be started again with the rights that are left
            instance.wait_for("worker-0", "running", not_pid=before)
            assert instance.reload()["ok"]
            assert instance.end() == 0
        finally:
            instance.clean_up()


@needs_root
@pytest.mark.parametrize("user", ["no-such-user", "root"])
def test_without_the_user_children_stay_root_without_any_capability(user):
    with tempfile.TemporaryDirectory() as folder:
        instance = start(folder, user)
        try:
            assert ("no user no-such-user" in instance.said()) == (user == "no-such-user")
            check_children(instance, 0)
        finally:
            instance.clean_up()


@needs_root
def test_the_supervisor_keeps_four_capabilities_and_can_gain_no_other():
    with tempfile.TemporaryDirectory() as folder:
        instance = start(folder, "no-such-user")
        try:
            assert capabilities(instance.pid) == {"Inh": 0, "Prm": FOUR, "Eff": FOUR, "Amb": 0}
            assert int(status(instance.pid)["CapBnd"], 16) == FOUR
            assert status(instance.pid)["NoNewPrivs"] == "1"
        finally:
            instance.clean_up()


@needs_root
def test_a_user_that_cannot_run_the_interpreter_is_told_once():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o700)
        python = Path(folder) / "python"
        python.symlink_to(sys.executable)
        code = "import sys; from proxy import rights; sys.executable = sys.argv[1]\n"
        code += "print(*rights.choose_identity('nobody'))"
        done = subprocess.run(
            [sys.executable, "-c", code, python], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert "uid=None" in done.stdout
        assert f"user nobody cannot run {python}: workers stay root, without any capability" in done.stdout


def test_without_privileges_everything_runs_as_ourselves():
    """As another user when we are root, else as we are."""
    user, python, packages = None, sys.executable, []
    if os.geteuid() == 0:
        user = "nobody"
        python, packages = python_for_nobody()
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top) / "own"
        folder.mkdir()
        Path(top).chmod(0o755)
        if user:
            os.chown(folder, 65534, 65534)
        text = f'[[site]]\nlisten = "127.0.0.1:{free_port()}"\nupstream = "127.0.0.1:1"\n'
        instance = Instance(folder, text, python=python, user=user, env={"PATHS": packages}).ready()
        try:
            uid = pwd.getpwnam("nobody").pw_uid if user else os.geteuid()
            check_children(instance, uid)
            assert capabilities(instance.pid) == NONE
            assert instance.ask()[1] == 1
            assert instance.end() == 0
        finally:
            instance.clean_up()


@needs_root
def test_as_a_unit_it_binds_low_ports_with_an_ambient_right_that_its_children_do_not_get():
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) is not installed")
    python, packages = python_for_nobody()
    port = next(port for port in range(700, 1000) if not can_connect(port))
    with tempfile.TemporaryDirectory() as top:
        Path(top).chmod(0o755)
        folder = Path(top) / "own"
        folder.mkdir()
        os.chown(folder, 65534, 65534)
        rights_of_unit = ["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]
        granted = ["--inh-caps=-all,+net_bind_service", "--ambient-caps=-all,+net_bind_service"]
        text = f'[[site]]\nlisten = "127.0.0.1:{port}"\nupstream = "127.0.0.1:1"\n'
        prefix = ["setpriv", *rights_of_unit, *granted]
        instance = Instance(folder, text, python=python, env={"PATHS": packages}, prefix=prefix).ready()
        try:
            assert instance.ask()[1] == 1
            check_children(instance, 65534)
            only = 1 << rights.NET_BIND_SERVICE
            assert capabilities(instance.pid) == {"Inh": 0, "Prm": only, "Eff": only, "Amb": 0}
        finally:
            instance.clean_up()


def test_a_low_port_without_the_right_is_one_line_with_the_remedy():
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 81:
        pytest.skip("every user may bind low ports here")
    code = "from proxy import rights, sockets; import socket; rights.drop_all()\n"
    code += "from proxy.sockets import *; from config.units import Listen\n"
    code += "try: sockets._open(Place(0, Listen('127.0.0.1', 81), socket.AF_INET), [], 1)\n"
    code += "except PortError as exc: print(exc)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "port 81 needs the right CAP_NET_BIND_SERVICE" in done.stdout
    assert "ip_unprivileged_port_start=81" in done.stdout
    assert done.stdout.count("\n") == 1


@needs_root
@pytest.mark.parametrize(("owner", "mode"), [(0, 0o755), (65534, 0o750)])
def test_a_log_file_is_made_so_that_the_children_can_append_with_the_rights_that_are_left(owner, mode):
    with tempfile.TemporaryDirectory() as top:
        Path(top).chmod(0o755)
        folder = Path(top) / "log"
        folder.mkdir(mode=mode)
        os.chown(folder, owner, owner)
        code = "import sys, os; from pathlib import Path; from proxy import rights\n"
        code += "who = rights.Identity('nobody', 65534, 65534); rights.drop_to(rights.SUPERVISOR_KEEPS)\n"
        code += "rights.prepare_log(Path(sys.argv[1]), who); rights.prepare_log(Path(sys.argv[1]), who)\n"
        code += "os.setgroups([]); os.setgid(65534); os.setuid(65534); open(sys.argv[1], 'a').write('line\\n')"
        subprocess.run([sys.executable, "-c", code, folder / "access.log"], cwd=ROOT, check=True)
        assert (folder / "access.log").read_text() == "line\n"
        assert not (folder / "access.log").stat().st_mode & stat.S_IRWXO


@needs_root
def test_a_log_file_that_is_a_link_is_refused():
    with tempfile.TemporaryDirectory() as top:
        (Path(top) / "access.log").symlink_to("/etc/passwd")
        with pytest.raises(OSError, match="symbolic links"):
            rights.prepare_log(Path(top) / "access.log", Identity("root"))


@needs_root
def test_what_the_start_can_read_the_reload_can_read():
    with tempfile.TemporaryDirectory() as top:
        key = Path(top) / "key"
        key.write_text("secret")
        key.chmod(0o600)
        os.chown(key, 65534, 65534)
        code = "import sys; from pathlib import Path; from proxy import rights\n"
        code += "Path(sys.argv[1]).read_text()\n"
        code += (
            "with rights.as_for_life():\n  try: Path(sys.argv[1]).read_text()\n  except PermissionError: print('no')\n"
        )
        code += "Path(sys.argv[1]).read_text()"
        done = subprocess.run([sys.executable, "-c", code, key], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout == "no\n"


def test_children_get_our_packages_but_not_the_managers_variables(monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/x")
    monkeypatch.setenv("WATCHDOG_USEC", "1")
    environment = rights.child_environment()
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & set(environment)
    code = "import proxy; print(proxy.__file__)"
    done = subprocess.run(
        [*rights.interpreter(), "-c", code], env=environment, cwd="/", capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()).samefile(ROOT / "proxy" / "__init__.py")


@needs_root
def test_what_is_lent_is_there_after_exec_and_nothing_is_handed_on_later():
    code = (
        "import subprocess; from proxy import rights\n"
        "rights.drop_to(rights.HA_KEEPS)\n"
        "look = ['grep', '-E', 'CapEff|CapAmb', '/proc/self/status']\n"
        "with rights.lending(frozenset({rights.NET_RAW})): subprocess.run(look)\n"
        "subprocess.run(look)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, check=True, capture_output=True, text=True
    )
    masks = [int(line.split()[1], 16) for line in done.stdout.splitlines()]
    lent = 1 << rights.NET_RAW
    assert masks == [lent, lent, 0, 0] or not rights.permitted() & lent


@needs_root
def test_without_a_pair_nothing_of_it_is_kept():
    assert not rights.SUPERVISOR_KEEPS & {*rights.NETWORK_NEEDS.values(), *rights.HA_LIKES}
    code = "from proxy import rights; rights.drop_to(rights.SUPERVISOR_KEEPS); print(*rights.missing_for_network())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["CAP_NET_ADMIN", "CAP_NET_RAW"]
