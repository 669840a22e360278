"""A LAN in network namespaces: one bridge, and per host a namespace with one interface `eth0` on it.

A namespace has no name and no file: one thread lives in it, and it is gone with that thread, its sockets and the
processes started from it. What is called through `Namespace.call` runs on that thread, so its sockets, netlink and
/proc/sys/net are the namespace's; so are the processes that `Namespace.popen` starts. Those die with the thread, even
when this program is killed; closing the lab ends their whole process groups. The bridge and the far ends of all cables
lie in a namespace of their own, `lan`, where cables are cut and frames are dropped without the host's help.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import select
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_interface
from pathlib import Path

from pyroute2 import IPRoute

from ha.rtnl import Kernel

CLONE_NEWNET = 0x40000000
ETH_P_ALL = 3
IFA_F_TENTATIVE = 0x40
BRIDGE_FORWARDS = 3  # BR_STATE_FORWARDING
NEEDED = {"NET_ADMIN": 12, "NET_RAW": 13, "SYS_ADMIN": 21}

VIP = IPv4Interface("192.168.8.100/24")
VIP6 = IPv6Interface("fd00:8::100/64")
NODES = ("a", "b")
HOSTS = {"client": 50, "a": 4, "b": 6, "origin": 20}  # the last byte of the address
LINKS = {"a": IPv4Address("10.9.9.4"), "b": IPv4Address("10.9.9.6")}  # on a cable of their own: `Lab.link_nodes`

libc = ctypes.CDLL(None, use_errno=True)


def why_not() -> str:
    """Why namespaces cannot be made here; empty if they can."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    effective = int(line.split()[1], 16)
    missing = [name for name, bit in NEEDED.items() if not effective >> bit & 1]
    return f"network namespaces want {', '.join(f'CAP_{name}' for name in missing)}" if missing else ""


def address_of(host: str) -> IPv4Address:
    return IPv4Address(f"192.168.8.{HOSTS[host]}")


def address6_of(host: str) -> IPv6Address:
    return IPv6Address(f"fd00:8::{HOSTS[host]}")


def mac_of(host: str) -> str:
    return f"02:00:00:00:08:{HOSTS[host]:02x}"


def link_local_of(host: str) -> IPv6Address:
    return IPv6Address(f"fe80::ff:fe00:8{HOSTS[host]:02x}")


def is_here(address) -> bool:
    """Whether any interface of this thread's namespace has the address."""
    with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET) as probe:
        try:
            probe.bind((str(getattr(address, "ip", address)), 0))
        except OSError:
            return False
    return True


class Namespace:
    """One network namespace and the thread that lives in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._thread = ThreadPoolExecutor(1, f"netns-{name}", self._enter)
        self._children: list[subprocess.Popen] = []
        self.fd = self.call(os.open, "/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    @staticmethod
    def _enter() -> None:
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")

    def call(self, function, *args, timeout=60, **named):
        """What `function` returns or raises, run inside."""
        return self._thread.submit(function, *args, **named).result(timeout)

    def run_async(self, coroutine, timeout=60):
        """What a coroutine returns, on a loop and a thread of its own inside: `call` is free for the lab meanwhile."""
        with ThreadPoolExecutor(1, f"netns-{self.name}-loop", self._join) as apart:
            return apart.submit(asyncio.run, asyncio.wait_for(coroutine, timeout)).result()

    def _join(self) -> None:
        if libc.setns(self.fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")

    def popen(self, argv, **named) -> subprocess.Popen:
        """A process inside, in a process group of its own; killed when the lab closes or this program dies."""
        named.setdefault("start_new_session", True)
        child = self.call(subprocess.Popen, ["setpriv", "--pdeathsig", "KILL", *map(str, argv)], **named)
        self._children.append(child)
        return child

    def run(self, *argv, check=True, **named) -> str:
        """The output of a command that ran inside to its end."""
        done = self.call(subprocess.run, list(map(str, argv)), check=False, text=True, capture_output=True, **named)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(map(str, argv))} in {self.name}: {done.stdout}{done.stderr}")
        return done.stdout

    def netlink(self, work):
        """What `work(ipr)` returns, with pyroute2's synchronous IPRoute inside."""

        def inside():
            with IPRoute() as ipr:
                return work(ipr)

        return self.call(inside)

    def socket(self, *args) -> socket.socket:
        return self.call(socket.socket, *args)

    def sysctl(self, name: str, value: str | None = None) -> str:
        """The value of `net.ipv4.conf.eth0.arp_ignore`, say; set before if one is given."""
        path = Path("/proc/sys", *name.split("."))
        if value is not None:
            self.call(path.write_text, value)
        return self.call(path.read_text).strip()

    def addresses(self, interface: str = "eth0") -> set[IPv4Interface | IPv6Interface]:
        """All addresses of an interface, as the kernel has them now."""
        return {ip_interface(text) for text in self.netlink(lambda ipr: _addresses(ipr, interface))}

    def holds(self, address) -> bool:
        """Whether any interface has the address, whatever its prefix."""
        return self.call(is_here, address)

    def reaches(self, address, seconds: float = 1) -> bool:
        """Whether anybody answers for the address; that nobody listens there is an answer too."""

        def knock():
            with socket.socket(socket.AF_INET6 if ":" in str(address) else socket.AF_INET) as one:
                one.settimeout(seconds)
                return one.connect_ex((str(getattr(address, "ip", address)), 9))

        return self.call(knock) in {0, errno.ECONNREFUSED}

    def neighbour(self, address) -> str | None:
        """The MAC that this host last heard for an address."""

        def look(ipr):
            for entry in ipr.get_neighbours(dst=str(address)):
                return entry.get("lladdr")
            return None

        return self.netlink(look)

    def close(self) -> None:
        for child in self._children:
            _end(child)
        os.close(self.fd)
        self._thread.shutdown(wait=True)


