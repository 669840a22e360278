"""Durations, sizes and addresses: what is accepted, what is refused, and that spelling them out loses nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.units import (
    Address,
    Destination,
    Duration,
    Hours,
    Listen,
    Ports,
    Rate,
    Size,
    dec_hook,
    parse_address,
    parse_host,
    parse_network,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("30s", 30),
        ("5min", 300),
        ("2h", 7200),
        ("1d", 86400),
        ("0", 0),
        ("0s", 0),
        ("3650d", 315360000),
    ],
)
def test_a_duration_is_a_number_with_its_unit(text, seconds):
    assert Duration.parse(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "30", "5m", "-1s", "+1s", "1_0s", " 1s", "1 s", "1.5s", "٣s", "3651d", "9" * 5000 + "s", "1S", "s", "1s\n"],
)
def test_what_is_no_duration_is_refused_with_what_is(text):
    with pytest.raises(ValueError, match="a duration is"):
        Duration.parse(text)


@pytest.mark.parametrize(("text", "size"), [("512B", 512), ("16KB", 16384), ("64MB", 2**26), ("1GB", 2**30), ("0", 0)])
def test_a_size_counts_in_powers_of_1024(text, size):
    assert Size.parse(text) == size


@pytest.mark.parametrize("text", ["", "1", "1kb", "1KiB", "1TB", "-1B", "1_0B", "٣B", "1048577GB", "1e3B"])
def test_what_is_no_size_is_refused_with_what_is(text):
    with pytest.raises(ValueError, match="a size is"):
        Size.parse(text)


@pytest.mark.parametrize(
    ("text", "network", "port"),
    [
        ("10.0.0.0/8", "10.0.0.0/8", 0),
        ("10.0.0.5", "10.0.0.5/32", 0),
        ("fd00::/8", "fd00::/8", 0),
        ("fd00::5", "fd00::5/128", 0),
        ("10.0.0.5:8080", "10.0.0.5/32", 8080),
        ("[fd00::5]:443", "fd00::5/128", 443),
    ],
)
def test_a_destination_is_a_network_or_an_address_with_a_port(text, network, port):
    made = Destination.parse(text)
    assert (str(made.network), made.port) == (network, port)
    assert made.text == text


@pytest.mark.parametrize("text", ["", "10.0.0.0/8:80", "10.0.0.5:0", "10.0.0.5:65536", "a:80", "[10.0.0.5]:80", ":80"])
def test_what_is_no_destination_is_refused_with_what_is(text):
    with pytest.raises(ValueError, match=r"a destination is|a network is"):
        Destination.parse(text)


@given(st.integers(0, 3650 * 86_400_000))
def test_a_duration_comes_back_from_its_text(milliseconds):
    duration = Duration(milliseconds / 1000)
    assert Duration.parse(duration.text) == duration


@given(st.integers(0, 2**50))
def test_a_size_comes_back_from_its_text(number):
    assert Size.parse(Size(number).text) == number


@given(st.text())
def test_parsers_raise_nothing_but_value_errors(text):
    for parse in (
        Duration.parse,
        Size.parse,
        Listen.parse,
        Destination.parse,
        parse_address,
        parse_host,
        parse_network,
    ):
        try:
            parse(text)
        except ValueError as exc:
            assert str(exc)  # noqa: PT017 - any of them may also accept the text


@pytest.mark.parametrize(
    ("text", "listen"),
    [(":80", ("", 80)), ("127.0.0.1:8080", ("127.0.0.1", 8080)), ("[::1]:80", ("::1", 80)), ("[::]:1", ("::", 1))],
)
def test_a_listening_address_is_a_literal_and_a_port(text, listen):
    assert Listen.parse(text) == listen
    assert Listen.parse(text).text == text


@pytest.mark.parametrize(
    "text", ["80", "localhost:80", ":0", ":65536", "::1:80", "[127.0.0.1]:80", ":+1", "[fe80::1%e]:80"]
)
def test_what_is_no_listening_address_is_refused(text):
    with pytest.raises(ValueError, match="an address to listen on is"):
        Listen.parse(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", ("http", "127.0.0.1", 8080)),
        ("[::1]:80", ("http", "::1", 80)),
        ("http://Tomcat.example.:81/", ("http", "tomcat.example", 81)),
        ("http://t", ("http", "t", 80)),
        ("HTTPS://t", ("https", "t", 443)),
        ("https://[2001:DB8::1]", ("https", "2001:db8::1", 443)),
        ("https://t:8443", ("https", "t", 8443)),
    ],
)
def test_an_origin_is_host_and_port_with_or_without_scheme(text, address):
    assert parse_address(text) == address
    assert parse_address(Address(*address).text) == address


@pytest.mark.parametrize(
    "text",
    ["", "t", "ftp://t", "http://t/app", "http://u@t", "t:0", "http://t:", "t:80/", "1.2.3:80", "0x7f.1:80", "a b:80"],
)
def test_what_is_no_origin_is_refused(text):
    with pytest.raises(ValueError, match="an origin is"):
        parse_address(text)


def test_a_network_with_host_bits_is_told_the_right_one():
    with pytest.raises(ValueError, match=r"192\.168\.8\.0/24"):
        parse_network("192.168.8.4/24")
    assert parse_network("10.0.0.2").num_addresses == 1


def test_the_decoder_hook_knows_our_types():
    assert dec_hook(Duration, "1s") == 1.0
    assert dec_hook(Size, "1KB") == 1024
    with pytest.raises(NotImplementedError):
        dec_hook(Size, 1)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("mon-fri 08:00-15:30", 5 * 450),
        ("sat,sun", 2 * 1440),
        ("22:00-06:00", 7 * 480),
        ("fri-mon", 4 * 1440),
        ("Sun 23:00-01:00", 120),
        ("mon,wed-thu 00:00-24:00", 3 * 1440),
    ],
)
def test_hours_are_minutes_of_the_week(text, minutes):
    hours = Hours.parse(text)
    assert hours.minutes.bit_count() == minutes
    assert Hours.parse(hours.text) == hours


def test_sunday_night_runs_into_monday():
    assert Hours.parse("sun 23:00-01:00").minutes == (1 << 60) - 1 | ((1 << 60) - 1) << (7 * 1440 - 60)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "monday",
        "mon-",
        "mon 8:00-9:00",
        "mon 25:00-26:00",
        "mon08:00-09:00",
        "mon ",
        "08:00-08:00",
        "24:00-01:00",
    ],
)
def test_what_is_no_time_is_refused_with_what_is(text):
    with pytest.raises(ValueError, match="a time is"):
        Hours.parse(text)


@given(st.text())
def test_no_text_makes_hours_ports_or_rates_raise_anything_else(text):
    for kind in (Hours, Ports, Rate):
        try:
            made = kind.parse(text)
        except ValueError:
            continue
        assert kind.parse(made.text) == made


def test_ports_are_one_or_a_range():
    assert Ports.parse("443") == (443, 443)
    assert Ports.parse("1024-65535").text == "1024-65535"
    for text in ("0", "70000", "5-4", "-5", "1-", "a", "1-2-3"):
        with pytest.raises(ValueError, match="a port is"):
            Ports.parse(text)


def test_a_rate_is_bits_a_second_kept_as_bytes():
    assert Rate.parse("10Mbit/s") == 1_250_000
    assert Rate.parse("10Mbit/s").text == "10Mbit/s"
    for text in ("10", "10Mbit", "10MB/s", "-1Mbit/s", "2000Gbit/s"):
        with pytest.raises(ValueError, match="a rate is"):
            Rate.parse(text)
