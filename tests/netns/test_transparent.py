"""The gateway as its clients do not see it: `tandem run` between a client and an internet, in network namespaces."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import signal
import socket
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.kit.netns import wait_until
from tests.kit.origin import response
from tests.kit.yard import (
    CLIENT,
    CLIENT6,
    CLIENT_TOO,
    GATEWAY,
    ORIGIN,
    ORIGIN6,
    OTHER,
    OUTSIDE,
    Gate,
    make_yard,
    origin_at,
    serve_names,
)

FRESH = "Cache-Control: max-age=60"
METHODS = pytest.mark.parametrize("method", ["redirect", "tproxy"])


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def yard(authority, tmp_path_factory):
    """With origins on the internet: of `shop.example` and, at OTHER, of somebody else."""
    with make_yard() as made:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate = authority.issue_cert("shop.example", "other.example")
        certificate.configure_cert(context)
        made.pin = spki_of(certificate)
        authority.cert_pem.write_to_path(str(tmp_path_factory.mktemp("ca") / "ca.pem"))
        made.origins = [
            origin_at(made),
            origin_at(made, ORIGIN6),
            origin_at(made, OTHER),
            origin_at(made, port=443, tls=context),
            origin_at(made, port=8080),
        ]
        names = {"shop.example": [ORIGIN, ORIGIN6], "other.example": [OTHER], "twice.example": [OTHER, ORIGIN]}
        with serve_names(made, names) as made.names:
            yield made
        for origin in made.origins:
            origin.stop()


@pytest.fixture(autouse=True)
def _fresh(request):
    if "yard" in request.fixturenames:
        for number, origin in enumerate(request.getfixturevalue("yard").origins):
            origin.forget()
            origin.otherwise(response(b"origin %d" % number, FRESH))


CONFIG = """
[transparent]
interface = "lan0"
clients = ["192.168.8.0/24", "fd00:8::/64"]
{more}
[dns]
servers = ["100.200.0.20:53"]
[log]
access = {{ file = "access.log", format = "{{client}} \\"{{request}}\\" {{status}} {{outcome}} {{upstream}}" }}
{rest}
"""


@pytest.fixture
def gate(yard, tmp_path):
    """Starts a gateway."""
    started = []

    def start(more="", rest=""):
        text = CONFIG.format(more=more, rest=rest)
        started.append(Gate(yard, tmp_path / f"gate{len(started)}", text))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.stop()
    assert "inet tandem" not in yard.gateway.run("nft", "list", "tables")


def curl(yard, url, *more, at=ORIGIN, check=True):
    """(head, body) of what a client gets that believes `at` to be the host of the URL."""
    host, port = url.partition("://")[2].partition("/")[0], 443 if url.startswith("https") else 80
    found = yard.client.run(
        "curl", "-sS", "-i", "-m", "10", "--resolve", f"{host}:{port}:{at}", *more, url, check=check
    )
    head, _, body = found.partition("\n\n")
    return head.lower(), body


@METHODS
@pytest.mark.parametrize("at", [ORIGIN, ORIGIN6])
def test_a_page_goes_through_the_cache_for_a_client_who_knows_of_nothing(yard, gate, method, at):
    running = gate(f'method = "{method}"')
    number = [ORIGIN, ORIGIN6].index(at)
    assert "fwd=uri-miss; stored" in curl(yard, "http://shop.example/page", at=at)[0]
    head, body = curl(yard, "http://shop.example/page", at=at)
    assert "; hit" in head
    assert body == f"origin {number}"
    assert len(yard.origins[number].requests) == 1
    assert yard.origins[number].requests[0].get("host") == "shop.example"
    wait_until(lambda: len(running.log()) == 2)
    assert CLIENT in running.log()[0] or "fd00:8::50" in running.log()[0]


@METHODS
def test_a_name_that_has_another_address_neither_fills_the_cache_nor_gets_from_it(yard, gate, method):
    """The forger's host answers for shop.example; nobody else may ever hear it."""
    gate(f'method = "{method}"')
    assert curl(yard, "http://shop.example/page")[1] == "origin 0"
    head, body = curl(yard, "http://shop.example/page", at=OTHER)
    assert body == "origin 2"
    assert "fwd=bypass; detail=name-unproven" in head
    assert curl(yard, "http://shop.example/page")[1] == "origin 0"
    head, body = curl(yard, "http://other.example/page", at=ORIGIN)
    assert (body, "name-unproven" in head) == ("origin 0", True)
    assert "fwd=uri-miss" in curl(yard, "http://other.example/page", at=OTHER)[0]


