"""The text that the kernel is given; what the kernel makes of it is tested in tests/netns/test_interception.py."""

from __future__ import annotations

from ipaddress import ip_network

from config.schema import Transparent
from proxy.firewall import ruleset

LAN = (ip_network("192.168.8.0/24"), ip_network("fd00:8::/64"))


def text(**options):
    return ruleset.table(wanted(**options))


def wanted(**options):
    return ruleset.interception(Transparent(**{"interface": ("lan0",), "clients": LAN, **options}))


def test_the_table_is_ours_alone_and_the_kernel_ends_it_with_us():
    lines = text().splitlines()
    assert lines[0] == "table inet tandem {"
    assert lines[1].strip() == "flags owner"


def test_both_families_of_the_clients_are_taken_and_no_other():
    assert "ip saddr @clients4 tcp dport { 80 } counter redirect to :3129" in text()
    assert "ip6 saddr @clients6 tcp dport { 80 } counter redirect to :3129" in text()
    assert "@clients6 tcp" not in text(clients=LAN[:1])
    assert "@clients4 tcp" not in text(clients=LAN[1:])


def test_https_and_its_udp_are_touched_only_where_they_are_asked_for():
    assert "tcp dport { 443 } counter redirect to :3130" in text()
    assert "udp dport { 443 } counter reject" in text()
    assert "443" not in text(https="off")
    assert "udp" not in text(refuse_quic=False)
    assert "3130" not in text(https="off")


def test_what_is_exempt_returns_before_anything_is_taken():
    made = text(exempt=(ip_network("10.0.0.0/8"),), exempt_clients=(ip_network("192.168.8.9/32"),))
    assert "set spared4 { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }" in made
    chain = made[made.index("chain intercept") :]
    for exemption in ("fib daddr type local return", "ip daddr @spared4 return", "ip saddr @spared_clients4 return"):
        assert chain.index(exemption) < chain.index("redirect")


def test_networks_that_overlap_or_come_in_another_order_give_the_same_text():
    one = text(clients=(ip_network("10.0.0.0/8"), ip_network("10.1.0.0/16"), ip_network("192.168.8.0/24")))
    assert one == text(clients=(ip_network("192.168.8.0/24"), ip_network("10.0.0.0/8")))


def test_tproxy_marks_with_one_bit_and_leads_marked_packets_to_this_host():
    made = text(method="tproxy")
    assert "tproxy ip to :3129 meta mark set meta mark or 0x00400000 accept" in made
    assert "redirect" not in made
    commands = ruleset.route_commands(wanted(method="tproxy"))
    assert commands[0] == "ip -4 rule add fwmark 0x400000/0x400000 lookup 7453 priority 7453"
    assert commands[3] == "ip -6 route add local ::/0 dev lo table 7453"
    assert ruleset.route_commands(wanted()) == []


def test_a_farewell_takes_nothing_new_and_keeps_what_was_taken():
    for method in ("redirect", "tproxy"):
        made = ruleset.farewell(wanted(method=method))
        assert "dport { 80 }" not in made
        assert ("socket transparent 1" in made) == (method == "tproxy")
        assert "reject with tcp reset" in made


def test_the_families_are_those_of_the_clients():
    assert wanted().families == (4, 6)
    assert wanted(clients=LAN[1:]).families == (6,)
