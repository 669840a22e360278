"""Which fields travel, and what we add to them: hop-by-hop removal, Via, Forwarded and X-Forwarded-*, framing lines.

A request head for an origin is a template, the same for equal heads of one site, with a block of lines about the
client put in: so the template can be kept and only the block is made per connection. All is written anew through
serialise.py; nothing here decides where a request goes or what the cache asks for (RFC 9110 §7.6, §7.8; RFC 7239).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from proxy.errors import LOOP, Failure
from proxy.http.message import Fields, RequestHead
from proxy.http.serialise import TOKEN, field_bytes, request_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.http.checks import CheckedRequest
    from proxy.http.message import Line

# Never forwarded, named by Connection or not (RFC 9110 §7.6.1). Transfer-Encoding and Upgrade are written anew where
# they apply.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# `Proxy` becomes HTTP_PROXY in CGI programs and redirects what they fetch ("httpoxy").
DROPPED_REQUEST = HOP_BY_HOP | {b"proxy", b"content-length"}

# Fields by which a hop in front tells who the client is or what it asked for; from strangers they are forgeries.
# Frameworks believe more of them than have a standard, and a cache must not be filled by what is in no key.
FORGEABLE = frozenset(
    {
        b"cf-connecting-ip",
        b"client-ip",
        b"forwarded",
        b"forwarded-for",
        b"front-end-https",
        b"true-client-ip",
        b"x-backend-host",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-forward-for",
        b"x-host",
        b"x-host-override",
        b"x-http-host-override",
        b"x-method",
        b"x-method-override",
        b"x-originating-ip",
        b"x-proxyuser-ip",
        b"x-real-ip",
        b"x-remote-addr",
        b"x-remote-ip",
        b"x-scheme",
        b"x-url-scheme",
    }
)
FORGEABLE_PREFIXES = (b"x-forwarded", b"x-original-", b"x-rewrite-", b"x-http-method")

# Connection cannot name these away: framing, Host, and what a cache lives by.
UNNAMEABLE = frozenset(
    {
        b"age",
        b"cache-control",
        b"cache-status",
        b"date",
        b"etag",
        b"expect",
        b"expires",
        b"host",
        b"last-modified",
        b"pragma",
        b"range",
        b"transfer-encoding",
        b"vary",
        b"via",
    }
)
UNNAMEABLE_PREFIXES = (b"content-", b"if-")
TARGETED_SUFFIX = b"-cache-control"  # of fields for one kind of cache (RFC 9213 §2.1)

# With `-` for `_` these would be read as the real field by servers that map both to one variable.
_CONFUSABLE = (
    DROPPED_REQUEST | FORGEABLE | {b"host", b"authorization", b"cookie", b"expect", b"remote-user", b"remote-addr"}
)


def may_be_forged(name: bytes) -> bool:
    """Whether a lower-case field name tells about the client or overrides the request: believed from trusted hops
    alone.
    """
    return name in FORGEABLE or name.startswith(FORGEABLE_PREFIXES)


def may_be_mistaken(name: bytes) -> bool:
    """Whether a lower-case field name with `_` could be taken for one that frames, routes or identifies."""
    plain = name.replace(b"_", b"-")
    return plain in _CONFUSABLE or may_be_forged(plain)


# Whom a hop speaks for. No answer to be shared depends on one client's address, so these are in no key.
_OF_THE_CLIENT = frozenset({b"x-forwarded", b"x-forwarded-by", b"x-forwarded-server", b"x-remote-addr"})
_PARAMETER = re.compile(rb'[ \t]*+([^=;,]++)=("(?:[^"\\\\]|\\\\.)*+"|[^;,]*+)')


def told_beside(request: RequestHead) -> bytes:
    """What a trusted hop's words add to the key, since the origin's answer may follow from them: a line for each that
    says other than the request's own target does. Empty for a hop that tells of client, scheme and host alone.
    """
    known = {
        b"x-forwarded-proto": request.scheme,
        b"x-forwarded-host": request.authority,
        b"x-forwarded-port": _implied_port(request.scheme, request.authority),
    }
    told = []
    for name in request.fields.names():
        if may_be_forged(name) and name not in _OF_THE_CLIENT and not name.endswith((b"-ip", b"-for")):
            value = request.fields.get(name) or b""
            said = _said_anew(request, value) if name == b"forwarded" else value
            if said and said != known.get(name):
                told.append(b"\n" + name + b":" + said)
    return b"".join(sorted(told))


def told_part(ending: bytes) -> bytes:
    """Of what stands behind the address in a key, the lines of `told_beside`."""
    lines = [line for line in ending.split(b"\n") if may_be_forged(line.partition(b":")[0])]
    return b"".join(b"\n" + line for line in lines)


def _said_anew(request: RequestHead, forwarded: bytes) -> bytes:
    """The parameters of Forwarded but for addresses, and for what the target says itself (RFC 7239 §5)."""
    known = {b"proto": request.scheme, b"host": request.authority}
    found = [(name.lower(), value.strip(b' \t"').lower()) for name, value in _PARAMETER.findall(forwarded)]
    return b";".join(
        name + b"=" + value for name, value in found if name not in {b"for", b"by"} and known.get(name) != value
    )


def parse_options(values: Iterable[bytes]) -> frozenset[bytes]:
    """The lower-case members of Connection, over all its lines (RFC 9110 §7.6.1)."""
    return frozenset(
        option for value in values for member in value.split(b",") if (option := member.strip(b" \t").lower())
    )


def nameable(options: Iterable[bytes]) -> frozenset[bytes]:
    """The field names in Connection that are obeyed; those a message or a cache lives by are not among them."""
    return frozenset(
        name
        for name in options
        if name not in UNNAMEABLE
        and not name.startswith(UNNAMEABLE_PREFIXES)
        and not name.endswith(TARGETED_SUFFIX)
        and not may_be_forged(name)
    )


def end_to_end(lines: Iterable[Line], options: Iterable[bytes] = ()) -> tuple[Line, ...]:
    """The lines of a response that travel on: hop-by-hop ones and those named by Connection are left out."""
    drop = HOP_BY_HOP | nameable(options)
    return tuple(line for line in lines if line[0].lower() not in drop)


def without_forgeable(fields: Fields, passing: frozenset[bytes] = frozenset()) -> Fields:
    """A stranger's fields: what only a trusted hop may say is gone, but for the names a site lets through."""
    gone = [name for name in fields.names() if name not in passing and may_be_forged(name)]
    return fields.without(frozenset(gone)) if gone else fields


