"""Names into addresses with their lifetimes, and a connected socket to an origin.

An answer is kept for its TTL within bounds, so that a name is asked for again when it may have moved; a failing name
server does not take an origin away whose old answer is known (RFC 8767), a definite "no such name" does. One question
per name is under way at a time. Choosing the origin is `pool.py`'s, TLS and HTTP are `client.py`'s.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

import aiodns
import aiohappyeyeballs
from aiodns import error as dns
from cachetools import LRUCache

from proxy import errors
from proxy.errors import Failure
from proxy.upstream.sources import Sources, bind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.exchange import Origin, Reach

SockAddress = tuple[str, int] | tuple[str, int, int, int]
Resolved = tuple[int, SockAddress]  # family, address as a socket takes it

LEAST_TTL = 1.0
MOST_TTL = 3600.0
NEGATIVE_TTL = 5.0  # until configured; a setting, for the resolver library does not hand out the SOA (RFC 2308 §5)
STALE_FOR = 86400.0  # how long past its TTL an answer may stand in for a failing server; RFC 8767 §5 says 1 to 3 days
STALE_AFTER = 1.8  # wait for a slow server before the old answer is used, RFC 8767 §5
RETRY_AFTER = 5.0  # with an old answer in use, the server is asked again after this
NAMES = 4096  # names kept
SECOND_ADDRESS_AFTER = 0.25  # Connection Attempt Delay, RFC 8305 §5

_NO_SUCH_NAME = frozenset({dns.ARES_ENOTFOUND, dns.ARES_ENODATA, dns.ARES_EBADNAME})
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})  # no descriptors, no memory


@dataclass(frozen=True, slots=True)
class _Answer:
    addresses: tuple[tuple[int, str], ...]  # family, text; empty: there is no such name
    until: float  # monotonic
    stale_until: float
    detail: str = ""


class Resolver:
    """The names of one worker. To be made and closed inside the running loop."""

    def __init__(
        self, servers: Sequence[str] | None = None, clock: Callable[[], float] = time.monotonic, patience: float = 2.0
    ) -> None:
        """`servers` as `address` or `address:port`, by default the system's; `patience` is one try's, of two."""
        self._clock = clock
        self._patience = patience
        self._servers = tuple(servers or ())
        self._negative_ttl = NEGATIVE_TTL
        self._dns = self._build()
        self._answers: LRUCache[str, _Answer] = LRUCache(NAMES)
        self._asking: dict[str, asyncio.Task[_Answer]] = {}
        self.sources = Sources(clock)

    def _build(self) -> aiodns.DNSResolver:
        return aiodns.DNSResolver(self._servers or None, timeout=self._patience, tries=2)

    def configure(self, servers: Sequence[str], negative_ttl: float) -> None:
        """Other servers make all answers void; questions under way still go to the old ones."""
        self._negative_ttl = negative_ttl
        if tuple(servers) != self._servers:
            self._servers = tuple(servers)
            self._dns = self._build()
            self._answers.clear()

    async def close(self) -> None:
        """Questions under way are dropped."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._dns.close()
        self.sources.close()

    # ---- names -------------------------------------------------------------------------------------------------

    async def resolve(self, host: str, port: int) -> list[Resolved]:
        """The addresses in the order in which they should be tried, never empty; Failure(DNS_ERROR) otherwise."""
        literal = _literal(host, port)
        if literal is not None:
            return [literal]
        name = host.lower().removesuffix(".")
        answer = self._answers.get(name)
        if answer is None or self._clock() >= answer.until:
            answer = await self._refresh(name, answer)
        if not answer.addresses:
            raise Failure(errors.DNS_ERROR, f"{host}: {answer.detail}")
        return [(family, _sockaddr(family, text, port)) for family, text in answer.addresses]

    def has(self, name: str, address: str) -> bool | None:
        """Whether the name has the address; None where it has to be asked for."""
        answer = self._answers.get(name.lower().removesuffix("."))
        if answer is None or self._clock() >= answer.until:
            return None
        return any(text == address for _, text in answer.addresses)

    def known_until(self, name: str) -> float:
        """Until when `has` goes on saying the same of it."""
        answer = self._answers.get(name.lower().removesuffix("."))
        return answer.until if answer is not None else 0.0

    async def ask_whether(self, name: str, address: str) -> bool:
        """Whether the name has the address; what cannot be found out is not so."""
        try:
            found = await self.resolve(name, 0)
        except Failure:
            return False
        return any(sockaddr[0] == address for _, sockaddr in found)

    async def _refresh(self, name: str, old: _Answer | None) -> _Answer:
        """A new answer, or the old one where the server fails or dawdles and the old one may still stand in."""
        task = self._asking.get(name)
        if task is None:
            task = self._asking[name] = asyncio.get_running_loop().create_task(self._ask(name))
            task.add_done_callback(lambda _: self._asking.pop(name, None))
        usable = old is not None and bool(old.addresses) and self._clock() < old.stale_until
        # `wait` instead of `await task`: one client's cancellation must not end the question for the others.
        await asyncio.wait([task], timeout=STALE_AFTER if usable else None)
        if task.done():
            return task.result()
        assert old is not None
        return old

    async def _ask(self, name: str) -> _Answer:
        answer = await self._question(name)
        self._answers[name] = answer
        return answer

    async def _question(self, name: str) -> _Answer:
        try:
            found = await self._dns.getaddrinfo(name, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM)
        except dns.DNSError as exc:
            return self._failed(name, exc)
        now = self._clock()
        ttls = [node.ttl for node in found.nodes] + [alias.ttl for alias in found.cnames]
        until = now + min(MOST_TTL, max(LEAST_TTL, float(min(ttls, default=0))))
        addresses = tuple((int(node.family), _text(node.addr[0])) for node in found.nodes)
        return _Answer(addresses, until, until + STALE_FOR, "" if addresses else "no addresses")

    def _failed(self, name: str, exc: dns.DNSError) -> _Answer:
        code, detail = exc.args[0], str(exc.args[-1])
        now = self._clock()
        old = self._answers.get(name)
        if code not in _NO_SUCH_NAME and old is not None and old.addresses and now < old.stale_until:
            return _Answer(old.addresses, now + RETRY_AFTER, old.stale_until, detail)
        return _Answer((), now + self._negative_ttl, now, detail)

    # ---- connections -------------------------------------------------------------------------------------------

    async def connect(self, origin: Origin, patience: float) -> socket.socket:
        """A connected, non-blocking socket to the first address that answers; `patience` covers name and connect."""
        resolved = False
        try:
            async with asyncio.timeout(patience):
                addresses = await self.resolve(origin.host, origin.port)
                resolved = True
                if origin.reach is None:
                    return await _connect_first(addresses)
                permitted = _permitted(origin.reach, addresses)
                if origin.source:
                    return _checked(origin.reach, await self._connect_from(origin.source, *permitted[0]))
                return _checked(origin.reach, await _connect_first(permitted))
        except TimeoutError as exc:
            # Also ETIMEDOUT from the kernel, which asyncio maps to the same exception.
            kind = errors.CONNECT_TIMEOUT if resolved else errors.DNS_ERROR
            raise Failure(kind, f"{origin.address}: no answer within {patience:g} s") from exc
        except OSError as exc:
            kind = errors.TOO_MANY if exc.errno in _OURS else errors.CONNECT_ERROR
            raise Failure(kind, f"{origin.address}: {exc.strerror or exc}") from exc

    async def _connect_from(self, source: str, family: int, address: SockAddress) -> socket.socket:
        """Under a client's address, which is of the same family as the one that it was going to."""
        sock = await self.sources.take(6 if family == socket.AF_INET6 else 4)
        try:
            bind(sock, source)
        except OSError:
            sock.close()
            raise
        return await _connect(sock, address)


