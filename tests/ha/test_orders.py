"""Messages between supervisor and ha come back as they were sent, and junk is refused; wills are carried out once."""

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha import orders, raw
from ha.orders import BadOrderError, Bequest, Executor, Standing, Standings, Will
from ha.raw import Prepared
from tests.kit.netns import is_here

TEXT = st.text(max_size=20)
NUMBER = st.integers(min_value=0, max_value=2**31)
FAREWELL = st.builds(Prepared, TEXT, TEXT, TEXT, st.binary(max_size=60), st.binary(max_size=60))
BEQUEST = st.builds(
    Bequest,
    TEXT,
    st.lists(st.binary(max_size=60), max_size=3).map(tuple),
    st.lists(FAREWELL, max_size=3).map(tuple),
)
STANDING = st.builds(Standing, TEXT, NUMBER, NUMBER, st.lists(TEXT, max_size=3).map(tuple), TEXT, TEXT)
FROM_HA = st.one_of(
    st.builds(orders.Prepared, NUMBER),
    st.builds(orders.Refused, NUMBER, TEXT),
    st.builds(orders.Ready, NUMBER),
    st.builds(orders.Hush, st.booleans()),
    st.builds(orders.Gate, st.lists(st.ip_addresses().map(str)).map(tuple)),
    st.builds(Standings, st.lists(STANDING, max_size=3).map(tuple)),
    st.builds(Will, st.lists(BEQUEST, max_size=3).map(tuple)),
)
TO_HA = st.one_of(
    st.builds(orders.Prepare, NUMBER, TEXT, TEXT, TEXT, TEXT),
    st.builds(orders.Commit, NUMBER),
    st.builds(orders.Abort, NUMBER),
    st.builds(orders.Stop, st.floats(min_value=0, max_value=100)),
)


@given(FROM_HA)
def test_what_ha_says_comes_back_as_it_was(message):
    assert orders.decode_from_ha(orders.encode(message)) == message


@given(TO_HA)
def test_what_the_supervisor_says_comes_back_as_it_was(message):
    assert orders.decode_to_ha(orders.encode(message)) == message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'["Commit", {}]',
        b'["Commit", {"generation": "1"}]',
        b'["Nothing", {}]',
        b'["Ready", {"generation": 1}]',
        b"\xff",
        b"[[], {}]",
    ],
)
def test_what_is_no_order_is_refused(data):
    with pytest.raises(BadOrderError):
        orders.decode_to_ha(data)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_message_or_refused(data):
    for decode in (orders.decode_to_ha, orders.decode_from_ha):
        with pytest.raises(BadOrderError):
            decode(data)


def test_a_message_over_the_bound_is_not_sent():
    with pytest.raises(BadOrderError, match="over the bound"):
        orders.encode(Will((Bequest("x" * orders.MAX, (), ()),)))


def test_descriptors_travel_beside_an_order_and_the_end_is_told():
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        other.setblocking(False)
        assert orders.receive(other) is None
        fd = os.memfd_create("x")
        os.write(fd, b"content")
        assert orders.send(one, orders.Commit(7), [fd])
        data, fds = orders.receive(other)
        assert orders.decode_to_ha(data) == orders.Commit(7)
        assert os.pread(fds[0], 10, 0) == b"content"
        assert not os.get_inheritable(fds[0])
        for each in (fd, *fds):
            os.close(each)
        one.close()
        with pytest.raises(EOFError):
            orders.receive(other)
        assert not orders.send(other, orders.Ready(1))


@pytest.mark.netns
def test_a_will_removes_what_was_held_says_so_once_and_harms_nobody_afterwards(monkeypatch):
    """On loopback of this machine, with an address for documentation (RFC 5737)."""
    from ipaddress import ip_interface  # noqa: PLC0415

    from ha.netlink import Netlink  # noqa: PLC0415

    said = []
    monkeypatch.setattr(raw, "send_once", said.append)  # no VRRP onto a real network
    vip, absent = ip_interface("192.0.2.77/32"), ip_interface("192.0.2.78/32")
    netlink = Netlink("lo")
    netlink.prepare([vip, absent], 5)
    farewell = Prepared("lo", "127.0.0.1", "224.0.0.18", b"zero")
    will = Will(
        (
            Bequest("held", (netlink.prepared_delete(absent), netlink.prepared_delete(vip)), (farewell,)),
            Bequest("other", (netlink.prepared_delete(absent),), (farewell,)),
        )
    )
    executor = Executor()
    netlink.add(vip, 5)
    assert executor.carry_out(will) == ["held"]
    assert not is_here(vip)
    assert said == [farewell]
    assert executor.carry_out(will) == []
    assert said == [farewell]
    executor.close()
    netlink.close()
