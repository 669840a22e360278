"""`tandem status` and `tandem purge`: questions to a running instance over `admin.sock`, for people or programs.

Exit status: 0 fine, 1 something is faulty or nothing runs, 2 wrong usage. Imports are light: a command starts fast.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from proxy.console import escape
from proxy.runtime import ADMIN_SOCKET, choose_folder, routers_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Plain = dict[str, Any]

FINE: Final = 0
FAULTY: Final = 1
USAGE: Final = 2
TIMEOUT: Final = 15.0  # seconds; above what admin itself waits for a silent worker
SWEEPING: Final = 75.0  # the same where it may look at all that is stored
# An address is sent as it was typed, but for blanks and what is not ASCII, which are percent-encoded (RFC 3986 §2.1).
_AS_TYPED: Final = "%!#$&'()*+,/:;=?@[]~\"<>\\^`{|}"


PURGE_EXAMPLES: Final = """\
examples:
  tandem purge https://shop.example.org/a?x=1            one address
  tandem purge --prefix https://shop.example.org/news/   all below it
  tandem purge --tag article-17                          what the origin tagged so
  tandem purge --match 'shop.example.org/images/*.png'   a glob of the path; `*` is any text. With a `?` in it, of
                                                         path and query
  tandem purge --match '*.example.org~^/[a-z]{2}/news$'  a regular expression, looked for in path and query
  tandem purge --match '/robots.txt' --dry-run           on every host; only count
  tandem purge --all --site shop --hard                  all of one site, removed at once

`*.example.org` is every name below it. Regular expressions have no look-around and no back references: each is
matched in time linear in the address. Exit status: 0 applied on all workers, 1 not on all, 2 faulty words.
"""


class CommandError(Exception):
    """One line for people, and the exit status."""

    def __init__(self, text: str, status: int = FAULTY) -> None:
        super().__init__(text)
        self.status = status


def add_arguments(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `status` and `purge`; each sets `run` to the function that takes the arguments and gives the exit status."""
    tell = subparsers.add_parser(
        "status",
        help="show processes, sites, origins and cache of a running instance",
        description="Show processes, sites with their origins, and the cache of a running instance.",
        epilog="example: tandem status; of one that runs beside others: tandem status --runtime DIR, as it was started",
    )
    add_common(tell)
    tell.set_defaults(run=status)

    clear = subparsers.add_parser(
        "purge",
        help="purge stored responses",
        description="Purge stored responses, on all workers before this command ends. They stay, to be validated "
        "before their next use (an object that has not changed then costs no body), unless --hard is given.",
        epilog=PURGE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = clear.add_mutually_exclusive_group(required=True)
    what.add_argument("url", nargs="?", metavar="URL", help="the responses stored for this address, all variants")
    what.add_argument("--prefix", metavar="URL", help="all whose address begins with this")
    what.add_argument("--tag", metavar="TAG", help="all with this tag: Cache-Tag, Surrogate-Key, xkey, Cache-Groups")
    what.add_argument("--match", metavar="PATTERN", help="HOST/GLOB or HOST~REGEX; without HOST: every host")
    what.add_argument("--all", action="store_true", help="everything that is stored")
    clear.add_argument("--site", metavar="NAME", default="", help="of these, only what this site's names reach")
    clear.add_argument("--hard", action="store_true", help="remove instead of validating before the next use")
    clear.add_argument("--dry-run", action="store_true", help="only count what would be purged")
    add_common(clear)
    clear.set_defaults(run=purge)


def add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the whole answer, for programs")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--runtime", metavar="DIR", help="runtime folder of the instance")
    where.add_argument("--socket", metavar="PATH", help="its admin socket")


# ---- asking ----------------------------------------------------------------------------------------------------------


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, limit: float) -> None:
        super().__init__("localhost", timeout=limit)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def socket_path(args: argparse.Namespace) -> Path:
    if args.socket:
        return Path(args.socket)
    return choose_folder(args.runtime, os.environ, os.geteuid()) / ADMIN_SOCKET


