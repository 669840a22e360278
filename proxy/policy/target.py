"""What an operator names: an address, all addresses that match a pattern, the tags in a PURGE.

Addresses are compared as keys are made (RFC 3986 §6.2.2), so `HTTP://Shop:80/%7ea` means `http://shop/~a`. A pattern is
held against every stored address, so it never takes more than time linear in that (regex.py, and globs without
backtracking).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from config.patterns import covers_host
from proxy.errors import Failure
from proxy.http.checks import parse_authority
from proxy.http.message import Fields, RequestHead
from proxy.policy import key as keys
from proxy.policy.regex import BadRegexError, Regex

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from proxy.policy.rules import CacheRules

LONGEST_PATTERN: Final = 1024
LONGEST_TAG: Final = 1024
_URL = re.compile(r"(?i)(https?)://([^/?#]+)(/[^?#]*)?(?:\?([^#]*))?")
# Where a PURGE says which tags it means, as in the field that brought them, or as other caches are told.
_TAG_FIELDS: Final = (b"surrogate-key", b"xkey", b"xkey-purge", b"cache-tag", b"xkey-softpurge")
_SOFT_FIELDS: Final = (b"tandem-soft-purge", b"fastly-soft-purge")


class BadTargetError(ValueError):
    """What was given names nothing that could have been stored; the text says why, and how it is written."""


# ---- addresses -------------------------------------------------------------------------------------------------------


def parse_url(url: str, method: bytes = b"GET", fields: Fields | None = None) -> RequestHead:
    """The request for this address, without any field of its own. Raises BadTargetError."""
    found = _URL.fullmatch(url)
    if found is None:
        raise BadTargetError(f"{url!r} is no http or https address; one is http://shop.example.org/path?query")
    path, query = found[3] or "/", found[4]
    said = path + (query or "")
    if not said.isascii() or not said.isprintable() or " " in said:
        raise BadTargetError(f"{url!r}: an address has printable ASCII without blanks; percent-encode the rest")
    scheme = found[1].lower().encode()
    try:
        authority = parse_authority(found[2].encode("idna" if not found[2].isascii() else "ascii"), scheme)
    except (Failure, UnicodeError) as problem:
        raise BadTargetError(f"{url!r} has no valid host") from problem
    asked = query.encode() if query is not None else None
    return RequestHead(method, scheme, authority, path.encode(), asked, (1, 1), fields or Fields())


def keys_of(url: str, rules: Iterable[CacheRules], beside: Collection[bytes] = ()) -> frozenset[bytes]:
    """The keys an address may be stored under, without what a configuration or a trusted hop adds (`beside`).

    Raises BadTargetError.
    """
    request = parse_url(url)
    asked = [request]
    if beside and request.scheme == b"https":  # a hop that ends TLS asks under http for what its clients know as https
        asked.append(RequestHead(b"GET", b"http", request.authority, request.path, request.query, (1, 1), Fields()))
    plain = {keys.uri_key(one.scheme, one.authority, one.path, one.query) for one in asked}
    return frozenset(plain | {bare(keys.primary_key(one, rule)) for rule in rules for one in asked})


def key_prefix(url: str) -> bytes:
    """What the keys of all addresses begin with that begin with this one. Raises BadTargetError."""
    request = parse_url(url)
    return keys.uri_key(request.scheme, request.authority, request.path, request.query)


def bare(key: bytes) -> bytes:
    """A key without the fields that a configuration or a trusted hop adds."""
    return key.partition(b"\n")[0]


def place_of(key: bytes) -> bytes:
    """What stands before the path in a key: its space, scheme and authority."""
    before, mark, rest = key.partition(b"://")
    return before + mark + rest.partition(b"/")[0]


def authority_of(key: bytes) -> bytes:
    return place_of(key).partition(b"://")[2]


# ---- patterns --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pattern:
    """Addresses by host and path. `host`: a name, `*.` with a name, or `*`; with a port it means that port only.

    Then a glob, whose `*` is any text, of the path (of path and query if it has a `?`), or an expression that is looked
    for in path and query.
    """

    host: str
    with_query: bool = False
    regex: Regex | None = None
    pieces: tuple[bytes, ...] = ()

    def matches(self, key: bytes) -> bool:
        """The pattern says so of the address in this key."""
        _, _, rest = keys.url_of(key).partition(b"://")
        authority, _, target = rest.partition(b"/")
        if self.host != "*" and not self._has_host(authority.decode("ascii", "replace")):
            return False
        target = b"/" + target
        if self.regex is not None:
            return self.regex.search(target)
        return glob_fits(target if self.with_query else target.partition(b"?")[0], self.pieces)

    def _has_host(self, authority: str) -> bool:
        name, colon, port = self.host.rpartition(":")
        if colon and port.isdigit():
            found, _, its = authority.rpartition(":")
            return its == port and (name == "*" or covers_host(name, found))
        bare = re.sub(r":[0-9]+$", "", authority)
        return covers_host(self.host, bare)


def parse_pattern(text: str) -> Pattern:
    """`HOST/GLOB`, `/GLOB`, `HOST~REGEX` or `~REGEX`. Raises BadTargetError."""
    if not text or len(text) > LONGEST_PATTERN or not text.isascii() or not text.isprintable():
        raise BadTargetError(f"a pattern has 1 to {LONGEST_PATTERN} printable ASCII characters")
    found = re.fullmatch(r"(?i)(?:https?://)?([^/~]*)([/~])(.*)", text)
    if found is None:
        raise BadTargetError(
            f"pattern {text!r}: write host/glob (`shop.example.org/images/*`), /glob for every host, "
            "or host~regex (`shop.example.org~^/images/[0-9]+$`), ~regex for every host"
        )
    host = found[1].lower() or "*"
    if not re.fullmatch(r"(\*|(\*\.)?([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])\.?)(:[0-9]{1,5})?", host):
        raise BadTargetError(
            f"pattern {text!r}: the host is a name, `*.` with a name, or `*`, each perhaps with a port"
        )
    if found[2] == "~":
        try:
            return Pattern(host, regex=Regex(found[3]))
        except BadRegexError as problem:
            raise BadTargetError(str(problem)) from problem
    pieces = tuple(re.sub(rb"\*+", b"*", b"/" + found[3].encode()).split(b"*"))
    return Pattern(host, with_query="?" in found[3], pieces=pieces)


def glob_fits(text: bytes, pieces: tuple[bytes, ...]) -> bool:
    """Each piece is looked for at its first place: a later one would only leave less for the next (no backtracking)."""
    first, *others = pieces
    if not others:
        return first == text
    *middle, last = others
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for piece in middle:
        at = text.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True


# ---- tags ------------------------------------------------------------------------------------------------------------


def check_tag(tag: str) -> str:
    """The tag, if one could be so. Raises BadTargetError."""
    if not tag or len(tag) > LONGEST_TAG or not tag.isprintable() or tag != tag.strip():
        raise BadTargetError(f"tag {tag!r}: a tag has 1 to {LONGEST_TAG} printable characters, and no blanks around it")
    return tag


def tags_asked(request: RequestHead) -> tuple[str, ...]:
    """The tags that a PURGE means, in the fields that other caches know for it; none: its address is meant."""
    fields = request.fields
    tags = [
        tag
        for name in _TAG_FIELDS
        for value in fields.all(name)
        for tag in (value.replace(b",", b" ") if name == b"cache-tag" else value).split()
    ]
    return tuple(dict.fromkeys(tag.decode("latin-1") for tag in tags))


def asks_soft(request: RequestHead) -> bool:
    """A PURGE that only makes stale."""
    fields = request.fields
    return b"xkey-softpurge" in fields or any(fields.get(name) == b"1" for name in _SOFT_FIELDS)
