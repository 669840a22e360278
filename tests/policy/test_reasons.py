"""Reasons are tokens that can stand in a log, a metric label and Cache-Status."""

from __future__ import annotations

import re

import pytest

from proxy.policy.reasons import Reason

FORWARDED = {"bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"}


@pytest.mark.rfc("9211", "2.2")
@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_a_token_and_forwards_for_a_registered_cause(reason):
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", reason.token)
    assert reason.fwd is None or reason.fwd in FORWARDED


def test_no_two_reasons_share_a_token():
    assert len({reason.token for reason in Reason}) == len(Reason.__members__)
