"""The whole data plane in front of fake origins, with a clock that is a number, and everything even at the end."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

from tests.kit import raw
from tests.kit.inproc import Clock, Stack
from tests.kit.ledger import Ledger
from tests.kit.origin import FakeOrigin, response
from tests.kit.proxy import reverse

FRESH = "Cache-Control: max-age=60"


class Bench:
    """A stack in front of fake origins, both ended with the test, everything even at the end."""

    def __init__(self, ends, origins=1, site="", rest=""):
        self.origins = [ends.enter_context(FakeOrigin()) for _ in range(origins)]
        self.origin = self.origins[0]
        text = reverse(*(origin.address for origin in self.origins), site=site, rest=rest)
        self.stack = ends.enter_context(Stack(text, clock=Clock()))
        self.ledger = Ledger(self.stack)
        self.at = self.stack.at

    def get(self, target="/", *lines, method="GET"):
        return raw.get(self.at, target, *lines, method=method)

    def dated(self, body=b"hello", *lines, **more):
        return response(body, *lines, f"Date: {self.stack.date()}", **more)

    def ask(self, target="/", *lines, method="GET", version="1.1"):
        """A request under way on a connection of its own."""
        connection = raw.Connection(self.at)
        connection.send(raw.request(method, target, *lines).replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
        return connection

    def waiters(self):
        return self.stack.call(
            lambda: sum(len(f.waiting_ones()) for f in self.stack.pipeline.flights._flights.values())
        )

    def wait_for_waiters(self, count):
        raw.wait_until(lambda: self.waiters() == count, what=f"{count} waiting, not {self.waiters()}")

    def leave_alone(self):
        """The origin is gone, and that is known here."""
        self.origin.refuse()
        self.origin.drop_connections()
        raw.wait_until(lambda: self.stack.upstream_counts() == (0, 0))

    @property
    def stored(self):
        return self.stack.call(lambda: self.stack.store.entries)

    def outcomes(self):
        names = {"hit", "stale", "revalidated", "miss", "bypass", "answer", "refused", "failed", "tunnel"}
        counters = self.stack.counters()
        found = {name: counters.get(f'tandem_requests_total{{outcome="{name}"}}') for name in names}
        return {name: int(value) for name, value in found.items() if value}


@contextmanager
def benches():
    """Makes benches; when all is over each of them must have come to rest with nothing left over."""
    with ExitStack() as ends:
        made = []

        def make(**options):
            made.append(Bench(ends, **options))
            return made[-1]

        yield make
        for one in made:
            one.ledger.settle()
