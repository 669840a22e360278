"""Names, their lifetimes and faulty name servers; connections to what they name."""

from __future__ import annotations

import asyncio
import errno
import socket
from dataclasses import dataclass, field

import pytest
import uvloop

from proxy import errors
from proxy.errors import Failure
from proxy.exchange import Origin
from proxy.upstream import resolve as module
from proxy.upstream.resolve import Resolver
from tests.kit.dns import SERVFAIL, FakeNameServer


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def later(resolver, dns, clock, seconds):
    """Moves our clock; the library's own cache lives by the machine's and is emptied by a change of servers."""
    clock.now += seconds
    resolver._dns.nameservers = ["127.0.0.1:9"]
    resolver._dns.nameservers = [dns.server]


def with_server(scenario, **server):
    """Runs `scenario(resolver, server, clock)` against a name server of its own."""

    async def main():
        clock = Clock()
        async with FakeNameServer(**server) as dns:
            resolver = Resolver([dns.server], clock, patience=0.2)
            try:
                return await scenario(resolver, dns, clock)
            finally:
                await resolver.close()

    return uvloop.run(main())  # the loop of the workers


def v4(*addresses, port=80):
    return [(socket.AF_INET, (address, port)) for address in addresses]


def test_a_literal_is_its_own_address_and_asks_nobody():
    async def scenario(resolver, dns, clock):
        assert await resolver.resolve("10.0.0.1", 8080) == v4("10.0.0.1", port=8080)
        assert await resolver.resolve("::1", 80) == [(socket.AF_INET6, ("::1", 80, 0, 0))]
        lo = socket.if_nametoindex("lo")
        assert await resolver.resolve("fe80::1%lo", 80) == [(socket.AF_INET6, ("fe80::1", 80, 0, lo))]
        assert not dns.asked

    with_server(scenario)


def test_a_name_is_asked_for_again_when_its_lifetime_is_over():
    async def scenario(resolver, dns, clock):
        assert await resolver.resolve("app.example.org", 80) == v4("10.0.0.1")
        dns.names["app.example.org"] = (["10.0.0.2"], 30)
        later(resolver, dns, clock, 29.9)
        assert await resolver.resolve("APP.example.org.", 80) == v4("10.0.0.1")
        later(resolver, dns, clock, 0.1)
        assert await resolver.resolve("app.example.org", 80) == v4("10.0.0.2")
        assert dns.asked["app.example.org"] == 2

    with_server(scenario, names={"app.example.org": (["10.0.0.1"], 30)})


@pytest.mark.parametrize(("ttl", "kept"), [(0, 1.0), (10**6, 3600.0)])
def test_lifetimes_are_bounded_on_both_sides(ttl, kept):
    async def scenario(resolver, dns, clock):
        await resolver.resolve("a.example.org", 80)
        later(resolver, dns, clock, kept - 0.1)
        await resolver.resolve("a.example.org", 80)
        assert dns.asked["a.example.org"] == 1
        later(resolver, dns, clock, 0.2)
        await resolver.resolve("a.example.org", 80)
        assert dns.asked["a.example.org"] == 2

    with_server(scenario, names={"a.example.org": (["10.0.0.1"], ttl)})


def test_addresses_of_both_families_come_together():
    async def scenario(resolver, dns, clock):
        found = await resolver.resolve("both.example.org", 80)
        assert sorted(address[0] for _, address in found) == ["10.0.0.1", "fd00::1"]

    with_server(scenario, names={"both.example.org": (["10.0.0.1", "fd00::1"], 60)})


def test_an_unknown_name_is_a_dns_error_and_remembered_for_five_seconds():
    async def scenario(resolver, dns, clock):
        for _ in range(2):
            with pytest.raises(Failure) as caught:
                await resolver.resolve("no.example.org", 80)
            assert caught.value.kind is errors.DNS_ERROR
            assert "no.example.org" in caught.value.detail
        asked = dns.asked["no.example.org"]
        dns.names["no.example.org"] = (["10.0.0.1"], 60)
        later(resolver, dns, clock, 5.0)
        assert await resolver.resolve("no.example.org", 80) == v4("10.0.0.1")
        assert dns.asked["no.example.org"] == asked + 1

    with_server(scenario)


