"""What is answered to whom over the admin socket and TCP, and what is told of changes."""

import asyncio
import json
import logging
import os

import pytest
from prometheus_client.parser import text_string_to_metric_families

from config.schema import Config, Health, Site, Upstream
from config.units import Duration, Listen
from proxy import bus, region
from proxy.observe import api, metrics
from proxy.observe.api import regions
from tests.observe.running import READER, TOKEN, Running, get, purge, tcp
from tests.observe.settings import listener, settings
from tests.observe.workers import FakeWorker, run


def test_every_answer_has_the_fields_that_keep_browsers_in_check(tmp_path):
    async def main():
        async with Running(tmp_path) as running:
            for target in ("/", "/nothing", "/v1/purge"):
                async with running.unix.get(target) as response:
                    for name, value in api._HEADERS.items():
                        assert response.headers[name] == value
                    assert "Access-Control-Allow-Origin" not in response.headers
                    assert "Set-Cookie" not in response.headers

    run(main())


def test_unknown_paths_and_methods_are_answered_in_json(tmp_path):
    async def main():
        async with Running(tmp_path) as running:
            status, text = await get(running.unix, "/nothing")
            assert (status, json.loads(text)) == (404, {"error": "Not Found"})
            status, _ = await get(running.unix, "/v1/purge")
            assert status == 405
            async with running.unix.options("/v1/purge") as response:  # what a browser asks before a foreign change
                assert response.status in {403, 405, 415}

    run(main())


def test_health_tells_whether_a_worker_answers(tmp_path):
    async def main():
        async with Running(tmp_path, workers=2) as running:
            assert await get(running.unix, "/healthz") == (503, "0 of 2 workers answer\n")
            await FakeWorker(tmp_path, 0).start()
            assert await get(running.unix, "/healthz") == (200, "1 of 2 workers answer\n")

    run(main())


def test_metrics_are_the_sum_of_all_processes(tmp_path):
    shared = region.Region.create()
    for index in range(2):
        metrics.view(shared.slots(index))[metrics.slot("tandem_requests_total", outcome="hit")] = index + 1

    async def main():
        async with (
            Running(tmp_path, workers=2, shared=shared.all_slots()) as running,
            running.unix.get("/metrics") as response,
        ):
            assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            families = {f.name: f for f in text_string_to_metric_families(await response.text())}
        counts = {s.labels["outcome"]: s.value for s in families["tandem_requests"].samples}
        assert counts["hit"] == 3

    run(main())


def test_counters_of_workers_that_a_reload_took_away_still_count(tmp_path):
    shared = region.Region.create()
    metrics.view(shared.slots(1))[metrics.slot("tandem_requests_total", outcome="hit")] = 5

    async def main():
        async with Running(tmp_path, workers=2, shared=shared.all_slots()) as running:
            await running.service.prepare(settings(tmp_path, workers=1, shared=shared.all_slots()))
            running.service.commit()
            _, text = await get(running.unix, "/metrics")
            assert 'tandem_requests_total{outcome="hit"} 5' in text

    run(main())


def test_status_is_put_together_from_all_that_is_known(tmp_path):
    (tmp_path / "state.json").write_text('{"processes": [{"name": "supervisor", "pid": 1, "state": "running"}]}')
    site = Site(name="shop", listen=(Listen("", 80),), upstream=(Upstream(address="127.0.0.1:1"),))

    async def main():
        await FakeWorker(tmp_path, 0, data={"pid": 5}).start()
        async with Running(tmp_path, Config(site=(site,))) as running:
            status, text = await get(running.unix, "/v1/status")
            data = json.loads(text)
            assert status == 200
            assert data["faults"] == []
            assert [one["name"] for one in data["processes"]] == ["supervisor", "admin"]
            assert data["sites"][0]["upstreams"][0]["address"] == "127.0.0.1:1"
            assert data["workers"] == [{"pid": 5, "name": "worker-0", "answers": True}]

    run(main())


