"""Rows about the pair, read back by Prometheus' own parser; and what there is when ha does not answer."""

import asyncio

from prometheus_client.parser import text_string_to_metric_families

from proxy.observe import pair
from tests.test_pairing import STATUS as SHOWN

STATUS = {
    **SHOWN,
    "routers": [
        {**SHOWN["routers"][0], "transitions": 4, "split_seconds": 0.25, "gap": 0.101, "errors": {"ENOBUFS": 2}}
    ],
}


def samples(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_ha_says_becomes_rows():
    found = samples(pair.render(STATUS))
    router = ("router", "vip-51")
    assert found["tandem_ha_up",] == 1
    assert found["tandem_ha_state", router, ("state", "active")] == 1
    assert found["tandem_ha_state", router, ("state", "backup")] == 0
    assert found["tandem_ha_priority", router] == 240
    assert found["tandem_ha_transitions_total", router] == 4
    assert found["tandem_ha_adverts_dropped_total", ("reason", "checksum"), router] == 3
    assert found["tandem_ha_send_errors_total", ("error", "ENOBUFS"), router] == 2
    assert found["tandem_ha_alarms_total", router, ("what", "split-brain")] == 1
    assert found["tandem_ha_split_seconds_total", router] == 0.25
    assert found["tandem_ha_advert_gap_seconds", router] == 0.101
    assert found["tandem_ha_last_outage_seconds", router] == 0.0015
    assert found["tandem_ha_link_up", ("node", "b")] == 1


def test_a_pair_without_link_or_takeover_has_no_such_rows():
    node = {**STATUS["nodes"][0], "link": "none"}
    text = pair.render({**STATUS, "routers": [{**STATUS["routers"][0], "outage": None}], "nodes": [node]})
    assert "link_up" not in text
    assert "last_outage" not in text


def test_one_that_does_not_answer_is_down(tmp_path):
    assert samples(asyncio.run(pair.scrape(tmp_path))) == {("tandem_ha_up",): 0}


def test_it_is_told_that_the_origins_have_changed_and_may_be_gone(tmp_path):
    heard = []

    async def scenario():
        async def answer(reader, writer):
            heard.append(await reader.readline())
            writer.write(b'{"ok": true}\n')
            writer.close()

        await pair.nudge(tmp_path)
        server = await asyncio.start_unix_server(answer, tmp_path / "ha.sock")
        await pair.nudge(tmp_path)
        server.close()

    asyncio.run(scenario())
    assert heard == [b'{"command": "look"}\n']


def test_it_is_asked_on_its_socket(tmp_path):
    async def scenario():
        async def answer(reader, writer):
            assert await reader.readline() == b'{"command": "metrics"}\n'
            writer.write(b'{"ok": true, "routers": [], "nodes": []}\n')
            writer.close()

        server = await asyncio.start_unix_server(answer, tmp_path / "ha.sock")
        text = await pair.scrape(tmp_path)
        server.close()
        return text

    assert samples(asyncio.run(scenario())) == {("tandem_ha_up",): 1}
