"""Names by pattern, with at most one star."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.names import any_matches


@pytest.mark.parametrize(
    ("patterns", "name", "matches"),
    [
        ((b"utm_*",), b"utm_source", True),
        ((b"utm_*",), b"utm_", True),
        ((b"utm_*",), b"xutm_a", False),
        ((b"*_id",), b"fb_id", True),
        ((b"a*b",), b"ab", True),
        ((b"a*b",), b"a", False),
        ((b"aa*aa",), b"aaa", False),
        ((b"*",), b"", True),
        ((b"a", b"b"), b"b", True),
        ((b"a.c",), b"abc", False),
        ((b"a",), b"a\n", False),
        ((b"*",), b"a\nb", True),
        ((), b"a", False),
    ],
)
def test_a_star_stands_for_any_characters_and_nothing_else_does(patterns, name, matches):
    assert any_matches(patterns, name) is matches


@given(st.text("ab*", max_size=5).filter(lambda t: t.count("*") <= 1), st.text("ab", max_size=6))
def test_it_is_what_a_glob_means(pattern, name):
    expected = re.fullmatch(pattern.replace("*", ".*"), name) is not None
    assert any_matches((pattern.encode(),), name.encode()) is expected
