"""Logins in the way of an exchange: proved once, remembered, wrong, too often wrong; clients that leave meanwhile."""

from __future__ import annotations

import base64
from contextlib import contextmanager

import bcrypt
import pytest

from tests.kit import raw
from tests.kit.inproc import Stack
from tests.kit.ledger import Ledger
from tests.kit.origin import FakeOrigin, response

LINE = '{client} {user} "{request}" {status} {outcome} {rule} {error}'


@pytest.fixture
def origin():
    with FakeOrigin() as made:
        made.otherwise(response(b"kept", "Cache-Control: max-age=60, public"))
        yield made


@pytest.fixture
def users(tmp_path):
    """Two users whose passwords are `secret` and `geheim`."""
    file = tmp_path / "users"
    hashed = {
        user: bcrypt.hashpw(word, bcrypt.gensalt(4)) for user, word in {"bob": b"secret", "eva": b"geheim"}.items()
    }
    file.write_text("".join(f"{user}:{text.decode()}\n" for user, text in hashed.items()))
    file.chmod(0o600)
    return file


@contextmanager
def proxy(users, origin, rules=""):
    text = (
        f'[forward]\nlisten = "127.0.0.1:PORT0"\nclients = "127.0.0.0/8"\nusers = "{users}"\n'
        f'realm = "Our proxy"\nallow_private = "{origin.address}"\nconnect_ports = [{origin.port}]\n{rules}'
    )
    with Stack(text, log=LINE) as stack:
        ledger = Ledger(stack)
        yield stack
        ledger.settle()


def basic(user, word):
    return f"Proxy-Authorization: Basic {base64.b64encode(f'{user}:{word}'.encode()).decode()}"


def ask(stack, origin, *lines, path="/", method="GET", source=None, body=None):
    target = origin.address if method == "CONNECT" else f"http://{origin.address}{path}"
    return raw.ask(stack.at, raw.request(method, target, *lines, body=body), method, source=source)


def test_a_mirror_asks_for_the_login_as_an_origin_does_and_it_goes_no_further(users, origin):
    mirror = f'[[forward.mirror]]\nkind = "deb"\npath = "/m/"\norigin = "http://{origin.address}/"\n'
    with proxy(users, origin, mirror) as stack:
        asked = raw.get(stack.at, "/m/pool/a.deb")
        assert (asked.status, asked.get("www-authenticate")) == (401, 'Basic realm="Our proxy", charset="UTF-8"')
        assert asked.get("proxy-authenticate") is None
        good, wrong = (basic("bob", word).removeprefix("Proxy-") for word in ("secret", "other"))
        assert raw.get(stack.at, "/m/pool/a.deb", basic("bob", "secret")).status == 401
        assert raw.get(stack.at, "/m/pool/a.deb", wrong).status == 401
        for _ in range(3):
            assert raw.get(stack.at, "/m/pool/a.deb", good).body == b"kept"
        assert raw.get(stack.at, "/m/pool/a.deb").status == 401
        [received] = origin.requests
        assert received.get("authorization") is None
        assert [line for line in stack.log_lines() if " bob " in line and " 200 " in line]


def test_without_credentials_a_client_is_asked_for_them(users, origin):
    with proxy(users, origin) as stack:
        for lines in ((), ("Proxy-Authorization: Bearer x",), ("Proxy-Authorization: Basic !!!",)):
            answer = ask(stack, origin, *lines)
            assert answer.status == 407
            assert answer.all("proxy-authenticate") == ['Basic realm="Our proxy", charset="UTF-8"']
            assert answer.get("proxy-status") == "tandem; error=http_request_denied"
        assert not origin.links


def test_who_has_proved_it_is_served_and_the_origin_learns_nothing_of_it(users, origin):
    with proxy(users, origin) as stack:
        assert ask(stack, origin, basic("bob", "secret")).body == b"kept"
        assert origin.requests[0].get("proxy-authorization") is None
        line = f'127.0.0.1 bob "GET http://{origin.address}/ HTTP/1.1" 200 miss - -'
        raw.wait_until(lambda: stack.log_lines() == [line], what=f"{stack.log_lines()}")


