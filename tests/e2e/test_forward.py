"""A proxy for clients, asked over real sockets: absolute-form, whom it serves, where it goes, what it keeps."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager

import pytest

from tests.kit import raw
from tests.kit.dns import FakeNameServer
from tests.kit.inproc import Stack
from tests.kit.ledger import Ledger
from tests.kit.origin import FakeOrigin, head_only, response

HERE = '[forward]\nlisten = "127.0.0.1:PORT0"\nclients = ["127.0.0.1"]\n'


@contextmanager
def proxy(more="", rest=""):
    with Stack(HERE + more + "\n" + rest, log='{client} "{request}" {status} {outcome} {error} {upstream}') as stack:
        ledger = Ledger(stack)
        yield stack
        ledger.settle()


@contextmanager
def names(stack, **known):
    """A name server for this stack alone; `known` are names of `.test` with their addresses."""
    server = FakeNameServer({f"{name}.test": (addresses, 1) for name, addresses in known.items()})
    stack.run(server.__aenter__())
    stack.call(lambda: stack._resolver.configure([server.server], 1.0))
    try:
        yield server
    finally:
        stack.call(lambda: stack._resolver.configure([], 1.0))
        stack.run(server.__aexit__())


def ask(stack, origin, path="/", *lines, method="GET", host="ignored.example", source=None, body=None):
    address = origin if isinstance(origin, str) else origin.address
    data = raw.request(method, f"http://{address}{path}", *lines, host=host, body=body)
    return raw.ask(stack.at, data, method, source=source)


def allow(*origins):
    return f"allow_private = {json.dumps([origin.address for origin in origins])}"


@pytest.fixture
def origin():
    with FakeOrigin() as made:
        yield made


# ---- through ---------------------------------------------------------------------------------------------------------


def test_a_request_goes_to_the_origin_that_its_target_names(origin):
    with proxy(allow(origin)) as stack:
        answer = ask(stack, origin, "/a?b", "Proxy-Connection: keep-alive", "Proxy-Authorization: Basic eDp5")
        assert (answer.status, answer.body) == (200, b"hello")
        assert "tandem" in answer.get("via")
        (received,) = origin.requests
        assert received.target == b"/a?b"
        assert received.all("host") == [origin.address]
        assert received.get("via") == "1.1 tandem-test"
        for name in ("proxy-connection", "proxy-authorization", "x-forwarded-for", "forwarded"):
            assert received.get(name) is None
        line = f'127.0.0.1 "GET http://{origin.address}/a?b HTTP/1.1" 200 miss - {origin.address}'
        raw.wait_until(lambda: stack.log_lines() == [line], what=f"{stack.log_lines()}")


def test_origins_are_told_who_asks_if_that_is_wanted(origin):
    with proxy(allow(origin) + "\nidentify = true") as stack:
        ask(stack, origin, "/", "X-Forwarded-For: 9.9.9.9")
        assert origin.requests[0].get("x-forwarded-for") == "127.0.0.1"


def test_a_body_goes_through_and_the_connection_serves_the_next_request(origin):
    with proxy(allow(origin)) as stack, raw.Connection(stack.at) as connection:
        for size in (1, 100_000):
            connection.send(raw.request("POST", f"http://{origin.address}/", body=b"x" * size))
            assert connection.read_response("POST").status == 200
        assert [len(received.body) for received in origin.requests] == [1, 100_000]
        assert len(origin.links) == 1


def test_what_a_proxy_is_not_asked_is_answered_with_what_it_is(origin):
    with proxy(allow(origin)) as stack:
        answer = raw.get(stack.at, "/", host="example.org")
        assert answer.status == 400
        assert b"This is a proxy" in answer.body
        assert raw.get(stack.at, "*", method="OPTIONS").status == 400
        assert raw.get(stack.at, f"https://{origin.address}/").status == 400
        assert raw.get(stack.at, "ftp://example.org/").status == 400
        assert not origin.links


@pytest.mark.parametrize("path", ["/proxy.pac", "/wpad.dat", "/proxy.pac?x"])
def test_the_proxy_itself_tells_browsers_how_to_use_it(path):
    with proxy() as stack:
        answer = raw.get(stack.at, path, host="wpad")
        assert answer.status == 200
        assert answer.get("content-type") == "application/x-ns-proxy-autoconfig"
        assert f"PROXY 127.0.0.1:{stack.ports[0]}".encode() in answer.body
        assert raw.get(stack.at, path, method="HEAD").get("content-length") == str(len(answer.body))
        assert raw.ask(stack.at, raw.request("POST", path, body=b"x")).status == 400
        assert raw.ask(stack.at, raw.request("GET", path), source="127.0.0.2").status == 403


def test_an_origin_that_does_not_answer_is_an_error_of_the_proxy(origin):
    with proxy(allow(origin)) as stack:
        origin.refuse()
        answer = ask(stack, origin)
        assert (answer.status, answer.get("proxy-status")) == (502, "tandem; error=connection_refused")


def test_redirects_are_the_clients_to_follow(origin):
    origin.otherwise(head_only("Location: http://127.0.0.1:1/secret", "Content-Length: 0", status=302))
    with proxy(allow(origin)) as stack:
        answer = ask(stack, origin)
        assert (answer.status, answer.get("location")) == (302, "http://127.0.0.1:1/secret")
        assert len(origin.requests) == 1


# ---- the cache -------------------------------------------------------------------------------------------------------


def test_all_clients_share_what_is_stored(origin):
    origin.otherwise(response(b"kept", "Cache-Control: max-age=60"))
    with proxy(allow(origin)) as stack:
        assert [ask(stack, origin).body for _ in range(3)] == [b"kept"] * 3
        assert "hit" in ask(stack, origin).get("cache-status")
        assert len(origin.requests) == 1


def test_what_came_with_credentials_is_for_others_only_if_the_origin_says_so(origin):
    """RFC 9111 §3.5."""
    origin.on("/mine", response(b"mine", "Cache-Control: max-age=60"))
    origin.on("/ours", response(b"ours", "Cache-Control: max-age=60, public"))
    with proxy(allow(origin)) as stack:
        for _ in range(2):
            ask(stack, origin, "/mine", "Authorization: Basic eDp5")
            ask(stack, origin, "/ours", "Authorization: Basic eDp5")
        assert origin.targets() == ["/mine", "/ours", "/mine"]


def test_a_cookie_set_for_one_client_is_given_to_no_other(origin):
    origin.otherwise(response(b"x", "Cache-Control: max-age=60", "Set-Cookie: colour=red"))
    with proxy(allow(origin)) as stack:
        for _ in range(2):
            ask(stack, origin)
        assert len(origin.requests) == 2


def test_a_site_and_the_forward_proxy_never_answer_for_each_other(origin):
    """The same URL, stored by both: from the site's origin here, from wherever the name leads there."""
    with FakeOrigin() as other:
        origin.otherwise(response(b"forward", "Cache-Control: max-age=60"))
        other.otherwise(response(b"site", "Cache-Control: max-age=60"))
        site = f'[[site]]\nlisten = "127.0.0.1:PORT1"\nupstream = "{other.address}"\n'
        with proxy(allow(origin), site) as stack:
            for _ in range(2):
                assert ask(stack, origin).body == b"forward"
                assert raw.get(("127.0.0.1", stack.ports[1]), "/", host=origin.address).body == b"site"
            assert raw.ask(("127.0.0.1", stack.ports[1]), raw.request("POST", "/", host=origin.address, body=b"x"))
            ask(stack, origin)
            assert len(origin.requests) == 1


