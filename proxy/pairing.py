"""`tandem ha`: who holds the addresses and why, moving them by hand, what a crash left behind, and the shared secret.

Questions go to `ha.sock` in the instance's runtime folder (ha/control.py). `release` works without an instance, and is
refused while one lives there. Exit status: 0 fine, 1 something is faulty or nothing runs, 2 wrong usage.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from proxy import rights
from proxy.console import escape
from proxy.runtime import choose_folder, is_held

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    Plain = dict[str, Any]

FINE: Final = 0
FAULTY: Final = 1
SOCKET: Final = "ha.sock"
TIMEOUT: Final = 40.0  # seconds; a drill takes a few


class PairError(Exception):
    """One line for people."""


def add_arguments(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `ha` with its own commands."""
    pair = subparsers.add_parser(
        "ha",
        help="the pair: state, handover, drill, leftovers, secret",
        description="The virtual addresses of a pair of nodes ([ha] in the configuration).",
    )
    commands = pair.add_subparsers(metavar="COMMAND", required=True)

    show = commands.add_parser("status", help="who holds the addresses, and why")
    _common(show)
    show.set_defaults(run=status)

    move = commands.add_parser(
        "handover",
        help="move the addresses to the other node",
        description="Move the addresses to the other node, at an instant without requests in flight if one comes "
        "within 250 ms. Asked of a node that does not hold them, it gets them.",
    )
    move.add_argument("--to", metavar="NODE", default="", help="to this node; else the best of the others")
    _common(move)
    move.set_defaults(run=handover)

    test = commands.add_parser(
        "drill",
        help="move the addresses there and back, and show how long each took",
        description="Move the addresses to the other node and back, as a test. Ask the one that holds them.",
    )
    test.add_argument("--seconds", type=float, default=2.0, metavar="N", help="stay there for so long (2)")
    _common(test)
    test.set_defaults(run=drill)

    clear = commands.add_parser(
        "release",
        help="remove the addresses and settings that a dead instance left",
        description="Remove what an instance that died has left: addresses, macvlans, kernel settings. Harmless when "
        "there is nothing; refused while the instance lives.",
    )
    clear.add_argument("--runtime", metavar="DIR", help="runtime folder of the instance")
    clear.set_defaults(run=release)

    make = commands.add_parser(
        "key",
        help="print a new secret for the peer link",
        description="Print a new secret for the peer link. Put the same one on both nodes, readable by root alone.",
        epilog="example: (umask 077; tandem ha key > /etc/tandem/ha.key)",
    )
    make.set_defaults(run=key)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the whole answer, for programs")
    parser.add_argument("--runtime", metavar="DIR", help="runtime folder of the instance")


# ---- asking ----------------------------------------------------------------------------------------------------------


def ask(folder: Path, question: Plain) -> Plain:
    """The answer of `ha`. Raises PairError."""
    path = folder / SOCKET
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(TIMEOUT)
            sock.connect(str(path))
            sock.sendall(json.dumps(question).encode() + b"\n")
            answer = json.loads(sock.makefile().read())
    except (FileNotFoundError, ConnectionRefusedError) as exc:
        raise PairError(f"no instance with [ha] runs in {folder}; say where it is: --runtime DIR") from exc
    except PermissionError as exc:
        raise PairError(f"{path}: permission denied; be root, or the user of the instance") from exc
    except (OSError, ValueError) as exc:
        raise PairError(f"{path}: {exc or type(exc).__name__}") from exc
    if not isinstance(answer, dict):
        raise PairError(f"{path}: not the answer of ha")
    return answer


def _ask(args: argparse.Namespace, **question: object) -> Plain | None:
    """The answer, or None after a line that says why there is none."""
    try:
        return ask(choose_folder(args.runtime, os.environ, os.geteuid()), question)
    except PairError as exc:
        sys.stderr.write(f"tandem: {escape(str(exc))}\n")
        return None


def _show(answer: Plain, lines: Iterable[str], *, as_json: bool) -> None:
    text = json.dumps(answer, indent=2) if as_json else "\n".join(map(escape, lines))
    sys.stdout.write(text + "\n")


