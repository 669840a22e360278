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


def test_a_file_that_cannot_be_used_costs_no_request_and_no_purge(tmp_path, origin):
    """Where the file should be there is a folder, as good as wrong rights or another owner, for root too."""
    (tmp_path / "disk" / "worker-0.cache").mkdir(parents=True)
    with start_proxy(tmp_path, reverse(origin.address, rest=REST)) as proxy:
        for _ in range(2):
            for number in range(30):
                assert raw.get(proxy.at, f"/{number}").body == f"/{number}".encode() * 50
        assert len(origin.targets()) == 30, "the memory does its part"
        assert proxy.command("purge", "--hard", "--all").returncode == 0
        raw.get(proxy.at, "/1")
        assert len(origin.targets()) == 31
        raw.wait_until(lambda: "not used" in proxy.output, what="a line in the log")


def test_a_reload_moves_the_file_turns_it_off_and_on_and_leaves_nothing_behind(tmp_path, origin):
    def files():
        return sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.cache"))

    toml = reverse(origin.address, rest=REST)
    with start_proxy(tmp_path, toml) as proxy:
        raw.get(proxy.at, "/a")
        written(proxy, 1)
        for text, where in (
            (toml.replace('"disk"', '"other"'), ["other/worker-0.cache"]),
            (toml.replace('path = "disk"', ""), []),
            (toml, ["disk/worker-0.cache"]),
        ):
            proxy.reload(text)
            raw.wait_until(lambda where=where: files() == where, what=f"{where}, not {files()}")
            assert "hit" in raw.get(proxy.at, "/a").get("cache-status"), "the memory keeps what it has"
            raw.get(proxy.at, f"/{len(where)}{where}".replace(" ", ""))
            if where:
                written(proxy, 1)
        assert proxy.metric("tandem_disk_dropped_total") == 0


def test_killed_while_it_writes_it_loses_at_most_what_was_not_written(tmp_path, origin):
    toml = reverse(origin.address, rest=REST)
    proxy = start_proxy(tmp_path, toml)
    for number in range(300):
        raw.get(proxy.at, f"/{number}")
    raw.wait_until(lambda: proxy.metric("tandem_disk_entries") >= 1, what="some on disk")
    proxy.kill9()
    proxy.stop()
    with start_proxy(tmp_path, toml) as again:
        raw.wait_until(lambda: again.metric("tandem_disk_entries") >= 1, what="the file open")
        for number in range(300):
            assert raw.get(again.at, f"/{number}").body == f"/{number}".encode() * 50
        assert again.metric("tandem_disk_damaged_total") == 0
        assert "damaged" not in again.output


def test_two_instances_on_one_path_do_not_hurt_each_other(tmp_path, origin):
    shared = REST.replace('"disk"', f'"{tmp_path}/shared"')
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with start_proxy(tmp_path / "one", reverse(origin.address, rest=shared)) as one:
        raw.get(one.at, "/a")
        written(one, 1)
        with start_proxy(tmp_path / "two", reverse(origin.address, rest=shared)) as two:
            for number in range(30):
                assert raw.get(two.at, f"/{number}").status == 200
                assert raw.get(one.at, f"/{number}").status == 200
            written(one, 31)
            assert two.metric("tandem_disk_entries") == 0
