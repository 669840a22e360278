"""Purges that came to one worker reach the others; who is dead holds nobody up."""

from __future__ import annotations

import asyncio

from proxy import bus, link
from tests.kit import raw
from tests.kit.worker import site

FRESH = "Cache-Control: max-age=60"


def test_a_purge_over_http_reaches_the_other_workers_or_goes_on_without_the_dead(start_worker, origin, tmp_path):
    running = start_worker(workers=3)
    heard = []

    async def answer(question):
        heard.append(question)
        return bus.Purged(question.number, 5)

    async def serve():
        loop = asyncio.get_running_loop()
        return await loop.create_unix_server(lambda: link._Answering(answer), path=str(tmp_path / "worker-1.sock"))

    server = running.run(serve())
    running.load(site(origin, extra='purge_from = ["127.0.0.0/8"]'))
    raw.get(running.at, "/a")
    assert raw.get(running.at, "/a", method="PURGE").body == b"purged 6\n"
    for _ in range(2):
        raw.get(running.at, "/a", method="DELETE")
    raw.wait_until(lambda: len(heard) == 3)
    numbers = [one.number for one in heard]
    assert numbers == sorted(set(numbers))
    assert {one.value for one in heard} == {"http://test.example/a"}
    running.call(server.close)
