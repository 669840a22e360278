"""ha as the supervisor has it: its orders, its news, and that its will is carried out when it is reaped."""

import mmap
import os
import queue
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ha import liveness, orders
from proxy import bus, channel, parcel
from proxy.channel import Channel
from proxy.keeper import Keeper, Witness
from proxy.process import News, Wish
from proxy.rights import Identity
from proxy.sockets import HA

ROOT = Path(__file__).resolve().parent.parent


class Notary:
    """In place of the executor."""

    def __init__(self, held):
        self.held = held
        self.wills = []

    def carry_out(self, will, links):
        self.wills.append(will)
        return self.held


@pytest.fixture
def keeper():
    one = Keeper("ha", HA, "", executor=Notary(["vip-51"]))
    ours, theirs = channel.pair()
    one.control = ours
    theirs.setblocking(False)
    yield one, theirs
    theirs.close()
    if one.control is not None:
        one.control.close()


def test_orders_are_the_others_messages_in_its_own_language(keeper):
    one, theirs = keeper
    for message, order in (
        (bus.Commit(3), orders.Commit(3)),
        (bus.Abort(4), orders.Abort(4)),
        (bus.Drain(0.25), orders.Stop(0.25)),
    ):
        assert one.send(message)
        assert orders.decode_to_ha(orders.receive(theirs)[0]) == order
    assert one.send(bus.ReopenLogs())
    assert orders.receive(theirs) is None


def test_it_gets_the_text_and_the_secret_and_nothing_else_of_a_parcel(keeper):
    one, theirs = keeper
    box = parcel.Parcel(b"[ha]", "t.toml", {"page.html": b"no business of its"}, "/etc", "/run/t")
    content, secret = parcel.seal("a", parcel.encode(box)), parcel.seal("b", b"s3cret")
    assert one.send(bus.Prepare(2, "digest", (), ("ha.key",)), [content, secret])
    data, fds = orders.receive(theirs)
    assert orders.decode_to_ha(data) == orders.Prepare(2, "digest", "t.toml", "/run/t", "/etc")
    assert [parcel.unseal(fd) for fd in fds] == [b"[ha]", b"s3cret"]
    for fd in (content, secret, *fds):
        os.close(fd)


def test_what_it_says_is_what_the_others_say_or_news(keeper):
    one, theirs = keeper
    standing = orders.Standing("vip-51", 4, 51, ("192.168.8.100/24",), "backup", "")
    will = orders.Will((orders.Bequest("vip-51", (b"x",), ()),))
    for message in (
        orders.Prepared(1),
        orders.Refused(2, "no such interface"),
        orders.Ready(1),
        orders.Hush(True),
        orders.Standings((standing,)),
        will,
    ):
        assert orders.send(theirs, message)
    heard = [one.receive() for _ in range(6)]
    assert heard == [bus.Prepared(1), bus.Refused(2, "no such interface"), bus.Ready(1), Wish(True), News(), News()]
    assert one.receive() is None
    assert one.will == will
    assert one.describe()[0]["state"] == "backup"


def test_junk_from_it_is_told_as_such(keeper):
    one, theirs = keeper
    theirs.send(b"junk")
    with pytest.raises(bus.BadFrameError):
        one.receive()


def test_its_will_is_carried_out_when_it_is_reaped(keeper):
    one, _ = keeper
    one.will = will = orders.Will((orders.Bequest("vip-51", (b"x",), ()),))
    one.popen = subprocess.Popen([sys.executable, "-c", ""])
    one.pidfd = os.pidfd_open(one.popen.pid)
    one.popen.wait()
    assert one.reap() == "exit 0; let go of vip-51 in its place"
    assert one.executor.wills == [will]
    assert not one.alive


def test_a_will_that_was_carried_out_at_its_death_is_not_carried_out_again(keeper):
    one, _ = keeper
    one.will = will = orders.Will((orders.Bequest("vip-51", (b"x",), ()),))
    one.popen = subprocess.Popen([sys.executable, "-c", ""])
    one.pidfd = os.pidfd_open(one.popen.pid)
    one.popen.wait()
    one.carry_out()
    one.executor.held = []
    assert one.reap() == "exit 0; let go of vip-51 in its place"
    assert one.executor.wills == [will, orders.Will()]


LARGE = """
import mmap, sys
from ha import liveness
life = liveness.Life(memoryview(mmap.mmap(int(sys.argv[1]), 0)))
memory = bytearray(b"x") * (400 << 20)
print("held", flush=True)
sys.stdin.read()
life.release()
"""


def start_holder(fd):
    holder = subprocess.Popen(
        [sys.executable, "-c", LARGE, str(fd)],
        pass_fds=[fd],
        env={"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"held\n"
    return holder


def test_its_death_is_known_before_its_memory_is_free_and_a_good_end_is_none():
    fd = os.memfd_create("page")
    os.ftruncate(fd, liveness.PAGE)
    page = memoryview(mmap.mmap(fd, liveness.PAGE))
    liveness.initialise(page)
    deaths = queue.Queue()
    witness = Witness(page, lambda: deaths.put(time.monotonic()))
    try:
        ahead = []
        for _ in range(3):  # a machine that stands still tells both at the same time
            with start_holder(fd) as holder:
                pidfd = os.pidfd_open(holder.pid)
                holder.kill()
                select.select([pidfd], [], [])
                ended = time.monotonic()
                os.close(pidfd)
            ahead.append(ended - deaths.get(timeout=10))
        assert max(ahead) > 0.002
        with start_holder(fd) as holder:
            holder.stdin.close()
        assert holder.returncode == 0
        with pytest.raises(queue.Empty):
            deaths.get(timeout=0.1)
    finally:
        witness.stop()
        os.close(fd)


def test_its_links_are_shared_as_long_as_its_last_will_names_them_and_end_with_it(keeper):
    one, theirs = keeper
    one.executor = orders.Executor()
    ends = [socket.socketpair() for _ in range(3)]
    for left, _ in ends:
        orders.send(theirs, orders.Will(), [left.fileno()])
        one.receive()
        left.close()
    orders.send(theirs, orders.Standings(()), [0])  # nothing that is not asked for stays open
    one.receive()
    rights = [right for _, right in ends]
    assert [right.recv(1) for right in rights[:2]] == [b"", b""]
    rights[2].setblocking(False)
    with pytest.raises(BlockingIOError):
        rights[2].recv(1)
    one.carry_out()
    assert rights[2].recv(1) == b""
    assert one.links == []
    one.executor.close()
    for right in rights:
        right.close()


def test_its_command_names_whom_it_becomes(keeper):
    one, _ = keeper
    one.identity = Identity("tandem", 123, 456)
    words = one._command(5, 6)
    assert words[-1] == "--gid=456"
    assert "--uid=123" in words
    assert words[words.index("-m") + 1] == "ha"


def test_channels_carry_bytes_of_another_language():
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    one, other = Channel(left), Channel(right)
    assert one.send_bytes(b"anything")
    assert other.receive() == (b"anything", [])
    other.close()
    assert not one.send_bytes(b"anything")
    one.close()
