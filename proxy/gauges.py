"""The counters and gauges of a worker that nobody counts as it happens: taken at each tick from the objects that know.

A gauge is what there is now; of a counter the difference since the last tick is added, so that a hot path counts in a
plain attribute of its own. Invariant: what has been taken over is counted once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.observe import metrics

if TYPE_CHECKING:
    from proxy.cache.disk import Counts
    from proxy.cache.store import Store
    from proxy.pipeline import Tally
    from proxy.server.front import Front
    from proxy.upstream.client import Upstreams

_CONNECTIONS = metrics.slot("tandem_connections_open")
_UPSTREAM_OPEN = metrics.slot("tandem_upstream_connections_open")
_UPSTREAM_IDLE = metrics.slot("tandem_upstream_connections_idle")
_EXCHANGES = metrics.slot("tandem_exchanges_open")
_TUNNELS = metrics.slot("tandem_tunnels_open")
_STORE_BYTES = metrics.slot("tandem_store_bytes")
_STORE_ENTRIES = metrics.slot("tandem_store_entries")
_DISK_BYTES = metrics.slot("tandem_disk_bytes")
_DISK_ENTRIES = metrics.slot("tandem_disk_entries")
_DISK_LOADED = metrics.slot("tandem_disk_loaded_total")
_DISK_DROPPED = metrics.slot("tandem_disk_dropped_total")
_DISK_DAMAGED = metrics.slot("tandem_disk_damaged_total")
_MEMO_ENTRIES = metrics.slot("tandem_memo_entries")
_MEMO_BYTES = metrics.slot("tandem_memo_bytes")
_LAG = metrics.slot("tandem_loop_lag_seconds")
_REFUSED = metrics.slot("tandem_connections_refused_total")
_ACCEPTED = metrics.slot("tandem_connections_total")
_OPENED = metrics.slot("tandem_upstream_connections_total")
_REUSED = metrics.slot("tandem_upstream_reused_total")
_RETRIES = metrics.slot("tandem_retries_total")
_COLLAPSED = metrics.slot("tandem_collapsed_total")
_INVALIDATED = metrics.slot("tandem_invalidated_total")
_PURGED = metrics.slot("tandem_purged_total")
_EVICTED = metrics.slot("tandem_evicted_total")


class Gauges:
    """See the module."""

    def __init__(self, slots: memoryview, front: Front, upstreams: Upstreams, store: Store, tally: Tally) -> None:
        self._slots = slots
        self._front = front
        self._upstreams = upstreams
        self._store = store
        self._tally = tally
        self._disk_counted = (0, 0, 0)
        self._evictions = 0

    def take(self, lag: float, disk: Counts) -> None:
        """`lag`: seconds that the loop was late by."""
        self._show(lag, disk)
        self._take_over(disk)

    def _show(self, lag: float, disk: Counts) -> None:
        slots, front, store = self._slots, self._front, self._store
        slots[_CONNECTIONS] = len(front.connections)
        slots[_UPSTREAM_OPEN], slots[_UPSTREAM_IDLE] = self._upstreams.counts
        slots[_EXCHANGES] = front.busy
        slots[_TUNNELS] = sum(connection.is_tunnel for connection in front.connections)
        slots[_STORE_BYTES], slots[_STORE_ENTRIES] = store.bytes, store.entries
        slots[_DISK_BYTES], slots[_DISK_ENTRIES] = disk.bytes, disk.entries
        slots[_MEMO_ENTRIES], slots[_MEMO_BYTES] = front.memo_entries, front.memo_bytes
        slots[_LAG] = int(lag * 1e6)

    def _take_over(self, disk: Counts) -> None:
        """What the objects counted by themselves since the last tick."""
        slots, upstreams, tally = self._slots, self._upstreams, self._tally
        counted, before = (disk.loaded, disk.dropped, disk.damaged), self._disk_counted
        self._disk_counted = counted
        for at, now, then in zip((_DISK_LOADED, _DISK_DROPPED, _DISK_DAMAGED), counted, before, strict=True):
            slots[at] += max(0, now - then)  # another tier begins at nothing
        slots[_EVICTED] += self._store.evictions - self._evictions
        self._evictions = self._store.evictions
        accepted, refused = self._front.take_counts()
        slots[_ACCEPTED] += accepted
        slots[_REFUSED] += refused
        slots[_OPENED] += upstreams.opened
        slots[_REUSED] += upstreams.reused
        slots[_RETRIES] += upstreams.retries
        upstreams.opened = upstreams.reused = upstreams.retries = 0
        slots[_COLLAPSED] += tally.collapsed
        slots[_INVALIDATED] += tally.invalidated
        slots[_PURGED] += tally.purged
        tally.collapsed = tally.invalidated = tally.purged = 0
