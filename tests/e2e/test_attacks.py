"""What hostile clients and origins try beyond malformed heads: to poison the store, to read what is another's, to fill
memory, to keep descriptors.

Each attack is followed by an honest request, which must get its own answer at once. The origin is strict and records
what it got.
"""

from __future__ import annotations

import resource
import threading
import time
from pathlib import Path

import pytest

from tests.kit import origin as answers
from tests.kit import raw
from tests.kit.origin import FakeOrigin
from tests.kit.proxy import PssSampler, reverse, start_proxy
from tests.kit.raw import wait_until

pytestmark = pytest.mark.slow

FRESH = "Cache-Control: max-age=60"
MEMORY = 32 << 20  # of the cache
ALLOWED = MEMORY + (64 << 20)  # growth of all processes together under attack (hardening L1)


@pytest.fixture(scope="module")
def origin():
    with FakeOrigin(keep=1 << 18) as fake:
        yield fake


@pytest.fixture(scope="module")
def proxy(origin, tmp_path_factory):
    site = 'eject = { failures = 0 }\npurge_from = ["127.0.0.5/32"]'
    limits = 'per_client = 0\nhead_time = "60s"'
    rest = f'[cache]\nmemory = "32MB"\nmax_object = "4MB"\n[limits]\n{limits}'
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files[1], files[1]))  # for both sides of thousands of connections
    with start_proxy(tmp_path_factory.mktemp("proxy"), reverse(origin.address, site=site, rest=rest)) as running:
        yield running
    resource.setrlimit(resource.RLIMIT_NOFILE, files)


@pytest.fixture(autouse=True)
def _clean(proxy, origin):
    origin.forget()
    origin.otherwise(answers.response(b"hello"))
    yield
    origin.otherwise(answers.response(b"hello"))
    started = time.monotonic()
    assert raw.get(proxy.at, "/canary", host="canary.example").body == b"hello"
    assert time.monotonic() - started < 2
    assert "fault of ours" not in proxy.output


def echo(received):
    """Storable, and it tells all that it was asked: what a client could smuggle into the answer of others is in it."""
    return [answers.response(received.raw_head + b"|" + received.body, FRESH)]


# ---- poisoning -------------------------------------------------------------------------------------------------------

UNKEYED = [
    "X-Forwarded-For: evil", "X-Forwarded-Host: evil", "X-Forwarded-Proto: evil", "X-Forwarded-Port: 666",
    "X-Forwarded-Scheme: evil", "X-Forwarded-Prefix: /evil", "X-Forwarded-Server: evil", "X-Forwarded: for=evil",
    "Forwarded: host=evil", "X-Real-IP: evil", "X-Host: evil", "X-HTTP-Host-Override: evil", "X-Original-URL: /evil",
    "X-Original-Host: evil", "X-Rewrite-URL: /evil", "X-HTTP-Method-Override: evil", "X-HTTP-Method: evil",
    "X-Method-Override: evil", "X_Forwarded_Host: evil", "X-Forwarded_Host: evil", "x_original_url: /evil",
    "Proxy: http://evil", "X-Scheme: evil", "X-URL-Scheme: evil", "X-Client-IP: evil", "True-Client-IP: evil",
    "Client-IP: evil", "Front-End-Https: evil", "Remote_User: evil", "Proxy-Connection: evil", "TE: evil",
    "Keep-Alive: evil", "HTTP2-Settings: evil", "Proxy-Authorization: Basic evil",
]  # fmt: skip


@pytest.mark.parametrize("line", UNKEYED)
def test_what_is_in_no_key_reaches_no_origin(proxy, origin, line):
    origin.otherwise(by=echo)
    target = "/unkeyed/" + "".join(filter(str.isalnum, line))
    first = raw.get(proxy.at, target, line)
    assert b"evil" not in first.body.replace(target.encode(), b"")
    assert b": 666" not in first.body
    assert raw.get(proxy.at, target).body == first.body


