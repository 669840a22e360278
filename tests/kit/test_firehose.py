"""The fast origin sends and checks what it says."""

from __future__ import annotations

import json

import pytest

from tests.kit import raw
from tests.kit.firehose import BLOCK, PATTERN, Firehose, pattern_file, send_pattern

pytestmark = pytest.mark.slow  # it starts a process


@pytest.fixture(scope="module")
def firehose():
    with Firehose() as running:
        yield running


@pytest.mark.parametrize("kind", ["length", "chunked", "close"])
def test_bodies_are_the_pattern_in_each_framing(firehose, kind):
    count = 2 * BLOCK + 17
    answer = raw.get(firehose.at, f"/{kind}/{count}?cache-control=no-store")
    assert answer.body == (PATTERN * 3)[:count]
    assert answer.framing is raw.Framing(kind)
    assert answer.get("cache-control") == "no-store"


def test_an_upload_is_checked_to_the_last_byte(firehose):
    descriptor = pattern_file()
    with raw.Connection(firehose.at) as connection:
        connection.send(raw.request("POST", "/", f"Content-Length: {BLOCK + 5}"))
        send_pattern(connection.sock, descriptor, BLOCK + 5)
        assert json.loads(connection.read_response("POST").body) == {"length": BLOCK + 5, "wrong": ""}
        connection.send(raw.request("POST", "/", body=PATTERN[:5] + b"x"))
        assert json.loads(connection.read_response("POST").body)["wrong"]
