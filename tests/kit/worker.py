"""A worker's service in a thread, with listening sockets as the supervisor keeps them: prepared, committed, asked and
drained as its process would do it.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import uvloop

from config.load import parse
from config.units import Listen
from proxy import bus
from proxy.observe import metrics
from proxy.service import Listener, Settings
from proxy.worker import Worker
from tests.kit import raw


class Running:
    """See the module. PORT0, PORT1, … in a configuration are the ports of its listeners."""

    def __init__(self, folder: Path, ports: int = 1, workers: int = 1, index: int = 0):
        self.folder = folder
        self.workers = workers
        self.index = index
        self.listeners = []
        for serial in range(ports):
            sock = raw.socket.create_server(("127.0.0.1", 0), backlog=64)
            address = sock.getsockname()
            self.listeners.append(Listener(Listen("127.0.0.1", address[1]), address, serial, sock.detach()))
        self.shared = memoryview(bytearray(metrics.REGION))
        self.generation = 0
        self.loop = uvloop.new_event_loop()
        self.complaints = []
        self.loop.set_exception_handler(lambda _loop, context: self.complaints.append(context))
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.worker = Worker(index, self.shared)
        self.drained = False

    @property
    def at(self):
        return self.listeners[0].address

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(raw.TIMEOUT)

    def call(self, do):
        async def turn():
            return do()

        return self.run(turn())

    def settings(self, text, listeners=None, files=None, secrets=None):
        self.generation += 1
        for number, listener in enumerate(self.listeners):
            text = text.replace(f"PORT{number}", str(listener.address[1]))
        return Settings(
            config=parse(text.encode(), "test.toml", Path("/")).config,
            generation=self.generation,
            digest="0123456789abcdef",
            name=f"worker-{self.index}",
            index=self.index,
            workers=self.workers,
            listeners=tuple(self.listeners if listeners is None else listeners),
            secrets=secrets or {},
            files=files or {},
            base=self.folder,
            runtime=self.folder,
            shared=self.shared,
        )

    def prepare(self, text, **more):
        self.run(self.worker.prepare(self.settings(text, **more)))

    def commit(self):
        self.call(self.worker.commit)

    def load(self, text, **more):
        self.prepare(text, **more)
        self.commit()

    def ask(self, question):
        return self.run(self.worker.handle(question))

    def status(self):
        return self.ask(bus.Status()).data

    def drain(self, seconds=5.0):
        self.drained = True
        self.run(self.worker.drain(time.monotonic() + seconds))

    def end(self):
        if not self.drained:
            self.drain(0.0)
        self.call(lambda: None)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(raw.TIMEOUT)
        self.loop.close()
        for listener in self.listeners:
            os.close(listener.fd)
        assert not self.complaints, self.complaints


def site(origin, port="PORT0", extra="", rest=""):
    return f'[[site]]\nlisten = "127.0.0.1:{port}"\nupstream = ["{origin.address}"]\n{extra}\n{rest}\n'


def certificate(folder, cert, key):
    """(descriptor of the key, the paths of both, what settings say of files and secrets)."""
    paths = [folder / "cert.pem", folder / "key.pem"]
    for path, content in zip(paths, (cert, key), strict=True):
        path.write_bytes(content)
        path.chmod(0o600)
    fd = os.memfd_create("key")
    os.write(fd, key)
    return fd, *paths, {str(paths[0]): cert}, {str(paths[1]): fd}
