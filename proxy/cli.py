"""The command line: which command does what, with which words; each command is a function that returns the exit status.

0 fine, 1 faulty, 2 wrong usage. Commands that ask a running instance are in proxy/commands.py and proxy/pairing.py,
imported only when one of them or help is wanted: `tandem run` becomes the supervisor, which stays small.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from config import oneline, render
from ha.rtnl import Kernel
from proxy import launch, runtime, screen, versions
from proxy.candidate import CandidateError, Source
from proxy.firewall import ruleset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from config.schema import Config
    from proxy.candidate import Candidate
    from proxy.runtime import RuntimeFolder

FINE: Final = 0
FAULTY: Final = 1

_RELOAD_LIMIT: Final = 90.0  # seconds; more than the supervisor gives its children
_LIGHT: Final = ("run", "reverse", "forward", "transparent", "demo", "check", "config", "init", "reload", "version")

_EPILOG: Final = """\
first steps:
  tandem demo                                    an origin and the proxy in front of it, on loopback
  tandem reverse :80 http://127.0.0.1:8080       a cache in front of Tomcat, without a file
  tandem forward :3128 --clients 192.168.8.0/24  a proxy for the clients of a network, without a file
  tandem transparent lan0                        on a gateway, for clients who configure nothing
  tandem init tomcat > tandem.toml               a file to start from
  tandem check -c tandem.toml                    every fault at once, with line and remedy
  tandem run -c tandem.toml                      serve; SIGHUP or `tandem reload` takes changes over
  tandem init pair > tandem.toml                 two nodes with one address; then: tandem ha status

Exit status: 0 fine, 1 faulty, 2 wrong usage. Each command explains itself with --help.
"""
_TEMPLATES: Final[dict[str, Callable[[], str]]] = {
    "lan": render.render_lan,
    "gateway": render.render_gateway,
    "pair": render.render_pair,
    "tomcat": render.render_tomcat,
}


def run(arguments: Sequence[str]) -> int:
    """The exit status of this command line."""
    parser = build_parser(complete=not (arguments and arguments[0] in _LIGHT))
    options = parser.parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        return command(options)
    except BrokenPipeError:  # `tandem config | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FINE


def build_parser(*, complete: bool = True) -> argparse.ArgumentParser:
    """The parser; without `complete` it lacks the commands of proxy/commands.py."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="tandem",
        description="A caching HTTP proxy that rides in pairs.",
        epilog=_EPILOG,
        formatter_class=raw,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_run(commands)
    _add_file_commands(commands)
    _add_others(commands)
    if complete:
        from proxy import accounts, inquiry, pairing  # noqa: PLC0415 - see the module's docstring
        from proxy import commands as asking  # noqa: PLC0415

        asking.add_arguments(commands)
        inquiry.add_arguments(commands)
        pairing.add_arguments(commands)
        accounts.add_arguments(commands)
    return parser


_Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it


