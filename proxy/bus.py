"""Messages between our processes as typed, bounded values, and their bytes; pure.

Two conversations: supervisor and child over an inherited socketpair (`ToChild`, `ToSupervisor`; descriptors travel
beside them, see proxy/channel.py), and `worker-N.sock`, where admin, `ha` and other workers ask and each question gets
one answer (`Question`, `Answer`; see proxy/link.py). A message is msgpack with its class name as tag, never pickle.
Invariants: no frame is longer than its reader's bound; what is no message ends the connection it came on.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

MAX_CONTROL = 128 * 2**10  # fits a socket's default send buffer whole, so that the supervisor never waits for a child
MAX_FRAME = 4 * 2**20  # the largest answer is a status with every counter
MAX_REASON = 16 * 2**10

Family = Literal[4, 6]

_PREFIX = 4  # bytes of big-endian length before each frame of a stream


class BadFrameError(ValueError):
    """Bytes that are no message of ours; the connection they came on is of no more use."""


class Message(Struct, frozen=True, tag=True):
    """The base of every message; the tag is the name of its class."""


# ---- supervisor and child --------------------------------------------------------------------------------------------


class ListenerNote(Struct, frozen=True):
    """One listening socket: as written in the file, as bound, and a number that no other socket of this run has had."""

    host: str  # Listen.host and .port
    port: int
    address: str  # what getsockname() says
    bound: int
    serial: int


class Prepare(Message, frozen=True):
    """Get ready to serve this configuration. Descriptors beside it: the parcel, the listeners, secrets, lists."""

    generation: int
    digest: str
    listeners: tuple[ListenerNote, ...] = ()
    secrets: tuple[str, ...] = ()  # paths, as named in the configuration
    lists: tuple[tuple[str, str], ...] = ()  # (path as named in the configuration, digest) of lists of names


class Prepared(Message, frozen=True):
    generation: int


class Refused(Message, frozen=True):
    """This configuration cannot be served; everything stays as it is."""

    generation: int
    reason: str


class Commit(Message, frozen=True):
    """From now on the prepared configuration is the one that counts."""

    generation: int


class Abort(Message, frozen=True):
    """Another process refused: forget what was prepared."""

    generation: int


class Ready(Message, frozen=True):
    """The committed configuration is being served."""

    generation: int


class Drain(Message, frozen=True):
    """Close the listeners, finish what is in flight, end."""

    seconds: float


class ReopenLogs(Message, frozen=True):
    pass


class SayClose(Message, frozen=True):
    """From now on each answer is its connection's last and requests in flight are counted; or no longer (`on` false).

    Listeners go on accepting: the address is about to move to the other node, or stays after all.
    """

    on: bool


class Lend(Message, frozen=True):
    """Unconnected sockets of this family that may have addresses that are not ours; as many as came beside it."""

    family: Family


class Attach(Message, frozen=True):
    """More descriptors for the message that follows: the kernel passes at most 253 at once."""


class Borrow(Message, frozen=True):
    """A worker wants such sockets (transparent mode with `spoof`); it gets no right to make them."""

    family: Family
    count: int


ToChild = Prepare | Commit | Abort | Drain | ReopenLogs | SayClose | Lend | Attach
ToSupervisor = Prepared | Refused | Ready | Borrow


# ---- worker-N.sock ---------------------------------------------------------------------------------------------------

PurgeKind = Literal["url", "key", "prefix", "tag", "match", "all"]


class Ping(Message, frozen=True):
    pass


class Pong(Message, frozen=True):
    pid: int
    beats: int  # turns of the worker's beat: two answers with the same number mean a hung loop


class Purge(Message, frozen=True):
    """Purge stored responses. `number` grows with each purge of a node; the same number twice is one purge."""

    number: int
    kind: PurgeKind
    value: str
    soft: bool = False  # make stale instead of removing
    dry_run: bool = False  # only count
    site: str = ""  # nothing but what this site's names reach; empty: of all sites


class Purged(Message, frozen=True):
    number: int
    count: int


class Status(Message, frozen=True):
    """Ask for a worker's own view; `what` names one part of it, empty for the usual."""

    what: str = ""


class StatusAnswer(Message, frozen=True):
    data: dict[str, object]


class Verdict(Struct, frozen=True):
    """Whether the active check of one origin finds it good."""

    pool: str
    address: str
    healthy: bool


