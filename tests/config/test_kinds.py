"""What each kind of text takes and refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.kinds import CHECKS


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("path", "/static/*"),
        ("path", "*.css"),
        ("hosts", "*.example.org"),
        ("hosts", "shop.example.org"),
        ("hosts", "[::1]"),
        ("statuses", "200-399, 404"),
        ("token", "ASP.NET_SessionId"),
        ("method", "GET"),
        ("redirect target", "https://{host}{path}"),
        ("log format", "json"),
        ("log format", "{client} {status}"),
        ("error status", "503"),
        ("final status", "404"),
        ("field", "X-A"),
        ("field", "X-A: b c"),
        ("pattern", "utm_*"),
        ("pattern", "*_id"),
        ("pattern", "mode=edit"),
        ("field value", "text/html; charset=utf-8"),
        ("route", "t1"),
        ("name", "*.example.org"),
        ("ip", "fd00:8::4"),
        ("vip", "192.168.8.100/24"),
        ("interface", "eth0.7"),
        ("program", "/etc/tandem/notify"),
        ("name server", "192.168.8.1"),
        ("name server", "fd00::1"),
        ("name server", "127.0.0.1:5353"),
        ("name server", "[::1]:53"),
    ],
)
def test_a_text_of_its_kind_is_accepted(kind, text):
    CHECKS[kind](text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("path", "static"),
        ("path", "/a?b"),
        ("path", "/a b"),
        ("hosts", "shop.example.org:80"),
        ("hosts", "*"),
        ("hosts", "a.*.org"),
        ("hosts", "bücher.example"),
        ("statuses", "2xx"),
        ("name server", "dns.example.org"),
        ("name server", ":53"),
        ("statuses", "200-299, 399-300"),
        ("hosts", "::1"),
        ("token", "a b"),
        ("token", ""),
        ("method", "get"),
        ("redirect target", "https://{hots}/"),
        ("redirect target", "/a\r\nSet-Cookie: b"),
        ("log format", "combinde"),
        ("error status", "200"),
        ("final status", "206"),
        ("final status", "100"),
        ("field", "X-A:"),
        ("field", "X A: b"),
        ("pattern", "a*b*"),
        ("pattern", "**"),
        ("pattern", ""),
        ("pattern", "a b"),
        ("field value", "a\nb"),
        ("route", "t.1"),
        ("file", "a\0b"),
        ("file", ""),
        ("ip", "fe80::1%eth0"),
        ("ip", "127.0.0.1"),
        ("ip", "224.0.0.18"),
        ("vip", "192.168.8.100"),
        ("vip", "192.168.8.100/255.255.255.0"),
        ("vip", "192.168.8.100/33"),
        ("vip", "224.0.0.1/24"),
        ("interface", "a/b"),
        ("interface", "sixteen-letters-"),
        ("program", "notify"),
    ],
)
def test_a_text_of_another_kind_is_refused_with_a_sentence(kind, text):
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        CHECKS[kind](text)


def test_a_misspelled_log_format_is_told_the_nearest():
    with pytest.raises(ValueError, match="did you mean `combined`"):
        CHECKS["log format"]("combinde")


@given(st.sampled_from(sorted(CHECKS)), st.text())
def test_checks_raise_nothing_but_value_errors(kind, text):
    try:
        CHECKS[kind](text)
    except ValueError as exc:
        assert str(exc)  # noqa: PT017 - the text may also be accepted
