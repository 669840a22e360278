"""The control channel between supervisor and child: whole messages with the descriptors that belong to them.

A socketpair of SOCK_SEQPACKET keeps message and descriptors together and needs no reassembly. Neither end ever waits:
a send that finds the buffer full is reported, and the supervisor takes such a child for hung. End of file means that
the other process is gone. Big content travels as a memfd, beside the message.
"""

from __future__ import annotations

import array
import os
import socket
from typing import TYPE_CHECKING, Final

from proxy import bus

if TYPE_CHECKING:
    from collections.abc import Sequence

_BATCH: Final = 250  # descriptors beside one packet; the kernel's SCM_MAX_FD is 253
_MAX_ATTACHED: Final = 8192  # descriptors of one message in all
_INT: Final = array.array("i").itemsize


class ClosedError(Exception):
    """The other end is gone."""


class Channel:
    """One end; `receive` and `send` never block."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._attached: list[int] = []
        sock.setblocking(False)

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, message: bus.ToChild | bus.ToSupervisor, fds: Sequence[int] = ()) -> bool:
        """Whether the message is on its way. False: the other end has not read for long, or is gone."""
        head, tail = fds[:-_BATCH], fds[-_BATCH:]
        try:
            for start in range(0, len(head), _BATCH):
                self._send(bus.Attach(), head[start : start + _BATCH])
            self._send(message, tail)
        except OSError:
            return False
        return True

    def send_bytes(self, data: bytes, fds: Sequence[int] = ()) -> bool:
        """The same for a message of another language, with few descriptors."""
        try:
            self._send_bytes(data, fds)
        except OSError:
            return False
        return True

    def _send(self, message: bus.ToChild | bus.ToSupervisor, fds: Sequence[int]) -> None:
        self._send_bytes(bus.encode_control(message), fds)

    def _send_bytes(self, data: bytes, fds: Sequence[int]) -> None:
        socket.send_fds(self._sock, [data], fds) if fds else self._sock.send(data)

    def receive(self) -> tuple[bytes, list[int]] | None:
        """The next message's bytes with its descriptors; None if there is none yet. Raises ClosedError at the end."""
        while True:
            try:
                data, fds, flags = self._receive()
            except BlockingIOError:
                return None
            except ConnectionError as exc:
                raise ClosedError from exc
            self._attached += fds
            if not data:
                raise ClosedError
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(self._attached) > _MAX_ATTACHED:
                raise bus.BadFrameError("a control message lost a part on its way")
            if data == _ATTACH:
                continue
            attached, self._attached = self._attached, []
            return data, attached

    def _receive(self) -> tuple[bytes, list[int], int]:
        # Not socket.recv_fds: CPython's drops its flags argument.
        room = socket.CMSG_SPACE((_BATCH + 3) * _INT)
        data, ancillary, flags, _ = self._sock.recvmsg(bus.MAX_CONTROL, room, socket.MSG_CMSG_CLOEXEC)
        fds = array.array("i")
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(content[: len(content) - len(content) % _INT])
        return data, fds.tolist(), flags

    def close(self) -> None:
        for fd in self._attached:
            os.close(fd)
        self._attached = []
        self._sock.close()


_ATTACH: Final = bus.encode_control(bus.Attach())


def pair() -> tuple[Channel, socket.socket]:
    """The supervisor's end, and the child's to be inherited; both are closed by exec unless passed on."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * bus.MAX_CONTROL)
    return Channel(ours), theirs
