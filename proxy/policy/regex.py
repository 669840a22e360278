"""Regular expressions whose search is linear in the text, whatever the expression: an automaton that never backtracks.

What an operator types is held against every stored address, in the loop that serves clients: the usual engine may take
minutes for one text. The expression becomes a small program (Thompson, 1968), whose sets of states are made into a
table as they are met. Bounded: MOST_STEPS of program, MOST_STATES of table (then it begins anew). Left out is what
needs backtracking: look-around and back references. Bytes and ASCII only; `^` and `$` are the ends of the text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MOST_STEPS: Final = 512  # a counted repeat is as many copies
MOST_STATES: Final = 1024
LONGEST: Final = 512  # characters

_ANY: Final = frozenset(range(256)) - {10}
_DIGIT: Final = frozenset(b"0123456789")
_WORD: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")
_SPACE: Final = frozenset(b" \t\r\n\f\v")
_ALL: Final = frozenset(range(256))
_CLASSES: Final = {
    "d": _DIGIT,
    "D": _ALL - _DIGIT,
    "w": _WORD,
    "W": _ALL - _WORD,
    "s": _SPACE,
    "S": _ALL - _SPACE,
}
_CONTROLS: Final = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11}


class BadRegexError(ValueError):
    """It is no expression, or one that is not offered; the text says why and where."""


# ---- expression -> tree ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _One:
    """One byte out of a set."""

    of: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Edge:
    """The start or the end of the text."""

    end: bool


@dataclass(frozen=True, slots=True)
class _Row:
    """One behind the other."""

    parts: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Either:
    ways: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Repeat:
    what: _Node
    least: int
    most: int | None


_Node = _One | _Edge | _Row | _Either | _Repeat


class _Parser:
    """Reads an expression from left to right."""

    def __init__(self, text: str, *, ignore_case: bool) -> None:
        self._text = text
        self._at = 0
        self._ignore_case = ignore_case

    def parse(self) -> _Node:
        node = self._either(0)
        if self._at < len(self._text):
            raise self._fault("a `)` without its `(`")
        return node

    def _fault(self, why: str) -> BadRegexError:
        return BadRegexError(f"regular expression {self._text!r}, character {self._at + 1}: {why}")

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, what: str) -> bool:
        found = self._text.startswith(what, self._at)
        if found:
            self._at += len(what)
        return found

    def _either(self, depth: int) -> _Node:
        if depth > 32:
            raise self._fault("groups too deep")
        ways = [self._row(depth)]
        while self._take("|"):
            ways.append(self._row(depth))
        return ways[0] if len(ways) == 1 else _Either(tuple(ways))

    def _row(self, depth: int) -> _Node:
        parts = []
        while self._peek() not in {"", "|", ")"}:
            parts.append(self._repeated(self._atom(depth)))
        return _Row(tuple(parts))

    def _atom(self, depth: int) -> _Node:
        char = self._peek()
        if char == "(":
            return self._group(depth)
        if char == "[":
            return _One(self._folded(self._set()))
        if char in {"*", "+", "?", "{"}:
            raise self._fault(f"`{char}` repeats nothing; write `\\{char}` for the character itself")
        self._at += 1
        if char in {"^", "$"}:
            return _Edge(char == "$")
        if char == ".":
            return _One(_ANY)
        return _One(self._folded(self._escaped() if char == "\\" else frozenset(char.encode())))

    def _group(self, depth: int) -> _Node:
        opened = self._at
        self._at += 1
        if self._take("?") and not self._take(":"):
            self._at = opened
            raise self._fault(
                "of the groups that begin with `(?` only `(?:` is offered: look-around needs backtracking"
            )
        node = self._either(depth + 1)
        if not self._take(")"):
            self._at = opened
            raise self._fault("a `(` without its `)`")
        return node

    def _repeated(self, node: _Node) -> _Node:
        while True:
            begin = self._at
            if self._take("*"):
                least, most = 0, None
            elif self._take("+"):
                least, most = 1, None
            elif self._take("?"):
                least, most = 0, 1
            elif self._take("{"):
                least, most = self._counts(begin)
            else:
                return node
            if isinstance(node, _Edge):
                self._at = begin
                raise self._fault("the start or end of the text cannot be repeated")
            self._take("?")  # lazy or greedy is no difference to whether it matches
            node = _Repeat(node, least, most)

    def _counts(self, begin: int) -> tuple[int, int | None]:
        inside, brace, _ = self._text[self._at :].partition("}")
        low, comma, high = inside.partition(",")
        numbers = [number for number in (low, high) if number]
        if not brace or not numbers or not all(number.isascii() and number.isdigit() for number in numbers):
            self._at = begin
            raise self._fault("a repeat is {2}, {2,} or {2,5}; write `\\{` for the character itself")
        least = int(low or 0)
        most = (int(high) if high else None) if comma else least
        if max(least, most or 0) > MOST_STEPS or (most is not None and most < least):
            self._at = begin
            raise self._fault(f"a repeat goes upwards, and no further than {MOST_STEPS}")
        self._at += len(inside) + 1
        return least, most

    def _escaped(self) -> frozenset[int]:
        char = self._peek()
        if not char:
            raise self._fault("nothing behind `\\`")
        self._at += 1
        if char in _CLASSES:
            return _CLASSES[char]
        if char in _CONTROLS:
            return frozenset({_CONTROLS[char]})
        if char.isalnum():
            self._at -= 1
            why = "back references need backtracking" if char.isdigit() else "letters have \\d \\w \\s \\D \\W \\S only"
            raise self._fault(f"`\\{char}` is not offered: {why}")
        return frozenset(char.encode())

    def _set(self) -> frozenset[int]:
        opened = self._at
        self._at += 1
        negated = self._take("^")
        found: set[int] = set()
        first = True
        while first or self._peek() != "]":
            if not self._peek():
                self._at = opened
                raise self._fault("a `[` without its `]`")
            first = False
            found |= self._members()
        self._at += 1
        return _ALL - self._folded(frozenset(found)) if negated else frozenset(found)

    def _members(self) -> frozenset[int]:
        low = self._member()
        if self._peek() != "-" or self._text[self._at + 1 : self._at + 2] in {"]", ""}:
            return low
        self._at += 1
        high = self._member()
        if len(low) != 1 or len(high) != 1 or min(high) < min(low):
            raise self._fault("a range goes from one character to a later one")
        return frozenset(range(min(low), min(high) + 1))

    def _member(self) -> frozenset[int]:
        char = self._peek()
        self._at += 1
        return self._escaped() if char == "\\" else frozenset(char.encode())

    def _folded(self, of: frozenset[int]) -> frozenset[int]:
        if not self._ignore_case:
            return of
        return of | {ord(chr(byte).swapcase()) for byte in of if byte < 128 and chr(byte).isalpha()}


# ---- tree -> program -------------------------------------------------------------------------------------------------

_MATCH: Final = -1


class _Program:
    """Steps by number: a set of bytes leads to the next step, an edge likewise, a fork to several."""

    def __init__(self, node: _Node) -> None:
        self.ones: dict[int, frozenset[int]] = {}
        self.edges: dict[int, bool] = {}
        self.forks: dict[int, tuple[int, ...]] = {}
        self.next: dict[int, int] = {}
        self.count = 0
        self.first = self._build(node, _MATCH)

    def _new(self) -> int:
        self.count += 1
        if self.count > MOST_STEPS:
            raise BadRegexError(f"the regular expression needs more than {MOST_STEPS} steps: repeat less")
        return self.count

    def _build(self, node: _Node, behind: int) -> int:
        """The first step of this part, from which `behind` is reached."""
        match node:
            case _One(of=of):
                step = self._new()
                self.ones[step] = of
                self.next[step] = behind
                return step
            case _Edge(end=end):
                step = self._new()
                self.edges[step] = end
                self.next[step] = behind
                return step
            case _Row(parts=parts):
                for part in reversed(parts):
                    behind = self._build(part, behind)
                return behind
            case _Either(ways=ways):
                step = self._new()
                self.forks[step] = tuple(self._build(way, behind) for way in ways)
                return step
            case _Repeat():
                return self._repeat(node, behind)

    def _repeat(self, node: _Repeat, behind: int) -> int:
        if node.most is None:
            step = self._new()
            self.forks[step] = (self._build(node.what, step), behind)
            behind = step
        else:
            for _ in range(node.most - node.least):
                step = self._new()
                self.forks[step] = (self._build(node.what, behind), behind)
                behind = step
        for _ in range(node.least):
            behind = self._build(node.what, behind)
        return behind


# ---- program -> table ------------------------------------------------------------------------------------------------


class _State:
    """All steps that the text read so far may have come to."""

    __slots__ = ("at_end", "found", "next", "steps")

    def __init__(self, steps: frozenset[int], *, at_end: bool) -> None:
        self.steps = steps
        self.found = _MATCH in steps
        self.at_end = at_end  # it matches if the text ends here
        self.next: dict[int, _State] = {}


class Regex:
    """An expression, ready to be searched for."""

    __slots__ = ("_again", "_program", "_start", "_states", "text")

    def __init__(self, text: str) -> None:
        """`(?i)` at the start makes letters match in either case. Raises BadRegexError."""
        self.text = text
        if not text or len(text) > LONGEST or not text.isascii() or not text.isprintable():
            raise BadRegexError(f"a regular expression has 1 to {LONGEST} printable ASCII characters")
        bare = text.removeprefix("(?i)")
        self._program = _Program(_Parser(bare, ignore_case=bare != text).parse())
        self._states: dict[frozenset[int], _State] = {}
        self._again = self._reach({self._program.first}, start=False)
        first = self._reach({self._program.first}, start=True)
        at_end = _MATCH in self._reach(set(first), start=True, end=True)
        self._start = _State(first, at_end=at_end)  # apart from the others: only here does `^` hold

    def search(self, text: bytes) -> bool:
        """It matches somewhere in the text."""
        state = self._start
        for byte in text:
            if state.found:
                return True
            state = state.next.get(byte) or self._step(state, byte)
        return state.found or state.at_end

    def _step(self, state: _State, byte: int) -> _State:
        program = self._program
        moved = {program.next[step] for step in state.steps if byte in program.ones.get(step, ())}
        after = self._state(self._reach(moved, start=False) | self._again)
        state.next[byte] = after
        return after

    def _state(self, steps: frozenset[int]) -> _State:
        known = self._states.get(steps)
        if known is None:
            if len(self._states) >= MOST_STATES:
                for state in (self._start, *self._states.values()):
                    state.next = {}
                self._states.clear()
            at_end = _MATCH in self._reach(set(steps), start=False, end=True)
            known = self._states[steps] = _State(steps, at_end=at_end)
        return known

    def _reach(self, steps: set[int], *, start: bool, end: bool = False) -> frozenset[int]:
        """The steps at which something is awaited, from these, without reading a byte."""
        program = self._program
        reached: set[int] = set()
        todo = list(steps)
        while todo:
            step = todo.pop()
            if step in reached:
                continue
            reached.add(step)
            todo += program.forks.get(step, ())
            if step in program.edges and (end if program.edges[step] else start):
                todo.append(program.next[step])
        return frozenset(step for step in reached if step not in program.forks)