@pytest.mark.parametrize("name", ["nowhere.example", "shop.example:8080", "10.0.0.1", "100.200.0.21", "[::1]"])
def test_a_host_that_is_not_where_it_was_going_is_fetched_there_and_kept_by_nobody(yard, gate, name):
    gate()
    for _ in range(2):
        head, body = curl(yard, f"http://{ORIGIN}/x", "-H", f"Host: {name}")
        assert (body, "name-unproven" in head) == ("origin 0", True)
    assert [one.get("host") for one in yard.origins[0].requests] == [name, name]


def ask(yard, *requests, at=ORIGIN, port=80):
    """What is answered to these bytes over one connection of a client, one after the other."""

    def talk():
        with socket.create_connection((at, port), 10) as sock:
            found = []
            for request in requests:
                sock.sendall(request)
                found.append(raw_answer(sock))
            return found

    return yard.client.call(talk)


def raw_answer(sock):
    """Of an answer with a length, or up to the end."""
    data = b""
    while True:
        head, found, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if found and length and len(body) >= int(length[1]):
            return data
        more = sock.recv(65536)
        if not more:
            return data
        data += more


GET = b"GET /page HTTP/1.1\r\nHost: %b\r\n\r\n"


def memo_hits(yard, running):
    said = yard.gateway.run("curl", "-sS", "--unix-socket", running.folder / "run/admin.sock", "http://a/metrics")
    return float(re.search(r"^tandem_memo_hits_total (\S+)", said, re.MULTILINE)[1])


def test_what_the_memo_answers_is_proved_for_as_long_as_the_names_address_is_known(yard, gate):
    """A name that moves away is no key any more, once what is known of it has run out."""
    yard.names["moving.example"] = ([ORIGIN], 1)
    running = gate()
    moving = GET % b"moving.example"
    answers = ask(yard, moving, moving, moving)
    assert [b"; hit" in answer for answer in answers] == [False, True, True]
    print(yard.gateway.run("curl", "-sS", "--unix-socket", running.folder / "run/admin.sock", "http://a/metrics"))
    wait_until(lambda: memo_hits(yard, running) > 0)
    yard.names["moving.example"] = ([OTHER], 1)
    wait_until(lambda: b"name-unproven" in ask(yard, moving)[0], 20)
    for answer in ask(yard, moving, moving, moving):
        assert b"name-unproven" in answer
    assert b"; hit" in ask(yard, moving, at=OTHER)[0]  # the same name at its new address: what was stored, proved then


def test_a_name_with_several_addresses_is_cached_for_whoever_goes_to_any_of_them(yard, gate):
    gate()
    assert b"fwd=uri-miss; stored" in ask(yard, GET % b"twice.example")[0]
    assert b"; hit" in ask(yard, GET % b"twice.example", at=OTHER)[0]
    assert b"; hit" in ask(yard, GET % b"twice.example:80", at=OTHER)[0]
    assert yard.origins[2].requests == []


ODD = {
    b"GET http://shop.example/page HTTP/1.1\r\nHost: shop.example\r\n": b"400",  # no proxy by name
    b"GET http://other.example/page HTTP/1.1\r\nHost: shop.example\r\n": b"400",
    b"CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\n": b"405",
    b"GET /page HTTP/1.1\r\n": b"400",
    b"GET /page HTTP/1.1\r\nHost: shop.example\r\nHost: other.example\r\n": b"400",
    b"GET /page HTTP/1.1\r\nHost: shop.example@other.example\r\n": b"400",
    b"GET /page HTTP/1.1\r\nHost: ::ffff:100.200.0.20\r\n": b"400",
    b"GET /page HTTP/1.1\r\nHost: [::ffff:100.200.0.20]\r\n": b"200",
    b"GET /page HTTP/1.1\r\nHost: 0144.0310.0.024\r\n": b"200",  # a name that nobody has
}


@METHODS
def test_what_a_taken_client_says_oddly_is_refused_or_kept_by_nobody(yard, gate, method):
    gate(f'method = "{method}"')
    for head, status in ODD.items():
        yard.origins[0].forget()
        (answer,) = ask(yard, head + b"\r\n")
        assert answer.split()[1] == status, (head, answer)
        assert b"; stored" not in answer, head
        assert b"; hit" not in answer, head
        assert bool(yard.origins[0].requests) is (status == b"200"), head
    assert yard.origins[2].requests == []


