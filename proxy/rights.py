"""Who may do what: the few capabilities the supervisor keeps, and the none of its children.

Started as root, the supervisor stays uid 0 with four capabilities, and children become the configured user. As a unit
it is that user with the same ones ambient. Without privileges, no_new_privs and no core dumps are left of all this.
Calls the kernel by ctypes: there is no capability call in the standard library. Bits are those of capabilities(7).
"""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

KILL: Final = 5
SETGID: Final = 6
SETUID: Final = 7
NET_BIND_SERVICE: Final = 10
NET_ADMIN: Final = 12
NET_RAW: Final = 13
IPC_LOCK: Final = 14
SYS_NICE: Final = 23

# For life: ports below 1024 at reload, signals to children of another user, and making new ones.
SUPERVISOR_KEEPS: Final = frozenset({KILL, SETGID, SETUID, NET_BIND_SERVICE})
# With [ha]: what ha needs, for it may have to be started again, and for the supervisor to clean up after it; and what
# it does without, less punctual: real-time priority and locked memory.
NETWORK_NEEDS: Final = {"CAP_NET_ADMIN": NET_ADMIN, "CAP_NET_RAW": NET_RAW}
HA_LIKES: Final = frozenset({IPC_LOCK, SYS_NICE})
HA_KEEPS: Final = SUPERVISOR_KEEPS | set(NETWORK_NEEDS.values()) | HA_LIKES
GATEWAY_KEEPS: Final = SUPERVISOR_KEEPS | set(NETWORK_NEEDS.values())

_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_SECUREBITS, _PR_SET_NO_NEW_PRIVS = 23, 24, 28, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_NOROOT_AND_LOCKED: Final = 0b11  # SECBIT_NOROOT: exec as uid 0 gives no capabilities; and that is final
_VERSION_3: Final = 0x20080522
_LAST: Final = 63

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the children are. `uid` None: whoever we are, only without capabilities."""

    name: str
    uid: int | None = None
    gid: int | None = None

    @property
    def owner(self) -> tuple[int, int] | None:
        """Whom the children's files belong to, where that is not ourselves."""
        return None if self.uid is None or self.gid is None else (self.uid, self.gid)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Half(ctypes.Structure):  # 32 of the 64 bits
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def choose_identity(user: str) -> tuple[Identity, str]:
    """Who the children will be, and a warning if that is not `user`.

    They keep our uid, without capabilities, where the user is missing or cannot run this interpreter with this package.
    """
    if os.geteuid() != 0:
        return Identity(f"uid {os.geteuid()}"), ""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return Identity("root"), f"no user {user}: workers stay root, without any capability (useradd --system {user})"
    if entry.pw_uid == 0:
        return Identity("root"), ""
    if not _can_run(entry.pw_uid, entry.pw_gid):
        where = Path(sys.executable)
        return Identity("root"), f"user {user} cannot run {where}: workers stay root, without any capability"
    return Identity(user, entry.pw_uid, entry.pw_gid), ""


def _can_run(uid: int, gid: int) -> bool:
    """Whether this user can start what our children are; found out by doing it."""
    find = "import importlib.util as u; u.find_spec('aiohttp').loader.get_code('aiohttp')"  # read, but not run: 190 ms
    command = [*interpreter(), "-c", f"import proxy.child, uvloop; {find}"]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter
            command,
            check=False,
            user=uid,
            group=gid,
            extra_groups=[],
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def interpreter() -> list[str]:
    """The start of every child's command line. -P: a `config/` in the working folder must not shadow ours."""
    return [sys.executable, "-P"]


def child_environment() -> dict[str, str]:
    """Our environment for children, without the service manager's variables; our packages are found where we are."""
    hidden = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "CREDENTIALS_DIRECTORY")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    home = Path(__file__).resolve().parent.parent
    if home.name not in ("site-packages", "dist-packages"):  # run out of a checkout: -P has taken it from the path
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(home), environment.get("PYTHONPATH")]))
    return environment


