"""Text made from the schema alone: effective configuration, default.toml, starts, reference page, JSON Schema.

`python -m config.render` rewrites the files; a test fails while one of them is stale. In the commented files a line of
prose begins with `# `, an option with `#` alone: taking that away gives a file that says what is so without it.
"""

from __future__ import annotations

import json
import pathlib
import sys
import types
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from config.convert import hints, optional, split
from config.kinds import LOG_FORMATS
from config.schema import Bandwidth, Config, Forward, Ha, Mirror, NameList, Rule, Site, Table, Transparent
from config.units import Destination, Duration, Hours, Listen, Ports, Rate, Size

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parent.parent
_BLANKS: tuple[object, ...] = (None, "", (), {})

# What a field without default is shown with, and origins, without which no site is sound.
_EXAMPLES = {
    (Site, "listen"): '":80"',
    (Site, "upstream"): '["127.0.0.1:8080"]',
    (Forward, "listen"): '":3128"',
    (Mirror, "kind"): '"pypi"',
    (Mirror, "path"): '"/pypi/"',
    (Mirror, "origin"): '"https://pypi.example/"',
    (Rule, "name"): '"static"',
    (NameList, "file"): '"lists/games.txt"',
    (Transparent, "interface"): '"lan0"',
    (Transparent, "clients"): '["192.168.8.0/24"]',
    (Bandwidth, "rate"): '"10Mbit/s"',
    (Ha, "nodes"): '{ a = "192.168.8.4", b = "192.168.8.6" }',
    (Ha, "vip"): '["192.168.8.100/24"]',
    (Ha, "secret"): '{ file = "ha.key" }',
}


@dataclass(frozen=True, slots=True)
class Option:
    """One field of one table, in words."""

    name: str
    words: str  # its type
    sentence: str
    default: str  # as TOML; "" if it must be given, or is not set
    required: bool
    table: type[Table] | None  # the table that it is, or is a list of
    is_list: bool
    by_name: bool = False  # it is a table of such tables, by names that people give

    @property
    def header(self) -> str:
        """How its part of the file begins."""
        return f"[[{self.name}]]" if self.is_list and not self.by_name else f"[{self.name}]"


def options(kind: type[Table]) -> list[Option]:
    """The fields of a table, in the order of the schema."""
    fields = {one.name: one for one in msgspec.structs.fields(kind)}
    found = []
    for name, annotated in hints(kind).items():
        bare, meta = split(annotated)
        value = fields[name].default
        if fields[name].default_factory is not msgspec.NODEFAULT:
            value = fields[name].default_factory()
        table, is_list = _table_in(bare)
        required = fields[name].required
        unset = required or value is None or value == "" or isinstance(value, Table)
        found.append(
            Option(
                name,
                _words(annotated),
                meta.description or "",
                "" if unset else _spell(value),
                required,
                table,
                is_list,
                get_origin(bare) is dict,
            )
        )
    return found


# ---- effective configuration -----------------------------------------------------------------------------------------


def render(config: Config) -> str:
    """The configuration as TOML, defaults written out; loading it gives the same configuration. It holds no secret."""
    blocks = []
    for name in Config.__struct_fields__:
        value = getattr(config, name)
        if value is None:
            continue
        if isinstance(value, dict):
            if value:
                lines = [f"{quote(key)} = {_spell(item)}" for key, item in value.items()]
                blocks.append("\n".join([f"[{name}]", *lines]))
            continue
        many = isinstance(value, tuple)
        header = f"[[{name}]]" if many else f"[{name}]"
        for table in value if many else (value,):
            lines = [f"{key} = {_spell(item)}" for key, item in _written(table)]
            blocks.append("\n".join([header, *lines]))
    return "\n\n".join(blocks) + "\n"


def _written(table: Table) -> Iterator[tuple[str, object]]:
    """The fields to write: all but those that are empty, and would be without a word."""
    fields = {one.name: one for one in msgspec.structs.fields(type(table))}
    for name in table.__struct_fields__:
        value = getattr(table, name)
        factory, default = fields[name].default_factory, fields[name].default
        usual = factory() if factory is not msgspec.NODEFAULT else default
        if not (value == usual and value in _BLANKS):
            yield name, value


