"""The commands of a pair: what they ask, what they say, and when they refuse."""

import json
import os
import re
import socket
import threading

import pytest

from proxy import cli, pairing
from proxy.rights import Identity
from proxy.runtime import RuntimeFolder

ROUTER = {
    "name": "vip-51",
    "vrid": 51,
    "family": 4,
    "state": "active",
    "why": "b resigned to us",
    "priority": 240,
    "configured": 250,
    "fitness": "serving",
    "reasons": ["1 of 2 workers: -10"],
    "vips": ["192.168.8.100/24"],
    "interval": 0.1,
    "dropped": {"checksum": 3, "ttl": 0},
    "errors": {},
    "shouts": {"split-brain": 1},
    "sent": 7,
    "received": 2,
    "outage": 0.0015,
}
STATUS = {
    "ok": True,
    "node": "a",
    "interface": "eth0",
    "denied": [],
    "routers": [ROUTER],
    "nodes": [
        {
            "name": "b",
            "address": "192.168.8.6",
            "link": "up",
            "drift": False,
            "routers": [
                {"vrid": 51, "family": 4, "state": "backup", "priority": 240, "fitness": "serving", "reasons": []}
            ],
        }
    ],
}


class Ha:
    """In place of ha: one answer to every question."""

    def __init__(self, folder, answer):
        self.questions = []
        self._answer = answer
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(folder / pairing.SOCKET))
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.questions.append(json.loads(connection.makefile().readline()))
                connection.sendall(json.dumps(self._answer).encode())

    def close(self):
        self._socket.close()


@pytest.fixture
def ha(tmp_path):
    made = []

    def answering(answer):
        made.append(Ha(tmp_path, answer))
        return made[-1]

    yield answering
    for one in made:
        one.close()


def run(tmp_path, *words):
    return cli.run(["ha", *words, *(["--runtime", str(tmp_path)] if words[0] != "key" else [])])


def test_status_says_who_is_what_and_why(ha, tmp_path, capsys):
    ha(STATUS)
    assert run(tmp_path, "status") == 0
    said = capsys.readouterr().out
    for text in (
        "vip-51: ACTIVE (b resigned to us)",
        "priority 240 of 250, serving (1 of 2 workers: -10)",
        "last takeover 2 ms after the last advertisement",
        "7 sent, 2 received; 3 checksum, 1 split-brain",
        "node b (192.168.8.6): link up",
        "VRID 51 IPv4: backup, priority 240, serving",
        "all is well",
    ):
        assert text in said
    assert run(tmp_path, "status", "--json") == 0
    assert json.loads(capsys.readouterr().out) == STATUS


def test_what_is_not_as_it_should_be_is_a_sentence_and_exit_1(ha, tmp_path, capsys):
    down = {**STATUS["nodes"][0], "link": "down", "drift": True, "routers": []}
    ill = {**ROUTER, "state": "initialize", "why": "no carrier", "outage": None}
    ha({**STATUS, "routers": [ill], "nodes": [down], "denied": ["no real-time priority: needs CAP_SYS_NICE", "other"]})
    assert run(tmp_path, "status") == 1
    said = capsys.readouterr().out
    assert re.findall(r"(?m)^! (.*)", said) == [
        "vip-51 is in no state to take over: no carrier",
        "the link to b is down",
        "b has another configuration",
        "no real-time priority: needs CAP_SYS_NICE",
    ]


def test_a_handover_is_asked_for_and_told(ha, tmp_path, capsys):
    other = ha({"ok": True, "to": "b", "milliseconds": 1.4})
    assert run(tmp_path, "handover", "--to", "b") == 0
    assert other.questions == [{"command": "handover", "to": "b"}]
    assert capsys.readouterr().out == "handed over to b in 1.4 ms\n"


def test_a_refusal_is_told_and_exit_1(ha, tmp_path, capsys):
    ha({"ok": False, "error": "no node is known to be Active"})
    assert run(tmp_path, "handover") == 1
    assert capsys.readouterr().err == "tandem: no node is known to be Active\n"


def test_a_drill_tells_both_ways(ha, tmp_path, capsys):
    answer = {"ok": True, "there": {"to": "b", "milliseconds": 1.5}, "back": {"to": "a", "milliseconds": 2.5}}
    other = ha(answer)
    assert run(tmp_path, "drill", "--seconds", "1") == 0
    assert other.questions == [{"command": "drill", "seconds": 1.0}]
    assert capsys.readouterr().out == "to b in 1.5 ms, and back in 2.5 ms\n"


def test_without_an_instance_one_line_says_what_to_do(tmp_path, capsys):
    for words in (["status"], ["handover"], ["drill"]):
        assert run(tmp_path, *words) == 1
        assert "--runtime DIR" in capsys.readouterr().err


def test_nonsense_from_the_socket_is_told(ha, tmp_path, capsys):
    ha([1])
    assert run(tmp_path, "status") == 1
    assert "not the answer of ha" in capsys.readouterr().err


def test_a_key_is_long_and_new_each_time(tmp_path, capsys):
    assert run(tmp_path, "key") == 0
    assert run(tmp_path, "key") == 0
    one, other = capsys.readouterr().out.split()
    assert re.fullmatch("[0-9a-f]{64}", one)
    assert one != other


def test_release_is_refused_while_the_instance_lives(tmp_path, capsys):
    folder = RuntimeFolder.occupy(tmp_path / "r", Identity("root"))
    assert run(tmp_path / "r", "release") == 1
    assert "lives" in capsys.readouterr().err
    folder.leave()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: removes addresses")
def test_release_without_leftovers_is_harmless(tmp_path, capfd):
    assert run(tmp_path, "release") == 0
    assert capfd.readouterr().out == "no address was left\n"
