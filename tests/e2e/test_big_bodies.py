"""Bodies far larger than the memory that may be used for them, in both directions, checked byte by byte.

TANDEM_BIG_BYTES sets another size for a quick run; the bound on memory is the same.
"""

from __future__ import annotations

import json
import os
import threading

import pytest

from tests.kit import raw
from tests.kit.firehose import BLOCK, Firehose, pattern_file, read_pattern, send_pattern
from tests.kit.proxy import PssSampler, reverse, start_proxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BIG = int(os.environ.get("TANDEM_BIG_BYTES", str(5 << 30)))
BOUND = 16 << 20  # growth of all processes together
MAX_OBJECT = 8 << 20
SMALL = 3 * BLOCK


@pytest.fixture(scope="module")
def firehose():
    with Firehose() as running:
        yield running


@pytest.fixture(scope="module")
def proxy(firehose, tmp_path_factory):
    toml = reverse(firehose.address, rest='[cache]\nmemory = "64MB"\nmax_object = "8MB"')
    with start_proxy(tmp_path_factory.mktemp("proxy"), toml) as running:
        warm_up(running)
        yield running


def warm_up(proxy):
    """Small bodies of each kind, so that what the first use of anything costs is not taken for growth."""
    for kind in ("length", "chunked", "close"):
        assert len(raw.get(proxy.at, f"/{kind}/{SMALL}?cache-control=no-store").body) == SMALL
    upload(proxy, SMALL)


def download(proxy, target, count):
    with raw.Connection(proxy.at, timeout=60) as connection:
        connection.send(raw.request(target=target))
        head = raw.parse_head(connection.read_raw_head())
        assert head.status == 200
        framing, length = raw.framing_of(head, "GET", b"")
        if framing is raw.Framing.LENGTH:
            assert length == count
            before, connection.buffer = bytes(connection.buffer), bytearray()
            read_pattern(connection.sock, count, before)
        else:
            read_unknown(connection, framing, count)


def read_unknown(connection, framing, count):
    """A body of unknown length: its pieces are passed on to a checker as one stream of bytes."""
    ours, theirs = raw.socket.socketpair()
    failed = []

    def check():
        try:
            read_pattern(theirs, count)
            if theirs.recv(1):
                failed.append("more bytes than were sent")
        except Exception as error:  # noqa: BLE001 - told to the main thread
            failed.append(repr(error))
            theirs.close()

    checker = threading.Thread(target=check)
    checker.start()
    with ours, theirs:
        for piece in pieces(connection, framing):
            ours.sendall(piece)
        ours.shutdown(raw.socket.SHUT_WR)
        checker.join()
    assert failed == []


def pieces(connection, framing):
    if framing is raw.Framing.CLOSE:
        yield from until_end(connection)
        return
    while size := int(connection._line(), 16):
        while size:
            if not connection.buffer:
                assert connection._fill(), "the answer is cut"
            piece = connection._take(min(size, len(connection.buffer)))
            size -= len(piece)
            yield piece
        assert connection.read_exactly(2) == b"\r\n"
    assert connection.read_exactly(2) == b"\r\n"


def until_end(connection):
    while connection.buffer or connection._fill():
        yield connection._take(len(connection.buffer))
    assert connection.ended is raw.End.CLEAN


def upload(proxy, count):
    descriptor = pattern_file()
    try:
        with raw.Connection(proxy.at, timeout=60) as connection:
            connection.send(raw.request("POST", "/", f"Content-Length: {count}"))
            send_pattern(connection.sock, descriptor, count)
            answer = connection.read_response("POST")
    finally:
        os.close(descriptor)
    assert answer.status == 200
    assert json.loads(answer.body) == {"length": count, "wrong": ""}


def test_a_huge_download_does_not_grow_the_proxy(proxy):
    with PssSampler(proxy) as memory:
        download(proxy, f"/length/{BIG}?cache-control=no-store", BIG)
    assert memory.samples
    assert memory.growth <= BOUND


def test_a_huge_download_that_may_be_stored_but_is_too_large_is_not_collected(proxy):
    """Its length is announced: the proxy knows from the head that it will not be stored."""
    with PssSampler(proxy) as memory:
        download(proxy, f"/length/{BIG // 4}?cache-control=max-age%3D60", BIG // 4)
    assert memory.growth <= BOUND


@pytest.mark.parametrize("kind", ["chunked", "close"])
def test_a_huge_download_of_unknown_length_costs_at_most_one_object(proxy, kind):
    with PssSampler(proxy) as memory:
        download(proxy, f"/{kind}/{BIG // 4}?cache-control=max-age%3D60", BIG // 4)
    assert memory.growth <= BOUND + MAX_OBJECT


def test_a_huge_upload_does_not_grow_the_proxy(proxy):
    with PssSampler(proxy) as memory:
        upload(proxy, BIG)
    assert memory.samples
    assert memory.growth <= BOUND


def test_a_client_that_does_not_read_stops_the_origin(proxy):
    """Back-pressure: 2 GB are on offer, and only what fits into the sockets' buffers is taken."""
    count = 2000 * BLOCK
    with PssSampler(proxy) as memory, raw.Connection(proxy.at, timeout=30, receive_buffer=65536) as connection:
        connection.send(raw.request(target=f"/length/{count}?cache-control=no-store"))
        connection.read_raw_head()
        before, connection.buffer = bytes(connection.buffer), bytearray()
        threading.Event().wait(1.0)  # time for a proxy without back-pressure to take more than the bound
        read_pattern(connection.sock, 20 * BLOCK, before)
    assert memory.growth <= BOUND


def test_many_downloads_at_once_stay_within_the_bound_of_each(proxy):
    """At most 64 KiB a direction and connection (and what the loop reads at once) are held."""
    count = 40 * BLOCK
    connections = [raw.Connection(proxy.at, timeout=30, receive_buffer=65536) for _ in range(16)]
    try:
        with PssSampler(proxy) as memory:
            for connection in connections:
                connection.send(raw.request(target=f"/length/{count}?cache-control=no-store"))
            for connection in connections:
                connection.read_raw_head()
                before, connection.buffer = bytes(connection.buffer), bytearray()
                read_pattern(connection.sock, count, before)
    finally:
        for connection in connections:
            connection.close()
    assert memory.growth <= BOUND


def test_slow_readers_of_stored_bodies_that_leave_the_store_do_not_hold_them_all(proxy):
    """Each body evicts another, and each has a client that takes a little and stops: hardening L1."""
    size, many, memory = 7 << 20, 40, 64 << 20
    before = proxy.pss()
    held = []
    try:
        for number in range(many):
            target = f"/length/{size}?cache-control=max-age=600&n={number}"
            assert len(raw.get(proxy.at, target).body) == size
            slow = raw.Connection(proxy.at, timeout=60, receive_buffer=4096)
            held.append(slow)
            slow.send(raw.request(target=target))
            assert raw.parse_head(slow.read_raw_head()).status == 200
        assert proxy.pss() - before < memory + (64 << 20)
    finally:
        for slow in held:
            slow.close()
