"""`python -m benchmarks.gateway`: a gateway's proxy beside Squid's intercept mode, and HTTPS that is passed beside our
own forward tunnel; in network namespaces, as root.

Each proxy has a yard of its own (client, gateway, internet) and core 0; clients and origins share core 1. Rounds are
interleaved; the median counts. Counted is the CPU time of the proxy's processes alone: what the kernel does for the
path through the gateway it does for both.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from email.utils import formatdate
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.facts import ROOT, machine
from benchmarks.load.measure import cpu_seconds
from benchmarks.load.peers import Setting as Place
from benchmarks.load.peers import descendants, environment, python_command
from tests.kit.netns import wait_until
from tests.kit.origin import response
from tests.kit.yard import CLIENT, GATEWAY, ORIGIN, make_yard, origin_at, serve_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.yard import Yard

RESULTS = ROOT / "benchmarks/results"
NAME = "bench.example"
BODY = b"0123456789abcdef" * 64
WANTED = "cached HTTP: half of Squid's CPU per request or less; passed HTTPS: at most 1.1 of our tunnel's CPU per byte"
CONNECTIONS = 64
TRANSPARENT, FORWARD = "passed", "tunnel"

TANDEM = f"""
[transparent]
interface = "lan0"
clients = ["{CLIENT}/32"]
method = "METHOD"
https = "splice"
[forward]
listen = ":3128"
clients = ["{CLIENT}/32"]
[dns]
servers = ["{ORIGIN}:53"]
[cache]
memory = "64MB"
"""

SQUID = f"""
http_port 3128
http_port 3129 intercept
dns_nameservers {ORIGIN}
visible_hostname gateway
http_access allow all
cache_mem 64 MB
maximum_object_size_in_memory 512 KB
access_log none
cache_log FOLDER/cache.log
cache_store_log none
pid_filename FOLDER/squid.pid
coredump_dir FOLDER
pinger_enable off
max_filedescriptors 4096
shutdown_lifetime 0 seconds
"""
SQUID_RULES = """
table ip squid {
  chain intercept {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "lan0" tcp dport 80 redirect to :3129
  }
}
"""


class Gateway:
    """A proxy that runs on the gateway of a yard of its own."""

    def __init__(self, name: str, yard: Yard, process: subprocess.Popen[bytes], tunnelled: int) -> None:
        self.name = name
        self.yard = yard
        self.process = process
        self.tunnelled = tunnelled  # port of the origin of bytes

    def pids(self) -> list[int]:
        return descendants([self.process.pid])

    def head(self) -> str:
        """Of a cached page, as a client of the gateway gets it."""
        address = f"{NAME}:80:{ORIGIN}"
        url = f"http://{NAME}/page"
        return self.yard.client.run("curl", "-sSi", "-m", "5", "--resolve", address, url, check=False).lower()


def main() -> int:
    options = parse_arguments()
    samples: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        gateways = [stack.enter_context(run_gateway(name, options)) for name in ("redirect", "tproxy", "squid")]
        for number in range(options.rounds):
            for gateway in gateways:
                add(samples, f"http {gateway.name}", measure_http(gateway, options), number)
            for gateway in gateways[:2]:
                for way in (TRANSPARENT, FORWARD):
                    add(samples, f"https {gateway.name} {way}", measure_bytes(gateway, way, options), number)
    rows = compare(samples)
    print("\n".join(rows))
    if not options.no_save:
        print(f"\nsaved: {save(samples, rows, options).relative_to(ROOT)}")
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description="A gateway, side by side.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5, help="of cached HTTP in one run")
    parser.add_argument("--gigabytes", type=float, default=2, help="of HTTPS in one run")
    parser.add_argument("--cores", default="0,1", help="core of the proxies, core of clients and origins")
    parser.add_argument("--no-save", action="store_true", help="print only, keep no file in benchmarks/results")
    options = parser.parse_args()
    options.server_core, options.ends_core = options.cores.split(",")
    return options


def add(samples: dict[str, list[float]], row: str, value: float, number: int) -> None:
    samples.setdefault(row, []).append(value)
    print(f"round {number + 1} {row:24} {value:.3f}", file=sys.stderr)


# ---- what runs -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def run_gateway(name: str, options: argparse.Namespace) -> Iterator[Gateway]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tandem-bench-")))
        folder.chmod(0o777)  # Squid gives up root's rights
        yard = stack.enter_context(make_yard())
        origin = origin_at(yard)
        stack.callback(origin.stop)
        date = f"Date: {formatdate(usegmt=True)}"  # without it Squid asks again each time
        origin.otherwise(response(BODY, date, "Cache-Control: max-age=36000"))
        stack.enter_context(serve_names(yard, {NAME: [ORIGIN]}))
        ends = [*on_core(options.ends_core), sys.executable, "-m", "benchmarks.tunnel.ends", "origin"]
        tunnelled = yard.internet.popen(
            [*ends, "--listen", f"{ORIGIN}:443"], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        stack.callback(tunnelled.kill)
        port = int(tunnelled.stdout.readline())
        conf = folder / "conf"
        if name == "squid":
            conf.write_text(SQUID.replace("FOLDER", str(folder)))
            yard.gateway.run("nft", "-f", "-", input=SQUID_RULES)
            command = ["squid", "-N", "-f", str(conf)]
        else:
            conf.write_text(TANDEM.replace("METHOD", name))
            command = python_command(Place(folder, 0, 0, None), conf)
        out = stack.enter_context((folder / "output").open("wb"))
        process = yard.gateway.popen(
            [*on_core(options.server_core), *command], stdout=out, stderr=out, env=environment()
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        gateway = Gateway(name, yard, process, port)
        wait_until(lambda: is_cached(gateway.head()), 30)
        yield gateway


def on_core(core: str) -> list[str]:
    return ["taskset", "-c", core]


def is_cached(head: str) -> bool:
    return "; hit" in head or "x-cache: hit" in head


# ---- what is measured ------------------------------------------------------------------------------------------------


def measure_http(gateway: Gateway, options: argparse.Namespace) -> float:
    """Microseconds of CPU per cached request. SystemExit if an answer was wrong, or came from elsewhere."""
    command = [*on_core(options.ends_core), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{options.seconds:g}s"]
    command += ["-H", f"Host: {NAME}", f"http://{ORIGIN}/page"]
    pids = gateway.pids()
    before = cpu_seconds(pids)
    said = gateway.yard.client.run(*command)
    used = cpu_seconds(pids) - before
    if "Non-2xx" in said or "Socket errors" in said or not is_cached(gateway.head()):
        raise SystemExit(f"{gateway.name}: {said}")
    found = re.search(r"(\d+) requests in", said)
    assert found is not None
    return used * 1e6 / int(found[1])


def measure_bytes(gateway: Gateway, way: str, options: argparse.Namespace) -> float:
    """Seconds of CPU per gigabyte, every byte compared. The origin's port is HTTPS's; the bytes are anybody's."""
    to = f"{ORIGIN}:{gateway.tunnelled}"
    ends = [sys.executable, "-m", "benchmarks.tunnel.ends", "bulk", "--bytes", str(int(options.gigabytes * 1e9))]
    host, port = to.split(":") if way == TRANSPARENT else (GATEWAY, "3128")
    asked = [] if way == TRANSPARENT else ["--connect", to]
    pids = gateway.pids()
    before = cpu_seconds(pids)
    command = [*on_core(options.ends_core), *ends, "--host", host, "--port", port, *asked]
    told = json.loads(gateway.yard.client.run(*command, cwd=ROOT))
    used = cpu_seconds(pids) - before
    return used * 1e9 / float(told["bytes"])


