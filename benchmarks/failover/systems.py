"""The two systems that are compared, with the same names for what happens to node A: `do`, `heal`, `settle`.

A pair of ours; and keepalived on both nodes beside the same proxy as a plain service, which it polls once a second as
its manuals show, one failure being enough. What keepalived has no word for is done in the way that is best for it: a
handover is the polite end of keepalived alone, a polite stop ends keepalived first and the proxy after it.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.failover import origin
from tests.kit import keepalived
from tests.kit import pair as kit
from tests.kit.netns import wait_until

if TYPE_CHECKING:
    from tests.kit.netns import Lab, Namespace

OURS = (250, 240)  # the priorities that our nodes have by default
THEIRS = (150, 100)  # those of keepalived's manuals

FILL = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=30)
for number in range(int(sys.argv[1])):
    connection.request("GET", f"/fill/{number}")
    answer = connection.getresponse()
    assert answer.status == 200 and len(answer.read()) == 1_000_000
"""


def proxy_config(interval: str, fill: int) -> str:
    return kit.config(interval=interval, extra=f'[cache]\nmemory = "{256 + 2 * fill}MB"\n[limits]\nper_client = 0')


class Tandem:
    """Two nodes of ours. A holds the address."""

    quiet = 1.0  # seconds without a fault, after which nothing more is to be expected of an event

    def __init__(self, lab: Lab, folder: Path, interval: str, fill: int) -> None:
        self._lab = lab
        start_origin(lab)
        self._pair = kit.Pair(lab, folder, proxy_config(interval, fill), origin=False)

    @property
    def node(self) -> kit.Instance:
        return self._pair.a

    def do(self, event: str) -> None:
        match event:
            case "isolate":
                self._lab.isolate("a")
            case "kill":
                self.node.kill("worker-0")
            case "hang":
                self.node.kill("worker-0", signal.SIGSTOP)
            case "ha":
                self.node.kill("ha")
            case "stop":
                self.node.process.terminate()
            case "handover":
                answer = self.node.ask("handover")
                assert answer["ok"], answer
            case _:
                raise ValueError(event)

    def heal(self, event: str) -> None:
        heal_node(self._lab, self.node, event)
        if event == "stop":
            self.node.start()

    def settle(self) -> None:
        self._pair.settle("a")

    def said(self) -> str:
        return self._pair.said()


class Keepalived:
    """Two nodes with keepalived and the proxy. A holds the address, for its priority is the higher one."""

    quiet = 2.5  # its next look at the proxy is up to a second away, and may take a second

    def __init__(self, lab: Lab, folder: Path, interval: str, fill: int, priorities: tuple[int, int]) -> None:
        self._lab, self._folder = lab, folder
        seconds = {"1s": 1.0, "100ms": 0.1, "10ms": 0.01}[interval]
        start_origin(lab)
        text = proxy_config(interval, fill).split("[ha]")[0]
        self._proxies = {host: kit.Instance(lab, host, folder, text) for host in ("a", "b")}
        for proxy in self._proxies.values():
            wait_until(lambda proxy=proxy: serves(proxy.namespace), 30, 0.1)
        self._settings = {
            host: Checked(priority=priority, interval=seconds, more="track_script {\n  proxy\n }")
            for host, priority in zip(("a", "b"), priorities, strict=True)
        }
        self._daemons = {}
        for host in ("a", "b"):
            self._start(host)

    def _start(self, host: str) -> None:
        folder = self._folder / f"keepalived-{host}"
        self._daemons[host] = keepalived.Keepalived(self._lab[host], folder, self._settings[host])

    @property
    def node(self) -> kit.Instance:
        return self._proxies["a"]

    def do(self, event: str) -> None:
        match event:
            case "isolate":
                self._lab.isolate("a")
            case "kill":
                self.node.kill("worker-0")
            case "hang":
                self.node.kill("worker-0", signal.SIGSTOP)
            case "ha":  # of its two processes, the one that speaks VRRP
                pid = int((self._folder / "keepalived-a" / "vrrp.pid").read_text())
                os.kill(pid, signal.SIGKILL)
            case "stop":
                self._daemons["a"].stop()
                self.node.process.terminate()
            case "handover":
                self._daemons["a"].stop()
            case _:
                raise ValueError(event)

    def heal(self, event: str) -> None:
        heal_node(self._lab, self.node, event)
        if event == "stop":
            self.node.start()
            wait_until(lambda: serves(self.node.namespace), 30, 0.1)
        if event in {"stop", "handover"}:
            self._start("a")

    def settle(self) -> None:
        a, b = self._daemons["a"], self._daemons["b"]
        wait_until(lambda: a.is_active() and not b.is_active(), 30, 0.05)

    def said(self) -> str:
        return "\n".join(f"---- {host}\n{one.log}" for host, one in self._daemons.items())


@dataclass(frozen=True, slots=True)
class Checked(keepalived.Instance):
    """One that is in fault while the proxy does not answer."""

    def text(self) -> str:
        script = 'script "/usr/bin/curl -sf -o /dev/null -m 1 http://127.0.0.1/"'
        rest = keepalived.Instance.text(self)
        return f"vrrp_script proxy {{\n {script}\n interval 1\n timeout 1\n fall 1\n rise 1\n user root\n}}\n{rest}"


def start_origin(lab: Lab) -> None:
    lab["origin"].popen([sys.executable, Path(origin.__file__)])
    wait_until(lambda: lab["client"].run("curl", "-s", "http://192.168.8.20:8080/", check=False), 10, 0.05)


def serves(namespace: Namespace) -> bool:
    return "origin" in namespace.run("curl", "-s", "-m", "1", "http://127.0.0.1/", check=False)


def heal_node(lab: Lab, node: kit.Instance, event: str) -> None:
    match event:
        case "isolate":
            lab.restore("a")
        case "hang":
            node.kill("worker-0", signal.SIGCONT)
        case "stop":
            node.process.wait(30)
        case _:
            pass  # who was killed is started again by who watches it


def fill_cache(node: kit.Instance, megabytes: int) -> int:
    """The worker whose cache is now filled."""
    node.namespace.run(sys.executable, "-c", FILL, megabytes)
    return node.pid("worker-0")
