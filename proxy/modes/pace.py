"""How fast somebody may go on: token buckets, one or many by name. Pure; the clock is an argument.

A bucket fills at its rate up to its burst. What is taken may be more than there is: then it is in debt, and nothing
more is to be taken until that is paid, so that over any time T no more than rate * T + burst + one taking goes out.
"""

from __future__ import annotations

from cachetools import LRUCache

MOST_KNOWN = 8192  # names remembered; who is forgotten starts with a full bucket


class Bucket:
    """One bucket, full at first. Invariant: `level` is at most `burst`, and is as of `at`."""

    __slots__ = ("at", "burst", "level", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate  # per second
        self.burst = burst
        self.level = burst
        self.at = now

    def take(self, amount: float, now: float) -> float:
        """Takes this much, there or not. The seconds until the debt is paid: 0 where there is none."""
        self.fill(now)
        self.level -= amount
        return max(0.0, -self.level / self.rate)

    def fill(self, now: float) -> float:
        """What is in it now; negative: the debt."""
        if now > self.at:
            self.level = min(self.burst, self.level + (now - self.at) * self.rate)
            self.at = now
        return self.level


class Pace:
    """Requests per second, by who asks: a burst of two seconds' worth, and no more than the rate from then on."""

    __slots__ = ("_buckets", "rate")

    def __init__(self, rate: int) -> None:
        self.rate = rate  # per second; 0: no bound
        self._buckets: LRUCache[str, Bucket] = LRUCache(MOST_KNOWN)

    def wait(self, who: str, now: float) -> float:
        """Seconds after which it may ask again; 0: it may now, and this one is counted. Who has to wait is not counted,
        so that who keeps asking is served at the rate.
        """
        if not self.rate:
            return 0.0
        bucket = self._buckets.get(who)
        if bucket is None:
            self._buckets[who] = bucket = Bucket(self.rate, 2.0 * self.rate, now)
        short = 1.0 - bucket.fill(now)
        if short > 0:
            return short / self.rate
        bucket.take(1.0, now)
        return 0.0
