"""A small name server on loopback UDP that answers as it is told: short lifetimes, errors, silence.

A fake where the real thing could not be made to fail on demand. It knows A and AAAA, one question per message
(RFC 1035 §4.1), and counts what it was asked.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

TYPES = {1: socket.AF_INET, 28: socket.AF_INET6}
NXDOMAIN = 3
SERVFAIL = 2


@dataclass
class FakeNameServer(asyncio.DatagramProtocol):
    """`names` has for each name its addresses and TTL; `rcode` overrides them all; `silent` answers nothing."""

    names: dict[str, tuple[list[str], int]] = field(default_factory=dict)
    rcode: int = 0
    silent: bool = False
    asked: Counter[str] = field(default_factory=Counter)  # questions for A records, by name
    transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self.transport is not None
        self.transport.close()

    @property
    def server(self) -> str:
        assert self.transport is not None
        return "127.0.0.1:{}".format(self.transport.get_extra_info("sockname")[1])

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        name, kind, end = _question(data)
        if kind == 1:
            self.asked[name] += 1
        if not self.silent:
            assert self.transport is not None
            self.transport.sendto(self._answer(data, name, kind, data[12:end]), addr)

    def _answer(self, data: bytes, name: str, kind: int, question: bytes) -> bytes:
        addresses, ttl = self.names.get(name, ([], 0))
        rcode = self.rcode or (0 if name in self.names else NXDOMAIN)
        records = [] if rcode else [packed for text in addresses if (packed := _pack(text, kind)) is not None]
        head = struct.pack("!2sHHHHH", data[:2], 0x8580 | rcode, 1, len(records), 0, 0)
        body = [struct.pack("!HHHIH", 0xC00C, kind, 1, ttl, len(packed)) + packed for packed in records]
        return head + question + b"".join(body)


def _question(data: bytes) -> tuple[str, int, int]:
    labels, at = [], 12
    while data[at]:
        labels.append(data[at + 1 : at + 1 + data[at]].decode().lower())
        at += 1 + data[at]
    return ".".join(labels), int.from_bytes(data[at + 1 : at + 3], "big"), at + 5


def _pack(text: str, kind: int) -> bytes | None:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return socket.inet_pton(family, text) if TYPES.get(kind) == family else None
