"""Conditions under which a rule leaves a request out of the cache."""

import pytest

from proxy.policy.bypass import asks_to_pass
from proxy.policy.rules import Bypassing
from tests.policy.heads import get

CONDITIONS = Bypassing(
    cookies=(b"logged_in_*",),
    fields=((b"x-preview", None), (b"x-debug", b"1")),
    arguments=(b"preview", b"mode=edit", b"tmp*"),
)


@pytest.mark.parametrize(
    ("lines", "target", "passes"),
    [
        ((), "/a", False),
        (("Cookie: a=1; logged_in_x=2",), "/a", True),
        (("Cookie: a=1; logged_in=2",), "/a", False),
        (("X-Preview:",), "/a", True),
        (("X-Debug: 0",), "/a", False),
        (("X-Debug: 0", "X-Debug: 1"), "/a", True),
        ((), "/a?preview", True),
        ((), "/a?x=1&preview=no", True),
        ((), "/a?%70review", True),
        ((), "/a?x=preview", False),
        ((), "/a?mode=edit", True),
        ((), "/a?mode=read", False),
        ((), "/a?tmp1=x", True),
        ((), "/preview?", False),
    ],
)
def test_one_condition_suffices(lines, target, passes):
    assert asks_to_pass(get(*lines, target=target), CONDITIONS) is passes


def test_without_conditions_nothing_passes():
    assert not asks_to_pass(get("Cookie: a=1", target="/a?b"), Bypassing())
