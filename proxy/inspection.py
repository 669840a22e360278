"""What `tandem check` finds in the files of forward mode: users, groups, lists. Read as a worker would."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.modes.domains import PIECE, Reader
from proxy.users.htpasswd import parse_groups, parse_passwords

if TYPE_CHECKING:
    from pathlib import Path

    from config.load import Loaded


def look_into(loaded: Loaded) -> tuple[list[str], list[str]]:
    """(faults, warnings) of the files that this configuration names."""
    faults: list[str] = []
    warnings: list[str] = []
    forward = loaded.config.forward
    try:
        if forward is not None and forward.users:
            found = parse_passwords(loaded.secrets[forward.users].read_bytes(), forward.users)
            faults += found.faults
            warnings += found.warnings
        if forward is not None and forward.groups:
            faults += parse_groups(loaded.files[forward.groups].read_bytes(), forward.groups)[1]
        for name, path in loaded.lists.items():
            junk = _junk_in(path)
            if junk:
                warnings.append(f"{name}: {junk}")
    except OSError as exc:  # it could be read a moment ago
        faults.append(f"{exc.filename}: {exc.strerror}")
    return faults, warnings


def _junk_in(path: Path) -> str:
    reader = Reader()
    with path.open("rb") as stream:
        while piece := stream.read(PIECE):
            reader.feed(piece)
    return reader.end().junk.describe()
