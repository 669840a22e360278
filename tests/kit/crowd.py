"""Thousands of ends of tunnels, in processes of their own: one process has not descriptors enough for both.

`python -m tests.kit.crowd origin` prints its port and echoes what comes. `… clients PORT NAME COUNT` opens tunnels to
NAME through the proxy at PORT, prints `open`, and at each line of its input sends a byte through every hundredth,
reads it back and prints `echoed`; at the end of its input it ends.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = 64


class Crowd:
    """One of these processes; use it as a context manager."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.kit.crowd", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def read(self) -> str:
        """Its next line."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self) -> str:
        """What it says to a line of ours."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]  # a stream transport


async def origin() -> None:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def clients(port: int, name: str, count: int) -> None:
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(AT_ONCE)

    async def tunnel() -> socket.socket:
        async with gate:
            sock = socket.socket()
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", port))
            await loop.sock_sendall(sock, f"CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            head = await loop.sock_recv(sock, 4096)
            assert head.startswith(b"HTTP/1.1 200 "), head
            return sock

    socks = await asyncio.gather(*(tunnel() for _ in range(count)))
    print("open", flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        for sock in socks[::100]:
            await loop.sock_sendall(sock, b"x")
            assert await loop.sock_recv(sock, 1) == b"x"
        print("echoed", flush=True)
    for sock in socks:
        sock.close()


if __name__ == "__main__":
    if sys.argv[1] == "origin":
        asyncio.run(origin())
    else:
        asyncio.run(clients(int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
