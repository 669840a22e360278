"""The two systems that are compared, and what happens to node A of each: `prepare`, `do`, `heal`, `settle`.

A pair of ours; and keepalived on both nodes beside the same proxy as a plain service, which it polls once a second as
its manuals show, one failure being enough. What keepalived has no word for is done in the way that is best for it: a
handover is the polite end of keepalived alone, a polite stop ends keepalived first and the proxy after it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.failover import origin, rows, strain
from tests.kit import flood, keepalived
from tests.kit import pair as kit
from tests.kit.netns import wait_until

if TYPE_CHECKING:
    from benchmarks.failover.rows import Row
    from tests.kit.netns import Frame, Lab, Namespace

SECONDS = {"1s": 1.0, "100ms": 0.1, "10ms": 0.01}
PRIORITIES = {rows.KEEPALIVED: (150, 100), rows.OURS: (250, 240)}  # those of keepalived's manuals, and ours
ORDINARY = ("setpriv", "--bounding-set", "-sys_nice,-ipc_lock,-sys_resource")
LONG = 5.0  # seconds: of a partition, a freeze, a loss of advertisements

FILL = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=30)
for number in range(int(sys.argv[1])):
    connection.request("GET", f"/fill/{number}")
    answer = connection.getresponse()
    assert answer.status == 200 and len(answer.read()) == 1_000_000
"""


@dataclass(frozen=True, slots=True)
class Done:
    """An event has happened: what counts begins `at`."""

    at: float
    measured: dict[str, float] = field(default_factory=dict)


def proxy_config(row: Row, fill: int, ha: str = "") -> str:
    if row.setup == "preempt":
        ha += "preempt = true\n"
    text = kit.config(
        interval=row.interval, ha=ha, extra=f'[cache]\nmemory = "{256 + 2 * fill}MB"\n[limits]\nper_client = 0'
    )
    return kit.with_link_cable(text) if row.setup == "paths" else text


class System:
    """What both have in common. A holds the address. `do` returns when the event is over for node A."""

    quiet = 1.0  # seconds without a fault, after which nothing more is to be expected of an event
    late: frozenset[str] = frozenset()  # events of which more may come for `late_quiet` seconds
    late_quiet = 2.5

    def __init__(self, lab: Lab, folder: Path, row: Row, fill: int) -> None:
        self.lab, self.folder, self.fill = lab, folder, fill
        self.interval = SECONDS[row.interval]
        if row.setup == "paths":
            lab.link_nodes()
        self._adverts = lab.capture("a")
        lab["origin"].popen([sys.executable, Path(origin.__file__)])
        wait_until(lambda: lab["client"].run("curl", "-s", "http://192.168.8.20:8080/", check=False), 10, 0.05)

    @property
    def node(self) -> kit.Instance:
        """The proxy of A."""
        raise NotImplementedError

    def wait(self, event: str) -> float:
        return self.late_quiet if event in self.late else self.quiet

    def prepare(self, event: str) -> None:
        """The state in which the event begins, where it is not that A holds the address and both are well."""

    def do(self, event: str, phase: float) -> Done:
        """`phase`: the part of an interval that has passed since A's last advertisement when the node is lost."""
        lab, at = self.lab, time.monotonic()
        match event:
            case "loss":
                at = self.wait_for_phase(phase)
                lab.isolate("a")
            case "cut":
                at = self.wait_for_phase(phase)
                lab.cut("a")
            case "mute" | "deafen":
                (lab.mute if event == "mute" else lab.deafen)("a")
                time.sleep(LONG)
                lab.clear("a")
            case "partition":
                lab.isolate("a")
                time.sleep(LONG)
                at = time.monotonic()
                lab.restore("a")
            case "kill":
                self.node.kill("worker-0")
            case "hang":
                self.node.kill("worker-0", signal.SIGSTOP)
            case _:
                raise ValueError(event)
        return Done(at)

    def wait_for_phase(self, phase: float) -> float:
        """The moment at which this part of an interval has passed since an advertisement of A."""
        self._adverts.frames.clear()
        while self._adverts.read():
            self._adverts.frames.clear()
        self._adverts.wait_for(is_advert_of_a)
        heard = time.monotonic()
        time.sleep(max(0.0, heard + phase * self.interval - time.monotonic()))
        return time.monotonic()

    def heal(self, event: str) -> None:
        match event:
            case "loss" | "cut":
                self.lab.restore("a")
            case "hang":
                self.node.kill("worker-0", signal.SIGCONT)
            case _:
                pass  # who was killed is started again by who watches it

    def settle(self) -> None:
        """A holds the address, and B could take it."""
        raise NotImplementedError

    def said(self) -> str:
        raise NotImplementedError


