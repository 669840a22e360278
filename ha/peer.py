"""The peer link: whole messages between two nodes that have proved to each other that they know the shared secret.

`Conversation` is pure, bytes in and bytes out: a handshake in three messages with fresh nonces of both, from which come
a key for each direction; then frames with a sequence number and a truncated HMAC-SHA256 (RFC 2104). `Links` drives it
over TCP. Nothing on the link is secret, so nothing is encrypted; what a message means is not known here.
Invariants: no payload leaves `Conversation` before the peer has proved itself; numbers go up by one, so that a frame
repeated, left out or moved ends the link; a link that was never proved changes nothing about one that was.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Address = tuple[str, int]

MAX_FRAME: Final = 16 * 2**10  # bytes of a frame; a word about eight routers with their reasons has about 2 KB
MIN_SECRET: Final = 16  # bytes
MAC: Final = 16  # bytes of the HMAC that travel; RFC 2104 §5 asks for at least half of them

_MAGIC: Final = b"tandem-link-1 "
_NONCE: Final = 32
_PROOF: Final = 32
_MAX_NAME: Final = 64
_LENGTH: Final = struct.Struct("!H")
_NUMBER: Final = struct.Struct("!Q")

_HANDSHAKE_LIMIT: Final = 2.0  # seconds from the connection to its proof
_MOST_STRANGERS: Final = 8  # connections without proof at once; more are closed at once
_MOST_UNSENT: Final = 256 * 2**10  # bytes; a peer that takes none of them is gone, whatever TCP hopes
_RETRIES: Final = (0.02, 0.05, 0.1, 0.2, 0.5)  # seconds between attempts to connect; the last one goes on
_CONNECT_LIMIT: Final = 1.0
_IP_FREEBIND: Final = 15  # <linux/in.h>, <linux/in6.h>: the link's own address may come up after us
_IPV6_FREEBIND: Final = 78


class LinkError(Exception):
    """The other end does not keep to the protocol, or does not know the secret; the connection ends."""


class Role(Enum):
    DIALS = b"dials"
    ANSWERS = b"answers"


def parse_secret(content: bytes) -> bytes:
    """The key in the secret file's bytes. Raises ValueError with a sentence when it is too short."""
    text = content.strip()
    if len(text) < MIN_SECRET:
        raise ValueError(f"a secret has at least {MIN_SECRET} bytes; make one by: tandem ha key")
    return hashlib.sha256(_MAGIC + text).digest()


# ---- the protocol: pure ----------------------------------------------------------------------------------------------


