"""The TLS of a worker, out of what it was given: certificates of its sites, trust in its origins.

A worker reads no file: contents and keys come in its settings, and go to OpenSSL, which reads nothing but files,
through memfds. What a faulty one says names the path of the configuration, never that of the memfd.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from proxy import parcel
from proxy.server.tls import Certificate, ServerTls, TlsError, build_contexts, build_origin_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from config.schema import Site
    from proxy.exchange import Origin
    from proxy.service import Settings


def server_tls(sites: Iterable[Site], settings: Settings) -> ServerTls:
    """The certificates of a listener's sites. Raises TlsError."""
    with ExitStack() as stack:
        certificates = [
            Certificate(
                stack.enter_context(parcel.as_file(settings.files[pair.cert])),
                f"/proc/self/fd/{settings.secrets[pair.key]}",
                f"{pair.cert}, {pair.key}",
            )
            for site in sites
            for pair in site.tls
        ]
        return ServerTls(build_contexts(certificates))


def origin_context(origin: Origin, settings: Settings) -> ssl.SSLContext:
    """What connections to an origin by HTTPS are made with. Raises TlsError."""
    if not origin.tls_ca:
        return build_origin_context(verify=origin.tls_verify)
    with parcel.as_file(settings.files[origin.tls_ca]) as path:
        try:
            return build_origin_context(verify=origin.tls_verify, ca=path)
        except TlsError as problem:
            raise TlsError(str(problem).replace(path, origin.tls_ca)) from problem
