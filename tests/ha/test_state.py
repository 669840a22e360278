"""What an earlier run left is read back; what is no such thing is as good as nothing."""

from __future__ import annotations

import json
import os

import pytest

from ha.state import State, load


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ha.state"


def test_what_is_saved_is_loaded(path):
    state = State(path, ["192.168.8.100/24"], ["vrrp4-2-51"], {"eth0/arp_ignore": ["0", "1"]}, {"form": "pseudo"})
    state.save()
    assert load(path) == state
    assert path.stat().st_mode & 0o777 == 0o600


def test_saving_again_replaces_all_of_it(path):
    State(path, ["192.168.8.100/24"]).save()
    State(path, [], ["vrrp4-2-51"]).save()
    assert load(path) == State(path, [], ["vrrp4-2-51"])
    assert os.listdir(path.parent) == ["ha.state"]  # noqa: PTH208


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        '{"addresses": 7, "links": [1], "sysctls": [], "learned": []}',
        '{"sysctls": {"eth0/arp_ignore": ["0"], "eth0/arp_announce": "01"}}',
        "[" * 100_000,
        "\ud800",
    ],
    ids=["empty", "cut", "list", "null", "number", "wrong types", "wrong pairs", "deep", "no text"],
)
def test_a_file_that_is_none_of_ours_is_as_good_as_none(path, content):
    path.write_bytes(content.encode(errors="surrogatepass"))
    assert load(path) == State(path)


def test_no_file_is_an_empty_state(path):
    assert load(path) == State(path)


def test_a_link_is_not_followed_neither_to_read_nor_to_write(path, tmp_path):
    """Workers may write in that folder: what they put there must not make us write elsewhere."""
    victim = tmp_path / "victim"
    victim.write_text(json.dumps({"addresses": ["10.0.0.1/8"]}))
    path.symlink_to(victim)
    path.with_name("ha.state.new").symlink_to(victim)
    assert load(path) == State(path)
    before = victim.read_text()
    State(path, ["192.168.8.100/24"]).save()
    assert victim.read_text() == before
    assert load(path).addresses == ["192.168.8.100/24"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_somebody_elses_file_is_as_good_as_none(path):
    State(path, ["192.168.8.100/24"]).save()
    os.chown(path, 65534, 65534)
    assert load(path) == State(path)


def test_a_pipe_in_its_place_does_not_hang_us(path):
    os.mkfifo(path)
    assert load(path) == State(path)
