"""An origin as package registries are: files in memory with tags and ranges, redirects, and a list of what was asked.

A path has bytes, or a function of the request's fields that gives (status, fields, bytes).
"""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

Answer = tuple[int, dict[str, str], bytes]


class Registry:
    """What one origin has (`files`), says beside it (`fields`, by the path's end), and was asked (`seen`)."""

    def __init__(self) -> None:
        self.files: dict[str, Any] = {}
        self.fields: dict[str, dict[str, str]] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.statuses: list[int] = []
        self.tags = True  # it says ETag, and validates
        self.down = False  # it answers 503 to everything
        self.date: Callable[[], str] | None = None  # what it takes for the time; None: the true one
        self.url = ""

    def count(self, path: str) -> int:
        """How often it was asked for this path."""
        return sum(one == path for one, _ in self.seen)

    def answer(self, path: str, asked: dict[str, str]) -> Answer:
        self.seen.append((path, asked))
        status, fields, body = self._answer(path, asked)
        self.statuses.append(status)
        return status, fields, body

    def _answer(self, path: str, asked: dict[str, str]) -> Answer:
        if self.down:
            return 503, {}, b"down\n"
        there = self.files.get(path)
        if there is None:
            return 404, {"Content-Type": "text/plain"}, b"not here\n"
        status, fields, body = there(asked) if callable(there) else (200, {}, there)
        if status != 200:
            return status, fields, body
        for end, more in self.fields.items():
            if path.endswith(end):
                fields = more | fields
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        fields = ({"ETag": tag, "Accept-Ranges": "bytes"} if self.tags else {}) | fields
        if self.tags and tag in asked.get("if-none-match", ""):
            return 304, fields, b""
        part = re.fullmatch(r"bytes=([0-9]+)-([0-9]*)", asked.get("range", ""))
        if part is not None and asked.get("if-range", tag) == tag:
            first, last = int(part[1]), min(int(part[2] or len(body)), len(body) - 1)
            return 206, fields | {"Content-Range": f"bytes {first}-{last}/{len(body)}"}, body[first : last + 1]
        return 200, fields, body


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: Registry

    def do_GET(self) -> None:
        asked = {name.lower(): value for name, value in self.headers.items()}
        self.rfile.read(int(asked.get("content-length", "0")))
        status, fields, body = self.registry.answer(self.path, asked)
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the name that the base class wants

    def date_time_string(self, timestamp: float | None = None) -> str:
        date = self.registry.date
        return date() if date is not None else super().date_time_string(timestamp)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve_registry(tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[Registry]:
    """One that serves, with `tls` if given; `host` is how it calls itself."""
    registry = Registry()
    handler = type("Own", (_Handler,), {"registry": registry})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    registry.url = f"{'http' if tls is None else 'https'}://{host}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
