"""How clients come to the admin process."""

import asyncio
import os
import socket
import ssl

import pytest
import trustme

from config.schema import Admin, Certificate, Config
from proxy.observe.entrance import bind_unix
from tests.observe.running import FILES, TOKEN, WITH_TOKENS, Running, purge
from tests.observe.settings import listener, settings
from tests.observe.workers import run


def test_over_tls_a_token_is_taken_and_a_reload_changes_the_certificate(tmp_path):
    ca = trustme.CA()

    def plan(at, generation):
        issued = ca.issue_cert("127.0.0.1", common_name=f"generation-{generation}")
        key = os.memfd_create("key")
        os.write(key, issued.private_key_pem.bytes())
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        config = Config(admin=Admin(tokens=WITH_TOKENS.tokens, tls=(Certificate(cert="a.pem", key="a.key"),)))
        return {
            "config": config,
            "listeners": (at,),
            "files": FILES | {"a.pem": chain},
            "secrets": {"a.key": key},
            "workers": 0,
            "generation": generation,
        }

    def name_seen(at):
        context = ssl.create_default_context()
        ca.configure_trust(context)
        with (
            socket.create_connection(at.address) as raw,
            context.wrap_socket(raw, server_hostname="127.0.0.1") as wrapped,
        ):
            return dict(pair[0] for pair in wrapped.getpeercert()["subject"])["commonName"]

    async def main():
        at = listener()
        context = ssl.create_default_context()
        ca.configure_trust(context)
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        async with Running(tmp_path, **plan(at, 1)) as running:
            url = f"https://127.0.0.1:{at.address[1]}/v1/purge"
            got, _ = await purge(running.tcp, {"all": True}, url, headers=bearer, ssl=context)
            assert got == 200
            assert await asyncio.to_thread(name_seen, at) == "generation-1"
            await running.service.prepare(settings(tmp_path, **plan(at, 2)))
            running.service.commit()
            await running.settled()
            assert await asyncio.to_thread(name_seen, at) == "generation-2"
        os.close(at.fd)

    run(main())


def test_a_leftover_socket_is_replaced_and_anything_else_is_not(tmp_path):
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    bind_unix(path).close()
    path.unlink()
    path.write_text("a file of somebody's")
    with pytest.raises(OSError, match=r"admin\.sock"):
        bind_unix(path)
