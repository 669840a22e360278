"""The pump between real sockets: exact bytes, ends in their order, bounds on what is held, nothing left over."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import socket
import threading
from contextlib import suppress
from itertools import pairwise

import pytest

from proxy import errors
from proxy.server import tunnel as module
from proxy.server.tunnel import BUFFER, PIPE, SHARE, TURN
from tests.kit.raw import TIMEOUT, wait_until
from tests.kit.tunnels import PumpThread, descriptors, read_all, reset, tcp_pair


@pytest.fixture
def pump():
    with PumpThread() as running:
        yield running


@pytest.fixture
def still():
    """Time stands still at 100."""
    with PumpThread(100.0) as running:
        yield running


@pytest.fixture(params=["pipes", "no pipes", "no splice"])
def any_pump(request, pump):
    """With pipes, where there are none left, and where the kernel does not splice."""
    if request.param == "no pipes":
        pump.call(lambda: setattr(pump.pump.pipes, "most", 0))
    elif request.param == "no splice":
        pump.call(lambda: setattr(pump.pump, "splices", False))
    return pump


def noise(seed, size):
    return random.Random(seed).randbytes(size)


def send_and_end(sock, data):
    """In a thread, since the other side may send meanwhile."""

    def send():
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


# ---- bytes -----------------------------------------------------------------------------------------------------------


def test_bytes_go_both_ways_at_once_and_none_is_lost(any_pump):
    up, down = noise(1, 20_000_000), noise(2, 30_000_000)
    laid = any_pump.lay()
    threads = [send_and_end(laid.client, up), send_and_end(laid.origin, down)]
    received = {}
    reader = threading.Thread(target=lambda: received.update(up=read_all(laid.origin)))
    reader.start()
    received["down"] = read_all(laid.client)
    for thread in (*threads, reader):
        thread.join(TIMEOUT)
    assert [hashlib.sha256(received[way][0]).digest() for way in ("up", "down")] == [
        hashlib.sha256(data).digest() for data in (up, down)
    ]
    assert received["up"][1] == received["down"][1] == "end"
    assert laid.over.result(TIMEOUT) == (len(up), len(down), None)


def test_small_pieces_arrive_one_by_one(any_pump):
    laid = any_pump.lay()
    for number in range(200):
        laid.client.sendall(b"question %d" % number)
        assert laid.origin.recv(100) == b"question %d" % number
        laid.origin.sendall(b"answer %d" % number)
        assert laid.client.recv(100) == b"answer %d" % number


def test_what_came_early_goes_first_and_what_we_say_is_not_counted_as_the_origins(any_pump):
    laid = any_pump.lay(early=b"early ", said=b"said ")
    laid.client.sendall(b"up")
    laid.origin.sendall(b"down")
    laid.client.shutdown(socket.SHUT_WR)
    laid.origin.shutdown(socket.SHUT_WR)
    assert read_all(laid.origin) == (b"early up", "end")
    assert read_all(laid.client) == (b"said down", "end")
    assert laid.over.result(TIMEOUT) == (8, 4, None)


def test_a_slow_reader_gets_all_of_it(any_pump):
    data = noise(3, 3_000_000)
    laid = any_pump.lay(buffer=4096)
    sender = send_and_end(laid.origin, data)
    got = bytearray()
    while len(got) < len(data):
        got += laid.client.recv(7001)
    sender.join(TIMEOUT)
    assert got == data


# ---- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["client", "origin"])
def test_a_half_close_is_passed_on_and_the_other_direction_goes_on(any_pump, first):
    laid = any_pump.lay()
    one, other = (laid.client, laid.origin) if first == "client" else (laid.origin, laid.client)
    one.sendall(b"last words")
    one.shutdown(socket.SHUT_WR)
    assert read_all(other) == (b"last words", "end")
    for number in range(5):
        other.sendall(b"still %d" % number)
        assert one.recv(100) == b"still %d" % number
    assert not laid.over.done()
    other.close()
    assert read_all(one) == (b"", "end")
    assert laid.over.result(TIMEOUT)[2] is None


def test_an_end_that_has_come_with_the_bytes_is_seen_behind_them(any_pump):
    """Both are one event of the kernel's, and the second must not be forgotten over the first."""
    client, near = tcp_pair()
    origin, far = tcp_pair()
    client.sendall(b"all at once")
    client.shutdown(socket.SHUT_WR)
    origin.close()
    laid = any_pump.lay_between(client, near, far, origin)
    assert read_all(client)[1] in {"end", "reset"}
    assert laid.over.result(TIMEOUT)[2] is None


