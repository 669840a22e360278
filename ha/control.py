"""`ha.sock`: one JSON question per connection, one JSON answer; for `tandem ha`, and for admin's metrics.

Only the user of `ha` and root may connect (0600). Invariant: a question costs the loop little, and a client that is
slow or talks nonsense costs it nothing more.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

SOCKET: Final = "ha.sock"
_MAX_QUESTION: Final = 4096
_LIMIT: Final = 30.0  # seconds for question and answer; a drill takes a few


async def serve(path: Path, answer: Answer) -> asyncio.Server:
    """Answers questions until it is closed. Raises OSError."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError):  # ValueError: a line without end
            async with asyncio.timeout(_LIMIT):
                writer.write(json.dumps(await _answered(await reader.readline(), answer)).encode() + b"\n")
                await writer.drain()
        writer.close()

    path.unlink(missing_ok=True)  # noqa: ASYNC240 - once, at the start
    before = os.umask(0o177)
    try:
        return await asyncio.start_unix_server(client, path, limit=_MAX_QUESTION)
    finally:
        os.umask(before)


async def _answered(line: bytes, answer: Answer) -> dict[str, Any]:
    try:
        question = json.loads(line)
    except ValueError:
        question = None
    if not isinstance(question, dict) or not isinstance(question.get("command"), str):
        return {"ok": False, "error": "not a question"}
    return await answer(question)
