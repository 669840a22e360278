"""Lists of names: every dress a name comes in, junk, pieces of any size, and what lists cost."""

import random
import string
import sys
import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.modes.access import parents_of
from proxy.modes.domains import LONGEST_LINE, PIECE, Junk, Reader


def read(data, piece=1 << 20):
    reader = Reader()
    for at in range(0, len(data), piece):
        reader.feed(data[at : at + piece])
    return reader.end()


def names_of(data, piece=1 << 20):
    return read(data, piece)._names


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (b"example.org", {"example.org"}),
        (b"  Example.ORG. \r", {"example.org"}),
        (b"*.example.org", {"example.org"}),
        (b".example.org", {"example.org"}),
        (b"0.0.0.0 ads.example.org", {"ads.example.org"}),
        (b"127.0.0.1\ta.test b.test # both", {"a.test", "b.test"}),
        (b"::1 localhost ip6-localhost ip6-loopback", set()),
        (b":: tracker.test", {"tracker.test"}),
        (b"0.0.0.0 0.0.0.0", set()),
        (b"192.0.2.1", {"192.0.2.1"}),
        (b"2001:DB8::0:1", {"2001:db8::1"}),
        ("bücher.example".encode(), {"xn--bcher-kva.example"}),
        ("0.0.0.0 *.straße.test".encode(), {"strasse.test"}),
        (b"a_b.example.org", {"a_b.example.org"}),
        (b"xn--bcher-kva.example", {"xn--bcher-kva.example"}),
        (b"# comment", set()),
        (b"", set()),
        (b"example.org # why", {"example.org"}),
        (b"example.org#why", {"example.org"}),
    ],
)
def test_a_name_is_understood_in_each_dress(line, names):
    found = read(line)
    assert found._names == names
    assert found.junk == Junk()


@pytest.mark.parametrize(
    "line",
    [
        b"||example.org^",
        b"http://example.org/",
        b"example.org/path",
        b"two words",
        b"-bad.example.org",
        b"a..b",
        b"*",
        b".",
        b"a" * 64 + b".org",
        b"a." * 130 + b"org",
        b"1.2.3",
        b"1.2.3.4.5",
        b"name.123",
        b"fe80::1%eth0",
        b"\xff\xfe",
        b"x" * (LONGEST_LINE + 1),
        "ä".encode() * 80,
    ],
)
def test_junk_is_counted_and_skipped(line):
    found = read(b"good.test\n" + line + b"\nfine.test\n", 1000)
    assert found._names == {"good.test", "fine.test"}
    assert found.junk == Junk(1, (2,))


def test_a_line_with_junk_beside_names_gives_the_names_and_counts():
    found = read(b"0.0.0.0 good.test ba..d\n")
    assert found._names == {"good.test"}
    assert found.junk.count == 1


def test_junk_is_told_by_line():
    assert read(b"a b\n").junk.describe() == "1 line is no name (line 1)"
    assert read(b"a b\n" * 9).junk.describe() == "9 lines are no names (line 1, 2, 3, …)"
    assert Junk().describe() == ""


@given(data=st.binary(max_size=300), piece=st.integers(1, 50))
def test_no_bytes_raise_and_pieces_do_not_matter(data, piece):
    whole, cut = read(data), read(data, piece)
    assert whole._names == cut._names
    assert whole.junk == cut.junk


@given(st.lists(st.sampled_from([b"0.0.0.0 ", b"a.test", b"b.c.test", b"*.", b"#", b" ", b"\n", b"\xc3\xa4", b"."])))
def test_what_is_in_a_list_is_a_name_or_an_address(parts):
    for name in names_of(b"".join(parts)):
        assert name == name.lower().strip(". ")
        assert name.isascii()


def test_names_above_are_looked_for_from_the_nearest():
    found = read(b"example.org\nb.example.org\nco.uk\n192.0.2.1\n")
    assert found.find(parents_of("a.b.example.org")) == "b.example.org"
    assert found.find(parents_of("a.example.org")) == "example.org"
    assert found.find(parents_of("notexample.org")) is None
    assert found.find(parents_of("shop.co.uk")) == "co.uk"
    assert found.find(parents_of("192.0.2.1")) == "192.0.2.1"
    assert len(found) == 4


def test_a_list_is_let_go_of_in_steps():
    found = read(b"".join(b"n%d.test\n" % number for number in range(10_000)))
    steps = 1
    while found.dissolve():
        steps += 1
    assert steps == 3
    assert len(found) == 0


@pytest.fixture(scope="module")
def big():
    """Names as public lists have them: (bytes of a hosts file, some of its names)."""
    dice = random.Random(7)
    made = set()
    while len(made) < 300_000:
        label = "".join(dice.choices(string.ascii_lowercase + string.digits, k=dice.randint(4, 16)))
        made.add(f"x{label}.{dice.choice(['com', 'net', 'co.uk', 'ads.example.org'])}")
    names = sorted(made)
    return "".join(f"0.0.0.0 {name}\n" for name in names).encode(), names


@pytest.mark.slow
def test_300_000_names_stay_within_64_mib_and_are_found_in_microseconds(big):
    data, names = big
    reader = Reader()
    for at in range(0, len(data), PIECE):
        reader.feed(data[at : at + PIECE])
    found = reader.end()
    size = sys.getsizeof(found._names) + sum(map(sys.getsizeof, found._names))
    assert len(found) == 300_000
    assert found.junk == Junk()
    assert size < 48 * 2**20  # about 36; the budget of 64 is of the process's memory, and leaves room for the allocator
    asked = ["www.deep.below." + name for name in names[:50]] + [f"www.{n}.example.test" for n in range(50)]
    times = sorted(timeit.timeit(lambda host=host: found.find(parents_of(host)), number=1000) / 1000 for host in asked)
    assert times[len(times) // 2] < 10e-6  # under 2 µs on a quiet machine
