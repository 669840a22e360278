from __future__ import annotations

import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.serialise import TOKEN, UnsafeHeadError, field_bytes, request_line, response_bytes
from tests.kit.heads import request_parser

NAMES = st.text(TOKEN.decode(), min_size=1, max_size=20).map(str.encode).filter(lambda name: len(name) > 0)
TEXT = st.binary(max_size=30).map(
    lambda raw: bytes(b for b in raw if b == 9 or (b >= 0x20 and b != 0x7F)).strip(b" \t")
)


def test_a_head_is_written_as_lines_and_an_empty_line():
    assert request_line(b"GET", b"/a?b") + field_bytes([(b"Host", b"x"), (b"A", b"")]) == (
        b"GET /a?b HTTP/1.1\r\nHost: x\r\nA: \r\n"
    )
    assert response_bytes(204, b"", []) == b"HTTP/1.1 204 \r\n\r\n"


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\nb", b"\xe4", b"a\x00", b"(a)", b" a", b"a ", b"a: b"])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.rfc("9110", "5.6.2")
def test_a_name_that_is_no_token_is_never_written(name, place):
    lines = [(b"a", b"1"), (b"c", b"2")]
    lines.insert(place, (name, b"v"))
    with pytest.raises(UnsafeHeadError):
        field_bytes(lines)
    with pytest.raises(UnsafeHeadError):
        field_bytes([(name, b"v")])


@pytest.mark.parametrize("byte", [*(c for c in range(0x20) if c != 9), 0x7F])
@pytest.mark.rfc("9110", "5.5")
def test_a_control_byte_other_than_tab_is_never_written(byte):
    bad = bytes([byte])
    for value in (bad, b"a" + bad, bad + b"a", b"a" + bad + b"b"):
        with pytest.raises(UnsafeHeadError):
            field_bytes([(b"a", value), (b"b", b"c")])
        with pytest.raises(UnsafeHeadError):
            response_bytes(200, value, [])
        with pytest.raises(UnsafeHeadError):
            request_line(b"GET", b"/" + value)


def test_a_smuggled_line_in_a_value_is_never_written():
    with pytest.raises(UnsafeHeadError):
        field_bytes([(b"a", b"b\r\nEvil: yes")])


def test_tab_and_high_bytes_are_text():
    assert field_bytes([(b"a", b"\t\x80\xff~")]) == b"a: \t\x80\xff~\r\n"


@pytest.mark.parametrize("method", [b"", b"G T", b"GET\r\n", b"G/T"])
def test_a_method_that_is_no_token_is_never_written(method):
    with pytest.raises(UnsafeHeadError):
        request_line(method, b"/")


@pytest.mark.parametrize("target", [b"", b"/ ", b"/\t", b"/\x80"])
def test_a_target_with_blanks_or_high_bytes_is_never_written(target):
    with pytest.raises(UnsafeHeadError):
        request_line(b"GET", target)


@pytest.mark.parametrize("status", [-1, 0, 99, 1000])
def test_a_status_has_three_digits(status):
    with pytest.raises(UnsafeHeadError):
        response_bytes(status, b"", [])


PLAIN = st.lists(
    st.tuples(
        NAMES.filter(
            lambda name: (
                not name.lower().startswith((b"content-", b"host", b"transfer", b"connection", b"upgrade", b"sec-web"))
                and name.lower() not in {b"etag", b"server", b"max-forwards", b"user-agent"}
            )
        ),
        TEXT,
    ),
    max_size=20,
)


@given(PLAIN)
def test_what_is_written_is_read_back_as_the_same_fields(lines):
    raw = request_line(b"GET", b"/") + field_bytes([(b"Host", b"x"), *lines]) + b"\r\n"
    messages, _, _ = request_parser().feed_data(raw)
    assert messages[0][0].raw_headers == ((b"Host", b"x"), *lines)


@given(st.lists(st.tuples(st.binary(max_size=6), st.binary(max_size=6)), max_size=5))
def test_any_bytes_either_raise_or_are_one_line_each(lines):
    try:
        written = field_bytes(lines)
    except UnsafeHeadError:
        return
    assert written == b"".join(name + b": " + value + b"\r\n" for name, value in lines)
    assert written.count(b"\r") == written.count(b"\n") == len(lines)
    assert all(name and not name.translate(None, TOKEN) for name, _ in lines)


def test_ten_fields_cost_a_few_microseconds():
    lines = [(b"X-Some-Field-%d" % i, b"a value of usual length, with words") for i in range(10)]
    best = min(timeit.repeat(lambda: response_bytes(200, b"OK", lines), number=1000, repeat=5)) / 1000
    assert best < 20e-6  # 2 µs where it was measured; the margin is for busy machines
