"""How clients come to the admin process: its Unix socket, TLS and tokens for TCP, and who it is that asks."""

from __future__ import annotations

import grp
import os
import socket
import ssl
import stat
import struct
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

from proxy import parcel
from proxy.observe import gate
from proxy.observe.gate import Peer, Token, Way

if TYPE_CHECKING:
    from pathlib import Path

    from aiohttp import web

    from proxy.service import Settings

GROUP: Final = "tandem"


def bind_unix(path: Path) -> socket.socket:
    """A socket at `path`, 0660 from its first moment, of group `tandem` where we may give it that.

    What a dead process left there is replaced; the supervisor's lock on the folder rules out a living one.
    """
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)
    try:
        sock.bind(str(path))
    except OSError as problem:
        sock.close()
        raise OSError(f"{path}: {problem.strerror or problem}") from problem
    finally:
        os.umask(before)
    with suppress(KeyError, PermissionError):
        os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
    sock.setblocking(False)
    return sock


def peer_of(request: web.Request) -> Peer:
    """Who asks: told by the kernel for the Unix socket, by the connection's address for TCP."""
    transport = request.transport
    if transport is None:  # gone already; whatever is answered reaches nobody
        return Peer(Way.NETWORK, "gone")
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_UNIX:
        pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return Peer(Way.UNIX, f"uid {uid}", uid, pid)
    address = ip_address(transport.get_extra_info("peername")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return Peer(Way.LOOPBACK if address.is_loopback else Way.NETWORK, str(address))


def read_tokens(settings: Settings) -> tuple[Token, ...]:
    """Those who may change something over TCP. Raises ValueError with a sentence."""
    tokens = settings.config.admin.tokens
    if tokens is None:
        return ()
    try:
        return gate.parse_tokens(_content(settings, tokens.file).decode("utf-8"))
    except KeyError:
        raise ValueError(f"{tokens.file}: not read") from None


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS for the TCP listeners; None where no certificate is configured."""
    certificates = settings.config.admin.tls
    if not certificates:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for certificate in certificates:
        with (
            parcel.as_file(_content(settings, certificate.cert)) as cert,
            parcel.as_file(_content(settings, certificate.key)) as key,
        ):
            context.load_cert_chain(cert, key)
    return context


def _content(settings: Settings, path: str) -> bytes:
    """A file that the configuration names, whether it came as content or as a secret; KeyError if it did not come."""
    if path in settings.files:
        return settings.files[path]
    return parcel.unseal(settings.secrets[path])
