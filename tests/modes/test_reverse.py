"""Which site, rule, pool and session a request belongs to."""

from __future__ import annotations

import re
import time
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.schema import Answer, Cache, Config, Health, Match, Redirect, Rule, Site, Upstream, UpstreamTls
from config.units import Duration, Listen, Size
from proxy import errors
from proxy.errors import Failure
from proxy.exchange import Client, FixedAnswer, Origin, Route
from proxy.http.message import Fields, RequestHead
from proxy.modes.reverse import (
    KNOWN_AUTHORITIES,
    Patterns,
    Reverse,
    build_origin,
    host_of,
    is_in,
    site_names,
)

HTTP, HTTPS = Listen("", 80), Listen("", 443)
ONE = (Upstream(address="10.0.0.1:8080"),)
PAIR = (Upstream(address="10.0.0.1:8080", route="t1"), Upstream(address="10.0.0.2:8080", route="t2"))


def site(*hosts, listen=(HTTP,), upstream=ONE, **options):
    return Site(listen=listen, hosts=hosts, upstream=upstream, **options)


def reverse(*sites, rules=(), files=None, **tables):
    return Reverse(Config(site=sites, rule=tuple(rules), **tables), files or {})


def request(authority="shop.example.org", path="/", *lines, method="GET", query=None, scheme="http"):
    head = [(name.encode(), value.encode()) for name, value in lines]
    query = None if query is None else query.encode()
    return RequestHead(method.encode(), scheme.encode(), authority.encode(), path.encode(), query, (1, 1), Fields(head))


def client(listener=0):
    return Client("192.0.2.7", 40000, ("192.0.2.1", 80), b"http", listener)


def ask(mode, *args, listener=0, **kwargs):
    return mode.route(request(*args, **kwargs), client(listener))


def path_rule(name, *paths, **what):
    return Rule(name=name, match=Match(path=paths), **what)


# ---- sites ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authority", "name"),
    [
        ("shop.example.org", "shop"),
        ("shop.example.org:8080", "shop"),
        ("shop.example.org.", "shop"),
        ("a.shop.example.org", "deep"),
        ("b.a.shop.example.org", "deep"),
        ("other.example.org", "wide"),
        ("example.org", "rest"),
        ("evilexample.org", "rest"),
        ("10.0.0.1", "rest"),
        ("[::1]:8080", "rest"),
        ("", "rest"),
    ],
)
def test_the_exact_name_wins_over_the_longest_wildcard_and_that_over_the_site_without_names(authority, name):
    mode = reverse(
        site(name="rest"),
        site("*.example.org", name="wide"),
        site("*.shop.example.org", name="deep"),
        site("SHOP.example.org", name="shop"),
    )
    for _ in range(2):  # the second time out of what is known
        assert ask(mode, authority).site == name
        assert mode.site_of(authority.encode(), 0).name == name


@pytest.mark.rfc("9110", "15.5.20")
@pytest.mark.parametrize("authority", ["other.example.org", "example.org.evil.test", "127.0.0.1", "", "." * 20000])
def test_a_name_that_no_site_has_is_misdirected(authority):
    mode = reverse(site("shop.example.org", "*.shop.example.org"))
    answer = ask(mode, authority)
    assert isinstance(answer, Failure)
    assert answer.kind is errors.MISDIRECTED
    assert mode.site_of(authority.encode(), 0) is None


def test_each_listening_address_has_its_own_sites():
    mode = reverse(site("a.example.org"), site("b.example.org", listen=(HTTPS, HTTP)), site(listen=(HTTPS,), name="c"))
    assert mode.listeners == (HTTP, HTTPS)
    assert ask(mode, "a.example.org", listener=0).site == "a.example.org"
    assert ask(mode, "a.example.org", listener=1).site == "c"
    assert ask(mode, "b.example.org", listener=0).site == "b.example.org"
    assert ask(mode, "b.example.org", listener=1).site == "b.example.org"


