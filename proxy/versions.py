"""What this program is made of, for `tandem version` and reports of faults."""

from __future__ import annotations

import platform
from importlib import metadata

_PARTS = ("aiohttp", "uvloop", "cachetools", "msgspec", "aiodns", "pycares", "yarl", "multidict")


def version() -> str:
    """Ours; `0+unknown` when run out of a checkout that was not installed."""
    try:
        return metadata.version("tandem-proxy")
    except metadata.PackageNotFoundError:
        return "0+unknown"


def describe() -> list[str]:
    """Each part with its version, the HTTP parser first."""
    lines = [f"tandem {version()}", f"HTTP parser: {_parser()}"]
    lines += [f"Python {platform.python_version()} ({platform.python_implementation()}), {platform.platform()}"]
    return lines + [f"{part} {metadata.version(part)}" for part in _PARTS]


def _parser() -> str:
    """The C parser by module and the library inside it.

    XXX: aiohttp's build compiles llhttp in without its version; it goes by aiohttp's release.
    """
    from aiohttp import http  # noqa: PLC0415 - aiohttp is slow to import, and most commands do without

    module = http.HttpRequestParser.__module__  # the C one, or Python's where aiohttp was built without
    kind = "C" if module == "aiohttp._http_parser" else "Python, unfit for this proxy"
    return f"{kind}, {module}, with the llhttp that is built into aiohttp {metadata.version('aiohttp')}"