def test_checks_are_made_when_they_are_asked_for(tmp_path):
    nothing_there = (Upstream(address="127.0.0.1:1"),)
    sites = (
        Site(name="shop", listen=(Listen("", 80),), upstream=nothing_there, health=Health(every=Duration(60))),
        Site(name="plain", listen=(Listen("", 80),), hosts=("plain.test",), upstream=nothing_there),
    )

    async def main():
        async with Running(tmp_path, Config(site=sites)) as running:
            assert await get(running.unix, "/v1/checks") == (200, '{"sites": {"shop": false}}')

    run(main())


def test_a_purge_over_the_unix_socket_is_applied_and_audited(tmp_path, caplog):
    caplog.set_level(logging.INFO)

    async def main():
        fakes = [await FakeWorker(tmp_path, index, count=index + 1).start() for index in range(2)]
        async with Running(tmp_path, workers=2) as running:
            status, answer = await purge(running.unix, {"url": "http://a/x", "hard": True})
        assert (status, answer["purged"], answer["applied"]) == (200, 3, 2)
        assert answer["workers"][1] == {"name": "worker-1", "purged": 2, "note": ""}
        assert fakes[0].of(bus.Purge) == [bus.Purge(answer["number"], "url", "http://a/x")]
        line = next(record.getMessage() for record in caplog.records if record.name == "tandem.audit")
        expected = f"uid {os.getuid()} (pid {os.getpid()}): hard purge {answer['number']}, url http://a/x: 3 purged"
        assert line == expected

    run(main())


def test_a_purge_is_soft_unless_asked_and_a_dry_run_says_so(tmp_path):
    async def main():
        fake = await FakeWorker(tmp_path, 0).start()
        async with Running(tmp_path) as running:
            _, answer = await purge(running.unix, {"all": True, "dry_run": True})
        assert fake.of(bus.Purge) == [bus.Purge(answer["number"], "all", "", soft=True, dry_run=True)]
        assert answer["dry_run"]

    run(main())


def test_a_purge_that_a_worker_did_not_apply_is_a_gateway_timeout(tmp_path, monkeypatch):
    monkeypatch.setattr("proxy.observe.reach.SWEEP_PATIENCE", 0.05)

    async def main():
        fake = await FakeWorker(tmp_path, 0).start()
        fake.hold = asyncio.Event().wait
        async with Running(tmp_path) as running:
            status, answer = await purge(running.unix, {"all": True})
        assert (status, answer["applied"]) == (504, 0)

    run(main())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"url": 3}',
        b'{"url": "http://a/", "all": true}',
        b'{"url": "/a"}',
        b'{"url": "ftp://a/"}',
        b'{"url": "http://a/\\n"}',
        b'{"url": "http://a/\xc3\xa4"}',
        b'{"url": "http://a/", "wonder": 1}',
        b'{"tag": " x"}',
        b'{"tag": "x", "all": true}',
        b'{"match": "shop"}',
        b'{"match": "~("}',
        b'{"url": "http://us er/"}',
        b'{"all": true, "site": "nowhere"}',
        b"{" * 1000,
    ],
)
def test_what_is_no_purge_is_refused_and_reaches_no_worker(tmp_path, body):
    async def main():
        fake = await FakeWorker(tmp_path, 0).start()
        async with Running(tmp_path) as running:
            fields = {"Content-Type": "application/json"}
            async with running.unix.post("/v1/purge", data=body, headers=fields) as response:
                assert response.status == 400
                assert (await response.json())["error"]
        assert fake.of(bus.Purge) == []

    run(main())


def test_a_body_beyond_the_bound_is_refused(tmp_path):
    async def main():
        async with Running(tmp_path) as running:
            status, _ = await purge(running.unix, {"url": "http://a/" + "x" * api.MAX_BODY})
            assert status == 413

    run(main())