@dataclass(frozen=True, slots=True)
class Hop:
    """What a client connection adds to each request that comes over it; made once per connection."""

    address: bytes  # of the peer; b"unknown" where it has none
    scheme: bytes

    @property
    def node(self) -> bytes:
        """The peer as a Forwarded node (RFC 7239 §6)."""
        return b'"[%b]"' % self.address if b":" in self.address else self.address


def make_hop(address: str, scheme: bytes) -> Hop:
    """The Hop of a peer; a Unix peer is `unknown` (RFC 7239 §6.2), an IPv4-mapped address is written as IPv4, a zone
    is dropped.
    """
    plain = address.partition("%")[0]
    if plain.lower().startswith("::ffff:") and "." in plain:
        plain = plain[7:]
    known = "." in plain or ":" in plain
    return Hop(plain.encode("ascii") if known else b"unknown", scheme)


class Told(NamedTuple):
    """What a trusted hop told about the client; each None where it told nothing."""

    forwarded_for: bytes | None
    proto: bytes | None
    host: bytes | None
    port: bytes | None
    forwarded: bytes | None


@dataclass(frozen=True, slots=True)
class ForwardTemplate:
    """A request head for an origin, less the lines about the client: equal for equal heads, options and trust.

    `told` is None for strangers. Without `identify` the client is not mentioned.
    """

    before: bytes
    after: bytes
    authority: bytes  # what the client asked for
    told: Told | None = None
    identify: bool = True

    def head(self, hop: Hop) -> bytes:
        """The whole head, for a request that came over this hop."""
        if not self.identify:
            return self.before + self.after
        return self.before + client_lines(hop, self.authority, self.told) + self.after


