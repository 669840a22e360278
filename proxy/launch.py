"""`tandem run` up to the loop: configuration, identity, folder, sockets, and then the rights go.

The order is the point: what needs rights is done before they are dropped, and what a reload will have to do without
them is tried without them here already.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

from proxy import candidate, console, rights, runtime
from proxy.candidate import CandidateError
from proxy.notify import Notifier
from proxy.runtime import RuntimeFolder, RuntimeFolderError
from proxy.supervisor import Services, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.candidate import Candidate, Source
    from proxy.rights import Identity


def launch(
    source: Source,
    runtime_option: str | None,
    services: Services | None = None,
    on_ready: Callable[[Candidate, RuntimeFolder], None] = lambda *_: None,
) -> int:
    """The exit status of the whole instance, when it has ended."""
    notifier = Notifier(os.environ, os.getpid())
    serials = itertools.count(1)
    try:
        accepted, folder, identity = _prepare(source, runtime_option, serials)
    except (CandidateError, RuntimeFolderError) as exc:
        console.say(str(exc))
        return 1
    supervisor = Supervisor(
        source, accepted, folder, identity, notifier, serials, services, lambda new: on_ready(new, folder)
    )
    return supervisor.run()


def _prepare(
    source: Source, runtime_option: str | None, serials: itertools.count[int]
) -> tuple[Candidate, RuntimeFolder, Identity]:
    with rights.as_for_life():
        loaded = source.load()
    identity, warning = rights.choose_identity(loaded.config.process.user)
    path = runtime.choose_folder(runtime_option, os.environ, os.geteuid())
    folder = RuntimeFolder.occupy(path, identity)
    try:
        accepted = candidate.build(loaded, source, 1, path, {}, serials)
        rights.raise_open_files()
        keep = rights.SUPERVISOR_KEEPS
        keep |= frozenset() if loaded.config.ha is None else rights.HA_KEEPS
        keep |= frozenset() if loaded.config.transparent is None else rights.GATEWAY_KEEPS
        rights.drop_to(keep)
        candidate.prepare_logs(loaded.config, source.base, identity)
    except CandidateError:
        folder.leave()
        raise
    for line in (*accepted.warnings, *filter(None, [warning])):
        console.say(line)
    return accepted, folder, identity
