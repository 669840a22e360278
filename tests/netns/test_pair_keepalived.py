"""A real instance of ours beside a real keepalived, in both roles: one Active, and each takes over from the other."""

import time
from ipaddress import ip_interface

import pytest

from tests.kit import pair as kit
from tests.kit.keepalived import Instance, Keepalived, is_installed
from tests.kit.netns import VIP, VIP6, address_of, make_lab, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not is_installed(), reason="keepalived is not installed"),
]


def config(**options):
    """No secret, so no link: keepalived has none."""
    text = kit.config(**options).replace('secret = { file = "ha.key" }\n', "")
    # With the priority that it has: one that advertises less than the file says is taken for ill.
    node = f'b = {{ address = "{address_of("b")}", link_local = "fe80::ff:fe00:806", priority = 100 }}'
    return text.replace(f'b = "{address_of("b")}"', node)


CASES = {
    "version 3": ({"ha": 'checksum = "pseudo"'}, {"interval": 0.1}),
    "version 2": (
        {"interval": "1s", "ha": 'version = 2\npassword = "s3cret"'},
        {"interval": 1, "version": 2, "password": "s3cret"},
    ),
    "unicast": (
        {"ha": 'checksum = "pseudo"\nunicast = true'},
        {"interval": 0.1, "unicast": (address_of("b"), address_of("a"))},
    ),
    "IPv6": (
        {"vip": ["fe80::100/64", str(VIP6)]},
        {"interval": 0.1, "addresses": (ip_interface("fe80::100/64"), VIP6)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_ours_and_keepalived_take_over_from_each_other(tmp_path, case):
    ours_options, theirs_options = CASES[case]
    vip = VIP6 if case == "IPv6" else VIP
    with make_lab() as lab:
        theirs = Keepalived(lab["b"], tmp_path / "keepalived", Instance(**theirs_options))
        wait_until(theirs.is_active, 20)
        pair = kit.Pair(lab, tmp_path, config(**ours_options), nodes=("a",))
        pair.a.wait_for("backup")
        wait_until(lambda: pair.a.ask("status")["routers"][0]["received"] > 2, 20)
        time.sleep(0.5)
        assert not pair.a.holds(vip), "it keeps its address: we do not preempt"
        theirs.stop()
        pair.a.wait_for("active", 10)
        assert pair.a.holds(vip)
        again = Keepalived(lab["b"], tmp_path / "again", Instance(**theirs_options))
        wait_until(lambda: "BACKUP" in again.log, 20)
        time.sleep(4.5 if case == "version 2" else 1)
        assert not again.is_active(), again.log
        pair.a.kill("worker-0")
        wait_until(again.is_active, 10)
        assert not pair.a.holds(vip)
        assert pair.a.stop() == 0
