"""The test application on a real Tomcat does what tests of the proxy rely on."""

from __future__ import annotations

import hashlib
import json
import time

import pytest

from tests.kit import raw
from tests.kit.tomcat import big_bytes, start_tomcat

pytestmark = [
    pytest.mark.tomcat,
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def tomcat(tmp_path_factory):
    with start_tomcat(tmp_path_factory.mktemp("tomcat"), route="t7") as server:
        yield server


def ask(tomcat, target, *lines, **more):
    return raw.get(tomcat.at, target, *lines, **more)


def test_static_files_and_examples_are_served(tomcat):
    for target in ("/", "/examples/", "/examples/jsp/jsp2/el/basic-arithmetic.jsp", "/kit/", "/kit/style.css"):
        assert ask(tomcat, target).status == 200, target
    assert ask(tomcat, "/kit/big.bin").body == big_bytes(1 << 20)
    assert ask(tomcat, "/kit/dot.png").get("content-type") == "image/png"


def test_echo_tells_the_real_client_behind_a_proxy(tomcat):
    seen = json.loads(
        ask(tomcat, "/kit/echo?a=b", "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https", "X-Odd: 1").body
    )
    assert (seen["method"], seen["uri"], seen["query"]) == ("GET", "/kit/echo", "a=b")
    assert (seen["remote_address"], seen["scheme"], seen["secure"]) == ("192.0.2.7", "https", True)
    assert ["x-odd", "1"] in seen["headers"]


def test_a_session_counts_and_names_its_route(tomcat):
    first = ask(tomcat, "/kit/session")
    identity = json.loads(first.body)["id"]
    assert identity.endswith(".t7")
    assert json.loads(ask(tomcat, "/kit/session", f"Cookie: JSESSIONID={identity}").body)["count"] == 2
    assert json.loads(ask(tomcat, f"/kit/session;jsessionid={identity}").body)["count"] == 3
    assert b'id="route">t7<' in ask(tomcat, "/kit/session.jsp").body


def test_a_slow_answer_takes_its_time(tomcat):
    started = time.monotonic()
    assert ask(tomcat, "/kit/slow?ms=100").text == "slowdone"
    assert time.monotonic() - started >= 0.1


def test_chunked_cached_redirect_cookie_and_early_answers(tomcat):
    assert ask(tomcat, "/kit/chunked?n=3&size=2").framing is raw.Framing.CHUNKED
    assert ask(tomcat, "/kit/cached?age=9").get("cache-control") == "max-age=9"
    assert ask(tomcat, "/kit/cached", 'If-None-Match: "kit-1"').status == 304
    assert ask(tomcat, "/kit/redirect").get("location") == f"http://{tomcat.address}/kit/echo"
    assert "Domain=127.0.0.1" in (ask(tomcat, "/kit/cookie").get("set-cookie") or "")
    with raw.Connection(tomcat.at) as connection:
        connection.send(raw.request("POST", "/kit/early", "Content-Length: 100000"))
        assert connection.read_response("POST").status == 403


def test_an_upload_is_measured(tomcat):
    body = big_bytes(100_000)
    answer = json.loads(raw.ask(tomcat.at, raw.request("POST", "/kit/upload", body=body)).body)
    assert answer == {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def test_it_can_be_killed_and_restarted_on_its_port(tomcat):
    port = tomcat.port
    tomcat.kill9()
    with pytest.raises(ConnectionRefusedError):
        ask(tomcat, "/")
    tomcat.restart()
    assert ask(tomcat, "/").status == 200
    assert tomcat.port == port
