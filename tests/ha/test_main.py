"""`python -m ha` by hand: usage, and what `release` removes."""

import json
import os
import subprocess
import sys
from ipaddress import ip_interface
from pathlib import Path

import pytest

from ha.netlink import Netlink

ROOT = Path(__file__).resolve().parent.parent.parent


def run(*words):
    return subprocess.run(
        [sys.executable, "-P", "-m", "ha", *map(str, words)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.slow
def test_wrong_usage_is_exit_2():
    assert run().returncode == 2
    assert run("dance").returncode == 2


@pytest.mark.slow
@pytest.mark.netns
def test_release_removes_what_the_state_file_names_and_nothing_else(tmp_path):
    """On loopback, with addresses for documentation (RFC 5737)."""
    left, other = ip_interface("192.0.2.87/32"), ip_interface("192.0.2.88/32")
    netlink = Netlink("lo")
    netlink.prepare([left, other], 60)
    netlink.add(left, 60)
    netlink.add(other, 60)
    try:
        state = {"addresses": [str(left)], "links": [], "sysctls": {}, "learned": {"incarnation": 7}}
        (tmp_path / "ha.state").write_text(json.dumps(state))
        done = run("release", "--runtime", tmp_path)
        assert (done.returncode, done.stdout) == (0, "removed 192.0.2.87/32\n"), done.stderr
        assert not netlink.holds(left)
        assert netlink.holds(other)
        after = json.loads((tmp_path / "ha.state").read_text())
        assert (after["addresses"], after["learned"]) == ([], {"incarnation": 7})
        assert run("release", "--runtime", tmp_path).stdout == "no address was left\n"
    finally:
        netlink.delete(left)
        netlink.delete(other)
        netlink.close()
