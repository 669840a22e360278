"""What takes its time and must not keep the loop: the error log and notify programs, each in a thread of its own.

Of one subject at most one line a minute is written; the next one says how many were left out. Notify programs run one
after the other, in the order of the changes, without a shell: PROGRAM INSTANCE NAME STATE PRIORITY, with the names of
states that keepalived gives, so that its scripts serve here too.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ha import privileges
from ha.events import State

if TYPE_CHECKING:
    from collections.abc import Callable

STATES: Final = {State.ACTIVE: "MASTER", State.BACKUP: "BACKUP", State.INITIALIZE: "FAULT"}
EVERY: Final = 60.0  # seconds between two lines of one subject
_MOST_SUBJECTS: Final = 1000  # remembered; a flood of addresses must not fill the memory
_MOST_LINES: Final = 1000  # waiting to be written
_MOST_RUNS: Final = 100
_RUN_LIMIT: Final = 30.0  # seconds for a notify program


@dataclass(slots=True)
class _Subject:
    at: float
    left_out: int = 0


def _write(line: str) -> None:
    sys.stderr.write(line)
    sys.stderr.flush()


class Scribe:
    def __init__(self, write: Callable[[str], object] = _write, clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._subjects: dict[str, _Subject] = {}
        self._lines: queue.Queue[str | None] = queue.Queue(_MOST_LINES)
        self._runs: queue.Queue[tuple[str, ...] | None] = queue.Queue(_MOST_RUNS)
        self._threads = [
            threading.Thread(target=self._write_all, name="log", daemon=True),
            threading.Thread(target=self._run_all, name="notify", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def say(self, line: str, level: str = "INFO") -> None:
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(f"tandem: ha: {level}: {line}\n")

    def warn(self, subject: str, line: str) -> None:
        """The line, unless the same subject had one within the minute."""
        now = self._clock()
        known = self._subjects.get(subject)
        if known is not None and now - known.at < EVERY:
            known.left_out += 1
            return
        more = f" ({known.left_out} more like it)" if known is not None and known.left_out else ""
        self._subjects.pop(subject, None)
        self._subjects[subject] = _Subject(now)
        if len(self._subjects) > _MOST_SUBJECTS:
            del self._subjects[next(iter(self._subjects))]
        self.say(line + more, "WARNING")

    def notify(self, program: str, name: str, state: State, priority: int, *, stopped: bool = False) -> None:
        word = "STOP" if stopped else STATES[state]
        with contextlib.suppress(queue.Full):
            self._runs.put_nowait((program, "INSTANCE", name, word, str(priority)))

    def close(self, limit: float = 1.0) -> None:
        """What is waiting is written and begun, if that does not take long."""
        for waiting in (self._lines, self._runs):
            with contextlib.suppress(queue.Full):
                waiting.put_nowait(None)
        for thread in self._threads:
            thread.join(limit)

    def _write_all(self) -> None:
        privileges.be_ordinary()
        while (line := self._lines.get()) is not None:
            with contextlib.suppress(OSError, ValueError):
                self._write(line)

    def _run_all(self) -> None:
        privileges.be_ordinary()
        while (command := self._runs.get()) is not None:
            if problem := run(command):
                self.say(f"{command[0]}: {problem}", "WARNING")


def run(command: tuple[str, ...], limit: float = _RUN_LIMIT) -> str:
    """Why it did not succeed; "" if it did. Over its time it dies with all that it started."""
    try:
        child = subprocess.Popen(  # noqa: S603 - the operator's own, from the configuration
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
    except (OSError, ValueError) as exc:
        return str(exc)
    try:
        code = child.wait(limit)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return f"did not end within {limit:g} s"
    return f"exit {code}" if code else ""
