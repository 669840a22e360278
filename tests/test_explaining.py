"""What is told of a request is what then happens to it, and telling it changes nothing."""

from __future__ import annotations

import random
import re

import bcrypt
import pytest

from proxy import bus
from proxy.explaining import Explainer
from proxy.policy.target import BadTargetError
from tests.kit import raw
from tests.kit.bench import FRESH, benches
from tests.kit.inproc import Clock, Stack
from tests.kit.origin import FakeOrigin, response

RULES = """
[[rule]]
name = "moved"
match = { path = ["/moved"] }
redirect = { to = "/new", status = 301 }

[[rule]]
name = "past"
match = { path = ["/past/*"] }
cache = false
"""


@pytest.fixture
def make():
    with benches() as make:
        yield make


@pytest.fixture
def bench(make):
    return make(site='purge_from = ["127.0.0.1"]\nstale_on_error = "10s"', rest=RULES)


def tell(bench, target="/", *fields, method="GET", client="127.0.0.1", host="test.example"):
    """What the worker says of this request."""
    pairs = tuple((name, value.strip()) for name, _, value in (field.partition(":") for field in fields))
    return tell_of(bench.stack, bus.Explain(f"http://{host}{target}", method, pairs, client))


def tell_of(stack, question):
    return stack.call(lambda: Explainer(stack.front, stack.pipeline).explain(question, stack.doors))


def says(told):
    return " ".join(f"{one['says']} [{one['rfc']}]" for one in told["steps"])


def test_nothing_stored_is_a_miss_that_asks_the_origin(bench):
    told = tell(bench, "/a?x=1", "Accept-Encoding: gzip")
    assert (told["outcome"], told["reason"], told["variants"]) == ("miss", "uri-miss", [])
    assert told["key"]["address"] == "http://test.example/a?x=1"
    assert told["forward"]["likely"] == [bench.origin.address]
    assert told["forward"]["head"].startswith("GET /a?x=1 HTTP/1.1\r\nHost: test.example\r\nAccept-Encoding: gzip\r\n")
    assert "would be stored [RFC 9111 §3]" in says(told)
    assert bench.origin.requests == []


@pytest.mark.rfc("9111", "4.2")
def test_freshness_is_told_as_a_sum(bench):
    bench.origin.otherwise(response(b"x" * 100, FRESH, "Age: 7", f"Date: {bench.stack.date(5)}", 'ETag: "e"'))
    bench.get()
    bench.stack.advance(10)
    told = tell(bench)
    assert (told["outcome"], told["reason"], told["status"]) == ("hit", "fresh", 200)
    [variant] = told["variants"]
    sums = variant["freshness"]
    assert variant["chosen"]
    assert (variant["bytes"], variant["etag"]) == (100, '"e"')
    assert (sums["lifetime"], sums["lifetime_from"], sums["lifetime_said"]) == (60, "max-age", f"{FRESH}")
    assert (sums["initial_age"], sums["resident"], sums["age"], sums["remaining"]) == (7, 10, 17, 43)
    bench.stack.advance(50)
    told = tell(bench)
    assert (told["outcome"], told["reason"]) == ("revalidate", "stale")
    assert told["forward"]["conditions"] == [["If-None-Match", '"e"']]
    assert "should the origin fail, what is stored answers" in says(told)
    bench.stack.advance(10)
    assert "stale for too long" in says(tell(bench))


@pytest.mark.rfc("9111", "4.1")
def test_variants_are_told_with_what_selects_them(bench):
    bench.origin.otherwise(bench.dated(b"x", FRESH, "Vary: Accept-Encoding", 'ETag: "g"'))
    bench.get("/", "Accept-Encoding: gzip")
    told = tell(bench, "/", "Accept-Encoding: br")
    assert (told["outcome"], told["reason"]) == ("miss", "vary-miss")
    [variant] = told["variants"]
    assert variant["vary"] == [{"field": "accept-encoding", "stored": "gzip", "request": "br", "same": False}]
    assert (variant["matches"], variant["chosen"]) == (False, False)
    assert told["forward"]["conditions"] == [["If-None-Match", '"g"']]
    assert tell(bench, "/", "Accept-Encoding:  GZIP;q=1.0")["outcome"] == "hit"


def test_sessions_and_strangers_words_are_told_as_left_out(make):
    bench = make(site='preset = "tomcat"')
    told = tell(bench, "/a;jsessionid=12.t1?x=1", "X-Forwarded-For: 10.0.0.1")
    assert told["key"]["address"] == "http://test.example/a?x=1"
    assert told["key"]["left_out"] == [";jsessionid=12.t1"]
    assert told["dropped"] == ["x-forwarded-for"]
    assert "not trusted" in says(told)


