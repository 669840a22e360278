"""Whether a parsed head may be believed: every check that aiohttp's C parsers leave out, for requests and responses.

A head that passes has one reading: method, target, authority, framing and persistence are decided here and nowhere
else, and the fields that travel no further are already out of it. Whatever is doubtful is refused, never repaired
(RFC 9112 §2.2, §3, §6, §9, §11; RFC 9110 §5, §7). The functions see one whole head, from its first byte to the empty
line.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from proxy.errors import (
    BAD_REQUEST,
    BAD_RESPONSE,
    BAD_VERSION,
    BODY_TOO_LARGE,
    CONNECT_REFUSED,
    EXPECTATION_FAILED,
    HEAD_TOO_LARGE,
    NO_METHOD,
    NOT_IMPLEMENTED,
    RESPONSE_HEAD_TOO_LARGE,
    TARGET_TOO_LONG,
    UPGRADE_FAILED,
    Failure,
)
from proxy.http.forwarding import DROPPED_REQUEST, end_to_end, may_be_mistaken, nameable, parse_options
from proxy.http.message import Fields, RequestHead, ResponseHead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from config.schema import Limits
    from proxy.http.message import Line

Mode = Literal["reverse", "forward", "transparent"]

LARGEST_BODY = 2**62  # the parser takes 2^64 - 1 for "no body"; nothing near it is real
WEBSOCKET = frozenset({b"websocket"})


class RequestMessage(Protocol):
    """What is read of aiohttp's RawRequestMessage."""

    @property
    def method(self) -> str: ...
    @property
    def raw_headers(self) -> tuple[Line, ...]: ...


class ResponseMessage(Protocol):
    """What is read of aiohttp's RawResponseMessage."""

    @property
    def code(self) -> int: ...
    @property
    def raw_headers(self) -> tuple[Line, ...]: ...


class CheckedRequest(NamedTuple):
    """A request that may be believed. `head.fields` has no hop-by-hop field, no Content-Length, and no name that could
    be mistaken.
    """

    head: RequestHead
    content_length: int | None  # as announced; None: nothing announced
    chunked: bool
    expect_continue: bool  # the client waits for 100 before it sends the body (RFC 9110 §10.1.1)
    upgrade: bytes | None  # lower-case protocol it may be upgraded to; the fields are in no head
    keep_alive: bool
    max_forwards: int | None = None  # of TRACE and OPTIONS only: at 0 we answer ourselves (RFC 9110 §7.6.2)
    credentials: bytes | None = None  # Proxy-Authorization, which never travels

    @property
    def has_body(self) -> bool:
        return self.chunked or bool(self.content_length)


