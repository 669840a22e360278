"""Real package managers install through the proxy's mirrors: pip, npm, apt, and curl in Maven's layout.

The origins are local, over TLS with an authority of the test that only the proxy knows; the clients speak plain HTTP to
the proxy. What the origins are asked is counted: a second machine must cost them nothing for what stays for ever.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import shutil
import ssl
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from contextlib import ExitStack
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING

import bcrypt
import pytest
import trustme

from tests.kit.proxy import start_proxy
from tests.kit.registry import Registry, serve_registry

if TYPE_CHECKING:
    from pathlib import Path

HOST = "127.0.0.1"
HTML = {"Content-Type": "text/html"}


@dataclass
class World:
    """The origin of all kinds, its host of files, the proxy before them, and who asks."""

    folder: Path
    proxy: object
    index: Registry
    files: Registry

    def run(self, *command, check=True, **more):
        clean = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, cwd=self.folder,
            env={**clean, "HOME": str(self.folder), **more},
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}\n{self.proxy.output}"
        return done

    def forget(self):
        for registry in (self.index, self.files):
            registry.seen.clear()
            registry.statuses.clear()

    @property
    def asked(self):
        return [path for registry in (self.index, self.files) for path, _ in registry.seen]


KINDS = ("deb", "pypi", "npm", "maven")


def configuration(index, files, folder, kinds=KINDS):
    mirrors = "".join(
        f'[[forward.mirror]]\nkind = "{kind}"\npath = "/{kind}/"\norigin = "{index.url}/{kind}/"\n'
        f'files = "{files.url}/packages/"\ntls = {{ ca = "{folder / "ca.pem"}" }}\n'
        for kind in kinds
    )
    return (
        f'[forward]\nlisten = "127.0.0.1:PORT0"\nclients = "127.0.0.1"\n{mirrors}'
        '[log]\naccess = { file = "-", format = "squid" }\n'
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """One for all tests: starting is most of their time."""
    folder = tmp_path_factory.mktemp("mirrors")
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    with ExitStack() as ends:
        index = ends.enter_context(serve_registry(context))
        files = ends.enter_context(serve_registry(context))
        proxy = start_proxy(folder / "proxy", configuration(index, files, folder))
        ends.callback(proxy.stop)
        yield World(folder, proxy, index, files)


def needs(*programs):
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


# ---- pip -------------------------------------------------------------------------------------------------------------


def make_wheel():
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("sample.py", "value = 1\n")
        archive.writestr("sample-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: sample\nVersion: 1.0\n")
        archive.writestr("sample-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("sample-1.0.dist-info/RECORD", "")
    return made.getvalue()


def publish_wheel(world, form):
    """(digest, where its file is) of a package on the host of files, with an index at the origin."""
    wheel = make_wheel() + form.encode()  # behind the archive: another digest for each form
    digest = hashlib.sha256(wheel).hexdigest()
    name = "sample-1.0-py3-none-any.whl"
    path = f"/packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/{name}"
    world.files.files[path] = wheel
    link = {"filename": name, "url": world.files.url + path, "hashes": {"sha256": digest}}
    said = json.dumps({"meta": {"api-version": "1.0"}, "name": "sample", "files": [link]})
    fields, page = HTML, f'<!doctype html><a href="{world.files.url}{path}#sha256={digest}">{name}</a>'
    if form == "json":
        fields, page = {"Content-Type": "application/vnd.pypi.simple.v1+json"}, said
    world.index.files[f"/pypi/{form}/sample/"] = lambda _: (200, fields, page.encode())
    (world.folder / f"{form}.txt").write_text(f"sample==1.0 --hash=sha256:{digest}\n")
    return path


def pip_install(world, mirror, form, target, *, check=True):
    return world.run(
        sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-cache-dir", "--no-input", "--require-hashes",
        "--index-url", f"{mirror}/{form}/", "--target", target, "-r", f"{form}.txt", check=check,
        PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_CONFIG_FILE=os.devnull,
    )  # fmt: skip


@pytest.mark.parametrize("form", ["html", "json"])
def test_pip_installs_with_hashes_and_a_second_machine_costs_the_origin_nothing(world, form):
    path = publish_wheel(world, form)
    for target in (f"{form}-one", f"{form}-two"):
        pip_install(world, f"{world.proxy.url}/pypi", form, target)
        assert (world.folder / target / "sample.py").read_text() == "value = 1\n"
    assert world.files.count(path) == 1
    assert world.index.count(f"/pypi/{form}/sample/") == 1


def test_pip_logs_in_to_a_mirror_as_to_any_registry(world, tmp_path):
    publish_wheel(world, "login")
    users = tmp_path / "users"
    users.write_text(f"bob:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    users.chmod(0o600)
    with start_proxy(
        tmp_path / "proxy",
        f'[forward]\nlisten = "127.0.0.1:PORT0"\nclients = "127.0.0.1"\nusers = "{users}"\n'
        f'[[forward.mirror]]\nkind = "pypi"\npath = "/pypi/"\norigin = "{world.index.url}/pypi/"\n'
        f'files = "{world.files.url}/packages/"\ntls = {{ ca = "{world.folder / "ca.pem"}" }}\n',
    ) as proxy:
        at = f"{proxy.host}:{proxy.ports[0]}/pypi"
        assert pip_install(world, f"http://{at}", "login", "login-none", check=False).returncode != 0
        pip_install(world, f"http://bob:secret@{at}", "login", "login")
    assert (world.folder / "login" / "sample.py").exists()
    assert all("authorization" not in asked for _, asked in world.index.seen + world.files.seen)


# ---- npm -------------------------------------------------------------------------------------------------------------


def make_tarball(name):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for path, text in (
            ("package/package.json", json.dumps({"name": name, "version": "1.0.0", "main": "index.js"})),
            ("package/index.js", "module.exports = 1\n"),
        ):
            member = tarfile.TarInfo(path)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return made.getvalue()


@needs("npm", "node")
@pytest.mark.parametrize("name", ["sample", "@scope/sample"])
def test_npm_installs_and_a_second_machine_costs_the_origin_nothing(world, name):
    tarball = make_tarball(name)
    path = f"/npm/{name}/-/sample-1.0.0.tgz"
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode()
    dist = {"tarball": world.index.url + path, "integrity": integrity}
    packument = {
        "name": name,
        "dist-tags": {"latest": "1.0.0"},
        "versions": {"1.0.0": {"name": name, "version": "1.0.0", "dist": dist}},
    }
    document = f"/npm/{name.replace('/', '%2f')}"
    kind = {"Content-Type": "application/vnd.npm.install-v1+json"}
    world.index.files[document] = lambda _: (200, kind, json.dumps(packument).encode())
    world.index.files[path] = tarball
    for machine in ("one", "two"):
        home = world.folder / f"npm-{machine}-{name.partition('/')[0]}"
        home.mkdir()
        (home / "package.json").write_text("{}")
        world.run(
            "npm", "install", "--no-audit", "--no-fund", "--no-update-notifier", "--registry",
            f"{world.proxy.url}/npm/", "--cache", str(home / "cache"), "--prefix", str(home), name,
        )  # fmt: skip
        assert (home / "node_modules" / name / "index.js").read_text() == "module.exports = 1\n"
        locked = json.loads((home / "package-lock.json").read_text())
        assert locked["packages"][f"node_modules/{name}"]["integrity"] == integrity
    assert (world.index.count(document), world.index.count(path)) == (1, 1)


# ---- apt -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def key(world):
    """Signs as an archive does; its public half is in `archive.gpg`."""
    home = tempfile.mkdtemp(prefix="gpg-")  # short: a socket is made in it
    gpg = ("gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", "--homedir", home)
    try:
        world.run(*gpg, "--quick-gen-key", "archive@test.example", "ed25519", "sign", "never")
        world.run(*gpg, "--export", "-o", "archive.gpg")
        yield gpg
    finally:
        world.run("gpgconf", "--homedir", home, "--kill", "all", check=False)
        shutil.rmtree(home)


def publish(world, key, version):
    """A repository as Debian's: a Release that names its lists by their digests, and the lists by name and digest."""
    tree = world.folder / f"tree-{version}"
    (tree / "DEBIAN").mkdir(parents=True)
    control = f"Package: sample\nVersion: {version}\nArchitecture: all\nMaintainer: A <a@b>\nDescription: a sample\n"
    (tree / "DEBIAN" / "control").write_text(control)
    name = f"sample_{version}_all.deb"
    world.run("dpkg-deb", "--build", "--root-owner-group", str(tree), name)
    data = (world.folder / name).read_bytes()
    (world.folder / name).unlink()
    files = world.index.files
    files[f"/deb/pool/main/s/sample/{name}"] = data
    entry = f"{control}Filename: pool/main/s/sample/{name}\nSize: {len(data)}\nSHA256: {sha(data)}\n".encode()
    lists, lines = "main/binary-all", ""
    for end, text in (("Packages", entry), ("Packages.gz", gzip.compress(entry))):
        files[f"/deb/dists/stable/{lists}/{end}"] = text
        files[f"/deb/dists/stable/{lists}/by-hash/SHA256/{sha(text)}"] = text
        lines += f" {sha(text)} {len(text)} {lists}/{end}\n"
    release = (
        f"Suite: stable\nCodename: stable\nDate: {formatdate(usegmt=True)}\nArchitectures: all amd64\n"
        f"Components: main\nAcquire-By-Hash: yes\nSHA256:\n{lines}"
    )
    when = {"Last-Modified": formatdate(1_700_000_000 + 1000 * float(version), usegmt=True)}
    (world.folder / "Release").write_text(release)
    signed = world.run(*key, "--clearsign", "-o", "-", "Release").stdout.encode()
    files["/deb/dists/stable/InRelease"] = lambda _: (200, when, signed)
    return name, data