def _permitted(reach: Reach, addresses: Sequence[Resolved]) -> list[Resolved]:
    """Those that may be connected to, before a packet leaves; Failure where none may."""
    permitted, refusal = [], None
    for family, address in addresses:
        failure = _refusal(reach, address, here=_is_here(family, address))
        if failure is None:
            permitted.append((family, address))
        refusal = refusal or failure
    if not permitted and refusal is not None:
        raise refusal
    return permitted


def _checked(reach: Reach, sock: socket.socket) -> socket.socket:
    """The socket, if it is connected to where it may be; the kernel has the last word on that.

    Its own two ends tell whether it leads to this host: another probe would cost 17 µs for each connection.
    """
    peer: SockAddress = sock.getpeername()
    failure = _refusal(reach, peer, here=sock.getsockname()[0] == peer[0])
    if failure is not None:
        sock.close()
        raise failure
    return sock


def _refusal(reach: Reach, address: SockAddress, *, here: bool) -> Failure | None:
    text = f"{address[0]}%{address[3]}" if len(address) == 4 and address[3] else address[0]
    return reach.refusal(text, address[1], here=here)


def _is_here(family: int, address: SockAddress) -> bool:
    """Whether this host has the address now: the kernel would take it as its own source too. Nothing is sent."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(address)
        except OSError:
            return False
        own: str = probe.getsockname()[0]
        return own == address[0]


async def _connect_first(addresses: Sequence[Resolved]) -> socket.socket:
    """Several addresses race with a delay between their starts (RFC 8305 §5)."""
    if len(addresses) == 1:
        return await _connect_to(*addresses[0])
    infos = [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address) for family, address in addresses]
    sock = await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=SECOND_ADDRESS_AFTER, interleave=1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


async def _connect_to(family: int, address: SockAddress) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    return await _connect(sock, address)


async def _connect(sock: socket.socket, address: SockAddress) -> socket.socket:
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _literal(host: str, port: int) -> Resolved | None:
    """The address that the text itself is; the old short forms of IPv4 (`127.1`) are names here, and fail as such."""
    family = _literal_family(host)
    return None if family is None else (family, _sockaddr(family, host, port))


@lru_cache(maxsize=NAMES)
def _literal_family(host: str) -> int | None:
    try:
        ip = ip_address(host)
    except ValueError:
        return None
    return socket.AF_INET6 if ip.version == 6 else socket.AF_INET


def _sockaddr(family: int, text: str, port: int) -> SockAddress:
    if family != socket.AF_INET6:
        return text, port
    address, _, zone = text.partition("%")
    return address, port, 0, _zone(zone) if zone else 0


def _zone(zone: str) -> int:
    """The interface's number (RFC 4007 §11.2)."""
    try:
        return int(zone) if zone.isdigit() else socket.if_nametoindex(zone)
    except OSError as exc:
        raise Failure(errors.DNS_ERROR, f"no interface {zone!r}") from exc


def _text(address: str | bytes) -> str:
    return address.decode() if isinstance(address, bytes) else address
