"""A proxy behind a proxy: requests and tunnels through a parent, with its login, past it, and around a dead one."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, contextmanager

import bcrypt
import pytest

from tests.kit import raw
from tests.kit import websocket as ws
from tests.kit.inproc import Stack
from tests.kit.instance import free_port
from tests.kit.ledger import Ledger
from tests.kit.origin import FakeOrigin, ReadRaw, head_only, response

LOG = '{client} {user} "{request}" {status} {outcome} {error} {upstream}'


@pytest.fixture
def origin():
    with FakeOrigin() as made:
        made.otherwise(response(b"from afar"))
        yield made


@pytest.fixture
def users(tmp_path):
    """The parent's password file, and what the child tells it."""
    passwords, login = tmp_path / "users", tmp_path / "login"
    passwords.write_text(f"child:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    login.write_text("child:secret\n")
    for file in (passwords, login):
        file.chmod(0o600)
    return passwords, login


@contextmanager
def pair(origin, users=None, more="", before=()):
    """(child, parent): the child asks parents alone, of which those of `before` are dead."""
    asks = f'users = "{users[0]}"\n' if users else ""
    here = '[forward]\nlisten = "127.0.0.1:PORT0"\nclients = "127.0.0.1"\n'
    with ExitStack() as ends:
        text = here + f'allow_private = "{origin.address}"\nconnect_ports = {origin.port}\n' + asks
        parent = ends.enter_context(Stack(text, log=LOG))
        parent.call(lambda: setattr(parent.pipeline, "via", b"tandem-parent"))
        parent.call(lambda: parent.pipeline.planner.configure(parent.pipeline.mode.sites.values()))
        at = {"address": f"127.0.0.1:{parent.ports[0]}"}
        if users:
            at["login"] = str(users[1])
        listed = [*({"address": f"127.0.0.1:{port}"} for port in before), at]
        tables = ", ".join("{ " + ", ".join(f"{k} = {json.dumps(v)}" for k, v in one.items()) + " }" for one in listed)
        text = here + f"connect_ports = {origin.port}\nparent = [{tables}]\n{more}"
        child = ends.enter_context(Stack(text, log=LOG))
        ledgers = [Ledger(child), Ledger(parent)]
        yield child, parent
        for ledger in ledgers:
            if ledger.stack._thread.is_alive():
                ledger.settle()


def ask(stack, origin, path="/", *lines, method="GET", name="localhost", body=None):
    target = f"{name}:{origin.port}" if method == "CONNECT" else f"http://{name}:{origin.port}{path}"
    return raw.ask(stack.at, raw.request(method, target, *lines, body=body), method)


def tunnelled(stack, origin, name="localhost"):
    with raw.Connection(stack.at) as connection:
        connection.send(raw.request("CONNECT", f"{name}:{origin.port}"))
        head = connection.read_raw_head()
        connection.send(raw.request("GET", "/inside"))
        return head, connection.read_response().body


@pytest.mark.parametrize("with_login", [False, True])
def test_requests_and_tunnels_go_through_the_parent_with_its_login(origin, users, with_login):
    with pair(origin, users if with_login else None) as (child, parent):
        for _ in range(3):
            assert ask(child, origin, "/a?b", "Proxy-Authorization: Basic dGhlIGNsaWVudCdz").body == b"from afar"
        assert ask(child, origin, method="POST", body=b"x" * 100_000).status == 200
        received = origin.requests[0]
        assert received.target == b"/a?b"
        assert received.all("host") == [f"localhost:{origin.port}"]
        assert received.get("proxy-authorization") is None
        assert [word for value in received.all("via") for word in value.split(", ")] == [
            "1.1 tandem-test",
            "1.1 tandem-parent",
        ]
        head, body = tunnelled(child, origin)
        assert b" 200 " in head
        assert body == b"from afar"
        user = "child" if with_login else "-"
        lines = parent.log_lines()
        assert lines[0].startswith(f'127.0.0.1 {user} "GET http://localhost:{origin.port}/a?b HTTP/1.1" 200')
        raw.wait_until(lambda: any("CONNECT" in line and f" {user} " in line for line in parent.log_lines()))


def test_a_wrong_login_at_the_parent_is_no_challenge_to_the_client(origin, users):
    users[1].write_text("child:wrong\n")
    with pair(origin, users) as (child, parent):
        for method in ("GET", "GET", "POST", "HEAD", "CONNECT"):
            answer = ask(child, origin, method=method, body=b"x" if method == "POST" else None)
            assert (answer.status, answer.get("proxy-status")) == (502, "tandem; error=destination_unavailable"), method
            assert answer.all("proxy-authenticate") == []  # it is not the client's to answer
        assert not origin.links
        assert len(child.log_lines()) == 5
        assert all(" 502 " in line and " parent-refused " in line for line in child.log_lines())
        assert sum(" 407 " in line for line in parent.log_lines()) == 5


def test_an_origin_that_wants_a_login_as_if_it_were_a_proxy_speaks_for_itself(origin):
    """Only of a parent it is a quarrel of proxies, whichever of them said the same words first."""
    origin.otherwise(head_only("Proxy-Authenticate: Basic realm=x", "Content-Length: 0", status=407))
    near = f'direct = "localhost"\nallow_private = "{origin.address}"\n'
    with pair(origin, more=near) as (child, _):
        for _ in range(3):
            answer = ask(child, origin)
            assert (answer.status, answer.all("proxy-authenticate")) == (407, [])


@pytest.mark.parametrize("with_login", [False, True])
def test_a_websocket_goes_through_the_parent(origin, users, with_login):
    said = os.urandom(300_000)
    agreed = head_only("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Accept: x", status=101)
    origin.otherwise(agreed, ReadRaw(len(said), echo=True))
    with pair(origin, users if with_login else None) as (child, parent):
        with raw.Connection(child.at) as connection:
            connection.send(ws.handshake(b"dGhlIHNhbXBsZSBub25jZQ==", f"http://localhost:{origin.port}/chat"))
            assert connection.read_response().status == 101
            connection.send(said)
            assert connection.read_exactly(len(said)) == said
        for stack in (child, parent):
            raw.wait_until(lambda stack=stack: len(stack.log_lines()) == 1, what="one line at its end")
            assert '/chat HTTP/1.1" 101 ' in stack.log_lines()[0]


def test_another_parent_is_asked_where_one_is_dead(origin):
    with pair(origin, before=[free_port(), free_port()]) as (child, _):
        for number in range(8):
            assert ask(child, origin, f"/{number}").status == 200
            assert tunnelled(child, origin)[1] == b"from afar"


def test_with_no_parent_left_it_is_an_error(origin):
    with pair(origin) as (child, parent):
        parent.stop()
        answer = ask(child, origin)
        assert (answer.status, answer.get("proxy-status")) == (502, "tandem; error=connection_refused")
        assert ask(child, origin, method="CONNECT").status == 502


def test_what_is_near_is_reached_without_the_parent(origin):
    near = f'direct = "localhost"\nallow_private = "{origin.address}"\n'
    with pair(origin, more=near) as (child, parent):
        assert ask(child, origin, name="127.0.0.1").status == 200
        assert parent.log_lines() == []
        assert ask(child, origin, name="localhost").status == 200
        assert tunnelled(child, origin, "127.0.0.1")[1] == b"from afar"
        assert parent.log_lines() == []


def test_a_private_address_is_refused_before_the_parent_hears_of_it(origin):
    with pair(origin) as (child, parent):
        for name in ("127.0.0.1", "[::1]", "169.254.169.254", "[::ffff:127.0.0.1]"):
            assert ask(child, origin, name=name).status == 403
            assert ask(child, origin, name=name, method="CONNECT").status == 403
        assert parent.log_lines() == []


def test_a_rule_about_addresses_is_not_got_around_by_a_parent(origin):
    rule = '[[rule]]\nname = "lab"\nmatch = { mode = "forward", destination = "127.0.0.0/8" }\naction = "deny"\n'
    with pair(origin, more=rule) as (child, parent):
        assert ask(child, origin).status == 403
        assert parent.log_lines() == []
