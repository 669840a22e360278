"""What an Active does: it advertises, keeps its addresses and gives them away in good order; RFC 9568 §6.4.3. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from config.units import MonoTime
from ha import backup, crossing, idle, split, timing, waking
from ha import events as e
from ha.events import OWNER, AddVip, DelVip, Fitness, Loud, SendAdvert, SendGarp, State, Tell
from ha.words import rank

if TYPE_CHECKING:
    from ha.events import AdvertReceived, PeerWord
    from ha.machine import VirtualRouter

STOP_PATIENCE: Final = 0.25  # seconds for the successor's "I have it"
ANSWER_GARP: Final = 1.0  # seconds between sets of announcements that advertisements provoke
ANSWERS: Final = 4  # advertisements per interval that others can provoke
ECHO: Final = 0.05  # seconds within which news of a removed address may be of our own last removal
TWICE: Final = 10.0  # seconds within which a second removal of an address is no accident
FAILED_INTERVALS: Final = 3  # of advertisements that could not be sent


def stop(router: VirtualRouter, event: e.Shutdown, now: MonoTime) -> None:
    successor = crossing.successor(router, now)
    crossing.resign(router, now, "stopped", successor, State.INITIALIZE)
    router.started, router.stopping = False, True
    router.stop_at = MonoTime(now + STOP_PATIENCE) if successor else None


def hear(router: VirtualRouter, advert: AdvertReceived, now: MonoTime) -> None:
    """RFC 9568 §6.4.3, after what the link knows better."""
    word = router.words.of(advert.node, now)
    unlikely = advert.priority == e.LET_GO or (word is not None and word.state is not State.ACTIVE)
    if router.doubt and unlikely:
        return  # what waited while we slept is in no order: the last word decides, when all has been read
    if advert.priority == e.LET_GO:
        _answer(router, now)
        return
    worse = rank(advert.priority, advert.source) < router.own_rank()
    if word is not None and word.state is not State.ACTIVE:
        if not worse:  # a worse one came late and harms nobody
            router.shout(Loud.CONTRADICTED, f"{advert.node}: priority {advert.priority}, not Active by its word")
        _answer(router, now)
    elif worse and not router.doubt:
        router.note_form(advert)
        if now - router.active_since > router.config.interval:
            split.note(router, now, advert.node)
        _answer(router, now)
    else:
        _hear_better(router, advert, word, now)


def _hear_better(router: VirtualRouter, advert: AdvertReceived, word: PeerWord | None, now: MonoTime) -> None:
    if word is not None:
        split.note(router, now, advert.node)
    if advert.priority == OWNER and router.config.is_owner:
        router.shout(Loud.TWO_OWNERS, advert.node)
    crossing.give_way(router, now, f"{advert.node} is Active")
    backup.hear(router, advert, now)


def _answer(router: VirtualRouter, now: MonoTime) -> None:
    """Say at once that we are here, but not as often as others would like."""
    if now - router.answered_at >= router.config.interval / ANSWERS:
        router.answered_at = now
        router.do(router.advert(router.priority))
    if now - router.answer_garp_at >= ANSWER_GARP:
        router.answer_garp_at = now
        split.announce(router, now)


def on_timer(router: VirtualRouter, event: e.TimerFired, now: MonoTime) -> None:
    if router.probe_at is not None and router.probe_at <= now:
        crossing.end_probe(router)
        waking.recover(router, now)
    if router.doubt or router.late:
        waking.wake_late(router, now)
    if router.state is State.ACTIVE and not router.doubt:
        _do_tasks(router, now)


def _do_tasks(router: VirtualRouter, now: MonoTime) -> None:
    if router.refresh_at is not None and router.refresh_at <= now:
        life = timing.lifetime(router.config)
        router.refresh_at = MonoTime(now + life / timing.REFRESHES)
        router.do(*(e.RefreshVip(vip, life) for vip in router.held))
    if router.advert_at is not None and router.advert_at <= now:
        _slot(router, now)
    if router.state is State.ACTIVE and router.garps and router.garps[0] <= now:
        _repeat_garp(router, now)


def _repeat_garp(router: VirtualRouter, now: MonoTime) -> None:
    router.garps = tuple(at for at in router.garps if at > now)
    if not router.garps and router.config.garp_refresh:
        router.garps = (MonoTime(now + router.config.garp_refresh),)
    router.do(*(SendGarp(vip) for vip in router.held))


def _slot(router: VirtualRouter, now: MonoTime) -> None:
    """One advertisement per interval, on the grid that began with the claim."""
    assert router.advert_at is not None
    router.advert_at = timing.next_slot(router.advert_at, router.config.interval, now)
    router.sent_at = now
    _count_failures(router, now)
    if router.state is not State.ACTIVE:
        return
    router.do(router.advert(router.priority), Tell())
    if router.split_since is not None and now - router.split_seen > 2 * router.config.interval:
        split.win(router, now)


def _count_failures(router: VirtualRouter, now: MonoTime) -> None:
    router.send_failures = router.send_failures + 1 if router.send_failed else 0
    router.send_failed = False
    if router.send_failures != FAILED_INTERVALS:
        return
    best = router.words.best(now, Fitness.SERVING)
    router.shout(Loud.CANNOT_SEND, "we stay Active" if best is None else f"resigning to {best.node}")
    if best is not None:
        crossing.note_own_fault(router, now)
        crossing.resign(router, now, "advertisements cannot be sent", best.node)


def on_health(router: VirtualRouter, event: e.HealthChanged, now: MonoTime) -> None:
    before = router.health.fitness
    changed = router.note_health(event.health, now)
    if event.health.fitness is Fitness.UNFIT and before is not Fitness.UNFIT:
        _become_unfit(router, now)
    router.tell_news(changed=changed)


def _become_unfit(router: VirtualRouter, now: MonoTime) -> None:
    """Resign, unless all others are known to be no better: somebody has to hold the address."""
    words = [router.words.of(node.name, now) for node in router.config.nodes]
    if not any(word is None or word.fitness is not Fitness.UNFIT for word in words):
        router.shout(Loud.UNFIT, "nobody else can serve either: staying Active")
        return
    give_up(router, now, crossing.successor(router, now))


def give_up(router: VirtualRouter, now: MonoTime, successor: str) -> None:
    why = "; ".join(router.health.reasons) or "cannot serve"
    router.shout(Loud.UNFIT, why)
    crossing.note_own_fault(router, now)
    crossing.resign(router, now, why, successor, State.INITIALIZE if router.config.is_owner else State.BACKUP)


def on_interface(router: VirtualRouter, event: e.InterfaceChanged, now: MonoTime) -> None:
    if event.up:
        split.announce(router, now)
        return
    router.link = False
    crossing.release(router, now, State.INITIALIZE, "no carrier")
    router.do(Tell())


def on_vip(router: VirtualRouter, event: e.VipChanged, now: MonoTime) -> None:
    """An address somebody removed is put back once; twice is a will. After a long sleep it was the kernel."""
    if event.present or event.vip not in router.held:
        return
    if now - router.active_since < ECHO and not router.doubt:
        return  # were it gone after all, the next refresh would bring it back
    router.held = tuple(vip for vip in router.held if vip != event.vip)
    router.shout(Loud.VIP_REMOVED, str(event.vip))
    if router.doubt:
        crossing.give_way(router, now, "woken late, and the address is gone")
    elif now - router.vip_lost_at < TWICE:
        crossing.note_own_fault(router, now)
        crossing.resign(router, now, "the address was removed twice", crossing.successor(router, now))
    else:
        router.vip_lost_at = now
        router.held = tuple(vip for vip in router.config.addresses if vip in router.held or vip == event.vip)
        router.do(AddVip(event.vip, timing.lifetime(router.config)), SendGarp(event.vip))


def hand_over(router: VirtualRouter, event: e.HandoverAsked, now: MonoTime) -> None:
    to = event.to or crossing.successor(router, now)
    word = router.words.of(to, now)
    if word is None or word.fitness is not Fitness.SERVING:
        router.shout(Loud.REFUSED, f"{to or 'no other node'} is not known to be able to serve")
        return
    crossing.resign(router, now, f"handed over to {to}", to)
    router.given_away = True


def reconfigure(router: VirtualRouter, event: e.Reconfigured, now: MonoTime) -> None:
    """Addresses go and come in one list with one advertisement; the rest counts from the next one on."""
    old, new = router.config.addresses, event.config.addresses
    router.adopt(event.config)
    life = timing.lifetime(event.config)
    router.do(*(DelVip(vip) for vip in router.held if vip not in new))
    added = [vip for vip in new if vip not in router.held]
    router.do(*(AddVip(vip, life) for vip in added), *(SendGarp(vip) for vip in added))
    router.held = new
    if old != new:
        router.do(router.advert(router.priority))
    assert router.advert_at is not None
    router.advert_at = min(router.advert_at, MonoTime(now + event.config.interval))
    router.refresh_at = now
    router.do(Tell())


def on_failure(router: VirtualRouter, event: e.CommandFailed, now: MonoTime) -> None:
    idle.shout_failure(router, event, now)
    if isinstance(event.command, SendAdvert):
        router.send_failed = True
    elif isinstance(event.command, AddVip):
        router.barred_until = MonoTime(now + max(1.0, crossing.note_own_fault(router, now)))
        crossing.resign(router, now, f"an address cannot be added: {event.reason}", crossing.successor(router, now))


def leave_with_group(router: VirtualRouter, event: e.GroupMustLeave, now: MonoTime) -> None:
    crossing.resign(router, now, f"the group leaves: {event.why}", crossing.successor(router, now))
