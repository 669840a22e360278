"""Whatever a client says that is no request, or asks for what it may not reach, is refused once, with one line.

Raw bytes to the real program, each over a connection of its own. Nothing of a refused request reaches an origin.
"""

from __future__ import annotations

import pytest

from tests.kit import raw
from tests.kit.origin import FakeOrigin
from tests.kit.proxy import start_proxy
from tests.kit.raw import wait_until

NO_AUTHORITY = (
    "", ":", ":443", "a", "a:", "a:0", "a:65536", "a:99999999999999999999", "a:+443", "a:-1", "a: 443", "a:443x",
    "a:00000443", "a:\xb2\xb3", "user@a:443", "user:pw@a:443", "a/b:443", "http://a:443", "http://a/", "//a:443",
    "a:443/", "a:443?x", "a:443#x", "a,b:443", "*", "*:443", "[::1:443", "::1:443", "[::1]", "[::1]443",
    "[::1]:443:443", "[]:443", "[v1.x]:443", "[::g]:443", "a..b:443", ".a:443", "a\\b:443", "a%00:443", "a%2e:443",
    "\xe4.test:443", "x" * 64 + ".test:443", "a." * 127 + "com:443", "1.2.3:443", "1.2.3.4.5:443", "0x7f.0.0.1:443",
    "a.0x7f:443", "a.1:443", "127.0.0.1:443:443",
)  # fmt: skip
NO_HOST = (
    "127.1", "127.0.1", "0", "2130706433", "0x7f000001", "0X7F000001", "0177.0.0.1", "017700000001", "127.0.0.01",
    "127.000.000.001", "0x7f.1", "127.0.0.1..", "127.0.0.1%00.test", "127%2e0.0.1", "[::1%lo]", "[fe80::1%25lo]",
    "[fe80::1%1]", "[::ffff:127.0.0.01]", "[::ffff:0x7f.0.0.1]", "[::127.1]",
    "\xe3\x80\x82", "127\xe3\x80\x820\xe3\x80\x820\xe3\x80\x821", "\xe2\x91\xa0.test", "\xc3\xa4.test",
)  # fmt: skip
FORBIDDEN = (
    "127.0.0.1", "127.0.0.1.", "127.255.255.255", "0.0.0.0", "0.0.0.0.", "localhost", "localhost.", "LOCALHOST",
    "10.1.2.3", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1", "168.63.129.16", "192.0.0.1",
    "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "[::]", "[::1]", "[0:0:0:0:0:0:0:1]", "[::127.0.0.1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:7f00:1]", "[::ffff:0:127.0.0.1]", "[::ffff:169.254.169.254]", "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[64:ff9b:1:7f00:0:1::]", "[64:ff9b:1:fffe::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]", "[2001:0:7f00:1::]", "[2001:db8::1]",
    "[fe80::1]", "[fec0::1]", "[fc00::1]", "[fd00:ec2::254]", "[100::1]", "[3fff::1]", "[5f00::1]", "[ff02::1]",
    "[FE80::1]", "[2606:4700::5efe:127.0.0.1]",
)  # fmt: skip
OURSELVES = (
    "127.0.0.1", "127.0.0.1.", "localhost", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]", "[::127.0.0.1]",
    "[::ffff:7f00:1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]",
)  # fmt: skip
NO_TARGET = (
    "http://user@{o}/", "http://user:pw@{o}/", "http://@{o}/", "http://{o}@evil/", "http:///", "http://", "http:/a",
    "http:a", "http://:80/", "http://a:0/", "http://a:65536/", "http://a:80 80/", "http://a:+80/", "https://{o}/",
    "ftp://a/", "file:///etc/passwd", "gopher://a/", "javascript:alert(1)", "//a/", "a", "a:80", "/", "/proxy.pac/x",
    "http://a b/", "http://a#f", "http://{o}/#f", "http://a\\@b/", "http://a%2fb/", "http://{o}/%", "http://{o}/%zz",
    "http://[::1/", "http://::1/", "http://{o}/\xe4", "http://a,b/", "HTTP://user@{o}/", "http://a;b/",
    "http://[::1]x/", "http://%31/", "http://a\tb/", "http://a\x00/", "http://a\x7f/", "*",
)  # fmt: skip


def connect(target, *lines, host="x.example", tail=b""):
    return head(f"CONNECT {target} HTTP/1.1", f"Host: {host}", *lines) + tail


def get(target, *lines, host="x.example", tail=b""):
    return head(f"GET {target} HTTP/1.1", f"Host: {host}", *lines) + tail


def head(*lines):
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


