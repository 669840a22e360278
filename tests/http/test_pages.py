"""Answers of our own say what went wrong in general and nothing of the request."""

import pytest

from proxy.errors import KINDS, Failure
from proxy.http.pages import error_page, reason_phrase

DATE = b"Fri, 15 Jan 2027 08:00:00 GMT"


def page(kind, pages=None, detail='<script>alert("detail")</script>'):
    return error_page(Failure(kind, detail), name=b"tandem", date=DATE, pages=pages)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_row_of_the_table_has_a_page_that_no_store_keeps_and_no_browser_guesses_at(kind):
    head, body = page(kind)
    assert (head.status, head.reason) == (kind.status, reason_phrase(kind.status))
    assert head.fields.get(b"cache-control") == b"no-store"
    assert head.fields.get(b"x-content-type-options") == b"nosniff"
    assert head.fields.get(b"content-type") == b"text/html; charset=utf-8"
    assert head.fields.get(b"date") == DATE
    assert kind.token.encode() in body
    assert str(kind.status).encode() in body


@pytest.mark.rfc("9209", "2.3")
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_kind_of_failure_is_told_as_a_token(kind):
    head, _ = page(kind)
    assert head.fields.get(b"proxy-status") == b"tandem; error=" + kind.proxy_error.encode()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_happened_this_time_is_for_logs_alone(kind):
    head, body = page(kind)
    assert b"script" not in body
    assert all(b"script" not in value for _, value in head.fields.lines)


def test_a_site_has_its_own_page_for_a_status_and_ours_for_the_others():
    own = {503: b"<h1>back soon</h1>"}
    assert page(KINDS["no-upstream"], own)[1] == b"<h1>back soon</h1>"
    assert page(KINDS["response-cut"], own)[1] != b"<h1>back soon</h1>"


@pytest.mark.rfc("9110", "15.5.6")
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_who_is_told_that_a_method_is_not_allowed_is_told_which_are(kind):
    assert (page(kind)[0].fields.get(b"allow") is not None) == (kind.status == 405)


def test_heads_say_nothing_of_framing():
    head, _ = page(KINDS["no-upstream"])
    assert not {b"content-length", b"transfer-encoding", b"connection"} & set(head.fields.names())


@pytest.mark.parametrize(
    ("status", "phrase"), [(200, b"OK"), (404, b"Not Found"), (504, b"Gateway Timeout"), (499, b"")]
)
def test_phrases_are_those_of_the_standard_or_none(status, phrase):
    assert reason_phrase(status) == phrase