# ---- commands --------------------------------------------------------------------------------------------------------


def status(args: argparse.Namespace) -> int:
    """1 if a router is in no state to take over, or the link is down."""
    answer = _ask(args, command="status")
    if answer is None:
        return FAULTY
    _show(answer, describe(answer), as_json=args.json)
    return FAULTY if faults(answer) else FINE


def handover(args: argparse.Namespace) -> int:
    answer = _ask(args, command="handover", to=args.to)
    if answer is None:
        return FAULTY
    return _told(args, answer, [f"handed over to {answer.get('to')} in {answer.get('milliseconds')} ms"])


def drill(args: argparse.Namespace) -> int:
    answer = _ask(args, command="drill", seconds=args.seconds)
    if answer is None:
        return FAULTY
    there, back = answer.get("there", {}), answer.get("back", {})
    lines = [f"to {there.get('to')} in {there.get('milliseconds')} ms, and back in {back.get('milliseconds')} ms"]
    return _told(args, answer, lines)


def _told(args: argparse.Namespace, answer: Plain, lines: Sequence[str]) -> int:
    if answer.get("ok"):
        _show(answer, lines, as_json=args.json)
        return FINE
    if args.json:
        _show(answer, (), as_json=True)
    sys.stderr.write(f"tandem: {escape(str(answer.get('error')))}\n")
    return FAULTY


def release(args: argparse.Namespace) -> int:
    folder = choose_folder(args.runtime, os.environ, os.geteuid())
    if is_held(folder):
        sys.stderr.write(f"tandem: the instance in {folder} lives and takes care of its addresses itself; stop it\n")
        return FAULTY
    command = [*rights.interpreter(), "-m", "ha", "release", "--runtime", str(folder)]
    return subprocess.run(command, check=False, env=rights.child_environment()).returncode  # noqa: S603 - our own


def key(_: argparse.Namespace) -> int:
    sys.stdout.write(secrets.token_hex(32) + "\n")
    return FINE


# ---- telling ---------------------------------------------------------------------------------------------------------


def describe(answer: Plain) -> list[str]:
    """The status as lines for people."""
    lines = [f"node {answer['node']} on {answer['interface']}"]
    for router in answer["routers"]:
        addresses = " ".join(router["vips"])
        lines += [
            "",
            f"{router['name']}: {router['state'].upper()} ({router['why']})",
            f"  {addresses} with VRID {router['vrid']}, every {router['interval'] * 1000:g} ms",
            f"  priority {router['priority']} of {router['configured']}, {router['fitness']}{_because(router)}",
        ]
        if router["outage"]:
            lines.append(f"  last takeover {router['outage'] * 1000:.0f} ms after the last advertisement")
        counts = {**router["dropped"], **router["shouts"], **router["errors"]}
        shown = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()) if count)
        lines += [f"  {router['sent']} sent, {router['received']} received" + (f"; {shown}" if shown else "")]
    for node in answer["nodes"]:
        lines += ["", f"node {node['name']} ({node['address']}): link {node['link']}"]
        lines += [
            f"  VRID {one['vrid']} IPv{one['family']}: {one['state']}, priority {one['priority']}, {one['fitness']}"
            f"{_because(one)}"
            for one in node["routers"]
        ]
    return [*lines, "", *([f"! {fault}" for fault in faults(answer)] or ["all is well"])]


def _because(one: Plain) -> str:
    return f" ({'; '.join(one['reasons'])})" if one["reasons"] else ""


def faults(answer: Plain) -> list[str]:
    """What is not as it should be, as sentences."""
    found = [f"{one['name']} is in no state to take over: {one['why']}" for one in answer["routers"] if _is_ill(one)]
    for node in answer["nodes"]:
        if node["link"] == "down":
            found.append(f"the link to {node['name']} is down")
        if node["drift"]:
            found.append(f"{node['name']} has another configuration")
    return found + [f"{denied}" for denied in answer["denied"] if "real-time" in denied]


def _is_ill(router: Plain) -> bool:
    return bool({"initialize", "unfit"} & {router["state"], router["fitness"]})
