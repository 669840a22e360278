"""Forged advertisements: `python flood.py RATE SECONDS [--each-fault]` sends them, then says how many there were.

Without more they are those of a stranger who would be better than everybody (priority 255); with `--each-fault` each
fault that the checks of RFC 9568 §7.1 know takes its turn, the source being node B's where the fault is elsewhere.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ha.packet import Advertisement, build

GROUP = IPv4Address("224.0.0.18")
STRANGER, NODE = IPv4Address("192.168.8.50"), IPv4Address("192.168.8.6")
VIP = IPv4Address("192.168.8.100")
BURST = 0.002  # seconds of packets sent at once


def packet(payload: bytes, *, source: IPv4Address = NODE, ttl: int = 255, to: IPv4Address = GROUP) -> bytes:
    """With its IP header, whose checksum the kernel fills in."""
    return (
        struct.pack("!BBHHHBBH", 0x45, 0xC0, 20 + len(payload), 0, 0, ttl, 112, 0) + source.packed + to.packed + payload
    )


def stranger() -> bytes:
    return packet(build(Advertisement(3, 51, 255, 0.1, (VIP,)), STRANGER, GROUP), source=STRANGER)


def faults() -> dict[str, bytes]:
    """One packet for each fault."""
    good = build(Advertisement(3, 51, 255, 0.1, (VIP,)), NODE, GROUP)
    other = build(Advertisement(3, 51, 255, 0.1, (IPv4Address("192.168.8.200"),)), NODE, GROUP)
    version2 = build(Advertisement(2, 51, 255, 1, (VIP,)), NODE, GROUP)
    return {
        "stranger": stranger(),
        "ttl": packet(good, ttl=254),
        "truncated": packet(good[:7]),
        "too long": packet(good + bytes(4)),
        "version": packet(version2),
        "type": packet(bytes([0x32]) + good[1:]),
        "checksum": packet(good[:6] + b"\xde\xad" + good[8:]),
        "vrid": packet(build(Advertisement(3, 52, 255, 0.1, (VIP,)), NODE, GROUP)),
        "addresses": packet(other),
        "no addresses": packet(good[:3] + b"\0" + good[4:8]),
        "loopback": packet(good, source=IPv4Address("127.0.0.1")),
        "multicast source": packet(good, source=GROUP),
        "contradicted": packet(good),  # without fault, but B says over the link that it is not Active
        "our own": packet(good, source=IPv4Address("192.168.8.4")),
    }


def send(packets: list[bytes], rate: float, seconds: float) -> int:
    """How many were sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, STRANGER.packed)
        begin, sent = time.monotonic(), 0
        while (passed := time.monotonic() - begin) < seconds:
            while sent < passed * rate:
                with suppress(OSError):  # no buffer: what a flood is limited by
                    sock.sendto(packets[sent % len(packets)], (str(GROUP), 0))
                sent += 1
            time.sleep(max(BURST, 0.5 / rate))
    return sent


if __name__ == "__main__":
    chosen = list(faults().values()) if "--each-fault" in sys.argv else [stranger()]
    wanted = float(sys.argv[1]) * len(chosen)
    print(send(chosen, wanted, float(sys.argv[2])))
