"""ONE table of what can go wrong in an exchange: token, status, source, retry.

Status page, retry, log level, Proxy-Status (RFC 9209) and metrics all read a row of it. Foreign exceptions become
rows in `upstream/client.py` and `http/checks.py`, nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Source(Enum):
    CLIENT = "client"
    UPSTREAM = "upstream"
    PROXY = "proxy"


class Retry(Enum):
    NEVER = "never"
    IF_SAFE = "if-safe"  # no byte of an answer came: a safe request without body may be repeated once (RFC 9110 §9.2.2)
    ALWAYS = "always"  # nothing was sent: any request may go to another origin


@dataclass(frozen=True, slots=True)
class Kind:
    """One row; `token` names it in logs and metrics, `proxy_error` is the RFC 9209 §2.3 type."""

    token: str
    status: int
    proxy_error: str
    source: Source
    retry: Retry = Retry.NEVER
    close: bool = False  # the client connection cannot go on after it


KINDS: dict[str, Kind] = {}


def _row(
    token: str, status: int, proxy_error: str, source: Source, retry: Retry = Retry.NEVER, *, close: bool = False
) -> Kind:
    assert token not in KINDS
    KINDS[token] = kind = Kind(token, status, proxy_error, source, retry, close)
    return kind


# What a client sent. Framing and syntax errors close: what follows them has no certain meaning (RFC 9112 §2.2, §11.2).
BAD_REQUEST = _row("bad-request", 400, "http_request_error", Source.CLIENT, close=True)
REQUEST_TIMEOUT = _row("request-timeout", 408, "http_request_error", Source.CLIENT, close=True)
BODY_TOO_LARGE = _row("body-too-large", 413, "http_request_error", Source.CLIENT, close=True)
TARGET_TOO_LONG = _row("target-too-long", 414, "http_request_error", Source.CLIENT, close=True)
EXPECTATION_FAILED = _row("expectation-failed", 417, "http_request_error", Source.CLIENT, close=True)
HEAD_TOO_LARGE = _row("head-too-large", 431, "http_request_error", Source.CLIENT, close=True)
NOT_IMPLEMENTED = _row("not-implemented", 501, "http_request_error", Source.CLIENT, close=True)
BAD_VERSION = _row("bad-version", 505, "http_request_error", Source.CLIENT, close=True)
CLIENT_GONE = _row("client-gone", 499, "http_request_error", Source.CLIENT, close=True)  # never sent: logged only

# What we do not do.
FORBIDDEN = _row("forbidden", 403, "http_request_denied", Source.PROXY)
STRANGER = _row("client-not-served", 403, "http_request_denied", Source.PROXY, close=True)
NO_SERVER = _row("not-a-server", 400, "http_request_error", Source.CLIENT, close=True)  # asked as if it were the origin
DENIED = _row("denied", 403, "http_request_denied", Source.PROXY)  # by a rule
LOGIN = _row("login-required", 407, "http_request_denied", Source.PROXY)
MIRROR_LOGIN = _row("mirror-login-required", 401, "http_request_denied", Source.PROXY)  # asked as if it were the origin
TOO_MANY_LOGINS = _row("too-many-logins", 429, "http_request_denied", Source.PROXY, close=True)
TOO_FAST = _row("too-many-requests", 429, "http_request_denied", Source.PROXY)  # of one user or client, per second
LOGINS_BUSY = _row("logins-busy", 503, "proxy_internal_response", Source.PROXY, close=True)
PORT_REFUSED = _row("port-not-allowed", 403, "http_request_denied", Source.PROXY)
ADDRESS_REFUSED = _row("address-not-allowed", 403, "destination_ip_prohibited", Source.PROXY)
NO_METHOD = _row("method-not-allowed", 405, "http_request_denied", Source.PROXY)
READ_ONLY = _row("read-only", 405, "http_request_denied", Source.PROXY)  # a mirror
CONNECT_REFUSED = _row("connect-not-allowed", 405, "http_request_denied", Source.PROXY, close=True)
MISDIRECTED = _row("misdirected", 421, "http_request_denied", Source.PROXY)
NOT_FOUND = _row("not-found", 404, "destination_not_found", Source.PROXY)
NOT_IN_CACHE = _row("not-in-cache", 504, "http_request_denied", Source.PROXY)  # only-if-cached, RFC 9111 §5.2.1.7
LOOP = _row("loop", 508, "proxy_loop_detected", Source.PROXY)
TOO_MANY = _row("too-many-connections", 503, "connection_limit_reached", Source.PROXY, close=True)
STOPPING = _row("stopping", 503, "proxy_internal_response", Source.PROXY, close=True)
TUNNEL_IDLE = _row("tunnel-idle", 504, "connection_read_timeout", Source.PROXY, close=True)  # never sent: logged only
INTERNAL = _row("internal", 500, "proxy_internal_error", Source.PROXY, close=True)

# What an origin did or failed to do.
DNS_ERROR = _row("dns-error", 502, "dns_error", Source.UPSTREAM, Retry.ALWAYS)
CONNECT_ERROR = _row("connect-refused", 502, "connection_refused", Source.UPSTREAM, Retry.ALWAYS)
CONNECT_TIMEOUT = _row("connect-timeout", 504, "connection_timeout", Source.UPSTREAM, Retry.ALWAYS)
TLS_ERROR = _row("tls-error", 502, "tls_certificate_error", Source.UPSTREAM, Retry.ALWAYS)
NO_UPSTREAM = _row("no-upstream", 503, "destination_unavailable", Source.UPSTREAM)
UPSTREAM_BUSY = _row("upstream-busy", 503, "connection_limit_reached", Source.UPSTREAM, Retry.ALWAYS)
UPSTREAM_CLOSED = _row("upstream-closed", 502, "connection_terminated", Source.UPSTREAM, Retry.IF_SAFE)
STALE_CONNECTION = _row("stale-connection", 502, "connection_terminated", Source.UPSTREAM, Retry.IF_SAFE)
FIRST_BYTE_TIMEOUT = _row("first-byte-timeout", 504, "http_response_timeout", Source.UPSTREAM)
RESPONSE_IDLE = _row("response-idle", 504, "http_response_timeout", Source.UPSTREAM)
WHOLE_TIMEOUT = _row("whole-timeout", 504, "http_response_timeout", Source.UPSTREAM)
NOT_VALIDATED = _row("not-validated", 504, "destination_unavailable", Source.UPSTREAM)  # RFC 9111 §5.2.2.2
RESPONSE_CUT = _row("response-cut", 502, "http_response_incomplete", Source.UPSTREAM)
BAD_RESPONSE = _row("bad-response", 502, "http_protocol_error", Source.UPSTREAM)
PARENT_REFUSED = _row("parent-refused", 502, "destination_unavailable", Source.UPSTREAM)
RESPONSE_HEAD_TOO_LARGE = _row("response-head-too-large", 502, "http_response_header_section_size", Source.UPSTREAM)
UPGRADE_FAILED = _row("upgrade-failed", 502, "http_upgrade_failed", Source.UPSTREAM)


class Failure(Exception):  # noqa: N818 - an error row with the reason of this one case
    """A row of the table, with what happened this time; `detail` is for logs and never holds secrets.

    `says` is a sentence for the person who asked, `rule` what of the configuration decided, `wait` the seconds after
    which it may be different.
    """

    __slots__ = ("detail", "kind", "rule", "says", "wait")

    def __init__(self, kind: Kind, detail: str = "", *, says: str = "", rule: str = "", wait: float = 0.0) -> None:
        super().__init__(kind.token, detail)
        self.kind = kind
        self.detail = detail
        self.says = says
        self.rule = rule
        self.wait = wait
