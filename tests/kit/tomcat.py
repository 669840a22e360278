"""Debian's Tomcat 10 with our test application, as many as a test wants, each in a folder of its own.

`start_tomcat` returns when pages are served. Tomcat itself chooses its port (0 in server.xml) and names it in its
log, so there is no race for it. The application in `webapp/` is compiled once per version of its sources and kept
under the temporary folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from tests.kit import raw
from tests.kit.raw import wait_until

HOME = Path("/usr/share/tomcat10")
SETTINGS = Path("/etc/tomcat10")
ROOT = Path("/usr/share/tomcat10-root/default_root")
EXAMPLES = Path("/usr/share/tomcat10-examples/examples")
WEBAPP = Path(__file__).parent / "webapp"
START_TIME = 60.0  # 2.5 s on an idle machine
# Only C1 and one collector thread: starts fastest. A fresh machine may have little entropy: the source is named.
JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx128m -Djava.security.egd=file:/dev/./urandom"
PORT_IN_LOG = re.compile(rb'Starting ProtocolHandler \["http-nio-127\.0\.0\.1(?:-auto-[0-9]+)?-([0-9]+)"\]')

SERVER_XML = """<?xml version="1.0" encoding="UTF-8"?>
<Server port="-1">
  <Service name="Catalina">
    <Connector port="${{t.port}}" address="127.0.0.1" protocol="HTTP/1.1" connectionTimeout="20000"
               maxThreads="100" maxPostSize="-1" maxSwallowSize="2097152"/>
    <Engine name="Catalina" defaultHost="localhost" jvmRoute="{route}">
      <Host name="localhost" appBase="webapps" unpackWARs="false" autoDeploy="false" startStopThreads="2">
        {valve}
      </Host>
    </Engine>
  </Service>
</Server>
"""
VALVE = """<Valve className="org.apache.catalina.valves.RemoteIpValve" remoteIpHeader="X-Forwarded-For"
               protocolHeader="X-Forwarded-Proto" hostHeader="X-Forwarded-Host" portHeader="X-Forwarded-Port"/>"""


def is_installed() -> bool:
    return HOME.is_dir() and EXAMPLES.is_dir() and shutil.which("javac") is not None


@dataclass(slots=True, eq=False)
class Tomcat:
    """A running Tomcat: `/` is its welcome page, `/examples` its examples, `/kit` our application."""

    port: int
    route: str
    folder: Path
    log: Path
    process: subprocess.Popen[bytes]
    host: str = "127.0.0.1"
    _remote_ip_valve: bool = field(default=True, repr=False)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def at(self) -> tuple[str, int]:
        return self.host, self.port

    def stop(self) -> None:
        """Ends it in an orderly way; does nothing if it has ended."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill9()
        self.process.wait()

    def kill9(self) -> None:
        """It dies at once, as on a crash of the virtual machine."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def freeze(self) -> None:
        """It stays, and its connections too, but it does nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Starts it again on the same port."""
        self.stop()
        self.process = _launch(self.folder, self.log, self.route, self.port)
        _wait_for_port(self.process, self.log)

    def __enter__(self) -> Tomcat:  # noqa: PYI034 - not made to be subclassed
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_tomcat(folder: Path, route: str = "t1", remote_ip_valve: bool = True) -> Tomcat:
    """A Tomcat that serves pages, below `folder` (which must exist); its sessions' ids end in `.route`."""
    base = folder / f"tomcat-{route}"
    _write_base(base, route, VALVE if remote_ip_valve else "")
    log = base / "logs" / "catalina.out"
    process = _launch(base, log, route, 0)
    try:
        port = _wait_for_port(process, log)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return Tomcat(port, route, base, log, process, _remote_ip_valve=remote_ip_valve)


