from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import LOOP, Failure
from proxy.http.forwarding import (
    ForwardOptions,
    end_to_end,
    forward_request,
    make_hop,
    may_be_forged,
    may_be_mistaken,
    nameable,
    parse_options,
    via_line,
    without_forgeable,
)
from proxy.http.message import Fields
from tests.kit.heads import read_request, request_parser

OPTIONS = ForwardOptions(via=b"tandem-1")
HOP = make_hop("203.0.113.7", b"http")
FORGED = [
    b"Forwarded: for=6.6.6.6",
    b"X-Forwarded-For: 6.6.6.6",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Host: evil.example",
    b"X-Forwarded-Port: 666",
    b"X-Forwarded-Server: evil",
    b"X-Forwarded-Prefix: /evil",
    b"X-Forwarded: evil",
    b"X-Real-IP: 6.6.6.6",
    b"X-Original-URL: /evil",
    b"X-Original-Host: evil.example",
    b"X-Rewrite-URL: /evil",
    b"X-Host: evil.example",
    b"X-HTTP-Method: DELETE",
    b"X-HTTP-Method-Override: DELETE",
    b"x_forwarded_for: 6.6.6.6",
    b"X_Real_IP: 6.6.6.6",
    b"Proxy: http://evil.example",
]


def raw_request(*lines, method=b"GET", target=b"/a?b", version=b"HTTP/1.1", host=b"Shop.example"):
    return b"\r\n".join([b" ".join((method, target, version)), b"Host: " + host, *lines, b"", b""])


def sent(*lines, options=OPTIONS, hop=HOP, trusted=False, replace=(), drop=frozenset(), allow_trace=True, **head):
    checked = read_request(raw_request(*lines, **head), allow_trace=allow_trace)
    return forward_request(checked, options, trusted=trusted, replace=replace, drop=drop).head(hop)


def fields_of(raw):
    """As an origin reads it, by the real parser."""
    ((message, _),) = request_parser().feed_data(raw)[0]
    return Fields(message.raw_headers)


def test_a_plain_request_for_an_origin_byte_for_byte():
    assert sent(b"Accept: */*", b"Connection: keep-alive") == (
        b"GET /a?b HTTP/1.1\r\n"
        b"Host: shop.example\r\n"
        b"Accept: */*\r\n"
        b"X-Forwarded-For: 203.0.113.7\r\n"
        b"X-Forwarded-Proto: http\r\n"
        b"X-Forwarded-Host: shop.example\r\n"
        b"X-Forwarded-Port: 80\r\n"
        b"Forwarded: for=203.0.113.7;host=shop.example;proto=http\r\n"
        b"Via: 1.1 tandem-1\r\n"
        b"\r\n"
    )


def test_nothing_that_only_trusted_hops_may_say_passes_from_strangers():
    raw = sent(*FORGED)
    assert b"6.6.6.6" not in raw
    assert b"evil" not in raw
    assert b"DELETE" not in raw
    assert raw == sent()


@given(st.lists(st.sampled_from(FORGED), max_size=6), st.randoms(use_true_random=False))
def test_nothing_forged_passes_in_any_spelling(lines, rng):
    spelled = []
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == b"x-real-ip" and any(other.lower().startswith(b"x-real-ip:") for other in spelled):
            continue  # twice is refused
        spelled.append(bytes(rng.choice((c, ord(chr(c).upper()))) for c in name) + b":" + value)
    assert sent(*spelled) == sent()


def test_a_site_may_let_single_fields_of_strangers_pass():
    options = ForwardOptions(
        via=b"t", passing=frozenset({b"x-original-url", b"x-forwarded-prefix", b"x-forwarded-host"})
    )
    fields = fields_of(sent(*FORGED, options=options))
    assert fields.get(b"x-original-url") == b"/evil"
    assert fields.get(b"x-forwarded-prefix") == b"/evil"
    assert fields.all(b"x-forwarded-host") == [b"evil.example"]
    assert fields.get(b"x-forwarded-for") == b"203.0.113.7"
    assert fields.get(b"forwarded") == b"for=203.0.113.7;host=shop.example;proto=http"


