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
    GRACE = ("grace", None)  # a rule's
    STALE_ALLOWED = ("max-stale", None)
    STALE_ON_ERROR = ("stale-on-error", None)
    CONFIGURED_BYPASS = ("configured-bypass", "bypass")
    METHOD = ("method", "method")
    BODY = ("request-body", "bypass")
    UPGRADE = ("upgrade", "bypass")
    EXPECT = ("expect", "bypass")
    NAME_UNPROVEN = ("name-unproven", "bypass")  # the Host of a connection that was going to another's address
    URI_MISS = ("uri-miss", "uri-miss")
    VARY_MISS = ("vary-miss", "vary-miss")
    REQUEST_NO_CACHE = ("request-no-cache", "request")
    REQUEST_MAX_AGE = ("request-max-age", "request")
    REQUEST_MIN_FRESH = ("request-min-fresh", "request")
    RESPONSE_NO_CACHE = ("response-no-cache", "stale")
    STALE = ("stale", "stale")
    PARTIAL = ("partial", "partial")
    ONLY_IF_CACHED = ("only-if-cached", None)
    IF_MATCH = ("if-match", "request")
    HIT_FOR_MISS = ("hit-for-miss", "miss")
    SESSION_IN_TARGET = ("session-in-target", "bypass")
    TOLD_BY_HOP = ("told-by-hop", "bypass")  # by one that passes on more inventions of its clients than keys can hold

    # Why a response was not stored: detail of the answer that brought it, RFC 9111 §3.
    STORABLE = ("storable", None)
    NOT_STORED_METHOD = ("not-stored-method", None)
    NOT_STORED_RULE = ("not-stored-rule", None)
    NOT_STORED_INTERIM = ("not-stored-interim", None)
    NOT_STORED_NOT_MODIFIED = ("not-stored-not-modified", None)
    NOT_STORED_PARTIAL = ("not-stored-partial", None)
    NOT_STORED_STATUS = ("not-stored-status", None)  # must-understand, RFC 9111 §5.2.2.3
    NOT_STORED_ERROR = ("not-stored-error", None)  # an error status without lifetime, or provoked by an unusual request
    NOT_STORED_REQUEST = ("not-stored-request-no-store", None)
    NOT_STORED_NO_STORE = ("not-stored-no-store", None)
    NOT_STORED_PRIVATE = ("not-stored-private", None)
    NOT_STORED_AUTHORIZATION = ("not-stored-authorization", None)  # RFC 9111 §3.5
    NOT_STORED_MALFORMED = ("not-stored-malformed", None)
    NOT_STORED_VARY = ("not-stored-vary", None)
    NOT_STORED_COOKIE = ("not-stored-set-cookie", None)
    NOT_STORED_SESSION = ("not-stored-session", None)
    NOT_STORED_NOTHING_SAID = ("not-stored-no-freshness", None)  # neither lifetime nor validator, or neither use
    NOT_STORED_SIZE = ("not-stored-size", None)
