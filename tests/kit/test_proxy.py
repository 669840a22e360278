"""What the kit does around the program, without it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib

from tests.kit.proxy import descendants, free_ports, pss_of, reverse, with_ports


def test_a_configuration_gets_its_ports():
    parsed = tomllib.loads(with_ports(reverse("127.0.0.1:1", {"address": "127.0.0.1:2", "route": "t"}), [8080]))
    (site,) = parsed["site"]
    assert site["listen"] == "127.0.0.1:8080"
    assert site["upstream"] == ["127.0.0.1:1", {"address": "127.0.0.1:2", "route": "t"}]


def test_free_ports_are_all_different():
    assert len(set(free_ports(20))) == 20


def test_descendants_are_found_and_have_memory():
    program = "import subprocess, sys; subprocess.run(['cat'])"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        while len(found := descendants(parent.pid)) < 2:
            assert parent.poll() is None
        assert found[0] == parent.pid
        assert pss_of(parent.pid) > 1 << 20
        assert parent.stdin is not None
        parent.stdin.close()
    assert descendants(os.getpid())[0] == os.getpid()
