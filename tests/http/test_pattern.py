"""Packed heads come back line by line, whatever is in them, and cost little."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.http.message import Fields, ResponseHead
from proxy.http.pattern import MOST_NAMES, MOST_PATTERNS, MOST_VALUES, Patterns

text = st.text("ab1,= ", max_size=4).map(str.encode)
names = st.sampled_from([b"ETag", b"etag", b"Date", b"X-A", b"x-a", b"Server", b"Vary"])
heads = st.builds(
    ResponseHead,
    st.sampled_from([200, 206, 404]),
    st.sampled_from([b"OK", b""]),
    st.lists(st.tuples(names, text), max_size=8).map(lambda lines: Fields(tuple(lines))),
)


@given(st.lists(heads, min_size=1, max_size=10))
def test_what_is_unpacked_equals_what_was_packed(several):
    patterns = Patterns()
    for head in several:
        packed = patterns.pack(head)
        assert packed is not None
        pattern, values = packed
        same = pattern.unpack(values)
        assert (same, same.version) == (head, head.version)
        for name in {name.lower() for name, _ in head.fields.lines}:
            assert pattern.last(values, name) == head.fields.all(name)[-1]
        assert pattern.last(values, b"absent") is None


def head(*lines):
    return ResponseHead(200, b"OK", Fields(lines))


def test_heads_that_differ_in_their_own_values_share_a_pattern():
    patterns = Patterns()
    first = patterns.pack(head((b"Server", b"x"), (b"ETag", b"1")))
    second = patterns.pack(head((b"Server", b"x"), (b"ETag", b"2")))
    assert first[0] is second[0]
    assert patterns.bytes == first[0].weight > 0
    assert (first[1], second[1]) == (b"1", b"2")


def test_a_name_with_many_values_is_soon_each_heads_own():
    patterns = Patterns()
    for number in range(10 * MOST_VALUES):
        _, values = patterns.pack(head((b"X-Request", b"%d" % number), (b"Server", b"x")))
    assert values == b"%d" % (number)
    assert len(patterns) == MOST_VALUES + 1


def test_what_is_remembered_is_bounded_whatever_comes():
    patterns = Patterns()
    for number in range(3 * MOST_PATTERNS):
        patterns.pack(head((b"N%d" % number, b"v")))
    assert len(patterns) <= MOST_PATTERNS
    assert len(patterns._common) <= MOST_NAMES


def test_a_value_with_a_line_feed_is_not_packed():
    assert Patterns().pack(head((b"ETag", b"a\nb"))) is None
