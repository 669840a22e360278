"""The configuration file to a frozen Config, or to all of its faults, each with its place and remedy.

`load` reads a file, `parse` takes bytes that were read once and looks at the files they name, `accept` looks at nothing
but the bytes: for processes that are given what the supervisor has accepted. No exception but Faults leaves here.
"""

from __future__ import annotations

import pathlib
import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from config import checks, convert, files, presets
from config.faults import Fault, Faults, Problem, spell_path
from config.place import Places
from config.schema import Admin, Cache, Config, Forward, Ha, Limits, NameList, Rule, Site, Transparent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Fault", "Faults", "Loaded", "accept", "load", "parse"]

_MAX_BYTES = 16 * 2**20  # a slip such as `-c access.log` should end in a sentence, not in swap
_BETWEEN_SITES = ("listen", "name", "hosts", "tls", "tls_ports", "upstream")  # looked at by checks between sites
_AT = re.compile(r" \(at line ([0-9]+), column ([0-9]+)\)\Z")
_AT_END = " (at end of document)"


@dataclass(frozen=True, slots=True)
class Loaded:
    config: Config  # with names and presets of sites applied
    warnings: tuple[Fault, ...]
    files: Mapping[str, pathlib.Path]  # ordinary files: as the configuration names them -> where they are
    secrets: Mapping[str, pathlib.Path]  # private keys and tokens, the same way
    text: bytes
    base: pathlib.Path  # the folder that relative paths count from
    lists: Mapping[str, pathlib.Path] = field(default_factory=dict)  # lists of names, the same way


def load(path: str | pathlib.Path) -> Loaded:
    """The configuration in this file; raises Faults."""
    file = pathlib.Path(path)
    try:
        with file.open("rb") as stream:
            text = stream.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as exc:
        why = getattr(exc, "strerror", None) or str(exc)
        raise Faults([Fault(str(path), 1, 1, "", f"cannot be read: {why.lower()}")]) from exc
    return parse(text, str(path), file.absolute().parent)


def parse(text: bytes, name: str, base: pathlib.Path) -> Loaded:
    """The configuration in these bytes; `name` stands in faults, `base` is what relative paths count from."""
    made, found = _understand(text, name)
    problems = [*made.problems, *found.faults, *files.check_files(made.leaves, base)]
    config = _settled(made, problems, text, name)
    return Loaded(
        config,
        tuple(_placed(found.warnings, text, name)),
        files.locate(made.leaves, base, "file"),
        files.locate(made.leaves, base, "secret"),
        text,
        base,
        files.locate(made.leaves, base, "list"),
    )


def accept(text: bytes, name: str) -> Config:
    """The configuration in these bytes, without a look at the files that it names."""
    made, found = _understand(text, name)
    return _settled(made, [*made.problems, *found.faults], text, name)


def _understand(text: bytes, name: str) -> tuple[convert.Conversion, checks.Findings]:
    data = _read_toml(text, name)
    made = convert.convert(data)
    return made, checks.check(_view(made, data))


def _settled(made: convert.Conversion, problems: list[Problem], text: bytes, name: str) -> Config:
    if problems:
        raise Faults(_placed(problems, text, name))
    assert made.config is not None, "what could not be made has a problem"
    return replace(made.config, site=tuple(presets.settle(site, n) for n, site in enumerate(made.config.site, 1)))


# ---- TOML ------------------------------------------------------------------------------------------------------------


def _read_toml(text: bytes, name: str) -> dict[str, Any]:
    if len(text) > _MAX_BYTES:
        raise Faults([Fault(name, 1, 1, "", f"larger than {_MAX_BYTES >> 20} MB: no configuration file")])
    try:
        decoded = text.decode().removeprefix("\ufeff")  # some editors write that mark in front
    except UnicodeDecodeError as exc:
        line, col = _position(text[: exc.start].decode())
        raise Faults([Fault(name, line, col, "", "not UTF-8", "save the file as UTF-8")]) from exc
    try:
        return tomllib.loads(decoded)
    except tomllib.TOMLDecodeError as exc:
        raise Faults([_syntax_fault(str(exc), decoded, name)]) from exc
    except (ValueError, RecursionError) as exc:  # a number of thousands of digits, arrays thousands deep
        raise Faults(
            [Fault(name, 1, 1, "", "not TOML that can be read: a number too long or nesting too deep")]
        ) from exc


def _syntax_fault(message: str, text: str, name: str) -> Fault:
    match = _AT.search(message)
    if match:
        line, col, message = int(match[1]), int(match[2]), message[: match.start()]
    else:
        line, col = _position(text)
        message = message.removesuffix(_AT_END) + ", at the end of the file"
    hint = "texts stand in quotes" if "Invalid value" in message else ""
    return Fault(name, line, col, "", f"not TOML: {message[:1].lower()}{message[1:]}", hint)


def _position(before: str) -> tuple[int, int]:
    """Line and column of what follows this text."""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


# ---- from tables to faults -------------------------------------------------------------------------------------------


def _view(made: convert.Conversion, data: dict[str, Any]) -> checks.View:
    """The sound tables, each with its index in the file."""
    view = checks.View(complete=made.is_sound("site") and made.is_sound("rule"))
    names = set()
    for path, table in made.tables.items():
        match path, table:
            case (("site", int(i)), Site()):
                site = presets.settle(table, i + 1)
                names.add(site.name)
                if all(made.is_sound(*path, key) for key in _BETWEEN_SITES):
                    view.sites[i] = site
            case (("rule", int(i)), Rule()):
                view.rules[i] = table
            case (("admin",), Admin()) if made.is_sound("admin"):
                view.admin = table
            case (("lists", str(name)), NameList()):
                view.lists[name] = table
            case (("cache",), Cache()):
                view.cache = table
            case (("limits",), Limits()):
                view.limits = table
            case (("forward",), Forward()) if made.is_sound("forward"):
                view.forward = table
            case (("transparent",), Transparent()) if made.is_sound("transparent"):
                view.transparent = table
            case (("ha",), Ha()) if made.is_sound("ha"):
                view.ha = table
    view.bandwidth_names = (
        frozenset(map(str, data["bandwidth"])) if isinstance(data.get("bandwidth"), dict) else frozenset()
    )
    view.list_names = frozenset(map(str, data["lists"])) if isinstance(data.get("lists"), dict) else frozenset()
    view.site_names = frozenset(names | _raw_site_names(data))
    return view


def _raw_site_names(data: dict[str, Any]) -> set[str]:
    """Names of sites that could not be made: a rule that names one is not at fault for it."""
    sites = data.get("site", [])
    named = [site for site in (sites if isinstance(sites, list) else [sites]) if isinstance(site, dict)]
    names = {name for site in named if isinstance(name := site.get("name"), str)}
    for site in named:
        hosts = site.get("hosts")
        first = hosts[0] if isinstance(hosts, list) and hosts else hosts
        if "name" not in site and isinstance(first, str):
            names.add(first)
    return names


def _placed(problems: Iterable[Problem], text: bytes, name: str) -> list[Fault]:
    problems = list(problems)
    if not problems:
        return []
    places = Places(text)
    return [
        Fault(name, *places.find(one.path, at_key=one.at_key), spell_path(one.path), one.what, one.hint)
        for one in dict.fromkeys(problems)
    ]
