"""What the policy does on a route about which nothing was configured."""

from __future__ import annotations

import dataclasses

import pytest

from proxy.policy.rules import CacheRules


def test_rules_are_values_that_honour_both_sides_and_invent_no_lifetime():
    rules = CacheRules()
    assert (rules.enabled, rules.honour_request, rules.ttl, rules.status_ttl) == (True, True, None, ())
    assert rules.targeted == (b"tandem-cache-control", b"cdn-cache-control")
    assert rules == CacheRules()
    with pytest.raises(dataclasses.FrozenInstanceError):
        rules.ttl = 1.0