def refusals(own, origin):
    """(name, what is said, with which status it is refused) of everything."""
    for target in NO_AUTHORITY:
        yield f"CONNECT {target}", connect(target), (400,)
    for host in NO_HOST:
        yield f"CONNECT {host}", connect(f"{host}:443"), (400,)
        yield f"GET {host}", get(f"http://{host}/"), (400,)
    for host in FORBIDDEN:
        yield f"CONNECT {host}", connect(f"{host}:443"), (403,)
        yield f"GET {host}", get(f"http://{host}:8080/"), (403,)
    for host in OURSELVES:
        yield f"CONNECT ourselves {host}", connect(f"{host}:{own}"), (403, 508)
        yield f"GET ourselves {host}", get(f"http://{host}:{own}/proxy.pac"), (403, 508)
    for port in (1, 22, 25, 80, 6667):
        yield f"CONNECT port {port}", connect(f"example.invalid:{port}"), (403,)
    for port in (1, 7, 22, 25, 1024):
        yield f"GET port {port}", get(f"http://example.invalid:{port}/"), (403,)
    for target in NO_TARGET:
        yield f"GET {target}", get(target.replace("{o}", origin)), (400,)
    here = f"http://{origin}/"
    yield "no Host", head(f"GET {here} HTTP/1.1"), (400,)
    yield "two Hosts", get(here, "Host: b"), (400,)
    yield "two Hosts alike", get(here, f"Host: {origin}", host=origin), (400,)
    yield "userinfo in Host", get(here, host=f"a@{origin}"), (400,)
    yield "a blank in Host", get(here, host="a b"), (400,)
    yield "a list in Host", get(here, host="a, b"), (400,)
    yield "origin-form", get("/", host=origin), (400,)
    yield "asked of ourselves", get("/", host=f"127.0.0.1:{own}"), (400,)
    yield "CL and TE", get(here, "Content-Length: 3", "Transfer-Encoding: chunked", tail=b"0\r\n\r\n"), (400,)
    yield "two CL", get(here, "Content-Length: 3", "Content-Length: 4", tail=b"abcd"), (400,)
    yield "another TE", get(here, "Transfer-Encoding: xchunked", tail=b"0\r\n\r\n"), (400, 501)
    yield "CONNECT, CL", connect(origin, "Content-Length: 3", tail=b"abc"), (400,)
    yield "CONNECT, TE", connect(origin, "Transfer-Encoding: chunked", tail=b"0\r\n\r\n"), (400,)
    yield "CONNECT without Host", head(f"CONNECT {origin} HTTP/1.1"), (400,)
    yield "CONNECT, two Hosts", connect(origin, "Host: b"), (400,)
    yield "CONNECT, no version", head(f"CONNECT {origin}"), (400, 505)
    yield "CONNECT, version 2", head(f"CONNECT {origin} HTTP/2.0", f"Host: {origin}"), (400, 505)
    yield "CONNECT, bare LF", f"CONNECT {origin} HTTP/1.1\nHost: {origin}\n\n".encode(), (400,)
    yield "CONNECT, a fold", connect(origin, "X: a", " b"), (400,)
    yield "CONNECT, blank before the colon", connect(origin, "X : a"), (400,)
    yield "CONNECT, NUL", connect(origin, "X: a\x00b"), (400,)
    yield "connect", head("connect a:443 HTTP/1.1", "Host: a"), (400, 501)
    yield "a giant target", get(here + "a" * 20_000), (414,)
    yield "a giant authority", connect("a" * 20_000 + ":443"), (400, 414)
    yield "a giant field", connect(origin, "X: " + "a" * 20_000), (431,)
    yield "a giant head", connect(origin, *[f"X{n}: {'a' * 8000}" for n in range(10)]), (431,)
    yield "a head without end", b"GET http://a/ HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 200_000, (431,)
    yield "many fields", connect(origin, *[f"X{n}: a" for n in range(120)]), (431,)
    yield "TRACE", head(f"TRACE {here} HTTP/1.1", "Host: a"), (405,)
    yield "OPTIONS *", head("OPTIONS * HTTP/1.1", "Host: a"), (400,)
    yield "HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 405, 501, 505)
    yield "TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 200 + b"\r\n\r\n", (400,)
    yield "words", b"hello\r\n\r\n", (400, 501)


@pytest.fixture(scope="module")
def origin():
    with FakeOrigin() as made:
        yield made


@pytest.fixture(scope="module")
def proxy(origin, tmp_path_factory):
    folder = tmp_path_factory.mktemp("proxy")
    text = (
        f'[forward]\nlisten = "127.0.0.1:PORT0"\nclients = "127.0.0.1"\nallow_private = "{origin.address}"\n'
        f"connect_ports = [443, {origin.port}, PORT0]\n[log]\n"
        f'access = {{ file = "{folder / "log"}", format = \'{{client}} "{{request}}" {{status}} {{error}}\' }}\n'
    )
    with start_proxy(folder, text) as running:
        yield running


def test_each_is_refused_with_its_status_and_one_line_and_reaches_nobody(proxy, origin):
    asked, answers, wrong = list(refusals(proxy.ports[0], origin.address)), [], []
    for _, said, _ in asked:
        with raw.Connection(proxy.at) as connection:
            connection.send(said)
            answers.append(connection.read_response("GET"))

    def lines():
        return (proxy.folder / "log").read_text().splitlines()

    wait_until(lambda: len(lines()) >= len(asked), what="a line about each")
    assert len(lines()) == len(asked)
    for (name, _, wanted), answer, line in zip(asked, answers, lines(), strict=True):
        told = answer.get("proxy-status") or ""
        logged = line.startswith("127.0.0.1 ") and f" {answer.status} " in line and not line.endswith(" -")
        if answer.status not in wanted or not logged or "error=" not in told:
            wrong.append((name[:80], answer.status, wanted, told, line))
    assert not wrong
    assert not origin.links


def test_what_is_only_odd_reaches_whom_its_target_names(proxy, origin):
    """Host is ignored where the target names the origin (RFC 9112 §3.2.2), and what follows CONNECT is the origin's."""
    before = len(origin.requests)
    with raw.Connection(proxy.at) as connection:
        connection.send(get(f"http://{origin.address}/first", host="evil.example"))
        assert connection.read_response().status == 200
        connection.send(connect(origin.address, host="evil.example", tail=get("/second", host="inside.example")))
        assert b" 200 " in connection.read_raw_head()
        assert connection.read_response().status == 200
    received = origin.requests[before:]
    assert [(one.target, one.all("host")) for one in received] == [
        (b"/first", [origin.address]),
        (b"/second", ["inside.example"]),
    ]
