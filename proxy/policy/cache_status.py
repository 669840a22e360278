"""Our member of the Cache-Status field: what the cache did with one request (RFC 9211).

Exactly one of `hit` and `fwd` is in it. The member is appended last to those already there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.policy.reasons import Reason

NAME = b"tandem"


def cache_status(
    reason: Reason,
    *,
    hit: bool,
    ttl: float | None = None,
    fwd_status: int | None = None,
    stored: bool = False,
    collapsed: bool = False,
    key: bytes | None = None,
    detail: str | None = None,
    name: bytes = NAME,
) -> bytes:
    """The member. `ttl`: freshness lifetime left, negative once stale; `fwd_status`: the origin's, if it differs from
    the one sent.

    `hit` is every answer given without asking onward. `key` goes only to those who may see it. `detail` replaces the
    reason's token.
    """
    parts = [name, b"hit" if hit else b"fwd=" + (reason.fwd or "miss").encode()]
    if not hit:
        if fwd_status is not None:
            parts.append(b"fwd-status=%d" % fwd_status)
        if stored:
            parts.append(b"stored")
        if collapsed:
            parts.append(b"collapsed")
    if ttl is not None:
        parts.append(b"ttl=%d" % int(ttl // 1))
    if key is not None:
        parts.append(b"key=" + _string(key))
    parts.append(b"detail=" + (detail or reason.token).encode())
    return b"; ".join(parts)


def _string(text: bytes) -> bytes:
    """A String of RFC 9651 §3.3.3; bytes that it cannot hold are percent-encoded."""
    shown = b"".join(bytes([byte]) if 0x20 <= byte < 0x7F else b"%%%02X" % byte for byte in text)
    return b'"' + shown.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
