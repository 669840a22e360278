"""Whether a process lives, told within a millisecond of its death at any size of its memory; standard library only.

The kernel closes a dying process's sockets only after it has freed its memory, so the witness of death is a robust,
process-shared mutex in shared memory: its holder's main thread takes it for life (`Life`), a thread elsewhere waits for
it (`wait_for_death`) and wakes with EOWNERDEAD. A beat counter beside it tells a hung loop from a living one.
Invariants: a page is initialised once, before any process uses it; whoever gets the mutex as waiter makes it consistent
and lets go of it at once, so that the next life can take it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import time
from enum import Enum
from typing import Final

PAGE: Final = 4096  # bytes; one page for each process that is watched

# Layout. pthread_mutex_t has 40 bytes on x86_64, 48 on aarch64; the counters stand on a cache line of their own.
_PID: Final = 128  # u64: the holder's pid, 0 before the first life
_LIVES: Final = 136  # u64: how many processes have held this page
_BEATS: Final = 144  # u64: turns of the holder's loop
_IN_FLIGHT: Final = 152  # u64: requests in flight and one more, while they are to be counted; else 0
_REPORTS: Final = 160  # u64: how often they were counted

_PROCESS_SHARED: Final = 1  # PTHREAD_PROCESS_SHARED and PTHREAD_MUTEX_ROBUST, from <pthread.h>
_ROBUST: Final = 1

_libc = ctypes.CDLL(None, use_errno=True)
_WORD = struct.Struct("=Q")


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Watched(Enum):
    DEAD = "dead"  # the holder has died since it took the page
    ALIVE = "alive"  # it held the page all the time
    NOBODY = "nobody"  # nobody holds the page: not begun, or ended in good order


def initialise(page: memoryview) -> None:
    """The page holds a robust mutex that nobody has. Only for a page that no process uses yet."""
    attributes = ctypes.create_string_buffer(64)  # pthread_mutexattr_t has 4 bytes on Linux
    _check(_libc.pthread_mutexattr_init(attributes))
    _check(_libc.pthread_mutexattr_setpshared(attributes, _PROCESS_SHARED))
    _check(_libc.pthread_mutexattr_setrobust(attributes, _ROBUST))
    _check(_libc.pthread_mutex_init(_mutex(page), attributes))
    _check(_libc.pthread_mutexattr_destroy(attributes))


class Life:
    """This process's hold on its page, from construction to its end; made and released by the main thread.

    The mutex belongs to a thread: were it another than the main one, its end would look like death.
    """

    def __init__(self, page: memoryview, patience: float = 2.0) -> None:
        self._page = page
        self._lock = _mutex(page)
        result = _lock_within(self._lock, patience)
        if result == errno.EOWNERDEAD:  # the life before this one, and no waiter has seen its death
            _check(_libc.pthread_mutex_consistent(self._lock))
        elif result:
            raise OSError(result, f"the liveness page is held by another process: {os.strerror(result)}")
        self._beats = 0
        _put(page, _BEATS, 0)
        _put(page, _IN_FLIGHT, 0)
        _put(page, _LIVES, _get(page, _LIVES) + 1)
        _put(page, _PID, os.getpid())

    def beat(self) -> int:
        """The number of this turn of the loop; called by the loop that would hang."""
        self._beats += 1
        _put(self._page, _BEATS, self._beats)
        return self._beats

    def report(self, in_flight: int | None) -> None:
        """How many requests are in flight, for whoever waits for an instant without any; None: not counted any more."""
        _put(self._page, _IN_FLIGHT, 0 if in_flight is None else in_flight + 1)
        _put(self._page, _REPORTS, _get(self._page, _REPORTS) + 1)

    def release(self) -> None:
        """An end in good order: waiters see NOBODY, not a death."""
        _put(self._page, _PID, 0)
        _check(_libc.pthread_mutex_unlock(self._lock))


def wait_for_death(page: memoryview, timeout: float) -> Watched:
    """What became of the page's holder within `timeout` seconds; blocks its thread, not the interpreter.

    DEAD is told once, to one waiter. 0.2 ms after the kill were measured, whatever the memory of the dead.
    """
    lock = _mutex(page)
    result = _lock_within(lock, timeout)
    if result == errno.ETIMEDOUT:
        return Watched.ALIVE
    if result == errno.EOWNERDEAD:
        _check(_libc.pthread_mutex_consistent(lock))
        _put(page, _PID, 0)
        _check(_libc.pthread_mutex_unlock(lock))
        return Watched.DEAD
    _check(result)
    _check(_libc.pthread_mutex_unlock(lock))
    return Watched.NOBODY


def holder(page: memoryview) -> int:
    """The pid in the page: 0 when nobody holds it; of a process that has died until a waiter has noticed."""
    return _get(page, _PID)


def lives(page: memoryview) -> int:
    return _get(page, _LIVES)


def beats(page: memoryview) -> int:
    """Turns of the holder's loop so far; the same number twice, too far apart, is a hung loop."""
    return _get(page, _BEATS)


def in_flight(page: memoryview) -> int | None:
    """What the holder last reported; None while it does not count."""
    count = _get(page, _IN_FLIGHT)
    return count - 1 if count else None


def reports(page: memoryview) -> int:
    """How often the holder has reported: a count that stands says nothing of what has come since."""
    return _get(page, _REPORTS)


def _mutex(page: memoryview) -> ctypes.Array[ctypes.c_char]:
    return (ctypes.c_char * _PID).from_buffer(page)


def _lock_within(lock: ctypes.Array[ctypes.c_char], seconds: float) -> int:
    # clocklock takes the clock that cannot jump; glibc has it since 2.30, older ones wait by wall time.
    clocked = hasattr(_libc, "pthread_mutex_clocklock")
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC if clocked else time.CLOCK_REALTIME)
    until = now + int(seconds * 1e9)
    deadline = ctypes.byref(_Timespec(until // 10**9, until % 10**9))
    if clocked:
        return int(_libc.pthread_mutex_clocklock(lock, ctypes.c_int(time.CLOCK_MONOTONIC), deadline))
    return int(_libc.pthread_mutex_timedlock(lock, deadline))


def _check(result: int) -> None:
    if result:
        raise OSError(result, os.strerror(result))


# One aligned word is one store for the processor; memoryview slices copy it whole.
def _put(page: memoryview, offset: int, value: int) -> None:
    _WORD.pack_into(page, offset, value)


def _get(page: memoryview, offset: int) -> int:
    value: int = _WORD.unpack_from(page, offset)[0]
    return value