def drop_to(keep: frozenset[int]) -> None:
    """This process and all that it starts can gain nothing beyond `keep` any more; children of uid 0 get nothing.

    Capabilities are a thread's: call it before there is a second one.
    """
    assert threading.active_count() == 1
    forbid_gains()
    _libc.prctl(_PR_SET_SECUREBITS, _NOROOT_AND_LOCKED, 0, 0, 0)  # without SETPCAP there is nothing to give, either
    for capability in range(_LAST + 1):
        if capability not in keep and _libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) == 1:
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    _set_capabilities(permitted() & _mask(keep))


def drop_all() -> None:
    """This process has no capability and cannot get one: the first thing a child does."""
    forbid_gains()
    _set_capabilities(0)
    assert permitted() == 0


def forbid_gains() -> None:
    """No setuid program gives us anything, and no core dump shows our memory to anybody."""
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    # 1, not 0: the kernel ignores the limit for a core_pattern that is a pipe, but for the value 1 (core(5)); and a
    # file of one byte is never written.
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    limit = 1 if hard == resource.RLIM_INFINITY or hard >= 1 else 0
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))


def raise_open_files() -> None:
    """As many open files as we may have: each connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def permitted() -> int:
    """The mask of this thread's permitted capabilities."""
    header, halves = _Header(_VERSION_3, 0), (_Half * 2)()
    if _libc.capget(ctypes.byref(header), halves):
        raise OSError(ctypes.get_errno(), "capget")
    return int(halves[0].permitted) | int(halves[1].permitted) << 32


def missing_for_network() -> list[str]:
    """The names of the capabilities without which [ha] and [transparent] cannot do anything."""
    have = permitted()
    return [name for name, capability in NETWORK_NEEDS.items() if not have >> capability & 1]


@contextmanager
def as_for_life() -> Iterator[None]:
    """What is done now is done with the capabilities kept for life: what the start can read, a reload can read."""
    before = permitted()
    _set_capabilities(before, effective=before & _mask(SUPERVISOR_KEEPS))
    try:
        yield
    finally:
        _set_capabilities(before)


@contextmanager
def lending(capabilities: frozenset[int]) -> Iterator[None]:
    """What this thread executes now has these capabilities, as far as we have them; nothing else is handed on."""
    have = permitted()
    lent = frozenset(capability for capability in capabilities if have >> capability & 1)
    _set_capabilities(have, inheritable=_mask(lent))
    for capability in lent:
        _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0)
    try:
        yield
    finally:
        _set_capabilities(have)  # what is not inheritable is not ambient either


def _set_capabilities(mask: int, effective: int | None = None, inheritable: int = 0) -> None:
    header, halves = _Header(_VERSION_3, 0), (_Half * 2)()
    for half, shift in zip(halves, (0, 32), strict=True):
        half.permitted = mask >> shift & 0xFFFFFFFF
        half.effective = (mask if effective is None else effective) >> shift & 0xFFFFFFFF
        half.inheritable = inheritable >> shift & 0xFFFFFFFF  # 0 takes what is ambient too: exec hands nothing on
    if _libc.capset(ctypes.byref(header), halves):
        raise OSError(ctypes.get_errno(), "capset")


def _mask(capabilities: frozenset[int]) -> int:
    return sum(1 << capability for capability in capabilities)


@contextmanager
def files_as(identity: Identity) -> Iterator[None]:
    """This thread uses files as the children would: those are shut to uid 0 without DAC_OVERRIDE."""
    if identity.owner is None:
        yield
        return
    uid, gid = identity.owner
    _libc.setfsgid(gid)
    _libc.setfsuid(uid)
    try:
        yield
    finally:
        _libc.setfsuid(os.geteuid())
        _libc.setfsgid(os.getegid())


def prepare_log(path: Path, identity: Identity) -> None:
    """The file exists and the children may append to it. Raises OSError.

    Made by the user where the folder is the user's; else by us, with the user's group and its right to write: for
    giving a file away we would have to keep CHOWN.
    """
    try:
        with files_as(identity):
            _touch(path, 0o640)
    except PermissionError:
        if identity.gid is None:
            raise
        _libc.setfsgid(identity.gid)
        try:
            _touch(path, 0o660)
        finally:
            _libc.setfsgid(os.getegid())


def _touch(path: Path, mode: int) -> None:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    fd = os.open(path, flags, mode)
    try:
        facts = os.fstat(fd)
        if stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid() and facts.st_size == 0:
            os.fchmod(fd, mode)  # whatever the umask
    finally:
        os.close(fd)
