"""Proxy auto-configuration: the text that tells browsers what to ask the proxy for, out of its own configuration.

Pure. The function has no look-up of names in it: each would hold a browser up. So only what is written as an address is
compared with networks; a private name that has a dot needs a word in `direct`. The text is plain ECMAScript 3, which
the oldest engines of proxy scripts understand.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv6Network, ip_address
from typing import TYPE_CHECKING

from config.units import bracket
from proxy.exchange import FixedAnswer
from proxy.http.message import Fields, ResponseHead

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from config.schema import Config, Network

PATHS = (b"/proxy.pac", b"/wpad.dat")
TYPE = b"application/x-ns-proxy-autoconfig"
AGE = 600  # seconds that a browser may keep it
_MOST_LOCALS = 64  # addresses for which answers are kept


@dataclass(frozen=True, slots=True)
class PacFacts:
    """All that the text says."""

    proxies: tuple[str, ...]  # host:port, in the order in which they are tried
    direct: tuple[str, ...] = ()  # names that are asked directly, with all below
    networks: tuple[Network, ...] = ()  # addresses that are asked directly
    last_resort: bool = False  # go directly if no proxy answers


def build_pac(facts: PacFacts) -> str:
    """The whole file."""
    ways = [f"PROXY {proxy}" for proxy in facts.proxies] + (["DIRECT"] if facts.last_resort else [])
    names = sorted({name.lower().removesuffix(".") for name in facts.direct})
    four = [_v4(network) for network in facts.networks if not isinstance(network, IPv6Network)]
    six = [_v6(network) for network in facts.networks if isinstance(network, IPv6Network)]
    return _TEXT % {
        "ways": json.dumps("; ".join(ways) or "DIRECT"),
        "names": json.dumps(names),
        "four": json.dumps([_v4_loopback, *four]),
        "six": json.dumps([_v6_loopback, *six]),
    }


def _v4(network: Network) -> list[int]:
    """[first address, its network's size] as numbers that a double holds."""
    return [int(network.network_address), network.num_addresses]


def _v6(network: IPv6Network) -> list[int]:
    """The eight groups, and how many leading bits count."""
    number = int(network.network_address)
    return [*(number >> shift & 0xFFFF for shift in range(112, -1, -16)), network.prefixlen]


_v4_loopback = [127 << 24, 1 << 24]
_v6_loopback = [0, 0, 0, 0, 0, 0, 0, 1, 128]

_TEXT = """\
// Made by Tandem out of its configuration.
var ways = %(ways)s;
var names = %(names)s;
var four = %(four)s;
var six = %(six)s;

function inFour(host) {
  var parts = host.split("."), number = 0;
  for (var i = 0; i < 4; i++) number = number * 256 + Number(parts[i]);
  for (var n = 0; n < four.length; n++)
    if (number >= four[n][0] && number < four[n][0] + four[n][1]) return true;
  return false;
}

function groups(host) {
  var halves = host.split("::"), head = halves[0] ? halves[0].split(":") : [], all = head;
  if (halves.length > 1) {
    var tail = halves[1] ? halves[1].split(":") : [];
    all = head.slice(0);
    for (var i = head.length + tail.length; i < 8; i++) all.push("0");
    all = all.concat(tail);
  }
  for (var g = 0; g < all.length; g++) all[g] = parseInt(all[g], 16);
  return all;
}

function inSix(host) {
  var found = groups(host);
  for (var n = 0; n < six.length; n++) {
    var left = six[n][8], same = true;
    for (var g = 0; g < 8 && left > 0; g++, left -= 16) {
      var shift = left >= 16 ? 0 : 16 - left;
      if (found[g] >> shift !== six[n][g] >> shift) same = false;
    }
    if (same) return true;
  }
  return false;
}

function FindProxyForURL(url, host) {
  host = host.toLowerCase().replace(/\\.$/, "").replace(/^\\[|\\]$/g, "");
  if (/^[0-9]+\\.[0-9]+\\.[0-9]+\\.[0-9]+$/.test(host)) return inFour(host) ? "DIRECT" : ways;
  if (host.indexOf(":") >= 0) return inSix(host) ? "DIRECT" : ways;
  if (host.indexOf(".") < 0 || /\\.localhost$/.test(host)) return "DIRECT";
  for (var n = 0; n < names.length; n++) {
    var end = "." + names[n];
    if (host === names[n] || host.substring(host.length - end.length) === end) return "DIRECT";
  }
  return ways;
}
"""


class Pac:
    """The files `/proxy.pac` and `/wpad.dat` of one configuration.

    Without proxies of their own in the configuration they name the virtual addresses, which stay when a node goes, else
    the address that the browser reached to fetch them.
    """

    def __init__(
        self,
        site: str,
        proxies: Sequence[str],
        direct: Sequence[str] = (),
        networks: Iterable[Network] = (),
        *,
        last_resort: bool = False,
        vips: Sequence[str] = (),
    ) -> None:
        """`vips` are virtual addresses without their prefix."""
        self._site = site
        self._proxies = tuple(proxies)
        self._direct = tuple(direct)
        self._networks = tuple(networks)
        self._last_resort = last_resort
        self._vips = tuple(vips)
        self._answers: dict[tuple[str, int], FixedAnswer] = {}

    def answer(self, path: bytes, local: tuple[str, int]) -> FixedAnswer | None:
        """The file of this path, for who reached this address of ours; None for all other paths."""
        if path.partition(b"?")[0] not in PATHS:
            return None
        made = self._answers.get(local)
        if made is None:
            if len(self._answers) >= _MOST_LOCALS:
                self._answers.clear()
            self._answers[local] = made = self._make(local)
        return made

    def _make(self, local: tuple[str, int]) -> FixedAnswer:
        proxies = self._proxies or tuple(f"{bracket(vip)}:{local[1]}" for vip in self._vips)
        facts = PacFacts(
            proxies or (f"{bracket(_plain(local[0]))}:{local[1]}",), self._direct, self._networks, self._last_resort
        )
        head = ResponseHead(200, b"", Fields([(b"Content-Type", TYPE), (b"Cache-Control", b"max-age=%d" % AGE)]))
        return FixedAnswer(self._site, "", head, build_pac(facts).encode("ascii"))


def _plain(address: str) -> str:
    """The address without zone; IPv4 that came through a socket of both families as IPv4."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = getattr(ip, "ipv4_mapped", None)
    return str(mapped or ip)


def virtual_addresses(config: Config) -> tuple[str, ...]:
    """Those of the pair, IPv4 first: every browser has it."""
    if config.ha is None:
        return ()
    vips = [*config.ha.vip, *(vip for router in config.ha.router for vip in router.vip)]
    return tuple(sorted((vip.partition("/")[0] for vip in vips), key=lambda vip: ":" in vip))
