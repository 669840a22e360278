"""Connections to admin that say nothing: bounded in number and time, whatever they cost to others."""

import asyncio
import contextlib
import logging

from aiohttp import web

from proxy.observe import newcomers
from proxy.observe.newcomers import Newcomers
from tests.observe.workers import run, until

ASKED = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def serve(patience):
    async def answer(request):
        made.spoke(request.protocol)
        return web.Response(text="here")

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    made = Newcomers(runner.server, patience)
    server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0)
    return made, runner, server, server.sockets[0].getsockname()[1]


async def end(server, runner, *connections):
    for _, writer in connections:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    server.close()
    await runner.cleanup()


async def ended(reader):
    with contextlib.suppress(ConnectionResetError):
        return await reader.read() == b""
    return True


async def answered(reader, writer):
    writer.write(ASKED)
    return (await reader.readuntil(b"here"))[:15]


def test_who_has_not_asked_in_time_is_ended_and_who_has_is_not():
    async def main():
        _, runner, server, port = await serve(0.5)
        asker = await asyncio.open_connection("127.0.0.1", port)
        assert await answered(*asker) == b"HTTP/1.1 200 OK"
        half = await asyncio.open_connection("127.0.0.1", port)
        half[1].write(ASKED[:9])
        assert await ended(half[0])
        assert await answered(*asker) == b"HTTP/1.1 200 OK"
        await end(server, runner, asker, half)

    run(main())


def test_for_one_too_many_the_longest_silent_goes():
    async def main():
        made, runner, server, port = await serve(60)
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(newcomers.MOST)]
        await until(lambda: len(made._silent) == newcomers.MOST)
        asker = await asyncio.open_connection("127.0.0.1", port)
        assert await answered(*asker) == b"HTTP/1.1 200 OK"
        assert await ended(silent[0][0])
        assert len(made._silent) == newcomers.MOST - 1
        await end(server, runner, asker, *silent)

    run(main())


def test_what_is_no_request_leaves_no_traceback(caplog):
    async def main():
        _, runner, server, port = await serve(60)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert b" 400 " in await reader.readline()
        await end(server, runner, (reader, writer))

    with caplog.at_level(logging.DEBUG, "aiohttp.server"):
        run(main())
    assert [record for record in caplog.records if record.exc_info] == []
