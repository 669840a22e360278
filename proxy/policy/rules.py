"""What the configuration says about caching on one route, as the policy needs it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueryRules:
    """How a query is brought into one spelling, in the key and in what is sent; names may be patterns."""

    sort: bool = False  # by name, those of one name as they came
    drop: tuple[bytes, ...] = ()
    keep: tuple[bytes, ...] = ()  # the only ones that stay, if any are named


@dataclass(frozen=True, slots=True)
class Bypassing:
    """A request with one of these goes past the cache, as it came."""

    cookies: tuple[bytes, ...] = ()  # names or patterns
    fields: tuple[tuple[bytes, bytes | None], ...] = ()  # lower-case name; None: any value
    arguments: tuple[bytes, ...] = ()  # `name` or `name=value`, or patterns of either


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
    key_cookies: tuple[bytes, ...] = ()  # cookies whose values are part of the key
    device: bool = False  # the device's class is part of the key, and the origin is told
    query: QueryRules | None = None
    drop_cookies: tuple[bytes, ...] = ()  # patterns of cookies that do not travel
    keep_cookies: tuple[bytes, ...] = ()  # of the only ones that do, if any are named
    bypass: Bypassing | None = None
    space: bytes = b""  # stands before the URL in keys: what came another way is another thing
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
    min_ttl: float | None = None  # least lifetime, where the origin gives a shorter one and does not insist; seconds
    min_ttl_of: frozenset[int] = frozenset()  # statuses that `min_ttl` is for; none: those that a rule's `ttl` is for
    max_ttl: float | None = None  # greatest lifetime; seconds
    grace: float = 0.0  # seconds past freshness in which one fetch renews what answers meanwhile, if the origin allows
    refresh_ahead: float = 0.0  # seconds before the end of freshness in which a hit renews it in the background
    hit_for_miss: float = 120.0  # seconds for which unstorable answers are expected (Varnish's default)

    @property
    def many_keys(self) -> bool:
        """A URI has several keys: further lines behind that of the URI itself."""
        return bool(self.key_fields or self.key_cookies)

    @property
    def tailors(self) -> bool:
        """What the cache sees, or what travels, is not the request as it came."""
        return bool(self.ignore_cookies or self.drop_cookies or self.keep_cookies or self.device or self.query)
