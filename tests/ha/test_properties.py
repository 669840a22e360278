"""What holds for two and three nodes whatever happens to them: loss, delay, partitions, freezes, restarts.

The LAN is tests/kit/lan.py; it checks itself after every event that no deadline lies in the past, and the machine
that nobody but an Active holds an address.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha import events as e
from ha.events import Family, Fitness, Path, State
from ha.machine import TRANSITIONS, VirtualRouter
from ha.packet import GROUPS, Advertisement, Datagram, Dropped, Expected, Listener, Reason, build, receive
from tests.kit.lan import SOURCES, VIP, Lan, config, health, source

INTERVAL = 0.1
DOWN = 4 * INTERVAL  # no less than anybody's Active_Down

FAULTS = st.sampled_from(
    [
        "kill",
        "revive",
        "freeze",
        "thaw",
        "partition",
        "heal",
        "loss",
        "slow",
        "ill",
        "unfit",
        "well",
        "handover",
        "mute",
        "nolink",
        "cut",
        "plug",
        "suspend",
    ]
)
STEPS = st.lists(st.tuples(FAULTS, st.integers(0, 2), st.floats(0.0, 1.5)), max_size=12)


def do_fault(lan, what, name):
    node = lan.nodes[name]
    match what:
        case "kill":
            lan.kill(name, ended=lan.random.random() < 0.5)
        case "revive" if not node.alive:
            lan.revive(name)
        case "freeze":
            lan.freeze(name)
        case "thaw" if node.frozen:
            lan.thaw(name)
        case "partition":
            lan.partition({name}, set(lan.names) - {name})
        case "heal":
            lan.heal()
        case "loss":
            lan.loss, lan.duplicates = 0.3, 0.2
        case "slow":
            lan.delay = (0.0, 2 * INTERVAL)
        case "ill":
            lan.set_health(name, 200, Fitness.LISTENING, "origin")
        case "unfit":
            lan.set_health(name, 1, Fitness.UNFIT, "no worker")
        case "well":
            lan.set_health(name, node.router.config.priority)
        case "handover":
            lan.tell(name, e.HandoverAsked())
        case "mute":
            lan.mute ^= {name}
        case "nolink":
            lan.link = not lan.link
        case "cut":
            lan.cut(name)
        case "plug":
            lan.plug(name)
        case "suspend":
            lan.tell(name, e.Suspended())


def end_faults(lan):
    """Everything is repaired, but who is ill stays so."""
    lan.heal()
    lan.loss, lan.duplicates, lan.delay, lan.mute = 0.0, 0.0, (0.0001, 0.0001), set()
    for name, node in lan.nodes.items():
        if not node.carrier:
            lan.plug(name)
        if not node.alive:
            lan.revive(name)
        elif node.frozen:
            lan.thaw(name)


def run_faults(lan, steps):
    for what, who, seconds in steps:
        do_fault(lan, what, lan.names[who % len(lan.names)])
        lan.run(seconds)


def check_converges(names, link, preempt, steps, seed, families=(Family.IPV4,), path=Path.SAME):
    lan = Lan(names, seed=seed, link=link, interval=INTERVAL, preempt=preempt, families=families, path=path)
    lan.start()
    lan.run(2 * DOWN)
    run_faults(lan, steps)
    end_faults(lan)
    lan.run(65.0 if any(node.router.barred_until > lan.now for node in lan.nodes.values()) else 0.2 + 2 * DOWN)
    fit = [name for name in names if lan.nodes[name].router.health.fitness is not Fitness.UNFIT]
    if fit:
        assert len(lan.active) == 1, lan.moves
        assert lan.active[0] in fit
        assert lan.holding() == lan.active
        lan.run(2 * DOWN)  # evidence, or a wish for preemption, that came with the repair
        if any(node.router.wanted_from > lan.now for node in lan.nodes.values()):
            lan.run(65.0)  # who lost the address again and again does not want it back before
        before = list(lan.moves)
        lan.run(10 * DOWN)
        assert lan.moves == before
        assert len(lan.active) == 1


@given(st.booleans(), st.booleans(), STEPS, st.integers(0, 2**16))
@settings(max_examples=60, deadline=None)
def test_property_1_two_nodes_converge_to_one_active_after_the_last_fault(link, preempt, steps, seed):
    check_converges(("a", "b"), link, preempt, steps, seed)


@given(st.booleans(), st.booleans(), STEPS, st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_property_1_three_nodes_converge_to_one_active_after_the_last_fault(link, preempt, steps, seed):
    check_converges(("a", "b", "c"), link, preempt, steps, seed)


@pytest.mark.long
@given(
    st.sampled_from([("a", "b"), ("a", "b", "c")]),
    st.booleans(),
    st.booleans(),
    STEPS,
    st.integers(0, 2**16),
    st.sampled_from(Path),
)
@settings(max_examples=1500, deadline=None)
def test_property_1_in_thousands_of_histories(names, link, preempt, steps, seed, path):
    check_converges(names, link, preempt, steps, seed, path=path)


@given(st.booleans(), STEPS, st.integers(0, 2**16))
@settings(max_examples=30, deadline=None)
def test_property_1_g3_groups_of_both_families_converge_too(link, steps, seed):
    check_converges(("a", "b"), link, False, steps, seed, (Family.IPV4, Family.IPV6))


@given(st.booleans(), st.booleans(), st.sampled_from([0.01, 0.1, 1.0]), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_property_2_without_faults_nothing_moves(link, preempt, interval, seed):
    lan = Lan(seed=seed, link=link, interval=interval, preempt=preempt)
    lan.delay = (0.0, 2 * interval)
    lan.start()
    lan.run(8 * interval)
    before = list(lan.moves)
    lan.run(300 * interval)
    assert lan.moves == before
    assert lan.active == ["a"]


@given(st.booleans(), STEPS, st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_property_3_adds_and_deletes_alternate_for_each_address(link, steps, seed):
    lan = Lan(link=link, seed=seed, interval=INTERVAL)
    lan.start()
    run_faults(lan, steps)
    for name in lan.names:
        lives = [node for node in (lan.nodes[name],) if node.alive]
        adds = [type(one) for one in lan.commands(name, (e.AddVip, e.DelVip))]
        # A removal by the kernel or a death is no command of ours, so an addition may follow an addition then.
        for one, other in pairwise(adds):
            assert (one, other) != (e.DelVip, e.DelVip)
        for node in lives:
            assert (node.router.state is State.ACTIVE) or not node.vips or node.frozen


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.05, 1.0)), max_size=8), st.booleans(), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_property_9_a_handover_never_makes_two_holders(steps, preempt, seed):
    lan = Lan(seed=seed, interval=INTERVAL, preempt=preempt)
    lan.delay = (0.0, INTERVAL / 2)
    lan.start()
    lan.run(2 * DOWN)
    for name, seconds in steps:
        lan.tell(name, e.HandoverAsked())
        lan.run(seconds)
    assert set(lan.holders) <= {0, 1}
    boot = 3 * INTERVAL + INTERVAL * 6 / 256
    assert lan.holders[0] <= boot + len(steps) * 2 * 0.005


@given(st.sampled_from([2, 3]), st.floats(0.0, 0.0005), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_property_7_priority_0_leads_to_one_claim(number, delay, seed):
    lan = Lan(("a", "b", "c")[:number], seed=seed, link=False, interval=INTERVAL)
    lan.delay = (0.0, delay)
    lan.start()
    lan.run(2 * DOWN)
    lan.moves.clear()
    lan.tell("a", e.Shutdown())
    lan.run(2 * DOWN)
    assert [(name, state) for _, name, state in lan.moves] == [("a", State.INITIALIZE), ("b", State.ACTIVE)]


# ---- what is dropped -------------------------------------------------------------------------------------------------

NAMES = {source(name): name for name in SOURCES}
EXPECTED = Expected(3, INTERVAL, (VIP.ip,), {source("b"): "b"})
LISTENER = Listener(Family.IPV4, frozenset({source("a")}), {51: EXPECTED})


def driver(router, datagram, now):
    """What the runtime does with a datagram: the machine hears of it only if it passed."""
    heard = receive(datagram, LISTENER)
    if isinstance(heard, Dropped):
        return heard
    advert = heard.advert
    event = e.AdvertReceived(heard.node, heard.source, advert.priority, advert.interval, now, heard.form)
    return router.handle(event, now)


def in_state(state):
    router = VirtualRouter(config("a", interval=INTERVAL))
    router.handle(e.HealthChanged(health()), 0.0)
    if state is not State.INITIALIZE:
        router.handle(e.Startup(), 0.0)
    if state is State.ACTIVE:
        router.handle(e.TimerFired(), router.deadline)
    assert router.state is state
    return router


@given(st.sampled_from(State), st.integers(0, 255), st.integers(1, 4095), st.ip_addresses(v=4))
def test_property_8_forged_advertisements_of_strangers_change_no_state(state, priority, ticks, stranger):
    router = in_state(state)
    before = copy.deepcopy(router)
    payload = build(Advertisement(3, 51, priority, ticks / 100, (VIP.ip,)), stranger, GROUPS[Family.IPV4])
    if stranger not in NAMES:
        dropped = driver(router, Datagram(Family.IPV4, stranger, GROUPS[Family.IPV4], 255, payload), 0.35)
        assert dropped.reason in {Reason.STRANGER, Reason.MALFORMED}
    assert router == before


@given(st.sampled_from(State), st.binary(max_size=64), st.integers(0, 255))
def test_property_6_a1_a_dropped_packet_leaves_the_machine_equal(state, payload, ttl):
    router = in_state(state)
    before = copy.deepcopy(router)
    answer = driver(router, Datagram(Family.IPV4, source("b"), GROUPS[Family.IPV4], ttl, payload), 0.35)
    assert router == before or not isinstance(answer, Dropped)


# ---- time ------------------------------------------------------------------------------------------------------------


@given(st.sampled_from([State.BACKUP, State.ACTIVE]), st.lists(st.floats(0.0, 3.0), max_size=60))
def test_property_11_timers_asked_for_too_early_give_the_same_commands(state, extra):
    def trace(more):
        router = in_state(state)
        told, now, rest = [], router.clock, sorted(more)
        while now < 3.0:
            due = router.deadline
            now = min([due, *rest[:1]])
            if now >= 3.0:
                break
            rest = rest[1:] if rest and rest[0] == now else rest
            if now >= router.clock:
                commands = router.handle(e.TimerFired(), now)
                told += [(now, command) for command in commands]
        return told

    assert trace(extra) == trace([])


@given(st.lists(st.tuples(st.floats(0.0, 2.0), st.sampled_from(["timer", "word", "lower", "health", "origins"]))))
def test_x1_an_active_advertises_once_an_interval_and_a_backup_never(disturbances):
    active, backup = in_state(State.ACTIVE), in_state(State.BACKUP)
    start = active.sent_at
    own = VirtualRouter(config("b", ("a",))).word()
    sent = []
    times = sorted([*disturbances, *((0.01 * tick, "timer") for tick in range(200))])
    for offset, what in times:
        now = start + offset
        event = {
            "timer": e.TimerFired(),
            "word": e.PeerSaid(own),
            "lower": e.AdvertReceived("b", source("b"), 1, INTERVAL, now),
            "health": e.HealthChanged(active.health),
            "origins": e.OriginsSeen(good=True, asked=now),
        }[what]
        if what != "lower":  # that one is answered, which another test counts
            sent += [now for one in active.handle(event, max(now, active.clock)) if isinstance(one, e.SendAdvert)]
        better = e.AdvertReceived("b", source("b"), 254, INTERVAL, now)
        for one in (better, event) if what != "lower" else (better,):
            done = backup.handle(one, max(now, backup.clock))
            assert not any(isinstance(command, e.SendAdvert) for command in done)
    assert 18 <= len(sent) <= 21
    assert all(later - earlier > INTERVAL / 2 for earlier, later in pairwise(sent))


@given(st.sampled_from(State), st.data())
def test_every_state_answers_every_event(state, data):
    router = in_state(state)
    word = VirtualRouter(config("b", ("a",))).word(data.draw(st.sampled_from(e.Say)), "a")
    events = [
        e.Startup(),
        e.Shutdown(),
        e.AdvertReceived("b", source("b"), data.draw(st.integers(0, 255)), 0.1, 0.35),
        e.TimerFired(),
        e.Suspended(),
        e.HealthChanged(health(data.draw(st.integers(1, 254)), data.draw(st.sampled_from(Fitness)))),
        e.InterfaceChanged(data.draw(st.booleans())),
        e.PeerSaid(word),
        e.PeerLost("b", ended=data.draw(st.booleans())),
        e.VipChanged(VIP, present=data.draw(st.booleans())),
        e.OriginsSeen(good=data.draw(st.booleans()), asked=0.3),
        e.ConflictSeen(VIP, "02:00:00:00:00:01", data.draw(st.sampled_from(["", "b"]))),
        e.ProbeDone(answered=data.draw(st.booleans())),
        e.HandoverAsked(data.draw(st.sampled_from(["", "b", "x"]))),
        e.QuietCame(data.draw(st.sampled_from(["b", "x"]))),
        e.Reconfigured(config("a", interval=0.2, priority=99)),
        e.CommandFailed(e.AddVip(VIP, 1), "no such device"),
        e.CommandFailed(e.SendAdvert(1), "no buffer space"),
        e.GroupMayClaim(),
        e.GroupMustLeave("test"),
    ]
    assert {type(event) for event in events} == set(TRANSITIONS[state])
    now = router.clock
    for event in data.draw(st.permutations(events)):
        now += data.draw(st.floats(0.0, 0.5))
        router.handle(event, now)
        assert router.deadline is None or router.deadline >= now
        assert not router.held or router.state is State.ACTIVE
