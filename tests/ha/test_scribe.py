"""Lines are limited by subject and written elsewhere; notify programs run in order."""

import threading

import pytest

from ha.events import State
from ha.scribe import EVERY, Scribe, run


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_one_line_a_minute_of_each_subject_and_the_next_says_how_many_were_left_out():
    lines, clock = [], Clock()
    scribe = Scribe(lines.append, clock)
    for _ in range(5):
        scribe.warn("checksum 10.0.0.9", "bad checksum")
    scribe.warn("other", "something else")
    clock.now += EVERY
    scribe.warn("checksum 10.0.0.9", "bad checksum")
    scribe.close()
    assert lines == [
        "tandem: ha: WARNING: bad checksum\n",
        "tandem: ha: WARNING: something else\n",
        "tandem: ha: WARNING: bad checksum (4 more like it)\n",
    ]


def test_many_subjects_do_not_fill_the_memory():
    scribe = Scribe(lambda _: None, Clock())
    for number in range(5000):
        scribe.warn(f"stranger {number}", "stranger")
    assert len(scribe._subjects) <= 1000
    scribe.close()


def test_a_log_that_nobody_reads_keeps_nobody():
    gate = threading.Event()
    scribe = Scribe(lambda _: gate.wait(10))
    for number in range(3000):
        scribe.say(f"line {number}")
    gate.set()
    scribe.close()


@pytest.mark.slow
def test_notify_programs_run_in_order_with_the_words_of_keepalived(tmp_path):
    program, out = tmp_path / "notify", tmp_path / "out"
    program.write_text(f'#!/bin/sh\necho "$@" >> {out}\n')
    program.chmod(0o755)
    scribe = Scribe(lambda _: None)
    scribe.notify(str(program), "vip-51", State.BACKUP, 250)
    scribe.notify(str(program), "vip-51", State.ACTIVE, 250)
    scribe.notify(str(program), "vip-51", State.INITIALIZE, 250, stopped=True)
    scribe.close(10)
    assert out.read_text().splitlines() == [
        "INSTANCE vip-51 BACKUP 250",
        "INSTANCE vip-51 MASTER 250",
        "INSTANCE vip-51 STOP 250",
    ]


@pytest.mark.slow
def test_a_program_that_fails_is_told():
    lines = []
    scribe = Scribe(lines.append)
    scribe.notify("/no/such/program", "x", State.ACTIVE, 1)
    scribe._runs.put(("/bin/false",))
    scribe.close(10)
    scribe = Scribe(lines.append)
    assert run(("/bin/sleep", "30"), 0.1) == "did not end within 0.1 s"
    assert run(("/bin/true",)) == ""
    assert run(("/bin/false",)) == "exit 1"
    scribe.close()