@pytest.mark.parametrize("first", ["client", "origin"])
def test_a_reset_is_passed_on_as_a_reset(any_pump, first):
    laid = any_pump.lay()
    one, other = (laid.client, laid.origin) if first == "client" else (laid.origin, laid.client)
    one.sendall(b"words")
    assert other.recv(100) == b"words"
    reset(one)
    assert read_all(other) == (b"", "reset")
    assert laid.over.result(TIMEOUT)[2] is None


@pytest.mark.parametrize("first", ["client", "origin"])
def test_a_reset_is_seen_while_the_other_side_takes_nothing(any_pump, first):
    laid = any_pump.lay(buffer=4096)
    one, other = (laid.client, laid.origin) if first == "client" else (laid.origin, laid.client)
    fill(one)
    reset(one)
    assert laid.over.result(TIMEOUT)[2] is None
    assert read_all(other)[1] == "reset"


def fill(sock):
    """Sends until nothing more is taken, and stays so; how much that was."""
    sock.setblocking(False)
    sent = 0
    quiet = threading.Event()
    for _ in range(20):  # the pump and the kernel take some more, a little later
        while True:
            try:
                sent += sock.send(bytes(65536))
            except BlockingIOError:
                break
        quiet.wait(0.005)
    return sent


def test_a_tunnel_ends_when_nothing_has_moved_for_its_time(still):
    laid = still.lay(idle=30.0)
    laid.client.sendall(b"x")
    assert laid.origin.recv(1) == b"x"
    still.now = 125.0
    laid.client.sendall(b"y")
    assert laid.origin.recv(1) == b"y"
    still.call(bool)  # its turn of the loop is over
    still.now = 154.0
    still.turn_wheel()
    assert not laid.over.done()
    still.now = 156.0
    still.turn_wheel()
    received, sent, failure = laid.over.result(TIMEOUT)
    assert (received, sent, failure.kind) == (2, 0, errors.TUNNEL_IDLE)
    assert read_all(laid.client) == (b"", "end")
    assert read_all(laid.origin) == (b"", "end")


def test_a_tunnel_that_ends_with_bytes_in_it_ends_by_a_reset(still):
    """A plain close would look like the end of what the origin sent."""
    laid = still.lay(idle=30.0, buffer=4096)
    fill(laid.origin)
    still.now = 200.0
    still.turn_wheel()
    assert laid.over.result(TIMEOUT)[2].kind is errors.TUNNEL_IDLE
    assert read_all(laid.client)[1] == "reset"


def test_close_ends_all_tunnels(pump):
    laid = [pump.lay() for _ in range(5)]
    pump.call(pump.pump.close)
    for one in laid:
        assert one.over.result(TIMEOUT) == (0, 0, None)
        assert read_all(one.client) == (b"", "reset")


# ---- bounds ----------------------------------------------------------------------------------------------------------


def test_a_peer_that_never_reads_holds_no_more_than_a_buffer_or_a_pipe(any_pump):
    laid = any_pump.lay(buffer=4096)
    fill(laid.origin)

    def held():
        down = laid.live.down
        return len(down.held), down.inside

    held, inside = any_pump.call(held)
    assert held <= BUFFER
    assert inside <= PIPE
    assert any_pump.call(lambda: any_pump.pump.pipes.made) <= 1


def test_an_idle_tunnel_holds_two_descriptors_and_no_pipe(pump):
    before = descriptors()
    laid = pump.lay()
    assert descriptors() - before <= 5  # two ends here, two there, and the epoll of all
    data = noise(5, 5_000_000)
    sender = threading.Thread(target=laid.origin.sendall, args=(data,))
    sender.start()
    got = b""
    while len(got) < len(data):
        got += laid.client.recv(1 << 20)
    sender.join(TIMEOUT)
    pump.wait(lambda: laid.live.down.pipe is None, "the pipe goes back")
    assert pump.call(lambda: (pump.pump.pipes.made, laid.live.holding)) == (1, 0)
    more = [pump.lay() for _ in range(20)]
    assert descriptors() - before <= 7 + 4 * len(more)


