"""Real handshakes on real sockets, with certificates made for the occasion."""

import asyncio
import datetime as dt
import os
import socket
import ssl
from contextlib import asynccontextmanager, suppress

import pytest
import trustme
import uvloop

from proxy.server.tls import (
    Certificate,
    ServerTls,
    TlsError,
    build_contexts,
    build_origin_context,
)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def issue(authority, tmp_path):
    """Writes a certificate for names and gives its Certificate."""

    def make(*names, ca=authority, **how):
        made = ca.issue_cert(*names, **how)
        stem = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        cert, key = stem.with_suffix(".pem"), stem.with_suffix(".key")
        cert.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        key.write_bytes(made.private_key_pem.bytes())
        return Certificate(str(cert), str(key))

    return make


@pytest.fixture
def client(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@asynccontextmanager
async def serving(tls):
    """An echo behind the server's context; gives its port."""

    async def echo(reader, writer):
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=tls.context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def certificate_names(port, client, name):
    _reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
    names = {value for _kind, value in writer.get_extra_info("peercert")["subjectAltName"]}
    writer.close()
    await writer.wait_closed()
    return names


def built(certificates):
    return ServerTls(build_contexts(certificates))


def run(coroutine):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


def test_the_name_asked_for_picks_the_certificate(issue, client):
    shop, rest = issue("shop.example.org"), issue("example.net", "*.example.net")

    async def scenario():
        async with serving(built([shop, rest])) as port:
            return [
                await certificate_names(port, client, name)
                for name in ("shop.example.org", "example.net", "www.example.net", "WWW.Example.NET")
            ]

    assert run(scenario()) == [{"shop.example.org"}, *[{"example.net", "*.example.net"}] * 3]


def test_strangers_and_clients_without_a_name_get_the_first_certificate(issue, client):
    tls = built([issue("first.example.org", "127.0.0.1"), issue("second.example.org")])
    client.check_hostname = False

    async def scenario():
        async with serving(tls) as port:
            return [await certificate_names(port, client, name) for name in ("other.test", "127.0.0.1")]

    assert run(scenario()) == [{"first.example.org", "127.0.0.1"}] * 2


def test_a_wildcard_covers_one_label_only(issue):
    contexts = build_contexts([issue("default.test"), issue("*.example.org")])
    assert contexts.choose("a.example.org") is not contexts.default
    assert contexts.choose("a.example.org.") is not contexts.default
    for name in ("example.org", "a.b.example.org", "xexample.org", ""):
        assert contexts.choose(name) is contexts.default


def test_an_exact_name_goes_before_a_wildcard_and_the_first_certificate_before_the_next(issue):
    wild, exact, late = issue("*.example.org"), issue("a.example.org"), issue("a.example.org")
    contexts = build_contexts([wild, exact, late])
    assert contexts.choose("a.example.org") is contexts.exact["a.example.org"]
    assert contexts.choose("b.example.org") is contexts.default
    assert contexts.names == {"*.example.org", "a.example.org"}


def test_a_swap_changes_new_handshakes_and_breaks_no_connection(issue, client):
    old, new = issue("site.example.org"), issue("site.example.org", "new.example.org")

    async def scenario():
        tls = built([old])
        async with serving(tls) as port:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=client, server_hostname="site.example.org"
            )
            before = await certificate_names(port, client, "site.example.org")
            tls.adopt(built([new]))
            after = await certificate_names(port, client, "site.example.org")
            writer.write(b"still here")
            echoed = await reader.readexactly(10)
            writer.close()
            return before, after, echoed

    before, after, echoed = run(scenario())
    assert before == {"site.example.org"}
    assert after == {"site.example.org", "new.example.org"}
    assert echoed == b"still here"


def shake_hands(client_context, server_context, name):
    """Both ends after a handshake in memory, and what the client reads from."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for side in (client, server):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return client, server, to_client


def test_a_listener_adopts_what_a_newer_object_was_built_for(issue):
    old, new = built([issue("old.example.org")]), built([issue("new.example.org")])
    context = old.context
    old.adopt(new)
    assert old.context is context
    assert old._contexts.names == {"new.example.org"}


def blocking(port, context, name, session=None):
    """One connection of a blocking client: (session, was it resumed, protocol, ALPN)."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as raw,
        context.wrap_socket(raw, server_hostname=name, session=session) as wrapped,
    ):
        wrapped.sendall(b"x")
        assert wrapped.recv(1) == b"x"  # the tickets of TLS 1.3 come with the first data
        return wrapped.session, wrapped.session_reused, wrapped.version(), wrapped.selected_alpn_protocol()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_resume_across_a_swap(issue, client, version):
    certificate = issue("site.example.org")
    client.minimum_version = client.maximum_version = version
    client.set_alpn_protocols(["h2", "http/1.1"])

    async def scenario():
        tls = built([certificate])
        async with serving(tls) as port:
            first = await asyncio.to_thread(blocking, port, client, "site.example.org")
            tls.adopt(built([certificate]))
            return first, await asyncio.to_thread(blocking, port, client, "site.example.org", first[0])

    first, second = run(scenario())
    assert not first[1]
    assert second[1]
    assert second[3] == "http/1.1"


def test_versions_below_1_2_are_refused(issue, client):
    client.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        client.maximum_version = ssl.TLSVersion.TLSv1_1
    client.set_ciphers("ALL:@SECLEVEL=0")

    async def scenario():
        async with serving(built([issue("site.example.org")])) as port:
            # The client sees the alert or only the end, as the loop has it; the server's reason is asked for below.
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                await certificate_names(port, client, "site.example.org")

    run(scenario())
    server_context = build_contexts([issue("site.example.org")]).default
    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        shake_hands(client, server_context, "site.example.org")


