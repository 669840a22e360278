"""keepalived in a namespace: its configuration written, its process ended with the lab, its log at hand."""

from __future__ import annotations

import shutil
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.kit.netns import VIP, Namespace

if TYPE_CHECKING:
    from pathlib import Path


def is_installed() -> bool:
    return shutil.which("keepalived") is not None


@dataclass(frozen=True, slots=True)
class Instance:
    """One vrrp_instance; the rest is as keepalived has it by default."""

    addresses: tuple = (VIP,)  # with prefix length, in the order of the advertisement
    vrid: int = 51
    priority: int = 100
    interval: float = 1  # seconds; version 2 has whole ones
    version: int = 3
    unicast: tuple = ()  # our address and the peers'; empty: multicast
    password: str = ""  # authentication type PASS, of version 2
    preempt: bool = True
    interface: str = "eth0"
    more: str = ""  # further lines

    def text(self) -> str:
        lines = [
            "state BACKUP",
            f"interface {self.interface}",
            f"virtual_router_id {self.vrid}",
            f"version {self.version}",
            f"priority {self.priority}",
            f"advert_int {self.interval:g}",
            _block("virtual_ipaddress", self.addresses),
        ]
        if not self.preempt:
            lines.append("nopreempt")
        if self.unicast:
            ours, *peers = self.unicast
            lines += [f"unicast_src_ip {ours}", _block("unicast_peer", peers)]
        if self.password:
            lines.append(_block("authentication", ["auth_type PASS", f"auth_pass {self.password}"]))
        if self.more:
            lines.append(self.more)
        return f"global_defs {{\n router_id test\n}}\n{_block('vrrp_instance V', lines)}\n"


class Keepalived:
    """One running keepalived, with files of its own in `folder`."""

    def __init__(self, namespace: Namespace, folder: Path, instance: Instance) -> None:
        self.namespace, self.instance = namespace, instance
        folder.mkdir(parents=True, exist_ok=True)
        config, self._log = folder / "keepalived.conf", folder / "log"
        config.write_text(instance.text())
        config.chmod(0o600)
        argv = ["keepalived", "--dont-fork", "--log-console", "--log-detail", "--vrrp", "-f", config]
        argv += ["-p", folder / "pid", "-r", folder / "vrrp.pid"]
        with self._log.open("wb") as log:
            self.process = namespace.popen(argv, stdout=log, stderr=log)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def is_active(self) -> bool:
        """Whether it holds all of its addresses, by the kernel's word."""
        return all(self.namespace.holds(address) for address in self.instance.addresses if not address.is_link_local)

    def stop(self) -> None:
        """It ends in good order, with an advertisement of priority 0 if it is Active."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)


def _block(name: str, lines) -> str:
    inner = "\n".join(f" {line}" for line in lines)
    return f"{name} {{\n{inner}\n}}"
