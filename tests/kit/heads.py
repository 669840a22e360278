"""Raw heads through the real C parser and our checks, as a worker reads them."""

from __future__ import annotations

import asyncio
from functools import cache

from aiohttp.base_protocol import BaseProtocol

from config.schema import Limits
from proxy import parsers
from proxy.http.checks import CheckedRequest, CheckedResponse, check_request, check_response

LIMITS = Limits()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """Parsers want a loop for their payloads; it never runs."""
    loop = asyncio.new_event_loop()
    loop.close()
    return loop


def protocol() -> BaseProtocol:
    return BaseProtocol(_loop())


def request_parser(limits: Limits = LIMITS):
    return parsers.make_request_parser(protocol(), _loop(), limits)


def response_parser(limits: Limits = LIMITS):
    return parsers.make_response_parser(protocol(), _loop(), limits)


def read_request(raw: bytes, *, scheme=b"http", mode="reverse", limits: Limits = LIMITS, **options) -> CheckedRequest:
    """The checked request; raises Failure."""
    message, _ = parsers.parse_request_head(request_parser(limits), raw, limits)
    return check_request(raw, message, scheme=scheme, mode=mode, limits=limits, **options)


def read_response(raw: bytes, *, method=b"GET", limits: Limits = LIMITS, upgrade=None) -> CheckedResponse:
    """The checked response; raises Failure."""
    message = parsers.parse_response_head(lambda: parsers.make_response_head_parser(protocol(), _loop(), limits), raw)
    return check_response(message, raw, request_method=method, limits=limits, upgrade=upgrade)
