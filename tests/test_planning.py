"""What is known of a request before any response: site, rule, key, use of the cache, and the head for an origin."""

from types import SimpleNamespace

import pytest

from config.load import accept
from proxy import errors
from proxy.errors import Failure
from proxy.exchange import Client, Exchange, FixedAnswer, Route
from proxy.modes.reverse import Reverse
from proxy.planning import Planner
from proxy.policy.reasons import Reason
from tests.kit.heads import read_request

SITES = """
[[site]]
listen = ":80"
hosts = ["shop.test"]
upstream = ["10.0.0.1:8080"]
preset = "tomcat"
trusted = ["10.0.0.2"]
purge_from = ["10.0.0.0/8"]
explain_from = ["10.0.0.0/8"]
max_body = "1KB"

[[site]]
listen = ":80"
name = "other"
hosts = ["other.test"]
host = "rewrite"
upstream = ["10.0.0.3:8080", "10.0.0.4:8080"]

[[rule]]
name = "gone"
match = { site = "shop.test", path = ["/gone"] }
answer = { status = 410 }

[[rule]]
name = "static"
match = { site = "shop.test", path = ["/static/*"] }
cookies = "ignore"
ttl = "1h"

[[rule]]
name = "lists"
match = { path = ["/list"] }
query = { sort = true, drop = ["utm_*"] }
drop_cookies = ["_ga*"]
key = { device = true }
bypass = { query = "preview" }

[[rule]]
name = "inside"
match = { path = ["/inside"] }
bypass = { clients = "10.0.0.0/8" }

[[rule]]
name = "live"
match = { path = ["/live"] }
cache = false
"""


@pytest.fixture(scope="module")
def planner():
    mode = Reverse(accept(SITES.encode(), "test"), {})
    made = Planner(SimpleNamespace(mode=mode, via=b"tandem-x", now=lambda: 0.0, wall=float, logins=None))
    made.configure(mode.sites.values())
    return made


def make_plan(planner, *lines, target=b"/", method=b"GET", host=b"shop.test", address="203.0.113.7", trusted=()):
    raw = b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), b"Host: " + host, *lines, b"", b""])
    client = Client(address, 1, ("198.51.100.1", 80), b"http")
    return planner.plan(read_request(raw, allow_trace=True), client, frozenset(trusted)), client


def sent(planner, *lines, origin=0, **more):
    """The head as it would go to an origin of the pool."""
    plan, client = make_plan(planner, *lines, **more)
    x = Exchange(client, plan.request, None, None, 0.0, 0.0, plan, route=plan.way)
    head = planner.head_for(x)
    if isinstance(head, bytes):
        return head
    mode = planner._spine.mode
    return head(mode.pools[plan.way.pool].origins[origin])


def test_a_plain_request_goes_to_its_site_and_may_use_the_cache(planner):
    plan, _ = make_plan(planner, target=b"/a;jsessionid=1.t1?x=1")
    assert isinstance(plan.way, Route)
    assert (plan.view.name, plan.bypass, plan.plain) == ("shop.test", None, True)
    assert plan.key == b"http://shop.test/a?x=1"
    assert plan.alone  # a session id was left out of the key: nobody shares this fetch before it has come whole


@pytest.mark.parametrize(
    ("lines", "more", "bypass"),
    [
        ((), {"target": b"/live"}, Reason.CONFIGURED_BYPASS),
        ((), {"method": b"DELETE"}, Reason.METHOD),
        ((b"Content-Length: 3",), {}, Reason.BODY),
        ((b"Content-Length: 3", b"Expect: 100-continue"), {"method": b"POST"}, Reason.EXPECT),
        ((b"Connection: upgrade", b"Upgrade: websocket"), {}, Reason.UPGRADE),
    ],
)
def test_what_stays_outside_the_cache_says_why(planner, lines, more, bypass):
    plan, _ = make_plan(planner, *lines, **more)
    assert plan.bypass is bypass


@pytest.mark.parametrize("line", [b"Range: bytes=0-1", b"Cache-Control: no-cache", b"Pragma: x", b'If-None-Match: "x"'])
def test_a_request_that_speaks_to_the_cache_is_not_plain(planner, line):
    assert not make_plan(planner, line)[0].plain


