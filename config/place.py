"""Where in the text of a TOML file something stands: path of keys and indices to line and column.

tomllib keeps no places, so the text is read a second time by tree-sitter, which is imported only when there is a fault
to place (15 ms). The index holds each key and each value; a path that is not in it gets the place of what contains it.
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node

    from config.faults import Path

Place = tuple[int, int]  # line and column, from 1; columns in characters

_KEYS = {"bare_key", "quoted_key"}
_MAX_DEPTH = 32  # deeper than any path of the schema: what is below has the place of what is above


class Places:
    """The places of one text."""

    def __init__(self, text: bytes) -> None:
        import tree_sitter_toml  # noqa: PLC0415 - only a fault needs it
        from tree_sitter import Language, Parser  # noqa: PLC0415

        self._lines = text.split(b"\n")
        self._keys: dict[Path, Place] = {}
        self._values: dict[Path, Place] = {}
        self._counts: dict[Path, int] = {}  # of the tables of each [[array]]
        tree = Parser(Language(tree_sitter_toml.language())).parse(text)
        for node in tree.root_node.named_children:
            self._statement(node)

    def find(self, path: Path, *, at_key: bool = False) -> Place:
        """The place of the key or value at `path`, or of the nearest thing around it."""
        path = self._as_written(path)
        for length in range(len(path), 0, -1):
            own = path[:length]
            first, second = (self._keys, self._values) if at_key or length < len(path) else (self._values, self._keys)
            place = first.get(own) or second.get(own)
            if place is not None:
                return place
        return (1, 1)

    def _as_written(self, path: Path) -> Path:
        """The path without the index of each list that is written as one value."""
        own: Path = ()
        for part in path:
            longer = (*own, part)
            if part != 0 or self._is_known(longer) or not self._is_known(own):
                own = longer
        return own

    def _is_known(self, path: Path) -> bool:
        return path in self._keys or path in self._values

    def _statement(self, node: Node) -> None:
        match node.type:
            case "pair":
                self._pair(node, (), 0)
            case "table" | "table_array_element":
                keys = _keys(node.named_children[0]) if node.named_children else []
                if not keys:
                    return
                path = self._open(keys, in_array=node.type == "table_array_element")
                self._keys.setdefault(path, self._place(keys[0]))
                for child in node.named_children[1:]:
                    if child.type == "pair":
                        self._pair(child, path, 0)

    def _open(self, keys: list[Node], *, in_array: bool) -> Path:
        """The path of the table that a header opens: in an array of tables, that of its last one."""
        path: Path = ()
        for i, key in enumerate(keys):
            path = (*path, _key_text(key))
            self._keys.setdefault(path, self._place(keys[0]))
            if in_array and i == len(keys) - 1:
                self._counts[path] = self._counts.get(path, 0) + 1
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
        return path

    def _pair(self, node: Node, path: Path, depth: int) -> None:
        if len(node.named_children) < 2:
            return
        for key in _keys(node.named_children[0]):
            path = (*path, _key_text(key))
            self._keys.setdefault(path, self._place(key))
        self._value(node.named_children[1], path, depth)

    def _value(self, node: Node, path: Path, depth: int) -> None:
        self._values[path] = self._place(node)
        if depth >= _MAX_DEPTH:
            return
        if node.type == "inline_table":
            for child in node.named_children:
                if child.type == "pair":
                    self._pair(child, path, depth + 1)
        elif node.type == "array":
            for i, child in enumerate(one for one in node.named_children if one.type != "comment"):
                self._value(child, (*path, i), depth + 1)

    def _place(self, node: Node) -> Place:
        row, column = node.start_point
        line = self._lines[row] if row < len(self._lines) else b""
        return (row + 1, len(line[:column].decode(errors="replace")) + 1)


def _keys(node: Node) -> list[Node]:
    """The single keys of a dotted one, in order, as deep as places are kept; the grammar nests them to the left."""
    found: list[Node] = []
    pending = [node]
    while pending:
        one = pending.pop()
        if one.type in _KEYS:
            found.append(one)
        else:
            pending.extend(reversed(one.named_children))
    return found[:_MAX_DEPTH]


def _key_text(node: Node) -> str:
    text = (node.text or b"").decode(errors="replace")
    if node.type == "bare_key":
        return text
    try:
        return next(iter(tomllib.loads(f"{text} = 0")))
    except ValueError:
        return text
