"""Whether a client may ask for that, and which origin the request names."""

from __future__ import annotations

from datetime import datetime
from ipaddress import ip_address
from math import inf

import pytest

from config.load import accept
from proxy import errors
from proxy.exchange import Client, FixedAnswer, Origin, Route, Tunnel
from proxy.http.message import Fields, RequestHead
from proxy.modes.every import Modes
from proxy.modes.forward import PARENTS, listeners_of, ours_of
from proxy.policy import key

CLIENTS = '[forward]\nlisten = ":3128"\nclients = ["192.168.8.0/24", "fd00:8::/64"]\n'


def build(more=""):
    return Modes(accept((CLIENTS + more).encode(), "test"), {}).forward


def head(authority="example.org", *, method="GET", scheme="http", path="/"):
    return RequestHead(method.encode(), scheme.encode(), authority.encode(), path.encode(), None, (1, 1), Fields())


def client(address):
    return Client(address, 40000, ("192.168.8.4", 3128), b"http")


def ask(mode, authority="example.org", *, address="192.168.8.7", **more):
    return mode.route(head(authority, **more), client(address))


@pytest.mark.parametrize(
    ("authority", "host", "port"),
    [
        ("example.org", "example.org", 80),
        ("example.org:8080", "example.org", 8080),
        ("9.9.9.9", "9.9.9.9", 80),
        ("[2606:4700::1]", "2606:4700::1", 80),
        ("[2606:4700::1]:8080", "2606:4700::1", 8080),
    ],
)
def test_the_origin_is_the_one_that_the_target_names(authority, host, port):
    mode = build()
    way = ask(mode, authority)
    assert isinstance(way, Route)
    assert way.origin == Origin("http", host, port, reach=mode.reach)
    assert way.site == "forward"


@pytest.mark.parametrize("address", ["192.168.9.7", "203.0.113.1", "unix", "fd00:9::1", ""])
def test_nobody_is_served_who_is_not_listed(address):
    mode = build()
    assert ask(mode, address=address).kind is errors.STRANGER
    assert ask(mode, "example.org:443", address=address, method="CONNECT").kind is errors.STRANGER
    assert mode.classify(client(address)) == mode.classify(client("203.0.113.99"))
    assert mode.classify(client(address)) != mode.classify(client("192.168.8.7"))


def test_without_clients_nobody_is_served():
    mode = Modes(accept(b'[forward]\nlisten = ":3128"\n', "test"), {}).forward
    assert ask(mode, address="127.0.0.1").kind is errors.STRANGER


@pytest.mark.parametrize(("port", "allowed"), [(80, 1), (443, 1), (1025, 1), (65535, 1), (22, 0), (25, 0), (1024, 0)])
def test_http_goes_to_web_ports_and_high_ones(port, allowed):
    way = ask(build(), f"example.org:{port}")
    assert isinstance(way, Route) if allowed else way.kind is errors.PORT_REFUSED


@pytest.mark.parametrize(("port", "allowed"), [(443, 1), (80, 0), (22, 0), (25, 0), (8443, 0)])
def test_connect_goes_to_443_alone_unless_more_is_allowed(port, allowed):
    way = ask(build(), f"example.org:{port}", method="CONNECT")
    assert isinstance(way, Tunnel) if allowed else way.kind is errors.PORT_REFUSED
    way = ask(build("connect_ports = [8443, 22]"), f"example.org:{port}", method="CONNECT")
    assert isinstance(way, Tunnel) == (port in {8443, 22})


def test_what_is_asked_in_origin_form_is_asked_of_the_proxy_itself():
    assert ask(build(), scheme="").kind is errors.NO_SERVER


RULES = """
[[rule]]
name = "lunch"
match = { mode = "forward", domain = "games.example", time = "mon-fri 08:00-15:30" }
action = "deny"

[[rule]]
name = "lab"
match = { mode = "forward", destination = "9.9.9.0/24", port = 80 }
action = "deny"
"""


