"""What the other nodes say on the link, and what a router in each state makes of it. Pure.

Which words still count: `words.py`. A link never makes an owner by its silence; a name in a resignation is an order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.units import MonoTime
from ha import active, claiming, crossing, idle, split
from ha import events as e
from ha.events import Fitness, Loud, Say, State
from ha.words import rank

if TYPE_CHECKING:
    from ha.events import PeerWord
    from ha.machine import VirtualRouter


def _note_word(router: VirtualRouter, word: PeerWord, now: MonoTime) -> bool:
    before = router.words.said.get(word.node)
    if not router.words.note(word, now):
        return False
    if word.digest != router.config.digest and (before is None or before.word.digest != word.digest):
        router.shout(Loud.DRIFT, word.node)
    return True


def note_loss(router: VirtualRouter, event: e.PeerLost, now: MonoTime) -> None:
    """The link of a node is gone: that changes no state by itself."""
    if router.words.lose(event.node, ended=event.ended):
        router.shout(Loud.LINK_LOST, event.node)


def note_loss_in_backup(router: VirtualRouter, event: e.PeerLost, now: MonoTime) -> None:
    """With the end of its life on the link, the priority 0 that came just before is no contradiction any more."""
    note_loss(router, event, now)
    recent = now - router.contradicted_at <= router.active_down_interval
    if event.ended and event.node == router.contradicted and recent and router.down_at is not None:
        router.contradicted = ""
        if router.holder in {"", event.node}:
            router.down_at = min(router.down_at, MonoTime(now + router.skew_time))


def hear_idle(router: VirtualRouter, event: e.PeerSaid, now: MonoTime) -> None:
    word = event.word
    if not _note_word(router, word, now) or not router.stopping:
        return
    if word.state is State.ACTIVE:  # "I have it"
        router.stop_at = None
        idle.finish(router)


def hear_backup(router: VirtualRouter, event: e.PeerSaid, now: MonoTime) -> None:
    word = event.word
    if not _note_word(router, word, now):
        return
    if word.say is Say.RESIGN:
        _hear_resign(router, word, now)
    elif word.state is State.ACTIVE:
        if router.overdue:
            crossing.listen(router, now)
        if claiming.is_wanted(router, word.node, rank(word.priority, word.source), word, now):
            claiming.ask_for_it(router, word.node, now)
    elif router.let_go_at is not None and word.node == router.let_go_of:
        router.let_go_at = None
        claiming.try_to_claim(router, "the Active has let go", now)
    else:
        claiming.claim_if_vacant(router, now)


def _hear_resign(router: VirtualRouter, word: PeerWord, now: MonoTime) -> None:
    """A name in it is an order to that node; without one everybody waits for skew, as after priority 0."""
    if word.state is State.ACTIVE:
        return  # nobody says so: it lets go first
    if word.to == router.config.node:
        willing = router.health.fitness is not Fitness.UNFIT and now >= max(router.deaf_until, router.barred_until)
        if willing:
            router.given_away = False
            claiming.want(router, f"{word.node} resigned to us", now, word.node)
        return
    router.listen_until = MonoTime(now + router.active_down_interval)
    if not word.to and router.holder in {"", word.node} and router.down_at is not None:
        router.down_at = min(router.down_at, MonoTime(now + router.skew_time))


def hear_active(router: VirtualRouter, event: e.PeerSaid, now: MonoTime) -> None:
    word = event.word
    before = router.words.said.get(word.node)
    if not _note_word(router, word, now):
        return
    if word.state is State.ACTIVE:
        _hear_other_active(router, word, now)
    elif router.split_since is not None:
        split.win(router, now)
    elif before is not None and word.incarnation > before.word.incarnation:
        split.announce(router, now, after_split=True)  # it may have claimed unseen by us, and let go when it heard us
    if router.state is not State.ACTIVE:
        return
    asked = word.to == router.config.node and word.fitness >= max(router.health.fitness, Fitness.LISTENING)
    if asked and word.say is Say.READY and _is_better(router, word):
        router.do(e.AwaitQuiet(word.node))  # clients are answered here as well: nothing hurries
    elif asked and word.say is Say.LET_GO:
        crossing.resign(router, now, f"{word.node} does not see us", word.node)
        router.unseen = True
    elif router.health.fitness is Fitness.UNFIT and word.fitness is not Fitness.UNFIT:
        active.give_up(router, now, word.node)


def _is_better(router: VirtualRouter, word: PeerWord) -> bool:
    return rank(word.priority, word.source) > router.own_rank()


def yield_to_better(router: VirtualRouter, event: e.QuietCame, now: MonoTime) -> None:
    """Unless it has become worse, or silent, while we waited for the instant."""
    word = router.words.of(event.to, now)
    if word is None or word.fitness < max(router.health.fitness, Fitness.LISTENING) or not _is_better(router, word):
        return
    if router.health.fitness is not Fitness.SERVING or router.is_degraded():
        crossing.note_own_fault(router, now)
    crossing.resign(router, now, f"{word.node} is better", word.node)


def _hear_other_active(router: VirtualRouter, word: PeerWord, now: MonoTime) -> None:
    """Two Actives, by the link: the better stays, and who has slept gives way to whom did not."""
    split.note(router, now, word.node)
    if router.doubt or rank(word.priority, word.source) > router.own_rank():
        crossing.give_way(router, now, f"{word.node} is Active")
