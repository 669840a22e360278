"""Settings of the kernel for an interface that carries virtual addresses, put back to what they were at the end.

What a setting was is in the state file before it is changed, so that the next start restores it after a crash. Only
settings of one interface are touched, never those of `all`. Invariants: a value that is not ours any more is not
restored, somebody else wanted it so; nothing that the file says makes us write anything but the settings named here.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ha.state import State

_FOLDER: Final = Path("/proc/sys/net/ipv4/conf")

# arp_ignore 1: the address is answered for by the interface that has it, and by no other of this machine.
# arp_announce 2: what the node itself asks by ARP never names the virtual address as its sender.
FOR_ADDRESSES: Final = {"arp_ignore": "1", "arp_announce": "2"}
# rp_filter 2: answers leave elsewhere than questions came; the larger of this and `all` counts, so 0 would not do.
_LOOSE: Final = {"rp_filter": "2"}
FOR_MACVLAN: Final = {**FOR_ADDRESSES, **_LOOSE}  # answers leave through the parent
_DEFAULT: Final = ("00000000", "00000000")  # destination and mask


def apply(interface: str, values: Mapping[str, str], state: State) -> list[str]:
    """The IPv4 settings of the interface have these values; one sentence for each that could not be had."""
    faults = []
    for name, value in values.items():
        path = _FOLDER / interface / name
        try:
            before = path.read_text().strip()
            if before == value:
                continue
            state.sysctls.setdefault(f"{interface}/{name}", [before, value])
            state.save()
            path.write_text(value)
        except OSError as exc:
            faults.append(f"cannot set {name} of {interface} to {value}: {exc.strerror}")
    return faults


def wanted(interface: str, routes: str) -> dict[str, str]:
    """The settings of an interface of addresses. `routes`: /proc/net/route.

    A strict rp_filter drops clients whose answers leave by the default route of another interface.
    """
    rows = [line.split() for line in routes.splitlines()[1:]]
    gates = {row[0] for row in rows if len(row) > 7 and (row[1], row[7]) == _DEFAULT}
    strict = {_read(name) for name in ("all", interface)}
    if gates and interface not in gates and max(strict) == "1":
        return {**FOR_ADDRESSES, **_LOOSE}
    return dict(FOR_ADDRESSES)


def _read(interface: str) -> str:
    try:
        return (_FOLDER / interface / "rp_filter").read_text().strip()
    except OSError:
        return "0"


def restore(state: State) -> None:
    """All that the state file remembers is as it was before, unless others have changed it since. Raises OSError."""
    for text, (before, ours) in state.sysctls.items():
        interface, _, name = text.partition("/")
        if name not in FOR_MACVLAN or interface in {"", ".", ".."} or not before.isdecimal():
            continue
        path = _FOLDER / interface / name
        with suppress(OSError):  # the interface is gone, and its settings with it
            if path.read_text().strip() == ours:
                path.write_text(before)
    state.sysctls.clear()
    state.save()
