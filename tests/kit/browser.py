"""Headless Chromium as somebody sits before it: it goes to pages, and types a login where a proxy asks for one.

Spoken to over its DevTools protocol: `Fetch` shows the proxy's challenge and takes the answer.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

PATIENCE = 60.0
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--no-first-run", "--remote-debugging-port=0",
)  # fmt: skip
LISTENING = b"DevTools listening on "


def read_pages(folder: Path, options: Sequence[str], login: str, urls: Sequence[str]) -> tuple[list[str], list[str]]:
    """The text of each page, and who asked for the login (`user:password`), in order: `Proxy http://…`."""
    process = subprocess.Popen(
        ["chromium", *OPTIONS, f"--user-data-dir={folder}", *options, "about:blank"],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        told = next(line for line in process.stderr if line.startswith(LISTENING))
        return asyncio.run(_read(told.removeprefix(LISTENING).strip().decode(), login, urls))
    finally:
        process.kill()
        process.communicate()


async def _read(at: str, login: str, urls: Sequence[str]) -> tuple[list[str], list[str]]:
    async with asyncio.timeout(PATIENCE), _tab(at, login) as tab:
        return [await tab.read(url) for url in urls], tab.asked


@asynccontextmanager
async def _tab(at: str, login: str) -> AsyncIterator[Tab]:
    async with aiohttp.ClientSession() as session, session.ws_connect(at, max_msg_size=0) as wire:
        tab = Tab(wire, login)
        target = await tab.call("Target.createTarget", url="about:blank")
        attached = await tab.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        tab.session = attached["sessionId"]
        await tab.call("Page.enable")
        await tab.call("Fetch.enable", handleAuthRequests=True)
        yield tab


class Tab:
    """One page of the browser."""

    def __init__(self, wire: aiohttp.ClientWebSocketResponse, login: str) -> None:
        self.session = ""
        self.asked: list[str] = []
        self._wire = wire
        self._login = login
        self._numbers = itertools.count(1)
        self._loaded = False

    async def read(self, url: str) -> str:
        """The text of the page at this address."""
        self._loaded = False
        gone = await self.call("Page.navigate", url=url)
        assert "errorText" not in gone, gone
        while not self._loaded:
            await self._hear()
        found = await self.call("Runtime.evaluate", expression="document.body.innerText")
        return str(found["result"]["value"])

    async def call(self, method: str, **params: object) -> dict[str, Any]:
        """What the browser answers; what happens meanwhile is seen to."""
        number = await self._say(method, params)
        while True:
            said = await self._hear()
            if said.get("id") == number:
                assert "error" not in said, said
                return said["result"]

    async def _say(self, method: str, params: dict[str, object]) -> int:
        number = next(self._numbers)
        session = {"sessionId": self.session} if self.session else {}
        await self._wire.send_str(json.dumps({"id": number, "method": method, "params": params, **session}))
        return number

    async def _hear(self) -> dict[str, Any]:
        said = json.loads(await self._wire.receive_str())
        match said.get("method"):
            case "Fetch.requestPaused":
                await self._say("Fetch.continueRequest", {"requestId": said["params"]["requestId"]})
            case "Fetch.authRequired":
                await self._log_in(said["params"])
            case "Page.loadEventFired":
                self._loaded = True
        return said

    async def _log_in(self, asked: dict[str, Any]) -> None:
        challenge = asked["authChallenge"]
        self.asked.append(f"{challenge['source']} {challenge['origin']}")
        user, _, password = self._login.partition(":")
        answer = {"response": "ProvideCredentials", "username": user, "password": password}
        await self._say("Fetch.continueWithAuth", {"requestId": asked["requestId"], "authChallengeResponse": answer})
