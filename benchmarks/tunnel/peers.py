"""The proxies that are compared as tunnels. HAProxy passes TCP on to the origin; the others are asked by CONNECT."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.load.peers import START_TIME, Peer, Setting, python_command, run_as

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.load.peers import Server


def tandem(s: Setting) -> str:
    log = f'\n[log]\naccess = {{ file = "{s.log}", format = "squid" }}\n' if s.log else ""
    return f"""
[forward]
listen = "127.0.0.1:{s.port}"
clients = ["127.0.0.0/8"]
allow_private = ["127.0.0.1:{s.origin}"]
connect_ports = [{s.origin}]

[limits]
tunnels = 0
{log}"""


def haproxy(s: Setting) -> str:
    return f"""
global
  nbthread 1
  maxconn 4000
defaults
  mode tcp
  option splice-auto
  timeout connect 5s
  timeout client 300s
  timeout server 300s
frontend f
  bind 127.0.0.1:{s.port} backlog 1024
  default_backend b
backend b
  server o 127.0.0.1:{s.origin}
"""


def squid(s: Setting) -> str:
    return f"""
http_port 127.0.0.1:{s.port}
http_access allow all
cache_mem 8 MB
access_log none
cache_log {s.folder}/cache.log
cache_store_log none
pid_filename {s.folder}/squid.pid
coredump_dir {s.folder}
pinger_enable off
max_filedescriptors 4096
shutdown_lifetime 0 seconds
"""


def tinyproxy(s: Setting) -> str:
    return f"""
User {run_as()}
Port {s.port}
Listen 127.0.0.1
Timeout 300
LogFile "{s.folder}/log"
LogLevel Critical
MaxClients 2000
Allow 127.0.0.1
ConnectPort {s.origin}
"""


def _haproxy(_: Setting, conf: Path) -> list[str]:
    return ["haproxy", "-db", "-f", str(conf)]


def _squid(_: Setting, conf: Path) -> list[str]:
    return ["squid", "-N", "-f", str(conf)]


def _tinyproxy(_: Setting, conf: Path) -> list[str]:
    return ["tinyproxy", "-d", "-c", str(conf)]


PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("tandem", sys.executable, tandem, python_command, (sys.executable, "-P", "-m", "proxy", "version")),
        Peer("haproxy", "haproxy", haproxy, _haproxy, ("haproxy", "-v")),
        Peer("squid", "squid", squid, _squid, ("squid", "-v")),
        Peer("tinyproxy", "tinyproxy", tinyproxy, _tinyproxy, ("tinyproxy", "-v")),
    )
}


def listens(server: Server) -> bool:
    """It accepts connections; whether it tunnels shows in the first run."""
    end = time.monotonic() + START_TIME
    while time.monotonic() < end and server.processes[0].poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 1):
            return True
        time.sleep(0.05)
    return False
