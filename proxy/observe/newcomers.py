"""Connections to admin that have not said a request yet: few at a time, and not for long.

aiohttp bounds the time between two requests, not that of the first: without this a client that sends half a head, a few
thousand times, would keep everybody else out.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from aiohttp.http_exceptions import HttpProcessingError

if TYPE_CHECKING:
    from aiohttp import web

PATIENCE = 10.0  # seconds for a connection's first request to be here, as for heads on the proxy's ports
MOST = 200  # at a time; for one more the longest silent goes


class Newcomers:
    """Makes the protocols of admin's connections, and ends those that stay silent."""

    def __init__(self, server: web.Server, patience: float = PATIENCE) -> None:
        self._server = server
        self._patience = patience
        self._silent: dict[asyncio.BaseProtocol, None] = {}
        logging.getLogger("aiohttp.server").addFilter(_is_ours)

    def __call__(self) -> asyncio.Protocol:
        protocol = self._server()
        if len(self._silent) >= MOST:
            self._end(next(iter(self._silent)))
        self._silent[protocol] = None
        asyncio.get_running_loop().call_later(self._patience, self._end, protocol)
        return protocol

    def spoke(self, protocol: asyncio.BaseProtocol) -> None:
        """A whole request came over it."""
        self._silent.pop(protocol, None)

    def _end(self, protocol: asyncio.BaseProtocol) -> None:
        if protocol in self._silent:
            del self._silent[protocol]
            transport = getattr(protocol, "transport", None)
            if transport is not None:
                transport.abort()


def _is_ours(record: logging.LogRecord) -> bool:
    """What cannot be read as a request is its sender's fault, and no reason to fill the log with tracebacks."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
