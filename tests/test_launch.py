"""Up to the loop: what hinders a start is one line and exit 1, and nothing is left behind."""

import sys
import tempfile
from pathlib import Path

import pytest

from tests.kit.instance import Instance, can_connect, free_port

pytestmark = pytest.mark.slow


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory() as top:
        Path(top).chmod(0o755)
        yield Path(top)


def text(port, extra=""):
    return f'[[site]]\nlisten = "127.0.0.1:{port}"\nupstream = "127.0.0.1:1"\n{extra}'


def test_a_faulty_file_ends_with_all_its_faults(folder):
    instance = Instance(folder, "[[site]]\nlisten = 7\nupstrem = 3\n")
    assert instance.popen.wait(20) == 1
    assert "tandem.toml:2:" in instance.said()
    assert "tandem.toml:3:" in instance.said()
    assert not instance.runtime.exists()


def test_an_exposed_key_stops_the_start(folder):
    (folder / "shop.pem").write_text("x")
    (folder / "shop.key").write_text("x")
    (folder / "shop.key").chmod(0o644)
    instance = Instance(folder, text(free_port(), 'tls = { cert = "shop.pem", key = "shop.key" }\n'))
    assert instance.popen.wait(20) == 1
    assert "chmod" in instance.said()


def test_a_log_that_cannot_be_written_stops_the_start_and_frees_folder_and_port(folder):
    port = free_port()
    instance = Instance(folder, text(port, '[log]\naccess = { file = "no/where.log" }\n'))
    assert instance.popen.wait(20) == 1
    assert "access log" in instance.said()
    assert [entry.name for entry in instance.runtime.iterdir()] == ["lock"]
    assert not can_connect(port)


def test_the_access_log_is_there_before_any_worker(folder):
    instance = Instance(folder, text(free_port(), '[log]\naccess = { file = "access.log" }\n')).ready()
    assert (folder / "access.log").exists()
    assert instance.end() == 0


def test_warnings_are_told_and_stop_nothing(folder):
    """Started as root without the user, or with a configuration that is odd, it serves all the same."""
    instance = Instance(folder, text(free_port(), '[[rule]]\nname = "a"\n[[rule]]\nname = "b"\n')).ready()
    assert "rule[1]" in instance.said()
    assert instance.end() == 0


def test_the_folder_can_be_used_again_at_once(folder):
    port = free_port()
    for _ in range(2):
        instance = Instance(folder, text(port), python=sys.executable).ready()
        assert instance.ask()[1] == 1
        assert instance.end() == 0
