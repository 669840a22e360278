"""What contradicts what: each case is a file that is sound option by option."""

import pathlib

import pytest

from config.load import Faults, accept, parse

SITE = '[[site]]\nlisten = ":80"\nupstream = "10.0.0.1:8080"\n'
SHOP = '[[site]]\nname = "shop"\nhosts = "shop.example"\nlisten = ":80"\nupstream = "10.0.0.1:8080"\n'


FORWARD = '[forward]\nlisten = ":3128"\nclients = "10.0.0.0/8"\n'


def judge(text):
    """The faults of a text, or its warnings if it has none, as (where, what)."""
    try:
        loaded = parse(text.encode(), "t", pathlib.Path("/nonexistent"))
    except Faults as faults:
        return "faults", [f"{one.where}: {one.what}" for one in faults.faults]
    return "warnings", [f"{one.where}: {one.what}" for one in loaded.warnings]


def rule(name, match="", rest=""):
    return f'[[rule]]\nname = "{name}"\nmatch = {{ {match} }}\n{rest}\n'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (SHOP + SHOP.replace('"shop.example"', '"b"'), 'site[1].name: the name "shop" belongs to site[0]'),
        (SITE + SITE, 'site[1].hosts: site "site-1" takes every host on `:80` already'),
        (
            SHOP + SHOP.replace('"shop"', '"b"').replace("shop.e", "SHOP.e"),
            'site[1].hosts[0]: "SHOP.example" on `:80` belongs to site "shop" already',
        ),
        (SITE.replace(":80", ":443"), "site[0].listen[0]: port 443 needs a certificate"),
        (SITE.replace('":80"', '[":80", ":80"]'), "site[0].listen[1]: `:80` is given twice"),
        (
            SITE.replace('":80"', '[":80", "127.0.0.1:80"]'),
            "site[0].listen[1]: `127.0.0.1:80` and `:80` of this site share addresses and cannot both be bound",
        ),
        (SITE.replace('":80"', "[]"), "site[0].listen: no address to listen on"),
        (SITE + "tls_ports = 8443\n", "site[0].tls_ports[0]: no address of `listen` has the port 8443"),
        (SITE + "tls_ports = 80\n", "site[0].tls_ports: TLS needs a certificate"),
        (SITE.replace("10.0.0.1:8080", "127.0.0.1:80"), "is this site itself"),
        ('[[site]]\nlisten = ":80"\n', "site[0]: no origin, and no rule that answers"),
        ('[[site]]\nlisten = ":80"\n' + rule("a", 'path = "/x"', 'redirect = "/y"') + rule("b"), "rule[1]: site"),
        (SITE + rule("a") + rule("a", 'path = "/x"'), 'rule[1].name: the name "a" belongs to rule[0]'),
        (SHOP + rule("a", 'site = "shpo"'), 'rule[0].match.site: no site has the name "shpo"'),
        (SITE + rule("a", "", 'redirect = "/y"\nupstream = "b:1"'), "rule[0].redirect: a rule has one of"),
        (SITE + rule("a", "", 'answer = { body = "a", file = "b" }'), "an answer has either `body` or `file`"),
        (SITE + '[admin]\nlisten = ":9600"\n', "admin.listen[0]: off loopback the admin surface needs tls and tokens"),
        (SITE + '[admin]\nlisten = "127.0.0.1:80"\n', "share addresses and cannot both be bound"),
        (SITE.replace('":80"', '"127.0.0.1:80"') + '[admin]\nlisten = "127.0.0.1:80"\n', "belongs to site"),
        (
            SITE.replace('"10.0.0.1:8080"', '[{ address = "a:1", route = "r" }, { address = "b:1", route = "r" }]'),
            'site[0].upstream[1].route: two origins have the route "r"',
        ),
        (
            '[[site]]\nlisten = ":80"\nupstream = "a:1"\ntls = { cert = "c", key = "k" }\n',
            "no address of this site speaks",
        ),
        (FORWARD.replace('":3128"', "[]"), "forward.listen: no address to listen on"),
        (FORWARD.replace('":3128"', '[":3128", ":3128"]'), "forward.listen[1]: `:3128` is given twice"),
        (SITE + FORWARD.replace("3128", "80"), 'forward.listen[0]: `:80` belongs to site "site-1" already'),
        (FORWARD + '[admin]\nlisten = "127.0.0.1:3128"\n', "share addresses and cannot both be bound"),
        (FORWARD + 'parent = "127.0.0.1:3128"\n', "forward.parent[0].address: `127.0.0.1:3128` is this proxy itself"),
        (FORWARD + 'parent = "https://a.example"\n', "forward.parent[0].address: a parent is asked in plain HTTP"),
        (SITE + 'name = "forward"\n' + FORWARD, 'forward: a site has the name "forward"'),
    ],
)
def test_a_contradiction_is_a_fault(text, fault):
    kind, found = judge(text)
    assert kind == "faults"
    assert any(fault in one for one in found), found


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (SITE + rule("a") + rule("b", 'path = "/x"'), 'rule[1]: dead rule: "a" comes first'),
        (SITE + rule("a", 'path = "/x/*"') + rule("b", 'path = ["/x/y", "/x/z/*"]'), "rule[1]: dead rule"),
        (SITE + rule("a", 'site = "site-1"') + rule("b", 'path = "/x"'), "rule[1]: dead rule"),
        (SHOP + rule("a", 'host = "b.example"'), "rule[0].match.host: dead rule: no site"),
        (
            SITE + rule("a", 'path = "/static/*"', 'ttl = "1h"') + rule("b", 'path = "*.css"', 'ttl = "2h"'),
            'rule[1].match: overlaps "a" (/static/* and *.css), which comes first and wins',
        ),
        (SITE + rule("a", "", 'redirect = "/x"\nttl = "1h"'), "rule[0].ttl: `ttl` has no effect here"),
        (SITE + rule("a", "", 'cache = false\nttl = "1h"'), "rule[0].ttl: `ttl` has no effect here"),
        (SITE + '[cache]\nmemory = "1MB"\n', "cache.max_object: `64MB` does not fit into `memory` (1MB)"),
        (SITE + '[limits]\nhead = "8KB"\n', "limits.request_line: `16KB` is more than the whole head may have (8KB)"),
        (SITE + 'preset = "tomcat"\n[limits]\npool_idle = "30s"\n', "limits.pool_idle: Tomcat closes idle"),
        (SITE + 'timeouts = { whole = "2s" }\n', "site[0].timeouts.whole: `2s` ends a request before `connect`"),
        (SITE.replace('"10.0.0.1:8080"', '["a:1", "A:1"]'), "site[0].upstream[1]: `a:1` is given twice"),
        (SITE + 'hosts = ["a", "A"]\n', 'site[0].hosts[1]: "A" is given twice'),
        (FORWARD + 'direct = "a.example"\n', "forward.direct: `direct` has no effect without `parent`"),
        ('[forward]\nlisten = ":3128"\n', "forward: no `clients`: nobody is served"),
        (FORWARD.replace("10.0.0.0/8", "0.0.0.0/0"), "forward.clients[0]: `0.0.0.0/0` is everybody"),
    ],
)
def test_a_slip_is_a_warning(text, warning):
    kind, found = judge(text)
    assert kind == "warnings", found
    assert any(warning in one for one in found), found