class Conversation:
    """One end of one connection, from its first byte to its last. `nonce` must never be used twice."""

    def __init__(self, role: Role, own: str, expected: Sequence[str], key: bytes, nonce: bytes) -> None:
        assert len(nonce) == _NONCE
        self._role = role
        self._own = own.encode()
        self._expected = {name.encode() for name in expected}
        self._key = key
        self._nonce = nonce
        self._transcript = b""
        self._buffer = bytearray()
        self._sealing = self._opening = b""  # keys of the two directions, once there
        self._sent = self._received = 0
        self.peer: str | None = None  # its name, once it is proved

    def start(self) -> bytes:
        """What to send first; nothing for the end that answers."""
        return _frame(self._hello()) if self._role is Role.DIALS else b""

    def receive(self, data: bytes) -> tuple[bytes, list[bytes]]:
        """What to send in reply, and the payloads that these bytes complete. Raises LinkError: close."""
        self._buffer += data
        reply, payloads = b"", []
        while (body := self._cut()) is not None:
            if self.peer is not None:
                payloads.append(self._open(body))
            elif self._role is Role.DIALS:
                reply += self._hear_answer(body)
            elif not self._transcript:
                reply += self._hear_hello(body)
            else:
                self._hear_proof(body)
        return reply, payloads

    def seal(self, payload: bytes) -> bytes:
        """The payload as a frame, the next in order. Only to a peer that is proved."""
        assert self.peer is not None, "nothing is said to a stranger"
        head = _NUMBER.pack(self._sent)
        self._sent += 1
        return _frame(head + payload + _mac(self._sealing, head, payload)[:MAC])

    def _cut(self) -> bytes | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        length: int = _LENGTH.unpack_from(self._buffer)[0]
        if length > (MAX_FRAME if self.peer is not None else len(self._longest_greeting())):
            raise LinkError(f"a frame of {length} bytes is too long")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return body

    def _longest_greeting(self) -> bytes:
        return _MAGIC + bytes(_NONCE + _PROOF + _MAX_NAME)

    def _hello(self) -> bytes:
        return _MAGIC + self._nonce + self._own

    def _hear_hello(self, body: bytes) -> bytes:
        nonce, name = self._parse_hello(body)
        self._name = name
        self._transcript = _transcript(nonce, name, self._nonce, self._own)
        return _frame(_MAGIC + self._prove(Role.ANSWERS) + self._nonce + self._own)

    def _hear_answer(self, body: bytes) -> bytes:
        at = len(_MAGIC) + _PROOF
        nonce, name = self._parse_hello(_MAGIC + body[at:])
        self._transcript = _transcript(self._nonce, self._own, nonce, name)
        self._check(body[len(_MAGIC) : at], Role.ANSWERS)
        self._begin(name)
        return _frame(self._prove(Role.DIALS))

    def _hear_proof(self, body: bytes) -> None:
        self._check(body, Role.DIALS)
        self._begin(self._name)

    def _parse_hello(self, body: bytes) -> tuple[bytes, bytes]:
        at = len(_MAGIC)
        nonce, name = body[at : at + _NONCE], body[at + _NONCE :]
        if not body.startswith(_MAGIC) or len(nonce) != _NONCE:
            raise LinkError("not the greeting of a node")
        if name not in self._expected:
            raise LinkError("the greeting of a node that is not expected here")
        return nonce, name

    def _check(self, proof: bytes, role: Role) -> None:
        if not hmac.compare_digest(proof, self._prove(role)):
            raise LinkError("the other node has another secret")

    def _prove(self, role: Role) -> bytes:
        return _mac(self._key, b"proof ", role.value, self._transcript)

    def _begin(self, name: bytes) -> None:
        keys = {role: _mac(self._key, b"key ", role.value, self._transcript) for role in Role}
        other = Role.ANSWERS if self._role is Role.DIALS else Role.DIALS
        self._sealing, self._opening = keys[self._role], keys[other]
        self.peer = name.decode()

    def _open(self, body: bytes) -> bytes:
        head, payload, mac = body[: _NUMBER.size], body[_NUMBER.size : -MAC], body[-MAC:]
        if len(body) < _NUMBER.size + MAC or not hmac.compare_digest(mac, _mac(self._opening, head, payload)[:MAC]):
            raise LinkError("a frame that the peer has not made")
        if _NUMBER.unpack(head)[0] != self._received:
            raise LinkError("a frame repeated or left out")
        self._received += 1
        return payload


def _transcript(nonce: bytes, name: bytes, other_nonce: bytes, other_name: bytes) -> bytes:
    """All that was said, of the one who dials first; lengths keep two readings apart."""
    parts = (nonce, name, other_nonce, other_name)
    return b"".join(_LENGTH.pack(len(part)) + part for part in parts)


def _mac(key: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, b"".join(parts), "sha256")


def _frame(body: bytes) -> bytes:
    if len(body) > MAX_FRAME:
        raise LinkError(f"a frame of {len(body)} bytes is too long")
    return _LENGTH.pack(len(body)) + body


# ---- the driver ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What is told of the links, on the loop's thread and at once."""

    up: Callable[[str], None]
    heard: Callable[[str, bytes], None]
    down: Callable[[str, str, bool], None]  # with the reason; True: the other process ended or closed it
    strange: Callable[[str, str], None]  # a connection that came to nothing: from where, why


class _Connection(asyncio.Protocol):
    """One TCP connection with its conversation."""

    def __init__(self, links: Links, role: Role, expected: Sequence[str]) -> None:
        self._links = links
        self._talk = Conversation(role, links.own, expected, links.key, os.urandom(_NONCE))
        self._limit: asyncio.TimerHandle | None = None
        self._aborted = False
        self.transport: asyncio.Transport | None = None
        self.where = "nowhere"
        self.ended = asyncio.get_running_loop().create_future()
        self.reason = "closed"
        self.by_peer = False

    @property
    def peer(self) -> str | None:
        return self._talk.peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.where = str(transport.get_extra_info("peername")[0])
        transport.set_write_buffer_limits(high=_MOST_UNSENT)
        self._limit = asyncio.get_running_loop().call_later(_HANDSHAKE_LIMIT, self.abort, "no proof in time")
        refusal = self._links.refusal_of(self)
        if refusal:
            self.abort(refusal)
        else:
            transport.write(self._talk.start())

    def data_received(self, data: bytes) -> None:
        stranger = self._talk.peer is None
        try:
            reply, payloads = self._talk.receive(data)
        except LinkError as exc:
            self.abort(str(exc))
            return
        assert self.transport is not None
        if reply:
            self.transport.write(reply)
        peer = self._talk.peer
        if peer is None:
            return
        if stranger:
            if self._limit is not None:
                self._limit.cancel()
            self._links.proved(self, peer)
        for payload in payloads:
            self._links.callbacks.heard(peer, payload)

    def send(self, payload: bytes) -> bool:
        if self.transport is None or self.transport.is_closing():
            return False
        self.transport.write(self._talk.seal(payload))
        if self.transport.get_write_buffer_size() > _MOST_UNSENT:
            self.abort("takes nothing")
            return False
        return True

    def abort(self, reason: str) -> None:
        self.reason, self.by_peer = reason, False
        self._aborted = True
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._limit is not None:
            self._limit.cancel()
        if not self._aborted:
            self.by_peer = exc is None or isinstance(exc, ConnectionResetError | BrokenPipeError)
            self.reason = "closed" if exc is None else str(exc)
        if not self.ended.done():
            self.ended.set_result(None)
        self._links.lost(self)


