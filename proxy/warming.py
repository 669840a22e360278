"""`tandem cache warm`: addresses fetched through the proxy itself, a few at once, until every worker stores them.

The listener is what `explain` names. Workers have a store each and the kernel chooses one per connection, so an address
is asked for on new connections until all have it, or its answer shows that it is not stored.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

from proxy import commands
from proxy.commands import FAULTY, FINE, USAGE, CommandError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

PATIENCE: Final = 60.0  # seconds for one answer
TRIES: Final = 12  # connections for each worker


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="FILE|URL", nargs="+", help="addresses, or files with one a line; - is stdin")
    parser.add_argument("--at-once", metavar="N", type=int, default=8, help="fetches at a time (8, at most 64)")
    commands.add_common(parser)
    parser.set_defaults(run=warm)


def warm(args: argparse.Namespace) -> int:
    """1 if one could not be fetched, 2 if a file cannot be read."""
    try:
        urls = list(dict.fromkeys(_addresses(args.what)))
    except OSError as problem:
        return commands.say_fault(CommandError(f"{problem.filename}: {problem.strerror}", USAGE))
    results: dict[str, str] = {}
    with ThreadPoolExecutor(max(1, min(args.at_once, 64))) as pool:
        for url, result in zip(urls, pool.map(lambda url: _warm_one(args, url), urls), strict=True):
            results[url] = result
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{len(results)}/{len(urls)}")
    if sys.stderr.isatty() and urls:
        sys.stderr.write("\n")
    bad = {url: result for url, result in results.items() if result not in {"stored", "here already"}}
    good = len(results) - len(bad)
    lines = [f"{good} of {len(results)} stored in every worker", *(f"! {url}: {why}" for url, why in bad.items())]
    commands.show({"results": results}, lines, as_json=args.json)
    return FAULTY if bad else FINE


def _addresses(given: Iterable[str]) -> Iterable[str]:
    for one in given:
        if one.startswith(("http://", "https://")):
            yield commands.as_typed(one)
        else:
            text = sys.stdin.read() if one == "-" else Path(one).read_text()
            yield from (commands.as_typed(line.strip()) for line in text.splitlines() if line.strip())


def _warm_one(args: argparse.Namespace, url: str) -> str:
    result, tries = "here already", 1
    try:
        while tries > 0:
            workers = _explain(args, url)
            if all(one["outcome"] == "hit" for one in workers):
                return result
            tries = TRIES * len(workers) if result == "here already" else tries - 1
            status, told = _fetch(url, workers[0]["listener"])
            if not any(word in told.split("; ") for word in ("hit", "stored", "collapsed", "fwd-status=304")):
                return f"not stored: {status}, {told or 'not answered by the cache'}"
            result = "stored"
    except (CommandError, OSError, http.client.HTTPException) as problem:
        return str(problem) or type(problem).__name__
    return "not in every worker"


def _explain(args: argparse.Namespace, url: str) -> list[dict[str, Any]]:
    _, answer = commands.ask(commands.socket_path(args), "GET", f"/v1/explain?{urlencode([('url', url)])}")
    return list(answer["workers"])


def _fetch(url: str, listener: str) -> tuple[int, str]:
    """Status and Cache-Status of one GET on a connection of its own."""
    parts = urlsplit(url)
    host, _, port = listener.rpartition(":")
    local = "127.0.0.1" if host in {"", "0.0.0.0"} else "::1" if host in {"::", "[::]"} else host.strip("[]")  # noqa: S104 - told apart, not bound
    connection = http.client.HTTPConnection(local, int(port), timeout=PATIENCE)
    connection.sock = socket.create_connection((local, int(port)), PATIENCE)
    if parts.scheme == "https":
        context = ssl._create_unverified_context()  # noqa: S323, SLF001 - it is our own listener, asked by address
        connection.sock = context.wrap_socket(connection.sock, server_hostname=parts.hostname)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.putrequest("GET", target, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", parts.netloc)
        connection.endheaders()
        answer = connection.getresponse()
        while answer.read(2**16):
            pass
        return answer.status, answer.headers.get("Cache-Status", "")
    finally:
        connection.close()
