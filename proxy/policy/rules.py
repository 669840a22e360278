"""What the configuration says about caching on one route, as the policy needs it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheRules:
    enabled: bool = True  # may be stored and reused at all
    ttl: float | None = None  # lifetime where the origin gives none; seconds
    ignore_cookies: bool = False  # Cookie did not travel, Set-Cookie is left out
    set_cookie: str = "store"  # store | strip | skip
    session_cookies: frozenset[bytes] = frozenset()
    session_arguments: frozenset[bytes] = (
        frozenset()
    )  # lower-case names of path parameters and query arguments with a session id
    drop_session_from_key: bool = False  # the tomcat preset: `;jsessionid=` is not part of the key
    key_fields: tuple[
        bytes, ...
    ] = ()  # request fields let through by configuration, which therefore are part of the key
    honour_request: bool = True  # obey the client's Cache-Control
    trust_age: bool = False  # Age alone makes the initial age
    stale_on_error: float = 86400.0  # seconds past freshness
    max_object: int = 64 * 2**20  # bytes
    targeted: tuple[bytes, ...] = (
        b"tandem-cache-control",
        b"cdn-cache-control",
    )  # RFC 9213 §2.1: the first valid one governs
    surrogate: bool = False  # Surrogate-Control is heard, after the targeted fields
    status_ttl: tuple[
        tuple[int, float], ...
    ] = ()  # (status, lifetime) where the origin gives none: negative caching; seconds
    ignore_reload: bool = False  # a fresh `immutable` response answers the client's no-cache and max-age=0 (RFC 8246)
    partial: bool = False  # 206 responses may be stored as what they are (RFC 9111 §3.3)
    # Fields that stay in the store, since they govern what is stored, but are left out of every answer to a client.
    hidden_fields: frozenset[bytes] = frozenset()
