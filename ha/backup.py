"""What a Backup does: it listens, and knows what silence means; RFC 9568 §6.4.2. Pure.

The link knows better than the air: who is Active by its word is not dead, its advertisements are filtered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from config.units import MonoTime
from ha import claiming, crossing, timing
from ha import events as e
from ha.events import Loud, Path, Say, State, Tell
from ha.words import rank

if TYPE_CHECKING:
    from ha.events import AdvertReceived, PeerWord
    from ha.machine import VirtualRouter

_A_MOMENT: Final = 1e-6  # seconds: what counts until a time does not count after it


def hear(router: VirtualRouter, advert: AdvertReceived, now: MonoTime) -> None:
    """RFC 9568 §6.4.2, after what the link knows better."""
    word = router.words.of(advert.node, now)
    if advert.priority == e.LET_GO:
        _hear_zero(router, advert, word)
        return
    if router.claimable and word is not None and word.state is not State.ACTIVE:
        return  # sent before it let go
    router.note_form(advert)
    router.unseen = False
    if advert.node == router.contradicted:
        router.contradicted = ""  # forged, or it has come back
    if advert.node == router.let_go_of:
        router.let_go_at, router.let_go_of = None, ""
    interval = _learned(router, advert)
    if claiming.is_wanted(router, advert.node, rank(advert.priority, advert.source), word, now):
        if word is None:
            return  # discarded, so Active_Down runs out and we claim
        claiming.ask_for_it(router, advert.node, now)
    router.active_interval = interval
    router.heard_at = max(router.heard_at, advert.arrived)
    router.holder, router.overdue = advert.node, False
    crossing.drop_claim(router)
    router.down_at = MonoTime(router.heard_at + router.active_down_interval)
    if advert.node in router.words.ended and now >= router.probe_again and not router.probing:
        router.probe_again = MonoTime(now + router.active_down_interval)
        crossing.ask(router, "ended", now)  # that life of it is over: are these replayed?


def _hear_zero(router: VirtualRouter, advert: AdvertReceived, word: PeerWord | None) -> None:
    if word is not None and word.state is State.ACTIVE:
        router.shout(Loud.CONTRADICTED, f"{advert.node}: priority 0, and Active by its word")
        router.contradicted, router.contradicted_at = advert.node, advert.arrived
    elif router.holder in {"", advert.node} and router.down_at is not None:  # else the holder is still there
        router.down_at = min(router.down_at, MonoTime(advert.arrived + router.skew_time))


def _learned(router: VirtualRouter, advert: AdvertReceived) -> float:
    """The Active's interval. One far from ours is not believed; version 2 has checked that it is equal."""
    if advert.interval <= timing.LONGEST_LEARNED * router.config.interval:
        return advert.interval
    router.shout(Loud.LONG_INTERVAL, f"{advert.node}: {advert.interval:g} s")
    return router.config.interval


def on_timer(router: VirtualRouter, event: e.TimerFired, now: MonoTime) -> None:
    crossing.send_zeros(router, now)
    if router.probe_at is not None and router.probe_at <= now:
        on_probe(router, e.ProbeDone(answered=False), now)
    if router.state is State.BACKUP and router.let_go_at is not None and router.let_go_at <= now:
        _end_asking(router, now)
    if router.state is State.BACKUP and router.down_at is not None and router.down_at <= now:
        _silence(router, now)


def _end_asking(router: VirtualRouter, now: MonoTime) -> None:
    """An interval without a word: it is dead. While it goes on talking, only its own resigning moves us."""
    silent = MonoTime(router.words.said[router.let_go_of].at + router.config.interval)
    if silent > now:
        router.let_go_at = silent
    else:
        router.let_go_at = None
        claiming.try_to_claim(router, "the Active neither answers nor is seen", now)


def _silence(router: VirtualRouter, now: MonoTime) -> None:
    """Active_Down has run out. Who is Active by its word is not dead: its advertisements are filtered."""
    active = router.words.active(now)
    if not active:
        claiming.try_to_claim(router, "the Active is silent", now)
        return
    name = active[0].node
    heard = router.words.said[name].at
    if now - heard > router.config.interval:  # a beat is missing too: it may have died, wait until its word is void
        router.down_at = MonoTime(max(now, heard + router.words.patience) + _A_MOMENT)
        return
    router.shout(Loud.FILTERED, name)
    crossing.listen(router, now)
    node = router.node(name)
    idle = router.let_go_at is None and not router.probing and not router.unseen
    if node is not None and node.path is Path.OTHER and idle:
        router.let_go_of = name
        crossing.ask(router, "filtered", now)


def on_health(router: VirtualRouter, event: e.HealthChanged, now: MonoTime) -> None:
    changed = router.note_health(event.health, now)
    if router.overdue:
        claiming.try_to_claim(router, "the Active is silent, and we can serve", now)
    elif router.claimable and not claiming.may_claim(router, now):
        crossing.drop_claim(router)
    else:
        claiming.claim_if_vacant(router, now)
    router.tell_news(changed=changed)


def on_interface(router: VirtualRouter, event: e.InterfaceChanged, now: MonoTime) -> None:
    if event.up:
        return
    router.link = False
    crossing.leave_backup(router)
    router.turn(State.INITIALIZE, "no carrier")
    router.do(Tell())


def on_probe(router: VirtualRouter, event: e.ProbeDone, now: MonoTime) -> None:
    why = crossing.end_probe(router)
    if event.answered or not why:
        return
    if why == "ended":
        claiming.try_to_claim(router, "advertisements of an ended life, and nobody answers", now)
    elif why == "filtered" and router.let_go_of:  # not heard meanwhile
        router.let_go_at = MonoTime(now + router.config.interval)
        router.do(Tell(Say.LET_GO, router.let_go_of))
