"""Structured fields against the grammar of their standard."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.structured import Date, InnerList, String, Text, Token, parse_dictionary, parse_list


@pytest.mark.rfc("9651", "3")
def test_every_type_is_read():
    members = parse_dictionary(
        rb'a=1, b=-1.5, c="x\"\\", d=tok/en:1, e=:aGk=:, f=?0, g, h=@-5, i=%"f%c3%bc", j=(1 "x";p);q, k=*;y=:YQ:'
    )
    assert members == {
        "a": 1, "b": -1.5, "c": 'x"\\', "d": "tok/en:1", "e": b"hi", "f": False, "g": True, "h": -5, "i": "fü",
        "j": members["j"], "k": "*",
    }  # fmt: skip
    kinds = {name: type(value) for name, value in members.items()}
    assert (kinds["c"], kinds["d"], kinds["h"], kinds["i"], kinds["j"]) == (String, Token, Date, Text, InnerList)


@pytest.mark.rfc("9651", "4.2")
@pytest.mark.parametrize(
    "text",
    [
        b"a=1,", b"a=1,,b", b"A=1", b"a =1", b"a= 1", b"a=1 b", b'a="x', b"a='x'", b"a=?2", b"a=1234567890123456",
        b"a=1.", b"a=1.2345", b"a=1234567890123.1", b"a=(1", b'a=(1"x")', b"a=:*:", b"a=@1.5", b'a=%"%FF"', b'a=%"%ff"',
        b"a;=1", b"a=\xff", b"a=--1", b"\ta", b"a=", b"a=(1 2", b"=1", b'a="\\x"',
    ],
)  # fmt: skip
def test_one_error_anywhere_and_there_is_nothing(text):
    """T2."""
    assert parse_dictionary(text) is None


def test_a_list_is_read_and_an_empty_field_is_empty():
    assert parse_list(b'"a", "b";x=1 ,\tc') == ["a", "b", "c"]
    assert parse_list(b"a,") is None
    assert parse_list(b"a b") is None
    assert parse_list(b" ") == []
    assert parse_dictionary(b"  ") == {}


KEYS = st.from_regex(r"[a-z*][a-z0-9_.*-]{0,5}", fullmatch=True)
ITEMS = st.one_of(
    st.integers(-(10**15) + 1, 10**15 - 1).map(lambda number: (str(number), number)),
    st.booleans().map(lambda flag: (f"?{flag:d}", flag)),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=8).map(
        lambda text: ('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"', text)
    ),
    st.binary(max_size=8).map(lambda data: (f":{b64encode(data).decode()}:", data)),
    st.from_regex(r"[a-zA-Z*][a-zA-Z0-9:/!]{0,5}", fullmatch=True).map(lambda token: (token, token)),
)


@given(st.lists(st.tuples(KEYS, ITEMS), min_size=1, max_size=5))
def test_what_is_written_reads_back_and_the_last_of_equal_keys_wins(members):
    text = ", ".join(f"{key}={written};p=1" for key, (written, _) in members)
    assert parse_dictionary(text.encode()) == {key: value for key, (_, value) in members}


@given(st.binary(max_size=30) | st.text('ab*10.-"=,;:?@()% \\').map(str.encode))
def test_reading_never_raises(text):
    parse_dictionary(text)
    parse_list(text)