# ---- who is served ---------------------------------------------------------------------------------------------------


def test_strangers_get_nothing_not_even_what_is_stored(origin):
    origin.otherwise(response(b"kept", "Cache-Control: max-age=60"))
    with proxy(allow(origin)) as stack:
        for _ in range(3):
            assert ask(stack, origin).status == 200
        for _ in range(2):
            answer = ask(stack, origin, source="127.0.0.2")
            assert answer.status == 403
            assert answer.get("proxy-status") == "tandem; error=http_request_denied"
            assert b"kept" not in answer.body
        assert len(origin.requests) == 1


# ---- where it goes ---------------------------------------------------------------------------------------------------


def test_loops_are_found(origin):
    with proxy('allow_private = ["127.0.0.0/8"]') as stack:
        answer = ask(stack, f"127.0.0.1:{stack.ports[0]}")
        assert (answer.status, answer.get("proxy-status")) == (508, "tandem; error=proxy_loop_detected")
        assert ask(stack, f"0.0.0.0:{stack.ports[0]}").status == 508
        assert ask(stack, origin, "/", "Via: 1.1 other, 1.1 tandem-test").status == 508
        assert not origin.links


def test_ports_that_are_not_for_the_web_are_refused(origin):
    with proxy(allow(origin)) as stack:
        assert [ask(stack, f"127.0.0.1:{port}").status for port in (22, 25, 6, 1024)] == [403] * 4


