"""A WebSocket client on a raw connection: handshake, masked frames, close (RFC 6455 §4, §5)."""

from __future__ import annotations

import base64
import hashlib
import os
import struct
from typing import TYPE_CHECKING

from tests.kit import raw

if TYPE_CHECKING:
    from tests.kit.raw import Connection, Response

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def handshake(key: bytes, target: str, *lines: str, host: str = "test.example") -> bytes:
    """The bytes of an upgrade request."""
    return raw.request(
        "GET",
        target,
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key.decode()}",
        *lines,
        host=host,
    )


def upgrade(connection: Connection, target: str, *lines: str) -> Response:
    """The answer to an upgrade request; a 101 with a wrong accept value fails."""
    key = base64.b64encode(os.urandom(16))
    connection.send(handshake(key, target, *lines))
    answer = connection.read_response()
    if answer.status == 101:
        expected = base64.b64encode(hashlib.sha1(key + MAGIC).digest()).decode()
        assert answer.get("sec-websocket-accept") == expected
    return answer


def frame(opcode: int, payload: bytes) -> bytes:
    """One masked frame that is a whole message."""
    mask = os.urandom(4)
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 1 << 16:
        length = bytes([0x80 | 126]) + struct.pack(">H", size)
    else:
        length = bytes([0x80 | 127]) + struct.pack(">Q", size)
    return bytes([0x80 | opcode]) + length + mask + _masked(payload, mask)


def _masked(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def read_frame(connection: Connection) -> tuple[bool, int, bytes]:
    """Whether it is the last of its message, opcode, payload."""
    first, second = connection.read_exactly(2)
    size = second & 0x7F
    if size == 126:
        size = struct.unpack(">H", connection.read_exactly(2))[0]
    elif size == 127:
        size = struct.unpack(">Q", connection.read_exactly(8))[0]
    return bool(first & 0x80), first & 0x0F, connection.read_exactly(size)


def read_message(connection: Connection) -> tuple[int, bytes]:
    """The opcode and whole payload of the next message, fragments joined."""
    last, opcode, payload = read_frame(connection)
    while not last:
        last, _, more = read_frame(connection)
        payload += more
    return opcode, payload
