"""Mirrors before registries in memory: links are turned, named redirects followed, and what is asked is counted."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager

import pytest

from tests.kit import raw
from tests.kit.inproc import Clock, Stack
from tests.kit.registry import serve_registry

SHA = "ab" * 32
WHEEL = f"/{SHA}/a-1.0-py3-none-any.whl"
HTML = {"Content-Type": "text/html"}


class Bench:
    """A mirror of kind `kind` at /m/ before `index`, with `files` as its further place."""

    def __init__(self, ends, kind, more):
        self.index = ends.enter_context(serve_registry())
        self.files = ends.enter_context(serve_registry())
        self.stack = ends.enter_context(
            Stack(
                '[forward]\nlisten = "127.0.0.1:PORT0"\nclients = "127.0.0.1"\n'
                f'[[forward.mirror]]\nkind = "{kind}"\npath = "/m/"\norigin = "{self.index.url}"\n'
                f'files = "{self.files.url}/packages"\n{more}\n',
                clock=Clock(),
            )
        )
        self.index.date = self.files.date = self.stack.date

    def get(self, path, *lines, **more):
        return raw.get(self.stack.at, path, *lines, **more)


@contextmanager
def mirror(kind="pypi", more=""):
    with ExitStack() as ends:
        yield Bench(ends, kind, more)


def test_an_index_links_to_the_mirror_and_the_file_behind_it_is_fetched_once():
    with mirror() as bench:
        bench.index.files["/simple/a/"] = f'<a href="{bench.files.url}/packages{WHEEL}#sha256=1">a</a>'.encode()
        bench.index.fields["/"] = HTML
        bench.files.files[f"/packages{WHEEL}"] = b"x" * 300_000
        first = bench.get("/m/simple/a/")
        assert first.body == f'<a href="/m/~0{WHEEL}#sha256=1">a</a>'.encode()
        assert bench.get("/m/simple/a/").body == first.body
        for _ in range(3):
            assert bench.get(f"/m/~0{WHEEL}").body == b"x" * 300_000
            bench.stack.advance(3600)
        assert bench.get(f"/m/~0{WHEEL}", "Range: bytes=5-9").body == b"xxxxx"
        assert (bench.index.count("/simple/a/"), bench.files.count(f"/packages{WHEEL}")) == (1, 1)
        [(_, asked)] = bench.index.seen
        assert asked["accept-encoding"] == "identity"


def test_a_long_index_is_turned_while_it_passes_and_head_says_nothing_of_its_length():
    with mirror() as bench:
        line = f'<a href="{bench.files.url}/packages{WHEEL}">a</a>\n'.encode()
        bench.index.files["/simple/a/"] = line * 20_000
        bench.index.fields["/"] = HTML
        head = bench.get("/m/simple/a/", method="HEAD")
        assert (head.status, head.get("content-length"), head.get("accept-ranges")) == (200, None, None)
        assert bench.get("/m/simple/a/").body == f'<a href="/m/~0{WHEEL}">a</a>\n'.encode() * 20_000
        again = bench.get("/m/simple/a/", "Range: bytes=0-4")
        assert (again.status, len(again.body)) == (200, len(f'<a href="/m/~0{WHEEL}">a</a>\n') * 20_000)
        assert bench.index.statuses == [200, 200]


def test_an_index_is_asked_for_again_after_its_time_and_a_304_keeps_what_was_turned():
    with mirror(more='index = "30s"') as bench:
        bench.index.files["/simple/a/"] = b'<a href="/x">a</a>'
        bench.index.fields["/"] = HTML | {"Cache-Control": "max-age=86400"}
        for _ in range(3):
            assert bench.get("/m/simple/a/", "Cache-Control: max-age=0").body == b'<a href="/m/x">a</a>'
        bench.stack.advance(31)
        for _ in range(2):
            assert bench.get("/m/simple/a/").body == b'<a href="/m/x">a</a>'
        assert bench.index.statuses == [200, 304]
        bench.index.files["/simple/a/"] = b'<a href="/y">a</a>'
        bench.stack.advance(31)
        assert bench.get("/m/simple/a/").body == b'<a href="/m/y">a</a>'


def test_both_forms_of_an_index_are_kept_apart_though_the_origin_does_not_say_vary():
    def simple(asked):
        if "json" in asked["accept"]:
            return 200, {"Content-Type": "application/vnd.pypi.simple.v1+json"}, b'{"files":[{"url":"/a"}]}'
        return 200, HTML, b'<a href="/a">'

    with mirror() as bench:
        bench.index.files["/simple/a/"] = simple
        for _ in range(2):
            assert bench.get("/m/simple/a/", "Accept: text/html").body == b'<a href="/m/a">'
            found = bench.get("/m/simple/a/", "Accept: application/vnd.pypi.simple.v1+json")
            assert json.loads(found.body) == {"files": [{"url": "/m/a"}]}
        assert bench.index.count("/simple/a/") == 2


def test_a_packument_names_the_mirror_as_its_client_does():
    with mirror("npm") as bench:
        tarball = f"{bench.index.url}/a/-/a-1.0.0.tgz"
        bench.index.files["/a"] = json.dumps({"versions": {"1.0.0": {"dist": {"tarball": tarball}}}}).encode()
        bench.index.files["/a/-/a-1.0.0.tgz"] = b"tar"
        bench.index.fields["/a"] = {"Content-Type": "application/vnd.npm.install-v1+json"}
        for host in ("proxy.lan:3128", "192.168.8.4:3128", "proxy.lan:3128"):
            found = json.loads(bench.get("/m/a", host=host).body)
            assert found["versions"]["1.0.0"]["dist"]["tarball"] == f"http://{host}/m/a/-/a-1.0.0.tgz"
        assert bench.index.count("/a") == 2
        for _ in range(2):
            assert bench.get("/m/a/-/a-1.0.0.tgz").body == b"tar"
        assert bench.index.count("/a/-/a-1.0.0.tgz") == 1


@pytest.mark.parametrize("tags", [True, False])
def test_while_the_origin_is_down_stale_indexes_answer_and_files_too(tags):
    with mirror("deb") as bench:
        bench.index.tags = tags
        bench.index.files["/dists/s/InRelease"] = b"release"
        bench.index.files["/pool/a/a_1_all.deb"] = b"deb"
        for path in ("/m/dists/s/InRelease", "/m/pool/a/a_1_all.deb"):
            assert bench.get(path).status == 200
        bench.index.down = True
        bench.stack.advance(86400)
        found = bench.get("/m/dists/s/InRelease")
        assert (found.status, found.body) == (200, b"release")
        assert "stale" in found.get("cache-status")
        assert bench.get("/m/pool/a/a_1_all.deb").body == b"deb"
        assert bench.get("/m/pool/a/b_1_all.deb").status == 503


def test_a_release_and_its_lists_are_never_of_different_times():
    with mirror("deb") as bench:
        bench.index.fields["s/"] = {}
        bench.index.fields["Release"] = bench.index.fields["Packages"] = {"Cache-Control": "max-age=600"}
        for version in (b"1", b"2", b"2"):
            bench.index.files["/dists/s/InRelease"] = b"release " + version
            bench.index.files["/dists/s/main/binary-all/Packages"] = b"packages " + version
            assert bench.get("/m/dists/s/InRelease").body == b"release " + version
            assert bench.get("/m/dists/s/main/binary-all/Packages").body == b"packages " + version
        assert bench.index.statuses == [200, 200, 200, 200, 304, 304]


def test_a_snapshot_is_asked_for_each_time_and_a_release_once_with_its_checksum():
    with mirror("maven") as bench:
        asked = ["/o/f/1.0/f-1.0.jar", "/o/f/1.0/f-1.0.jar.sha1", "/o/f/maven-metadata.xml"]
        for path in asked:
            bench.index.files[path] = path.encode()
        for _ in range(3):
            for path in asked:
                assert bench.get("/m" + path).body == path.encode()
        assert [bench.index.count(path) for path in asked] == [1, 1, 3]


# ---- redirects -------------------------------------------------------------------------------------------------------


def test_a_redirect_of_a_file_to_a_named_place_is_followed_here_and_kept_under_its_own_name():
    with mirror("npm") as bench:
        signed = iter(range(9))
        bench.index.files["/a/-/a-1.tgz"] = lambda _: (
            302,
            {"Location": f"{bench.files.url}/packages/a?signed={next(signed)}", "Cache-Control": "max-age=60"},
            b"elsewhere",
        )
        bench.files.files["/packages/a?signed=0"] = b"tar"
        for _ in range(2):
            found = bench.get("/m/a/-/a-1.tgz")
            assert (found.status, found.body) == (200, b"tar")
        assert (len(bench.index.seen), len(bench.files.seen)) == (1, 1)
        assert bench.files.seen[0][1]["host"] == bench.files.url.partition("//")[2]


def test_credentials_stay_with_the_origin_that_they_are_for(tmp_path):
    (tmp_path / "token").write_text("Bearer secret\n")
    (tmp_path / "token").chmod(0o600)
    with mirror("npm", more=f'token = "{tmp_path}/token"') as bench:
        bench.index.files["/a/-/a-1.tgz"] = lambda _: (307, {"Location": f"{bench.files.url}/packages/a"}, b"")
        bench.files.files["/packages/a"] = b"tar"
        assert bench.get("/m/a/-/a-1.tgz", "Authorization: Basic client").body == b"tar"
        assert bench.index.seen[0][1]["authorization"] == "Bearer secret"
        assert "authorization" not in bench.files.seen[0][1]
        assert bench.get("/m/a/-/a-1.tgz").body == b"tar"
        assert len(bench.index.seen) == 1


def test_a_redirect_to_elsewhere_goes_to_the_client():
    with mirror("npm") as bench:
        bench.index.files["/a/-/a-1.tgz"] = lambda _: (302, {"Location": "http://cdn.example/a?signed"}, b"")
        found = bench.get("/m/a/-/a-1.tgz")
        assert (found.status, found.get("location")) == (302, "http://cdn.example/a?signed")


def test_a_redirect_of_an_index_leads_the_client_through_the_mirror():
    with mirror() as bench:
        bench.index.files["/simple/A/"] = lambda _: (301, {"Location": "/simple/a/"}, b"")
        found = bench.get("/m/simple/A/")
        assert (found.status, found.get("location")) == (301, "/m/simple/a/")


def test_a_circle_of_redirects_ends():
    with mirror("npm") as bench:
        bench.index.files["/a/-/a-1.tgz"] = lambda _: (302, {"Location": "/a/-/a-1.tgz"}, b"round")
        found = bench.get("/m/a/-/a-1.tgz")
        assert (found.status, found.get("location")) == (302, "/m/a/-/a-1.tgz")
        assert len(bench.index.seen) == 6


def test_what_has_a_body_of_its_own_is_not_asked_again():
    with mirror("npm") as bench:
        bench.index.files["/a/-/a-1.tgz"] = lambda _: (307, {"Location": f"{bench.files.url}/packages/a"}, b"")
        with raw.Connection(bench.stack.at) as connection:
            connection.send(raw.request("GET", "/m/a/-/a-1.tgz", "Content-Length: 4") + b"body")
            found = connection.read_response()
        assert (found.status, found.get("location")) == (307, "/m/~0/a")
        assert bench.files.seen == []


def test_a_client_that_does_not_say_how_it_calls_the_mirror_gets_paths():
    with mirror("npm") as bench:
        bench.index.files["/a"] = json.dumps({"tarball": f"{bench.index.url}/a/-/a-1.tgz"}).encode()
        bench.index.fields["/a"] = {"Content-Type": "application/json"}
        with raw.Connection(bench.stack.at) as connection:
            connection.send(b"GET /m/a HTTP/1.0\r\n\r\n")
            assert json.loads(connection.read_response().body) == {"tarball": "/m/a/-/a-1.tgz"}


def test_many_who_ask_for_a_file_at_once_cost_one_fetch_and_each_gets_it_turned_and_whole():
    with mirror() as bench:
        line = f'<a href="{bench.files.url}/packages{WHEEL}">a</a>\n'.encode()
        bench.index.files["/simple/a/"] = line * 50_000
        bench.index.fields["/"] = HTML
        links = [raw.Connection(bench.stack.at) for _ in range(8)]
        for link in links:
            link.send(raw.request("GET", "/m/simple/a/"))
        whole = f'<a href="/m/~0{WHEEL}">a</a>\n'.encode() * 50_000
        for link in links:
            with link:
                assert link.read_response().body == whole
        assert bench.index.count("/simple/a/") == 1


def test_a_long_answer_that_redirects_is_not_read():
    with mirror("npm") as bench:
        bench.index.files["/a/-/a-1.tgz"] = lambda _: (
            302,
            {"Location": f"{bench.files.url}/packages/a"},
            b"x" * 2_000_000,
        )
        bench.files.files["/packages/a"] = b"tar"
        assert bench.get("/m/a/-/a-1.tgz").body == b"tar"
        raw.wait_until(lambda: bench.stack.upstream_counts()[0] <= 1)


# ---- large files -----------------------------------------------------------------------------------------------------


def test_a_download_that_was_cut_is_resumed_from_what_is_stored():
    with mirror("deb") as bench:
        data = bytes(range(256)) * 8000
        bench.index.files["/pool/a/a_1_all.deb"] = data
        with raw.Connection(bench.stack.at) as connection:
            connection.send(raw.request("GET", "/m/pool/a/a_1_all.deb"))
            connection.read_exactly(1000)
        bench.stack.wait(lambda: bench.stack.store.entries == 1)
        found = bench.get("/m/pool/a/a_1_all.deb", "Range: bytes=1000000-")
        assert (found.status, found.body) == (206, data[1_000_000:])
        assert len(bench.index.seen) == 1


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_nothing_is_published_through_a_mirror(method):
    with mirror() as bench:
        found = bench.get("/m/a", "Content-Length: 0", method=method)
        assert (found.status, found.get("allow")) == (405, "GET, HEAD")
        assert bench.index.seen == []
