"""Connections of clients through a gateway: what the kernel does with our table, routes and sockets. No proxy here."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import sys
from ipaddress import ip_network

import pytest

from config.schema import Config, Process
from proxy import sockets
from proxy.firewall import gateway as gateways
from proxy.firewall.gateway import Gateway, Taking
from proxy.firewall.nftables import FirewallError
from tests.firewall.conftest import LAN, options, rules_and_routes
from tests.kit.netns import wait_until
from tests.kit.yard import GATEWAY, ORIGIN, ORIGIN6

SO_ORIGINAL_DST = 80
FAMILIES = pytest.mark.parametrize("origin", [ORIGIN, ORIGIN6])
METHODS = pytest.mark.parametrize("method", ["redirect", "tproxy"])


class Taken:
    """A listener on the ports of an interception, in the gateway's namespace, and its gateway."""

    def __init__(self, yard, config):
        self.yard = yard
        self.config = config
        self.gateway = Gateway()
        whole = Config(transparent=config, process=Process(workers=1))
        self.sockets = yard.gateway.call(sockets.open_missing, whole, {}, iter(range(100)))
        self.call(gateways.prepare, config, first=True)
        self.call(self.gateway.adopt, config)
        self.call(self.gateway.serve, serving=True)

    def call(self, function, *args, **named):
        return self.yard.gateway.call(function, *args, **named)

    def close(self):
        self.call(self.gateway.close)
        for held in self.sockets.values():
            held.sock.close()

    def accept(self, family, port=3129):
        """(what the client asked for, who it is) of the next connection; it is answered with a byte."""
        listener = next(h.sock for p, h in self.sockets.items() if p.family == family and p.listen.port == port)

        def one():
            listener.settimeout(5)
            connection, peer = listener.accept()
            with connection:
                connection.sendall(b"x")
                return original(connection, self.config.method), peer[0]

        return self.call(one)


def original(connection, method):
    if method == "tproxy":
        return connection.getsockname()[:2]
    if connection.family == socket.AF_INET6:
        raw = connection.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28)
        return socket.inet_ntop(socket.AF_INET6, raw[8:24]), struct.unpack("!H", raw[2:4])[0]
    raw = connection.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
    return socket.inet_ntop(socket.AF_INET, raw[4:8]), struct.unpack("!H", raw[2:4])[0]


@pytest.fixture
def take(yard):
    """Starts an interception; the one before it has ended then."""
    made = []

    def start(**said):
        for one in made:
            one.close()
        made[:] = [Taken(yard, options(**said))]
        return made[0]

    yield start
    for one in made:
        one.close()


def knock(yard, address, port, source=None):
    """The byte that a client hears, or the error that it gets."""

    def ask():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as asking:
            asking.settimeout(5)
            if source:
                asking.bind((source, 0))
            try:
                asking.connect((address, port))
                return asking.recv(1)
            except OSError as exc:
                return type(exc)

    return ask


