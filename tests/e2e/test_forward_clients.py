"""Real programs through the real proxy: curl, wget, git, apt, pip and Chromium, with and without a login.

Origins are local, plain and over TLS, by names that only the proxy can resolve: whoever gets an answer went through it.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import gzip
import hashlib
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import zipfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import bcrypt
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.kit import browser
from tests.kit.dns import FakeNameServer
from tests.kit.proxy import free_ports, start_proxy
from tests.kit.raw import wait_until

NAME = "www.origin.test"
PAGE = "<!doctype html><title>Origin</title><h1>It was here</h1>\n"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of one folder; packages may be kept."""

    protocol_version = "HTTP/1.1"
    seen: list[str]

    def do_GET(self):
        self.seen.append(self.path)
        super().do_GET()

    def end_headers(self):
        if self.path.endswith((".deb", ".whl")):
            self.send_header("Cache-Control", "public, max-age=3600")
        super().end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def serving(folder, tls=None):
    """(port, paths asked for) of a web server."""
    seen = []
    handler = functools.partial(type("Own", (Handler,), {"seen": seen}), directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1], seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def name_server(**names):
    """Its address; it runs in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = FakeNameServer({name.replace("_", "."): (addresses, 60) for name, addresses in names.items()})
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
    try:
        yield server.server
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@dataclass
class World:
    """The origins, the proxy before them, and who asks."""

    folder: Path
    proxy: object
    http: str
    https: str
    ca: Path
    pin: str  # of the origin's key, for Chromium
    login: str  # "user:password", or empty
    seen: list[str] = field(default_factory=list)

    @property
    def through(self):
        """The proxy's address as programs are told it, with the login."""
        at = f"{self.proxy.host}:{self.proxy.ports[0]}"
        return f"http://{self.login}@{at}" if self.login else f"http://{at}"

    def run(self, *command, check=True, **more):
        clean = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        environment = {**clean, "HOME": str(self.folder), **more}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, env=environment, check=False, cwd=self.folder
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}\n{self.proxy.output}"
        return done


@contextmanager
def build_world(folder, login):
    files = folder / "files"
    files.mkdir()
    (files / "page.html").write_text(PAGE)
    authority = trustme.CA()
    certificate = authority.issue_cert(NAME)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    ca = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    leaf = x509.load_pem_x509_certificate(certificate.cert_chain_pems[0].bytes())
    key = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with ExitStack() as ends:
        plain, seen = ends.enter_context(serving(files))
        secure, _ = ends.enter_context(serving(files, context))
        names = ends.enter_context(name_server(www_origin_test=["127.0.0.1"]))
        users = ""
        if login:
            user, _, word = login.partition(":")
            (folder / "users").write_text(f"{user}:{bcrypt.hashpw(word.encode(), bcrypt.gensalt(4)).decode()}\n")
            (folder / "users").chmod(0o600)
            users = f'users = "{folder / "users"}"'
        proxy = start_proxy(
            folder / "proxy",
            f'[forward]\nlisten = "127.0.0.1:PORT0"\nclients = "127.0.0.1"\n{users}\n'
            f'allow_private = ["127.0.0.1:{plain}", "127.0.0.1:{secure}"]\nconnect_ports = {secure}\n'
            f'[dns]\nservers = "{names}"\n[log]\naccess = {{ file = "-", format = "squid" }}\n',
        )
        ends.callback(proxy.stop)
        yield World(
            folder,
            proxy,
            f"http://{NAME}:{plain}",
            f"https://{NAME}:{secure}",
            ca,
            base64.b64encode(hashlib.sha256(key).digest()).decode(),
            login,
            seen,
        )


@pytest.fixture(scope="module", params=["", "bob:secret"], ids=["open", "login"])
def world(request, tmp_path_factory):
    """One for all tests of a kind: starting is most of their time."""
    with build_world(tmp_path_factory.mktemp("world"), request.param) as made:
        yield made


def needs(*programs):
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def was_logged(world, *words):
    wait_until(lambda: any(all(word in line for word in words) for line in world.proxy.output.splitlines()))


