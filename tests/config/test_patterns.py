"""The algebra of patterns against plain matching."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.patterns import covers_host, covers_path, overlaps_host, overlaps_path

PATTERNS = st.text("ab*", max_size=6)
PATHS = st.text("ab", max_size=8)


def matches(pattern: str, path: str) -> bool:
    return re.fullmatch(".*".join(re.escape(piece) for piece in pattern.split("*")), path) is not None


@given(PATTERNS, PATTERNS, PATHS)
def test_what_covers_matches_all_that_is_covered(outer, inner, path):
    if covers_path(outer, inner) and matches(inner, path):
        assert matches(outer, path)


@given(PATTERNS, PATHS)
def test_a_pattern_covers_exactly_the_paths_that_it_matches(pattern, path):
    assert covers_path(pattern, path) == matches(pattern, path)


@given(PATTERNS, PATTERNS, PATHS)
def test_a_path_that_both_match_is_an_overlap(one, other, path):
    if matches(one, path) and matches(other, path):
        assert overlaps_path(one, other)


@given(PATTERNS, PATTERNS)
def test_an_overlap_is_mutual_and_has_a_witness(one, other):
    assert overlaps_path(one, other) == overlaps_path(other, one)
    if overlaps_path(one, other) and "*" in one and "*" in other:
        heads = max(one.split("*")[0], other.split("*")[0], key=len)
        tails = max(one.rsplit("*", 1)[1], other.rsplit("*", 1)[1], key=len)
        middle = one.replace("*", "") + other.replace("*", "")
        assert matches(one, heads + middle + tails)
        assert matches(other, heads + middle + tails)


@pytest.mark.parametrize(
    ("outer", "inner", "covered"),
    [
        ("*.example.org", "shop.example.org", True),
        ("*.example.org", "*.shop.example.org", True),
        ("*.example.org", "*.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "badexample.org", False),
        ("*.shop.example.org", "*.example.org", False),
        ("shop.example.org", "SHOP.example.org", True),
    ],
)
def test_a_wildcard_host_covers_what_lies_below_it(outer, inner, covered):
    assert covers_host(outer, inner) is covered
    if covered:
        assert overlaps_host(inner, outer)
