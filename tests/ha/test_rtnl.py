"""What the kernel answers, on the loopback interface that every machine has; the rest is in netns/."""

from __future__ import annotations

import errno
import struct
from ipaddress import IPv4Address, ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha import rtnl
from ha.rtnl import Kernel


@pytest.fixture
def kernel():
    one = Kernel()
    yield one
    one.close()


def test_the_loopback_interface_is_read_with_its_addresses(kernel):
    interface = kernel.interface("lo")
    assert (interface.name, interface.index, interface.mac) == ("lo", 1, "00:00:00:00:00:00")
    assert ip_interface("127.0.0.1/8") in interface.addresses


def test_there_is_no_interface_of_an_unknown_name(kernel):
    assert kernel.interface("nowhere") is None
    assert kernel.interface("much-too-long-for-an-interface") is None


def test_an_address_leads_to_its_interface(kernel):
    assert kernel.interface_of(IPv4Address("127.0.0.1")).name == "lo"
    assert kernel.interface_of(IPv4Address("203.0.113.77")) is None


def test_an_interface_that_is_gone_has_no_addresses(kernel):
    assert kernel.assigned(2**31 - 1) == []


def test_a_refused_order_is_its_errno_and_the_next_question_is_answered(kernel):
    """RTM_DELADDR of an address that is not there; without the right to, EPERM."""
    body = struct.pack("=BBBBI", 2, 32, 0, 0, 1) + struct.pack("=HH4s", 8, 2, bytes([203, 0, 113, 77]))
    request = struct.pack("=IHHII", 16 + len(body), 21, 5, 0, 0) + body
    assert kernel.order(request) in {errno.EADDRNOTAVAIL, errno.EPERM}
    assert kernel.interface("lo") is not None


@given(st.binary(max_size=200))
def test_a_broken_message_ends_the_reading_and_never_raises(data):
    assert len(list(rtnl._messages(data))) <= len(data) // 16
    assert len(list(rtnl._attributes(data))) <= len(data) // 4
