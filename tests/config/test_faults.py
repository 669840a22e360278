"""How faults read, and what did-you-mean may say."""

from hypothesis import given
from hypothesis import strategies as st

from config.convert import hints
from config.faults import Fault, Faults, nearest, quote, spell_path, suggest
from config.schema import Limits, Site

KEYS = sorted({*hints(Site), *hints(Limits)})


def test_a_fault_reads_file_line_column_where_what_and_remedy():
    fault = Fault("t.toml", 3, 5, "site[0].listn", "unknown key", "did you mean `listen`?")
    assert str(fault) == "t.toml:3:5: site[0].listn: unknown key; did you mean `listen`?"


def test_faults_come_in_the_order_of_the_file():
    faults = Faults([Fault("f", 2, 1, "", "b"), Fault("f", 1, 9, "", "a")])
    assert str(faults) == "f:1:9: a\nf:2:1: b"


def test_a_path_reads_as_people_write_it():
    assert spell_path(("site", 0, "upstream", 1, "address")) == "site[0].upstream[1].address"
    assert spell_path(("cache", "a b\n")) == 'cache."a b\\n"'


@given(st.text(), st.lists(st.text(min_size=1, max_size=20)))
def test_the_nearest_word_is_one_of_the_choices_or_none(word, choices):
    assert nearest(word, choices) in {"", *choices}


@given(st.sampled_from(KEYS))
def test_a_right_word_is_its_own_nearest(word):
    assert nearest(word, KEYS) == word


@given(st.sampled_from([key for key in KEYS if len(key) >= 6]), st.data())
def test_one_letter_lost_is_always_found_again(word, data):
    at = data.draw(st.integers(0, len(word) - 1))
    meant = nearest(word[:at] + word[at + 1 :], [word])
    assert meant == word


@given(st.text())
def test_quoted_text_is_printable_and_short(text):
    quoted = quote(text)
    assert quoted.isprintable()
    assert len(text) <= 60 or len(quoted) <= 12 * 61


def test_a_word_near_to_nothing_gets_the_other_hint():
    assert suggest("zzzzz", ["listen"], "there is: listen") == "there is: listen"
