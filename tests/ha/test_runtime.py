"""The loop of ha in a namespace, with the test in the supervisor's place: orders, claims, moves, the end."""

import asyncio
import contextlib
import json
import mmap
import os
import socket
import tempfile
import time
from pathlib import Path

import pytest

from ha import control, liveness, orders
from ha.evidence import Evidence, Seen, Worker
from ha.runtime import Runtime
from ha.scribe import Scribe
from tests.kit.netns import VIP, VIP6, make_lab, why_not

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]

SECRET = b"0123456789abcdef0123456789abcdef"
WELL = Evidence((Worker.SERVING,), {"shop": Seen.GOOD})
DEAD = Evidence((Worker.GONE,), {"shop": Seen.GOOD})


def text(vip='["192.168.8.100/24", "fd00:8::100/64"]', extra=""):
    return f"""
[[site]]
name = "shop"
listen = ":80"
upstream = "192.168.8.20:8080"
[ha]
vip = {vip}
secret = {{ file = "ha.key" }}
interval = "50ms"
{extra}
[ha.nodes]
a = "192.168.8.4"
b = "192.168.8.6"
"""


class Boss:
    """One ha, and what it says to its supervisor."""

    def __init__(self, lab, host, folder):
        self.lab, self.host = lab, host
        self.folder = folder / host
        self.folder.mkdir(exist_ok=True)
        self.said = []
        self.lines = []
        self.generation = 0

    async def start(self, configuration=None, secret=SECRET):
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.setblocking(False)
        page = memoryview(mmap.mmap(-1, liveness.PAGE))
        liveness.initialise(page)
        self.scribe = Scribe(self.lines.append)
        self.runtime = Runtime(theirs, self.folder, lambda _: page, self.scribe, real_time=False)
        self.runtime._observer.configure = lambda *_: None  # the test is the evidence
        self.task = asyncio.create_task(self.runtime.run())
        return await self.serve(configuration or text(), secret)

    async def serve(self, configuration, secret=SECRET):
        self.generation += 1
        fds = []
        for content in (configuration.encode(), secret):
            fds.append(os.memfd_create("x"))
            os.write(fds[-1], content)
        order = orders.Prepare(self.generation, f"digest-{configuration}"[:40], "t", str(self.folder), "/")
        orders.send(self.channel, order, fds)
        for fd in fds:
            os.close(fd)
        answer = await self.heard(orders.Prepared, orders.Refused)
        if isinstance(answer, orders.Prepared):
            orders.send(self.channel, orders.Commit(self.generation))
            answer = await self.heard(orders.Ready)
        return answer

    async def heard(self, *kinds):
        """The next message of these kinds that was not asked for before."""
        async with asyncio.timeout(10):
            while True:
                self.listen()
                for i, message in enumerate(self.said):
                    if isinstance(message, kinds):
                        return self.said.pop(i)
                await asyncio.sleep(0.005)

    def listen(self):
        """All that was said so far."""
        with contextlib.suppress(EOFError, OSError):
            while (received := orders.receive(self.channel)) is not None:
                self.said.append(orders.decode_from_ha(received[0]))

    async def until(self, state):
        async with asyncio.timeout(10):
            while {s.router.state.value for s in self.runtime._engine.stations.values()} != {state}:
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.002)

    def well(self, evidence=WELL):
        self.runtime._on_evidence(evidence)

    async def ask(self, command, **more):
        reader, writer = await asyncio.open_unix_connection(self.folder / control.SOCKET)
        writer.write(json.dumps({"command": command, **more}).encode() + b"\n")
        answer = json.loads(await reader.read())
        writer.close()
        return answer

    async def stop(self):
        orders.send(self.channel, orders.Stop(0.05))
        async with asyncio.timeout(10):
            await self.task
        self.scribe.close()

    def close(self):
        self.listen()
        self.channel.close()
        self.scribe.close()


@pytest.fixture(scope="module")
def lab():
    with make_lab(("a", "b")) as made:
        yield made


@pytest.fixture
def alone(lab):
    """Runs a scenario about node A alone, in its namespace."""

    def run(scenario):
        with tempfile.TemporaryDirectory() as folder:

            async def all_of_it():
                boss = Boss(lab, "a", Path(folder))
                await scenario(boss)
                if not boss.task.done():
                    await boss.stop()
                boss.close()
                return boss

            return lab["a"].call(lambda: asyncio.run(all_of_it(), debug=False), timeout=60)

    return run


