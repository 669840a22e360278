"""One child as the supervisor has it: starting it, its channel, its pidfd, its state; no decision is made here.

Children are started by exec, with two descriptors: their end of the control channel and the shared memory. All else is
closed on exec.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from proxy import bus, channel, rights
from proxy.restarts import Restarts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from config.units import MonoTime
    from proxy.rights import Identity

_MASKED: Final = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)  # until the child ignores them: a terminal's Ctrl-C


class State(Enum):
    """As `status` shows it."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    BACKOFF = "backoff"  # dead, to be started at `due`
    CRASH_LOOP = "crash-loop"  # the same, after five deaths in 30 s
    STOPPED = "stopped"  # ended as it should


@dataclass(frozen=True, slots=True)
class News:
    """What a process told of itself alone: state.json is behind."""


@dataclass(frozen=True, slots=True)
class Wish:
    """`ha` wants answers to say close, or not any more: an address is about to move."""

    on: bool


@dataclass(frozen=True, slots=True)
class Barrier:
    """`ha` wants no connection to these addresses to begin here; none: all may."""

    addresses: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Process:
    """A child, or the place of one that is dead."""

    name: str
    index: int  # of the worker; others have those of sockets.py
    service: str  # module:Class
    state: State = State.STOPPED
    since: float = 0.0  # wall time of the last change of state
    due: MonoTime | None = None  # when the supervisor has to do something about it
    ready_at: MonoTime | None = None
    surplus: bool = False  # the configuration has no place for it any more
    restarts: Restarts = field(default_factory=Restarts)
    popen: subprocess.Popen[bytes] | None = None
    pidfd: int = -1
    control: channel.Channel | None = None

    @property
    def is_worker(self) -> bool:
        return self.index >= 0

    @property
    def pid(self) -> int:
        return 0 if self.popen is None else self.popen.pid

    @property
    def alive(self) -> bool:
        return self.popen is not None

    def turn(self, state: State, due: MonoTime | None = None) -> None:
        self.state, self.due, self.since = state, due, time.time()

    def spawn(self, identity: Identity, shared: int) -> None:
        """The child runs, and `pidfd` and `control` watch it. Raises OSError when it cannot be started."""
        ours, theirs = channel.pair()
        try:
            self.popen = _spawn(self._command(theirs.fileno(), shared), identity, (theirs.fileno(), shared))
        except (OSError, subprocess.SubprocessError):
            ours.close()
            raise
        finally:
            theirs.close()
        self.control = ours
        self.pidfd = os.pidfd_open(self.popen.pid)
        self.ready_at = None

    def _command(self, control: int, shared: int) -> list[str]:
        options = {"name": self.name, "index": self.index, "service": self.service, "control": control}
        words = [f"--{option}={value}" for option, value in options.items()]
        return [*rights.interpreter(), "-m", "proxy.child", *words, f"--shared={shared}"]

    def send(self, message: bus.ToChild, fds: Sequence[int] = ()) -> bool:
        """Whether it went; a child whose channel is full for so long is as good as dead."""
        return self.control is not None and self.control.send(message, fds)

    def receive(self) -> bus.ToSupervisor | News | Wish | Barrier | None:
        """The next message; None if there is none yet. Raises ClosedError at the end, BadFrameError for junk."""
        received = None if self.control is None else self.control.receive()
        return None if received is None else bus.decode_to_supervisor(received[0])

    def kill(self) -> None:
        """SIGKILL to this very process: a pid may be another's by now, a pidfd is not."""
        if self.pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def reap(self) -> str:
        """How it ended, in words; its descriptors are closed. Only when pidfd has told the end."""
        assert self.popen is not None
        code = self.popen.wait()
        os.close(self.pidfd)
        if self.control is not None:
            self.control.close()
        self.popen, self.pidfd, self.control = None, -1, None
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit {code}"


def _spawn(command: list[str], identity: Identity, fds: tuple[int, int]) -> subprocess.Popen[bytes]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _MASKED)
    try:
        return subprocess.Popen(  # noqa: S603 - our own interpreter
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=fds,
            env=rights.child_environment(),
            user=identity.uid,
            group=identity.gid,
            extra_groups=None if identity.uid is None else [],
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
