"""Values with units as they stand in the configuration file, and the time types used in the code.

`512MB` is a Size, `30s` a Duration, `:80` a Listen. Parsers raise ValueError with one sentence that says what is
accepted. Digits are ASCII digits and few, looked at before conversion: `int()` alone takes signs, `_`, blanks and
foreign digits.
"""

from __future__ import annotations

import re
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import NamedTuple, NewType

Seconds = NewType("Seconds", float)
WallTime = NewType("WallTime", float)  # seconds since the epoch: for HTTP dates and logs
MonoTime = NewType("MonoTime", float)  # seconds of a clock that cannot jump: for intervals

_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "min": 60_000, "s": 1000, "ms": 1}
_BYTES = {"GB": 2**30, "MB": 2**20, "KB": 2**10, "B": 1}
_MAX_MILLISECONDS = 3650 * 86_400_000  # ten years: longer is a slip of the pen
_MAX_BYTES = 2**50
_BITS = {"Gbit": 10**9, "Mbit": 10**6, "kbit": 10**3}
_MAX_BITS = 10**12
_DAY = 24 * 60
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_QUANTITY = re.compile(r"([0-9]{1,16})([A-Za-z]*)")
_PORT = re.compile(r"[0-9]{1,5}")
_SPAN = f"({'|'.join(_DAYS)})(-({'|'.join(_DAYS)}))?"
_HOURS = re.compile(
    rf"(?P<days>{_SPAN}(,{_SPAN})*)?(?(days)( (?=[0-9])|$)|)"
    r"((?P<start>[0-9]{2}:[0-9]{2})-(?P<end>[0-9]{2}:[0-9]{2}))?"
)
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\.?")


class Duration(float):
    """Seconds; written as `250ms`, `30s`, `5min`, `2h`, `1d`."""

    @classmethod
    def parse(cls, text: str) -> Duration:
        """The duration that `text` names, to the millisecond; at most ten years."""
        milliseconds = _parse_quantity(text, _MILLISECONDS)
        if milliseconds is None or milliseconds > _MAX_MILLISECONDS:
            raise ValueError("a duration is a whole number with ms, s, min, h or d, such as `30s`, at most `3650d`")
        return cls(milliseconds / 1000)

    @property
    def text(self) -> str:
        """The shortest spelling, which `parse` turns back into the same duration."""
        return _spell(round(self * 1000), _MILLISECONDS, "s")


class Size(int):
    """Bytes; written as `512B`, `16KB`, `64MB`, `1GB` (powers of 1024)."""

    @classmethod
    def parse(cls, text: str) -> Size:
        """The size that `text` names; at most a pebibyte."""
        amount = _parse_quantity(text, _BYTES)
        if amount is None or amount > _MAX_BYTES:
            raise ValueError("a size is a whole number with B, KB, MB or GB, such as `64MB`, at most `1048576GB`")
        return cls(amount)

    @property
    def text(self) -> str:
        """The shortest spelling, which `parse` turns back into the same size."""
        return _spell(int(self), _BYTES, "B")