def spellings(port):
    """Ways to say 127.0.0.1, with what becomes of them: 400 for what is no host, 403 for what is no destination."""
    return {
        "127.0.0.1": 403,
        "127.0.0.2": 403,
        "127.255.255.254": 403,
        "0.0.0.0": 403,
        "localhost": 403,
        "LOCALHOST": 403,
        "localhost.": 403,
        "[::1]": 403,
        "[0:0:0:0:0:0:0:1]": 403,
        "[::]": 403,
        "[::ffff:127.0.0.1]": 403,
        "[::ffff:7f00:1]": 403,
        "[::127.0.0.1]": 403,
        "[::ffff:0:127.0.0.1]": 403,
        "[64:ff9b::127.0.0.1]": 403,
        "[64:ff9b:1::127.0.0.1]": 403,
        "[2002:7f00:1::]": 403,
        "[2001:0:7f00:1::]": 403,
        "[2001:0:101:101:0:0:80ff:fffe]": 403,
        "[2606:4700::5efe:127.0.0.1]": 403,
        "[fe80::5efe:127.0.0.1]": 403,
        "[::1%25lo]": 400,
        "[fe80::1%lo]": 400,
        "127.1": 400,
        "127.0.1": 400,
        "2130706433": 400,
        "0x7f000001": 400,
        "0x7f.1": 400,
        "0177.0.0.1": 400,
        "017700000001": 400,
        "127.0.0.01": 400,
        "127.000.000.001": 400,
        "127.0.0.1.": 403,
        "127.0.0.1..": 400,
        "127%2e0.0.1": 400,
        "%31%32%37.0.0.1": 400,
        "example.org@127.0.0.1": 400,
        "127.0.0.1#example.org": 400,
        "127.0.0.1\\@example.org": 400,
        "169.254.169.254": 403,
        "[fd00:ec2::254]": 403,
        "100.100.100.200": 403,
        "168.63.129.16": 403,
        "192.168.0.1": 403,
        "10.0.0.1": 403,
        "224.0.0.1": 403,
        "255.255.255.255": 403,
        "[ff02::1]": 403,
        "[fe80::1]": 403,
        "[fc00::1]": 403,
    }


def test_no_spelling_of_a_private_destination_reaches_it(origin):
    """Nothing connects, by a plain request or by CONNECT, and each answer says what kind of error it was."""
    with FakeOrigin(address="::1", port=origin.port) as sixth, proxy(f"connect_ports = [{origin.port}]") as stack:
        for host, status in spellings(origin.port).items():
            answer = ask(stack, f"{host}:{origin.port}")
            assert answer.status == status, host
            if status == 403:
                assert answer.get("proxy-status") == "tandem; error=destination_ip_prohibited", host
            data = raw.request("CONNECT", f"{host}:{origin.port}", host="ignored.example")
            assert raw.ask(stack.at, data, "CONNECT").status == status, host
        assert not origin.links
        assert not sixth.links


def test_names_lead_nowhere_private(origin):
    with proxy() as stack, names(stack, one=["127.0.0.1"], six=["::1"], mapped=["::ffff:127.0.0.1"], ten=["10.9.8.7"]):
        for name in ("one", "six", "mapped", "ten"):
            answer = ask(stack, f"{name}.test:{origin.port}")
            assert (answer.status, answer.get("proxy-status")) == (403, "tandem; error=destination_ip_prohibited"), name
        assert not origin.links


def test_of_several_addresses_only_those_that_may_be_reached_are_tried(origin):
    with proxy(allow(origin)) as stack, names(stack, both=["10.9.8.7", "127.0.0.1", "::1"]):
        assert ask(stack, f"both.test:{origin.port}").status == 200


