"""Access logs: what a line says, how its values are made harmless, and a file that never holds traffic up.

Formats are common, combined, squid (its native one), json, or a template of `{field}` names. A format is bound once to
what an exchange says (`Format.bind`), which leaves a line with places for time and client alone; a repeated hit only
fills these in. Every value passes `escape`: printable ASCII without quotes and backslashes comes out, whatever came in,
so that no line can be broken, forged, or steer a terminal. Cookies and credentials have no field; session ids in
arguments are masked.
"""

from __future__ import annotations

import json
import os
import re
import select
import stat
import sys
import threading
from collections import deque
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from string import Formatter
from time import gmtime, strftime
from typing import TYPE_CHECKING, NamedTuple

from config.schema import FORWARD
from proxy import errors
from proxy.exchange import Client, Exchange, Outcome
from proxy.policy.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from config.units import MonoTime

LONGEST = 2048  # bytes of one value; what is beyond is cut, with a mark
_CACHED = 256  # longer values are escaped each time: the cache stays below 1 MB
_UNSAFE = re.compile(rb"[^ !#-\[\]-~]")  # all but printable ASCII, and of that the quote and the backslash
_MASK = b"***"

# ---- values ----------------------------------------------------------------------------------------------------------


def escape(value: bytes) -> str:
    r"""Printable ASCII without quotes and backslashes: other bytes as `\xHH`; cut at LONGEST, and says by how much."""
    return _escape_cached(value) if len(value) <= _CACHED else _escape(value)


def _escape(value: bytes) -> str:
    mark = ""
    if len(value) > LONGEST:
        mark = f"...+{len(value) - LONGEST}"
        value = value[:LONGEST]
    return _UNSAFE.sub(lambda found: b"\\x%02x" % found[0][0], value).decode("ascii") + mark


_escape_cached = lru_cache(maxsize=2048)(_escape)


def _text(value: str) -> str:
    return escape(value.encode("utf-8", "surrogateescape"))


def masker(names: Iterable[bytes]) -> Callable[[bytes], bytes]:
    """A function that puts `***` for the values of these path parameters and query arguments, in any letter case."""
    marks = tuple(name.lower() + b"=" for name in sorted(names) if name)
    find = re.compile(rb"([;?&](?:" + b"|".join(map(re.escape, marks)) + rb"))[^;&?#/]*", re.IGNORECASE)

    def mask(target: bytes) -> bytes:
        if b"=" not in target:
            return target
        lower = target.lower()
        for mark in marks:  # a plain search tells in a tenth of the pattern's time that there is nothing to mask
            if mark in lower:
                return find.sub(rb"\1" + _MASK, target)
        return target

    return mask


# ---- what an exchange says -------------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """All that a log may say of an ended exchange but its time and its client; holds no body and no connection."""

    # A tuple: a frozen dataclass takes 3 µs to make, and every exchange makes one.

    method: bytes
    scheme: bytes
    authority: bytes
    target: bytes  # masked, path and query
    version: tuple[int, int]
    referer: bytes | None  # masked
    user_agent: bytes | None
    content_type: bytes | None
    conditional: bytes  # which kind of If-* field the request had: b"etag", b"date" or b""
    site: str
    rule: str
    peer: bool  # the origin belongs to a configured pool
    outcome: Outcome
    reason: Reason | None
    status: int
    sent: int
    received: int
    upstream: str
    user: str  # who has proved, or claimed, to be it
    remote: str  # the client as told by trusted hops, "" where it is the connection's own address
    failure: errors.Kind | None
    detail: str


def entry(x: Exchange, mask: Callable[[bytes], bytes]) -> Entry:
    """What the logs may say of this exchange."""
    head, route, failure, response = x.request, x.route, x.failure, x.response
    fields = head.fields
    referer = fields.get(b"referer")
    return Entry(
        head.method,
        head.scheme,
        head.authority,
        mask(head.target),
        head.version,
        None if referer is None else mask(referer),
        fields.get(b"user-agent"),
        None if response is None else response.fields.get(b"content-type"),
        b"etag" if b"if-none-match" in fields else b"date" if b"if-modified-since" in fields else b"",
        x.site if route is None else route.site,
        x.rule if route is None else route.rule,
        route is not None and route.pool != "",
        x.outcome,
        x.reason,
        x.status,
        x.sent,
        x.received,
        x.upstream,
        x.user or (x.plan.user if x.plan is not None else ""),
        "" if x.remote in {"", x.client.address} else x.remote,
        None if failure is None else failure.kind,
        "" if failure is None else failure.detail,
    )