@pytest.mark.rfc("8767", "5")
def test_a_failing_name_server_leaves_the_old_answer_in_use_until_it_is_well_again():
    async def scenario(resolver, dns, clock):
        await resolver.resolve("a.example.org", 80)
        dns.rcode = SERVFAIL
        later(resolver, dns, clock, 11.0)
        assert await resolver.resolve("a.example.org", 80) == v4("10.0.0.1")
        asked = dns.asked["a.example.org"]
        assert await resolver.resolve("a.example.org", 80) == v4("10.0.0.1")
        assert dns.asked["a.example.org"] == asked  # not asked at each request
        dns.rcode = 0
        dns.names["a.example.org"] = (["10.0.0.9"], 10)
        later(resolver, dns, clock, 5.0)
        assert await resolver.resolve("a.example.org", 80) == v4("10.0.0.9")

    with_server(scenario, names={"a.example.org": (["10.0.0.1"], 10)})


def test_an_old_answer_does_not_stand_in_for_ever():
    async def scenario(resolver, dns, clock):
        await resolver.resolve("a.example.org", 80)
        dns.rcode = SERVFAIL
        later(resolver, dns, clock, module.STALE_FOR + 11.0)
        with pytest.raises(Failure):
            await resolver.resolve("a.example.org", 80)

    with_server(scenario, names={"a.example.org": (["10.0.0.1"], 10)})


def test_a_name_that_is_gone_is_not_answered_from_the_past():
    async def scenario(resolver, dns, clock):
        await resolver.resolve("a.example.org", 80)
        del dns.names["a.example.org"]
        later(resolver, dns, clock, 11.0)
        with pytest.raises(Failure):
            await resolver.resolve("a.example.org", 80)

    with_server(scenario, names={"a.example.org": (["10.0.0.1"], 10)})


def test_a_silent_server_is_waited_for_only_briefly_while_an_old_answer_is_there(monkeypatch):
    monkeypatch.setattr(module, "STALE_AFTER", 0.02)  # the real wait is a human's patience

    async def scenario(resolver, dns, clock):
        await resolver.resolve("a.example.org", 80)
        dns.silent = True
        later(resolver, dns, clock, 11.0)
        assert await resolver.resolve("a.example.org", 80) == v4("10.0.0.1")

    with_server(scenario, names={"a.example.org": (["10.0.0.1"], 10)})


def test_many_who_want_one_name_ask_once_and_one_who_leaves_takes_nobody_along():
    async def scenario(resolver, dns, clock):
        tasks = [asyncio.create_task(resolver.resolve("a.example.org", 80)) for _ in range(20)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [v4("10.0.0.1")] * 19
        assert dns.asked["a.example.org"] == 1

    with_server(scenario, names={"a.example.org": (["10.0.0.1"], 10)})


# ---- connections ---------------------------------------------------------------------------------------------------


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_connection_is_non_blocking_and_sends_small_pieces_at_once(listening):
    async def scenario(resolver, dns, clock):
        with await resolver.connect(Origin("http", "app.example.org", listening), 5.0) as sock:
            assert sock.getpeername() == ("127.0.0.1", listening)
            assert not sock.getblocking()
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    with_server(scenario, names={"app.example.org": (["127.0.0.1"], 10)})


def test_a_dead_first_address_gives_way_to_the_next(listening):
    async def scenario(resolver, dns, clock):
        with await resolver.connect(Origin("http", "app.example.org", listening), 5.0) as sock:
            assert sock.getpeername() == ("127.0.0.1", listening)

    with_server(scenario, names={"app.example.org": (["127.0.0.9", "127.0.0.1"], 10)})


def test_a_refused_connection_is_a_connect_error():
    with socket.socket() as unheard:  # bound, not listening: the port stays ours and refuses
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]

        async def scenario(resolver, dns, clock):
            with pytest.raises(Failure) as caught:
                await resolver.connect(Origin("http", "127.0.0.1", port), 5.0)
            assert caught.value.kind is errors.CONNECT_ERROR

        with_server(scenario)


