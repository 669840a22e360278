"""The table, and the life of a virtual router through all of its states."""

from __future__ import annotations

import pytest

from ha import events as e
from ha.events import SendAdvert, State, Tell, TimerFired
from ha.machine import TRANSITIONS, VirtualRouter
from tests.kit.lan import config, health
from tests.kit.trace import CLAIM, DOWN, advert, backup, trace


def test_s1_every_state_has_a_rule_for_every_event_and_every_rule_a_handler():
    kinds = set(e.Event.__args__)
    for rules in TRANSITIONS.values():
        assert set(rules) == kinds
        assert all(callable(rule.handler) for rule in rules.values())


def test_s1_an_unknown_event_is_an_error():
    with pytest.raises(KeyError):
        VirtualRouter(config()).handle("what?", 0.0)


def test_s1_initialize_backup_active_and_back():
    router = VirtualRouter(config())
    assert router.state is State.INITIALIZE
    trace(router, (0.0, e.HealthChanged(health()), [Tell()]), (0.0, e.Startup(), []))
    assert router.state is State.BACKUP
    trace(router, (DOWN, TimerFired(), [*CLAIM, Tell()]))
    assert router.state is State.ACTIVE
    router.handle(e.Shutdown(), 4.0)
    assert router.state is State.INITIALIZE


@pytest.mark.rfc("9568", "6.4.2")
def test_t1_a_backup_takes_over_when_the_active_falls_silent():
    router = backup("a", priority=100)
    router.handle(e.HealthChanged(health(100)), 0.0)
    router.handle(advert(240, 0.0), 0.0)
    assert router.deadline == pytest.approx(3 + 156 / 256)
    trace(router, (3.60, TimerFired(), []), (3.61, TimerFired(), [*CLAIM[:2], SendAdvert(100), Tell()]))
