"""Header fields as values: what is read, and what is junk.

The letters in docstrings name the caching rules that a test is about.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http import fields
from proxy.http.fields import CacheControl, parse_cache_control, parse_date

BIG = fields.DELTA_MAX
NOW = 1_800_000_000.0


@pytest.mark.rfc("9111", "5.2")
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([b"max-age=1, public", b" no-cache"], CacheControl(max_age=1, public=True, no_cache=True)),  # P1
        ([b",, max-age=1\t,"], CacheControl(max_age=1)),
        ([b"MAX-Age=7, No-Store"], CacheControl(max_age=7, no_store=True)),  # P2
        ([b'max-age="3600"'], CacheControl(max_age=3600)),  # P3
        ([b'max-age="3\\600"'], CacheControl(max_age=3600)),
        ([b'ext="max-age=3600", max-age=1'], CacheControl(max_age=1)),  # P4
        ([b'max-age=1, ext="max-age=3600"'], CacheControl(max_age=1)),
        ([b'ext="a\\", max-age=3600", max-age=1'], CacheControl(max_age=1)),
        ([b"foo, max-age=1, bar=2"], CacheControl(max_age=1)),  # P5
        ([b"max-age=003600"], CacheControl(max_age=3600)),  # P6
        ([b"max-age=2147483647"], CacheControl(max_age=2147483647)),
        ([b"max-age=2147483649"], CacheControl(max_age=BIG)),
        ([b"max-age=" + b"9" * 5000], CacheControl(max_age=BIG)),
        ([b"max-age=-1"], CacheControl(max_age=0)),  # P7
        ([b"max-age=1.5"], CacheControl(max_age=0)),
        ([b"max-age=a10"], CacheControl(max_age=0)),
        ([b"max-age=10a"], CacheControl(max_age=0)),
        ([b"max-age='10'"], CacheControl(max_age=0)),
        ([b"max-age="], CacheControl(max_age=0)),
        ([b"max-age"], CacheControl(max_age=0)),
        ([b"max-age=1_0"], CacheControl(max_age=0)),
        ([b"s-maxage=+5"], CacheControl(s_maxage=0)),
        ([b"max-age =10"], CacheControl(max_age=0)),  # P8
        ([b"max-age= 10"], CacheControl(max_age=0)),
        ([b"max-age=10, max-age=5"], CacheControl(max_age=5)),  # P9
        ([b"max-age=5", b"max-age=10"], CacheControl(max_age=5)),
        ([b"max-age=5, max-age=x"], CacheControl(max_age=0)),
        ([b'no-store=yes, must-revalidate="x"'], CacheControl(no_store=True, must_revalidate=True)),  # P11
        ([b'max-age=5, x="abc'], CacheControl(max_age=5, malformed=True)),
        ([b'x="abc, max-age=5'], CacheControl(malformed=True)),
        ([b'x="a\\"'], CacheControl(malformed=True)),
        ([b"x=\xff\xfe, max-age=5"], CacheControl(max_age=5)),
        ([b'no-cache="A, b"'], CacheControl(no_cache_fields=frozenset({b"a", b"b"}))),
        ([b"private=Set-Cookie"], CacheControl(private_fields=frozenset({b"set-cookie"}))),
        ([b'no-cache=""'], CacheControl(no_cache=True)),
        ([b'private="a b"'], CacheControl(private=True)),
        ([b'no-cache = "a"'], CacheControl(no_cache=True)),
        ([b"max-stale"], CacheControl(max_stale=BIG)),
        ([b"max-stale=x"], CacheControl(max_stale=0)),
        ([b"min-fresh=x"], CacheControl()),
        ([b"only-if-cached, min-fresh=2"], CacheControl(only_if_cached=True, min_fresh=2)),
        ([b"stale-if-error=1, stale-while-revalidate=2"], CacheControl(stale_if_error=1, stale_while_revalidate=2)),
        ([b"must-understand, immutable, no-transform, proxy-revalidate"],
         CacheControl(must_understand=True, immutable=True, no_transform=True, proxy_revalidate=True)),
        ([], CacheControl()),
    ],
)  # fmt: skip
def test_cache_control_says(values, said):
    """P1 to P11."""
    assert parse_cache_control(values) == said


@given(st.lists(st.binary(max_size=40) | st.text("max-ge=\"0, \\'19noc").map(str.encode), max_size=4))
def test_no_parser_ever_raises(values):
    """P11: junk is a value."""
    joined = b", ".join(values)
    parse_cache_control(values)
    fields.parse_targeted(values)
    fields.parse_surrogate(values)
    fields.parse_age(values)
    fields.parse_vary(values)
    fields.parse_etags(values)
    fields.parse_weighted(joined)
    parse_date(joined, NOW)
    fields.parse_range(joined)
    fields.parse_range(b"bytes=" + joined)
    fields.parse_content_range(joined)


@given(
    st.lists(st.sampled_from([b"max-age=5", b'a="x, y"', b"no-store", b'b="\\""', b"", b"c"]), max_size=6), st.data()
)
def test_lines_are_one_list_wherever_they_are_cut(members, data):
    """P1: the cut between lines means a comma and nothing else."""
    at = data.draw(st.integers(0, len(members)))
    assert parse_cache_control([b", ".join(members[:at]), b",".join(members[at:])]) == parse_cache_control(members)


def test_a_list_is_split_in_linear_time_and_outside_quotes_a_backslash_escapes_nothing():
    assert fields.split_list(b'a\\", b, c",d') == [b'a\\", b, c"', b"d"]
    assert fields.split_list(b'"' * 20001 + b"," * 20001) == [b'"' * 20001 + b"," * 20001]


# ---- targeted fields -------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9213", "2.1")
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"max-age=10", CacheControl(max_age=10)),
        (b"max-age=10;ext=1, x=(a b)", CacheControl(max_age=10)),
        (b"max-age=1, max-age=10", CacheControl(max_age=10)),
        (b"no-store", CacheControl(no_store=True)),
        (b"no-store=?0", CacheControl(no_store=False)),
        (b'no-cache="a, B"', CacheControl(no_cache_fields=frozenset({b"a", b"b"}))),
        (b"private", CacheControl(private=True)),
        (b"max-age=-5", CacheControl(max_age=0)),
        (b"unknown", CacheControl()),
        (b"", None),
        (b'max-age="10"', None),
        (b"max-age=1.5", None),
        (b"max-age", None),
        (b"max-age=@10", None),
        (b"no-store=1", None),
        (b"private=a", None),
        (b"Max-Age=10", None),
        (b"max-age = 10", None),
        (b"max-age=10,", None),
        (b"max-age=10 no-store", None),
        (b"max-age=10, &", None),
    ],
)
def test_a_targeted_field_is_a_dictionary_or_nothing(value, said):
    """T2, T3."""
    assert fields.parse_targeted([value]) == said


def test_surrogate_control_gives_a_lifetime_and_a_stale_allowance():
    """T5."""
    assert fields.parse_surrogate([b'max-age=10+5, content="ESI/1.0"']) == CacheControl(
        max_age=10, stale_while_revalidate=5, stale_if_error=5
    )
    assert fields.parse_surrogate([b"no-store"]) == CacheControl(no_store=True)
    assert fields.parse_surrogate([b"max-age=x"]) == CacheControl(max_age=0)
    assert fields.parse_surrogate([b'content="ESI/1.0"']) is None


# ---- dates -----------------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9110", "5.6.7")
@pytest.mark.parametrize(
    ("text", "moment"),
    [
        (b"Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
        (b"Sun Nov  6 08:49:37 1994", 784111777),
        (b"sUn, 06 nOV 1994 08:49:37 gmt", 784111777),  # RFC 9111 §4.2: any case
        (b"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800),
        (b"Thu, 01 Jan 1970 00:00:00 GMT", 0),
        (b"Sun, 06 Nov 1994 08:49:37 UTC", None),
        (b"Sun, 06 Nov 1994 08:49:37 +0000", None),
        (b"Sun, 06 Nov 1994 08:49:37", None),
        (b"Sun, 6 Nov 1994 08:49:37 GMT", None),
        (b"Sun, 06 Nov 94 08:49:37 GMT", None),
        (b"Sun, 06-Nov-1994 08:49:37 GMT", None),
        (b"Sun, 06 Nov 1994 8:49:37 GMT", None),
        (b"Sun 06 Nov 1994 08:49:37 GMT", None),
        (b"Sun,  06 Nov 1994 08:49:37 GMT", None),
        (b"Sun, 31 Feb 1994 08:49:37 GMT", None),
        (b"Sun, 06 Nov 1994 24:00:00 GMT", None),
        (b"Sun, 06 Nov 0000 08:49:37 GMT", None),
        (b"Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT", None),
        (b"0", None),
        (b"", None),
        (None, None),
    ],
)
def test_a_date_is_read_in_three_forms_and_no_other(text, moment):
    """F6."""
    assert parse_date(text, NOW) == moment


def test_a_two_digit_year_lies_at_most_fifty_years_ahead():
    def year(text):
        return fields.format_date(parse_date(text, NOW))[12:16]  # NOW is in 2027

    assert year(b"Friday, 06-Nov-77 08:49:37 GMT") == b"2077"
    assert year(b"Friday, 06-Nov-78 08:49:37 GMT") == b"1978"
    assert year(b"Friday, 06-Nov-27 08:49:37 GMT") == b"2027"


@given(st.integers(0, 253402300799))
def test_a_formatted_date_reads_back(moment):
    assert parse_date(fields.format_date(moment), NOW) == moment


# ---- the others ------------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9111", "5.1")
@pytest.mark.parametrize(
    ("values", "age"),
    [
        ([b"7200, 0"], 7200),  # A4
        ([b"0, 7200"], 0),
        ([b"3600", b"3600"], 3600),
        ([b"abc"], None),  # A5
        ([b"-1"], None),
        ([b"7200.0"], None),
        ([b"7200;x=1"], None),
        ([b"2147483647"], 2147483647),  # A6
        ([b"2147483648"], BIG),
        ([b"99999999999"], BIG),
        ([], None),
    ],
)
def test_age_is_its_first_member(values, age):
    """A4 to A6."""
    assert fields.parse_age(values) == age


@pytest.mark.rfc("9110", "12.5.5")
def test_vary_is_a_set_of_names_or_matches_nothing():
    """K5."""
    assert fields.parse_vary([b"Foo, bar", b",BAR ,"]) == (b"bar", b"foo")
    assert fields.parse_vary([b""]) == ()
    assert fields.parse_vary([b"*"]) is None
    assert fields.parse_vary([b"foo, *"]) is None
    assert fields.parse_vary([b"foo", b"*, bar"]) is None
    assert fields.parse_vary([b"a b"]) is None
    assert fields.parse_vary([b",".join(b"x%d" % n for n in range(200))]) is None


@pytest.mark.parametrize("name", [b"X-Forwarded-For", b"forwarded"])
def test_an_answer_that_varies_by_the_clients_address_as_we_told_it_matches_no_request(name):
    assert fields.parse_vary([b"Accept, " + name]) is None


@pytest.mark.rfc("9110", "8.8.3")
def test_entity_tags_are_kept_byte_for_byte():
    """I5."""
    assert fields.parse_etags([b'"a,b" , W/"c"', b'd, w/"e",, "\\"']) == (b'"a,b"', b'W/"c"', b"d", b'w/"e"', b'"\\"')
    assert fields.parse_etags([b"*"]) == (b"*",)
    assert fields.opaque(b'W/"a"') == fields.opaque(b'"a"') == b'"a"'
    assert fields.opaque(b'w/"a"') == b'w/"a"'
    assert fields.opaque(b'W"a"') == b'W"a"'
    assert fields.is_strong(b'"a"')
    assert not any(map(fields.is_strong, (b'W/"a"', b"a", b'"a', b'"a"b"', None)))


@pytest.mark.rfc("9110", "14.1.2")
@pytest.mark.parametrize(
    ("value", "ranges"),
    [
        (b"bytes=0-4", ((0, 4),)),
        (b"Bytes=5-", ((5, None),)),
        (b"bytes=-3", ((None, 3),)),
        (b"bytes=0-0, ,7-8 ,-1", ((0, 0), (7, 8), (None, 1))),
        (b"bytes=0-" + b"9" * 400, ((0, fields.POSITION_MAX),)),
        (b"bytes=4-0", None),
        (b"bytes=a-b", None),
        (b"bytes=-", None),
        (b"bytes=", None),
        (b"bytes = 0-4", None),
        (b"bytes=+1-4", None),
        (b"bytes=1-4x", None),
        (b"pages=1-4", None),
        (b"0-4", None),
        (None, None),
    ],
)
def test_a_range_is_read_or_ignored(value, ranges):
    """R1, R2."""
    assert fields.parse_range(value) == ranges


@pytest.mark.rfc("9110", "14.4")
def test_content_range_must_make_sense():
    """R6."""
    assert fields.parse_content_range(b"bytes 0-4/10") == fields.ContentRange(0, 4, 10)
    assert fields.parse_content_range(b"bytes 3-3/*") == fields.ContentRange(3, 3, None)
    for bad in (b"bytes 4-0/10", b"bytes 0-10/10", b"bytes */10", b"items 0-4/10", b"bytes 0-4", b"bytes=0-4/10", None):
        assert fields.parse_content_range(bad) is None


@pytest.mark.rfc("9110", "12.4.2")
def test_weights_are_read_in_thousandths():
    assert fields.parse_weighted(b"DA, en-gb;q=0.8, en ; Q=0.70") == [(b"da", 1000), (b"en-gb", 800), (b"en", 700)]
    assert fields.parse_weighted(b"text/HTML;Level=A;q=0") == [(b"text/html;level=A", 0)]
    assert [fields.parse_weight(text) for text in (b"1.000", b"0.", b"1.1", b"0.1234", b".5", b"", b"2")] == [
        1000, 0, None, None, None, None, None,
    ]  # fmt: skip