def test_pipes_are_bounded_and_who_gets_none_is_served_all_the_same(pump):
    pump.call(lambda: setattr(pump.pump.pipes, "most", 2))
    data = noise(6, 2_000_000)
    laid = [pump.lay() for _ in range(8)]
    senders = [send_and_end(one.origin, data) for one in laid]
    results = {}
    readers = [threading.Thread(target=lambda one=one: results.update({one: read_all(one.client)})) for one in laid]
    for thread in readers:
        thread.start()
    for thread in (*senders, *readers):
        thread.join(TIMEOUT)
    assert all(results[one] == (data, "end") for one in laid)
    assert pump.call(lambda: pump.pump.pipes.made) <= 2


def test_where_the_kernel_refuses_to_splice_bytes_are_copied(pump, monkeypatch):
    def refuse(*_, **__):  # no socket of ours refuses it
        raise OSError(errno.EINVAL, "refused")

    monkeypatch.setattr(module.os, "splice", refuse)
    data = noise(7, 2_000_000)
    laid = pump.lay()
    sender = send_and_end(laid.origin, data)
    assert read_all(laid.client) == (data, "end")
    sender.join(TIMEOUT)
    assert pump.call(lambda: pump.pump.splices) is False


def test_in_one_turn_of_the_loop_no_more_moves_than_may(pump, monkeypatch):
    """So that whoever else is served in this loop waits a millisecond at most, and another tunnel for a share."""
    shares = []
    work = module.LiveTunnel.work

    def counted(tunnel):
        before = tunnel.down.moved
        more = work(tunnel)
        shares.append(tunnel.down.moved - before)
        return more

    monkeypatch.setattr(module.LiveTunnel, "work", counted)
    laid = [pump.lay() for _ in range(4)]
    stop = threading.Event()
    threads = []
    for one in laid:
        threads.append(threading.Thread(target=keep_sending, args=(one.origin, stop)))
        threads.append(threading.Thread(target=keep_reading, args=(one.client, stop)))
    for thread in threads:
        thread.start()
    seen = []
    pump.each_turn(lambda: seen.append([one.live.down.moved for one in laid]), 500)
    stop.set()
    for one in laid:
        one.close()
    for thread in threads:
        thread.join(TIMEOUT)
    steps = [[b - a for a, b in zip(old, new, strict=True)] for old, new in pairwise(seen)]
    assert seen[-1] != seen[0]
    assert max(sum(step) for step in steps) <= 2 * TURN + 2 * SHARE  # news and what was left may share a turn
    assert 0 < max(shares) <= SHARE + PIPE  # a tunnel that is ready alone has several in a turn


def keep_sending(sock, stop):
    data = bytes(1 << 20)
    try:
        while not stop.is_set():
            sock.sendall(data)
    except OSError:
        pass


def keep_reading(sock, stop):
    try:
        while not stop.is_set() and sock.recv(1 << 20):
            pass
    except OSError:
        pass


def test_a_fault_in_one_tunnel_ends_it_alone(pump):
    one, other = pump.lay(), pump.lay()

    def break_it():
        one.live.up.source = None  # whatever it is that we got wrong

    pump.call(break_it)
    one.client.sendall(b"x")
    wait_until(lambda: pump.complaints)
    assert one.over.result(TIMEOUT)[2] is None
    pump.complaints.clear()
    other.client.sendall(b"x")
    assert other.origin.recv(1) == b"x"


# ---- chance ----------------------------------------------------------------------------------------------------------