def test_sites_are_named_by_name_first_host_or_number():
    config = Config(site=(site(), site("a.example.org", "b.example.org"), site("c.example.org", name="c"), site()))
    assert site_names(config) == ("site-1", "a.example.org", "c", "site-4")


def test_a_name_with_letters_beyond_ascii_is_met_in_punycode():
    assert ask(reverse(site("bücher.example.org")), "xn--bcher-kva.example.org").site == "bücher.example.org"


def test_invented_names_cannot_fill_memory():
    mode = reverse(site())
    for number in range(KNOWN_AUTHORITIES + 100):
        assert ask(mode, f"n{number}.example.org").site == "site-1"
    assert ask(mode, "x" * 5000).site == "site-1"
    known = mode._doors[0].known
    assert len(known) == KNOWN_AUTHORITIES
    assert max(map(len, known)) < 300


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        (b"a.example.org", b"a.example.org"),
        (b"a.example.org:81", b"a.example.org"),
        (b"a.example.org:", b"a.example.org"),
        (b"a.example.org.:81", b"a.example.org"),
        (b"[::1]", b"[::1]"),
        (b"[::1]:81", b"[::1]"),
    ],
)
def test_the_host_of_an_authority_is_without_port(authority, host):
    assert host_of(authority) == host


def test_a_site_says_what_the_rest_of_the_proxy_needs():
    mode = reverse(
        site(
            trusted=(ip_network("10.0.0.0/8"),),
            purge_from=(ip_network("127.0.0.1/32"),),
            explain_from=(ip_network("127.0.0.2/32"),),
            pass_fields=("X-HTTP-Method-Override",),
            host="rewrite",
            rewrite_redirects=False,
            error_pages={"503": "down.html"},
            upgrade=("WebSocket",),
            max_body=Size(1000),
            encode_target=True,
            allow_trace=True,
        ),
        files={"down.html": b"<p>down"},
    )
    view = mode.sites["site-1"]
    assert mode.site_of(b"anything", 0) is view
    assert view.trusted == (ip_network("10.0.0.0/8"),)
    assert view.purge_from == (ip_network("127.0.0.1/32"),)
    assert view.explain_from == (ip_network("127.0.0.2/32"),)
    assert view.pass_fields == {b"x-http-method-override"}
    assert (view.rewrite_host, view.rewrite_redirects) == (True, False)
    assert view.error_pages == {503: b"<p>down"}
    assert view.upgrade == {b"websocket"}
    assert (view.max_body, view.encode_target, view.allow_trace) == (1000, True, True)


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("fd00::9", True),
        ("11.0.0.1", False),
        ("::1", False),
        ("unix", False),
        ("", False),
    ],
)
def test_an_address_is_in_a_network_however_it_is_written(address, inside):
    assert is_in(address, (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))) is inside
    assert not is_in(address, ())


# ---- rules ---------------------------------------------------------------------------------------------------------


def test_the_first_rule_that_matches_wins():
    mode = reverse(
        site(),
        rules=[
            path_rule("exact", "/static/special.css"),
            path_rule("prefix", "/static/*", "/public/*"),
            path_rule("suffix", "*.css", "*.js"),
            path_rule("middle", "/a/*/c", "*b*d*"),
            path_rule("late", "/static/never", "*.css", "/late"),
        ],
    )
    wanted = {
        "/static/special.css": "exact",
        "/static/x.css": "prefix",
        "/static/": "prefix",
        "/public/a": "prefix",
        "/static": "",
        "/x.css": "suffix",
        "/a/b/c": "middle",
        "/a/c": "",
        "/0b1d2": "middle",
        "/d1b": "",
        "/static/never": "prefix",
        "/late": "late",
        "/": "",
    }
    assert {path: ask(mode, path=path).rule for path in wanted} == wanted


def test_the_order_of_rules_counts_whatever_the_kind_of_their_patterns():
    rules = [path_rule("any", "*"), path_rule("exact", "/a"), path_rule("middle", "/*a*")]
    for names in ("any exact middle", "exact middle any", "middle exact any"):
        ordered = sorted(rules, key=lambda rule: names.split().index(rule.name))
        assert ask(reverse(site(), rules=ordered), path="/a").rule == names.split()[0]


