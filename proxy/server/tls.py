"""TLS towards clients (certificate by the name they ask for, exchanged without a break), and contexts towards origins.

Which names a certificate is for is read by OpenSSL itself, in a handshake with ourselves in memory: it also proves that
key and certificate belong together. Keys may be files or `/proc/self/fd/N` of a memfd; this module opens nothing else.
TLS 1.2 and up; ALPN offers http/1.1; names match as in RFC 6125 §6.4.3 (one left-most wildcard label).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ALPN: Final = ("http/1.1",)
_NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME: which names a certificate is for does not expire


class TlsError(Exception):
    """A certificate or key that cannot be used; the text names the file and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Where a certificate (with its chain) and its key are, in PEM. `named` is what faults call them, if not so."""

    cert: str
    key: str
    named: str = ""

    def __str__(self) -> str:
        return self.named or f"{self.cert}, {self.key}"


@dataclass(frozen=True, slots=True)
class Contexts:
    """The contexts of one accepted configuration, by the names of their certificates; the first is the default."""

    default: ssl.SSLContext
    exact: dict[str, ssl.SSLContext]
    wildcard: dict[str, ssl.SSLContext]  # by what follows the `*.`

    def choose(self, name: str | None) -> ssl.SSLContext:
        """The context for the name in the client's hello; the default for none and for strangers.

        A stranger is answered all the same: whether its authority is served is the mode's question (421), not ours.
        """
        if name is None:
            return self.default
        name = name.lower().rstrip(".")
        found = self.exact.get(name) or self.wildcard.get(name.partition(".")[2])
        return found or self.default

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.exact) | frozenset(f"*.{rest}" for rest in self.wildcard)


class ServerTls:
    """What a listener keeps for its life: one context whose handshakes use the latest contexts.

    Sessions and their tickets belong to `context`, so clients resume across a swap of certificates.
    """

    __slots__ = ("_contexts", "context")

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts
        self.context = _bare_context()
        self.context.sni_callback = self._on_hello  # called without a name too

    def adopt(self, other: ServerTls) -> None:
        """New handshakes use what another object was built for; connections that are open keep theirs."""
        self._contexts = other._contexts

    def _on_hello(self, connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._contexts.choose(name)


def build_contexts(certificates: Iterable[Certificate]) -> Contexts:
    """Contexts for these certificates; where two are for the same name the first one has it. Raises TlsError."""
    default: ssl.SSLContext | None = None
    exact: dict[str, ssl.SSLContext] = {}
    wildcard: dict[str, ssl.SSLContext] = {}
    for certificate in certificates:
        context = _load(certificate)
        default = default or context
        for name in read_names(certificate.cert, context):
            if name.startswith("*."):
                wildcard.setdefault(name[2:], context)
            else:
                exact.setdefault(name, context)
    if default is None:
        raise TlsError("TLS needs at least one certificate")
    return Contexts(default, exact, wildcard)


def build_origin_context(*, verify: bool = True, ca: str = "") -> ssl.SSLContext:
    """The context for connections to origins; the name to check comes with each (`server_hostname`). Raises TlsError.

    An end without close_notify is an error here: where the end of the connection ends the body, it would let a
    truncated answer pass for a whole one (RFC 9112 §9.8).
    """
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except (OSError, ValueError) as exc:
        raise TlsError(f"{ca}: {_words(exc)}") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.set_alpn_protocols(list(ALPN))
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def read_names(cert: str, context: ssl.SSLContext) -> tuple[str, ...]:
    """The DNS names and addresses that the certificate loaded in `context` is for, in lower case. Raises TlsError.

    Subject alternative names; the common name only where there are none (RFC 6125 §6.4.4).
    """
    try:
        client = _reader(cert)
        found = _shake_hands(client, context)
    except (OSError, ValueError) as exc:
        raise TlsError(f"{cert}: {_words(exc)}") from exc
    alternatives = cast("tuple[tuple[str, str], ...]", found.get("subjectAltName", ()))
    names = [value for kind, value in alternatives if kind in {"DNS", "IP Address"}]
    if not names:
        subject = cast("tuple[tuple[tuple[str, str], ...], ...]", found.get("subject", ()))
        names = [value for part in subject for kind, value in part if kind == "commonName"]
    return tuple(name.lower() for name in names)


def _bare_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(list(ALPN))
    return context


def _load(certificate: Certificate) -> ssl.SSLContext:
    context = _bare_context()
    try:
        context.load_cert_chain(certificate.cert, certificate.key, password=_no_password)
    except (OSError, ValueError) as exc:
        raise TlsError(f"{certificate}: {_words(exc)}") from exc
    return context


def _no_password() -> str:
    """Called for an encrypted key only; without it OpenSSL would ask on the terminal and wait."""
    raise ValueError("the key is encrypted; a server that restarts by itself needs one that is not")


def _reader(cert: str) -> ssl.SSLContext:
    """A client that trusts exactly this certificate, whoever signed it and whenever it ended."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(cert)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(_NO_CHECK_TIME)
    return client


def _shake_hands(client_context: ssl.SSLContext, server_context: ssl.SSLContext) -> Mapping[str, object]:
    """The server's certificate as the client decodes it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(8):  # a handshake has at most three flights each way
        done = True
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                done = False
        if done:
            return client.getpeercert() or {}
    raise ValueError("the handshake does not end")


def _words(exc: Exception) -> str:
    """What went wrong, without OpenSSL's own file names and line numbers."""
    if isinstance(exc, ssl.SSLError):
        reason = (exc.reason or str(exc)).replace("_", " ").lower()
        return f"{reason} (is it PEM, and do key and certificate belong together?)"
    return getattr(exc, "strerror", None) or str(exc)
