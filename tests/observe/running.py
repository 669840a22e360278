"""A committed admin service, with clients of its Unix socket and of TCP."""

import asyncio

import aiohttp

from config.schema import Admin, Config, Tokens
from proxy.observe import gate
from proxy.observe.admin import AdminService
from tests.observe.settings import settings
from tests.observe.workers import until

TOKEN, READER = "c" * 32, "r" * 32
TOKENS = "\n".join(
    f"{name} {right} sha256:{gate.digest_of(token).hex()}"
    for name, right, token in (("ops", "change", TOKEN), ("grafana", "read", READER))
).encode()
WITH_TOKENS = Admin(tokens=Tokens(file="admin.tokens"), hosts=("proxy.example.org",))
FILES = {"admin.tokens": TOKENS}


class Running:
    """A committed service with a client on its Unix socket and one for TCP."""

    def __init__(self, *given, **options):
        self._given, self._options = given, options

    async def __aenter__(self):
        plan = settings(*self._given, **self._options)
        self.service = AdminService(-1, plan.shared)
        await self.service.prepare(plan)
        self.service.commit()
        self.path = plan.runtime / "admin.sock"
        self.unix = aiohttp.ClientSession("http://localhost", connector=aiohttp.UnixConnector(str(self.path)))
        self.tcp = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        await self.settled()
        return self

    async def settled(self):
        await until(lambda: not self.service._tasks)

    async def __aexit__(self, *_):
        await self.unix.close()
        await self.tcp.close()
        await self.service.drain(asyncio.get_running_loop().time() + 2)


async def get(client, target, **options):
    async with client.get(target, **options) as response:
        return response.status, await response.text()


async def purge(client, body, target="/v1/purge", **options):
    async with client.post(target, json=body, **options) as response:
        return response.status, await response.json()


def tcp(tmp_path, at, **options):
    return Running(
        tmp_path, Config(admin=WITH_TOKENS), listeners=(at,), files=FILES, workers=options.pop("workers", 0), **options
    )