def ask(path: Path, method: str, target: str, body: Plain | None = None, limit: float = TIMEOUT) -> tuple[int, Plain]:
    """Status (200 or 504) and JSON answer of the instance behind this socket. Raises CommandError for all else."""
    connection = _UnixConnection(path, limit)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, target, data, {} if data is None else {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (FileNotFoundError, ConnectionRefusedError) as problem:
        raise CommandError(
            f"no tandem runs behind {path}; start one by `tandem run -c FILE`, or say where it is: --runtime DIR"
        ) from problem
    except PermissionError as problem:
        raise CommandError(f"{path}: permission denied; be root, or a member of the socket's group") from problem
    except TimeoutError as problem:
        raise CommandError(f"{path}: no answer within {limit:g} s") from problem
    except (OSError, http.client.HTTPException, ValueError) as problem:
        raise CommandError(f"{path}: {problem or type(problem).__name__}") from problem
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise CommandError(f"{path}: not the answer of a tandem")
    if response.status not in {200, 504}:
        reason = str(answer.get("error", f"status {response.status}"))
        raise CommandError(reason, USAGE if response.status == 400 else FAULTY)
    return response.status, answer


def say_fault(problem: CommandError) -> int:
    sys.stderr.write(f"tandem: {escape(str(problem))}\n")
    return problem.status


def show(answer: Plain, lines: Iterable[str], *, as_json: bool) -> None:
    text = json.dumps(answer, indent=2) if as_json else "\n".join(map(escape, lines))
    sys.stdout.write(text + "\n")


# ---- status ----------------------------------------------------------------------------------------------------------


def status(args: argparse.Namespace) -> int:
    """1 if something is faulty."""
    try:
        _, answer = ask(socket_path(args), "GET", "/v1/status")
    except CommandError as problem:
        return say_fault(problem)
    routers = routers_of(socket_path(args).parent)
    if routers:
        answer["ha"] = {"routers": routers}
    show(answer, describe(answer), as_json=args.json)
    return FAULTY if answer["faults"] else FINE


def describe(answer: Plain) -> list[str]:
    """The status as lines for people."""
    lines = [f"tandem {answer['version']}, configuration {answer['generation']} ({answer['digest'][:12]})", ""]
    lines += table(
        ("PROCESS", "PID", "STATE"),
        [(one.get("name"), one.get("pid") or "-", _state(one)) for one in answer["processes"]],
    )
    for site in answer["sites"]:
        requests = ", ".join(f"{count} {outcome}" for outcome, count in site["requests"].items()) or "no requests yet"
        lines += ["", f"site {site['name']} on {' '.join(site['listen'])}: {requests}"]
        rows = [(f"  {up['address']}", up.get("route", ""), _state(up), _check(up)) for up in site["upstreams"]]
        lines += table(("  ORIGIN", "ROUTE", "STATE", "CHECK"), rows) if rows else []
    if "forward" in answer:
        forward = answer["forward"]
        requests = ", ".join(f"{count} {outcome}" for outcome, count in forward["requests"].items())
        served = " ".join(forward["clients"]) or "nobody"
        lines += ["", f"forward on {' '.join(forward['listen'])} for {served}: {requests or 'no requests yet'}"]
    routers = answer.get("ha", {}).get("routers", [])
    lines += (
        ["", *(f"vip {' '.join(one['vips'])}: {one['state']} ({one['why']})" for one in routers)] if routers else []
    )
    lines += ["", _cache_line(answer["cache"])]
    lines += ["", *(f"! {fault}" for fault in answer["faults"])] if answer["faults"] else ["all is well"]
    return lines


def _state(one: Plain) -> str:
    return f"{one.get('state')} ({one['why']})" if one.get("why") else str(one.get("state"))


def _check(upstream: Plain) -> str:
    return str(upstream.get("check") or "-")


def _cache_line(cache: Plain) -> str:
    ratio = "" if cache["hit_ratio"] is None else f", {cache['hit_ratio']:.1%} hits"
    return f"cache {size(cache['bytes'])} of {size(cache['limit'])}, {_responses(cache['entries'])}{ratio}"


def _responses(count: int) -> str:
    return "1 stored response" if count == 1 else f"{count} stored responses"


def size(count: float) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1024:
            return f"{count:.0f}{unit}" if unit == "B" else f"{count:.1f}{unit}"
        count /= 1024
    return f"{count:.1f}GB"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Columns as wide as their widest cell."""
    cells = [tuple(map(str, row)) for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


# ---- purge -----------------------------------------------------------------------------------------------------------


def purge(args: argparse.Namespace) -> int:
    """1 if a living worker did not apply it, 2 if what to purge was no address."""
    wanted: Plain = {"hard": args.hard, "dry_run": args.dry_run}
    if args.site:
        wanted["site"] = args.site
    if args.all:
        wanted["all"] = True
    elif args.tag is not None or args.match is not None:
        wanted["tag" if args.match is None else "match"] = args.tag if args.match is None else args.match
    else:
        wanted["url" if args.prefix is None else "prefix"] = as_typed(args.prefix or args.url or "")
    try:
        code, answer = ask(socket_path(args), "POST", "/v1/purge", wanted, limit=SWEEPING)
    except CommandError as problem:
        return say_fault(problem)
    show(answer, describe_purge(answer), as_json=args.json)
    return FINE if code == 200 else FAULTY


def as_typed(url: str) -> str:
    """The address as it travels: blanks and what is not ASCII are percent-encoded."""
    return quote(url, safe=_AS_TYPED)


def describe_purge(answer: Plain) -> list[str]:
    verb = "would purge" if answer["dry_run"] else "purged"
    workers = answer["workers"]
    lines = [f"{verb} {_responses(answer['purged'])}; applied on {answer['applied']}/{len(workers)} workers"]
    return lines + [f"! {one['name']}: {one['note']}" for one in workers if one["purged"] is None]
