"""Where taken connections go, and what the names that clients give are worth."""

from __future__ import annotations

import pytest

from config.load import accept
from proxy import errors
from proxy.exchange import Client, Route, Tunnel, Unproven
from proxy.http.message import Fields, RequestHead
from proxy.modes.client_hello import Hello, NoHello, Unfinished
from proxy.modes.every import Modes

GATEWAY = '[transparent]\ninterface = "lan0"\nclients = ["192.168.8.0/24", "fd00:8::/64"]\n'
THERE = ("100.200.0.20", 80)


def build(more=""):
    return Modes(accept((GATEWAY + more).encode(), "test"), {}).transparent


def client(address="192.168.8.7", destination=THERE):
    return Client(address, 40000, ("192.168.8.1", 3129), b"http", destination=destination)


def ask(mode, authority="example.org", **more):
    head = RequestHead(b"GET", b"http", authority.encode(), b"/", None, (1, 1), Fields())
    return mode.route(head, client(**more))


def test_a_connection_goes_where_it_was_going_and_its_name_is_to_be_proved():
    mode = build()
    way = ask(mode)
    assert isinstance(way, Unproven)
    assert (way.name, way.address) == ("example.org", "100.200.0.20")
    for route in (way.proven, way.disproved):
        assert (route.origin.host, route.origin.port) == THERE
        assert route.origin.reach == mode.reach
        assert route.site == "transparent"


@pytest.mark.parametrize(
    ("authority", "destination"),
    [
        ("100.200.0.20", THERE),
        ("[2a0e:8::20]", ("2a0e:8::20", 80)),
        ("[2A0E:8:0::20]", ("2a0e:8::20", 80)),
        ("100.200.0.20:8080", ("100.200.0.20", 8080)),
    ],
)
def test_the_address_itself_as_a_name_needs_no_proof(authority, destination):
    assert isinstance(ask(build(), authority, destination=destination), Route)


@pytest.mark.parametrize("authority", ["100.200.0.21", "[2a0e:8::20]", "example.org:8080", "100.200.0.20:81"])
def test_another_address_or_port_is_a_lie_that_nobody_need_be_asked_about(authority):
    way = ask(build(), authority)
    assert isinstance(way, Unproven)
    assert way.name == ""
    assert (way.disproved.origin.host, way.disproved.origin.port) == THERE


@pytest.mark.parametrize("address", ["192.168.9.7", "fd00:9::1", "127.0.0.1"])
def test_nobody_is_served_who_is_not_listed(address):
    mode = build()
    assert ask(mode, address=address).kind is errors.STRANGER
    assert mode.judge_hello(Hello("example.org"), client(address)).kind is errors.STRANGER


def test_who_came_to_our_port_by_name_is_no_client_of_a_gateway():
    mode = build()
    assert ask(mode, destination=None).kind is errors.STRANGER
    assert mode.judge_hello(Hello("example.org"), client(destination=None)).kind is errors.STRANGER


def test_clients_are_of_one_class_only_on_the_way_to_the_same_place():
    mode = build()
    assert mode.classify(client("192.168.8.7")) == mode.classify(client("192.168.8.8"))
    assert mode.classify(client()) != mode.classify(client(destination=("100.200.0.21", 80)))
    assert mode.classify(client()) != mode.classify(client("192.168.9.7"))


def test_with_spoof_each_client_has_its_own_plans_and_connections():
    mode = build('method = "tproxy"\nspoof = true')
    assert mode.classify(client("192.168.8.7")) != mode.classify(client("192.168.8.8"))
    first, other = (mode.origin(client(address)) for address in ("192.168.8.7", "192.168.8.8"))
    assert (first.source, other.source) == ("192.168.8.7", "192.168.8.8")
    assert first != other
    assert hash(first) != hash(other)
    assert mode.judge_hello(Hello("example.org"), client("192.168.8.7")).origin.source == "192.168.8.7"
    assert build('method = "tproxy"').origin(client()).source == ""


def test_https_goes_on_by_the_address_it_was_going_to_whatever_it_names():
    way = build().judge_hello(Hello("example.org"), client(destination=("100.200.0.20", 443)))
    assert isinstance(way, Tunnel)
    assert (way.origin.host, way.origin.port) == ("100.200.0.20", 443)


@pytest.mark.parametrize("said", [Hello(""), NoHello("no TLS"), Unfinished()])
def test_https_without_a_name_is_refused_where_a_name_is_demanded(said):
    assert isinstance(build().judge_hello(said, client()), Tunnel)
    assert build('nameless = "deny"').judge_hello(said, client()).kind is errors.FORBIDDEN
    assert isinstance(build('nameless = "deny"').judge_hello(Hello("a.example"), client()), Tunnel)


def test_the_pool_of_an_origin_is_that_origin_alone():
    modes = Modes(accept((GATEWAY + '[forward]\nlisten = ":3128"\n').encode(), "test"), {})
    spec = modes.pool_spec("transparent", modes.transparent.origin(client()))
    assert (spec.site, spec.origins) == ("transparent", (modes.transparent.origin(client()),))
    assert modes.forward.reach != modes.transparent.reach
    assert modes.forward.rules.space == modes.transparent.rules.space  # what is stored is the same


RULES = """
[[rule]]
name = "games"
match = { mode = "transparent", domain = "games.example" }
action = "deny"
[[rule]]
name = "there"
match = { mode = "transparent", destination = "100.200.0.66" }
action = "deny"
"""


def test_rules_are_about_the_name_and_about_the_address_it_was_going_to():
    mode = build(RULES)
    assert ask(mode, "www.games.example").kind is errors.DENIED
    assert ask(mode, "www.games.example").rule == "games"
    assert ask(mode, "other.example", destination=("100.200.0.66", 80)).rule == "there"
    assert ask(mode, "100.200.0.66", destination=("100.200.0.66", 80)).rule == "there"
    assert isinstance(ask(mode, "other.example"), Unproven)
    for said, destination, rule in (
        (Hello("games.example"), THERE, "games"),
        (Hello("other.example"), ("100.200.0.66", 443), "there"),
        (Hello(""), ("100.200.0.66", 443), "there"),
    ):
        assert mode.judge_hello(said, client(destination=destination)).rule == rule


def test_where_only_some_names_are_allowed_a_lie_about_the_name_is_judged_by_the_address():
    rules = '[[rule]]\nname = "ours"\nmatch = { mode = "transparent", domain = "ours.example" }\naction = "allow"\n'
    mode = build('otherwise = "deny"\n' + rules)
    way = ask(mode, "ours.example")
    assert isinstance(way.proven, Route)
    assert way.proven.rule == "ours"
    assert way.disproved.kind is errors.DENIED
    assert ask(mode, "other.example").kind is errors.DENIED


def test_decisions_that_hang_on_the_time_hold_until_it_changes():
    rules = '[[rule]]\nname = "day"\nmatch = { mode = "transparent", time = "mon-sun 08:00-15:30" }\naction = "deny"\n'
    assert build().steady_for(0.0) == float("inf")
    assert 0 < build(rules).steady_for(1_000_000.0) <= 15 * 60
