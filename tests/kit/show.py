"""`make pair`: the pair's story in network namespaces, for people to watch; each event with what the client noticed.

Two real instances in front of Tomcat (or of a small origin where it is not installed), a client that asks every 5 ms
on a new connection, and six things that happen to node A. Exit status 0 if the client was never without an answer for
longer than the event allows.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kit import netns
from tests.kit import pair as kit
from tests.kit.tomcat import is_installed

if TYPE_CHECKING:
    from collections.abc import Callable

PACE = 0.005
WIDTH = 46  # of the timeline: one mark per 20 ms
MARK = 0.02


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens, who holds the address then, and the longest outage in milliseconds."""

    what: str
    do: Callable[[kit.Pair], object]
    holder: str
    bound: float


EVENTS = (
    Event("A's proxy is killed (the last worker, SIGKILL)", lambda pair: pair.a.kill("worker-0"), "b", 200),
    Event("handover back to A (tandem ha handover)", lambda pair: pair.a.ask("handover"), "a", 100),
    Event("A's ha is killed (SIGKILL); its supervisor cleans up", lambda pair: pair.a.kill("ha"), "b", 200),
    Event("handover back to A", lambda pair: pair.a.ask("handover"), "a", 100),
    Event("A's link is cut", lambda pair: pair.lab.cut("a"), "b", 600),
    Event("A's link is restored: B keeps the address", lambda pair: pair.lab.restore("a"), "b", 50),
    Event("handover back to A", lambda pair: pair.a.ask("handover"), "a", 100),
    Event("A is stopped politely (SIGTERM)", lambda pair: pair.a.stop(), "b", 100),
    Event("power back at A: B keeps the address", lambda pair: pair.a.start(), "b", 50),
)


def main(write: Callable[[str], object] = lambda line: print(line, flush=True)) -> int:
    """The exit status."""
    if why := netns.why_not():
        write(f"{why}: run it as root")
        return 1
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        lab = stack.enter_context(netns.make_lab())
        pair = start(lab, folder, stack, write)
        pair.settle("a")
        client = kit.Client(lab, path="/", pace=PACE)
        stack.callback(client.close)
        client.wait_for_answers()
        write("A holds 192.168.8.100; the client asks every 5 ms. A mark is 20 ms: . answered, x not\n")
        results = [happen(event, pair, client, write) for event in EVENTS]
        for node in pair.nodes.values():
            node.stop()
    write("\nall within their bounds" if all(results) else "\nNOT within the bounds")
    return 0 if all(results) else 1


def start(lab: netns.Lab, folder: Path, stack: ExitStack, write: Callable[[str], object]) -> kit.Pair:
    write("client 192.168.8.50 -- node A 192.168.8.4, node B 192.168.8.6 -- origin 192.168.8.20, on one bridge")
    if is_installed():
        write("starting Tomcat and two instances of Tandem, advertising every 100 ms …")
        tomcat = kit.start_tomcat_in(lab, folder)
        stack.callback(lambda: lab["origin"].call(tomcat.stop))
        return kit.Pair(lab, folder, kit.config(health='{ path = "/", every = "200ms" }'), origin=False)
    write("starting an origin and two instances of Tandem, advertising every 100 ms …")
    return kit.Pair(lab, folder)


def happen(event: Event, pair: kit.Pair, client: kit.Client, write: Callable[[str], object]) -> bool:
    """Whether the event stayed within its bound; it is told."""
    wait_for_calm(pair, client, event)
    at = time.monotonic()
    event.do(pair)
    pair[event.holder].wait_for("active")
    client.wait_for_answers(20)
    time.sleep(max(0.0, at + MARK * WIDTH - time.monotonic()))
    outage, failed = client.outage(at), len(client.failed(at))
    fine = outage <= event.bound
    write(f"{event.what}")
    write(f"  {timeline(client, at)}")
    lost = f"{failed} requests lost" if failed != 1 else "1 request lost"
    mark = "" if fine else "   <-- TOO LONG"
    write(f"  {event.holder.upper()} holds it; outage {outage:.0f} ms (allowed {event.bound:.0f}), {lost}{mark}\n")
    return fine


def wait_for_calm(pair: kit.Pair, client: kit.Client, event: Event) -> None:
    """Both nodes can serve, where both are there: or the next event would be another one."""
    if "restored" in event.what or "power back" in event.what:
        return
    pair.settle_down()
    client.wait_for_answers(20)


def timeline(client: kit.Client, at: float) -> str:
    """From 5 marks before the event on."""
    begin = at - 5 * MARK
    marks = [" "] * WIDTH
    for one in client.since(begin):
        place = int((one.begun - begin) / MARK)
        if place < WIDTH and marks[place] != "x":
            marks[place] = "x" if one.fault else "."
    return "".join(marks[:5]) + "|" + "".join(marks[5:])


if __name__ == "__main__":
    sys.exit(main())
