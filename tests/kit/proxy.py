"""The real program as a subprocess: `tandem run` with a configuration of the test, its ports, processes and memory.

`start_proxy` returns at the first READY that the supervisor tells its service manager, which the test is. Everything is
asked of the outside: the command line, `admin.sock`, /proc. Ports are free ones; a start that fails because somebody
was faster is tried again with others.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.kit.raw import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parents[2]
START_TIME = 30.0
STOP_TIME = 40.0
SAMPLE = re.compile(r"([a-z_:]+)(?:\{([^}]*)\})? ([0-9.eE+-]+|NaN)")


class NotStarted(Exception):  # noqa: N818 - what happened
    """The program ended, or was not ready in time; `output` is what it said."""

    def __init__(self, status: int | None, output: str) -> None:
        super().__init__(f"tandem run ended with {status}: {output[-3000:]}")
        self.status = status
        self.output = output


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def command_line(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "proxy", *arguments]


def run_command(*arguments: str, timeout: float = 30, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """One `tandem` command, ended; its status is the caller's to check."""
    return subprocess.run(
        command_line(*arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        cwd=cwd,
        env=environment(),
    )


def reverse(*upstreams: str | dict[str, str], site: str = "", rest: str = "") -> str:
    """A configuration with one site on PORT0; `site` are further lines of its table, `rest` further tables."""
    tables = [json.dumps(upstream) if isinstance(upstream, str) else _inline(upstream) for upstream in upstreams]
    return f'[[site]]\nlisten = "127.0.0.1:PORT0"\nupstream = [{", ".join(tables)}]\n{site}\n{rest}\n'


def _inline(table: dict[str, str]) -> str:
    return "{ " + ", ".join(f"{name} = {json.dumps(value)}" for name, value in table.items()) + " }"


@dataclass(slots=True, eq=False)
class Proxy:
    """A running `tandem run`; use it as a context manager."""

    folder: Path
    ports: list[int]
    process: subprocess.Popen[bytes]
    notifications: socket.socket
    heard: list[str] = field(default_factory=list)  # what the supervisor told its service manager
    host: str = "127.0.0.1"

    @property
    def file(self) -> Path:
        return self.folder / "tandem.toml"

    @property
    def runtime(self) -> Path:
        return self.folder / "run"

    @property
    def at(self) -> tuple[str, int]:
        """Address of the first port."""
        return self.host, self.ports[0]

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.ports[0]}"

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text(errors="replace")

    # ---- asking ------------------------------------------------------------------------------------------------------

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command that talks to this instance."""
        name, *rest = arguments
        return run_command(name, "--socket", str(self.runtime / "admin.sock"), *rest)

    def status(self) -> dict[str, list[dict[str, object]]]:
        done = self.command("status", "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def pid(self, name: str) -> int:
        """The process of that name in status: supervisor, worker-0, admin."""
        found = [entry["pid"] for entry in self.status()["processes"] if entry["name"] == name]
        assert len(found) == 1, f"{name}: {found}"
        return int(str(found[0]))

    def ask_admin(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        """Status and body of a request over admin.sock."""
        connection = HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(10)
        try:
            connection.sock.connect(str(self.runtime / "admin.sock"))
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """All samples, by name, or by `name{label="value"}` where there are labels."""
        status, body = self.ask_admin("/metrics")
        assert status == 200, body
        samples = {}
        for line in body.decode().splitlines():
            if found := SAMPLE.fullmatch(line):
                samples[f"{found[1]}{{{found[2]}}}" if found[2] else found[1]] = float(found[3])
        return samples

    def metric(self, name: str) -> float:
        """The sum of all samples of this name, or of this name with a label set written as in the text."""
        found = [value for key, value in self.metrics().items() if key == name or key.startswith(name + "{")]
        assert found, f"no metric {name}"
        return sum(found)

    def all_pids(self) -> list[int]:
        """The supervisor and all its descendants, from the kernel."""
        return descendants(self.process.pid)

    def pss(self) -> int:
        """Bytes of all processes together, shared ones counted once."""
        return sum(pss_of(pid) for pid in self.all_pids())

    # ---- changing ----------------------------------------------------------------------------------------------------

    def wait_heard(self, word: str, deadline: float = START_TIME) -> None:
        """The supervisor has said this (`READY=1`, `STOPPING=1`) since the last call."""

        def heard() -> bool:
            self._listen()
            return any(word in message.splitlines() for message in self.heard)

        wait_until(heard, deadline, f"{word} from the supervisor; it said {self.output[-1000:]}")
        self.heard.clear()

    def _listen(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self.heard.append(self.notifications.recv(65536).decode())

    def write(self, toml: str) -> None:
        """Puts a configuration into the file, with this instance's ports; a reload reads it."""
        self.file.write_text(with_ports(toml, self.ports))

    def reload(self, toml: str) -> None:
        """Writes the configuration and reloads by SIGHUP; returns when it is accepted or refused (see `output`)."""
        self.write(toml)
        self._listen()
        self.heard.clear()
        self.process.send_signal(signal.SIGHUP)
        self.wait_heard("READY=1")

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, deadline: float = STOP_TIME) -> int:
        """The exit status, when it has ended by itself."""
        return self.process.wait(deadline)

    def stop(self) -> int:
        """Ends it by SIGTERM, and by force if that does not do; the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_TIME)
            except subprocess.TimeoutExpired:
                self.kill9()
        self.notifications.close()
        return self.process.wait()

    def kill9(self) -> None:
        """Kills every process of it at once."""
        for pid in self.all_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def with_ports(toml: str, ports: Iterable[int]) -> str:
    for number, port in enumerate(ports):
        toml = toml.replace(f"PORT{number}", str(port))
    return toml


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different, on both families.

    Below those that the kernel gives to connections and to whoever binds to port 0, so that nobody gets them meanwhile.
    """
    found: list[int] = []
    while len(found) < count:
        port = _random.randrange(10_000, 32_768)
        with socket.socket(socket.AF_INET6) as sock, contextlib.suppress(OSError):
            sock.bind(("::", port))
            if port not in found:
                found.append(port)
    return found


