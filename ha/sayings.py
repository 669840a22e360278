"""What travels on the peer link, as bytes: the words of all virtual routers of a node, and what an operator asks. Pure.

JSON, because a word is small and people look at captures. The link has proved who speaks; still each value is checked,
for the other node may run another version. Unknown keys are ignored, so that a newer one may say more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from typing import TYPE_CHECKING, Any, Final

from ha.events import Family, Fitness, PeerWord, Say, State

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_REASONS: Final = 8
_MAX_TEXT: Final = 200  # characters of a reason


class BadSayingError(ValueError):
    """Not what a node says."""


@dataclass(frozen=True, slots=True)
class Ask:
    """An operator at the other node wants the addresses to move to `to`."""

    to: str


Saying = tuple[PeerWord, ...] | Ask


def encode_words(words: Iterable[PeerWord]) -> bytes:
    return json.dumps({"words": [_word(one) for one in words]}).encode()


def encode_ask(ask: Ask) -> bytes:
    return json.dumps({"ask": {"to": ask.to}}).encode()


def decode(node: str, data: bytes) -> Saying:
    """What this node, proved by the link, has said. Raises BadSayingError."""
    try:
        content = json.loads(data)
        if "ask" in content:
            return Ask(_text(content["ask"]["to"]))
        return tuple(_read(node, one) for one in content["words"])
    except (ValueError, TypeError, KeyError, RecursionError) as exc:
        raise BadSayingError(f"{type(exc).__name__}: {exc}") from exc


def _word(word: PeerWord) -> dict[str, Any]:
    return {
        "vrid": word.vrid,
        "family": int(word.family),
        "state": word.state.value,
        "priority": word.priority,
        "fitness": int(word.fitness),
        "incarnation": word.incarnation,
        "source": str(word.source),
        "interval": word.interval,
        "addresses": [str(vip) for vip in word.addresses],
        "reasons": [reason[:_MAX_TEXT] for reason in word.reasons[:_MAX_REASONS]],
        "digest": word.digest,
        "say": word.say.value,
        "to": word.to,
    }


def _read(node: str, content: dict[str, Any]) -> PeerWord:
    return PeerWord(
        node=node,  # never what it calls itself
        vrid=_number(content["vrid"], 1, 255),
        family=Family(content["family"]),
        state=State(content["state"]),
        priority=_number(content["priority"], 1, 255),
        fitness=Fitness(content["fitness"]),
        incarnation=_number(content["incarnation"], 0, 2**63),
        source=ip_address(_text(content["source"])),
        interval=_seconds(content["interval"]),
        addresses=tuple(ip_interface(_text(one)) for one in content["addresses"]),
        reasons=tuple(_text(one) for one in content["reasons"][:_MAX_REASONS]),
        digest=_text(content["digest"]),
        say=Say(content["say"]),
        to=_text(content["to"]),
    )


def _number(value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"not a number from {low} to {high}")
    return value


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 100:
        raise ValueError("not an interval")
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
        raise ValueError("not a short text")
    return value