class EndOf:
    """One end of a tunnel in a random course of events: what it has sent and got."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.setblocking(False)
        self.sent = bytearray()
        self.got = bytearray()
        self.ended = self.gone = False
        self.seen = ""

    def send(self, data):
        if not self.ended and not self.gone and self.seen != "reset":
            try:
                count = self.sock.send(data)
            except BlockingIOError:
                return
            except (ConnectionResetError, BrokenPipeError):
                self.seen = "reset"
                return
            self.sent += data[:count]

    def read(self, size):
        if self.gone or self.seen:
            return
        try:
            data = self.sock.recv(size)
        except BlockingIOError:
            return
        except ConnectionResetError:
            self.seen = "reset"
            return
        self.got += data
        if not data:
            self.seen = "end"

    def read_to_end(self):
        if not self.gone:
            self.sock.settimeout(TIMEOUT)
            while not self.seen:
                self.read(1 << 20)

    def half_close(self):
        if not self.ended and not self.gone and self.seen != "reset":
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:
                return
            self.ended = True

    def reset(self):
        if not self.gone:
            self.gone = True
            reset(self.sock)


def one_course(pump, seed):
    """Random sends, reads, half-closes and perhaps a reset; then all is read to the end."""
    chance = random.Random(seed)
    laid = pump.lay(buffer=chance.choice([0, 4096, 65536]))
    ends = [EndOf(laid.client), EndOf(laid.origin)]
    resets = chance.random() < 0.4
    for _ in range(chance.randrange(5, 60)):
        end = chance.choice(ends)
        match chance.randrange(12):
            case 0 | 1 | 2:
                end.send(chance.randbytes(chance.randrange(1, 200)))
            case 3 | 4:
                end.send(chance.randbytes(chance.randrange(1, 300_000)))
            case 5 | 6 | 7 | 8:
                end.read(chance.choice([1, 1000, 300_000]))
            case 9 if chance.random() < 0.3:
                end.half_close()
            case 10 if resets and chance.random() < 0.3:
                end.reset()
            case _:
                pass
    was_reset = any(end.gone for end in ends)

    for end in ends:
        end.half_close()
    readers = [threading.Thread(target=end.read_to_end) for end in ends]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(TIMEOUT)
    received, sent, failure = laid.over.result(TIMEOUT)
    client, origin = ends
    if was_reset:
        assert client.sent.startswith(origin.got), seed
        assert origin.sent.startswith(client.got), seed
    else:
        assert (origin.got, client.got) == (client.sent, origin.sent), seed
        assert (received, sent) == (len(client.sent), len(origin.sent)), seed
    assert failure is None
    for end in ends:
        if not end.gone:
            assert end.seen == ("reset" if was_reset else "end") or was_reset, seed
    laid.close()


def test_random_courses_of_events_lose_nothing_and_leave_nothing(any_pump):
    one_course(any_pump, 0)
    before = descriptors()
    pipes = any_pump.call(lambda: any_pump.pump.pipes.made)
    for seed in range(1, 60):
        one_course(any_pump, seed)
    assert any_pump.call(lambda: len(any_pump.pump.tunnels)) == 0
    assert any_pump.call(lambda: len(any_pump.wheel)) == 0
    made = any_pump.call(lambda: any_pump.pump.pipes.made)
    assert descriptors() - before <= 2 * (made - pipes)


@pytest.mark.long
def test_many_random_courses(any_pump):
    for _ in range(1500):
        one_course(any_pump, int.from_bytes(os.urandom(6), "big"))


def test_two_hundred_tunnels_with_slow_ends_at_once(pump):
    """Each has its own bytes; they are read a little at a time."""
    count, size = 200, 60_000
    laid = [pump.lay(buffer=4096) for _ in range(count)]
    datas = [noise(number, size) for number in range(count)]
    got = [bytearray() for _ in laid]
    sent = [0] * count
    for one in laid:
        one.client.setblocking(False)
        one.origin.setblocking(False)

    def step():
        for number, one in enumerate(laid):
            data = datas[number]
            try:
                if sent[number] < size:
                    sent[number] += one.origin.send(data[sent[number] : sent[number] + 5000])
                    if sent[number] == size:
                        one.origin.shutdown(socket.SHUT_WR)
            except BlockingIOError:
                pass
            with suppress(BlockingIOError):
                got[number] += one.client.recv(3000)
        return all(len(one) == size for one in got)

    wait_until(step, deadline=60)
    assert all(bytes(mine) == theirs for mine, theirs in zip(got, datas, strict=True))
