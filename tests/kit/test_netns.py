"""The lab does what its names say, and leaves nothing behind."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.kit.netns import VIP, address6_of, address_of, mac_of, make_lab, wait_until

pytestmark = pytest.mark.netns


@pytest.fixture
def lab():
    with make_lab() as made:
        yield made


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_hosts_reach_each_other_over_both_families(lab):
    for target in (address_of("a"), address6_of("a"), address_of("origin"), address6_of("origin")):
        assert lab["client"].reaches(target)
    assert lab["client"].neighbour(address_of("a")) == mac_of("a")
    assert not lab["client"].reaches(VIP, seconds=0.1)


def test_what_is_called_runs_inside_and_a_failure_comes_out(lab):
    assert {name for _, name in lab["a"].call(socket.if_nameindex)} == {"lo", "eth0"}
    with pytest.raises(ZeroDivisionError):
        lab["a"].call(divmod, 1, 0)


def test_a_coroutine_runs_inside_while_the_lab_goes_on(lab):
    async def scenario():
        lab.cut("a")
        return {name for _, name in socket.if_nameindex()}, lab["a"].run("ip", "-br", "link", "show", "eth0")

    names, link = lab["a"].run_async(scenario())
    assert names == {"lo", "eth0"}
    assert "NO-CARRIER" in link


def test_a_cut_cable_has_no_carrier_and_an_isolated_one_has(lab):
    def carrier():
        return "NO-CARRIER" not in lab["a"].run("ip", "-br", "link", "show", "eth0")

    lab.cut("a")
    assert not carrier()
    lab.restore("a")
    wait_until(lambda: carrier() and lab["client"].reaches(address_of("a"), seconds=0.1))
    lab.isolate("a")
    assert carrier()
    assert not lab["client"].reaches(address_of("a"), seconds=0.1)
    lab.restore("a")
    wait_until(lambda: lab["client"].reaches(address_of("a"), seconds=0.1))


def test_an_unplugged_interface_is_gone_and_a_plugged_one_works(lab):
    lab.unplug("a")
    assert lab["a"].addresses() == set()
    lab.plug("a")
    assert lab["client"].reaches(address_of("a"))


@pytest.mark.parametrize("fault", ["mute", "deafen"])
def test_only_advertisements_are_lost_and_only_one_way(lab, fault):
    getattr(lab, fault)("a")
    to_b, to_a = sends(lab, "a", "b"), sends(lab, "b", "a")
    assert (to_b, to_a) == ((False, True) if fault == "mute" else (True, False))
    assert lab["client"].reaches(address_of("a"))
    lab.clear("a")
    lab.clear("a")  # twice is no error
    assert sends(lab, "a", "b")
    assert sends(lab, "b", "a")


def sends(lab, source, target):
    """Whether a packet of protocol 112 arrives."""
    with (
        lab[source].socket(socket.AF_INET, socket.SOCK_RAW, 112) as sender,
        lab[target].socket(socket.AF_INET, socket.SOCK_RAW, 112) as receiver,
    ):
        sender.sendto(b"junk", (str(address_of(target)), 0))
        receiver.settimeout(0.2)
        try:
            return receiver.recv(100).endswith(b"junk")
        except TimeoutError:
            return False


def test_a_capture_sees_both_directions(lab):
    capture = lab.capture("a")
    assert lab["client"].reaches(address_of("a"))
    assert capture.wait_for(lambda frame: frame.sent)
    assert capture.wait_for(lambda frame: not frame.sent and frame.data[6:12].hex(":") == mac_of("a"))
    with pytest.raises(AssertionError, match="no such frame"):
        capture.wait_for(lambda frame: False, seconds=0.05)
    lab.cut("a")
    capture.read()  # says once that the cable is cut: no error


def test_nothing_is_left_of_a_lab_even_after_a_failure():
    before = open_files()
    children = []

    def fail():
        with make_lab(("a", "b")) as lab:
            children.extend(lab["a"].popen(["sh", "-c", f"{first}; sleep 60"]) for first in ("true", "kill -STOP $$"))
            lab.capture("a")
            assert lab["a"].reaches(address_of("b"))
            divmod(1, 0)

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(children) == 2
    assert all(child.returncode for child in children)
    assert open_files() <= before
    assert not any(Path("/run/netns").glob("*")) if Path("/run/netns").exists() else True


def test_a_lab_that_cannot_be_built_leaves_nothing_either():
    before = open_files()
    with pytest.raises(KeyError), make_lab(("a", "stranger")):
        pass
    assert open_files() <= before
