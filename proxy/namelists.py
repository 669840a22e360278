"""The lists of names that a worker serves under: read from the descriptors that came with a configuration.

A list that is the same as before is kept, by its digest; others are read piece by piece between turns of the loop, and
let go of in the same way. Nothing here reads a file of the disk.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from proxy.modes.domains import PIECE, NameSet, Reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from config.schema import Config
    from proxy.service import LongFile

Lists = dict[str, tuple[str, NameSet]]  # by name: digest of the file, and its names


async def read_lists(config: Config, files: Mapping[str, LongFile], have: Lists) -> Lists:
    """The lists of this configuration; those of `have` that are the same are the same objects."""
    known = dict(have.values())
    made: Lists = {}
    for name, one in config.lists.items():
        file = files[one.file]
        names = known.get(file.digest)
        if names is None:
            known[file.digest] = names = await _read(file.fd)
        made[name] = (file.digest, names)
    return made


async def _read(fd: int) -> NameSet:
    reader = Reader()
    at = 0
    while piece := os.pread(fd, PIECE, at):
        at += len(piece)
        reader.feed(piece)
        await asyncio.sleep(0)  # traffic goes on
    return reader.end()


async def dissolve(gone: Iterable[NameSet]) -> None:
    """Frees lists that nobody looks anything up in any more."""
    for names in gone:
        while names.dissolve():  # noqa: ASYNC110 - it is work in pieces, nothing is waited for
            await asyncio.sleep(0)


def gone_from(before: Lists, after: Lists) -> list[NameSet]:
    """The lists that are in use no longer."""
    kept = {id(names) for _, names in after.values()}
    return list({id(names): names for _, names in before.values() if id(names) not in kept}.values())


def describe(lists: Lists, before: Lists) -> list[str]:
    """A line for each list that is new or has changed."""
    return [
        f"list {name}: {len(names)} names" + (f"; {said}" if (said := names.junk.describe()) else "")
        for name, (digest, names) in lists.items()
        if before.get(name, ("", None))[0] != digest
    ]