def _spell(value: object) -> str:
    """A value as TOML, on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case Duration() | Size() | Rate() | Listen() | Destination() | Hours() | Ports():
            return quote(value.text)
        case str():
            return quote(value)
        case int():
            return str(value)
        case IPv4Network() | IPv6Network():
            return quote(str(value.network_address) if value.num_addresses == 1 else str(value))
        case tuple() | list():
            return f"[{', '.join(_spell(item) for item in value)}]"
        case dict():
            return _inline((quote(key), item) for key, item in value.items())
        case Table():
            return _inline(_written(value))
    raise AssertionError(f"the schema has a type without spelling: {type(value).__name__}")


def _inline(pairs: Any) -> str:
    text = ", ".join(f"{key} = {_spell(item)}" for key, item in pairs)
    return f"{{ {text} }}" if text else "{}"


def quote(text: str) -> str:
    """The text as a basic string of TOML. What UTF-8 cannot hold (bytes of a command line) becomes U+FFFD."""
    sound = text.encode(errors="surrogatepass").decode(errors="replace")
    return json.dumps(sound, ensure_ascii=False).replace("\x7f", "\\u007F")


# ---- files with comments ---------------------------------------------------------------------------------------------


def render_defaults() -> str:
    """config/default.toml: every option with its default."""
    lines = [
        "# Every option of Tandem with its default. To set one, take away the `#` before it and before its table.",
        "# Units: durations 250ms 30s 5min 2h 1d; sizes 512B 16KB 64MB 1GB (powers of 1024).",
        "# Where a list stands, one value alone will do. Paths count from the folder of this file.",
    ]
    for option in options(Config):
        assert option.table is not None, "the top level has tables only"
        lines += ["", f"# ---- {option.header} {option.sentence}", f"#{option.header}"]
        lines += _named(option.table) if option.by_name else _commented(option.table, option.name)
    return "\n".join(lines) + "\n"


def _commented(kind: type[Table], path: str) -> Iterator[str]:
    """Options as commented lines; tables that are always there follow, with headers of their own."""
    inner: list[Option] = []
    for option in options(kind):
        default = _EXAMPLES.get((kind, option.name), option.default)
        if option.table is not None and not option.is_list and not option.required and not _is_optional(kind, option):
            inner.append(option)
            continue
        must = " Must be given." if option.required else ""
        yield f"# {option.sentence}{must}"
        if default:
            yield f"#{option.name} = {default}"
        else:
            yield f"#   {option.name} is not set: {option.words}"
        if option.table is not None:
            yield from _prose(option.table)
    for option in inner:
        assert option.table is not None
        yield f"# {option.sentence}"
        yield f"#[{path}.{option.name}]"
        yield from _commented(option.table, f"{path}.{option.name}")


def _named(kind: type[Table]) -> Iterator[str]:
    shown = ((one.name, _EXAMPLES.get((kind, one.name), one.default)) for one in options(kind))
    yield f"#   NAME = {{ {', '.join(f'{name} = {value}' for name, value in shown if value)} }}"
    yield from _prose(kind)


def _prose(kind: type[Table]) -> Iterator[str]:
    for option in options(kind):
        shown = option.default or ("must be given" if option.required else "not set")
        yield f"#     {option.name} ({shown}): {option.sentence}"


def _is_optional(kind: type[Table], option: Option) -> bool:
    return optional(split(hints(kind)[option.name])[0]) is not None


# Table, what it is for, and its options: name, value, written out (or only proposed).
_Start = tuple[tuple[str, str, tuple[tuple[str, str, bool], ...]], ...]
_TOMCAT: _Start = (
    (
        "site",
        "a cache in front of Tomcat",
        (
            ("listen", '":80"', True),
            ("upstream", '["127.0.0.1:8080"]', True),
            ("preset", '"tomcat"', True),
            ("hosts", '["www.example.org"]', False),
            ("tls", '[{ cert = "site.pem", key = "site.key" }]', False),
            ("health", '{ path = "/", every = "2s" }', False),
            ("balance", '"least-requests"', False),
            ("trusted", '["10.0.0.2"]', False),
            ("purge_from", '["127.0.0.1"]', False),
            ("error_pages", '{ 503 = "down.html" }', False),
        ),
    ),
    (
        "rule",
        "Where static files are alike for all, their cookies need not count",
        (
            ("name", '"static"', False),
            ("match", '{ path = ["*.css", "*.js", "*.png", "*.svg", "*.woff2"] }', False),
            ("cookies", '"ignore"', False),
            ("ttl", '"1h"', False),
        ),
    ),
    ("cache", "", (("memory", '"256MB"', True), ("max_object", '"64MB"', False))),
    ("log", "", (("access", '{ file = "access.log", format = "combined" }', False),)),
    ("admin", "", (("listen", '"127.0.0.1:9600"', False),)),
)


# The same for a pair; Tomcat may run on both nodes, or elsewhere.
_PAIR: _Start = (
    (
        "ha",
        "two nodes, one address; the same lines on both",
        (
            ("vip", '["192.168.8.100/24"]', True),
            ("vrid", "51", True),
            ("nodes", '{ a = "192.168.8.4", b = "192.168.8.6" }', True),
            ("secret", '{ file = "ha.key" }', True),
            ("interval", '"100ms"', True),
            ("preempt", "true", False),
            ("notify", '"/etc/tandem/notify"', False),
            (
                "track",
                '[{ name = "gateway", script = ["/bin/ping", "-c1", "-W1", "192.168.8.1"], weight = 20 }]',
                False,
            ),
        ),
    ),
    (
        "site",
        "a cache in front of Tomcat",
        (
            ("listen", '":80"', True),
            ("upstream", '["192.168.8.20:8080"]', True),
            ("preset", '"tomcat"', True),
            ("health", '{ path = "/", every = "1s" }', True),
        ),
    ),
    ("log", "", (("access", '{ file = "access.log", format = "combined" }', False),)),
)


# A proxy for the clients of a network.
_LAN: _Start = (
    (
        "forward",
        "a proxy for the clients of a network",
        (
            ("listen", '":3128"', True),
            ("clients", '["192.168.8.0/24"]', True),
            ("allow_private", '["192.168.8.0/24"]', False),
            ("connect_ports", "[443, 8443]", False),
        ),
    ),
    ("cache", "", (("memory", '"1GB"', True), ("max_object", '"256MB"', True))),
    ("log", "", (("access", '{ file = "access.log", format = "squid" }', False),)),
    ("admin", "", (("listen", '"127.0.0.1:9600"', False),)),
)


# A gateway, alone or one of two.
_GATEWAY: _Start = (
    (
        "transparent",
        "web traffic that passes this gateway goes through the cache",
        (
            ("interface", '"lan0"', True),
            ("clients", '["192.168.8.0/24"]', True),
            ("https", '"splice"', True),
            ("method", '"redirect"', True),
            ("exempt", '["10.0.0.0/8"]', False),
            ("fail", '"closed"', False),
        ),
    ),
    (
        "ha",
        "two gateways, one address; the same lines on both",
        (
            ("vip", '["192.168.8.1/24"]', False),
            ("nodes", '{ a = "192.168.8.2", b = "192.168.8.3" }', False),
            ("secret", '{ file = "ha.key" }', False),
        ),
    ),
    ("cache", "", (("memory", '"1GB"', True), ("max_object", '"256MB"', True))),
    ("log", "", (("access", '{ file = "access.log", format = "combined" }', False),)),
)


def render_tomcat() -> str:
    """config/tomcat.toml, what `tandem init tomcat` writes: a start for people, with the schema's own sentences."""
    return _render_start("Tandem in front of Tomcat.", _TOMCAT)