def test_a_rule_answers_itself(planner):
    plan, _ = make_plan(planner, target=b"/gone")
    assert isinstance(plan.way, FixedAnswer)
    assert plan.way.head.status == 410
    assert not plan.keepable


@pytest.mark.parametrize(
    ("lines", "more", "kind"),
    [
        ((), {"host": b"stranger.test"}, errors.MISDIRECTED),
        ((), {"method": b"TRACE"}, errors.NO_METHOD),
        ((b"Content-Length: 2000",), {"method": b"POST"}, errors.BODY_TOO_LARGE),
        ((b"Via: 1.1 tandem-x",), {}, errors.LOOP),
    ],
)
def test_what_is_refused_is_refused_before_anything_is_asked(planner, lines, more, kind):
    way = make_plan(planner, *lines, **more)[0].way
    assert isinstance(way, Failure)
    assert way.kind is kind


def test_what_a_stranger_forges_is_neither_in_the_key_nor_sent(planner):
    plan, _ = make_plan(planner, b"X-Forwarded-Host: evil")
    assert b"x-forwarded-host" not in plan.request.fields
    head = sent(planner, b"X-Forwarded-For: 6.6.6.6", b"X-Forwarded-Proto: https")
    assert b"X-Forwarded-For: 203.0.113.7\r\n" in head
    assert b"X-Forwarded-Proto: http\r\n" in head
    assert b"6.6.6.6" not in head


def test_a_trusted_hop_is_believed(planner):
    plan, _ = make_plan(planner, b"X-Forwarded-Proto: https", address="10.0.0.2", trusted=["shop.test"])
    assert plan.public_scheme == b"https"
    head = sent(planner, b"X-Forwarded-For: 1.2.3.4", address="10.0.0.2", trusted=["shop.test"])
    assert b"X-Forwarded-For: 1.2.3.4, 10.0.0.2\r\n" in head


def key_of_hop(planner, *lines, **more):
    return make_plan(planner, *lines, address="10.0.0.2", trusted=["shop.test"], **more)[0].key


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"X-Forwarded-Proto: https", b"\nx-forwarded-proto:https"),
        (b"X-Forwarded-Host: other.test", b"\nx-forwarded-host:other.test"),
        (b"X-Forwarded-Port: 8443", b"\nx-forwarded-port:8443"),
        (b"X-Forwarded-Prefix: /shop", b"\nx-forwarded-prefix:/shop"),
        (b"X-Forwarded-User: ann", b"\nx-forwarded-user:ann"),
        (b"X-Original-URL: /admin", b"\nx-original-url:/admin"),
        (b"X-HTTP-Method-Override: PUT", b"\nx-http-method-override:PUT"),
        (b'Forwarded: for="[::1]:5;";host=other.test;proto=http, for=9.9.9.9;proto=https', None),
        (b"X-Forwarded-Proto: http", b""),
        (b"X-Forwarded-Host: shop.test", b""),
        (b"X-Forwarded-Port: 80", b""),
        (b"X-Forwarded-For: 1.2.3.4", b""),
        (b"X-Real-IP: 1.2.3.4", b""),
        (b"X-Forwarded-Server: front", b""),
        (b"Forwarded: for=1.2.3.4;by=_me;Host=Shop.test;proto=http", b""),
    ],
)
def test_what_a_trusted_hop_tells_beside_the_target_is_in_the_key(planner, line, told):
    expected = b"\nforwarded:host=other.test;proto=https" if told is None else told
    assert key_of_hop(planner, line) == b"http://shop.test/" + expected


def test_a_hop_that_passes_on_its_clients_inventions_does_not_fill_the_cache():
    mode = Reverse(accept(SITES.encode(), "test"), {})
    own = Planner(SimpleNamespace(mode=mode, via=b"tandem-x", now=lambda: 0.0, wall=float, logins=None))
    own.configure(mode.sites.values())
    for number in range(64):
        key_of_hop(own, b"X-Forwarded-Host: h%d" % number)
    last, _ = make_plan(own, b"X-Forwarded-Host: one-more", address="10.0.0.2", trusted=["shop.test"])
    assert last.bypass is Reason.TOLD_BY_HOP
    known, _ = make_plan(own, b"X-Forwarded-Host: h1", address="10.0.0.2", trusted=["shop.test"])
    assert known.bypass is None
    assert len(own.beside) == 64


