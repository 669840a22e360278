from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.exchange import Origin
from proxy.http.message import Fields, RequestHead, ResponseHead
from proxy.http.rewriting import rewrite_cookie, rewrite_reference, rewrite_response

ORIGIN = Origin("http", "10.0.0.21", 8080)


def request(authority=b"shop.example", scheme=b"https"):
    return RequestHead(b"GET", scheme, authority, b"/", None, (1, 1), Fields())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"http://10.0.0.21:8080/a?b#c", b"https://shop.example/a?b#c"),
        (b"HTTP://10.0.0.21:8080", b"https://shop.example"),
        (b"//10.0.0.21:8080/a", b"//shop.example/a"),
        (b"http://shop.example:8080/a", b"https://shop.example/a"),
        (b"/a", b"/a"),
        (b"a", b"a"),
        (b"", b""),
        (b"https://10.0.0.21:8080/a", b"https://10.0.0.21:8080/a"),
        (b"http://10.0.0.21/a", b"http://10.0.0.21/a"),
        (b"http://10.0.0.21:80800/a", b"http://10.0.0.21:80800/a"),
        (b"http://10.0.0.210:8080/a", b"http://10.0.0.210:8080/a"),
        (b"http://u@10.0.0.21:8080/", b"http://u@10.0.0.21:8080/"),
        (b"http://other.example/?u=http://10.0.0.21:8080/", b"http://other.example/?u=http://10.0.0.21:8080/"),
        (b"mailto:a@10.0.0.21:8080", b"mailto:a@10.0.0.21:8080"),
    ],
)
@pytest.mark.rfc("9110", "10.2.2")
def test_only_the_origins_own_address_is_rewritten(value, expected):
    assert rewrite_reference(value, ORIGIN, request()) == expected


def test_the_default_port_may_be_left_out():
    origin = Origin("https", "Tomcat.internal", 443)
    assert rewrite_reference(b"https://tomcat.internal/a", origin, request()) == b"https://shop.example/a"
    assert rewrite_reference(b"https://tomcat.internal:443/a", origin, request()) == b"https://shop.example/a"


def test_a_trusted_hop_that_ends_tls_tells_the_public_scheme():
    head = ResponseHead(302, b"", Fields([(b"Location", b"http://10.0.0.21:8080/a")]))
    seen = request(scheme=b"http")
    assert rewrite_response(head, ORIGIN, seen, b"https").fields.get(b"location") == b"https://shop.example/a"
    assert rewrite_response(head, ORIGIN, seen, b"junk").fields.get(b"location") == b"http://shop.example/a"


def test_an_ipv6_origin_is_met_in_brackets():
    origin = Origin("http", "::1", 8080)
    assert rewrite_reference(b"http://[::1]:8080/a", origin, request()) == b"https://shop.example/a"


def test_the_public_address_itself_stays():
    seen = request(b"10.0.0.21:8080", b"http")
    assert rewrite_reference(b"http://10.0.0.21:8080/a", ORIGIN, seen) == b"http://10.0.0.21:8080/a"
    same_host = request(b"10.0.0.21", b"http")
    assert rewrite_reference(b"http://10.0.0.21:8080/a", ORIGIN, same_host) == b"http://10.0.0.21/a"


@pytest.mark.parametrize(
    ("value", "authority", "expected"),
    [
        (b"a=b; Domain=tomcat.internal; Path=/x", b"shop.example:81", b"a=b; Domain=shop.example; Path=/x"),
        (b"a=b;domain=.TOMCAT.internal", b"shop.example", b"a=b; Domain=shop.example"),
        (b"a=b; Domain=tomcat.internal; Secure", b"10.0.0.1", b"a=b; Secure"),
        (b"a=b; Domain=tomcat.internal", b"localhost", b"a=b"),
        (b"a=b; Domain=tomcat.internal", b"[::1]:80", b"a=b"),
        (b"a=b; Domain=other.internal", b"shop.example", b"a=b; Domain=other.internal"),
        (b"Domain=tomcat.internal", b"shop.example", b"Domain=tomcat.internal"),
        (b"a=b; Path=/", b"shop.example", b"a=b; Path=/"),
    ],
)
def test_a_cookie_for_the_origins_host_becomes_one_for_the_public_host(value, authority, expected):
    assert rewrite_cookie(value, Origin("http", "tomcat.internal", 80), request(authority)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"5; url=http://10.0.0.21:8080/a", b"5; url=https://shop.example/a"),
        (b"0;URL='http://10.0.0.21:8080/a'", b"0;URL='https://shop.example/a'"),
        (b"5", b"5"),
        (b"5; url=/a", b"5; url=/a"),
    ],
)
def test_refresh_is_rewritten(value, expected):
    head = ResponseHead(200, b"OK", Fields([(b"Refresh", value)]))
    assert rewrite_response(head, ORIGIN, request()).fields.get(b"refresh") == expected


def test_a_head_without_such_fields_is_the_same_object():
    for lines in ([(b"A", b"http://10.0.0.21:8080/")], [(b"Location", b"/a")]):
        head = ResponseHead(302, b"Found", Fields(lines))
        assert rewrite_response(head, ORIGIN, request()) is head


def test_all_fields_of_a_head_are_rewritten_in_place():
    lines = [(b"location", b"http://10.0.0.21:8080/"), (b"A", b"b"), (b"Content-Location", b"http://10.0.0.21:8080/c")]
    head = rewrite_response(ResponseHead(302, b"Found", Fields(lines)), ORIGIN, request())
    assert head.fields.lines == (
        (b"location", b"https://shop.example/"),
        (b"A", b"b"),
        (b"Content-Location", b"https://shop.example/c"),
    )
    assert (head.status, head.reason) == (302, b"Found")


@given(st.binary(max_size=40), st.sampled_from([b"Location", b"Set-Cookie", b"Refresh"]))
def test_no_value_makes_it_raise(value, name):
    for raw in (value, b"http://" + value, b"a=b; domain=" + value, b"0;url=" + value):
        rewrite_response(ResponseHead(200, b"", Fields([(name, raw)])), ORIGIN, request())