def test_what_a_trusted_hop_says_is_kept_and_appended_to():
    fields = fields_of(
        sent(
            b"X-Forwarded-For: 198.51.100.1",
            b"X-Forwarded-For: 10.0.0.9",
            b"X-Forwarded-Proto: https",
            b"X-Forwarded-Host: public.example",
            b"Forwarded: for=198.51.100.1;proto=https",
            b"X-Real-IP: 198.51.100.1",
            trusted=True,
        )
    )
    assert fields.all(b"x-forwarded-for") == [b"198.51.100.1, 10.0.0.9, 203.0.113.7"]
    assert fields.all(b"x-forwarded-proto") == [b"https"]
    assert fields.all(b"x-forwarded-host") == [b"public.example"]
    assert fields.all(b"x-forwarded-port") == [b"443"]
    assert fields.all(b"forwarded") == [b"for=198.51.100.1;proto=https, for=203.0.113.7;host=shop.example;proto=http"]
    assert fields.all(b"x-real-ip") == [b"198.51.100.1"]


@pytest.mark.parametrize(
    ("lines", "port"),
    [
        ([], b"80"),
        ([b"X-Forwarded-Port: 9"], b"9"),
        ([b"X-Forwarded-Proto: http"], b"80"),
        ([b"X-Forwarded-Host: a:81"], b"81"),
        ([b"X-Forwarded-Host: [::1]"], b"80"),
        ([b"X-Forwarded-For: 1.1.1.1"], b"80"),
    ],
)
def test_the_port_a_trusted_hop_left_out_follows_from_what_it_said(lines, port):
    assert fields_of(sent(*lines, trusted=True)).get(b"x-forwarded-port") == port


@pytest.mark.parametrize(
    ("address", "listed", "node"),
    [
        ("203.0.113.7", b"203.0.113.7", b"203.0.113.7"),
        ("2001:db8::1", b"2001:db8::1", b'"[2001:db8::1]"'),
        ("::ffff:203.0.113.7", b"203.0.113.7", b"203.0.113.7"),
        ("fe80::1%eth0", b"fe80::1", b'"[fe80::1]"'),
        ("unix", b"unknown", b"unknown"),
    ],
)
@pytest.mark.rfc("7239", "6")
def test_the_peer_is_written_as_each_field_wants_it(address, listed, node):
    fields = fields_of(sent(hop=make_hop(address, b"https"), host=b"a.example:81"))
    assert fields.get(b"x-forwarded-for") == listed
    assert fields.get(b"forwarded") == b'for=%b;host="a.example:81";proto=https' % node


def test_one_template_serves_many_connections():
    template = forward_request(read_request(raw_request()), OPTIONS, trusted=False)
    other = make_hop("198.51.100.2", b"http")
    assert template.head(other) == template.head(HOP).replace(b"203.0.113.7", b"198.51.100.2")


def test_without_identification_the_client_is_not_mentioned():
    options = ForwardOptions(via=b"t", strangers=False, identify=False)
    fields = fields_of(sent(b"X-Forwarded-For: 6.6.6.6", options=options))
    assert fields.all(b"x-forwarded-for") == [b"6.6.6.6"]
    assert b"forwarded" not in fields


def test_host_is_the_clients_or_the_one_given():
    assert fields_of(sent(host=b"A.example:80")).all(b"host") == [b"a.example"]
    fields = fields_of(sent(options=ForwardOptions(via=b"t", host=b"10.0.0.1:8080")))
    assert fields.all(b"host") == [b"10.0.0.1:8080"]
    assert fields.get(b"x-forwarded-host") == b"shop.example"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([b"Content-Length: 007"], [(b"Content-Length", b"7")]),
        ([b"Content-Length: 0"], [(b"Content-Length", b"0")]),
        ([b"Transfer-Encoding: Chunked"], [(b"Transfer-Encoding", b"chunked")]),
        ([], []),
    ],
)
@pytest.mark.rfc("9112", "6")
def test_framing_is_written_anew(lines, expected):
    raw = sent(*lines, method=b"POST")
    ((message, _),) = request_parser().feed_data(raw)[0]
    framing = {b"content-length", b"transfer-encoding"}
    assert [line for line in message.raw_headers if line[0].lower() in framing] == expected


def test_expect_goes_to_the_origin():
    assert (
        fields_of(sent(b"Expect: 100-continue", b"Content-Length: 3", method=b"POST")).get(b"expect") == b"100-continue"
    )


