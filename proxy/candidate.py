"""Everything that one configuration needs, read once: values, files, secrets, sockets.

The supervisor builds a candidate at the start and at each reload; children prepare it, and it becomes the accepted one
or is thrown away. Nothing of what is running is touched here, and from here on nobody reads the disk for it again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from config import load
from config.faults import Faults
from proxy import bus, parcel, rights, sockets
from proxy.firewall import gateway
from proxy.firewall.nftables import FirewallError
from proxy.runtime import log_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from config.schema import Config
    from proxy.rights import Identity
    from proxy.sockets import Held, Place, Sockets

_MOST: Final = 64 * 2**20  # bytes of a configuration file; `-c /dev/zero` shall end, and load.py refuses less than this

_MOST_LIST: Final = 256 * 2**20  # bytes of a list of names


class CandidateError(Exception):
    """The configuration cannot be used; every fault has its line."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the configuration comes from: a file, or a text that a command has made."""

    name: str  # in faults
    base: Path  # relative paths count from here
    path: Path | None = None
    text: bytes = b""

    @classmethod
    def of_file(cls, path: Path) -> Source:
        return cls(str(path), path.absolute().parent, path.absolute())

    def read(self) -> bytes:
        """The text as it is now. Raises CandidateError."""
        if self.path is None:
            return self.text
        try:
            with self.path.open("rb") as stream:
                return stream.read(_MOST)
        except OSError as exc:
            raise CandidateError(f"{self.name}: {exc.strerror}") from exc

    def load(self) -> load.Loaded:
        """The configuration with its files, checked. Raises CandidateError with all faults."""
        try:
            return load.parse(self.read(), self.name, self.base)
        except Faults as exc:
            raise CandidateError(str(exc)) from exc