def test_without_a_host_each_address_has_what_is_its_own(yard, gate):
    gate()
    for at, body in ((ORIGIN, b"origin 0"), (OTHER, b"origin 2")):
        for _ in range(2):
            (answer,) = ask(yard, b"GET /page HTTP/1.0\r\n\r\n", at=at)
            assert answer.endswith(body)


def test_a_request_that_comes_back_to_us_is_a_loop_and_ends(yard, gate):
    gate()
    ask(yard, GET % b"shop.example")
    (via,) = yard.origins[0].requests[0].all("via")
    (answer,) = ask(yard, b"GET /other HTTP/1.1\r\nHost: shop.example\r\nVia: %b\r\n\r\n" % via.encode())
    assert answer.split()[1] == b"508"
    assert len(yard.origins[0].requests) == 1


@METHODS
def test_the_gateways_own_addresses_are_reached_directly_from_the_lan(yard, gate, method):
    """Nothing of ours listens there: a hairpin would show as an answer."""
    gate(f'method = "{method}"')
    for address in (GATEWAY, OUTSIDE):
        with pytest.raises(ConnectionRefusedError):
            ask(yard, GET % b"shop.example", at=address)


@METHODS
def test_https_is_the_origins_own_byte_for_byte_and_logged_by_name_and_size(yard, gate, method, authority, tmp_path):
    running = gate(f'method = "{method}"')
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    yard.origins[3].otherwise(response(bytes(range(256)) * 4000, FRESH))
    found = tmp_path / "found"
    yard.client.run(
        "curl",
        "-sS",
        "--cacert",
        tmp_path / "ca.pem",
        "-m",
        "20",
        "--resolve",
        f"shop.example:443:{ORIGIN}",
        "-o",
        found,
        "https://shop.example/",
    )
    assert found.read_bytes() == bytes(range(256)) * 4000
    wait_until(running.log)
    assert running.log()[0].startswith(f'{CLIENT} "CONNECT shop.example:443 HTTP/1.1" 200 tunnel {ORIGIN}:443')


def test_what_is_exempt_or_not_asked_for_is_not_touched(yard, gate):
    gate(f'exempt = ["{OTHER}/32"]')
    assert "cache-status" not in curl(yard, "http://other.example/", at=OTHER)[0]
    assert "cache-status" in curl(yard, "http://shop.example/")[0]
    assert "cache-status" not in yard.client.run("curl", "-sSi", "-m", "10", f"http://{ORIGIN}:8080/").lower()
    assert "cache-status" not in yard.gateway.run("curl", "-sSi", "-m", "10", f"http://{ORIGIN}/").lower()


def test_nobody_uses_the_gateway_as_a_proxy_by_its_name(yard, gate):
    gate()
    for port in (3129, 3130):
        found = yard.client.run(
            "curl", "-sS", "-m", "5", "-x", f"http://{GATEWAY}:{port}", "http://shop.example/", check=False
        )
        assert found == ""
    assert yard.origins[0].requests == []


def test_a_private_destination_is_refused_unless_allowed(yard, gate):
    private = "10.9.9.9"

    def own(ipr):
        index = ipr.link_lookup(ifname="eth0")[0]
        ipr.addr("add", index=index, address=private, prefixlen=32)

    yard.internet.netlink(own)
    yard.gateway.netlink(lambda ipr: ipr.route("add", dst=f"{private}/32", gateway=ORIGIN))
    origin = origin_at(yard, private)
    try:
        origin.otherwise(response(b"within"))
        running = gate()
        assert " 403 " in curl(yard, f"http://{private}/", at=private)[0]
        assert origin.requests == []
        running.stop()
        gate(f'allow_private = ["{private}:80"]')
        assert curl(yard, f"http://{private}/", at=private)[1] == "within"
    finally:
        origin.stop()


# ---- ends ------------------------------------------------------------------------------------------------------------


def nothing_is_left(yard):
    return all(
        "tandem" not in text and "7453" not in text
        for text in (
            yard.gateway.run("nft", "list", "tables"),
            yard.gateway.run("ip", "rule"),
            yard.gateway.run("ip", "-6", "rule"),
            yard.gateway.run("ip", "route", "show", "table", "all"),
        )
    )


