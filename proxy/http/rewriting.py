"""Takes the origin's own address out of responses: Location, Content-Location, Refresh, and Domain of Set-Cookie.

An origin that does not know its public name leaks the one it was connected by; clients could not follow it. Only an
exact match of the origin's address is rewritten: anything else is a place the origin means (RFC 9110 §10.2.2, RFC 6265
§5.2.3). Bodies are not read, and paths stay: no site maps one path to another.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from proxy.http.checks import DEFAULT_PORTS
from proxy.http.message import Fields, RequestHead

if TYPE_CHECKING:
    from proxy.http.message import Line, ResponseHead


class OriginAddress(Protocol):
    """What is read of an origin."""

    @property
    def scheme(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


_REWRITTEN = frozenset((b"location", b"content-location", b"refresh", b"set-cookie"))
_ABSOLUTE = re.compile(rb"(?:(https?):)?+//([^/?#]*+)(.*+)", re.IGNORECASE | re.DOTALL)
_REFRESH = re.compile(rb"([0-9.\t ]*+[;,][\t ]*+url[\t ]*+=[\t ]*+)(['\"]?+)(.*+)", re.IGNORECASE | re.DOTALL)
_DOMAIN = re.compile(rb"[\t ]*+domain[\t ]*+=[\t ]*+(.*+)", re.IGNORECASE | re.DOTALL)


def rewrite_response(
    head: ResponseHead, origin: OriginAddress, request: RequestHead, scheme: bytes | None = None
) -> ResponseHead:
    """The same head as seen from outside: the public scheme and authority are those the client asked for.

    `scheme` is the public one where a trusted hop in front, which ends TLS, has told it.
    """
    if scheme in DEFAULT_PORTS and scheme != request.scheme:
        request = RequestHead(
            request.method, scheme, request.authority, request.path, request.query, request.version, request.fields
        )
    if _REWRITTEN.isdisjoint(head.fields.names()):
        return head
    lines = tuple(_rewrite_line(line, origin, request) for line in head.fields.lines)
    return head if lines == head.fields.lines else head.with_fields(Fields(lines))


def _rewrite_line(line: Line, origin: OriginAddress, request: RequestHead) -> Line:
    name, value = line
    match name.lower():
        case b"location" | b"content-location":
            return name, rewrite_reference(value, origin, request)
        case b"refresh":
            return name, _rewrite_refresh(value, origin, request)
        case b"set-cookie":
            return name, rewrite_cookie(value, origin, request)
        case _:
            return line


def rewrite_reference(value: bytes, origin: OriginAddress, request: RequestHead) -> bytes:
    """A URI reference; relative ones, and those to elsewhere, stay as they are.

    A reference to the public name itself with the origin's scheme and port (`http://shop.example:8080/`, where
    the client came by https) is the same leak: Host was kept, scheme and port are the origin's own.
    """
    match = _ABSOLUTE.fullmatch(value)
    if match is None:
        return value
    scheme, authority, rest = match.groups()
    if not _is_origin(authority, (scheme or origin.scheme.encode()).lower(), origin, request):
        return value
    if scheme is None:
        return b"//%b%b" % (request.authority, rest)
    return b"%b://%b%b" % (request.scheme, request.authority, rest)


def _is_origin(authority: bytes, scheme: bytes, origin: OriginAddress, request: RequestHead) -> bool:
    host, port = split_authority(authority.lower())
    port = port or DEFAULT_PORTS.get(scheme, 0)
    if scheme != origin.scheme.encode() or port != origin.port:
        return False
    public, public_port = split_authority(request.authority)
    if host == public:  # equal already where scheme and port are equal too
        return (public_port or DEFAULT_PORTS.get(request.scheme, 0), request.scheme) != (port, scheme)
    return host == _origin_host(origin)


def _origin_host(origin: OriginAddress) -> bytes:
    host = origin.host.lower().encode("ascii", "replace")
    return b"[%b]" % host if b":" in host else host


def split_authority(authority: bytes) -> tuple[bytes, int]:
    """Host and port, 0 where none is written or it is no port; what is no authority equals no origin's."""
    host, colon, port = authority.rpartition(b":")
    if not colon or b"]" in port:
        return authority, 0
    if not port:
        return host, 0
    return (host, int(port)) if len(port) <= 5 and port.isdigit() else (authority, 0)


def _rewrite_refresh(value: bytes, origin: OriginAddress, request: RequestHead) -> bytes:
    """`5; url=http://origin/`, with or without quotes."""
    match = _REFRESH.fullmatch(value)
    return value if match is None else match[1] + match[2] + rewrite_reference(match[3], origin, request)


def rewrite_cookie(value: bytes, origin: OriginAddress, request: RequestHead) -> bytes:
    """A cookie for the origin's own host becomes one for the public host; the name and value are never touched."""
    if b";" not in value:
        return value
    cookie, *rest = value.split(b";")
    attributes: list[bytes | None] = list(rest)
    for at, attribute in enumerate(rest):
        match = _DOMAIN.fullmatch(attribute)
        if match is not None and match[1].strip(b" \t").removeprefix(b".").lower() == _origin_host(origin).strip(b"[]"):
            attributes[at] = _domain(request)
    return b";".join([cookie, *[attribute for attribute in attributes if attribute is not None]])


def _domain(request: RequestHead) -> bytes | None:
    """The attribute for the public host; none for an address or a single label, which browsers refuse there."""
    host, _ = split_authority(request.authority)
    plain_name = b"." in host and not host.startswith(b"[") and not host.rpartition(b".")[2].isdigit()
    return b" Domain=%b" % host if plain_name else None
