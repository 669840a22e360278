"""Which mirror is asked, for what, and for how long its answers stay."""

from __future__ import annotations

import pytest

from config.load import accept
from proxy import errors
from proxy.errors import Failure
from proxy.exchange import Client, FixedAnswer, Route
from proxy.http.message import Fields, RequestHead
from proxy.modes.every import Modes
from proxy.modes.mirror import KINDS, YEAR, Keeping, keeping
from proxy.policy import key

FORWARD = '[forward]\nlisten = ":3128"\nclients = "192.168.8.0/24"\n'
SHA = b"ab" * 32
MIRROR = """
[[forward.mirror]]
kind = "{kind}"
path = "/m/"
origin = "https://index.example/root/"
files = ["https://files.example/f"]
"""


def build(kind="pypi", more="", rules="", token=b""):
    text = FORWARD + more + MIRROR.format(kind=kind) + ('token = "token"\n' if token else "") + rules
    return Modes(accept(text.encode(), "test"), {}, secrets={"token": token}).forward


def ask(mode, path, *lines, address="192.168.8.7", method=b"GET", query=None):
    fields = Fields([(b"Host", b"proxy:3128"), *lines])
    request = RequestHead(method, b"", b"proxy:3128", path, query, (1, 1), fields)
    return mode.route(request, Client(address, 40000, ("192.168.8.4", 3128), b"http"))


FOREVER, TOGETHER, SHORT = Keeping.FOREVER, Keeping.TOGETHER, Keeping.SHORT


@pytest.mark.parametrize(
    ("kind", "path", "kept"),
    [
        ("deb", b"debian/pool/main/a/apt/apt_2.6.1_amd64.deb", FOREVER),
        ("deb", b"pool/main/a/apt/apt_2.6.1.tar.xz", FOREVER),
        ("deb", b"debian/dists/stable/main/binary-amd64/by-hash/SHA256/" + SHA, FOREVER),
        ("deb", b"flat/a_1_all.deb", FOREVER),
        ("deb", b"debian/dists/stable/InRelease", TOGETHER),
        ("deb", b"debian/dists/stable/main/binary-amd64/Packages.xz", TOGETHER),
        ("deb", b"Packages", TOGETHER),
        ("pypi", b"packages/ab/cd/" + SHA[:60] + b"/a-1.0-py3-none-any.whl", FOREVER),
        ("pypi", b"packages/ab/cd/" + SHA[:60] + b"/a-1.0-py3-none-any.whl.metadata", FOREVER),
        ("pypi", b"files/" + SHA + b"/a.tar.gz", FOREVER),
        ("pypi", b"simple/a/", SHORT),
        ("pypi", b"simple/a/a-1.0.whl", SHORT),
        ("pypi", SHA + b"/", SHORT),
        ("npm", b"a/-/a-1.0.0.tgz", FOREVER),
        ("npm", b"@s/a/-/a-1.0.0.tgz", FOREVER),
        ("npm", b"a", SHORT),
        ("npm", b"@s%2fa", SHORT),
        ("npm", b"-/v1/search", SHORT),
        ("maven", b"org/x/foo/1.0/foo-1.0.jar", FOREVER),
        ("maven", b"org/x/foo/1.0/foo-1.0-sources.jar.sha1", FOREVER),
        ("maven", b"org/x/foo/1.0/foo-1.0.pom", FOREVER),
        ("maven", b"org/x/foo/1.0-SNAPSHOT/foo-1.0-20240101.123456-7.jar", FOREVER),
        ("maven", b"org/x/foo/1.0-SNAPSHOT/foo-1.0-SNAPSHOT.jar", TOGETHER),
        ("maven", b"org/x/foo/1.0-SNAPSHOT/maven-metadata.xml", TOGETHER),
        ("maven", b"org/x/foo/maven-metadata.xml.sha1", TOGETHER),
        ("maven", b"org/x/foo/1.0/", TOGETHER),
        ("maven", b"org/x/foo/1.0/bar-1.0.jar", TOGETHER),
    ],
)
def test_what_a_name_alone_identifies_stays_for_ever_and_what_must_agree_is_asked_for_together(kind, path, kept):
    assert keeping(KINDS[kind], path) is kept


