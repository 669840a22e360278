"""Workers of these tests: real sockets and messages, answers by script."""

import asyncio
import os
import time

import uvloop

from proxy import bus, link

_living = []


class FakeWorker:
    """Answers on worker-N.sock as a worker does, and remembers what it was asked."""

    def __init__(self, runtime, index, *, count=1, data=None):
        self.path = runtime / f"worker-{index}.sock"
        self.pid = os.getpid() * 100 + index
        self.count = count
        self.data = {} if data is None else data
        self.asked = []
        self.seen = set()
        self.hold = None  # awaited before each answer to a purge
        self._server = None
        self._ends = []

    async def start(self):
        self.path.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        _living.append(self)
        self._server = await loop.create_unix_server(self._end, path=str(self.path))
        return self

    def _end(self):
        self._ends.append(link._Answering(self.handle))
        return self._ends[-1]

    async def handle(self, question):
        self.asked.append(question)
        match question:
            case bus.Ping():
                return bus.Pong(self.pid, 1)
            case bus.Purge():
                if self.hold is not None:
                    await self.hold()
                self.seen.add(question.number)
                return bus.Purged(question.number, self.count)
            case bus.HealthVerdicts():
                return bus.Done()
            case bus.Status():
                return bus.StatusAnswer(self.data)
            case bus.List() | bus.Recent():
                rows = tuple(self.data["rows"])
                return bus.Listed(rows, 7, 4096) if isinstance(question, bus.List) else bus.Recently(rows)
            case bus.Explain():
                return bus.Explained({"url": question.url, **self.data})

    def of(self, kind):
        return [question for question in self.asked if isinstance(question, kind)]

    def die(self):
        """Nobody listens any more, connections are cut, the path is left."""
        self._server.close()
        self.cut()

    def cut(self):
        ends, self._ends = self._ends, []
        for end in ends:
            end.abort()


def run(main):
    """Runs a test's coroutine on the loop of the real processes, and lets its workers end with it."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_with_end(main))


async def _with_end(main):
    try:
        await asyncio.wait_for(main, 60)
    finally:  # uvloop never finishes closing a loop whose servers are open
        while _living:
            _living.pop().die()
        await asyncio.sleep(0.01)


async def until(condition, patience=10.0):
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)
