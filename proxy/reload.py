"""One reload, from the signal to the word of the last child: what has come in, and what is to be done next.

Two phases: a candidate is read, in a thread, and every child prepares it; then all commit, or none. Nothing is done
here but the reading: the supervisor asks `next` at each turn and does what it says. Invariant: a reload that is not
committed has changed nothing, and its candidate is closed by whoever refuses it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from config.units import MonoTime
from proxy.candidate import Candidate, CandidateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PREPARE_LIMIT: Final = 60.0  # seconds from the question to the last answer, on a slow and busy machine
TAKE_OVER_LIMIT: Final = 5.0  # seconds for all children to take over what they have prepared


@dataclass(frozen=True, slots=True)
class Wait:
    """Something is still to come."""


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing has changed: there is nothing to do."""


@dataclass(frozen=True, slots=True)
class Ask:
    """The candidate has been read: the children are to be asked, as soon as each of them can listen."""

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Commit:
    """Every child has prepared."""

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Refuse:
    """It has failed; `candidate` is what is to be closed."""

    reason: str
    candidate: Candidate | None = None


class Reload:
    def __init__(self, name: str) -> None:
        self.name = name  # of what is read
        self._read: Candidate | CandidateError | Idle | None = None
        self._waiting: set[str] | None = None  # names of the children that have not answered; None: not asked yet
        self._asked: frozenset[str] = frozenset()
        self._refused: str | None = None
        self.deadline: MonoTime | None = None

    def start(self, read: Callable[[], Candidate | None], wake: Callable[[], object]) -> None:
        """`read` runs in a thread, None being that nothing has changed; `wake` is called when it is through."""

        def work() -> None:
            try:
                self._read = read() or Idle()
            except CandidateError as exc:
                self._read = exc
            except Exception as exc:  # noqa: BLE001 - a border: no file may end the supervisor
                self._read = CandidateError(f"{self.name}: {type(exc).__name__}: {exc}")
            wake()

        threading.Thread(target=work, name="reload", daemon=True).start()

    def asked(self, names: Iterable[str], now: MonoTime) -> None:
        """These children are preparing."""
        self._asked = frozenset(names)
        self._waiting = set(self._asked)
        self.deadline = MonoTime(now + PREPARE_LIMIT)

    def answered(self, name: str, generation: int, refusal: str | None = None) -> bool:
        """Whether this answer was one to this reload: an earlier one, given up, may be answered late."""
        if not isinstance(self._read, Candidate) or self._read.generation != generation:
            return False
        if self._waiting is None or name not in self._waiting:
            return False
        self._waiting.discard(name)
        if refusal is not None:
            self._refused = refusal
        return True

    def died(self, name: str, how: str) -> None:
        """A child has died: if it was asked, perhaps of the question."""
        if name in self._asked:
            self._refused = f"{name} died while preparing ({how})"

    def next(self, now: MonoTime) -> Wait | Idle | Ask | Commit | Refuse:
        """What is to be done now."""
        match self._read:
            case None:
                return Wait()
            case CandidateError() as fault:
                return Refuse(str(fault))
            case Idle() as nothing:
                return nothing
            case candidate:
                return self._judge(candidate, now)

    def _judge(self, candidate: Candidate, now: MonoTime) -> Wait | Ask | Commit | Refuse:
        if self._refused is not None:
            return Refuse(self._refused, candidate)
        if self._waiting is None:
            return Ask(candidate)
        if not self._waiting:
            return Commit(candidate)
        if self.deadline is not None and self.deadline <= now:
            silent = ", ".join(sorted(self._waiting))
            return Refuse(f"no answer within {PREPARE_LIMIT:g} s from {silent}", candidate)
        return Wait()


class TakingOver:
    """The commit, from the word to it until all serve the new configuration. Nothing can be refused any more: one that
    hangs is waited for no longer than TAKE_OVER_LIMIT, and others look after it.
    """

    def __init__(self, name: str, told: Iterable[str], now: MonoTime) -> None:
        self.name = name  # of what they take over
        self.deadline = MonoTime(now + TAKE_OVER_LIMIT)
        self._waiting = set(told)

    def finished(self, name: str) -> None:
        self._waiting.discard(name)

    def is_over(self, now: MonoTime) -> bool:
        return not self._waiting or self.deadline <= now