def test_a_name_that_moves_to_a_private_address_is_not_followed_there(origin):
    """DNS rebinding: what was judged is what is connected to, each time anew."""
    origin.otherwise(response(b"x", "Cache-Control: max-age=0", 'ETag: "1"', "Connection: close"))
    with FakeOrigin(address="127.0.0.3", port=origin.port) as secret, proxy(allow(origin)) as stack:
        with names(stack, moving=["127.0.0.1"]) as server:
            assert ask(stack, f"moving.test:{origin.port}").status == 200
            server.names["moving.test"] = (["127.0.0.3"], 1)
            stack.call(lambda: stack._resolver.configure([], 1.0))
            stack.call(lambda: stack._resolver.configure([server.server], 1.0))
            assert ask(stack, f"moving.test:{origin.port}").status == 403
        assert not secret.links


def test_an_unknown_name_is_an_error_of_the_name(origin):
    with proxy() as stack, names(stack):
        answer = ask(stack, "nowhere.test")
        assert (answer.status, answer.get("proxy-status")) == (502, "tandem; error=dns_error")


# ---- what is counted, shaped, and served here ------------------------------------------------------------------------


def test_browsers_get_the_proxys_own_file(origin):
    with proxy(allow(origin)) as stack:
        answer = raw.get(stack.at, "/proxy.pac", host=f"127.0.0.1:{stack.at[1]}")
        assert (answer.status, answer.get("content-type")) == (200, "application/x-ns-proxy-autoconfig")
        assert f"PROXY 127.0.0.1:{stack.at[1]}" in answer.text
        assert raw.get(stack.at, "/wpad.dat", method="HEAD").status == 200


def test_a_client_that_asks_too_fast_waits_with_stored_answers_too(origin):
    origin.otherwise(response(b"kept", "Cache-Control: max-age=60"))
    with proxy(f"{allow(origin)}\nrequests = 1") as stack:
        answers = [ask(stack, origin) for _ in range(12)]
        assert {200, 429} == {answer.status for answer in answers}
        refused = next(answer for answer in answers if answer.status == 429)
        assert refused.get("retry-after") == "1"
        assert ask(stack, origin, source="127.0.0.9").status == 403  # not in `clients`: other words
        raw.wait_until(lambda: ask(stack, origin).status == 200)


SHAPED = """
[[rule]]
name = "slow"
match = { mode = "forward" }
action = "allow"
bandwidth = "few"
[bandwidth]
few = "1Mbit/s"
"""


@pytest.mark.parametrize("tunnelled", [False, True])
def test_a_connection_of_a_class_has_its_rate_and_leaves_the_class_with_its_end(origin, tunnelled):
    origin.otherwise(response(b"x" * 1000))
    with proxy(f"{allow(origin)}\nconnect_ports = [{origin.port}]", SHAPED) as stack:
        with raw.Connection(stack.at) as connection:
            if tunnelled:
                connection.send(raw.request("CONNECT", origin.address, host=origin.address))
                assert connection.read_response("CONNECT").status == 200
                connection.send(raw.request("GET", "/", host=origin.address))
            else:
                connection.send(raw.request("GET", f"http://{origin.address}/", host=origin.address))
            assert connection.read_response("GET").status == 200
            assert stack.call(lambda: [(one.name, one.paced) for one in stack.front.shaper._members.values()]) == [
                ("few", 125_000.0)
            ]
            (sock,) = stack.call(lambda: [one.sock for one in stack.front.shaper._members.values()])
            paced = int.from_bytes(stack.call(lambda: sock.getsockopt(1, 47, 4)), "little")
            assert paced == 125_000
            stack.call(stack.front.shaper.tick)
        raw.wait_until(lambda: stack.call(lambda: len(stack.front.shaper)) == 0)


# ---- many origins ----------------------------------------------------------------------------------------------------


def test_connections_kept_to_many_origins_are_bounded():
    with ExitStack() as ends:
        origins = [ends.enter_context(FakeOrigin()) for _ in range(8)]
        stack = ends.enter_context(proxy(allow(*origins)))
        stack.call(lambda: setattr(stack.upstreams, "most", 3))
        for _ in range(2):
            for one in origins:
                assert ask(stack, one).status == 200
                assert stack.upstream_counts()[0] <= 4
        stack.wait(lambda: stack.upstreams.counts[0] <= 3)
