"""What operators see: access logs and their rotation, metrics, status, purge; every exchange ends in each of them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.kit import origin as answers
from tests.kit import raw
from tests.kit.proxy import command_line, environment, free_ports, reverse, run_command
from tests.kit.raw import wait_until

pytestmark = pytest.mark.slow

LOGS = """
[log]
access = [
  { file = "json.log", format = "json" },
  { file = "combined.log", format = "combined" },
  { file = "common.log", format = "common" },
  { file = "squid.log", format = "squid" },
]
"""
COMBINED = re.compile(
    r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /page HTTP/1\.1" 200 5 "-" "agent"'
)
COMMON = re.compile(r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /page HTTP/1\.1" 200 5')
SQUID = re.compile(r"\d+\.\d{3} +\d+ 127\.0\.0\.1 TCP_\w+/200 \d+ GET http://test\.example/page - \w+/\S+ \S+")


@pytest.fixture
def proxy(start, origin, monkeypatch):
    monkeypatch.delenv("LOGS_DIRECTORY", raising=False)
    return start(reverse(origin.address, rest=LOGS))


def lines(proxy, name, count):
    """The lines of a log, once there are that many."""
    file = proxy.folder / name
    wait_until(lambda: file.exists() and file.read_bytes().count(b"\n") >= count, what=f"{count} lines in {name}")
    return file.read_text().splitlines()


def is_serving(at):
    try:
        return raw.get(at).status == 200
    except (raw.Broken, OSError):
        return False


def cacheable(body=b"hello"):
    return answers.response(body, "Cache-Control: max-age=600")


def test_each_format_tells_the_same_exchange(proxy):
    assert raw.get(proxy.at, "/page", "User-Agent: agent").body == b"hello"
    assert COMBINED.fullmatch(lines(proxy, "combined.log", 1)[0])
    assert COMMON.fullmatch(lines(proxy, "common.log", 1)[0])
    assert SQUID.fullmatch(lines(proxy, "squid.log", 1)[0])
    entry = json.loads(lines(proxy, "json.log", 1)[0])
    assert entry["status"] == 200


def test_every_exchange_has_one_line_errors_and_hits_too(proxy, origin):
    origin.on("/hit", cacheable())
    for target in ("/hit", "/hit", "/hit", "/miss"):
        raw.get(proxy.at, target)
    raw.ask(proxy.at, b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n")
    origin.then(answers.Close())
    raw.ask(proxy.at, raw.request("POST", "/gone", body=b"x"))
    found = [json.loads(line) for line in lines(proxy, "json.log", 6)]
    assert len(found) == 6
    assert [entry["status"] for entry in found] == [200, 200, 200, 200, 400, 502]
    assert [entry["outcome"] for entry in found][:4] == ["miss", "hit", "hit", "miss"]


def test_no_line_can_be_forged_or_steer_a_terminal(proxy):
    raw.get(proxy.at, "/x", 'User-Agent: a" 200 0 "b \xe9 \\', "Referer: \t\xff\x80")
    for name in ("combined.log", "common.log", "squid.log", "json.log"):
        (line,) = lines(proxy, name, 1)
        assert all(0x20 <= ord(character) <= 0x7E for character in line), name
    assert lines(proxy, "combined.log", 1)[0].count('"') == 6


def test_session_ids_and_credentials_are_in_no_log(proxy):
    raw.get(
        proxy.at,
        "/x;jsessionid=SECRET1.t1?jsessionid=SECRET2",
        "Cookie: JSESSIONID=SECRET3",
        "Authorization: Basic SECRET4",
    )
    for name in ("combined.log", "common.log", "squid.log", "json.log"):
        assert "SECRET" not in "".join(lines(proxy, name, 1)), name
    assert "SECRET" not in proxy.output


def test_sigusr1_begins_new_files_and_no_line_is_lost(proxy):
    for _ in range(20):
        raw.get(proxy.at)
    lines(proxy, "combined.log", 20)
    for name in ("json.log", "combined.log", "common.log", "squid.log"):
        (proxy.folder / name).rename(proxy.folder / f"{name}.1")
    proxy.process.send_signal(signal.SIGUSR1)
    wait_until((proxy.folder / "combined.log").exists, what="a new file")
    for _ in range(20):
        raw.get(proxy.at)
    assert len(lines(proxy, "combined.log", 20)) + len(lines(proxy, "combined.log.1", 20)) == 40


def test_lines_under_load_are_as_many_as_answers(proxy, origin):
    origin.on("/hit", cacheable())

    def client(_):
        with raw.Connection(proxy.at) as connection:
            for number in range(100):
                connection.send(raw.request(target="/hit" if number % 2 else f"/miss/{number}"))
                assert connection.read_response().status == 200

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(client, range(8)))
    assert len(lines(proxy, "json.log", 800)) == 800
    assert proxy.stop() == 0
    assert len(lines(proxy, "combined.log", 800)) == 800


def test_lines_are_written_before_a_stop_ends(proxy):
    for _ in range(10):
        raw.get(proxy.at)
    assert proxy.stop() == 0
    assert len((proxy.folder / "combined.log").read_text().splitlines()) == 10


def test_a_log_that_cannot_be_written_stops_no_traffic(start, origin):
    proxy = start(reverse(origin.address, rest='[log]\naccess = { file = "/dev/full", format = "common" }'))
    for _ in range(50):
        assert raw.get(proxy.at).status == 200
    wait_until(lambda: proxy.metric("tandem_log_dropped_total") > 0, what="dropped lines counted")


# ---- metrics, status -------------------------------------------------------------------------------------------------


def test_metrics_are_prometheus_text_and_count_what_was_sent(proxy, origin):
    origin.on("/hit", cacheable(b"x" * 1000))
    for target in ("/hit", "/hit", "/hit", "/miss"):
        raw.get(proxy.at, target)
    raw.ask(proxy.at, raw.request("POST", "/up", body=b"y" * 300))

    def counted():
        samples = proxy.metrics()
        return sum(value for name, value in samples.items() if name.startswith("tandem_requests_total")) >= 5

    wait_until(counted, what="five requests counted")
    samples = proxy.metrics()
    assert samples['tandem_requests_total{outcome="hit"}'] == 2
    assert samples["tandem_response_bytes_total"] == 3 * 1000 + 5 + 5
    assert samples["tandem_request_bytes_total"] == 300
    assert samples['tandem_responses_total{status="2xx"}'] == 5
    wait_until(lambda: proxy.metric("tandem_store_entries") == 1, what="one stored response shown")
    assert proxy.metric("tandem_store_bytes") >= 1000
    _, text = proxy.ask_admin("/metrics")
    families = list(text_string_to_metric_families(text.decode()))
    assert len(families) > 20
    assert all(family.documentation for family in families)


def test_counters_survive_the_death_of_a_worker(proxy, origin):
    for _ in range(3):
        raw.get(proxy.at)
    total = 'tandem_responses_total{status="2xx"}'
    wait_until(lambda: proxy.metric(total) == 3, what="three answers counted")
    before = proxy.pid("worker-0")
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: is_serving(proxy.at), 20, "the worker back")
    wait_until(lambda: proxy.metric(total) >= 4, what="counters that go on")


def test_status_names_every_process_and_its_pid(proxy):
    found = {entry["name"]: entry for entry in proxy.status()["processes"]}
    assert {"supervisor", "worker-0", "admin"} <= set(found)
    assert found["supervisor"]["pid"] == proxy.process.pid
    assert {int(str(entry["pid"])) for entry in found.values()} <= set(proxy.all_pids())


def test_status_for_people_names_site_and_origin(proxy, origin):
    done = proxy.command("status")
    assert done.returncode == 0
    assert origin.address in done.stdout
    assert "worker-0" in done.stdout


def test_a_purge_of_an_address_asks_the_origin_again(proxy, origin):
    origin.otherwise(by=lambda received: [cacheable(received.raw_head[:3] + b"%d" % len(origin.requests))])
    at = f"{proxy.host}:{proxy.ports[0]}"
    assert [raw.get(proxy.at, "/p", host=at).body for _ in range(2)] == [b"GET1", b"GET1"]
    done = proxy.command("purge", f"{proxy.url}/p")
    assert done.returncode == 0, done.stderr
    assert raw.get(proxy.at, "/p", host=at).body == b"GET2"


def test_cache_status_says_what_happened(proxy, origin):
    origin.on("/c", cacheable())
    first, second = (raw.get(proxy.at, "/c") for _ in range(2))
    assert "fwd=uri-miss" in first.get("cache-status")
    assert "hit" in second.get("cache-status")
    assert int(second.get("age")) >= 0
    assert second.get("via")


# ---- the command line ------------------------------------------------------------------------------------------------


def test_check_tells_all_faults_at_once_with_their_places(tmp_path):
    file = tmp_path / "bad.toml"
    file.write_text('[[site]]\nlisten = ":99999"\nupstreem = ["a"]\n\n[cache]\nmemory = "many"\n')
    done = run_command("check", "-c", str(file))
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "bad.toml:2" in said
    assert "bad.toml:3" in said
    assert "upstream" in said, "the nearest right name"
    assert "bad.toml:6" in said


def test_a_second_start_on_a_busy_port_is_one_clear_line(start, origin, tmp_path):
    proxy = start(reverse(origin.address))
    file = tmp_path / "second.toml"
    file.write_text(proxy.file.read_text())
    done = run_command("run", "-c", str(file), "--runtime", str(tmp_path / "second"))
    assert done.returncode == 1
    said = [line for line in (done.stdout + done.stderr).splitlines() if str(proxy.ports[0]) in line]
    assert len(said) == 1
    assert "Traceback" not in done.stderr


def test_tandem_reverse_serves_an_origin_without_a_file(origin, tmp_path):
    (port,) = free_ports(1)
    arguments = ["reverse", f"127.0.0.1:{port}", f"http://{origin.address}"]
    process = subprocess.Popen(
        command_line(*arguments), cwd=tmp_path, env={**environment(), "RUNTIME_DIRECTORY": str(tmp_path / "run")},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: is_serving(("127.0.0.1", port)), 30, "the proxy of `tandem reverse`")
    finally:
        process.terminate()
        assert process.wait(30) == 0
    assert origin.requests