@pytest.mark.rfc("9110", "7.8")
def test_an_upgrade_is_asked_for_anew_if_it_is_permitted():
    lines = (b"Connection: keep-alive, Upgrade", b"Upgrade: h2c, WebSocket", b"Sec-WebSocket-Key: abc")
    raw = sent(*lines)
    assert raw.endswith(b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert b"Sec-WebSocket-Key: abc\r\n" in raw
    assert b"h2c" not in raw
    none = sent(*lines, options=ForwardOptions(via=b"t", upgrades=frozenset()))
    assert b"pgrade" not in none


@pytest.mark.rfc("9110", "7.6.3")
def test_via_is_appended_with_the_version_received():
    fields = fields_of(sent(b"Via: 1.0 a, 1.1 b", b"Via: HTTP/1.1 c (x)", version=b"HTTP/1.0"))
    assert fields.all(b"via") == [b"1.0 a, 1.1 b", b"HTTP/1.1 c (x)", b"1.0 tandem-1"]
    assert via_line((1, 1), b"t") == (b"Via", b"1.1 t")


@pytest.mark.rfc("9110", "7.6.3")
def test_a_request_that_was_here_before_is_a_loop():
    for via in (b"1.1 tandem-1", b"1.0 a, 1.1 tandem-1 (comment)", b"HTTP/1.1 tandem-1,1.1 b"):
        with pytest.raises(Failure) as caught:
            sent(b"Via: " + via)
        assert caught.value.kind is LOOP
    for via in (b"1.1 tandem-2", b"1.1 tandem-12", b"tandem-1", b"", b",", b"1.1 a (tandem-1)"):
        sent(b"Via: " + via)


@pytest.mark.rfc("9110", "7.6.2")
def test_max_forwards_is_counted_down():
    assert fields_of(sent(b"Max-Forwards: 3", method=b"OPTIONS")).all(b"max-forwards") == [b"2"]
    assert fields_of(sent(b"Max-Forwards: 3", method=b"TRACE")).all(b"max-forwards") == [b"2"]
    assert fields_of(sent(b"Max-Forwards: 3")).all(b"max-forwards") == [b"3"]


def test_the_cache_exchanges_conditions():
    fields = fields_of(
        sent(
            b'If-None-Match: "a"',
            b"Cookie: a=b",
            replace=((b"If-None-Match", b'"b"'),),
            drop=frozenset({b"if-none-match", b"cookie"}),
        )
    )
    assert fields.all(b"if-none-match") == [b'"b"']
    assert b"cookie" not in fields


def test_the_target_is_sent_as_it_was_checked():
    assert sent(target=b"http://b.example/%7e/..//x;y?").startswith(
        b"GET /%7e/..//x;y? HTTP/1.1\r\nHost: b.example\r\n"
    )
    assert sent(target=b"*", method=b"OPTIONS").startswith(b"OPTIONS * HTTP/1.1\r\n")


def test_strangers_fields_as_the_cache_sees_them():
    fields = Fields([(b"X-Forwarded-For", b"a"), (b"Accept", b"b"), (b"X-Host", b"c")])
    assert without_forgeable(fields).lines == ((b"Accept", b"b"),)
    assert without_forgeable(fields, frozenset({b"x-host"})).lines == ((b"Accept", b"b"), (b"X-Host", b"c"))
    plain = Fields([(b"Accept", b"b")])
    assert without_forgeable(plain) is plain


@pytest.mark.rfc("9110", "7.6.1")
def test_the_connections_own_fields_stay_behind():
    lines = [(b"A", b"1"), (b"KEEP-ALIVE", b"2"), (b"B", b"3"), (b"b", b"4"), (b"Date", b"5"), (b"Trailer", b"6")]
    assert end_to_end(lines, {b"b", b"date"}) == ((b"A", b"1"), (b"Date", b"5"))


def test_connection_is_read_as_a_list_over_all_its_lines():
    assert parse_options([b"A, b ,,\tc", b"", b"D"]) == {b"a", b"b", b"c", b"d"}
    assert nameable([b"x", b"etag", b"content-md5", b"if-range", b"x-forwarded-for"]) == {b"x"}


def test_kinds_of_names():
    assert may_be_forged(b"x-forwarded-anything")
    assert may_be_forged(b"x-http-host-override")
    assert not may_be_forged(b"x-forward")
    assert may_be_mistaken(b"transfer_encoding")
    assert not may_be_mistaken(b"a_b")


@pytest.mark.parametrize(
    ("host", "port"), [(b"a", b"80"), (b"a:8443", b"8443"), (b"[::1]:81", b"81"), (b"[::1]", b"80")]
)
def test_the_port_told_is_the_one_the_client_asked_for(host, port):
    """Behind a port mapping the local port would make an application send its users to a port nobody can reach."""
    assert fields_of(sent(host=host)).get(b"x-forwarded-port") == port