def test_a_rule_may_ask_for_site_host_and_method_as_well():
    mode = reverse(
        site("a.example.org", "*.a.example.org", name="a"),
        site("b.example.org", name="b"),
        rules=[
            Rule(name="post", match=Match(site="a", method=("POST", "PUT"))),
            Rule(name="sub", match=Match(host=("*.a.example.org",), path=("/x/*",))),
            Rule(name="host", match=Match(host=("b.example.org",))),
            path_rule("path", "/x/*"),
        ],
    )
    assert ask(mode, "a.example.org", method="POST").rule == "post"
    assert ask(mode, "b.example.org", method="POST").rule == "host"
    assert ask(mode, "c.a.example.org:81", "/x/1").rule == "sub"
    assert ask(mode, "a.example.org", "/x/1").rule == "path"
    assert ask(mode, "a.example.org", "/y").rule == ""


@pytest.mark.rfc("3986", "6.2.2.2")
def test_escapes_of_unreserved_characters_hide_no_path_from_a_rule_and_others_stay():
    mode = reverse(site(), rules=[path_rule("admin", "/%61dmin/*")])
    assert ask(mode, path="/admin/x").rule == "admin"
    assert ask(mode, path="/%61d%6Din/x").rule == "admin"
    assert ask(mode, path="/admin%2Fx").rule == ""
    assert ask(mode, path="/%2561dmin/x").rule == ""


def test_under_the_tomcat_preset_a_session_parameter_hides_no_path_from_a_rule():
    rules = [path_rule("css", "*.css")]
    assert ask(reverse(site(preset="tomcat"), rules=rules), path="/a.css;jsessionid=1F.t1").rule == "css"
    assert ask(reverse(site(), rules=rules), path="/a.css;jsessionid=1F.t1").rule == ""
    assert ask(reverse(site(preset="tomcat"), rules=rules), path="/a;b=.css;jsessionid=1F").rule == "css"


PIECES = st.text("ab", max_size=2)
PATTERNS = st.lists(PIECES, min_size=1, max_size=4).map("*".join)


@settings(deadline=None)
@given(groups=st.lists(st.lists(PATTERNS, max_size=3), max_size=6), path=st.text("ab", max_size=6))
def test_patterns_agree_with_their_definition(groups, path):
    def matches(pattern):
        return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), path, re.DOTALL)

    expected = next((n for n, group in enumerate(groups) if any(map(matches, group))), len(groups))
    assert Patterns(groups).first(path.encode()) == expected


def test_matching_takes_linear_time_for_the_worst_of_patterns():
    patterns = Patterns([["*a*a*a*a*a*a*a*a*a*a*b"], ["/" + "*a" * 20 + "*c"]])

    def spent(size):
        path = b"/" + b"a" * size + b"d"
        return min(_timed(patterns, path) for _ in range(5))

    assert spent(160_000) < 100 * max(spent(10_000), 1e-6)  # 16 times the length; backtracking would never end


def _timed(patterns, path):
    start = time.thread_time()
    assert patterns.first(path) == 2
    return time.thread_time() - start


# ---- where a rule leads --------------------------------------------------------------------------------------------


def test_a_rule_may_have_origins_of_its_own():
    mode = reverse(
        site("a.example.org", name="a"),
        site("b.example.org", name="b", balance="least-requests"),
        rules=[path_rule("api", "/api/*", upstream=(Upstream(address="10.0.0.9:9000"),))],
    )
    assert set(mode.pools) == {"a", "a/api", "b", "b/api"}
    assert ask(mode, "b.example.org", "/api/x").pool == "b/api"
    assert ask(mode, "b.example.org", "/").pool == "b"
    spec = mode.pools["b/api"]
    assert (spec.site, spec.balance) == ("b", "least-requests")
    assert [origin.address for origin in spec.origins] == ["10.0.0.9:9000"]


