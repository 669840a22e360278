"""The ways in and out: into listening, to Active and back, with what is to be done on each; RFC 9568 §6.4. Pure.

Whether a way is taken is decided elsewhere. Invariants: the addresses are off the interface before anything is said
of letting go; what cannot be added is not announced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from config.units import MonoTime
from ha import events as e
from ha import timing
from ha.events import AddVip, DelVip, Fitness, Say, SendGarp, State, Tell

if TYPE_CHECKING:
    from ha.machine import VirtualRouter

PROBE_PATIENCE: Final = 0.05  # a probe takes 20 ms; the runtime answers, or silence is the answer
LOSSES_KEPT: Final = 60.0  # seconds


def become_backup(router: VirtualRouter, now: MonoTime, why: str) -> None:
    router.turn(State.BACKUP, why)
    router.active_interval = router.config.interval
    listen(router, now)
    router.listen_until = MonoTime(now + router.active_down_interval)


def listen(router: VirtualRouter, now: MonoTime) -> None:
    """Active_Down in full from now on."""
    router.heard_at, router.overdue = now, False
    drop_claim(router)
    router.down_at = MonoTime(now + router.active_down_interval)


def drop_claim(router: VirtualRouter) -> None:
    router.claimable, router.claim_why, router.claim_from = False, "", ""


def leave_backup(router: VirtualRouter) -> None:
    router.down_at, router.let_go_at, router.overdue, router.holder = None, None, False, ""
    drop_claim(router)
    end_probe(router)


def claim(router: VirtualRouter, why: str, now: MonoTime, let_go: str = "") -> None:
    """The address, who has it, the advertisement, in this order."""
    leave_backup(router)
    router.zeros, router.given_away, router.unseen = (), False, False
    router.incarnation += 1
    vips = router.held = router.config.addresses
    life = timing.lifetime(router.config)
    router.do(*(AddVip(vip, life) for vip in vips), *(SendGarp(vip) for vip in vips), router.advert(router.priority))
    router.turn(State.ACTIVE, why)
    router.do(Tell(Say.HAVE, let_go) if let_go else Tell())
    router.active_since = router.sent_at = now
    router.advert_at = MonoTime(now + router.config.interval)
    router.refresh_at = MonoTime(now + life / timing.REFRESHES)
    router.garps = timing.garp_times(now)
    router.send_failed, router.send_failures = False, 0


def release(router: VirtualRouter, now: MonoTime, to: State, why: str) -> None:
    """The addresses are off before anything is said."""
    router.do(*(DelVip(vip) for vip in router.held))
    end_split(router, now)
    router.held, router.garps, router.advert_at, router.refresh_at = (), (), None, None
    router.late = router.doubt = False
    end_probe(router)
    if to is State.BACKUP:
        become_backup(router, now, why)
    else:
        router.turn(to, why)


def resign(router: VirtualRouter, now: MonoTime, why: str, successor: str = "", to: State = State.BACKUP) -> None:
    """Let go, with a name if somebody better is known: it claims without waiting for anything."""
    release(router, now, to, why)
    router.do(Tell(Say.RESIGN, successor), router.advert(e.LET_GO))
    router.zeros = tuple(MonoTime(now + delay) for delay in timing.ZERO_REPEATS)


def give_way(router: VirtualRouter, now: MonoTime, why: str) -> None:
    """Another is Active: no priority 0, it would only wake the others."""
    release(router, now, State.BACKUP, why)
    router.do(Tell())


def end_split(router: VirtualRouter, now: MonoTime) -> None:
    if router.split_since is not None:
        router.do(e.SplitEnded(now - router.split_since))
        router.split_since = None


def send_zeros(router: VirtualRouter, now: MonoTime) -> None:
    """All that are due, be it late: each of them may be the one that is not lost."""
    while router.zeros and router.zeros[0] <= now:
        router.zeros = router.zeros[1:]
        router.do(router.advert(e.LET_GO))


def ask(router: VirtualRouter, why: str, now: MonoTime) -> None:
    router.probing, router.probe_at = why, MonoTime(now + PROBE_PATIENCE)
    router.do(e.Probe(tuple(vip.ip for vip in router.config.addresses)))


def end_probe(router: VirtualRouter) -> str:
    why, router.probing, router.probe_at = router.probing, "", None
    return why


def note_own_fault(router: VirtualRouter, now: MonoTime) -> float:
    """The address is lost by our fault: from the second time within a minute we wait longer and longer."""
    router.losses = (*(at for at in router.losses if now - at < LOSSES_KEPT), now)
    wait = timing.wait_after_losses(len(router.losses))
    router.wanted_from = MonoTime(now + wait)
    return wait


def successor(router: VirtualRouter, now: MonoTime) -> str:
    """Who can serve, better than us or not; if we cannot at all, who at least listens."""
    least = Fitness.LISTENING if router.health.fitness is Fitness.UNFIT else Fitness.SERVING
    best = router.words.best(now, least)
    return best.node if best is not None else ""
