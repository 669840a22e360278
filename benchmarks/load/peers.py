"""The servers that are compared: each caches in memory, has one worker or thread, and is pinned to one core.

What a peer recommends for speed is set: kept connections to the origin, buffered logs where it has them. A server is
started with a port that was free a moment ago, and again with another one if somebody was faster.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).resolve().parents[2]
BODY = bytes(0x20 + (number * 7 + number // 95) % 90 for number in range(1024)).replace(b"\\", b"/").replace(b'"', b"'")
BODY = BODY.replace(b"$", b"S").replace(b"'", b"-")  # no character that nginx's configuration would read
START_TIME = 20.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What a peer's configuration is made from."""

    folder: Path
    port: int
    origin: int
    log: Path | None


@dataclass(slots=True, eq=False)
class Server:
    """A running server with everything that serves for it (its log writer too)."""

    name: str
    port: int
    processes: list[subprocess.Popen[bytes]]

    def pids(self) -> list[int]:
        """All processes of the server, descendants included."""
        return descendants(process.pid for process in self.processes)

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def descendants(roots) -> list[int]:
    """The roots and all below them, from the kernel's lists of children."""
    found: list[int] = []
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
    return found


def nginx(s: Setting) -> str:
    log = f"{s.log} combined buffer=64k flush=1s" if s.log else "off"
    return f"""
user {run_as()};
worker_processes 1;
daemon off;
pid {s.folder}/pid;
error_log {s.folder}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log {log};
  sendfile on; tcp_nopush on; tcp_nodelay on;
  keepalive_requests 1000000000; keepalive_timeout 300s;
  open_file_cache max=1000;
  client_body_temp_path {s.folder}/body; proxy_temp_path {s.folder}/proxy; fastcgi_temp_path {s.folder}/fastcgi;
  uwsgi_temp_path {s.folder}/uwsgi; scgi_temp_path {s.folder}/scgi;
  proxy_cache_path {s.folder}/cache keys_zone=c:16m max_size=64m inactive=1h use_temp_path=off;
  upstream origin {{ server 127.0.0.1:{s.origin}; keepalive 128; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{s.port} backlog=1024;
    location / {{
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_cache c;
    }}
  }}
}}
"""


def origin_conf(s: Setting) -> str:
    body = BODY.decode()
    return f"""
user {run_as()};
worker_processes 1;
daemon off;
pid {s.folder}/pid;
error_log {s.folder}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  tcp_nodelay on;
  keepalive_requests 1000000000; keepalive_timeout 300s;
  client_body_temp_path {s.folder}/body; proxy_temp_path {s.folder}/proxy; fastcgi_temp_path {s.folder}/fastcgi;
  uwsgi_temp_path {s.folder}/uwsgi; scgi_temp_path {s.folder}/scgi;
  server {{
    listen 127.0.0.1:{s.port} backlog=1024;
    default_type text/plain;
    location /hit {{ add_header Cache-Control max-age=3600; add_header ETag '"1"'; return 200 "{body}"; }}
    location /status {{ stub_status; }}
    location /pass {{ add_header Cache-Control no-store; return 200 "{body}"; }}
  }}
}}
"""


def haproxy(s: Setting) -> str:
    log = ("log stdout format raw local0", "option httplog") if s.log else ("", "")
    return f"""
global
  nbthread 1
  maxconn 4096
  {log[0]}
defaults
  mode http
  {"log global" if s.log else ""}
  {log[1]}
  timeout connect 5s
  timeout client 300s
  timeout server 60s
cache c
  total-max-size 64
  max-object-size 100000
  max-age 3600
frontend f
  bind 127.0.0.1:{s.port} backlog 1024
  default_backend b
backend b
  http-reuse always
  http-request cache-use c
  http-response cache-store c
  server o 127.0.0.1:{s.origin}
"""


def varnish(s: Setting) -> str:
    return f"""
vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{s.origin}"; }}
sub vcl_recv {{ unset req.http.Cookie; }}
"""


def squid(s: Setting) -> str:
    log = f"access_log stdio:{s.log} squid\nbuffered_logs on" if s.log else "access_log none"
    return f"""
http_port 127.0.0.1:{s.port} accel defaultsite=bench.example
cache_peer 127.0.0.1 parent {s.origin} 0 no-query no-digest no-netdb-exchange originserver name=o
cache_peer_access o allow all
http_access allow all
cache_mem 64 MB
maximum_object_size_in_memory 512 KB
{log}
cache_log {s.folder}/cache.log
cache_store_log none
pid_filename {s.folder}/squid.pid
coredump_dir {s.folder}
pinger_enable off
max_filedescriptors 4096
shutdown_lifetime 0 seconds
"""


def tandem(s: Setting) -> str:
    log = f'\n[log]\naccess = {{ file = "{s.log}", format = "combined" }}\n' if s.log else ""
    return f"""
[[site]]
listen = "127.0.0.1:{s.port}"
upstream = ["127.0.0.1:{s.origin}"]

[cache]
memory = "64MB"
{log}"""


