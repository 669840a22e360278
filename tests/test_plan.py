"""A plan is kept for equal bytes where nothing of the one client is in it, and is the same each time it is made."""

from __future__ import annotations

import pytest

from proxy import errors
from proxy.errors import Failure
from proxy.exchange import Client, FixedAnswer, Route
from proxy.policy.reasons import Reason
from tests.kit import raw
from tests.kit.heads import read_request
from tests.kit.inproc import Clock, Stack
from tests.kit.proxy import reverse

SITE = """
hosts = ["test.example"]
purge_from = ["127.0.0.1"]
trusted = ["127.0.0.9"]
"""
RULES = """
[[rule]]
name = "moved"
match = { path = ["/old/*"] }
redirect = "http://test.example/new{path}"

[[rule]]
name = "plain"
match = { path = ["*.css"] }
cookies = "ignore"
"""


@pytest.fixture(scope="module")
def stack():
    with Stack(reverse("127.0.0.1:9", site=SITE, rest=RULES), clock=Clock()) as stack:
        yield stack


def plan(stack, data, address="127.0.0.1", upgrades=frozenset({b"websocket"})):
    client = Client(address, 1234, ("127.0.0.1", 80), b"http")
    trusted = stack.call(lambda: stack.front.kind_of(stack.doors[0], client)[0])
    checked = read_request(data, upgrades=upgrades)
    return stack.call(lambda: stack.pipeline.plan(checked, client, trusted))


def test_a_request_that_goes_on_is_kept(stack):
    made = plan(stack, raw.request("GET", "/x"))
    assert isinstance(made.way, Route)
    assert made.keepable
    assert made.plain
    assert made.key
    assert made.bypass is None


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (raw.request("GET", "/old/x"), FixedAnswer),
        (raw.request("GET", "/", host="other.example"), Failure),
        (raw.request("PURGE", "/x"), Route),
    ],
    ids=["fixed answer", "refusal", "purge"],
)
def test_what_depends_on_the_moment_or_the_client_is_not_kept(stack, data, kind):
    made = plan(stack, data)
    assert isinstance(made.way, kind)
    assert not made.keepable


@pytest.mark.parametrize(
    ("data", "bypass"),
    [
        (raw.request("POST", "/x", body=b"a"), Reason.METHOD),
        (raw.request("GET", "/x", body=b"a"), Reason.BODY),
        (raw.request("POST", "/x", "Expect: 100-continue", "Content-Length: 1"), Reason.EXPECT),
        (raw.request("GET", "/x", "Connection: upgrade", "Upgrade: websocket"), Reason.UPGRADE),
    ],
)
def test_what_the_cache_is_not_asked_about_says_why(stack, data, bypass):
    assert plan(stack, data).bypass is bypass


@pytest.mark.parametrize("line", ["Cache-Control: no-cache", "Pragma: no-cache", "Range: bytes=0-1"])
def test_a_request_that_speaks_to_the_cache_is_not_plain(stack, line):
    assert not plan(stack, raw.request("GET", "/x", line)).plain


def test_forged_fields_are_gone_and_believed_ones_stay(stack):
    data = raw.request("GET", "/x", "X-Forwarded-For: 192.0.2.1")
    assert b"x-forwarded-for" not in plan(stack, data).request.fields
    assert b"x-forwarded-for" in plan(stack, data, "127.0.0.9").request.fields
    assert plan(stack, data, "127.0.0.9").trusted


def test_a_rule_that_ignores_cookies_takes_them_from_what_the_cache_sees(stack):
    assert b"cookie" not in plan(stack, raw.request("GET", "/a.css", "Cookie: a=b")).request.fields
    assert b"cookie" in plan(stack, raw.request("GET", "/a.html", "Cookie: a=b")).request.fields


def test_who_may_purge_is_told_by_the_site(stack):
    assert plan(stack, raw.request("PURGE", "/x")).may_purge
    assert not plan(stack, raw.request("PURGE", "/x"), "127.0.0.2").may_purge


def test_an_unknown_site_is_misdirected(stack):
    made = plan(stack, raw.request("GET", "/", host="other.example"))
    assert isinstance(made.way, Failure)
    assert made.way.kind is errors.MISDIRECTED


def test_equal_requests_have_equal_plans(stack):
    data = raw.request("GET", "/x?a=b", "Cookie: c=d", "Accept-Language: de")
    first, second = plan(stack, data), plan(stack, data)
    assert (first.key, first.way, first.request.fields, first.bypass) == (
        second.key,
        second.way,
        second.request.fields,
        second.bypass,
    )


@pytest.mark.parametrize(("more", "port", "kept"), [("", 80, True), ("requests = 5", 80, False), ("", 8080, False)])
def test_a_request_that_is_counted_or_shaped_is_judged_each_time(more, port, kept):
    text = (
        f'[forward]\nlisten = "127.0.0.1:PORT0"\nclients = "127.0.0.1"\n{more}\n'
        '[[rule]]\nname = "slow"\nmatch = { mode = "forward", port = 8080 }\naction = "allow"\nbandwidth = "few"\n'
        '[bandwidth]\nfew = "1Mbit/s"\n'
    )
    with Stack(text, clock=Clock()) as stack:
        checked = read_request(raw.request("GET", f"http://example.org:{port}/"), mode="forward")
        client = Client("127.0.0.1", 1234, ("127.0.0.1", 80), b"http")
        made = stack.call(lambda: stack.pipeline.plan(checked, client, frozenset()))
        assert made.keepable is kept
        assert made.bandwidth == ("few" if port == 8080 else "")
