"""Checks of texts by the kind that the schema gives them: each raises ValueError with a sentence on what is accepted.

A kind without check ("output") only tells readers and tools what the text is; "file" and "secret" mark what the
supervisor reads, and "list" the long ones. The text itself is never changed.
"""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING

from config.faults import nearest
from config.units import Listen, parse_address, parse_host, parse_ip, parse_place, parse_vip

if TYPE_CHECKING:
    from collections.abc import Callable

LOG_FORMATS = ("common", "combined", "squid", "json")
PLACEHOLDERS = ("scheme", "host", "path", "query")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")  # RFC 9110 §5.6.2
_NAME = re.compile(r"[A-Za-z0-9*_][A-Za-z0-9*_.:-]{0,63}")
_USER = re.compile(r"[^\x00-\x20\x7f:][^\x00-\x1f\x7f:]{0,254}")  # RFC 7617 §2: no colon, no control characters
_STATUSES = re.compile(r" *[1-5][0-9]{2}( *- *[1-5][0-9]{2})? *(, *[1-5][0-9]{2}( *- *[1-5][0-9]{2})? *)*")
_VISIBLE = re.compile(r"[\x21-\x7e]+")  # what a request target or Location may consist of, RFC 9112 §3
_FIELD_VALUE = re.compile(r"[\x20-\x7e]*")


def _matches(pattern: re.Pattern[str], sentence: str) -> Callable[[str], None]:
    def check(text: str) -> None:
        if not pattern.fullmatch(text):
            raise ValueError(sentence)

    return check


def _check_file(text: str) -> None:
    if not text or "\0" in text:
        raise ValueError("a path is needed, counted from the folder of this file")


def _check_address(text: str) -> None:
    parse_address(text)


def _check_host(text: str) -> None:
    parse_host(text)


def _check_hosts(text: str) -> None:
    name = text.removeprefix("*.")
    try:
        parse_host(name)
    except ValueError:
        name = ""
    # As it stands in an authority (RFC 3986 §3.2.2): IPv6 in brackets, names in ASCII, no port.
    if not name or (":" in name and not name.startswith("[")):
        raise ValueError(
            "a host is `shop.example.org`, `*.example.org`, `10.0.0.1` or `[::1]`, without port; others as `xn--…`"
        )


def _check_proxy(text: str) -> None:
    address = parse_address(text)
    if address.scheme != "http" or "/" in text:
        raise ValueError("a proxy is `host:port`")


def _check_domain(text: str) -> None:
    sentence = "a domain is `example.org` (all below is meant too) or `list:NAME`; others as `xn--…`"
    if text.startswith(("*.", ".")):
        raise ValueError(f"a domain means all below it already: `{text.lstrip('*.')}`")
    if text.startswith("list:"):
        if not _NAME.fullmatch(text[5:]):
            raise ValueError(sentence)
        return
    if re.fullmatch(r"[0-9.]+|.*:.*", text):
        raise ValueError("an address or network belongs in `destination`")
    parse_host(text, sentence)


def _check_statuses(text: str) -> None:
    ranges = [part.replace(" ", "").partition("-") for part in text.split(",")]
    if not _STATUSES.fullmatch(text) or any(last and last < first for first, _, last in ranges):
        raise ValueError("statuses are codes and ranges upwards, such as `200-399, 404`")


def _check_target(text: str) -> None:
    if not text.startswith("/") or not _VISIBLE.fullmatch(text) or "#" in text:
        raise ValueError("a path begins with `/` and has no blanks")


def _check_path(text: str) -> None:
    if not text.startswith(("/", "*")) or not _VISIBLE.fullmatch(text) or "?" in text or "#" in text:
        raise ValueError("a path pattern begins with `/` or `*`, such as `/static/*` or `*.css`, and has no query")


def _check_place(text: str) -> None:
    parse_place(text)


