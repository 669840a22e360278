"""Weights agree with the memory that is really taken, and sharing changes no byte."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.weight import LARGEST_SHARED, MOST_SHARED, PER_RESPONSE, Shared, settle
from proxy.http.message import Fields, ResponseHead
from proxy.http.stored import Body
from tests.cache.test_store import make

CHOSEN = ((), ((b"accept", b"*/*"),), ((b"accept", b"text/html"),), ((b"accept", None),))

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


def test_what_is_common_weighs_on_nobody_and_is_counted_once():
    shared = Shared()
    fields = Fields([(b"Accept", b"text/html")])
    first, second = (make(real=number, selecting=((b"accept", b"text/html"),)) for number in (1, 2))
    for stored in (first, second):
        stored.request_fields = Fields(fields.lines)
    weight, taken = settle(first, shared), shared.bytes
    assert settle(second, shared) == weight
    assert shared.bytes == taken + 152 > 1000  # another `Control`, which is no equal one's twin
    assert first.request_fields is second.request_fields
    assert first.selecting is second.selecting


def test_patterns_are_counted_until_nobody_has_them():
    shared = Shared()
    stored = make()
    settle(stored, shared)
    shared.clear()
    assert shared.bytes > 500
    del stored
    assert shared.bytes == 0


def test_what_is_too_large_to_be_shared_is_its_bearers_own():
    shared = Shared()
    plain, large = (make(selecting=((b"accept", value),)) for value in (b"x", bytes(LARGEST_SHARED)))
    assert settle(large, shared) > settle(plain, shared) + LARGEST_SHARED


@given(st.permutations(range(12)))
def test_weights_do_not_depend_on_who_comes_first(order):
    def weights(sequence):
        shared = Shared()
        made = {n: make(b"http://a/%d" % n, bytes(n), real=n % 3, selecting=CHOSEN[n % 4]) for n in sequence}
        return {n: settle(stored, shared) for n, stored in made.items()}

    assert weights(order) == weights(range(12))


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
