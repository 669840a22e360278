"""The admin surface over real sockets: what it answers, who gets what, and that it follows reloads."""

import json
import os
import socket
import stat

import aiohttp
import pytest

from config.schema import Admin, Certificate, Config, Health, Site, Upstream
from config.units import Duration, Listen
from proxy import bus
from proxy.observe import api
from proxy.observe.admin import AdminService
from proxy.service import Refused
from tests.observe.running import FILES, WITH_TOKENS, Running, get, tcp
from tests.observe.settings import listener, settings
from tests.observe.workers import FakeWorker, run, until


def test_the_unix_socket_is_there_from_the_first_commit_for_owner_and_group(tmp_path):
    async def main():
        async with Running(tmp_path) as running:
            facts = running.path.stat()
            assert stat.S_ISSOCK(facts.st_mode)
            assert stat.S_IMODE(facts.st_mode) == 0o660
            status, text = await get(running.unix, "/")
            assert (status, text) == (200, api.INDEX)
        assert not running.path.exists()

    run(main())


def test_who_asks_as_soon_as_all_is_ready_is_not_refused(tmp_path):
    async def main():
        plan = settings(tmp_path, workers=0)
        service = AdminService(-1, plan.shared)
        await service.prepare(plan)
        service.commit()
        with socket.socket(socket.AF_UNIX) as early:
            early.setblocking(False)
            refused = early.connect_ex(str(tmp_path / "admin.sock"))  # without a turn of the loop
            await until(lambda: not service._tasks)
        await service.drain(0)
        assert not refused

    run(main())


@pytest.mark.parametrize("given", ["nothing", "tokens", "tls"])
def test_off_loopback_nothing_is_served_without_tls_and_tokens(tmp_path, given):
    certificate = Certificate(cert="a.pem", key="a.key")
    config = Config(
        admin=Admin(
            tokens=WITH_TOKENS.tokens if given == "tokens" else None, tls=(certificate,) if given == "tls" else ()
        )
    )

    async def main():
        at = listener("0.0.0.0")
        service = AdminService(-1, memoryview(b""))
        with pytest.raises(Refused, match="needs tls and tokens"):
            await service.prepare(settings(tmp_path, config, listeners=(at,), files=FILES))
        os.close(at.fd)

    run(main())


def test_a_refused_configuration_leaves_all_as_it_was(tmp_path):
    async def main():
        at = listener()
        base = f"http://127.0.0.1:{at.address[1]}/"
        async with tcp(tmp_path, at) as running:
            for files in ({}, {"admin.tokens": b"nonsense"}):
                with pytest.raises(Refused, match=r"admin\.tokens|line 1"):
                    await running.service.prepare(
                        settings(tmp_path, Config(admin=WITH_TOKENS), listeners=(at,), files=files)
                    )
            assert (await get(running.tcp, base))[0] == 200
            await running.service.prepare(settings(tmp_path, listeners=(at,)))
            running.service.abort()
            assert (await get(running.tcp, base))[0] == 200
        os.close(at.fd)

    run(main())


def test_a_reload_moves_to_another_address_and_leaves_the_old_one(tmp_path):
    async def main():
        old, new = listener(), listener(serial=2)
        async with tcp(tmp_path, old) as running:
            await running.service.prepare(
                settings(tmp_path, Config(admin=WITH_TOKENS), listeners=(new,), files=FILES, workers=0)
            )
            running.service.commit()
            os.close(old.fd)  # as child.py does
            await running.settled()
            assert (await get(running.tcp, f"http://127.0.0.1:{new.address[1]}/"))[0] == 200
            with pytest.raises(aiohttp.ClientConnectionError):
                await get(running.tcp, f"http://127.0.0.1:{old.address[1]}/")
        os.close(new.fd)

    run(main())


def test_active_checks_run_here_and_workers_hear_the_verdicts(tmp_path):
    dead = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{dead.getsockname()[1]}"
    dead.close()
    check = Health(every=Duration(0.05), timeout=Duration(1.0), fall=1)
    site = Site(name="shop", listen=(Listen("", 80),), upstream=(Upstream(address=address),), health=check)

    async def main():
        fake = await FakeWorker(tmp_path, 0).start()
        async with Running(tmp_path, Config(site=(site,))) as running:
            await until(lambda: fake.of(bus.HealthVerdicts))
            assert fake.of(bus.HealthVerdicts)[-1].verdicts == (bus.Verdict("shop", address, healthy=False),)
            _, text = await get(running.unix, "/v1/status")
            assert json.loads(text)["faults"] == ["site shop has no origin left"]
            _, text = await get(running.unix, "/metrics")
            assert f'tandem_check_up{{pool="shop",upstream="{address}"}} 0' in text

    run(main())


def test_a_folder_that_is_not_there_refuses_the_start_with_a_sentence(tmp_path):
    async def main():
        with pytest.raises(Refused, match=r"admin: .*admin\.sock: No such file"):
            await AdminService(-1, memoryview(b"")).prepare(settings(tmp_path / "no"))

    run(main())


def test_admin_answers_no_questions_of_other_processes(tmp_path):
    async def main():
        service = AdminService(-1, memoryview(b""))
        assert isinstance(await service.handle(bus.Status()), bus.Failed)
        service.reopen_logs()

    run(main())