_random = random.SystemRandom()  # hypothesis seeds the usual one alike in all processes


def start_proxy(folder: Path, toml: str, *arguments: str, user: str = "") -> Proxy:
    """`tandem run` with this configuration, ready. PORT0, PORT1, … in it become free ports.

    `arguments` follow the command; `[process] user` is `user` if the configuration has no such table.
    """
    ports = free_ports(1 + max((int(number) for number in re.findall(r"PORT(\d)", toml)), default=0))
    if user:
        toml += f'\n[process]\nuser = "{user}"\n'
    for attempt in range(3):
        proxy = _launch(folder, toml, ports, arguments)
        try:
            _wait_ready(proxy)
        except NotStarted as error:
            proxy.stop()
            if attempt < 2 and any(f"port {port} is taken" in error.output for port in ports):
                ports = free_ports(len(ports))
                continue
            raise
        except BaseException:
            proxy.stop()
            raise
        return proxy
    raise AssertionError("unreachable")


def _launch(folder: Path, toml: str, ports: list[int], arguments: tuple[str, ...]) -> Proxy:
    folder.mkdir(exist_ok=True)
    (folder / "tandem.toml").write_text(with_ports(toml, ports))
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.setblocking(False)
    name = f"\0tandem-tests-{os.getpid()}-{time.monotonic_ns()}"  # abstract: a path may be too long for a socket
    listening.bind(name)
    line = command_line("run", "-c", str(folder / "tandem.toml"), "--runtime", str(folder / "run"), *arguments)
    with (folder / "output").open("wb") as out:
        process = subprocess.Popen(
            line,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env={**environment(), "NOTIFY_SOCKET": "@" + name[1:]},
        )
    return Proxy(folder, ports, process, listening)


def _wait_ready(proxy: Proxy) -> None:
    end = time.monotonic() + START_TIME
    while time.monotonic() < end:
        proxy._listen()
        if any("READY=1" in message.splitlines() for message in proxy.heard):
            proxy.heard.clear()
            return
        if proxy.process.poll() is not None:
            raise NotStarted(proxy.process.returncode, proxy.output)
        time.sleep(0.01)
    raise NotStarted(None, f"not ready within {START_TIME} s: {proxy.output}")


# ---- memory ----------------------------------------------------------------------------------------------------------


def descendants(root: int) -> list[int]:
    """A process and all below it, from the kernel's lists of children."""
    found: list[int] = []
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
    return found


def pss_of(pid: int) -> int:
    """Proportional set size in bytes; 0 for a process that has just ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


class PssSampler:
    """The sum of PSS of all processes of a proxy, taken every 100 ms while the block runs; `before` is the first."""

    def __init__(self, proxy: Proxy, every: float = 0.1) -> None:
        self.before = 0
        self.most = 0
        self.samples = 0
        self._proxy = proxy
        self._every = every
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @property
    def growth(self) -> int:
        return self.most - self.before

    def __enter__(self) -> Self:
        self.before = self.most = self._proxy.pss()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(self._every):
            self.most = max(self.most, self._proxy.pss())
            self.samples += 1
