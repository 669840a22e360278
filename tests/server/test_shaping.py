"""Shares of a class: fair, within its rate, and kept by the kernel."""

import contextlib
import socket
import struct
import threading
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.server.shaping import LEAST, TICK, Shaper, share

rates = st.lists(st.floats(0, 1e7), min_size=1, max_size=20)


@given(budget=st.floats(1e5, 1e8), used=rates)
def test_together_they_get_the_budget_and_nobody_less_than_another_who_uses_as_much(budget, used):
    shares = share(budget, used)
    assert sum(shares) == pytest.approx(budget, rel=1e-6) or LEAST in shares
    assert all(one >= LEAST for one in shares)
    order = sorted(range(len(used)), key=used.__getitem__)
    assert all(shares[a] <= shares[b] * (1 + 1e-9) + 1 for a, b in pairwise(order))


def test_who_uses_little_leaves_the_rest_to_those_who_want_more():
    little, much, more = share(900_000, [1000, 400_000, 500_000])
    assert little < 50_000
    assert much == pytest.approx(more)
    assert much > 420_000


@contextlib.contextmanager
def receivers(count):
    """(sockets to send on, bytes that each receiver has got)."""
    got = [0] * count
    with contextlib.ExitStack() as ends:
        listener = ends.enter_context(socket.create_server(("127.0.0.1", 0)))
        senders = []

        def receive(sock, at):
            with sock, contextlib.suppress(OSError):
                while part := sock.recv(1 << 20):
                    got[at] += len(part)

        threads = []
        for at in range(count):
            client = socket.create_connection(listener.getsockname())
            senders.append(ends.enter_context(listener.accept()[0]))
            threads.append(threading.Thread(target=receive, args=(client, at), daemon=True))
            threads[-1].start()
        yield senders, got
        for sender in senders:  # a reset: what is still to be paced is of no interest
            with contextlib.suppress(OSError):
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sender.close()
        for thread in threads:
            thread.join(10)


def flood(shaper, senders, got, seconds):
    """What each receiver got in this time, everybody sending as fast as the kernel takes it."""
    for sender in senders:
        sender.setblocking(False)
    before, end, ticked = list(got), time.monotonic() + seconds, time.monotonic()
    while (now := time.monotonic()) < end:
        for sender in senders:
            with contextlib.suppress(BlockingIOError):
                sender.send(b"x" * 65536)
        if now - ticked >= TICK:
            shaper.tick()
            ticked = now
        time.sleep(0.002)
    return [after - first for first, after in zip(before, got, strict=True)]


@pytest.mark.slow
def test_connections_of_a_class_keep_its_rate_together_and_share_it():
    rate = 2_000_000
    with receivers(3) as (senders, got):
        shaper = Shaper(time.monotonic)
        shaper.configure({"guests": rate})
        for sender in senders:
            shaper.join(sender, "guests", sender)
        flood(shaper, senders, got, 1.5)  # what the kernel lets go first, and the debt for it
        received = flood(shaper, senders, got, 3.0)
        assert rate * 3 * 0.3 < sum(received) < rate * 3 * 1.4
        assert max(received) < 4 * min(received)


@pytest.mark.slow
def test_who_is_alone_has_the_whole_rate_and_who_leaves_the_class_is_free():
    with receivers(2) as (senders, got):
        shaper = Shaper(time.monotonic)
        shaper.configure({"guests": 1_000_000})
        for sender in senders:
            shaper.join(sender, "guests", sender)
        flood(shaper, senders[:1], got, 1.0)
        alone, idle = flood(shaper, senders[:1], got, 2.0)
        assert idle == 0
        assert 600_000 < alone < 3_000_000
        shaper.configure({})
        assert len(shaper) == 0
        assert flood(shaper, senders[:1], got, 0.5)[0] > 3_000_000


def test_a_class_that_is_not_there_shapes_nobody_and_a_socket_that_is_gone_harms_nobody():
    with receivers(1) as (senders, _):
        shaper = Shaper(time.monotonic)
        shaper.configure({"guests": 1_000_000})
        shaper.join("a", "strangers", senders[0])
        assert len(shaper) == 0
        shaper.join("a", "guests", senders[0])
        shaper.join("a", "guests", senders[0])
        assert len(shaper) == 1
        senders[0].close()
        shaper.tick()
        shaper.leave("a")
        shaper.leave("a")
        assert len(shaper) == 0
