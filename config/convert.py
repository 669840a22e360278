"""Raw tables of the file to the frozen tables of the schema, with every problem on the way instead of the first one.

msgspec would stop at the first fault and name no place; so the tables are walked here, leaf by leaf, under the types of
config/schema.py. Pure: what a file holds or whether it exists is not asked here.
"""

from __future__ import annotations

import functools
import types
import typing
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from config import kinds, units
from config.faults import Path, Problem, quote, suggest
from config.schema import Config, Table
from config.units import Destination, Duration, Hours, Listen, Ports, Rate, Size

MISSING: Any = object()  # in place of a value that could not be made
_NOTHING = msgspec.Meta()
_QUANTITIES: dict[type, str] = {Duration: "30s", Size: "64MB", Rate: "10Mbit/s"}  # with an example
_TYPE_NAMES = {
    str: "a text in quotes",
    bool: "true or false",
    int: "a whole number",
    float: "a number with a point",
    dict: "a table",
    list: "a list",
}


@dataclass(slots=True)
class Conversion:
    """What came of the tables. `tables` holds each that could be made, also where a neighbour could not."""

    config: Config | None = None
    problems: list[Problem] = field(default_factory=list)
    tables: dict[Path, Table] = field(default_factory=dict)
    leaves: list[tuple[str, Path, str]] = field(default_factory=list)  # kind, where, text: what the schema marks

    def is_sound(self, *path: str | int) -> bool:
        """Nothing at or below this place is at fault."""
        return not any(problem.path[: len(path)] == path for problem in self.problems)


def convert(data: dict[str, Any]) -> Conversion:
    """The configuration that `data` says, or what is wrong with it."""
    result = Conversion()
    made = _Walk(result).table(Config, data, ())
    result.config = made if isinstance(made, Config) and not result.problems else None
    return result


@functools.cache
def hints(kind: type[Table]) -> dict[str, Any]:
    """The type of each field, with its Meta, in the order of the schema."""
    found = typing.get_type_hints(kind, include_extras=True)
    return {name: found[name] for name in kind.__struct_fields__}


def split(kind: Any) -> tuple[Any, msgspec.Meta]:
    """The type without its Meta, and the Meta."""
    if get_origin(kind) is Annotated:
        bare, meta = get_args(kind)[:2]
        return bare, meta
    return kind, _NOTHING


def optional(kind: Any) -> Any:
    """T of `T | None`; None for other types."""
    if get_origin(kind) in (Union, types.UnionType) and types.NoneType in get_args(kind):
        return next(one for one in get_args(kind) if one is not types.NoneType)
    return None


@functools.cache
def _homes() -> dict[str, str]:
    """For each key that one table of the file's top level alone has: `[cache]`."""
    found: dict[str, list[str]] = {}
    for name, kind in hints(Config).items():
        bare = optional(split(kind)[0]) or split(kind)[0]
        if get_origin(bare) is dict:  # its keys are names that people give
            continue
        is_list = get_origin(bare) is tuple
        for key in hints(get_args(bare)[0] if is_list else bare):
            found.setdefault(key, []).append(f"[[{name}]]" if is_list else f"[{name}]")
    return {key: homes[0] for key, homes in found.items() if len(homes) == 1}


