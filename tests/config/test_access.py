"""What contradicts between access rules and lists, and which rules can never decide."""

import pytest

from config.faults import Faults
from config.load import accept, parse

FORWARD = '[forward]\nlisten = ":3128"\nclients = "10.0.0.0/8"\n'
LISTS = '[lists]\ngames = "games.txt"\nads = "ads.txt"\n'


def rule(name, match="", action="deny", more=""):
    whole = ", ".join(filter(None, ('mode = "forward"', match)))
    return f'[[rule]]\nname = "{name}"\nmatch = {{ {whole} }}\naction = "{action}"\n{more}\n'


def faults_of(text):
    try:
        accept(text.encode(), "test")
    except Faults as exc:
        return [f"{fault.where}: {fault.what}".replace('"', "`") for fault in exc.faults]
    return []


def warnings_of(text, tmp_path):
    for name in ("games.txt", "ads.txt"):
        (tmp_path / name).write_text("")
    return [f"{one.where}: {one.what}".replace('"', "`") for one in parse(text.encode(), "test", tmp_path).warnings]


def test_sound_rules_raise_no_fault(tmp_path):
    text = LISTS + rule("games", 'group = "pupils", domain = "list:games", time = "mon-fri 08:00-15:30"')
    text += rule("ads", 'domain = ["list:ads", "ads.test"]') + rule("rest", action="allow")
    assert faults_of(text) == []
    assert warnings_of(text, tmp_path) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[[rule]]\nname = "a"\naction = "deny"\n', "rule[0].action: a site serves everybody"),
        ('[[rule]]\nname = "a"\nmatch = { user = "x" }\n', "rule[0].match.user: `user` is a condition of rules with"),
        (rule("a", 'path = "/x"'), "rule[0].match.path: `path` is no condition of a rule with `action`"),
        (rule("a", more='ttl = "1h"'), "rule[0].ttl: a rule has either `action` or `ttl`"),
        (rule("a", 'domain = "list:games"'), "rule[0].match.domain[0]: no list has the name `games`"),
        (rule("a") + rule("a", "port = 1"), "rule[1].name: the name `a` belongs to rule[0]"),
        (rule("a", 'domain = "*.example.org"'), "rule[0].match.domain[0]: `*.example.org` is not accepted"),
        (rule("a", 'domain = "10.0.0.1"'), "rule[0].match.domain[0]: `10.0.0.1` is not accepted"),
        (rule("a", 'time = "monday"'), "rule[0].match.time[0]: `monday` is not accepted"),
        (rule("a", "port = 70000"), "rule[0].match.port[0]: `70000` is not accepted"),
        (FORWARD + rule("a", 'user = "anna"'), "rule[0].match.user: nobody logs in: [forward] has no `users`"),
        (
            FORWARD + 'users = "users"\n' + rule("a", 'group = "pupils"'),
            "rule[0].match.group: nobody is in a group: [forward] has no `groups`",
        ),
        (rule("a", action="allow", more='bandwidth = "few"'), "rule[0].bandwidth: no bandwidth has the name `few`"),
        ('[forward]\nlisten = ":1"\npac = { proxy = "https://x:1" }', "forward.pac.proxy[0]: `https://x:1` is not"),
        (rule("a", 'user = "a:b"'), "rule[0].match.user[0]: `a:b` is not accepted"),
    ],
)
def test_each_slip_is_a_fault_that_says_where(text, fault):
    found = faults_of(text)
    assert len(found) == 1
    assert found[0].startswith(fault)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("", "port = 443"),
        ('client = "10.0.0.0/8"', 'client = "10.1.0.0/16", user = "anna"'),
        ('domain = "example.org"', 'domain = ["www.example.org", "a.example.org"]'),
        ('port = "1-1000"', 'port = [80, "443-500"]'),
        ('time = ["mon-fri", "sat,sun 08:00-12:00"]', 'time = ["wed 10:00-11:00", "sun 09:00-10:00"]'),
        ('destination = ["10.0.0.0/8", "fd00::/8"]', 'destination = ["fd00:1::/32", "10.2.0.0/16"]'),
        ('method = ["GET", "POST"]', 'method = "GET"'),
        ('domain = "list:games"', 'domain = "list:games", port = 80'),
    ],
)
def test_a_rule_that_never_decides_is_warned_of(first, second, tmp_path):
    text = LISTS + rule("one", first) + rule("two", second, "allow") + rule("x", 'domain = ["list:games", "list:ads"]')
    assert "rule[1]: dead rule: `one` comes first and matches all that it matches" in warnings_of(text, tmp_path)
    turned = LISTS + rule("two", second, "allow") + rule("one", first)
    assert not [one for one in warnings_of(turned, tmp_path) if "dead rule" in one]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('domain = "example.org"', 'domain = "notexample.org"'),
        ('domain = "list:games"', 'domain = "list:ads"'),
        ('client = "10.0.0.0/8"', 'client = "fd00::/8"'),
        ('group = "a"', 'group = "b"'),
        ('time = "mon 08:00-12:00"', 'time = "mon 08:00-12:01"'),
    ],
)
def test_rules_beside_each_other_are_not(first, second, tmp_path):
    text = LISTS + rule("one", first) + rule("two", second, "allow")
    assert not [one for one in warnings_of(text, tmp_path) if "dead rule" in one]


def test_a_rule_on_trial_makes_none_dead_and_devices_without_login_are_let_in_behind_those_with(tmp_path):
    text = rule("trial", action="report") + rule("users", "port = 80", "allow")
    text += rule("devices", "port = 80", "allow", "login = false")
    assert warnings_of(text, tmp_path) == []


def test_slips_without_harm_are_warned_of(tmp_path):
    text = LISTS + rule("a", 'domain = ["example.org", "www.example.org", "list:ads"]', more="login = false")
    assert set(warnings_of(text, tmp_path)) == {
        "rule[0].match.domain[1]: `example.org` means `www.example.org` already",
        "lists.games: no rule uses this list",
        "rule[0].login: `login` has an effect with `allow` alone",
    }


def test_rules_of_other_modes_are_no_rules_of_sites(tmp_path):
    text = '[[site]]\nlisten = ":80"\nupstream = "127.0.0.1:1"\n' + rule("all", action="deny")
    text += '[[rule]]\nname = "static"\nmatch = { path = "/s/*" }\nttl = "1h"\n'
    assert faults_of(text) == []
    assert warnings_of(text, tmp_path) == []


def test_a_rule_of_another_mode_that_decides_nothing_is_dead(tmp_path):
    text = '[[rule]]\nname = "a"\nmatch = { mode = "forward" }\ngrace = "5s"\n'
    assert warnings_of(text, tmp_path) == ["rule[0]: dead rule: without `action` it says nothing of forward mode"]
