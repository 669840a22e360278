"""One running instance with dummy services, for tests of the processes: start it, ask it, signal it, see its state."""

import contextlib
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.kit.proxy import free_ports

ROOT = Path(__file__).resolve().parent.parent.parent

SCRIPT = """
import sys
from pathlib import Path
from proxy.candidate import Source
from proxy.launch import launch
from proxy.supervisor import Services
dummy = "tests.kit.dummy:Dummy"
ready = lambda *_: print("ready", flush=True)
exec(sys.argv[3])
sys.exit(launch(Source.of_file(Path(sys.argv[1])), sys.argv[2], Services(dummy, dummy), ready))
"""


def wait_until(condition, limit=20.0, why="the condition did not come true"):
    """The condition's first true value; fails after `limit` seconds."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.005)
    raise AssertionError(why)


class Instance:
    """`prefix` stands before the interpreter on the command line; `first` is code that runs before the launch."""

    def __init__(self, folder, config, *, python=sys.executable, user=None, env=None, prefix=(), first=""):
        self.folder = folder
        self.runtime = folder / "runtime"
        self.config = folder / "tandem.toml"
        self.errors = folder / "stderr"
        self.config.write_text(config)
        with self.errors.open("wb") as errors, (folder / "stdout").open("wb") as output:
            self.popen = subprocess.Popen(
                [*prefix, python, "-c", SCRIPT, str(self.config), str(self.runtime), first],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                cwd=folder,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([str(ROOT), *(env or {}).pop("PATHS", [])]),
                    **(env or {}),
                },
                user=user,
                group=None if user is None else pwd.getpwnam(user).pw_gid,
                extra_groups=None if user is None else [],
            )
        self.pid = self.popen.pid

    def ready(self):
        wait_until(lambda: self.popen.poll() is not None or b"ready" in (self.folder / "stdout").read_bytes())
        assert self.popen.poll() is None, self.said()
        return self

    def said(self):
        return self.errors.read_text(errors="replace")

    def state(self):
        try:
            return json.loads((self.runtime / "state.json").read_text())
        except FileNotFoundError:
            return {"processes": [], "listeners": []}

    def process(self, name):
        return next((p for p in self.state()["processes"] if p["name"] == name), None)

    def wait_for(self, name, state, not_pid=-1):
        def look():
            process = self.process(name)
            return process if process and process["state"] == state and process["pid"] != not_pid else None

        return wait_until(look, why=f"{name} never was {state}: {self.state()} {self.said()}")

    def port(self, kind="worker"):
        return next(entry["port"] for entry in self.state()["listeners"] if entry["process"] == kind)

    def ask(self, line=b"hello", port=0):
        """index, generation, pid of whoever answered."""
        with socket.create_connection(("127.0.0.1", port or self.port()), timeout=10) as sock:
            sock.sendall(line + b"\n")
            return [int(word) for word in sock.makefile().readline().split()]

    def signal(self, number):
        self.popen.send_signal(number)

    def reload(self):
        before = (self.state()["reload"] or {}).get("at")
        self.signal(signal.SIGHUP)
        return wait_until(lambda: (r := self.state()["reload"]) and r["at"] != before and r, why=self.said())

    def end(self, limit=20):
        """SIGTERM, and the exit status."""
        self.signal(signal.SIGTERM)
        return self.popen.wait(limit)

    def clean_up(self):
        pids = [p["pid"] for p in self.state()["processes"] if p["pid"]]
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        for pid in pids:
            if pid != self.pid and is_ours(pid):
                os.kill(pid, signal.SIGKILL)


def free_port():
    """A TCP port that was free a moment ago, on both families."""
    return free_ports(1)[0]


def is_ours(pid):
    try:
        return b"proxy.child" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def open_files(pid):
    """What the process has open, as `socket:[1]`, `/memfd:x (deleted)`, …"""
    names = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            names.append(str(entry.readlink()))
    return names


def can_connect(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