class _Walk:
    """One walk over the tables; all problems go into one Conversion."""

    def __init__(self, result: Conversion) -> None:
        self.result = result

    def fault(self, path: Path, what: str, hint: str = "", *, at_key: bool = False) -> Any:
        self.result.problems.append(Problem(path, what, hint, at_key))
        return MISSING

    def wrong_type(self, path: Path, wanted: str, value: object, hint: str = "") -> Any:
        shown = quote(value) if isinstance(value, str) else _TYPE_NAMES.get(type(value), "a date or time")
        if isinstance(value, bool):
            shown = str(value).lower()
        elif isinstance(value, int | float):
            shown = str(value) if abs(value) < 1e18 else "a huge number"
        return self.fault(path, f"expected {wanted}, not {shown}", hint)

    # ---- tables and lists ----

    def table(self, kind: type[Table], value: object, path: Path) -> Any:
        if kind.shorthand and not isinstance(value, dict):
            if not isinstance(value, str):
                return self.wrong_type(path, f"a text (the {kind.shorthand}) or a table", value)
            value = {kind.shorthand: value}
        if not isinstance(value, dict):
            return self.wrong_type(path, "a table", value, f"such as {{ {next(iter(hints(kind)))} = … }}")
        for key in value.keys() - hints(kind).keys():
            self.unknown_key(key, kind, path)
        arguments = {
            name: self.value(hint, value[name], (*path, name)) for name, hint in hints(kind).items() if name in value
        }
        absent = set(kind.__struct_fields__) - arguments.keys() - _defaulted(kind)
        for name in sorted(absent):
            _, meta = split(hints(kind)[name])
            self.fault(path, f"`{name}` is missing", (meta.description or "").rstrip("."), at_key=True)
        made = {name: item for name, item in arguments.items() if item is not MISSING}
        if absent or (arguments.keys() - made.keys()) - _defaulted(kind):
            return MISSING
        table = kind(**made)
        self.result.tables[path] = table
        return table

    def unknown_key(self, key: str, kind: type[Table], path: Path) -> None:
        home = _homes().get(key)
        known = f"known here: {', '.join(hints(kind))}"
        hint = f"it belongs in {home}" if home else suggest(key, hints(kind), known)
        self.fault((*path, key), "unknown key", hint, at_key=True)

    def items(self, kind: Any, value: object, path: Path) -> Any:
        """A list, or one value in place of a list of one."""
        whole = value if isinstance(value, list) else [value]
        made = [self.value(kind, item, (*path, i)) for i, item in enumerate(whole)]
        return MISSING if any(item is MISSING for item in made) else tuple(made)

    def mapping(self, key_kind: Any, kind: Any, value: object, path: Path) -> Any:
        if not isinstance(value, dict):
            return self.wrong_type(path, "a table", value)
        made = {}
        for key, item in value.items():
            before = len(self.result.problems)
            self.value(key_kind, key, (*path, key))
            for i, problem in enumerate(self.result.problems[before:], before):
                self.result.problems[i] = Problem(problem.path, problem.what, problem.hint, at_key=True)
            made[key] = self.value(kind, item, (*path, key))
        return MISSING if any(item is MISSING for item in made.values()) else made

    # ---- single values ----

    def value(self, annotated: Any, value: object, path: Path) -> Any:
        kind, meta = split(annotated)
        inner = optional(kind)
        if inner is not None:
            return self.value(Annotated[inner, meta], value, path)
        arguments = get_args(kind)
        match get_origin(kind):
            case origin if origin is tuple:
                element = arguments[0]
                own, _ = split(element)
                return self.items(element if own is not element else Annotated[element, meta], value, path)
            case origin if origin is dict:
                return self.mapping(arguments[0], arguments[1], value, path)
            case origin if origin is Literal:
                return self.choice(arguments, value, path)
            case origin if origin in (Union, types.UnionType):
                assert IPv4Network in arguments, "networks are the only union of the schema"
                return self.parsed(units.parse_network, value, path)
        if issubclass(kind, Table):
            return self.table(kind, value, path)
        return self.leaf(kind, meta, value, path)

    def leaf(self, kind: type, meta: msgspec.Meta, value: object, path: Path) -> Any:
        if kind is Listen or kind is Destination:
            return self.parsed(kind.parse, value, path)
        if kind is Hours:
            return self.parsed(Hours.parse, value, path)
        if kind is Ports:
            return self.parsed(Ports.parse, str(value) if type(value) is int else value, path)
        if kind in _QUANTITIES:
            return self.quantity(kind, _QUANTITIES[kind], meta, value, path)
        if kind is str:
            return self.text(meta, value, path)
        if kind is bool:
            return value if isinstance(value, bool) else self.wrong_type(path, "true or false", value)
        assert kind is int, f"the schema has a type without conversion: {kind}"
        return self.number(meta, value, path)

    def parsed(self, parse: Any, value: object, path: Path) -> Any:
        if not isinstance(value, str):
            return self.wrong_type(path, "a text in quotes", value)
        try:
            return parse(value)
        except ValueError as exc:
            return self.fault(path, f"{quote(value)} is not accepted", str(exc))

    def quantity(self, kind: Any, example: str, meta: msgspec.Meta, value: object, path: Path) -> Any:
        if type(value) is int and value == 0:
            value = "0"
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self.wrong_type(path, "a text with a unit", value, f"such as `{example}`")
        made = self.parsed(kind.parse, value, path)
        if made is not MISSING and made == 0 and (meta.extra or {}).get("positive"):
            return self.fault(path, "must be more than 0")
        return made

    def text(self, meta: msgspec.Meta, value: object, path: Path) -> Any:
        if not isinstance(value, str):
            return self.wrong_type(path, "a text in quotes", value)
        kind: str = (meta.extra or {}).get("kind", "")
        if kind:
            try:
                kinds.CHECKS[kind](value)
            except ValueError as exc:
                return self.fault(path, f"{quote(value)} is not accepted", str(exc))
            self.result.leaves.append((kind, path, value))
        return value

    def number(self, meta: msgspec.Meta, value: object, path: Path) -> Any:
        low, high = meta.ge, meta.le
        assert low is not None, "every number of the schema is bounded"
        assert high is not None
        if type(value) is not int or not low <= value <= high:
            return self.wrong_type(path, f"a whole number from {low} to {high}", value)
        return value

    def choice(self, choices: tuple[object, ...], value: object, path: Path) -> Any:
        if any(type(value) is type(one) and value == one for one in choices):
            return value
        wanted = f"one of {', '.join(str(one) for one in choices)}"
        return self.wrong_type(path, wanted, value, suggest(str(value)[:64], [str(one) for one in choices]))


@functools.cache
def _defaulted(kind: type[Table]) -> frozenset[str]:
    return frozenset(one.name for one in msgspec.structs.fields(kind) if not one.required)