def test_a_wrong_password_and_an_unknown_user_look_the_same(users, origin):
    with proxy(users, origin) as stack:
        wrong = ask(stack, origin, basic("bob", "geheim"))
        unknown = ask(stack, origin, basic("nobody", "geheim"))
        assert wrong.status == unknown.status == 407
        assert wrong.body == unknown.body
        assert not origin.links
        raw.wait_until(lambda: [line.split()[1] for line in stack.log_lines()] == ["bob", "nobody"])


def test_a_login_is_proved_once_and_then_remembered(users, origin):
    with proxy(users, origin) as stack:
        proofs = []
        prove = stack.logins._prove
        stack.logins._prove = lambda work, then: (proofs.append(1), prove(work, then))
        for _ in range(4):
            assert ask(stack, origin, basic("eva", "geheim")).status == 200
        assert len(proofs) == 1
        assert len(origin.requests) == 1


def test_what_one_user_is_answered_is_not_repeated_to_a_stranger(users, origin):
    """The memo, with equal bytes but for the credentials."""
    with proxy(users, origin) as stack:
        for _ in range(4):
            assert ask(stack, origin, basic("bob", "secret")).status == 200
        assert ask(stack, origin).status == 407
        assert ask(stack, origin, basic("bob", "secrets")).status == 407
        assert ask(stack, origin, basic("eva", "geheim")).status == 200
        assert len(origin.requests) == 1  # the cache is for all who may


def test_a_body_waits_for_the_proof(users, origin):
    with proxy(users, origin) as stack:
        answer = ask(stack, origin, basic("bob", "secret"), method="POST", body=b"x" * 300_000)
        assert answer.status == 200
        assert len(origin.requests[0].body) == 300_000


def test_failures_hold_further_tries_up_but_not_who_was_proved(users, origin):
    with proxy(users, origin) as stack:
        assert ask(stack, origin, basic("bob", "secret")).status == 200
        statuses = [ask(stack, origin, basic("bob", f"guess-{n}")).status for n in range(7)]
        assert statuses[0] == 407
        assert statuses[-1] == 429
        held = ask(stack, origin, basic("bob", "another"))
        assert int(held.get("retry-after")) >= 1
        assert ask(stack, origin, basic("bob", "secret")).status == 200


def test_a_client_that_leaves_while_its_login_is_proved_frees_everything(users, origin):
    with proxy(users, origin) as stack:
        held = []
        stack.logins._prove = lambda work, then: held.append((work, then))
        connection = raw.Connection(stack.at)
        connection.send(raw.request("GET", f"http://{origin.address}/", basic("bob", "secret")))
        stack.wait(lambda: held)
        connection.abort()
        stack.wait(lambda: not stack.front.connections)
        stack.call(lambda: held[0][1](held[0][0]()))
        assert not origin.links
        raw.wait_until(stack.log_lines)
        assert "client-gone" in stack.log_lines()[0]


def test_too_many_proofs_at_once_are_turned_away(users, origin):
    with proxy(users, origin) as stack:
        held = []
        stack.logins._prove = lambda work, then: held.append((work, then))
        waiting = []
        for n in range(64):
            waiting.append(raw.Connection(stack.at))
            waiting[-1].send(raw.request("GET", f"http://{origin.address}/", basic(f"user-{n}", "x")))
        stack.wait(lambda: len(held) == 64)
        answer = ask(stack, origin, basic("one-more", "x"))
        assert (answer.status, answer.get("retry-after")) == (503, "1")
        stack.call(lambda: [then(work()) for work, then in held])
        for connection in waiting:
            assert connection.read_response().status == 407
            connection.close()