def test_a_site_without_origins_answers_by_rules_alone():
    mode = reverse(site(upstream=()), rules=[path_rule("hello", "/hello", answer=Answer(body="hi"))])
    assert ask(mode, path="/hello").body == b"hi"
    answer = ask(mode, path="/else")
    assert isinstance(answer, Failure)
    assert answer.kind is errors.NOT_FOUND
    assert mode.pools == {}


def test_a_fixed_answer_is_a_text_or_a_file():
    config = Config(
        site=(site(error_pages={"502": "bad.html", "503": "bad.html"}),),
        rule=(
            path_rule("text", "/robots.txt", answer=Answer(body="no\n")),
            path_rule("file", "/gone", answer=Answer(status=410, file="gone.html", type="text/html")),
        ),
    )
    mode = Reverse(config, {"gone.html": b"<p>gone", "bad.html": b"<p>bad"})
    text = ask(mode, path="/robots.txt")
    assert isinstance(text, FixedAnswer)
    assert (text.site, text.rule, text.head.status, text.body) == ("site-1", "text", 200, b"no\n")
    assert text.head.fields.get(b"content-type") == b"text/plain; charset=utf-8"
    file = ask(mode, path="/gone")
    assert (file.head.status, file.body, file.head.fields.get(b"content-type")) == (410, b"<p>gone", b"text/html")


@pytest.mark.parametrize(
    ("to", "path", "query", "location"),
    [
        ("https://{host}{path}?{query}", "/a/b", "x=1", "https://shop.example.org/a/b?x=1"),
        ("https://{host}{path}?{query}", "/a/b", None, "https://shop.example.org/a/b"),
        ("https://{host}{path}?{query}", "/a/b", "", "https://shop.example.org/a/b?"),
        ("{scheme}://www.{host}/", "/a", None, "http://www.shop.example.org/"),
        ("/login?from={path}&{query}", "/a", "x", "/login?from=/a&x"),
        ("/login?from={path}&{query}", "/a", None, "/login?from=/a&"),
        ("/fixed", "/a", "x", "/fixed"),
        ("{path}/", "/a", None, "/a/"),
        ("{path}/", "//evil.example.org", None, "/evil.example.org/"),
        ("{path}/", "/\\/evil.example.org", None, "/evil.example.org/"),
        ("https://{host}{path}", "*", None, "https://shop.example.org/"),
        ("https://{host}/{other}", "/{query}", "x", "https://shop.example.org/{other}"),
        ("https://{host}{path}", "/{query}", "x", "https://shop.example.org/{query}"),
    ],
)
def test_a_redirect_is_made_of_the_requests_parts(to, path, query, location):
    mode = reverse(site(), rules=[Rule(name="go", redirect=Redirect(to=to, status=308))])
    answer = ask(mode, "shop.example.org:8080", path, query=query)
    assert isinstance(answer, FixedAnswer)
    assert (answer.head.status, answer.head.fields.get(b"location").decode(), answer.body) == (308, location, b"")


def test_cache_rules_come_from_site_rule_preset_and_cache():
    mode = reverse(
        site(
            preset="tomcat",
            set_cookie="strip",
            honour_request=False,
            session_cookies=("SID",),
            session_arguments=("JSessionId", "sid"),
            pass_fields=("X-B", "x-a"),
            stale_on_error=Duration(60.0),
        ),
        rules=[
            path_rule("static", "/static/*", ttl=Duration(3600.0), cookies="ignore"),
            path_rule("never", "/never", cache=False),
        ],
        cache=Cache(trust_age=True, max_object=Size(5)),
    )
    plain = ask(mode).rules
    assert (plain.enabled, plain.ttl, plain.ignore_cookies, plain.set_cookie) == (True, None, False, "strip")
    assert (plain.session_cookies, plain.session_arguments) == ({b"SID"}, {b"jsessionid", b"sid"})
    assert (plain.drop_session_from_key, plain.key_fields) == (True, (b"x-a", b"x-b"))
    assert (plain.honour_request, plain.trust_age, plain.stale_on_error, plain.max_object) == (False, True, 60.0, 5)
    static = ask(mode, path="/static/x").rules
    assert (static.ttl, static.ignore_cookies) == (3600.0, True)
    never = ask(mode, path="/never")
    assert not never.rules.enabled


