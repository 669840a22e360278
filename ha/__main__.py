"""`python -m ha run`, started by the supervisor, and `python -m ha release`, which removes what a dead `ha` has left.

Order of a start: the rights that are not needed go first, then the imports' garbage is out of the way, then the loop.
It runs on asyncio's own loop: pyroute2 fails under others.
"""

from __future__ import annotations

import argparse
import asyncio
import mmap
import os
import signal
import socket
import sys
import threading
import traceback
from ipaddress import ip_interface
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ha import liveness, privileges, sysctls
from ha import state as memory
from ha.netlink import Netlink, remove_virtual_mac
from ha.runtime import Runtime
from ha.scribe import Scribe

if TYPE_CHECKING:
    from collections.abc import Sequence

_IGNORED: Final = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)  # of a terminal or group: the supervisor's matter
_STACK: Final = 256 * 2**10  # bytes for each thread, of locked memory


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    parser = argparse.ArgumentParser(prog="ha", description="VRRP of Tandem; use the command tandem.")
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run")
    for name in ("control", "shared", "pages", "page"):
        run.add_argument(f"--{name}", type=int, required=True)
    run.add_argument("--runtime", type=Path, required=True)
    for name in ("uid", "gid"):
        run.add_argument(f"--{name}", type=int)
    run.set_defaults(go=serve)
    clear = commands.add_parser("release")
    clear.add_argument("--runtime", type=Path, required=True)
    clear.set_defaults(go=release)
    options = parser.parse_args(arguments)
    options.go(options)
    raise SystemExit(0)


def serve(options: argparse.Namespace) -> None:
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED)
    Path("/proc/self/comm").write_text("tandem-ha")  # now: who has changed users cannot any more
    privileges.become(options.uid, options.gid)
    for fd in (options.control, options.shared):
        os.set_inheritable(fd, False)
    size = os.fstat(options.shared).st_size - options.pages
    pages = memoryview(mmap.mmap(options.shared, size, offset=options.pages))
    threading.stack_size(_STACK)
    scribe = Scribe()
    life = liveness.Life(pages[options.page * liveness.PAGE :][: liveness.PAGE])

    def page_of(worker: int) -> memoryview:
        return pages[worker * liveness.PAGE : (worker + 1) * liveness.PAGE]

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_end_at_once)
        runtime = Runtime(socket.socket(fileno=options.control), options.runtime, page_of, scribe)
        loop.add_signal_handler(signal.SIGTERM, runtime.end)
        await runtime.run()

    asyncio.run(run())
    scribe.close()
    life.release()
    os._exit(0)  # threads that wait for mutexes need not be waited for


def _end_at_once(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A broken invariant: the supervisor carries out our will, and starts us again."""
    exc = context.get("exception")
    sys.stderr.write(f"tandem: ha: ERROR: {context.get('message')}\n")
    if isinstance(exc, BaseException):
        traceback.print_exception(exc)
    sys.stderr.flush()
    os._exit(70)


def release(options: argparse.Namespace) -> None:
    """What the state file names is gone: addresses, macvlans, settings. The caller has made sure that nobody lives."""
    state = memory.load(options.runtime / "ha.state")
    kernel = Netlink("lo")
    removed = kernel.remove_leftovers([ip_interface(text).ip for text in state.addresses])
    for name in state.links:
        asyncio.run(remove_virtual_mac(name))
    sysctls.restore(state)
    state.addresses, state.links = [], []
    state.save()
    for vip in removed:
        sys.stdout.write(f"removed {vip}\n")
    if not removed:
        sys.stdout.write("no address was left\n")


if __name__ == "__main__":
    main()
