"""What the probe saw: its process, its lines as tries, and an event's outage and failures read from them."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.failover import probe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.kit.netns import Lab

LATE = 0.05  # seconds; an answer after that is none for the outage: the restart of a worker leaves clients in a queue


@dataclass(frozen=True, slots=True)
class Try:
    stream: str
    begun: float  # CLOCK_MONOTONIC
    ended: float
    fault: str  # "-" for an answer

    @property
    def in_time(self) -> bool:
        return self.fault == "-" and self.ended - self.begun <= LATE


class Watch:
    """The probe in the client's namespace."""

    def __init__(self, lab: Lab, folder: Path, address: str) -> None:
        self._client, self._address = lab["client"], address
        self._client.sysctl("net.ipv4.ip_local_port_range", "1024 65535")
        self._file = (folder / "probe").open("w+b")
        with (folder / "probe").open("ab") as out:
            self._process = self._client.popen([sys.executable, Path(probe.__file__), address], stdout=out)
        self._rest = b""
        self._tries: list[Try] = []

    def forget(self, before: float) -> None:
        self._read()
        self._tries = [one for one in self._tries if one.begun >= before]

    def forget_neighbour(self) -> None:
        """The client asks anew who has the address: after a partition nobody may have told it, for half a minute."""

        def forget(ipr):
            ipr.neigh("del", dst=self._address, ifindex=ipr.link_lookup(ifname="eth0")[0])

        if self._client.neighbour(self._address):
            self._client.netlink(forget)

    def since(self, at: float, stream: str) -> list[Try]:
        """The tries of a stream that were under way then or begun later, by their begin."""
        self._read()
        return sorted((one for one in self._tries if one.stream == stream and one.ended >= at), key=lambda x: x.begun)

    def wait_until_well(self, quiet: float, seconds: float) -> None:
        """No fault for `quiet` seconds, all of them after now."""
        begin = time.monotonic()
        while True:
            until = time.monotonic() - probe.PATIENCE - 0.05  # whatever began before that has ended
            since = max(begin, until - quiet)
            recent = [one for one in self.since(since, "probe") if since <= one.begun <= until]
            if until - begin >= quiet and recent and all(one.fault == "-" for one in recent):
                return
            if time.monotonic() - begin > seconds:
                raise AssertionError(f"no {quiet} s without a fault in {seconds} s: {count_faults(recent)}")
            time.sleep(0.05)

    def _read(self) -> None:
        if self._process.poll() is not None:
            raise AssertionError(f"the probe ended: {self._process.returncode}")
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            stream, begun, ended, fault = line.decode().split()
            self._tries.append(Try(stream, float(begun), float(ended), fault))

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)
        self._file.close()


def outage_ms(tries: Iterable[Try], at: float) -> float:
    """The milliseconds without an answer in time: from a good begin (or the event) to the next good one, added up."""
    total, good, failing = 0.0, at, False
    for one in tries:
        if not one.in_time:
            failing = True
            continue
        if failing:
            total += one.begun - good
        good, failing = max(one.begun, at), False
    return total * 1000


def count_faults(tries: Iterable[Try]) -> dict[str, int]:
    return dict(Counter(one.fault for one in tries if one.fault != "-"))
