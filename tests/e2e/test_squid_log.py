"""Our `squid` log beside Squid's own: the same requests to the same origin, and what both write about them."""

from __future__ import annotations

import socket
import subprocess
from email.utils import formatdate

import pytest

from tests.kit import raw
from tests.kit.inproc import Stack
from tests.kit.origin import FakeOrigin, head_only, response
from tests.kit.proxy import free_ports

pytestmark = pytest.mark.slow

LAST_YEAR = "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT"
TUNNELLED = b"GET /fresh HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def play(origin):
    """The origin's part: answers that are fresh, stale and unchanged, stale and changed, and not to be stored."""
    dated = (f"Date: {formatdate(usegmt=True)}", LAST_YEAR)
    versions = iter(range(1000))

    def stale(received):
        if received.get("if-none-match") or received.get("if-modified-since"):
            return [head_only("Cache-Control: max-age=0", 'ETag: "s"', status=304, reason="Not Modified")]
        return [response(b"stale", "Cache-Control: max-age=0", 'ETag: "s"', *dated)]

    def changing(_):
        version = next(versions)
        return [response(b"c%d" % version, "Cache-Control: max-age=0", f'ETag: "{version}"', *dated)]

    html = "Content-Type: text/html; charset=utf-8"
    origin.on("/fresh", response(b"hello", "Cache-Control: max-age=600", 'ETag: "a"', html, *dated))
    origin.on("/stale", by=stale)
    origin.on("/changing", by=changing)
    origin.on("/private", response(b"p", "Cache-Control: no-store"))
    origin.on("/missing", response(b"no", status=404, reason="Not Found"))
    origin.on("/post", response(b"ok"))


def requests(origin, dead):
    """(bytes, method) of each, in order."""

    def ask(path, *lines, method="GET", body=None, at=origin):
        return raw.request(method, f"http://{at}{path}", *lines, host=at, body=body), method

    def connect(at):
        return raw.request("CONNECT", at, host=at), "CONNECT"

    yield from (ask("/fresh"), ask("/fresh"), ask("/fresh", method="HEAD"))
    yield ask("/fresh", 'If-None-Match: "a"')
    yield ask("/fresh", LAST_YEAR.replace("Last-Modified", "If-Modified-Since"))
    yield ask("/fresh", "Range: bytes=0-1")
    yield from (ask("/stale"), ask("/stale"), ask("/changing"), ask("/changing"))
    yield from (ask("/private"), ask("/private"), ask("/missing"), ask("/post", method="POST", body=b"xyz"))
    yield ask("/absent", "Cache-Control: only-if-cached")
    yield from (ask("/x", at="127.0.0.1:25"), connect("127.0.0.1:25"))
    yield from (ask("/x", at=dead), connect(dead), connect(origin))
    yield raw.request("GET", "/not-for-a-proxy"), "GET"


def drive(at, origin, dead, lines):
    """Sends each on a connection of its own, and waits for its line: both write in the order of the ends."""
    for number, (data, method) in enumerate(requests(origin, dead), 1):
        with socket.create_connection(at, timeout=raw.TIMEOUT) as sock:
            sock.sendall(data)
            if method == "CONNECT" and sock.recv(65536).startswith(b"HTTP/1.1 200"):
                sock.sendall(TUNNELLED)
                while sock.recv(65536):
                    pass
                sock.shutdown(socket.SHUT_WR)
            # Still open: who leaves before the line is written is one that left too early.
            raw.wait_until(lambda number=number: len(lines()) >= number, what=f"line {number}: {lines()}")
    return lines()


def squid(folder, port, connect_ports):
    folder.chmod(0o777)
    configuration = folder / "squid.conf"
    configuration.write_text(
        f"""
        http_port 127.0.0.1:{port}
        acl safe port 80 443 1025-65535
        acl tunnels port 443 {connect_ports}
        http_access deny !safe
        http_access deny CONNECT !tunnels
        http_access allow all
        access_log stdio:{folder}/access.log squid
        cache_log {folder}/cache.log
        cache_store_log none
        pid_filename {folder}/squid.pid
        coredump_dir {folder}
        pinger_enable off
        max_filedescriptors 1024
        shutdown_lifetime 0 seconds
        connect_timeout 5 seconds
        """
    )
    return subprocess.Popen(["squid", "-N", "-f", str(configuration)], cwd=folder)


def lines_of(log):
    """Without connections that brought no request: waiting for the port makes one."""
    if not log.exists():
        return []
    whole = log.read_text().rpartition("\n")[0].splitlines()
    return [line.split() for line in whole if "error:" not in line]


def comparable(columns):
    """What both can say alike: code and status of the answer, method, URL, user, whom it asked, type."""
    code, _, status = columns[3].partition("/")
    if code in {"TCP_MISS", "NONE_NONE"} and status in {"502", "503"}:
        status = "502 or 503"  # Squid has 503 for an origin that cannot be connected to
    kind = columns[9] if status in {"200", "206"} and code != "TCP_TUNNEL" else ""
    return [code, status, *columns[5:9], kind]


def test_both_write_the_same_about_the_same_requests(tmp_path_factory):
    folder = tmp_path_factory.mktemp("squid")
    for parent in folder.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o011)  # Squid becomes a user of its own
    port, nobody = free_ports(2)
    dead = f"127.0.0.1:{nobody}"
    with FakeOrigin() as origin:
        play(origin)
        tunnels = f"{origin.address.rpartition(':')[2]} {nobody}"
        process = squid(folder, port, tunnels)
        try:
            raw.wait_until(lambda: _connects(port), what="squid listens")
            theirs = drive(("127.0.0.1", port), origin.address, dead, lambda: lines_of(folder / "access.log"))
        finally:
            process.kill()
            process.wait()
        text = f"""[forward]
            listen = "127.0.0.1:PORT0"
            clients = ["127.0.0.1"]
            allow_private = ["{origin.address}", "{dead}"]
            connect_ports = [443, {tunnels.replace(" ", ", ")}]"""
        with Stack(text, log="squid") as stack:
            ours = drive(stack.at, origin.address, dead, lambda: [line.split() for line in stack.log_lines()])
    for number, (mine, squids) in enumerate(zip(ours, theirs, strict=True)):
        assert len(mine) == len(squids) == 10
        assert comparable(mine) == comparable(squids), f"request {number}"


def _connects(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
