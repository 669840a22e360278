"""Heads and stored responses in one line each, for the tests of the policy.

Time starts at NOW (wall) and 0 (monotonic).
"""

from __future__ import annotations

from proxy.http.fields import format_date
from proxy.http.message import Fields, RequestHead, ResponseHead
from proxy.http.stored import Body
from proxy.policy import key, storing
from proxy.policy.rules import CacheRules

NOW = 1_800_000_000.0
RULES = CacheRules()
TOMCAT = CacheRules(
    session_cookies=frozenset({b"JSESSIONID"}), session_arguments=frozenset({b"jsessionid"}), drop_session_from_key=True
)


def date(offset=0):
    return format_date(NOW + offset)


def lines(texts):
    return Fields(
        tuple((name.encode(), value.strip().encode("latin-1")) for name, _, value in (t.partition(":") for t in texts))
    )


def get(*fields, target="/a", method="GET", authority=b"example.org"):
    path, mark, query = target.encode().partition(b"?")
    return RequestHead(method.encode(), b"http", authority, path, query if mark else None, (1, 1), lines(fields))


def reply(*fields, status=200):
    return ResponseHead(status, b"", lines(fields))


def decided(*fields, request=None, rules=RULES, status=200, delay=0.0, variants=()):
    """Store or NoStore of a response to `request`, which took `delay` seconds."""
    return storing.decide_store(
        request or get(),
        reply(*fields, status=status),
        rules,
        request_time=NOW - delay,
        response_time=NOW,
        variants=variants,
    )


def kept(*fields, request=None, rules=RULES, status=200, body=b"0123456789", received=0.0, variants=()):
    """The stored response of it, which must be storable."""
    request = request or get()
    store = decided(*fields, request=request, rules=rules, status=status, variants=variants)
    assert isinstance(store, storing.Store), store
    return storing.build_stored(
        store, key.primary_key(request, rules), Body([body], complete=True), len(body), received
    )


def names(head):
    return [name.decode().lower() for name, _ in head.fields.lines]
