"""The runtime folder: where it is, who owns it, and what a crash has left in it.

It holds what belongs to one instance: admin.sock, worker-N.sock, state.json, and `lock`, which the supervisor holds as
long as it lives. Invariant: who holds the lock is alone in the folder, so what else of ours lies there is a leftover.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from proxy.rights import files_as

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.rights import Identity

_LOCK: Final = "lock"
STATE: Final = "state.json"
_OF_HA: Final = ("ha.state", "ha.state.new")  # what ha owes the machine after a crash: it must outlive us
ADMIN_SOCKET: Final = "admin.sock"


class RuntimeFolderError(Exception):
    """The folder cannot be ours; one line says why and what to do."""


def choose_folder(option: str | None, environment: Mapping[str, str], uid: int) -> Path:
    """The runtime folder of an instance: the option, else the service manager's, else the usual one of this user."""
    if option:
        return Path(option).absolute()
    if folder := environment.get("RUNTIME_DIRECTORY"):
        return Path(folder.split(":")[0])  # systemd joins several by colons
    if uid == 0:
        return Path("/run/tandem")
    if folder := environment.get("XDG_RUNTIME_DIR"):
        return Path(folder) / "tandem"
    return Path(f"/tmp/tandem-{uid}")  # noqa: S108 - made 0700, and refused when it is another's


def worker_socket(folder: Path, index: int) -> Path:
    return folder / f"worker-{index}.sock"


def disk_file(folder: Path, index: int) -> Path:
    """What a worker's cache has on disk, with `[cache] path`."""
    return folder / f"worker-{index}.cache"


def log_path(file: str, base: Path, environment: Mapping[str, str]) -> Path:
    """Of an access log: from $LOGS_DIRECTORY if set, else from the configuration's folder."""
    return Path(environment.get("LOGS_DIRECTORY", "").split(":")[0] or base) / file


def stale_mark(folder: Path, index: int) -> Path:
    """Is there when a purge has not reached the worker: nothing that its file holds may be used."""
    return folder / f"worker-{index}.stale"


class RuntimeFolder:
    """The folder, held by this process until it ends."""

    def __init__(self, path: Path, identity: Identity, lock: int) -> None:
        self.path = path
        self._identity = identity
        self._lock = lock

    @classmethod
    def occupy(cls, path: Path, identity: Identity) -> RuntimeFolder:
        """The folder, made if need be, given to the children's user, locked and free of leftovers.

        Raises RuntimeFolderError, naming a living owner by its pid.
        """
        try:
            _make(path)
            lock = _take_lock(path)
            if identity.owner is not None:
                os.chown(path, *identity.owner)
            path.chmod(0o700 if path.parent == Path("/tmp") else 0o750)  # noqa: S108 - in a folder for all, for us alone
            _remove_leftovers(path)
            with files_as(identity):
                (path / _LOCK).stat()  # fails where a folder above is closed to the children
        except OSError as exc:
            raise RuntimeFolderError(
                f"runtime folder {path}: {exc.strerror or exc}; choose another with --runtime DIR"
            ) from exc
        return cls(path, identity, lock)

    def write_state(self, state: Mapping[str, object]) -> None:
        """state.json is replaced in one step: a reader sees the old or the new one. Never raises."""
        new = self.path / (STATE + ".new")
        with suppress(OSError), files_as(self._identity):
            new.write_text(json.dumps(state) + "\n")
            new.chmod(0o640)
            new.replace(self.path / STATE)

    def leave(self) -> None:
        """The folder is free for another instance, and empty of ours."""
        with suppress(OSError), files_as(self._identity):
            _remove_leftovers(self.path)
        os.close(self._lock)


def _make(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = path.lstat()
    if not stat.S_ISDIR(facts.st_mode):  # a symbolic link in /tmp could lead anywhere
        raise RuntimeFolderError(f"runtime folder {path} is no folder; choose another with --runtime DIR")
    if os.geteuid() not in (0, facts.st_uid):
        raise RuntimeFolderError(f"runtime folder {path} belongs to another user; choose another with --runtime DIR")
    foreign = [entry.name for entry in path.iterdir() if not _is_ours(entry.name)]
    if foreign and not (path / _LOCK).exists():
        raise RuntimeFolderError(
            f"runtime folder {path} is in use for something else ({foreign[0]}); choose another with --runtime DIR"
        )


def _take_lock(path: Path) -> int:
    lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        pid = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise RuntimeFolderError(
            f"another tandem (pid {pid}) runs in {path}; stop it, or give this one its own folder with --runtime DIR"
        ) from exc
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _is_ours(name: str) -> bool:
    return name in (_LOCK, STATE, STATE + ".new", *_OF_HA) or name.endswith(".sock")


def _remove_leftovers(path: Path) -> None:
    for entry in path.iterdir():
        if _is_ours(entry.name) and entry.name not in (_LOCK, *_OF_HA):
            entry.unlink(missing_ok=True)


def read_state(folder: Path) -> dict[str, object]:
    """What the supervisor last wrote. Raises OSError when there is nothing, ValueError when it is no state."""
    state = json.loads((folder / STATE).read_bytes())
    if not isinstance(state, dict):
        raise ValueError(f"{folder / STATE} is no state of an instance")  # noqa: TRY004 - content, not a type
    return state


def routers_of(folder: Path) -> list[dict[str, Any]]:
    """The virtual routers as the supervisor last wrote them; none without [ha]."""
    try:
        ha = read_state(folder).get("ha")
    except (OSError, ValueError):
        return []
    routers = ha.get("routers") if isinstance(ha, dict) else None
    return [one for one in routers if isinstance(one, dict)] if isinstance(routers, list) else []


def is_held(folder: Path) -> bool:
    """Whether a living supervisor has this folder; a state file alone may be a crash's."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def supervisor_of(state: Mapping[str, object]) -> int:
    """The supervisor's pid. Raises ValueError."""
    processes = state.get("processes")
    for process in processes if isinstance(processes, list) else ():
        if isinstance(process, dict) and process.get("name") == "supervisor" and isinstance(process.get("pid"), int):
            return int(process["pid"])
    raise ValueError("the state names no supervisor")
