"""The data plane in a thread serves like a worker, and its time is a number."""

from __future__ import annotations

import pytest

from tests.kit import raw
from tests.kit.inproc import Clock, Stack
from tests.kit.origin import FakeOrigin, response
from tests.kit.proxy import reverse


def test_it_answers_from_origin_and_store_and_ages_only_when_told():
    with FakeOrigin() as origin, Stack(reverse(origin.address), clock=Clock()) as stack:
        origin.otherwise(response(b"hi", "Cache-Control: max-age=60", f"Date: {stack.date()}"))
        assert raw.get(stack.at).get("age") is None
        assert raw.get(stack.at).get("age") == "0"
        stack.advance(5)
        assert raw.get(stack.at).get("age") == "5"
        assert len(origin.requests) == 1
        assert stack.counters()['tandem_requests_total{outcome="hit"}'] == 2
        assert len(stack.log_lines()) == 3


def test_what_the_loop_complains_of_fails_the_test():
    def fail():
        raise ValueError("nobody catches this")

    with pytest.raises(AssertionError, match="nobody catches this"), Stack(reverse("127.0.0.1:9")) as stack:
        stack.call(lambda: stack.front.loop.call_soon(fail))
