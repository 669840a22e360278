"""What requests to the admin API ask: questions to workers, or a sentence about what is wrong.

Pure. What may not be asked is never sent to a worker.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import msgspec

from proxy import bus
from proxy.http.serialise import request_line
from proxy.policy import target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MOST_LISTED: Final = 1000  # rows of an answer


class PurgeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /v1/purge: exactly one of url, prefix, tag, match and all."""

    url: str = ""
    prefix: str = ""
    tag: str = ""  # Cache-Tag, Surrogate-Key, xkey, or the name of a group (RFC 9875)
    match: str = ""  # as policy/target.py reads it
    all: bool = False
    site: str = ""  # nothing but what this site's names reach
    dry_run: bool = False
    hard: bool = False  # remove; without it responses stay and are validated before their next use

    @property
    def target(self) -> tuple[bus.PurgeKind, str]:
        """What to purge. Raises ValueError with a sentence."""
        if [bool(self.url), bool(self.prefix), bool(self.tag), bool(self.match), self.all].count(True) != 1:
            raise ValueError("give one of url, prefix, tag, match and all")
        if self.tag:
            return "tag", target.check_tag(self.tag)
        if self.match:
            target.parse_pattern(self.match)
            return "match", self.match
        if self.all:
            return "all", ""
        target.parse_url(self.url or self.prefix)
        return ("url", self.url) if self.url else ("prefix", self.prefix)


decode_purge = msgspec.json.Decoder(PurgeRequest).decode


def explain_question(query: Mapping[str, str]) -> bus.Explain:
    """What the query of /v1/explain asks. Raises ValueError with a sentence."""
    known = {"url", "method", "from", "header", "to", "user"}
    if unknown := sorted(set(query) - known):
        raise ValueError(f"unknown: {', '.join(unknown)}; there are url, method, from, header, to and user")
    fields = tuple(_field(text) for text in query.getall("header", ()))  # type: ignore[attr-defined]  # a MultiDict
    method, url, client = query.get("method", "GET"), query.get("url", ""), query.get("from", "127.0.0.1")
    target.parse_url(url)
    ip_address(client)
    request_line(method.encode("latin-1", "replace"), b"/")
    return bus.Explain(url, method, fields, client, query.get("to", ""), query.get("user", ""))


RANKS: Final[dict[bus.Sort, Callable[[dict[str, Any]], float]]] = {
    "size": lambda row: row["weight"],
    "hits": lambda row: row["uses"],
    "age": lambda row: row["age"],
    "ttl": lambda row: -row["ttl"],
}


def list_question(query: Mapping[str, str]) -> bus.List:
    """What the query of /v1/cache asks. Raises ValueError with a sentence."""
    kinds: tuple[bus.PurgeKind, ...] = ("url", "prefix", "tag", "match")
    if unknown := sorted(set(query) - {*kinds, "site", "sort", "limit", "full"}):
        raise ValueError(f"unknown: {', '.join(unknown)}; there are {', '.join(kinds)}, site, sort, limit and full")
    chosen = [kind for kind in kinds if query.get(kind)]
    if len(chosen) > 1:
        raise ValueError(f"give one of {', '.join(kinds)}")
    kind: bus.PurgeKind = chosen[0] if chosen else "all"
    value = query.get(kind, "")
    if kind in {"url", "prefix"}:
        target.parse_url(value)
    elif kind == "match":
        target.parse_pattern(value)
    sort = query.get("sort", "hits")
    if sort not in RANKS:
        raise ValueError(f"sort is one of {', '.join(RANKS)}")
    return bus.List(kind, value, query.get("site", ""), sort, parse_limit(query.get("limit", "20")), "full" in query)


def parse_limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= MOST_LISTED:
        raise ValueError(f"limit is a number up to {MOST_LISTED}")
    return int(text)


def _field(text: str) -> tuple[str, str]:
    """`Name: value`. Raises ValueError."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError(f"header {text!r}: write `Name: value`")
    return name.strip(), value.strip()