class Rate(int):
    """Bytes per second; written as line speeds are: `512kbit/s`, `10Mbit/s`, `1Gbit/s` (powers of 1000)."""

    @classmethod
    def parse(cls, text: str) -> Rate:
        """The rate that `text` names, in whole bytes; at most 1000 Gbit/s."""
        bits = _parse_quantity(text.removesuffix("/s"), _BITS) if text.endswith("/s") or text == "0" else None
        if bits is None or bits > _MAX_BITS:
            raise ValueError("a rate is a whole number with kbit/s, Mbit/s or Gbit/s, such as `10Mbit/s`")
        return cls(bits // 8)

    @property
    def text(self) -> str:
        """The shortest spelling, which `parse` turns back into the same rate."""
        return f"{_spell(int(self) * 8, _BITS, 'kbit')}/s"


class Ports(NamedTuple):
    """One port, or a range of them with both ends; written as `443` or `1024-65535`."""

    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> Ports:
        """The ports that `text` names."""
        first, dash, last = text.partition("-")
        last = last if dash else first
        if not _PORT.fullmatch(first) or not _PORT.fullmatch(last) or not 1 <= int(first) <= int(last) <= 65535:
            raise ValueError("a port is a number from 1 to 65535, or a range such as `1024-65535`")
        return cls(int(first), int(last))

    @property
    def text(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


class Hours(NamedTuple):
    """Part of a week in local time; written as `mon-fri 08:00-15:30`, `sat,sun`, `22:00-06:00`.

    Hours past midnight belong to the day on which they begin.
    """

    days: tuple[int, ...]  # 0: Monday
    start: int  # minute of the day
    end: int  # likewise, not itself part of it; not more than `start`: on the next day

    @classmethod
    def parse(cls, text: str) -> Hours:
        """The part of the week that `text` names."""
        sentence = "a time is `mon-fri 08:00-15:30`: days, hours or both; `sat,sun`, `22:00-06:00`"
        found = _HOURS.fullmatch(text.lower())
        if found is None or not text.strip():
            raise ValueError(sentence)
        days: set[int] = set()
        for part in (found["days"] or "mon-sun").split(","):
            first, dash, last = part.partition("-")
            at, to = _DAYS.index(first), _DAYS.index(last if dash else first)
            days |= {day % 7 for day in range(at, to + 1 if to >= at else to + 8)}
        start, end = _minute(found["start"] or "00:00"), _minute(found["end"] or "24:00")
        if start is None or end is None or start in {end, _DAY}:
            raise ValueError(sentence)
        return cls(tuple(sorted(days)), start, end)

    @property
    def text(self) -> str:
        """A spelling that `parse` turns back into the same hours."""
        return f"{','.join(_DAYS[day] for day in self.days)} {_clock(self.start)}-{_clock(self.end)}"

    @property
    def minutes(self) -> int:
        """The minutes of the week that belong to it, as bits: Monday 00:00 is the lowest."""
        length = self.end - self.start if self.end > self.start else _DAY - self.start + self.end
        whole = (1 << length) - 1
        bits = 0
        for day in self.days:
            bits |= whole << (day * _DAY + self.start)
        week = (1 << 7 * _DAY) - 1
        return bits & week | bits >> 7 * _DAY  # Sunday night runs into Monday


class Address(NamedTuple):
    """Where to connect to; `parse_address` fills in the scheme's own port."""

    scheme: str
    host: str  # name in lower case or literal, without brackets
    port: int

    @property
    def text(self) -> str:
        prefix = "" if self.scheme == "http" else f"{self.scheme}://"
        return f"{prefix}{bracket(self.host)}:{self.port}"


class Listen(NamedTuple):
    """Where to listen; an empty host means all addresses of both families."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Listen:
        """The address that `text` names: `:80`, `127.0.0.1:8080`, `[::1]:80`; no names."""
        sentence = "an address to listen on is `:80`, `127.0.0.1:8080` or `[::1]:80`, with a port from 1 to 65535"
        host, port = _split_port(text, sentence)
        if host and (literal := _literal(host)) is None:
            raise ValueError(sentence)
        return cls(literal if host and literal else "", port)

    @property
    def text(self) -> str:
        return f"{bracket(self.host)}:{self.port}"


class Destination(NamedTuple):
    """Where a client may go: a network, or one address with a port."""

    network: IPv4Network | IPv6Network
    port: int  # 0: every port

    @classmethod
    def parse(cls, text: str) -> Destination:
        """The destination that `text` names: `10.0.0.0/8`, `fd00::/8`, `10.0.0.5`, `10.0.0.5:8080`, `[fd00::1]:443`."""
        address, colon, digits = text.rpartition(":")
        bracketed = address.startswith("[") and address.endswith("]")
        if not colon or (":" in address and not bracketed):
            return cls(parse_network(text), 0)
        literal = _literal(address)
        if literal is None or not _PORT.fullmatch(digits) or not 1 <= int(digits) <= 65535:
            raise ValueError(
                "a destination is a network such as `10.0.0.0/8`, or one address and port: `10.0.0.5:8080`"
            )
        return cls(parse_network(literal), int(digits))

    @property
    def text(self) -> str:
        """The spelling that `parse` turns back into the same destination."""
        if self.port:
            return f"{bracket(str(self.network.network_address))}:{self.port}"
        return str(self.network.network_address) if self.network.num_addresses == 1 else str(self.network)


def bracket(host: str) -> str:
    """The host as it stands before `:port`: IPv6 literals in brackets."""
    return f"[{host}]" if ":" in host else host


def parse_address(text: str) -> Address:
    """The origin that `text` names: `host:port`, `[v6]:port`, `http://host[:port]`, `https://host[:port]`."""
    sentence = "an origin is `host:port`, `[address]:port` or `https://host[:port]`, without path or user"
    scheme, mark, rest = text.rpartition("://")
    if mark:
        if scheme.lower() not in {"http", "https"}:
            raise ValueError(sentence)
        scheme, rest = scheme.lower(), rest.removesuffix("/")
        if not re.search(r":[0-9]*\Z", rest) or rest.endswith("]"):
            rest = f"{rest}:{443 if scheme == 'https' else 80}"
    host, port = _split_port(rest, sentence)
    return Address(scheme or "http", parse_host(host, sentence), port)


def is_own(listen: Listen, address: Address) -> bool:
    """Who connects to the address on this host reaches the listener."""
    if listen.port != address.port:
        return False
    if listen.host not in {"", "::", "0.0.0.0"}:  # noqa: S104 - compared, not bound
        return listen.host == address.host
    try:
        return ip_address(address.host).is_loopback
    except ValueError:
        return address.host == "localhost"


def parse_place(text: str) -> tuple[Address, str]:
    """The origin and the path, from `/` to `/`, of a URL that stands for all below it: `https://host[:port]/path/`."""
    sentence = "a place is `https://host[:port]/path/` (or http://), without user, query or dots as a part of the path"
    found = re.fullmatch(r"(https?://[^/?#]+)(/[A-Za-z0-9\-._~!$&'()*+,;=:@/%]*)?", text, re.IGNORECASE)
    if found is None or "//" in (path := found[2] or "/") or {".", ".."} & set(path.split("/")):
        raise ValueError(sentence)
    try:
        address = parse_address(found[1])
    except ValueError:
        raise ValueError(sentence) from None
    return address, path if path.endswith("/") else path + "/"


def parse_host(text: str, sentence: str = "a host is a name of letters, digits, `-` and `.`, or an IP address") -> str:
    """The host in lower case: a DNS name, an IPv4 address, or an IPv6 address with or without brackets."""
    literal = _literal(text)
    if literal is not None:
        return literal
    lower = text.lower()
    # A last label of digits would be taken for an address by some resolvers (`1.2.3`, `0x7f.1`): never a name.
    labels = lower.removesuffix(".").split(".")
    if len(lower) > 253 or not _NAME.fullmatch(lower) or re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]):
        raise ValueError(sentence)
    return lower.removesuffix(".")


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """The network that `text` names: an address is a network of one. Host bits must be zero."""
    sentence = "a network is an address or `10.0.0.0/8`, `2001:db8::/32`"
    if "%" in text:
        raise ValueError(sentence)
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        wider = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(sentence) from None
    raise ValueError(f"a network ends in zero bits: the one of this address is `{wider}`")


def parse_ip(text: str) -> IPv4Address | IPv6Address:
    """The one host's address that `text` names, without zone."""
    sentence = "an address is `192.168.8.4` or `fd00:8::4`, without prefix, port or zone"
    try:
        address = ip_interface(text).ip if "/" not in text and "%" not in text else None
    except ValueError:
        address = None
    if address is None or address.is_multicast or address.is_unspecified or address.is_loopback:
        raise ValueError(sentence)
    return address


def parse_vip(text: str) -> IPv4Interface | IPv6Interface:
    """The virtual address with the prefix of its network that `text` names."""
    sentence = "a virtual address has the prefix of its network: `192.168.8.100/24`, `fd00:8::100/64`"
    address, slash, prefix = text.partition("/")
    if not slash or not re.fullmatch(r"[0-9]{1,3}", prefix):
        raise ValueError(sentence)
    try:
        parse_ip(address)
        return ip_interface(text)
    except ValueError:
        raise ValueError(sentence) from None


def dec_hook(kind: type, value: object) -> object:
    """The value of our types out of its text, for `msgspec.convert` and the decoders."""
    if isinstance(value, str):
        if kind is Duration:
            return Duration.parse(value)
        if kind is Size:
            return Size.parse(value)
        if kind is IPv4Network or kind is IPv6Network:
            return parse_network(value)
    raise NotImplementedError(f"{kind.__name__} is written as text")


def _parse_quantity(text: str, units: dict[str, int]) -> int | None:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return None
    number, unit = int(match[1]), match[2]
    if unit in units:
        return number * units[unit]
    return 0 if number == 0 and not unit else None  # zero needs no unit


def _minute(text: str) -> int | None:
    """Minutes from midnight; `24:00` is the day's end."""
    hours, minutes = int(text[:2]), int(text[3:])
    return hours * 60 + minutes if minutes < 60 and hours * 60 + minutes <= _DAY else None


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _spell(amount: int, units: dict[str, int], zero: str) -> str:
    if amount == 0:
        return f"0{zero}"
    unit, factor = next((unit, factor) for unit, factor in units.items() if amount % factor == 0)
    return f"{amount // factor}{unit}"


def _split_port(text: str, sentence: str) -> tuple[str, int]:
    host, colon, digits = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not _PORT.fullmatch(digits) or not 1 <= int(digits) <= 65535 or (":" in host and not bracketed):
        raise ValueError(sentence)
    if bracketed and (":" not in host):
        raise ValueError(sentence)
    return host, int(digits)


def _literal(text: str) -> str | None:
    """The address in its usual spelling, or None if it is none. Zones mean nothing on another host: not taken."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if "%" in bare:
        return None
    for kind in (IPv6Address,) if bare is not text else (IPv4Address, IPv6Address):
        try:
            return str(kind(bare))
        except ValueError:
            continue
    return None