@needs("curl")
def test_curl_gets_a_page_over_http_and_https(world):
    curl = ("curl", "-sS", "--fail", "-x", world.through, "--cacert", str(world.ca))
    assert world.run(*curl, f"{world.http}/page.html").stdout == PAGE
    assert world.run(*curl, f"{world.https}/page.html").stdout == PAGE
    assert world.run(*curl, "-r", "0-8", f"{world.http}/page.html").stdout == PAGE[:9]
    was_logged(world, "TCP_TUNNEL/200", f"CONNECT {NAME}", "bob" if world.login else "- HIER")
    if world.login:
        wrong = world.through.replace("secret", "wrong")
        assert world.run("curl", "-sS", "--fail", "-x", wrong, f"{world.http}/page.html", check=False).returncode == 22


@needs("wget")
def test_wget_gets_a_page_over_http_and_https_and_resumes(world):
    wget = ("wget", "-q", "--tries=1", f"--ca-certificate={world.ca}")
    proxies = {"http_proxy": world.through, "https_proxy": world.through}
    assert world.run(*wget, "-O", "-", f"{world.http}/page.html", **proxies).stdout == PAGE
    assert world.run(*wget, "-O", "-", f"{world.https}/page.html", **proxies).stdout == PAGE
    (world.folder / "page.html").write_text(PAGE[:10])
    world.run(*wget, "-c", f"{world.http}/page.html", **proxies)
    assert (world.folder / "page.html").read_text() in {PAGE, PAGE[:10] + PAGE}  # the origin has no ranges


@needs("git")
def test_git_clones_over_http_and_https(world):
    own = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
    world.run("git", *own, "init", "-q", "work")
    (world.folder / "work" / "file").write_text("content\n")
    world.run("git", *own, "-C", "work", "add", "file")
    world.run("git", *own, "-C", "work", "commit", "-q", "-m", "first")
    world.run("git", "clone", "-q", "--bare", "work", "files/repo.git")
    world.run("git", "-C", "files/repo.git", "update-server-info")
    for number, base in enumerate((world.http, world.https)):
        world.run(
            "git", "-c", f"http.proxy={world.through}", "clone", "-q", f"{base}/repo.git", f"clone-{number}",
            GIT_SSL_CAINFO=str(world.ca),
        )  # fmt: skip
        assert (world.folder / f"clone-{number}" / "file").read_text() == "content\n"


@needs("apt-get", "dpkg-deb")
def test_two_machines_that_install_the_same_package_by_apt_fetch_it_once(world):
    tree = world.folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    control = "Package: sample\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@b>\nDescription: a sample\n"
    (tree / "DEBIAN" / "control").write_text(control)
    repository = world.folder / "files" / "deb"
    repository.mkdir()
    world.run("dpkg-deb", "--build", "--root-owner-group", "tree", "files/deb/sample_1.0_all.deb")
    data = (repository / "sample_1.0_all.deb").read_bytes()
    entry = f"{control}Filename: ./sample_1.0_all.deb\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
    (repository / "Packages").write_text(entry)
    (repository / "Packages.gz").write_bytes(gzip.compress(entry.encode()))
    for machine in ("one", "two"):
        home = world.folder / machine
        for name in ("lists/partial", "cache/archives/partial", "etc", "down"):
            (home / name).mkdir(parents=True)
        (home / "etc" / "sources.list").write_text(f"deb [trusted=yes] {world.http}/deb ./\n")
        (home / "status").touch()
        options = {
            "Dir::State::lists": home / "lists",
            "Dir::State::status": home / "status",
            "Dir::Cache": home / "cache",
            "Dir::Etc::sourcelist": home / "etc" / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Acquire::http::Proxy": world.through,
            "APT::Sandbox::User": "",
        }
        apt = ["apt-get", "-q"]
        for name, value in options.items():
            apt += ["-o", f"{name}={value}"]
        world.run(*apt, "update")
        world.run(*apt, "download", "sample")
        assert (world.folder / "sample_1.0_all.deb").read_bytes() == data
        (world.folder / "sample_1.0_all.deb").unlink()
    assert world.seen.count("/deb/./sample_1.0_all.deb") + world.seen.count("/deb/sample_1.0_all.deb") == 1


