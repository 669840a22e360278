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
    """Something that happens, what is to be seen then, who holds the address, and the longest outage in intervals."""

    what: str
    story: str
    do: Callable[[kit.Pair], object]
    holder: str
    bound: float


def hand_back(pair: kit.Pair) -> object:
    return pair.a.ask("handover")


BACK = "Answers say close until no request is in flight; who connects meanwhile waits, and A answers."
EVENTS = (
    Event(
        "The proxy on A is killed (its only worker, SIGKILL)",
        "A's VRRP process sees the death within a millisecond, takes the address off and tells B.",
        lambda pair: pair.a.kill("worker-0"),
        "b",
        2,
    ),
    Event("The operator moves the address back to A (tandem ha handover)", BACK, hand_back, "a", 1),
    Event(
        "The VRRP process on A is killed (SIGKILL)",
        "Its supervisor takes the address off and says so in its place, then starts it again.",
        lambda pair: pair.a.kill("ha"),
        "b",
        2,
    ),
    Event("Back to A", BACK, hand_back, "a", 1),
    Event(
        "A's cable is cut",
        "Nobody can tell B: it waits until three advertisements are missing before it believes A to be gone.",
        lambda pair: pair.lab.cut("a"),
        "b",
        6,
    ),
    Event(
        "A's cable is back",
        "B serves well, so B keeps the address: a healthy node is not robbed.",
        lambda pair: pair.lab.restore("a"),
        "b",
        0.5,
    ),
    Event("Back to A", BACK, hand_back, "a", 1),
    Event(
        "A is stopped politely (SIGTERM, as for an upgrade)",
        "Like a handover: B has the address before A ends.",
        lambda pair: pair.a.stop(),
        "b",
        1,
    ),
    Event("A is started again", "It listens first, and B keeps the address.", lambda pair: pair.a.start(), "b", 0.5),
)


SCENE = """
Two machines share one address. Whatever happens to one of them, the client goes on.

  client 192.168.8.50 ----+---- node A 192.168.8.4  \\
                          +---- node B 192.168.8.6  / one of them has 192.168.8.100 too
                          +---- origin 192.168.8.20
"""
LEGEND = """
A holds 192.168.8.100. The client asks it every 5 ms, on a new connection each time. In the lines below a mark is
20 ms: "." all were answered, "x" one was not, and "|" is the moment of the event.
"""


def main(write: Callable[[str], object] = lambda line: print(line, flush=True), interval: int = 100) -> int:
    """The exit status. `interval`: milliseconds between advertisements."""
    if why := netns.why_not():
        write(f"{why}: run it as root")
        return 1
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        lab = stack.enter_context(netns.make_lab())
        pair = start(lab, folder, stack, write, interval)
        pair.settle("a")
        client = kit.Client(lab, path="/", pace=PACE)
        stack.callback(client.close)
        client.wait_for_answers()
        write(LEGEND)
        results = [happen(number, event, pair, client, write, interval) for number, event in enumerate(EVENTS, 1)]
        for node in pair.nodes.values():
            node.stop()
    write("Measured again and again beside keepalived: make failover. To set up a pair: docs/pair.md")
    write("\nall within their bounds" if all(results) else "\nNOT within the bounds")
    return 0 if all(results) else 1


def start(lab: netns.Lab, folder: Path, stack: ExitStack, write: Callable[[str], object], interval: int) -> kit.Pair:
    write(SCENE)
    if is_installed():
        write(f"starting Tomcat and two instances of Tandem, advertising every {interval} ms …")
        tomcat = kit.start_tomcat_in(lab, folder)
        stack.callback(lambda: lab["origin"].call(tomcat.stop))
        return kit.Pair(
            lab, folder, kit.config(interval=f"{interval}ms", health='{ path = "/", every = "200ms" }'), origin=False
        )
    write(f"starting an origin and two instances of Tandem, advertising every {interval} ms …")
    return kit.Pair(lab, folder, kit.config(interval=f"{interval}ms"))


def happen(
    number: int, event: Event, pair: kit.Pair, client: kit.Client, write: Callable[[str], object], interval: int
) -> bool:
    """Whether the event stayed within its bound; it is told."""
    wait_for_calm(pair, client, event)
    at = time.monotonic()
    event.do(pair)
    pair[event.holder].wait_for("active")
    client.wait_for_answers(20)
    time.sleep(max(0.0, at + MARK * WIDTH - time.monotonic()))
    outage, failed = client.outage(at), len(client.failed(at))
    allowed = event.bound * interval
    fine = outage <= allowed
    lost = {0: "no request lost", 1: "1 request lost"}.get(failed, f"{failed} requests lost")
    write(f"{number}. {event.what}\n   {event.story}")
    write(f"   {timeline(client, at)}")
    mark = "" if fine else "   <-- TOO LONG"
    write(f"   {event.holder.upper()} holds it; outage {outage:.0f} ms (allowed {allowed:.0f}), {lost}{mark}\n")
    if not fine:
        faults = [f"   +{(one.begun - at) * 1000:.0f} ms {one.fault}" for one in client.failed(at)]
        write("\n".join([*faults[:3], *faults[-3:], pair.said()]))
    return fine


def wait_for_calm(pair: kit.Pair, client: kit.Client, event: Event) -> None:
    """Both nodes can serve, where both are there: or the next event would be another one."""
    if event.holder == "b" and pair.b.states() == {"active"}:
        return  # A is away, and comes back
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
