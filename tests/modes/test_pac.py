"""The text is a program that real engines run, and it decides as the configuration says."""

import json
import subprocess
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.load import accept
from config.units import parse_network
from proxy.http.message import Fields
from proxy.modes.pac import Pac, PacFacts, build_pac, virtual_addresses

NETWORKS = tuple(map(parse_network, ["192.168.8.0/24", "10.0.0.7", "0.0.0.0/8", "fd00:8::/33", "2001:db8::1"]))
FACTS = PacFacts(("proxy.example.org:3128", "192.168.8.6:3128"), ("Intern.Example.org.", 'o"dd\\'), NETWORKS)
WAYS = "PROXY proxy.example.org:3128; PROXY 192.168.8.6:3128"


def decide(text, hosts):
    """What the function says for each host, in a real engine without any of a browser's helpers."""
    script = (
        text + "\nconsole.log(JSON.stringify(HOSTS.map(function (h) { return FindProxyForURL('http://x/', h); })));"
    )
    script = script.replace("HOSTS", json.dumps(list(hosts)))
    done = subprocess.run(["node", "-"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def said():
    hosts = {
        "printer": "DIRECT",
        "localhost": "DIRECT",
        "app.localhost": "DIRECT",
        "127.0.0.1": "DIRECT",
        "127.255.255.255": "DIRECT",
        "128.0.0.1": WAYS,
        "[::1]": "DIRECT",
        "::1": "DIRECT",
        "0:0:0:0:0:0:0:1": "DIRECT",
        "::2": WAYS,
        "192.168.8.50": "DIRECT",
        "192.168.9.50": WAYS,
        "10.0.0.7": "DIRECT",
        "10.0.0.8": WAYS,
        "fd00:8::5": "DIRECT",
        "fd00:8:7fff::5": "DIRECT",
        "fd00:8:8000::5": WAYS,
        "2001:db8::1": "DIRECT",
        "2001:DB8::1": "DIRECT",
        "2001:db8::2": WAYS,
        "intern.example.org": "DIRECT",
        "a.INTERN.example.org.": "DIRECT",
        "notintern.example.org": WAYS,
        "example.org": WAYS,
        "www.example.com": WAYS,
    }
    return list(zip(hosts, hosts.values(), decide(build_pac(FACTS), hosts), strict=True))


def test_each_host_goes_the_way_that_the_configuration_says(said):
    assert [(host, got) for host, wanted, got in said if got != wanted] == []


def test_the_text_is_ascii_whatever_names_hold():
    assert build_pac(FACTS).isascii()
    assert build_pac(PacFacts(("a:1",), ("ü.test",))).isascii()


def test_without_a_proxy_or_as_a_last_resort_it_is_direct():
    assert decide(build_pac(PacFacts(())), ["example.org"]) == ["DIRECT"]
    assert decide(build_pac(PacFacts(("p:1",), last_resort=True)), ["example.org"]) == ["PROXY p:1; DIRECT"]


addresses = st.one_of(
    st.integers(0, 2**32 - 1).map(ip_address),
    st.integers(0, 2**128 - 1).map(ip_address),
    st.integers(0, 2**16).map(lambda low: ip_address((0xFD000008 << 96) + low * (1 << 90))),
    st.integers(0, 255).map(lambda low: ip_address((192 << 24) + (168 << 16) + (8 << 8) + low)),
)


@settings(max_examples=5, deadline=None)
@given(st.lists(addresses, min_size=50, max_size=100))
def test_an_engine_finds_addresses_in_networks_as_python_does(some):
    wanted = ["DIRECT" if one.is_loopback or any(one in network for network in NETWORKS) else WAYS for one in some]
    assert decide(build_pac(FACTS), map(str, some)) == wanted


# ---- the files -------------------------------------------------------------------------------------------------------


def test_the_file_names_the_address_that_the_browser_reached():
    made = Pac("forward", ()).answer(b"/proxy.pac", ("::ffff:192.168.8.4", 3128))
    assert b'"PROXY 192.168.8.4:3128"' in made.body
    assert made.head.status == 200
    assert made.head.fields.get(b"content-type") == b"application/x-ns-proxy-autoconfig"
    assert isinstance(made.head.fields, Fields)
    assert b"[fe80::4]:3128" in Pac("forward", ()).answer(b"/wpad.dat?x=1", ("fe80::4%eth0", 3128)).body


def test_virtual_addresses_come_before_it_and_configured_names_before_them():
    pac = Pac("forward", (), vips=("192.168.8.100", "fd00:8::100"))
    assert b'"PROXY 192.168.8.100:3128; PROXY [fd00:8::100]:3128"' in pac.answer(b"/wpad.dat", ("10.0.0.1", 3128)).body
    named = Pac("forward", ("proxy.lan:8080",), vips=("192.168.8.100",))
    assert b'"PROXY proxy.lan:8080"' in named.answer(b"/proxy.pac", ("10.0.0.1", 3128)).body


def test_other_paths_are_not_its_business_and_answers_are_kept_within_bounds():
    pac = Pac("forward", ())
    assert pac.answer(b"/", ("10.0.0.1", 1)) is None
    assert pac.answer(b"/proxy.pac.exe", ("10.0.0.1", 1)) is None
    first = pac.answer(b"/proxy.pac", ("10.0.0.1", 1))
    assert pac.answer(b"/wpad.dat", ("10.0.0.1", 1)) is first
    for number in range(200):
        pac.answer(b"/proxy.pac", ("10.0.0.1", number))
    assert len(pac._answers) <= 64


def test_the_virtual_addresses_of_a_pair_are_known_ipv4_first():
    text = '[ha]\nvip = ["fd00:8::100/64", "192.168.8.100/24"]\nnodes = { a = "192.168.8.4" }\n'
    assert virtual_addresses(accept(text.encode(), "t")) == ("192.168.8.100", "fd00:8::100")
    assert virtual_addresses(accept(b"", "t")) == ()