def test_certificate_and_key_load_from_memory_files(issue):
    on_disk = issue("site.example.org")
    descriptors = []
    for path in (on_disk.cert, on_disk.key):
        descriptors.append(fd := os.memfd_create("test"))
        with open(path, "rb") as file:  # noqa: PTH123
            os.write(fd, file.read())
    try:
        contexts = build_contexts([Certificate(*(f"/proc/self/fd/{fd}" for fd in descriptors))])
        again = build_contexts([Certificate(*(f"/proc/self/fd/{fd}" for fd in descriptors))])
    finally:
        for fd in descriptors:
            os.close(fd)
    assert contexts.names == again.names == {"site.example.org"}


def test_the_names_of_an_expired_certificate_are_read_all_the_same(issue):
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    assert build_contexts([issue("old.example.org", not_after=past)]).names == {"old.example.org"}


def test_a_common_name_counts_only_without_alternative_names(issue, authority):
    contexts = build_contexts([issue("san.example.org", common_name="cn.example.org")])
    assert contexts.names == {"san.example.org"}


def test_an_intermediate_chain_is_served_whole(issue, client, authority):
    tls = built([issue("deep.example.org", ca=authority.create_child_ca())])

    async def scenario():
        async with serving(tls) as port:
            return await certificate_names(port, client, "deep.example.org")

    assert run(scenario()) == {"deep.example.org"}


def test_faults_name_the_file_and_what_is_wrong(issue, tmp_path):
    good, other = issue("a.example.org"), issue("b.example.org")
    junk = tmp_path / "junk.pem"
    junk.write_text("no PEM")
    with pytest.raises(TlsError, match=r"absent\.pem.*No such file"):
        build_contexts([Certificate(str(tmp_path / "absent.pem"), good.key)])
    with pytest.raises(TlsError, match=r"junk\.pem"):
        build_contexts([Certificate(str(junk), good.key)])
    with pytest.raises(TlsError, match=r"key values mismatch"):
        build_contexts([Certificate(good.cert, other.key)])
    with pytest.raises(TlsError, match="at least one"):
        build_contexts([])
    with pytest.raises(TlsError, match=r"junk\.pem"):
        build_origin_context(ca=str(junk))


def test_an_encrypted_key_is_a_fault_and_asks_nobody(issue):
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - trustme brings it, for this test alone

    certificate = issue("a.example.org")
    with open(certificate.key, "rb") as file:  # noqa: PTH123
        key = serialization.load_pem_private_key(file.read(), None)
    with open(certificate.key, "wb") as file:  # noqa: PTH123
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
    with pytest.raises(TlsError, match="encrypted"):
        build_contexts([certificate])


def test_origins_are_verified_unless_told_otherwise(issue, authority, tmp_path):
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    tls = built([issue("origin.example.org")])

    async def scenario():
        async with serving(tls) as port:
            names = await certificate_names(port, build_origin_context(ca=str(ca)), "origin.example.org")
            with pytest.raises(ssl.SSLCertVerificationError):
                await certificate_names(port, build_origin_context(), "origin.example.org")
            with pytest.raises(ssl.SSLCertVerificationError, match="match"):
                await certificate_names(port, build_origin_context(ca=str(ca)), "another.example.org")
            _reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=build_origin_context(verify=False), server_hostname="another.example.org"
            )
            writer.close()
            return names

    assert run(scenario()) == {"origin.example.org"}


def test_an_end_without_close_notify_is_an_error_towards_origins(issue):
    """The contract with OpenSSL that build_origin_context relies on, without any loop in between."""
    server_context = build_contexts([issue("origin.example.org")]).default
    client, server, to_client = shake_hands(build_origin_context(verify=False), server_context, "origin.example.org")
    server.write(b"part")
    to_client.write_eof()
    assert client.read(4) == b"part"
    with pytest.raises(ssl.SSLError, match="EOF"):
        client.read(1)


def test_the_listening_context_itself_needs_no_certificate(issue, client):
    """Pins that the callback runs before OpenSSL looks for a certificate, so a swap replaces all of them."""
    tls = ServerTls(build_contexts([issue("site.example.org")]))
    assert tls.context.cert_store_stats()["x509"] == 0

    async def scenario():
        async with serving(tls) as port:
            return await certificate_names(port, client, "site.example.org")

    assert run(scenario()) == {"site.example.org"}


class Listening(asyncio.Protocol):
    """Says what the loop told it, in order."""

    def __init__(self):
        self.told = []
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        transport.write(b"x")

    def data_received(self, data):
        self.told.append(data)

    def eof_received(self):
        self.told.append("end")

    def connection_lost(self, exc):
        self.lost.set_result(exc)


@pytest.mark.parametrize(("orderly", "told"), [(True, [b"part", "end"]), (False, [b"part"])])
def test_uvloop_tells_an_orderly_end_from_a_cut_by_eof_received(issue, orderly, told):
    """The contract with uvloop that ends of bodies over TLS rest on: without close_notify there is no eof_received."""
    server_context = build_contexts([issue("origin.example.org")]).default

    def answer(listener):
        with listener:
            connection = server_context.wrap_socket(listener.accept()[0], server_side=True)
        connection.recv(1)
        connection.sendall(b"part")
        if orderly:
            with suppress(OSError):  # the other side need not answer our close_notify
                connection.unwrap()
            connection.close()
        else:
            os.close(connection.detach())

    async def scenario():
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        answering = asyncio.create_task(asyncio.to_thread(answer, listener))
        _transport, listening = await asyncio.get_running_loop().create_connection(
            Listening, "127.0.0.1", port, ssl=build_origin_context(verify=False), server_hostname="origin.example.org"
        )
        await listening.lost
        await answering
        return listening.told

    assert run(scenario()) == told
