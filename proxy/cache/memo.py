"""From the bytes of a request head to the bytes of its answer: a shortcut, never a second truth.

Only the spine fills it, with answers it has just given in full from the store. An answer is good until its Age ticks or its stored
response is no longer fresh, and is forgotten when that response is purged, replaced or evicted. One map per kind of client
connection (listener, TLS, what access control looks at), because equal bytes mean the same only there.

Invariant: an answer in the memo whose `until` has not passed is byte for byte what the spine would send now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cachetools import FIFOCache

if TYPE_CHECKING:
    from proxy.http.stored import StoredResponse
    from proxy.observe.observer import Template

OVERHEAD = 400  # bytes of an entry beyond head and answer: objects and map slots, measured with sys.getsizeof
COPY_BELOW = 4096  # bodies up to this size are kept joined with their head: one buffer to write


class Answer:
    """A whole answer, ready to be written. `until` is in the loop's time."""

    __slots__ = ("parts", "payload", "size", "stored", "template", "until")

    def __init__(
        self, head: bytes, chunks: list[bytes], stored: StoredResponse, until: float, template: Template
    ) -> None:
        body = sum(map(len, chunks))
        if body <= COPY_BELOW:
            self.payload = head + b"".join(chunks)
            self.parts: list[bytes] | None = None
        else:
            self.payload = b""
            self.parts = [head, *chunks]  # the chunks are the store's own: no copy
        self.size = len(self.payload) + (len(head) if self.parts else 0)
        self.stored = stored
        self.until = until
        self.template = template


class Memo(FIFOCache[bytes, Answer]):
    """Ready answers by request head, bounded in bytes; what it holds beyond the store's own bytes is counted."""

    def __init__(self, most: int) -> None:
        super().__init__(most, getsizeof=lambda answer: answer.size)

    def remember(self, head: bytes, answer: Answer) -> None:
        """The answer for exactly these bytes; one that is too large for the memo is left out."""
        answer.size += 2 * len(head) + OVERHEAD
        if answer.size > self.maxsize // 4:
            return
        self[head] = answer
        stored = answer.stored
        if stored.memos is None:
            stored.memos = {head}
        else:
            stored.memos.add(head)

    def forget(self, stored: StoredResponse) -> None:
        """No answer comes from this stored response any more."""
        for head in stored.memos or ():
            answer = self.pop(head, None)
            if answer is not None and answer.stored is not stored:
                self[head] = answer

    def popitem(self) -> tuple[bytes, Answer]:
        head, answer = super().popitem()
        if answer.stored.memos is not None:
            answer.stored.memos.discard(head)
        return head, answer
