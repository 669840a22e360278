"""The last decisions of a worker, for people: what was asked, what became of it and why. A ring, bounded and cheap.

Not a log: of each quarter of a second the first SAMPLE exchanges are kept, and of answers that were repeated one row
with how often. So a quiet worker shows everything, a busy one a sample, and the hot path pays one comparison.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.observe.accesslog import Entry
    from proxy.policy.reasons import Reason

KEPT: Final = 1000
SAMPLE: Final = 32  # exchanges of one flush, and as many repeated answers


class Decision(NamedTuple):
    """One row: an exchange, or how often an equal answer was given since the last look."""

    said: Entry
    detail: Reason | None  # why the answer was not stored
    client: str
    at: float  # the loop's time of its end
    duration: float
    times: int


class Recent:
    """The ring. `room`: how many exchanges may still be noted before the next flush."""

    __slots__ = ("_ring", "room")

    def __init__(self) -> None:
        self._ring: deque[Decision] = deque(maxlen=KEPT)
        self.room = SAMPLE

    def note(self, decision: Decision) -> None:
        self._ring.append(decision)

    def rows(self, limit: int, offset: float) -> Iterator[dict[str, Any]]:
        """The last ones, newest first, as plain values; `offset` is wall time less the loop's."""
        for said, detail, client, at, duration, times in islice(reversed(self._ring), max(0, limit)):
            where = b"%b://%b%b" % (said.scheme, said.authority, said.target)
            yield {
                "at": at + offset,
                "method": said.method.decode("latin-1"),
                "url": where.decode("latin-1"),
                "from": said.remote or client,
                "site": said.site,
                "rule": said.rule,
                "outcome": said.outcome.value,
                "reason": None if said.reason is None else said.reason.token,
                "detail": None if detail is None else detail.token,
                "error": None if said.failure is None else said.failure.token,
                "status": said.status,
                "bytes": said.sent,
                "upstream": said.upstream,
                "seconds": duration,
                "times": times,
            }