def forward_tandem(s: Setting) -> str:
    log = f'\n[log]\naccess = {{ file = "{s.log}", format = "squid" }}\n' if s.log else ""
    return f"""
[forward]
listen = "127.0.0.1:{s.port}"
clients = ["127.0.0.0/8"]
allow_private = ["127.0.0.1:{s.origin}"]

[cache]
memory = "64MB"
{log}"""


def forward_squid(s: Setting) -> str:
    """The same Squid, asked as a proxy."""
    lines = squid(s).splitlines()
    return "\n".join([f"http_port 127.0.0.1:{s.port}", *(one for one in lines if not one.startswith(_OF_REVERSE))])


_OF_REVERSE = ("http_port", "cache_peer")


def run_as() -> str:
    return "root" if os.getuid() == 0 else "nobody"


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    program: str
    configuration: Callable[[Setting], str]
    command: Callable[[Setting, Path], list[str]]
    version: tuple[str, ...]
    log_writer: Callable[[Setting], list[str]] | None = None  # a program of its own that writes the log


def _varnishd(s: Setting, conf: Path) -> list[str]:
    pools = ["-p", "thread_pools=1", "-p", "thread_pool_min=100", "-p", "thread_pool_max=500"]
    listen = ["-a", f"127.0.0.1:{s.port}", "-T", "none"]
    return ["varnishd", "-F", "-j", "none", "-n", str(s.folder), *listen, "-f", str(conf), "-s", "malloc,64m", *pools]


def _haproxy(_: Setting, conf: Path) -> list[str]:
    return ["haproxy", "-db", "-f", str(conf)]


def _nginx(s: Setting, conf: Path) -> list[str]:
    return ["nginx", "-p", str(s.folder), "-c", str(conf)]


def _squid(_: Setting, conf: Path) -> list[str]:
    return ["squid", "-N", "-f", str(conf)]


def python_command(s: Setting, conf: Path) -> list[str]:
    return [sys.executable, "-P", "-m", "proxy", "run", "-c", str(conf), "--runtime", str(s.folder / "run")]


NGINX = ("nginx", "-v")
PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("tandem", sys.executable, tandem, python_command, (sys.executable, "-P", "-m", "proxy", "version")),
        Peer("haproxy", "haproxy", haproxy, _haproxy, ("haproxy", "-v")),
        Peer("nginx", "nginx", nginx, _nginx, NGINX),
        Peer(
            "varnish",
            "varnishd",
            varnish,
            _varnishd,
            ("varnishd", "-V"),
            lambda s: ["varnishncsa", "-n", str(s.folder), "-w", str(s.log)],
        ),
        Peer("squid", "squid", squid, _squid, ("squid", "-v")),
    )
}
# Asked in absolute-form, as proxies of clients.
FORWARD: Mapping[str, Peer] = {
    "tandem": replace(PEERS["tandem"], configuration=forward_tandem),
    "squid": replace(PEERS["squid"], configuration=forward_squid),
}
ORIGIN = Peer("origin", "nginx", origin_conf, _nginx, NGINX)


def is_installed(peer: Peer) -> bool:
    if peer.name == "tandem":
        return (ROOT / "proxy/__main__.py").is_file()
    return shutil.which(peer.program) is not None


def version_of(peer: Peer) -> str:
    done = subprocess.run(peer.version, capture_output=True, text=True, check=False, env=environment())
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if lines else "unknown"


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def start(
    peer: Peer, folder: Path, origin: int, core: int, *, logs: bool, answers: Callable[[Server], bool] | None = None
) -> Server:
    """The server, when it answers (a request, unless `answers` asks otherwise); pinned to `core` with all its own."""
    for attempt in range(3):
        home = folder / f"{peer.name}-{attempt}"
        home.mkdir()
        home.chmod(0o777)  # squid and others change to a user of their own
        log = home / "access.log" if logs else None
        setting = Setting(home, free_port(), origin, log)
        server = _launch(peer, setting, core)
        if (answers or serves)(server):
            if log and peer.log_writer:
                server.processes.append(_spawn(peer.log_writer(setting), home, core))
            return server
        server.stop()
    output = (home / "output").read_text(errors="replace")[-2000:]
    raise SystemExit(f"{peer.name} does not start: {output}")


def _launch(peer: Peer, setting: Setting, core: int) -> Server:
    conf = setting.folder / "conf"
    conf.write_text(peer.configuration(setting))
    return Server(peer.name, setting.port, [_spawn(peer.command(setting, conf), setting.folder, core)])


def _spawn(command: list[str], folder: Path, core: int) -> subprocess.Popen[bytes]:
    with (folder / "output").open("ab") as out:
        return subprocess.Popen(
            ["taskset", "-c", str(core), *command], stdout=out, stderr=subprocess.STDOUT, cwd=folder, env=environment()
        )


def serves(server: Server, target: str = "/hit") -> bool:
    """It answers this request with a 200, within a while."""
    end = time.monotonic() + START_TIME
    while time.monotonic() < end and server.processes[0].poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 1) as sock:
            sock.sendall(f"GET {target} HTTP/1.1\r\nHost: bench.example\r\nConnection: close\r\n\r\n".encode())
            if sock.recv(65536).startswith(b"HTTP/1.1 200"):
                return True
        time.sleep(0.05)
    return False
