"""The times of a virtual router: RFC 9568 §6.1, and ours for addresses and announcements. All in seconds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from config.units import MonoTime

if TYPE_CHECKING:
    from ha.events import RouterConfig

DOWN_INTERVALS: Final = 3  # missed advertisements after which an Active counts as silent, RFC 9568 §6.1
LONGEST_LEARNED: Final = 10  # times our own interval: a forged one must not keep us asleep for minutes
GARP_DELAYS: Final = (0.002, 0.01, 0.05, 0.25, 1.0)  # after the first, which goes out at once
GARP_AFTER_SPLIT: Final = (0.1, 1.0)  # the whole series again: caches may have learned of the loser meanwhile
ZERO_REPEATS: Final = (0.001, 0.002)  # a lost priority 0 costs clients a whole Active_Down
REFRESHES: Final = 4  # of an address per lifetime


def skew_time(version: int, priority: int, active_interval: float) -> float:
    """(256 - priority) * interval / 256, RFC 9568 §6.1; version 2 takes a second for the interval, RFC 3768 §6.1."""
    return (256 - priority) / 256 * (active_interval if version == 3 else 1.0)


def active_down_interval(version: int, priority: int, active_interval: float) -> float:
    """How long an Active may be silent before a Backup of this priority claims."""
    return DOWN_INTERVALS * active_interval + skew_time(version, priority, active_interval)


def lifetime(config: RouterConfig) -> int:
    """Whole seconds for which the kernel keeps an address that nobody refreshes: the least above Active_Down."""
    return math.floor(active_down_interval(config.version, config.priority, config.interval)) + 1


def garp_times(now: MonoTime, *, after_split: bool = False) -> tuple[MonoTime, ...]:
    """When to announce again, sorted; the first announcement is made at once and not among them."""
    starts = (0.0, *(GARP_AFTER_SPLIT if after_split else ()))
    offsets = {start + delay for start in starts for delay in (0.0, *GARP_DELAYS)} - {0.0}
    return tuple(MonoTime(now + offset) for offset in sorted(offsets))


def next_slot(due: MonoTime, interval: float, now: MonoTime) -> MonoTime:
    """The first due + k * interval after `now`: lateness does not add up, a missed slot is not made up for."""
    missed = max(0, math.floor((now - due) / interval))
    slot = due + (missed + 1) * interval
    return MonoTime(slot if slot > now else slot + interval)  # the division may round either way


def wait_after_losses(count: int) -> float:
    """How long a node does not want the address back that it lost `count` times within a minute: 0, 0, 2, 4, ... 60."""
    return 0.0 if count < 2 else min(60.0, 2.0 ** (count - 1))
