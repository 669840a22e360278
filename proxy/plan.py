"""What is known of a request before any response: a pure function of its head's bytes, the door it came through, and configuration.

Equal heads over equal connections have equal plans, so a plan is kept and a request seen before costs no parsing, checking,
routing or rewriting again. A plan dies with the configuration it was made under.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.exchange import Route

if TYPE_CHECKING:
    from proxy.errors import Failure
    from proxy.exchange import FixedAnswer
    from proxy.http.checks import CheckedRequest
    from proxy.http.forwarding import ForwardTemplate
    from proxy.http.message import RequestHead
    from proxy.modes.reverse import SiteView
    from proxy.policy.reasons import Reason


@dataclass(slots=True, eq=False)
class Plan:
    checked: CheckedRequest
    request: RequestHead  # what the cache sees: forged fields are gone (http/forwarding.py)
    way: Route | FixedAnswer | Failure
    view: SiteView | None  # the site; None where no site has the name
    trusted: bool  # the client is a hop in front of the site
    key: bytes = b""  # of the cache; empty where the cache is not asked
    bypass: Reason | None = None  # why the cache is not asked
    upgrade: bytes | None = None  # protocol asked for and permitted
    may_purge: bool = False
    # Heads for plain forwards, made when first needed; by Host, None for the client's own.
    templates: dict[bytes | None, ForwardTemplate] = field(default_factory=dict)

    @property
    def keepable(self) -> bool:
        """It may be used for the next request of equal bytes: what depends on the one client is not in it."""
        return isinstance(self.way, Route) and self.checked.head.method != b"PURGE"