class Framing(Enum):
    """How the end of a response's body is found (RFC 9112 §6.3)."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


class CheckedResponse(NamedTuple):
    """A response that may be believed. `head.fields` has no hop-by-hop field; Content-Length is in it only where it is
    metadata.
    """

    head: ResponseHead
    framing: Framing
    content_length: int | None  # as announced, also where no body follows (HEAD, 304)
    keep_alive: bool  # may the connection be used again, once the body has ended as it should
    interim: bool  # 1xx other than 101: another head follows
    upgrade: bytes | None  # lower-case protocol of a 101 that was asked for


# ---- request line ----------------------------------------------------------------------------------------------------

_EMPTY_LINES = re.compile(rb"(?:\r\n)*+")  # before a request, ignored (RFC 9112 §2.2)
_REQUEST_LINE = re.compile(rb"([!#-'*+\-.^_`|~0-9A-Za-z]++) ([!-~]++) HTTP/1\.([01])")
_OTHER_VERSION = re.compile(rb"[!#-'*+\-.^_`|~0-9A-Za-z]++ [!-~]++(?: (?:HTTP|RTSP|ICE)/\d++(?:\.\d++)?+)?+")
_UNKNOWN_METHOD = re.compile(rb"[!#-'*+\-.^_`|~0-9A-Za-z]++ [!-~]++ HTTP/\d\.\d")

# RFC 3986 §3.3, §3.4: pchar and `/`, in the query `?` too. Possessive: each byte is looked at once.
_PATH = rb"(/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*+)"
_QUERY = rb"(?:\?((?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*+))?+"
_ORIGIN_FORM = re.compile(_PATH + _QUERY)
_ABSOLUTE_FORM = re.compile(rb"([A-Za-z][A-Za-z0-9+\-.]*+)://([^/?#]*+)(.*+)")
_ENCODABLE = re.compile(rb'["<>^{|}`\\]')

# llhttp knows these; they belong to RTSP, to Icecast and to HTTP/2's preface.
_FOREIGN_METHODS = frozenset(
    b"ANNOUNCE DESCRIBE FLUSH GET_PARAMETER PAUSE PLAY PRI RECORD REDIRECT SETUP SET_PARAMETER SOURCE TEARDOWN".split()
)


def _bad(detail: str) -> Failure:
    return Failure(BAD_REQUEST, detail)


def _split_request_line(line: bytes) -> tuple[bytes, bytes, int]:
    """Method, target, minor version; exactly one blank between them (RFC 9112 §3)."""
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        if _OTHER_VERSION.fullmatch(line):
            raise Failure(BAD_VERSION, "version")
        raise _bad("request line")
    method, target, minor = match.groups()
    if method in _FOREIGN_METHODS:
        raise Failure(NOT_IMPLEMENTED, "method of another protocol")
    return method, target, 1 if minor == b"1" else 0


def _split_origin_form(target: bytes, encode: bool) -> tuple[bytes, bytes | None]:
    """Path and query byte for byte, but for characters that a site has percent-encoded."""
    match = _ORIGIN_FORM.fullmatch(target)
    if match is None and encode:
        target = _ENCODABLE.sub(lambda found: b"%%%02X" % found[0][0], target)
        match = _ORIGIN_FORM.fullmatch(target)
    if match is None:
        raise _bad("target")
    return match[1], match[2]


# ---- authority -------------------------------------------------------------------------------------------------------

# RFC 3986 §3.2.2. departs: no comma in a name, since a list of hosts is no host.
_AUTHORITY = re.compile(
    rb"(\[[0-9A-Fa-f:.]++\]|\[[vV][0-9A-Fa-f]++\.[A-Za-z0-9\-._~!$&'()*+;=:]++\]|(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})++)(?::([0-9]{0,5}))?+"
)
DEFAULT_PORTS = {b"http": 80, b"https": 443}


def parse_authority(value: bytes, scheme: bytes) -> bytes:
    """Host [":" port], in lower case and without the scheme's default port; raises Failure (RFC 9110 §7.2, RFC 3986
    §3.2.2).
    """
    if len(value) > 300:  # longer than any DNS name with port: legal, but not worth remembering
        return _parse_authority(value, scheme)
    return _remembered_authority(value, scheme)


def _parse_authority(value: bytes, scheme: bytes) -> bytes:
    match = _AUTHORITY.fullmatch(value)
    if match is None:
        raise _bad("host")
    host = match[1].lower()
    if host.startswith(b"[") and not host.startswith(b"[v"):
        try:
            IPv6Address(host[1:-1].decode("ascii"))
        except ValueError as exc:
            raise _bad("IPv6 literal in the host") from exc
    if not match[2]:
        return host
    port = int(match[2])
    if not 1 <= port <= 65535:
        raise _bad("port in the host")
    return host if port == DEFAULT_PORTS.get(scheme) else b"%b:%d" % (host, port)


_remembered_authority = lru_cache(maxsize=1024)(_parse_authority)

_LABELS = re.compile(rb"[a-z0-9_-]{1,63}+(?:\.[a-z0-9_-]{1,63}+)*+")
_NUMERIC = re.compile(rb"(?:.*\.)?(?:[0-9]++|0x[0-9a-f]*+)")
_IPV4 = re.compile(rb"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!$)|$)){4}")


def parse_destination(value: bytes, scheme: bytes) -> bytes:
    """An authority that a proxy may be sent to, in the one spelling of its host; raises Failure.

    A host is a name, four decimal numbers, or IPv6 in brackets. Whatever else some resolver takes for an address
    (`0x7f.1`, `010.0.0.1`, `127.1`, zones) is refused: it must not mean one thing here and another there.
    """
    authority = parse_authority(value, scheme)
    host, port = split_authority(authority)
    if host.startswith(b"["):
        if host.startswith(b"[v"):
            raise _bad("a future kind of address")
        return b"[%b]%b" % (str(IPv6Address(host[1:-1].decode("ascii"))).encode(), port)
    host = host.removesuffix(b".")
    if len(host) > 253 or _LABELS.fullmatch(host) is None:
        raise _bad("host: no name and no address")
    if _NUMERIC.fullmatch(host) is not None and _IPV4.fullmatch(host) is None:
        raise _bad("host: an odd spelling of an address")
    return host + port


def split_authority(authority: bytes) -> tuple[bytes, bytes]:
    """The host, and the port with its colon, if there is one, of an authority that has been parsed."""
    host, colon, port = authority.rpartition(b":")
    return (host, colon + port) if colon and not port.endswith(b"]") else (authority, b"")


# ---- target ----------------------------------------------------------------------------------------------------------


class _Target(NamedTuple):
    path: bytes
    query: bytes | None
    authority: bytes | None  # None: Host decides
    scheme: bytes  # in forward mode empty where the target names none: CONNECT, and what is asked of the proxy itself


def _read_target(method: bytes, target: bytes, mode: Mode, scheme: bytes, encode: bool) -> _Target:
    """The target in one of the forms that the mode takes (RFC 9112 §3.2)."""
    if method == b"CONNECT":
        return _read_connect(target, mode)
    if target == b"*":
        if method != b"OPTIONS":
            raise _bad("* is for OPTIONS alone")
        return _Target(b"*", None, None, b"" if mode == "forward" else scheme)
    if target.startswith(b"/"):
        return _Target(*_split_origin_form(target, encode), None, b"" if mode == "forward" else scheme)
    if mode == "transparent":
        raise _bad("origin-form was due")
    return _read_absolute(method, target, mode, scheme, encode)


def _read_connect(target: bytes, mode: Mode) -> _Target:
    """Host ":" port and nothing else (RFC 9110 §9.3.6)."""
    if mode != "forward":
        raise Failure(CONNECT_REFUSED, "CONNECT")
    host, colon, port = target.rpartition(b":")
    if not colon or not port or host.endswith(b":"):
        raise _bad("CONNECT wants host:port")
    return _Target(b"", None, parse_destination(target, b""), b"")


def _read_absolute(method: bytes, target: bytes, mode: Mode, scheme: bytes, encode: bool) -> _Target:
    """Scheme, authority, path and query; the authority is the one that counts (RFC 9112 §3.2.2)."""
    match = _ABSOLUTE_FORM.fullmatch(target)
    # https is never fetched in clear; a site's own scheme is that of the connection (RFC 9110 §7.4).
    wanted = b"http" if mode == "forward" else scheme
    if match is None or match[1].lower() != wanted:
        raise _bad("scheme of the target")
    authority = (parse_destination if mode == "forward" else parse_authority)(match[2], wanted)
    rest = match[3]
    if not rest and method == b"OPTIONS":
        return _Target(b"*", None, authority, wanted)  # RFC 9112 §3.2.4
    if not rest.startswith(b"/"):
        rest = b"/" + rest
    return _Target(*_split_origin_form(rest, encode), authority, wanted)


# ---- fields of a request ---------------------------------------------------------------------------------------------

# Looked at one by one; all other names pass as they are. May-occur-once fields that frame, route or identify are in
# `_ONCE`.
_ONCE = frozenset(
    {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"authorization",
        b"proxy-authorization",
        b"max-forwards",
        b"x-real-ip",
    }
)
_WATCHED = DROPPED_REQUEST | _ONCE | {b"expect"}
_COUNTED = frozenset({b"TRACE", b"OPTIONS"})  # Max-Forwards counts for these alone (RFC 9110 §7.6.2)
_USUAL_OPTIONS = frozenset(
    {b"close", b"keep-alive", b"upgrade", b"te", b"http2-settings"}
)  # name no field that is left


class _Sorted(NamedTuple):
    lines: tuple[Line, ...]
    watched: dict[bytes, list[bytes]]


def _sort_fields(raw_headers: Sequence[Line], underscores: bool) -> _Sorted:
    """The lines that stay, and the values of those that are looked at."""
    lines = []
    watched: dict[bytes, list[bytes]] = {}
    for line in raw_headers:
        name = line[0].lower()
        if name in _WATCHED:
            if name in watched:
                if name in _ONCE:
                    raise _bad("a field that may occur once occurs twice")
                watched[name].append(line[1])
            else:
                watched[name] = [line[1]]
            if name in DROPPED_REQUEST:
                continue
        elif underscores and b"_" in name and may_be_mistaken(name):
            continue
        lines.append(line)
    return _Sorted(tuple(lines), watched)


_DIGITS = re.compile(rb"[0-9]++")


def _parse_length(value: bytes) -> int | None:
    """Content-Length in digits; LARGEST_BODY + 1 for all beyond it, None for what is no number. No int() on text of
    any length.
    """
    if _DIGITS.fullmatch(value) is None:
        return None
    digits = value.lstrip(b"0")
    return min(int(digits or b"0"), LARGEST_BODY + 1) if len(digits) < 20 else LARGEST_BODY + 1


def _read_framing(watched: dict[bytes, list[bytes]], minor: int, max_body: int) -> tuple[int | None, bool]:
    """(announced length or None, chunked): RFC 9112 §6.1, §6.3."""
    codings = watched.get(b"transfer-encoding")
    lengths = watched.get(b"content-length")
    if codings is not None:
        if minor == 0 or lengths is not None:
            raise _bad("Transfer-Encoding in HTTP/1.0 or beside Content-Length")
        if codings[0].lower() != b"chunked":
            raise Failure(NOT_IMPLEMENTED, "transfer coding")
        return None, True
    if lengths is None:
        return None, False
    length = _parse_length(lengths[0])
    if length is None:
        raise _bad("Content-Length")
    if length > (max_body or LARGEST_BODY):
        raise Failure(BODY_TOO_LARGE, "announced length")
    return length, False


def _read_expect(values: list[bytes], minor: int, has_body: bool) -> bool:
    """Whether the client waits for 100; any other expectation fails (RFC 9110 §10.1.1)."""
    for value in values:
        for member in value.split(b","):
            if member.strip(b" \t").lower() not in {b"100-continue", b""}:
                raise Failure(EXPECTATION_FAILED, "unknown expectation")
    return minor == 1 and has_body


def _read_upgrade(values: list[bytes], permitted: frozenset[bytes]) -> bytes | None:
    """The first protocol asked for that is permitted (RFC 9110 §7.8)."""
    for value in values:
        for member in value.split(b","):
            protocol = member.strip(b" \t").lower()
            if protocol in permitted:
                return protocol
    return None


def _read_max_forwards(values: list[bytes]) -> int:
    if len(values[0]) > 9 or _DIGITS.fullmatch(values[0]) is None:
        raise _bad("Max-Forwards")
    return int(values[0])


def _check_request_size(raw_head: bytes, start: int, end: int, message: RequestMessage, limits: Limits) -> None:
    if end - start > limits.request_line:
        raise Failure(TARGET_TOO_LONG, "request line")
    if len(raw_head) > limits.head:
        raise Failure(HEAD_TOO_LARGE, "head")
    if len(message.raw_headers) > limits.fields:
        raise Failure(HEAD_TOO_LARGE, "number of fields")
    if len(raw_head) - end > limits.field and any(
        len(name) + len(value) > limits.field for name, value in message.raw_headers
    ):
        raise Failure(HEAD_TOO_LARGE, "field")


def check_request(
    raw_head: bytes,
    message: RequestMessage,
    *,
    scheme: bytes,
    mode: Mode,
    limits: Limits,
    default_authority: bytes | None = None,
    encode_target: bool = False,
    allow_trace: bool = False,
    upgrades: frozenset[bytes] = WEBSOCKET,
    max_body: int = 0,
) -> CheckedRequest:
    """The request that one whole head and the parser's message of it are; raises Failure and nothing else.

    `scheme` is that of the connection; `default_authority` stands in for the Host of an HTTP/1.0 request; `max_body`
    of 0 means no bound. Options of a site may be given as the widest of a listener's sites and asked again once the
    site is known.
    """
    start = 0
    if raw_head.startswith(b"\r\n"):
        start = _EMPTY_LINES.match(raw_head).end()  # type: ignore[union-attr]  # it matches the empty string too
    end = raw_head.find(b"\r\n", start)
    _check_request_size(raw_head, start, end, message, limits)
    method, target, minor = _split_request_line(raw_head[start:end])
    if message.method.encode("ascii", "replace") != method:
        raise _bad("the parser read another method")
    read = _read_target(method, target, mode, scheme, encode_target)
    lines, watched = _sort_fields(message.raw_headers, b"_" in raw_head)
    authority = _effective_authority(read, watched.get(b"host"), minor, scheme, default_authority)
    content_length, chunked = _read_framing(watched, minor, max_body)
    framed = chunked or content_length is not None
    _check_method(method, framed, allow_trace)
    options = parse_options(watched[b"connection"]) if b"connection" in watched else frozenset[bytes]()
    lines = _readdressed(_without_named(lines, options), read.authority)
    if minor == 0 and b"expect" in watched:  # ignored in HTTP/1.0, and we would forward it in 1.1 (RFC 9110 §10.1.1)
        lines = tuple(line for line in lines if line[0].lower() != b"expect")
    upgradable = b"upgrade" in options and b"upgrade" in watched and method == b"GET" and minor == 1 and not framed
    credentials = watched.get(b"proxy-authorization")
    return CheckedRequest(
        RequestHead(method, read.scheme, authority, read.path, read.query, (1, minor), Fields(lines)),
        content_length,
        chunked,
        b"expect" in watched and _read_expect(watched[b"expect"], minor, chunked or bool(content_length)),
        _read_upgrade(watched[b"upgrade"], upgrades) if upgradable else None,
        _may_persist(options, minor, mode),
        _read_max_forwards(watched[b"max-forwards"]) if b"max-forwards" in watched and method in _COUNTED else None,
        credentials[0] if credentials else None,
    )


def _without_named(lines: tuple[Line, ...], options: frozenset[bytes]) -> tuple[Line, ...]:
    """Less the fields that Connection names (RFC 9110 §7.6.1)."""
    if options <= _USUAL_OPTIONS:
        return lines
    named = nameable(options)
    return tuple(line for line in lines if line[0].lower() not in named)


def _readdressed(lines: tuple[Line, ...], authority: bytes | None) -> tuple[Line, ...]:
    """With Host as the target says (RFC 9112 §3.2.2)."""
    if authority is None:
        return lines
    return ((b"Host", authority), *[line for line in lines if line[0].lower() != b"host"])


def _effective_authority(
    read: _Target, hosts: list[bytes] | None, minor: int, scheme: bytes, default_authority: bytes | None
) -> bytes:
    """From the target, else from Host, which is checked in any case (RFC 9112 §3.2, §3.3)."""
    if hosts is not None:
        # Beside CONNECT's target Host has no scheme of its own; its port stays.
        told = parse_authority(hosts[0], read.scheme)
        return told if read.authority is None else read.authority
    if minor == 1:
        raise _bad("no Host")
    if read.authority is not None:
        return read.authority
    if default_authority is None:
        raise _bad("no Host, and no default")
    return parse_authority(default_authority, scheme)


def _check_method(method: bytes, framed: bool, allow_trace: bool) -> None:
    if method == b"TRACE":
        if not allow_trace:
            raise Failure(NO_METHOD, "TRACE")
        if framed:
            raise _bad("TRACE with a body")  # RFC 9110 §9.3.8
    elif method == b"CONNECT" and framed:
        raise _bad("CONNECT with a body")  # RFC 9110 §9.3.6


def _may_persist(options: frozenset[bytes], minor: int, mode: Mode) -> bool:
    """RFC 9112 §9.3. A proxy never persists with HTTP/1.0; in reverse mode we are the server."""
    if b"close" in options:
        return False
    return minor == 1 or (mode == "reverse" and b"keep-alive" in options)


_HUGE_LENGTH = re.compile(rb"\ncontent-length:[ \t]*+0*+[1-9][0-9]{18,}+[ \t]*+\r\n", re.IGNORECASE)


def classify_parse_error(error: Exception | None, raw_head: bytes, limits: Limits) -> Failure:
    """The row for what aiohttp's request parser raised on a whole head, or for its giving no message (error is None).

    Judged by the bytes rather than by the parser's words, which change with its release; only its class names are read.
    """
    start = _EMPTY_LINES.match(raw_head).end()  # type: ignore[union-attr]  # it matches the empty string too
    line, _, rest = raw_head[start:].partition(b"\r\n")
    kind = type(error).__name__
    if len(line) > limits.request_line:
        return Failure(TARGET_TOO_LONG, "request line")
    if kind == "LineTooLong" or len(raw_head) > limits.head:
        return Failure(HEAD_TOO_LARGE, "field or head")
    if error is None or kind == "BadStatusLine":
        if _REQUEST_LINE.fullmatch(line):
            return _bad("no whole head") if error is None else Failure(NOT_IMPLEMENTED, "method of another protocol")
        if _OTHER_VERSION.fullmatch(line):
            return Failure(BAD_VERSION, "version")
        return _bad("request line")
    if kind == "BadHttpMethod":
        # The parser stops at the method: the rest of the line has to be looked at before the method is blamed.
        return Failure(NOT_IMPLEMENTED, "unknown method") if _UNKNOWN_METHOD.fullmatch(line) else _bad("method")
    if kind == "BadHttpMessage" and rest.count(b"\r\n") - 1 > limits.fields:
        return Failure(HEAD_TOO_LARGE, "number of fields")
    if _HUGE_LENGTH.search(raw_head):
        return Failure(BODY_TOO_LARGE, "announced length")
    # A coding that does not end in chunked is among these: 400 rather than 501 (RFC 9112 §6.3).
    return _bad("syntax")


# ---- responses -------------------------------------------------------------------------------------------------------

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t -~\x80-\xff]*+))?+")


def _broken(detail: str) -> Failure:
    return Failure(BAD_RESPONSE, detail)


def check_response(
    message: ResponseMessage,
    raw_head: bytes,
    *,
    request_method: bytes,
    limits: Limits,
    upgrade: bytes | None = None,
) -> CheckedResponse:
    """The response that one whole head and the parser's message of it are; raises Failure and nothing else.

    `upgrade` is the lower-case protocol that was asked for. The caller bounds the number of interim responses.
    """
    if len(raw_head) > limits.response_head or len(message.raw_headers) > limits.response_fields:
        raise Failure(RESPONSE_HEAD_TOO_LARGE, "head or number of fields")
    match = _STATUS_LINE.fullmatch(raw_head, 0, raw_head.find(b"\r\n"))
    if match is None:
        raise _broken("status line")
    minor = 1 if match[1] == b"1" else 0
    status = int(match[2])
    if status != message.code:
        raise _broken("the parser read another status")
    watched = _watch_response(message.raw_headers)
    options = parse_options(watched.get(b"connection", ()))
    framing, length = _read_response_framing(watched, status, minor, request_method)
    switched = _read_switch(watched, options, upgrade, minor) if status == 101 else None

    lines = end_to_end(message.raw_headers, options)
    if b"_" in raw_head:
        lines = tuple(line for line in lines if b"_" not in line[0] or not may_be_mistaken(line[0].lower()))
    # Metadata where a representation could be told of, else gone: the length of a body is the framing's (RFC 9110
    # §8.6).
    if b"content-length" in watched and (framing is not Framing.NONE or status < 200 or status == 204):
        lines = tuple(line for line in lines if line[0].lower() != b"content-length")
    persists = (minor == 1 or b"keep-alive" in options) and not _binds_connection(watched)
    return CheckedResponse(
        ResponseHead(status, match[3] or b"", Fields(lines), (1, minor)),
        framing,
        length,
        persists
        and b"close" not in options
        and framing is not Framing.CLOSE
        and not _overpromises(watched, status, length),
        status < 200 and status != 101,
        switched,
    )


_WATCHED_IN_RESPONSES = frozenset(
    {b"connection", b"content-length", b"transfer-encoding", b"upgrade", b"www-authenticate"}
)
_BINDING_SCHEME = re.compile(rb"(?:^|,)[ \t]*+(?:ntlm|negotiate)(?:[ \t,]|$)", re.IGNORECASE)


def _watch_response(raw_headers: Sequence[Line]) -> dict[bytes, list[bytes]]:
    watched: dict[bytes, list[bytes]] = {}
    for line in raw_headers:
        name = line[0].lower()
        if name in _WATCHED_IN_RESPONSES:
            watched.setdefault(name, []).append(line[1])
    return watched


def _read_response_framing(
    watched: dict[bytes, list[bytes]], status: int, minor: int, request_method: bytes
) -> tuple[Framing, int | None]:
    """How the body ends, and the length announced (RFC 9112 §6.3). Broken framing is broken even where no body
    follows.
    """
    codings = watched.get(b"transfer-encoding")
    lengths = watched.get(b"content-length")
    length: int | None = None
    if lengths is not None:
        if len(lengths) > 1 or codings is not None:
            raise _broken("Content-Length twice or beside Transfer-Encoding")
        length = _parse_length(lengths[0])
        if length is None or length > LARGEST_BODY:
            raise _broken("Content-Length")
    if codings is not None and (minor == 0 or len(codings) > 1 or codings[0].lower() != b"chunked"):
        raise _broken("Transfer-Encoding")
    if request_method == b"HEAD" or status < 200 or status in {204, 304}:
        return Framing.NONE, length
    if request_method == b"CONNECT" and status < 300:
        return Framing.NONE, None
    if codings is not None:
        return Framing.CHUNKED, None
    return (Framing.CLOSE, None) if length is None else (Framing.LENGTH, length)


def _read_switch(
    watched: dict[bytes, list[bytes]], options: frozenset[bytes], asked: bytes | None, minor: int
) -> bytes:
    """The protocol of a 101, which has to be the one asked for (RFC 9110 §15.2.2)."""
    if asked is None:
        raise _broken("101 that was not asked for")
    told = watched.get(b"upgrade", [])
    if minor == 0 or len(told) != 1 or told[0].lower() != asked or b"upgrade" not in options:
        raise Failure(UPGRADE_FAILED, "101 for another protocol")
    return asked


def _binds_connection(watched: dict[bytes, list[bytes]]) -> bool:
    """Whether the origin authenticates the connection instead of each request: then no other client may get it."""
    return any(_BINDING_SCHEME.search(value) for value in watched.get(b"www-authenticate", ()))


def _overpromises(watched: dict[bytes, list[bytes]], status: int, length: int | None) -> bool:
    """A 1xx or 204 that announces a body may be followed by one: such a connection is not used again (RFC 9112 §6.1,
    §6.2).
    """
    return (status < 200 or status == 204) and (b"transfer-encoding" in watched or bool(length))


def classify_response_error(error: Exception) -> Failure:
    """The row for what aiohttp's response parser raised on a head."""
    if type(error).__name__ == "LineTooLong" or error.args[:1] == ("Too many headers received",):
        return Failure(RESPONSE_HEAD_TOO_LARGE, "field or number of fields")
    return _broken("head")
