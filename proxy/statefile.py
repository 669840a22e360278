"""What state.json says of the supervisor and its children, and what the service manager is told in one line; pure.

admin reads it for `status`, commands for the pid and the virtual routers (proxy/runtime.py reads and writes the file).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy import sockets
from proxy.process import State

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from proxy.candidate import Candidate
    from proxy.process import Process

    Plain = dict[str, object]


@dataclass(frozen=True, slots=True)
class Own:
    """What the supervisor says of itself."""

    pid: int
    state: str  # starting, running, stopping
    since: float  # wall time of its start
    source: str  # name of the configuration
    user: str  # whom the children are


def build(
    own: Own,
    accepted: Candidate,
    processes: Collection[Process],
    reload: Mapping[str, object] | None,
    routers: list[Plain] | None,
    transparent: Plain | None,
) -> Plain:
    """`reload`: how the last one ended; `routers` are there with [ha] alone, `transparent` with [transparent]."""
    return {
        "version": 1,
        "config": own.source,
        "generation": accepted.generation,
        "digest": accepted.digest,
        "user": own.user,
        "listeners": [
            {"process": "admin" if index == sockets.ADMIN else "worker", "address": address, "port": port}
            for index, address, port in sockets.addresses(accepted.sockets)
        ],
        "processes": [_own_row(own), *map(_row, processes)],
        "reload": reload,
        **({} if routers is None else {"ha": {"routers": routers}}),
        **({} if transparent is None else {"transparent": transparent}),
    }


def _own_row(own: Own) -> Plain:
    return {"name": "supervisor", "pid": own.pid, "state": own.state, "since": own.since, "restarts": 0}


def _row(process: Process) -> Plain:
    return {
        "name": process.name,
        "pid": process.pid,
        "state": process.state.value,
        "since": process.since,
        "restarts": process.restarts.count,
    }


def summarise(processes: Collection[Process], digest: str) -> str:
    """Workers that run, of those that the configuration wants, and which configuration it is."""
    workers = [process for process in processes if process.is_worker and not process.surplus]
    running = sum(process.state is State.RUNNING for process in workers)
    return f"{running} of {len(workers)} workers, configuration {digest[:12]}"
