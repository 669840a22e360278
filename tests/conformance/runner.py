"""Plays a case against a proxy: over real sockets, with an origin that answers as the case says.

The origin serves many cases at once, told apart by the first segment of the path. What is being tested is a Target: an
address, its wall time, and how time passes for it.
"""

from __future__ import annotations

import re
import threading
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Protocol

from tests.kit import raw
from tests.kit.origin import Close, FakeOrigin, chunk

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.conformance.case import Ask, Case, Reply
    from tests.kit.origin import Received, Step

PLACE = re.compile(r"\{(?:(now|start)([+-][0-9]+)?(?:\|(\w+))?|path|authority)\}")
OWN = "tandem"


class Target(Protocol):
    """A proxy under test."""

    name: str
    at: tuple[str, int]
    slack: int  # seconds by which an Age may be more, where time is real

    def wall(self) -> float: ...
    def pause(self, seconds: float) -> None: ...


class Mismatch(Exception):  # noqa: N818 - what was seen
    """What was seen is not what the case expects."""


class Stage:
    """The origin behind all targets."""

    def __init__(self) -> None:
        self.origin = FakeOrigin()
        self.origin.otherwise(by=self._answer)
        self._plays: dict[str, Play] = {}
        self._count = 0
        self._lock = threading.Lock()

    def enter(self, play: Play) -> str:
        with self._lock:
            self._count += 1
            name = f"/{play.case.id}-{self._count}"
            self._plays[name] = play
        return name

    def leave(self, name: str) -> None:
        with self._lock:
            del self._plays[name]

    def _answer(self, received: Received) -> Iterable[Step]:
        play = self._plays.get("/" + received.path.split("/", 2)[1]) if "/" in received.path else None
        return play.answer(received) if play is not None else (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",)


def run(one: Case, target: Target, stage: Stage) -> str:
    """Empty if the target does what the case expects, else what it did instead."""
    play = Play(one, target)
    play.path = stage.enter(play)
    try:
        for number, step in enumerate(one.steps, 1):
            try:
                play.take(number, step)
            except (Mismatch, raw.Broken, OSError, UnicodeDecodeError) as seen:
                return f"request {number}: {seen}"
    finally:
        stage.leave(play.path)
    return ""


class Play:
    """One case under way."""

    def __init__(self, one: Case, target: Target) -> None:
        self.case = one
        self.target = target
        self.path = ""
        self._number = 0
        self._step: Ask = one.steps[0]
        self._received: list[Received] = []
        self._start = target.wall()
        self._bodies: dict[int, tuple[int, bytes]] = {}  # what the origin sent in each step: status, body
        self._last = 0  # the step whose response is stored, as far as is known

    # ---- the origin's side -------------------------------------------------------------------------------------------

    def answer(self, received: Received) -> list[Step]:
        step = self._step
        made = step.again if step.again is not None and self._received else step.reply
        self._received.append(received)
        if made.fails:
            return [Close()]
        status = 304 if step.seen == "validated" and made.status == 200 else made.status
        body = self._body(made)
        if status not in {304, 204} and received.method != b"HEAD":
            self._bodies[self._number] = (status, body)
        steps: list[Step] = [self._head(int(one.partition("|")[0]), one.split("|")[1:]) for one in made.interim]
        lines = [self.fill(line) for line in made.lines]
        if made.dated and not any(line.lower().startswith("date:") for line in lines):
            lines.append(self.fill("Date: {now}"))
        if status in {304, 204}:
            return [*steps, self._head(status, lines)]
        if made.chunked or made.trailers is not None:
            steps.append(self._head(status, [*lines, "Transfer-Encoding: chunked"]))
            ends = "".join(f"{line}\r\n" for line in made.trailers or ()).encode()
            parts = b"" if received.method == b"HEAD" else chunk(body)
            return [*steps, parts, Close()] if made.cut else [*steps, parts + b"0\r\n" + ends + b"\r\n"]
        if not any(line.lower().startswith("content-length:") for line in lines):
            lines.append(f"Content-Length: {len(body) + (10 if made.cut else 0)}")
        steps.append(self._head(status, lines))
        if received.method != b"HEAD":
            steps.append(body)
        return [*steps, Close()] if made.cut else steps

    def _body(self, made: Reply) -> bytes:
        return made.body if made.body is not None else f"{self.path} {self._number}".encode()

    @staticmethod
    def _head(status: int, lines: list[str]) -> bytes:
        return "\r\n".join([f"HTTP/1.1 {status} Status", *lines, "", ""]).encode("latin-1")

    def fill(self, text: str) -> str:
        """The text with its dates and places put in."""

        def put(found: re.Match[str]) -> str:
            if found[1] is None:
                return self.path if found[0] == "{path}" else "test.example"
            at = int((self._start if found[1] == "start" else self.target.wall()) + int(found[2] or 0))
            return write_date(at, found[3] or "")

        return PLACE.sub(put, text)

    # ---- the client's side -------------------------------------------------------------------------------------------

    def take(self, number: int, step: Ask) -> None:
        if step.after:
            self.target.pause(step.after)
        self._number, self._step = number, step
        self._received.clear()
        target = self.path + step.at
        sent = raw.request(step.method, target, *map(self.fill, step.lines), host=step.host, body=step.body)
        sent = sent.replace(b"HTTP/1.1", f"HTTP/{step.version}".encode(), 1)
        try:
            got = raw.ask(self.target.at, sent, step.method)
        except raw.Broken as seen:
            if step.broken and seen.raw:
                return
            raise
        if step.broken:
            raise Mismatch("the answer looks whole")
        self._judge_origin(step)
        self._judge_answer(step, got)

    def _judge_origin(self, step: Ask) -> None:
        if step.seen == "refresh":
            end = time.monotonic() + 3
            while not self._received and time.monotonic() < end:
                time.sleep(0.002)
            time.sleep(0.02)  # for its answer to come
        asked = len(self._received)
        if step.seen == "cache" and asked:
            raise Mismatch(f"the origin was asked: {self._received[0].raw_head!r}")
        if step.seen in {"origin", "validated", "refresh"} and not asked:
            raise Mismatch("the origin was not asked")
        if not asked:
            return
        received = self._received[0]
        if step.seen == "validated" and not (received.get("if-none-match") or received.get("if-modified-since")):
            raise Mismatch("the origin was asked without a condition")
        if step.method_told and received.method.decode() != step.method_told:
            raise Mismatch(f"the origin was asked by {received.method!r}")
        if step.target_told and received.target.decode("latin-1") != self.path + step.target_told:
            raise Mismatch(f"the origin was asked for {received.target!r}")
        for line in step.told:
            _expect(self.fill(line), received.get(_name(line)), "the origin got")
        for line in step.untold:
            _expect_not(self.fill(line), received.get(_name(line)), "the origin got")

    def _judge_answer(self, step: Ask, got: raw.Response) -> None:
        stored = self._bodies.get(step.of or self._last)
        own = self._bodies.get(self._number)
        status, body = self._expected(step, own, stored)
        if own is not None and step.method == "GET" and step.seen in {"origin", "refresh"}:
            self._last = self._number
        if status is not None and got.status != status:
            raise Mismatch(f"status {got.status}, not {status}; {dict(got.lines)}")
        if body is not None and got.body != body:
            raise Mismatch(f"body {got.body[:80]!r}, not {body[:80]!r}")
        for line in step.has:
            _expect(self.fill(line), got.get(_name(line)), "the answer has")
        for line in step.lacks:
            _expect_not(self.fill(line), got.get(_name(line)), "the answer has")
        if step.interim is not None and tuple(one.status for one in got.interim) != step.interim:
            raise Mismatch(f"interim answers {[one.status for one in got.interim]}, not {list(step.interim)}")
        if step.age is not None:
            self._judge_age(step.age, got.all("age"))
        if (step.member or step.unmember) and self.target.name == OWN:
            self._judge_member(step, got.get("cache-status") or "")

    def _judge_member(self, step: Ask, value: str) -> None:
        parameters = [parameter.strip() for parameter in value.rpartition(",")[2].split(";")]
        for part in map(self.fill, step.member):
            if part not in parameters and not (part.startswith("ttl=") and self.target.slack):
                raise Mismatch(f"Cache-Status {value!r} without {part!r}")
        if step.unmember and any(parameter.startswith(step.unmember + "=") for parameter in parameters):
            raise Mismatch(f"Cache-Status {value!r} with {step.unmember}")

    @staticmethod
    def _expected(
        step: Ask, own: tuple[int, bytes] | None, stored: tuple[int, bytes] | None
    ) -> tuple[int | None, bytes | None]:
        """Status and body, where they are expected to be any in particular."""
        source = own if step.seen == "origin" and step.of is None else stored
        if step.seen == "any" and step.of is None:
            source = None
        status = step.status if step.status is not None else source[0] if source is not None else None
        if step.text is not None or step.method == "HEAD":
            return status, step.text or b""
        plain = source is not None and status == source[0]
        return status, source[1] if plain and source is not None else None

    def _judge_age(self, bounds: tuple[int, int], values: list[str]) -> None:
        if len(values) != 1 or not values[0].isdigit():
            raise Mismatch(f"Age {values}")
        if not bounds[0] <= int(values[0]) <= bounds[1] + self.target.slack:
            raise Mismatch(f"Age {values[0]}, not in {bounds}")


def write_date(at: int, form: str) -> str:
    fixed = formatdate(at, usegmt=True)
    if form == "850":
        return time.strftime("%A, %d-%b-%y %H:%M:%S GMT", time.gmtime(at))
    if form == "asctime":
        return time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(at))
    return fixed.lower() if form == "lower" else fixed


def _name(line: str) -> str:
    return line.partition(":")[0]


def _expect(line: str, value: str | None, where: str) -> None:
    name, colon, wanted = line.partition(":")
    if value is None or (colon and value != wanted.strip(" ")):
        raise Mismatch(f"{where} {name}: {value!r}, not {wanted.strip()!r}")


def _expect_not(line: str, value: str | None, where: str) -> None:
    name, colon, unwanted = line.partition(":")
    if value is not None and (not colon or value == unwanted.strip(" ")):
        raise Mismatch(f"{where} {name}: {value!r}")
