"""Both ends of the tunnels that are measured, in a process each and on a core of their own.

Bulk: the origin sends a pattern by `sendfile`, the client compares every byte with it. Small: the flights of a TLS 1.3
handshake and of one request with 1 KiB of answer, byte counts as usual, contents checked; then both sides end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import select
import socket
import sys
import time

PATTERN = random.Random(7).randbytes(1 << 20)
# Client's and origin's flights in turn: hello, hello to finished; finished and request, tickets and answer.
FLIGHTS = ((517, 2800), (400, 1700))
READ = 1 << 18


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("end", choices=["origin", "bulk", "small"])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int)
    parser.add_argument("--listen", default="127.0.0.1:0", help="of the origin")
    parser.add_argument("--connect", default="", help="host:port asked for by CONNECT; none: the port is the origin's")
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--bytes", type=int, default=0, help="of each stream")
    parser.add_argument("--count", type=int, default=0, help="small tunnels in all")
    options = parser.parse_args()
    if options.end == "origin":
        return origin(options.listen)
    result = bulk(options) if options.end == "bulk" else small(options)
    print(json.dumps(result))
    return 0


# ---- origin ----------------------------------------------------------------------------------------------------------


def origin(listen: str) -> int:
    """Prints its port. The first eight bytes of a connection say how many bytes are wanted; 0: a small one."""
    host, _, port = listen.rpartition(":")
    listener = socket.create_server((host, int(port)), backlog=1024)
    listener.setblocking(False)
    print(listener.getsockname()[1], flush=True)
    source = os.memfd_create("pattern")
    os.write(source, PATTERN)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    served: dict[int, Bulk | Small] = {}
    while True:
        for number, _ in poll.poll():
            if number == listener.fileno():
                with contextlib.suppress(BlockingIOError):
                    while True:
                        sock, _address = listener.accept()
                        sock.setblocking(False)
                        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        served[sock.fileno()] = Small(sock)
                        poll.register(sock, select.EPOLLIN)
                continue
            one = served[number]
            over = one.go(source)
            if isinstance(over, Bulk):
                served[number] = over
                poll.modify(number, select.EPOLLOUT)
            elif over:
                del served[number]
                one.sock.close()


class Small:
    """Answers each of the client's flights with its own."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.flight = 0
        self.got = bytearray()

    def go(self, _: int) -> Bulk | bool:
        """True where it is over; the one that takes over where much is wanted."""
        try:
            data = self.sock.recv(65536)
        except OSError:
            return True
        if not data:
            return True
        self.got += data
        if self.flight == 0 and len(self.got) >= 8:
            wanted = int.from_bytes(self.got[:8], "big")
            if wanted:
                return Bulk(self.sock, wanted)
        while self.flight < len(FLIGHTS) and len(self.got) >= FLIGHTS[self.flight][0]:
            del self.got[: FLIGHTS[self.flight][0]]
            self.sock.send(PATTERN[: FLIGHTS[self.flight][1]])
            self.flight += 1
        return False


class Bulk:
    def __init__(self, sock: socket.socket, wanted: int) -> None:
        self.sock = sock
        self.left = wanted
        self.at = 0

    def go(self, source: int) -> bool:
        try:
            while self.left:
                sent = os.sendfile(self.sock.fileno(), source, self.at, min(self.left, len(PATTERN) - self.at))
                self.left -= sent
                self.at = (self.at + sent) % len(PATTERN)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True


# ---- clients ---------------------------------------------------------------------------------------------------------


