"""Weights agree with the memory that is really taken, and sharing changes no byte."""

import subprocess
import sys

import pytest

from proxy.cache.weight import MOST_SHARED, PER_RESPONSE, Shared, settle
from proxy.http.message import Fields, ResponseHead
from proxy.http.stored import Body
from tests.cache.test_store import make

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


def test_what_is_settled_says_the_same_as_before():
    shared = Shared()
    stored = make(selecting=((b"accept", b"*/*"),), tags=(b"a", b"b"))
    head, selecting = stored.head, stored.selecting
    settle(stored, shared)
    assert (stored.head, stored.selecting, stored.etag, stored.status) == (head, selecting, b'"0"', 200)


def test_what_is_common_weighs_on_the_first_that_brings_it():
    shared = Shared()
    fields = Fields([(b"Accept", b"text/html")])
    first, second = (make(real=number, selecting=((b"accept", b"text/html"),)) for number in (1, 2))
    for stored in (first, second):
        stored.request_fields = Fields(fields.lines)
    heavy, light = settle(first, shared), settle(second, shared)
    assert light < heavy - 1000
    assert first.request_fields is second.request_fields
    assert first.selecting is second.selecting


def test_pieces_of_a_small_body_become_one_and_those_of_a_large_one_stay():
    shared = Shared()
    small, large = make(), make()
    small.body = Body([b"x" * 10] * 100, complete=True)
    large.body = Body([b"x" * 10_000] * 10, complete=True)
    light, heavy = settle(small, shared), settle(large, shared)
    assert small.body.chunks == [b"x" * 1000]
    assert len(large.body.chunks) == 10
    assert heavy - light > 90_000


def test_a_head_that_cannot_be_packed_weighs_what_its_lines_do():
    shared = Shared()
    odd = make()
    odd.head = ResponseHead(200, b"OK", Fields([(b"X", b"a\nb" * 100)]))
    assert settle(odd, shared) > 300 + PER_RESPONSE
    assert odd.head.fields.get(b"x") == b"a\nb" * 100


def test_pools_of_shared_values_are_bounded():
    shared = Shared()
    for number in range(MOST_SHARED + 10):
        stored = make(selecting=((b"accept", b"%d" % number),))
        stored.request_fields = Fields([(b"Accept", b"%d" % number)])
        settle(stored, shared)
    assert len(shared._selecting) <= MOST_SHARED
    assert len(shared._fields) <= MOST_SHARED
    assert len(shared._controls) <= MOST_SHARED
