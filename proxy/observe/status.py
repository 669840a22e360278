"""What `/v1/status` says, put together from what supervisor, workers, checks and counters know; pure but for one file.

`faults` lists in sentences what is not as it should be; `tandem status` ends with 1 if there are any.
What a worker says of itself (bus.StatusAnswer.data): `pools` with the PeerStatus of each pool's peers as plain values,
`trouble` as sentences; anything else is passed on as it came.
"""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from config.schema import FORWARD
from proxy import bus
from proxy.exchange import Outcome
from proxy.modes.reverse import site_names
from proxy.observe import metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from proxy.exchange import PoolSpec
    from proxy.service import Settings
    from proxy.upstream.health import Verdict

    Workers = Mapping[str, bus.StatusAnswer | str]
    Plain = dict[str, Any]

STATE: Final = "state.json"
WELL: Final = frozenset({"running", "starting", "draining", "stopping", "stopped"})  # states that are no fault


def read_state(runtime: Path) -> Plain:
    """What the supervisor wrote about its children; empty if it has not."""
    try:
        state = json.loads((runtime / STATE).read_bytes())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def gather(
    settings: Settings,
    pools: Iterable[PoolSpec],
    *,
    workers: Workers,
    verdicts: Sequence[Verdict],
    regions: Mapping[str, memoryview],
    layout: metrics.Layout,
    state: Plain,
) -> Plain:
    processes = _processes(state, workers)
    sites = _sites(settings, pools, workers, verdicts, regions, layout)
    shown = [_worker(name, answer) for name, answer in workers.items()]
    return {
        "version": version("tandem-proxy"),
        "generation": settings.generation,
        "digest": settings.digest,
        "faults": [*_faults(processes, sites), *_troubles(shown), *_refused_reload(state)],
        "reload": state.get("reload"),
        "processes": processes,
        "sites": sites,
        **_forward(settings, regions, layout),
        "cache": _cache(settings, regions),
        "workers": shown,
    }


def _processes(state: Plain, workers: Workers) -> list[Plain]:
    """The supervisor's list; a worker that it calls well and that does not answer is `silent`."""
    listed = [dict(one) for one in state.get("processes", ()) if isinstance(one, dict)]
    if not listed:  # admin runs alone: what can be seen from here
        listed = [{"name": name, "pid": 0, "state": "running"} for name in workers]
    if all(one.get("name") != "admin" for one in listed):
        listed.append({"name": "admin", "pid": os.getpid(), "state": "running"})
    for one in listed:
        answer = workers.get(one.get("name", ""))
        if isinstance(answer, str) and one.get("state") == "running":
            one["state"], one["why"] = "silent", answer
        elif isinstance(answer, bus.StatusAnswer) and not one.get("pid"):
            one["pid"] = answer.data.get("pid", 0)
    return listed


def _worker(name: str, answer: bus.StatusAnswer | str) -> Plain:
    if isinstance(answer, str):
        return {"name": name, "answers": False, "why": answer}
    return {**answer.data, "name": name, "answers": True}


def _sites(
    settings: Settings,
    pools: Iterable[PoolSpec],
    workers: Workers,
    verdicts: Sequence[Verdict],
    regions: Mapping[str, memoryview],
    layout: metrics.Layout,
) -> list[Plain]:
    by_site: dict[str, list[Plain]] = {}
    for pool in pools:
        by_site.setdefault(pool.site, []).extend(_peers(pool, workers, verdicts))
    return [
        {
            "name": name,
            "listen": [f"{at.host}:{at.port}" for at in site.listen],
            "hosts": list(site.hosts),
            "requests": _requests(name, regions, layout),
            "upstreams": by_site.get(name, []),
        }
        for name, site in zip(site_names(settings.config), settings.config.site, strict=True)
    ]