def test_what_hops_told_in_an_earlier_life_is_known_again_from_keys(planner):
    key = key_of_hop(planner, b"X-Forwarded-Host: other.test")
    ending = key[key.index(b"\n") :]
    mode = Reverse(accept(SITES.encode(), "test"), {})
    later = Planner(SimpleNamespace(mode=mode, via=b"tandem-x", now=lambda: 0.0, wall=float, logins=None))
    later.remember_endings([b"\nx-country:de" + ending, ending, b"\ncookie lang=de"])
    assert later.beside == {ending}
    later.remember_endings([b"\nx-forwarded-host:%d" % number for number in range(100)])
    assert len(later.beside) == 64


def test_cookies_that_a_rule_ignores_do_not_travel(planner):
    assert b"Cookie" not in sent(planner, b"Cookie: a=1", target=b"/static/a.css")
    assert b"Cookie: a=1\r\n" in sent(planner, b"Cookie: a=1", target=b"/page")


def test_what_a_rule_leaves_out_is_neither_keyed_nor_sent(planner):
    plan, _ = make_plan(planner, b"Cookie: _ga=1; a=1", target=b"/list?b=1&utm_x=2&a=3")
    assert plan.key == b"http://shop.test/list?a=3&b=1\nx-device-class:desktop"
    assert plan.request.fields.get(b"cookie") == b"a=1"
    assert plan.request.query == b"b=1&utm_x=2&a=3"  # for the log
    head = sent(planner, b"Cookie: _ga=1; a=1", b"X-Device-Class: bot", target=b"/list?b=1&utm_x=2&a=3")
    assert head.startswith(b"GET /list?a=3&b=1 HTTP/1.1\r\n")
    assert b"\r\nCookie: a=1\r\n" in head
    assert head.count(b"X-Device-Class: desktop\r\n") == head.count(b"X-Device-Class") == 1


def test_what_goes_past_the_cache_by_rule_travels_as_it_came(planner):
    plan, _ = make_plan(planner, b"Cookie: _ga=1", target=b"/list?b&preview&a")
    assert plan.bypass is Reason.CONFIGURED_BYPASS
    head = sent(planner, b"Cookie: _ga=1", target=b"/list?b&preview&a")
    assert head.startswith(b"GET /list?b&preview&a HTTP/1.1\r\n")
    assert b"\r\nCookie: _ga=1\r\n" in head


@pytest.mark.parametrize(
    ("address", "bypass"), [("10.1.2.3", Reason.CONFIGURED_BYPASS), ("203.0.113.7", None), ("unix", None)]
)
def test_clients_that_go_past_the_cache_are_known_by_their_address_and_such_plans_are_not_kept(
    planner, address, bypass
):
    plan, _ = make_plan(planner, target=b"/inside", address=address)
    assert plan.bypass is bypass
    assert not plan.keepable


def test_host_is_the_clients_or_each_origins_own(planner):
    assert b"\r\nHost: shop.test\r\n" in sent(planner)
    assert b"\r\nHost: 10.0.0.3:8080\r\n" in sent(planner, host=b"other.test")
    assert b"\r\nHost: 10.0.0.4:8080\r\n" in sent(planner, host=b"other.test", origin=1)


def test_the_second_equal_request_of_a_client_has_its_head_ready(planner):
    plan, client = make_plan(planner)
    x = Exchange(client, plan.request, None, None, 0.0, 0.0, plan, route=plan.way)
    made = planner.head_for(x)(planner._spine.mode.pools[plan.way.pool].origins[0])
    assert planner.head_for(x) is made


@pytest.mark.parametrize(("address", "may"), [("10.1.2.3", True), ("203.0.113.7", False), ("unix", False)])
def test_purges_are_for_the_networks_a_site_names_and_their_plans_are_not_kept(planner, address, may):
    plan, _ = make_plan(planner, method=b"PURGE", address=address)
    assert plan.may_purge is may
    assert not plan.keepable


@pytest.mark.parametrize(("address", "may"), [("10.1.2.3", True), ("203.0.113.7", False), ("unix", False)])
def test_keys_are_told_to_the_networks_a_site_names_and_such_plans_are_not_kept(planner, address, may):
    plan, _ = make_plan(planner, b"Tandem-Explain: key", address=address)
    assert plan.tells_key is may
    assert not plan.keepable
