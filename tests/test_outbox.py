"""What is sent in one turn of the loop leaves together, in order, and nothing is sent to who has gone."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from proxy.outbox import FLUSH, Outbox, Sender


class Recorder:
    """A transport that keeps what it is given, one item per write."""

    def __init__(self):
        self.writes = []
        self.closing = False

    def is_closing(self):
        return self.closing

    def write(self, data):
        self.writes.append(bytes(data))

    def writelines(self, parts):
        self.writes.append(b"".join(parts))


def make(outbox):
    sender = Sender(outbox)
    sender.transport = Recorder()
    return sender


def in_a_loop(steps):
    async def run():
        return await steps(asyncio.get_running_loop())

    return asyncio.run(run())


def test_pieces_of_one_turn_become_one_write_in_order():
    async def steps(loop):
        sender = make(Outbox(loop))
        sender.send(b"head ")
        sender.send(b"body")
        assert sender.transport.writes == []
        await asyncio.sleep(0)
        return sender.transport.writes

    assert in_a_loop(steps) == [b"head body"]


def test_each_connection_is_written_once_per_turn_whoever_sent_first():
    async def steps(loop):
        outbox = Outbox(loop)
        one, other = make(outbox), make(outbox)
        for sender in (one, other, one):
            sender.send(b"x")
        await asyncio.sleep(0)
        one.send(b"y")
        await asyncio.sleep(0)
        return one.transport.writes, other.transport.writes

    assert in_a_loop(steps) == ([b"xx", b"y"], [b"x"])


def test_more_than_the_bound_goes_out_at_once_so_that_back_pressure_shows():
    async def steps(loop):
        sender = make(Outbox(loop))
        sender.send(b"a" * FLUSH)
        sender.send(b"b")
        return list(sender.transport.writes)

    assert in_a_loop(steps) == [b"a" * FLUSH + b"b"]


def test_a_connection_that_closes_before_the_turn_ends_takes_nothing():
    async def steps(loop):
        sender = make(Outbox(loop))
        sender.send(b"x")
        sender.transport.closing = True
        await asyncio.sleep(0)
        writes = sender.transport.writes
        sender.transport = None
        sender.send(b"y")
        await asyncio.sleep(0)
        return writes

    assert in_a_loop(steps) == []


def test_what_one_flush_causes_goes_out_with_the_next():
    """A write may make a producer send more; the list being flushed is not the list being filled."""

    async def steps(loop):
        sender = make(Outbox(loop))
        write = sender.transport.write
        sender.transport.write = lambda data: (write(data), sender.send(b"more") if data == b"first" else None)
        sender.send(b"first")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return sender.transport.writes

    assert in_a_loop(steps) == [b"first", b"more"]


@given(st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=FLUSH // 4), st.booleans()), max_size=30))
def test_every_byte_arrives_once_and_in_order(sends):
    async def steps(loop):
        outbox = Outbox(loop)
        senders = [make(outbox) for _ in range(3)]
        for who, data, turn in sends:
            senders[who].send(data)
            if turn:
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        return [b"".join(sender.transport.writes) for sender in senders]

    assert in_a_loop(steps) == [b"".join(data for who, data, _ in sends if who == n) for n in range(3)]
