"""A service for tests of the processes: it answers a line with a line, and fails when its configuration says so.

A site's name tells what to do: `refuse` refuses to prepare, `die` ends the process at commit, `hang` never prepares.
What it is at is told by files beside the runtime folder: `hanging`, `slow`.
A client's line is answered with "index generation pid"; "slow" once there is a file `go` beside the runtime folder.
"""

import asyncio
import os

from proxy import bus, parcel
from proxy.service import Refused


class Dummy:
    def __init__(self, index, shared):
        self.index = index
        self.shared = shared
        self.settings = None
        self.prepared = None
        self.servers = {}
        self.busy = 0
        self.draining = False
        self.reopened = 0
        self.lent = []
        self.purges = []

    async def prepare(self, settings):
        names = {site.name for site in settings.config.site}
        self.secrets = {path: parcel.unseal(fd) for path, fd in settings.secrets.items()}
        self.lists = {path: parcel.unseal(one.fd) for path, one in settings.lists.items()}
        if "refuse" in names and self.index >= 0:
            raise Refused("the dummy was told to refuse")
        if "hang" in names and self.index >= 0:
            (settings.runtime.parent / "hanging").touch()
            await asyncio.sleep(3600)
        self.prepared = settings

    def commit(self):
        self.settings, self.prepared = self.prepared, None
        if self.index >= 0 and "die" in {site.name for site in self.settings.config.site}:
            os._exit(3)
        wanted = {listener.serial: listener for listener in self.settings.listeners}
        for serial in [serial for serial in self.servers if serial not in wanted]:
            self.servers.pop(serial).close()
        for serial, listener in wanted.items():
            if serial not in self.servers:
                self.servers[serial] = None
                task = asyncio.ensure_future(asyncio.start_server(self.client, sock=listener.open()))
                task.add_done_callback(lambda done, serial=serial: self.servers.__setitem__(serial, done.result()))

    def abort(self):
        self.prepared = None

    async def client(self, reader, writer):
        self.busy += 1
        try:
            while line := await reader.readline():
                if line == b"slow\n":
                    (self.settings.runtime.parent / "slow").touch()
                    while not (self.settings.runtime.parent / "go").exists():  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                writer.write(f"{self.index} {self.settings.generation} {os.getpid()}\n".encode())
                await writer.drain()
                if self.draining:
                    break
        except ConnectionError:
            pass
        finally:
            self.busy -= 1
            writer.close()

    async def drain(self, deadline):
        self.draining = True
        for server in self.servers.values():
            server.close()
        loop = asyncio.get_running_loop()
        while self.busy and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def say_close(self, on):
        self.draining = on

    def in_flight(self):
        return self.busy

    def reopen_logs(self):
        self.reopened += 1

    def lend(self, family, fds):
        self.lent += fds

    async def handle(self, message):
        match message:
            case bus.Purge():
                self.purges.append(message.value)
                return bus.Purged(message.number, len(self.purges))
            case bus.Status():
                secrets = {path: data.decode() for path, data in self.secrets.items()}
                files = {path: data.decode() for path, data in self.settings.files.items()}
                lists = {path: data.decode() for path, data in self.lists.items()}
                told = {"secrets": secrets, "files": files, "lists": lists, "reopened": self.reopened}
                return bus.StatusAnswer(told)
        return bus.Failed("unknown")
