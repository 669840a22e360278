"""Which stored responses a request may be answered with: primary key, and the fields that Vary names (RFC 9111 §2,
§4.1).

Keys are readable: `scheme://authority/path?query`, normalised only where RFC 3986 says that two spellings are one
resource, or where a rule says so of a query. A mode with keys of its own writes a word and a blank before the URL.
Fields that the configuration lets through to the origin, and fields and cookies that a rule names, follow behind line
feeds. Neither blanks nor line feeds occur in a URL.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

from proxy.http import fields as values
from proxy.policy import cookies
from proxy.policy.names import any_matches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from proxy.http.message import Fields, RequestHead
    from proxy.http.stored import StoredResponse
    from proxy.policy.rules import CacheRules, QueryRules

Selecting = tuple[tuple[bytes, bytes | None], ...]

# One request's values are asked for again with each variant of its key: more than its fields need not be kept.
LONG_VALUES = 16
NEGOTIATED = frozenset({b"accept", b"accept-charset", b"accept-encoding", b"accept-language"})

_TRIPLET = re.compile(rb"%([0-9A-Fa-f]{2})")
# `.` stays encoded: servers differ on whether `%2e%2e` is a dot segment, and a missed hit is all that it costs.
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_~")


# ---- primary key -----------------------------------------------------------------------------------------------------


def primary_key(request: RequestHead, rules: CacheRules) -> bytes:
    """The key under which answers to this request are stored; HEAD and GET share it."""
    path, query = request.path, request.query
    if rules.drop_session_from_key and (query or b";" in path):
        path, query = _without_session(path, query, rules.session_arguments)
    if rules.query is not None and query is not None:
        query = normal_query(query, rules.query)
    key = rules.space + uri_key(request.scheme, request.authority, path, query)
    for name in rules.key_fields:
        value = request.fields.get(name)
        if value is not None:
            key += b"\n" + name + b":" + value
    for name in rules.key_cookies:
        value = cookies.values(request.fields, name)
        if value is not None:
            key += b"\ncookie " + value  # a blank, for no field has one in its name
    return key


def uri_key(scheme: bytes, authority: bytes, path: bytes, query: bytes | None) -> bytes:
    """The key of a URI whose host is lower-case and whose default port is left out (RFC 3986 §6.2.2, §6.2.3)."""
    target = path or b"/"
    if query is not None:
        target += b"?" + query
    if b"%" in target:
        target = _TRIPLET.sub(_normal_triplet, target)
    return scheme + b"://" + authority + target


def url_of(key: bytes) -> bytes:
    """The URL in a key."""
    return key.partition(b"\n")[0].rpartition(b" ")[2]


def _normal_triplet(match: re.Match[bytes]) -> bytes:
    code = int(match[1], 16)
    return bytes([code]) if code in _UNRESERVED else match[0].upper()


def arguments(query: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, the whole as it stands) of each argument; escaped unreserved characters of the name in clear."""
    for whole in query.split(b"&"):
        name = whole.partition(b"=")[0]
        yield (_TRIPLET.sub(_normal_triplet, name) if b"%" in name else name), whole


def normal_query(query: bytes, rules: QueryRules) -> bytes | None:
    """The query that is keyed and sent; None where no argument is left. Empty arguments go."""
    kept = [
        (name, whole)
        for name, whole in arguments(query)
        if whole and not any_matches(rules.drop, name) and (not rules.keep or any_matches(rules.keep, name))
    ]
    if rules.sort:
        kept.sort(key=_name_of)  # stable: the order of equal names may mean something
    return b"&".join([whole for _, whole in kept]) if kept else None


def _name_of(argument: tuple[bytes, bytes]) -> bytes:
    return argument[0]


def digest(key: bytes) -> bytes:
    """16 bytes that are the same in every process and on every node."""
    return blake2b(key, digest_size=16).digest()


def _session_argument(part: bytes, names: frozenset[bytes]) -> bytes | None:
    """The session id in `name=id`, or None for any other argument."""
    name, equals, value = part.partition(b"=")
    return value if equals and name.lower() in names else None


def session_ids(request: RequestHead, rules: CacheRules) -> tuple[bytes, ...]:
    """The session ids that the target carries, in path parameters or query arguments."""
    names = rules.session_arguments
    if not names or (b";" not in request.path and request.query is None):
        return ()
    lowered = request.target.lower()
    if all(name not in lowered for name in names):
        return ()
    parts = [part for segment in request.path.split(b"/") for part in segment.split(b";")[1:]]
    parts += (request.query or b"").split(b"&")
    return tuple(value for part in parts if (value := _session_argument(part, names)))


def _without_session(path: bytes, query: bytes | None, names: frozenset[bytes]) -> tuple[bytes, bytes | None]:
    if b";" in path:
        path = b"/".join(_segment_without(segment, names) for segment in path.split(b"/"))
    lowered = (query or b"").lower()
    for name in names:
        if name in lowered:
            kept = [part for part in (query or b"").split(b"&") if _session_argument(part, names) is None]
            return path, b"&".join(kept) if kept else None
    return path, query


