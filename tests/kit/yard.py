"""A gateway between clients and an internet, in network namespaces: `client` - `gateway` - `internet`.

The gateway forwards between `lan0` and `wan0`. Addresses behind `wan0` are of public networks, since a proxy does not
reach others unasked; nothing leaves the namespaces.
"""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.kit.dns import FakeNameServer
from tests.kit.netns import Namespace, forwards, has_usable, is_up, wait_until
from tests.kit.origin import FakeOrigin
from tests.kit.proxy import command_line, environment

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

CLIENT, CLIENT6 = "192.168.8.50", "fd00:8::50"
CLIENT_TOO = "192.168.8.51"  # on the same host
GATEWAY, GATEWAY6 = "192.168.8.1", "fd00:8::1"
OUTSIDE, OUTSIDE6 = "100.200.0.1", "2a0e:8::1"  # the gateway's addresses towards the internet
ORIGIN, ORIGIN6 = "100.200.0.20", "2a0e:8::20"
OTHER, OTHER6 = "100.200.0.21", "2a0e:8::21"  # another host of the internet


class Yard:
    NAMES: tuple[str, ...] = ("client", "gateway", "internet")

    def __init__(self) -> None:
        self._namespaces: dict[str, Namespace] = {}
        try:
            for name in self.NAMES:
                self._namespaces[name] = Namespace(name)
            self.client, self.internet = self["client"], self["internet"]
            self._build()
        except BaseException:
            self.close()
            raise

    def __getitem__(self, host: str) -> Namespace:
        return self._namespaces[host]

    def _build(self) -> None:
        self.gateway = self["gateway"]
        for namespace in self._namespaces.values():
            namespace.sysctl("net.ipv6.conf.default.accept_dad", "0")
            namespace.netlink(lambda ipr: ipr.link("set", index=1, state="up"))
        self._cable(self.gateway, "lan0", (GATEWAY, GATEWAY6), self.client, "eth0", (CLIENT, CLIENT_TOO, CLIENT6))
        self._cable(self.gateway, "wan0", (OUTSIDE, OUTSIDE6), self.internet, "eth0", (ORIGIN, ORIGIN6, OTHER, OTHER6))
        self.gateway.sysctl("net.ipv4.ip_forward", "1")
        self.gateway.sysctl("net.ipv6.conf.all.forwarding", "1")
        for namespace, four, six in ((self.client, GATEWAY, GATEWAY6), (self.internet, OUTSIDE, OUTSIDE6)):
            namespace.netlink(lambda ipr, four=four: ipr.route("add", dst="default", gateway=four))
            namespace.netlink(lambda ipr, six=six: ipr.route("add", dst="::/0", gateway=six))

    @staticmethod
    def _cable(one: Namespace, name: str, here, other: Namespace, its, there) -> None:
        one.netlink(lambda ipr: ipr.link("add", ifname=name, kind="veth", peer={"ifname": its, "net_ns_fd": other.fd}))
        for namespace, interface, addresses in ((one, name, here), (other, its, there)):

            def configure(ipr, interface=interface, addresses=addresses):
                index = ipr.link_lookup(ifname=interface)[0]
                ipr.link("set", index=index, state="up")
                for address in addresses:
                    ipr.addr("add", index=index, address=address, prefixlen=64 if ":" in address else 24)

            namespace.netlink(configure)
        for namespace, interface, addresses in ((one, name, here), (other, its, there)):
            wait_until(lambda n=namespace, i=interface: n.netlink(lambda ipr: is_up(ipr, i)), 20)
            wait_until(lambda n=namespace, i=interface, a=addresses: n.netlink(lambda ipr: has_usable(ipr, i, a)), 20)

    def close(self) -> None:
        for namespace in self._namespaces.values():
            namespace.close()


TWINS = (
    ("lan", "client", CLIENT, CLIENT6),
    ("lan", "a", "192.168.8.2", "fd00:8::2"),
    ("lan", "b", "192.168.8.3", "fd00:8::3"),
    ("wan", "a", "100.200.0.2", "2a0e:8::2"),
    ("wan", "b", "100.200.0.3", "2a0e:8::3"),
    ("wan", "internet", ORIGIN, ORIGIN6),
)