@pytest.mark.parametrize(
    "data",
    [
        raw.request("GET", "/fat", body=b"evil"),
        raw.request("GET", "/fat", "Transfer-Encoding: chunked") + b"4\r\nevil\r\n0\r\n\r\n",
        raw.request("GET", "/fat", "Authorization: Basic evil"),
        raw.request("GET", "/fat", "Expect: 100-continue", "X: evil"),
        raw.request("GET", "/fat", "If-Match: evil"),
        raw.request("POST", "/fat", body=b"evil"),
        raw.request("HEAD", "/fat", body=b"evil"),
        raw.request("GET", "/fat", "X: evil", host="evil.example"),
        raw.request("GET", "/fat?", "X: evil"),
        raw.request("GET", "//fat", "X: evil"),
        raw.request("GET", "/./fat", "X: evil"),
        raw.request("GET", "/%2e/fat", "X: evil"),
        raw.request("GET", "/x/../fat", "X: evil"),
        raw.request("GET", "/fat/", "X: evil"),
        raw.request("GET", "/fat;x", "X: evil"),
        raw.request("GET", "/%2ffat", "X: evil"),
        raw.request("GET", "/FAT", "X: evil"),
        raw.request("GET", "/fat%00", "X: evil"),
        raw.request("GET", "http://evil.example/fat", "X: evil", host="test.example"),
        raw.request("OPTIONS", "/fat", "X: evil"),
        raw.request("PROPFIND", "/fat", "X: evil"),
    ],
    ids=lambda data: data[:40].split(b" HTTP")[0].decode(),
)
def test_an_odd_request_fills_no_entry_of_the_plain_one(proxy, origin, data):
    origin.otherwise(by=echo)
    raw.ask(proxy.at, raw.request("PURGE", "/fat"), source="127.0.0.5")
    raw.ask(proxy.at, data)
    assert b"evil" not in raw.get(proxy.at, "/fat").body


@pytest.mark.parametrize("status", [400, 403, 405, 406, 413, 414, 416, 431, 500, 501, 502, 503])
def test_an_error_provoked_by_one_client_is_not_served_to_others(proxy, origin, status):
    target = f"/provoked/{status}"
    origin.then(answers.response(b"no", status=status, reason="No"))
    assert raw.get(proxy.at, target, f"X-Oversized: {'a' * 9000}").status == status
    assert raw.get(proxy.at, target).body == b"hello"
    origin.then(answers.response(b"no", FRESH, status=status, reason="No"))
    assert raw.get(proxy.at, target + "b", f"X-Oversized: {'a' * 9000}").status == status
    assert raw.get(proxy.at, target + "b").status == (200 if status < 500 or status == 501 else status)


@pytest.mark.parametrize(
    "lines",
    [
        ["Set-Cookie: JSESSIONID=secret", FRESH],
        ["Cache-Control: private, max-age=60"],
        ["Cache-Control: no-store, max-age=60"],
        [FRESH, "Vary: *"],
        [FRESH, "Cache-Control: private"],
        [
            'Cache-Control: max-age=60, private="',
        ],
        ["Content-Type: text/css"],
    ],
    ids=str,
)
def test_a_personal_page_under_the_path_of_a_file_is_for_its_owner_alone(proxy, origin, lines):
    """Deception: `/account/x.css` is the account page to an origin that ignores the rest of the path."""
    target = f"/account/{abs(hash(str(lines)))}.css"
    origin.then(answers.response(b"secret", *lines))
    assert raw.get(proxy.at, target, "Cookie: JSESSIONID=a").body == b"secret"
    assert raw.get(proxy.at, target).body == b"hello"


def test_a_purge_from_elsewhere_does_nothing_though_the_same_bytes_were_allowed(proxy, origin):
    origin.otherwise(answers.response(b"hello", FRESH))
    purge = raw.request("PURGE", "/kept")
    assert raw.ask(proxy.at, purge, source="127.0.0.5").status == 200
    raw.get(proxy.at, "/kept")
    for _ in range(3):
        assert raw.ask(proxy.at, purge).status == 403
    assert "hit" in raw.get(proxy.at, "/kept").get("cache-status")
    assert raw.ask(proxy.at, purge, source="127.0.0.5").status == 200


# ---- two clients at once ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("leader", "follower", "said"),
    [
        (["Authorization: Basic a"], [], [FRESH]),
        (["Authorization: Basic a"], ["Authorization: Basic b"], [FRESH]),
        (["Cookie: a=1"], ["Cookie: a=2"], [FRESH, "Set-Cookie: JSESSIONID=secret"]),
        (["Cookie: a=1"], ["Cookie: a=2"], [FRESH, "Vary: Cookie"]),
        (["Cookie: a=1"], ["Cookie: a=2"], ["Cache-Control: private, max-age=60"]),
        (["Cookie: a=1"], ["Cookie: a=2"], []),
        ([], [], ["Cache-Control: no-store"]),
        ([], [], ["Cache-Control: max-age=0"]),
        ([], [], [FRESH, "Vary: *"]),
        (["Accept-Language: de"], ["Accept-Language: en"], [FRESH, "Vary: Accept-Language"]),
        (['If-None-Match: "x"'], [], [FRESH, "Vary: X"]),
        (["Range: bytes=0-1"], [], [FRESH, "Vary: Range"]),
    ],
    ids=str,
)
def test_a_shared_fetch_gives_nobody_what_was_meant_for_another(proxy, origin, leader, follower, said):
    """The follower asks while the leader's answer is awaited: it must not get it where the store could not give it."""
    go = threading.Event()
    target = f"/shared/{abs(hash(str((leader, follower, said))))}"
    numbers = iter(range(9))
    origin.on(target, by=lambda received: [answers.Stall(5, go), answers.response(b"%d" % next(numbers), *said)])
    with raw.Connection(proxy.at) as first, raw.Connection(proxy.at) as second:
        first.send(raw.request("GET", target, *leader))
        origin.wait_for(1)
        second.send(raw.request("GET", target, *follower))
        second.is_silent(0.05)
        go.set()
        bodies = [first.read_response().body, second.read_response().body]
    assert set(bodies) == {b"0", b"1"}
    assert len(origin.requests) == 2


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_body_where_none_may_be_is_no_answer_to_the_next_request(proxy, origin, method, status):
    poison = answers.response(b"poison", FRESH)
    head = answers.head_only('ETag: "a"', f"Content-Length: {len(poison)}", status=status, reason="x")
    target = f"/none/{method}/{status}"
    origin.on(target, head + poison)
    with raw.Connection(proxy.at) as connection, raw.Connection(proxy.at) as other:
        connection.send(raw.request(method, target, 'If-None-Match: "a"', "Cache-Control: no-cache"))
        connection.send(raw.request("GET", "/next"))
        other.send(raw.request("GET", "/other"))
        assert connection.read_response(method).status == status
        assert connection.read_response().body == b"hello"
        assert other.read_response().body == b"hello"
    assert raw.get(proxy.at, "/next").body == b"hello"


