"""Who asks has to prove it: the exchange waits until its credentials are proved, then is planned anew.

Only credentials that were not seen before come here: those that were proved are remembered by the planner. Where a
login is wrong, too often wrong, or one too many at a time, the answer says so (RFC 9110 §11.7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from proxy import errors
from proxy.errors import Failure
from proxy.users.logins import Known, Refused, Why

if TYPE_CHECKING:
    from proxy.errors import Kind
    from proxy.exchange import Exchange
    from proxy.pipeline import Pipeline
    from proxy.users.logins import Answer


class Admission:
    """Waits for proofs. Invariant: an exchange that waits goes on, fails, or is closed when its client leaves: once."""

    def __init__(self, spine: Pipeline) -> None:
        self._spine = spine

    def prove(self, x: Exchange) -> None:
        """On with the spine when it is proved, perhaps before this returns."""
        logins, plan = self._spine.logins, x.plan
        assert logins is not None, "who asks for a login has users"
        assert plan is not None
        waiting = Waiting(self, x)
        answer = logins.ask(plan.checked.credentials, x.client.address, self._spine.now(), waiting.answered)
        if answer is None:
            x.producer = waiting
        else:
            self.answered(x, answer)

    def answered(self, x: Exchange, answer: Answer) -> None:
        match answer:
            case Known(user=user):
                assert x.plan is not None
                x.plan = self._spine.planner.plan(x.plan.checked, x.client, frozenset(), user)
                if x.plan.bandwidth:
                    x.writer.shape(x.plan.bandwidth)
                self._spine.begin(x)
            case Refused():
                x.user = answer.user
                asked = x.plan.way if x.plan is not None else None
                kind = asked.kind if isinstance(asked, Failure) else errors.LOGIN
                self._spine.answers.fail(x, _failure(answer, kind))
            case unreachable:
                assert_never(unreachable)

    def gone(self, x: Exchange) -> None:
        x.failure = Failure(errors.CLIENT_GONE)
        self._spine.answers.close_books(x)


def _failure(refused: Refused, kind: Kind) -> Failure:
    """`kind` is how the login is asked for."""
    match refused.why:
        case Why.NONE | Why.MALFORMED | Why.WRONG:
            return Failure(kind, f"login {refused.why.value}")
        case Why.HELD:
            return Failure(errors.TOO_MANY_LOGINS, "failed too often", wait=refused.wait)
        case Why.BUSY:
            return Failure(errors.LOGINS_BUSY, "too many logins at once", wait=refused.wait)
        case unreachable:
            assert_never(unreachable)


class Waiting:
    """The producer of an exchange whose credentials are being proved."""

    __slots__ = ("_gone", "_room", "_x")

    def __init__(self, room: Admission, x: Exchange) -> None:
        self._room = room
        self._x = x
        self._gone = False

    def answered(self, answer: Answer) -> None:
        if not self._gone:
            self._x.producer = None
            self._room.answered(self._x, answer)

    def writer_drained(self) -> None: ...

    def client_gone(self) -> None:
        self._gone = True
        self._room.gone(self._x)