def test_each_worker_explains_a_request_and_a_faulty_one_reaches_none(tmp_path):
    async def main():
        fakes = [await FakeWorker(tmp_path, index, data={"outcome": "hit"}).start() for index in (0, 1)]
        async with Running(tmp_path, workers=2) as running:
            query = "url=http://a/x&method=HEAD&from=10.0.0.1&header=A:%20b&header=C:d"
            status, text = await get(running.unix, f"/v1/explain?{query}")
            shown = [(one["name"], one["url"], one["outcome"]) for one in json.loads(text)["workers"]]
            assert (status, shown) == (200, [(f"worker-{n}", "http://a/x", "hit") for n in (0, 1)])
            asked = fakes[0].of(bus.Explain)
            assert asked == [bus.Explain("http://a/x", "HEAD", (("A", "b"), ("C", "d")), "10.0.0.1")]
            for faulty in (
                "",
                "url=x",
                "url=http://a/&from=me",
                "url=http://a/&header=x",
                "url=http://a/&q=1",
                "url=http://a/&method=A%20B",
            ):
                status, text = await get(running.unix, f"/v1/explain?{faulty}")
                assert (status, bool(json.loads(text)["error"])) == (400, True)
            assert fakes[0].of(bus.Explain) == asked
            for fake in fakes:
                fake.die()
            assert (await get(running.unix, "/v1/explain?url=http://a/"))[0] == 503

    run(main())


def test_over_loopback_reading_is_free_and_a_change_needs_a_token(tmp_path, caplog):
    caplog.set_level(logging.INFO)

    async def main():
        at = listener()
        base = f"http://127.0.0.1:{at.address[1]}"
        async with tcp(tmp_path, at) as running:
            assert (await get(running.tcp, base + "/v1/status"))[0] == 200
            for token, status in ((None, 401), ("wrong" * 8, 401), (READER, 403), (TOKEN, 200)):
                fields = {} if token is None else {"Authorization": f"Bearer {token}"}
                got, _ = await purge(running.tcp, {"all": True}, base + "/v1/purge", headers=fields)
                assert got == status
            got, _ = await purge(running.tcp, {"all": True}, f"{base}/v1/purge?token={TOKEN}&access_token={TOKEN}")
            assert got == 401
        os.close(at.fd)

    run(main())
    lines = [record.getMessage() for record in caplog.records if record.name == "tandem.audit"]
    assert sum("refused" in line for line in lines) == 4
    assert any(line.startswith("127.0.0.1, token ops: ") for line in lines)
    assert not any(secret in line for line in lines for secret in (TOKEN, READER, "wrongwrong"))


def test_over_tcp_strange_hosts_and_foreign_pages_are_refused(tmp_path):
    async def main():
        at = listener()
        base = f"http://127.0.0.1:{at.address[1]}"
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        async with tcp(tmp_path, at) as running:
            assert (await get(running.tcp, base + "/", headers={"Host": "evil.example"}))[0] == 421
            assert (await get(running.tcp, base + "/", headers={"Host": "proxy.example.org:9600"}))[0] == 200
            for fields, status in (
                ({"Sec-Fetch-Site": "cross-site"}, 403),
                ({"Origin": "http://evil.example"}, 403),
                ({"Origin": base, "Sec-Fetch-Site": "same-origin"}, 200),
                ({"Content-Type": "text/plain"}, 415),
            ):
                got, _ = await purge(running.tcp, {"all": True}, base + "/v1/purge", headers=bearer | fields)
                assert got == status
        os.close(at.fd)

    run(main())


def test_guessing_tokens_is_stopped_and_so_is_a_flood(tmp_path, monkeypatch):
    monkeypatch.setattr(api, "READS", (0.0, 20.0))

    async def main():
        at = listener()
        base = f"http://127.0.0.1:{at.address[1]}"
        async with tcp(tmp_path, at) as running:
            statuses = []
            for number in range(7):
                fields = {"Authorization": f"Bearer {str(number) * 40}"}
                statuses.append((await purge(running.tcp, {"all": True}, base + "/v1/purge", headers=fields))[0])
            assert statuses == [401] * 5 + [429] * 2
            reads = [(await get(running.tcp, base + "/"))[0] for _ in range(22)]
            assert reads == [200] * 20 + [429] * 2
        os.close(at.fd)

    run(main())


def test_regions_are_cut_at_the_places_of_the_processes():
    shared = region.Region.create()
    metrics.view(shared.slots(1))[0] = 1
    metrics.view(shared.slots(region.ADMIN))[0] = 2
    found = regions(shared.all_slots(), 2)
    assert {name: slots[0] for name, slots in found.items()} == {"worker-0": 0, "worker-1": 1, "admin": 2}