# ---- squid's words ---------------------------------------------------------------------------------------------------

_TIMEOUTS = frozenset(
    (errors.CONNECT_TIMEOUT, errors.FIRST_BYTE_TIMEOUT, errors.RESPONSE_IDLE, errors.WHOLE_TIMEOUT, errors.TUNNEL_IDLE)
)
_REFRESHED = frozenset((Reason.STALE, Reason.RESPONSE_NO_CACHE))
_CLIENT_REFRESH = frozenset((Reason.REQUEST_NO_CACHE, Reason.REQUEST_MAX_AGE, Reason.REQUEST_MIN_FRESH))


def squid_code(e: Entry) -> str:
    """Squid's result code, with _ABORTED where the client left and _TIMEDOUT where an origin kept us waiting."""
    suffix = ""
    if e.failure is errors.CLIENT_GONE:
        suffix = "_ABORTED"
    elif e.failure in _TIMEOUTS:
        suffix = "_TIMEDOUT"
    return _squid_tag(e) + suffix


def _squid_tag(e: Entry) -> str:
    match e.outcome:
        case Outcome.HIT if e.status == 304:
            return "TCP_INM_HIT" if e.conditional == b"etag" else "TCP_IMS_HIT"
        case Outcome.HIT:
            return "TCP_MEM_HIT"
        case Outcome.STALE:
            return "TCP_REFRESH_FAIL_OLD" if e.reason is Reason.STALE_ON_ERROR else "TCP_STALE_HIT"
        case Outcome.REVALIDATED:
            return "TCP_REFRESH_UNMODIFIED"
        case Outcome.MISS | Outcome.BYPASS if e.reason in _REFRESHED:
            return "TCP_REFRESH_MODIFIED"
        case Outcome.MISS | Outcome.BYPASS if e.reason in _CLIENT_REFRESH:
            return "TCP_CLIENT_REFRESH_MISS"
        case Outcome.FAILED if e.reason in _REFRESHED:
            return "TCP_REFRESH_FAIL_ERR"
        case Outcome.ANSWER if 300 <= e.status < 400:
            return "TCP_REDIRECT"
        case Outcome.REFUSED if e.failure is None or e.failure.source is not errors.Source.CLIENT:
            return "TCP_MISS" if e.failure is errors.NOT_IN_CACHE else "TCP_DENIED"
        case Outcome.REFUSED | Outcome.ANSWER:
            return "NONE_NONE"
        case Outcome.TUNNEL:
            return "TCP_TUNNEL"
        case Outcome.FAILED if e.method == b"CONNECT":
            return "NONE_NONE"  # its word for a tunnel that never was
        case Outcome.MISS | Outcome.BYPASS | Outcome.FAILED:
            return "TCP_MISS"


def squid_peer(e: Entry) -> str:
    """Hierarchy code and host of who was asked; a configured origin is a parent in squid's words."""
    upstream = e.upstream
    if not upstream and e.failure is not None and e.failure.source is errors.Source.UPSTREAM and not e.peer:
        upstream = e.authority.decode("latin-1")  # asked in vain
    if not upstream:
        return "HIER_NONE/-"
    host = upstream.rpartition(":")[0].strip("[]") or upstream
    return ("FIRSTUP_PARENT/" if e.peer else "HIER_DIRECT/") + _text(host)


# ---- fields: values that repeat, and values that do not --------------------------------------------------------------

# Names of %-places filled in per line. The value of `client` is the address of the connection.
PLACES = {
    "client": "%(client)s",
    "port": "%(port)d",
    "time": "%(clf)s",
    "iso_time": "%(iso)s.%(ms)03dZ",
    "epoch": "%(epoch)d.%(ms)03d",
    "duration": "%(duration).6f",
    "duration_ms": "%(duration_ms)d",
}


def _or_dash(value: bytes | None) -> str:
    return escape(value) if value else "-"


def _is_unread(e: Entry) -> bool:
    """The head could not be read: nothing in it is certain (RFC 9112 §2.2)."""
    return not e.authority and not e.target


def _request_line(e: Entry) -> str:
    if _is_unread(e):
        return "-"
    target = _url_bytes(e) if e.method == b"CONNECT" or e.site == FORWARD else e.target
    return f"{escape(e.method + b' ' + target)} HTTP/{e.version[0]}.{e.version[1]}"