def render_pair() -> str:
    """config/pair.toml, what `tandem init pair` writes."""
    return _render_start(
        "Two nodes with Tandem and one address. The secret: (umask 077; tandem ha key > ha.key).", _PAIR
    )


def render_lan() -> str:
    """config/lan.toml, what `tandem init lan` writes."""
    return _render_start("A proxy for the clients of a network.", _LAN)


def render_gateway() -> str:
    """config/gateway.toml, what `tandem init gateway` writes."""
    return _render_start("A gateway whose clients configure nothing.", _GATEWAY)


def _render_start(title: str, start: _Start) -> str:
    lines = [
        f"# {title} Check it with `tandem check -c FILE`, start it with `tandem run -c FILE`.",
        "# Lines that begin with `#` and a name are proposals: take the `#` away. All options: config/default.toml.",
    ]
    top = {option.name: option for option in options(Config)}
    for name, purpose, chosen in start:
        table = top[name].table
        assert table is not None
        inner = {option.name: option for option in options(table)}
        title = purpose or top[name].sentence
        lines += ["", f"# {title[:1].upper()}{title[1:].rstrip('.')}."]
        may_be_absent = top[name].is_list or any(option.required for option in inner.values())
        mark = "#" if may_be_absent and not any(written for _, _, written in chosen) else ""
        lines += [f"{mark}{top[name].header}"]
        for key, value, written in chosen:
            lines += [f"# {inner[key].sentence}", f"{'' if written else '#'}{key} = {value}"]
    return "\n".join(lines) + "\n"