def _segment_without(segment: bytes, names: frozenset[bytes]) -> bytes:
    name, *parameters = segment.split(b";")
    return b";".join([name, *(part for part in parameters if _session_argument(part, names) is None)])


# ---- Vary ------------------------------------------------------------------------------------------------------------


def selecting(vary: Iterable[bytes] | None, request_fields: Fields) -> Selecting | None:
    """(name, normalised value or None) of each field that Vary names, in the order given; None: nothing will match."""
    if vary is None:
        return None
    return tuple((name, normal_value(name, request_fields.get(name))) for name in vary)


def normal_value(name: bytes, value: bytes | None) -> bytes | None:
    """The value in the one spelling that stands for all that mean the same (RFC 9111 §4.1); absent equals only
    absent.
    """
    if value is None:
        return None
    remembered = _remembered_long if len(value) > values.MEMO_BYTES else _remembered
    return remembered(name in NEGOTIATED, value)


def _normalised(negotiated: bool, value: bytes) -> bytes:
    return _negotiated(value) if negotiated else _plain(value)


# The same few browsers ask again and again, and every parsed hit with Vary comes here.
_remembered = lru_cache(maxsize=2048)(_normalised)
_remembered_long = lru_cache(maxsize=LONG_VALUES)(_normalised)


def _plain(value: bytes) -> bytes:
    """Blanks around commas go; inside quoted strings nothing is touched."""
    if b"," not in value:
        return value.strip(b" \t")
    return b",".join(values.split_list(value))


def _negotiated(value: bytes) -> bytes:
    """Members by falling weight, those of equal weight by name, each weight in its shortest form (RFC 9110 §12.4.2,
    §12.5).
    """
    members = [] if value.count(b",") >= values.LIST_MEMBERS else values.parse_weighted(value)
    if not members or any(weight is None for _, weight in members):
        return _plain(value)
    members.sort(key=lambda member: (-(member[1] or 0), member[0]))
    return b",".join(name if weight == 1000 else b"%b;q=%d" % (name, weight or 0) for name, weight in members)


def matches(stored: StoredResponse, request: RequestHead) -> bool:
    """Every field that the stored response's Vary names is the same in this request, or the language asked for most is
    its own.
    """
    chosen = stored.selecting
    if not chosen:
        return chosen is not None
    return _same(chosen, request.fields) or speaks_the_language(stored, request)


def _same(chosen: Selecting, fields: Fields) -> bool:
    for name, value in chosen:  # noqa: SIM110 - on every hit with Vary, and a generator costs a third more
        if normal_value(name, fields.get(name)) != value:
            return False
    return True


def speaks_the_language(stored: StoredResponse, request: RequestHead) -> bool:
    """Only Accept-Language differs, and the response is in the language that this request wants most (RFC 9111 §4.1).

    Of several languages with the highest weight the first counts: some read the order as a ranking, nobody as the
    reverse.
    """
    chosen = stored.selecting
    if not chosen or not any(name == b"accept-language" for name, _ in chosen):
        return False
    language = stored.content_language
    if language is None or language.lower() != most_wanted(request.fields.get(b"accept-language") or b""):
        return False
    return _same(tuple(pair for pair in chosen if pair[0] != b"accept-language"), request.fields)


@lru_cache(maxsize=LONG_VALUES)
def most_wanted(value: bytes) -> bytes | None:
    """The first of the ranges with the highest weight; None where there is none that names a language."""
    if value.count(b",") >= values.LIST_MEMBERS:
        return None
    members = [(name, weight) for name, weight in values.parse_weighted(value) if weight]
    if not members:
        return None
    best = max(weight for _, weight in members)
    name = next(name for name, weight in members if weight == best)
    return None if name == b"*" else name


def governing(variants: Sequence[StoredResponse]) -> tuple[bytes, ...] | None:
    """The names in the latest Vary among the stored responses of a key; None where none of them has one (RFC 9111
    §4.1).
    """
    latest = None
    for stored in variants:
        if stored.selecting and (latest is None or stored.date >= latest.date):
            latest = stored
    return None if latest is None or latest.selecting is None else tuple(name for name, _ in latest.selecting)


def select(variants: Sequence[StoredResponse], request: RequestHead) -> StoredResponse | None:
    """The stored response that is to answer, should it prove usable; whole ones before partial ones, then the latest
    Date.
    """
    if len(variants) == 1:
        stored = variants[0]
        return stored if matches(stored, request) else None
    usable = [stored for stored in variants if stored.selecting is not None and _same(stored.selecting, request.fields)]
    if any(stored.selecting for stored in variants):
        # One that lacks Vary was perhaps made for a request without preferences: where others have one, it speaks for
        # nobody.
        usable = [stored for stored in usable if stored.selecting]
    if not usable:
        usable = [stored for stored in variants if speaks_the_language(stored, request)]
    return max(usable, key=_rank, default=None)


def _rank(stored: StoredResponse) -> tuple[bool, float, float]:
    return stored.status != 206, stored.date, stored.received
