"""What the supervisor and `ha` say to each other, and the will: what the supervisor does when `ha` has died.

One JSON object per packet of a SOCK_SEQPACKET pair, descriptors beside it; standard library only, for both ends. The
will is made of bytes that `ha` has prepared: deletions of its addresses and its last advertisements (priority 0,
RFC 9568 §5.2.4), so that whoever sends them needs to know nothing of VRRP or netlink. Invariant: to carry out a will
twice, or one of a process that held nothing, harms nobody: only for addresses that were there is anything sent.
"""

from __future__ import annotations

import json
import os
import socket
from base64 import b64decode, b64encode
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from ha import raw, rtnl

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX: Final = 96 * 2**10  # bytes of a packet; fits the socket's buffer whole, so that nobody waits for the other
_MAX_REASON: Final = 4096


class BadOrderError(ValueError):
    """Bytes that are no message of ours."""


# ---- to ha -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prepare:
    """Get ready for this configuration. Descriptors beside it: its text, and the secret if it names one."""

    generation: int
    digest: str
    name: str  # of the file, for faults
    runtime: str
    base: str


@dataclass(frozen=True, slots=True)
class Commit:
    generation: int


@dataclass(frozen=True, slots=True)
class Abort:
    generation: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Let go of everything in good order, then end."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Gated:
    """What a Gate asked for is done."""


# ---- from ha ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prepared:
    generation: int


@dataclass(frozen=True, slots=True)
class Refused:
    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ready:
    generation: int


@dataclass(frozen=True, slots=True)
class Hush:
    """Answers shall say close and requests in flight be counted, for an address is about to move; or not any more."""

    on: bool


@dataclass(frozen=True, slots=True)
class Gate:
    """From now on no connection to these addresses begins here, but waits for who gets them next; none: all begin."""

    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """What a virtual router is now, for state.json and the first screen."""

    name: str
    family: int
    vrid: int
    vips: tuple[str, ...]
    state: str
    why: str


@dataclass(frozen=True, slots=True)
class Standings:
    routers: tuple[Standing, ...]


@dataclass(frozen=True, slots=True)
class Bequest:
    """One virtual router's part of the will."""

    router: str
    deletes: tuple[bytes, ...]  # netlink requests
    farewells: tuple[raw.Prepared, ...]  # advertisements of priority 0


@dataclass(frozen=True, slots=True)
class Will:
    bequests: tuple[Bequest, ...] = ()


ToHa = Prepare | Commit | Abort | Stop | Gated
FromHa = Prepared | Refused | Ready | Hush | Gate | Standings | Will

_TO_HA: Final = {kind.__name__: kind for kind in (Prepare, Commit, Abort, Stop, Gated)}
_FROM_HA: Final = {kind.__name__: kind for kind in (Prepared, Refused, Ready, Hush, Gate, Standings, Will)}


def encode(message: ToHa | FromHa) -> bytes:
    data = json.dumps([type(message).__name__, _plain(message)]).encode()
    if len(data) > MAX:
        raise BadOrderError(f"a message of {len(data)} bytes is over the bound of {MAX}")
    return data


def decode_to_ha(data: bytes) -> ToHa:
    message: ToHa = _decode(_TO_HA, data)
    return message


def decode_from_ha(data: bytes) -> FromHa:
    message: FromHa = _decode(_FROM_HA, data)
    return message


def cut(reason: str) -> str:
    return reason if len(reason) <= _MAX_REASON else reason[:_MAX_REASON] + " …"


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return b64encode(value).decode() if isinstance(value, bytes) else value


def _decode(kinds: dict[str, Any], data: bytes) -> Any:
    try:
        kind, content = json.loads(data)
        match kind:
            case "Will":
                return Will(tuple(map(_bequest, content["bequests"])))
            case "Gate":
                return Gate(tuple(str(ip_address(text)) for text in content["addresses"]))
            case "Standings":
                return Standings(tuple(_standing(one) for one in content["routers"]))
            case _:
                message = kinds[kind](**content)
    except (ValueError, TypeError, KeyError) as exc:
        raise BadOrderError(f"not a message between supervisor and ha: {exc}") from exc
    wrong = [one.name for one in fields(message) if type(getattr(message, one.name)).__name__ not in str(one.type)]
    if wrong and not (wrong == ["seconds"] and isinstance(message.seconds, int)):
        raise BadOrderError(f"not of the right type: {', '.join(wrong)}")
    return message


def _bequest(content: dict[str, Any]) -> Bequest:
    deletes = tuple(b64decode(text) for text in content["deletes"])
    return Bequest(content["router"], deletes, tuple(_farewell(one) for one in content["farewells"]))


def _farewell(content: dict[str, Any]) -> raw.Prepared:
    payload, frame = b64decode(content.pop("payload")), b64decode(content.pop("frame"))
    return raw.Prepared(payload=payload, frame=frame, **content)


def _standing(content: dict[str, Any]) -> Standing:
    return Standing(**{**content, "vips": tuple(content["vips"])})


# ---- the channel -----------------------------------------------------------------------------------------------------


def receive(sock: socket.socket) -> tuple[bytes, list[int]] | None:
    """The next packet with its descriptors; None if there is none yet. Raises EOFError at the end."""
    try:
        data, fds, _, _ = socket.recv_fds(sock, MAX, 4)
    except BlockingIOError:
        return None
    except ConnectionError as exc:
        raise EOFError from exc
    for fd in fds:
        os.set_inheritable(fd, False)
    if not data:
        raise EOFError
    return data, fds


def send(sock: socket.socket, message: ToHa | FromHa, fds: Sequence[int] = ()) -> bool:
    """Whether it is on its way: not to an end that is gone or reads nothing."""
    data = encode(message)
    try:
        socket.send_fds(sock, [data], fds) if fds else sock.send(data)
    except OSError:
        return False
    return True


def gate(listeners: Iterable[socket.socket], addresses: Sequence[str]) -> None:
    """Connections to the addresses begin at these sockets no more; with none, everything does again."""
    program = raw.all_but_new_connections(map(ip_address, addresses))
    for listener in listeners:
        if addresses:
            raw.attach(listener, program)
        else:
            raw.detach(listener)


# ---- the will --------------------------------------------------------------------------------------------------------


class Executor:
    """Carries wills out; what it needs for that is open from the start."""

    def __init__(self) -> None:
        self._kernel = rtnl.Kernel()

    def carry_out(self, will: Will, links: Iterable[int] = ()) -> list[str]:
        """The names of the routers whose addresses were still there; they are gone, and the other node knows it.

        First the links end: who is Active by its word on one is not believed to have let go.
        """
        held = [bequest for bequest in will.bequests if self._delete_all(bequest.deletes)]
        for link in links:
            _end_link(link)
        for bequest in held:
            for farewell in bequest.farewells:
                with suppress(OSError):  # without carrier nobody would hear it
                    raw.send_once(farewell)
        return [bequest.router for bequest in held]

    def close(self) -> None:
        self._kernel.close()

    def _delete_all(self, requests: Sequence[bytes]) -> bool:
        """Whether any of them was there."""
        return sum(map(self._delete, requests)) > 0  # all are tried, not up to the first

    def _delete(self, request: bytes) -> bool:
        try:
            return self._kernel.order(request) == 0
        except OSError:
            return False


def _end_link(descriptor: int) -> None:
    """For all who share the socket; the descriptor itself stays open."""
    with socket.socket(fileno=os.dup(descriptor)) as link, suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)
