"""`tandem demo`: an origin, the proxy in front of it, and the forward proxy: the cache at work on loopback at once.

The origin is a process of its own (`python -P -m proxy.demo`), which ends when its standard input does: nothing is left
behind, however the demo ends. No rights are needed.
"""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from config import oneline
from proxy import console, launch, rights, screen, versions
from proxy.candidate import Source

if TYPE_CHECKING:
    from aiohttp import web

    from proxy.candidate import Candidate
    from proxy.runtime import RuntimeFolder

_SLOW: Final = 2.0  # seconds that the slow page takes

_PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Tandem demo</title>
<h1>It works</h1><p>This page was made by the origin at {now}; it may be stored for a minute.</p>
<ul><li><a href="/news">/news</a> fresh for 5 s, then validated by its ETag
<li><a href="/slow">/slow</a> takes 2 s to make, once
<li><a href="/live">/live</a> is never stored
<li><a href="/image.png">/image.png</a> may be stored for an hour</ul><img src="/image.png" alt="a gradient"></html>
"""

_TRY: Final = """
  what to try (each twice: look at Cache-Status and Age)
    curl -i  {url}/                  stored for a minute
    time curl -s {url}/slow          2 s, then at once; many clients at a time: one fetch
    curl -i  {url}/live              never stored
    curl -i  {url}/news              fresh for 5 s, then validated (304 at the origin)
    curl -sI {url}/image.png         a stored image; -r 0-99 gives a part of it
    curl -i  -x {proxy} {direct}/     the same origin through the forward proxy, and its cache
    {tandem} status{where}             processes, origins, cache
    {tandem} purge {url}/{where}       and ask again
    kill -9 a worker, kill the origin (pid {origin}) and ask for /: the service stays
  Ctrl-C ends it.
"""


def run(listen: str, forward: str, admin: str, runtime: str | None) -> int:
    """The exit status of the demo, when it has ended."""
    origin, port = _start_origin()
    text = oneline.build_reverse([listen], [f"http://127.0.0.1:{port}"], admin=admin)
    text += oneline.build_forward([forward], ["127.0.0.0/8"], private=[f"127.0.0.1:{port}"])
    source = Source("demo", Path.cwd(), text=(text + '[process]\ndrain = "2s"\n').encode())

    def show(accepted: Candidate, folder: RuntimeFolder) -> None:
        program = screen.spell_program()
        lines = screen.build_screen(accepted.config, accepted.sockets, folder.path, versions.version(), program=program)
        where = f" --runtime {runtime}" if runtime else ""
        (site,) = accepted.config.site
        url = f"http://{screen.spell_reachable(*site.listen[0])}"
        assert accepted.config.forward is not None
        tried = _TRY.format(
            tandem=program,
            url=url,
            where=where,
            origin=origin.pid,
            proxy=f"http://{screen.spell_reachable(*accepted.config.forward.listen[0])}",
            direct=f"http://127.0.0.1:{port}",
        )
        print("\n".join(lines) + tried, flush=True)  # noqa: T201

    try:
        return launch.launch(source, runtime, on_ready=show)
    finally:
        assert origin.stdin is not None
        origin.stdin.close()
        try:
            origin.wait(2)
        except subprocess.TimeoutExpired:
            origin.kill()
            origin.wait()


def _start_origin() -> tuple[subprocess.Popen[bytes], int]:
    """The running origin and its port."""
    origin = subprocess.Popen(  # noqa: S603 - our own interpreter
        [*rights.interpreter(), "-m", "proxy.demo"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=rights.child_environment(),
        start_new_session=True,  # the terminal's Ctrl-C is for the proxy
    )
    assert origin.stdout is not None
    with origin.stdout:
        return origin, int(origin.stdout.readline())


# ---- the origin ------------------------------------------------------------------------------------------------------


def build_origin() -> web.Application:
    """The pages, as an aiohttp application."""
    from aiohttp import web  # noqa: PLC0415 - in the origin's process alone

    def answer(body: str, **fields: str) -> web.Response:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        return web.Response(text=body, content_type="text/html", headers=headers)

    async def index(_: web.Request) -> web.Response:
        return answer(_PAGE.format(now=time.strftime("%H:%M:%S")), Cache_Control="max-age=60")

    async def news(request: web.Request) -> web.Response:
        fields = {"Cache_Control": "max-age=5", "ETag": '"edition-1"'}
        if request.headers.get("If-None-Match") == '"edition-1"':
            return web.Response(status=304, headers={name.replace("_", "-"): text for name, text in fields.items()})
        return answer("<!doctype html><title>News</title><p>No news.</p>\n", **fields)

    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(_SLOW)
        return answer("<!doctype html><title>Slow</title><p>That took a while.</p>\n", Cache_Control="max-age=60")

    async def live(_: web.Request) -> web.Response:
        return answer(f"<!doctype html><title>Live</title><p>{time.time():.6f}</p>\n", Cache_Control="no-store")

    async def image(_: web.Request) -> web.Response:
        headers = {"Cache-Control": "max-age=3600", "ETag": '"gradient"'}
        return web.Response(body=picture, content_type="image/png", headers=headers)

    picture = build_png(256)
    origin = web.Application()
    origin.add_routes(
        [
            web.get("/", index),
            web.get("/news", news),
            web.get("/slow", slow),
            web.get("/live", live),
            web.get("/image.png", image),
        ]
    )
    return origin


def build_png(side: int) -> bytes:
    """A square gradient as PNG, of this many pixels a side, at most 256."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(v for x in range(side) for v in (x, y, 160)) for y in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)  # 8 bits, RGB
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


async def serve() -> None:
    """The origin on a free port of loopback, printed first; until standard input ends."""
    from aiohttp import web  # noqa: PLC0415 - see build_origin

    runner = web.AppRunner(build_origin(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)  # noqa: T201 - read by _start_origin
    ended = asyncio.Event()

    def on_input() -> None:
        if not os.read(0, 1024):  # nobody writes: readable means that our starter is gone
            ended.set()

    asyncio.get_running_loop().add_reader(0, on_input)
    await ended.wait()
    await runner.cleanup()


if __name__ == "__main__":
    try:
        rights.drop_all()
        asyncio.run(serve())
    except KeyboardInterrupt:
        console.say("the demo's origin ends")
    sys.exit(0)
