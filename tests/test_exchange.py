"""The record that travels down the spine, and origins as values."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.exchange import Client, Exchange, Origin, Outcome

origins = st.builds(
    Origin,
    st.sampled_from(["http", "https"]),
    st.sampled_from(["a.test", "10.0.0.1", "2001:db8::1"]),
    st.integers(1, 65535),
    route=st.sampled_from(["", "t1"]),
    weight=st.integers(1, 3),
)


@given(origins, origins)
def test_origins_are_equal_by_all_that_was_configured_and_hash_alike_then(one, other):
    same = (one.scheme, one.host, one.port, one.route, one.weight) == (
        other.scheme,
        other.host,
        other.port,
        other.route,
        other.weight,
    )
    assert (one == other) is same
    if same:
        assert hash(one) == hash(other)


def test_an_address_has_brackets_around_an_ipv6_literal():
    assert Origin("http", "10.0.0.1", 80).address == "10.0.0.1:80"
    assert Origin("https", "2001:db8::1", 443).address == "[2001:db8::1]:443"


def test_an_exchange_begins_with_nothing_decided_and_shares_nothing_with_others():
    client = Client("192.0.2.1", 1, ("198.51.100.1", 80), b"http")
    one, other = (Exchange(client, None, None, None, 1.0, 2.0) for _ in range(2))
    one.status, one.sent, one.done = 200, 5, True
    assert (other.status, other.sent, other.done, other.outcome) == (0, 0, False, Outcome.MISS)
    assert other.producer is other.reusable is other.failure is other.plan is None
