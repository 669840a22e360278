"""Downloads that were cut and go on: curl, wget and apt through the forward proxy, whatever of them is stored."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess

import pytest

from tests.kit import raw
from tests.kit.origin import Close, FakeOrigin
from tests.kit.proxy import start_proxy

DATA = os.urandom(1_000_000)
CUT = 400_000
TAG = '"one"'
DATE = "Mon, 02 Nov 2026 10:00:00 GMT"


def serve(received):
    """DATA, or the part of it that is asked for, kept for an hour."""
    data, status, more = DATA, "200 OK", ""
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", received.get("range") or "")
    if asked and (received.get("if-range") or TAG) in {TAG, DATE}:
        first, last = int(asked[1]), min(int(asked[2] or len(DATA)), len(DATA) - 1)
        data, status = DATA[first : last + 1], "206 Partial Content"
        more = f"Content-Range: bytes {first}-{last}/{len(DATA)}\r\n"
    head = (
        f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n{more}ETag: {TAG}\r\nLast-Modified: {DATE}\r\n"
        "Accept-Ranges: bytes\r\nCache-Control: public, max-age=3600\r\n\r\n"
    )
    return [head.encode() + data]


def cut(received):
    """As if the line broke in the middle."""
    (whole,) = serve(received)
    return [whole[: whole.index(b"\r\n\r\n") + 4 + CUT], Close()]


@pytest.fixture(scope="module")
def origin():
    with FakeOrigin() as made:
        yield made


@pytest.fixture(scope="module")
def proxy(origin, tmp_path_factory):
    text = f'[forward]\nlisten = "127.0.0.1:PORT0"\nclients = "127.0.0.1"\nallow_private = "{origin.address}"\n'
    with start_proxy(tmp_path_factory.mktemp("proxy"), text) as running:
        yield running


@pytest.fixture(params=["nothing", "a part", "all"])
def stored(request, proxy, origin):
    """The URL of something of which this much is stored, and which ranges its origin was asked for until then."""
    path = f"/{request.node.name.partition('[')[0]}/{request.param.replace(' ', '-')}.deb"
    origin.on(path, by=serve)
    url = f"http://{origin.address}{path}"
    if request.param == "all":
        assert raw.ask(proxy.at, raw.request("GET", url)).body == DATA
    elif request.param == "a part":
        answer = raw.ask(proxy.at, raw.request("GET", url, f"Range: bytes=0-{CUT - 1}"))
        assert (answer.status, answer.body) == (206, DATA[:CUT])
    return url, path, request.param


def asked(origin, path):
    return [received.get("range") for received in origin.requests if received.path == path]


def run(*command, folder, **more):
    clean = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=30, env={**clean, **more}, check=False, cwd=folder
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def check(origin, path, extent):
    """The origin was asked for no byte that was stored, and for nothing twice."""
    wanted = {"nothing": [f"bytes={CUT}-"], "a part": [f"bytes=0-{CUT - 1}", f"bytes={CUT}-"], "all": [None]}
    assert asked(origin, path) == wanted[extent]


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_goes_on_where_it_stopped(stored, proxy, origin, tmp_path):
    url, path, extent = stored
    (tmp_path / "file").write_bytes(DATA[:CUT])
    run("curl", "-sS", "--fail", "-x", proxy.url, "-C", "-", "-o", "file", url, folder=tmp_path)
    assert (tmp_path / "file").read_bytes() == DATA
    check(origin, path, extent)


@pytest.mark.skipif(not shutil.which("wget"), reason="wget is not installed")
def test_wget_goes_on_where_it_stopped(stored, proxy, origin, tmp_path):
    url, path, extent = stored
    (tmp_path / "file").write_bytes(DATA[:CUT])
    run("wget", "-q", "--tries=1", "-c", "-O", "file", url, folder=tmp_path, http_proxy=proxy.url)
    assert (tmp_path / "file").read_bytes() == DATA
    check(origin, path, extent)


@pytest.mark.skipif(not shutil.which("wget"), reason="wget is not installed")
def test_a_download_that_breaks_off_at_the_origin_is_resumed_and_nothing_broken_is_kept(proxy, origin, tmp_path):
    answers = [cut]
    path = "/breaks/file.deb"
    origin.on(path, by=lambda received: answers.pop()(received) if answers else serve(received))
    url = f"http://{origin.address}{path}"
    run("wget", "-q", "--tries=3", "--waitretry=0", "-O", "file", url, folder=tmp_path, http_proxy=proxy.url)
    assert (tmp_path / "file").read_bytes() == DATA
    assert raw.ask(proxy.at, raw.request("GET", url)).body == DATA


@pytest.mark.skipif(not shutil.which("apt-get"), reason="apt is not installed")
def test_apt_goes_on_where_it_stopped(proxy, origin, tmp_path):
    """It asks with If-Range and the time of its part; the rest comes from what another machine has had stored."""
    entry = (
        "Package: sample\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@b>\nDescription: a sample\n"
        f"Filename: ./sample_1.0_all.deb\nSize: {len(DATA)}\nSHA256: {hashlib.sha256(DATA).hexdigest()}\n"
    ).encode()
    packages = gzip.compress(entry)
    origin.on("/apt/./Packages.gz", b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(packages), packages))
    origin.on("/apt/./sample_1.0_all.deb", by=serve)
    origin.otherwise(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    url = f"http://{origin.address}/apt/./sample_1.0_all.deb"
    assert raw.ask(proxy.at, raw.request("GET", url)).body == DATA
    for name in ("lists/partial", "cache/archives/partial", "etc"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc" / "sources.list").write_text(f"deb [trusted=yes] http://{origin.address}/apt ./\n")
    (tmp_path / "status").touch()
    options = {
        "Dir::State::lists": tmp_path / "lists",
        "Dir::State::status": tmp_path / "status",
        "Dir::Cache": tmp_path / "cache",
        "Dir::Etc::sourcelist": tmp_path / "etc" / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Acquire::http::Proxy": proxy.url,
        "APT::Sandbox::User": "",
    }
    apt = ["apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    run(*apt, "update", folder=tmp_path)
    part = tmp_path / "cache" / "archives" / "partial" / "sample_1.0_all.deb"
    part.write_bytes(DATA[:CUT])
    os.utime(part, (1_793_613_600, 1_793_613_600))  # DATE
    run(*apt, "install", "-y", "--download-only", "sample", folder=tmp_path)
    assert (tmp_path / "cache" / "archives" / "sample_1.0_all.deb").read_bytes() == DATA
    assert asked(origin, "/apt/./sample_1.0_all.deb") == [None]
