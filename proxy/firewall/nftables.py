"""The owner of our nftables table: libnftables, by ctypes, in the process whose life is the table's life.

The kernel removes a table with the owner flag when the netlink socket that made it is closed, so a supervisor that is
killed leaves nothing, within milliseconds; and nobody else can change the table meanwhile. The socket is this object's,
and no child inherits it. One call is one transaction of about a millisecond.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_LIBRARY: Final = "libnftables.so.1"
_FDS: Final = Path("/proc/self/fd")


class FirewallError(Exception):
    """What the kernel or its library does not do, in one line."""


class Nftables:
    """A connection to the kernel's packet filter. Raises FirewallError where there is none to be had."""

    def __init__(self) -> None:
        self._library = _load()
        before = _open_fds()
        self._context = self._library.nft_ctx_new(0)
        if not self._context:
            raise FirewallError("nftables cannot be spoken to: no netlink socket")
        for fd, what in _open_fds().items():  # the library leaves its socket open to whatever is executed
            if before.get(fd) != what:
                with suppress(OSError):
                    fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def run(self, text: str) -> str:
        """What the commands print; all of them are carried out, or none. Raises FirewallError."""
        failed = self._library.nft_run_cmd_from_buffer(self._context, text.encode())
        said = self._library.nft_ctx_get_error_buffer(self._context).decode(errors="replace")
        printed = self._library.nft_ctx_get_output_buffer(self._context).decode(errors="replace")
        if failed:
            raise FirewallError(_first_line(said))
        return str(printed)

    def only_try(self) -> None:
        """From now on nothing is carried out."""
        self._library.nft_ctx_set_dry_run(self._context, True)

    def close(self) -> None:
        """The table goes with it."""
        context, self._context = self._context, None
        if context:
            self._library.nft_ctx_free(context)


def try_out(text: str) -> None:
    """The library understands the text; nothing is changed. Raises FirewallError.

    On a connection of its own: after a trial the library aborts the process at the next real command (1.0.6).
    """
    trial = Nftables()
    try:
        trial.only_try()
        trial.run(text)
    finally:
        trial.close()


def ask(text: str) -> str:
    """What commands that change nothing print. Raises FirewallError."""
    asking = Nftables()
    try:
        return asking.run(text)
    finally:
        asking.close()


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as exc:
        raise FirewallError(
            f"{_LIBRARY} is not here: install the package nftables (on Debian: apt install nftables)"
        ) from exc
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    for name in ("nft_ctx_free", "nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
        getattr(library, name).restype = ctypes.c_char_p
    library.nft_ctx_set_dry_run.argtypes = [ctypes.c_void_p, ctypes.c_bool]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library


def _open_fds() -> dict[int, str]:
    """What is open now: number and name."""
    found = {}
    for entry in _FDS.iterdir():
        with suppress(OSError):  # the one by which we look is closed by then
            found[int(entry.name)] = str(entry.readlink())
    return found


def _first_line(said: str) -> str:
    line = next((line for line in said.splitlines() if line.startswith("Error:")), said.strip() or "unknown fault")
    return os.fsdecode(line.removeprefix("Error: "))
