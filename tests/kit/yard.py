"""A gateway between clients and an internet, in network namespaces: `client` - `gateway` - `internet`.

The gateway forwards between `lan0` and `wan0`. Addresses behind `wan0` are of public networks, since a proxy does not
reach others unasked; nothing leaves the namespaces.
"""

from __future__ import annotations

from contextlib import contextmanager

from tests.kit.netns import Namespace, is_up, wait_until

CLIENT, CLIENT6 = "192.168.8.50", "fd00:8::50"
GATEWAY, GATEWAY6 = "192.168.8.1", "fd00:8::1"
OUTSIDE, OUTSIDE6 = "100.200.0.1", "2a0e:8::1"  # the gateway's addresses towards the internet
ORIGIN, ORIGIN6 = "100.200.0.20", "2a0e:8::20"
OTHER, OTHER6 = "100.200.0.21", "2a0e:8::21"  # another host of the internet


class Yard:
    def __init__(self) -> None:
        self._namespaces: dict[str, Namespace] = {}
        try:
            for name in ("client", "gateway", "internet"):
                self._namespaces[name] = Namespace(name)
            self.client, self.gateway, self.internet = self._namespaces.values()
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        for namespace in self._namespaces.values():
            namespace.sysctl("net.ipv6.conf.default.accept_dad", "0")
            namespace.netlink(lambda ipr: ipr.link("set", index=1, state="up"))
        self._cable(self.gateway, "lan0", (GATEWAY, GATEWAY6), self.client, "eth0", (CLIENT, CLIENT6))
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
        for namespace, interface in ((one, name), (other, its)):
            wait_until(lambda n=namespace, i=interface: n.netlink(lambda ipr: is_up(ipr, i)))

    def close(self) -> None:
        for namespace in self._namespaces.values():
            namespace.close()


@contextmanager
def make_yard():
    yard = Yard()
    try:
        yield yard
    finally:
        yard.close()
