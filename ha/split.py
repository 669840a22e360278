"""Two Actives: noticed by whichever way tells first, measured, and ended with the winner heard by everybody. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ha import crossing, timing
from ha import events as e
from ha.events import Loud, SendGarp

if TYPE_CHECKING:
    from config.units import MonoTime
    from ha.machine import VirtualRouter

DEFENCE: Final = 0.1  # seconds between answers to somebody who claims our address


def note(router: VirtualRouter, now: MonoTime, node: str) -> None:
    if router.split_since is None:
        router.split_since = now
        router.shout(Loud.SPLIT, node)
    router.split_seen = now


def win(router: VirtualRouter, now: MonoTime) -> None:
    crossing.end_split(router, now)
    announce(router, now, after_split=True)


def announce(router: VirtualRouter, now: MonoTime, *, after_split: bool = False) -> None:
    """One set at once, and the series again."""
    router.do(*(SendGarp(vip) for vip in router.held))
    router.garps = timing.garp_times(now, after_split=after_split)


def defend(router: VirtualRouter, event: e.ConflictSeen, now: MonoTime) -> None:
    """Never give in to another MAC, RFC 5227 is for hosts; and never shout each other down either."""
    if event.node and now - router.active_since > router.config.interval:
        note(router, now, event.node)
    elif not event.node:
        router.shout(Loud.CONFLICT, f"{event.vip.ip} is also at {event.mac}")
    if not router.doubt and now - router.defended_at >= DEFENCE:
        router.defended_at = now
        router.do(SendGarp(event.vip))
