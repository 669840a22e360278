"""The life of a virtual router: RFC 9568 §6.4 (and RFC 3768 §6.4), with the word of the other nodes as second witness.

Pure: an event and the time come in, commands come out, the next `deadline` can be read. Nothing here waits or fails.
Which event is answered by what, and which states may follow, is the one table TRANSITIONS; the handlers below are in
its order. What the other nodes said: `words.py`; routers that move together: `group.py`; doing it: the runtime.

Invariants, checked after every event: an Active, and nobody else, holds addresses; the state that follows is one the
table allows; an address is never given away before it is off the interface, so a handover never makes two Actives.
The list of commands is in the order of execution: what cannot be added is not announced.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from config.units import MonoTime
from ha import events as e
from ha import timing
from ha.events import OWNER, AddVip, DelVip, Fitness, Health, Loud, Path, Say, SendAdvert, SendGarp, State, Tell
from ha.words import PATIENCE, Rank, Words, claim_order, rank

if TYPE_CHECKING:
    from ha.events import AdvertReceived, Command, Event, Form, Node, PeerWord, RouterConfig, Vip


class Rule(NamedTuple):
    handler: str  # a method of VirtualRouter
    to: frozenset[State]  # the states that may follow


def _rule(handler: str, *to: State) -> Rule:
    return Rule(handler, frozenset(to))


_I, _B, _A = State.INITIALIZE, State.BACKUP, State.ACTIVE

# An event that is not in the row of a state is an error, and so is a state that is not in `to`.
TRANSITIONS: Final[dict[State, dict[type[Event], Rule]]] = {
    State.INITIALIZE: {
        e.Startup: _rule("_start", _I, _B, _A),
        e.Shutdown: _rule("_stop_idle", _I),
        e.AdvertReceived: _rule("_ignore", _I),
        e.TimerFired: _rule("_initialize_timer", _I, _B, _A),
        e.Suspended: _rule("_ignore", _I),
        e.HealthChanged: _rule("_initialize_health", _I, _B, _A),
        e.InterfaceChanged: _rule("_settle", _I),
        e.PeerSaid: _rule("_initialize_word", _I),
        e.PeerLost: _rule("_note_loss", _I),
        e.VipChanged: _rule("_remove_foreign", _I),
        e.ConflictSeen: _rule("_ignore", _I),
        e.ProbeDone: _rule("_ignore", _I),
        e.HandoverAsked: _rule("_refuse_handover", _I),
        e.Reconfigured: _rule("_reconfigure_idle", _I),
        e.CommandFailed: _rule("_shout_failure", _I),
        e.GroupMayClaim: _rule("_group_claim", _I, _A),  # an owner
        e.GroupMustLeave: _rule("_ignore", _I),
    },
    State.BACKUP: {
        e.Startup: _rule("_ignore", _B),
        e.Shutdown: _rule("_stop_idle", _I),
        e.AdvertReceived: _rule("_backup_hears", _B),
        e.TimerFired: _rule("_backup_timer", _B, _A),
        e.Suspended: _rule("_listen_anew", _B),
        e.HealthChanged: _rule("_backup_health", _B, _A),
        e.InterfaceChanged: _rule("_backup_interface", _B, _I),
        e.PeerSaid: _rule("_backup_word", _B, _A),
        e.PeerLost: _rule("_note_loss", _B),
        e.VipChanged: _rule("_remove_foreign", _B),
        e.ConflictSeen: _rule("_ignore", _B),
        e.ProbeDone: _rule("_backup_probe", _B, _A),
        e.HandoverAsked: _rule("_refuse_handover", _B),
        e.Reconfigured: _rule("_reconfigure_idle", _B),
        e.CommandFailed: _rule("_shout_failure", _B),
        e.GroupMayClaim: _rule("_group_claim", _B, _A),
        e.GroupMustLeave: _rule("_ignore", _B),
    },
    State.ACTIVE: {
        e.Startup: _rule("_ignore", _A),
        e.Shutdown: _rule("_stop", _I),
        e.AdvertReceived: _rule("_active_hears", _A, _B),
        e.TimerFired: _rule("_active_timer", _A, _B),
        e.Suspended: _rule("_begin_doubt", _A),
        e.HealthChanged: _rule("_active_health", _A, _B, _I),
        e.InterfaceChanged: _rule("_active_interface", _A, _I),
        e.PeerSaid: _rule("_active_word", _A, _B, _I),
        e.PeerLost: _rule("_note_loss", _A),
        e.VipChanged: _rule("_active_vip", _A, _B),
        e.ConflictSeen: _rule("_defend", _A),
        e.ProbeDone: _rule("_active_probe", _A, _B),
        e.HandoverAsked: _rule("_hand_over", _A, _B),
        e.Reconfigured: _rule("_reconfigure_active", _A),
        e.CommandFailed: _rule("_active_failure", _A, _B),
        e.GroupMayClaim: _rule("_ignore", _A),
        e.GroupMustLeave: _rule("_group_leave", _B),
    },
}

STOP_PATIENCE: Final = 0.25  # seconds for the successor's "I have it"
PROBE_PATIENCE: Final = 0.05  # a probe takes 20 ms; the runtime answers, or silence is the answer
DEFENCE: Final = 0.1  # seconds between answers to somebody who claims our address
ANSWER_GARP: Final = 1.0  # seconds between sets of announcements that advertisements provoke
ANSWERS: Final = 4  # advertisements per interval that others can provoke
ECHO: Final = 0.05  # seconds within which news of a removed address may be of our own last removal
TWICE: Final = 10.0  # seconds within which a second removal of an address is no accident
LOSSES_KEPT: Final = 60.0  # seconds
UNFIT_PRIORITY: Final = 1
FAILED_INTERVALS: Final = 3  # of advertisements that could not be sent

_A_MOMENT: Final = 1e-6  # seconds: what counts until a time does not count after it
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
    overdue: bool = False  # the Active is silent, but we may not claim yet
    claimable: bool = False  # we would claim, the group is asked
    claim_why: str = ""
    claim_from: str = ""  # the node that let go for us
    listen_until: MonoTime = _NEVER  # until then no word but "resign to you" makes us claim
    deaf_until: MonoTime = _NEVER  # woken late: not even that, it may be old
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
        self._notice_lateness(now)
        rule = TRANSITIONS[self.state][type(event)]
        getattr(self, rule.handler)(event, now)
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

    # ---- what all states share ---------------------------------------------------------------------------------------

    def _do(self, *commands: Command) -> None:
        self._out.extend(commands)

    def _shout(self, what: Loud, detail: str = "") -> None:
        self._out.append(e.Shout(what, detail))

    def _ignore(self, event: Event, now: MonoTime) -> None:
        """It means nothing in this state."""

    def _turn(self, to: State, why: str) -> None:
        old, self.state, self.why = self.state, to, why
        self._do(e.Changed(old, to, why))

    def _advert(self, priority: int) -> SendAdvert:
        return SendAdvert(priority, self.form)

    def _rank(self) -> Rank:
        return rank(self.priority, self.config.source)

    def _node(self, name: str) -> Node | None:
        return next((node for node in self.config.nodes if node.name == name), None)

    def _notice_lateness(self, now: MonoTime) -> None:
        """More than an interval late, no old timer is trusted; three without advertisement: others may have claimed."""
        if self.state is State.ACTIVE and self.advert_at is not None and not (self.late or self.doubt):
            self.late = now - self.advert_at > self.config.interval
            if self.late:
                self._shout(Loud.LATE, f"{now - self.advert_at:.3f} s")
                self.doubt = now - self.sent_at >= timing.DOWN_INTERVALS * self.config.interval
        elif self.state is State.BACKUP and self.down_at is not None and now - self.down_at > self.active_interval:
            self._shout(Loud.LATE, f"{now - self.down_at:.3f} s")
            self._listen_anew(e.Suspended(), now)

    def _note_word(self, word: PeerWord, now: MonoTime) -> bool:
        before = self.words.said.get(word.node)
        if not self.words.note(word, now):
            return False
        if word.digest != self.config.digest and (before is None or before.word.digest != word.digest):
            self._shout(Loud.DRIFT, word.node)
        return True

    def _note_loss(self, event: e.PeerLost, now: MonoTime) -> None:
        """The link of a node is gone: that changes no state by itself."""
        if self.words.lose(event.node, ended=event.ended):
            self._shout(Loud.LINK_LOST, event.node)

    def _note_health(self, health: Health, now: MonoTime) -> bool:
        """Whether there is news, for `_tell_news` at the end: a word must not overtake the removal of addresses."""
        if health.fitness is not Fitness.SERVING:
            self.serving_since = None
        elif self.serving_since is None:
            self.serving_since = now
        self.served = self.served or health.fitness is not Fitness.UNFIT
        changed = health != self.health
        self.health = health
        return changed

    def _tell_news(self, *, changed: bool) -> None:
        """Every word carries everything: one will do."""
        if changed and not any(isinstance(command, Tell) for command in self._out):
            self._do(Tell())

    def _note_own_fault(self, now: MonoTime) -> float:
        """The address is lost by our fault: from the second time within a minute we wait longer and longer."""
        self.losses = (*(at for at in self.losses if now - at < LOSSES_KEPT), now)
        wait = timing.wait_after_losses(len(self.losses))
        self.wanted_from = MonoTime(now + wait)
        return wait

    def _shout_failure(self, event: e.CommandFailed, now: MonoTime) -> None:
        what = Loud.CANNOT_ADD if isinstance(event.command, AddVip | e.RefreshVip | DelVip) else Loud.CANNOT_SEND
        self._shout(what, event.reason)

    def _remove_foreign(self, event: e.VipChanged, now: MonoTime) -> None:
        """An address that is there while we are not Active would answer for the one who is."""
        if event.present and event.vip in self.config.addresses:
            self._do(DelVip(event.vip))
            self._shout(Loud.VIP_FOREIGN, str(event.vip))

    def _refuse_handover(self, event: e.HandoverAsked, now: MonoTime) -> None:
        self._shout(Loud.REFUSED, "this node is not Active")

    def _adopt(self, config: RouterConfig) -> None:
        assert config.key == self.config.key, "another key is another router"
        self.config = config
        self.words.patience = PATIENCE * config.interval

    def _reconfigure_idle(self, event: e.Reconfigured, now: MonoTime) -> None:
        """New values for the timers that start from now on; a running Active_Down keeps its end."""
        if self.active_interval == self.config.interval:
            self.active_interval = event.config.interval
        self._adopt(event.config)
        self._do(Tell())

    def _send_zeros(self, now: MonoTime) -> None:
        if self.zeros and self.zeros[0] <= now:
            self.zeros = tuple(at for at in self.zeros if at > now)
            self._do(self._advert(e.LET_GO))

    def _ask(self, why: str, now: MonoTime) -> None:
        self.probing, self.probe_at = why, MonoTime(now + PROBE_PATIENCE)
        self._do(e.Probe(tuple(vip.ip for vip in self.config.addresses)))

    def _end_probe(self) -> str:
        why, self.probing, self.probe_at = self.probing, "", None
        return why

    # ---- Initialize --------------------------------------------------------------------------------------------------

    def _start(self, event: e.Startup, now: MonoTime) -> None:
        self.started, self.stopping, self.stop_at = True, False, None
        self._begin(now)

    def _begin(self, now: MonoTime) -> None:
        """To Backup; an owner that can serve to Active (RFC 9568 §6.4.1)."""
        if not self.link:
            self.why = "no carrier"
        elif not self.config.is_owner:
            self._become_backup(now, "started")
        elif self.health.fitness is Fitness.UNFIT:
            self.why = "the owner cannot serve"
            self._shout(Loud.UNFIT, self.why)
        elif any(word.priority == OWNER for word in self.words.active(now)):
            self._shout(Loud.TWO_OWNERS)
            self._become_backup(now, "another owner is Active")
        else:
            self._want("owner", now)

    def _initialize_timer(self, event: e.TimerFired, now: MonoTime) -> None:
        self._send_zeros(now)
        if self.settle_at is not None and self.settle_at <= now:
            self.settle_at = None
            self._begin(now)
        if self.stop_at is not None and self.stop_at <= now:
            self.stop_at = None
        self._finish()

    def _finish(self) -> None:
        """A stop is over when priority 0 has been said three times and the successor has it, or took too long."""
        if self.stopping and not self.zeros and self.stop_at is None:
            self.stopping = False
            self._do(e.Stopped())

    def _initialize_health(self, event: e.HealthChanged, now: MonoTime) -> None:
        changed = self._note_health(event.health, now)
        ready = self.started and self.link and self.settle_at is None and not self.claimable
        if ready and self.config.is_owner and event.health.fitness is not Fitness.UNFIT:
            self._begin(now)
        self._tell_news(changed=changed)

    def _settle(self, event: e.InterfaceChanged, now: MonoTime) -> None:
        if event.up == self.link:
            return
        self.link = event.up
        self.settle_at = MonoTime(now + self.config.link_settle) if event.up and self.started else None

    def _initialize_word(self, event: e.PeerSaid, now: MonoTime) -> None:
        word = event.word
        if not self._note_word(word, now) or not self.stopping:
            return
        if word.state is State.ACTIVE:  # "I have it"
            self.stop_at = None
            self._finish()

    # ---- Backup ------------------------------------------------------------------------------------------------------

    def _become_backup(self, now: MonoTime, why: str) -> None:
        self._turn(State.BACKUP, why)
        self.active_interval = self.config.interval
        self._listen(now)
        self.listen_until = MonoTime(now + self.active_down_interval)

    def _listen(self, now: MonoTime) -> None:
        """Active_Down in full from now on."""
        self.heard_at, self.overdue = now, False
        self._drop_claim()
        self.down_at = MonoTime(now + self.active_down_interval)

    def _listen_anew(self, event: e.Suspended, now: MonoTime) -> None:
        self._listen(now)
        self.deaf_until = MonoTime(now + self.active_interval)
        self.listen_until = MonoTime(now + self.active_down_interval)

    def _drop_claim(self) -> None:
        self.claimable, self.claim_why, self.claim_from = False, "", ""

    def _stop_idle(self, event: e.Shutdown, now: MonoTime) -> None:
        if self.state is not State.INITIALIZE:
            self._leave_backup()
            self._turn(State.INITIALIZE, "stopped")
            self._do(Tell())
        self.started, self.stopping, self.settle_at = False, True, None
        self._finish()

    def _leave_backup(self) -> None:
        self.down_at, self.let_go_at, self.overdue, self.holder = None, None, False, ""
        self._drop_claim()
        self._end_probe()

    def _backup_hears(self, advert: AdvertReceived, now: MonoTime) -> None:
        """RFC 9568 §6.4.2, after what the link knows better."""
        word = self.words.of(advert.node, now)
        if advert.priority == e.LET_GO:
            self._backup_hears_zero(advert, word)
            return
        if self.claimable and word is not None and word.state is not State.ACTIVE:
            return  # sent before it let go
        self._note_form(advert)
        self.unseen = False
        if advert.node == self.let_go_of:
            self.let_go_at, self.let_go_of = None, ""
        interval = self._learned(advert)
        if self._is_wanted(advert.node, rank(advert.priority, advert.source), word, now):
            if word is None:
                return  # discarded, so Active_Down runs out and we claim
            self._ask_for_it(advert.node, now)
        self.active_interval = interval
        self.heard_at = max(self.heard_at, advert.arrived)
        self.holder, self.overdue = advert.node, False
        self._drop_claim()
        self.down_at = MonoTime(self.heard_at + self.active_down_interval)
        if advert.node in self.words.ended and now >= self.probe_again and not self.probing:
            self.probe_again = MonoTime(now + self.active_down_interval)
            self._ask("ended", now)  # that life of it is over: are these replayed?

    def _backup_hears_zero(self, advert: AdvertReceived, word: PeerWord | None) -> None:
        if word is not None and word.state is State.ACTIVE:
            self._shout(Loud.CONTRADICTED, f"{advert.node}: priority 0, and Active by its word")
        elif self.holder in {"", advert.node} and self.down_at is not None:  # else the holder is still there
            self.down_at = min(self.down_at, MonoTime(advert.arrived + self.skew_time))

    def _learned(self, advert: AdvertReceived) -> float:
        """The Active's interval. One far from ours is not believed; version 2 has checked that it is equal."""
        if advert.interval <= timing.LONGEST_LEARNED * self.config.interval:
            return advert.interval
        self._shout(Loud.LONG_INTERVAL, f"{advert.node}: {advert.interval:g} s")
        return self.config.interval

    def _note_form(self, advert: AdvertReceived) -> None:
        if advert.form is not None:
            self.form = advert.form

    def _is_wanted(self, node: str, theirs: Rank, word: PeerWord | None, now: MonoTime) -> bool:
        """Whether this node should take the address from that Active: being better alone is no reason."""
        if theirs >= self._rank() or self.unseen or now < max(self.wanted_from, self.barred_until):
            return False
        if self._is_healthier(node, theirs.priority, word):
            return True
        if not self.config.preempt or self.given_away or self.serving_since is None:
            return False
        return now >= self.serving_since + self.config.preempt_delay

    def _is_healthier(self, name: str, priority: int, word: PeerWord | None) -> bool:
        """Evidence: it can do less by its own word, or lost more of its configured priority than we did."""
        ours = self.health.fitness
        if word is not None and word.fitness is not ours:
            return word.fitness < ours
        if ours is not Fitness.SERVING:
            return ours is Fitness.LISTENING and word is None and priority == UNFIT_PRIORITY
        node = self._node(name)
        if node is None or node.priority is None:
            return False
        return node.priority - priority > self.config.priority - self.priority

    def _ask_for_it(self, node: str, now: MonoTime) -> None:
        if now >= self.ready_at:
            self.ready_at = MonoTime(now + self.config.interval)
            self._do(Tell(Say.READY, node))

    def _backup_timer(self, event: e.TimerFired, now: MonoTime) -> None:
        self._send_zeros(now)
        if self.probe_at is not None and self.probe_at <= now:
            self._backup_probe(e.ProbeDone(answered=False), now)
        if self.state is _B and self.let_go_at is not None and self.let_go_at <= now:
            self._end_asking(now)
        if self.state is _B and self.down_at is not None and self.down_at <= now:
            self._silence(now)

    def _end_asking(self, now: MonoTime) -> None:
        """An interval without a word: it is dead. While it goes on talking, only its own resigning moves us."""
        silent = MonoTime(self.words.said[self.let_go_of].at + self.config.interval)
        if silent > now:
            self.let_go_at = silent
        else:
            self.let_go_at = None
            self._try_to_claim("the Active neither answers nor is seen", now)

    def _silence(self, now: MonoTime) -> None:
        """Active_Down has run out. Who is Active by its word is not dead: its advertisements are filtered."""
        active = self.words.active(now)
        if not active:
            self._try_to_claim("the Active is silent", now)
            return
        name = active[0].node
        heard = self.words.said[name].at
        if now - heard > self.config.interval:  # a beat is missing too: it may have died, wait until its word is void
            self.down_at = MonoTime(max(now, heard + self.words.patience) + _A_MOMENT)
            return
        self._shout(Loud.FILTERED, name)
        self._listen(now)
        node = self._node(name)
        idle = self.let_go_at is None and not self.probing and not self.unseen
        if node is not None and node.path is Path.OTHER and idle:
            self.let_go_of = name
            self._ask("filtered", now)

    def _may_claim(self, now: MonoTime) -> bool:
        """Whoever can serve; the ill only if nobody better is known; who never served not at all."""
        if now < self.barred_until:
            return False
        fitness = self.health.fitness
        if fitness is Fitness.SERVING:
            return True
        if fitness is Fitness.UNFIT and not self.served:
            return False
        best = self.words.best(now, Fitness.UNFIT)
        return best is None or best.fitness <= fitness

    def _try_to_claim(self, why: str, now: MonoTime) -> None:
        self.overdue = True
        if self._may_claim(now):
            self._want(why, now)
        else:
            self._drop_claim()
        if self.state is State.BACKUP:
            self.down_at = MonoTime(now + self.active_interval)  # words age without an event

    def _want(self, why: str, now: MonoTime, let_go: str = "") -> None:
        """Claim, or if we belong to a group, let it see that we would."""
        if not self.config.group:
            self._claim(why, now, let_go)
        else:
            self.claimable, self.claim_why, self.claim_from = True, why, let_go

    def _group_claim(self, event: e.GroupMayClaim, now: MonoTime) -> None:
        if self.claimable:
            self._claim(self.claim_why, now, self.claim_from)

    def _backup_health(self, event: e.HealthChanged, now: MonoTime) -> None:
        changed = self._note_health(event.health, now)
        if self.overdue:
            self._try_to_claim("the Active is silent, and we can serve", now)
        elif self.claimable and not self._may_claim(now):
            self._drop_claim()
        else:
            self._claim_if_vacant(now)
        self._tell_news(changed=changed)

    def _backup_interface(self, event: e.InterfaceChanged, now: MonoTime) -> None:
        if event.up:
            return
        self.link = False
        self._leave_backup()
        self._turn(State.INITIALIZE, "no carrier")
        self._do(Tell())

    def _backup_word(self, event: e.PeerSaid, now: MonoTime) -> None:
        word = event.word
        if not self._note_word(word, now):
            return
        if word.say is Say.RESIGN:
            self._hear_resign(word, now)
        elif word.state is State.ACTIVE:
            if self.overdue:
                self._listen(now)
            if self._is_wanted(word.node, rank(word.priority, word.source), word, now):
                self._ask_for_it(word.node, now)
        elif self.let_go_at is not None and word.node == self.let_go_of:
            self.let_go_at = None
            self._try_to_claim("the Active has let go", now)
        else:
            self._claim_if_vacant(now)

    def _hear_resign(self, word: PeerWord, now: MonoTime) -> None:
        """A name in it is an order to that node; without one everybody waits for skew, as after priority 0."""
        if word.state is State.ACTIVE:
            return  # nobody says so: it lets go first
        if word.to == self.config.node:
            willing = self.health.fitness is not Fitness.UNFIT and now >= max(self.deaf_until, self.barred_until)
            if willing:
                self.given_away = False
                self._want(f"{word.node} resigned to us", now, word.node)
            return
        self.listen_until = MonoTime(now + self.active_down_interval)
        if not word.to and self.holder in {"", word.node} and self.down_at is not None:
            self.down_at = min(self.down_at, MonoTime(now + self.skew_time))

    def _claim_if_vacant(self, now: MonoTime) -> None:
        """All nodes are heard on the link, none is Active, and we are the best of them: no need to wait for silence."""
        if now < self.listen_until or self.health.fitness is Fitness.UNFIT or not self._may_claim(now):
            return
        for node in self.config.nodes:
            word = self.words.of(node.name, now)
            if word is None or word.state is State.ACTIVE or self.heard_at >= self.words.said[node.name].since:
                return
            if claim_order(word) > (self.health.fitness, self._rank()):
                return
        if self.config.nodes:
            self._want("nobody is Active", now)

    def _backup_probe(self, event: e.ProbeDone, now: MonoTime) -> None:
        why = self._end_probe()
        if event.answered or not why:
            return
        if why == "ended":
            self._try_to_claim("advertisements of an ended life, and nobody answers", now)
        elif why == "filtered" and self.let_go_of:  # not heard meanwhile
            self.let_go_at = MonoTime(now + self.config.interval)
            self._do(Tell(Say.LET_GO, self.let_go_of))

    # ---- to Active and back ------------------------------------------------------------------------------------------

    def _claim(self, why: str, now: MonoTime, let_go: str = "") -> None:
        """The address, who has it, the advertisement, in this order."""
        self._leave_backup()
        self.zeros, self.given_away, self.unseen = (), False, False
        self.incarnation += 1
        vips = self.held = self.config.addresses
        life = timing.lifetime(self.config)
        self._do(*(AddVip(vip, life) for vip in vips), *(SendGarp(vip) for vip in vips), self._advert(self.priority))
        self._turn(State.ACTIVE, why)
        self._do(Tell(Say.HAVE, let_go) if let_go else Tell())
        self.active_since = self.sent_at = now
        self.advert_at = MonoTime(now + self.config.interval)
        self.refresh_at = MonoTime(now + life / timing.REFRESHES)
        self.garps = timing.garp_times(now)
        self.send_failed, self.send_failures = False, 0

    def _let_go(self, now: MonoTime, to: State, why: str) -> None:
        """The addresses are off before anything is said."""
        self._do(*(DelVip(vip) for vip in self.held))
        self._end_split(now)
        self.held, self.garps, self.advert_at, self.refresh_at = (), (), None, None
        self.late = self.doubt = False
        self._end_probe()
        if to is State.BACKUP:
            self._become_backup(now, why)
        else:
            self._turn(to, why)

    def _resign(self, now: MonoTime, why: str, successor: str = "", to: State = State.BACKUP) -> None:
        """Let go, with a name if somebody better is known: it claims without waiting for anything."""
        self._let_go(now, to, why)
        self._do(Tell(Say.RESIGN, successor), self._advert(e.LET_GO))
        self.zeros = tuple(MonoTime(now + delay) for delay in timing.ZERO_REPEATS)

    def _yield(self, now: MonoTime, why: str) -> None:
        """Another is Active: no priority 0, it would only wake the others."""
        self._let_go(now, State.BACKUP, why)
        self._do(Tell())

    def _successor(self, now: MonoTime) -> str:
        """Who can serve, better than us or not; if we cannot at all, who at least listens."""
        least = Fitness.LISTENING if self.health.fitness is Fitness.UNFIT else Fitness.SERVING
        best = self.words.best(now, least)
        return best.node if best is not None else ""

    # ---- Active ------------------------------------------------------------------------------------------------------

    def _stop(self, event: e.Shutdown, now: MonoTime) -> None:
        successor = self._successor(now)
        self._resign(now, "stopped", successor, State.INITIALIZE)
        self.started, self.stopping = False, True
        self.stop_at = MonoTime(now + STOP_PATIENCE) if successor else None

    def _active_hears(self, advert: AdvertReceived, now: MonoTime) -> None:
        """RFC 9568 §6.4.3, after what the link knows better."""
        word = self.words.of(advert.node, now)
        unlikely = advert.priority == e.LET_GO or (word is not None and word.state is not State.ACTIVE)
        if self.doubt and unlikely:
            return  # what waited while we slept is in no order: the last word decides, when all has been read
        if advert.priority == e.LET_GO:
            self._answer(now)
            return
        worse = rank(advert.priority, advert.source) < self._rank()
        if word is not None and word.state is not State.ACTIVE:
            if not worse:  # a worse one came late and harms nobody
                self._shout(Loud.CONTRADICTED, f"{advert.node}: priority {advert.priority}, not Active by its word")
            self._answer(now)
        elif worse and not self.doubt:
            self._note_form(advert)
            if now - self.active_since > self.config.interval:
                self._note_split(now, advert.node)
            self._answer(now)
        else:
            self._hear_better(advert, word, now)

    def _hear_better(self, advert: AdvertReceived, word: PeerWord | None, now: MonoTime) -> None:
        if word is not None:
            self._note_split(now, advert.node)
        if advert.priority == OWNER and self.config.is_owner:
            self._shout(Loud.TWO_OWNERS, advert.node)
        self._yield(now, f"{advert.node} is Active")
        self._backup_hears(advert, now)

    def _answer(self, now: MonoTime) -> None:
        """Say at once that we are here, but not as often as others would like."""
        if now - self.answered_at >= self.config.interval / ANSWERS:
            self.answered_at = now
            self._do(self._advert(self.priority))
        if now - self.answer_garp_at >= ANSWER_GARP:
            self.answer_garp_at = now
            self._announce(now)

    def _announce(self, now: MonoTime, *, after_split: bool = False) -> None:
        """One set at once, and the series again."""
        self._do(*(SendGarp(vip) for vip in self.held))
        self.garps = timing.garp_times(now, after_split=after_split)

    def _active_timer(self, event: e.TimerFired, now: MonoTime) -> None:
        if self.probe_at is not None and self.probe_at <= now:
            self._end_probe()
            self._recover(now)
        if self.doubt or self.late:
            self._wake_late(now)
        if self.state is State.ACTIVE and not self.doubt:
            self._active_tasks(now)

    def _active_tasks(self, now: MonoTime) -> None:
        if self.refresh_at is not None and self.refresh_at <= now:
            life = timing.lifetime(self.config)
            self.refresh_at = MonoTime(now + life / timing.REFRESHES)
            self._do(*(e.RefreshVip(vip, life) for vip in self.held))
        if self.advert_at is not None and self.advert_at <= now:
            self._slot(now)
        if self.state is State.ACTIVE and self.garps and self.garps[0] <= now:
            self._repeat_garp(now)

    def _repeat_garp(self, now: MonoTime) -> None:
        self.garps = tuple(at for at in self.garps if at > now)
        if not self.garps and self.config.garp_refresh:
            self.garps = (MonoTime(now + self.config.garp_refresh),)
        self._do(*(SendGarp(vip) for vip in self.held))

    def _slot(self, now: MonoTime) -> None:
        """One advertisement per interval, on the grid that began with the claim."""
        assert self.advert_at is not None
        self.advert_at = timing.next_slot(self.advert_at, self.config.interval, now)
        self.sent_at = now
        self._count_failures(now)
        if self.state is not State.ACTIVE:
            return
        self._do(self._advert(self.priority), Tell())
        if self.split_since is not None and now - self.split_seen > 2 * self.config.interval:
            self._win_split(now)

    def _count_failures(self, now: MonoTime) -> None:
        self.send_failures = self.send_failures + 1 if self.send_failed else 0
        self.send_failed = False
        if self.send_failures != FAILED_INTERVALS:
            return
        best = self.words.best(now, Fitness.SERVING)
        self._shout(Loud.CANNOT_SEND, "we stay Active" if best is None else f"resigning to {best.node}")
        if best is not None:
            self._note_own_fault(now)
            self._resign(now, "advertisements cannot be sent", best.node)

    def _begin_doubt(self, event: e.Suspended, now: MonoTime) -> None:
        self.late = self.doubt = True
        self.advert_at = now

    def _wake_late(self, now: MonoTime) -> None:
        """Socket and link have been read: nobody claimed who would be heard. Who could not be heard is asked for."""
        if not self.doubt:
            self._recover(now)
            return
        words = [self.words.of(node.name, now) for node in self.config.nodes]
        if all(word is not None and word.state is not State.ACTIVE for word in words):
            self._recover(now)  # also when there is no other node
        else:
            if not self.probing:
                self._ask("late", now)
            self.advert_at = self.refresh_at = self.probe_at  # nothing before the answer
            self.garps = ()

    def _recover(self, now: MonoTime) -> None:
        self.late = self.doubt = False
        self.advert_at = timing.next_slot(now, self.config.interval, now)
        self.refresh_at = MonoTime(now + timing.lifetime(self.config) / timing.REFRESHES)
        self.sent_at = now
        self._do(*(e.RefreshVip(vip, timing.lifetime(self.config)) for vip in self.held), self._advert(self.priority))
        self._announce(now)

    def _active_probe(self, event: e.ProbeDone, now: MonoTime) -> None:
        why = self._end_probe()
        if why != "late":
            return
        if event.answered:
            self._yield(now, "woken late, and another answers for the address")
        else:
            self._recover(now)

    def _active_health(self, event: e.HealthChanged, now: MonoTime) -> None:
        before = self.health.fitness
        changed = self._note_health(event.health, now)
        if event.health.fitness is Fitness.UNFIT and before is not Fitness.UNFIT:
            self._become_unfit(now)
        self._tell_news(changed=changed)

    def _become_unfit(self, now: MonoTime) -> None:
        """Resign, unless all others are known to be no better: somebody has to hold the address."""
        words = [self.words.of(node.name, now) for node in self.config.nodes]
        if not any(word is None or word.fitness is not Fitness.UNFIT for word in words):
            self._shout(Loud.UNFIT, "nobody else can serve either: staying Active")
            return
        self._give_up(now, self._successor(now))

    def _give_up(self, now: MonoTime, successor: str) -> None:
        why = "; ".join(self.health.reasons) or "cannot serve"
        self._shout(Loud.UNFIT, why)
        self._note_own_fault(now)
        self._resign(now, why, successor, State.INITIALIZE if self.config.is_owner else State.BACKUP)

    def _active_interface(self, event: e.InterfaceChanged, now: MonoTime) -> None:
        if event.up:
            self._announce(now)
            return
        self.link = False
        self._let_go(now, State.INITIALIZE, "no carrier")
        self._do(Tell())

    def _active_word(self, event: e.PeerSaid, now: MonoTime) -> None:
        word = event.word
        before = self.words.said.get(word.node)
        if not self._note_word(word, now):
            return
        if word.state is State.ACTIVE:
            self._hear_other_active(word, now)
        elif self.split_since is not None:
            self._win_split(now)
        elif before is not None and word.incarnation > before.word.incarnation:
            self._announce(now, after_split=True)  # it may have claimed unseen by us, and let go when it heard us
        if self.state is not State.ACTIVE:
            return
        asked = word.to == self.config.node and word.fitness >= max(self.health.fitness, Fitness.LISTENING)
        if asked and word.say is Say.READY and rank(word.priority, word.source) > self._rank():
            if self.health.fitness is not Fitness.SERVING or self._is_degraded():
                self._note_own_fault(now)
            self._resign(now, f"{word.node} is better", word.node)
        elif asked and word.say is Say.LET_GO:
            self._resign(now, f"{word.node} does not see us", word.node)
            self.unseen = True
        elif self.health.fitness is Fitness.UNFIT and word.fitness is not Fitness.UNFIT:
            self._give_up(now, word.node)

    def _is_degraded(self) -> bool:
        return self.priority < self.config.priority

    def _hear_other_active(self, word: PeerWord, now: MonoTime) -> None:
        """Two Actives, by the link: the better stays, and who has slept gives way to whom did not."""
        self._note_split(now, word.node)
        if self.doubt or rank(word.priority, word.source) > self._rank():
            self._yield(now, f"{word.node} is Active")

    def _note_split(self, now: MonoTime, node: str) -> None:
        if self.split_since is None:
            self.split_since = now
            self._shout(Loud.SPLIT, node)
        self.split_seen = now

    def _end_split(self, now: MonoTime) -> None:
        if self.split_since is not None:
            self._do(e.SplitEnded(now - self.split_since))
            self.split_since = None

    def _win_split(self, now: MonoTime) -> None:
        self._end_split(now)
        self._announce(now, after_split=True)

    def _active_vip(self, event: e.VipChanged, now: MonoTime) -> None:
        """An address somebody removed is put back once; twice is a will. After a long sleep it was the kernel."""
        if event.present or event.vip not in self.held:
            return
        if now - self.active_since < ECHO and not self.doubt:
            return  # were it gone after all, the next refresh would bring it back
        self.held = tuple(vip for vip in self.held if vip != event.vip)
        self._shout(Loud.VIP_REMOVED, str(event.vip))
        if self.doubt:
            self._yield(now, "woken late, and the address is gone")
        elif now - self.vip_lost_at < TWICE:
            self._note_own_fault(now)
            self._resign(now, "the address was removed twice", self._successor(now))
        else:
            self.vip_lost_at = now
            self.held = tuple(vip for vip in self.config.addresses if vip in self.held or vip == event.vip)
            self._do(AddVip(event.vip, timing.lifetime(self.config)), SendGarp(event.vip))

    def _defend(self, event: e.ConflictSeen, now: MonoTime) -> None:
        """Never give in to another MAC, RFC 5227 is for hosts; and never shout each other down either."""
        if event.node and now - self.active_since > self.config.interval:
            self._note_split(now, event.node)
        elif not event.node:
            self._shout(Loud.CONFLICT, f"{event.vip.ip} is also at {event.mac}")
        if not self.doubt and now - self.defended_at >= DEFENCE:
            self.defended_at = now
            self._do(SendGarp(event.vip))

    def _hand_over(self, event: e.HandoverAsked, now: MonoTime) -> None:
        to = event.to or self._successor(now)
        word = self.words.of(to, now)
        if word is None or word.fitness is not Fitness.SERVING:
            self._shout(Loud.REFUSED, f"{to or 'no other node'} is not known to be able to serve")
            return
        self._resign(now, f"handed over to {to}", to)
        self.given_away = True

    def _reconfigure_active(self, event: e.Reconfigured, now: MonoTime) -> None:
        """Addresses go and come in one list with one advertisement; the rest counts from the next one on."""
        old, new = self.config.addresses, event.config.addresses
        self._adopt(event.config)
        life = timing.lifetime(event.config)
        self._do(*(DelVip(vip) for vip in self.held if vip not in new))
        added = [vip for vip in new if vip not in self.held]
        self._do(*(AddVip(vip, life) for vip in added), *(SendGarp(vip) for vip in added))
        self.held = new
        if old != new:
            self._do(self._advert(self.priority))
        assert self.advert_at is not None
        self.advert_at = min(self.advert_at, MonoTime(now + event.config.interval))
        self.refresh_at = now
        self._do(Tell())

    def _active_failure(self, event: e.CommandFailed, now: MonoTime) -> None:
        self._shout_failure(event, now)
        if isinstance(event.command, SendAdvert):
            self.send_failed = True
        elif isinstance(event.command, AddVip):
            self.barred_until = MonoTime(now + max(1.0, self._note_own_fault(now)))
            self._resign(now, f"an address cannot be added: {event.reason}", self._successor(now))

    def _group_leave(self, event: e.GroupMustLeave, now: MonoTime) -> None:
        self._resign(now, f"the group leaves: {event.why}", self._successor(now))
