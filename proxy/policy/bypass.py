"""Requests that a rule leaves out of the cache: by a cookie, a field or an argument that they have.

Looked at as the client sent it, before anything is dropped. Networks of clients are judged where clients are known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.policy import cookies
from proxy.policy.key import arguments
from proxy.policy.names import any_matches

if TYPE_CHECKING:
    from proxy.http.message import RequestHead
    from proxy.policy.rules import Bypassing


def asks_to_pass(request: RequestHead, conditions: Bypassing) -> bool:
    """One of the conditions holds."""
    fields = request.fields
    if conditions.cookies and b"cookie" in fields:
        there = (name for line in fields.all(b"cookie") for name, _ in cookies.pairs(line))
        if any(any_matches(conditions.cookies, name) for name in there):
            return True
    for name, value in conditions.fields:
        if name in fields and (value is None or value in fields.all(name)):
            return True
    if conditions.arguments and request.query:
        return any(
            any_matches(conditions.arguments, name) or any_matches(conditions.arguments, whole)
            for name, whole in arguments(request.query)
        )
    return False
