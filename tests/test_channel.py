"""Messages and their descriptors stay together, and neither end ever waits."""

import os

import pytest

from proxy import bus, channel
from proxy.channel import Channel, ClosedError


@pytest.fixture
def ends():
    ours, theirs = channel.pair()
    other = Channel(theirs)
    yield ours, other
    ours.close()
    other.close()


def memory(content):
    fd = os.memfd_create("test")
    os.write(fd, content)
    return fd


def test_nothing_sent_is_nothing_received(ends):
    assert ends[0].receive() is None


def test_messages_arrive_whole_and_in_order(ends):
    ours, theirs = ends
    assert ours.send(bus.Commit(1))
    assert ours.send(bus.Drain(2.0))
    assert bus.decode_to_child(theirs.receive()[0]) == bus.Commit(1)
    assert bus.decode_to_child(theirs.receive()[0]) == bus.Drain(2.0)


@pytest.mark.parametrize("count", [1, 250, 251, 600])
def test_descriptors_arrive_with_their_message_and_in_order(ends, count):
    ours, theirs = ends
    sent = [memory(str(n).encode()) for n in range(count)]
    assert ours.send(bus.Prepare(1, "d"), sent)
    data, fds = theirs.receive()
    assert bus.decode_to_child(data) == bus.Prepare(1, "d")
    assert [os.pread(fd, 10, 0) for fd in fds] == [str(n).encode() for n in range(count)]
    assert not any(os.get_inheritable(fd) for fd in fds)
    for fd in (*sent, *fds):
        os.close(fd)


def test_the_end_of_the_other_process_is_seen_after_its_last_words(ends):
    ours, theirs = ends
    theirs.send(bus.Refused(1, "no"))
    theirs.close()
    assert bus.decode_to_supervisor(ours.receive()[0]) == bus.Refused(1, "no")
    with pytest.raises(ClosedError):
        ours.receive()
    assert not ours.send(bus.Commit(1))


def test_a_full_channel_is_told_instead_of_waited_for(ends):
    ours, _ = ends
    sent = 0
    while ours.send(bus.ReopenLogs()):
        sent += 1
        assert sent < 1_000_000
    assert sent > 10
