"""Who may ask for what: tables of decisions, and rates as a property."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.observe import gate
from proxy.observe.gate import Peer, Rates, Right, Token, Way

ROOT, OWNER, MEMBER = (Peer(Way.UNIX, f"uid {uid}", uid) for uid in (0, 900, 1000))
LOOPBACK, NETWORK = Peer(Way.LOOPBACK, "127.0.0.1"), Peer(Way.NETWORK, "192.0.2.9")
READER, CHANGER = (Token(right.value, right, b"") for right in Right)
SECRET = "k" * gate.LEAST_TOKEN


@pytest.mark.parametrize(
    ("peer", "token", "read", "change"),
    [
        (ROOT, None, None, None),
        (OWNER, None, None, None),
        (MEMBER, None, None, 403),
        (MEMBER, CHANGER, None, 403),
        (LOOPBACK, None, None, 401),
        (LOOPBACK, READER, None, 403),
        (LOOPBACK, CHANGER, None, None),
        (NETWORK, None, 401, 401),
        (NETWORK, READER, None, 403),
        (NETWORK, CHANGER, None, None),
    ],
)
def test_rights_by_way_user_and_token(peer, token, read, change):
    for right, status in ((Right.READ, read), (Right.CHANGE, change)):
        refusal = gate.decide_right(peer, right, token, {0, 900})
        assert (None if refusal is None else refusal.status) == status


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:9600", True),
        ("[::1]:9600", True),
        ("192.0.2.1", True),
        ("proxy.example.org:9600", True),
        ("PROXY.example.org", True),
        ("localhost:9600", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("127.1", False),
        ("", False),
        (None, False),
        ("127.0.0.1:9600:1", False),
        ("[::1%eth0]", False),
    ],
)
def test_a_browser_led_here_by_a_strangers_name_is_misdirected(host, allowed):
    refusal = gate.decide_host(host, LOOPBACK, {"proxy.example.org"})
    assert (refusal is None) == allowed
    assert allowed or refusal.status == 421


def test_localhost_is_nothing_special_from_elsewhere_and_the_unix_socket_has_no_names():
    assert gate.decide_host("localhost", NETWORK, ()) is not None
    assert gate.decide_host("whatever", ROOT, ()) is None


JSON = {"Content-Type": "application/json; charset=utf-8", "Host": "127.0.0.1:9600"}


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (JSON, None),
        (JSON | {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:9600"}, None),
        ({"Host": "127.0.0.1:9600"}, 415),
        (JSON | {"Content-Type": "text/plain"}, 415),
        (JSON | {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (JSON | {"Sec-Fetch-Site": "cross-site"}, 403),
        (JSON | {"Sec-Fetch-Site": "same-site"}, 403),
        (JSON | {"Origin": "http://evil.example"}, 403),
        (JSON | {"Origin": "null"}, 403),
        (JSON | {"Origin": "https://127.0.0.1:9600"}, 403),
    ],
)
def test_a_change_comes_from_no_foreign_page(fields, status):
    refusal = gate.decide_origin(fields, "http")
    assert (None if refusal is None else refusal.status) == status


def test_a_token_file_is_read_with_comments():
    tokens = gate.parse_tokens(f"# tokens\n\nops change sha256:{'a' * 64}\n  grafana  read sha256:{'b' * 64}\n")
    assert [(token.name, token.right) for token in tokens] == [("ops", Right.CHANGE), ("grafana", Right.READ)]


@pytest.mark.parametrize(
    "line", ["ops", "ops write sha256:" + "a" * 64, "ops read " + "a" * 64, "ops read sha256:" + "A" * 64]
)
def test_a_faulty_token_line_is_named(line):
    with pytest.raises(ValueError, match="line 2"):
        gate.parse_tokens("# first\n" + line)


def test_a_presented_token_is_found_by_its_hash():
    tokens = [Token(name, Right.READ, gate.digest_of(name * gate.LEAST_TOKEN)) for name in "abc"]
    assert gate.find_token(tokens, "b" * gate.LEAST_TOKEN) is tokens[1]
    assert gate.find_token(tokens, SECRET) is None
    assert gate.find_token([], SECRET) is None


def test_a_short_token_is_never_accepted():
    short = "x" * (gate.LEAST_TOKEN - 1)
    assert gate.find_token([Token("t", Right.READ, gate.digest_of(short))], short) is None


@pytest.mark.parametrize(
    ("field", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic abc", None),
        ("Bearer", None),
        ("Bearer ", None),
        (None, None),
    ],
)
def test_a_token_comes_as_bearer(field, token):
    assert gate.bearer(field) == token


@given(st.lists(st.floats(0, 10), max_size=200))
def test_no_peer_gets_more_than_burst_and_rate(steps):
    rates, now, taken = Rates(rate=2.0, burst=5.0), 0.0, 0
    for step in steps:
        now += step / 100
        taken += rates.take("a", now)
        assert taken <= 5 + 2 * now + 1e-6


def test_peers_have_buckets_of_their_own_and_an_unheard_one_is_forgotten():
    rates = Rates(rate=0.0, burst=1.0, most=2)
    assert rates.take("a", 0.0)
    assert not rates.take("a", 0.0)
    assert rates.take("b", 0.0)
    assert rates.take("c", 0.0)
    assert rates.left("a", 0.0) == 1.0


def test_a_clock_that_steps_back_gives_nothing():
    rates = Rates(rate=1.0, burst=1.0)
    assert rates.take("a", 10.0)
    assert not rates.take("a", 0.0)
