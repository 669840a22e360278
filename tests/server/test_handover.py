"""Descriptors change hands once: what is unsent goes first, and whoever leaves meanwhile takes nothing with him."""

from __future__ import annotations

import asyncio
import socket

import pytest

from proxy.exchange import Client
from proxy.server.handover import Handover
from tests.kit.inproc import Stack

TEXT = '[[site]]\nlisten = "127.0.0.1:PORT0"\nupstream = "127.0.0.1:9"\n'
ANSWER = b"HTTP/1.1 200 OK\r\n\r\n"
MUCH = 8 * 2**20  # more than the kernel takes between two sockets


class Leaver(asyncio.Protocol):
    """A client's connection that has said `early` behind its request."""

    holding = 0
    trusted: frozenset[str] = frozenset()

    def __init__(self):
        self.client = Client("127.0.0.1", 1, ("127.0.0.1", 2), b"http", 0)
        self.live = None
        self.handing = None
        self.over = []

    def connection_made(self, transport):
        self.wire = transport
        transport.pause_reading()

    def resume_writing(self):
        assert self.handing.sent()

    def connection_lost(self, exc):
        self.handing.lost()

    def leave(self):
        return b"early"

    def became(self, live):
        self.live = live

    def tunnel_over(self):
        self.over.append("leaver")

    def let_go(self): ...


@pytest.fixture
def stack():
    with Stack(TEXT) as stack:
        yield stack


@pytest.fixture
def ends(stack):
    """The far ends of a client and an origin, and what stands between them here."""
    client, near = socket.socketpair()
    origin, far = socket.socketpair()
    for end in (near, far):
        end.setblocking(False)
    for end in (client, origin):
        end.settimeout(10)
    leaver = Leaver()

    async def connect():
        await asyncio.get_running_loop().create_connection(lambda: leaver, sock=near)

    stack.run(connect())
    leaver.handing = Handover(stack.front, leaver, leaver.wire, far, 30.0, lambda *told: leaver.over.append(told))
    yield client, origin, far, leaver
    client.close()
    origin.close()


def read_to_end(sock):
    parts = []
    while part := sock.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)


def test_the_answer_and_what_was_sent_ahead_go_first_and_the_end_is_told_once(stack, ends):
    client, origin, _, leaver = ends
    stack.call(lambda: leaver.handing.begin(ANSWER))
    assert client.recv(len(ANSWER)) == ANSWER
    assert origin.recv(5) == b"early"
    origin.sendall(b"hello")
    origin.shutdown(socket.SHUT_WR)
    assert read_to_end(client) == b"hello"
    client.close()
    stack.wait(lambda: leaver.over)
    assert leaver.over == [(5, 5, None), "leaver"]


def test_what_is_unsent_goes_before_the_answer(stack, ends):
    client, origin, _, leaver = ends

    def begin():
        leaver.wire.write(b"x" * MUCH)
        assert leaver.wire.get_write_buffer_size()
        leaver.handing.begin(ANSWER)

    stack.call(begin)
    assert leaver.live is None
    origin.shutdown(socket.SHUT_WR)
    assert read_to_end(client) == b"x" * MUCH + ANSWER
    client.close()
    stack.wait(lambda: leaver.over)


def test_a_client_that_leaves_while_it_is_waited_for_leaves_no_descriptor(stack, ends):
    client, _, far, leaver = ends

    def begin():
        leaver.wire.write(b"x" * MUCH)
        leaver.handing.begin(ANSWER)

    stack.call(begin)
    client.close()
    stack.wait(lambda: far.fileno() < 0)
    assert (leaver.live, leaver.over) == (None, [])
