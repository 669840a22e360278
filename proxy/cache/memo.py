"""From the bytes of a request head to what is known of them: the plan, and the ready answer. A shortcut, never a
second truth.

Only the spine fills it: with the plan it made of a head, and with answers it has just given in full from the store.
An answer is good until its Age ticks or its stored response is no longer fresh, and goes when that response is
purged, replaced or evicted. One map per kind of client connection (listener, TLS, what access control looks at),
because equal bytes mean the same only there.

Invariant: an answer in the memo whose `until` has not passed is byte for byte what the spine would send now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cachetools import FIFOCache

from proxy.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.http.stored import StoredResponse
    from proxy.observe.observer import Template

# Bytes of a plan beyond its head: objects, a slot in three dictionaries; and for each line of the head its parsed
# field. Measured in the running program, as tests/e2e/test_memory.py does.
PLAN_SIZE = 1000
LINE_SIZE = 235
ANSWER_SIZE = 300  # bytes of an answer's objects beyond what it sends
COPY_BELOW = 4096  # bodies up to this size are kept joined with their head: one buffer to write


class Answer:
    """A whole answer, ready to be written. `until` is in the loop's time."""

    __slots__ = ("parts", "payload", "size", "stored", "template", "until")

    def __init__(
        self, head: bytes, chunks: Sequence[bytes], stored: StoredResponse, until: float, template: Template
    ) -> None:
        if sum(map(len, chunks)) <= COPY_BELOW:
            self.payload = head + b"".join(chunks)
            self.parts: tuple[bytes, ...] | None = None
            self.size = len(self.payload) + ANSWER_SIZE
        else:
            self.payload = b""
            self.parts = (head, *chunks)  # the chunks are the store's own: no copy
            self.size = len(head) + ANSWER_SIZE
        self.stored = stored
        self.until = until
        self.template = template


def _size(plan: Plan) -> int:
    answer: Answer | None = plan.answer
    return plan.size if answer is None else plan.size + answer.size


class Memo(FIFOCache[bytes, Plan]):
    """Plans and answers by request head, bounded in bytes."""

    def __init__(self, most: int) -> None:
        super().__init__(most, getsizeof=_size)
        self._retired = False

    def remember_plan(self, head: bytes, plan: Plan) -> None:
        """The plan for exactly these bytes; one that is too large is left out."""
        plan.size = PLAN_SIZE + LINE_SIZE * head.count(b"\n") + 3 * len(head)  # it is there raw, parsed and forwarded
        if plan.size <= self.maxsize // 4 and not self._retired:
            self[head] = plan

    def remember_answer(self, head: bytes, plan: Plan, answer: Answer) -> None:
        """The answer goes with its plan; its stored response knows of it, so that it can be forgotten with that."""
        if plan.size == 0 or self._retired or plan.size + answer.size > self.maxsize // 4:
            return
        plan.answer = answer
        self[head] = plan
        stored = answer.stored
        if stored.memos is None:
            stored.memos = {head}
        else:
            stored.memos.add(head)

    def forget(self, stored: StoredResponse) -> None:
        """No answer comes from this stored response any more; the plans stay."""
        for head in stored.memos or ():
            plan = self.get(head)
            if plan is not None and plan.answer is not None and plan.answer.stored is stored:
                plan.answer = None
                self[head] = plan

    def doubt(self) -> None:
        """No answer is good any more until the spine has given it again; a walk over the memo, nothing is freed."""
        for plan in self.values():
            if plan.answer is not None:
                plan.answer.until = 0.0

    def retire(self) -> None:
        """It gives and takes nothing any more."""
        self.clear()
        self._retired = True

    def popitem(self) -> tuple[bytes, Plan]:
        head, plan = super().popitem()
        answer, plan.answer = plan.answer, None
        if answer is not None and answer.stored.memos is not None:
            answer.stored.memos.discard(head)
        return head, plan
