"""Each reason has its sentence; what is written of a stored response are its own numbers."""

from __future__ import annotations

import re

import pytest

from proxy.policy import grounds
from proxy.policy.reasons import Reason
from tests.policy.heads import NOW, RULES, get, kept


@pytest.mark.parametrize("reason", list(Reason), ids=lambda reason: reason.token)
def test_every_reason_is_told_in_a_sentence_with_its_section(reason):
    says, rfc = grounds.SAYS[reason]
    assert says
    assert not rfc or all(re.fullmatch(r"RFC \d{4} §\d+(\.\d+)*", one) for one in rfc.split(", "))


def test_a_stored_response_is_told_with_its_sums():
    stored = kept("Cache-Control: max-age=60", "Age: 5", 'ETag: "e"', "Vary: Accept-Language")
    told = grounds.describe_variant(stored, 10.0, RULES, get("Accept-Language: de"))
    sums = told["freshness"]
    assert (sums["lifetime_said"], sums["age"], sums["remaining"]) == ("Cache-Control: max-age=60", 15, 45)
    assert told["vary"] == [{"field": "accept-language", "stored": None, "request": "de", "same": False}]
    assert (told["status"], told["etag"], told["matches"]) == (200, '"e"', False)
    assert "request" not in grounds.describe_variant(stored, 10.0)["vary"][0]


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("Tandem-Cache-Control: max-age=9", "Tandem-Cache-Control: max-age=9"),
        ("Cache-Control: s-maxage=9", "Cache-Control: s-maxage=9"),
        ("Expires: Thu, 01 Jan 2060 00:00:00 GMT", "Expires: Thu, 01 Jan 2060 00:00:00 GMT"),
        ("Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT", "Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT"),
    ],
)
def test_the_field_that_gave_the_lifetime_is_told_as_it_came(field, said):
    assert grounds.freshness_of(kept(field), 0.0, RULES)["lifetime_said"] == said


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (("Cache-Control: no-cache, max-age=0",), "Cache-Control says no-cache, max-age=0"),
        (("Pragma: no-cache",), "Pragma, in the absence of Cache-Control, says no-cache"),
        (("Cache-Control: unknown",), None),
        ((), None),
    ],
)
def test_what_the_request_asks_of_caches_is_told(fields, says):
    steps = grounds.request_steps(get(*fields), RULES)
    assert [one["says"] for one in steps] == ([f"the request's {says}"] if says else [])


@pytest.mark.parametrize(
    ("field", "word"),
    [("A: b", "be stored"), ("Cache-Control: no-store", "no-store"), ("Authorization: x", "Authorization")],
)
def test_whether_an_answer_would_be_stored_is_asked_of_who_decides(field, word):
    assert word in grounds.storing_step(get(field), RULES, NOW)["says"]