def test_an_early_answer_leaves_no_rest_of_a_body_to_be_read_as_a_request(proxy, origin):
    inner = raw.request("GET", "/inner", host="test.example")
    for framing in (f"Content-Length: {len(inner) + 5}", "Transfer-Encoding: chunked"):
        origin.then(answers.Early(), answers.response(b"no", status=403, reason="No"), answers.Close())
        with raw.Connection(proxy.at) as connection:
            connection.send(raw.request("POST", "/early", framing))
            assert connection.read_response("POST").status == 403
            try:
                connection.send(inner + b"abcde" + inner)
                rest, _ = connection.read_to_end()
            except ConnectionError:
                rest = b""
            assert rest == b""
    assert "/inner" not in origin.targets()


# ---- Expect ----------------------------------------------------------------------------------------------------------


def test_an_expectation_of_http_1_0_is_ignored_and_not_passed_on_as_one_of_1_1(proxy, origin):
    data = b"POST /old HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"
    answer = raw.ask(proxy.at, data)
    assert (answer.status, answer.interim) == (200, [])
    assert origin.requests[-1].get("expect") is None


def test_an_expectation_cannot_be_named_away_so_that_nobody_answers_it(proxy, origin):
    with raw.Connection(proxy.at) as connection:
        connection.send(raw.request("POST", "/", "Connection: expect", "Expect: 100-continue", "Content-Length: 3"))
        assert connection.read_one("POST").status == 100
        connection.send(b"abc")
        assert connection.read_response("POST").status == 200


# ---- much work for few bytes -----------------------------------------------------------------------------------------

TINY = b"".join(b"1\r\n%c\r\n" % (97 + number % 26) for number in range(60_000)) + b"0\r\n\r\n"
TINY_BODY = bytes(97 + number % 26 for number in range(60_000))
ENDS = b"\r\n\r\n" * 30_000  # what may be the end of a chunked body, all over it


@pytest.mark.parametrize(
    ("chunks", "body"), [(TINY, TINY_BODY), (answers.chunk(ENDS) + b"0\r\n\r\n", ENDS)], ids=["tiny", "ends"]
)
def test_a_laborious_body_arrives_whole_and_what_follows_it_is_the_next_request(proxy, origin, chunks, body):
    with raw.Connection(proxy.at) as connection:
        connection.send(raw.request("POST", "/tiny", "Transfer-Encoding: chunked") + chunks)
        connection.send(raw.request("GET", "/next"))
        assert connection.read_response("POST").status == 200
        assert connection.read_response().status == 200
    assert origin.targets() == ["/tiny", "/next"]
    assert (origin.requests[0].length, origin.requests[0].body) == (len(body), body)
    assert origin.faults == []
    origin.then(answers.head_only("Transfer-Encoding: chunked"), chunks)
    assert raw.get(proxy.at, "/tiny").body == body


