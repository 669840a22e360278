"""The table of errors: each row is whole, and says what RFC 9209 and RFC 9110 have a word for."""

import pytest

from proxy import errors
from proxy.errors import Failure, Retry, Source

# RFC 9209 §2.3: the proxy error types that a row may name.
TYPES = {
    "connection_limit_reached",
    "connection_read_timeout",
    "connection_refused",
    "connection_terminated",
    "connection_timeout",
    "destination_ip_prohibited",
    "destination_not_found",
    "destination_unavailable",
    "dns_error",
    "http_protocol_error",
    "http_request_denied",
    "http_request_error",
    "http_response_header_section_size",
    "http_response_incomplete",
    "http_response_timeout",
    "http_upgrade_failed",
    "proxy_internal_error",
    "proxy_internal_response",
    "proxy_loop_detected",
    "tls_certificate_error",
}
ROWS = list(errors.KINDS.values())


@pytest.mark.parametrize("kind", ROWS, ids=lambda kind: kind.token)
def test_a_row_is_whole(kind):
    assert errors.KINDS[kind.token] is kind
    assert kind.token == kind.token.lower().replace("_", "-")
    assert 400 <= kind.status <= 599
    assert kind.proxy_error in TYPES


@pytest.mark.parametrize("kind", ROWS, ids=lambda kind: kind.token)
def test_only_what_an_origin_did_is_tried_again(kind):
    """What a client sent, or what we refuse, does not get better elsewhere."""
    if kind.source is not Source.UPSTREAM:
        assert kind.retry is Retry.NEVER


@pytest.mark.parametrize("kind", ROWS, ids=lambda kind: kind.token)
def test_whatever_leaves_the_framing_in_doubt_closes(kind):
    """RFC 9112 §2.2, §11.2: behind a message that could not be read nothing has a certain meaning."""
    if kind.source is Source.CLIENT:
        assert kind.close


def test_a_failed_connect_and_a_lost_answer_are_told_apart():
    """RFC 9110 §9.2.2: nothing was sent before a connect; behind it only safe requests may be repeated."""
    assert {kind.token for kind in ROWS if kind.retry is Retry.ALWAYS} == {
        "dns-error",
        "connect-refused",
        "connect-timeout",
        "tls-error",
        "upstream-busy",
    }
    assert [kind.token for kind in ROWS if kind.retry is Retry.IF_SAFE] == ["upstream-closed", "stale-connection"]


def test_a_failure_is_a_row_with_what_happened():
    failure = Failure(errors.CONNECT_ERROR, "10.0.0.1:80: refused")
    assert (failure.kind.status, failure.detail) == (502, "10.0.0.1:80: refused")
    assert "connect-refused" in str(failure)
