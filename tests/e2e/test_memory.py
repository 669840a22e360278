"""What the program says its cache takes is what it takes: gauges beside the kernel's count of its pages, filled over
sockets.
"""

from __future__ import annotations

import random

import pytest

from tests.kit.filler import Sizes, fetch, names, rss_of
from tests.kit.proxy import reverse
from tests.kit.raw import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

BEFORE = 10**7  # numbers of objects that only warm up


@pytest.fixture(scope="module")
def sizes():
    with Sizes() as running:
        yield running


def settled_bytes(proxy, stored):
    """The gauges, once they tell of so many responses stored: they are set now and then, all in one turn."""
    wait_until(lambda: proxy.metric("tandem_store_entries") + proxy.metric("tandem_evicted_total") >= stored)
    return proxy.metric("tandem_store_bytes") + proxy.metric("tandem_memo_bytes")


def mixed(count):
    chance = random.Random(1)
    return [names(chance.choice((1024, 1024, 1024, 20_000, 20_000, 400_000)), 1, n)[0] for n in range(count)]


@pytest.mark.parametrize(
    ("targets", "memory"),
    [
        (names(1024, 8000), 512),
        (names(20_000, 1500), 512),
        (names(400_000, 150), 512),
        (mixed(1000), 40),  # MB: two thirds of it are evicted
        (names(1024, 12_000), 16),
    ],
    ids=["1 KiB", "20 KB", "400 KB", "mixed, evicted", "1 KiB, evicted"],
)
def test_the_gauges_agree_with_the_memory_that_is_taken_and_keep_to_the_bound(start, sizes, targets, memory):
    rest = f'[cache]\nmemory = "{memory}MB"\n[process]\nworkers = 1\n'
    proxy = start(reverse(sizes.url, rest=rest))
    worker = proxy.pid("worker-0")
    warm = names(1024, 300, BEFORE) + names(20_000, 20, BEFORE) + names(400_000, 3, BEFORE)
    fetch(proxy.at, warm)  # what the first use of anything costs is not the cache's
    said, taken = settled_bytes(proxy, len(warm)), rss_of(worker)
    fetch(proxy.at, targets)
    after = settled_bytes(proxy, len(warm) + len(targets))
    ratio = (after - said) / (rss_of(worker) - taken)
    print(f"gauges / pages: {ratio:.3f}")
    assert 0.8 <= ratio <= 1.2
    assert after <= memory * 2**20