def test_pip_downloads_a_package_and_the_second_machine_gets_it_from_the_cache(world):
    simple = world.folder / "files" / "simple" / "sample"
    simple.mkdir(parents=True)
    wheel = simple / "sample-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr("sample.py", "value = 1\n")
        made.writestr("sample-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: sample\nVersion: 1.0\n")
        made.writestr("sample-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr("sample-1.0.dist-info/RECORD", "")
    (simple / "index.html").write_text(f'<!doctype html><a href="{wheel.name}">{wheel.name}</a>')
    for machine in ("one", "two"):
        world.run(
            sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-cache-dir", "--proxy", world.through,
            "--index-url", f"{world.http}/simple/", "--trusted-host", NAME, "-d", machine, "sample",
            PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_CONFIG_FILE=os.devnull,
        )  # fmt: skip
        assert (world.folder / machine / wheel.name).read_bytes() == wheel.read_bytes()
    assert world.seen.count(f"/simple/sample/{wheel.name}") == 1


@needs("chromium")
def test_chromium_loads_a_page_over_http_and_https_as_the_served_pac_says(world):
    options = (
        f"--proxy-pac-url={world.proxy.url}/proxy.pac",
        f"--ignore-certificate-errors-spki-list={world.pin}",
    )
    urls = [f"{base}/page.html" for base in (world.http, world.https)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        pages, asked = browser.read_pages(Path(profile), options, world.login, urls)
    assert ["It was here" in page for page in pages] == [True, True]
    assert set(asked) == ({f"Proxy {world.proxy.url}"} if world.login else set())
    user = "bob" if world.login else "-"
    was_logged(world, "CONNECT", NAME, f" {user} ")
    was_logged(world, "GET", f"{world.http}/page.html", f" {user} ")
    was_logged(world, "/proxy.pac")


# ---- Squid as the parent ---------------------------------------------------------------------------------------------

SQUID = """
http_port 127.0.0.1:{port}
hosts_file {hosts}
http_access allow all
cache deny all
access_log stdio:{folder}/squid.log
cache_log /dev/null
pid_filename none
coredump_dir {folder}
shutdown_lifetime 0 seconds
"""


@contextmanager
def squid():
    """The port of a Squid that knows the origins' name, and its log."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top)
        folder.chmod(0o777)  # it gives up root's rights
        yield from running_squid(folder, port)


def running_squid(folder, port):
    (folder / "hosts").write_text(f"127.0.0.1 {NAME}\n")
    (folder / "squid.conf").write_text(SQUID.format(port=port, hosts=folder / "hosts", folder=folder))
    process = subprocess.Popen(["squid", "-N", "-f", str(folder / "squid.conf")], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_listening(port), what="squid")
        yield port, folder / "squid.log"
    finally:
        process.kill()
        process.wait()


def is_listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@needs("curl", "squid")
@pytest.mark.parametrize("world", [""], indirect=True, ids=["open"])
def test_squid_is_a_parent_for_plain_requests_and_tunnels(world):
    with squid() as (port, log):
        secure = world.https.rpartition(":")[2]
        child = start_proxy(
            world.folder / "child",
            f'[forward]\nlisten = "127.0.0.1:PORT0"\nclients = "127.0.0.1"\nconnect_ports = {secure}\n'
            f'parent = "127.0.0.1:{port}"\n',
        )
        try:
            curl = ("curl", "-sS", "--fail", "-x", child.url, "--cacert", str(world.ca))
            assert world.run(*curl, f"{world.http}/page.html").stdout == PAGE
            assert world.run(*curl, f"{world.https}/page.html").stdout == PAGE
        finally:
            child.stop()
        lines = log.read_text()
        assert f"GET {world.http}/page.html" in lines
        assert f"CONNECT {NAME}:{secure}" in lines