def connect(yard, address, port=80):
    """A client's connection, which `accept` will find."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return yard.client.call(lambda: _connected(family, address, port))


def _connected(family, address, port):
    one = socket.socket(family)
    one.settimeout(5)
    one.connect((address, port))
    return one


@pytest.fixture(scope="module")
def direct(yard):
    """What answers on the internet itself, on ports 80 and 443 of both families: the byte `o`."""
    program = (
        "import socket,threading\n"
        "def serve(s):\n"
        "    while True:\n"
        "        c,_=s.accept(); c.sendall(b'o'); c.close()\n"
        "listeners=[socket.create_server(('::',p),family=socket.AF_INET6,dualstack_ipv6=True) for p in (80,443,8080)]\n"
        "print('up',flush=True)\n"
        "for s in listeners[1:]: threading.Thread(target=serve,args=(s,),daemon=True).start()\n"
        "serve(listeners[0])\n"
    )
    child = yard.internet.popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"up\n"
    return child


@METHODS
@FAMILIES
def test_a_connection_is_taken_and_tells_where_it_was_to_go(yard, take, method, origin):
    taken = take(method=method)
    family = socket.AF_INET6 if ":" in origin else socket.AF_INET
    for port, ours in ((80, 3129), (443, 3130)):
        with connect(yard, origin, port) as client:
            where, who = taken.accept(family, ours)
            assert where == (origin, port)
            assert who == client.getsockname()[0]
            assert client.recv(1) == b"x"


@METHODS
@FAMILIES
def test_what_is_not_asked_for_goes_its_way(yard, take, direct, method, origin):
    network = ip_network(f"{origin}/{64 if ':' in origin else 24}", strict=False)
    take(method=method, exempt=(network,))
    assert yard.client.call(knock(yard, origin, 80)) == b"o"  # an exempt destination
    take(method=method, exempt_clients=LAN)
    assert yard.client.call(knock(yard, origin, 80)) == b"o"  # an exempt client
    take(method=method, https="off")
    assert yard.client.call(knock(yard, origin, 443)) == b"o"
    assert yard.client.call(knock(yard, origin, 8080)) == b"o"  # another port
    assert yard.gateway.call(knock(yard, origin, 80)) == b"o"  # the gateway's own


@METHODS
def test_nobody_comes_to_our_ports_by_name(yard, take, method):
    take(method=method)
    for port in (3129, 3130):
        assert yard.client.call(knock(yard, GATEWAY, port)) is ConnectionRefusedError
        assert yard.client.call(knock(yard, "100.200.0.1", port)) is ConnectionRefusedError


@METHODS
def test_with_no_worker_left_traffic_goes_past_or_stops_as_configured(yard, take, direct, method):
    taken = take(method=method)
    taken.call(taken.gateway.serve, serving=False)
    assert taken.gateway.taking is Taking.DIRECT
    assert yard.client.call(knock(yard, ORIGIN, 80)) == b"o"
    taken.call(taken.gateway.serve, serving=True)
    assert taken.gateway.taking is Taking.TAKING
    with connect(yard, ORIGIN) as client:
        assert taken.accept(socket.AF_INET)[0] == (ORIGIN, 80)
        assert client.recv(1) == b"x"
    closed = options(method=method, fail="closed")
    taken.call(taken.gateway.adopt, closed)
    taken.call(taken.gateway.serve, serving=False)
    assert taken.gateway.taking is Taking.STOPPED
    for held in taken.sockets.values():
        held.sock.close()
    assert yard.client.call(knock(yard, ORIGIN, 80)) in (ConnectionRefusedError, TimeoutError)


@METHODS
def test_while_a_worker_hangs_new_connections_go_past_and_old_ones_go_on(yard, take, direct, method):
    taken = take(method=method)
    listener = next(held.sock for place, held in taken.sockets.items() if place.listen.port == 3129)
    with connect(yard, ORIGIN) as client, taken.call(lambda: listener.accept()[0]) as old:
        taken.call(taken.gateway.serve, serving=True, hung=True)
        assert taken.gateway.taking is Taking.DIRECT
        assert yard.client.call(knock(yard, ORIGIN, 80)) == b"o"
        old.sendall(b"y")
        assert client.recv(1) == b"y"
    taken.call(taken.gateway.serve, serving=True)
    assert taken.gateway.taking is Taking.TAKING
    closed = options(method=method, fail="closed")
    taken.call(taken.gateway.adopt, closed)
    taken.call(taken.gateway.serve, serving=True, hung=True)
    assert taken.gateway.taking is Taking.TAKING


def test_a_host_that_forwards_nothing_is_told_so_family_by_family(yard):
    both = options(clients=LAN)
    assert yard.gateway.call(gateways.find_obstacles, both) == []
    yard.gateway.sysctl("net.ipv4.ip_forward", "0")
    try:
        (told,) = yard.gateway.call(gateways.find_obstacles, both)
        assert "sysctl -w net.ipv4.ip_forward=1" in told
        six = options(clients=tuple(network for network in LAN if network.version == 6))
        assert yard.gateway.call(gateways.find_obstacles, six) == []
    finally:
        yard.gateway.sysctl("net.ipv4.ip_forward", "1")


@METHODS
def test_a_farewell_lets_what_is_taken_go_on_and_takes_nothing_new(yard, take, direct, method):
    taken = take(method=method)
    listener = next(held.sock for place, held in taken.sockets.items() if place.listen.port == 3129)

    def accept():
        listener.settimeout(5)
        return listener.accept()[0]

    with connect(yard, ORIGIN) as client, taken.call(accept) as ours:
        taken.call(taken.gateway.end)
        taken.call(taken.gateway.serve, serving=False)
        assert taken.gateway.taking is Taking.DIRECT
        assert yard.client.call(knock(yard, ORIGIN, 80)) == b"o"
        client.sendall(b"more")
        ours.settimeout(5)
        assert ours.recv(4) == b"more"
        ours.sendall(b"answer")
        assert client.recv(6) == b"answer"


@METHODS
def test_nothing_is_left_when_it_is_closed(yard, take, method):
    before = rules_and_routes(yard.gateway)
    taken = take(method=method)
    assert "inet tandem" in yard.gateway.run("nft", "list", "tables")
    taken.close()
    assert "inet tandem" not in yard.gateway.run("nft", "list", "tables")
    assert rules_and_routes(yard.gateway) == before


def test_rules_of_others_are_not_touched_and_theirs_do_not_touch_ours(yard, take):
    foreign = "table inet foreign { chain c { type filter hook forward priority 0; tcp dport 9 drop; }; }"
    yard.gateway.run("nft", foreign)
    taken = take()
    yard.gateway.run("nft", "flush", "ruleset")
    with connect(yard, ORIGIN):
        assert taken.accept(socket.AF_INET)[0] == (ORIGIN, 80)
    yard.gateway.run("nft", foreign)
    before = yard.gateway.run("nft", "list", "table", "inet", "foreign")
    taken.close()
    assert yard.gateway.run("nft", "list", "table", "inet", "foreign") == before


def test_a_second_instance_is_told_whose_table_it_is(yard, take):
    take()
    with pytest.raises(FirewallError, match="another instance"):
        yard.gateway.call(gateways.prepare, options(), first=True)
    yard.gateway.call(gateways.prepare, options(), first=False)  # ours, at a reload


def test_a_missing_interface_is_named_with_those_that_are_there(yard):
    with pytest.raises(FirewallError, match=r"no interface lan7; there are .*lan0"):
        yard.gateway.call(gateways.prepare, options(interface=("lan7",)), first=True)


def test_when_its_owner_is_killed_the_kernel_takes_the_table_and_the_next_start_the_routes(yard, direct):
    before = rules_and_routes(yard.gateway)
    program = (
        "import sys, time\n"
        "from ipaddress import ip_network\n"
        "from config.schema import Transparent\n"
        "from proxy.firewall import gateway\n"
        "t = Transparent(interface=('lan0',), clients=(ip_network('192.168.8.0/24'),), method='tproxy')\n"
        "gateway.prepare(t, first=True)\n"
        "g = gateway.Gateway(); g.adopt(t); g.serve(serving=True)\n"
        "print(g.taking.value, flush=True); time.sleep(60)\n"
    )
    owner = yard.gateway.popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert owner.stdout.readline() == b"taking\n"
    assert "inet tandem" in yard.gateway.run("nft", "list", "tables")
    owner.send_signal(signal.SIGKILL)
    wait_until(lambda: "inet tandem" not in yard.gateway.run("nft", "list", "tables"))
    assert yard.client.call(knock(yard, ORIGIN, 80)) == b"o"
    assert rules_and_routes(yard.gateway) != before
    yard.gateway.call(gateways.prepare, options(), first=True)
    assert rules_and_routes(yard.gateway) == before


def test_quic_of_clients_is_refused_so_that_browsers_take_tcp(yard, take, direct):
    taken = take()

    def send():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.settimeout(5)
            one.connect((ORIGIN, 443))
            one.send(b"hello")
            try:
                return one.recv(10)
            except OSError as exc:
                return type(exc)

    assert yard.client.call(send) is ConnectionRefusedError
    assert taken.gateway.taking is Taking.TAKING
