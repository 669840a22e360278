"""The stored responses of one worker: by key, several variants each, bounded in bytes (RFC 9111 §2, §4.1).

It keeps and finds; whether something may be stored, matches or is fresh is decided in policy/. A local look-up is
synchronous; what is not here but in another tier is asked for through `elsewhere`. Bytes that are still arriving are no
entry yet: their fetch reserves them, so that `memory` holds at every moment.

Invariants: what is in the store is complete and has `live` set, what has left has not; no two variants of a key have
the same selecting fields; every tagged response here, and no other, is in the index of tags.
"""

from __future__ import annotations

import gc
from time import monotonic
from typing import TYPE_CHECKING, Final

from config.units import MonoTime
from proxy.cache.bans import Ban, Sweep
from proxy.cache.eviction import GONE, Entry, S3Fifo
from proxy.cache.weight import PER_KEY, PER_SEVERAL, Shared, settle
from proxy.http.stored import BodyState
from proxy.policy.freshness import current_age

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from proxy.cache.disk import Tier
    from proxy.cache.shelf import Named
    from proxy.http.stored import StoredResponse

    Variants = tuple[StoredResponse, ...]

MOST_VARIANTS: Final = 32  # of one key; `[cache] variants`
# Share of the memory that bodies in flight may take: many large fetches at once must not push out all that is hot. What
# is refused travels without being stored.
RESERVABLE: Final = 0.5
SHARED_SHARE: Final = 8  # what responses share is let go of once it is more than one part in so many
FREEZE_AFTER: Final = 4096  # responses stored: some ten thousand objects, a collection of a few milliseconds


def _monotonic() -> MonoTime:
    """The loop's clock (asyncio and uvloop both use this one)."""
    return MonoTime(monotonic())


