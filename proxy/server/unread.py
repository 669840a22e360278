"""What a client has sent and nobody has taken: heads of requests are cut out of it, one at a time (RFC 9112 §2).

Only as much is judged here as lets one end be found in one way: how a head begins, that its lines end in CRLF, that it
keeps within its bounds even before it is whole. What a head says is for the parser and http/checks.py.
Invariant: no byte is looked at twice for the same thing, however it drips in.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from proxy import errors
from proxy.errors import Failure

if TYPE_CHECKING:
    from config.schema import Limits

HEAD_END = b"\r\n\r\n"
BARE_LF = re.compile(rb"(?<!\r)\n")
MOST_EMPTY_LINES = 2


class Unread(bytearray):
    """See the module. Emptied it would keep its place, and leave holes too small for the next: a new one is made."""

    __slots__ = ("_scanned", "empty_lines")

    def __init__(self) -> None:
        super().__init__()
        self._scanned = 0  # up to here no head ends
        self.empty_lines = 0  # before the next request

    def take_head(self, limits: Limits) -> bytes | None:
        """The next head, with its empty line; None where it is not all here yet. Raises Failure: this is no request."""
        if self._scanned == 0:
            self._skip_empty_lines()
        if not self or self == b"\r":
            return None
        if self[0] == 0x0D:  # the parser would skip any number of them
            raise Failure(errors.BAD_REQUEST, "empty lines instead of a request")
        end = self.find(HEAD_END, self._scanned)
        if end < 0 or end > limits.head:
            self._judge_partial(end, limits)
            return None
        raw = bytes(memoryview(self)[: end + 4])
        del self[: end + 4]
        self._scanned = 0
        return raw

    def rewind(self) -> None:
        """What comes next is looked at from its beginning."""
        self._scanned = 0

    def _skip_empty_lines(self) -> None:
        """At most two: what old clients send behind a body is ignored, a stream of them is no request (RFC 9112
        §2.2).
        """
        while self.empty_lines < MOST_EMPTY_LINES and self.startswith(b"\r\n"):
            del self[:2]
            self.empty_lines += 1

    def _judge_partial(self, end: int, limits: Limits) -> None:
        """What has come of a head so far may already be too much, or no request at all."""
        if not 0x21 <= self[0] <= 0x7E:
            raise Failure(errors.BAD_REQUEST, "does not begin like a request")
        if BARE_LF.search(self, max(0, self._scanned - 1), len(self) if end < 0 else end):
            raise Failure(errors.BAD_REQUEST, "line ends without CR")
        line = self.find(b"\r\n")
        if (line if line >= 0 else len(self)) > limits.request_line:
            raise Failure(errors.TARGET_TOO_LONG, f"request line over {limits.request_line} bytes")
        if len(self) > limits.head:
            raise Failure(errors.HEAD_TOO_LARGE, f"head over {limits.head} bytes")
        self._scanned = max(0, len(self) - 3)