def test_a_request_below_the_path_goes_to_the_origin_below_its_own():
    way = ask(build(), b"/m/simple/a/", query=b"x=1")
    assert isinstance(way, Route)
    seen = way.mirrored.request
    assert (seen.scheme, seen.authority, seen.target) == (b"https", b"index.example", b"/root/simple/a/?x=1")
    [origin] = build().mirrors.pools[way.pool].origins
    assert (origin.scheme, origin.address, origin.tls_verify, origin.reach) == (
        "https",
        "index.example:443",
        True,
        None,
    )


def test_a_request_below_a_tilde_goes_to_the_further_place():
    way = ask(build(), b"/m/~0/" + SHA + b"/a.whl")
    assert way.mirrored.request.authority == b"files.example"
    assert way.mirrored.request.path == b"/f/" + SHA + b"/a.whl"
    assert way.mirrored.follows
    assert not way.mirrored.rewrites


def test_escaped_letters_mean_what_they_are():
    mode = build()
    assert ask(mode, b"/m/%7E0/" + SHA + b"/%61.whl").mirrored.request.path == b"/f/" + SHA + b"/a.whl"
    assert ask(mode, b"/m/@s%2fa").mirrored.request.path == b"/root/@s%2fa"


def test_what_is_not_below_it_is_asked_of_the_proxy_itself():
    assert isinstance(ask(build(), b"/proxy.pac"), FixedAnswer)
    for path in (b"/m", b"/other/", b"/"):
        assert ask(build(), path).kind is errors.NO_SERVER


@pytest.mark.parametrize("path", [b"/m/../a", b"/m/a/..", b"/m/./a", b"/m/%2e%2E/a", b"/m/a%2f..%2fb", b"/m/a/%2e."])
def test_no_path_leaves_the_place_that_is_mirrored(path):
    assert ask(build(), path).kind is errors.NOT_FOUND


def test_dots_in_names_are_no_segments():
    for path in (b"/m/a..b/c", b"/m/...", b"/m/.hidden", b"/m/a%2fb"):
        assert isinstance(ask(build(), path), Route)


def test_only_reading_is_mirrored():
    assert ask(build(), b"/m/a", method=b"PUT").kind is errors.READ_ONLY
    assert isinstance(ask(build(), b"/m/a", method=b"HEAD"), Route)


def test_lifetimes_are_those_of_the_kind():
    mode = build("pypi")
    forever, short = ask(mode, b"/m/~0/" + SHA + b"/a.whl").rules, ask(mode, b"/m/simple/a/").rules
    assert forever.min_ttl == YEAR
    assert dict(forever.status_ttl)[200] == YEAR
    assert short.max_ttl == 60.0
    assert short.stale_on_error == 7 * 86400
    together = ask(build("deb"), b"/m/dists/stable/InRelease").rules
    assert together.max_ttl == 0.0
    assert not short.honour_request


def test_indexes_have_a_key_for_each_kind_of_answer_and_for_each_name_of_the_mirror_where_links_are_whole():
    mode = build("npm")
    html, other = (
        key.primary_key(way.mirrored.request, way.rules)
        for way in (ask(mode, b"/m/a", (b"Accept", b"x")), ask(mode, b"/m/a", (b"Accept", b"y")))
    )
    assert html.startswith(b"mirror-npm-")
    assert html != other
    assert b"host:proxy:3128" in html
    assert ask(mode, b"/m/a").mirrored.links.front == b"http://proxy:3128"
    assert ask(build("pypi"), b"/m/simple/a/").mirrored.links.front == b""


def test_what_was_stored_under_other_places_answers_nobody():
    one, other = build(), build(more="", rules='tls = { name = "b.example" }\n')
    assert ask(one, b"/m/a").rules.space != ask(other, b"/m/a").rules.space