def test_bodies_of_tiny_chunks_leave_a_turn_to_others(proxy, origin):
    """Each read brings up to 256 KiB, of which the parser makes 40,000 chunks (hardening S3)."""
    stop = threading.Event()

    def attack():
        with raw.Connection(proxy.at) as connection:
            connection.send(raw.request("POST", "/tiny", "Transfer-Encoding: chunked"))
            while not stop.is_set():
                send_what_is_taken(connection, TINY[:-5], len(TINY))

    origin.on("/tiny", answers.Early(), answers.Stall(60, stop), answers.Close())
    threads = [threading.Thread(target=attack) for _ in range(12)]
    for thread in threads:
        thread.start()
    waits = []
    try:
        for _ in range(20):
            started = time.monotonic()
            assert raw.get(proxy.at, "/honest").body == b"hello"
            waits.append(time.monotonic() - started)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert sorted(waits)[len(waits) // 2] < 0.25


# ---- memory and descriptors ------------------------------------------------------------------------------------------

LARGE_HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n" + (b"X: " + b"y" * 15000 + b"\r\n") * 4
BLOCK = b"z" * (1 << 16)


def send_what_is_taken(connection, data, most=4 << 20):
    """Until nothing more is taken."""
    connection.sock.settimeout(0.004)
    sent = 0
    try:
        while sent < most:
            sent += connection.sock.send(data)
    except (TimeoutError, ConnectionError):
        pass


def half_a_large_head(connection):
    connection.send(LARGE_HEAD)


def one_byte(connection):
    connection.send(b"G")


def a_head_in_drips(connection):
    for piece in (b"GET", b" / HTTP/1.1\r\n", b"Host: a", b"\r\nX"):
        connection.send(piece)


def requests_behind_a_stalled_one(connection):
    connection.send(raw.request(target="/stall"))
    send_what_is_taken(connection, raw.request(target="/" + "a" * 1000) * 60)


def requests_without_reading(connection):
    send_what_is_taken(connection, raw.request(target="/small") * 500, 1 << 20)


def a_body_to_a_stalled_origin(connection):
    connection.send(raw.request("POST", "/stall", "Content-Length: 100000000"))
    send_what_is_taken(connection, BLOCK)


def chunks_to_a_stalled_origin(connection):
    connection.send(raw.request("POST", "/stall", "Transfer-Encoding: chunked"))
    send_what_is_taken(connection, b"1\r\nz\r\n" * 10000)


def a_large_answer_unread(connection):
    connection.send(raw.request(target=f"/large/{id(connection)}"))


def a_stored_answer_unread(connection):
    connection.send(raw.request(target="/stored"))


ATTACKS = [  # what each connection does, how many of them
    (one_byte, 1500),
    (a_head_in_drips, 1000),
    (half_a_large_head, 2500),
    (requests_behind_a_stalled_one, 300),
    (requests_without_reading, 200),
    (a_body_to_a_stalled_origin, 200),
    (chunks_to_a_stalled_origin, 60),
    (a_large_answer_unread, 350),
    (a_stored_answer_unread, 300),
]


def connected(proxy):
    """Connections of the worker to clients, to origins."""
    return proxy.metric("tandem_connections_open"), proxy.metric("tandem_upstream_connections_open")


def descriptors_at_rest(proxy, worker):
    """Those of the worker that are no connection to an origin, once no client is connected.

    Connections of what ran before may still be closing: descriptors and metrics are read of one moment only where
    the metrics say the same before and after.
    """
    counted = []

    def at_rest():
        now = connected(proxy)
        count = len(list(Path(f"/proc/{worker}/fd").iterdir()))
        if now[0] or connected(proxy) != now:
            return False
        counted.append(count - now[1])
        return counted[-3:] == [counted[-1]] * 3

    wait_until(at_rest, 30, "no client is connected and nothing is being closed")
    return counted[-1]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("attack", "count"), ATTACKS, ids=[attack.__name__ for attack, _ in ATTACKS])
def test_memory_is_bounded_and_no_descriptor_stays(proxy, origin, attack, count):
    go = threading.Event()

    def play(received):
        if received.path == "/stall":
            return [answers.Early(), answers.Stall(60, go), answers.Close()]
        if received.path.startswith("/large"):
            head = answers.head_only("Cache-Control: no-store", "Content-Length: 2000000")
            return [head, answers.Repeat(b"x" * 100_000, 20)]
        if received.path == "/stored":
            return [answers.response(b"x" * 2_000_000, FRESH)]
        return [answers.response(b"hello")]

    origin.otherwise(by=play)
    worker = proxy.pid("worker-0")
    before = descriptors_at_rest(proxy, worker)
    connections = []
    try:
        with PssSampler(proxy) as memory:
            for number in range(count):
                source = f"127.0.{1 + number % 7}.{1 + number % 11}"
                connections.append(raw.Connection(proxy.at, source=source, receive_buffer=4096))
                attack(connections[-1])
            for _ in range(3):  # honest clients meanwhile
                started = time.monotonic()
                assert raw.get(proxy.at, "/honest").body == b"hello"
                assert time.monotonic() - started < 5
    finally:
        go.set()
        for connection in connections:
            connection.close()
    assert memory.growth < ALLOWED
    # A few come and go with who asks the worker (admin); an attack that leaks leaves one for each of its connections.
    assert descriptors_at_rest(proxy, worker) <= before + 5
    assert proxy.pid("worker-0") == worker
