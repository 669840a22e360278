"""Seeded mutations of request streams: whatever a stream becomes, our reading of it equals the origin's.

The origin numbers the requests it reads and finds no fault in any; the client gets the answers to exactly these, in
order. A request that only one of the two sides sees would break the sequence. TANDEM_FUZZ_SECONDS makes it longer,
TANDEM_FUZZ_SEED repeats one.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from tests.kit import origin as answers
from tests.kit import raw
from tests.kit.origin import FakeOrigin
from tests.kit.proxy import reverse, start_proxy
from tests.kit.raw import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SECONDS = float(os.environ.get("TANDEM_FUZZ_SECONDS", "20"))
SEED = int(os.environ.get("TANDEM_FUZZ_SEED", "9112"))

INNER = b"GET /inner HTTP/1.1\r\nHost: a.example\r\n\r\n"
SEEDS = (
    b"GET /a HTTP/1.1\r\nHost: a.example\r\nX: y\r\n\r\n",
    b"HEAD /h HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n" % len(INNER) + INNER,
    b"POST /c HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"%x\r\n" % len(INNER) + INNER + b"\r\n0\r\n\r\n",
    b"PUT /d HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n3;e=f\r\nabc\r\n0\r\nT: u\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n",
    b"GET http://a.example/e HTTP/1.1\r\nHost: b.example\r\n\r\n",
)
# Ends the connection at once, wherever the stream is still read as it is meant; otherwise a time-out does.
LAST = b"GET /last HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
# What attacks on framing are made of; the mutations put them anywhere.
PIECES = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b";", b"chunked", b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"0\r\n\r\n",
    b"Content_Length: 5\r\n", b" \r\n", b"Connection: close\r\n", b"Connection: Content-Length\r\n", b"\x0b", b"\xff",
    b"Expect: 100-continue\r\n", b"Upgrade: websocket\r\nConnection: upgrade\r\n", b"HTTP/1.0", b"Host: b\r\n", INNER,
)  # fmt: skip


@pytest.fixture(scope="module")
def origin():
    with FakeOrigin() as fake:
        fake.otherwise(by=lambda received: [numbered(received, fake.requests.index(received))])
        yield fake


@pytest.fixture(scope="module")
def proxy(origin, tmp_path_factory):
    # A short time for heads and bodies: many mutations leave the proxy waiting for more.
    limits = '[limits]\nhead_time = "150ms"\nbody_idle = "150ms"\nkeepalive = "150ms"'
    toml = reverse(origin.address, site="retry = false\neject = { failures = 0 }", rest=limits)
    with start_proxy(tmp_path_factory.mktemp("proxy"), toml) as running:
        yield running


def numbered(received, number):
    body = b"" if received.method == b"HEAD" else b"%d" % number
    return answers.response(body, f"X-Number: {number}", length=len(b"%d" % number))


def mutate(chance):
    """One to three requests in a row, with up to three wounds."""
    stream = bytearray(b"".join(chance.choice(SEEDS) for _ in range(chance.randint(1, 3))))
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(stream) + 1)
        match chance.randrange(4):
            case 0:
                stream[at:at] = chance.choice(PIECES)
            case 1:
                del stream[at : at + chance.randint(1, 4)]
            case 2:
                stream[at : at + 1] = bytes([chance.randrange(256)])
            case 3:
                line = stream.rfind(b"\r\n", 0, at) + 2 if stream.rfind(b"\r\n", 0, at) >= 0 else 0
                stream[line:line] = chance.choice(PIECES)
    return bytes(stream)


def numbers_of(answered, methods):
    """X-Number of the answers in the bytes that a client got; a last one that is cut counts for nothing."""
    found = []
    rest = answered
    while rest:
        end = rest.find(b"\r\n\r\n")
        if end < 0:
            break
        head = raw.parse_head(rest[: end + 4])
        fields = {name.lower(): value for name, value in head.lines}
        number = fields.get(b"x-number")
        method = methods[int(number)] if number is not None and int(number) < len(methods) else "GET"
        framing, length = raw.framing_of(head, method, rest)
        assert framing in (raw.Framing.NONE, raw.Framing.LENGTH), "neither we nor this origin send others"
        rest = rest[end + 4 + length :]
        if number is not None:
            found.append(int(number))
    return found


def test_our_reading_of_a_stream_equals_the_origins(proxy, origin):
    end = time.monotonic() + SECONDS
    seed = SEED
    while time.monotonic() < end:
        stream = mutate(random.Random(seed))
        check(proxy, origin, stream, f"seed {seed}: {stream!r}")
        seed += 1
    assert seed - SEED > 20


def check(proxy, origin, stream, sample):
    origin.forget()
    with raw.Connection(proxy.at, timeout=10) as connection:
        connection.send(stream + LAST)
        answered, _ = connection.read_to_end()
    wait_until(lambda: settled(origin), what=f"the origin done with {sample}")
    assert origin.faults == [], sample
    methods = [received.method.decode() for received in origin.requests]
    numbers = numbers_of(answered, methods)
    assert numbers == list(range(len(numbers))), f"answers out of order, or another's: {sample}"
    complete = sum(received.complete for received in origin.requests)
    assert complete - len(numbers) <= 1, f"the origin read requests that the client was not answered: {sample}"
    assert raw.get(proxy.at, "/canary").get("x-number") is not None, sample


def settled(origin):
    """Every request that is not whole belongs to a connection that has ended."""
    return all(received.complete or not origin.links[received.connection].open for received in origin.requests)