@pytest.mark.parametrize(
    "text",
    [
        SITE,
        SITE
        + rule("a", 'path = "/x/*"', 'ttl = "1h"')
        + rule("b"),  # the special before the general: no overlap to tell
        SITE + rule("a", 'path = "/x/*"') + rule("b", 'path = "/y/*"', "cache = false"),
        SITE + rule("a", 'method = "POST"') + rule("b", 'method = "GET"', "cache = false"),
        SHOP + SHOP.replace('"shop"', '"b"').replace("shop.e", "b.e"),
        SHOP + SITE,
        SHOP + SITE.replace(":80", ":81") + rule("a", 'site = "shop"') + rule("b", 'path = "/x"', "cache = false"),
        '[[site]]\nlisten = ":80"\n' + rule("a", "", 'redirect = "https://{host}{path}"'),
        SITE + '[admin]\nlisten = ["127.0.0.1:9600", "[::1]:9600"]\n',
        FORWARD,
        SITE + FORWARD,
    ],
)
def test_what_is_right_passes_in_silence(text):
    kind, found = judge(text)
    if 'site = "shop"' in text:  # the two rules meet in the shop, on purpose
        assert [one.split(" (")[0] for one in found] == ['rule[1].match: overlaps "a"']
    else:
        assert (kind, found) == ("warnings", [])


def test_one_slip_is_one_fault():
    broken = SHOP.replace('":80"', '"80"') + rule("a", 'site = "shop"')
    kind, found = judge(broken)
    assert kind == "faults"
    assert len(found) == 1


GATEWAY = '[transparent]\ninterface = "lan0"\nclients = "192.168.8.0/24"\n'


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("port = 3130", "HTTP and HTTPS arrive at different ports"),
        ("http_ports = [80, 443]", "443 is in `http_ports` too"),
        ('[forward]\nlisten = ":3129"\nclients = "192.168.8.0/24"', "port 3129 belongs to [forward] already"),
        ('[[site]]\nlisten = ":3130"\nupstream = "127.0.0.1:1"', "port 3130 belongs to site"),
        ("spoof = true", 'set method = "tproxy", or leave `spoof` out'),
        ('[[site]]\nname = "transparent"\nlisten = ":80"\nupstream = "127.0.0.1:1"', "a site has the name"),
    ],
)
def test_a_gateway_has_ports_and_a_name_of_its_own(more, said):
    with pytest.raises(Faults) as faults:
        accept((GATEWAY + more).encode(), "t.toml")
    assert said in str(faults.value)


def test_a_gateway_wants_to_know_whose_connections_come_in_where():
    with pytest.raises(Faults) as faults:
        accept(b"[transparent]\ninterface = []\nclients = []\n", "t.toml")
    assert "nothing comes in" in str(faults.value)
    assert "nobody's connections are taken" in str(faults.value)
