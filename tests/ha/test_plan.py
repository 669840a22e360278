"""Who we are and what our routers are like, from the same file on each node."""

from ipaddress import ip_address, ip_interface

import pytest

from config.load import accept
from ha import plan
from ha.events import Family, Form, Path
from ha.plan import PlanError
from ha.raw import Interface

TEXT = """
[ha]
vip = ["192.168.8.100/24", "fd00:8::100/64"]
vrid = 51
interval = "50ms"
preempt = true
secret = { file = "ha.key" }
[ha.nodes]
a = "192.168.8.4"
b = { address = "192.168.8.6", link = "10.9.9.6", link_local = "fe80::6" }
"""


def interface(*addresses):
    return Interface("eth0", 2, "02:00:00:00:08:04", True, tuple(map(ip_interface, addresses)))


A = interface("192.168.8.4/24", "fe80::4/64")
B = interface("192.168.8.6/24", "fe80::6/64")


def build(text=TEXT, node="a", at=A, forms=None):
    return plan.build(accept(text.encode(), "t").ha, "digest", node, at, forms)


def test_a_node_knows_itself_by_its_address():
    ha = accept(TEXT.encode(), "t").ha
    assert plan.find_self(ha, lambda address: B if address == ip_address("192.168.8.6") else None) == ("b", B)


def test_who_has_no_nodes_address_is_told_so():
    ha = accept(TEXT.encode(), "t").ha
    with pytest.raises(PlanError, match=r"no interface of this machine has .* \(192.168.8.4, 192.168.8.6\)"):
        plan.find_self(ha, lambda _: None)
    with pytest.raises(PlanError, match="several nodes: a, b"):
        plan.find_self(ha, lambda _: A)


def test_both_families_of_an_entry_are_two_routers_of_one_group():
    four, six = build().routers
    assert (four.name, six.name) == ("vip-51-ipv4", "vip-51-ipv6")
    assert four.config.group == six.config.group == "vip-51"
    assert (four.config.key, six.config.key) == (("eth0", 51, Family.IPV4), ("eth0", 51, Family.IPV6))
    assert (four.config.source, six.config.source) == (ip_address("192.168.8.4"), ip_address("fe80::4"))
    assert four.config.addresses == (ip_interface("192.168.8.100/24"),)
    assert (four.config.interval, four.config.preempt, four.config.digest) == (0.05, True, "digest")


def test_priorities_and_paths_are_each_nodes_own():
    four, six = build().routers
    (other,) = four.config.nodes
    assert (four.config.priority, other.name, other.priority, other.path) == (250, "b", 240, Path.OTHER)
    assert six.nodes == {ip_address("fe80::6"): "b"}
    four, six = build(node="b", at=B).routers
    assert four.config.priority == 240
    assert four.config.nodes[0].path is Path.SAME
    assert six.nodes == {}  # the link will tell
    assert four.nodes == {ip_address("192.168.8.4"): "a"}


def test_the_link_is_where_the_file_says():
    one = build()
    assert one.link == ("192.168.8.4", 9601)
    assert one.peers == {"b": ("10.9.9.6", 9601)}
    assert build(node="b", at=B).link == ("10.9.9.6", 9601)


def test_without_a_secret_there_is_no_link():
    one = build(TEXT.replace('secret = { file = "ha.key" }', ""))
    assert (one.link, one.peers) == (None, {})
    assert one.routers[0].config.nodes[0].path is Path.NONE


def test_a_router_alone_is_in_no_group_and_has_the_entrys_name():
    (router,) = build(TEXT.replace(', "fd00:8::100/64"', "")).routers
    assert (router.name, router.config.group) == ("vip-51", "")


def test_an_interface_without_link_local_address_is_told():
    with pytest.raises(PlanError, match="no IPv6 link-local address"):
        build(at=interface("192.168.8.4/24"))


def test_the_checksum_form_heard_last_is_sent_first():
    four, six = build(forms={"vip-51-ipv4": Form.PSEUDO}).routers
    assert (four.config.checksum, six.config.checksum) == (Form.PSEUDO, Form.MESSAGE)


def test_in_unicast_nodes_with_ipv6_addresses_are_known_by_them():
    text = (
        TEXT.replace("192.168.8.4", "fd00:8::4")
        .replace("192.168.8.6", "fd00:8::6")
        .replace("[ha]", "[ha]\nunicast = true", 1)
    )
    four, six = build(text, at=interface("192.168.8.4/24", "fd00:8::4/64", "fe80::4/64")).routers
    assert six.config.source == ip_address("fd00:8::4")
    assert six.nodes == {ip_address("fd00:8::6"): "b"}
    assert four.config.source == ip_address("192.168.8.4")
