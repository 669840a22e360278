"""Sockets that are lent: kept ahead, waited for, handed out once."""

from __future__ import annotations

import asyncio
import functools
import socket
from pathlib import Path

import pytest

from proxy.upstream.sources import ASK_AGAIN, BATCH, LOW, Sources, bind


def in_a_loop(test):
    @functools.wraps(test)
    def run(lender):
        asyncio.run(test(lender))

    return run


class Lender:
    """Asked as the supervisor is, with a clock."""

    def __init__(self):
        self.now = 100.0
        self.asked = []
        self.sources = Sources(lambda: self.now)
        self.sources.ask = lambda family, count: self.asked.append((family, count))

    def lend(self, count, family=4):
        self.sources.arrived(family, [socket.socket().detach() for _ in range(count)])


@pytest.fixture
def lender():
    made = Lender()
    yield made
    made.sources.close()


@in_a_loop
async def test_who_finds_none_waits_until_they_come_and_the_rest_is_kept(lender):
    first, second = (asyncio.ensure_future(lender.sources.take(4)) for _ in range(2))
    await asyncio.sleep(0)
    assert lender.asked == [(4, BATCH)]
    lender.lend(LOW + 3)
    got = [await first, await second, await lender.sources.take(4)]
    assert len({sock.fileno() for sock in got}) == 3
    assert lender.asked == [(4, BATCH)]
    got.append(await lender.sources.take(4))
    got.append(await lender.sources.take(4))
    assert lender.asked == [(4, BATCH)] * 2
    for sock in got:
        sock.close()


@in_a_loop
async def test_each_family_has_its_own(lender):
    waiting = asyncio.ensure_future(lender.sources.take(6))
    await asyncio.sleep(0)
    lender.lend(1, family=4)
    assert lender.asked == [(6, BATCH)]
    lender.lend(1, family=6)
    (await waiting).close()


@in_a_loop
async def test_who_gave_up_gets_none_and_loses_none(lender):
    gone, waiting = (asyncio.ensure_future(lender.sources.take(4)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    lender.lend(1)
    (await waiting).close()
    late = asyncio.ensure_future(lender.sources.take(4))
    await asyncio.sleep(0)
    lender.lend(1)
    late.cancel()  # in the same turn in which it came
    with pytest.raises(asyncio.CancelledError):
        await late
    (await lender.sources.take(4)).close()


@in_a_loop
async def test_without_an_answer_they_are_asked_for_again_but_not_at_once(lender):
    waiting = [asyncio.ensure_future(lender.sources.take(4)) for _ in range(3)]
    await asyncio.sleep(0)
    lender.sources.arrived(4, [])
    waiting.append(asyncio.ensure_future(lender.sources.take(4)))
    await asyncio.sleep(0)
    assert len(lender.asked) == 2
    lender.now += ASK_AGAIN
    waiting.append(asyncio.ensure_future(lender.sources.take(4)))
    await asyncio.sleep(0)
    assert len(lender.asked) == 3
    lender.lend(2)
    assert len(lender.asked) == 4  # some still wait
    for one in waiting:
        one.cancel()
    for one in await asyncio.gather(*waiting, return_exceptions=True):
        if isinstance(one, socket.socket):
            one.close()


def test_what_is_kept_is_closed_at_the_end(lender):
    before = len(list(Path("/proc/self/fd").iterdir()))
    lender.lend(5)
    lender.sources.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_bound_socket_has_the_address_and_no_port_yet():
    with socket.socket() as sock:
        bind(sock, "127.0.0.1")
        assert sock.getsockname() == ("127.0.0.1", 0)
