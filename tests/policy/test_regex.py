"""Regular expressions in linear time: the same verdict as Python's own, and no text that takes long."""

from __future__ import annotations

import contextlib
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy.regex import MOST_STATES, BadRegexError, Regex

ATOMS = st.sampled_from(
    ["a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", "(?:ab|)", "(a|bc)", "^", "$", r"\.", "[]a]", "[a-]"]
)
REPEATS = st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{1,3}", "{2,}", "*?"])
PARTS = st.tuples(ATOMS, REPEATS).map(lambda pair: pair[0] if pair[0] in "^$" else pair[0] + pair[1])
ROWS = st.lists(PARTS, min_size=1, max_size=6).map("".join)
GROUPS = st.tuples(ROWS, REPEATS).map(lambda pair: f"({pair[0]}){pair[1]}")
EXPRESSIONS = st.lists(st.one_of(ROWS, GROUPS, st.just("|")), min_size=1, max_size=5).map("".join)
TEXTS = st.text("abc1.]-\n", max_size=8).map(str.encode)


@settings(deadline=None, max_examples=400)
@given(EXPRESSIONS, TEXTS)
def test_the_verdict_is_that_of_the_usual_engine(expression, text):
    try:
        theirs = re.compile(expression.replace("$", r"\Z").encode())
    except re.error:
        return
    assert Regex(expression).search(text) == bool(theirs.search(text))


@given(st.text(max_size=12))
def test_any_text_is_an_expression_or_a_fault_told(text):
    with contextlib.suppress(BadRegexError):
        Regex(text).search(b"abc")


def test_letters_of_either_case_are_asked_for_at_the_start():
    assert Regex("(?i)^/News[a-c]$").search(b"/nEWSB")
    assert not Regex("^/News").search(b"/news")


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("", "1 to 512 printable"),
        ("a" * 513, "1 to 512 printable"),
        ("é", "ASCII"),
        ("(a", r"character 1: a `\(` without"),
        ("a)", r"character 2: a `\)` without"),
        ("[a", "character 1"),
        ("a**b|*", r"character 6: `\*` repeats nothing"),
        ("a{3", r"\{2,5\}"),
        ("a{3,2}", "upwards"),
        ("^*", "cannot be repeated"),
        (r"(a)\1", "back references"),
        ("(?=a)", "look-around"),
        (r"\q", "not offered"),
        ("[z-a]", "later one"),
        ("a\\", "nothing behind"),
        ("((a{50}){50}){50}", "more than 512 steps"),
        ("(" * 40 + ")" * 40, "too deep"),
    ],
)
def test_what_is_not_offered_is_told_with_its_place(expression, why):
    with pytest.raises(BadRegexError, match=why):
        Regex(expression)


@pytest.mark.parametrize("expression", ["(a+)+$", "(a|a)*b", "(a*)*c", "a*a*a*a*a*b", "(.*)(.*)(.*)x$"])
def test_what_takes_the_usual_engine_an_age_takes_a_moment(expression):
    """30 letters take the usual engine minutes for the first; ten thousand take a few milliseconds here."""
    started = time.process_time()
    assert not Regex(expression).search(b"a" * 10_000 + b"!")
    assert time.process_time() - started < 1.0


def test_the_table_of_states_stays_bounded():
    """A hundred characters behind an x are as many states as there are ways to place x among them."""
    regex = Regex("x.{60}y")
    text = bytes((b"x" if number * number % 7 < 3 else b"z")[0] for number in range(20_000))
    assert not regex.search(text)
    assert len(regex._states) <= MOST_STATES
    assert regex.search(text + b"x" + b"." * 60 + b"y")
