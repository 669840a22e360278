"""Exchanges that have ended, for the tests of this room: by hand, and any by hypothesis."""

from hypothesis import strategies as st

from proxy import errors
from proxy.errors import Failure
from proxy.exchange import Client, Exchange, Outcome, Route
from proxy.http.message import Fields, RequestHead, ResponseHead
from proxy.policy.reasons import Reason
from proxy.policy.rules import CacheRules


class NoWriter:
    """The writer of an exchange that is over."""


def client(address="192.0.2.7", port=40000):
    return Client(address, port, ("198.51.100.1", 80), b"http")


def ended(**changes):
    """A hit of /a?b=1 on the site shop, but for what `changes` says of its head or of the exchange."""
    head = {"method": b"GET", "scheme": b"http", "authority": b"shop.example.org", "path": b"/a", "query": b"b=1"}
    head |= {name: changes.pop(name) for name in tuple(changes) if name in head}
    fields = Fields(changes.pop("fields", ((b"Host", b"shop.example.org"), (b"User-Agent", b"curl/8"))))
    x = Exchange(
        changes.pop("client", client()),
        RequestHead(**head, version=changes.pop("version", (1, 1)), fields=fields),
        None,
        NoWriter(),
        started=100.0,
        wall=1_700_000_000.0,
        route=Route("shop", "", "shop", CacheRules()),
        outcome=Outcome.HIT,
        reason=Reason.FRESH,
        status=200,
        sent=1024,
    )
    for name, value in changes.items():
        setattr(x, name, value)
    return x


text = st.binary(max_size=40) | st.sampled_from(
    [b'"', b"\\", b"\r\n", b"\x1b[2J", b"%s%n%(client)s", b"\xe2\x80\xa8", b" ", b"{status}"]
)
clients = st.builds(client, st.sampled_from(["192.0.2.7", "2001:db8::7", "unix"]), st.integers(0, 65535))
field_lines = st.lists(
    st.tuples(st.sampled_from([b"User-Agent", b"Referer", b"Cookie", b"Authorization", b"If-None-Match"]), text),
    max_size=4,
).map(tuple)
failures = st.none() | st.builds(Failure, st.sampled_from(list(errors.KINDS.values())), st.text(max_size=20))
responses = st.none() | st.builds(lambda value: ResponseHead(200, b"OK", Fields(((b"Content-Type", value),))), text)
exchanges = st.builds(
    ended,
    client=clients,
    method=text,
    path=text,
    query=st.none() | text,
    authority=text,
    fields=field_lines,
    version=st.sampled_from([(1, 0), (1, 1)]),
    outcome=st.sampled_from(list(Outcome)),
    reason=st.none() | st.sampled_from(list(Reason)),
    status=st.integers(0, 999),
    sent=st.integers(0, 2**40),
    received=st.integers(0, 2**40),
    upstream=st.sampled_from(["", "10.0.0.1:8080", "[2001:db8::1]:80"]),
    remote=st.sampled_from(["", "203.0.113.9", 'evil"\n%s']),
    failure=failures,
    response=responses,
    site=st.sampled_from(["", "shop", "other"]),
    route=st.none()
    | st.sampled_from(["shop", "blog", "nowhere"]).map(lambda name: Route(name, "r", "p", CacheRules())),
)
