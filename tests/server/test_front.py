"""What connections share: memos by kind, parsers that are clean, counts, and who goes when it is full."""

from __future__ import annotations

import pytest

from proxy.exchange import Client
from proxy.plan import Plan
from proxy.server.front import MOST_KINDS
from tests.kit import raw
from tests.kit.inproc import Clock, Stack
from tests.kit.origin import FakeOrigin, Stall, response
from tests.kit.proxy import reverse


def client(address, destination=None):
    return Client(address, 1, ("127.0.0.1", 80), b"http", destination=destination)


DATED = "Date: Fri, 15 Jan 2027 10:46:40 GMT"


@pytest.fixture
def origin():
    with FakeOrigin() as fake:
        yield fake.otherwise(response(b"stored", "Cache-Control: max-age=1000", DATED))


def serving(origin, site="", rest=""):
    return Stack(reverse(origin.address, site=site, rest=rest), clock=Clock())


def test_clients_that_are_trusted_and_those_that_are_not_never_share_a_memo(origin):
    """Equal bytes mean another thing from a trusted hop: what it says of its client is believed."""
    with serving(origin, site='trusted = ["127.0.0.1"]') as stack:
        front, door = stack.front, stack.doors[0]
        kinds = stack.call(lambda: [front.kind_of(door, client(f"127.0.0.{n}")) for n in (1, 2, 3)])
        assert kinds[0][0] == {"site-1"}
        assert kinds[1][0] == kinds[2][0] == frozenset()
        assert kinds[0][1] is not kinds[1][1]
        assert kinds[1][1] is kinds[2][1]
        asked = raw.request("GET", "/", "X-Forwarded-For: 192.0.2.1")
        for source in ("127.0.0.1", "127.0.0.2"):
            for _ in range(3):
                assert raw.ask(stack.at, asked, source=source).body == b"stored"
        assert stack.call(lambda: [len(kind[1]) for kind in kinds]) == [1, 1, 1]


def test_each_listener_has_a_memo_of_its_own(origin):
    text = reverse(origin.address).replace('"127.0.0.1:PORT0"', '["127.0.0.1:PORT0", "127.0.0.1:PORT1"]')
    with Stack(text, clock=Clock()) as stack:
        memos = stack.call(lambda: [stack.front.kind_of(door, client("127.0.0.1"))[1] for door in stack.doors])
        assert memos[0] is not memos[1]
        for port in stack.ports:
            assert raw.get(("127.0.0.1", port)).body == b"stored"


def test_a_purge_empties_the_memos_of_the_answer_and_a_new_configuration_of_everything(origin):
    with serving(origin) as stack:
        with raw.Connection(stack.at) as client:

            def ask():
                client.send(raw.request())
                return client.read_response().get("cache-status")

            assert [ask() for _ in range(3)][1:] == ["tandem; hit; ttl=999; detail=fresh"] * 2
            [connection] = stack.connections()
            [plan] = stack.call(lambda: list(connection._memo.values()))
            assert plan.answer is not None
            stack.call(lambda: stack.store.purge_prefix(b""))
            assert plan.answer is None
            assert "fwd=uri-miss" in ask()
        stack.call(lambda: stack.front.configure(stack.config.limits, memo=True, most_connections=10))
        assert stack.front.memo_entries == 0


def test_without_memo_no_answer_is_kept(origin):
    with serving(origin, rest="[cache]\nmemo = false\n") as stack, raw.Connection(stack.at) as client:
        for _ in range(3):
            client.send(raw.request())
            assert client.read_response().body == b"stored"
        [connection] = stack.connections()
        assert all(plan.answer is None for plan in stack.call(lambda: list(connection._memo.values())))


def test_a_parser_is_kept_only_where_nothing_of_a_message_is_left_in_it(origin):
    origin.otherwise(Stall())  # the exchange stays in flight while it is looked at
    with serving(origin) as stack:
        front = stack.front
        kept = {
            b"": True,
            b"Connection: close\r\n": False,
            b"Transfer-Encoding: chunked\r\n": False,
            b"Content-Length: 3\r\n": False,
            b"Content-Length: 0\r\n": True,
            b"Connection: Upgrade\r\nUpgrade: websocket\r\n": False,
        }
        for line, keeps in kept.items():
            stack.call(lambda: setattr(front, "_parser", None))
            with raw.Connection(stack.at) as client:
                client.send(b"GET /%d HTTP/1.1\r\nHost: test.example\r\n%b\r\n" % (hash(line), line))
                stack.wait(lambda: any(c._checked is not None for c in front.connections), "the head read")
                assert stack.call(lambda: front._parser is not None) is keeps, line
            stack.wait(lambda: not front.connections, "the client gone")


def test_connections_are_counted_in_and_out_and_the_counts_are_taken_once(origin):
    with serving(origin) as stack:
        for _ in range(3):
            raw.get(stack.at)
        stack.wait(lambda: not stack.front.connections, "all gone")
        assert stack.call(stack.front.take_counts) == (3, 0)
        assert stack.call(stack.front.take_counts) == (0, 0)
        assert not stack.front._per_address


def test_taken_connections_share_a_memo_by_where_they_were_going_and_one_too_many_empties_the_oldest(origin):
    """Equal bytes mean another thing on the way to another address, and there are as many as the internet has."""
    with serving(origin) as stack:
        front, door = stack.front, stack.doors[0]
        door.classify = lambda one: one.destination

        def memo_of(number):
            return front.kind_of(door, client("127.0.0.1", (f"100.200.{number // 256}.{number % 256}", 80)))[1]

        first, again, other = stack.call(lambda: [memo_of(0), memo_of(0), memo_of(1)])
        assert first is again
        assert first is not other
        plan = Plan(None, None, None, None, False)
        stack.call(lambda: first.remember_plan(b"GET", plan))
        assert len(first) == 1
        stack.call(lambda: [memo_of(number) for number in range(2, MOST_KINDS + 2)])
        assert len(first) == 0
        stack.call(lambda: first.remember_plan(b"GET", plan))
        assert len(first) == 0
        assert stack.call(lambda: memo_of(0)) is not first
