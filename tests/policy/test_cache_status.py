"""Our member of Cache-Status: X1 to X3."""

from __future__ import annotations

import pytest

from proxy.http.structured import parse_list
from proxy.policy.cache_status import cache_status
from proxy.policy.reasons import Reason


@pytest.mark.rfc("9211", "2")
def test_a_hit_tells_the_lifetime_left():
    """X1, X2."""
    assert cache_status(Reason.FRESH, hit=True, ttl=12.9) == b"tandem; hit; ttl=12; detail=fresh"
    assert cache_status(Reason.STALE_ON_ERROR, hit=True, ttl=-0.2) == b"tandem; hit; ttl=-1; detail=stale-on-error"


@pytest.mark.rfc("9211", "2.2")
def test_what_was_forwarded_tells_why():
    """X2, X3."""
    assert cache_status(Reason.URI_MISS, hit=False) == b"tandem; fwd=uri-miss; detail=uri-miss"
    told = cache_status(
        Reason.STALE, hit=False, fwd_status=304, stored=True, collapsed=True, ttl=60, key=b'http://a/"\n'
    )
    assert told == b'tandem; fwd=stale; fwd-status=304; stored; collapsed; ttl=60; key="http://a/\\"%0A"; detail=stale'
    assert cache_status(Reason.METHOD, hit=False, detail="no-upstream") == b"tandem; fwd=method; detail=no-upstream"


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("hit", [True, False])
def test_the_member_is_structured_and_has_one_of_hit_and_fwd(reason, hit):
    """X1."""
    text = cache_status(reason, hit=hit, key=b"http://example.org/\xff\\")
    assert parse_list(text) == ["tandem"]
    assert (b"; hit" in text) is not (b"; fwd=" in text)
