"""What is known of a request before any response: a pure function of its head's bytes, the door it came through, and
configuration.

Equal heads over equal connections have equal plans, so a plan is kept and a request seen before costs no parsing,
checking, routing or rewriting again. A plan dies with the configuration it was made under.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.exchange import Route, Tunnel, Unproven

if TYPE_CHECKING:
    from proxy.cache.memo import Answer
    from proxy.exchange import Way
    from proxy.http.checks import CheckedRequest, CheckedResponse
    from proxy.http.forwarding import ForwardTemplate
    from proxy.http.message import RequestHead, ResponseHead
    from proxy.modes.reverse import SiteView
    from proxy.observe.observer import Template
    from proxy.policy.reasons import Reason


@dataclass(slots=True, eq=False)
class Relayed:
    """What became of one response head to this request, where it may not be stored: the same bytes mean the same
    again.
    """

    checked: CheckedResponse
    head: ResponseHead
    reason: Reason | None
    detail: Reason | None
    sent: int = -1
    template: Template | None = None  # of `sent` bytes of body: what an equal exchange leaves in counters and logs


@dataclass(slots=True, eq=False)
class Plan:
    checked: CheckedRequest
    request: RequestHead  # what the cache sees: forged fields are gone (http/forwarding.py)
    way: Way
    view: SiteView | None  # the site; None where no site has the name
    trusted: bool  # the client is a hop in front of the site
    sent: CheckedRequest | None = None  # what travels; None: as it came
    public_scheme: bytes | None = None  # how the client reached a trusted hop, if that told
    key: bytes = b""  # of the cache; empty where the cache is not asked
    bypass: Reason | None = None  # why the cache is not asked
    upgrade: bytes | None = None  # protocol asked for and permitted
    user: str = ""  # who has proved to be it
    bandwidth: str = ""  # class whose rate its connection shares
    may_purge: bool = False
    asks_key: bool = False  # it wants to be told the cache's key, and
    tells_key: bool = False  # its client may be
    plain: bool = False  # GET, and nothing in it speaks to the cache
    of_client: bool = False  # its rule looks at the client's address
    bound: bool = False  # it authenticates its connection to the origin, which then serves nobody else
    alone: bool = False  # its fetch may not be shared before it has come whole: a session id is in the target
    # Heads for plain forwards, made when first needed; by Host, None for the client's own.
    templates: dict[bytes | None, ForwardTemplate] = field(default_factory=dict)
    # Where the host's name must be proved first (transparent mode): what to do if it has been, and if not.
    proven: Plan | None = None
    disproved: Plan | None = None
    proved_until: float = 0.0  # the loop's time until which the name is proved
    # What earlier requests of equal bytes have shown; see cache/memo.py.
    size: int = 0
    answer: Answer | None = None
    unshared_until: float = 0.0  # the loop's time until which its answers are taken for not storable (hit-for-miss)
    relayed: dict[str, Relayed] = field(default_factory=dict)  # by the origin's address, the last one of each

    @property
    def keepable(self) -> bool:
        """It may be used for the next request of equal bytes: what depends on the one client is not in it."""
        way = self.way
        if isinstance(way, Route | Tunnel) and (way.reports or way.counted or way.bandwidth):
            return False
        return (
            isinstance(way, Route | Tunnel | Unproven)
            and self.checked.head.method != b"PURGE"
            and not (self.asks_key or self.of_client)
        )
