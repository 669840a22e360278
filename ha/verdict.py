"""From evidence to findings: what counts how, and what has to last before it counts. Pure; `health.py` adds up.

Workers and their listeners are what an address is held for (RESIGN); origins make the answers worth having (SERVICE);
what an operator tracks has the weight he gave it. Deaths count at once, recoveries when they have lasted. Before the
first worker has served, its absence is no fall: the node just cannot serve yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ha import health
from ha.evidence import Evidence, Seen
from ha.health import Effect, Finding, Patience, Track

if TYPE_CHECKING:
    from collections.abc import Iterable

    from config.schema import Ha
    from config.units import MonoTime
    from ha.events import Health

_AT_ONCE: Final = Patience()


class Judge:
    def __init__(self, ha: Ha) -> None:
        self._ha = ha
        self._evidence = Evidence()
        self._workers = Track()
        self._origins: dict[str, Track] = {}
        self._tracks: dict[str, Track] = {}
        self._looks: dict[str, int] = {}  # the number of the last look that was counted

    def configure(self, ha: Ha) -> None:
        self._ha = ha
        self._tracks = {one.name: self._tracks.get(one.name, Track()) for one in ha.track}

    def note(self, evidence: Evidence, now: MonoTime) -> None:
        self._evidence = evidence
        if evidence.serving or self._workers.good is not None:
            self._workers = health.after_result(self._workers, good=evidence.serving > 0, now=now, patience=_AT_ONCE)
        self._origins = {name: self._after(name, seen, now) for name, seen in evidence.origins.items()}
        patience = {one.name: Patience(one.rise, one.fall) for one in self._ha.track}
        for name, look in evidence.tracks.items():
            if look.seen is not Seen.UNKNOWN and look.number != self._looks.get(name) and name in patience:
                self._looks[name] = look.number
                track = self._tracks.get(name, Track())
                good = look.seen is Seen.GOOD
                self._tracks[name] = health.after_result(track, good=good, now=now, patience=patience[name])

    def _after(self, site: str, seen: Seen, now: MonoTime) -> Track:
        track = self._origins.get(site, Track())
        if seen is Seen.UNKNOWN:
            return track
        return health.after_result(track, good=seen is Seen.GOOD, now=now, patience=_AT_ONCE)

    def findings(self, now: MonoTime, *, peer_is_whole: bool) -> list[Finding]:
        evidence = self._evidence
        alive, lost = health.find_workers(
            evidence.serving, len(evidence.workers), self._ha.worker_weight, peer_is_whole=peer_is_whole
        )
        serving = health.verdict(self._workers, now, _AT_ONCE)
        workers = [Finding(alive.name, alive.effect, serving and alive.good), *([lost] if alive.good else [])]
        origins = [
            Finding(f"origins of {name}", Effect.SERVICE, health.verdict(track, now, _AT_ONCE), self._ha.origin_weight)
            for name, track in self._origins.items()
        ]
        tracks = [
            Finding(
                one.name,
                Effect.RESIGN if one.resign else Effect.WEIGHT,
                health.verdict(self._tracks.get(one.name, Track()), now, Patience(one.rise, one.fall)),
                one.weight,
            )
            for one in self._ha.track
        ]
        return [*workers, *origins, *tracks]

    def judge(self, configured: int, now: MonoTime, *, peer_is_whole: bool) -> Health:
        """The node's health for a router of this configured priority."""
        return health.assess(configured, self.findings(now, peer_is_whole=peer_is_whole))

    def settles_at(self) -> MonoTime | None:
        """When the judgement changes by itself, if it will."""
        return min(self._settling(), default=None)

    def _settling(self) -> Iterable[MonoTime]:
        patience = {one.name: Patience(one.rise, one.fall) for one in self._ha.track}
        tracks = [(self._tracks[name], patience[name]) for name in self._tracks if name in patience]
        for track, own in [(self._workers, _AT_ONCE), *((one, _AT_ONCE) for one in self._origins.values()), *tracks]:
            at = health.settles_at(track, own)
            if at is not None:
                yield at