def _url(e: Entry) -> str:
    if _is_unread(e):
        return "-"
    return escape(_url_bytes(e))


def _url_bytes(e: Entry) -> bytes:
    """What was asked for, as a proxy is asked."""
    if e.method == b"CONNECT":
        return e.authority
    return e.scheme + b"://" + e.authority + e.target if e.scheme else e.target


FIELDS: dict[str, Callable[[Entry], str]] = {
    "request": _request_line,
    "method": lambda e: _or_dash(e.method),
    "scheme": lambda e: _or_dash(e.scheme),
    "host": lambda e: _or_dash(e.authority),
    "target": lambda e: _or_dash(e.target),
    "url": _url,
    "version": lambda e: f"{e.version[0]}.{e.version[1]}",
    "status": lambda e: str(e.status),
    "bytes": lambda e: str(e.sent),
    "request_bytes": lambda e: str(e.received),
    "referer": lambda e: _or_dash(e.referer),
    "user_agent": lambda e: _or_dash(e.user_agent),
    "content_type": lambda e: _or_dash(e.content_type),
    "mime_type": lambda e: _or_dash(e.content_type and e.content_type.partition(b";")[0].rstrip()),
    "user": lambda e: _text(e.user) or "-",
    "site": lambda e: _text(e.site) or "-",
    "rule": lambda e: _text(e.rule) or "-",
    "outcome": lambda e: e.outcome.value,
    "reason": lambda e: e.reason.token if e.reason else "-",
    "upstream": lambda e: _text(e.upstream) or "-",
    "error": lambda e: e.failure.token if e.failure else "-",
    "detail": lambda e: _text(e.detail) or "-",
    "squid_code": squid_code,
    "squid_peer": squid_peer,
}
PLAIN = frozenset(
    {"version", "status", "bytes", "request_bytes", "outcome", "reason", "error", "squid_code"}
)  # words of ours
_REMOTE = "remote"  # of both kinds: what a trusted hop told is the same each time, the connection's own address is not


@dataclass(frozen=True, slots=True)
class Format:
    """How a line looks. `bind` leaves the %-places named in `places`, and no others, for `fill`."""

    bind: Callable[[Entry], str]
    places: frozenset[str]


def _remote(e: Entry) -> str:
    return _percent(_text(e.remote)) if e.remote else PLACES["client"]


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def compile_format(text: str) -> Format:
    """The format of this name or template; ValueError with a sentence where a template is at fault."""
    if text == "json":
        return Format(_bind_json, frozenset(("client", "iso_time", "duration")))
    return _template(NAMED.get(text, text))


NAMED = {
    "common": '{remote} - {user} [{time}] "{request}" {status} {bytes}',
    "combined": '{remote} - {user} [{time}] "{request}" {status} {bytes} "{referer}" "{user_agent}"',
    "squid": "{epoch} {duration_ms:>6} {remote} {squid_code}/{status:0>3} {bytes} "
    "{method} {url} {user} {squid_peer} {mime_type}",
}


def _template(text: str) -> Format:
    if "{" not in text:
        raise ValueError(
            f"`{text}` is no log format: use common, combined, squid, json or a template with {{field}} names"
        )
    if "\n" in text or "\r" in text:
        raise ValueError("a log format is one line")
    pieces: list[str | Callable[[Entry], str]] = []
    places = set()
    parsed = list(Formatter().parse(text))
    for at, (literal, name, spec, _) in enumerate(parsed):
        pieces.append(_percent(literal))
        if name is None:
            continue
        quoted = literal.endswith('"') and at + 1 < len(parsed) and parsed[at + 1][0].startswith('"')
        if name in PLACES:
            places.add(name)
            pieces.append(_padded_place(name, spec or ""))
        elif name == _REMOTE:
            places.add("client")
            pieces.append(_remote)
        elif name in FIELDS:
            pieces.append(_piece(name, spec or "", quoted=quoted))
        else:
            near = get_close_matches(name, [*PLACES, *FIELDS, _REMOTE], 1)
            raise ValueError(f"no log field is named `{name}`" + (f"; nearest: `{near[0]}`" if near else ""))
    return Format(_joiner(pieces), frozenset(places))


def _padded_place(name: str, spec: str) -> str:
    if not spec:
        return PLACES[name]
    width = re.fullmatch(r">(\d{1,2})", spec)
    if name != "duration_ms" or width is None:
        raise ValueError(f"`{{{name}:{spec}}}`: only {{duration_ms:>N}} takes a width")
    return f"%(duration_ms){width[1]}d"


