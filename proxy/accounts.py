"""`tandem user`: the password file of forward mode, changed by hand, as a whole or not at all.

Passwords come from the terminal without echo, or from standard input; never from the command line, where others see
them. Exit status: 0 fine, 1 the file or the user is at fault, 2 wrong usage.
"""

from __future__ import annotations

import fcntl
import getpass
import grp
import os
import stat
import sys
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.console import escape
from proxy.users import htpasswd

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

FINE: Final = 0
FAULTY: Final = 1
USAGE: Final = 2
DEFAULT_FILE: Final = "users.htpasswd"
GROUP: Final = "tandem"  # may read a file that root makes
_MOST: Final = 64 * 2**20  # bytes of a password file
_LONGEST_LINE: Final = 4096  # bytes of a password on standard input


class AccountError(Exception):
    """One line for people, and the exit status."""

    def __init__(self, line: str, status: int = FAULTY) -> None:
        super().__init__(line)
        self.status = status


def add_arguments(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `user` with its own commands."""
    user = subparsers.add_parser(
        "user",
        help="users of the forward proxy: add, list, remove",
        description="The users of the forward proxy: a file in htpasswd's format, named by `users` in [forward].",
    )
    commands = user.add_subparsers(metavar="COMMAND", required=True)

    new = commands.add_parser(
        "add",
        help="add a user, or set another password",
        description="Add a user, or set another password. It is asked for twice, without echo. A running instance "
        "takes the file over with `tandem reload`.",
        epilog="example: tandem user add anna",
    )
    new.add_argument("name", metavar="NAME", help="the user's name")
    new.add_argument("--stdin", action="store_true", help="read the password from standard input: one line")
    new.set_defaults(run=_guarded(add))

    gone = commands.add_parser("remove", help="remove a user", description="Remove a user from the file.")
    gone.add_argument("name", metavar="NAME", help="the user's name")
    gone.set_defaults(run=_guarded(remove))

    show = commands.add_parser(
        "list", help="show the users", description="Show the users, how each password is kept, and faulty lines."
    )
    show.set_defaults(run=_guarded(list_users))
    for command in (new, gone, show):
        command.add_argument(
            "--file", metavar="FILE", type=Path, default=Path(DEFAULT_FILE), help=f"the file ({DEFAULT_FILE})"
        )


def _guarded(command: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        try:
            return command(options)
        except AccountError as exc:
            sys.stderr.write(f"tandem user: {escape(str(exc))}\n")
            return exc.status
        except OSError as exc:
            sys.stderr.write(f"tandem user: {escape(str(exc.filename or options.file))}: {exc.strerror}\n")
            return FAULTY

    return run


# ---- commands --------------------------------------------------------------------------------------------------------


def add(options: argparse.Namespace) -> int:
    try:
        htpasswd.check_user(options.name)
    except ValueError as exc:
        raise AccountError(f"{options.name!r}: {exc}", USAGE) from exc
    hashed = _hash(_read_line() if options.stdin else _ask(options.name))
    with _changing(options.file) as change:
        was_there = change(options.name, hashed)
    done = "has another password in" if was_there else "added to"
    _say(f"{options.name} {done} {options.file}; a running instance takes it over with: tandem reload")
    return FINE


def remove(options: argparse.Namespace) -> int:
    with _changing(options.file, must_exist=True) as change:
        if not change(options.name, None):
            raise AccountError(f"{options.file} has no user {options.name}; there are: tandem user list")
    _say(f"{options.name} removed from {options.file}; a running instance takes it over with: tandem reload")
    return FINE


def list_users(options: argparse.Namespace) -> int:
    """1 if a line is faulty: then no instance takes the file."""
    found = htpasswd.parse_passwords(_read(options.file), str(options.file))
    width = max(map(len, found.hashes), default=0)
    for user, hashed in found.hashes.items():
        scheme = htpasswd.scheme_of(hashed)
        assert scheme is not None
        _say(f"{user.ljust(width)}  {scheme.value}")
    for line in (*found.faults, *found.warnings):
        sys.stderr.write(f"{escape(line)}\n")
    return FAULTY if found.faults else FINE


def _say(line: str) -> None:
    sys.stdout.write(f"{escape(line)}\n")


# ---- passwords -------------------------------------------------------------------------------------------------------


def _hash(password: str) -> str:
    try:
        return htpasswd.hash_password(password)
    except ValueError as exc:
        raise AccountError(str(exc)) from exc


def _read_line() -> str:
    line = sys.stdin.buffer.readline(_LONGEST_LINE)
    return line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")


def _ask(user: str) -> str:
    """The password, typed twice and not shown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)  # it would show what is typed
            first = getpass.getpass(f"Password of {escape(user)}: ")
            second = getpass.getpass("Once more: ")
    except (getpass.GetPassWarning, EOFError) as exc:
        raise AccountError("no terminal to ask on; give the password by --stdin", USAGE) from exc
    except KeyboardInterrupt as exc:
        raise AccountError("nothing is changed") from exc
    if first != second:
        raise AccountError("these were two different passwords; nothing is changed")
    return first


# ---- the file --------------------------------------------------------------------------------------------------------


def _read(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise AccountError(f"{path} is no file")
    with path.open("rb") as stream:
        return stream.read(_MOST)


@contextmanager
def _changing(file: Path, *, must_exist: bool = False) -> Iterator[Callable[[str, str | None], bool]]:
    """Changes one at a time: `change(user, hash)` says whether the user was there; the file is replaced at the end."""
    path = Path(os.path.realpath(file))  # a link stays a link
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        before = _read(path) if must_exist or path.exists() else b""
        after = before

        def change(user: str, hashed: str | None) -> bool:
            nonlocal after
            after, was_there = htpasswd.change_user(after, user, hashed)
            return was_there

        yield change
        if after != before or not path.exists():
            _replace(path, after)
    finally:
        os.close(folder)


def _replace(path: Path, content: bytes) -> None:
    """The new content under the old name, with the old owner and mode; a new file is for the proxy's eyes only."""
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as stream:
            stream.write(content)
            stream.flush()
            _own_like(path, fd)
            os.fsync(fd)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _own_like(path: Path, fd: int) -> None:
    try:
        known = path.stat()
    except FileNotFoundError:
        known = None
    if known is not None:
        mode = stat.S_IMODE(known.st_mode) & ~stat.S_IRWXO  # others never: a start would be refused
        if (known.st_uid, known.st_gid) != (os.geteuid(), os.getegid()) and os.geteuid() == 0:
            os.fchown(fd, known.st_uid, known.st_gid)
        os.fchmod(fd, mode)
        return
    if os.geteuid() == 0:
        try:
            os.fchown(fd, 0, grp.getgrnam(GROUP).gr_gid)
        except KeyError:
            return  # no such group: 0600, as made
        os.fchmod(fd, 0o640)
