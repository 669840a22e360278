"""The life of a virtual router: RFC 9568 §6.4 (and RFC 3768 §6.4), with the word of the other nodes as second witness.

Pure: an event and the time come in, commands come out, the next `deadline` can be read. Nothing here waits or fails.
Which event is answered by what, and which states may follow, is the one table TRANSITIONS; it names the rooms in which
the handlers are. What the other nodes said: `words.py`; routers that move together: `group.py`; doing it: the engine.

Invariants, checked after every event: an Active, and nobody else, holds addresses; the state that follows is one the
table allows; an address is never given away before it is off the interface, so a handover never makes two Actives.
The list of commands is in the order of execution: what cannot be added is not announced.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from config.units import MonoTime
from ha import active, backup, claiming, hearsay, idle, split, timing, waking
from ha import events as e
from ha.events import OWNER, Fitness, Health, Loud, Say, SendAdvert, State, Tell
from ha.words import PATIENCE, Rank, Words, rank

if TYPE_CHECKING:
    from collections.abc import Callable

    from ha.events import AdvertReceived, Command, Event, Form, Node, RouterConfig, Vip


class Rule(NamedTuple):
    handler: Callable[..., None]  # (router, event, now)
    to: frozenset[State]  # the states that may follow


def _rule(handler: Callable[..., None], *to: State) -> Rule:
    return Rule(handler, frozenset(to))


_I, _B, _A = State.INITIALIZE, State.BACKUP, State.ACTIVE


def _ignore(router: VirtualRouter, event: Event, now: MonoTime) -> None:
    """It means nothing in this state."""


# An event that is not in the row of a state is an error, and so is a state that is not in `to`.
TRANSITIONS: Final[dict[State, dict[type[Event], Rule]]] = {
    State.INITIALIZE: {
        e.Startup: _rule(idle.start, _I, _B, _A),
        e.Shutdown: _rule(idle.stop, _I),
        e.AdvertReceived: _rule(_ignore, _I),
        e.TimerFired: _rule(idle.on_timer, _I, _B, _A),
        e.Suspended: _rule(_ignore, _I),
        e.HealthChanged: _rule(idle.on_health, _I, _B, _A),
        e.InterfaceChanged: _rule(idle.settle, _I),
        e.PeerSaid: _rule(hearsay.hear_idle, _I),
        e.PeerLost: _rule(hearsay.note_loss, _I),
        e.VipChanged: _rule(idle.remove_foreign, _I),
        e.ConflictSeen: _rule(_ignore, _I),
        e.ProbeDone: _rule(_ignore, _I),
        e.OriginsSeen: _rule(_ignore, _I),
        e.HandoverAsked: _rule(idle.refuse_handover, _I),
        e.QuietCame: _rule(_ignore, _I),
        e.Reconfigured: _rule(idle.reconfigure, _I),
        e.CommandFailed: _rule(idle.shout_failure, _I),
        e.GroupMayClaim: _rule(claiming.claim_with_group, _I, _A),  # an owner
        e.GroupMustLeave: _rule(_ignore, _I),
    },
    State.BACKUP: {
        e.Startup: _rule(_ignore, _B),
        e.Shutdown: _rule(idle.stop, _I),
        e.AdvertReceived: _rule(backup.hear, _B),
        e.TimerFired: _rule(backup.on_timer, _B, _A),
        e.Suspended: _rule(waking.listen_anew, _B),
        e.HealthChanged: _rule(backup.on_health, _B, _A),
        e.InterfaceChanged: _rule(backup.on_interface, _B, _I),
        e.PeerSaid: _rule(hearsay.hear_backup, _B, _A),
        e.PeerLost: _rule(hearsay.note_loss_in_backup, _B),
        e.VipChanged: _rule(idle.remove_foreign, _B),
        e.ConflictSeen: _rule(_ignore, _B),
        e.ProbeDone: _rule(backup.on_probe, _B, _A),
        e.OriginsSeen: _rule(claiming.on_origins, _B),
        e.HandoverAsked: _rule(idle.refuse_handover, _B),
        e.QuietCame: _rule(_ignore, _B),
        e.Reconfigured: _rule(idle.reconfigure, _B),
        e.CommandFailed: _rule(idle.shout_failure, _B),
        e.GroupMayClaim: _rule(claiming.claim_with_group, _B, _A),
        e.GroupMustLeave: _rule(_ignore, _B),
    },
    State.ACTIVE: {
        e.Startup: _rule(_ignore, _A),
        e.Shutdown: _rule(active.stop, _I),
        e.AdvertReceived: _rule(active.hear, _A, _B),
        e.TimerFired: _rule(active.on_timer, _A, _B),
        e.Suspended: _rule(waking.begin_doubt, _A),
        e.HealthChanged: _rule(active.on_health, _A, _B, _I),
        e.InterfaceChanged: _rule(active.on_interface, _A, _I),
        e.PeerSaid: _rule(hearsay.hear_active, _A, _B, _I),
        e.PeerLost: _rule(hearsay.note_loss, _A),
        e.VipChanged: _rule(active.on_vip, _A, _B),
        e.ConflictSeen: _rule(split.defend, _A),
        e.ProbeDone: _rule(waking.end_doubt, _A, _B),
        e.OriginsSeen: _rule(_ignore, _A),
        e.HandoverAsked: _rule(active.hand_over, _A, _B),
        e.QuietCame: _rule(hearsay.yield_to_better, _A, _B),
        e.Reconfigured: _rule(active.reconfigure, _A),
        e.CommandFailed: _rule(active.on_failure, _A, _B),
        e.GroupMayClaim: _rule(_ignore, _A),
        e.GroupMustLeave: _rule(active.leave_with_group, _B),
    },
}

UNFIT_PRIORITY: Final = 1
_NEVER: Final = MonoTime(float("-inf"))


def _is_report(command: Command) -> bool:
    """Telling people comes after everything that clients wait for."""
    return isinstance(command, e.Shout | e.Changed | e.SplitEnded | e.Stopped)


@dataclass(slots=True)
class VirtualRouter:
    """One virtual router on this node. Equal when all that decides is equal."""

    config: RouterConfig
    incarnation: int = 1  # higher than in any earlier life
    state: State = State.INITIALIZE
    why: str = "not started"
    health: Health = field(init=False)  # nothing is known before the first HealthChanged: not good
    form: Form = field(init=False)  # of our checksums
    words: Words = field(init=False)
    held: tuple[Vip, ...] = ()  # what is on the interface by our doing

    started: bool = False
    link: bool = True  # carrier
    served: bool = False  # listeners have answered in this life
    serving_since: MonoTime | None = None  # preempt_delay counts from here

    # Backup
    active_interval: float = field(init=False)  # the Active's, learned in version 3
    heard_at: MonoTime = _NEVER  # the last advertisement, or when we began to listen
    down_at: MonoTime | None = None  # Active_Down_Timer
    holder: str = ""  # whose advertisements we obey
    contradicted: str = ""  # the node whose priority 0 was not believed, for its word was another
    contradicted_at: MonoTime = _NEVER
    overdue: bool = False  # the Active is silent, but we may not claim yet
    claimable: bool = False  # we would claim, the group is asked
    claim_why: str = ""
    claim_from: str = ""  # the node that let go for us
    listen_until: MonoTime = _NEVER  # until then no word but "resign to you" makes us claim
    deaf_until: MonoTime = _NEVER  # woken late: not even that, it may be old
    healthier_since: MonoTime | None = None  # than the Active
    origins_seen: MonoTime = _NEVER  # our own were good, by checks begun then
    ready_at: MonoTime = _NEVER  # when "ready" may be said again
    let_go_at: MonoTime | None = None  # asked to let go, the Active has until then
    let_go_of: str = ""

    # Active
    advert_at: MonoTime | None = None  # Adver_Timer
    sent_at: MonoTime = _NEVER  # the last regular advertisement
    active_since: MonoTime = _NEVER
    garps: tuple[MonoTime, ...] = ()
    refresh_at: MonoTime | None = None  # of the addresses' lifetimes
    late: bool = False  # woken late, by less than it takes others to claim
    doubt: bool = False  # woken so late that others may have claimed
    answered_at: MonoTime = _NEVER
    answer_garp_at: MonoTime = _NEVER
    defended_at: MonoTime = _NEVER
    vip_lost_at: MonoTime = _NEVER
    send_failed: bool = False  # since the last regular advertisement
    send_failures: int = 0  # intervals in a row
    split_since: MonoTime | None = None
    split_seen: MonoTime = _NEVER

    # Any
    probing: str = ""  # why we ask by ARP: "filtered", "ended", "late"
    probe_at: MonoTime | None = None  # when silence is the answer
    probe_again: MonoTime = _NEVER
    zeros: tuple[MonoTime, ...] = ()  # repeats of priority 0
    settle_at: MonoTime | None = None  # carrier has been good for long enough
    stop_at: MonoTime | None = None
    stopping: bool = False
    losses: tuple[MonoTime, ...] = ()  # of the address, by our own fault, within a minute
    wanted_from: MonoTime = _NEVER  # until then we do not want it back
    barred_until: MonoTime = _NEVER  # until then we do not claim at all
    given_away: bool = False  # by an operator: preempt alone does not take it back
    unseen: bool = False  # the other did not see us: until we see it, asking it back would only go to and fro
    clock: MonoTime = _NEVER  # of the last event
    _out: list[Command] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.health = Health(self.config.priority, Fitness.UNFIT, ("nothing is known yet",))
        self.form = self.config.checksum
        self.active_interval = self.config.interval
        self.words = Words(PATIENCE * self.config.interval)

    # ---- the outside -------------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: MonoTime) -> list[Command]:
        """What is to be done about the event, in this order."""
        self.clock = now
        waking.notice_lateness(self, now)
        rule = TRANSITIONS[self.state][type(event)]
        rule.handler(self, event, now)
        assert self.state in rule.to, f"{type(event).__name__} must not lead to {self.state}"
        assert (self.state is State.ACTIVE) or not self.held
        commands, self._out = self._out, []
        commands.sort(key=_is_report)
        return commands

    @property
    def deadline(self) -> MonoTime | None:
        """When TimerFired is due; never before the time of the last event."""
        single = (self.down_at, self.advert_at, self.refresh_at, self.probe_at, self.let_go_at, self.settle_at)
        due = [at for at in (*single, self.stop_at, *self.garps[:1], *self.zeros[:1]) if at is not None]
        return max(min(due), self.clock) if due else None

    @property
    def priority(self) -> int:
        """The effective one: an owner's is never degraded, who cannot serve has the least."""
        if self.config.is_owner:
            return OWNER
        if self.health.fitness is Fitness.UNFIT:
            return UNFIT_PRIORITY
        return max(1, min(self.health.priority, OWNER - 1))

    @property
    def skew_time(self) -> float:
        return timing.skew_time(self.config.version, self.priority, self.active_interval)

    @property
    def active_down_interval(self) -> float:
        return timing.active_down_interval(self.config.version, self.priority, self.active_interval)

    def is_degraded(self) -> bool:
        return self.priority < self.config.priority

    def word(self, say: Say = Say.NOTHING, to: str = "") -> e.PeerWord:
        """What this node says of itself: at once where `Tell` asks for it, and each interval while it is not Active.

        An Active's beats go with its advertisements: so its death is seen on both ways at the same time.
        """
        cannot = self.state is State.INITIALIZE or self.clock < self.barred_until
        return e.PeerWord(
            node=self.config.node,
            vrid=self.config.vrid,
            family=self.config.family,
            state=self.state,
            priority=self.priority,
            fitness=Fitness.UNFIT if cannot else self.health.fitness,
            incarnation=self.incarnation,
            source=self.config.source,
            interval=self.config.interval,
            addresses=self.config.addresses,
            reasons=self.health.reasons,
            digest=self.config.digest,
            say=say,
            to=to,
        )

    # ---- for the rooms -----------------------------------------------------------------------------------------------

    def do(self, *commands: Command) -> None:
        self._out.extend(commands)

    def shout(self, what: Loud, detail: str = "") -> None:
        self._out.append(e.Shout(what, detail))

    def turn(self, to: State, why: str) -> None:
        old, self.state, self.why = self.state, to, why
        self.do(e.Changed(old, to, why))

    def advert(self, priority: int) -> SendAdvert:
        return SendAdvert(priority, self.form)

    def own_rank(self) -> Rank:
        return rank(self.priority, self.config.source)

    def node(self, name: str) -> Node | None:
        return next((node for node in self.config.nodes if node.name == name), None)

    def note_form(self, advert: AdvertReceived) -> None:
        if advert.form is not None:
            self.form = advert.form

    def adopt(self, config: RouterConfig) -> None:
        assert config.key == self.config.key, "another key is another router"
        self.config = config
        self.words.patience = PATIENCE * config.interval

    def note_health(self, health: Health, now: MonoTime) -> bool:
        """Whether there is news, for `tell_news` at the end: a word must not overtake the removal of addresses."""
        if health.fitness is not Fitness.SERVING:
            self.serving_since = None
        elif self.serving_since is None:
            self.serving_since = now
        self.served = self.served or health.fitness is not Fitness.UNFIT
        changed = health != self.health
        self.health = health
        return changed

    def tell_news(self, *, changed: bool) -> None:
        """Every word carries everything: one will do."""
        if changed and not any(isinstance(command, Tell) for command in self._out):
            self.do(Tell())
