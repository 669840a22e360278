"""Certificates and keys come from what a worker was given, and nothing of them is left open."""

from __future__ import annotations

import os

import pytest
import trustme

from proxy.service import Refused
from tests.kit import raw
from tests.kit.worker import certificate, site

FRESH = "Cache-Control: max-age=60"


def descriptors():
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough


def test_a_certificate_that_cannot_be_read_refuses_the_configuration_and_the_old_one_stays(
    start_worker, origin, tmp_path
):
    running = start_worker()
    running.load(site(origin))
    fd, cert, key, files, secrets = certificate(tmp_path, b"no certificate", b"no key")
    broken = site(origin, extra=f'tls = [{{ cert = "{cert}", key = "{key}" }}]')
    before = descriptors()
    for _ in range(3):
        with pytest.raises(Refused):
            running.prepare(broken, files=files, secrets=secrets)
    assert descriptors() <= before
    assert raw.get(running.at).body == b"hello"
    os.close(fd)


def test_a_site_speaks_tls_with_what_it_was_given_and_reloads_leak_nothing(start_worker, origin, tmp_path):
    authority = trustme.CA()
    made = authority.issue_cert("test.example")
    chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
    fd, cert, key, files, secrets = certificate(tmp_path, chain, made.private_key_pem.bytes())
    running = start_worker()
    text = site(origin, extra=f'tls = [{{ cert = "{cert}", key = "{key}" }}]')
    context = raw.ssl.create_default_context()
    authority.configure_trust(context)
    before = None
    for _ in range(4):
        running.load(text, files=files, secrets=secrets)
        answer = raw.ask(running.at, raw.request(), tls=context, name="test.example")
        assert answer.body == b"hello"
        raw.wait_until(lambda: running.status()["connections"] == 0)
        before = before or descriptors()
        assert descriptors() <= before
    os.close(fd)