def _piece(name: str, spec: str, *, quoted: bool) -> Callable[[Entry], str]:
    value = FIELDS[name]
    if spec:
        format("", spec)  # a bad one raises now: ValueError
        return lambda e: format(_percent(value(e)).replace(" ", "\\x20"), spec)
    if name in PLAIN:
        return value
    if quoted:
        return lambda e: _percent(value(e))
    # Outside of quotes a blank would end the field: it is escaped like the other separators.
    return lambda e: _percent(value(e)).replace(" ", "\\x20")


def _joiner(pieces: list[str | Callable[[Entry], str]]) -> Callable[[Entry], str]:
    literals = tuple(piece if isinstance(piece, str) else "" for piece in pieces)
    calls = tuple((at, piece) for at, piece in enumerate(pieces) if not isinstance(piece, str))

    def bind(e: Entry) -> str:
        parts = list(literals)
        for at, call in calls:
            parts[at] = call(e)
        return "".join(parts)

    return bind


def _bind_json(e: Entry) -> str:
    """One object; what is not there is null. Values are escaped first, so that a decoded value too is harmless."""
    values: dict[str, object] = {
        "site": _text(e.site) or None,
        "rule": _text(e.rule) or None,
        "method": None if _is_unread(e) else escape(e.method),
        "url": None if _is_unread(e) else _url(e),
        "version": f"{e.version[0]}.{e.version[1]}",
        "status": e.status,
        "bytes": e.sent,
        "request_bytes": e.received,
        "user": _text(e.user) or None,
        "outcome": e.outcome.value,
        "reason": e.reason.token if e.reason else None,
        "upstream": _text(e.upstream) or None,
        "error": e.failure.token if e.failure else None,
        "detail": _text(e.detail) or None,
        "referer": escape(e.referer) if e.referer else None,
        "user_agent": escape(e.user_agent) if e.user_agent else None,
        "content_type": escape(e.content_type) if e.content_type else None,
    }
    head = f'{{"time":"{PLACES["iso_time"]}","client":"{PLACES["client"]}","remote":"{_remote_json(e)}"'
    return f'{head},"duration":{PLACES["duration"]},{_percent(json.dumps(values, separators=(",", ":"))[1:])}'


def _remote_json(e: Entry) -> str:
    return _remote(e).replace("\\", "\\\\")


# ---- lines -----------------------------------------------------------------------------------------------------------

# One line to write: what to bind or what is bound already (one text per log), client, time of the end, seconds it took.
Record = tuple["Entry | tuple[str, ...]", Client, "MonoTime", float]


def render_lines(records: Iterable[Record], form: Format, log: int, offset: float) -> bytes:
    """The lines of log number `log`, times in UTC; `offset` is wall time less monotonic time."""
    places = form.places
    hundredths, took, ports = (
        "iso_time" in places or "epoch" in places,
        bool(places & {"duration", "duration_ms"}),
        "port" in places,
    )
    second = -1
    values: dict[str, object] = {}
    lines = []
    for what, client, now, duration in records:
        wall = now + offset
        if int(wall) != second:
            second = int(wall)
            values.update(_times(second))
        values["client"] = client.address
        if hundredths:
            values["ms"] = int((wall - second) * 1000)
        if took:
            values["duration"] = duration
            values["duration_ms"] = duration * 1000
        if ports:
            values["port"] = client.port
        bound = form.bind(what) if isinstance(what, Entry) else what[log]
        lines.append(bound % values)
    lines.append("")
    return "\n".join(lines).encode("ascii", "backslashreplace")


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _times(second: int) -> Mapping[str, object]:
    at = gmtime(second)
    # Month names of our own: strftime's follow the locale.
    clf = (
        f"{at.tm_mday:02}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year:04}:{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02} +0000"
    )
    return {"clf": clf, "iso": strftime("%Y-%m-%dT%H:%M:%S", at), "epoch": second}


# ---- files -----------------------------------------------------------------------------------------------------------

MAX_WAITING = 4 * 2**20  # bytes handed over and not yet written; a disk that stalls for longer costs lines, not memory


def open_log(path: str) -> int:
    """A descriptor to append to; `-` is standard output. A FIFO without reader raises instead of waiting for one."""
    if path == "-":
        return os.dup(sys.__stdout__.fileno() if sys.__stdout__ else 1)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    return os.open(path, flags, 0o640)


