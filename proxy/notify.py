"""What the service manager is told: one datagram for each change of state, as sd_notify(3) has it.

Nothing here fails or blocks: without `$NOTIFY_SOCKET`, or with nobody listening, the words go nowhere.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Notifier:
    """Tells the service manager; children do not inherit its variables (proxy/rights.py) and cannot speak for us."""

    def __init__(self, environment: Mapping[str, str], pid: int) -> None:
        self._address = _socket_name(environment.get("NOTIFY_SOCKET", ""))
        self.watchdog = _watchdog(environment, pid) if self._address else None  # seconds between two signs of life

    def ready(self, status: str) -> None:
        self._tell(f"READY=1\nSTATUS={status}\nMAINPID={os.getpid()}")

    def reloading(self) -> None:
        """The reload has begun; `ready` ends it, accepted or refused. The time pairs the two (sd_notify(3))."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def status(self, text: str) -> None:
        self._tell(f"STATUS={text}")

    def stopping(self) -> None:
        self._tell("STOPPING=1\nSTATUS=draining")

    def alive(self) -> None:
        self._tell("WATCHDOG=1")

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(text.encode(), self._address)


def _socket_name(value: str) -> str:
    """The address: a leading @ means the abstract namespace; anything but that or an absolute path is none."""
    if value.startswith("@"):
        return "\0" + value[1:]
    return value if value.startswith("/") else ""


def _watchdog(environment: Mapping[str, str], pid: int) -> float | None:
    """Half of the time after which the manager takes us for hung, as sd_watchdog_enabled(3) advises."""
    usec, whom = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", str(pid))
    if not (usec.isascii() and usec.isdigit()) or whom != str(pid):
        return None
    return int(usec) / 2e6 or None
