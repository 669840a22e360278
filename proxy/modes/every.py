"""All modes of a configuration together: each listening address belongs to one of them, which is asked.

`Client.listener` is an index into `listeners`: those of the sites first, then the forward proxy's, then where taken
connections arrive. Pure.
"""

from __future__ import annotations

from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from config.schema import FORWARD, TRANSPARENT
from proxy.modes.forward import Forward
from proxy.modes.reverse import Reverse, site_names
from proxy.modes.transparent import Transparent
from proxy.policy import target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from config.schema import Config
    from config.units import Listen
    from proxy.exchange import Client, Origin, PoolSpec, Way
    from proxy.http.message import RequestHead
    from proxy.modes.access import Names
    from proxy.modes.reverse import SiteView
    from proxy.policy.rules import CacheRules


NOTHING: Mapping[str, Any] = MappingProxyType({})


class Modes:
    """See the module."""

    def __init__(
        self,
        config: Config,
        files: Mapping[str, bytes],
        lists: Mapping[str, Names] = NOTHING,
        secrets: Mapping[str, bytes] = NOTHING,
    ) -> None:
        """`files` and `secrets` have the contents of what the configuration names, by their paths as they stand there;
        `lists` each list of names. ValueError for a file that is not as it should be.
        """
        self.reverse = Reverse(config, files)
        self.forward = Forward(config, config.forward, files, lists, secrets) if config.forward is not None else None
        self.pools: dict[str, PoolSpec] = dict(self.reverse.pools)
        self.sites: dict[str, SiteView] = dict(self.reverse.sites)
        self.listeners: tuple[Listen, ...] = self.reverse.listeners
        self.transparent = Transparent(config, config.transparent, lists) if config.transparent is not None else None
        self._by_listener: list[Reverse | Forward | Transparent] = [self.reverse] * len(self.listeners)
        if self.forward is not None:
            self.sites[FORWARD] = self.forward.view
            self.pools |= self.forward.pools
            self.listeners += self.forward.listeners
            self._by_listener += [self.forward] * len(self.forward.listeners)
        if self.transparent is not None:
            self.sites[TRANSPARENT] = self.transparent.view
            self.listeners += self.transparent.listeners
            self._by_listener += [self.transparent] * len(self.transparent.listeners)

    def route(self, request: RequestHead, client: Client, user: str = "", wall: float = 0.0) -> Way:
        """The mode's answer to the one question it is asked."""
        return self._by_listener[client.listener].route(request, client, user, wall)

    def site_of(self, authority: bytes, listener: int) -> SiteView | None:
        return self._by_listener[listener].site_of(authority, listener)

    def serves(self, site: str, key: bytes) -> bool:
        """What is stored under this key came to this site, by any listener; the other modes share what they store."""
        space = key.partition(b"://")[0].rpartition(b" ")[0]
        if space or site in {FORWARD, TRANSPARENT}:
            return bool(space) and site in {FORWARD, TRANSPARENT}
        authority = target.authority_of(key)
        return any(self.reverse.serves(site, authority, listener) for listener in range(len(self.reverse.listeners)))

    def pool_spec(self, site: str, origin: Origin) -> PoolSpec:
        """The pool of an origin that a request names, or that its client was going to."""
        mode = self.forward if site == FORWARD else self.transparent
        assert mode is not None, "origins are named in forward and transparent mode"
        return mode.pool_spec(origin)

    def steady_for(self, wall: float) -> float:
        """For how many seconds from now on what was decided of clients stays so."""
        return min(
            (mode.steady_for(wall) for mode in (self.forward, self.transparent) if mode is not None), default=inf
        )

    def has_mirror(self, listener: int, path: bytes) -> bool:
        """What is asked of this listener itself, for this path, is mirrored."""
        mode = self._by_listener[listener]
        return isinstance(mode, Forward) and mode.mirrors.find(path) is not None

    def mode_of(self, listener: int) -> Reverse | Forward | Transparent:
        return self._by_listener[listener]

    def cache_rules(self) -> tuple[CacheRules, ...]:
        """All that differ, for who must know every key that a URL may have."""
        forward = () if self.forward is None else self.forward.cache_rules()
        transparent = () if self.transparent is None else (self.transparent.rules,)
        return (*self.reverse.cache_rules(), *forward, *transparent)


def names_of(config: Config) -> tuple[str, ...]:
    """What metrics and status count by: the sites, and each other mode as one more."""
    forward = (FORWARD,) if config.forward is not None else ()
    transparent = (TRANSPARENT,) if config.transparent is not None else ()
    return (*site_names(config), *forward, *transparent)
