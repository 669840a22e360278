"""What a configuration becomes in a worker: mode, doors, TLS, logs and passwords, ready to be swapped in.

All that can fail because of a configuration's contents fails here; nothing that is served is touched.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy import parcel
from proxy.certificates import origin_context, server_tls
from proxy.modes.every import Modes
from proxy.observe.accesslog import LogFile, compile_format
from proxy.observe.observer import AccessLog
from proxy.runtime import log_path
from proxy.server.doors import doors_of
from proxy.users.htpasswd import parse_passwords

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from config.schema import Config
    from config.units import Listen
    from proxy.namelists import Lists
    from proxy.server.front import Door
    from proxy.server.tls import ServerTls
    from proxy.service import Settings
    from proxy.users.htpasswd import Passwords

log = logging.getLogger("tandem")


@dataclass(frozen=True, slots=True)
class Prepared:
    """One configuration, made ready."""

    settings: Settings
    mode: Modes
    doors: dict[Listen, Door]
    tls: dict[Listen, ServerTls]
    contexts: dict[tuple[bool, str], ssl.SSLContext]  # by what an Origin says of its TLS
    logs: list[AccessLog]
    opened: list[LogFile]  # those of the logs that were not open before
    lists: Lists
    passwords: Passwords | None


def build(settings: Settings, lists: Lists, logs_now: Iterable[AccessLog]) -> Prepared:
    """Raises TlsError, ValueError, OSError: this cannot be served."""
    config = settings.config
    secrets = {path: parcel.unseal(settings.secrets[path]) for path in _logins_of(config)}
    mode = Modes(config, settings.files, {name: names for name, (_, names) in lists.items()}, secrets)
    doors = doors_of(mode, config)
    tls = {
        listen: server_tls((site for site in config.site if listen in site.listen), settings)
        for listen, door in doors.items()
        if door.scheme == b"https"
    }
    contexts = {
        (origin.tls_verify, origin.tls_ca): origin_context(origin, settings)
        for spec in mode.pools.values()
        for origin in spec.origins
        if origin.scheme == "https"
    }
    passwords = _read_passwords(settings)
    logs, opened = _open_logs(config, settings.base, logs_now)
    return Prepared(settings, mode, doors, tls, contexts, logs, opened, lists, passwords)


def _open_logs(config: Config, base: Path, now: Iterable[AccessLog]) -> tuple[list[AccessLog], list[LogFile]]:
    """Files that are open already stay open."""
    have = {log.file.path: log.file for log in now}
    logs, opened = [], []
    for entry in config.log.access:
        path = entry.file if entry.file == "-" else str(log_path(entry.file, base, os.environ))
        file = have.get(path)
        if file is None:
            have[path] = file = LogFile(path)
            opened.append(file)
        logs.append(AccessLog(file, compile_format(entry.format)))
    return logs, opened


def _logins_of(config: Config) -> Sequence[str]:
    """Files with what parents and mirrored origins want to be told."""
    if config.forward is None:
        return []
    logins = [parent.login for parent in config.forward.parent]
    return [path for path in (*logins, *(mirror.token for mirror in config.forward.mirror)) if path]


def _read_passwords(settings: Settings) -> Passwords | None:
    """Those of the users who must log in; None: nobody has to. ValueError with all that is wrong with the file."""
    forward = settings.config.forward
    if forward is None or not forward.users:
        return None
    passwords = parse_passwords(parcel.unseal(settings.secrets[forward.users]), forward.users)
    if passwords.faults:
        raise ValueError("\n".join(passwords.faults))
    for warning in passwords.warnings:
        log.warning("%s", warning)
    return passwords