def test_connect_wants_a_login_too(users, origin):
    with proxy(users, origin) as stack:
        assert ask(stack, origin, method="CONNECT").status == 407
        assert not origin.links
        with raw.Connection(stack.at) as connection:
            connection.send(raw.request("CONNECT", origin.address, basic("eva", "geheim")))
            assert b" 200 " in connection.read_raw_head()
            connection.send(raw.request("GET", "/inside"))
            assert connection.read_response().body == b"kept"
        raw.wait_until(lambda: any(f'eva "CONNECT {origin.address}' in line for line in stack.log_lines()))


# ---- rules -----------------------------------------------------------------------------------------------------------


def rule(name, match, action):
    return f'[[rule]]\nname = "{name}"\nmatch = {{ mode = "forward", {match} }}\naction = "{action}"\n'


def test_a_rule_denies_a_user_a_domain_and_says_so(users, origin):
    with proxy(users, origin, rule("not-bob", 'user = "bob", domain = "localhost"', "deny")) as stack:
        named = FakeNamed(origin)
        for _ in range(3):
            assert ask(stack, named, basic("eva", "geheim")).status == 200
        answer = ask(stack, named, basic("bob", "secret"))
        assert answer.status == 403
        assert b"not-bob" in answer.body
        line = f'127.0.0.1 bob "GET http://{named.address}/ HTTP/1.1" 403 refused not-bob denied'
        raw.wait_until(lambda: stack.log_lines()[-1:] == [line], what=f"{stack.log_lines()}")


def test_an_address_that_is_denied_gives_nobody_a_stored_answer_either(users, origin):
    """By name, the rule waits for the address; what one client stored is not read by whom the rule denies."""
    text = rule("inside", 'client = "127.0.0.2", destination = "127.0.0.0/8"', "deny")
    with proxy(users, origin, text) as stack:
        named = FakeNamed(origin)
        for _ in range(3):
            assert ask(stack, named, basic("eva", "geheim")).status == 200
        answer = ask(stack, named, basic("eva", "geheim"), source="127.0.0.2")
        assert answer.status == 403  # of ::1 because it is not public, of 127.0.0.1 by the rule
        assert len(origin.requests) == 1


class FakeNamed:
    """The origin by its name in /etc/hosts."""

    def __init__(self, origin):
        self.address = f"localhost:{origin.port}"


def test_a_rule_on_trial_only_reports(users, origin, caplog):
    with proxy(users, origin, rule("trial", 'user = "bob"', "report")) as stack, caplog.at_level("INFO", "tandem"):
        for _ in range(2):
            assert ask(stack, origin, basic("bob", "secret")).status == 200
        assert sum("trial would deny" in record.message for record in caplog.records) == 2


def test_devices_that_cannot_log_in_may_be_let_in_by_rule(users, origin):
    text = rule("printer", 'client = "127.0.0.3"', "allow") + "login = false\n"
    with proxy(users, origin, text) as stack:
        assert ask(stack, origin, source="127.0.0.3").status == 200
        assert ask(stack, origin).status == 407


def test_what_no_rule_allows_can_be_denied(users, origin):
    with proxy(users, origin, 'otherwise = "deny"\n' + rule("eva", 'user = "eva"', "allow")) as stack:
        assert ask(stack, origin, basic("eva", "geheim")).status == 200
        assert ask(stack, origin, basic("bob", "secret")).status == 403


def test_plans_end_when_decisions_may_change(users, origin):
    with proxy(users, origin) as stack:
        for _ in range(3):
            ask(stack, origin, basic("eva", "geheim"))
        with raw.Connection(stack.at) as connection:
            request = raw.request("GET", f"http://{origin.address}/", basic("eva", "geheim"))
            connection.send(request)
            assert connection.read_response().status == 200
            stack.call(lambda: (stack.logins._known.clear(), stack.front.void_plans({0})))
            stack.logins._prove = lambda work, then: then(False)
            connection.send(request)
            assert connection.read_response().status == 407