def _forward(settings: Settings, regions: Mapping[str, memoryview], layout: metrics.Layout) -> Plain:
    """Forward mode, where it is on."""
    options = settings.config.forward
    if options is None:
        return {}
    return {
        "forward": {
            "listen": [at.text for at in options.listen],
            "clients": list(map(str, options.clients)),
            "requests": _requests(FORWARD, regions, layout),
        }
    }


def _requests(site: str, regions: Mapping[str, memoryview], layout: metrics.Layout) -> dict[str, int]:
    block = layout.blocks[site]
    places = {o.value: block + metrics.site_offset("tandem_site_requests_total", outcome=o.value) for o in Outcome}
    counts = {name: sum(slots[at] for slots in regions.values()) for name, at in places.items()}
    return {name: count for name, count in counts.items() if count}


def _peers(pool: PoolSpec, workers: Workers, verdicts: Sequence[Verdict]) -> list[Plain]:
    checked = {verdict.address: verdict for verdict in verdicts if verdict.pool == pool.name}
    shown = []
    for origin in pool.origins:
        said = _said(pool.name, origin.address, workers)
        verdict = checked.get(origin.address)
        peer: Plain = {"pool": pool.name, "address": origin.address, "state": _state(said, verdict)}
        if origin.route:
            peer["route"] = origin.route
        if verdict is not None:
            peer["check"] = verdict.detail
        why = next((one.get("why") for one in said if one.get("standing") == peer["state"]), None)
        shown.append(peer | ({"why": why} if why and peer["state"] != "up" else {}))
    return shown


def _said(pool: str, address: str, workers: Workers) -> list[Plain]:
    """What each worker says of this peer."""
    found = []
    for answer in workers.values():
        data = answer.data if isinstance(answer, bus.StatusAnswer) else {}
        known = data.get("pools")
        peers = known.get(pool, ()) if isinstance(known, dict) else ()
        found += [one for one in peers if isinstance(one, dict) and one.get("address") == address]
    return found


def _state(said: Sequence[Plain], verdict: Verdict | None) -> str:
    """The worst that any worker says, since its clients see that. What the check has found and no worker has heard of
    yet counts as if they had: who looks in that moment would take an origin for good that is not.
    """
    if verdict is not None and not verdict.up:
        return "failed"
    for standing in ("failed", "ejected", "probing"):
        if any(one.get("standing") == standing for one in said):
            return standing
    if said:
        return "up"
    return "unknown" if verdict is None else "up"


def _cache(settings: Settings, regions: Mapping[str, memoryview]) -> Plain:
    hits = sum(int(metrics.total(regions, "tandem_requests_total", outcome=o)) for o in ("hit", "stale", "revalidated"))
    asked = hits + int(metrics.total(regions, "tandem_requests_total", outcome="miss"))
    return {
        "limit": int(settings.config.cache.memory),
        "bytes": sum(int(metrics.total(regions, name)) for name in ("tandem_store_bytes", "tandem_memo_bytes")),
        "entries": int(metrics.total(regions, "tandem_store_entries")),
        "memo_entries": int(metrics.total(regions, "tandem_memo_entries")),
        "hit_ratio": round(hits / asked, 4) if asked else None,
    }


def _faults(processes: Sequence[Plain], sites: Sequence[Plain]) -> list[str]:
    faults = [f"{one.get('name')} is {one.get('state')}" for one in processes if one.get("state") not in WELL]
    for site in sites:
        bad = [peer for peer in site["upstreams"] if peer["state"] in {"failed", "ejected"}]
        if bad and len(bad) == len(site["upstreams"]):
            faults.append(f"site {site['name']} has no origin left")
        else:
            faults += [f"origin {peer['address']} of site {site['name']} is {peer['state']}" for peer in bad]
    return faults


def _troubles(workers: Sequence[Plain]) -> list[str]:
    return [f"{one['name']}: {text}" for one in workers for text in one.get("trouble", ())]


def _refused_reload(state: Plain) -> list[str]:
    reload = state.get("reload")
    if not isinstance(reload, dict) or reload.get("ok", True):
        return []
    return [f"the last reload was refused: {reload.get('reason', '')}"]