def test_it_begins_as_backup_claims_when_it_can_serve_and_leaves_nothing(alone, lab):
    async def scenario(boss):
        assert isinstance(await boss.start(), orders.Ready)
        will = await boss.heard(orders.Will)
        assert [len(bequest.deletes) for bequest in will.bequests] == [1, 1]
        standings = await boss.heard(orders.Standings)
        assert {one.state for one in standings.routers} == {"backup"}
        await asyncio.sleep(0.3)
        boss.well()
        await boss.until("active")
        status = await boss.ask("status")
        assert all(one["why"].startswith("the Active is silent") for one in status["routers"])
        assert sorted(vip for one in status["routers"] for vip in one["held"]) == [str(VIP), str(VIP6)]
        await boss.stop()
        assert await boss.heard(orders.Hush) == orders.Hush(True)
        boss.listen()
        assert boss.said[-1] == orders.Will()

    boss = alone(scenario)
    assert not lab["a"].holds(VIP)
    assert not lab["a"].holds(VIP6)
    assert any("backup -> active" in line for line in boss.lines)


def test_who_cannot_serve_claims_nothing_and_who_dies_lets_go(alone, lab):
    async def scenario(boss):
        await boss.start(text('"192.168.8.100/24"'))
        await boss.until("backup")
        boss.well(DEAD)
        await asyncio.sleep(0.4)
        await boss.until("backup")
        boss.well()
        await boss.until("active")
        boss.well(DEAD)  # and without a turn of the loop:
        assert [one.router.state.value for one in boss.runtime._engine.stations.values()] == ["backup"]

    alone(scenario)
    assert not lab["a"].holds(VIP)


@pytest.mark.parametrize(
    ("configuration", "secret", "why"),
    [
        (text().replace("192.168.8.4", "192.168.8.44"), SECRET, "no interface of this machine has the address"),
        (text(), b"short", "a secret has at least 16 bytes"),
        (text().replace("50ms", "5ms"), SECRET, "cannot be advertised"),
    ],
)
def test_what_cannot_be_served_is_refused_with_a_reason(alone, configuration, secret, why):
    async def scenario(boss):
        answer = await boss.start(configuration, secret)
        assert isinstance(answer, orders.Refused)
        assert why in answer.reason
        boss.channel.close()
        await boss.task

    alone(scenario)


def test_the_end_of_the_supervisor_is_the_end_of_the_address(alone, lab):
    async def scenario(boss):
        await boss.start()
        boss.well()
        await boss.until("active")
        boss.channel.close()
        begun = time.monotonic()
        await boss.task
        assert time.monotonic() - begun < 1

    alone(scenario)
    assert not lab["a"].holds(VIP)


def test_a_reload_moves_nothing_that_stays_and_takes_over_what_changes(alone):
    async def scenario(boss):
        await boss.start(text('"192.168.8.100/24"'))
        boss.well()
        await boss.until("active")
        (station,) = boss.runtime._engine.stations.values()
        assert isinstance(await boss.serve(text('["192.168.8.100/24", "192.168.8.101/24"]')), orders.Ready)
        assert [str(vip) for vip in station.router.held] == ["192.168.8.100/24", "192.168.8.101/24"]
        assert isinstance(await boss.serve(text('"192.168.8.101/24"')), orders.Ready)
        assert station.counts.transitions == 2
        refused = await boss.serve(text("[]"))
        assert isinstance(refused, orders.Refused)
        assert station.counts.transitions == 2
        await boss.serve(text(extra="vrid = 52"))
        (four, six) = boss.runtime._engine.stations.values()
        assert {four.router.config.vrid, six.router.config.vrid} == {52}
        await boss.until("active")

    alone(scenario)


def test_s10_a_router_that_leaves_by_reload_says_so_three_times(alone, lab):
    capture = lab.capture("a")

    async def scenario(boss):
        await boss.start(text('"192.168.8.100/24"'))
        boss.well()
        await boss.until("active")
        await boss.serve(text('"192.168.8.100/24"', "vrid = 52"))

    alone(scenario)
    payloads = [
        frame.data[34:] for frame in capture.read() if frame.data[12:14] == b"\x08\x00" and frame.data[23] == 112
    ]
    assert sum(payload[1] == 51 and payload[2] == 0 for payload in payloads) == 3


def test_questions_that_make_no_sense_are_answered(alone):
    async def scenario(boss):
        await boss.start()
        assert await boss.ask("handover") == {"ok": False, "error": "no node is known to be Active"}
        assert not (await boss.ask("drill"))["ok"]
        assert (await boss.ask("dance"))["error"] == "no such command: dance"
        boss.well()
        await boss.until("active")
        answer = await boss.ask("handover", to="b")
        assert answer == {"ok": False, "error": "b is not known to be able to serve"}
        hushes = [await boss.heard(orders.Hush), await boss.heard(orders.Hush)]
        assert hushes == [orders.Hush(True), orders.Hush(False)]

    alone(scenario)


def test_with_a_virtual_mac_addresses_live_on_a_macvlan_that_goes_with_us(alone, lab):
    async def scenario(boss):
        await boss.start(text('"192.168.8.100/24"', "virtual_mac = true"))
        boss.well()
        await boss.until("active")
        names = [name for _, name in socket.if_nameindex()]
        assert any(name.startswith("vrrp4-") for name in names)

    alone(scenario)
    assert not lab["a"].holds(VIP)
    assert "vrrp4-" not in lab["a"].run("ip", "link")