class Store:
    """Everything that is stored.

    The hooks in `on_gone` are told of each response that left, was put anew, was outdated by a soft purge, or has got a
    rival under its key: answers prepared from it are void. Those in `on_ban` are told that any prepared answer may
    be void for the moment. `elsewhere` answers for keys that are not here: None, or something to await.
    """

    def __init__(
        self,
        limit: int,
        *,
        most_variants: int = MOST_VARIANTS,
        clock: Callable[[], MonoTime] = _monotonic,
    ) -> None:
        self._clock = clock
        self._entries = S3Fifo(limit, self._lose)
        self._find = self._entries.__getitem__
        self.most_variants = most_variants  # kept per key
        self._shared = Shared()
        self._tagged: dict[bytes, StoredResponse | set[StoredResponse]] = {}
        self._count = 0
        self._uses = 0
        self._fresh = 0  # responses stored since the collector was last told to forget them
        self._bans: tuple[Ban, ...] = ()  # those whose sweep is under way
        self.on_gone: list[Callable[[StoredResponse], None]] = []
        self.on_ban: list[Callable[[], None]] = []
        self.elsewhere: Callable[[bytes], Awaitable[Variants] | None] | None = None
        self.tier: Tier | None = None  # is told of what is kept and of what goes for another reason than space

    # ---- looking up ----------------------------------------------------------------------------------------------

    def variants(self, key: bytes) -> Variants:
        """The key's stored responses, and that counts as a use of the key."""
        try:
            held = self._find(key).held
        except KeyError:
            return ()
        return held if type(held) is tuple else (held,)  # type: ignore[return-value]  # what is no tuple is a response

    def touch(self, stored: StoredResponse) -> None:
        """This variant answered without a look at its key (the memo): a use of both."""
        self.answered(stored)
        stored.uses += 1

    def answered(self, stored: StoredResponse) -> None:
        """This variant, looked up by its key, answered: the others of the key are the longer unused for it."""
        if stored.selecting:  # else it is alone: no number for each
            self._uses += 1
            stored.used = self._uses

    def peek(self, key: bytes) -> Variants:
        """As `variants`, without counting a use: for people and copies."""
        entry = self._entries.peek(key)
        return () if entry is None else entry.variants

    def entry(self, key: bytes) -> Entry | None:
        """What is kept under the key, uses and all; for people."""
        return self._entries.peek(key)

    def __iter__(self) -> Iterator[StoredResponse]:
        """All stored responses at this moment; the store may change meanwhile."""
        for key in list(self._entries):
            yield from self.peek(key)

    @property
    def entries(self) -> int:
        """Stored responses, each variant counted."""
        return self._count

    @property
    def keys(self) -> int:
        return len(self._entries)

    @property
    def limit(self) -> int:
        return self._entries.limit

    @property
    def reserved(self) -> int:
        return self._entries.reserved

    @property
    def shared(self) -> int:
        """Bytes of what responses have in common, some of it perhaps of responses that have left."""
        return self._entries.common

    @property
    def evictions(self) -> int:
        """Keys that left for lack of space since the start."""
        return self._entries.evictions

    # ---- filling -------------------------------------------------------------------------------------------------

    def reserve(self, size: int) -> bool:
        """`size` more bytes are set aside for a body in flight; False if bodies in flight have their share already."""
        if self.reserved + size > RESERVABLE * self.limit:
            return False
        self._entries.make_room(size)
        self._entries.reserved += size
        return True

    def release(self, size: int) -> None:
        """Of what was reserved, `size` bytes are free again: before `put`, or when the fetch ended otherwise."""
        assert size <= self.reserved
        self._entries.reserved -= size

    def put(self, stored: StoredResponse) -> bool:
        """As `adopt`, and the tier behind is told."""
        kept = self.adopt(stored)
        if self.tier is not None:
            if kept:
                self.tier.kept(stored)
            else:
                self.tier.removed(stored)
        return kept

    def adopt(self, stored: StoredResponse) -> bool:
        """Stored, in place of the variant with the same selecting fields; False if it is too large for the memory.

        Putting again what is here already (its head was freshened, RFC 9111 §4.3.4) weighs it anew and voids its memos.
        """
        assert stored.body.state is BodyState.COMPLETE
        entry = self._entries.peek(stored.key)
        before = () if entry is None else entry.variants
        stored.weight = settle(stored, self._shared)
        if self._shared.bytes > self.limit // SHARED_SHARE:
            self._shared.clear()  # what nobody has any more goes
        self._entries.common = self._shared.bytes
        room = self.limit - self.reserved - self._entries.common
        kept = self._keep(before, stored)
        if _size(kept) > room:
            kept = (stored,)
        if _size(kept) > room:
            self._remove(stored)
            stored.live = False
            return False
        if stored.selecting:
            self._uses += 1
            stored.used = self._uses  # or the newest would be the longest unused
        if entry is None or not self._entries.change(entry, _held(kept), _size(kept)):
            # Nothing was there, or making room evicted it, and `_lose` has seen to what it held.
            self._entries[stored.key] = Entry(stored, stored.weight)
            self._enter(stored)
            return True
        for old in before:
            if old is stored or old not in kept:
                self._leave(old)
            elif old.memos:
                self._tell(old)  # for some who got this one the new one is to be chosen (RFC 9111 §4)
        self._enter(stored)
        return True

    def _keep(self, before: Variants, stored: StoredResponse) -> Variants:
        """What a key holds once `stored` is in: the newest last, the longest unused left out over the bound."""
        kept = []
        for old in before:
            if old is stored or old.selecting == stored.selecting:
                stored.uses = max(stored.uses, old.uses)
            else:
                kept.append(old)
        while len(kept) >= self.most_variants:
            kept.remove(min(kept, key=_last_use))
        return (*kept, stored)

    def settle_garbage(self) -> None:
        """To be called now and then: what was stored since is taken out of the collector's sight.

        A full collection among a million responses stops the loop for a second. What is stored is freed by its count
        of references, as everything of an exchange is; a cycle that was alive in this very moment is lost to the
        collector, which is one moment for each FREEZE_AFTER responses.
        """
        if self._fresh >= FREEZE_AFTER:
            self._fresh = 0
            gc.collect()  # few objects: those that came since the last time
            gc.freeze()

    # ---- leaving -------------------------------------------------------------------------------------------------

    def remove(self, stored: StoredResponse) -> bool:
        """Not here any more; False if it was not."""
        if self.tier is not None:
            self.tier.removed(stored)
        return self._remove(stored)

    def _remove(self, stored: StoredResponse) -> bool:
        entry = self._entries.peek(stored.key)
        if entry is None or stored not in entry.variants:
            return False
        rest = tuple(other for other in entry.variants if other is not stored)
        if rest:
            self._entries.change(entry, _held(rest), _size(rest))
        else:
            del self._entries[stored.key]
        self._leave(stored)
        return True

    def purge_key(self, key: bytes, *, soft: bool = False) -> int:
        """How many variants of the key were purged; a soft purge leaves them here, to be validated before use."""
        if self.tier is not None:
            self.tier.purged_key(key, soft=soft)
        return self._purge(self.peek(key), soft=soft)

    def purge_prefix(self, prefix: bytes, *, soft: bool = False) -> int:
        if self.tier is not None:
            self.tier.purged_where(lambda row: row.key.startswith(prefix), soft=soft)
        keys = [key for key in self._entries if key.startswith(prefix)]
        return self._purge([stored for key in keys for stored in self.peek(key)], soft=soft)

    def purge_tag(self, tag: bytes, *, soft: bool = False) -> int:
        if self.tier is not None:
            self.tier.purged_tag(tag, soft=soft)
        return self._purge(self._with_tag(tag), soft=soft)

    def sweep(
        self,
        matches: Callable[[Named], bool],
        *,
        soft: bool = False,
        dry_run: bool = False,
        tag: bytes | None = None,
    ) -> Sweep:
        """Purges all that is here now and matches, a bounded number at each step; with `tag`, of those that bear it.

        What is to go answers nobody from the first step on: until the last one, each look-up asks `matches` as well.
        """
        if self.tier is not None and not dry_run:
            self.tier.purged_where(matches, soft=soft)
        among = list(self._entries) if tag is None else list(self._with_tag(tag))
        return Sweep(self, Ban(matches, self._clock(), soft), among, dry_run=dry_run)

    def impose(self, ban: Ban) -> None:
        """Look-ups ask this ban too, and no memo answers without one."""
        self._bans = (*self._bans, ban)
        self._find = self._find_unbanned
        for hook in self.on_ban:
            hook()

    def lift(self, ban: Ban) -> None:
        self._bans = tuple(other for other in self._bans if other is not ban)
        if not self._bans:
            self._find = self._entries.__getitem__

    def _find_unbanned(self, key: bytes) -> Entry:
        """The key's entry, without what is banned; KeyError if nothing is left."""
        entry = self._entries[key]
        for ban in self._bans:
            self.apply(ban, entry.variants)
        if entry.place == GONE:
            raise KeyError(key)
        return entry

    def apply(self, ban: Ban, found: Variants) -> None:
        """Of these, those that the ban means are purged."""
        for stored in found:
            if stored.live and ban.means(stored):
                ban.count += self._purge((stored,), soft=ban.soft)

    def resize(self, limit: int) -> None:
        """The bound is another one from now on; what does not fit is evicted."""
        self._entries.limit = limit
        self._entries.make_room(0)

    def _purge(self, found: Iterable[StoredResponse], *, soft: bool) -> int:
        count = 0
        for stored in found:
            count += 1
            if soft:
                self._outdate(stored)
            else:
                self._remove(stored)
        return count

    def _outdate(self, stored: StoredResponse) -> None:
        """Stale from now on, and the times for which it may be used stale begin now (RFC 5861)."""
        stored.outdate(current_age(stored, self._clock()))
        self._tell(stored)

    def _with_tag(self, tag: bytes) -> Variants:
        tagged = self._tagged.get(tag)
        if tagged is None:
            return ()
        return tuple(tagged) if type(tagged) is set else (tagged,)  # type: ignore[return-value]  # one alone is a response

    # ---- bookkeeping ---------------------------------------------------------------------------------------------

    def _enter(self, stored: StoredResponse) -> None:
        stored.live = True
        self._count += 1
        self._fresh += 1
        for tag in _tags(stored):
            same = self._tagged.setdefault(tag, stored)
            if type(same) is set:
                same.add(stored)
            elif same is not stored:
                self._tagged[tag] = {same, stored}  # type: ignore[arg-type]  # what is no set is a response

    def _leave(self, stored: StoredResponse) -> None:
        stored.live = False
        self._count -= 1
        for tag in _tags(stored):
            same = self._tagged.get(tag)
            if same is stored:
                del self._tagged[tag]
            elif type(same) is set:
                same.discard(stored)
                if not same:
                    del self._tagged[tag]
        self._tell(stored)

    def _lose(self, entry: Entry) -> None:
        for stored in entry.variants:
            self._leave(stored)

    def _tell(self, stored: StoredResponse) -> None:
        for hook in self.on_gone:
            hook(stored)

    # Last in the class: below it `bytes` means this and not the type.
    @property
    def bytes(self) -> int:
        """Memory taken by entries, what they share, and reservations, as weighed."""
        return int(self._entries.currsize) + self.reserved + self._entries.common


def _held(variants: Variants) -> StoredResponse | Variants:
    """As an entry holds them: one alone without a tuple around it."""
    return variants if len(variants) > 1 else variants[0]


def _size(variants: Variants) -> int:
    if len(variants) == 1:
        return variants[0].weight
    return PER_SEVERAL + PER_KEY + sum(stored.weight - PER_KEY for stored in variants)


def _tags(stored: StoredResponse) -> Iterable[bytes]:
    """Its tags, and the bare names of its groups, which bear their origin too (RFC 9875 §2)."""
    if not stored.tags:
        return ()
    return {*stored.tags, *(tag.partition(b" ")[2] for tag in stored.tags if b" " in tag)}


def _last_use(stored: StoredResponse) -> int:
    return stored.used
