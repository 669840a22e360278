"""aiohttp's C parsers, made in one place: strict, bounded, never decoding a body, never the Python fallback.

Importing this fails where the C parser is missing: the Python one reads other things than what was checked. A response
parser, and a request parser after a chunked request, serves one message only, because the last trailer field of a
chunked body leaks into the next message on the same parser. The private names used here are pinned by
tests/test_parsers.py.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp._http_parser as _c  # the compiled module: ImportError without it
from aiohttp.http_exceptions import HttpProcessingError

from proxy.errors import BAD_RESPONSE, Failure
from proxy.http.checks import classify_parse_error, classify_response_error

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from config.schema import Limits
    from proxy.http.message import Line

# Response parsers read this once, when they are made: without it they take bare LF, obs-fold, control bytes and blanks
# before the colon (RFC 9112 §2.2, §5.1, §5.2).
_c.DEBUG = True

# A payload asks its protocol to pause reading above twice this many bytes. We pause by our own counts, so it must
# never fire.
NEVER_PAUSE = 1 << 20

PARSE_ERRORS = (HttpProcessingError, ValueError)  # ValueError: yarl, on a port or literal it cannot take


def make_request_parser(protocol: object, loop: asyncio.AbstractEventLoop, limits: Limits) -> Any:
    """A parser for requests; `feed_data(data) -> (messages, upgraded, tail)`. `protocol` is a BaseProtocol of
    aiohttp.
    """
    return _c.HttpRequestParser(
        protocol,
        loop,
        NEVER_PAUSE,
        max_line_size=limits.request_line,
        max_headers=limits.fields,
        max_field_size=limits.field,
        auto_decompress=False,
    )


def make_response_head_parser(protocol: object, loop: asyncio.AbstractEventLoop, limits: Limits) -> Any:
    """A parser for one response head: whatever the head announces, the message ends with it."""
    return _make_response_parser(protocol, loop, limits, with_body=False)


def make_response_parser(protocol: object, loop: asyncio.AbstractEventLoop, limits: Limits) -> Any:
    """A parser for one whole response that is chunked or ends with the connection."""
    return _make_response_parser(protocol, loop, limits, with_body=True)


def _make_response_parser(protocol: object, loop: asyncio.AbstractEventLoop, limits: Limits, *, with_body: bool) -> Any:
    return _c.HttpResponseParser(
        protocol,
        loop,
        NEVER_PAUSE,
        max_line_size=limits.response_head,
        max_headers=limits.response_fields,
        max_field_size=limits.response_head,
        response_with_body=with_body,
        read_until_eof=True,
        auto_decompress=False,
    )


def parse_request_head(parser: Any, raw_head: bytes, limits: Limits) -> tuple[Any, Any]:
    """The one message (head, payload) that `raw_head` is. Feeds nothing else; raises Failure."""
    try:
        messages, _, tail = parser.feed_data(raw_head)
    except PARSE_ERRORS as exc:
        raise classify_parse_error(exc, raw_head, limits) from exc
    if len(messages) != 1 or tail:
        raise classify_parse_error(None, raw_head, limits)
    return messages[0]  # type: ignore[no-any-return]  # the C module has no types


# The strict parser takes one line of these. Real servers repeat them; that frames nothing, and both lines travel.
_REPEATABLE = re.compile(
    rb"(?<=\r\n)(?:content-location|content-type|etag|host|max-forwards|server|user-agent)(?=:)", re.IGNORECASE
)


class ResponseLines(NamedTuple):
    """A parsed response head, as far as `http/checks.py` reads it."""

    code: int
    raw_headers: tuple[Line, ...]


def parse_response_head(make: Callable[[], Any], raw_head: bytes) -> Any:
    """The one message that `raw_head` is; `make` gives a fresh parser of `make_response_head_parser`. Raises
    Failure.
    """
    try:
        return _parse_response_head(make(), raw_head)
    except Failure:
        if _REPEATABLE.search(raw_head) is None:
            raise
    masked = _REPEATABLE.sub(lambda found: b"~" + found[0][1:], raw_head)
    message = _parse_response_head(make(), masked)
    names = [line.partition(b":")[0] for line in raw_head.split(b"\r\n")[1:-2]]
    if len(names) != len(message.raw_headers):
        raise Failure(BAD_RESPONSE, "lines before or within the head that are no fields")
    lines = [(name, value) for name, (_, value) in zip(names, message.raw_headers, strict=True)]
    return ResponseLines(message.code, tuple(lines))


def _parse_response_head(parser: Any, raw_head: bytes) -> Any:
    try:
        messages, _, tail = parser.feed_data(raw_head)
    except PARSE_ERRORS as exc:
        raise classify_response_error(exc) from exc
    if len(messages) != 1 or tail:
        raise Failure(BAD_RESPONSE, "no whole response head")
    return messages[0][0]