def test_a_rule_decides_by_the_time_that_it_is_given():
    mode = build(RULES)
    monday = datetime(2026, 11, 23, 12, 0).timestamp()  # noqa: DTZ001 - rules are for local time
    request, asker = head("a.games.example"), client("192.168.8.7")
    denied = mode.route(request, asker, wall=monday)
    assert (denied.kind, denied.rule) == (errors.DENIED, "lunch")
    assert "lunch" in denied.says
    assert isinstance(mode.route(request, asker, wall=monday + 6 * 3600), Route)
    assert 0 < mode.steady_for(monday + 1) <= 15 * 60
    assert build().steady_for(monday) == inf


def test_a_rule_about_addresses_decides_where_one_is_connected_to_and_has_keys_of_its_own():
    mode = build(RULES)
    way = ask(mode)
    refusals = [way.origin.reach.refusal(at, 80, here=False) for at in ("8.8.8.8", "9.9.9.9", "10.0.0.1")]
    assert [None if one is None else one.kind for one in refusals] == [None, errors.DENIED, errors.ADDRESS_REFUSED]
    assert way.rules.space != mode.rules.space
    assert mode.cache_rules() == (mode.rules, way.rules)  # whoever purges a URL looks there too
    assert way.rules.space.startswith(b"public-")
    assert ask(mode, "other.example").rules is way.rules
    assert ask(mode, "example.org:8080").rules is mode.rules
    assert ask(mode, "9.9.9.9").kind is errors.DENIED


def test_an_origin_named_by_a_request_is_never_put_aside_and_not_checked():
    mode = build('timeouts = { connect = "1s" }\nretry = false')
    way = ask(mode)
    spec = mode.pool_spec(way.origin)
    assert spec.origins == (way.origin,)
    assert spec.eject.failures == 0
    assert spec.health is None
    assert spec.timeouts.connect == 1.0
    assert not spec.retry


def test_its_keys_are_not_those_of_a_site_and_depend_on_what_may_be_reached():
    keys = {key.primary_key(head(), build(more).rules) for more in ("", 'allow_private = ["10.0.0.0/8"]')}
    assert len(keys) == 2
    assert b"http://example.org/" not in keys
    assert {key.url_of(one) for one in keys} == {b"http://example.org/"}


def test_a_cache_for_many_users_keeps_nothing_with_a_cookie():
    assert build().rules.set_cookie == "skip"


def test_own_listeners_and_addresses_are_all_of_the_instance_and_its_pair():
    config = accept(
        (
            CLIENTS
            + """
[[site]]
listen = ["127.0.0.1:8080"]
upstream = ["10.0.0.1:8080"]
[admin]
listen = ["127.0.0.1:9600"]
[ha]
vip = ["192.168.8.100/24"]
nodes = { a = { address = "192.168.8.4", link = "10.9.9.4" }, b = "192.168.8.6" }
"""
        ).encode(),
        "test",
    )
    assert [listen.text for listen in listeners_of(config)] == ["127.0.0.1:8080", "127.0.0.1:9600", ":3128"]
    assert set(map(str, ours_of(config))) == {"192.168.8.100", "192.168.8.4", "10.9.9.4", "192.168.8.6"}
    assert ip_address("192.168.8.100") in Modes(config, {}).forward.reach.ours


def test_with_parents_a_route_leads_to_their_pool_and_near_things_past_it():
    mode = build(
        'allow_private = ["10.0.0.0/8"]\nparent = ["p1.example:3128", "p2.example:3128"]\ndirect = "near.example"'
    )
    assert [origin.parent for origin in mode.pools[PARENTS].origins] == [b"", b""]
    assert (ask(mode).pool, ask(mode).origin) == (PARENTS, None)
    tunnel = ask(mode, "example.org:443", method="CONNECT")
    assert (tunnel.pool, tunnel.origin.address) == (PARENTS, "example.org:443")
    for near in ("near.example", "a.near.example", "10.0.0.7"):
        assert ask(mode, near).origin is not None
    assert ask(mode, "9.9.9.9").pool == PARENTS
    assert ask(mode, "192.168.8.9").kind is errors.ADDRESS_REFUSED