@dataclass(frozen=True, slots=True)
class Frame:
    at: float  # CLOCK_MONOTONIC, when it was read
    sent: bool  # by this side of the cable; else received
    data: bytes  # with the Ethernet header


class Capture:
    """All frames that pass one interface, from now on."""

    def __init__(self, namespace: Namespace, interface: str) -> None:
        self._socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind((interface, ETH_P_ALL))
        self._socket.setblocking(False)
        self.frames: list[Frame] = []

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> list[Frame]:
        """All frames so far."""
        while True:
            try:
                data, (_, _, kind, *_) = self._socket.recvfrom(65536)
            except BlockingIOError:
                return self.frames
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # said once when the cable is cut
                    raise
                continue
            self.frames.append(Frame(time.monotonic(), kind == socket.PACKET_OUTGOING, data))

    def wait_for(self, wanted, seconds: float = 5) -> Frame:
        """The first frame that `wanted(frame)` is true of."""
        seen, end = 0, time.monotonic() + seconds
        while True:
            frames = self.read()
            for frame in frames[seen:]:
                if wanted(frame):
                    return frame
            seen = len(frames)
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError(f"no such frame among {len(frames)} in {seconds} s")
            select.select([self._socket], [], [], left)

    def close(self) -> None:
        self._socket.close()


