"""What the other nodes say on the authenticated link, and what of it still counts.

A word counts while it is young and of the present incarnation. The link alone never makes an owner: its silence is no
news of the clients' network. Ranks are compared here, so that both nodes come to the same order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from config.units import MonoTime
from ha.events import Fitness, State

if TYPE_CHECKING:
    from ha.events import Address, PeerWord

PATIENCE: Final = 3  # intervals for which a word counts
_NEVER: Final = MonoTime(float("-inf"))


class Rank(NamedTuple):
    """Who is better: the higher priority, then the higher address as a number (RFC 9568 §6.4.3)."""

    priority: int
    address: int


def rank(priority: int, source: Address) -> Rank:
    return Rank(priority, int(source))


@dataclass(frozen=True, slots=True)
class Said:
    word: PeerWord
    at: MonoTime  # when it came
    since: MonoTime  # when its state came first


@dataclass(slots=True)
class Words:
    """Of each node the last word; those whose incarnation ended by end of file or reset are in `ended`."""

    patience: float  # seconds
    said: dict[str, Said] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    def note(self, word: PeerWord, now: MonoTime) -> bool:
        """Whether the word counts: one of an earlier incarnation is a replay or came late."""
        before = self.said.get(word.node)
        if before is not None and word.incarnation < before.word.incarnation:
            return False
        same = before is not None and before.word.state is word.state
        self.said[word.node] = Said(word, now, before.since if before is not None and same else now)
        self.ended.discard(word.node)
        return True

    def lose(self, node: str, *, ended: bool) -> bool:
        """Whether there was something to lose. What was said last no longer counts, but its incarnation is kept."""
        before = self.said.get(node)
        if ended and before is not None:
            self.ended.add(node)
        if before is None or before.at == _NEVER:
            return False
        self.said[node] = Said(before.word, _NEVER, before.since)
        return True

    def of(self, node: str, now: MonoTime) -> PeerWord | None:
        """The node's word, if it counts now: then the link to it is alive."""
        said = self.said.get(node)
        return said.word if said is not None and now - said.at <= self.patience else None

    def alive(self, now: MonoTime) -> list[PeerWord]:
        return [word for node in self.said if (word := self.of(node, now)) is not None]

    def active(self, now: MonoTime) -> list[PeerWord]:
        """Who says it is Active."""
        return [word for word in self.alive(now) if word.state is State.ACTIVE]

    def best(self, now: MonoTime, least: Fitness) -> PeerWord | None:
        """The best node of at least this fitness, by its own word."""
        fit = [word for word in self.alive(now) if word.fitness >= least]
        return max(fit, key=claim_order, default=None)


def claim_order(word: PeerWord) -> tuple[Fitness, Rank]:
    """Who should claim an address that nobody holds: fitness first."""
    return word.fitness, rank(word.priority, word.source)
