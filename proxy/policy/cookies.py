"""The cookies of a request, one by one: which travel and count, which are part of the key (RFC 6265 §4.2.1, §5.4).

A Cookie field is cut at `;`, as no value can hold one. Names compare byte for byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.http.message import Fields
from proxy.policy.names import any_matches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.http.message import Line
    from proxy.policy.rules import CacheRules


def pairs(value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, the pair as it stands) of each cookie in one Cookie line."""
    for part in value.split(b";"):
        pair = part.strip(b" \t")
        if pair:
            yield pair.partition(b"=")[0].rstrip(b" \t"), pair


def counting(fields: Fields, rules: CacheRules) -> Fields:
    """The request's fields with the cookies that travel under these rules; without Cookie where none is left."""
    if b"cookie" not in fields:
        return fields
    if rules.ignore_cookies:
        return fields.without((b"cookie",))
    if not rules.drop_cookies and not rules.keep_cookies:
        return fields
    lines: list[Line] = []
    for line in fields.lines:
        if line[0].lower() != b"cookie":
            lines.append(line)
            continue
        here = list(pairs(line[1]))
        kept = [pair for name, pair in here if not is_dropped(name, rules)]
        if kept:
            lines.append(line if len(kept) == len(here) else (line[0], b"; ".join(kept)))
    return Fields(lines)


def is_dropped(name: bytes, rules: CacheRules) -> bool:
    """A cookie of this name does not travel."""
    if rules.ignore_cookies or any_matches(rules.drop_cookies, name):
        return True
    return bool(rules.keep_cookies) and not any_matches(rules.keep_cookies, name)


def values(fields: Fields, name: bytes) -> bytes | None:
    """The pairs of this name, `;` between them: who sends two may mean either. None where there is none."""
    found = [pair for line in fields.all(b"cookie") for own, pair in pairs(line) if own == name]
    return b";".join(found) if found else None


def are_personal(fields: Fields, rules: CacheRules) -> bool:
    """There are cookies that are not part of the key: the answer may be for one person."""
    if b"cookie" not in fields or rules.ignore_cookies:
        return False
    keyed = rules.key_cookies
    return not keyed or any(name not in keyed for line in fields.all(b"cookie") for name, _ in pairs(line))