def quoted(value: bytes) -> bytes:
    """A Forwarded value: as it stands if it is a token, else a quoted-string (RFC 7239 §4)."""
    if value and not value.translate(None, TOKEN):
        return value
    return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def client_lines(hop: Hop, authority: bytes, told: Told | None) -> bytes:
    """The lines about the client, such that Tomcat's RemoteIpValve finds it: the peer's address stands last in each
    list.

    A trusted hop's word on scheme, host and port is kept, since it met the client; a port it left out follows from
    what it said. The port is the one the client asked for: behind a mapping the local one would lead it astray.
    """
    forwarded = b"for=%b;host=%b;proto=%b" % (hop.node, quoted(authority), hop.scheme)
    if told is None:
        return field_bytes(
            _client_fields(hop.address, hop.scheme, authority, _implied_port(hop.scheme, authority), forwarded)
        )
    proto = told.proto or hop.scheme
    host = told.host or authority
    port = told.port or _implied_port(proto, host)
    listed = hop.address if told.forwarded_for is None else told.forwarded_for + b", " + hop.address
    elements = forwarded if told.forwarded is None else told.forwarded + b", " + forwarded
    return field_bytes(_client_fields(listed, proto, host, port, elements))


def _client_fields(address: bytes, proto: bytes, host: bytes, port: bytes, forwarded: bytes) -> tuple[Line, ...]:
    return (
        (b"X-Forwarded-For", address),
        (b"X-Forwarded-Proto", proto),
        (b"X-Forwarded-Host", host),
        (b"X-Forwarded-Port", port),
        (b"Forwarded", forwarded),
    )


def _implied_port(proto: bytes, host: bytes) -> bytes:
    _, colon, port = host.rpartition(b":")
    if colon and port.isdigit():
        return port
    return b"443" if proto.lower() == b"https" else b"80"


# Written by `client_lines`; from trusted hops they are read, never copied.
_WRITTEN = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port"})


def read_told(fields: Fields) -> Told:
    """What the fields of a request from a trusted hop say. An empty value says nothing."""
    return Told(
        fields.get(b"x-forwarded-for") or None,
        fields.get(b"x-forwarded-proto") or None,
        fields.get(b"x-forwarded-host") or None,
        fields.get(b"x-forwarded-port") or None,
        fields.get(b"forwarded") or None,
    )


@dataclass(frozen=True, slots=True)
class ForwardOptions:
    """What one site or mode says about its requests towards origins; made once, equal for all its requests."""

    via: bytes  # pseudonym of this instance (RFC 9110 §7.6.3); another instance has another
    host: bytes | None = None  # authority to send instead of the client's
    passing: frozenset[bytes] = frozenset()  # lower-case names that strangers may send all the same
    upgrades: frozenset[bytes] = frozenset({b"websocket"})
    strangers: bool = True  # drop what only trusted hops may say; forward mode leaves it
    identify: bool = True  # tell the origin who the client is
    parent: bytes | None = None  # the next hop is a proxy, with its Proxy-Authorization, or b""