def test_without_memory_nothing_is_cacheable():
    assert not ask(reverse(site(), cache=Cache(memory=Size(0)))).rules.enabled
    assert not ask(reverse(site())).rules.drop_session_from_key


# ---- sessions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "cookies", "session"),
    [
        ("/", ["JSESSIONID=0A1B.t2"], "t2"),
        ("/", ["a=b; JSESSIONID=0A1B.t1; c=d"], "t1"),
        ("/", ['JSESSIONID="0A1B.t1"'], "t1"),
        ("/", ["a=b", "JSESSIONID=0A1B.t2"], "t2"),
        ("/", ["JSESSIONID=0A1B.t9; JSESSIONID=0C.t2"], "t2"),
        ("/", ["JSESSIONID=0A1B.t9"], None),
        ("/", ["JSESSIONID=0A1B"], None),
        ("/", ["XJSESSIONID=0A1B.t1"], None),
        ("/", ["a=JSESSIONID=0A1B.t1"], None),
        ("/a;jsessionid=0A1B.t1", [], "t1"),
        ("/a;x=1;jsessionid=0A1B.t2/b", [], "t2"),
        ("/a;jsessionid=0A1B.t9", [], None),
        ("/a;jsessionid=0A1B", [], None),
        ("/a;jsessionid=0A1B.t1", ["JSESSIONID=0C.t2"], "t2"),
        ("/a;jsessionid=0A1B.t1", ["other=0C.t2"], "t1"),
        ("/", [], None),
    ],
)
def test_the_session_is_that_of_the_cookie_or_else_of_the_path(path, cookies, session):
    mode = reverse(site(preset="tomcat", upstream=PAIR))
    answer = ask(mode, "shop.example.org", path, *[("Cookie", cookie) for cookie in cookies])
    assert isinstance(answer, Route)
    assert answer.session == session


def test_a_cookie_that_does_not_travel_leads_nowhere():
    mode = reverse(site(upstream=PAIR), rules=[path_rule("static", "/s/*", cookies="ignore")])
    assert ask(mode, "shop.example.org", "/s/x", ("Cookie", "JSESSIONID=1.t1")).session is None
    assert ask(mode, "shop.example.org", "/x", ("Cookie", "JSESSIONID=1.t1")).session == "t1"


# ---- pools ---------------------------------------------------------------------------------------------------------


def test_a_pool_has_what_the_configuration_says_of_its_origins():
    health = Health(path="/health")
    upstream = (Upstream(address="https://App.example.org", route="t1", weight=3, max_connections=9),)
    tls = UpstreamTls(verify=False, ca="ca.pem", name="inner.example.org")
    mode = reverse(site("*.example.org", "a.example.org", upstream=upstream, upstream_tls=tls, health=health))
    spec = mode.pools["*.example.org"]
    assert spec.origins == (
        Origin("https", "app.example.org", 443, "t1", 3, 9, "inner.example.org", tls_verify=False, tls_ca="ca.pem"),
    )
    assert (spec.health, spec.check_host, spec.retry) == (health, "a.example.org", True)


def test_checks_use_the_origins_own_name_where_the_host_is_rewritten():
    assert reverse(site("a.example.org", host="rewrite")).pools["a.example.org"].check_host == ""
    assert reverse(site()).pools["site-1"].check_host == ""


@pytest.mark.parametrize(
    ("address", "scheme", "host", "port"),
    [
        ("127.0.0.1:8080", "http", "127.0.0.1", 8080),
        ("HTTPS://App", "https", "app", 443),
        ("[::1]:8080", "http", "::1", 8080),
    ],
)
def test_an_origin_is_read_from_its_address(address, scheme, host, port):
    origin = build_origin(Upstream(address=address), UpstreamTls())
    assert (origin.scheme, origin.host, origin.port) == (scheme, host, port)
