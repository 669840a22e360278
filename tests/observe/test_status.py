"""What status says: processes, the worst of what workers say of an origin, and faults in sentences."""

import json

import pytest

from config.schema import Config, Site, Upstream
from config.units import Listen
from proxy import bus
from proxy.modes.reverse import Reverse
from proxy.observe import metrics, status
from proxy.upstream.health import Verdict
from tests.observe.settings import settings

CONFIG = Config(
    site=(
        Site(
            name="shop",
            listen=(Listen("", 80),),
            upstream=(Upstream(address="10.0.0.1:80", route="t1"), Upstream(address="10.0.0.2:80")),
        ),
    )
)


def peers(**standings):
    """What a worker says: standings of the two origins."""
    addresses = {"one": "10.0.0.1:80", "two": "10.0.0.2:80"}
    said = [{"address": addresses[name], "standing": word, "why": "because"} for name, word in standings.items()]
    return bus.StatusAnswer({"pid": 5, "pools": {"shop": said}})


def gather(tmp_path, workers, *, verdicts=(), state=None, slots=None):
    layout = metrics.layout(["shop"])
    slots = metrics.view(bytearray(metrics.REGION)) if slots is None else slots
    return status.gather(
        settings(tmp_path, CONFIG, workers=len(workers)),
        Reverse(CONFIG, {}).pools.values(),
        workers=workers,
        verdicts=verdicts,
        regions={"worker-0": slots},
        layout=layout,
        state=state or {},
    )


def test_all_is_well_when_all_answer_and_all_origins_are_up(tmp_path):
    data = gather(tmp_path, {"worker-0": peers(one="up", two="up")})
    assert data["faults"] == []
    assert [(up["address"], up["state"], up.get("route")) for up in data["sites"][0]["upstreams"]] == [
        ("10.0.0.1:80", "up", "t1"),
        ("10.0.0.2:80", "up", None),
    ]
    assert {one["name"]: one["state"] for one in data["processes"]} == {"worker-0": "running", "admin": "running"}
    json.dumps(data)


@pytest.mark.parametrize(
    ("first", "second", "state"),
    [("up", "up", "up"), ("up", "ejected", "ejected"), ("probing", "up", "probing"), ("failed", "ejected", "failed")],
)
def test_the_worst_word_about_an_origin_counts(tmp_path, first, second, state):
    data = gather(tmp_path, {"worker-0": peers(one=first, two="up"), "worker-1": peers(one=second, two="up")})
    shown = data["sites"][0]["upstreams"][0]
    assert shown["state"] == state
    assert shown.get("why") == (None if state == "up" else "because")


def test_without_a_workers_word_the_check_speaks(tmp_path):
    verdicts = [Verdict("shop", "10.0.0.1:80", up=False, detail="status 503")]
    data = gather(tmp_path, {"worker-0": bus.StatusAnswer({})}, verdicts=verdicts)
    one, two = data["sites"][0]["upstreams"]
    assert (one["state"], one["check"], two["state"]) == ("failed", "status 503", "unknown")
    assert data["faults"] == ["origin 10.0.0.1:80 of site shop is failed"]


def test_what_the_check_has_found_counts_before_the_workers_have_heard_of_it(tmp_path):
    verdicts = [Verdict("shop", "10.0.0.1:80", up=False), Verdict("shop", "10.0.0.2:80", up=True)]
    data = gather(tmp_path, {"worker-0": peers(one="up", two="failed")}, verdicts=verdicts)
    assert [one["state"] for one in data["sites"][0]["upstreams"]] == ["failed", "failed"]


def test_a_site_without_origin_is_one_fault(tmp_path):
    data = gather(tmp_path, {"worker-0": peers(one="failed", two="ejected")})
    assert data["faults"] == ["site shop has no origin left"]


def test_the_supervisors_list_is_what_is_shown(tmp_path):
    state = {
        "processes": [
            {"name": "supervisor", "pid": 1, "state": "running"},
            {"name": "worker-0", "pid": 2, "state": "running"},
            {"name": "worker-1", "pid": 0, "state": "crash-loop"},
            {"name": "admin", "pid": 3, "state": "running"},
        ],
        "reload": {"at": 1.0, "ok": False, "reason": "tandem.toml:3:1: no"},
    }
    workers = {"worker-0": "no answer within 2 s", "worker-1": "worker-1.sock: refused"}
    data = gather(tmp_path, workers, state=state)
    assert [(one["name"], one["state"]) for one in data["processes"]] == [
        ("supervisor", "running"),
        ("worker-0", "silent"),
        ("worker-1", "crash-loop"),
        ("admin", "running"),
    ]
    assert data["faults"] == [
        "worker-0 is silent",
        "worker-1 is crash-loop",
        "the last reload was refused: tandem.toml:3:1: no",
    ]
    assert [one["answers"] for one in data["workers"]] == [False, False]


def test_trouble_of_a_worker_is_a_fault(tmp_path):
    answer = bus.StatusAnswer({"trouble": ["access.log: lines dropped"]})
    assert gather(tmp_path, {"worker-0": answer})["faults"] == ["worker-0: access.log: lines dropped"]


def test_requests_and_cache_come_from_the_counters(tmp_path):
    slots = metrics.view(bytearray(metrics.REGION))
    block = metrics.layout(["shop"]).blocks["shop"]
    slots[block + metrics.site_offset("tandem_site_requests_total", outcome="hit")] = 3
    slots[metrics.slot("tandem_requests_total", outcome="hit")] = 3
    slots[metrics.slot("tandem_requests_total", outcome="miss")] = 1
    slots[metrics.slot("tandem_store_bytes")] = 4096
    data = gather(tmp_path, {"worker-0": bus.StatusAnswer({})}, slots=slots)
    assert data["sites"][0]["requests"] == {"hit": 3}
    assert data["cache"] == {
        "limit": int(CONFIG.cache.memory),
        "bytes": 4096,
        "entries": 0,
        "memo_entries": 0,
        "hit_ratio": 0.75,
    }


@pytest.mark.parametrize("content", [None, b"", b"[1]", b"{broken"])
def test_a_state_that_cannot_be_read_is_empty(tmp_path, content):
    if content is not None:
        (tmp_path / status.STATE).write_bytes(content)
    assert status.read_state(tmp_path) == {}


def test_the_state_is_read(tmp_path):
    (tmp_path / status.STATE).write_text('{"processes": []}\n')
    assert status.read_state(tmp_path) == {"processes": []}
