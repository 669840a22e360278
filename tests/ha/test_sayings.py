"""Words come back as they were said, by whom the link has proved; junk is refused."""

import contextlib
import json
from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha.events import Family, Fitness, PeerWord, Say, State
from ha.peer import MAX_FRAME
from ha.sayings import Ask, BadSayingError, decode, encode_ask, encode_words

WORD = PeerWord(
    node="a",
    vrid=51,
    family=Family.IPV4,
    state=State.ACTIVE,
    priority=250,
    fitness=Fitness.SERVING,
    incarnation=1764000000000,
    source=ip_address("192.168.8.4"),
    interval=0.1,
    addresses=(ip_interface("192.168.8.100/24"), ip_interface("192.168.8.101/24")),
    reasons=("worker-1 is hung",),
    digest="ab" * 32,
    say=Say.RESIGN,
    to="b",
)


def test_words_come_back_as_they_were_said():
    other = replace(WORD, vrid=52, family=Family.IPV6, source=ip_address("fe80::4"), addresses=(), say=Say.NOTHING)
    assert decode("a", encode_words([WORD, other])) == (WORD, other)
    assert decode("a", encode_ask(Ask("b"))) == Ask("b")


def test_who_speaks_is_who_the_link_has_proved():
    (heard,) = decode("b", encode_words([WORD]))
    assert heard.node == "b"


def test_a_newer_node_may_say_more():
    content = json.loads(encode_words([WORD]))
    content["words"][0]["mood"] = "fine"
    assert decode("a", json.dumps(content).encode()) == (WORD,)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vrid", 0),
        ("vrid", True),
        ("family", 5),
        ("state", "master"),
        ("priority", 256),
        ("priority", 0),
        ("fitness", 9),
        ("incarnation", -1),
        ("source", "nowhere"),
        ("interval", 0),
        ("interval", "1"),
        ("addresses", ["x"]),
        ("reasons", [1]),
        ("digest", "a\nb"),
        ("say", "boo"),
        ("to", None),
    ],
)
def test_a_word_with_one_wrong_value_is_refused(key, value):
    content = json.loads(encode_words([WORD]))
    content["words"][0][key] = value
    with pytest.raises(BadSayingError):
        decode("a", json.dumps(content).encode())


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused(data):
    with pytest.raises(BadSayingError):
        decode("a", data)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["words", "ask", "to"]), x),
    )
)
def test_any_other_json_is_refused_or_an_ask(value):
    with contextlib.suppress(BadSayingError):
        decode("a", json.dumps(value).encode())


def test_many_routers_with_long_reasons_fit_into_a_frame():
    long = replace(WORD, reasons=("x" * 500,) * 20)
    assert len(encode_words([long] * 7)) < MAX_FRAME
