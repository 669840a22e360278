"""The fake name server speaks the protocol, as judged by a resolver that is not ours."""

from __future__ import annotations

import asyncio

import aiodns
import pytest

from tests.kit.dns import FakeNameServer


def ask(server, name):
    async def main():
        async with server as dns, aiodns.DNSResolver([dns.server], timeout=0.2, tries=1) as resolver:
            return await resolver.query_dns(name, "A")

    return asyncio.run(main())


def test_it_answers_with_the_addresses_and_lifetime_it_was_given():
    server = FakeNameServer({"a.example.org": (["10.0.0.1", "fd00::1"], 7)})
    [record] = ask(server, "a.example.org").answer
    assert (record.data.addr, record.ttl) == ("10.0.0.1", 7)
    assert server.asked == {"a.example.org": 1}


def test_it_denies_a_name_that_it_does_not_know():
    with pytest.raises(aiodns.error.DNSError) as caught:
        ask(FakeNameServer(), "b.example.org")
    assert caught.value.args[0] == aiodns.error.ARES_ENOTFOUND


def test_it_can_keep_silent():
    with pytest.raises(aiodns.error.DNSError) as caught:
        ask(FakeNameServer(silent=True), "b.example.org")
    assert caught.value.args[0] == aiodns.error.ARES_ETIMEOUT
