"""Who may ask the admin surface for what: peers, tokens, browsers, rates. Pure; `now` is an argument.

Over the Unix socket the kernel tells who asks: whoever may connect may read, root and the instance's own user may
change things. Over TCP a loopback peer may read and needs a token for every change; everybody else needs a token for
everything. A browser may act for a stranger's page: its Host must be a literal address or a configured name, and a
change must be JSON from a page of ours (no form elsewhere can send that unasked, and nobody answers the asking).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping


class Right(Enum):
    READ = "read"
    CHANGE = "change"


class Way(Enum):
    """How a peer reached us."""

    UNIX = "unix"
    LOOPBACK = "loopback"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Peer:
    way: Way
    name: str  # for audit and rates: `uid 0`, or an address
    uid: int = -1  # of a Unix peer
    pid: int = -1


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not: the status of the answer and one sentence, which names no secret."""

    status: int
    why: str


# ---- tokens ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is stored. It is random and of 128 bits at least, so that a plain hash of it cannot be searched."""

    name: str
    right: Right  # CHANGE includes READ
    digest: bytes  # SHA-256


_TOKEN_LINE: Final = re.compile(r"([A-Za-z0-9._-]{1,64})[ \t]+(read|change)[ \t]+sha256:([0-9a-f]{64})")
LEAST_TOKEN: Final = 22  # characters: 128 bits in base64; a shorter one is never accepted


def parse_tokens(text: str) -> tuple[Token, ...]:
    """The tokens of a file with one `NAME read|change sha256:HEX` a line; `#` begins a comment. Raises ValueError."""
    tokens = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _TOKEN_LINE.fullmatch(line.strip())
        if found is None:
            raise ValueError(f"line {number}: not `NAME read|change sha256:HEX`")
        tokens.append(Token(found[1], Right(found[2]), bytes.fromhex(found[3])))
    return tuple(tokens)


def digest_of(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def find_token(tokens: Iterable[Token], presented: str) -> Token | None:
    """The token that was presented; takes the same time whichever it is, and if it is none."""
    found = None
    digest = digest_of(presented)
    for token in tokens:
        if hmac.compare_digest(token.digest, digest):
            found = token
    return found if len(presented) >= LEAST_TOKEN else None


def bearer(authorization: str | None) -> str | None:
    """The token in an Authorization field (RFC 6750 §2.1); one in the URL is never looked for."""
    scheme, _, value = (authorization or "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" and value.strip() else None


# ---- decisions -------------------------------------------------------------------------------------------------------


def decide_right(peer: Peer, right: Right, token: Token | None, owners: Collection[int]) -> Refusal | None:
    """None if the peer has this right; `owners` are the user ids that may change things over the Unix socket."""
    if peer.way is Way.UNIX:
        if right is Right.READ or peer.uid in owners:
            return None
        return Refusal(403, "only root and the user of this instance may change things")
    if peer.way is Way.LOOPBACK and right is Right.READ:
        return None
    if token is None:
        return Refusal(401, "a token is needed: Authorization: Bearer TOKEN")
    if right is Right.CHANGE and token.right is not Right.CHANGE:
        return Refusal(403, "this token may only read")
    return None


def decide_host(host: str | None, peer: Peer, names: Collection[str]) -> Refusal | None:
    """None if a browser cannot have been led here under a stranger's name (DNS rebinding)."""
    if peer.way is Way.UNIX:
        return None
    name = _host_name(host or "")
    if name in names or _is_address(name) or (name == "localhost" and peer.way is Way.LOOPBACK):  # RFC 6761 §6.3
        return None
    return Refusal(421, "this name is not in [admin] hosts; a literal address always works")


def _host_name(host: str) -> str:
    name = re.sub(r":[0-9]{1,5}\Z", "", host).lower()
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return "%" not in name


def decide_origin(fields: Mapping[str, str], scheme: str) -> Refusal | None:
    """None if a change comes from no browser, or from a page that we served ourselves."""
    content = fields.get("Content-Type", "").partition(";")[0].strip().lower()
    if content != "application/json":
        return Refusal(415, "changes are sent as application/json")
    site = fields.get("Sec-Fetch-Site")
    if site not in {None, "same-origin", "none"}:
        return Refusal(403, "changes are not taken from other sites' pages")
    origin = fields.get("Origin")
    if origin is not None and origin.lower() != f"{scheme}://{fields.get('Host', '')}".lower():
        return Refusal(403, "changes are not taken from other origins")
    return None


# ---- rates -----------------------------------------------------------------------------------------------------------


class Rates:
    """A bucket for each peer: `burst` at once, then `rate` a second. Bounded: who is long unheard of is forgotten."""

    def __init__(self, rate: float, burst: float, most: int = 4096) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: LRUCache[str, tuple[float, float]] = LRUCache(most)  # name -> (left, when)

    def take(self, name: str, now: float) -> bool:
        """Whether one more is within the rate; if so, it is counted."""
        left = self.left(name, now)
        if left < 1:
            return False
        self._buckets[name] = (left - 1, now)
        return True

    def left(self, name: str, now: float) -> float:
        left, when = self._buckets.get(name, (self._burst, now))
        return min(self._burst, left + max(0.0, now - when) * self._rate)