@dataclass(slots=True)
class Links:
    """The links of one node to all others: of two nodes the one with the lower address dials, the other answers."""

    own: str
    key: bytes
    local: Address
    peers: Mapping[str, Address]
    callbacks: Callbacks
    _open: dict[str, _Connection] = field(default_factory=dict)
    _strangers: set[_Connection] = field(default_factory=set)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens and dials from now on. Raises OSError when the port cannot be listened on."""
        own = socket.inet_pton(_family(self.local), self.local[0])
        dialled = [n for n, a in self.peers.items() if (own < socket.inet_pton(_family(a), a[0]))]
        if len(dialled) < len(self.peers):
            sock = _listening(self.local)
            expected = [name for name in self.peers if name not in dialled]
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(lambda: _Connection(self, Role.ANSWERS, expected), sock=sock)
        self._tasks = [asyncio.create_task(self._keep_dialling(name)) for name in dialled]

    def is_up(self, peer: str) -> bool:
        return peer in self._open

    def descriptors(self) -> list[int]:
        """Of the sockets that are links: whoever shares them can end the links in our place."""
        infos = [one.transport.get_extra_info("socket") for one in self._open.values() if one.transport is not None]
        return [info.fileno() for info in infos if info is not None and info.fileno() >= 0]

    def send(self, peer: str, payload: bytes) -> bool:
        """Whether it is on its way. A word that cannot go is not kept: the next one says more."""
        connection = self._open.get(peer)
        return connection is not None and connection.send(payload)

    def cut(self, peer: str, reason: str) -> None:
        """Ends the link to this peer; it is made anew."""
        if peer in self._open:
            self._open[peer].abort(reason)

    async def close(self) -> None:
        """Sends what is written, then ends everything."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        open_ones = [*self._open.values()]
        for connection in [*self._strangers]:
            connection.abort("closing")
        for connection in open_ones:
            if connection.transport is not None:
                connection.transport.close()
        if open_ones:
            await asyncio.wait([connection.ended for connection in open_ones], timeout=0.1)
        for connection in open_ones:
            connection.abort("closing")
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_dialling(self, peer: str) -> None:
        attempt = 0
        loop = asyncio.get_running_loop()
        while True:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CONNECT_LIMIT):
                    _, connection = await loop.create_connection(
                        lambda: _Connection(self, Role.DIALS, [peer]),
                        *self.peers[peer],
                        local_addr=(self.local[0], 0),
                    )
                await connection.ended
                if connection.peer is not None:
                    attempt = 0
            await asyncio.sleep(_RETRIES[min(attempt, len(_RETRIES) - 1)])
            attempt += 1

    # ---- what connections say ----------------------------------------------------------------------------------------

    def refusal_of(self, connection: _Connection) -> str:
        """Why this new connection is not let in; "" if it is. Strangers from elsewhere cannot use up the room."""
        self._strangers.add(connection)
        if connection.where not in {address for address, _ in self.peers.values()}:
            return "not a node's address"
        return "too many strangers at once" if len(self._strangers) > _MOST_STRANGERS else ""

    def proved(self, connection: _Connection, peer: str) -> None:
        """The newest proved connection is the link: the one before it is half open, or will be."""
        self._strangers.discard(connection)
        before = self._open.get(peer)
        self._open[peer] = connection
        if before is not None:
            before.abort("replaced")
            self.callbacks.down(peer, "replaced", False)
        self.callbacks.up(peer)

    def lost(self, connection: _Connection) -> None:
        if connection in self._strangers:
            self._strangers.discard(connection)
            self.callbacks.strange(connection.where, connection.reason)
        elif connection.peer is not None and self._open.get(connection.peer) is connection:
            del self._open[connection.peer]
            self.callbacks.down(connection.peer, connection.reason, connection.by_peer)


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def _listening(address: Address) -> socket.socket:
    sock = socket.socket(_family(address), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        sock.bind(address)
        sock.listen(16)
    except OSError:
        sock.close()
        raise
    return sock