# ---- reference page --------------------------------------------------------------------------------------------------


def render_reference() -> str:
    """docs/configuration.md: every option in tables."""
    lines = [
        "# Configuration reference",
        "",
        "Made from `config/schema.py` by `python -m config.render`; do not edit.",
        "",
        "One TOML file. Unknown keys and contradictions are faults, told all at once with line and column by",
        "`tandem check`. Durations are written `250ms`, `30s`, `5min`, `2h`, `1d`; sizes `512B`, `16KB`, `64MB`, `1GB`",
        "(powers of 1024). Where a list is wanted, one value alone will do. Relative paths count from the folder of",
        "the configuration file; access logs from `$LOGS_DIRECTORY` if that is set.",
    ]
    for option in options(Config):
        assert option.table is not None
        sentence = f"{option.sentence} `NAME = {{ … }}`, with any name." if option.by_name else option.sentence
        lines += _section(option.table, option.header, option.name, sentence, 2)
    return "\n".join(lines) + "\n"


def _section(kind: type[Table], title: str, path: str, sentence: str, depth: int) -> Iterator[str]:
    yield from ("", f"{'#' * depth} `{title}`", "", sentence, "")
    if kind.shorthand:
        yield from (f"A text in place of the table is its `{kind.shorthand}`.", "")
    yield from ("| option | type | default | meaning |", "|---|---|---|---|")
    inner: list[Option] = []
    for option in options(kind):
        unset = "must be given" if option.required else "not set"
        default = f"`{option.default}`" if option.default else unset
        if option.table is not None:
            inner.append(option)
            default = default if option.is_list or _is_optional(kind, option) else "see below"
        cells = [f"`{option.name}`", option.words, default, option.sentence]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    for option in inner:
        assert option.table is not None
        own = f"{path}.{option.name}"
        yield from _section(option.table, own, own, option.sentence, min(depth + 1, 4))


def _table_in(bare: Any) -> tuple[type[Table] | None, bool]:
    """The table that a type is, or is a list of, or a table of by name."""
    inner = optional(bare) or bare
    if get_origin(inner) is dict:
        element, _ = split(get_args(inner)[1])
        return (element, True) if _is_table(element) else (None, True)
    if get_origin(inner) is tuple:
        element, _ = split(get_args(inner)[0])
        return (element, True) if _is_table(element) else (None, True)
    return (inner, False) if _is_table(inner) else (None, False)


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Table)


def _words(annotated: Any) -> str:
    """The type in words."""
    bare, meta = split(annotated)
    bare = optional(bare) or bare
    origin, arguments = get_origin(bare), get_args(bare)
    if origin is tuple:
        element = arguments[0]
        own, _ = split(element)
        return f"list: {_words(element if own is not element else Annotated[element, meta])}"
    if origin is dict:
        return f"table: {_words(arguments[1])} by {_words(arguments[0])}"
    if origin is Literal:
        return ", ".join(f"`{_spell(one)}`" for one in arguments)
    if origin in (Union, types.UnionType):
        return "network"
    if bare is int:
        return f"{meta.ge} to {meta.le}"
    if bare is str:
        kind: str = (meta.extra or {}).get("kind", "")
        return {
            "": "text",
            "secret": "file",
            "output": "file",
            "hosts": "host",
            "name server": "address",
            "ip": "address",
            "vip": "address/prefix",
            "list": "file",
        }.get(kind, kind)
    names = {
        bool: "true or false",
        Duration: "duration",
        Destination: "network or address:port",
        Hours: "time",
        Listen: "address",
        Ports: "port",
        Rate: "rate",
        Size: "size",
    }
    return names.get(bare, "table")


