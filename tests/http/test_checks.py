"""Raw heads through the C parser and the checks: what is refused, with its nearest legal neighbours."""

from __future__ import annotations

import contextlib
import random
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from config.schema import Limits
from proxy.errors import KINDS, Failure, Source
from proxy.http.checks import Framing, classify_parse_error, parse_authority
from proxy.http.message import Fields
from proxy.http.serialise import field_bytes, request_line
from tests.kit.heads import LIMITS, read_request, read_response

BIG = 2**64 - 1


def get(target=b"/", *lines, method=b"GET", version=b"HTTP/1.1", host=b"Host: a.example"):
    return b"\r\n".join([b" ".join((method, target, version)), *([host] if host else []), *lines, b"", b""])


def post(*lines, **options):
    return get(b"/", *lines, method=b"POST", **options)


def status_of(raw, **options):
    try:
        read_request(raw, **options)
    except Failure as failure:
        row = failure.kind
    else:
        return 0
    assert row.source in {Source.CLIENT, Source.PROXY}
    return row.status


# name, head, status (0: passes)
REQUESTS = [
    # the request line
    ("plain", get(), 0),
    ("1.0", get(version=b"HTTP/1.0"), 0),
    ("0.9", get(version=b"HTTP/0.9"), 505),
    ("simple request", b"GET /\r\n\r\n", 505),
    ("2.0", get(version=b"HTTP/2.0"), 505),
    ("1.2", get(version=b"HTTP/1.2"), 505),
    ("3.0", get(version=b"HTTP/3.0"), 505),
    ("11.1", get(version=b"HTTP/11.1"), 505),
    ("rtsp", get(version=b"RTSP/1.0"), 505),
    ("rtsp method", get(method=b"DESCRIBE", version=b"RTSP/1.0"), 505),
    ("rtsp method over http", get(method=b"DESCRIBE"), 501),
    ("icecast", get(method=b"SOURCE", version=b"ICE/1.0"), 505),
    ("icecast method", get(method=b"SOURCE"), 501),
    ("http/2 preface", b"PRI * HTTP/2.0\r\n\r\n", 505),
    ("lower-case version", get(version=b"http/1.1"), 400),
    ("blank after version", get(version=b"HTTP/1.1 "), 400),
    ("two blanks before the target", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("two blanks after the target", b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("blank first", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("tab", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("empty line first", b"\r\n" + get(), 0),
    ("bare LF first", b"\n" + get(), 400),
    ("bare LF after the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    ("bare CR", b"GET / HTTP/1.1\r\nHost: a\rA: b\r\n\r\n", 400),
    ("unknown method", get(method=b"BAN"), 501),
    ("lower-case method", get(method=b"get"), 501),
    ("method that is no token", get(method=b"G@T"), 400),
    ("method with colon", get(method=b"GET:"), 400),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
    ("purge", get(method=b"PURGE"), 0),
    ("webdav", get(method=b"PROPFIND"), 0),
    # fields
    ("obs-fold", get(b"/", b"A: b", b" c"), 400),
    ("fold on the first field", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    ("blank before the colon", get(b"/", b"A : b"), 400),
    ("name that is no token", get(b"/", b"A B: c"), 400),
    ("no colon", get(b"/", b"A"), 400),
    ("empty name", get(b"/", b": b"), 400),
    ("NUL in a value", get(b"/", b"A: b\x00c"), 400),
    ("DEL in a value", get(b"/", b"A: b\x7fc"), 400),
    ("tab in a value", get(b"/", b"A: b\tc"), 0),
    ("high bytes in a value", get(b"/", b"A: \xe4\xff"), 0),
    ("empty value", get(b"/", b"A:"), 0),
    ("no Host", get(host=None), 400),
    ("two Hosts", get(b"/", b"Host: a.example"), 400),
    ("no Host in 1.0 and no default", get(host=None, version=b"HTTP/1.0"), 400),
    ("two Hosts in 1.0", get(b"/", b"Host: a.example", version=b"HTTP/1.0"), 400),
    ("Authorization twice", get(b"/", b"Authorization: a b", b"Authorization: a b"), 400),
    ("Cookie twice", get(b"/", b"Cookie: a=b", b"Cookie: c=d"), 0),
    ("Accept twice", get(b"/", b"Accept: a/b", b"Accept: c/d"), 0),
    # Host, RFC 3986 §3.2.2
    ("Host with port", get(host=b"Host: a.example:8080"), 0),
    ("Host with empty port", get(host=b"Host: a.example:"), 0),
    ("Host is IPv4", get(host=b"Host: 127.0.0.1"), 0),
    ("Host is IPv6", get(host=b"Host: [::1]:80"), 0),
    ("Host is a future address", get(host=b"Host: [v1.a:b]"), 0),
    ("Host with escape", get(host=b"Host: %61.example"), 0),
    ("Host with underscore", get(host=b"Host: a_b"), 0),
    ("Host empty", get(host=b"Host:"), 400),
    ("Host is only a port", get(host=b"Host: :80"), 400),
    ("Host with blank", get(host=b"Host: a b"), 400),
    ("Host is a list", get(host=b"Host: a, b"), 400),
    ("Host is a list without blank", get(host=b"Host: a,b"), 400),
    ("Host with userinfo", get(host=b"Host: u@a"), 400),
    ("Host with path", get(host=b"Host: a/b"), 400),
    ("Host with scheme", get(host=b"Host: http://a"), 400),
    ("Host with high byte", get(host=b"Host: \xe4"), 400),
    ("Host with broken escape", get(host=b"Host: %6"), 400),
    ("Host with port 0", get(host=b"Host: a:0"), 400),
    ("Host with port 65535", get(host=b"Host: a:65535"), 0),
    ("Host with port 65536", get(host=b"Host: a:65536"), 400),
    ("Host with long port", get(host=b"Host: a:000080"), 400),
    ("Host with signed port", get(host=b"Host: a:+80"), 400),
    ("Host with two ports", get(host=b"Host: a:80:80"), 400),
    ("Host is bare IPv6", get(host=b"Host: ::1"), 400),
    ("Host is broken IPv6", get(host=b"Host: [::1"), 400),
    ("Host is no IPv6", get(host=b"Host: [1:2]"), 400),
    ("Host with zone", get(host=b"Host: [fe80::1%25eth0]"), 400),
    ("Host with backslash", get(host=b"Host: a\\b"), 400),
    # targets
    ("query", get(b"/a?b=c&d?/:@"), 0),
    ("empty query", get(b"/?"), 0),
    ("all of pchar", get(b"/-._~!$&'()*+,;=:@%2f%2F"), 0),
    ("double slash", get(b"//a//b"), 0),
    ("dot segments", get(b"/a/../b/./c"), 0),
    ("fragment", get(b"/a#b"), 400),
    ("broken escape", get(b"/%"), 400),
    ("broken escape 2", get(b"/%4"), 400),
    ("broken escape 3", get(b"/%zz"), 400),
    ("broken escape in the query", get(b"/?%u0041"), 400),
    ("brackets", get(b"/?a[0]=b"), 400),
    ("quote", get(b'/"'), 400),
    ("backslash", get(b"/a\\b"), 400),
    ("braces", get(b"/{a}"), 400),
    ("bar", get(b"/a|b"), 400),
    ("caret", get(b"/a^b"), 400),
    ("backtick", get(b"/a`b"), 400),
    ("angles", get(b"/<a>"), 400),
    ("high byte", get(b"/\xc3\xa4"), 400),
    ("control byte", get(b"/\x01"), 400),
    ("no slash", get(b"a"), 400),
    ("asterisk", get(b"*", method=b"OPTIONS"), 0),
    ("asterisk for GET", get(b"*"), 400),
    ("absolute", get(b"http://b.example/c?d"), 0),
    ("absolute, scheme in capitals", get(b"HTTP://b.example/"), 0),
    ("absolute without path", get(b"http://b.example"), 0),
    ("absolute without path, with query", get(b"http://b.example?c"), 0),
    ("absolute with port", get(b"http://b.example:81/"), 0),
    ("absolute with empty port", get(b"http://b.example:/"), 0),
    ("absolute beside an empty Host", get(b"http://b.example/", host=b"Host:"), 400),
    ("absolute with other scheme", get(b"ftp://b.example/"), 400),
    ("absolute with https in clear", get(b"https://b.example/"), 400),
    ("absolute with userinfo", get(b"http://u:p@b.example/"), 400),
    ("absolute with empty userinfo", get(b"http://@b.example/"), 400),
    ("absolute without authority", get(b"http:///a"), 400),
    ("absolute with fragment", get(b"http://b.example/#a"), 400),
    ("absolute with broken port", get(b"http://b.example:x/"), 400),
    ("absolute with port 0", get(b"http://b.example:0/"), 400),
    ("absolute with port 99999", get(b"http://b.example:99999/"), 400),
    ("absolute with backslash", get(b"http://b.example\\@c/"), 400),
    ("opaque", get(b"http:b"), 400),
    ("CONNECT", get(b"a:443", method=b"CONNECT"), 405),
    ("CONNECT to anything", get(b"foo/bar", method=b"CONNECT"), 405),
    ("TRACE", get(method=b"TRACE"), 405),
    # framing
    ("length", post(b"Content-Length: 3"), 0),
    ("length 0", post(b"Content-Length: 0"), 0),
    ("length with zeros", post(b"Content-Length: 0003"), 0),
    ("length 2^62", post(b"Content-Length: %d" % 2**62), 0),
    ("length 2^62 + 1", post(b"Content-Length: %d" % (2**62 + 1)), 413),
    ("length that reads as none", post(b"Content-Length: %d" % BIG), 413),
    ("length over 2^64", post(b"Content-Length: %d" % (BIG + 1)), 413),
    ("length of 30 digits, twice", post(b"Content-Length: " + b"9" * 30, b"Content-Length:3"), 413),
    ("length empty", post(b"Content-Length:"), 400),
    ("length signed", post(b"Content-Length: +3"), 400),
    ("length negative", post(b"Content-Length: -3"), 400),
    ("length with underscore", post(b"Content-Length: 1_0"), 400),
    ("length in hex", post(b"Content-Length: 0x3"), 400),
    ("length with blank", post(b"Content-Length: 3 3"), 400),
    ("length list", post(b"Content-Length: 3, 3"), 400),
    ("length twice", post(b"Content-Length: 3", b"Content-Length: 3"), 400),
    ("length in other digits", post("Content-Length: ٣".encode()), 400),
    ("chunked", post(b"Transfer-Encoding: chunked"), 0),
    ("chunked, capital", post(b"Transfer-Encoding: Chunked"), 0),
    ("chunked and length", post(b"Transfer-Encoding: chunked", b"Content-Length: 3"), 400),
    ("length and chunked", post(b"Content-Length: 3", b"Transfer-Encoding: chunked"), 400),
    ("chunked twice", post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
    ("chunked in 1.0", post(b"Transfer-Encoding: chunked", version=b"HTTP/1.0"), 400),
    ("gzip in 1.0", post(b"Transfer-Encoding: gzip, chunked", version=b"HTTP/1.0"), 400),
    ("gzip, chunked", post(b"Transfer-Encoding: gzip, chunked"), 501),
    ("gzip", post(b"Transfer-Encoding: gzip"), 400),
    ("identity", post(b"Transfer-Encoding: identity"), 400),
    ("empty member", post(b"Transfer-Encoding: , chunked"), 501),
    ("chunked with parameter", post(b"Transfer-Encoding: chunked;a=b"), 400),
    ("chunked not last", post(b"Transfer-Encoding: chunked, gzip"), 400),
    ("chunked in quotes", post(b'Transfer-Encoding: "chunked"'), 400),
    ("vertical tab before chunked", post(b"Transfer-Encoding: \x0bchunked"), 400),
    ("blank before the colon of TE", post(b"Transfer-Encoding : chunked"), 400),
    ("a name like TE", post(b"Transfer_Encoding: chunked"), 0),
    ("GET with body", get(b"/", b"Content-Length: 3"), 0),
    # Expect
    ("expect", post(b"Content-Length: 3", b"Expect: 100-Continue"), 0),
    ("expect twice", post(b"Content-Length: 3", b"Expect: 100-continue", b"Expect: 100-continue"), 0),
    ("unknown expectation", post(b"Content-Length: 3", b"Expect: 200-ok"), 417),
    ("one of two unknown", post(b"Content-Length: 3", b"Expect: 100-continue, a=b"), 417),
    # limits
    ("long target", get(b"/" + b"a" * (16 * 1024 - 14)), 0),
    ("too long a line", get(b"/" + b"a" * (16 * 1024 - 13)), 414),
    ("too long a target", get(b"/" + b"a" * 20000), 414),
    ("long field", get(b"/", b"A: " + b"b" * (16 * 1024 - 1)), 0),
    ("too long a field", get(b"/", b"A: " + b"b" * 16 * 1024), 431),
    ("too long a name", get(b"/", b"A" * 17000 + b": b"), 431),
    ("100 fields", get(b"/", *[b"A: b"] * 99), 0),
    ("101 fields", get(b"/", *[b"A: b"] * 100), 431),
    ("big head", get(b"/", *[b"A: " + b"b" * 15000] * 4), 0),
    ("too big a head", get(b"/", *[b"A: " + b"b" * 15000] * 5), 431),
]


@pytest.mark.parametrize(("raw", "status"), [row[1:] for row in REQUESTS], ids=[row[0] for row in REQUESTS])
@pytest.mark.rfc("9112", "11.2")
def test_a_head_is_refused_with_its_status_or_passes(raw, status):
    assert status_of(raw) == status


@pytest.mark.parametrize("raw", [row[1] for row in REQUESTS if row[2] == 0][:40:4])
def test_no_part_of_a_head_is_a_request(raw):
    """The empty line before a request apart, whatever is cut off makes a head that is refused."""
    first = 2 if raw.startswith(b"\r\n") else 0
    for cut in range(first, len(raw)):
        assert status_of(raw[:cut]) >= 400


@pytest.mark.parametrize(
    ("mode", "scheme", "target", "method", "status"),
    [
        ("forward", b"http", b"http://a/", b"GET", 0),
        ("forward", b"https", b"http://a/", b"GET", 0),
        ("forward", b"https", b"https://a/", b"GET", 400),
        ("forward", b"http", b"/", b"GET", 0),  # asked of the proxy itself
        ("forward", b"http", b"*", b"OPTIONS", 0),
        ("forward", b"http", b"a:443", b"CONNECT", 0),
        ("forward", b"http", b"[::1]:443", b"CONNECT", 0),
        ("forward", b"http", b"a", b"CONNECT", 400),
        ("forward", b"http", b"a:", b"CONNECT", 400),
        ("forward", b"http", b"a:0", b"CONNECT", 400),
        ("forward", b"http", b"a:443/", b"CONNECT", 400),
        ("forward", b"http", b"u@a:443", b"CONNECT", 400),
        ("forward", b"http", b"foo/bar", b"CONNECT", 400),
        ("forward", b"http", b"http://a/", b"CONNECT", 400),
        ("transparent", b"http", b"/", b"GET", 0),
        ("transparent", b"http", b"http://a/", b"GET", 400),
        ("transparent", b"http", b"a:443", b"CONNECT", 405),
        ("reverse", b"https", b"https://a/", b"GET", 0),
        ("reverse", b"https", b"http://a/", b"GET", 400),
    ],
)
@pytest.mark.rfc("9112", "3.2")
def test_each_mode_takes_its_forms_of_target(mode, scheme, target, method, status):
    assert status_of(get(target, method=method), mode=mode, scheme=scheme) == status


@pytest.mark.parametrize("line", [b"Content-Length: 1", b"Transfer-Encoding: chunked"])
def test_trace_and_connect_have_no_body(line):
    assert status_of(get(b"a:443", line, method=b"CONNECT"), mode="forward") == 400
    assert status_of(get(b"/", line, method=b"TRACE"), allow_trace=True) == 400
    assert status_of(get(b"/", method=b"TRACE"), allow_trace=True) == 0


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        (b"/a?b", b"Example.ORG:80", (b"http", b"example.org", b"/a", b"b")),
        (b"/a", b"Example.org:0443", (b"http", b"example.org:443", b"/a", None)),
        (b"/?", b"[::A]:", (b"http", b"[::a]", b"/", b"")),
        (b"http://B.example:80?c", b"a", (b"http", b"b.example", b"/", b"c")),
        (b"http://b.example/%7e", b"a", (b"http", b"b.example", b"/%7e", None)),
    ],
)
@pytest.mark.rfc("9110", "7.1")
def test_scheme_authority_path_and_query_are_what_the_target_says(target, host, expected):
    head = read_request(get(target, host=b"Host: " + host)).head
    assert (head.scheme, head.authority, head.path, head.query) == expected


def test_the_authority_of_the_target_replaces_host():
    assert read_request(get(b"http://b.example/")).head.fields.all(b"host") == [b"b.example"]


def test_options_in_absolute_form_without_path_means_the_server():
    assert read_request(get(b"http://a", method=b"OPTIONS")).head.target == b"*"


HOSTS = [
    (b"example.org", b"example.org"),
    (b"EXAMPLE.org.", b"example.org"),
    (b"a_b.example-1.org", b"a_b.example-1.org"),
    (b"intranet", b"intranet"),
    (b"1.2.3.4", b"1.2.3.4"),
    (b"255.255.255.255", b"255.255.255.255"),
    (b"1.example", b"1.example"),
    (b"0xa.example", b"0xa.example"),
    (b"[2001:DB8:0:0::1]", b"[2001:db8::1]"),
    (b"[::FFFF:1.2.3.4]", b"[::ffff:102:304]"),
    (b"x" * 63 + b".org", b"x" * 63 + b".org"),
]
ODD_HOSTS = [
    b"",
    b".",
    b"example.org..",
    b".example.org",
    b"a..b",
    b"x" * 64 + b".org",
    b".".join([b"x" * 63] * 4) + b".org",
    b"127.1",
    b"127.0.1",
    b"2130706433",
    b"0x7f000001",
    b"0x7f.0.0.1",
    b"0177.0.0.1",
    b"127.0.0.01",
    b"00.0.0.0",
    b"256.1.1.1",
    b"1.2.3.4.5",
    b"1.2.3.4..",
    b"127.0.0.0x1",
    b"a.0x",
    b"a.1",
    b"127%2e0.0.1",
    b"%31.2.3.4",
    b"ex%61mple.org",
    b"[::1%25lo]",
    b"[::1%lo]",
    b"[fe80::1%eth0]",
    b"[v1.x]",
    b"[127.0.0.1]",
    b"::1",
    b"user@example.org",
    b"user:pass@example.org",
    b"example.org:",
    b"exa!mple.org",
    b"a,b",
    b"a;b",
    b"b\xc3\xbccher.example",
    b"localhost#",
]


@pytest.mark.parametrize(("host", "spelt"), HOSTS)
def test_a_proxy_knows_a_host_in_one_spelling(host, spelt):
    head = read_request(get(b"http://%b/" % host), mode="forward").head
    assert head.authority == spelt
    assert head.fields.all(b"host") == [spelt]
    assert read_request(get(host + b":443", method=b"CONNECT"), mode="forward").head.authority == spelt + b":443"


@pytest.mark.parametrize("host", ODD_HOSTS)
def test_a_proxy_refuses_what_some_resolver_would_take_for_an_address(host):
    if host != b"example.org:":  # an empty port is the default one in a URL (RFC 3986 §3.2.3)
        assert status_of(get(b"http://%b/" % host), mode="forward") == 400
    assert status_of(get(b"%b:443" % host, method=b"CONNECT"), mode="forward") == 400


@pytest.mark.parametrize("port", [b"0", b"65536", b"99999", b"123456", b"-1", b"+80", b"80a", b" 80", b"0x50"])
def test_a_proxy_refuses_odd_ports(port):
    assert status_of(get(b"http://example.org:%b/" % port), mode="forward") == 400
    assert status_of(get(b"example.org:%b" % port, method=b"CONNECT"), mode="forward") == 400


def test_host_says_nothing_beside_an_absolute_target():
    head = read_request(get(b"http://right.example/", host=b"Host: wrong.example"), mode="forward").head
    assert (head.authority, head.fields.all(b"host")) == (b"right.example", [b"right.example"])


def test_without_a_scheme_it_is_asked_of_the_proxy_itself():
    assert read_request(get(b"/wpad.dat", host=b"Host: wpad"), mode="forward").head.scheme == b""
    assert read_request(get(b"*", host=b"Host: wpad", method=b"OPTIONS"), mode="forward").head.scheme == b""
    assert read_request(get(b"http://a/"), mode="forward").head.scheme == b"http"


def test_connect_keeps_its_port():
    head = read_request(get(b"A.example:443", method=b"CONNECT"), mode="forward").head
    assert (head.authority, head.path, head.query) == (b"a.example:443", b"", None)


def test_a_1_0_request_without_host_is_for_the_default():
    raw = get(host=None, version=b"HTTP/1.0")
    assert read_request(raw, default_authority=b"Shop.example").head.authority == b"shop.example"
    absolute = get(b"http://b.example/", host=None, version=b"HTTP/1.0")
    assert read_request(absolute).head.authority == b"b.example"


def test_a_site_may_have_characters_encoded():
    head = read_request(get(b'/"<>\\^`{|}?"<>\\^`{|}'), encode_target=True).head
    assert head.target == b"/%22%3C%3E%5C%5E%60%7B%7C%7D?%22%3C%3E%5C%5E%60%7B%7C%7D"
    for target in (b"/%zz", b"/a#b", b"/a[b", b"/%zz{"):
        assert status_of(get(target), encode_target=True) == 400


def test_framing_is_told():
    def framing(*lines):
        checked = read_request(post(*lines))
        return checked.content_length, checked.chunked, checked.has_body

    assert framing() == (None, False, False)
    assert framing(b"Content-Length: 007") == (7, False, True)
    assert framing(b"Content-Length: 0") == (0, False, False)
    assert framing(b"Transfer-Encoding: chunked") == (None, True, True)
    assert status_of(post(b"Content-Length: 8"), max_body=7) == 413
    assert status_of(post(b"Content-Length: 7"), max_body=7) == 0


@pytest.mark.rfc("9110", "10.1.1")
def test_who_waits_for_100_is_told():
    assert read_request(post(b"Content-Length: 3", b"Expect: 100-continue")).expect_continue
    assert not read_request(post(b"Content-Length: 0", b"Expect: 100-continue")).expect_continue
    assert not read_request(post(b"Content-Length: 3", b"Expect: 100-continue", version=b"HTTP/1.0")).expect_continue


@pytest.mark.parametrize(
    ("version", "connection", "mode", "keeps"),
    [
        (b"HTTP/1.1", b"", "reverse", True),
        (b"HTTP/1.1", b"Close", "reverse", False),
        (b"HTTP/1.1", b"keep-alive, close", "reverse", False),
        (b"HTTP/1.1", b"x, ,y", "reverse", True),
        (b"HTTP/1.0", b"", "reverse", False),
        (b"HTTP/1.0", b"Keep-Alive", "reverse", True),
        (b"HTTP/1.0", b"Keep-Alive", "transparent", False),
    ],
)
@pytest.mark.rfc("9112", "9.3")
def test_whether_the_connection_may_go_on(version, connection, mode, keeps):
    assert read_request(get(b"/", b"Connection: " + connection, version=version), mode=mode).keep_alive is keeps


def upgrade_of(*lines, **options):
    raw = get(b"/", *lines, **options)
    return read_request(raw).upgrade


UPGRADE = (b"Connection: Upgrade", b"Upgrade: WebSocket")


@pytest.mark.rfc("9110", "7.8")
def test_an_upgrade_wants_a_permitted_protocol_get_1_1_and_no_body():
    assert upgrade_of(*UPGRADE) == b"websocket"
    assert upgrade_of(b"Connection: keep-alive, upgrade", b"Upgrade: h2c, websocket") == b"websocket"
    assert upgrade_of(b"Upgrade: websocket") is None
    assert upgrade_of(b"Connection: upgrade", b"Upgrade: h2c", b"HTTP2-Settings: AAA") is None
    assert upgrade_of(*UPGRADE, version=b"HTTP/1.0") is None
    assert upgrade_of(*UPGRADE, method=b"POST") is None
    assert upgrade_of(*UPGRADE, b"Content-Length: 3") is None
    assert read_request(get(b"/", *UPGRADE), upgrades=frozenset()).upgrade is None


@pytest.mark.rfc("9110", "7.6.1")
def test_hop_by_hop_fields_and_those_named_by_connection_are_out_of_the_head():
    raw = get(
        b"/",
        b"Connection: X-Mine, close",
        b"connection: TE, Authorization",
        b"X-Mine: 1",
        b"TE: trailers",
        b"Keep-Alive: 1",
        b"Proxy-Connection: close",
        b"Proxy-Authorization: Basic YTpi",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAA",
        b"Trailer: A",
        b"Proxy: http://evil",
        b"Authorization: Basic YTpi",
        b"X-Yours: 2",
    )
    checked = read_request(raw)
    assert set(checked.head.fields.names()) == {b"host", b"x-yours"}
    assert checked.credentials == b"Basic YTpi"


def test_connection_cannot_name_away_what_a_message_or_a_cache_lives_by():
    names = [b"Host", b"Cache-Control", b"Range", b"If-None-Match", b"Content-Type", b"X-Forwarded-For", b"Via"]
    raw = get(b"/", b"Connection: " + b",".join(names), *[name + b": 1" for name in names[1:]])
    assert [name for name, _ in read_request(raw).head.fields.lines] == names


@pytest.mark.parametrize(
    ("name", "stays"),
    [
        (b"X_Forwarded_For", False),
        (b"X-Forwarded_For", False),
        (b"X_FORWARDED_PROTO", False),
        (b"Content_Length", False),
        (b"Transfer_Encoding", False),
        (b"X_Real_IP", False),
        (b"Remote_User", False),
        (b"X_Original_URL", False),
        (b"Some_Field", True),
        (b"_", True),
    ],
)
def test_names_that_could_be_taken_for_others_are_out_of_the_head(name, stays):
    assert (name.lower() in read_request(get(b"/", name + b": 1")).head.fields) is stays


@pytest.mark.rfc("9110", "7.6.2")
def test_max_forwards_counts_for_trace_and_options_alone():
    assert read_request(get(b"/", b"Max-Forwards: 3", method=b"OPTIONS")).max_forwards == 3
    assert read_request(get(b"/", b"Max-Forwards: x")).max_forwards is None
    assert status_of(get(b"/", b"Max-Forwards: x", method=b"OPTIONS")) == 400
    assert status_of(get(b"/", b"Max-Forwards: 9999999999", method=b"OPTIONS")) == 400


def test_authorities_longer_than_names_are_read_and_not_remembered():
    assert parse_authority(b"A" * 400 + b":80", b"http") == b"a" * 400


# ---- responses -------------------------------------------------------------------------------------------------------


def answer(*lines, status=b"200 OK", version=b"HTTP/1.1"):
    return b"\r\n".join([version + b" " + status, *lines, b"", b""])


RESPONSES = [
    ("plain", answer(), True),
    ("1.0", answer(version=b"HTTP/1.0"), True),
    ("no reason", answer(status=b"200"), True),
    ("empty reason", answer(status=b"200 "), True),
    ("high bytes in the reason", answer(status=b"200 \xe4"), True),
    ("unknown status", answer(status=b"599 x"), True),
    ("status over 599", answer(status=b"999 x"), True),
    ("status 099", answer(status=b"099 x"), False),
    ("status 000", answer(status=b"000 x"), False),
    ("status of four digits", answer(status=b"2000 x"), False),
    ("control byte in the reason", answer(status=b"200 a\x01"), False),
    ("DEL in the reason", answer(status=b"200 a\x7f"), False),
    ("tab in the reason", answer(status=b"200 a\tb"), True),
    ("2.0", answer(version=b"HTTP/2.0"), False),
    ("0.9", answer(version=b"HTTP/0.9"), False),
    ("1.2", answer(version=b"HTTP/1.2"), False),
    ("icecast", answer(version=b"ICE/1.0"), False),
    ("rtsp", answer(version=b"RTSP/1.0"), False),
    ("empty line first", b"\r\n" + answer(), False),
    ("two blanks", b"HTTP/1.1  200 OK\r\n\r\n", False),
    ("length", answer(b"Content-Length: 3"), True),
    ("length that reads as none", answer(b"Content-Length: %d" % BIG), False),
    ("length 2^62", answer(b"Content-Length: %d" % 2**62), True),
    ("length signed", answer(b"Content-Length: +3"), False),
    ("length list", answer(b"Content-Length: 3, 3"), False),
    ("length twice", answer(b"Content-Length: 3", b"Content-Length: 3"), False),
    ("length and chunked", answer(b"Content-Length: 3", b"Transfer-Encoding: chunked"), False),
    ("chunked", answer(b"Transfer-Encoding: Chunked"), True),
    ("chunked twice", answer(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), False),
    ("gzip", answer(b"Transfer-Encoding: gzip"), False),
    ("gzip, chunked", answer(b"Transfer-Encoding: gzip, chunked"), False),
    ("empty member", answer(b"Transfer-Encoding: , chunked"), False),
    ("identity", answer(b"Transfer-Encoding: identity"), False),
    ("chunked in 1.0", answer(b"Transfer-Encoding: chunked", version=b"HTTP/1.0"), False),
    ("obs-fold", answer(b"A: b", b" c"), False),
    ("control byte", answer(b"A: \x01"), False),
    ("blank before the colon", answer(b"A : b"), False),
    ("bare LF", b"HTTP/1.1 200 OK\nA: b\r\n\r\n", False),
    ("101 not asked for", answer(b"Connection: upgrade", b"Upgrade: websocket", status=b"101 x"), False),
    ("200 fields", answer(*[b"A: b"] * 200), True),
    ("201 fields", answer(*[b"A: b"] * 201), False),
    ("big head", answer(b"A: " + b"b" * 120 * 1024), True),
    ("too big a head", answer(*[b"A: " + b"b" * 70 * 1024] * 2), False),
    ("too big a field", answer(b"A: " + b"b" * 140 * 1024), False),
]


@pytest.mark.parametrize(("raw", "passes"), [row[1:] for row in RESPONSES], ids=[row[0] for row in RESPONSES])
@pytest.mark.rfc("9112", "11.2")
def test_a_response_head_passes_or_is_502(raw, passes):
    if passes:
        read_response(raw)
    else:
        with pytest.raises(Failure) as caught:
            read_response(raw)
        assert caught.value.kind.status == 502


@pytest.mark.parametrize(
    ("method", "status", "lines", "framing", "length"),
    [
        (b"GET", b"200 OK", [b"Content-Length: 3"], Framing.LENGTH, 3),
        (b"GET", b"200 OK", [b"Content-Length: 0"], Framing.LENGTH, 0),
        (b"GET", b"200 OK", [b"Transfer-Encoding: chunked"], Framing.CHUNKED, None),
        (b"GET", b"200 OK", [], Framing.CLOSE, None),
        (b"HEAD", b"200 OK", [b"Content-Length: 3"], Framing.NONE, 3),
        (b"HEAD", b"200 OK", [b"Transfer-Encoding: chunked"], Framing.NONE, None),
        (b"HEAD", b"200 OK", [], Framing.NONE, None),
        (b"GET", b"304 x", [b"Content-Length: 3"], Framing.NONE, 3),
        (b"GET", b"204 x", [], Framing.NONE, None),
        (b"GET", b"103 x", [], Framing.NONE, None),
        (b"CONNECT", b"200 OK", [b"Content-Length: 3"], Framing.NONE, None),
        (b"CONNECT", b"407 x", [b"Content-Length: 3"], Framing.LENGTH, 3),
    ],
)
@pytest.mark.rfc("9112", "6.3")
def test_how_the_body_of_a_response_ends(method, status, lines, framing, length):
    checked = read_response(answer(*lines, status=status), method=method)
    assert (checked.framing, checked.content_length) == (framing, length)


def test_interim_responses_are_told_apart():
    assert read_response(answer(status=b"100 Continue")).interim
    assert read_response(answer(status=b"103 x")).interim
    assert not read_response(answer(status=b"200 x")).interim


def test_a_204_that_announces_a_body_spoils_its_connection():
    checked = read_response(answer(b"Content-Length: 3", status=b"204 x"))
    assert not checked.keep_alive
    assert b"content-length" not in checked.head.fields
    assert read_response(answer(b"Content-Length: 0", status=b"204 x")).keep_alive


@pytest.mark.parametrize(
    ("lines", "version", "keeps"),
    [
        ([b"Content-Length: 0"], b"HTTP/1.1", True),
        ([b"Content-Length: 0", b"Connection: close"], b"HTTP/1.1", False),
        ([], b"HTTP/1.1", False),
        ([b"Content-Length: 0"], b"HTTP/1.0", False),
        ([b"Content-Length: 0", b"Connection: Keep-Alive"], b"HTTP/1.0", True),
    ],
)
def test_whether_the_upstream_connection_may_go_on(lines, version, keeps):
    assert read_response(answer(*lines, version=version)).keep_alive is keeps


@pytest.mark.parametrize(
    ("value", "keeps"),
    [(b"NTLM", False), (b"Basic realm=a, Negotiate abc", False), (b"Basic realm=ntlm", True), (b"NTLMish", True)],
)
def test_a_connection_that_is_itself_authenticated_is_not_used_again(value, keeps):
    raw = answer(b"Content-Length: 0", b"WWW-Authenticate: " + value, status=b"401 x")
    assert read_response(raw).keep_alive is keeps


@pytest.mark.rfc("9110", "15.2.2")
def test_a_101_has_to_be_for_the_protocol_asked_for():
    raw = answer(b"Connection: upgrade", b"Upgrade: WebSocket", status=b"101 Switching Protocols")
    assert read_response(raw, upgrade=b"websocket").upgrade == b"websocket"
    for lines in ([b"Connection: upgrade", b"Upgrade: h2c"], [b"Upgrade: websocket"], [b"Connection: upgrade"]):
        with pytest.raises(Failure) as caught:
            read_response(answer(*lines, status=b"101 x"), upgrade=b"websocket")
        assert caught.value.kind.status == 502
    assert read_response(answer(b"Content-Length: 0"), upgrade=b"websocket").upgrade is None


def test_a_response_head_loses_its_hop_by_hop_fields_and_nothing_else():
    raw = answer(
        b"Connection: close, X-Mine, Cache-Control, Set-Cookie",
        b"X-Mine: 1",
        b"Keep-Alive: timeout=20",
        b"Proxy-Connection: close",
        b"Proxy-Authenticate: Basic",
        b"Proxy-Authentication-Info: a",
        b"Trailer: A",
        b"Upgrade: h2c",
        b"Transfer-Encoding: chunked",
        b"Cache-Control: private",
        b"Set-Cookie: a=b",
        b"x-Yours: 1",
        b"X-Yours: 2",
    )
    head = read_response(raw).head
    assert head.fields == Fields([(b"Cache-Control", b"private"), (b"x-Yours", b"1"), (b"X-Yours", b"2")])
    assert (head.status, head.reason, head.version) == (200, b"OK", (1, 1))


# ---- any input -------------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    b"GET|POST| |  |/|*|http://|a|%|?|#|HTTP/1.1|HTTP/1.0|\r\n|\n|\r|Host|: |:|Content-Length|chunked|3".split(b"|")
    + b"Transfer-Encoding|Connection|close|,|\x00|Upgrade|websocket|Expect|100-continue|[|]|@|\xff".split(b"|")
    + b"Host: a\r\n|\r\n\r\n|\t".split(b"|")
)


@settings(max_examples=300)
@given(st.lists(PIECES, max_size=30), st.sampled_from(["reverse", "forward", "transparent"]))
@example([b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"], "reverse")
def test_checks_raise_failures_and_nothing_else(pieces, mode):
    for raw in (b"".join(pieces), b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(pieces) + b"\r\n\r\n"):
        status_of(raw, mode=mode)
        with contextlib.suppress(Failure):
            read_response(raw.replace(b"GET / HTTP/1.1", b"HTTP/1.1 200 OK"))


@settings(max_examples=300)
@given(st.integers(0, 2**32))
def test_what_passes_has_one_reading(seed):
    """Mutate a good head; what still passes is written anew and read as the same."""
    rng = random.Random(seed)
    raw = bytearray(post(b"Content-Length: 3", b"Cookie: a=b", b"Accept: */*", b"Connection: x, close", b"X: y"))
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(raw))
        raw[at : at + rng.randint(0, 2)] = rng.choice(
            [b"", b"\r\n", b" ", b"\x00", b":", b",", b"%", b"\t", b"\x80", b"3", b"_"]
        )
    try:
        checked = read_request(bytes(raw))
    except Failure:
        return
    head = checked.head
    lines = [line for line in head.fields.lines if line[0].lower() != b"host"]
    framing = [(b"Content-Length", b"%d" % checked.content_length)] if checked.content_length is not None else []
    written = field_bytes([(b"Host", head.authority), *lines, *framing])
    again = read_request(request_line(head.method, head.target) + written + b"\r\n")
    assert (again.head.authority, again.head.target, again.content_length) == (
        head.authority,
        head.target,
        checked.content_length,
    )
    assert again.head.fields.without((b"host",)) == head.fields.without((b"host",))


@given(st.binary(max_size=60), st.sampled_from([None, ValueError("x"), RuntimeError()]))
def test_any_parse_error_is_a_row_of_the_table(raw, error):
    failure = classify_parse_error(error, raw, LIMITS)
    assert KINDS[failure.kind.token].status in {400, 414, 431, 501, 505}


def test_twice_the_input_takes_about_twice_the_time():
    wide = Limits(request_line=2**22, field=2**22, head=2**22, fields=10000)

    def taken(raw):
        begin = time.thread_time()
        status_of(raw, limits=wide)
        return time.thread_time() - begin

    def steps(once, twice):  # in turn, so that what else the machine does meets both
        times = [(taken(once), taken(twice)) for _ in range(7)]
        return min(a for a, _ in times), min(b for _, b in times)

    for make in (
        lambda n: get(b"/" + b"%41" * n + b"%"),
        lambda n: get(b"/" + b"a" * n + b'"'),
        lambda n: get(b"/", b"Connection: " + b"a, " * n),
        lambda n: get(b"/", b"A: b", host=b"Host: " + b"%41" * n + b"%"),
        lambda n: post(b"Content-Length: " + b"0" * n + b"x"),
        lambda n: post(b"Transfer-Encoding: " + b"gzip ," * n + b"@"),
        lambda n: get(b"/", *[b"A: b"] * (n // 40)),
    ):
        single, double = steps(make(100_000), make(200_000))
        assert double < 8 * single + 0.005