class Lab:
    """The LAN of two nodes, a client and an origin. Link faults are named as in the scenarios they make."""

    def __init__(self, hosts=tuple(HOSTS)) -> None:
        self._namespaces: dict[str, Namespace] = {}
        self._captures: list[Capture] = []
        try:
            self.lan = self._namespaces["lan"] = Namespace("lan")
            for host in hosts:
                self._namespaces[host] = Namespace(host)
            self._build(hosts)
        except BaseException:
            self.close()
            raise

    def __getitem__(self, host: str) -> Namespace:
        return self._namespaces[host]

    def _build(self, hosts) -> None:
        for namespace in self._namespaces.values():
            namespace.sysctl("net.ipv6.conf.default.accept_dad", "0")  # else addresses wait 1.7 s
            namespace.netlink(lambda ipr: ipr.link("set", index=1, state="up"))
        self.lan.sysctl("net.ipv6.conf.default.disable_ipv6", "1")
        self.lan.netlink(
            lambda ipr: ipr.link("add", ifname="br0", kind="bridge", br_mcast_snooping=0, br_forward_delay=0)
        )
        self.lan.netlink(lambda ipr: ipr.link("set", ifname="br0", state="up"))
        for host in hosts:
            self._plug(host)
        for host in hosts:
            self.wait_for_cable(host)

    def plug(self, host: str) -> None:
        """The host has a new cable to the bridge, and its addresses; frames pass."""
        self._plug(host)
        self.wait_for_cable(host)

    def _plug(self, host: str) -> None:
        namespace = self[host]

        def cable(ipr):
            peer = {"ifname": "eth0", "net_ns_fd": namespace.fd, "address": mac_of(host)}
            ipr.link("add", ifname=host, kind="veth", peer=peer)
            bridge = ipr.link_lookup(ifname="br0")[0]
            ipr.link("set", ifname=host, master=bridge, state="up")

        def addresses(ipr):
            index = ipr.link_lookup(ifname="eth0")[0]
            ipr.addr("add", index=index, address=str(address_of(host)), prefixlen=24)
            ipr.link("set", index=index, state="up")
            ipr.addr("add", index=index, address=str(address6_of(host)), prefixlen=64)

        self.lan.netlink(cable)
        namespace.netlink(addresses)

    def wait_for_cable(self, host: str) -> None:
        """The kernel sees the carrier at both ends, the bridge forwards and all addresses may be used: it takes up to a
        second, and longer while others make and end namespaces.
        """
        inside, port = self[host], self.lan
        addresses = {str(address_of(host)), str(address6_of(host)), str(link_local_of(host))}

        def passes():
            return inside.netlink(lambda ipr: is_up(ipr, "eth0")) and port.netlink(lambda ipr: forwards(ipr, host))

        wait_until(passes, 20)
        wait_until(lambda: inside.netlink(lambda ipr: has_usable(ipr, "eth0", addresses)), 20)

    def link_nodes(self) -> None:
        """A second cable, `link0`, straight from node to node."""

        def cable(ipr):
            peer = {"ifname": "link0", "net_ns_fd": self["b"].fd}
            ipr.link("add", ifname="link0", kind="veth", peer=peer)

        self["a"].netlink(cable)
        for host, address in LINKS.items():

            def addresses(ipr, address=address):
                index = ipr.link_lookup(ifname="link0")[0]
                ipr.addr("add", index=index, address=str(address), prefixlen=24)
                ipr.link("set", index=index, state="up")

            self[host].netlink(addresses)
        for host in LINKS:
            wait_until(lambda host=host: self[host].netlink(lambda ipr: is_up(ipr, "link0")))

    def unplug(self, host: str) -> None:
        """The host's interface is gone."""
        self.lan.netlink(lambda ipr: ipr.link("del", ifname=host))

    def cut(self, host: str) -> None:
        """No carrier any more: the host's kernel sees it."""
        self.lan.netlink(lambda ipr: ipr.link("set", ifname=host, state="down"))

    def isolate(self, host: str) -> None:
        """No frame passes any more, but the carrier stays: as when a switch died behind the next one."""
        self.lan.netlink(lambda ipr: ipr.link("set", ifname=host, master=0))

    def restore(self, host: str) -> None:
        """The end of `cut` and `isolate`."""

        def again(ipr):
            ipr.link("set", ifname=host, master=ipr.link_lookup(ifname="br0")[0], state="up")

        self.lan.netlink(again)

    def mute(self, host: str) -> None:
        """Advertisements of this host are lost on the way, nothing else."""
        self._drop(f"iifname {host}", host)

    def deafen(self, host: str) -> None:
        """Advertisements to this host are lost on the way, nothing else."""
        self._drop(f"oifname {host}", host)

    def clear(self, host: str) -> None:
        """The end of `mute` and `deafen`."""
        self.lan.run("nft", f"add table bridge drop_{host}; delete table bridge drop_{host}")

    def _drop(self, where: str, host: str) -> None:
        drop = "\n".join(f"{where} {protocol} 112 drop" for protocol in ("ip protocol", "ip6 nexthdr"))
        chain = f"chain lost {{\n type filter hook forward priority 0\n {drop}\n }}"
        self.lan.run("nft", "-f", "-", input=f"table bridge drop_{host} {{\n {chain}\n }}\n")

    def capture(self, host: str) -> Capture:
        """The frames on the cable of `host`, seen from the bridge: `sent` are those to the host."""
        capture = Capture(self.lan, host)
        self._captures.append(capture)
        return capture

    def close(self) -> None:
        for capture in self._captures:
            capture.close()
        for namespace in self._namespaces.values():
            namespace.close()


@contextmanager
def make_lab(hosts=tuple(HOSTS)):
    """A lab for one test; all of it is gone afterwards."""
    lab = Lab(hosts)
    try:
        yield lab
    finally:
        lab.close()


def wait_until(condition, seconds: float = 5, step: float = 0.005) -> float:
    """The seconds that it took until `condition()` was true."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > seconds:
            raise AssertionError(f"still not so after {seconds} s")
        time.sleep(step)
    return time.monotonic() - begin


def is_up(ipr, interface) -> bool:
    (link,) = ipr.get_links(*ipr.link_lookup(ifname=interface))
    return link.get("state") == "up" and link.get_attr("IFLA_OPERSTATE") == "UP"


def has_usable(ipr, interface, addresses) -> bool:
    """Whether the interface has all of these; an IPv6 address is tentative at first, even where nobody checks for
    duplicates: the kernel comes to it later.
    """
    found = ipr.get_addr(index=ipr.link_lookup(ifname=interface)[0])
    usable = {m.get("local") or m.get("address") for m in found if not m.get("flags") & IFA_F_TENTATIVE}
    return usable >= set(addresses)


def forwards(ipr, port) -> bool:
    (link,) = ipr.get_links(*ipr.link_lookup(ifname=port))
    state = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_SLAVE_DATA", "IFLA_BRPORT_STATE")
    return state == BRIDGE_FORWARDS


def read_interface(namespace: Namespace, name: str = "eth0"):
    """The interface as our own code reads it."""

    def read():
        kernel = Kernel()
        try:
            return kernel.interface(name)
        finally:
            kernel.close()

    return namespace.call(read)


def _addresses(ipr, interface):
    found = ipr.link_lookup(ifname=interface)
    if not found:
        return []
    return [f"{m.get('local') or m.get('address')}/{m['prefixlen']}" for m in ipr.get_addr(index=found[0])]


def _end(child: subprocess.Popen) -> None:
    """The process and its group are gone, stopped ones too."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        child.kill()
    child.wait(10)
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            stream.close()