class Tandem(System):
    def __init__(self, lab: Lab, folder: Path, row: Row, fill: int) -> None:
        super().__init__(lab, folder, row, fill)
        self._text = proxy_config(row, fill)
        wrap = ORDINARY if row.setup == "ordinary" else ()
        self._pair = kit.Pair(lab, folder, self._text, origin=False, wrap=wrap)
        self._preempt = row.setup == "preempt"

    @property
    def node(self) -> kit.Instance:
        return self._pair.a

    def prepare(self, event: str) -> None:
        if event == "failback":
            self.lab.cut("a")
        elif event == "boot":
            self.node.stop()
            kit.block_origin(self.lab["a"])
        else:
            return
        self._pair.b.wait_for("active")

    def do(self, event: str, phase: float) -> Done:
        at = time.monotonic()
        match event:
            case "ha":
                self.node.kill("ha")
            case "supervisor":
                self.node.kill("supervisor")
            case "group":
                at = self.wait_for_phase(phase)
                kill_all([one["pid"] for one in self.node.state()["processes"]])
            case "freeze":
                self.node.kill("ha", signal.SIGSTOP)
                time.sleep(LONG)
                self.node.kill("ha", signal.SIGCONT)
            case "stop":
                self.node.process.terminate()
            case "handover":
                answer = self.node.ask("handover")
                assert answer["ok"], answer
            case "drill":
                answer = self.node.ask("drill", seconds=0.5)
                assert answer["ok"], answer
            case "failback":
                self.lab.restore("a")
                self.node.wait_for("active" if self._preempt else "backup")
            case "boot":
                self.node.start()
                time.sleep(LONG)
                kit.unblock_origin(self.lab["a"])
                self.node.wait_for("active")
            case "reload":
                for number in range(10):
                    self._reload(self._text.replace("[ha]", f'[ha]\ngarp_refresh = "{20 + number}s"'))
                self._reload(self._text)
            case "reload-list":
                self._reload(
                    self._text.replace('vip = ["192.168.8.100/24"]', 'vip = ["192.168.8.100/24", "192.168.8.101/24"]')
                )
                self._reload(self._text)
            case "origin":
                kit.block_origin(self.lab["a"])
                self._pair.b.wait_for("active")
            case "origins":
                self.lab["origin"].run("nft", ORIGIN_GONE)
                time.sleep(2)
            case "flood" | "trickle" | "busy" | "busy-heavy":
                return Done(at, self._under_strain(event))
            case _:
                return super().do(event, phase)
        return Done(at)

    def _reload(self, text: str) -> None:
        for node in self._pair.nodes.values():
            node.write(text)
            node.reload()

    def _under_strain(self, event: str) -> dict[str, float]:
        pid, lines = self.node.pid("ha"), self.node.said().count("\n")
        self.node.ask("metrics")  # its gap counts from here
        began, cpu = time.monotonic(), strain.cpu_seconds(pid)
        match event:
            case "flood":
                self.lab["client"].run(sys.executable, flood.__file__, 50_000, 3)
            case "trickle":
                self.lab["client"].run(sys.executable, flood.__file__, 40, 10, "--each-fault")
            case _:
                strain.stress(strain.HEAVY if event == "busy-heavy" else strain.LIGHT)
        used = (strain.cpu_seconds(pid) - cpu) / (time.monotonic() - began)
        gap = max(one["gap"] for one in self.node.ask("metrics")["routers"])
        written = self.node.said().count("\n") - lines
        return {"cpu": 100 * used, "lines": written, "gap": 1000 * gap}

    def heal(self, event: str) -> None:
        super().heal(event)
        if event in {"stop", "supervisor", "group"}:
            self.node.process.wait(30)
            self.node.start()
        kit.unblock_origin(self.lab["a"])
        self.lab["origin"].run("nft", "add table ip gone; delete table ip gone")

    def settle(self) -> None:
        self._pair.settle("a")

    def said(self) -> str:
        return self._pair.said()


