"""The client of both pairs: new connections at a fixed pace, one request on each; `python probe.py ADDRESS` runs it.

Two streams: `probe` asks every 2 ms for what is stored (outages are read from it), `request` 100 times a second for
what takes the origin up to 10 ms (failed requests are counted in it). A line is written for each try when it ended:
stream, begin and end by CLOCK_MONOTONIC, and the fault, `-` for an answer. A process of its own and no asyncio, so that
its own delays are small.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import sys
import time
from collections import deque
from dataclasses import dataclass, field

PATIENCE = 0.5  # seconds; a lost SYN is sent again after one, which a person waiting calls a failure
ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: no TIME_WAIT here, or ports would run out


@dataclass(slots=True)
class Stream:
    name: str
    path: str
    pace: float
    due: float = 0.0


@dataclass(slots=True, eq=False)
class Attempt:
    stream: Stream
    sock: socket.socket
    begun: float
    connected: bool = False
    over: bool = False
    answer: bytearray = field(default_factory=bytearray)


STREAMS = (Stream("probe", "/", 0.002), Stream("request", "/slow/live", 0.01))
CONNECT_FAULTS = {errno.ECONNREFUSED: "refused", errno.EHOSTUNREACH: "unreachable", errno.ENETUNREACH: "unreachable"}


class Probe:
    """Attempts under way, and lines not yet written."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._poll = select.epoll()
        self._under_way: dict[int, Attempt] = {}
        self._oldest: deque[Attempt] = deque()
        self._lines: list[str] = []

    def run(self) -> None:
        start = time.monotonic()
        for stream in STREAMS:
            stream.due = start
        while True:
            now = time.monotonic()
            for stream in STREAMS:
                if stream.due <= now:
                    self._begin(stream, now)
                    stream.due = max(stream.due + stream.pace, now - 0.1)
            while self._oldest and (self._oldest[0].over or self._oldest[0].begun + PATIENCE < now):
                late = self._oldest.popleft()
                if not late.over:
                    self._end(late, "unanswered" if late.connected else "silent")
            self._write()
            wait = min(stream.due for stream in STREAMS) - time.monotonic()
            for descriptor, _ in self._poll.poll(max(0.0, wait)):
                self._go_on(self._under_way[descriptor])

    def _begin(self, stream: Stream, now: float) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        attempt = Attempt(stream, sock, now)
        code = sock.connect_ex((self._address, 80))
        self._under_way[sock.fileno()] = attempt
        self._poll.register(sock, select.EPOLLOUT)
        self._oldest.append(attempt)
        if code not in {0, errno.EINPROGRESS}:
            self._end(attempt, CONNECT_FAULTS.get(code) or errno.errorcode[code])

    def _go_on(self, attempt: Attempt) -> None:
        try:
            if not attempt.connected:
                self._ask(attempt)
            else:
                self._hear(attempt)
        except BlockingIOError:
            pass
        except OSError:
            self._end(attempt, "cut")

    def _ask(self, attempt: Attempt) -> None:
        if code := attempt.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._end(attempt, CONNECT_FAULTS.get(code) or errno.errorcode[code])
            return
        attempt.connected = True
        line = f"GET {attempt.stream.path} HTTP/1.1\r\nHost: {self._address}\r\nConnection: close\r\n\r\n"
        attempt.sock.send(line.encode())
        self._poll.modify(attempt.sock, select.EPOLLIN)

    def _hear(self, attempt: Attempt) -> None:
        data = attempt.sock.recv(65536)
        attempt.answer += data
        if attempt.answer.endswith(b"from the origin") or not data:
            good = attempt.answer.startswith(b"HTTP/1.1 200 ") and data
            status = attempt.answer[9:12].decode("latin-1")
            self._end(attempt, "-" if good else f"status-{status}" if status else "cut")

    def _end(self, attempt: Attempt, fault: str) -> None:
        attempt.over = True
        del self._under_way[attempt.sock.fileno()]
        attempt.sock.close()
        self._lines.append(f"{attempt.stream.name} {attempt.begun:.6f} {time.monotonic():.6f} {fault}\n")

    def _write(self) -> None:
        if self._lines:
            os.write(1, "".join(self._lines).encode())
            self._lines.clear()


if __name__ == "__main__":
    Probe(sys.argv[1]).run()