def _add_run(commands: _Commands[argparse.ArgumentParser]) -> None:
    run_file = commands.add_parser(
        "run",
        help="serve what a configuration file says",
        description="Serve what a configuration file says, until SIGTERM. SIGHUP reloads it, SIGUSR1 reopens the logs.",
        epilog="example: tandem check -c tandem.toml && tandem run -c tandem.toml",
    )
    _file(run_file)
    _runtime(run_file)
    run_file.set_defaults(run=run_from_file)

    reverse = commands.add_parser(
        "reverse",
        help="serve one site without a file",
        description="A cache in front of the given origins, without a file.",
        epilog="example: tandem reverse :80 http://127.0.0.1:8080 --preset tomcat",
    )
    reverse.add_argument(
        "listen", metavar="LISTEN", help="where clients come: `:80`, `127.0.0.1:8080`; a comma between"
    )
    reverse.add_argument("origin", metavar="ORIGIN", nargs="+", help="where answers come from: http://127.0.0.1:8080")
    reverse.add_argument("--preset", choices=("none", "tomcat"), default="none", help="settings for a kind of origin")
    _options_without_file(reverse)
    reverse.set_defaults(run=run_reverse)

    forward = commands.add_parser(
        "forward",
        help="serve clients of a network without a file",
        description="A forward proxy for the clients of the given networks, without a file.",
        epilog="example: tandem forward :3128 --clients 192.168.8.0/24",
    )
    forward.add_argument("listen", metavar="LISTEN", help="where clients come: `:3128`; a comma between")
    forward.add_argument(
        "--clients",
        metavar="NETWORK",
        required=True,
        help="who is served, and nobody else: 192.168.8.0/24; a comma between",
    )
    forward.add_argument(
        "--private",
        metavar="DESTINATION",
        default="",
        help="what may be reached although it is not public: 192.168.8.0/24, 127.0.0.1:8000; a comma between",
    )
    _options_without_file(forward)
    forward.set_defaults(run=run_forward)

    transparent = commands.add_parser(
        "transparent",
        help="take the web traffic that passes this gateway, without a file",
        description="On a gateway: connections of clients behind an interface go through the cache; they configure"
        " nothing. Firewall rules and routes come and go with the process. Needs root.",
        epilog="example: tandem transparent lan0; to see what the kernel would be told: tandem transparent lan0"
        " --show-rules",
    )
    transparent.add_argument("interface", metavar="INTERFACE", help="where clients come in: lan0")
    transparent.add_argument(
        "--clients",
        metavar="NETWORK",
        default="",
        help="whose connections are taken: 192.168.8.0/24; a comma between (the interface's own networks)",
    )
    transparent.add_argument(
        "--method", choices=("redirect", "tproxy"), default="redirect", help="how they are taken (redirect)"
    )
    transparent.add_argument(
        "--https",
        choices=("splice", "off"),
        default="splice",
        help="read the server name of HTTPS and pass it on unopened, or leave it alone (splice)",
    )
    transparent.add_argument(
        "--show-rules", action="store_true", help="print the nftables table and the routes, and change nothing"
    )
    _options_without_file(transparent)
    transparent.set_defaults(run=run_transparent)

    demo = commands.add_parser(
        "demo",
        help="see it work on this machine, without root",
        description="Start an origin and the proxy in front of it on loopback, and print what to try. Ctrl-C ends it.",
    )
    demo.add_argument("--listen", metavar="LISTEN", default="127.0.0.1:8080", help="the proxy (127.0.0.1:8080)")
    demo.add_argument("--forward", metavar="LISTEN", default="127.0.0.1:3128", help="forward proxy (127.0.0.1:3128)")
    demo.add_argument("--admin", metavar="LISTEN", default="127.0.0.1:9600", help="API and metrics (127.0.0.1:9600)")
    _runtime(demo)
    demo.set_defaults(run=run_demo)


def _add_file_commands(commands: _Commands[argparse.ArgumentParser]) -> None:
    check = commands.add_parser(
        "check",
        help="find every fault of a configuration file",
        description="Find every fault of a configuration file and of the files that it names. Nothing is started.",
        epilog="example: tandem check -c tandem.toml; exit status 0: fine, 1: the faults are told, each with its place",
    )
    _file(check)
    check.add_argument("--json", action="store_true", help="for programs")
    check.set_defaults(run=check_file)

    show = commands.add_parser(
        "config",
        help="show the effective configuration, defaults included",
        description="Print the configuration with every default written out. It holds no secret.",
    )
    _file(show)
    show.add_argument("--json", action="store_true", help="for programs")
    show.set_defaults(run=show_config)

    init = commands.add_parser(
        "init",
        help="print a configuration file to start from",
        description="Print a configuration file to start from, with a sentence on each line's meaning.",
        epilog="example: tandem init tomcat > tandem.toml",
    )
    init.add_argument(
        "kind",
        choices=sorted(_TEMPLATES),
        help="tomcat: a cache in front of Tomcat; pair: two of them; lan: a proxy for clients; gateway: for clients who"
        " configure nothing",
    )
    init.set_defaults(run=print_template)


