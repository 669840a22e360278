"""What is wrong with a configuration: Problem says where in the tables, Fault where in the file, Faults is all of them.

The pure rooms (convert.py, checks.py) find problems; load.py places them. A fault's text is complete: file, line,
column, where, what, and the remedy.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Path = tuple[str | int, ...]  # ("site", 0, "listen"): keys and indices from the root of the file

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Problem:
    path: Path
    what: str
    hint: str = ""
    at_key: bool = False  # the key itself is wrong, not its value


@dataclass(frozen=True, slots=True)
class Fault:
    file: str
    line: int  # from 1
    col: int  # from 1, in characters
    where: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{self.file}:{self.line}:{self.col}: {where}{self.what}{hint}"


class Faults(Exception):  # noqa: N818 - all that is wrong with one file
    """Every fault of one file, in the order of the file; at least one."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(sorted(faults, key=lambda f: (f.line, f.col)))
        assert self.faults
        super().__init__("\n".join(str(fault) for fault in self.faults))


def spell_path(path: Path) -> str:
    """`site[0].listen[1]`, the way people say where something stands."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE_KEY.fullmatch(part) else quote(part))
    return text


def quote(text: str) -> str:
    """The text in quotes, safe on a terminal, cut when long."""
    return json.dumps(text if len(text) <= 60 else text[:59] + "…", ensure_ascii=True).replace("\\u2026", "…")


def nearest(word: str, choices: Iterable[str]) -> str:
    """The choice that `word` was most likely meant to be, or "". Always one of the choices."""
    found = difflib.get_close_matches(word[:64].lower(), sorted(set(choices)), n=1, cutoff=0.6)
    return found[0] if found else ""


def suggest(word: str, choices: Iterable[str], otherwise: str = "") -> str:
    """The hint for a wrong word: its nearest right one, else `otherwise`."""
    near = nearest(word, choices)
    return f"did you mean `{near}`?" if near else otherwise
