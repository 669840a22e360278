"""Whether clients' connections come to us: the table put in place, taken away, and put in place again.

The supervisor owns it, so that the kernel takes the table when the supervisor dies, and no worker needs a right for it.
Invariants: connections are taken only while all who run serve them, unless the configuration wants them stopped then;
a new configuration replaces the old table in one transaction, without a moment in between.
"""

from __future__ import annotations

import socket
import subprocess
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy import rights
from proxy.firewall import nftables, ruleset
from proxy.firewall.nftables import FirewallError, Nftables

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from config.schema import Transparent

_SYSCTLS: Final = Path("/proc/sys")
_TABLES: Final = (Path("/proc/thread-self/net/tcp"), Path("/proc/thread-self/net/tcp6"))
_SENDING: Final = frozenset({"01", "04", "08", "09", "0B"})  # ESTABLISHED, and what follows a close of ours
_PATIENCE: Final = 20.0  # seconds for the process that sets routes, on a busy machine


class Taking(Enum):
    """As `status` shows it."""

    OFF = "off"  # no [transparent]
    TAKING = "taking"
    STOPPED = "stopped"  # taken, with nobody who serves: `fail = "closed"`
    DIRECT = "direct"  # past us: nobody serves, or we are about to end


class Gateway:
    """Of one instance, for its life."""

    def __init__(self) -> None:
        self._nftables: Nftables | None = None
        self._config: Transparent | None = None
        self._serving = False
        self._hung = False
        self._ending = False
        self._in_place = ""  # the text of our table, as the kernel has it
        self._routed: set[int] = set()  # families with a route of ours

    @property
    def taking(self) -> Taking:
        if self._config is None:
            return Taking.OFF
        if not self._in_place or self._ending or self._is_stuck:
            return Taking.DIRECT
        return Taking.TAKING if self._serving else Taking.STOPPED

    def adopt(self, config: Transparent | None) -> None:
        """What is accepted from now on. Raises FirewallError."""
        self._config = config
        if config is not None:
            wanted = ruleset.interception(config)
            self._routed |= set(wanted.families) if wanted.tproxy else set()
        self._settle()

    @property
    def without_service(self) -> str:
        """What becomes of clients' connections that nobody serves, in words."""
        return "goes past us" if self._config is not None and self._config.fail == "open" else "waits for it"

    @property
    def _is_stuck(self) -> bool:
        """A worker hangs, and its part of the connections would wait in vain."""
        return self._hung and self._config is not None and self._config.fail == "open"

    def serve(self, *, serving: bool, hung: bool = False) -> None:
        """Whether any worker takes connections, and whether one of them hangs. Raises FirewallError."""
        self._serving, self._hung = serving, hung
        self._settle()

    def end(self) -> None:
        """New connections go past us; those that we have go on. Raises FirewallError."""
        self._ending = True
        self._settle()

    def has_unsent(self) -> bool:
        """Some connection that was taken still has bytes on their way to a client, which need our table."""
        return self._config is not None and bool(self._in_place) and has_unsent(_ports_of(self._config))

    def close(self) -> None:
        """Nothing of ours is left in the kernel. Raises FirewallError."""
        if self._nftables is not None:
            self._nftables.close()
            self._nftables = None
            self._in_place = ""
        if self._routed:
            set_routes("remove", self._routed)
            self._routed.clear()

    def _settle(self) -> None:
        """The kernel has the table that fits what we know; a millisecond where it does not have it yet."""
        text = self._fitting()
        if text == self._in_place:
            return
        if self._nftables is None:
            self._nftables = Nftables()
        self._nftables.run((ruleset.removal() if self._in_place else "") + text)
        self._in_place = text

    def _fitting(self) -> str:
        config = self._config
        if config is None:
            return ""
        if self._is_stuck and self._serving:  # what the others have taken goes on, and what it has, should it wake
            return ruleset.farewell(ruleset.interception(config))
        if self._ending:  # workers that drain do not serve any more, and have connections all the same
            return ruleset.farewell(ruleset.interception(config)) if self._in_place else ""
        if not self._serving and config.fail == "open":
            return ""
        return ruleset.table(ruleset.interception(config))


# ---- before it is accepted -------------------------------------------------------------------------------------------


def prepare(config: Transparent, *, first: bool) -> None:
    """The kernel will do what is asked for. Raises FirewallError with what is missing, and how to get it.

    `first`: no table of this name may be there, so it is another instance's. Routes are set here already: without the
    table they do nothing.
    """
    for name in config.interface:
        if name not in interfaces():
            raise FirewallError(f"no interface {name}; there are {', '.join(interfaces())}")
    wanted = ruleset.interception(config)
    if first and ruleset.TABLE in nftables.ask("list tables"):
        raise FirewallError(
            f"nftables has a table {ruleset.TABLE} already: another instance's on this host? "
            f"If nobody's: nft delete table {ruleset.TABLE}"
        )
    nftables.try_out(ruleset.table(wanted, ruleset.TRIAL))
    if first:
        set_routes("remove", (4, 6))  # what a killed instance left
    if wanted.tproxy:
        set_routes("add", wanted.families)


_FORWARDING: Final = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}


def find_obstacles(config: Transparent) -> list[str]:
    """What of this host's settings keeps it from being a gateway: warnings, for it may be changed while we run."""
    off = [name for family, name in _FORWARDING.items() if _is_off(name, ruleset.interception(config).families, family)]
    return [
        f"[transparent]: {name} is off, so this host passes nothing on that it does not take, and"
        f' fail = "open" opens to nowhere: sysctl -w {name}=1'
        for name in off
    ]


def _is_off(name: str, families: Collection[int], family: int) -> bool:
    if family not in families:
        return False
    try:
        return (_SYSCTLS / name.replace(".", "/")).read_text().strip() == "0"
    except OSError:  # this kernel has no such family
        return False


def _ports_of(config: Transparent) -> frozenset[int]:
    """The local ports of taken connections: ours, and with tproxy those that the clients asked for."""
    foreign = (*config.http_ports, *config.https_ports) if config.method == "tproxy" else ()
    return frozenset((config.port, config.https_port, *foreign))


def has_unsent(ports: Collection[int]) -> bool:
    """Whether the kernel holds bytes of a connection of one of these local ports that its peer has not taken."""
    for table in _TABLES:
        with suppress(OSError):
            for line in table.read_text().splitlines()[1:]:
                columns = line.split()
                port = int(columns[1].rpartition(":")[2], 16)
                if port in ports and columns[3] in _SENDING and int(columns[4].partition(":")[0], 16):
                    return True
    return False


def interfaces() -> list[str]:
    return sorted(name for _, name in socket.if_nameindex())


def set_routes(action: str, families: Iterable[int]) -> None:
    """Runs routes.py with the one right that it needs. Raises FirewallError."""
    command = [*rights.interpreter(), "-m", "proxy.firewall.routes", action, *map(str, sorted(families))]
    try:
        with rights.lending(frozenset({rights.NET_ADMIN})):
            done = subprocess.run(  # noqa: S603 - our own interpreter
                command,
                check=False,
                env=rights.child_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_PATIENCE,
            )
    except (OSError, subprocess.SubprocessError) as exc:
        raise FirewallError(f"policy routes cannot be set: {exc}") from exc
    if done.returncode:
        raise FirewallError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "policy routes: no reason")