class HealthVerdicts(Message, frozen=True):
    verdicts: tuple[Verdict, ...]


class Explain(Message, frozen=True):
    """What would happen to a request, and why; nothing is fetched, counted or changed."""

    url: str
    method: str = "GET"
    fields: tuple[tuple[str, str], ...] = ()
    client: str = "127.0.0.1"  # the address it would come from
    to: str = ""  # where a taken connection was going: an address, or address:port
    user: str = ""  # who would have logged in


class Explained(Message, frozen=True):
    data: dict[str, object]


Sort = Literal["size", "hits", "age", "ttl"]


class List(Message, frozen=True):
    """What is stored: chosen as by a purge, the first `limit` in this order; `full`: with heads and sums."""

    kind: PurgeKind = "all"
    value: str = ""
    site: str = ""
    sort: Sort = "hits"
    limit: int = 20
    full: bool = False


class Listed(Message, frozen=True):
    rows: tuple[dict[str, object], ...]
    count: int  # of all that were chosen
    size: int  # bytes of memory of these


class Recent(Message, frozen=True):
    """The last decisions, newest first."""

    limit: int = 20


class Recently(Message, frozen=True):
    rows: tuple[dict[str, object], ...]


class Done(Message, frozen=True):
    """Heard and applied; there is nothing more to say."""


class Failed(Message, frozen=True):
    """The question could not be answered."""

    reason: str


Question = Ping | Purge | Status | HealthVerdicts | Explain | List | Recent
Answer = Pong | Purged | StatusAnswer | Explained | Listed | Recently | Done | Failed


class Envelope(Struct, frozen=True, array_like=True):
    """A question or answer with the number that pairs them on one connection."""

    id: int
    message: Question | Answer


# ---- bytes -----------------------------------------------------------------------------------------------------------

_encoder = msgspec.msgpack.Encoder()
_to_child: msgspec.msgpack.Decoder[ToChild] = msgspec.msgpack.Decoder(ToChild)
_to_supervisor: msgspec.msgpack.Decoder[ToSupervisor] = msgspec.msgpack.Decoder(ToSupervisor)
_envelope = msgspec.msgpack.Decoder(Envelope)

_T = TypeVar("_T")


def encode_control(message: ToChild | ToSupervisor) -> bytes:
    data = _encoder.encode(message)
    if len(data) > MAX_CONTROL:
        raise BadFrameError(f"a control message of {len(data)} bytes is over the bound of {MAX_CONTROL}")
    return data


def decode_to_child(data: bytes) -> ToChild:
    return _decode(_to_child, data)


def decode_to_supervisor(data: bytes) -> ToSupervisor:
    return _decode(_to_supervisor, data)


def encode_envelope(envelope: Envelope) -> bytes:
    """A frame: the length in four bytes, then the message."""
    data = _encoder.encode(envelope)
    if len(data) > MAX_FRAME:
        raise BadFrameError(f"a message of {len(data)} bytes is over the bound of {MAX_FRAME}")
    return len(data).to_bytes(_PREFIX, "big") + data


def decode_envelope(frame: bytes) -> Envelope:
    return _decode(_envelope, frame)


def cut_reason(text: str) -> str:
    """The reason, short enough for a control message, with a mark where it was cut."""
    return text if len(text) <= MAX_REASON else text[:MAX_REASON] + " …"


def _decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes) -> _T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BadFrameError(str(exc)) from exc


class Frames:
    """Cuts a byte stream into frames, whatever its chunk boundaries; holds at most one frame that is not whole."""

    __slots__ = ("_buffer", "_limit")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._buffer = bytearray()
        self._limit = limit

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that these bytes complete, without their lengths. Raises BadFrameError over the limit."""
        self._buffer += data
        frames: list[bytes] = []
        at = 0
        while len(self._buffer) - at >= _PREFIX:
            length = int.from_bytes(self._buffer[at : at + _PREFIX], "big")
            if length > self._limit:
                raise BadFrameError(f"a frame of {length} bytes is over the bound of {self._limit}")
            if len(self._buffer) - at < _PREFIX + length:
                break
            frames.append(bytes(self._buffer[at + _PREFIX : at + _PREFIX + length]))
            at += _PREFIX + length
        del self._buffer[:at]
        return frames