def opened(options: argparse.Namespace) -> socket.socket:
    sock = socket.create_connection((options.host, options.port), 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if options.connect:
        sock.sendall(f"CONNECT {options.connect} HTTP/1.1\r\nHost: {options.connect}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            more = sock.recv(1)
            if not more:
                sys.exit(f"no tunnel: {head!r}")
            head += more
        if b" 200 " not in head.split(b"\r\n")[0]:
            sys.exit(f"no tunnel: {head!r}")
    return sock


def bulk(options: argparse.Namespace) -> dict[str, float]:
    """Seconds for all streams to have all their bytes, each compared."""
    socks = [opened(options) for _ in range(options.streams)]
    twice = PATTERN + PATTERN
    space = memoryview(bytearray(READ))
    got = dict.fromkeys((sock.fileno() for sock in socks), 0)
    by_number = {sock.fileno(): sock for sock in socks}
    poll = select.epoll()
    began = time.monotonic()
    for sock in socks:
        sock.sendall(options.bytes.to_bytes(8, "big"))
        sock.setblocking(False)
        poll.register(sock, select.EPOLLIN)
    left = len(socks)
    while left:
        events = poll.poll(30)
        if not events:
            sys.exit(f"standstill: {got}")
        for number, _ in events:
            size = by_number[number].recv_into(space)
            at = got[number] % len(PATTERN)
            if bytes(space[:size]) != twice[at : at + size]:  # views are compared item by item, 20 times slower
                sys.exit("wrong bytes")
            got[number] += size
            if not size:
                if got[number] != options.bytes:
                    sys.exit(f"{got[number]} bytes instead of {options.bytes}")
                poll.unregister(number)
                by_number[number].close()
                left -= 1
    return {"seconds": time.monotonic() - began, "bytes": options.bytes * options.streams}


class SmallClient:
    """One tunnel: CONNECT, then flight by flight; a state per wake-up."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.began = time.monotonic()
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.connect_ex((options.host, options.port))
        self.connect = options.connect
        self.flight = -2  # not connected yet
        self.got = bytearray()

    def go(self) -> bool:
        """True when it is over."""
        if self.flight == -2:
            self.flight = -1
            if self.connect:
                self.sock.send(f"CONNECT {self.connect} HTTP/1.1\r\nHost: {self.connect}\r\n\r\n".encode())
                return False
            self._next()
            return False
        data = self.sock.recv(65536)
        if not data:
            sys.exit(f"ended in flight {self.flight}: {bytes(self.got[:200])!r}")
        self.got += data
        if self.flight == -1:
            if not self.got.endswith(b"\r\n\r\n"):
                return False
            if b" 200 " not in self.got.split(b"\r\n")[0]:
                sys.exit(f"no tunnel: {bytes(self.got)!r}")
            self.got.clear()
            self._next()
            return False
        wanted = FLIGHTS[self.flight][1]
        if len(self.got) < wanted:
            return False
        if self.got != PATTERN[:wanted]:
            sys.exit("wrong bytes")
        self.got.clear()
        self._next()
        return self.flight == len(FLIGHTS)

    def _next(self) -> None:
        self.flight += 1
        if self.flight < len(FLIGHTS):
            self.sock.send(bytes(FLIGHTS[self.flight][0]))


def small(options: argparse.Namespace) -> dict[str, float]:
    """Tunnels one behind the other in `streams` lanes; milliseconds of one, and of all."""
    poll = select.epoll()
    running: dict[int, SmallClient] = {}
    times: list[float] = []
    begun = 0

    def begin() -> None:
        nonlocal begun
        if begun < options.count:
            begun += 1
            client = SmallClient(options)
            running[client.sock.fileno()] = client
            poll.register(client.sock, select.EPOLLOUT)

    began = time.monotonic()
    for _ in range(options.streams):
        begin()
    while running:
        for number, _ in poll.poll(30) or sys.exit("standstill"):
            client = running[number]
            first = client.flight == -2
            over = client.go()
            if first:
                poll.modify(number, select.EPOLLIN)
            if over:
                times.append(time.monotonic() - client.began)
                del running[number]
                poll.unregister(number)
                client.sock.close()
                begin()
    times.sort()
    return {
        "seconds": time.monotonic() - began,
        "tunnels": len(times),
        "p50_ms": times[len(times) // 2] * 1000,
        "p99_ms": times[len(times) * 99 // 100] * 1000,
    }


if __name__ == "__main__":
    sys.exit(main())