# ---- what is told ----------------------------------------------------------------------------------------------------


def compare(samples: dict[str, list[float]]) -> list[str]:
    rows = ["| | median | spread | beside |", "|---|---|---|---|"]
    for row, values in samples.items():
        unit = "µs/request" if row.startswith("http ") else "CPU s/GB"
        other = "http squid" if row.startswith("http ") else row.rpartition(" ")[0] + f" {FORWARD}"
        beside = "" if other == row else f"{median(values) / median(samples[other]):.2f} of {other}"
        rows.append(f"| {row} | {median(values):.3f} {unit} | {min(values):.3f}-{max(values):.3f} | {beside} |")
    return rows


def save(samples: dict[str, list[float]], rows: list[str], options: argparse.Namespace) -> Path:
    squid = subprocess.run(["squid", "-v"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    facts = {
        **machine(),
        "cpus": os.cpu_count(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "gigabytes": options.gigabytes,
        "squid": squid,
        "wanted": WANTED,
    }
    file = RESULTS / f"gateway-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json"
    rounded = {row: [round(value, 4) for value in values] for row, values in samples.items()}
    file.write_text(json.dumps({"facts": facts, "table": rows, "runs": rounded}, indent=1) + "\n")
    return file


if __name__ == "__main__":
    sys.exit(main())