def test_a_login_for_a_parent_is_one_line_and_shown_nowhere():
    config = accept((CLIENTS + 'parent = { address = "p:3128", login = "l" }').encode(), "test")
    made = Modes(config, {}, secrets={"l": b"user:pass word\n"}).forward
    (origin,) = made.pools[PARENTS].origins
    assert origin.parent == b"Basic dXNlcjpwYXNzIHdvcmQ="
    assert "dXNlcj" not in repr(origin)
    for wrong in (b"", b"user", b"a:b\nc:d\n"):
        with pytest.raises(ValueError, match="one line"):
            Modes(config, {}, secrets={"l": wrong})


# ---- what is counted, shaped, and served here ------------------------------------------------------------------------

SLOW = """
[[rule]]
name = "guests"
match = { mode = "forward", client = "192.168.8.16/28" }
action = "allow"
bandwidth = "few"
[[rule]]
name = "inside"
match = { mode = "forward", destination = "10.0.0.0/8" }
action = "deny"
[[rule]]
name = "rest"
match = { mode = "forward" }
action = "allow"
bandwidth = "many"
[bandwidth]
few = "1Mbit/s"
many = "10Mbit/s"
"""


def test_a_rule_puts_connections_into_a_class_also_where_the_address_is_still_to_be_judged():
    mode = build(SLOW)
    assert ask(mode, address="192.168.8.17").bandwidth == "few"
    assert ask(mode, "example.org:443", method="CONNECT").bandwidth == "many"
    assert ask(build()).bandwidth == ""


def test_requests_of_one_client_beyond_the_rate_have_to_wait_and_others_do_not():
    mode = build("requests = 2\n")
    request = head()

    def go(address, user="", wall=1_800_000_000.0):
        return mode.route(request, client(address), user, wall)

    ways = [go("192.168.8.7") for _ in range(5)]
    assert [isinstance(way, Route) for way in ways] == [True] * 4 + [False]
    assert ways[0].counted
    assert ways[-1].kind is errors.TOO_FAST
    assert ways[-1].wait == pytest.approx(0.5)
    assert isinstance(go("192.168.8.8"), Route)
    assert isinstance(go("192.168.8.7", wall=1_800_000_000.6), Route)


def test_workers_share_the_rate_so_that_together_they_do_not_exceed_it():
    for workers, rate, most in ((2, 4, 4), (2, 3, 4), (4, 1, 2)):  # a burst is two seconds' worth of the part
        mode = build(f"requests = {rate}\n[process]\nworkers = {workers}\n")
        ways = [mode.route(head(), client("192.168.8.7"), "", 1_800_000_000.0) for _ in range(9)]
        assert sum(isinstance(way, Route) for way in ways) == most


def test_users_are_counted_by_name_and_not_by_address():
    mode = build("requests = 1\n")
    for user in ("anna", "ben"):
        ways = [mode.route(head(), client(f"192.168.8.{n}"), user, 1_800_000_000.0) for n in range(3)]
        assert [isinstance(way, Route) for way in ways] == [True, True, False]


def test_browsers_are_told_how_to_use_the_proxy_by_itself():
    mode = build('allow_private = ["192.168.8.0/24", "10.0.0.5:8080"]\npac = { direct = "intern.example" }\n')
    made = ask(mode, "192.168.8.4:3128", scheme="", path="/proxy.pac")
    assert isinstance(made, FixedAnswer)
    assert b'"PROXY 192.168.8.4:3128"' in made.body
    assert b"[3232237568, 256]" in made.body
    assert b'["intern.example"]' in made.body
    assert b"167772165" not in made.body
    assert ask(mode, "x", scheme="", path="/wpad.dat", method="HEAD") == made
    assert ask(mode, "x", scheme="", path="/proxy.pac", method="POST").kind is errors.NO_SERVER
    assert ask(mode, "x", scheme="", path="/").kind is errors.NO_SERVER
    assert ask(mode, "x", scheme="", path="/proxy.pac", address="192.168.9.1").kind is errors.STRANGER
