"""Who may what: each dimension, their order, what is not known yet, and that bits decide as reading does."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import load
from config.units import parse_network
from proxy.modes.access import (
    WEEK,
    Access,
    Allow,
    ByAddress,
    Deny,
    Login,
    Question,
    Why,
    access_rules,
    explain,
    minute_of_week,
    parents_of,
)

SERVED = "192.168.8.0/24"
MONDAY_NOON = 12 * 60


class Listed:
    def __init__(self, *names):
        self.names = names

    def find(self, parents):
        return next((name for name in parents if name in self.names), None)


def config_of(rules, lists=()):
    blocks = []
    for name, match, action, *more in rules:
        whole = ", ".join(filter(None, ('mode = "forward"', match)))
        blocks.append(
            "\n".join(["[[rule]]", f'name = "{name}"', f"match = {{ {whole} }}", f'action = "{action}"', *more])
        )
    blocks += [f'[lists.{name}]\nfile = "{name}"' for name in lists]
    return load.accept("\n".join(blocks).encode(), "test")


def access(*rules, lists=None, **more):
    config = config_of(rules, lists or {})
    clients = [parse_network(SERVED)]
    return Access(access_rules(config, "forward"), clients, lists=lists, **more)


def ask(access, host="www.example.org", user="", client="192.168.8.50", port=80, method="GET", minute=MONDAY_NOON):
    return access.decide(Question(client, user, host, port, method, minute))


# ---- who is served at all --------------------------------------------------------------------------------------------


def test_without_rules_a_listed_client_may_go_anywhere_and_nobody_else_anywhere():
    plain = access()
    assert ask(plain) == Allow()
    assert ask(plain, client="::ffff:192.168.8.50") == Allow()
    assert ask(plain, client="192.168.9.1") == Deny(Why.CLIENT)
    assert ask(plain, client="unix") == Deny(Why.CLIENT)


def test_no_rule_lets_an_unlisted_client_in():
    assert ask(access(("all", "", "allow")), client="10.0.0.1") == Deny(Why.CLIENT)


def test_the_first_rule_that_matches_decides():
    rules = access(("one", 'domain = "example.org"', "deny"), ("two", "", "allow"))
    assert ask(rules) == Deny(Why.RULE, "one", "", "example.org")
    assert ask(rules, "example.com") == Allow("two")
    assert ask(access(("two", "", "allow"), ("one", 'domain = "example.org"', "deny"))) == Allow("two")


def test_what_no_rule_matches_is_as_the_default_says():
    rules = [("work", 'domain = "example.org"', "allow")]
    assert ask(access(*rules, otherwise=False), "games.test") == Deny(Why.DEFAULT)
    assert ask(access(*rules), "games.test") == Allow()


# ---- dimensions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("match", "same", "other"),
    [
        ('client = "192.168.8.32/27"', {"client": "192.168.8.50"}, {"client": "192.168.8.70"}),
        ('user = ["anna", "ben"]', {"user": "ben"}, {"user": "carl"}),
        ('group = "pupils"', {"user": "anna"}, {"user": "carl"}),
        ('domain = "example.org"', {"host": "a.b.example.org"}, {"host": "notexample.org"}),
        ('domain = "Example.Org."', {"host": "example.org"}, {"host": "org"}),
        ('domain = "list:games"', {"host": "deep.games.test"}, {"host": "games.testing"}),
        ('destination = "10.0.0.0/8"', {"host": "10.1.2.3"}, {"host": "11.1.2.3"}),
        ('destination = "2001:db8::/32"', {"host": "2001:db8::1"}, {"host": "2001:db9::1"}),
        ("port = 443", {"port": 443}, {"port": 80}),
        ('port = [80, "8000-8999"]', {"port": 8080}, {"port": 9000}),
        ('method = ["POST", "PUT"]', {"method": "PUT"}, {"method": "GET"}),
        ('time = "mon-fri 08:00-15:30"', {"minute": 8 * 60}, {"minute": 15 * 60 + 30}),
        ('time = ["sat,sun", "22:00-06:00"]', {"minute": WEEK - 1}, {"minute": 12 * 60}),
        ('time = "sun 22:00-06:00"', {"minute": 5 * 60}, {"minute": 6 * 60}),
    ],
)
def test_a_rule_matches_what_it_names_and_nothing_else(match, same, other):
    rules = access(
        ("it", match, "deny"), lists={"games": Listed("games.test")}, login="user" in same, groups={"pupils": ["anna"]}
    )
    denied = ask(rules, **same)
    assert isinstance(denied, Deny)
    assert denied.rule == "it"
    assert ask(rules, **{"user": "someone", **other}) == Allow()


def test_all_conditions_of_a_rule_must_hold():
    rules = access(("it", 'domain = "example.org", port = 443, method = "CONNECT"', "deny"))
    assert ask(rules, port=443, method="CONNECT").rule == "it"
    assert ask(rules, port=443, method="GET") == Allow()
    assert ask(rules, port=80, method="CONNECT") == Allow()


def test_domains_and_lists_of_one_rule_are_alternatives():
    rules = access(("it", 'domain = ["example.org", "list:games"]', "deny"), lists={"games": Listed("games.test")})
    assert ask(rules, "www.example.org") == Deny(Why.RULE, "it", "", "example.org")
    assert ask(rules, "www.games.test") == Deny(Why.RULE, "it", "games", "games.test")
    assert ask(rules, "other.test") == Allow()


def test_a_group_that_nobody_is_in_matches_nobody():
    rules = access(("it", 'group = "pupils"', "deny"), login=True, groups={})
    assert ask(rules, user="anna") == Allow()


@pytest.mark.parametrize("host", ["10.0.0.1", "fd00::1"])
def test_an_address_is_below_no_domain(host):
    assert parents_of(host) == (host,)
    assert ask(access(("it", 'domain = "example.org"', "deny")), host) == Allow()


# ---- reports ---------------------------------------------------------------------------------------------------------


def test_a_rule_on_trial_is_reported_and_decides_nothing():
    rules = access(
        ("trial", "", "report"), ("second", 'domain = "example.org"', "report"), ("end", "port = 443", "deny")
    )
    assert ask(rules) == Allow("", ("trial", "second"))
    assert ask(rules, port=443) == Deny(Why.RULE, "end", reports=("trial", "second"))


# ---- logging in ------------------------------------------------------------------------------------------------------


def test_where_users_log_in_nobody_passes_without():
    rules = access(login=True)
    assert ask(rules) == Login()
    assert ask(rules, user="anna") == Allow()


def test_what_is_denied_to_all_is_denied_before_anybody_logs_in():
    rules = access(("no", 'domain = "example.org"', "deny"), login=True)
    assert ask(rules).rule == "no"
    assert ask(rules, "other.test") == Login()


def test_a_rule_about_users_wants_to_know_who_it_is():
    rules = access(("theirs", 'user = "anna"', "deny"), ("devices", 'domain = "example.org"', "allow"), login=True)
    assert ask(rules) == Login("theirs")
    assert ask(rules, user="ben") == Allow("devices")
    assert ask(rules, user="anna") == Deny(Why.RULE, "theirs")


def test_only_a_rule_that_says_so_lets_devices_in_that_cannot_log_in():
    rules = access(("printers", 'client = "192.168.8.9"', "allow", "login = false"), ("rest", "", "allow"), login=True)
    assert ask(rules, client="192.168.8.9") == Allow("printers")
    assert ask(rules) == Login("rest")


def test_rules_about_users_match_nobody_where_nobody_can_log_in():
    assert ask(access(("theirs", 'user = "anna"', "deny"))) == Allow()


# ---- addresses that are not known yet --------------------------------------------------------------------------------


def test_a_name_is_judged_again_by_the_address_that_it_turns_out_to_have():
    rules = access(("inside", 'destination = "10.0.0.0/8"', "deny"), ("rest", "", "allow"))
    verdict = ask(rules)
    assert isinstance(verdict, ByAddress)
    assert verdict.judge("10.9.9.9") == Deny(Why.RULE, "inside")
    assert verdict.judge("::ffff:10.9.9.9") == Deny(Why.RULE, "inside")
    assert verdict.judge("8.8.8.8") == Allow("rest")
    assert verdict == ask(rules, "elsewhere.test")  # by value: connections may be shared


def test_rules_before_and_behind_one_about_addresses_keep_their_order():
    rules = access(
        ("before", "", "report"),
        ("inside", 'destination = "10.0.0.0/8"', "deny"),
        ("trial", 'destination = "10.0.0.0/7"', "report"),
        ("behind", "", "report"),
        ("end", "", "deny"),
    )
    verdict = ask(rules)
    assert verdict.judge("10.0.0.1") == Deny(Why.RULE, "inside", reports=("before",))
    assert verdict.judge("11.0.0.1") == Deny(Why.RULE, "end", reports=("before", "trial", "behind"))
    assert verdict.judge("12.0.0.1") == Deny(Why.RULE, "end", reports=("before", "behind"))


def test_an_address_in_the_request_is_judged_at_once():
    rules = access(("inside", 'destination = "10.0.0.0/8"', "deny"))
    assert ask(rules, "10.0.0.1") == Deny(Why.RULE, "inside")
    assert ask(rules, "8.8.8.8") == Allow()


def test_a_decision_that_falls_before_the_address_counts_does_not_wait_for_it():
    rules = access(("no", 'domain = "example.org"', "deny"), ("inside", 'destination = "10.0.0.0/8"', "deny"))
    assert ask(rules) == Deny(Why.RULE, "no", "", "example.org")


# ---- for whom and how long -------------------------------------------------------------------------------------------


def test_clients_that_no_rule_tells_apart_are_of_one_class():
    rules = access(("few", 'client = "192.168.8.0/28"', "deny"))
    assert rules.class_of("192.168.8.50") == rules.class_of("192.168.8.60")
    assert rules.class_of("192.168.8.50") != rules.class_of("192.168.8.1")
    assert rules.class_of("192.168.8.50") != rules.class_of("10.0.0.1")


def test_decisions_hold_for_good_where_no_rule_looks_at_the_time():
    assert access(("no", "port = 1", "deny")).minutes_left(0) is None
    assert access(("always", 'time = "mon-sun"', "deny")).minutes_left(0) is None


@given(minute=st.integers(0, WEEK - 1))
def test_no_decision_changes_before_it_is_said_to(minute):
    rules = access(("a", 'time = ["mon-fri 08:05-15:37", "sat 23:58-00:03"]', "deny"))
    left = rules.minutes_left(minute)
    assert 1 <= left <= 15
    first = ask(rules, minute=minute)
    assert all(ask(rules, minute=(minute + more) % WEEK) == first for more in range(left))


def test_the_week_begins_on_monday():
    assert minute_of_week(time.struct_time((2024, 1, 1, 0, 0, 59, 0, 1, 0))) == 0
    assert minute_of_week(time.struct_time((2024, 1, 7, 23, 59, 0, 6, 7, 0))) == WEEK - 1


def test_many_clients_do_not_fill_the_memory():
    rules = access()
    for number in range(5000):
        ask(rules, client=f"10.{number >> 8}.{number & 255}.1")
    assert len(rules._known) <= 4096


# ---- the same, told by a plain reading of the rules ------------------------------------------------------------------

NAMES = ["example.org", "www.example.org", "games.test", "x.games.test", "10.0.0.1", "192.0.2.1"]
CONDITIONS = [
    "",
    'client = "192.168.8.0/28"',
    'user = "anna"',
    'domain = "example.org"',
    'domain = "list:games"',
    'destination = "10.0.0.0/8"',
    "port = 443",
    'method = "CONNECT"',
    'time = "mon 08:00-12:00"',
]


@given(
    chosen=st.lists(st.tuples(st.sampled_from(CONDITIONS), st.sampled_from(["allow", "deny", "report"])), max_size=6),
    asked=st.tuples(
        st.sampled_from(["192.168.8.1", "192.168.8.99"]),
        st.sampled_from(["anna", "ben"]),
        st.sampled_from(NAMES),
        st.sampled_from([80, 443]),
        st.sampled_from(["GET", "CONNECT"]),
        st.sampled_from([9 * 60, 13 * 60]),
    ),
)
def test_bits_decide_as_reading_the_rules_one_by_one(chosen, asked):
    rules = [(f"r{at}", match, action) for at, (match, action) in enumerate(chosen)]
    verdict = access(*rules, lists={"games": Listed("games.test")}, login=True).decide(Question(*asked))
    if isinstance(verdict, ByAddress):
        verdict = verdict.judge("10.7.7.7")
    client, user, host, port, method, minute = asked
    address = host if host[0].isdigit() else "10.7.7.7"
    holds = {
        "": True,
        CONDITIONS[1]: client == "192.168.8.1",
        CONDITIONS[2]: user == "anna",
        CONDITIONS[3]: host.endswith("example.org"),
        CONDITIONS[4]: host.endswith("games.test"),
        CONDITIONS[5]: address.startswith("10."),
        CONDITIONS[6]: port == 443,
        CONDITIONS[7]: method == "CONNECT",
        CONDITIONS[8]: minute < 12 * 60,
    }
    matching = [(name, action) for name, match, action in rules if holds[match]]
    reports = []
    expected = (Allow, "")
    for name, action in matching:
        if action == "report":
            reports.append(name)
        else:
            expected = (Allow if action == "allow" else Deny, name)
            break
    assert (type(verdict), verdict.rule) == expected
    assert list(verdict.reports) == reports


# ---- words -----------------------------------------------------------------------------------------------------------


def test_the_page_says_which_rule_and_which_list():
    assert explain(Deny(Why.RULE, "lunch", "games", "games.test"), "x.games.test") == (
        "The rule `lunch` of this proxy denies it. x.games.test is in the list `games`, as games.test."
    )
    assert explain(Deny(Why.RULE, "no", "", "example.org"), "a.example.org").endswith(
        "It names example.org with all below."
    )
    assert explain(Deny(Why.RULE, "no"), "a.test") == "The rule `no` of this proxy denies it."
    assert "your address" in explain(Deny(Why.CLIENT), "a.test")
    assert explain(Deny(Why.DEFAULT), "a.test") == "No rule of this proxy allows a.test."
