"""Weights agree with the memory that is really taken, and sharing changes no byte."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.weight import MOST_SHARED, KeptFields, SharedLines
from proxy.http.message import Fields

# In a process of its own: what the test run holds and frees would blur the figure.
MEASURE = """
import gc
from pathlib import Path
from tests.cache.test_store import make
from proxy.cache.store import Store

def rss():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

store = Store(1 << 40)
gc.collect()
before = rss()
for number in range(60_000):
    store.put(make(b"http://example.org/some/path/of/%d" % number, bytes(1024), real=number, touched=True))
gc.collect()
print((rss() - before) / store.bytes)
"""


@pytest.mark.slow
def test_the_sum_of_weights_agrees_with_real_memory():
    run = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    assert 0.8 <= float(run.stdout) <= 1.2


lines = st.lists(st.tuples(st.sampled_from([b"A", b"a", b"Bee", b"c"]), st.sampled_from([b"1", b"2"])), max_size=8)


@given(lines)
def test_kept_fields_answer_as_fields_do(some):
    fields, kept = Fields(tuple(some)), KeptFields(tuple(some))
    assert kept == fields
    assert list(kept.names()) == list(fields.names())
    for name in (b"a", b"bee", b"c", b"absent"):
        assert kept.get(name) == fields.get(name)
        assert kept.all(name) == fields.all(name)
        assert (name in kept) == (name in fields)


@given(st.lists(lines, max_size=6))
def test_shared_fields_are_equal_to_those_given(several):
    shared = SharedLines()
    for some in several:
        fields = Fields(tuple(some))
        assert shared.share(fields)[0] == fields


def test_a_line_weighs_on_the_first_that_brings_it():
    shared = SharedLines()
    first, heavy = shared.share(Fields([(b"Server", b"Apache")]))
    second, light = shared.share(Fields([(bytes(bytearray(b"Server")), bytes(bytearray(b"Apache")))]))
    assert light < heavy
    assert first.lines[0] is second.lines[0]


def test_the_pool_of_shared_lines_is_bounded():
    shared = SharedLines()
    for number in range(3 * MOST_SHARED):
        shared.share(Fields([(b"Name-%d" % number, b"%d" % number)]))
    assert len(shared._lines) <= MOST_SHARED
    assert len(shared._names) <= MOST_SHARED


def test_long_lines_and_lines_of_one_response_are_not_kept_in_the_pool():
    shared = SharedLines()
    shared.share(Fields([(b"X-Long", bytes(10_000)), (b"ETag", b'"1"')]))
    assert not shared._lines
