"""Tables of the file to tables of the schema: shorthands, types, and one problem for each slip."""

from ipaddress import ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.convert import convert
from config.faults import spell_path
from config.schema import AccessLog, Certificate, Config, Redirect, Upstream
from config.units import Listen


def problems(data):
    return [(spell_path(one.path), one.what, one.hint) for one in convert(data).problems]


def site(**options):
    return {"site": [{"listen": ":80", "upstream": "a:1", **options}]}


def test_nothing_is_the_default_configuration():
    assert convert({}).config == Config()


def test_one_value_will_do_where_a_list_is_wanted():
    made = convert(
        {
            "site": {
                "listen": ":80",
                "upstream": ["a:1", {"address": "b:2", "weight": 2}],
                "tls": {"cert": "c", "key": "k"},
                "trusted": "10.0.0.2",
            },
            "rule": {"name": "r", "match": {"path": "/x"}, "redirect": "https://{host}{path}"},
            "log": {"access": {"file": "a.log"}},
        }
    )
    assert made.problems == []
    only = made.config.site[0]
    assert only.listen == (Listen("", 80),)
    assert only.upstream == (Upstream(address="a:1"), Upstream(address="b:2", weight=2))
    assert only.tls == (Certificate(cert="c", key="k"),)
    assert only.trusted == (ip_network("10.0.0.2"),)
    assert made.config.rule[0].redirect == Redirect(to="https://{host}{path}")
    assert made.config.log.access == (AccessLog(file="a.log"),)


def test_several_access_logs_are_a_list():
    made = convert({"log": {"access": ["a.log", {"file": "-", "format": "json"}]}})
    assert made.config.log.access == (AccessLog(file="a.log"), AccessLog(file="-", format="json"))


@pytest.mark.parametrize(
    ("data", "where", "what"),
    [
        (site(retry="yes"), "site[0].retry", 'expected true or false, not "yes"'),
        (site(retry=1), "site[0].retry", "expected true or false, not 1"),
        ({"process": {"workers": True}}, "process.workers", "expected a whole number from 1 to 256, not true"),
        ({"process": {"workers": 0}}, "process.workers", "expected a whole number from 1 to 256, not 0"),
        (
            {"process": {"workers": 10**30}},
            "process.workers",
            "expected a whole number from 1 to 256, not a huge number",
        ),
        (site(name=[]), "site[0].name", "expected a text in quotes, not a list"),
        (site(eject=5), "site[0].eject", "expected a table, not 5"),
        (site(upstream=[5]), "site[0].upstream[0]", "expected a text (the address) or a table, not 5"),
        ({"cache": {"max_object": "0"}}, "cache.max_object", "must be more than 0"),
        ({"cache": []}, "cache", "expected a table, not a list"),
        (site(error_pages={"200": "a"}), "site[0].error_pages.200", '"200" is not accepted'),
        (site(error_pages=["a"]), "site[0].error_pages", "expected a table, not a list"),
        (
            {"rule": [{"name": "r", "redirect": {"to": "/", "status": 304}}]},
            "rule[0].redirect.status",
            "expected one of",
        ),
        ({"rule": [{}]}, "rule[0]", "`name` is missing"),
    ],
)
def test_a_value_of_the_wrong_type_is_told_what_is_wanted(data, where, what):
    ((found_where, found_what, _),) = problems(data)
    assert found_where == where
    assert found_what.startswith(what)


def test_unknown_keys_are_told_the_nearest_or_their_home():
    assert problems(site(lisen=1)) == [("site[0].lisen", "unknown key", "did you mean `listen`?")]
    assert problems({"cache": {"keepalive": "1s"}}) == [("cache.keepalive", "unknown key", "it belongs in [limits]")]
    ((_, _, hint),) = problems({"log": {"zzz": 1}})
    assert hint == "known here: access, level"


def test_a_wrong_choice_is_told_the_nearest():
    assert problems(site(preset="tomcta"))[0][2] == "did you mean `tomcat`?"


def test_a_number_without_unit_is_told_how_units_are_written():
    ((_, what, hint),) = problems({"limits": {"keepalive": 60}})
    assert what == "expected a text with a unit, not 60"
    assert hint == "such as `30s`"


def test_zero_needs_no_unit():
    made = convert({"cache": {"memory": 0}, "process": {"drain": 0}})
    assert made.config.cache.memory == 0
    assert made.config.process.drain == 0


def test_sound_tables_stand_beside_faulty_ones():
    made = convert({"site": [{"listen": 5}, {"listen": ":80"}]})
    assert made.config is None
    assert ("site", 1) in made.tables
    assert ("site", 0) not in made.tables
    assert made.is_sound("site", 1)
    assert not made.is_sound("site")


def test_files_and_secrets_are_collected_with_their_places():
    made = convert(site(tls={"cert": "c", "key": "k"}, error_pages={"503": "e"}))
    marked = {(kind, text) for kind, _, text in made.leaves if kind in {"file", "secret"}}
    assert marked == {("file", "c"), ("secret", "k"), ("file", "e")}


KEYS = st.sampled_from(
    ["site", "rule", "cache", "listen", "upstream", "match", "tls", "health", "error_pages", "x", ""]
)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # of data, on a busy machine
@given(st.dictionaries(KEYS, JUNK, max_size=5))
def test_any_tables_give_a_configuration_or_problems(data):
    made = convert(data)
    assert (made.config is None) == bool(made.problems)