ORIGIN_GONE = (
    "add table ip gone; add chain ip gone c { type filter hook input priority 0; };"
    " add rule ip gone c tcp dport 8080 reject with tcp reset"
)


class Keepalived(System):
    # Its next look at the proxy is up to a second away, and may take a second; its own restart takes one.
    late = frozenset({"kill", "hang", "stop", "group", "ha", "freeze"})

    def __init__(self, lab: Lab, folder: Path, row: Row, fill: int, priorities: tuple[int, int]) -> None:
        super().__init__(lab, folder, row, fill)
        text = proxy_config(row, fill).split("[ha]")[0]
        self._proxies = {host: kit.Instance(lab, host, folder, text) for host in ("a", "b")}
        for proxy in self._proxies.values():
            wait_until(lambda proxy=proxy: serves(proxy.namespace), 30, 0.1)
        self._settings = {
            host: Checked(priority=priority, interval=self.interval, more="track_script {\n  proxy\n }")
            for host, priority in zip(("a", "b"), priorities, strict=True)
        }
        self._daemons = {}
        for host in ("a", "b"):
            self._start(host)

    def _start(self, host: str) -> None:
        folder = self.folder / f"keepalived-{host}"
        self._daemons[host] = keepalived.Keepalived(self.lab[host], folder, self._settings[host])

    @property
    def node(self) -> kit.Instance:
        return self._proxies["a"]

    def _pids(self) -> list[int]:
        """Of its two processes, the one that speaks VRRP last."""
        return [self._daemons["a"].process.pid, int((self.folder / "keepalived-a" / "vrrp.pid").read_text())]

    def prepare(self, event: str) -> None:
        if event == "failback":
            self.lab.cut("a")
            wait_until(self._daemons["b"].is_active, 10, 0.02)

    def do(self, event: str, phase: float) -> Done:
        at = time.monotonic()
        match event:
            case "ha":
                os.kill(self._pids()[-1], signal.SIGKILL)
            case "group":
                at = self.wait_for_phase(phase)
                kill_all([*self._pids(), *(one["pid"] for one in self.node.state()["processes"])])
            case "freeze":
                os.kill(self._pids()[-1], signal.SIGSTOP)
                time.sleep(LONG)
                os.kill(self._pids()[-1], signal.SIGCONT)
            case "stop":
                self._daemons["a"].stop()
                self.node.process.terminate()
            case "handover":
                self._daemons["a"].stop()
            case "failback":
                self.lab.restore("a")
                wait_until(self._daemons["a"].is_active, 10, 0.02)
            case _:
                return super().do(event, phase)
        return Done(at)

    def heal(self, event: str) -> None:
        super().heal(event)
        if event in {"stop", "group"}:
            self.node.process.wait(30)
            self.node.start()
            wait_until(lambda: serves(self.node.namespace), 30, 0.1)
        if event == "group":  # a zombie counts as running for the next one
            self._daemons["a"].process.wait(10)
            for name in ("pid", "vrrp.pid"):
                (self.folder / "keepalived-a" / name).unlink(missing_ok=True)
            # nobody has removed the address that it left
            with contextlib.suppress(AssertionError):
                self.lab["a"].run("ip", "address", "del", "192.168.8.100/24", "dev", "eth0")
        if event in {"stop", "handover", "group"}:
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


def start(name: str, lab: Lab, folder: Path, row: Row, fill: int) -> System:
    if name == rows.TANDEM:
        return Tandem(lab, folder, row, fill)
    return Keepalived(lab, folder, row, fill, PRIORITIES[name])


def is_advert_of_a(frame: Frame) -> bool:
    """As seen from the bridge, which receives it."""
    return not frame.sent and len(frame.data) > 24 and frame.data[12:14] == b"\x08\x00" and frame.data[23] == 112


def kill_all(pids: list[int]) -> None:
    """All at once: none may see another's death."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def serves(namespace: Namespace) -> bool:
    return "origin" in namespace.run("curl", "-s", "-m", "1", "http://127.0.0.1/", check=False)


def fill_cache(node: kit.Instance, megabytes: int) -> int:
    """The worker whose cache is now filled."""
    node.namespace.run(sys.executable, "-c", FILL, megabytes)
    return node.pid("worker-0")
