"""ha becomes another user with four capabilities, and says what it was denied."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ha import privileges

ROOT = Path(__file__).resolve().parent.parent.parent
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives up its rights")


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@needs_root
def test_it_becomes_the_user_and_keeps_what_it_needs():
    code = (
        "import os; from ha import privileges; privileges.become(65534, 65534)\n"
        "print(os.getresuid(), os.getresgid(), os.getgroups(), privileges.permitted())\n"
        "print([l for l in open('/proc/self/status') if l.startswith('CapAmb')][0].split()[1])\n"
    )
    keeps = sum(1 << bit for bit in privileges.KEEPS) & privileges.permitted()
    expected = f"(65534, 65534, 65534) (65534, 65534, 65534) [] {keeps}"
    assert run(code) == [expected, "0" * 16]


@needs_root
def test_programs_that_it_starts_have_nothing():
    code = (
        "import subprocess; from ha import privileges; privileges.become(65534, 65534)\n"
        "done = subprocess.run(['grep', 'CapEff', '/proc/self/status'], capture_output=True, text=True)\n"
        "print(done.stdout.split()[1])"
    )
    assert run(code) == ["0" * 16]


@needs_root
def test_each_denial_is_a_sentence_that_names_the_right():
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))\n"
        "resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))\n"
        "from ha import privileges; privileges.KEEPS = frozenset()\n"
        "privileges.become(65534, 65534); print(*privileges.go_real_time(lambda: None), sep='\\n')"
    )
    assert run(code) == [
        "no real-time priority: needs CAP_SYS_NICE",
        "memory is not locked: needs CAP_IPC_LOCK",
        "not spared when memory runs out: needs OOMScoreAdjust of the unit",
    ]


@needs_root
@pytest.mark.slow
def test_a_loop_that_never_pauses_loses_its_priority_and_goes_on():
    """It must have a processor to itself for 200 ms at real-time priority, which the kernel gives it."""
    code = (
        "import os, time; from ha import privileges\n"
        "said = []\n"
        "denied = privileges.go_real_time(lambda: said.append(1))\n"
        "if any('real-time' in line for line in denied): print('denied'); raise SystemExit\n"
        "print(os.sched_getscheduler(0) == os.SCHED_FIFO)\n"
        "end = time.monotonic() + 20\n"
        "while not said and time.monotonic() < end: pass\n"
        "print(os.sched_getscheduler(0) == os.SCHED_OTHER, bool(said))"
    )
    assert run(code) in (["True", "True True"], ["denied"])
