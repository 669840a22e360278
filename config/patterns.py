"""What one pattern of a rule says about another: covers it, overlaps it, or neither. Pure.

Path patterns have `*` for any characters and nothing else; host patterns may begin with `*.` for all names below.
"""

from __future__ import annotations

import re

_ANY = "\0"  # stands for whatever a `*` of the inner pattern may be: no pattern holds it, so only a `*` matches it


def covers_path(outer: str, inner: str) -> bool:
    """Each path that `inner` matches is matched by `outer` too."""
    # `*` of the outer one takes a fresh character just as any other: what it takes can then be replaced by anything.
    return _matches(outer, inner.replace("*", _ANY))


def overlaps_path(one: str, other: str) -> bool:
    """There is a path that both match."""
    if "*" not in one:
        return _matches(other, one)
    if "*" not in other:
        return _matches(one, other)
    # Both can stretch: only what stands before the first and after the last star can contradict.
    before, before_other = one.split("*", 1)[0], other.split("*", 1)[0]
    after, after_other = one.rsplit("*", 1)[1], other.rsplit("*", 1)[1]
    heads = before.startswith(before_other) or before_other.startswith(before)
    return heads and (after.endswith(after_other) or after_other.endswith(after))


def covers_host(outer: str, inner: str) -> bool:
    """Each host that `inner` matches is matched by `outer` too."""
    outer, inner = outer.lower(), inner.lower()
    return outer == inner or (outer.startswith("*.") and inner.removeprefix("*").endswith(outer[1:]))


def overlaps_host(one: str, other: str) -> bool:
    """There is a host that both match: host patterns are nested or apart."""
    return covers_host(one, other) or covers_host(other, one)


def _matches(pattern: str, text: str) -> bool:
    """The pattern, whose stars take anything, matches the whole text. Linear in each piece, without backtracking."""
    first, *pieces = re.sub(r"\*+", "*", pattern).split("*")
    if not pieces:
        return first == text
    last = pieces.pop()
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for piece in pieces:
        at = text.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True
