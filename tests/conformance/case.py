"""What a case is: one or a few requests in a row, what the origin would answer to each, and what has to be seen.

Cases are data. In every text `{now}`, `{now-3600}` are dates (IMF-fixdate) at the moment of sending and `{start+60}`
ones counted from the case's beginning; `|850`, `|asctime`, `|lower` write them in another form; `{path}` is the path of
the case. A case names the rules it is about (rules.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

NAMES = ("required", "optimal", "check")


@dataclass(frozen=True, slots=True)
class Reply:
    """What the origin answers if the request gets there. Without `body` one is made that no other step has."""

    lines: tuple[str, ...] = ()
    status: int = 200
    body: bytes | None = None
    dated: bool = True
    interim: tuple[str, ...] = ()  # heads before the final one, as `103|Link: <a>`
    trailers: tuple[str, ...] | None = None  # chunked, with these trailer fields
    chunked: bool = False
    cut: bool = False  # the connection ends in the middle of the body
    fails: bool = False  # the connection ends before a head


@dataclass(frozen=True, slots=True)
class Ask:
    """One request and what is expected of it.

    `seen`: "cache" (the origin got nothing), "origin" (it was asked), "validated" (by a condition; it says 304),
    "refresh" (answered from the cache, then asked in the background), "any". Of the body, unless `text` says it: what
    the origin sent in this step, or in the last step that brought one, or in step `of`.
    """

    seen: str
    lines: tuple[str, ...] = ()
    reply: Reply = Reply()
    again: Reply | None = None  # to what else gets to the origin in this step
    method: str = "GET"
    at: str = ""  # behind the path of the case
    host: str = "test.example"
    body: bytes | None = None
    version: str = "1.1"
    after: float = 0.0  # seconds before it
    status: int | None = None  # None: the origin's
    text: bytes | None = None
    of: int | None = None
    has: tuple[str, ...] = ()  # `Name: value`, or `Name` for any value
    lacks: tuple[str, ...] = ()  # `Name`, or `Name: value`
    age: tuple[int, int] | None = None
    told: tuple[str, ...] = ()  # what the origin got: `Name: value` or `Name`
    untold: tuple[str, ...] = ()
    method_told: str = ""
    target_told: str = ""  # behind the path of the case
    member: tuple[str, ...] = ()  # parts of our member of Cache-Status
    unmember: str = ""  # a parameter that it has not
    broken: bool = False  # the answer ends before it is whole
    interim: tuple[int, ...] | None = None  # statuses of the interim answers


@dataclass(frozen=True, slots=True)
class Case:
    id: str
    kind: str  # required | optimal | check (where the standards leave it open, and so do we judge none but ourselves)
    rules: tuple[str, ...]
    section: str  # RFC 9111 §4.2.1
    steps: tuple[Ask, ...]
    site: str = ""  # lines of our configuration; such a case is ours alone

    @property
    def pauses(self) -> float:
        return sum(step.after for step in self.steps)


def reply(*lines: str, **more: object) -> Reply:
    return Reply(lines, **more)  # type: ignore[arg-type]  # fields of Reply


def ask(seen: str, *lines: str, **more: object) -> Ask:
    return Ask(seen, lines, **more)  # type: ignore[arg-type]  # fields of Ask


def case(kind: str, name: str, rules: str, section: str, *steps: Ask, **more: object) -> Case:
    assert kind in NAMES
    return Case(name, kind, tuple(rules.split()), section, steps, **more)  # type: ignore[arg-type]  # fields of Case


def required(name: str, rules: str, section: str, *steps: Ask, **more: object) -> Case:
    return case("required", name, rules, section, *steps, **more)


def optimal(name: str, rules: str, section: str, *steps: Ask, **more: object) -> Case:
    return case("optimal", name, rules, section, *steps, **more)


def check(name: str, rules: str, section: str, *steps: Ask, **more: object) -> Case:
    return case("check", name, rules, section, *steps, **more)


def first(*lines: str, **more: object) -> Ask:
    """A request that brings a response with these fields."""
    return ask("origin", reply=reply(*lines, **more))


def reused(name: str, rules: str, section: str, *lines: str, kind: str = "optimal", **more: object) -> Case:
    """A response with these fields answers the same request again."""
    again, made, rest = _sorted(more)
    return case(kind, name, rules, section, first(*lines, **made), ask("cache", **again), **rest)


def fetched(name: str, rules: str, section: str, *lines: str, kind: str = "required", **more: object) -> Case:
    """A response with these fields does not answer the same request without the origin's word."""
    again, made, rest = _sorted(more)
    return case(kind, name, rules, section, first(*lines, **made), ask("origin", **again), **rest)


def _sorted(more: dict[str, object]) -> tuple[dict[str, object], dict[str, object], dict[str, object]]:
    again = {name: more.pop(name) for name in ("after", "age", "has", "lacks", "member") if name in more}
    made = {name: more.pop(name) for name in ("status", "body", "dated") if name in more}
    return again, made, more


def with_request(one: Case, *lines: str) -> Case:
    """The same case with further lines in each of its requests."""
    return replace(one, steps=tuple(replace(step, lines=step.lines + lines) for step in one.steps))