@METHODS
def test_a_polite_stop_leaves_nothing_and_breaks_no_download(yard, gate, method):
    running = gate(f'method = "{method}"')
    size = 3_000_000
    yard.origins[0].otherwise(response(b"x" * size, "Cache-Control: no-store"))

    def begin():
        sock = socket.create_connection((ORIGIN, 80), 10)
        sock.sendall(b"GET /large HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        return sock, len(sock.recv(1000))

    sock, heard = yard.client.call(begin)
    running.process.terminate()
    wait_until(lambda: running.taking == "direct", 10)
    assert "cache-status" not in curl(yard, "http://other.example/", at=OTHER)[0]
    with sock:
        sock.settimeout(10)
        while heard < size:
            piece = sock.recv(1 << 16)
            assert piece
            heard += len(piece)
    running.process.wait(20)
    assert nothing_is_left(yard)


@METHODS
def test_with_its_worker_dead_traffic_goes_past_at_once_and_through_again_when_it_is_back(yard, gate, method):
    running = gate(f'method = "{method}"')
    supervisor = running.process.pid
    for _ in range(4):  # the fifth death would be a crash loop
        worker = running.pid("worker-0")
        yard.gateway.call(lambda pid=worker: __import__("os").kill(pid, signal.SIGKILL))
        wait_until(lambda pid=worker: running.pid("worker-0") not in {0, pid} and running.taking == "taking", 20)
    assert running.process.pid == supervisor
    assert "cache-status" in curl(yard, "http://shop.example/")[0]


@METHODS
def test_past_a_worker_that_hangs_traffic_goes_directly_until_it_beats_again(yard, gate, method):
    running = gate(f'method = "{method}"')
    worker = running.pid("worker-0")
    os.kill(worker, signal.SIGSTOP)
    try:
        wait_until(lambda: running.taking == "direct", 20)
        assert "cache-status" not in curl(yard, "http://shop.example/")[0]
        assert "worker-0 hangs" in running.output
    finally:
        os.kill(worker, signal.SIGCONT)
    wait_until(lambda: running.taking == "taking", 20)
    assert "cache-status" in curl(yard, "http://shop.example/")[0]
    assert running.pid("worker-0") == worker


HA = """
[ha]
vip = ["192.168.8.254/24"]
interval = "100ms"
nodes = { a = "192.168.8.1", b = "192.168.8.9" }
"""


@METHODS
@pytest.mark.timeout(120)
def test_each_process_killed_in_turn_leaves_no_table_rule_route_or_address(yard, gate, method):
    """The supervisor last: its table goes at once, the address when its lifetime ends; rule and route, harmless without
    the table, at the next start.
    """

    def holds():
        return "192.168.8.254" in yard.gateway.run("ip", "address")

    running = gate(f'method = "{method}"\nspoof = {str(method == "tproxy").lower()}', HA)
    wait_until(holds, 20)
    for name in ("worker-0", "admin", "ha"):
        victim = running.pid(name)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda name=name, victim=victim: running.states()[name] != ("running", victim), 20)
        wait_until(lambda name=name: running.states()[name][0] == "running", 20)
        wait_until(lambda: running.taking == "taking" and holds(), 20)
        assert "cache-status" in curl(yard, "http://shop.example/")[0]
    others = [process for name, (_, process) in running.states().items() if name != "supervisor"]
    running.process.kill()
    running.process.wait(10)
    wait_until(lambda: "tandem" not in yard.gateway.run("nft", "list", "tables"), 10)
    wait_until(lambda: not holds(), 10)
    assert "cache-status" not in curl(yard, "http://shop.example/")[0]
    wait_until(lambda: not any(Path(f"/proc/{process}").exists() for process in others), 40)
    again = gate(f'method = "{method}"', HA)
    wait_until(holds, 20)
    assert "cache-status" in curl(yard, "http://shop.example/")[0]
    again.stop()
    assert nothing_is_left(yard)
    assert not holds()


@METHODS
def test_after_the_death_of_everything_traffic_is_direct_and_the_next_start_clears_what_is_left(yard, gate, method):
    running = gate(f'method = "{method}"')
    running.process.kill()
    running.process.wait(10)
    wait_until(lambda: "tandem" not in yard.gateway.run("nft", "list", "tables"), 10)
    assert "cache-status" not in curl(yard, "http://shop.example/")[0]
    again = gate(f'method = "{method}"')
    assert "cache-status" in curl(yard, "http://shop.example/")[0]
    again.stop()
    assert nothing_is_left(yard)


