"""Seeded mutations of responses, several clients at once: nobody gets bytes of another's answer, and what they get has
one reading.

The origin puts into each answer a mark of the request that it is for, wounds the answer, and sends it in one write.
Each client looks for marks of others in all that it receives, and reads it strictly: an answer is whole and its own,
or an error of ours, or visibly cut. Some answers may be stored: they are asked for again by others.
TANDEM_FUZZ_SECONDS makes it longer, TANDEM_FUZZ_SEED repeats one.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
import zlib

import pytest

from tests.kit import origin as answers
from tests.kit import raw
from tests.kit.origin import FakeOrigin
from tests.kit.proxy import reverse, start_proxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SECONDS = float(os.environ.get("TANDEM_FUZZ_SECONDS", "10"))
SEED = int(os.environ.get("TANDEM_FUZZ_SEED", "9110"))
CLIENTS = 6
MARK = re.compile(rb"<(/[a-z]/[0-9]+/[0-9])#([0-9a-f]{8})>")
# How an answer may end that is not whole: the connection has ended inside it.
CUT = ("no whole head", "no whole line", "bytes wanted", "reset in a body")

SEEDS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: %(length)d\r\nX-For: %(mark)s\r\n\r\n%(body)s",
    b"HTTP/1.1 200 OK\r\nContent-Length: %(length)d\r\nCache-Control: max-age=60\r\n\r\n%(body)s",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%(size)x\r\n%(body)s\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%(size)x;e=f\r\n%(body)s\r\n0\r\nX: %(mark)s\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: %(mark)s\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %(length)d\r\n\r\n%(body)s",
    b"HTTP/1.1 204 No Content\r\nX-For: %(mark)s\r\n\r\n",
    b'HTTP/1.1 304 Not Modified\r\nETag: "%(mark)s"\r\nContent-Length: %(length)d\r\n\r\n',
    b"HTTP/1.1 404 Not Found\r\nContent-Length: %(length)d\r\nConnection: close\r\n\r\n%(body)s",
    b"HTTP/1.0 200 OK\r\nX-For: %(mark)s\r\n\r\n%(body)s",
)
PIECES = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b";", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"0\r\n\r\n", b"Connection: close\r\n",
    b"Connection: keep-alive\r\n", b" \r\n", b"\xff", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    b"Set-Cookie: a=b\r\n", b"Vary: *\r\n", b"Content-Range: bytes 0-1/2\r\n", b"Trailer: X\r\n", b"Age: -1\r\n",
)  # fmt: skip


def mark_of(target):
    """With a checksum: a wound makes no mark of another request out of it."""
    return b"<%b#%08x>" % (target, zlib.crc32(target))


def marks_in(data):
    return [name.decode() for name, check in MARK.findall(data) if b"%08x" % zlib.crc32(name) == check]


def fill(template, target):
    """The answer with the mark of its request; in the body is what looks like another message."""
    mark = mark_of(target)
    body = mark + b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    return template % {b"mark": mark, b"body": body, b"length": len(body), b"size": len(body)}


def wounded(target):
    """The answer to this target: always the same."""
    chance = random.Random(f"{SEED} {target}")
    stream = bytearray(fill(chance.choice(SEEDS), target.encode()))
    for _ in range(chance.randint(0, 3)):
        at = chance.randrange(len(stream) + 1)
        match chance.randrange(5):
            case 0:
                stream[at:at] = chance.choice(PIECES)
            case 1:
                del stream[at : at + chance.randint(1, 4)]
            case 2:
                stream[at : at + 1] = bytes([chance.randrange(256)])
            case 3:
                line = stream.rfind(b"\r\n", 0, at) + 2 if stream.rfind(b"\r\n", 0, at) >= 0 else 0
                stream[line:line] = chance.choice(PIECES)
            case 4:
                stream += fill(chance.choice(SEEDS), target.encode())  # a second answer that nobody asked for
    return bytes(stream)


def play(received):
    steps = [wounded(received.path)]
    if random.Random(f"end {received.path}").random() < 0.5:
        steps.append(answers.Close())
    return steps


@pytest.fixture(scope="module")
def origin():
    with FakeOrigin() as fake:
        fake.otherwise(by=play)
        fake.on("/canary", answers.response(b"hello"))
        yield fake


@pytest.fixture(scope="module")
def proxy(origin, tmp_path_factory):
    # Short times: many a wounded answer leaves the proxy waiting for more.
    site = 'retry = false\neject = { failures = 0 }\ntimeouts = { first_byte = "200ms", idle = "200ms" }'
    with start_proxy(tmp_path_factory.mktemp("proxy"), reverse(origin.address, site=site)) as running:
        yield running


def ask(proxy, targets, methods):
    """Everything that one client gets for requests sent in one write, with the answers as far as they can be read."""
    whole = []
    with raw.Connection(proxy.at) as connection:
        connection.send(b"".join(map(raw.request, methods, targets)))
        received = bytearray()
        for method in methods:
            try:
                answer = connection.read_response(method)
            except raw.Broken as broken:
                if connection.ended is None or not any(cut in broken.why for cut in CUT):
                    raise
                received += broken.raw
                break
            whole.append(answer)
            received += b"".join(part.raw_head + part.body for part in (*answer.interim, answer))
    return bytes(received), whole


def converse(proxy, name, seed):
    chance = random.Random(f"{SEED} {name} {seed}")
    targets = [f"/{name}/{seed}/{number}" for number in range(chance.randint(1, 3))]
    methods = [chance.choice(["GET", "GET", "GET", "HEAD", "POST"]) for _ in targets]
    sample = f"TANDEM_FUZZ_SEED={SEED} {name} {seed} {methods}: {[wounded(target) for target in targets]}"
    check(*ask(proxy, targets, methods), targets, sample)
    # Somebody else asks again: what was stored is the answer to this target, whole.
    check(*ask(proxy, targets[:1], ["GET"]), targets[:1], sample)


def check(received, whole, targets, sample):
    marks = marks_in(received)
    assert set(marks) <= set(targets), f"marks {marks} of another's answer: {sample}"
    # In the order of the requests, also where some answer has no mark.
    assert [targets.index(mark) for mark in marks] == sorted(targets.index(mark) for mark in marks), sample
    for answer, target in zip(whole, targets, strict=False):
        own = set(marks_in(answer.raw_head + answer.body))
        assert own <= {target}, f"answer to {target} has {own}: {sample}"


def run_for(proxy, seconds):
    end = time.monotonic() + seconds
    failed = []
    done = []

    def client(name):
        seed = 0
        try:
            while time.monotonic() < end and not failed:
                converse(proxy, name, seed)
                seed += 1
        except BaseException as problem:  # noqa: BLE001 - told by the main thread
            failed.append(problem)
        done.append(seed)

    threads = [threading.Thread(target=client, args=(chr(ord("a") + number),)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return sum(done)


def test_nobody_gets_bytes_of_anothers_answer_whatever_the_origin_sends(proxy, origin):
    assert run_for(proxy, SECONDS) > 50
    assert origin.faults == []
    assert raw.get(proxy.at, "/canary").body == b"hello"
    assert "fault of ours" not in proxy.output
    assert "Traceback" not in proxy.output


@pytest.mark.long
def test_the_same_for_minutes(proxy, origin):
    run_for(proxy, max(SECONDS, 600))
    assert origin.faults == []
    assert raw.get(proxy.at, "/canary").body == b"hello"
