"""Purges as they come from an operator, turned into what the store does; pure but for the store.

A URL is purged under every key it may have been stored by: sites differ in what they leave out of it. Addresses are
compared as keys are made (RFC 3986 §6.2.2), so `HTTP://Shop:80/%7ea` finds `http://shop/~a`.
"""

from __future__ import annotations

import re
from fnmatch import translate
from typing import TYPE_CHECKING, assert_never

from proxy.errors import Failure
from proxy.http.checks import parse_authority
from proxy.http.message import Fields, RequestHead
from proxy.policy import key as keys

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from proxy import bus
    from proxy.cache.store import Store
    from proxy.http.stored import StoredResponse
    from proxy.policy.rules import CacheRules

_URL = re.compile(r"(?i)(https?)://([^/?#]+)(/[^?#]*)?(?:\?([^#]*))?")


class BadPurgeError(ValueError):
    """What was given is no address that could have been stored; the text says why."""


def apply_purge(store: Store, purge: bus.Purge, rules: Sequence[CacheRules], beside: Collection[bytes] = ()) -> int:
    """How many stored responses went, or would go; raises BadPurgeError. `beside`: what keys may end in
    (planning.py).
    """
    if purge.kind == "url" and not purge.dry_run and not any(rule.many_keys for rule in rules):
        found = [key + end for key in keys_of(purge.value, rules, beside) for end in (b"", *beside)]
        return sum(store.purge_key(key, soft=purge.soft) for key in found)
    if purge.kind == "tag":
        tag = purge.value.encode()
        matches: Callable[[StoredResponse], bool] = lambda stored: tag in stored.tags  # noqa: E731 - beside its sister
    else:
        concerned = touches(purge, rules, beside)
        matches = lambda stored: concerned(stored.key)  # noqa: E731 - beside its sister
    if purge.dry_run:
        return sum(map(matches, store))
    return store.purge_match(matches, soft=purge.soft)


def touches(purge: bus.Purge, rules: Iterable[CacheRules], beside: Collection[bytes] = ()) -> Callable[[bytes], bool]:
    """Whether what is stored under a key, or still on its way there, may be concerned; tags are not told by the key."""
    match purge.kind:
        case "url":
            wanted = keys_of(purge.value, rules, beside)
            return lambda key: key.partition(b"\n")[0] in wanted
        case "prefix":
            prefix = _key_prefix(purge.value)
            return lambda key: keys.url_of(key).startswith(prefix)
        case "match":
            pattern = re.compile(translate(purge.value).encode())
            return lambda key: pattern.match(keys.url_of(key)) is not None
        case "key":
            whole = purge.value.encode()
            return lambda key: key.partition(b"\n")[0] == whole
        case "tag" | "all":
            return lambda _: True
        case unreachable:
            assert_never(unreachable)


def keys_of(url: str, rules: Iterable[CacheRules], beside: Collection[bytes] = ()) -> frozenset[bytes]:
    """The keys a URL may be stored under, without what a configuration or a trusted hop adds."""
    request = _request(url)
    asked = [request]
    if beside and request.scheme == b"https":  # a hop that ends TLS asks under http for what its clients know as https
        asked.append(RequestHead(b"GET", b"http", request.authority, request.path, request.query, (1, 1), Fields()))
    plain = {keys.uri_key(one.scheme, one.authority, one.path, one.query) for one in asked}
    return frozenset(plain | {keys.primary_key(one, rule).partition(b"\n")[0] for rule in rules for one in asked})


def _request(url: str) -> RequestHead:
    found = _URL.fullmatch(url)
    if found is None:
        raise BadPurgeError(f"{url!r} is no http or https address")
    scheme = found[1].lower().encode()
    try:
        authority = parse_authority(found[2].encode("idna" if not found[2].isascii() else "ascii"), scheme)
    except (Failure, UnicodeError) as problem:
        raise BadPurgeError(f"{url!r} has no valid host") from problem
    query = found[4].encode() if found[4] is not None else None
    return RequestHead(b"GET", scheme, authority, (found[3] or "/").encode(), query, (1, 1), Fields())


def _key_prefix(url: str) -> bytes:
    request = _request(url)
    return keys.uri_key(request.scheme, request.authority, request.path, request.query)
