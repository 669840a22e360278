"""Whether a Backup claims: what it wants, what it may, and whose turn it is when nobody is Active. Pure.

Being better alone is no reason to take an address from whoever holds it; being healthier is evidence. The ill claim
only if nobody better is known, and who never served not at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from config.units import MonoTime
from ha import crossing
from ha import events as e
from ha.events import Fitness, Say, State, Tell
from ha.words import Rank, claim_order, rank

if TYPE_CHECKING:
    from ha.events import PeerWord
    from ha.machine import VirtualRouter

UNFIT_PRIORITY: Final = 1


def is_wanted(router: VirtualRouter, node: str, theirs: Rank, word: PeerWord | None, now: MonoTime) -> bool:
    """Whether this node should take the address from that Active: being better alone is no reason."""
    if theirs >= router.own_rank() or router.unseen or now < max(router.wanted_from, router.barred_until):
        router.healthier_since = None
        return False
    if _is_healthier(router, node, theirs.priority, word):
        if router.healthier_since is None:
            router.healthier_since = now
            if router.config.service_patience:
                router.do(e.LookAtOrigins())  # what it lost may be lost to us too
        hopeless = word is not None and word.fitness is Fitness.UNFIT
        sure = router.origins_seen >= router.healthier_since
        if hopeless or sure or now - router.healthier_since >= router.config.service_patience:
            return True
    else:
        router.healthier_since = None
    if not router.config.preempt or router.given_away or router.serving_since is None:
        return False
    return now >= router.serving_since + router.config.preempt_delay


def on_origins(router: VirtualRouter, event: e.OriginsSeen, now: MonoTime) -> None:
    """With what we have seen just now there is nothing to wait for."""
    if not event.good:
        return
    router.origins_seen = event.asked
    for word in router.words.active(now):
        if is_wanted(router, word.node, rank(word.priority, word.source), word, now):
            ask_for_it(router, word.node, now)


def _is_healthier(router: VirtualRouter, name: str, priority: int, word: PeerWord | None) -> bool:
    """Evidence: it can do less by its own word, or lost more of its configured priority than we did."""
    ours = router.health.fitness
    if word is not None and word.fitness is not ours:
        return word.fitness < ours
    if ours is not Fitness.SERVING:
        return ours is Fitness.LISTENING and word is None and priority == UNFIT_PRIORITY
    node = router.node(name)
    if node is None or node.priority is None:
        return False
    return node.priority - priority > router.config.priority - router.priority


def ask_for_it(router: VirtualRouter, node: str, now: MonoTime) -> None:
    if now >= router.ready_at:
        router.ready_at = MonoTime(now + router.config.interval)
        router.do(Tell(Say.READY, node))


def may_claim(router: VirtualRouter, now: MonoTime) -> bool:
    """Whoever can serve; the ill only if nobody better is known; who never served not at all."""
    if now < router.barred_until:
        return False
    fitness = router.health.fitness
    if fitness is Fitness.SERVING:
        return True
    if fitness is Fitness.UNFIT and not router.served:
        return False
    best = router.words.best(now, Fitness.UNFIT)
    return best is None or best.fitness <= fitness


def want(router: VirtualRouter, why: str, now: MonoTime, let_go: str = "") -> None:
    """Claim, or if we belong to a group, let it see that we would."""
    if not router.config.group:
        crossing.claim(router, why, now, let_go)
    else:
        router.claimable, router.claim_why, router.claim_from = True, why, let_go


def try_to_claim(router: VirtualRouter, why: str, now: MonoTime) -> None:
    router.overdue = True
    if may_claim(router, now):
        want(router, why, now)
    else:
        crossing.drop_claim(router)
    if router.state is State.BACKUP:
        router.down_at = MonoTime(now + router.active_interval)  # words age without an event


def claim_if_vacant(router: VirtualRouter, now: MonoTime) -> None:
    """All nodes are heard on the link, none is Active, and we are the best of them: no need to wait for silence."""
    if now < router.listen_until or router.health.fitness is Fitness.UNFIT or not may_claim(router, now):
        return
    for node in router.config.nodes:
        word = router.words.of(node.name, now)
        if word is None or word.state is State.ACTIVE or router.heard_at >= router.words.said[node.name].since:
            return
        if claim_order(word) > (router.health.fitness, router.own_rank()):
            return
    if router.config.nodes:
        want(router, "nobody is Active", now)


def claim_with_group(router: VirtualRouter, event: e.GroupMayClaim, now: MonoTime) -> None:
    if router.claimable:
        crossing.claim(router, router.claim_why, now, router.claim_from)
