"""What the objects of a worker know is in its counters a tick later."""

from __future__ import annotations

from proxy.observe import metrics
from tests.kit import raw
from tests.kit.worker import site

FRESH = "Cache-Control: max-age=60"


def test_the_gauges_tell_what_there_is(start_worker, origin):
    running = start_worker()
    running.load(site(origin))
    slots = running.shared.cast("Q")
    with raw.Connection(running.at) as connection:
        connection.send(raw.request())
        connection.read_response()
        raw.wait_until(lambda: slots[metrics.slot("tandem_store_entries")] == 1)
        assert slots[metrics.slot("tandem_connections_open")] == 1
        assert slots[metrics.slot("tandem_upstream_connections_idle")] == 1
        assert slots[metrics.slot("tandem_upstream_connections_total")] == 1
    raw.wait_until(lambda: slots[metrics.slot("tandem_connections_open")] == 0)
