"""What the supervisor does for a gateway, with a gateway whose kernel is a string."""

from __future__ import annotations

import errno
import os

import pytest

from proxy import bus
from proxy.beats import EVERY, MISSED
from proxy.firewall.gateway import Gateway
from proxy.firewall.nftables import FirewallError
from proxy.interception import Interception
from tests.firewall.conftest import options


class Paper(Gateway):
    """The table that it wants is in place at once, unless it is to be refused."""

    def __init__(self):
        super().__init__()
        self.refused = False
        self.unsent = False

    def _settle(self):
        if self.refused:
            raise FirewallError("not today")
        self._in_place = self._fitting()

    def has_unsent(self):
        return self.unsent

    def close(self):
        self._in_place = ""


@pytest.fixture
def gateway():
    return Paper()


@pytest.fixture
def interception(gateway):
    return Interception(gateway)


def taking(interception):
    return interception.describe()["state"]


def look(interception, turns, beats, start=0.0):
    """Whether anything has changed, at each of this many looks."""
    return [interception.look(lambda: beats, start + turn * EVERY) for turn in range(turns)]


def test_without_transparent_mode_nothing_is_due_told_or_looked_at(interception):
    interception.adopt(None)
    interception.serve(serving=True)
    assert interception.due is None
    assert interception.describe() is None
    assert not interception.look(lambda: pytest.fail("nobody asked for beats"), 5.0)
    interception.end()
    assert interception.may_leave(5.0)
    interception.close()


def test_connections_are_taken_while_workers_serve_and_not_any_more_when_it_ends(interception):
    interception.adopt(options())
    assert taking(interception) == "direct"
    interception.serve(serving=True)
    assert taking(interception) == "taking"
    interception.end()
    assert taking(interception) == "direct"


@pytest.mark.parametrize(
    ("fail", "state", "words"), [("open", "direct", "goes past us"), ("closed", "taking", "waits for it")]
)
def test_a_worker_that_hangs_is_told_once_with_what_becomes_of_its_clients(interception, capfd, fail, state, words):
    interception.adopt(options(fail=fail))
    interception.serve(serving=True)
    assert look(interception, MISSED + 3, {"worker-0": 7}) == [turn == MISSED for turn in range(MISSED + 3)]
    interception.serve(serving=True)
    assert taking(interception) == state
    assert capfd.readouterr().err.count(f"worker-0 hangs; what [transparent] takes {words}") == 1
    assert look(interception, 1, {"worker-0": 8}, start=60.0) == [True]
    interception.serve(serving=True)
    assert taking(interception) == "taking"


def test_beats_are_looked_at_when_it_is_time_and_not_before(interception):
    interception.adopt(options())
    interception.look(lambda: {"worker-0": 1}, 10.0)
    assert interception.due == 10.0 + EVERY
    assert not interception.look(lambda: pytest.fail("too early"), 10.0 + EVERY / 2)


def test_what_the_kernel_refuses_is_told_and_ends_nothing(interception, gateway, capfd):
    gateway.refused = True
    interception.adopt(options())
    interception.serve(serving=True)
    assert capfd.readouterr().err.count("transparent: not today") == 2
    assert taking(interception) == "direct"
    gateway.refused = False
    interception.serve(serving=True)
    assert taking(interception) == "taking"


def test_the_end_waits_for_last_bytes_to_clients_but_not_for_ever(interception, gateway):
    interception.adopt(options())
    interception.serve(serving=True)
    interception.end()
    look(interception, 1, {}, start=100.0)
    gateway.unsent = True
    assert not interception.may_leave(100.0)
    assert 100.0 < interception.due < 100.0 + EVERY, "sooner than beats are looked at"
    gateway.unsent = False
    assert interception.may_leave(100.1)
    gateway.unsent = True
    assert not interception.may_leave(104.0)
    assert interception.may_leave(105.0), "a client that takes nothing is not waited for"


def borrow(interception, count):
    """What was lent: messages, how many sockets with each, and that they are closed here afterwards."""
    sent = []

    def send(message, fds):
        assert all(os.fstat(fd) for fd in fds)
        sent.append((message, fds))

    interception.lend(bus.Borrow(4, count), send)
    for _, fds in sent:
        for fd in fds:
            with pytest.raises(OSError) as closed:
                os.fstat(fd)
            assert closed.value.errno == errno.EBADF
    return [(message, len(fds)) for message, fds in sent]


def test_sockets_are_lent_with_spoof_alone_and_a_few_at_a_time(interception):
    assert borrow(interception, 2) == []
    interception.adopt(options())
    assert borrow(interception, 2) == []
    interception.adopt(options(method="tproxy", spoof=True))
    ((message, count),) = borrow(interception, 1)
    assert (message, count) == (bus.Lend(4), 1)
    ((_, count),) = borrow(interception, 1000)
    assert 1 <= count <= 64
    interception.adopt(None)
    assert borrow(interception, 2) == []