def test_a_reload_changes_what_is_taken_and_a_bad_one_changes_nothing(yard, gate):
    running = gate()
    file = running.folder / "tandem.toml"
    good = file.read_text()
    file.write_text(good.replace('interface = "lan0"', 'interface = "lan7"'))
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "no interface lan7; there are" in running.output, 20)
    assert "cache-status" in curl(yard, "http://shop.example/")[0]
    file.write_text(good.replace("[dns]", f'exempt = ["{ORIGIN}/32"]\n[dns]'))
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "cache-status" not in curl(yard, "http://shop.example/")[0], 20)
    file.write_text(good.replace("[transparent]", '[transparent]\nmethod = "tproxy"'))
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "cache-status" in curl(yard, "http://shop.example/")[0], 20)
    assert "tproxy" in yard.gateway.run("nft", "list", "ruleset")


# ---- spoofing --------------------------------------------------------------------------------------------------------


def peers(origin):
    """Whom the origin took each of its requests to come from."""
    links = {link.number: link.peer[0] for link in origin.links}
    return [links[request.connection] for request in origin.requests]


@pytest.mark.parametrize(("at", "client"), [(ORIGIN, CLIENT), (ORIGIN6, CLIENT6)])
def test_with_spoof_an_origin_sees_the_clients_own_address_and_the_worker_has_no_right(yard, gate, at, client):
    running = gate('method = "tproxy"\nspoof = true')
    origin = yard.origins[[ORIGIN, ORIGIN6].index(at)]
    for path in ("one", "two", "three"):
        assert "fwd=uri-miss; stored" in curl(yard, f"http://shop.example/{path}", at=at)[0]
    assert set(peers(origin)) == {client}
    assert "; hit" in curl(yard, "http://shop.example/one", at=at)[0]
    status = yard.gateway.call(lambda: Path(f"/proc/{running.pid('worker-0')}/status").read_text())
    assert "CapPrm:\t0000000000000000" in status
    wait_until(lambda: len(running.log()) == 4)


def test_with_spoof_a_kept_connection_serves_nobody_but_its_client(yard, gate):
    gate('method = "tproxy"\nspoof = true')
    yard.origins[0].otherwise(response(b"x", "Cache-Control: no-store"))
    for _ in range(2):
        for source in (CLIENT, CLIENT_TOO):
            curl(yard, "http://shop.example/x", "--interface", source)
    assert peers(yard.origins[0]) == [CLIENT, CLIENT_TOO] * 2
    first, second = (request.connection for request in yard.origins[0].requests[:2])
    assert [request.connection for request in yard.origins[0].requests] == [first, second] * 2


def test_with_spoof_https_comes_from_the_client_too_and_unchanged(yard, gate, authority, tmp_path):
    gate('method = "tproxy"\nspoof = true')
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    yard.origins[3].otherwise(response(bytes(range(256)) * 4000, FRESH))
    found = tmp_path / "found"
    for _ in range(40):  # more than are kept ahead
        curl(yard, "https://shop.example/", "--cacert", tmp_path / "ca.pem", "-o", found)
    assert found.read_bytes().endswith(bytes(range(256)) * 4000)
    assert set(peers(yard.origins[3])) == {CLIENT}


def spki_of(certificate):
    """What Chromium is told to trust: the digest of a certificate's key."""
    loaded = x509.load_pem_x509_certificate(certificate.cert_chain_pems[0].bytes())
    key = loaded.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


@pytest.mark.timeout(120)
def test_chromium_that_knows_of_nothing_loads_pages_over_http_and_https(yard, gate, tmp_path):
    running = gate('method = "tproxy"\nspoof = true')
    for number, base in ((0, "http://shop.example"), (3, "https://shop.example")):
        yard.origins[number].otherwise(response(b"<p>It was here</p>", FRESH, "Content-Type: text/html"))
        found = yard.client.run(
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--disable-background-networking", "--disable-component-update", "--no-first-run", "--no-proxy-server",
            f"--user-data-dir={tmp_path / 'profile'}", f"--host-resolver-rules=MAP shop.example {ORIGIN}",
            f"--ignore-certificate-errors-spki-list={yard.pin}", "--dump-dom", f"{base}/page.html",
        )  # fmt: skip
        assert "It was here" in found
    wait_until(lambda: any("CONNECT shop.example:443" in line for line in running.log()))
    assert any("GET /page.html" in line for line in running.log())
    assert set(peers(yard.origins[0])) == {CLIENT}
