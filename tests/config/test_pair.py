"""Routers and priorities that come of `[ha]`, and each contradiction within it."""

import pytest

from config import pair
from config.load import Faults, accept, parse

BASE = """
[ha]
vip = ["192.168.8.100/24", "fd00:8::100/64"]
secret = { file = "ha.key" }
nodes = { a = "192.168.8.4", b = "192.168.8.6" }
"""
CROSSED = """
[ha.nodes]
a = "192.168.8.4"
b = { address = "192.168.8.6", link = "10.9.9.6" }
[[ha.router]]
vip = "192.168.8.100/24"
vrid = 51
[[ha.router]]
name = "second"
vip = "192.168.8.101/24"
vrid = 52
first = "b"
group = "vip-51"
"""


def faults(text):
    with pytest.raises(Faults) as caught:
        accept(text.encode(), "t")
    return str(caught.value)


def warnings(text, tmp_path):
    (tmp_path / "ha.key").touch(mode=0o600)
    return "\n".join(map(str, parse(text.encode(), "t", tmp_path).warnings))


def test_one_table_of_addresses_is_one_router_with_both_families():
    ha = accept(BASE.encode(), "t").ha
    (router,) = pair.routers(ha)
    assert (router.name, router.vrid, router.group, router.first) == ("vip-51", 51, "vip-51", "a")
    assert [str(vip) for vip in router.vips] == ["192.168.8.100/24", "fd00:8::100/64"]
    assert pair.priorities(ha, router) == {"a": 250, "b": 240}


def test_crossed_routers_prefer_the_nodes_that_they_name():
    ha = accept(CROSSED.encode(), "t").ha
    one, two = pair.routers(ha)
    assert (two.name, two.group, two.first) == ("second", "vip-51", "b")
    assert pair.priorities(ha, one) == {"a": 250, "b": 240}
    assert pair.priorities(ha, two) == {"b": 250, "a": 240}


def test_g1_virtual_routers_of_one_key_are_refused():
    """The same VRID in another family is another router (RFC 9568 §5.2.3)."""
    assert "51 is the IPv4 router" in faults(CROSSED.replace("vrid = 52", "vrid = 51"))
    text = CROSSED.replace("vrid = 52", "vrid = 51").replace("192.168.8.101/24", "fd00:8::101/64")
    assert len(pair.routers(accept(text.encode(), "t").ha)) == 2


def test_priorities_that_are_written_count():
    text = BASE.replace('a = "192.168.8.4"', 'a = { address = "192.168.8.4", priority = 101 }')
    ha = accept(text.encode(), "t").ha
    assert pair.priorities(ha, pair.routers(ha)[0]) == {"a": 101, "b": 240}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("192.168.8.6", "192.168.8.4", 'belongs to node "a" already'),
        ('nodes = { a = "192.168.8.4", b = "192.168.8.6" }', "nodes = {}", "no node"),
        ('vip = ["192.168.8.100/24", "fd00:8::100/64"]', "", "no virtual address"),
        ("192.168.8.100/24", "192.168.8.100", "a virtual address has the prefix of its network"),
        ("192.168.8.100/24", "192.168.8.6/24", 'is the own address of node "b"'),
        ("fd00:8::100/64", "192.168.8.100/24", 'belongs to "vip-51" already'),
        ("192.168.8.4", "192.168.8.4/24", "without prefix"),
        ("[ha]", '[ha]\ninterval = "5ms"', "cannot be advertised"),
        ("[ha]", '[ha]\ninterval = "25ms"', "in steps of 10ms"),
        ("[ha]", '[ha]\ninterval = "41s"', "cannot be advertised"),
        ("[ha]", "[ha]\nversion = 2", "version 2 has whole seconds only"),
        ("[ha]", '[ha]\nversion = 2\ninterval = "1s"', "version 2 knows IPv4 only"),
        ("[ha]", '[ha]\npassword = "s3cret"', "only version 2 has a password"),
        ("[ha]", '[ha]\nversion = 2\ninterval = "1s"\npassword = "123456789"', "at most 8 bytes"),
        ("[ha]", '[ha]\npreempt_delay = "1001s"', "at most 1000s"),
        ("[ha]", '[ha]\nnotify = "notify.sh"', "by its whole path"),
        ("[ha]", '[ha]\ntrack = { name = "x" }', "one of interface, file or script"),
        ("[ha]", '[ha]\ntrack = [{ name = "x", file = "f" }, { name = "x", file = "g" }]', "given twice"),
        ("[ha]", '[ha]\nrouter = { vip = "10.0.0.1/8", vrid = 9 }', "either `vip` or [[ha.router]]"),
    ],
)
def test_a_contradiction_is_a_fault(old, new, said):
    assert said in faults(BASE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("vrid = 52", "vrid = 51", '51 is the IPv4 router "vip-51" already'),
        ("192.168.8.101/24", "192.168.8.100/24", 'belongs to "vip-51" already'),
        ('first = "b"', 'first = "bb"', 'no node has the name "bb"'),
        ('name = "second"', 'name = "vip-51"', "given twice"),
        ('vip = "192.168.8.101/24"', "vip = []", "no virtual address"),
        ("10.9.9.6", "192.168.8.4", 'belongs to node "a" already'),
    ],
)
def test_a_contradiction_between_routers_is_a_fault(old, new, said):
    assert said in faults(CROSSED.replace(old, new))


def test_there_is_one_owner():
    nodes = (
        'nodes = { a = { address = "192.168.8.4", priority = 255 }, b = { address = "192.168.8.6", priority = 255 } }'
    )
    assert 'node "a" is the owner' in faults(BASE.replace('nodes = { a = "192.168.8.4", b = "192.168.8.6" }', nodes))


def test_a_link_local_address_is_one():
    text = BASE.replace('b = "192.168.8.6"', 'b = { address = "192.168.8.6", link_local = "192.168.8.7" }')
    assert "is not link-local" in faults(text)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('secret = { file = "ha.key" }', "", "no peer link"),
        ("192.168.8.100/24", "192.168.9.100/24", "no node has its address in `192.168.9.0/24`"),
        ("[ha]", "[ha]\nmin_ttl = 250", "no effect without `unicast`"),
        ("[ha]", '[ha]\npreempt_delay = "5s"', "no effect without `preempt`"),
    ],
)
def test_what_is_doubtful_is_a_warning(old, new, said, tmp_path):
    assert warnings(BASE, tmp_path) == ""
    assert said in warnings(BASE.replace(old, new), tmp_path)


def test_equal_priorities_are_a_warning(tmp_path):
    nodes = 'nodes = { a = { address = "192.168.8.4", priority = 9 }, b = { address = "192.168.8.6", priority = 9 } }'
    text = BASE.replace('nodes = { a = "192.168.8.4", b = "192.168.8.6" }', nodes)
    assert "the higher address is the better one" in warnings(text, tmp_path)


def test_a_secret_that_others_may_read_is_a_fault(tmp_path):
    (tmp_path / "ha.key").touch(mode=0o604)
    with pytest.raises(Faults, match="accessible to others"):
        parse(BASE.encode(), "t", tmp_path)
