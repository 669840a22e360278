"""Who listens where, and what is said when that cannot be."""

import contextlib
import errno
import itertools
import os
import socket
from pathlib import Path

import pytest

from config import load
from proxy import rights, sockets
from proxy.sockets import ADMIN, PortError
from tests.kit.instance import can_connect, free_port


def configure(*listen, workers=1, admin=""):
    text = f'[[site]]\nlisten = {[*listen]!r}\nupstream = "127.0.0.1:1"\n[process]\nworkers = {workers}\n'
    if admin:
        text += f'[admin]\nlisten = "{admin}"\n'
    return load.accept(text.encode(), "test")


@pytest.fixture
def opened():
    """open_missing that closes all at the end."""
    everything, serials = [], itertools.count(1)

    def open_all(config, existing=None):
        result = sockets.open_missing(config, existing or {}, serials)
        everything.append(result)
        return result

    yield open_all
    for result in everything:
        sockets.close(result, spare={})


def test_each_worker_has_its_own_socket_and_admin_one(opened):
    port, admin = free_port(), free_port()
    held = opened(configure(f"127.0.0.1:{port}", workers=3, admin=f"127.0.0.1:{admin}"))
    assert sorted(place.index for place in held) == [ADMIN, 0, 1, 2]
    assert len({one.serial for one in held.values()}) == 4
    assert sockets.addresses(held) == [(0, "127.0.0.1", port), (ADMIN, "127.0.0.1", admin)]
    assert [place.index for place, _ in sockets.of_process(held, 1)] == [1]


def test_a_port_alone_means_both_families(opened):
    port = free_port()
    held = opened(configure(f":{port}"))
    assert {one.address for one in held.values()} == {("0.0.0.0", port), ("::", port)}
    with socket.create_connection(("::1", port), timeout=5), socket.create_connection(("127.0.0.1", port), timeout=5):
        pass


def test_an_address_that_is_not_there_yet_can_be_listened_on(opened):
    held = opened(configure(f"192.0.2.77:{free_port()}"))
    assert [one.address[0] for one in held.values()] == ["192.0.2.77"]


def test_a_port_that_is_taken_names_its_holder_even_if_both_share_ports(opened):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        comm = Path("/proc/self/comm").read_text().strip()
        with pytest.raises(PortError, match=f"port {port} is taken by {comm} \\(pid {os.getpid()}\\): stop it, or"):
            opened(configure(f"127.0.0.1:{port}"))


def test_what_stays_is_kept_and_what_is_gone_is_closed_when_told(opened):
    port, other = free_port(), free_port()
    first = opened(configure(f"127.0.0.1:{port}", workers=2))
    second = opened(configure(f"127.0.0.1:{port}", f"127.0.0.1:{other}", workers=1), first)
    (kept,) = set(first.values()) & set(second.values())
    sockets.close(first, spare=second)
    assert kept.sock.fileno() >= 0
    assert can_connect(port)
    assert can_connect(other)
    sockets.close(second, spare={})
    assert not can_connect(port)


def test_a_failure_closes_what_was_opened_and_nothing_else(opened):
    port, other = free_port(), free_port()
    first = opened(configure(f"127.0.0.1:{port}"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        with pytest.raises(PortError):
            opened(configure(f"127.0.0.1:{port}", f"127.0.0.1:{other}", f"127.0.0.1:{busy}"), first)
    assert can_connect(port)
    assert not can_connect(other)


def test_our_own_port_may_be_widened_to_all_addresses(opened):
    port = free_port()
    first = opened(configure(f"127.0.0.1:{port}"))
    second = opened(configure(f":{port}"), first)
    sockets.close(first, spare=second)
    assert can_connect(port)


def test_a_closed_socket_comes_back_on_its_port(opened):
    port = free_port()
    held = opened(configure(f"127.0.0.1:{port}"))
    ((place, one),) = held.items()
    sockets.close(held, spare={})
    again = sockets.reopen(place, one, {}, 99)
    assert (again.address, again.serial) == (("127.0.0.1", port), 99)
    assert again.note(place).port == port
    again.sock.close()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EACCES, "needs the right CAP_NET_BIND_SERVICE"),
        (errno.EADDRNOTAVAIL, "address 10.0.0.1 cannot be listened on"),
        (errno.ENOBUFS, "cannot listen on 10.0.0.1 port 7"),
    ],
)
def test_each_reason_is_one_line(code, words):
    line = sockets.explain(("10.0.0.1", 7), OSError(code, os.strerror(code)))
    assert words in line
    assert "\n" not in line


def test_a_port_that_nobody_holds_has_no_holder():
    with contextlib.closing(socket.socket()) as idle:
        idle.bind(("127.0.0.1", 0))
        assert sockets.find_holder(idle.getsockname()[1]) == ""


def test_sockets_are_not_inherited_and_never_block(opened):
    (held,) = opened(configure(f"127.0.0.1:{free_port()}")).values()
    assert not held.sock.get_inheritable()
    assert not held.sock.getblocking()


def test_lent_sockets_may_have_an_address_that_is_not_ours():
    """Made by who has the right; binding wants none (tests/netns/test_transparent.py has it with a real worker)."""
    if rights.missing_for_network():
        pytest.skip("needs NET_ADMIN and NET_RAW")
    for family, foreign in ((4, "192.0.2.7"), (6, "2001:db8::7")):
        lent = sockets.make_lendable(family, 3)
        assert len(lent) == 3
        for sock in lent:
            with sock:
                sock.bind((foreign, 0))
                assert not sock.getblocking()
