"""A proxy is asked for a tunnel: its answer's head is taken off the socket, and not a byte more."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest
import uvloop

from proxy import errors
from proxy.errors import Failure
from proxy.upstream.parent import MOST, ask_parent

ASKED = b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n"


def ask(*pieces, close=False, patience=5.0):
    """What became of it, what the parent was asked, and what is left on the socket behind its answer."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    heard = []

    def parent():
        heard.append(theirs.recv(4096))
        for piece in pieces:
            theirs.sendall(piece)
        if close:
            theirs.shutdown(socket.SHUT_WR)

    async def main():
        thread = threading.Thread(target=parent)
        thread.start()
        try:
            await ask_parent(ours, ASKED, "parent:3128", patience)
        except Failure as failure:
            return failure.kind
        finally:
            await asyncio.to_thread(thread.join)
        return None

    with ours, theirs:
        kind = uvloop.run(main())
        try:
            left = ours.recv(4096)
        except BlockingIOError:
            left = b""
        return kind, heard[0], left


def test_a_2xx_opens_the_tunnel_and_what_follows_it_stays_for_the_client():
    assert ask(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nhello") == (None, ASKED, b"hello")
    assert ask(b"HTTP/1.0 204 \r\n\r\n") == (None, ASKED, b"")


def test_the_answer_may_come_byte_by_byte():
    answer = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"
    assert ask(*(answer[at : at + 1] for at in range(len(answer))), b"\r\n\r\n")[0] is None


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", errors.PARENT_REFUSED),
        (b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\n\r\n", errors.PARENT_REFUSED),
        (b"HTTP/1.1 502 Bad\r\n\r\n", errors.PARENT_REFUSED),
        (b"SSH-2.0-x\r\n\r\n", errors.BAD_RESPONSE),
        (b"HTTP/1.1 2000 OK\r\n\r\n", errors.BAD_RESPONSE),
        (b"x" * (MOST + 1), errors.RESPONSE_HEAD_TOO_LARGE),
    ],
)
def test_every_other_answer_is_an_error(answer, kind):
    assert ask(answer)[0] is kind


def test_a_parent_that_closes_or_says_nothing_is_an_error():
    assert ask(b"HTTP/1.1 200", close=True)[0] is errors.UPSTREAM_CLOSED
    assert ask(patience=0.05)[0] is errors.FIRST_BYTE_TIMEOUT