@pytest.mark.parametrize(
    ("target", "fields", "method", "outcome", "status"),
    [
        ("/moved", (), "GET", "answer", 301),
        ("/past/x", (), "GET", "bypass", None),
        ("/", (), "POST", "bypass", None),
        ("/", (), "TRACE", "refused", 405),
        ("/", ("Host: other.example", "Host: again"), "GET", "refused", 400),
        ("/", ("Cache-Control: only-if-cached",), "GET", "refused", 504),
        ("/", ('If-Match: "x"',), "GET", "bypass", None),
        ("/", (), "PURGE", "answer", 200),
        ("/", ("Via: 1.1 tandem-test",), "GET", "refused", 508),
    ],
)
def test_what_goes_past_the_cache_or_nowhere_is_told_as_well(bench, target, fields, method, outcome, status):
    told = tell(bench, target, *fields, method=method)
    assert (told["outcome"], told["status"]) == (outcome, status)
    got = raw.get(bench.at, target, *fields, method=method).status if outcome == "refused" and not fields else status
    assert got == status


def test_a_name_that_no_site_has_and_a_purge_from_elsewhere_are_refused(make):
    bench = make(site='hosts = ["shop.example"]')
    assert tell(bench, host="else.example")["status"] == 421
    assert tell(bench, host="shop.example")["site"] == "shop.example"
    assert tell(bench, host="shop.example", method="PURGE")["status"] == 403


@pytest.mark.parametrize("url", ["nonsense", "http://a b/"])
def test_what_could_be_no_request_is_told_so(bench, url):
    stack = bench.stack
    with pytest.raises(BadTargetError):
        stack.call(lambda: Explainer(stack.front, stack.pipeline).explain(bus.Explain(url), stack.doors))
    with pytest.raises(BadTargetError):
        tell(bench, "/", "A: b\r\nC: d")
    with pytest.raises(BadTargetError, match="IP address"):
        tell(bench, client="somebody")


TARGETS = ("/a", "/b?x=1", "/past/a", "/moved")
FIELDS = (
    (),
    ("Accept-Encoding: gzip",),
    ("Cache-Control: no-cache",),
    ("Cache-Control: max-age=3",),
    ("Cache-Control: min-fresh=20",),
    ("Cache-Control: max-stale=100",),
    ("Cache-Control: only-if-cached",),
    ('If-None-Match: "e"',),
    ("Range: bytes=0-1",),
    ('If-Match: "e"',),
)
SAYING = (
    FRESH,
    "Cache-Control: max-age=5, stale-while-revalidate=10",
    "Cache-Control: no-cache",
    "Cache-Control: no-store",
)
DETAIL = re.compile(r"detail=([a-z-]+)")


@pytest.mark.parametrize("seed", range(6))
def test_what_is_told_is_what_then_happens(bench, seed):
    """Random requests while time passes: outcome and reason as told are those in Cache-Status (RFC 9211)."""
    rng = random.Random(seed)
    for _ in range(60):
        vary = ("Vary: Accept-Encoding",) if rng.random() < 0.5 else ()
        bench.origin.otherwise(bench.dated(b"hello", rng.choice(SAYING), 'ETag: "e"', *vary))
        target, fields = rng.choice(TARGETS), rng.choice(FIELDS)
        method = rng.choice(("GET", "GET", "GET", "HEAD", "POST"))
        told = tell(bench, target, *fields, method=method)
        bench.stack.wait(lambda: not len(bench.stack.pipeline.flights))  # a refresh in the background is over
        if told != tell(bench, target, *fields, method=method):
            told = tell(bench, target, *fields, method=method)
        answer = bench.get(target, *fields, method=method)
        member = answer.get("cache-status")
        if told["outcome"] == "answer":
            assert (member, answer.status) == (None, told["status"])
            continue
        assert ("hit" in member.split("; ")) == (told["outcome"] in {"hit", "stale"}), (told, member)
        if told["status"] is not None:
            assert answer.status == told["status"]
        if told["outcome"] != "refused" and "not-stored" not in member and "hit-for-miss" not in member:
            assert DETAIL.search(member)[1] == told["reason"]
        bench.stack.wait(lambda: not len(bench.stack.pipeline.flights))
        bench.stack.advance(rng.choice((0, 0, 2, 7)))


def test_telling_counts_nothing_uses_nothing_and_asks_nobody(bench):
    bench.origin.otherwise(bench.dated(b"x", "Cache-Control: max-age=5, stale-while-revalidate=50"))
    bench.get()
    stack = bench.stack

    def state():
        [entry] = (stack.store._entries.peek(key) for key in stack.store._entries)
        [stored] = entry.variants
        return entry.uses, stored.uses, stored.used, len(stack.pipeline.flights), set(stack.pipeline.planner.beside)

    before, counters, lines = stack.call(state), stack.counters(), stack.log_lines()
    asked = len(bench.origin.requests)
    for _ in range(3):
        assert tell(bench)["outcome"] == "hit"
    stack.advance(6)
    told = tell(bench)
    assert (told["outcome"], told["forward"]["background"]) == ("stale", True)
    assert stack.call(state) == before
    assert (stack.counters(), stack.log_lines(), len(bench.origin.requests)) == (counters, lines, asked)


