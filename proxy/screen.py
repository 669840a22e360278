"""The first screen after `tandem run`: lines that say what is being served, where, and what to try.

Six of them, and one more with `[forward]` beside sites, with mirrors, and with `[ha]`: the virtual addresses.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Any, Final

from proxy import sockets
from proxy.console import escape
from proxy.runtime import ADMIN_SOCKET

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from config.schema import Config, Site
    from proxy.sockets import Held, Place

_SHOWN: Final = 3  # sites, and origins of one, named before it says how many more
_WIDTH: Final = 160


def build_screen(
    config: Config,
    held: Mapping[Place, Held],
    runtime: Path,
    version: str,
    usual: Path | None = None,
    program: str = "tandem",
    routers: Sequence[Mapping[str, Any]] = (),
) -> list[str]:
    """The lines. They hold no secret and no control character. `usual` is where commands look for an instance,
    `program` how they are called here, `routers` what state.json says of virtual addresses.
    """
    addresses = sockets.addresses(held)
    workers = [(host, port) for index, host, port in addresses if index != sockets.ADMIN]
    admin = [(host, port) for index, host, port in addresses if index == sockets.ADMIN]
    status = f"{program} status" if runtime == usual else f"{program} status --runtime {runtime}"
    plural = "" if config.process.workers == 1 else "s"
    lines = (
        f"tandem {version}: serving, with {config.process.workers} worker{plural}",
        *_mode_lines(config),
        f"  listen  {_few(_spell(*one) for one in workers) or 'nowhere'}",
        f"  cache   {_cache_line(config)}",
        f"  admin   {', '.join([str(runtime / ADMIN_SOCKET), *(f'http://{_spell(*one)}/' for one in admin)])}",
        *_vip_lines(routers),
        f"  try     {_try_line(config, workers)}{status}",
    )
    return [escape(line)[:_WIDTH] for line in lines]


def spell_program() -> str:
    """How this program is called in this shell: by its path where it is not among the commands, as in a checkout."""
    if shutil.which("tandem") or not sys.argv[0].endswith("tandem"):
        return "tandem"
    return os.path.relpath(sys.argv[0])


def _mode_lines(config: Config) -> Iterator[str]:
    if config.site or (config.forward is None and config.transparent is None):
        yield f"  sites   {_few(_site_line(site) for site in config.site) or 'none'}"
    if config.forward is not None:
        served = _few(map(str, config.forward.clients)) or "nobody"
        yield f"  forward {_few(at.text for at in config.forward.listen)} for {served}"
        if config.forward.mirror:
            yield f"  mirrors {_few(f'{one.path} of {one.origin}' for one in config.forward.mirror)}"
    if config.transparent is not None:
        options = config.transparent
        ports = (*options.http_ports, *(options.https_ports if options.https == "splice" else ()))
        taken = f"{_few(options.interface)} port {_few(map(str, ports))}"
        yield f"  taken   {taken} of {_few(map(str, options.clients)) or 'nobody'}, by {options.method}"


def _vip_lines(routers: Sequence[Mapping[str, Any]]) -> list[str]:
    shown = _few(f"{' '.join(one['vips'])} {one['state']}" for one in routers)
    return [f"  vip     {shown}"] if shown else []


def _site_line(site: Site) -> str:
    origins = _few(str(upstream.address) for upstream in site.upstream)
    return f"{site.name} -> {origins or 'rules only'}"


def _cache_line(config: Config) -> str:
    if not config.cache.memory:
        return "off"
    return f"{config.cache.memory.text} in memory, objects up to {config.cache.max_object.text}"


def _try_line(config: Config, workers: list[tuple[str, int]]) -> str:
    if not workers:
        return ""
    if not config.site and config.forward is None:
        return ""
    if not config.site and config.forward is not None:
        return f"curl -x http://{spell_reachable(*workers[0])} http://example.org/    "
    host, port = workers[0]
    secure = any(site.speaks_tls(at) for site in config.site for at in site.listen if at.port == port)
    named = next((name for site in config.site for name in site.hosts if not name.startswith("*")), "")
    header = f" -H 'Host: {named}'" if named and not secure else ""
    scheme = "https" if secure else "http"
    return f"curl -i{header} {scheme}://{spell_reachable(host, port)}/    "


def spell_reachable(host: str, port: int) -> str:
    """Where a client on this machine reaches what is listened on."""
    return _spell({"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)  # noqa: S104 - compared


def _spell(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _few(words: Iterable[str]) -> str:
    every = list(words)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more