def _write_base(base: Path, route: str, valve: str) -> None:
    for name in ("logs", "temp", "work", "webapps", "conf/Catalina/localhost"):
        (base / name).mkdir(parents=True)
    for source in SETTINGS.iterdir():
        if source.is_file() and source.name != "server.xml":
            shutil.copy(source, base / "conf" / source.name)
    (base / "conf/server.xml").write_text(SERVER_XML.format(route=route, valve=valve))
    contexts = base / "conf/Catalina/localhost"
    (contexts / "ROOT.xml").write_text(f'<Context docBase="{ROOT}"/>')
    (contexts / "kit.xml").write_text(f'<Context docBase="{built_webapp()}"/>')
    # Debian links two jars of the examples to elsewhere.
    (contexts / "examples.xml").write_text(f'<Context docBase="{EXAMPLES}"><Resources allowLinking="true"/></Context>')


def _launch(base: Path, log: Path, route: str, port: int) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "CATALINA_HOME": str(HOME),
        "CATALINA_BASE": str(base),
        "CATALINA_OPTS": f"{JAVA_OPTIONS} -Dt.port={port} -Dt.route={route}",
    }
    with log.open("wb") as out:
        return subprocess.Popen(
            [str(HOME / "bin/catalina.sh"), "run"], cwd=base, env=environment, stdout=out, stderr=subprocess.STDOUT
        )


def _wait_for_port(process: subprocess.Popen[bytes], log: Path) -> int:
    def port() -> int:
        if process.poll() is not None:
            raise AssertionError(f"Tomcat ended with {process.returncode}: {log.read_text()[-2000:]}")
        found = PORT_IN_LOG.search(log.read_bytes())
        return int(found[1]) if found else 0

    wait_until(port, START_TIME, f"Tomcat's port in {log}")
    wait_until(lambda: _serves(port()), START_TIME, "Tomcat's first page")
    return port()


def _serves(port: int) -> bool:
    with contextlib.suppress(OSError, raw.Broken):
        return raw.get(("127.0.0.1", port), "/kit/echo", "Connection: close").status == 200
    return False


# ---- the application ------------------------------------------------------------------------------------------------


def built_webapp() -> Path:
    """The folder of the compiled application; compiled now if no earlier run has left it."""
    target = Path(tempfile.gettempdir()) / f"tandem-tests-{os.getuid()}" / f"webapp-{_digest()}"
    if not target.is_dir():
        target.parent.mkdir(mode=0o700, exist_ok=True)
        if target.parent.stat().st_uid != os.getuid():
            raise PermissionError(f"{target.parent} belongs to somebody else")
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder) / "webapp"
            _build(made)
            with contextlib.suppress(OSError):  # another run was first: its result is the same
                made.rename(target)
    return target


def _digest() -> str:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for source in sorted(WEBAPP.rglob("*")):
        if source.is_file():
            digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()[:16]


def _build(target: Path) -> None:
    shutil.copytree(WEBAPP / "static", target)
    shutil.copytree(WEBAPP / "WEB-INF", target / "WEB-INF")
    (target / "dot.png").write_bytes(_png())
    (target / "big.bin").write_bytes(big_bytes(1 << 20))
    classes = target / "WEB-INF/classes"
    classes.mkdir()
    sources = [str(source) for source in sorted((WEBAPP / "src").rglob("*.java"))]
    subprocess.run(
        [
            "javac",
            "-Xlint:all",
            "-Xlint:-processing",
            "-Xlint:-path",
            "-cp",
            f"{HOME}/lib/*",
            "-d",
            str(classes),
            *sources,
        ],
        check=True,
    )


def big_bytes(count: int) -> bytes:
    """Bytes that repeat only after 64 KiB and a prime, so that a piece in the wrong place is seen."""
    period = bytes((number * 31 + number // 256) & 0xFF for number in range(65537))
    return (period * (count // len(period) + 1))[:count]


def _png() -> bytes:
    """A picture of one black dot."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(b"\0\0")) + part(b"IEND", b"")
