"""Why the cache did what it did: one enum, three uses (log field, metric label, Cache-Status detail)."""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """token, and for answers that were forwarded the RFC 9211 §2.2 `fwd` value."""

    def __init__(self, token: str, fwd: str | None) -> None:
        self.token = token
        self.fwd = fwd

    FRESH = ("fresh", None)
    STALE_WHILE_REVALIDATE = ("stale-while-revalidate", None)
    STALE_ALLOWED = ("max-stale", None)
    STALE_ON_ERROR = ("stale-on-error", None)
    CONFIGURED_BYPASS = ("configured-bypass", "bypass")
    METHOD = ("method", "method")
    BODY = ("request-body", "bypass")
    UPGRADE = ("upgrade", "bypass")
    EXPECT = ("expect", "bypass")
    URI_MISS = ("uri-miss", "uri-miss")
    VARY_MISS = ("vary-miss", "vary-miss")
    REQUEST_NO_CACHE = ("request-no-cache", "request")
    REQUEST_MAX_AGE = ("request-max-age", "request")
    REQUEST_MIN_FRESH = ("request-min-fresh", "request")
    REQUEST_RANGE = ("request-range", "miss")
    RESPONSE_NO_CACHE = ("response-no-cache", "stale")
    STALE = ("stale", "stale")
    PARTIAL = ("partial", "partial")
    ONLY_IF_CACHED = ("only-if-cached", None)
    IF_MATCH = ("if-match", "request")
    HIT_FOR_MISS = ("hit-for-miss", "miss")