class TwinYard(Yard):
    """Two gateways side by side, `a` and `b`, in front of the same internet; GATEWAY and GATEWAY6 belong to
    whoever takes them.
    """

    NAMES = ("client", "a", "b", "internet", "switch")

    def _build(self) -> None:
        self.switch = self["switch"]
        for namespace in self._namespaces.values():
            namespace.sysctl("net.ipv6.conf.default.accept_dad", "0")
            namespace.netlink(lambda ipr: ipr.link("set", index=1, state="up"))
        for bridge in ("br-lan", "br-wan"):
            self.switch.netlink(
                lambda ipr, bridge=bridge: ipr.link(
                    "add", ifname=bridge, kind="bridge", br_mcast_snooping=0, br_forward_delay=0
                )
            )
            self.switch.netlink(lambda ipr, bridge=bridge: ipr.link("set", ifname=bridge, state="up"))
        for net, host, *addresses in TWINS:
            self._plug(net, host, addresses)
        for host in ("a", "b"):
            self[host].sysctl("net.ipv4.ip_forward", "1")
            self[host].sysctl("net.ipv6.conf.all.forwarding", "1")
        self.client.netlink(lambda ipr: ipr.route("add", dst="default", gateway=GATEWAY))
        self.client.netlink(lambda ipr: ipr.route("add", dst="::/0", gateway=GATEWAY6))

    def _plug(self, net: str, host: str, addresses: list[str]) -> None:
        inside, port = (f"{net}0" if host in ("a", "b") else "eth0"), f"{net}-{host}"
        self._cable(self.switch, port, (), self[host], inside, addresses)

        def join(ipr):
            ipr.link("set", ifname=port, master=ipr.link_lookup(ifname=f"br-{net}")[0])

        self.switch.netlink(join)
        wait_until(lambda: self.switch.netlink(lambda ipr: forwards(ipr, port)))


class Gate:
    """`tandem run` on a gateway of the yard."""

    def __init__(self, yard: Yard, folder: Path, text: str, host: str = "gateway") -> None:
        self.yard = yard
        self.host = yard[host]
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tandem.toml").write_text(text)
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        with (self.folder / "output").open("ab") as out:
            self.process = self.host.popen(
                command_line("run", "-c", self.folder / "tandem.toml", "--runtime", self.folder / "run"),
                stdout=out,
                stderr=out,
                env=environment(),
            )
        wait_until(lambda: "TAKING" in self.taking.upper() or self.process.poll() is not None, 30)
        assert self.process.poll() is None, self.output

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    @property
    def state(self) -> dict:
        try:
            return json.loads((self.folder / "run" / "state.json").read_text())
        except FileNotFoundError:
            return {}

    @property
    def taking(self) -> str:
        """As `tandem status` says it."""
        return self.state.get("transparent", {}).get("state", "")

    def pid(self, name: str) -> int:
        return next(one["pid"] for one in self.state["processes"] if one["name"] == name)

    def states(self) -> dict[str, tuple[str, int]]:
        """State and pid of each process."""
        return {one["name"]: (one["state"], one["pid"]) for one in self.state["processes"]}

    def log(self) -> list[str]:
        path = self.folder / "access.log"
        return path.read_text().splitlines() if path.exists() else []

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)


@contextmanager
def serve_names(yard: Yard, names: dict[str, list[str]], ttl: int = 60):
    """A name server on the internet, at ORIGIN port 53; the records of what is given, to be changed at will."""
    records = {name: (addresses, ttl) for name, addresses in names.items()}
    ready = threading.Event()
    end: list[Callable[[], None]] = []

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        end.append(lambda: loop.call_soon_threadsafe(ended.set))
        server = FakeNameServer(records)
        transport, _ = await loop.create_datagram_endpoint(lambda: server, local_addr=(ORIGIN, 53))
        server.transport = transport
        ready.set()
        await ended.wait()
        transport.close()

    thread = threading.Thread(target=yard.internet.run_async, args=(serve(), 600))
    thread.start()
    ready.wait(10)
    try:
        yield records
    finally:
        end[0]()
        thread.join(10)


def origin_at(yard: Yard, address: str = ORIGIN, port: int = 80, **more) -> FakeOrigin:
    """An origin on the internet."""
    return yard.internet.call(lambda: FakeOrigin(address=address, port=port, **more))


@contextmanager
def make_yard(kind: type[Yard] = Yard):
    yard = kind()
    try:
        yield yard
    finally:
        yard.close()
