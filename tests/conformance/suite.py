"""All cases, and the in-process proxy they are played against."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conformance.cases import (
    conditions,
    configured,
    corners,
    directives,
    edges,
    freshness,
    matching,
    methods,
    requests,
    stale,
    storing,
)
from tests.kit.inproc import Clock, Stack
from tests.kit.proxy import reverse

if TYPE_CHECKING:
    from tests.conformance.runner import Stage

MODULES = (directives, freshness, storing, matching, requests, stale, conditions, methods, corners, edges, configured)
CASES = tuple(one for module in MODULES for one in module.CASES)

# Cases that fail, and why.
KNOWN: dict[str, str] = {}


class InProcess:
    """The data plane of a worker in a thread, with a clock that is a number."""

    name = "tandem"
    slack = 0

    def __init__(self, stage: Stage, site: str = "") -> None:
        self.stack = Stack(reverse(stage.origin.address, site=site), clock=Clock())
        self.at = self.stack.at

    def wall(self) -> float:
        return self.stack.front.wall_offset + self.stack.now

    def pause(self, seconds: float) -> None:
        assert self.stack.clock is not None
        self.stack.clock.at += seconds
        self.stack.call(self.stack.turn_wheel)

    def stop(self) -> None:
        self.stack.stop()
        assert not self.stack.complaints, "\n".join(self.stack.complaints)
