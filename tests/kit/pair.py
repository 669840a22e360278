"""A pair of real `tandem run` instances in the namespaces of a lab, an origin behind them, and a client that counts.

The client opens a connection for each request, at a fixed pace, with little patience: what it saw is a timeline of
answers and failures, from which outages are read in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kit.netns import CLONE_NEWNET, LINKS, VIP, Lab, Namespace, address_of, libc, wait_until
from tests.kit.tomcat import Tomcat, start_tomcat

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
SECRET = "0123456789abcdef0123456789abcdef\n"

ORIGIN = """
import asyncio
async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            rule = "no-store" if b"/live" in head else "max-age=600"
            delay = 0.01 if b"/slow" in head else 0
            await asyncio.sleep(delay)
            body = b"from the origin"
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\nCache-Control: %s\\r\\n\\r\\n%s"
                         % (len(body), rule.encode(), body))
    except (OSError, asyncio.IncompleteReadError):
        writer.close()
async def main():
    await (await asyncio.start_server(serve, "0.0.0.0", 8080)).serve_forever()
asyncio.run(main())
"""


def config(*, interval="100ms", workers=1, health='{ path = "/health", every = "200ms" }', ha="", extra="", vip=None):
    return f"""
[[site]]
name = "shop"
listen = ":80"
upstream = "{address_of("origin")}:8080"
health = {health}
[process]
workers = {workers}
user = "root"
drain = "2s"
{extra}
[ha]
vip = {json.dumps(vip or [str(VIP)])}
vrid = 51
secret = {{ file = "ha.key" }}
interval = "{interval}"
{ha}
[ha.nodes]
a = "{address_of("a")}"
b = "{address_of("b")}"
"""


def with_link_cable(text: str) -> str:
    """The configuration with the peer link on the cable of `Lab.link_nodes`."""
    for host, link in LINKS.items():
        text = text.replace(
            f'\n{host} = "{address_of(host)}"', f'\n{host} = {{ address = "{address_of(host)}", link = "{link}" }}'
        )
    return text


def block_origin(host: Namespace) -> None:
    """The origin is out of this host's reach, until `unblock_origin`."""
    host.run(
        "nft",
        "add table ip origin; add chain ip origin c { type filter hook output priority 0; };"
        f" add rule ip origin c ip daddr {address_of('origin')} tcp dport 8080 reject with tcp reset",
    )


def unblock_origin(host: Namespace) -> None:
    host.run("nft", "add table ip origin; delete table ip origin")


