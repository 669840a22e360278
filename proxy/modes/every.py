"""All modes of a configuration together: each listening address belongs to one of them, which is asked.

`Client.listener` is an index into `listeners`: those of the sites first, then the forward proxy's. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.schema import FORWARD
from proxy.modes.forward import Forward
from proxy.modes.reverse import Reverse, site_names
from proxy.policy import target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from config.schema import Config
    from config.units import Listen
    from proxy.exchange import Client, Origin, PoolSpec, Way
    from proxy.http.message import RequestHead
    from proxy.modes.reverse import SiteView
    from proxy.policy.rules import CacheRules


class Modes:
    """See the module."""

    def __init__(self, config: Config, files: Mapping[str, bytes]) -> None:
        """`files` has the contents of the files that the configuration names, by their paths as they stand there."""
        self.reverse = Reverse(config, files)
        self.forward = Forward(config, config.forward, files) if config.forward is not None else None
        self.pools: dict[str, PoolSpec] = dict(self.reverse.pools)
        self.sites: dict[str, SiteView] = dict(self.reverse.sites)
        self.listeners: tuple[Listen, ...] = self.reverse.listeners
        self._by_listener: list[Reverse | Forward] = [self.reverse] * len(self.listeners)
        if self.forward is not None:
            self.sites[FORWARD] = self.forward.view
            self.listeners += self.forward.listeners
            self._by_listener += [self.forward] * len(self.forward.listeners)

    def route(self, request: RequestHead, client: Client) -> Way:
        """The mode's answer to the one question it is asked."""
        return self._by_listener[client.listener].route(request, client)

    def site_of(self, authority: bytes, listener: int) -> SiteView | None:
        return self._by_listener[listener].site_of(authority, listener)

    def serves(self, site: str, key: bytes) -> bool:
        """What is stored under this key came to this site (`forward` for the forward proxy), by any listener."""
        space = key.partition(b"://")[0].rpartition(b" ")[0]
        if space or site == FORWARD:
            return bool(space) and site == FORWARD
        authority = target.authority_of(key)
        return any(self.reverse.serves(site, authority, listener) for listener in range(len(self.reverse.listeners)))

    def pool_spec(self, origin: Origin) -> PoolSpec:
        """The pool of an origin that a request names."""
        assert self.forward is not None, "origins are named in forward mode"
        return self.forward.pool_spec(origin)

    def is_forward(self, listener: int) -> bool:
        return self._by_listener[listener] is self.forward

    def cache_rules(self) -> tuple[CacheRules, ...]:
        """All that differ, for who must know every key that a URL may have."""
        own = () if self.forward is None else (self.forward.rules,)
        return (*self.reverse.cache_rules(), *own)


def names_of(config: Config) -> tuple[str, ...]:
    """What metrics and status count by: the sites, and forward mode as one more."""
    return (*site_names(config), *((FORWARD,) if config.forward is not None else ()))