def test_links_are_turned_in_what_can_be_read():
    lines = [(b"Accept-Encoding", b"gzip"), (b"Range", b"bytes=0-1"), (b"Cookie", b"a"), (b"Accept", b"x")]
    sent = ask(build(), b"/m/simple/a/", *lines).mirrored.sent.fields
    assert sent.get(b"accept-encoding") == b"identity"
    assert b"range" not in sent
    assert b"cookie" not in sent
    assert sent.get(b"accept") == b"x"
    sent = ask(build(), b"/m/~0/" + SHA + b"/a.whl", *lines).mirrored.sent.fields
    assert sent.get(b"accept-encoding") == b"gzip"
    assert sent.get(b"range") == b"bytes=0-1"


def test_the_token_is_for_the_origin_alone_and_in_no_key():
    mode = build(token=b"Bearer secret\n")
    index = ask(mode, b"/m/simple/a/", (b"Authorization", b"Basic client"))
    assert index.mirrored.sent.fields.all(b"authorization") == [b"Bearer secret"]
    assert b"authorization" not in index.mirrored.request.fields
    assert b"authorization" not in ask(mode, b"/m/~0/a").mirrored.sent.fields
    assert ask(build(), b"/m/a", (b"Authorization", b"x")).mirrored.sent.fields.get(b"authorization") == b"x"


@pytest.mark.parametrize("token", [b"\n", b"a b c", b"Bearer a\nX: y", b"Bearer \xff"])
def test_a_token_is_one_line(token):
    with pytest.raises(ValueError, match="token: a token is one line"):
        build(token=token)


def test_who_may_not_reach_the_origin_may_not_reach_its_mirror():
    rule = '[[rule]]\nname = "no"\nmatch = {{ mode = "forward", {} }}\naction = "deny"\n'
    denied = ask(build(rules=rule.format('domain = "index.example"')), b"/m/simple/a/")
    assert isinstance(denied, Failure)
    assert (denied.kind, denied.rule) == (errors.DENIED, "no")
    assert isinstance(ask(build(rules=rule.format('domain = "other.example"')), b"/m/simple/a/"), Route)
    assert ask(build(), b"/m/a", address="10.0.0.1").kind is errors.STRANGER
    assert ask(build(more='otherwise = "deny"\n'), b"/m/a").kind is errors.DENIED


def test_a_rule_about_addresses_says_nothing_of_an_origin_that_the_operator_named():
    rule = '[[rule]]\nname = "no"\nmatch = { mode = "forward", destination = "10.0.0.0/8" }\naction = "deny"\n'
    assert isinstance(ask(build(rules=rule), b"/m/a"), Route)


def test_where_users_log_in_a_mirror_asks_for_it_as_an_origin_does_unless_a_rule_lets_clients_in():
    users = 'users = "users"\n'
    assert ask(build(more=users), b"/m/a").kind is errors.MIRROR_LOGIN
    rule = '[[rule]]\nname = "m"\nmatch = { mode = "forward", domain = "index.example" }\n'
    rule += 'action = "allow"\nlogin = false\n'
    assert isinstance(ask(build(more=users, rules=rule), b"/m/a"), Route)


def test_a_mirror_is_found_by_its_listener_and_path():
    modes = Modes(accept((FORWARD + MIRROR.format(kind="deb")).encode(), "test"), {})
    assert modes.has_mirror(0, b"/m/x")
    assert not modes.has_mirror(0, b"/x")


def test_parents_are_not_asked_for_what_is_mirrored_and_others_are_as_before():
    mode = build(more='parent = "10.0.0.9:3128"\n')
    assert ask(mode, b"/m/a").pool == "forward/mirror/m/"
    head = RequestHead(b"GET", b"http", b"example.org", b"/", None, (1, 1), Fields())
    assert mode.route(head, Client("192.168.8.7", 1, ("192.168.8.4", 3128), b"http")).pool == "forward/parents"
    assert build().route(head, Client("192.168.8.7", 1, ("192.168.8.4", 3128), b"http")).pool == ""
