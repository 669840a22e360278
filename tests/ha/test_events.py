"""What a virtual router is told and asks for: the values themselves."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, is_dataclass
from ipaddress import ip_address
from typing import get_args

import pytest

from ha import events
from ha.events import Family, Fitness, RouterConfig


@pytest.mark.parametrize("kind", get_args(events.Event) + get_args(events.Command))
def test_events_and_commands_are_frozen_values_without_a_dictionary(kind):
    assert is_dataclass(kind)
    assert not hasattr(kind, "__dict__") or "__slots__" in vars(kind)
    assert kind.__dataclass_params__.frozen


def test_no_value_is_both_an_event_and_a_command():
    assert not set(get_args(events.Event)) & set(get_args(events.Command))


def test_g1_a_router_is_known_by_interface_vrid_and_family():
    config = RouterConfig("eth0", 51, Family.IPV4, (), "a", ip_address("192.168.8.4"))
    assert config.key == ("eth0", 51, Family.IPV4)
    with pytest.raises(FrozenInstanceError):
        config.vrid = 52


def test_only_priority_255_is_an_owner():
    config = RouterConfig("eth0", 51, Family.IPV4, (), "a", ip_address("192.168.8.4"), priority=255)
    assert config.is_owner


def test_fitness_is_ordered_worst_first():
    assert Fitness.UNFIT < Fitness.LISTENING < Fitness.SERVING
