"""Header fields read into values: Cache-Control, dates, Age, Vary, entity tags, ranges, weighted lists.

Parsers never raise: junk is a value too, and each docstring says which. Nothing here decides what a value means for the
cache; that is
policy/. Numbers are looked at before they are converted, since `int()` takes signs, underscores and foreign digits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache

from config.units import WallTime
from proxy.http import structured

DELTA_MAX = 2**31  # what is larger counts as this much, RFC 9111 §1.2.2
POSITION_MAX = 10**18  # byte positions beyond are beyond every representation
MEMO_BYTES = 512  # longer values are parsed each time, so that the memos stay small
TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")  # RFC 9110 §5.6.2

_MARK = re.compile(rb'\\.|[",]', re.DOTALL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)


# ---- lists and quoted strings (RFC 9110 §5.6) ------------------------------------------------------------------------


def split_list(value: bytes) -> list[bytes]:
    """The members of a list that are not empty, without blanks around them; quoted strings stay whole (RFC 9110
    §5.6.1).
    """
    return _split(value)[0]


def _split(value: bytes) -> tuple[list[bytes], bool]:
    """The members, and whether a quoted string was left open; it then runs to the end of the field."""
    if b'"' not in value:
        parts, quoted = value.split(b","), False
    else:
        parts, quoted = _split_quoted(value)
    return [member for part in parts if (member := part.strip(b" \t"))], quoted


def _split_quoted(value: bytes) -> tuple[list[bytes], bool]:
    parts = []
    start, quoted = 0, False
    for match in _MARK.finditer(value):
        mark, at = match.group(), match.end() - 1
        if len(mark) == 2:  # a backslash escapes inside quoted strings only; outside, the second byte speaks for itself
            if quoted:
                continue
            mark = mark[1:]
        if mark == b'"':
            quoted = not quoted
        elif mark == b"," and not quoted:
            parts.append(value[start:at])
            start = at + 1
    parts.append(value[start:])
    return parts, quoted


def unquote(text: bytes) -> bytes | None:
    """What a quoted string says, or None where the text is not exactly one (RFC 9110 §5.6.4)."""
    if len(text) < 2 or text[:1] != b'"' or text[-1:] != b'"':
        return None
    inner = text[1:-1]
    bare = _ESCAPE.sub(b"", inner)
    if b'"' in bare or b"\\" in bare:
        return None
    return _ESCAPE.sub(rb"\1", inner)


def parse_delta(text: bytes) -> int | None:
    """delta-seconds, at most DELTA_MAX; None for anything but ASCII digits (RFC 9111 §1.2.2)."""
    if not text.isdigit():  # of bytes: ASCII digits only, and at least one
        return None
    digits = text.lstrip(b"0")
    return DELTA_MAX if len(digits) > 10 else min(int(digits or b"0"), DELTA_MAX)


# ---- Cache-Control (RFC 9111 §5.2) -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CacheControl:
    """The directives of a request or response.

    A directive of seconds that is there with a broken argument is *present and worthless*: it counts as 0 and hides
    what would
    otherwise speak (RFC 9111 §4.2.1). Qualified `no-cache` and `private` stand in the two sets of lower-case names
    instead.
    """

    max_age: int | None = None
    s_maxage: int | None = None
    no_cache: bool = False
    no_cache_fields: frozenset[bytes] = frozenset()
    no_store: bool = False
    private: bool = False
    private_fields: frozenset[bytes] = frozenset()
    public: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    no_transform: bool = False
    immutable: bool = False
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None
    only_if_cached: bool = False
    min_fresh: int | None = None  # broken: as if absent
    max_stale: int | None = None  # without argument: DELTA_MAX; broken: 0
    malformed: bool = False  # an unclosed quoted string: nothing may be stored

    @property
    def never_stale(self) -> bool:
        """No stale answer may be made from it, whatever happens (RFC 9111 §4.2.4)."""
        return self.must_revalidate or self.proxy_revalidate or self.no_cache or self.s_maxage is not None

    @property
    def explicit(self) -> bool:
        """A lifetime is given, be it a worthless one."""
        return self.max_age is not None or self.s_maxage is not None


NOTHING_SAID = CacheControl()

_SECONDS = {
    b"max-age": "max_age",
    b"s-maxage": "s_maxage",
    b"stale-while-revalidate": "stale_while_revalidate",
    b"stale-if-error": "stale_if_error",
    b"min-fresh": "min_fresh",
    b"max-stale": "max_stale",
}
_FLAGS = {
    b"no-store": "no_store",
    b"public": "public",
    b"must-revalidate": "must_revalidate",
    b"proxy-revalidate": "proxy_revalidate",
    b"must-understand": "must_understand",
    b"no-transform": "no_transform",
    b"immutable": "immutable",
    b"only-if-cached": "only_if_cached",
}
_QUALIFIED = {b"no-cache": "no_cache", b"private": "private"}


def parse_cache_control(values: list[bytes]) -> CacheControl:
    """All lines as one list; unknown directives change nothing, of equal ones the smaller value counts."""
    if not values:
        return NOTHING_SAID
    value = values[0] if len(values) == 1 else b",".join(values)
    return _directives(value) if len(value) > MEMO_BYTES else _remembered_directives(value)


def _directives(value: bytes) -> CacheControl:
    members, unclosed = _split(value)
    found: dict[str, object] = {"malformed": True} if unclosed else {}
    for member in members:
        _read_directive(member, found)
    return CacheControl(**found)  # type: ignore[arg-type]  # names and types come from the tables above


# The same few values come with every request and response of a site.
_remembered_directives = lru_cache(maxsize=1024)(_directives)


def _read_directive(member: bytes, found: dict[str, object]) -> None:
    written, equals, argument = member.partition(b"=")
    name = written.rstrip(b" \t").lower()
    # A blank beside `=` is outside the grammar and makes the argument unreadable.
    broken = bool(equals) and (len(name) != len(written) or argument[:1] in {b" ", b"\t"})
    if (attribute := _FLAGS.get(name)) is not None:
        found[attribute] = True  # an argument on these is ignored
    elif (attribute := _SECONDS.get(name)) is not None:
        seconds = DELTA_MAX if name == b"max-stale" and not equals else None if broken else _seconds(argument)
        if seconds is None and name == b"min-fresh":
            return
        have = found.get(attribute)
        found[attribute] = min(seconds or 0, have) if isinstance(have, int) else seconds or 0
    elif (attribute := _QUALIFIED.get(name)) is not None:
        names = None if broken or not equals else _field_names(argument)
        if names:
            have = found.get(attribute + "_fields")
            found[attribute + "_fields"] = names | have if isinstance(have, frozenset) else names
        else:
            found[attribute] = True  # the unqualified form is the stricter reading of anything unreadable


def _seconds(argument: bytes) -> int | None:
    text = unquote(argument) if argument[:1] == b'"' else argument
    return None if text is None else parse_delta(text)


def _field_names(argument: bytes) -> frozenset[bytes] | None:
    """The names of a qualified directive; None where they cannot be read as names."""
    text = unquote(argument) if argument[:1] == b'"' else argument
    names = [] if text is None else [name.strip(b" \t").lower() for name in text.split(b",")]
    return frozenset(names) if names and all(map(TOKEN.match, names)) else None


# ---- targeted fields (RFC 9213) and Surrogate-Control ----------------------------------------------------------------


def parse_targeted(values: list[bytes]) -> CacheControl | None:
    """The directives of a targeted field; None where it is empty, no dictionary, or of a wrong type (RFC 9213 §2.1)."""
    members = structured.parse_dictionary(b", ".join(values))
    if not members:
        return None
    found: dict[str, object] = {}
    for name, value in members.items():
        key = name.encode()
        read = (
            _targeted_flag(_FLAGS[key], value)
            if key in _FLAGS
            else _targeted_seconds(_SECONDS[key], value)
            if key in _SECONDS
            else _targeted_qualified(_QUALIFIED[key], value)
            if key in _QUALIFIED
            else {}
        )
        if read is None:
            return None
        found.update(read)
    return CacheControl(**found)  # type: ignore[arg-type]  # as in _directives


def _targeted_flag(attribute: str, value: structured.Bare) -> dict[str, object] | None:
    return {attribute: value} if isinstance(value, bool) else None


def _targeted_seconds(attribute: str, value: structured.Bare) -> dict[str, object] | None:
    if type(value) is not int:  # neither a Boolean nor a Date
        return None
    return {attribute: max(0, min(value, DELTA_MAX))}  # a negative number has the right type and is worthless


def _targeted_qualified(attribute: str, value: structured.Bare) -> dict[str, object] | None:
    if isinstance(value, bool):
        return {attribute: value}
    if type(value) is not structured.String:
        return None
    names = _field_names(value.encode())
    return {attribute + "_fields": names} if names else {attribute: True}


_SURROGATE_AGE = re.compile(rb"([0-9]+)(?:\+([0-9]+))?\Z")


def parse_surrogate(values: list[bytes]) -> CacheControl | None:
    """`no-store` and `max-age=lifetime[+stale allowance]` of Surrogate-Control; None where neither is there."""
    found: dict[str, object] = {}
    members, unclosed = _split(b",".join(values))
    for member in members:
        name, _, argument = member.partition(b"=")
        if name.lower() == b"no-store":
            found["no_store"] = True
        elif name.lower() == b"max-age":
            match = _SURROGATE_AGE.match(argument)
            found["max_age"] = parse_delta(match[1]) if match else 0
            if match and match[2]:
                found["stale_while_revalidate"] = found["stale_if_error"] = parse_delta(match[2])
    if not found:
        return None
    return CacheControl(malformed=unclosed, **found)  # type: ignore[arg-type]  # as in _directives


# ---- dates (RFC 9110 §5.6.7) -----------------------------------------------------------------------------------------

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBER = {name.lower().encode(): number for number, name in enumerate(_MONTHS, 1)}
_TIME = rb"([0-9]{2}):([0-9]{2}):([0-9]{2})"
_MONTH = rb"(" + "|".join(_MONTHS).encode() + rb")"
_IMF = re.compile(
    rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-9]{2}) " + _MONTH + rb" ([0-9]{4}) " + _TIME + rb" GMT\Z", re.IGNORECASE
)
_RFC850 = re.compile(
    rb"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, ([0-9]{2})-" + _MONTH + rb"-([0-9]{2}) " + _TIME + rb" GMT\Z",
    re.IGNORECASE,
)
_ASCTIME = re.compile(
    rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) " + _MONTH + rb" ([0-9]{2}| [0-9]) " + _TIME + rb" ([0-9]{4})\Z", re.IGNORECASE
)
_EPOCH = date(1970, 1, 1).toordinal()


def parse_date(value: bytes | None, now: WallTime) -> WallTime | None:
    """Seconds since the epoch of a date in one of the three forms; None for anything else.

    Names match in any case (RFC 9111 §4.2); the day's name is not checked against the date, since only the date is
    meant.
    `now` settles the century of two-digit years.
    """
    if value is None or len(value) > 40:  # the longest form has 33 bytes
        return None
    if match := _RFC850.match(value):
        day, month, year, hour, minute, second = match.groups()
        return _moment(_full_year(int(year), now), month, int(day), hour, minute, second)
    return _parse_whole_date(value)


@lru_cache(maxsize=4096)  # within a second all responses bear the same Date, and a resource its Last-Modified for long
def _parse_whole_date(value: bytes) -> WallTime | None:
    if match := _IMF.match(value):
        day, month, year, hour, minute, second = match.groups()
        return _moment(int(year), month, int(day), hour, minute, second)
    if match := _ASCTIME.match(value):
        month, day, hour, minute, second, year = match.groups()
        return _moment(int(year), month, int(day), hour, minute, second)
    return None


def _full_year(year: int, now: WallTime) -> int:
    """More than 50 years ahead means the most recent year in the past with these two digits (RFC 9110 §5.6.7)."""
    today = datetime.fromtimestamp(now, UTC).year
    year += today - today % 100
    while year > today + 50:
        year -= 100
    while year <= today - 50:
        year += 100
    return year


def _moment(year: int, month: bytes, day: int, hour: bytes, minute: bytes, second: bytes) -> WallTime | None:
    hours, minutes, seconds = int(hour), int(minute), int(second)
    if hours > 23 or minutes > 59 or seconds > 60:  # 60: a leap second, RFC 9110 §5.6.7
        return None
    try:
        days = date(year, _MONTH_NUMBER[month.lower()], day).toordinal() - _EPOCH
    except ValueError:  # no such day
        return None
    return WallTime(float(days * 86400 + hours * 3600 + minutes * 60 + seconds))


def format_date(moment: WallTime) -> bytes:
    """IMF-fixdate, RFC 9110 §5.6.7."""
    days, seconds = divmod(int(moment), 86400)
    day = date.fromordinal(days + _EPOCH)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{_DAYS[day.weekday()]}, {day.day:02} {_MONTHS[day.month - 1]} {day.year:04} {clock} GMT".encode()


# ---- Age, Vary, entity tags, ranges, weights -------------------------------------------------------------------------


def parse_age(values: list[bytes]) -> int | None:
    """The first member, if it is digits only (RFC 9111 §5.1); otherwise the field is as if absent."""
    return parse_delta(values[0].split(b",", 1)[0].strip(b" \t")) if values else None


LIST_MEMBERS = 128  # longer lists in Vary and Accept-* are not looked into


_MATCHED_BY_NONE = frozenset({b"*", b"forwarded", b"x-forwarded-for"})


def parse_vary(values: list[bytes]) -> tuple[bytes, ...] | None:
    """The lower-case names, sorted, each once. None says that nothing can match.

    So does a `*` at any place, and so do names that cannot be names, for who knows what the answer depended on (RFC
    9110 §12.5.5); and the fields in which we tell the origin the client's address, which no request brings along.
    """
    names = {name.lower() for value in values for name in split_list(value)}
    if not names.isdisjoint(_MATCHED_BY_NONE) or len(names) > LIST_MEMBERS or not all(map(TOKEN.match, names)):
        return None
    return tuple(sorted(names))


def parse_etags(values: list[bytes]) -> tuple[bytes, ...]:
    """The members byte for byte; a comma inside quotes belongs to the tag, and a backslash escapes nothing (RFC 9110
    §8.8.3).
    """
    members: list[bytes] = []
    for value in values:
        start, quoted = 0, False
        for match in _TAG_MARK.finditer(value):
            if match.group() == b'"':
                quoted = not quoted
            elif not quoted:
                members.append(value[start : match.start()])
                start = match.end()
        members.append(value[start:])
    return tuple(tag for member in members if (tag := member.strip(b" \t")))


_TAG_MARK = re.compile(rb'[",]')
_STRONG = re.compile(rb'"[!\x23-\x7e\x80-\xff]*"\Z')


def is_strong(tag: bytes | None) -> bool:
    """A well-formed strong entity tag."""
    return tag is not None and _STRONG.match(tag) is not None


def opaque(tag: bytes) -> bytes:
    """What weak comparison compares: the tag without its weakness; malformed tags stay as spelled (RFC 9110
    §8.8.3.2).
    """
    return tag[2:] if tag[:2] == b"W/" and _STRONG.match(tag, 2) else tag


Range = tuple[int | None, int | None]  # first and last position; (None, n): the last n bytes

_RANGE = re.compile(rb"([0-9]*)-([0-9]*)\Z")


def parse_range(value: bytes | None) -> tuple[Range, ...] | None:
    """The ranges of a `bytes` Range as asked; None for another unit or wrong syntax (RFC 9110 §14.1.2, §14.2)."""
    unit, equals, text = (value or b"").partition(b"=")
    if not equals or unit.lower() != b"bytes":
        return None
    ranges: list[Range] = []
    for member in text.split(b","):
        spec = member.strip(b" \t")
        if not spec:
            continue
        match = _RANGE.match(spec)
        first, last = (_position(part) for part in match.groups()) if match else (None, None)
        if (first is None and last is None) or (first is not None and last is not None and last < first):
            return None
        ranges.append((first, last))
    return tuple(ranges) or None


def _position(digits: bytes) -> int | None:
    if not digits:
        return None
    digits = digits.lstrip(b"0")
    return POSITION_MAX if len(digits) > 18 else int(digits or b"0")


@dataclass(frozen=True, slots=True)
class ContentRange:
    """The bytes [first, last] of a representation, and its complete length if told."""

    first: int
    last: int
    length: int | None


_CONTENT_RANGE = re.compile(rb"bytes ([0-9]{1,18})-([0-9]{1,18})/(?:([0-9]{1,18})|\*)\Z", re.IGNORECASE)


def parse_content_range(value: bytes | None) -> ContentRange | None:
    """A well-formed range of bytes (RFC 9110 §14.4); None for other units, `*/length`, and sums that do not fit."""
    match = _CONTENT_RANGE.match(value or b"")
    if match is None:
        return None
    first, last = int(match[1]), int(match[2])
    length = None if match[3] is None else int(match[3])
    if last < first or (length is not None and last >= length):
        return None
    return ContentRange(first, last, length)


_WEIGHT = re.compile(rb"(?:0(?:\.([0-9]{0,3}))?|1(?:\.0{0,3})?)\Z")


def parse_weight(text: bytes) -> int | None:
    """A weight in thousandths; None for what is no qvalue (RFC 9110 §12.4.2)."""
    match = _WEIGHT.match(text)
    if match is None:
        return None
    return 1000 if text[:1] == b"1" else int((match[1] or b"").ljust(3, b"0"))


def parse_weighted(value: bytes) -> list[tuple[bytes, int | None]]:
    """(member in lower case without its weight, weight in thousandths) in order; the weight is None where it is
    unreadable.

    Values of parameters keep their case, since some of them have meaning in it (RFC 9110 §8.3.1).
    """
    return [_weighted(member) for member in split_list(value)]


def _weighted(member: bytes) -> tuple[bytes, int | None]:
    if b";" not in member:
        return member.lower(), 1000
    if b'"' in member:
        return member, None
    name, *parameters = [part.strip(b" \t") for part in member.split(b";")]
    kept, weight = [name.lower()], 1000
    for parameter in parameters:
        key, _, argument = parameter.partition(b"=")
        if key.lower() != b"q":
            kept.append(key.lower() + b"=" + argument)
        elif (read := parse_weight(argument)) is not None:
            weight = read
        else:
            return member, None
    return b";".join(kept), weight
