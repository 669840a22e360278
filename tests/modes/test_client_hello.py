"""Hellos of real clients and of none: Python's OpenSSL makes the real ones, in memory."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.modes.client_hello import LONGEST, Hello, NoHello, Unfinished, parse


def real(name="shop.example", protocols=()):
    """The bytes that OpenSSL begins with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def vector(width, content):
    return len(content).to_bytes(width, "big") + content


def extension(kind, content):
    return kind.to_bytes(2, "big") + vector(2, content)


def server_name(*names, kind=0):
    return extension(0, vector(2, b"".join(bytes([kind]) + vector(2, name) for name in names)))


def hello(*extensions, whole=None):
    """The message, in one record."""
    body = b"\x03\x03" + bytes(32) + vector(1, bytes(32)) + vector(2, b"\x13\x01") + vector(1, b"\x00")
    body += vector(2, b"".join(extensions)) if whole is None else whole
    return record(b"\x01" + vector(3, body))


def record(content, kind=22):
    return bytes([kind, 3, 1]) + vector(2, content)


def test_a_real_hello_tells_its_name_and_protocols():
    assert parse(real("Shop.Example", ("h2", "http/1.1"))) == Hello("shop.example", protocols=(b"h2", b"http/1.1"))
    assert parse(real(None)) == Hello("")


@pytest.mark.parametrize("data", [real(), hello(server_name(b"a.example"), extension(0x0A0A, b""))])
def test_every_beginning_of_a_hello_is_unfinished_and_nothing_behind_it_matters(data):
    for cut in range(len(data)):
        assert parse(data[:cut]) == Unfinished(), cut
    assert parse(data + b"anything") == parse(data)
    assert isinstance(parse(data), Hello)


@pytest.mark.parametrize("size", [1, 3, 5, 100])
def test_a_hello_spread_over_records_is_read_as_one(size):
    data = real()
    message = data[5:]
    spread = b"".join(record(message[at : at + size]) for at in range(0, len(message), size))
    assert parse(spread) == parse(data) == Hello("shop.example")
    for cut in range(len(spread)):
        assert parse(spread[:cut]) == Unfinished()


def test_unknown_extensions_as_of_grease_are_passed_over_and_ech_is_told():
    made = hello(extension(0x2A2A, b"\x00"), server_name(b"front.example"), extension(0xFE0D, bytes(40)))
    assert parse(made) == Hello("front.example", encrypted=True)


def test_a_hello_without_extensions_has_no_name():
    assert parse(hello(whole=b"")) == Hello("")


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"10.0.0.1",
        b"0x7f.1",
        b"a..b",
        b"-a.example",
        b"a b",
        b"\xff",
        b"a\x00.example",
        b"x" * 64,
        b"[::1]",
        b".".join([b"a" * 60] * 5),
    ],
)
def test_what_could_not_be_a_host_name_is_none(name):
    assert parse(hello(server_name(name))) == Hello("")


def test_the_trailing_dot_and_capitals_make_no_other_name():
    assert parse(hello(server_name(b"A.Example."))) == Hello("a.example")


def test_a_name_of_another_kind_is_none_and_the_first_host_name_counts():
    assert parse(hello(server_name(b"a.example", kind=7))) == Hello("")
    assert parse(hello(server_name(b"a.example", b"b.example"))) == Hello("a.example")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x80\x2e\x01\x00\x02",  # of SSL 2
        b"\x15\x03\x01\x00\x02\x01\x00",  # an alert
        record(b"\x02" + vector(3, bytes(50))),  # a server's
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x40\x01",
        record(b"\x01" + vector(3, b"short")),
        hello(whole=vector(2, server_name(b"a.example")) + b"junk"),
        hello(server_name(b"a.example"), server_name(b"b.example")),
        hello(b"\x00"),
        record(b"\x01\x00\x50\x00"),  # announces 20 KiB
    ],
)
def test_what_is_no_hello_is_told_with_a_reason(data):
    found = parse(data)
    assert isinstance(found, NoHello)
    assert found.why


def test_a_hello_is_waited_for_no_further_than_its_bound():
    dripping = record(b"\x01\x00\x3f\x00") + b"".join(record(b"x") for _ in range(LONGEST))
    assert isinstance(parse(dripping[: LONGEST // 2]), Unfinished)
    assert isinstance(parse(dripping[:LONGEST]), NoHello)
    assert isinstance(parse(dripping), NoHello)


@given(st.binary(max_size=300), st.data())
def test_nothing_raises_and_an_answer_stays_when_more_comes(data, more):
    first = parse(data)
    longer = data + more.draw(st.binary(max_size=50))
    if not isinstance(first, Unfinished):
        assert parse(longer) == first


@given(st.data())
def test_a_real_hello_with_any_bytes_changed_never_raises(more):
    data = bytearray(real())
    for _ in range(more.draw(st.integers(1, 4))):
        data[more.draw(st.integers(0, len(data) - 1))] = more.draw(st.integers(0, 255))
    assert isinstance(parse(bytes(data)), Hello | NoHello | Unfinished)