def _add_others(commands: _Commands[argparse.ArgumentParser]) -> None:
    again = commands.add_parser(
        "reload",
        help="make a running instance read its file again",
        description="Make a running instance read its file again. Connections and the cache stay. A faulty file is "
        "refused, and everything stays as it is.",
    )
    _runtime(again)
    again.set_defaults(run=reload)

    about = commands.add_parser("version", help="show the version", description="Show the version.")
    about.add_argument("--verbose", action="store_true", help="and those of the parser and the libraries")
    about.set_defaults(run=show_version)


def _file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", metavar="FILE", required=True, type=Path, help="configuration file")


def _options_without_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--memory", metavar="SIZE", default="", help="memory of the cache: 256MB")
    parser.add_argument("--admin", metavar="LISTEN", default="", help="API and metrics: 127.0.0.1:9600")
    parser.add_argument("--print-config", action="store_true", help="print the file that this stands for, and end")
    _runtime(parser)


def _runtime(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runtime",
        metavar="DIR",
        help="folder of this instance's sockets; default $RUNTIME_DIRECTORY, /run/tandem as root, "
        "$XDG_RUNTIME_DIR/tandem or /tmp/tandem-UID",
    )


# ---- serving ---------------------------------------------------------------------------------------------------------


def run_from_file(options: argparse.Namespace) -> int:
    return launch.launch(Source.of_file(options.config), options.runtime, on_ready=show_screen)


def run_reverse(options: argparse.Namespace) -> int:
    text = oneline.build_reverse(
        options.listen.split(","), options.origin, preset=options.preset, memory=options.memory, admin=options.admin
    )
    return _run_text(text, options)


def run_forward(options: argparse.Namespace) -> int:
    private = options.private.split(",") if options.private else ()
    text = oneline.build_forward(
        options.listen.split(","),
        options.clients.split(","),
        private=private,
        memory=options.memory,
        admin=options.admin,
    )
    return _run_text(text, options)


def run_transparent(options: argparse.Namespace) -> int:
    clients = options.clients.split(",") if options.clients else networks_of(options.interface)
    if not clients:
        known = ", ".join(sorted(name for _, name in socket.if_nameindex()))
        said = f"{options.interface} has no address to know its clients by: give --clients, or one of {known}"
        print(f"tandem: {said}", file=sys.stderr)  # noqa: T201 - what a command says
        return FAULTY
    text = oneline.build_transparent(
        options.interface,
        clients,
        method=options.method,
        https=options.https,
        memory=options.memory,
        admin=options.admin,
    )
    if options.show_rules:
        source = Source(oneline.NAME, Path.cwd(), text=text.encode(errors="surrogateescape"))
        return _with_faults(source, lambda checked: _print(_spell_rules(checked.load().config)))
    return _run_text(text, options)


def networks_of(interface: str) -> list[str]:
    """The networks that an interface has an address in, link-local ones aside."""
    kernel = Kernel()
    try:
        found = kernel.interface(interface)
    finally:
        kernel.close()
    addresses = found.addresses if found is not None else ()
    return list(dict.fromkeys(str(one.network) for one in addresses if not one.ip.is_link_local))


def _spell_rules(config: Config) -> str:
    assert config.transparent is not None
    wanted = ruleset.interception(config.transparent)
    return ruleset.table(wanted) + "\n".join(ruleset.route_commands(wanted))


def _run_text(text: str, options: argparse.Namespace) -> int:
    source = Source(oneline.NAME, Path.cwd(), text=text.encode(errors="surrogateescape"))
    if options.print_config:
        return _with_faults(source, lambda _: _print(text))
    return launch.launch(source, options.runtime, on_ready=show_screen)


def run_demo(options: argparse.Namespace) -> int:
    from proxy import demo  # noqa: PLC0415 - only this command needs it

    return demo.run(options.listen, options.forward, options.admin, options.runtime)


