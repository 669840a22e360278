"""What a virtual router does that is not Active: Initialize, and what Backup shares with it; RFC 9568 §6.4.1. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.units import MonoTime
from ha import claiming, crossing
from ha import events as e
from ha.events import OWNER, AddVip, DelVip, Fitness, Loud, State, Tell

if TYPE_CHECKING:
    from ha.machine import VirtualRouter


def start(router: VirtualRouter, event: e.Startup, now: MonoTime) -> None:
    router.started, router.stopping, router.stop_at = True, False, None
    _begin(router, now)


def _begin(router: VirtualRouter, now: MonoTime) -> None:
    """To Backup; an owner that can serve to Active (RFC 9568 §6.4.1)."""
    if not router.link:
        router.why = "no carrier"
    elif not router.config.is_owner:
        crossing.become_backup(router, now, "started")
    elif router.health.fitness is Fitness.UNFIT:
        router.why = "the owner cannot serve"
        router.shout(Loud.UNFIT, router.why)
    elif any(word.priority == OWNER for word in router.words.active(now)):
        router.shout(Loud.TWO_OWNERS)
        crossing.become_backup(router, now, "another owner is Active")
    else:
        claiming.want(router, "owner", now)


def on_timer(router: VirtualRouter, event: e.TimerFired, now: MonoTime) -> None:
    crossing.send_zeros(router, now)
    if router.settle_at is not None and router.settle_at <= now:
        router.settle_at = None
        _begin(router, now)
    if router.stop_at is not None and router.stop_at <= now:
        router.stop_at = None
    finish(router)


def finish(router: VirtualRouter) -> None:
    """A stop is over when priority 0 has been said three times and the successor has it, or took too long."""
    if router.stopping and not router.zeros and router.stop_at is None:
        router.stopping = False
        router.do(e.Stopped())


def on_health(router: VirtualRouter, event: e.HealthChanged, now: MonoTime) -> None:
    changed = router.note_health(event.health, now)
    ready = router.started and router.link and router.settle_at is None and not router.claimable
    if ready and router.config.is_owner and event.health.fitness is not Fitness.UNFIT:
        _begin(router, now)
    router.tell_news(changed=changed)


def settle(router: VirtualRouter, event: e.InterfaceChanged, now: MonoTime) -> None:
    if event.up == router.link:
        return
    router.link = event.up
    router.settle_at = MonoTime(now + router.config.link_settle) if event.up and router.started else None


def stop(router: VirtualRouter, event: e.Shutdown, now: MonoTime) -> None:
    if router.state is not State.INITIALIZE:
        crossing.leave_backup(router)
        router.turn(State.INITIALIZE, "stopped")
        router.do(Tell())
    router.started, router.stopping, router.settle_at = False, True, None
    finish(router)


def remove_foreign(router: VirtualRouter, event: e.VipChanged, now: MonoTime) -> None:
    """An address that is there while we are not Active would answer for the one who is."""
    if event.present and event.vip in router.config.addresses:
        router.do(DelVip(event.vip))
        router.shout(Loud.VIP_FOREIGN, str(event.vip))


def refuse_handover(router: VirtualRouter, event: e.HandoverAsked, now: MonoTime) -> None:
    router.shout(Loud.REFUSED, "this node is not Active")


def reconfigure(router: VirtualRouter, event: e.Reconfigured, now: MonoTime) -> None:
    """New values for the timers that start from now on; a running Active_Down keeps its end."""
    if router.active_interval == router.config.interval:
        router.active_interval = event.config.interval
    router.adopt(event.config)
    router.do(Tell())


def shout_failure(router: VirtualRouter, event: e.CommandFailed, now: MonoTime) -> None:
    what = Loud.CANNOT_ADD if isinstance(event.command, AddVip | e.RefreshVip | DelVip) else Loud.CANNOT_SEND
    router.shout(what, event.reason)
