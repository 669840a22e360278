"""Header fields: order, spelling and repetition are kept, look-ups are by lower-case name (RFC 9110 §5)."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.http.message import Fields, RequestHead, ResponseHead

names = st.sampled_from([b"Accept", b"ACCEPT", b"accept", b"Vary", b"X-A"])
lines = st.lists(st.tuples(names, st.binary(max_size=8)), max_size=8)


@given(lines)
def test_lines_are_kept_as_they_came(given_lines):
    assert Fields(given_lines).lines == tuple(given_lines)


@given(lines)
def test_a_name_finds_all_its_lines_whatever_their_spelling(given_lines):
    fields = Fields(given_lines)
    for name in (b"accept", b"vary", b"x-a", b"missing"):
        values = [value for spelled, value in given_lines if spelled.lower() == name]
        assert fields.all(name) == values
        assert fields.get(name) == (b", ".join(values) if values else None)
        assert (name in fields) is bool(values)
    assert set(fields.names()) == {name.lower() for name, _ in given_lines}


@given(lines, st.sets(st.sampled_from([b"accept", b"vary"])))
def test_without_and_plus_leave_the_rest_in_order(given_lines, gone):
    fields = Fields(given_lines)
    fields.get(b"accept")  # the index is made; what comes of it must not be the old one
    less = fields.without(gone)
    assert less.lines == tuple(line for line in given_lines if line[0].lower() not in gone)
    more = less.plus((b"New", b"1"))
    assert more.lines == (*less.lines, (b"New", b"1"))
    assert more.get(b"new") == b"1"
    assert fields.lines == tuple(given_lines)


@given(lines, lines)
def test_fields_are_equal_by_their_lines(one, other):
    assert (Fields(one) == Fields(other)) is (one == other)
    assert hash(Fields(one)) == hash(Fields(list(one)))


def test_a_request_has_its_target_in_origin_form():
    def target(path, query):
        return RequestHead(b"GET", b"http", b"a", path, query, (1, 1), Fields()).target

    assert (target(b"/a", None), target(b"/a", b""), target(b"/a", b"x=1")) == (b"/a", b"/a?", b"/a?x=1")


def test_what_was_worked_out_from_a_head_is_no_part_of_its_value():
    one, other = ResponseHead(200, b"OK", Fields()), ResponseHead(200, b"OK", Fields())
    one.derived = {"wire": b"..."}
    assert one == other
    assert hash(one) == hash(other)
    assert one.with_fields(Fields([(b"A", b"1")])).derived is None
