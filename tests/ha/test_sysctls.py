"""The state file cannot make us write anything but the settings we know; the settings themselves are in netns/."""

from __future__ import annotations

import pytest

from ha import sysctls
from ha.state import State, load


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder in the place of /proc/sys/net/ipv4/conf: a real one would change this machine."""
    conf = tmp_path / "net" / "ipv4" / "conf"
    for name in ("eth0", "all"):
        (conf / name).mkdir(parents=True)
        for setting in ("arp_ignore", "arp_announce", "rp_filter", "forwarding"):
            (conf / name / setting).write_text("0\n")
    monkeypatch.setattr(sysctls, "_FOLDER", conf)
    return conf


@pytest.fixture
def state(tmp_path):
    return State(tmp_path / "ha.state")


def test_what_a_setting_was_is_on_disk_before_it_is_changed(folder, state):
    (folder / "eth0" / "arp_announce").unlink()
    (folder / "eth0" / "arp_announce").mkdir()  # cannot be read
    faults = sysctls.apply("eth0", sysctls.FOR_ADDRESSES, state)
    assert faults == ["cannot set arp_announce of eth0 to 2: Is a directory"]
    assert load(state.path).sysctls == {"eth0/arp_ignore": ["0", "1"]}
    assert (folder / "eth0" / "arp_ignore").read_text() == "1"


def test_a_setting_that_is_right_already_is_not_ours(folder, state):
    (folder / "eth0" / "arp_ignore").write_text("1\n")
    assert sysctls.apply("eth0", {"arp_ignore": "1"}, state) == []
    assert state.sysctls == {}


@pytest.mark.parametrize(
    "key", ["eth0/forwarding", "../../../victim", "/victim", "../arp_ignore", "eth0/../arp_ignore"]
)
def test_only_settings_that_we_make_are_restored(folder, state, tmp_path, key):
    victims = [tmp_path / "victim", folder.parent / "arp_ignore", folder / "arp_ignore"]
    for victim in victims:
        victim.write_text("1")
    (folder / "eth0" / "forwarding").write_text("1")
    state.sysctls = {key: ["0", "1"]}
    sysctls.restore(state)
    assert all(victim.read_text() == "1" for victim in victims)
    assert (folder / "eth0" / "forwarding").read_text() == "1"


def test_only_numbers_are_restored(folder, state):
    (folder / "eth0" / "arp_ignore").write_text("1")
    state.sysctls = {"eth0/arp_ignore": ["1; x", "1"]}
    sysctls.restore(state)
    assert (folder / "eth0" / "arp_ignore").read_text() == "1"


def test_what_is_restored_is_forgotten(folder, state):
    sysctls.apply("eth0", sysctls.FOR_MACVLAN, state)
    sysctls.restore(state)
    assert state.sysctls == {}
    assert load(state.path).sysctls == {}
    assert {(folder / "eth0" / name).read_text().strip() for name in sysctls.FOR_MACVLAN} == {"0"}


def test_an_interface_that_is_gone_is_no_error(folder, state):
    state.sysctls = {"eth9/arp_ignore": ["0", "1"]}
    sysctls.restore(state)
    assert state.sysctls == {}


ROUTES = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
DEFAULT = "{}\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
NEAR = "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"


@pytest.mark.parametrize(
    ("routes", "strict", "loose"),
    [
        (ROUTES + NEAR + DEFAULT.format("eth1"), "eth0", True),
        (ROUTES + NEAR + DEFAULT.format("eth1"), "all", True),
        (ROUTES + NEAR + DEFAULT.format("eth1"), None, False),
        (ROUTES + NEAR + DEFAULT.format("eth0"), "eth0", False),
        (ROUTES + DEFAULT.format("eth1") + DEFAULT.format("eth0"), "eth0", False),
        (ROUTES + NEAR, "eth0", False),
        ("", "eth0", False),
    ],
)
def test_ar2_rp_filter_is_made_loose_where_it_is_strict_and_answers_leave_elsewhere(folder, routes, strict, loose):
    if strict:
        (folder / strict / "rp_filter").write_text("1\n")
    assert sysctls.wanted("eth0", routes) == {**sysctls.FOR_ADDRESSES, **({"rp_filter": "2"} if loose else {})}


def test_ar2_a_loose_rp_filter_is_put_back(folder, state):
    (folder / "eth0" / "rp_filter").write_text("1\n")
    sysctls.apply("eth0", sysctls.wanted("eth0", ROUTES + DEFAULT.format("eth1")), state)
    assert (folder / "eth0" / "rp_filter").read_text() == "2"
    sysctls.restore(state)
    assert (folder / "eth0" / "rp_filter").read_text() == "1"
