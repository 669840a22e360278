"""What is told of another node, and that all of it can be written as JSON."""

import json
from dataclasses import replace

from ha.report import describe_node
from tests.ha.test_sayings import WORD


def test_another_node_is_shown_by_its_own_words():
    shown = describe_node("b", "192.168.8.6", "up", WORD.digest, [WORD])
    assert shown["routers"] == [
        {
            "vrid": 51,
            "family": 4,
            "state": "active",
            "priority": 250,
            "fitness": "serving",
            "reasons": ["worker-1 is hung"],
        }
    ]
    assert (shown["link"], shown["drift"]) == ("up", False)
    assert json.loads(json.dumps(shown)) == shown


def test_another_configuration_is_drift():
    assert describe_node("b", "192.168.8.6", "up", "ours", [replace(WORD, digest="theirs")])["drift"]
    assert not describe_node("b", "192.168.8.6", "down", "ours", [])["drift"]
