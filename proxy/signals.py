"""Signals, and the end of work in a thread, as something that can be read: they wake whoever waits in a selector.

The handlers do nothing, so no signal comes between two lines of code. Invariant: what has been sent is taken once, in
order.
"""

from __future__ import annotations

import signal
import socket
from contextlib import suppress
from typing import Final

CAUGHT: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
WAKE: Final = 0  # no signal: a thread is through


class Signals:
    """For the main thread's selector; of one process there is one."""

    def __init__(self) -> None:
        self._sending, self._taking = socket.socketpair()
        for end in (self._sending, self._taking):
            end.setblocking(False)

    def fileno(self) -> int:
        return self._taking.fileno()

    def catch(self) -> None:
        """From now on they come here, and do nothing else."""
        signal.set_wakeup_fd(self._sending.fileno(), warn_on_full_buffer=False)
        for number in CAUGHT:
            signal.signal(number, lambda *_: None)

    def wake(self) -> None:
        """From any thread."""
        with suppress(BlockingIOError):  # full of others: it wakes as it is
            self._sending.send(bytes([WAKE]))

    def take(self) -> bytes:
        """The numbers of those that have come."""
        try:
            return self._taking.recv(4096)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """They go nowhere any more."""
        signal.set_wakeup_fd(-1)
        self._sending.close()
        self._taking.close()
