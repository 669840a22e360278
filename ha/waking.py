"""Woken late, by a busy machine or a suspended one: no old timer is trusted, and others are asked first. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.units import MonoTime
from ha import crossing, split, timing
from ha import events as e
from ha.events import Loud, State

if TYPE_CHECKING:
    from ha.machine import VirtualRouter


def notice_lateness(router: VirtualRouter, now: MonoTime) -> None:
    """More than an interval late, no old timer is trusted; three without advertisement: others may have claimed."""
    if router.state is State.ACTIVE and router.advert_at is not None and not (router.late or router.doubt):
        router.late = now - router.advert_at > router.config.interval
        if router.late:
            router.shout(Loud.LATE, f"{now - router.advert_at:.3f} s")
            router.doubt = now - router.sent_at >= timing.DOWN_INTERVALS * router.config.interval
    elif router.state is State.BACKUP and router.down_at is not None and now - router.down_at > router.active_interval:
        router.shout(Loud.LATE, f"{now - router.down_at:.3f} s")
        listen_anew(router, e.Suspended(), now)


def listen_anew(router: VirtualRouter, event: e.Suspended, now: MonoTime) -> None:
    crossing.listen(router, now)
    router.deaf_until = MonoTime(now + router.active_interval)
    router.listen_until = MonoTime(now + router.active_down_interval)


def begin_doubt(router: VirtualRouter, event: e.Suspended, now: MonoTime) -> None:
    router.late = router.doubt = True
    router.advert_at = now


def wake_late(router: VirtualRouter, now: MonoTime) -> None:
    """Socket and link have been read: nobody claimed who would be heard. Who could not be heard is asked for."""
    if not router.doubt:
        recover(router, now)
        return
    words = [router.words.of(node.name, now) for node in router.config.nodes]
    if all(word is not None and word.state is not State.ACTIVE for word in words):
        recover(router, now)  # also when there is no other node
    else:
        if not router.probing:
            crossing.ask(router, "late", now)
        router.advert_at = router.refresh_at = router.probe_at  # nothing before the answer
        router.garps = ()


def recover(router: VirtualRouter, now: MonoTime) -> None:
    router.late = router.doubt = False
    router.advert_at = timing.next_slot(now, router.config.interval, now)
    router.refresh_at = MonoTime(now + timing.lifetime(router.config) / timing.REFRESHES)
    router.sent_at = now
    router.do(
        *(e.RefreshVip(vip, timing.lifetime(router.config)) for vip in router.held), router.advert(router.priority)
    )
    split.announce(router, now)


def end_doubt(router: VirtualRouter, event: e.ProbeDone, now: MonoTime) -> None:
    why = crossing.end_probe(router)
    if why != "late":
        return
    if event.answered:
        crossing.give_way(router, now, "woken late, and another answers for the address")
    else:
        recover(router, now)
