"""Who somebody is: logins that have been proved and are remembered, and the proving of others away from the loop.

A verified credential is kept under a hash keyed anew in each process, for a lifetime, and only while the file has the
same password hash for its user. Proving takes a thread, one at a time per worker, from a bounded queue; who is not in
the file costs as much time as who is. Failures are counted per address with user, per address and per user, and hold
further tries up for longer and longer; what has been proved before is never held up, so nobody can lock another out.
The clock is an argument.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol

from cachetools import LRUCache

from config.units import MonoTime
from proxy.users.htpasswd import check_password, parse_basic

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from proxy.users.htpasswd import Passwords

LIFETIME = 300.0  # seconds that a proved login is remembered
MOST_KNOWN = 8192  # logins remembered
MOST_WAITING = 64  # proofs queued: five seconds' work at bcrypt's usual cost
WRONG_FOR = 60.0  # seconds that the same wrong words are answered without another proof
FREE_PER_PAIR = 5  # failures of one user from one address before tries are held up
FREE_PER_ADDRESS = 30
FREE_PER_USER = 100  # from wherever
LONGEST_HOLD = 60.0  # seconds
FORGET = 900.0  # seconds without failure after which it counts from 0


class Why(Enum):
    """Why a login is refused."""

    NONE = "none"  # no credentials were sent
    MALFORMED = "malformed"
    WRONG = "wrong"  # no such user, or not this password
    HELD = "held"  # too many failures; see `wait`
    BUSY = "busy"  # too many proofs at once


@dataclass(frozen=True, slots=True)
class Known:
    user: str
    until: MonoTime  # when it has to be proved again


@dataclass(frozen=True, slots=True)
class Refused:
    why: Why
    user: str = ""  # who was claimed
    wait: float = 0.0  # seconds until another try is looked at


Answer = Known | Refused


class Prover(Protocol):
    """Runs `work` away from the loop, then `then` with its result on the loop."""

    def __call__(self, work: Callable[[], bool], then: Callable[[bool], None]) -> None: ...


@dataclass(slots=True)
class _Failures:
    count: int
    last: float


class Logins:
    """The logins of one worker. Invariant: `_waiting` has each credential being proved once, with all who asked."""

    def __init__(self, prove: Prover, clock: Callable[[], MonoTime], lifetime: float = LIFETIME) -> None:
        self._prove = prove
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._passwords: Passwords | None = None
        self.lifetime = lifetime
        self._known: LRUCache[bytes, tuple[str, str, MonoTime]] = LRUCache(MOST_KNOWN)  # user, hash, until
        self._wrong: LRUCache[bytes, tuple[str, float]] = LRUCache(MOST_KNOWN)  # hash, until
        self._failures: LRUCache[Hashable, _Failures] = LRUCache(MOST_KNOWN)
        self._waiting: dict[bytes, list[Callable[[Answer], None]]] = {}

    def adopt(self, passwords: Passwords) -> None:
        """From now on this file counts. Logins whose hash it still has stay."""
        self._passwords = passwords

    def recall(self, credentials: bytes, now: MonoTime) -> Known | None:
        """Who it is, if that has been proved before. Nothing is counted, and nothing begun."""
        return self._recall(self._key_of(credentials), now)

    def _key_of(self, credentials: bytes) -> bytes:
        return blake2b(credentials, key=self._key, digest_size=16).digest()

    def _recall(self, key: bytes, now: MonoTime) -> Known | None:
        known = self._known.get(key)
        if known is None or now >= known[2] or self._passwords is None:
            return None
        return Known(known[0], known[2]) if self._passwords.hashes.get(known[0]) == known[1] else None

    def ask(
        self, credentials: bytes | None, address: str, now: MonoTime, then: Callable[[Answer], None]
    ) -> Answer | None:
        """Who it is, if that is known at once; else None, and `then` is called with the answer later.

        `credentials` is the value of Proxy-Authorization, `address` the client's.
        """
        assert self._passwords is not None, "a file is adopted first"
        if credentials is None:
            return Refused(Why.NONE)
        key = self._key_of(credentials)
        known = self._recall(key, now)
        if known is not None:
            return known
        said = parse_basic(credentials)
        if said is None:
            return Refused(Why.MALFORMED)
        user, password = said
        hashed = self._passwords.hashes.get(user, self._passwords.dummy)
        wait = self._hold(address, user, now)
        if wait > 0:
            return Refused(Why.HELD, user, wait)
        wrong = self._wrong.get(key)
        if wrong is not None and now < wrong[1] and hmac.compare_digest(wrong[0], hashed):
            # A client that repeats its old password harms nobody: it is not counted again.
            return Refused(Why.WRONG, user)
        return self._begin(key, user, password, hashed, address, then)

    def _begin(
        self, key: bytes, user: str, password: bytes, hashed: str, address: str, then: Callable[[Answer], None]
    ) -> Answer | None:
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(then)
            return None
        if len(self._waiting) >= MOST_WAITING:
            return Refused(Why.BUSY, user, 1.0)
        self._waiting[key] = [then]
        self._prove(lambda: check_password(hashed, password), lambda good: self._end(key, user, hashed, address, good))
        return None

    def _end(self, key: bytes, user: str, hashed: str, address: str, good: bool) -> None:
        now = self._clock()
        answer: Answer
        assert self._passwords is not None
        if good and self._passwords.hashes.get(user) == hashed:  # still: the file may have changed meanwhile
            answer = Known(user, MonoTime(now + self.lifetime))
            self._known[key] = (user, hashed, answer.until)
            self._failures.pop((address, user), None)
        else:
            answer = Refused(Why.WRONG, user)
            self._wrong[key] = (hashed, now + WRONG_FOR)
            for who in _counted(address, user):
                self._failed(who, now)
        for then in self._waiting.pop(key):
            then(answer)

    # ---- failures ----------------------------------------------------------------------------------------------------

    def _failed(self, who: Hashable, now: float) -> None:
        failures = self._failures.get(who)
        if failures is None or now - failures.last > FORGET:
            self._failures[who] = _Failures(1, now)
        else:
            failures.count += 1
            failures.last = now

    def _hold(self, address: str, user: str, now: float) -> float:
        """Seconds until a try from here is looked at; 0: now."""
        longest = 0.0
        for who, free in zip(_counted(address, user), (FREE_PER_PAIR, FREE_PER_ADDRESS, FREE_PER_USER), strict=True):
            failures = self._failures.get(who)
            if failures is not None and failures.count >= free and now - failures.last <= FORGET:
                held = min(LONGEST_HOLD, 2.0 ** min(failures.count - free, 16))
                longest = max(longest, failures.last + held - now)
        return longest


def _counted(address: str, user: str) -> tuple[Hashable, Hashable, Hashable]:
    """What failures are counted by."""
    return (address, user), (address, None), (None, user)
