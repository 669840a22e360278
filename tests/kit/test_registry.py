"""The registry of tests counts, validates, gives parts, and can be down."""

from __future__ import annotations

import http.client

from tests.kit.registry import serve_registry


def ask(registry, path, method="GET", **fields):
    host, _, port = registry.url.partition("//")[2].partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in fields.items()})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def test_it_answers_as_a_registry_does():
    with serve_registry() as registry:
        registry.files["/a.whl"] = b"0123456789"
        registry.fields[".whl"] = {"Cache-Control": "max-age=60"}
        response, body = ask(registry, "/a.whl")
        assert (response.status, body, response.getheader("cache-control")) == (200, b"0123456789", "max-age=60")
        tag = response.getheader("etag")
        assert ask(registry, "/a.whl", if_none_match=tag)[0].status == 304
        response, body = ask(registry, "/a.whl", range="bytes=8-")
        assert (response.status, body, response.getheader("content-range")) == (206, b"89", "bytes 8-9/10")
        assert ask(registry, "/a.whl", "HEAD")[1] == b""
        assert ask(registry, "/b")[0].status == 404
        registry.files["/r"] = lambda asked: (302, {"Location": asked["host"]}, b"")
        assert ask(registry, "/r")[0].getheader("location") in registry.url
        registry.down = True
        assert ask(registry, "/a.whl")[0].status == 503
        assert registry.count("/a.whl") == 5
        assert registry.statuses == [200, 304, 206, 200, 404, 302, 503]