# ---- the other modes -------------------------------------------------------------------------------------------------

GATEWAY = (
    '[transparent]\ninterface = "lo"\nclients = ["127.0.0.1"]\nport = PORT0\nhttps_port = PORT1\n'
    'allow_private = ["127.0.0.0/8"]\n'
    '[[rule]]\nname = "games"\nmatch = { mode = "transparent", domain = ["games.example"] }\naction = "deny"\n'
)


@pytest.fixture
def gateway():
    with FakeOrigin() as origin, Stack(GATEWAY, clock=Clock()) as stack:
        for door in stack.doors:
            door.finds = lambda _transport: ("127.0.0.1", origin.port)
        yield stack, origin


def test_a_taken_connection_is_told_by_where_it_was_going(gateway):
    stack, origin = gateway
    where = f"127.0.0.1:{origin.port}"
    origin.otherwise(response(b"hello", FRESH))
    before = stack.counters()
    told = tell_of(stack, bus.Explain(f"http://{where}/a"))
    assert (told["mode"], told["to"], told["outcome"], told["reason"]) == ("transparent", where, "miss", "uri-miss")
    assert told["forward"]["likely"] == [where]
    assert stack.counters() == before
    raw.get(stack.at, "/a", host=where)
    assert tell_of(stack, bus.Explain(f"http://{where}/a"))["outcome"] == "hit"
    assert len(origin.requests) == 1


def test_a_name_that_is_not_proved_yet_is_told_both_ways_and_not_looked_up(gateway):
    stack, origin = gateway
    where = f"127.0.0.1:{origin.port}"
    question = bus.Explain(f"http://some.example:{origin.port}/a", to=where)
    told = tell_of(stack, question)
    assert (told["outcome"], told["reason"]) == ("miss", "uri-miss")
    assert "some.example has the address 127.0.0.1 would be looked up" in says(told)
    assert "if it has not: to that address and back, past the cache" in says(told)
    assert told["key"]["address"] == f"http://some.example:{origin.port}/a"
    lying = tell_of(stack, bus.Explain("http://some.example/a", to=where))
    assert (lying["outcome"], lying["reason"]) == ("bypass", "name-unproven"), "another port than it was going to"
    denied = tell_of(stack, bus.Explain(f"http://games.example:{origin.port}/", to=where))
    assert (denied["outcome"], denied["error"]) == ("refused", "denied")
    assert not origin.requests


def test_of_taken_https_the_name_decides_and_nothing_is_read(gateway):
    stack, _ = gateway
    told = tell_of(stack, bus.Explain("https://some.example/a", to="127.0.0.1"))
    assert (told["outcome"], told["to"], told["status"]) == ("tunnel", "127.0.0.1:443", None)
    denied = tell_of(stack, bus.Explain("https://games.example/", to="127.0.0.1"))
    assert (denied["outcome"], denied["error"], denied.get("rule", "")) == ("refused", "denied", "")


@pytest.mark.parametrize(
    ("url", "to", "says"),
    [
        ("http://some.example/", "", "say --to ADDRESS for some.example"),
        ("http://some.example/", "elsewhere", "no address to go to"),
        ("http://some.example/", "127.0.0.1:99999", "no port"),
    ],
)
def test_a_taken_connection_that_went_nowhere_is_asked_back(gateway, url, to, says):
    with pytest.raises(BadTargetError, match=says):
        tell_of(gateway[0], bus.Explain(url, to=to))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_address_that_nobody_goes_to_is_told_as_refused(gateway, method):
    told = tell_of(gateway[0], bus.Explain("http://10.0.0.1/", method))
    assert (told["outcome"], told["error"], told["status"]) == ("refused", "address-not-allowed", 403)


def test_without_a_gateway_no_connection_is_taken(bench):
    with pytest.raises(BadTargetError, match="is not there"):
        tell_of(bench.stack, bus.Explain("http://a/", to="127.0.0.1"))


def test_a_user_of_the_forward_proxy_is_told_what_it_would_get_and_a_stranger_that_it_would_be_asked(tmp_path):
    users = tmp_path / "users"
    users.write_text("ann:" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode() + "\n")
    users.chmod(0o600)
    forward = f'[forward]\nlisten = "127.0.0.1:PORT0"\nclients = ["127.0.0.1"]\nusers = "{users}"\n'
    with Stack(forward, clock=Clock()) as stack:
        assert tell_of(stack, bus.Explain("http://some.example/"))["error"] == "login-required"
        told = tell_of(stack, bus.Explain("http://some.example/", user="ann"))
        assert (told["mode"], told["outcome"], told["reason"]) == ("forward", "miss", "uri-miss")
        tunnel = tell_of(stack, bus.Explain("https://some.example/", "CONNECT", user="ann"))
        assert (tunnel["outcome"], tunnel["status"]) == ("tunnel", 200)
