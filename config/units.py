"""Values with units as they stand in the configuration file, and the time types used in the code.

`512MB` is a Size, `30s` a Duration, `:80` a Listen. Parsers raise ValueError with a sentence that says what is accepted.
"""

from __future__ import annotations

from typing import NamedTuple, NewType

Seconds = NewType("Seconds", float)
WallTime = NewType("WallTime", float)  # seconds since the epoch: for HTTP dates and logs
MonoTime = NewType("MonoTime", float)  # seconds of a clock that cannot jump: for intervals


class Duration(float):
    """Seconds; written as `250ms`, `30s`, `5min`, `2h`, `1d`."""


class Size(int):
    """Bytes; written as `512B`, `16KB`, `64MB`, `1GB` (powers of 1024)."""


class Address(NamedTuple):
    """Where to connect to; a port of 0 means the scheme's own."""

    scheme: str
    host: str
    port: int


class Listen(NamedTuple):
    """Where to listen; an empty host means all addresses of both families."""

    host: str
    port: int