def sha(data):
    return hashlib.sha256(data).hexdigest()


def apt(world, machine):
    home = world.folder / f"apt-{machine}"
    if not home.exists():
        for name in ("lists/partial", "cache/archives/partial", "down"):
            (home / name).mkdir(parents=True)
        (home / "sources.list").write_text(
            f"deb [signed-by={world.folder}/archive.gpg arch=all] {world.proxy.url}/deb/ stable main\n"
        )
        (home / "status").touch()
    options = {
        "Dir::State::lists": home / "lists",
        "Dir::State::status": home / "status",
        "Dir::Cache": home / "cache",
        "Dir::Etc::sourcelist": home / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
    }
    return ["apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]


@needs("apt-get", "dpkg-deb", "gpg")
def test_apt_updates_and_downloads_and_a_second_machine_costs_the_origin_validations_alone(world, key):
    world.forget()
    for version in ("1.0", "2.0"):
        name, data = publish(world, key, version)
        for machine in ("one", "two"):
            world.run(*apt(world, machine), "update")
            world.run(*apt(world, machine), "download", "sample")
            assert (world.folder / name).read_bytes() == data
            (world.folder / name).unlink()
        assert world.index.count(f"/deb/pool/main/s/sample/{name}") == 1
    lists = [path for path in world.asked if "/by-hash/" in path]
    assert len(lists) == len(set(lists)) == 2  # one of each version
    assert not [path for path in world.asked if path.endswith(("/Packages", "/Packages.gz"))]
    releases = [
        status for (path, _), status in zip(world.index.seen, world.index.statuses, strict=True) if "InRelease" in path
    ]
    assert releases.count(200) == 2


@needs("apt-get", "dpkg-deb", "gpg")
def test_apt_installs_what_is_known_while_the_origin_is_down(world, key):
    name, data = publish(world, key, "3.0")
    world.run(*apt(world, "three"), "update")
    world.run(*apt(world, "three"), "download", "sample")
    (world.folder / name).unlink()
    world.index.down = True
    try:
        world.run(*apt(world, "four"), "update")
        world.run(*apt(world, "four"), "download", "sample")
        assert (world.folder / name).read_bytes() == data
    finally:
        world.index.down = False


# ---- Maven's layout --------------------------------------------------------------------------------------------------


@needs("curl")
def test_a_release_and_its_checksums_are_fetched_once_and_a_download_is_resumed(world):
    data = bytes(range(256)) * 4000
    base = "/maven/org/example/lib/1.0/lib-1.0"
    world.index.files[f"{base}.jar"] = data
    world.index.files[f"{base}.jar.sha1"] = hashlib.sha1(data, usedforsecurity=False).hexdigest().encode()
    world.index.files["/maven/org/example/lib/maven-metadata.xml"] = b"<metadata/>"
    for target in ("one.jar", "two.jar"):
        (world.folder / target).write_bytes(data[:1000] if target == "two.jar" else b"")
        world.run("curl", "-sS", "--fail", "-C", "-", "-o", target, f"{world.proxy.url}{base}.jar")
        assert (world.folder / target).read_bytes() == data
        world.run("curl", "-sS", "--fail", f"{world.proxy.url}{base}.jar.sha1")
        world.run("curl", "-sS", "--fail", f"{world.proxy.url}/maven/org/example/lib/maven-metadata.xml")
    assert (world.index.count(f"{base}.jar"), world.index.count(f"{base}.jar.sha1")) == (1, 1)
    assert world.index.count("/maven/org/example/lib/maven-metadata.xml") == 2


# ---- what is told ----------------------------------------------------------------------------------------------------


def test_explain_tells_the_mirror_its_kind_and_how_long_a_path_stays(world):
    told = world.proxy.command("explain", f"{world.proxy.url}/pypi/simple/nowhere/")
    assert "mirror /pypi/ of kind pypi: an index, asked for again after 1min" in told.stdout, told.stderr
    assert f"{world.index.url}/pypi/simple/nowhere/" in told.stdout
    told = world.proxy.command("explain", f"{world.proxy.url}/deb/pool/a/a_1_all.deb")
    assert "mirror /deb/ of kind deb: for ever" in told.stdout


@needs("curl")
def test_a_reload_brings_mirrors_and_takes_them_and_what_others_have_stored_stays(world):
    world.index.files["/deb/pool/r_1_all.deb"] = b"deb"
    kept = f"{world.proxy.url}/deb/pool/r_1_all.deb"
    other = f"{world.proxy.url}/maven/o/f/1.0/f-1.0.jar"
    world.index.files["/maven/o/f/1.0/f-1.0.jar"] = b"jar"
    for kinds, status in ((KINDS, "200"), (("deb",), "400"), (KINDS, "200")):
        world.proxy.reload(configuration(world.index, world.files, world.folder, kinds))
        assert world.run("curl", "-sS", "--fail", kept).stdout == "deb"
        assert world.run("curl", "-sS", "-o", os.devnull, "-w", "%{http_code}", other).stdout == status
    assert world.index.count("/deb/pool/r_1_all.deb") == 1


@needs("curl")
def test_a_certificate_that_does_not_fit_is_refused(world, tmp_path):
    with start_proxy(
        tmp_path,
        '[forward]\nlisten = "127.0.0.1:PORT0"\nclients = "127.0.0.1"\n'
        f'[[forward.mirror]]\nkind = "deb"\npath = "/deb/"\norigin = "{world.index.url}"\n'
        '[log]\naccess = { file = "-", format = "squid" }\n',
    ) as proxy:
        done = world.run("curl", "-sS", "-D", "-", "-o", os.devnull, f"{proxy.url}/deb/a")
        assert " 502 " in done.stdout
        assert "error=tls" in done.stdout