def show_screen(accepted: Candidate, folder: RuntimeFolder) -> None:
    usual = runtime.choose_folder(None, os.environ, os.geteuid())
    lines = screen.build_screen(
        accepted.config,
        accepted.sockets,
        folder.path,
        versions.version(),
        usual,
        screen.spell_program(),
        runtime.routers_of(folder.path),
    )
    _print("\n".join(lines))


# ---- files -----------------------------------------------------------------------------------------------------------


def check_file(options: argparse.Namespace) -> int:
    source = Source.of_file(options.config)
    try:
        loaded = source.load()
    except CandidateError as exc:
        return _show_check(options, ok=False, faults=str(exc).splitlines(), warnings=[])
    from proxy import inspection  # noqa: PLC0415 - one command needs it

    faults, warnings = inspection.look_into(loaded)
    return _show_check(options, ok=not faults, faults=faults, warnings=[*map(str, loaded.warnings), *warnings])


def _show_check(options: argparse.Namespace, *, ok: bool, faults: list[str], warnings: list[str]) -> int:
    if options.json:
        _print(json.dumps({"ok": ok, "faults": faults, "warnings": warnings}))
    else:
        for line in faults:
            print(line, file=sys.stderr)  # noqa: T201 - what a command says
        for line in warnings:
            print(f"warning: {line}", file=sys.stderr)  # noqa: T201
        if ok:
            _print(f"{options.config}: fine")
    return FINE if ok else FAULTY


def show_config(options: argparse.Namespace) -> int:
    import tomllib  # noqa: PLC0415 - for --json alone

    def show(source: Source) -> None:
        text = render.render(source.load().config)
        _print(json.dumps(tomllib.loads(text), default=str) if options.json else text.rstrip("\n"))

    return _with_faults(Source.of_file(options.config), show)


def print_template(options: argparse.Namespace) -> int:
    _print(_TEMPLATES[options.kind]().rstrip("\n"))
    return FINE


def _with_faults(source: Source, action: Callable[[Source], None]) -> int:
    """FINE after the action, or the faults of the configuration and FAULTY."""
    try:
        source.load()
        action(source)
    except CandidateError as exc:
        print(exc, file=sys.stderr)  # noqa: T201 - what a command says
        return FAULTY
    return FINE


# ---- a running instance ----------------------------------------------------------------------------------------------


def reload(options: argparse.Namespace) -> int:
    """SIGHUP to the supervisor, and what became of it."""
    folder = runtime.choose_folder(options.runtime, os.environ, os.geteuid())
    try:
        before = runtime.read_state(folder)
        if not runtime.is_held(folder):
            return _fail(f"no instance runs in {folder}; name its folder with --runtime DIR")
        os.kill(runtime.supervisor_of(before), signal.SIGHUP)
    except (OSError, ValueError) as exc:
        why = getattr(exc, "strerror", None) or str(exc)
        return _fail(f"no instance to reload in {folder}: {why}; name its folder with --runtime DIR")
    deadline = time.monotonic() + _RELOAD_LIMIT
    while time.monotonic() < deadline:
        try:
            result = runtime.read_state(folder).get("reload")
        except (OSError, ValueError):
            return _fail("the instance ended")
        if isinstance(result, dict) and result != before.get("reload"):
            return _show_reload(result)
        time.sleep(0.02)
    return _fail(f"no word on the reload within {_RELOAD_LIMIT:g} s")


def _show_reload(result: dict[str, object]) -> int:
    if result["ok"]:
        _print("reloaded")
        return FINE
    return _fail(f"refused; everything stays as it is\n{result['reason']}")


def show_version(options: argparse.Namespace) -> int:
    _print("\n".join(versions.describe()) if options.verbose else f"tandem {versions.version()}")
    return FINE


def _fail(text: str) -> int:
    print(f"tandem: {text}", file=sys.stderr)  # noqa: T201 - what a command says
    return FAULTY


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - what a command says
