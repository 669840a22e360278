"""`python -m ha` by hand: usage, and what `release` removes."""

import json
import mmap
import os
import select
import socket
import subprocess
import sys
import tempfile
from ipaddress import ip_interface
from pathlib import Path

import pytest

from ha import liveness, orders, privileges
from ha.netlink import Netlink
from tests.kit.netns import is_here, make_lab, why_not

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
        assert not is_here(left)
        assert is_here(other)
        after = json.loads((tmp_path / "ha.state").read_text())
        assert (after["addresses"], after["learned"]) == ([], {"incarnation": 7})
        assert run("release", "--runtime", tmp_path).stdout == "no address was left\n"
    finally:
        netlink.delete(left)
        netlink.delete(other)
        netlink.close()


CONFIG = """
[ha]
vip = ["192.168.8.100/24", "fd00:8::100/64"]
[ha.nodes]
a = "192.168.8.4"
b = "192.168.8.6"
"""


class Process:
    """`python -m ha run` on host A, as the supervisor starts it, to become the user nobody."""

    def __init__(self, lab, folder):
        os.chown(folder, 65534, 65534)
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        shared = os.memfd_create("shared")
        os.ftruncate(shared, 3 * liveness.PAGE)
        page = memoryview(mmap.mmap(shared, 0))
        liveness.initialise(page[2 * liveness.PAGE :])
        words = [
            f"--control={theirs.fileno()}",
            f"--shared={shared}",
            f"--pages={liveness.PAGE}",
            "--page=1",
            f"--runtime={folder}",
        ]
        self.child = lab["a"].call(
            subprocess.Popen,
            [sys.executable, "-P", "-m", "ha", "run", *words, "--uid=65534", "--gid=65534"],
            pass_fds=[theirs.fileno(), shared],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        theirs.close()
        os.close(shared)

    def order(self, message, content=None):
        if content is None:
            orders.send(self.channel, message)
            return
        fd = os.memfd_create("x")
        os.write(fd, content)
        orders.send(self.channel, message, [fd])
        os.close(fd)

    def heard(self, kind):
        while select.select([self.channel], [], [], 20)[0]:
            message = orders.decode_from_ha(orders.receive(self.channel)[0])
            if isinstance(message, kind):
                return message
        raise AssertionError(f"no {kind}")


@pytest.mark.slow
@pytest.mark.netns
@pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")
def test_as_another_user_it_has_what_it_needs_and_puts_everything_back():
    with make_lab(("a", "b")) as lab, tempfile.TemporaryDirectory() as top:  # pytest's own folders are root's
        folder = Path(top)
        process = Process(lab, folder)
        process.order(orders.Prepare(1, "digest", "t", str(folder), "/"), CONFIG.encode())
        process.heard(orders.Prepared)
        process.order(orders.Commit(1))
        will = process.heard(orders.Will)
        assert all(bequest.deletes and bequest.farewells for bequest in will.bequests)
        process.heard(orders.Ready)
        facts = Path(f"/proc/{process.child.pid}/status").read_text()
        lines = dict(line.split(":\t", 1) for line in facts.splitlines() if ":\t" in line)
        assert lines["Uid"].split() == ["65534"] * 4
        assert int(lines["CapEff"], 16) & ~sum(1 << bit for bit in privileges.KEEPS) == 0
        assert (folder / "ha.sock").stat().st_uid == 65534
        assert lab["a"].sysctl("net.ipv4.conf.eth0.arp_ignore") == "1"
        process.order(orders.Stop(0.1))
        assert process.child.wait(10) == 0
        assert lab["a"].sysctl("net.ipv4.conf.eth0.arp_ignore") == "0"
        assert not (folder / "ha.sock").exists()
        process.channel.close()
