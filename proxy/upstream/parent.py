"""Asks a proxy for a tunnel over a connection to it, and takes its answer off without a byte of what follows.

What comes behind the head of a 2xx belongs to the client (RFC 9110 §9.3.6), so no more is taken from the socket than
that head. Which proxy is asked, and whether another is when it refuses, is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import re
import socket
from typing import TYPE_CHECKING

from proxy import errors
from proxy.errors import Failure

if TYPE_CHECKING:
    from proxy.exchange import Origin

PARENT_WANTS_LOGIN = 407
MOST = 64 * 2**10  # bytes of an answer's head
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})[ \r]")
_END = b"\r\n\r\n"


async def ask_parent(sock: socket.socket, head: bytes, name: str, patience: float) -> None:
    """The proxy at the other end of this non-blocking socket has opened the tunnel; Failure otherwise."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(patience):
            await loop.sock_sendall(sock, head)
            answer = await _take_head(loop, sock, name)
    except TimeoutError as exc:
        raise Failure(errors.FIRST_BYTE_TIMEOUT, name) from exc
    except OSError as exc:
        raise Failure(errors.UPSTREAM_CLOSED, f"{name}: {exc.strerror or exc}") from exc
    status = _STATUS.match(answer)
    if status is None:
        raise Failure(errors.BAD_RESPONSE, f"{name}: no answer to CONNECT")
    if int(status[1]) == PARENT_WANTS_LOGIN:
        raise _challenged(name)
    if not status[1].startswith(b"2"):
        raise Failure(errors.PARENT_REFUSED, f"{name}: {status[1].decode()} to CONNECT")


def refuse_challenge(peer: Origin) -> None:
    """A parent that wants a login wants it from us: the client has none to give, and must not be asked for it (RFC 9110
    §15.5.8). Raises Failure where this peer is one.
    """
    if peer.parent is not None:
        raise _challenged(peer.address)


def _challenged(name: str) -> Failure:
    return Failure(errors.PARENT_REFUSED, f"parent {name} wants a login, or another than it was told: see its `login`")


async def _take_head(loop: asyncio.AbstractEventLoop, sock: socket.socket, name: str) -> bytes:
    head = b""
    while len(head) < MOST:
        await _wait_readable(loop, sock)
        try:
            seen = sock.recv(MOST, socket.MSG_PEEK)
        except BlockingIOError:
            continue
        if not seen:
            raise Failure(errors.UPSTREAM_CLOSED, f"{name} closed instead of an answer")
        end = (head + seen).find(_END, max(0, len(head) - len(_END)))
        head += sock.recv(len(seen) if end < 0 else end + len(_END) - len(head))
        if end >= 0:
            return head
    raise Failure(errors.RESPONSE_HEAD_TOO_LARGE, f"{name}: answer to CONNECT")


async def _wait_readable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    ready = loop.create_future()
    loop.add_reader(sock.fileno(), lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(sock.fileno())
