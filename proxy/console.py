"""What the supervisor says to people: one line each, to standard error, never waiting for a slow reader."""

from __future__ import annotations

import os
import select
from typing import Final

_STDERR: Final = 2
_LINE: Final = select.PIPE_BUF  # a pipe that is writable takes this many bytes without blocking


def say(text: str) -> None:
    """One or more lines; what the reader has no room for is lost rather than waited for."""
    poll = select.poll()
    poll.register(_STDERR, select.POLLOUT)
    for line in text.splitlines():
        data = f"tandem: {escape(line)}\n".encode(errors="backslashreplace")[:_LINE]
        try:
            if poll.poll(0):
                os.write(_STDERR, data)
        except OSError:
            return


def escape(text: str) -> str:
    """The text with control characters made visible: names from files and the network end up on terminals."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
