"""The real program's cache survives its restarts, and purges outlast them."""

import os

import pytest

from tests.kit import raw
from tests.kit.origin import FakeOrigin, response
from tests.kit.proxy import reverse, start_proxy

REST = '[cache]\npath = "disk"\ndisk = "16MB"\nmemory = "16MB"'
HOW = {"polite": lambda proxy: proxy.stop(), "killed": lambda proxy: (proxy.kill9(), proxy.stop())}


@pytest.fixture
def origin():
    with FakeOrigin() as origin:
        origin.otherwise(by=lambda r: [response(r.path.encode() * 50, "Cache-Control: max-age=3600", 'ETag: "1"')])
        yield origin


def written(proxy, count):
    raw.wait_until(lambda: proxy.metric("tandem_disk_entries") == count, what="responses on disk")


@pytest.mark.parametrize("how", HOW)
def test_a_restart_serves_what_was_written_and_not_what_was_purged(tmp_path, origin, how):
    toml = reverse(origin.address, rest=REST)
    proxy = start_proxy(tmp_path, toml)
    for path in ("/kept", "/purged"):
        raw.get(proxy.at, path)
    written(proxy, 2)
    assert proxy.command("purge", "--hard", f"http://test.example:{proxy.ports[0]}/purged").returncode == 0
    # Both names of the address: with its port, and as the client named it.
    assert proxy.command("purge", "--hard", "http://test.example/purged").returncode == 0
    HOW[how](proxy)
    asked = len(origin.targets())
    with start_proxy(tmp_path, toml) as again:
        raw.wait_until(lambda: again.metric("tandem_disk_entries") >= 1, what="the file open")
        kept = raw.get(again.at, "/kept")
        assert kept.body == b"/kept" * 50
        assert "hit" in kept.get("cache-status")
        assert len(origin.targets()) == asked
        assert "hit" not in raw.get(again.at, "/purged").get("cache-status").split(";")[1]
        for file in (tmp_path / "disk").iterdir():
            assert file.stat().st_mode & 0o077 == 0


def test_a_damaged_file_costs_the_cache_and_nothing_else(tmp_path, origin):
    toml = reverse(origin.address, rest=REST)
    with start_proxy(tmp_path, toml) as proxy:
        for number in range(50):
            raw.get(proxy.at, f"/{number}")
        written(proxy, 50)
    file = tmp_path / "disk" / "worker-0.cache"
    data = bytearray(file.read_bytes())
    for at in range(0, len(data), 7):
        data[at] = os.urandom(1)[0]
    file.write_bytes(data)
    with start_proxy(tmp_path, toml) as again:
        for number in range(50):
            assert raw.get(again.at, f"/{number}").body == f"/{number}".encode() * 50
        raw.wait_until(lambda: "damaged" in again.output, what="a line in the log")