class LogFile:
    """A file appended to from a thread of its own, since a write to a disk may block whatever its flags say.

    Invariants: `write` never waits; at most MAX_WAITING bytes wait for the thread; a line is written whole or not at
    all, save by a disk that fills up within it, which leaves a torn line closed by a line end; each line not written
    counts as dropped once.
    """

    def __init__(self, path: str, opener: Callable[[str], int] = open_log) -> None:
        self.path = path
        self._opener = opener
        self._use(opener(path))  # OSError: a log that cannot be opened is a fault at start
        self._jobs: deque[tuple[bytes, int]] = deque()
        self._changed = threading.Condition()
        self._waiting = 0  # bytes in _jobs and under way
        self._reopen = False
        self._closing = False
        self._dropped = 0  # guarded by _changed
        self._told: str | None = None
        self._thread = threading.Thread(target=self._run, name=f"log {path}", daemon=True)
        self._thread.start()

    def write(self, lines: bytes, count: int) -> None:
        """Hands whole lines over; they are dropped and counted if too many wait already."""
        with self._changed:
            if self._closing or self._waiting + len(lines) > MAX_WAITING:
                self._dropped += count
                return
            self._waiting += len(lines)
            self._jobs.append((lines, count))
            self._changed.notify()

    def reopen(self) -> None:
        """What comes from now on goes to a new file of this name, or still to the old one if that cannot be opened."""
        with self._changed:
            self._reopen = True
            self._changed.notify()

    def take_dropped(self) -> int:
        """Lines dropped since the last call."""
        with self._changed:
            dropped, self._dropped = self._dropped, 0
        return dropped

    @property
    def trouble(self) -> str | None:
        """Why the last batch was not written, in one sentence, for the error log and status."""
        return self._told

    def close(self, patience: float = 2.0) -> None:
        """Writes what waits, for at most `patience` seconds: a reader that does not read cannot keep us from ending."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(patience)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            lines, count = job
            if lines:
                written = self._append(lines, count)
                with self._changed:
                    self._waiting -= len(lines)
                    self._dropped += count - written
        os.close(self._fd)

    def _next(self) -> tuple[bytes, int] | None:
        with self._changed:
            while not (self._jobs or self._reopen or self._closing):
                self._changed.wait()
            reopen, self._reopen = self._reopen, False
            job = self._jobs.popleft() if self._jobs and not reopen else None
            closing = self._closing and not reopen
        if reopen:
            self._open_again()
            return b"", 0
        return job if job is not None or closing else (b"", 0)

    def _open_again(self) -> None:
        try:
            fresh = self._opener(self.path)
        except OSError as problem:
            self._told = f"{self.path}: not opened again: {problem.strerror}"
            return
        os.close(self._fd)
        self._use(fresh)
        self._told = None

    def _use(self, fd: int) -> None:
        self._fd = fd
        self._regular = stat.S_ISREG(os.fstat(fd).st_mode)
        self._torn = False

    def _append(self, lines: bytes, count: int) -> int:
        """Writes the batch; the number of lines that arrived whole."""
        done = 0
        for piece in (lines,) if self._regular else _pieces(lines):
            wrote = self._write_piece(piece)
            done += wrote
            if wrote < len(piece):  # a full pipe is full for the rest of the batch as well; so is a disk
                break
        else:
            self._told = None
        return min(lines.count(b"\n", 0, done), count)

    def _write_piece(self, piece: bytes) -> int:
        """The bytes of `piece` that were written; fewer than all after an error, which may leave a torn line to be
        closed first.
        """
        done = 0
        try:
            if self._torn:
                os.write(self._fd, b"\n")
                self._torn = False
            done = os.write(self._fd, piece)
            while done < len(piece):  # short: a disk has filled up within it, or a line beyond PIPE_BUF went to a pipe
                self._torn = piece[done - 1] != 0x0A
                done += os.write(self._fd, piece[done:])
        except OSError as problem:
            self._told = f"{self.path}: lines dropped: {problem.strerror}"
            return done
        self._torn = False
        return done


def _pieces(lines: bytes) -> Iterator[bytes]:
    """Cuts a batch at line ends into pieces of at most PIPE_BUF bytes: on a pipe these never mix with others'."""
    start, end = 0, len(lines)
    while start < end:
        cut = end
        if end - start > select.PIPE_BUF:
            cut = lines.rfind(b"\n", start, start + select.PIPE_BUF) + 1 or lines.find(b"\n", start) + 1 or end
        yield lines[start:cut]
        start = cut