def forward_request(
    checked: CheckedRequest,
    options: ForwardOptions,
    *,
    trusted: bool,
    replace: tuple[Line, ...] = (),
    drop: frozenset[bytes] = frozenset(),
    method: bytes | None = None,
) -> ForwardTemplate:
    """The head for the origin in origin-form (RFC 9112 §3.2.1), less the client's lines; raises Failure on a loop.

    `drop` (lower-case names) leave, `replace` lines join: so the cache exchanges conditions, and a rule takes
    out Cookie. With another `method` (a HEAD asked for as GET) nothing else changes.
    """
    head = checked.head
    fields = head.fields
    refuse_loop(fields, options.via)
    leave = _leaving(fields, options, trusted=trusted) | drop | {b"host"}
    if checked.max_forwards is not None:
        leave |= {b"max-forwards"}
        replace = (*replace, (b"Max-Forwards", b"%d" % max(0, checked.max_forwards - 1)))
    host = head.authority if options.host is None else options.host
    target = head.target if options.parent is None else _absolute(head)
    before = request_line(method or head.method, target) + field_bytes(
        ((b"Host", host), *[line for line in fields.lines if line[0].lower() not in leave], *replace)
    )
    after = (
        field_bytes(
            (via_line(head.version, options.via), *_login(options), *_framing(checked), *_upgrade(checked, options))
        )
        + b"\r\n"
    )
    told = read_told(fields if trusted else _passing(fields, options)) if trusted or options.passing else None
    return ForwardTemplate(before, after, head.authority, told, options.identify)


def connect_head(authority: bytes, login: bytes, pseudonym: bytes) -> bytes:
    """What asks a proxy for a tunnel (RFC 9110 §9.3.6)."""
    lines: tuple[Line, ...] = ((b"Host", authority), via_line((1, 1), pseudonym))
    if login:
        lines += ((b"Proxy-Authorization", login),)
    return request_line(b"CONNECT", authority) + field_bytes(lines) + b"\r\n"


def _absolute(head: RequestHead) -> bytes:
    """The target as a proxy is asked (RFC 9112 §3.2.2, §3.2.4)."""
    return head.scheme + b"://" + head.authority + (b"" if head.path == b"*" else head.target)


def _login(options: ForwardOptions) -> tuple[Line, ...]:
    return ((b"Proxy-Authorization", options.parent),) if options.parent else ()


def _leaving(fields: Fields, options: ForwardOptions, *, trusted: bool) -> frozenset[bytes]:
    """Names that do not travel: what we write ourselves, and what strangers may not say."""
    leave = set(_WRITTEN) if options.identify else set()
    if options.strangers and not trusted:
        leave.update(name for name in fields.names() if may_be_forged(name) and name not in options.passing)
    return frozenset(leave)


def _passing(fields: Fields, options: ForwardOptions) -> Fields:
    """What strangers may say all the same."""
    return Fields(line for line in fields.lines if line[0].lower() in options.passing)


def _framing(checked: CheckedRequest) -> tuple[Line, ...]:
    """What we are about to send, never what was received (RFC 9112 §6)."""
    if checked.chunked:
        return ((b"Transfer-Encoding", b"chunked"),)
    return () if checked.content_length is None else ((b"Content-Length", b"%d" % checked.content_length),)


def _upgrade(checked: CheckedRequest, options: ForwardOptions) -> tuple[Line, ...]:
    """An upgrade is asked for anew if it is permitted (RFC 9110 §7.8); else the connection persists, which needs no
    word.
    """
    if checked.upgrade is None or checked.upgrade not in options.upgrades:
        return ()
    return ((b"Connection", b"upgrade"), (b"Upgrade", checked.upgrade))


def via_line(version: tuple[int, int], pseudonym: bytes) -> Line:
    """Our member of Via, as a line of its own after those received: `version` is that of the message received."""
    return (b"Via", b"%d.%d %b" % (*version, pseudonym))


def refuse_loop(fields: Fields, pseudonym: bytes) -> None:
    """Raises Failure if the request has passed this very instance before (RFC 9110 §7.6.3)."""
    for value in fields.all(b"via"):
        for member in value.split(b","):
            if member.split()[1:2] == [pseudonym]:
                raise Failure(LOOP, "own name in Via")


def readdress(head: RequestHead, fields: Fields) -> RequestHead:
    """The same request with other fields."""
    return RequestHead(head.method, head.scheme, head.authority, head.path, head.query, head.version, fields)