@dataclass(frozen=True, slots=True)
class ListFile:
    """A list of names as it was read."""

    digest: str
    fd: int  # memfd
    mark: tuple[int, ...]  # of the file on disk: another one is another file or another content


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration with all that it needs. Its descriptors are closed by `close`."""

    generation: int
    digest: str
    config: Config
    warnings: tuple[str, ...]
    content: int  # memfd of the parcel
    secrets: Mapping[str, int]  # path as named in the configuration -> memfd
    sockets: Sockets
    core: str = ""  # the digest without lists
    lists: Mapping[str, ListFile] = field(default_factory=dict)  # by path as named in the configuration

    def prepare_for(self, index: int) -> tuple[bus.Prepare, list[int]]:
        """The message that makes one process prepare this, and the descriptors beside it."""
        own = sockets.of_process(self.sockets, index)
        shared = self.config.ha.secret.file if self.config.ha is not None and self.config.ha.secret else ""
        secrets = {path: fd for path, fd in self.secrets.items() if (path == shared) is (index == sockets.HA)}
        lists = self.lists if index >= 0 else {}  # workers alone look names up
        message = bus.Prepare(
            self.generation,
            self.digest,
            tuple(held.note(place) for place, held in own),
            tuple(secrets),
            tuple((path, one.digest) for path, one in lists.items()),
        )
        fds = [*(held.sock.fileno() for _, held in own), *secrets.values(), *(one.fd for one in lists.values())]
        return message, [self.content, *fds]

    def close(self, spare: Mapping[Place, Held]) -> None:
        """All is closed but the sockets that `spare` has too."""
        os.close(self.content)
        for fd in self.secrets.values():
            os.close(fd)
        _close_lists(self.lists)
        sockets.close(self.sockets, spare)


def build(
    loaded: load.Loaded,
    source: Source,
    generation: int,
    runtime: Path,
    existing: Mapping[Place, Held],
    serials: Iterator[int],
) -> Candidate:
    """The candidate, its sockets opened where `existing` has none. Raises CandidateError."""
    files, secrets = _read_all(loaded.files), _read_all(loaded.secrets)
    for table in ("ha", "transparent"):
        if getattr(loaded.config, table) is not None and (missing := rights.missing_for_network()):
            raise CandidateError(
                f"{source.name}: [{table}] needs the right {' and '.join(missing)}: start as root, or as a unit with it"
                f" ambient; an instance that was started without [{table}] has given it up and must be started again"
            )
    lists = _read_lists(loaded.lists)
    try:
        opened = sockets.open_missing(loaded.config, existing, serials)
    except sockets.PortError as exc:
        _close_lists(lists)
        raise CandidateError(str(exc)) from exc
    obstacles = []
    if loaded.config.transparent is not None:
        obstacles = gateway.find_obstacles(loaded.config.transparent)
        try:
            gateway.prepare(loaded.config.transparent, first=not existing)
        except FirewallError as exc:
            _close_lists(lists)
            sockets.close(opened, spare=existing)
            raise CandidateError(f"{source.name}: [transparent]: {exc}") from exc
    content = parcel.encode(parcel.Parcel(loaded.text, source.name, files, str(source.base), str(runtime)))
    core = digest_of(loaded.text, files, secrets)
    return Candidate(
        generation,
        _with_lists(core, lists),
        loaded.config,
        (*map(str, loaded.warnings), *obstacles),
        parcel.seal("tandem-parcel", content),
        {path: parcel.seal("tandem-secret", secret) for path, secret in secrets.items()},
        opened,
        core,
        lists,
    )


def refresh(
    accepted: Candidate,
    paths: Iterable[str],
    base: Path,
    generation: int,
    existing: Mapping[Place, Held],
    serials: Iterator[int],
) -> Candidate | None:
    """The accepted configuration with these lists read again, if one of them has changed on the disk; else None. The
    configuration's own file is not looked at. Raises CandidateError.
    """
    known = accepted.lists
    changed = _read_lists({path: base / path for path in paths if path in known and _is_new(base / path, known[path])})
    if not changed:
        return None
    try:
        opened = sockets.open_missing(accepted.config, existing, serials)
    except sockets.PortError as exc:
        _close_lists(changed)
        raise CandidateError(str(exc)) from exc
    lists = {path: changed.get(path) or replace(one, fd=_duplicate(one.fd)) for path, one in accepted.lists.items()}
    return replace(
        accepted,
        generation=generation,
        digest=_with_lists(accepted.core, lists),
        warnings=(),
        content=_duplicate(accepted.content),
        secrets={path: _duplicate(fd) for path, fd in accepted.secrets.items()},
        sockets=opened,
        lists=lists,
    )


def _read_lists(paths: Mapping[str, Path]) -> dict[str, ListFile]:
    """The lists by the same names. Raises CandidateError, with nothing left open."""
    made: dict[str, ListFile] = {}
    try:
        for name, path in paths.items():
            made[name] = _read_list(path)
    except CandidateError:
        _close_lists(made)
        raise
    return made


def _close_lists(lists: Mapping[str, ListFile]) -> None:
    for one in lists.values():
        os.close(one.fd)


def _read_list(path: Path) -> ListFile:
    """The list in this file, sealed."""
    try:
        with path.open("rb") as stream:
            mark = _mark_of(os.fstat(stream.fileno()))
            content = stream.read(_MOST_LIST + 1)
    except OSError as exc:
        raise CandidateError(f"{path}: {exc.strerror}") from exc
    if len(content) > _MOST_LIST:
        raise CandidateError(f"{path}: longer than {_MOST_LIST >> 20} MB, which is no list of names")
    return ListFile(hashlib.sha256(content).hexdigest(), parcel.seal("tandem-list", content), mark)


def _is_new(path: Path, known: ListFile) -> bool:
    try:
        return _mark_of(path.stat()) != known.mark
    except OSError as exc:
        raise CandidateError(f"{path}: {exc.strerror}; the list stays as it was read last") from exc


def _mark_of(known: os.stat_result) -> tuple[int, ...]:
    return known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns


def _duplicate(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def _with_lists(core: str, lists: Mapping[str, ListFile]) -> str:
    """The digest of a configuration and its lists."""
    if not lists:
        return core
    told = "".join(f"{name}\0{one.digest}\0" for name, one in sorted(lists.items()))
    return hashlib.sha256((core + told).encode(errors="surrogateescape")).hexdigest()


def _read_all(paths: Mapping[str, Path]) -> dict[str, bytes]:
    try:
        return {name: path.read_bytes() for name, path in paths.items()}
    except OSError as exc:  # load has read a byte of each, just before
        raise CandidateError(f"{exc.filename}: {exc.strerror}") from exc


def digest_of(text: bytes, files: Mapping[str, bytes], secrets: Mapping[str, bytes]) -> str:
    """One name for the text with all files and secrets it names; equal on two nodes that have the same."""
    digest = hashlib.sha256()
    for name, data in (("", text), *sorted(files.items()), *sorted(secrets.items())):
        for part in (name.encode(errors="surrogateescape"), data):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def log_files(config: Config, base: Path, environment: Mapping[str, str]) -> list[Path]:
    """The access logs that are files."""
    return [log_path(log.file, base, environment) for log in config.log.access if log.file != "-"]


def prepare_logs(config: Config, base: Path, identity: Identity) -> None:
    """Every log file exists, and the children may write to it. Raises CandidateError."""
    for path in log_files(config, base, os.environ):
        try:
            rights.prepare_log(path, identity)
        except OSError as exc:
            raise CandidateError(
                f"access log {path}: {exc.strerror}; user {identity.name} must be able to write"
            ) from exc
