"""TLS on both sides with the real program: certificates by name, exchanged at a reload; origins proving theirs."""

from __future__ import annotations

import ssl
import subprocess

import pytest
import trustme

from tests.kit import raw
from tests.kit.origin import FakeOrigin, chunked, response
from tests.kit.proxy import start_proxy
from tests.kit.raw import wait_until

pytestmark = pytest.mark.slow


class Authority:
    """Two authorities and what they sign, as files in a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.ca = trustme.CA()
        self.ca.cert_pem.write_to_path(str(folder / "ca.pem"))

    def write(self, name, *hosts):
        """`name`.pem and `name`.key for these hosts."""
        signed = self.ca.issue_cert(*hosts)
        key = self.folder / f"{name}.key"
        signed.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)
        chain = self.folder / f"{name}.pem"
        for at, part in enumerate(signed.cert_chain_pems):
            part.write_to_path(str(chain), append=at > 0)
        return signed

    def client(self):
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context

    def server(self, *hosts):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*hosts).configure_cert(context)
        return context


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


SITES = """
[[site]]
listen = "127.0.0.1:PORT0"
hosts = ["shop.test"]
tls = [{{ cert = "shop.pem", key = "shop.key" }}]
upstream = ["{0}"]

[[site]]
listen = "127.0.0.1:PORT0"
hosts = ["*.blog.test"]
tls = [{{ cert = "blog.pem", key = "blog.key" }}]
upstream = ["{0}"]
"""


def peer(proxy, context, name):
    """The certificate shown to a client that asks for this name, and its serial."""
    with raw.Connection(proxy.at, tls=context, name=name) as connection:
        return connection.sock.getpeercert()


def names(certificate):
    return {value for _, value in certificate["subjectAltName"]}


def test_each_name_gets_its_certificate_and_its_site(authority, tmp_path):
    authority.write("shop", "shop.test")
    authority.write("blog", "*.blog.test")
    with FakeOrigin() as origin, start_proxy(tmp_path, SITES.format(origin.address)) as proxy:
        origin.otherwise(response(b"hello"))
        context = authority.client()
        assert names(peer(proxy, context, "shop.test")) == {"shop.test"}
        assert names(peer(proxy, context, "a.blog.test")) == {"*.blog.test"}
        with raw.Connection(proxy.at, tls=context, name="shop.test") as connection:
            connection.send(raw.request("GET", "/", host="shop.test"))
            assert connection.read_response().status == 200
            connection.send(raw.request("GET", "/", host="elsewhere.test"))
            assert connection.read_response().status == 421
        assert origin.requests[0].get("x-forwarded-proto") == "https"


def test_a_reload_exchanges_the_certificate_and_keeps_open_connections(authority, tmp_path):
    authority.write("shop", "shop.test")
    authority.write("blog", "*.blog.test")
    with FakeOrigin() as origin, start_proxy(tmp_path, SITES.format(origin.address)) as proxy:
        origin.otherwise(response(b"hello"))
        context = authority.client()
        before = peer(proxy, context, "shop.test")["serialNumber"]
        with raw.Connection(proxy.at, tls=context, name="shop.test") as connection:
            connection.send(raw.request("GET", "/", host="shop.test"))
            assert connection.read_response().status == 200
            authority.write("shop", "shop.test")
            proxy.reload(SITES.format(origin.address))
            wait_until(lambda: peer(proxy, context, "shop.test")["serialNumber"] != before, what="the new certificate")
            connection.send(raw.request("GET", "/", host="shop.test"))
            assert connection.read_response().status == 200


def test_a_key_that_does_not_fit_refuses_the_reload(authority, tmp_path):
    authority.write("shop", "shop.test")
    authority.write("blog", "*.blog.test")
    with FakeOrigin() as origin, start_proxy(tmp_path, SITES.format(origin.address)) as proxy:
        context = authority.client()
        before = peer(proxy, context, "shop.test")["serialNumber"]
        (tmp_path / "shop.key").write_bytes((tmp_path / "blog.key").read_bytes())
        proxy.reload(SITES.format(origin.address))
        assert "shop.key" in proxy.output  # one line says which file
        assert peer(proxy, context, "shop.test")["serialNumber"] == before


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_old_and_new_tls_is_spoken_and_none_older(authority, tmp_path, version):
    authority.write("shop", "shop.test")
    authority.write("blog", "*.blog.test")
    with FakeOrigin() as origin, start_proxy(tmp_path, SITES.format(origin.address)) as proxy:
        context = authority.client()
        context.minimum_version = context.maximum_version = version
        assert names(peer(proxy, context, "shop.test")) == {"shop.test"}
        said = subprocess.run(
            ["openssl", "s_client", "-connect", "{}:{}".format(*proxy.at), "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
            input=b"",
            capture_output=True,
            timeout=20,
            check=False,
        )
        assert said.returncode != 0


ORIGIN = """
[[site]]
listen = "127.0.0.1:PORT0"
upstream = ["https://{}"]
upstream_tls = {{ {} }}
"""


def test_an_origin_must_prove_its_name_by_default(authority, tmp_path):
    """Unknown authority: 502. Known, wrong name: 502. Known, right name, or unverified by the operator's word: 200."""
    with FakeOrigin(tls=authority.server("origin.test")) as origin:
        origin.otherwise(chunked([b"secret"]))
        for settings, status in (
            ("", 502),
            ('ca = "ca.pem"', 502),
            ('ca = "ca.pem", name = "origin.test"', 200),
            ("verify = false", 200),
        ):
            with start_proxy(tmp_path, ORIGIN.format(origin.address, settings)) as proxy:
                answer = raw.get(proxy.at, "/")
                assert answer.status == status, settings
                if status == 502:
                    assert b"tls_certificate_error" in (answer.get("proxy-status") or "").encode()
                else:
                    assert answer.body == b"secret"


def test_a_handshake_that_does_not_end_has_no_more_time_than_a_head(authority, tmp_path, origin):
    authority.write("shop", "shop.test")
    authority.write("blog", "a.blog.test")
    limits = '[limits]\nhead_time = "1s"\n'
    with (
        start_proxy(tmp_path, SITES.format(origin.address) + limits) as proxy,
        raw.Connection(proxy.at, timeout=30) as half,  # asyncio's own patience is a minute
    ):
        half.send(b"\x16\x03\x01\x02\x00\x01")
        assert half.sock.recv(100) == b""
