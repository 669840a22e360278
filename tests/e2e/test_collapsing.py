"""A thousand clients who ask at once for one slow thing that nobody has asked for before: the origin sees one request.

Each of them has the head and the first bytes while the rest is still at the origin, and all of it in the end.
"""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.kit.origin import Stall, head_only
from tests.kit.proxy import reverse

pytestmark = pytest.mark.slow

CLIENTS = 1000
FIRST, REST = b"the beginning" * 100, b"and the rest" * 20_000
PATIENCE = 60.0
ASK = b"GET /slow HTTP/%b\r\nHost: a.example\r\nConnection: close\r\n\r\n"
LIMITS = "\n[limits]\nper_client = 0\n"


async def crowd(at, version, *, asked, begun):
    """Head and body of each client; `asked` waits for the origin, `begun` is called when all have the beginning."""
    first, whole = asyncio.Semaphore(0), []

    async def client():
        reader, writer = await asyncio.open_connection(*at)
        writer.write(ASK % version)
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(len(FIRST))
        first.release()
        body += await reader.read(-1)
        writer.close()
        whole.append((head, body))

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client())
        await asyncio.to_thread(asked)
        for _ in range(CLIENTS):
            await first.acquire()
        begun()
    return whole


CHUNKED = (b"%x\r\n%b\r\n" % (len(FIRST), FIRST), b"%x\r\n%b\r\n0\r\n\r\n" % (len(REST), REST))
FRAMINGS = {
    "counted": (f"Content-Length: {len(FIRST + REST)}", (FIRST, REST), b"1.1"),
    "chunked": ("Transfer-Encoding: chunked", CHUNKED, b"1.0"),  # to such clients it ends with the connection
}


@pytest.mark.rfc("9111", "4")
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_thousand_clients_cause_one_request_and_stream_from_its_first_byte_on(start, origin, framing):
    line, (first, rest), version = FRAMINGS[framing]
    gate, release = threading.Event(), threading.Event()
    head = head_only("Cache-Control: max-age=60", line)
    origin.otherwise(Stall(PATIENCE, gate), head, first, Stall(PATIENCE, release), rest)
    proxy = start(reverse(origin.address, rest=LIMITS))

    def asked():
        origin.wait_for(1)
        gate.set()

    whole = asyncio.run(crowd(proxy.at, version, asked=asked, begun=release.set))
    assert len(origin.requests) == 1
    assert len(whole) == CLIENTS
    assert all(head.startswith(b"HTTP/1.1 200 ") for head, _ in whole)
    assert {body for _, body in whole} == {FIRST + REST}
    assert sum(b"; collapsed" in head for head, _ in whole) == CLIENTS - 1
