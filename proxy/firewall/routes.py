"""The policy rule and the local route that bring tproxy's packets to us: `python -P -m proxy.firewall.routes`.

A process of its own, started by the supervisor with the right NET_ADMIN and ended within a moment, because netlink's
library is too much to load for who must never be late. What an earlier run left behind is replaced. Without the table
of nftables nothing has the mark, so rule and route are harmless when the supervisor could not remove them.
"""

from __future__ import annotations

import argparse
import socket
import sys
from typing import Final

from pyroute2 import IPRoute, NetlinkError

from proxy.firewall.ruleset import MARK, ROUTES

_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_GONE: Final = (2, 3, 99)  # ENOENT, ESRCH, EADDRNOTAVAIL: it was not there
_EXISTS: Final = 17
_UNSUPPORTED: Final = 97  # EAFNOSUPPORT: this kernel has no IPv6
_RTN_LOCAL: Final = "local"
_HOST_SCOPE: Final = 254


def add(netlink: IPRoute, family: int) -> None:
    """Rule and route are there, once. Raises NetlinkError."""
    remove(netlink, family)
    number = _FAMILIES[family]
    netlink.rule("add", family=number, fwmark=MARK, fwmask=MARK, table=ROUTES, priority=ROUTES)
    netlink.route("add", **_route(netlink, family))


def remove(netlink: IPRoute, family: int) -> None:
    """Neither rule nor route is there. Raises NetlinkError for anything but their absence."""
    number = _FAMILIES[family]
    try:
        while True:
            netlink.rule("del", family=number, fwmark=MARK, fwmask=MARK, table=ROUTES, priority=ROUTES)
    except NetlinkError as exc:
        if exc.code not in (*_GONE, _UNSUPPORTED):
            raise
    try:
        netlink.route("del", **_route(netlink, family))
    except NetlinkError as exc:
        if exc.code not in (*_GONE, _UNSUPPORTED):
            raise


def is_there(netlink: IPRoute, family: int) -> bool:
    """Rule and route are both in place."""
    number = _FAMILIES[family]
    rules = [rule for rule in netlink.get_rules(family=number) if rule.get_attr("FRA_TABLE") == ROUTES]
    marks = [rule for rule in rules if rule.get_attr("FRA_FWMARK") == MARK]
    return bool(marks) and bool(list(netlink.get_routes(family=number, table=ROUTES)))


def _route(netlink: IPRoute, family: int) -> dict[str, object]:
    found: dict[str, object] = {
        "family": _FAMILIES[family],
        "dst": "0.0.0.0/0" if family == 4 else "::/0",
        "type": _RTN_LOCAL,
        "table": ROUTES,
        "oif": netlink.link_lookup(ifname="lo")[0],
    }
    return found | ({"scope": _HOST_SCOPE} if family == 4 else {})


def main(arguments: list[str] | None = None) -> int:
    """0, or 1 with a line on standard error that says what could not be done."""
    parser = argparse.ArgumentParser(prog="proxy.firewall.routes")
    parser.add_argument("action", choices=("add", "remove"))
    parser.add_argument("family", type=int, nargs="+", choices=sorted(_FAMILIES))
    chosen = parser.parse_args(arguments)
    with IPRoute() as netlink:
        for family in chosen.family:
            try:
                (add if chosen.action == "add" else remove)(netlink, family)
            except NetlinkError as exc:
                sys.stderr.write(f"policy route of IPv{family}: {exc.args[-1]}\n")
                return 1
            if chosen.action == "add" and not is_there(netlink, family):
                sys.stderr.write(f"policy route of IPv{family}: it was set and is not there\n")
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
