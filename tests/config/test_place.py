"""Where keys and values stand, in every form that TOML has for them."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.place import Places

TEXT = b"""\
# c
a.b = 1
[[site]]
listen = [":80", # one
  ":81"]
upstream = [{ address = "x" }, { "address" = "y" }]
[site.health]
path = "/"
[[site]]
name = "\xc3\xbc"
[site.timeouts]
idle.x = "1s"
"""


@pytest.mark.parametrize(
    ("path", "at_key", "place"),
    [
        (("a", "b"), False, (2, 7)),
        (("a", "b"), True, (2, 3)),
        (("site", 0, "listen"), False, (4, 10)),
        (("site", 0, "listen", 1), False, (5, 3)),
        (("site", 0, "upstream", 0, "address"), False, (6, 25)),
        (("site", 0, "upstream", 1, "address"), True, (6, 34)),
        (("site", 0, "health", "path"), False, (8, 8)),
        (("site", 1), True, (9, 3)),
        (("site", 1, "missing"), True, (9, 3)),
        (("site", 1, "timeouts", "idle", "x"), False, (12, 10)),
        (("nothing",), False, (1, 1)),
    ],
)
def test_each_thing_is_found_where_it_stands(path, at_key, place):
    assert Places(TEXT).find(path, at_key=at_key) == place


def test_columns_count_characters():
    assert Places('a = ["üü", "x"]'.encode()).find(("a", 1)) == (1, 12)


def test_one_value_in_place_of_a_list_has_the_place_of_the_value():
    assert Places(b'listen = ":80"').find(("listen", 0)) == (1, 10)


@given(st.binary(max_size=200))
def test_any_bytes_give_places_inside_the_text(text):
    line, col = Places(text).find(("a", 0, "b"))
    assert 1 <= line <= text.count(b"\n") + 1
    assert col >= 1


@given(
    st.dictionaries(st.sampled_from("abc"), st.lists(st.sampled_from(["1", '"é"', "{x=2}"]), max_size=3), max_size=3)
)
def test_every_value_that_tomllib_reads_has_a_place(tables):
    text = "\n".join(f"{key} = [{', '.join(values)}]" for key, values in tables.items())
    lines = text.split("\n")
    places = Places(text.encode())
    for key, values in tomllib.loads(text).items():
        for i in range(len(values)):
            line, col = places.find((key, i))
            assert lines[line - 1][col - 1 :].startswith(tables[key][i])


def test_a_table_in_place_of_a_list_of_tables_is_found_inside():
    places = Places(b'[site]\ntls = { cert = "c", key = "k" }\n')
    assert places.find(("site", 0, "tls", 0, "key")) == (2, 27)
    assert places.find(("site", 0, "tls", 0, "missing"), at_key=True) == (2, 1)