# ---- JSON Schema -----------------------------------------------------------------------------------------------------


def render_json_schema() -> str:
    """docs/configuration.schema.json, for editors: JSON Schema 2020-12, with the shorthands."""
    definitions: dict[str, object] = {}
    root = _json_table(Config, definitions)
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tandem configuration",
        **root,
        "$defs": {name: definitions[name] for name in sorted(definitions)},
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _json_table(kind: type[Table], definitions: dict[str, object]) -> dict[str, object]:
    properties = {}
    for option in options(kind):
        annotated = hints(kind)[option.name]
        properties[option.name] = {**_json_type(annotated, definitions), "description": option.sentence}
        default = _json_default(kind, option.name)
        if default is not None:
            properties[option.name]["default"] = default
    required = [option.name for option in options(kind) if option.required]
    made: dict[str, object] = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**made, "required": required} if required else made


def _json_default(kind: type[Table], name: str) -> object:
    """The default as it would be written, for those that can be."""
    text = next(option.default for option in options(kind) if option.name == name)
    if not text:
        return None
    default = next(one.default for one in msgspec.structs.fields(kind) if one.name == name)
    match default:
        case Duration() | Size() | Rate():
            return default.text
        case bool() | int() | str():
            return default
        case tuple():
            return [one.text if isinstance(one, Ports) else one for one in default]
    return None


def _json_type(annotated: Any, definitions: dict[str, object]) -> dict[str, object]:
    bare, meta = split(annotated)
    bare = optional(bare) or bare
    origin, arguments = get_origin(bare), get_args(bare)
    if origin is tuple:
        one = _json_type(arguments[0], definitions)
        return {"anyOf": [one, {"type": "array", "items": one}]}
    if origin is dict:
        return {"type": "object", "additionalProperties": _json_type(arguments[1], definitions)}
    if origin is Literal:
        return {"enum": list(arguments)}
    if _is_table(bare):
        return _json_reference(bare, definitions)
    if bare is bool:
        return {"type": "boolean"}
    if bare is int:
        return {"type": "integer", "minimum": meta.ge, "maximum": meta.le}
    if bare is Duration:
        return _json_quantity("^[0-9]{1,16}(ms|s|min|h|d)$")
    if bare is Size:
        return _json_quantity("^[0-9]{1,16}(B|KB|MB|GB)$")
    if bare is Rate:
        return _json_quantity("^[0-9]{1,16}(kbit|Mbit|Gbit)/s$")
    if bare is Ports:
        return {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string"}]}
    kind = (meta.extra or {}).get("kind") if bare is str else ""
    return {"type": "string", "examples": list(LOG_FORMATS)} if kind == "log format" else {"type": "string"}


def _json_quantity(pattern: str) -> dict[str, object]:
    return {"anyOf": [{"type": "string", "pattern": pattern}, {"const": 0}]}


def _json_reference(kind: type[Table], definitions: dict[str, object]) -> dict[str, object]:
    if kind.__name__ not in definitions:
        definitions[kind.__name__] = {}  # its place, should the schema ever go in a circle
        definitions[kind.__name__] = _json_table(kind, definitions)
    reference: dict[str, object] = {"$ref": f"#/$defs/{kind.__name__}"}
    return {"anyOf": [reference, {"type": "string"}]} if kind.shorthand else reference


# ---- files -----------------------------------------------------------------------------------------------------------


def build_files() -> dict[str, str]:
    """Each file made from the schema, by its path from the project's root."""
    return {
        "config/default.toml": render_defaults(),
        "config/lan.toml": render_lan(),
        "config/gateway.toml": render_gateway(),
        "config/pair.toml": render_pair(),
        "config/tomcat.toml": render_tomcat(),
        "docs/configuration.md": render_reference(),
        "docs/configuration.schema.json": render_json_schema(),
    }


def main() -> None:
    for name, text in build_files().items():
        path = ROOT / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main()
