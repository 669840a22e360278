"""What a message is once it has been parsed and checked: frozen values, bytes stay bytes.

Nothing here knows how a message is framed on a connection; that is the business of server/ and upstream/ (RFC 9110 §6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Line = tuple[bytes, bytes]  # a field line: (name as received, value without blanks around it)

# Methods that ask for no change at the origin (RFC 9110 §9.2.1), those of WebDAV and QUERY with them: they may be tried
# again, and invalidate nothing.
SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PROPFIND", b"REPORT", b"SEARCH", b"QUERY"})


class Fields:
    """Header fields in order, with spelling and repetition kept; looked up by lower-case name.

    Invariant: `lines` never changes after construction; the index is made at the first look-up.
    """

    __slots__ = ("_index", "lines")

    def __init__(self, lines: Iterable[Line] = ()) -> None:
        self.lines: tuple[Line, ...] = lines if type(lines) is tuple else tuple(lines)
        self._index: dict[bytes, bytes | list[bytes]] | None = None

    def _build(self) -> dict[bytes, bytes | list[bytes]]:
        index: dict[bytes, bytes | list[bytes]] = {}
        for name, value in self.lines:
            key = name.lower()
            have = index.get(key)
            if have is None:
                index[key] = value
            elif type(have) is list:
                have.append(value)
            else:
                index[key] = [have, value]  # type: ignore[list-item]  # have is bytes: the list was ruled out
        self._index = index
        return index

    def get(self, name: bytes) -> bytes | None:
        """The field's value, several lines joined by `, ` (RFC 9110 §5.3), or None where there is none."""
        index = self._index
        value = (self._build() if index is None else index).get(name)
        return b", ".join(value) if type(value) is list else value  # type: ignore[return-value]  # bytes or None

    def all(self, name: bytes) -> list[bytes]:
        """The values of all lines of this name, in order."""
        index = self._index
        value = (self._build() if index is None else index).get(name)
        if value is None:
            return []
        return value if type(value) is list else [value]  # type: ignore[list-item]  # as above

    def __contains__(self, name: bytes) -> bool:
        index = self._index
        return name in (self._build() if index is None else index)

    def names(self) -> Iterator[bytes]:
        """Each name once, in lower case."""
        index = self._index
        return iter(self._build() if index is None else index)

    def without(self, names: Iterable[bytes]) -> Fields:
        """The same fields, less those of the given lower-case names."""
        drop = names if isinstance(names, (set, frozenset)) else frozenset(names)
        return Fields(line for line in self.lines if line[0].lower() not in drop)

    def plus(self, *lines: Line) -> Fields:
        """The same fields, with lines appended."""
        return Fields(self.lines + lines)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fields) and self.lines == other.lines

    def __hash__(self) -> int:
        return hash(self.lines)

    def __repr__(self) -> str:
        return f"Fields({self.lines!r})"


class RequestHead:
    """A request's control data and fields after all checks of `http/checks.py` (RFC 9110 §6.2).

    `scheme` and `authority` come from the target or from Host and the connection (RFC 9110 §7.1); `authority` is
    lower-case and without default port; `path` starts with `/` (or is `*` for OPTIONS, or empty for CONNECT); `query`
    is None where there is no `?`.
    """

    __slots__ = ("authority", "fields", "method", "path", "query", "scheme", "version")

    def __init__(
        self,
        method: bytes,
        scheme: bytes,
        authority: bytes,
        path: bytes,
        query: bytes | None,
        version: tuple[int, int],
        fields: Fields,
    ) -> None:
        self.method = method
        self.scheme = scheme
        self.authority = authority
        self.path = path
        self.query = query
        self.version = version
        self.fields = fields

    @property
    def target(self) -> bytes:
        """Path and query as they travel in origin-form (RFC 9112 §3.2.1)."""
        return self.path if self.query is None else self.path + b"?" + self.query

    def __repr__(self) -> str:
        where = f"{self.scheme!r}, {self.authority!r}, {self.target!r}"
        return f"RequestHead({self.method!r}, {where}, {self.version}, {self.fields!r})"


class ResponseHead:
    """A response's control data and fields; hop-by-hop fields are already gone (RFC 9110 §7.6.1)."""

    __slots__ = ("derived", "fields", "reason", "status", "version")

    def __init__(self, status: int, reason: bytes, fields: Fields, version: tuple[int, int] = (1, 1)) -> None:
        self.status = status
        self.reason = reason
        self.fields = fields
        self.version = version
        # What was worked out from this head before, by key: equal heads are one object for a while, so that the same
        # rewriting and serialising is not done for each response. Never part of its value.
        self.derived: dict[object, object] | None = None

    def with_fields(self, fields: Fields) -> ResponseHead:
        return ResponseHead(self.status, self.reason, fields, self.version)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ResponseHead)
            and self.status == other.status
            and self.reason == other.reason
            and self.fields == other.fields
        )

    def __hash__(self) -> int:
        return hash((self.status, self.fields))

    def __repr__(self) -> str:
        return f"ResponseHead({self.status}, {self.reason!r}, {self.fields!r})"
