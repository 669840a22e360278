"""The answers that are our own: error pages, redirects and fixed answers as heads and bodies.

What of a request is in them is escaped (hardening against reflection), and no store may keep an error (RFC 9111 §3,
RFC 9209).
"""

from __future__ import annotations

from html import escape
from http import HTTPStatus
from math import ceil
from typing import TYPE_CHECKING

from proxy import errors
from proxy.errors import Source
from proxy.http.message import Fields, ResponseHead

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.errors import Failure
    from proxy.http.message import Line

SAYS = {
    Source.CLIENT: "The request could not be understood or is more than this server takes.",
    Source.PROXY: "This server does not give an answer to the request.",
    Source.UPSTREAM: "The server behind this one did not give a usable answer. Trying again later may help.",
}
# What a person in front of a browser is told more of.
SAYS_MORE = {
    errors.NO_SERVER: "This is a proxy, not the server itself. It is asked by programs that are told to use it: set it "
    "as HTTP proxy in the browser or system, or as <code>http_proxy</code> in the environment.",
    errors.STRANGER: "This proxy does not serve your address.",
    errors.PORT_REFUSED: "This proxy does not go to that port.",
    errors.ADDRESS_REFUSED: "This proxy does not go to that address: it is not a public one.",
    errors.READ_ONLY: "This is a mirror: nothing can be published through it.",
    errors.LOGIN: "This proxy asks who you are: log in with the name and password that you have been given.",
    errors.MIRROR_LOGIN: "This mirror asks who you are: log in with the name and password that you have been given.",
    errors.TOO_FAST: "You have sent more requests than this proxy takes of one client at a time. Wait a little.",
    errors.TOO_MANY_LOGINS: "Too many logins have failed. Wait a little before you try again.",
    errors.LOOP: "This way leads back to this very proxy.",
}


READ = b"GET, HEAD"  # all that a mirror takes
ALLOWED = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"  # what we pass on; of the rest the origin is not asked


def reason_phrase(status: int) -> bytes:
    """The phrase of RFC 9110 §15, empty for codes nobody knows."""
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


def error_page(
    failure: Failure, *, name: bytes, date: bytes, pages: Mapping[int, bytes] | None = None
) -> tuple[ResponseHead, bytes]:
    """The answer for a failure: the site's own page for its status, else a short one; head without framing."""
    kind = failure.kind
    body = pages.get(kind.status) if pages else None
    if body is None:
        phrase = reason_phrase(kind.status).decode()
        says = escape(failure.says) or SAYS_MORE.get(kind, SAYS[kind.source])
        body = (
            "<!doctype html>\n"
            f'<html lang="en"><head><meta charset="utf-8"><title>{kind.status} {phrase}</title></head>\n'
            f"<body><h1>{kind.status} {phrase}</h1><p>{says}</p><p><code>{kind.token}</code></p></body>\n"
            "</html>\n"
        ).encode()
    lines: tuple[Line, ...] = (
        (b"Date", date),
        (b"Content-Type", b"text/html; charset=utf-8"),
        (b"Cache-Control", b"no-store"),
        (b"X-Content-Type-Options", b"nosniff"),
        (b"Proxy-Status", b"%b; error=%b" % (name, kind.proxy_error.encode())),
    )
    if kind.status == 405:
        lines += ((b"Allow", READ if kind is errors.READ_ONLY else ALLOWED),)  # RFC 9110 §15.5.6
    if failure.wait:
        lines += ((b"Retry-After", b"%d" % ceil(failure.wait)),)
    return ResponseHead(kind.status, reason_phrase(kind.status), Fields(lines)), body
