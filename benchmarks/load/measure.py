"""One measurement: wrk against one server, the server's CPU time around it, and its bytes checked while it runs.

CPU time is utime + stime of every process that serves (/proc/PID/stat), so that neither the load generator nor the
origin counts. A run with a single wrong status, broken connection or wrong body, or in which the origin was asked more
or less often than the scenario says, is no result: it ends the program.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.load.peers import BODY

if TYPE_CHECKING:
    from benchmarks.load.peers import Server

TICK = os.sysconf("SC_CLK_TCK")
CONNECTIONS = 64
HEADS = 64
# Bytes of a response beyond its body: no server needs more than that for status line and fields.
HEAD_BOUNDS = (60, 1024)

BROWSERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{v}.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{v}.1 Safari/605",
    "Mozilla/5.0 (X11; Linux x86_64; rv:{v}.0) Gecko/20100101 Firefox/{v}.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_{v} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
)
LANGUAGES = ("en-US,en;q=0.9", "de-DE,de;q=0.8,en;q=0.5", "fr-FR,fr;q=0.9,en-US;q=0.8", "ja,en-US;q=0.7,en;q=0.3")


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    title: str
    path: str
    mixed: bool
    cached: bool


SCENARIOS = (
    Scenario("hit-same", "hit, same head", "/hit", mixed=False, cached=True),
    Scenario("hit-mixed", "hit, mixed browser heads", "/hit", mixed=True, cached=True),
    Scenario("pass", "uncacheable pass", "/pass", mixed=False, cached=False),
)


@dataclass(frozen=True, slots=True)
class Sample:
    cpu_us: float  # CPU microseconds of the server per request
    per_second: float
    p50_ms: float
    p99_ms: float
    requests: int
    checked: int  # answers compared byte by byte during the run


def browser_heads() -> list[dict[str, str]]:
    """Heads as browsers send them, all different; half of them with the cookies of an analytics script."""
    heads = []
    for number in range(HEADS):
        head = {
            "User-Agent": BROWSERS[number % len(BROWSERS)].format(v=100 + number // 4),
            "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
            "Accept-Language": LANGUAGES[number // 4 % len(LANGUAGES)],
            "Accept-Encoding": "gzip, deflate, br",
            "Referer": f"http://bench.example/page/{number}",
            "Sec-Fetch-Dest": "document",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Site": "same-origin",
            "Connection": "keep-alive",
        }
        if number % 2:
            head["Cookie"] = f"_ga=GA1.1.{number * 7919}.1700000000; _gid=GA1.1.{number}.1700000000; theme=dark"
        heads.append(head)
    return heads


def write_script(scenario: Scenario, folder: Path) -> Path:
    """The wrk script: which heads are sent, and the summary as one JSON line."""
    heads = browser_heads() if scenario.mixed else [{}]
    lines = ["local requests = {}", "init = function(args)"]
    for number, head in enumerate(heads, 1):
        fields = ", ".join(f"[{json.dumps(name)}] = {json.dumps(value)}" for name, value in head.items())
        lines.append(
            f'  requests[{number}] = wrk.format("GET", "{scenario.path}", {{["Host"] = "bench.example", {fields}}})'
        )
    lines.append("end")
    if scenario.mixed:
        lines += ["local n = 0", f"request = function() n = n % {len(heads)} + 1; return requests[n] end"]
    else:
        lines.append("request = function() return requests[1] end")
    lines.append("""
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT {"requests": %d, "bytes": %d, "us": %d, "errors": %d, "p50": %f, "p99": %f}\\n',
    summary.requests, summary.bytes, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end""")
    script = folder / f"{scenario.name}.lua"
    script.write_text("\n".join(lines))
    return script


def cpu_seconds(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICK


class Checker:
    """Asks for the same resource, slowly, while the load runs, and compares every byte of the body."""

    def __init__(self, server: Server, scenario: Scenario) -> None:
        self.wrong: list[str] = []
        self.checked = 0
        self._server = server
        self._scenario = scenario
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Checker:  # noqa: PYI034 - not made to be subclassed
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        heads = browser_heads() if self._scenario.mixed else [{}]
        connection = HTTPConnection("127.0.0.1", self._server.port, timeout=10)
        try:
            while not self._done.wait(0.02):
                head = {**heads[self.checked % len(heads)], "Host": "bench.example"}
                connection.request("GET", self._scenario.path, headers=head)
                answer = connection.getresponse()
                body = answer.read()
                if (answer.status, body) != (200, BODY):
                    self.wrong.append(f"status {answer.status}, {len(body)} bytes")
                self.checked += 1
        except OSError as error:
            self.wrong.append(repr(error))
        finally:
            connection.close()


def asked(origin: Server) -> int:
    """Requests that the origin has had, its own status page apart."""
    connection = HTTPConnection("127.0.0.1", origin.port, timeout=10)
    try:
        connection.request("GET", "/status")
        # "Active connections: 1 \nserver accepts handled requests\n 1 1 1 \n..."
        return int(connection.getresponse().read().split(b"\n")[2].split()[2])
    finally:
        connection.close()


def measure(server: Server, origin: Server, scenario: Scenario, script: Path, seconds: float, core: int) -> Sample:
    """One run; SystemExit if an answer was wrong."""
    url = f"http://127.0.0.1:{server.port}/"  # whom to ask; the script says for what
    command = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "-s", str(script), url]
    pids = server.pids()
    with Checker(server, scenario) as checker:
        asked_before = asked(origin)
        before = cpu_seconds(pids)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        used = cpu_seconds(pids) - before
    summary = json.loads(done.stdout.split("RESULT ", 1)[1].splitlines()[0])
    _check(server, scenario, summary, checker)
    _check_origin(server, scenario, summary["requests"], asked(origin) - asked_before - 1)
    return Sample(
        cpu_us=round(used * 1e6 / (summary["requests"] + checker.checked), 2),
        per_second=round(summary["requests"] * 1e6 / summary["us"]),
        p50_ms=round(summary["p50"] / 1000, 3),
        p99_ms=round(summary["p99"] / 1000, 3),
        requests=summary["requests"],
        checked=checker.checked,
    )


def _check(server: Server, scenario: Scenario, summary: dict[str, float], checker: Checker) -> None:
    where = f"{server.name}, {scenario.title}"
    if checker.wrong or not checker.checked:
        raise SystemExit(f"{where}: wrong answers: {checker.wrong[:3]}")
    if summary["errors"]:
        raise SystemExit(f"{where}: {summary['errors']} errors")
    extra = summary["bytes"] / summary["requests"] - len(BODY)
    if not HEAD_BOUNDS[0] <= extra <= HEAD_BOUNDS[1]:
        raise SystemExit(f"{where}: {extra:.0f} bytes a response beside the body")


def _check_origin(server: Server, scenario: Scenario, answered: int, forwarded: int) -> None:
    right = forwarded <= answered / 100 if scenario.cached else forwarded >= answered
    if not right:
        raise SystemExit(f"{server.name}, {scenario.title}: {answered} answers, {forwarded} requests at the origin")
