"""Virtual routers that move together: all of them are Active here, or none is.

A member that would claim says so (`claimable`); when every member would, all claim at once. A member that leaves
Active, for whatever reason, takes the others with it. IPv4 and IPv6 of one virtual router in the file are such a group.
In the list of commands all deletions come first, then all additions, then the rest in the members' order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ha.events import AddVip, DelVip, GroupMayClaim, GroupMustLeave, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from config.units import MonoTime
    from ha.events import Command, Event
    from ha.machine import VirtualRouter


class Step(NamedTuple):
    """One command, and the router it is for."""

    router: VirtualRouter
    command: Command


class Group:
    """One router alone is a group too: then nothing here has an effect. Members of several have `config.group` set."""

    def __init__(self, members: Sequence[VirtualRouter]) -> None:
        assert len(members) == 1 or all(member.config.group for member in members)
        assert len({member.config.key for member in members}) == len(members)
        self.members = tuple(members)

    def handle(self, router: VirtualRouter, event: Event, now: MonoTime) -> list[Step]:
        """What is to be done about an event of one member, by all of them, in this order."""
        steps = _steps(router, event, now)
        if all(member.claimable for member in self.members if member.state is not State.ACTIVE):
            for member in self.members:
                steps += _steps(member, GroupMayClaim(), now) if member.claimable else []
        out = next((member for member in self.members if member.state is not State.ACTIVE), None)
        if out is not None:
            for member in self.members:
                if member.state is State.ACTIVE:
                    steps += _steps(member, GroupMustLeave(out.why), now)
        assert len({member.state is State.ACTIVE for member in self.members}) == 1
        return sorted(steps, key=_turn)

    @property
    def deadline(self) -> MonoTime | None:
        """The earliest of the members'; `due` says whose."""
        return min((at for member in self.members if (at := member.deadline) is not None), default=None)

    def due(self, now: MonoTime) -> list[VirtualRouter]:
        """The members whose TimerFired is to be told now."""
        return [member for member in self.members if (at := member.deadline) is not None and at <= now]


def _steps(router: VirtualRouter, event: Event, now: MonoTime) -> list[Step]:
    return [Step(router, command) for command in router.handle(event, now)]


def _turn(step: Step) -> int:
    if isinstance(step.command, DelVip):
        return 0
    return 1 if isinstance(step.command, AddVip) else 2
