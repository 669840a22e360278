"""Whatever clients ask for, and however the origin breaks off, what looks whole has the bytes that its tag stands for.

Several clients at once ask for all or parts of a few things that change; the origin knows ranges and conditions, and
now and then cuts a body short.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from tests.kit import raw
from tests.kit.inproc import Clock, Stack
from tests.kit.origin import Close, FakeOrigin, head_only
from tests.kit.proxy import reverse

RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")
SIZE = 1000
REQUESTS = 150  # of each client
CLIENTS = 4


class Library:
    """An origin of three things in several versions; the version is in the tag."""

    def __init__(self, seed):
        self.random = Random(seed)
        self.version = 0

    def body(self, path, version):
        size = SIZE + version % 3
        return f"{path} {version};".encode().ljust(40, b"-") * (size // 40 + 1)

    def answer(self, received):
        chance = self.random.random()
        version = self.version
        body, tag = self.body(received.path, version), f'"{version}"'
        lines = [f"ETag: {tag}", self.random.choice(["Cache-Control: max-age=5", "Cache-Control: max-age=60", "X: y"])]
        if tag in (received.get("if-none-match") or ""):
            return [head_only(*lines, status=304)]
        status, asked = 200, RANGE.fullmatch(received.get("range") or "")
        if asked and received.get("if-range") in {None, tag}:
            size = len(body)
            first = int(asked[1]) if asked[1] else max(0, size - int(asked[2]))
            end = min(int(asked[2]) + 1, size) if asked[1] and asked[2] else size
            if first >= end:
                return [head_only(f"Content-Range: bytes */{size}", "Content-Length: 0", status=416)]
            status, body = 206, body[first:end]
            lines.append(f"Content-Range: bytes {first}-{end - 1}/{size}")
        head = head_only(*lines, f"Content-Length: {len(body)}", status=status)
        if chance < 0.25:
            return [head, body[: self.random.randrange(len(body))], Close()]
        return [head, body]


def ask(random, at, library):
    """One answer, held against what its tag says; what is visibly cut says nothing."""
    path = f"/{random.randrange(3)}"
    first = random.randrange(SIZE)
    wanted = random.choice(
        [
            (),
            (),
            (f"Range: bytes={first}-{first + random.randrange(500)}",),
            (f"Range: bytes={first}-",),
            (f"Range: bytes=-{first + 1}",),
        ]
    )
    more = random.choice([(), (), (), ("Cache-Control: no-cache",), (f'If-Range: "{library.version}"',)])
    try:
        got = raw.get(at, path, *wanted, *more)
    except raw.Broken:
        return "cut"
    if got.status in {416, 502}:
        return str(got.status)
    tag = got.get("etag")
    whole = library.body(path, int(tag.strip('"')))
    if got.status == 200:
        assert got.body == whole, (path, wanted, more, got)
    else:
        assert got.status == 206, got
        span = re.fullmatch(r"bytes ([0-9]+)-([0-9]+)/([0-9]+)", got.get("content-range"))
        assert got.body == whole[int(span[1]) : int(span[2]) + 1], (path, wanted, more, got)
        assert int(span[3]) == len(whole)
    return (got.get("cache-status") or "").split(";")[1].strip().partition("=")[2] or "hit"


@pytest.mark.parametrize("seed", range(4))
def test_no_client_gets_bytes_that_are_not_of_its_answers_tag(seed):
    library, clock = Library(seed), Clock()
    seen = []

    def client(number):
        random = Random(f"{seed} {number}")
        for _ in range(REQUESTS):
            if random.random() < 0.03:
                library.version += 1
            if random.random() < 0.1:
                clock.at += random.choice([1.0, 4.0, 30.0])
            seen.append(ask(random, stack.at, library))

    with FakeOrigin() as origin, Stack(reverse(origin.address, site="eject = { failures = 0 }"), clock=clock) as stack:
        origin.otherwise(by=library.answer)
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(client, range(CLIENTS)))
        assert stack.call(lambda: stack.store.reserved) == 0
        assert stack.call(lambda: len(stack.pipeline.flights)) == 0
        opened, idle = stack.upstream_counts()
        assert opened == idle
        assert origin.faults == []
    assert {"hit", "uri-miss", "stale", "request", "partial", "cut"} <= set(seen), set(seen)
