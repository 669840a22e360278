"""The seam between a process and what it does: `Service` is what a child runs, `Settings` what it is given for it.

proxy/child.py drives a service (prepare, commit, drain, questions on its Unix socket) and owns the process around it;
a worker and admin each are one. Order of calls: prepare, then commit or abort, any number of times; then drain, once.
Invariant: a listener's descriptor belongs to child.py, which closes it once it is gone from the configuration or the
process drains; a service serves on a duplicate (`Listener.open`) and closes that itself.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from config.schema import Config
    from config.units import Listen
    from proxy import bus


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """This configuration cannot be served; the reason is for people and holds no secrets."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One listening socket of this process. A Listen with an empty host has two: one for each family."""

    listen: Listen  # as written in the configuration
    address: tuple[str, int]  # as bound
    serial: int  # the same number is the same socket, across reloads
    fd: int

    def open(self) -> socket.socket:
        """A duplicate to serve on; whoever asked closes it."""
        return socket.socket(fileno=os.dup(self.fd))


@dataclass(frozen=True, slots=True)
class LongFile:
    """A file too long to be held as bytes by each process."""

    digest: str  # of its content: what has it already need not read it again
    fd: int  # a memfd


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a process serves under. It reads no file: what the configuration names is here, read once for all."""

    config: Config
    generation: int  # grows with each reload that is tried
    digest: str  # of the configuration and all files that it names, the same in every process
    name: str  # "worker-0", "admin"
    index: int  # of the worker; -1 for admin
    workers: int
    listeners: tuple[Listener, ...]
    secrets: Mapping[str, int]  # path as the configuration names it -> memfd, for /proc/self/fd/N
    files: Mapping[str, bytes]  # path as the configuration names it -> content
    base: Path  # folder of the configuration file: relative paths count from it
    runtime: Path  # sockets, state.json
    shared: memoryview  # a worker: its own counter slots; admin: those of all (proxy/region.py)
    lists: Mapping[str, LongFile] = field(default_factory=dict)  # path as the configuration names it; workers alone
    borrow: Callable[[bus.Family, int], None] = lambda *_: None  # asks the supervisor for sockets, see `Service.lend`


class Service(Protocol):
    async def prepare(self, settings: Settings) -> None:
        """Everything that can fail has been done; nothing visible has changed. Raises Refused. Secrets and lists are
        read here: their descriptors are closed when it returns.
        """

    def commit(self) -> None:
        """The prepared settings are served from now on, connections and cache kept. Must not fail."""

    def abort(self) -> None:
        """The prepared settings are forgotten."""

    async def drain(self, deadline: float) -> None:
        """Listeners are closed at once; returns when nothing is in flight, or at the deadline (time.monotonic())."""

    def reopen_logs(self) -> None: ...

    def say_close(self, on: bool) -> None:
        """From now on each answer is its connection's last, or not any more. Listeners go on accepting."""

    def in_flight(self) -> int:
        """Requests that have begun to come, or surely will, and are not answered."""

    def lend(self, family: bus.Family, fds: Sequence[int]) -> None:
        """Sockets that were asked for with `Settings.borrow`, perhaps fewer; they are the service's."""

    async def handle(self, message: bus.Question) -> bus.Answer:
        """The answer to a question on this process's Unix socket; Ping is answered before it comes here."""
