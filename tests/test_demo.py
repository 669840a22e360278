"""The demo works as a whole: origin, proxy, what it says to try, and nothing left behind."""

import re
import signal
import struct
import subprocess
import sys
import tempfile
import urllib.request
import zlib
from pathlib import Path

import pytest

from proxy import demo
from tests.kit.instance import ROOT, can_connect, free_port, is_running, wait_until


def fetch(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.headers, answer.read()


@pytest.fixture
def running():
    with tempfile.TemporaryDirectory() as top:
        Path(top).chmod(0o755)
        port, forward, admin = free_port(), free_port(), free_port()
        output = Path(top) / "output"
        with output.open("wb") as stream:
            words = ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", "--runtime", f"{top}/run"]
            words += ["--forward", f"127.0.0.1:{forward}"]
            popen = subprocess.Popen(
                [sys.executable, "-m", "proxy", "demo", *words], cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT
            )
        try:
            wait_until(lambda: "Ctrl-C ends it" in output.read_text() or popen.poll() is not None)
            assert popen.poll() is None, output.read_text()
            yield popen, port, admin, output.read_text()
        finally:
            popen.kill()
            popen.wait()


@pytest.mark.slow
def test_the_pages_come_through_the_proxy_and_out_of_its_cache(running):
    popen, port, admin, text = running
    url = f"http://127.0.0.1:{port}"
    assert f"curl -i  {url}/" in text
    _, first = fetch(f"{url}/")
    headers, second = fetch(f"{url}/")
    assert first == second
    assert "hit" in headers["Cache-Status"]
    assert fetch(f"{url}/live")[1] != fetch(f"{url}/live")[1]
    assert fetch(f"{url}/image.png")[1].startswith(b"\x89PNG")
    assert fetch(f"http://127.0.0.1:{admin}/healthz")
    proxy, direct = re.search(r"curl -i  -x (\S+) (\S+)", text).groups()
    through = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy}))
    with through.open(direct, timeout=20) as answer:
        assert "tandem" in answer.headers["Via"]
    origin = int(re.search(r"kill the origin \(pid (\d+)\)", text)[1])
    assert is_running(origin)
    popen.send_signal(signal.SIGINT)
    assert popen.wait(20) == 0
    assert not can_connect(port)
    assert not is_running(origin)


@pytest.mark.slow
def test_the_origin_ends_even_when_the_demo_is_killed(running):
    popen, _, _, text = running
    origin = int(re.search(r"kill the origin \(pid (\d+)\)", text)[1])
    popen.kill()
    wait_until(lambda: not is_running(origin))


def test_the_picture_is_a_png_with_sound_checksums():
    data = demo.build_png(8)
    at, kinds = 8, []
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + body)
        kinds.append(kind)
        if kind == b"IDAT":
            assert len(zlib.decompress(body)) == 8 * (1 + 8 * 3)
        at += 12 + length
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]
