"""A configuration with the files that it names, as bytes: what the supervisor has read, for its children to serve.

The parcel travels in a memfd, and a restarted child gets the parcel that was accepted, never the files on disk. Secrets
are not in it: each has a memfd of its own.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator


class Parcel(msgspec.Struct, frozen=True):
    text: bytes  # of the configuration
    name: str  # of its file, for faults
    files: dict[str, bytes]  # as the configuration names them -> content
    base: str  # folder that relative paths count from
    runtime: str


def encode(parcel: Parcel) -> bytes:
    return msgspec.msgpack.encode(parcel)


def decode(data: bytes) -> Parcel:
    return msgspec.msgpack.decode(data, type=Parcel)


def seal(name: str, content: bytes) -> int:
    """A memfd with this content that nobody can change, not even a child that has it."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return fd


def unseal(fd: int) -> bytes:
    """The whole content, whoever else reads the same memfd."""
    parts: list[bytes] = []
    at = 0
    while part := os.pread(fd, 1 << 20, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


@contextmanager
def as_file(content: bytes) -> Iterator[str]:
    """A path with this content, for libraries that read nothing but files; never on disk, gone with the context."""
    fd = seal("tandem-file", content)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