class Instance:
    """`tandem run` on one host of the lab."""

    def __init__(self, lab: Lab, host: str, folder: Path, text: str, wrap: Sequence[str] = ()) -> None:
        """`wrap`: a command that starts the instance, `setpriv` say."""
        self.lab, self.host, self._wrap = lab, host, wrap
        self.namespace = lab[host]
        self.folder = folder / host
        self.folder.mkdir(exist_ok=True)
        self.runtime = self.folder / "runtime"
        self.write(text)
        key = self.folder / "ha.key"
        key.write_text(SECRET)
        key.chmod(0o600)
        self.start()

    def write(self, text: str) -> None:
        (self.folder / "tandem.toml").write_text(text)

    def start(self) -> None:
        with (self.folder / "said").open("ab") as said:
            self.process = self.namespace.popen(
                [*self._wrap, sys.executable, "-P", "-m", "proxy", *self._run()],
                cwd=self.folder,
                stdout=said,
                stderr=said,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def _run(self) -> list[str]:
        return ["run", "-c", str(self.folder / "tandem.toml"), "--runtime", str(self.runtime)]

    def said(self) -> str:
        return (self.folder / "said").read_text(errors="replace")

    def state(self) -> dict:
        try:
            return json.loads((self.runtime / "state.json").read_text())
        except (OSError, ValueError):
            return {}

    def pid(self, name: str) -> int:
        return next((one["pid"] for one in self.state().get("processes", ()) if one["name"] == name), 0)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid(name), number)

    def reload(self) -> None:
        """The configuration on disk is the one that is served."""
        before = self.state().get("reload")
        os.kill(self.pid("supervisor"), signal.SIGHUP)
        wait_until(lambda: self.state().get("reload") not in (None, before), 20)
        assert self.state()["reload"]["ok"], self.state()["reload"]

    def command(self, *words: str, status: int = 0) -> str:
        """What a `tandem` command about this instance says."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "proxy", *words, "--runtime", str(self.runtime)],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == status, (done.stdout, done.stderr)
        return done.stdout + done.stderr

    def stop(self, limit: float = 20) -> int:
        self.process.terminate()
        return self.process.wait(limit)

    def routers(self) -> list[dict]:
        return self.state().get("ha", {}).get("routers", [])

    def states(self) -> set[str]:
        return {one["state"] for one in self.routers()}

    def ask(self, command: str, **more) -> dict:
        """What `ha` answers on its socket."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30)
            sock.connect(str(self.runtime / "ha.sock"))
            sock.sendall(json.dumps({"command": command, **more}).encode() + b"\n")
            return json.loads(sock.makefile().read())

    def serves(self) -> bool:
        """Whether it can serve, and knows the same of the other node."""
        try:
            status = self.ask("status")
        except OSError:
            return False
        words = [word for node in status["nodes"] for word in node["routers"]]
        return all(one["fitness"] == "serving" for one in [*status["routers"], *words]) and bool(words)

    def get(self, target: str) -> str:
        """What admin answers on its socket."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(self.runtime / "admin.sock"))
            sock.sendall(f"GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            return sock.makefile().read()

    def holds(self, vip=VIP) -> bool:
        return self.namespace.holds(vip)

    def wait_for(self, state: str, seconds: float = 20) -> float:
        try:
            return wait_until(lambda: self.states() == {state}, seconds)
        except AssertionError as exc:
            raise AssertionError(f"{self.host} is {self.routers()}, not {state}\n{self.said()}") from exc


@dataclass(frozen=True, slots=True)
class Try:
    begun: float  # CLOCK_MONOTONIC
    ended: float
    fault: str  # "" for an answer


STALL = 0.03  # seconds


class Client:
    """Requests to the virtual address from the client's namespace, one every `pace` seconds, each on a connection."""

    def __init__(self, lab: Lab, *, address=str(VIP.ip), path="/live", pace=0.01, patience=0.25) -> None:
        self.tries: list[Try] = []
        self.stalls: list[tuple[float, float]] = []  # when this client itself came late, and by how many seconds
        self._address, self._pace, self._patience = address, pace, patience
        self._request = f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode()
        self._stop = threading.Event()
        # Sockets belong to the namespace of the thread that makes them.
        self._thread = threading.Thread(target=self._work, args=(lab["client"].fd,), daemon=True)
        self._thread.start()

    def _work(self, fd: int) -> None:
        if libc.setns(fd, CLONE_NEWNET):
            raise OSError("setns")
        asyncio.run(self._ask_on())

    async def _ask_on(self) -> None:
        under_way = set()
        due = time.monotonic()
        while not self._stop.is_set():
            task = asyncio.create_task(self._try())
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            due = max(due + self._pace, time.monotonic() - 1)
            await asyncio.sleep(due - time.monotonic())
            late = time.monotonic() - due
            if late > STALL:
                self.stalls.append((due, late))
        await asyncio.gather(*under_way)

    async def _try(self) -> None:
        begun = time.monotonic()
        fault, writer = "", None
        try:
            async with asyncio.timeout(self._patience):
                reader, writer = await asyncio.open_connection(self._address, 80)
                writer.write(self._request)
                answer = await reader.read()
            if not answer.startswith(b"HTTP/1.1 200 "):
                fault = f"answered {answer[:40]!r}"
        except (OSError, TimeoutError) as exc:
            fault = f"{type(exc).__name__} {exc}".strip()
        finally:
            if writer is not None:
                writer.transport.abort()
        self.tries.append(Try(begun, time.monotonic(), fault))

    def since(self, at: float) -> list[Try]:
        """The requests begun since then, in order."""
        return sorted((one for one in list(self.tries) if one.begun >= at), key=lambda one: one.begun)

    def failed(self, at: float) -> list[Try]:
        return [one for one in self.since(at) if one.fault]

    def story(self, at: float) -> str:
        """What failed since then, each run of failures in a line, and when this client did not come to ask."""
        lines, run = [], []
        for one in [*self.since(at), None]:
            if one is not None and one.fault:
                run.append(one)
            elif run:
                faults = ", ".join(sorted({bad.fault for bad in run}))
                span = f"+{run[0].begun - at:.3f} to +{run[-1].begun - at:.3f} s"
                lines.append(f"{len(run)} failed, begun {span}, the last ended +{run[-1].ended - at:.3f}: {faults}")
                run = []
        lines += [
            f"the client was {late * 1000:.0f} ms late at +{due - at:.3f} s"
            for due, late in self.stalls
            if due >= at - 1
        ]
        return "\n".join([f"{len(self.since(at))} tries in {time.monotonic() - at:.3f} s", *lines])

    def outage(self, at: float) -> float:
        """Milliseconds between the last good answer's beginning before the first failure, and the first one after."""
        tries = self.since(at - 0.1)
        bad = [one.begun for one in tries if one.fault]
        if not bad:
            return 0.0
        good = [one.begun for one in tries if not one.fault]
        before = max((moment for moment in good if moment < bad[0]), default=bad[0])
        after = min((moment for moment in good if moment > bad[-1]), default=time.monotonic())
        return (after - before) * 1000

    def wait_for_answers(self, count: int = 10, seconds: float = 20) -> None:
        """So many good answers in a row from now on."""
        at = time.monotonic()

        def answered():
            tries = self.since(at)
            return len(tries) >= count and not any(one.fault for one in tries[-count:])

        wait_until(answered, seconds)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


