"""Sockets of a process that nobody serves are closed and opened again where they were."""

from __future__ import annotations

import itertools
import socket

import pytest

from config import load
from proxy import sockets
from proxy.closed import ClosedListeners
from proxy.sockets import ADMIN
from tests.kit.instance import can_connect, free_port


@pytest.fixture
def opened():
    """Those of one worker and of admin, and what closes whatever stands in their place at the end."""
    text = f'[[site]]\nlisten = "127.0.0.1:{free_port()}"\nupstream = "127.0.0.1:1"\n[process]\nworkers = 1\n'
    text += f'[admin]\nlisten = "127.0.0.1:{free_port()}"\n'
    held = sockets.open_missing(load.accept(text.encode(), "test"), {}, itertools.count(1))
    everything = [held]
    yield held, everything
    for one in everything:
        sockets.close(one, spare={})


def port_of(held, index):
    ((_, one),) = sockets.of_process(held, index)
    return one.address[1]


def test_only_its_own_sockets_are_closed_and_they_come_back_on_their_ports(opened):
    held, everything = opened
    closed = ClosedListeners(itertools.count(100))
    gone, stays = port_of(held, 0), port_of(held, ADMIN)
    rest = closed.close(0, held)
    assert [place.index for place in rest] == [ADMIN]
    assert not can_connect(gone)
    assert can_connect(stays)
    again = closed.reopen(0, rest)
    everything.append(again)
    assert port_of(again, 0) == gone
    assert port_of(again, ADMIN) == stays
    assert can_connect(gone)
    assert {one.serial for _, one in sockets.of_process(again, 0)} == {100}, "another socket has another number"
    assert closed.reopen(0, again) == again, "it is opened once"


def test_a_try_whose_port_is_taken_meanwhile_changes_nothing_and_the_next_one_may_succeed(opened):
    held, everything = opened
    closed = ClosedListeners(itertools.count(100))
    gone = port_of(held, 0)
    rest = closed.close(0, held)
    with socket.socket() as foreign:
        foreign.bind(("127.0.0.1", gone))
        foreign.listen()
        before = dict(rest)
        with pytest.raises(sockets.PortError, match=str(gone)):
            closed.reopen(0, rest)
        assert rest == before
        assert can_connect(port_of(rest, ADMIN))
    again = closed.reopen(0, rest)
    everything.append(again)
    assert can_connect(gone)


def test_what_is_forgotten_is_not_opened_again(opened):
    held, _ = opened
    closed = ClosedListeners(itertools.count(100))
    rest = closed.close(0, held)
    closed.forget()
    assert closed.reopen(0, rest) == rest
