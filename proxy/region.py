"""The memory that all processes of one run share: counter slots for each, a liveness page for each worker and for `ha`.

One memfd, made by the supervisor and inherited by every child. It is as large as the most workers a configuration may
ask for: a page that nobody touches costs nothing, and a reload to more workers needs no new memory.
Invariants: a process writes its own slots and its own page only; what a slot counts is observe/metrics.py's matter;
slots outlive the process, so that its counters go on after a restart.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

from ha import liveness

SLOTS: Final = 64 * 2**10  # bytes of counters of one process
MAX_WORKERS: Final = 256  # [process] workers, config/schema.py

ADMIN: Final = MAX_WORKERS  # its place is behind the workers'
_PROCESSES: Final = MAX_WORKERS + 1

_COUNTERS: Final = _PROCESSES * SLOTS
PAGES: Final = _COUNTERS  # where the liveness pages begin
HA_PAGE: Final = MAX_WORKERS  # behind the workers'
SIZE: Final = PAGES + (MAX_WORKERS + 1) * liveness.PAGE


class Region:
    """The shared memory as one process sees it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = memoryview(mmap.mmap(fd, SIZE))

    @classmethod
    def create(cls) -> Region:
        fd = os.memfd_create("tandem-shared", os.MFD_CLOEXEC)
        os.ftruncate(fd, SIZE)
        return cls(fd)

    def slots(self, place: int) -> memoryview:
        """The counter slots of one process: a worker's index, or ADMIN."""
        return self._memory[place * SLOTS : (place + 1) * SLOTS]

    def all_slots(self) -> memoryview:
        """The slots of all processes, one behind the other. Reading those of workers that never ran costs memory."""
        return self._memory[:_COUNTERS]

    def page(self, place: int) -> memoryview:
        """The liveness page of one worker, or HA_PAGE."""
        start = PAGES + place * liveness.PAGE
        return self._memory[start : start + liveness.PAGE]
