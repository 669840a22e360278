"""What earlier lives left, without the network: leftovers on interfaces are tests/netns/test_netlink.py's matter."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest

from ha.events import Form
from ha.past import Past
from ha.scribe import Scribe
from tests.kit.lan import config


@pytest.fixture
def scribe():
    lines = []
    one = Scribe(lines.append)
    one.lines = lines
    yield one
    one.close()


@pytest.fixture
def life(tmp_path, scribe):
    """Another life with the same file."""
    return lambda: Past(tmp_path / "ha.state", scribe)


def plan(*addresses):
    return SimpleNamespace(routers=[SimpleNamespace(config=config("a", addresses=addresses))])


def written(tmp_path):
    return json.loads((tmp_path / "ha.state").read_text())


def test_an_incarnation_is_higher_than_in_any_earlier_life(life, tmp_path):
    past = life()
    last = past.next_incarnation()
    past.remember(plan())
    content = written(tmp_path)
    content["learned"]["incarnation"] = last + 10**9  # the clock went back
    (tmp_path / "ha.state").write_text(json.dumps(content))
    assert life().next_incarnation() == last + 10**9 + 1


def test_forms_that_were_heard_are_known_to_the_next_life_and_junk_is_not(life, tmp_path):
    past = life()
    assert past.learn_forms({"vip-51": Form.PSEUDO})
    assert not past.learn_forms({"vip-51": Form.PSEUDO})
    assert life().forms == {"vip-51": Form.PSEUDO}
    content = written(tmp_path)
    for junk in ({"vip-51": "odd", "vip-52": ["pseudo"]}, ["pseudo"], None):
        content["learned"]["forms"] = junk
        (tmp_path / "ha.state").write_text(json.dumps(content))
        assert life().forms == {}


def test_during_a_reload_old_and_new_addresses_are_in_the_file(life, tmp_path):
    past = life()
    past.remember(plan("192.168.8.100/24"))
    past.remember(plan("192.168.8.101/24"), besides=True)
    assert written(tmp_path)["addresses"] == ["192.168.8.100/24", "192.168.8.101/24"]
    past.remember(plan("192.168.8.101/24"))
    assert written(tmp_path)["addresses"] == ["192.168.8.101/24"]


def test_a_macvlan_is_in_the_file_before_it_is_made_and_nothing_at_the_end(life, tmp_path):
    past = life()
    past.note_link("vrrp4-2-51")
    assert written(tmp_path)["links"] == ["vrrp4-2-51"]
    past.remember(plan("192.168.8.100/24"))
    asyncio.run(past.end())
    assert (written(tmp_path)["links"], written(tmp_path)["addresses"]) == ([], [])


def test_a_file_that_cannot_be_written_is_one_line_and_ends_nothing(tmp_path, scribe):
    past = Past(tmp_path / "nowhere" / "ha.state", scribe)
    past.remember(plan("192.168.8.100/24"))
    past.note_link("vrrp4-2-51")
    scribe.close()
    assert len(scribe.lines) == 1
    assert "a crash may leave settings behind" in scribe.lines[0]