def start_tomcat_in(lab: Lab, folder: Path) -> Tomcat:
    """A real Tomcat on the origin's host, reached at port 8080 of its address."""
    host = lab["origin"]
    one = host.call(start_tomcat, folder, timeout=120)
    host.sysctl("net.ipv4.conf.eth0.route_localnet", "1")
    rule = f"tcp dport 8080 dnat to 127.0.0.1:{one.port}"
    host.run(
        "nft", f"add table ip t; add chain ip t c {{ type nat hook prerouting priority -100; }}; add rule ip t c {rule}"
    )
    return one


class Pair:
    """Both nodes, the origin, and the client's view."""

    def __init__(
        self, lab: Lab, folder: Path, text: str | None = None, nodes=("a", "b"), *, origin=True, wrap=()
    ) -> None:
        self.lab, self.folder = lab, folder
        self.text = text or config()
        if origin:
            lab["origin"].popen([sys.executable, "-c", ORIGIN])
        self.nodes = {host: Instance(lab, host, folder, self.text, wrap) for host in nodes}

    def __getitem__(self, host: str) -> Instance:
        return self.nodes[host]

    @property
    def a(self) -> Instance:
        return self.nodes["a"]

    @property
    def b(self) -> Instance:
        return self.nodes["b"]

    def settle(self, active: str = "a") -> None:
        """That node is Active, the other Backup and able to take over. Who was first at the start, has it at first."""
        wait_until(lambda: any(node.states() == {"active"} for node in self.nodes.values()), 30)
        end = time.monotonic() + 60
        while not self._is_settled(active):  # who was ill may still be about to let go
            assert time.monotonic() < end, self.said()
            for node in self.nodes.values():
                wait_until(node.serves, 30)
            if self[active].states() != {"active"}:
                self[active].ask("handover")
            time.sleep(0.05)

    def _is_settled(self, active: str) -> bool:
        wanted = {host: {"active" if host == active else "backup"} for host in self.nodes}
        return {host: node.states() for host, node in self.nodes.items()} == wanted and all(
            node.serves() for node in self.nodes.values()
        )

    def settle_down(self) -> None:
        """Long enough for a second move, if there were one: both can serve, and a few intervals more."""
        for node in self.nodes.values():
            wait_until(node.serves, 30)
        time.sleep(0.5)

    def holders(self, vip=VIP) -> list[str]:
        return [host for host, node in self.nodes.items() if node.holds(vip)]

    def said(self) -> str:
        return "\n".join(f"---- {host}\n{node.said()}" for host, node in self.nodes.items())
