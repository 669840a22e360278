"""What `ha` may do, and when it gets the processor: another user with four capabilities, real time, locked memory.

Each thing that is denied is a sentence for `tandem ha status`, never an error: without real time an address moves later
or once too often under load, but it moves. Invariant: a loop that runs for 200 ms without a pause, which would freeze
the machine at real-time priority, loses that priority and goes on (RLIMIT_RTTIME); after 2 s it dies.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

NET_ADMIN, NET_RAW, IPC_LOCK, SYS_NICE = 12, 13, 14, 23  # capabilities(7)
KEEPS: Final = frozenset({NET_ADMIN, NET_RAW, IPC_LOCK, SYS_NICE})

PRIORITY: Final = 50  # of SCHED_FIFO: above every ordinary process
_OOM_SCORE: Final = -900
_RT_SOFT, _RT_HARD = 200_000, 2_000_000  # microseconds of processor time without a pause

_PR_SET_KEEPCAPS: Final = 8
_MCL_CURRENT, _MCL_FUTURE = 1, 2
_VERSION_3: Final = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Half(ctypes.Structure):  # 32 of the 64 bits
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def become(uid: int | None, gid: int | None) -> None:
    """This process is that user, or stays who it is, and has at most the capabilities of KEEPS. Before any thread."""
    if uid is not None and gid is not None:
        _libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    have = permitted()
    keep = have & sum(1 << capability for capability in KEEPS)
    header, halves = _Header(_VERSION_3, 0), (_Half * 2)()
    for half, shift in zip(halves, (0, 32), strict=True):
        half.permitted = half.effective = keep >> shift & 0xFFFFFFFF
        half.inheritable = 0  # and nothing is ambient: programs that we start have nothing
    if _libc.capset(ctypes.byref(header), halves):
        raise OSError(ctypes.get_errno(), "capset")


def permitted() -> int:
    """The mask of this thread's permitted capabilities."""
    header, halves = _Header(_VERSION_3, 0), (_Half * 2)()
    if _libc.capget(ctypes.byref(header), halves):
        raise OSError(ctypes.get_errno(), "capget")
    return int(halves[0].permitted) | int(halves[1].permitted) << 32


def go_real_time(on_overrun: Callable[[], None]) -> list[str]:
    """This thread, and those it makes from now on, come first, and no page of ours is swapped; what was denied."""
    answers = (_limit_overruns(on_overrun), _schedule(), _lock_memory(), _spare_from_oom())
    return [sentence for sentence in answers if sentence]


def be_ordinary() -> None:
    """This thread comes when others leave it time: for threads that may wait for disks and programs."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _schedule() -> str:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError as exc:
        return f"no real-time priority: {_why(exc, 'CAP_SYS_NICE')}"
    return ""


def _limit_overruns(on_overrun: Callable[[], None]) -> str:
    def overrun(*_: object) -> None:
        be_ordinary()
        on_overrun()

    signal.signal(signal.SIGXCPU, overrun)
    try:
        _, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
        most = _RT_HARD if hard == resource.RLIM_INFINITY else min(hard, _RT_HARD)
        resource.setrlimit(resource.RLIMIT_RTTIME, (min(_RT_SOFT, most), most))
    except (OSError, ValueError) as exc:
        return f"no bound on real time: {exc}"
    return ""


def _lock_memory() -> str:
    if _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE):
        exc = OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return f"memory is not locked: {_why(exc, 'CAP_IPC_LOCK')}"
    return ""


def _spare_from_oom() -> str:
    try:
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE))
    except OSError as exc:
        return f"not spared when memory runs out: {_why(exc, 'OOMScoreAdjust of the unit')}"
    return ""


def _why(exc: OSError, right: str) -> str:
    return f"needs {right}" if exc.errno in (errno.EPERM, errno.EACCES) else str(exc.strerror)