def test_a_connection_that_nobody_answers_is_a_connect_timeout():
    # A full accept queue drops further SYNs: the real silence of an overloaded host.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                assert filler.connect_ex(("127.0.0.1", port)) in {0, errno.EINPROGRESS}

            async def scenario(resolver, dns, clock):
                with pytest.raises(Failure) as caught:
                    await resolver.connect(Origin("http", "127.0.0.1", port), 0.1)
                assert caught.value.kind is errors.CONNECT_TIMEOUT

            with_server(scenario)
        finally:
            for filler in fillers:
                filler.close()


def test_a_silent_name_server_ends_a_connect_with_a_dns_error_in_time():
    async def scenario(resolver, dns, clock):
        with pytest.raises(Failure) as caught:
            await resolver.connect(Origin("http", "a.example.org", 80), 0.05)
        assert caught.value.kind is errors.DNS_ERROR

    with_server(scenario, silent=True)


# ---- where connections may go ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Only:
    """A permission for some addresses that remembers what it was asked."""

    addresses: tuple[str, ...]
    asked: list = field(default_factory=list, compare=False)

    def refusal(self, address, port, *, here):
        self.asked.append((address, port, here))
        return None if address in self.addresses else Failure(errors.ADDRESS_REFUSED, address)


def connecting(*addresses, reach):
    """What becomes of a connect to a name with these addresses, and whether anybody was connected to."""
    listener = socket.create_server(("127.0.0.1", 0))

    async def scenario(resolver, dns, clock):
        origin = Origin("http", "some.example.org", listener.getsockname()[1], reach=reach)
        try:
            sock = await resolver.connect(origin, 2.0)
        except Failure as failure:
            return failure
        with sock:
            return sock.getpeername()[0]

    with listener:
        result = with_server(scenario, names={"some.example.org": (list(addresses), 60)})
        listener.setblocking(False)
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return result, False
        return result, True


def test_an_address_that_may_not_be_reached_gets_no_connection():
    reach = Only(())
    failure, touched = connecting("127.0.0.1", reach=reach)
    assert failure.kind is errors.ADDRESS_REFUSED
    assert not touched
    assert [(address, here) for address, _, here in reach.asked] == [("127.0.0.1", True)]


def test_of_several_addresses_those_that_may_be_reached_are_tried():
    reach = Only(("127.0.0.1",))
    assert connecting("127.0.0.2", "127.0.0.1", reach=reach) == ("127.0.0.1", True)
    # Each before it is connected to, and once more the one that was.
    assert sorted(address for address, _, _ in reach.asked) == ["127.0.0.1", "127.0.0.1", "127.0.0.2"]
    assert all(
        here for address, _, here in reach.asked if address == "127.0.0.1"
    )  # known by a probe at first, then by the connection's two ends


def test_the_address_that_is_connected_has_the_last_word():
    @dataclass(frozen=True)
    class Fickle:
        asked: list = field(default_factory=list, compare=False)

        def refusal(self, address, port, *, here):
            self.asked.append(address)
            return Failure(errors.ADDRESS_REFUSED, address) if len(self.asked) > 1 else None

    failure, _ = connecting("127.0.0.1", reach=Fickle())
    assert failure.kind is errors.ADDRESS_REFUSED


def test_other_servers_make_what_is_known_void_and_the_negative_lifetime_is_a_setting():
    async def scenario(resolver, dns, clock):
        assert await resolver.resolve("app.example.org", 80) == v4("10.0.0.1")
        resolver.configure([dns.server], 60.0)
        async with FakeNameServer({"app.example.org": (["10.0.0.2"], 30)}) as other:
            resolver.configure([other.server], 60.0)
            assert await resolver.resolve("app.example.org", 80) == v4("10.0.0.2")
            with pytest.raises(Failure):
                await resolver.resolve("no.example.org", 80)
            other.names["no.example.org"] = (["10.0.0.3"], 30)
            clock.now += 59.0
            with pytest.raises(Failure):
                await resolver.resolve("no.example.org", 80)
            later(resolver, other, clock, 2.0)
            assert await resolver.resolve("no.example.org", 80) == v4("10.0.0.3")

    with_server(scenario, names={"app.example.org": (["10.0.0.1"], 30)})
