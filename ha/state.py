"""What a run of `ha` leaves behind for the next one, in `ha.state` of the runtime folder.

Addresses and links it made and settings it changed, to be undone after a crash; and what it has learned of the other
nodes. Written whole and renamed, before what it speaks of is done. A file that cannot be read, or that somebody else
has put there (workers may write in that folder), is as good as none: addresses end by their lifetimes anyway.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX: Final = 2**20  # characters; more is none of ours


@dataclass(slots=True)
class State:
    path: Path
    addresses: list[str] = field(default_factory=list)  # virtual ones, with prefix length
    links: list[str] = field(default_factory=list)  # macvlans
    sysctls: dict[str, list[str]] = field(default_factory=dict)  # `eth0/arp_ignore`: before, ours
    learned: dict[str, Any] = field(default_factory=dict)  # of other nodes, as the runtime likes it

    def save(self) -> None:
        """Raises OSError."""
        content = {name: value for name, value in asdict(self).items() if name != "path"}
        beside = self.path.with_name(self.path.name + ".new")
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, _CREATE, 0o600), "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
        beside.replace(self.path)


def load(path: Path) -> State:
    """The state that an earlier run left, or an empty one."""
    state = State(path)
    with suppress(OSError, ValueError, AttributeError, RecursionError):
        content = json.loads(_read(path))
        for name in ("addresses", "links"):
            if _is_texts(value := content.get(name)):
                setattr(state, name, value)
        if isinstance(learned := content.get("learned"), dict):
            state.learned = learned
        if isinstance(sysctls := content.get("sysctls"), dict):
            state.sysctls = {file: pair for file, pair in sysctls.items() if _is_texts(pair) and len(pair) == 2}
    return state


def _read(path: Path) -> str:
    """What we wrote ourselves. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, encoding="utf-8") as file:
        if os.fstat(file.fileno()).st_uid != os.geteuid():
            raise PermissionError(f"{path} is somebody else's")
        return file.read(_MAX)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
