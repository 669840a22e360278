"""Metrics of the pair: what `ha` says of its virtual routers, as Prometheus text. Nothing without `[ha]`.

`ha` knows nothing of metrics; it is asked on its socket at each scrape, and one that does not answer in time is told by
`tandem_ha_up` alone.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    Plain = Mapping[str, Any]
    Labels = Sequence[tuple[str, str]]
    Sample = tuple[Labels, float]

_LIMIT: Final = 1.0  # seconds
_STATES: Final = ("initialize", "backup", "active")

# name, type, help; in the order of the text
ROWS: Final = (
    ("tandem_ha_up", "gauge", "Whether ha answers."),
    ("tandem_ha_state", "gauge", "1 for the state that the virtual router is in."),
    ("tandem_ha_priority", "gauge", "Effective priority."),
    ("tandem_ha_transitions_total", "counter", "Changes of state."),
    ("tandem_ha_adverts_sent_total", "counter", "Advertisements sent."),
    ("tandem_ha_adverts_received_total", "counter", "Advertisements that passed all checks."),
    ("tandem_ha_adverts_dropped_total", "counter", "Advertisements that failed a check, by the check."),
    ("tandem_ha_send_errors_total", "counter", "Packets that could not be sent, by the error."),
    ("tandem_ha_alarms_total", "counter", "What an operator had to hear of."),
    ("tandem_ha_split_seconds_total", "counter", "Time in which two nodes were Active."),
    ("tandem_ha_advert_gap_seconds", "gauge", "Longest time between two advertisements since the last scrape."),
    ("tandem_ha_last_outage_seconds", "gauge", "From the last advertisement heard to the last takeover."),
    ("tandem_ha_link_up", "gauge", "Whether the peer link to a node is up."),
)


async def scrape(runtime: Path) -> str:
    """The rows of the instance in this runtime folder."""
    return render(await _ask(runtime, "metrics"))


async def nudge(runtime: Path) -> None:
    """`ha` looks at the origins' health now: something has changed there. Nothing if it does not answer."""
    await _ask(runtime, "look")


async def _ask(runtime: Path, command: str) -> Plain | None:
    try:
        async with asyncio.timeout(_LIMIT):
            reader, writer = await asyncio.open_unix_connection(str(runtime / "ha.sock"))
            try:
                writer.write(json.dumps({"command": command}).encode() + b"\n")
                answer = json.loads(await reader.read())
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return None
    return answer if isinstance(answer, dict) and answer.get("ok") else None


def render(status: Plain | None) -> str:
    """Prometheus text (version 0.0.4) of what `ha` said; None: it did not answer."""
    samples: dict[str, list[Sample]] = {name: [] for name, _, _ in ROWS}
    samples["tandem_ha_up"].append(((), int(status is not None)))
    if status is not None:
        for router in status["routers"]:
            for name, labels, value in _router(router):
                samples[name].append(((("router", router["name"]), *labels), value))
        for node in status["nodes"]:
            if node["link"] != "none":
                samples["tandem_ha_link_up"].append(((("node", node["name"]),), int(node["link"] == "up")))
    lines: list[str] = []
    for name, kind, text in ROWS:
        if samples[name]:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
            lines += [_line(name, labels, value) for labels, value in samples[name]]
    return "\n".join([*lines, ""])


def _router(router: Plain) -> Iterator[tuple[str, Labels, float]]:
    for state in _STATES:
        yield "tandem_ha_state", (("state", state),), int(router["state"] == state)
    yield "tandem_ha_priority", (), router["priority"]
    yield "tandem_ha_transitions_total", (), router["transitions"]
    yield "tandem_ha_adverts_sent_total", (), router["sent"]
    yield "tandem_ha_adverts_received_total", (), router["received"]
    for reason, count in sorted(router["dropped"].items()):
        yield "tandem_ha_adverts_dropped_total", (("reason", reason),), count
    for error, count in sorted(router["errors"].items()):
        yield "tandem_ha_send_errors_total", (("error", error),), count
    for what, count in sorted(router["shouts"].items()):
        yield "tandem_ha_alarms_total", (("what", what),), count
    yield "tandem_ha_split_seconds_total", (), router["split_seconds"]
    yield "tandem_ha_advert_gap_seconds", (), router["gap"]
    if router["outage"] is not None:
        yield "tandem_ha_last_outage_seconds", (), router["outage"]


def _line(name: str, labels: Labels, value: float) -> str:
    # Names come out of the configuration, which allows nothing in them that would need escaping.
    inner = ",".join(f'{key}="{text}"' for key, text in labels)
    return f"{name}{{{inner}}} {value!r}" if inner else f"{name} {value!r}"