def _check_redirect_target(text: str) -> None:
    bare = re.sub(r"\{([a-z]*)\}", lambda m: "" if m[1] in PLACEHOLDERS else m[0], text)
    if not text or not _FIELD_VALUE.fullmatch(text) or " " in text or "{" in bare or "}" in bare:
        raise ValueError("a redirect goes to a URL or path; `{scheme}`, `{host}`, `{path}` and `{query}` are replaced")


def _check_log_format(text: str) -> None:
    if text in LOG_FORMATS or ("{" in text and "\n" not in text):
        return
    near = nearest(text, LOG_FORMATS)
    meant = f": did you mean `{near}`?" if near else ""
    raise ValueError(f"a format is common, combined, squid, json, or a template with `{{field}}` names{meant}")


def _check_name_server(text: str) -> None:
    with suppress(ValueError):
        ip_address(text)
        return
    with suppress(ValueError):
        if Listen.parse(text).host:
            return
    raise ValueError("a name server is an address, or address and port: `192.168.8.1`, `127.0.0.1:5353`")


def _check_ip(text: str) -> None:
    parse_ip(text)


def _check_vip(text: str) -> None:
    parse_vip(text)


def _check_final_status(text: str) -> None:
    if not re.fullmatch(r"[2-5][0-9]{2}", text) or text in {"206", "304"}:
        raise ValueError("a lifetime belongs to a final status from 200 to 599 that can be stored, such as 404")


def _check_field_condition(text: str) -> None:
    name, colon, value = text.partition(":")
    if not _TOKEN.fullmatch(name) or (colon and not (value.strip() and _FIELD_VALUE.fullmatch(value))):
        raise ValueError("a field is `Name`, or `Name: value`")


def _check_error_status(text: str) -> None:
    if not re.fullmatch(r"[45][0-9]{2}", text):
        raise ValueError("an error page belongs to a status from 400 to 599")


CHECKS: dict[str, Callable[[str], None]] = {
    "file": _check_file,
    "secret": _check_file,
    "list": _check_file,
    "output": _check_file,
    "address": _check_address,
    "domain": _check_domain,
    "proxy": _check_proxy,
    "host": _check_host,
    "hosts": _check_hosts,
    "target": _check_target,
    "path": _check_path,
    "place": _check_place,
    "mirror path": _matches(
        re.compile(r"/([A-Za-z0-9_~-][A-Za-z0-9._~-]*/)*"), "a mirror's path begins and ends with `/`: `/pypi/`"
    ),
    "redirect target": _check_redirect_target,
    "log format": _check_log_format,
    "error status": _check_error_status,
    "final status": _check_final_status,
    "field": _check_field_condition,
    "pattern": _matches(
        re.compile(r"(?=[^*]*\*?[^*]*\Z)[\x21-\x7e]{1,256}"), "a name may hold one `*`, for any characters: `utm_*`"
    ),
    "token": _matches(_TOKEN, "a name here is of letters, digits and ``!#$%&'*+-.^_`|~`` (an HTTP token)"),
    "method": _matches(re.compile(r"[A-Z][A-Z-]{0,31}"), "a method is written in capitals, such as `GET`"),
    "name": _matches(_NAME, "a name is of at most 64 letters, digits, `-`, `_`, `.`, `:`, `*`"),
    "user": _matches(_USER, "a user is of at most 255 visible characters, without `:`"),
    "route": _matches(re.compile(r"[A-Za-z0-9_-]{1,64}"), "a jvmRoute is of at most 64 letters, digits, `-`, `_`"),
    "ip": _check_ip,
    "vip": _check_vip,
    "interface": _matches(re.compile(r"[^\s/:]{1,15}"), "an interface has at most 15 characters, such as `eth0`"),
    "word": _matches(re.compile(r"[^\0]+"), "a word of a command is not empty"),
    "program": _matches(re.compile(r"/[^\0]+"), "a program is given by its whole path, such as `/etc/tandem/notify`"),
    "statuses": _check_statuses,
    "name server": _check_name_server,
    "realm": _matches(re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]{1,64}"), "a realm is visible ASCII without quotes"),
    "field value": _matches(_FIELD_VALUE, "a field value is of visible ASCII characters and blanks"),
}
