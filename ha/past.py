"""What earlier lives of `ha` left, and what this one leaves: removed at the start, written down before it is done.

What stands in the file: `state.py`. Invariant: an address, a macvlan or a setting of ours is in the file before it is
there, so whoever comes after a crash finds it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from ipaddress import ip_interface
from typing import TYPE_CHECKING

from ha import netlink, sysctls
from ha import state as memory
from ha.events import Form
from ha.netlink import Netlink

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from ha.plan import Plan
    from ha.scribe import Scribe


class Past:
    def __init__(self, path: Path, scribe: Scribe) -> None:
        self._state = memory.load(path)
        self._scribe = scribe

    @property
    def forms(self) -> dict[str, Form]:
        """By router, the checksum form with which another node was heard."""
        known = {form.value: form for form in Form}
        forms = self._state.learned.get("forms")
        listed = forms.items() if isinstance(forms, dict) else ()
        return {name: known[form] for name, form in listed if isinstance(form, str) and form in known}

    def learn_forms(self, forms: Mapping[str, Form]) -> bool:
        """Whether that is news; it is kept for the next life."""
        new = {name: form.value for name, form in forms.items()}
        if new == self._state.learned.get("forms"):
            return False
        self._state.learned["forms"] = new
        self._save()
        return True

    def next_incarnation(self) -> int:
        """Higher than in any earlier life, whatever the clock did."""
        known = self._state.learned.get("incarnation")
        last = known if isinstance(known, int) else 0
        incarnation = max(last + 1, time.time_ns() // 1_000_000)
        self._state.learned["incarnation"] = incarnation
        return incarnation

    async def remove_leftovers(self, plan: Plan) -> None:
        """What an earlier run has left, and every address of ours that is there though nobody of us is Active."""
        wanted = {vip.ip for planned in plan.routers for vip in planned.config.addresses}
        for text in self._state.addresses:
            with suppress(ValueError):
                wanted.add(ip_interface(text).ip)
        kernel = Netlink("lo")
        own = {planned.config.source for planned in plan.routers} | {plan.address}
        for vip in kernel.remove_leftovers(wanted, own):
            self._scribe.say(f"removed {vip}, which an earlier run left", "WARNING")
        kernel.close()
        await self._undo()
        self._state.links = []
        self.remember(plan)

    def remember(self, plan: Plan, *, besides: bool = False) -> None:
        """The addresses of this plan are ours; `besides` those that were."""
        addresses = [str(vip) for planned in plan.routers for vip in planned.config.addresses]
        self._state.addresses = [*self._state.addresses, *addresses] if besides else addresses
        self._save()

    def note_link(self, name: str) -> None:
        """A macvlan of this name is about to be made."""
        self._state.links = [*self._state.links, name]
        self._save()

    def set_up(self, interfaces: Iterable[str], values: Mapping[str, str]) -> None:
        """These settings of the interfaces are as we need them; what was there is written down."""
        for name in interfaces:
            for fault in sysctls.apply(name, values, self._state):
                self._scribe.warn(fault, fault)

    async def end(self) -> None:
        """The machine is as it was."""
        await self._undo()
        self._state.links, self._state.addresses = [], []
        self._save()

    async def _undo(self) -> None:
        for name in list(self._state.links):
            with suppress(OSError, ValueError):
                await netlink.remove_virtual_mac(name)
        with suppress(OSError):
            sysctls.restore(self._state)

    def _save(self) -> None:
        try:
            self._state.save()
        except OSError as exc:
            self._scribe.warn("state", f"{self._state.path}: {exc.strerror}; a crash may leave settings behind")
