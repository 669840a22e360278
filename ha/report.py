"""What `ha` tells of itself as plain values, for `tandem ha status` and for metrics. Only reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ha.events import PeerWord
    from ha.station import Station


def describe_router(station: Station) -> dict[str, Any]:
    """One virtual router: what it is and why, what it counts."""
    router, counts = station.router, station.counts
    return {
        "name": station.name,
        "vrid": router.config.vrid,
        "family": int(router.config.family),
        "state": router.state.value,
        "why": router.why,
        "priority": router.priority,
        "configured": router.config.priority,
        "fitness": router.health.fitness.name.lower(),
        "reasons": list(router.health.reasons),
        "vips": [str(vip) for vip in router.config.addresses],
        "interface": router.config.interface,
        "interval": router.config.interval,
        "held": [str(vip) for vip in router.held],
        "sent": counts.sent,
        "received": counts.received,
        "transitions": counts.transitions,
        "split_seconds": counts.split_seconds,
        "changed_at": counts.changed_at,
        "outage": counts.outage,
        "gap": counts.gap,
        "dropped": dict(station.drops()),
        "errors": dict(station.errors()),
        "shouts": dict(counts.shouts),
    }


def describe_node(name: str, address: str, link: str, digest: str, words: Iterable[PeerWord]) -> dict[str, Any]:
    """Another node by its own words, as far as they count now."""
    said = list(words)
    return {
        "name": name,
        "address": address,
        "link": link,
        "drift": any(word.digest != digest for word in said),
        "routers": [
            {
                "vrid": word.vrid,
                "family": int(word.family),
                "state": word.state.value,
                "priority": word.priority,
                "fitness": word.fitness.name.lower(),
                "reasons": list(word.reasons),
            }
            for word in said
        ],
    }
