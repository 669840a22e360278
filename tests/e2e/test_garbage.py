"""Nothing of an exchange waits for the collector: what is over is freed by its count of references.

So the worker may take stored responses out of the collector's sight without losing memory with them.
"""

from __future__ import annotations

import gc

import pytest

from tests.kit import raw
from tests.kit.inproc import Stack
from tests.kit.origin import FakeOrigin, Reset, chunked, head_only, response
from tests.kit.proxy import reverse

EXCHANGES = 100
# What may be left of so many exchanges: threads and sockets of the test itself, in no proportion to them.
LEFT = EXCHANGES // 2


def ask(stack, *targets, lines=()):
    with raw.Connection(stack.at) as connection:
        for target in targets:
            connection.send(raw.request("GET", target, *lines))
            connection.read_response("GET")


def fail(stack):
    with raw.Connection(stack.at) as connection:
        connection.send(raw.request("GET", "/broken"))
        assert connection.read_response("GET").status == 502


KINDS = {
    "miss and hit": lambda stack, number: ask(stack, f"/stored/{number}", f"/stored/{number}"),
    "variants": lambda stack, number: ask(stack, "/varied", lines=[f"Accept-Language: l{number}"]),
    "pass": lambda stack, _number: ask(stack, "/private"),
    "chunked": lambda stack, number: ask(stack, f"/chunked/{number}"),
    "validation": lambda stack, number: ask(stack, f"/checked/{number}", f"/checked/{number}"),
    "origin fails": lambda stack, _number: fail(stack),
}


@pytest.fixture(scope="module")
def stack():
    def answer(received):
        path = received.path
        if path.startswith("/checked"):
            if received.get("if-none-match"):
                return [head_only('ETag: "a"', "Cache-Control: no-cache", status=304)]
            return [response(b"checked", 'ETag: "a"', "Cache-Control: no-cache")]
        if path.startswith("/chunked"):
            return [chunked([b"a" * 100, b"b" * 100], "Cache-Control: max-age=60")]
        if path == "/varied":
            return [response(b"varied", "Cache-Control: max-age=60", "Vary: Accept-Language")]
        if path == "/private":
            return [response(b"private", "Cache-Control: no-store")]
        if path == "/broken":
            return [Reset()]
        return [response(b"stored", "Cache-Control: max-age=60")]

    with FakeOrigin() as origin:
        origin.otherwise(by=answer)
        with Stack(reverse(origin.address)) as stack:
            yield stack


@pytest.mark.parametrize("kind", KINDS)
def test_no_exchange_leaves_a_cycle(stack, kind):
    for number in range(5):
        KINDS[kind](stack, -number)
    stack.wait(lambda: not stack.front.connections)
    gc.collect()
    gc.disable()
    try:
        for number in range(EXCHANGES):
            KINDS[kind](stack, number)
        stack.wait(lambda: not stack.front.connections and not stack.front.busy)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        ours = [one for one in gc.garbage if type(one).__module__.startswith("proxy.")]
        assert len(ours) < LEFT, f"{len(ours)}, such as {sorted({type(one).__name__ for one in ours})}"
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
