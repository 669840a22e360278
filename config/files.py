"""The files that a configuration names: where they are, and whether they can be read and are kept as they should be.

Nothing is read here beyond the first byte; reading is the supervisor's business. Secrets that others may read or change
are faults (and so stop a start).
"""

from __future__ import annotations

import shlex
import stat
from typing import TYPE_CHECKING

from config.faults import Path, Problem, quote

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable

_KINDS = {"file": False, "secret": True, "list": False}


def locate(leaves: Iterable[tuple[str, Path, str]], base: pathlib.Path, kind: str) -> dict[str, pathlib.Path]:
    """The files of one kind, "file", "secret" or "list": as written -> from the folder of the configuration file."""
    return {text: base / text for own, _, text in leaves if own == kind}


def check_files(leaves: Iterable[tuple[str, Path, str]], base: pathlib.Path) -> list[Problem]:
    """What hinders the use of the files named."""
    found = []
    for kind, path, text in leaves:
        if kind in _KINDS:
            problem = _check_file(path, text, base / text, secret=_KINDS[kind])
            if problem is not None:
                found.append(problem)
    return found


def _check_file(path: Path, text: str, file: pathlib.Path, *, secret: bool) -> Problem | None:
    try:
        mode = file.stat().st_mode  # before open: to open a FIFO would wait
        if not stat.S_ISREG(mode):
            return Problem(path, f"{quote(text)} is no file")
        with file.open("rb") as stream:
            stream.read(1)
    except OSError as exc:
        made_by = _recipe_for_tokens(file) if "tokens" in path else f"looked for {file}"
        return Problem(path, f"{quote(text)} cannot be read: {(exc.strerror or str(exc)).lower()}", made_by)
    if secret and mode & stat.S_IRWXO:
        return Problem(path, f"{quote(text)} is a secret, but accessible to others", f"chmod o= {file}")
    return None


def _recipe_for_tokens(file: pathlib.Path) -> str:
    """For a shell: a file with one new token, which is shown."""
    line = '"admin change sha256:$(printf %s "$TOKEN" | sha256sum | cut -c-64)"'
    return (
        f"make it by: TOKEN=$(head -c 32 /dev/urandom | base64); "
        f'(umask 077; echo {line} > {shlex.quote(str(file))}); echo "$TOKEN"'
    )
