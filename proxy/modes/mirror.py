"""Mirrors of package registries: which of them is asked for, what stays for ever there by its name, and for how long
the rest answers. Pure.

A client asks the proxy itself, in origin-form, for a path below the mirror's; below `~N/` there are the further places
that its indexes lead to. What a name alone identifies is kept for a year; what must agree with another file (a Release
and its lists, metadata and its checksum) is asked for anew each time, which costs a 304; other indexes answer for
`index`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from hashlib import blake2b
from typing import TYPE_CHECKING, assert_never

from config.schema import FORWARD
from config.units import bracket, parse_place
from proxy import errors
from proxy.errors import Failure
from proxy.exchange import Mirrored, Origin, Route
from proxy.http.checks import DEFAULT_PORTS
from proxy.http.links import Links, Place
from proxy.http.message import RequestHead
from proxy.modes.reverse import lone_pool, unescaped
from proxy.policy.rules import CacheRules

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from config.schema import Config
    from config.schema import Forward as ForwardOptions
    from config.schema import Mirror as Options
    from proxy.exchange import Client
    from proxy.http.message import Fields, Line

YEAR = 365 * 86400.0
NEGATIVE = 10.0  # seconds that a 404 answers: who publishes looks soon whether it is there
METHODS = frozenset({b"GET", b"HEAD"})

_DOTS = re.compile(rb"(?i)(?:^|/|%2f|%5c)(?:\.|%2e){1,2}(?:/|%2f|%5c|$)")


class Keeping(Enum):
    """For how long what is below a path stays as it is."""

    FOREVER = "for ever: its name says which bytes it has"
    TOGETHER = "it must agree with other files, so the origin is asked each time"
    SHORT = "an index"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of registry; paths are without the slash at their start. What is not for ever is `otherwise`."""

    forever: re.Pattern[bytes]
    otherwise: Keeping
    links: tuple[bytes, ...] = ()  # Content-Types of indexes that link to files
    absolute: bool = False  # its clients take no relative links there
    keyed: tuple[bytes, ...] = ()  # request fields that tell indexes apart, whether Vary says so or not


_MAVEN_FILE = (
    rb"([^/]+)/(?:([^/]+)-SNAPSHOT/\1-\2-[0-9]{8}\.[0-9]{6}-[0-9]+|((?![^/]*-SNAPSHOT/)[^/]+)/\1-\3)[.-][^/]+$"
)

KINDS: Mapping[str, Kind] = {
    "deb": Kind(
        re.compile(rb"(?:.*/)?(?:pool/.+|by-hash/[^/]+/[0-9a-f]+|[^/]+\.(?:u?deb|dsc))$", re.DOTALL),
        Keeping.TOGETHER,
    ),
    "pypi": Kind(
        # A digest somewhere before the name, in one piece or in the three of large hosts.
        re.compile(rb"(?:.*/)?(?:[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28,}|[0-9a-f]{32,})/[^/]+$", re.DOTALL),
        Keeping.SHORT,
        links=(b"text/html", b"application/vnd.pypi.simple.", b"application/json"),
        keyed=(b"accept",),
    ),
    "npm": Kind(
        re.compile(rb".+/-/(?:.+/)?[^/]+\.tgz$", re.DOTALL),
        Keeping.SHORT,
        links=(b"application/json", b"application/vnd.npm."),
        absolute=True,
        keyed=(b"accept", b"host"),
    ),
    "maven": Kind(
        re.compile(rb"(?:.*/)?" + _MAVEN_FILE, re.DOTALL),
        Keeping.TOGETHER,
    ),
}


def keeping(kind: Kind, path: bytes) -> Keeping:
    """What is true of the path below a place of this kind, without its first slash."""
    return Keeping.FOREVER if kind.forever.match(path) else kind.otherwise


class Mirror:
    """One mirror, compiled."""

    def __init__(self, config: Config, options: Options, forward: ForwardOptions, token: bytes) -> None:
        self.options = options
        self.path = options.path.encode()
        self.kind = KINDS[options.kind]
        self._token = token
        self._keeps_login = not (token or forward.users)  # a client's Authorization is for the origin
        texts = (options.origin, *options.files)
        self._origins = tuple(_origin(options, text) for text in texts)
        places = tuple(_place(options, n, text) for n, text in enumerate(texts))
        self._links = Links(places, self.kind.links)
        self._names = tuple(f"{FORWARD}/mirror{place.here.decode()}" for place in places)
        self.pools = {
            name: lone_pool(FORWARD, name, origin, forward.timeouts, retry=True)
            for name, origin in zip(self._names, self._origins, strict=True)
        }
        self._rules = {each: _rules(config, options, self.kind, each, token) for each in Keeping}

    def cache_rules(self) -> Iterator[CacheRules]:
        yield from self._rules.values()

    def origin_of(self, request: RequestHead) -> Origin:
        """Who would be asked."""
        return self._origins[self._base(unescaped(request.path))]

    def _base(self, path: bytes) -> int:
        places = self._links.places
        return next((n for n in range(1, len(places)) if path.startswith(places[n].here)), 0)

    def route(self, request: RequestHead, client: Client, rule: str, reports: tuple[str, ...]) -> Route | Failure:
        """The way to the origin, for a client that may go it."""
        if request.method not in METHODS:
            return Failure(errors.READ_ONLY, f"{request.method.decode('ascii')} to a mirror")
        if _DOTS.search(request.path):
            return Failure(errors.NOT_FOUND, "a path of a mirror has no dot segments")
        path = unescaped(request.path)
        base = self._base(path)
        place = self._links.places[base]
        below = path[len(place.here) :]
        keep = keeping(self.kind, below)
        rewrites = keep is not Keeping.FOREVER and bool(self.kind.links)
        fields = self._fields(request.fields, rewrites=rewrites)
        seen = _readdressed(request, place, below, fields)
        sent = seen
        if self._token and base == 0:
            sent = _readdressed(request, place, below, fields.plus((b"Authorization", self._token)))
        links = self._links
        if self.kind.absolute and b"host" in request.fields:  # as it is keyed
            links = Links(links.places, links.types, client.scheme + b"://" + request.authority)
        mirrored = Mirrored(seen, sent, links, base, self._names, rewrites, keep is Keeping.FOREVER, self._says(keep))
        return Route(FORWARD, rule, self._names[base], self._rules[keep], reports=reports, mirrored=mirrored)

    def _fields(self, fields: Fields, *, rewrites: bool) -> Fields:
        """What the client says, less what is for the proxy alone, or stands against reading what comes."""
        gone = {b"cookie"}
        more: tuple[Line, ...] = ()
        if not self._keeps_login:
            gone.add(b"authorization")
        if rewrites:
            gone |= {b"accept-encoding", b"range", b"if-range"}
            more = ((b"Accept-Encoding", b"identity"),)
        return fields.without(gone).plus(*more)

    def _says(self, keep: Keeping) -> str:
        says = f"mirror {self.options.path} of kind {self.options.kind}: {keep.value}"
        return f"{says}, asked for again after {self.options.index.text}" if keep is Keeping.SHORT else says


class Mirrors:
    """All of them, by the path that clients ask for."""

    def __init__(self, config: Config, options: ForwardOptions, secrets: Mapping[str, bytes]) -> None:
        """`secrets` has the contents of token files. ValueError for one that is no single line."""
        self._all = tuple(
            Mirror(config, one, options, _token(one.token, secrets) if one.token else b"") for one in options.mirror
        )
        self.pools = {name: pool for mirror in self._all for name, pool in mirror.pools.items()}

    def find(self, path: bytes) -> Mirror | None:
        for mirror in self._all:
            if path.startswith(mirror.path):
                return mirror
        return None

    def cache_rules(self) -> tuple[CacheRules, ...]:
        return tuple(rules for mirror in self._all for rules in mirror.cache_rules())


def _readdressed(request: RequestHead, place: Place, below: bytes, fields: Fields) -> RequestHead:
    return RequestHead(
        request.method, place.scheme, place.authority, place.base + below, request.query, request.version, fields
    )


# ---- configuration into values ---------------------------------------------------------------------------------------


def _place(options: Options, number: int, text: str) -> Place:
    address, base = parse_place(text)
    scheme = address.scheme.encode()
    host = bracket(address.host).encode()
    authority = host if address.port == DEFAULT_PORTS[scheme] else b"%b:%d" % (host, address.port)
    here = options.path if number == 0 else f"{options.path}~{number - 1}/"
    return Place(scheme, authority, base.encode(), here.encode())


def _origin(options: Options, text: str) -> Origin:
    address, _ = parse_place(text)
    tls = options.tls
    return Origin(address.scheme, address.host, address.port, tls_name=tls.name, tls_verify=tls.verify, tls_ca=tls.ca)


def _token(path: str, secrets: Mapping[str, bytes]) -> bytes:
    said = secrets[path].strip(b"\r\n")
    if not re.fullmatch(rb"[!-~]+(?: [!-~]+)?", said):
        raise ValueError(f"{path}: a token is one line, such as `Bearer …` or `Basic …`")
    return said


def _rules(config: Config, options: Options, kind: Kind, keep: Keeping, token: bytes) -> CacheRules:
    """What is stored of a mirror is the operator's to share: clients' words on caching, and cookies, do not count."""
    index = float(options.index)
    identity = repr((options.kind, options.path, options.origin, options.files, options.tls)).encode() + token
    common = CacheRules(
        enabled=config.cache.memory > 0,
        set_cookie="strip",
        space=b"mirror-%b-%b " % (options.kind.encode(), blake2b(identity, digest_size=3).hexdigest().encode()),
        honour_request=False,
        trust_age=config.cache.trust_age,
        stale_on_error=float(options.stale_on_error),
        max_object=config.cache.max_object,
        partial=True,
    )
    return _kept(common, kind, keep, index)


def _kept(common: CacheRules, kind: Kind, keep: Keeping, index: float) -> CacheRules:
    match keep:
        case Keeping.FOREVER:
            statuses = ((200, YEAR), (404, min(index, NEGATIVE)))
            return replace(common, status_ttl=statuses, min_ttl=YEAR, min_ttl_of=frozenset({200, 206}))
        case Keeping.TOGETHER:
            # Stored without a validator too: it stands in while the origin is down.
            return replace(common, status_ttl=((200, 0.0),), max_ttl=0.0, key_fields=kind.keyed)
        case Keeping.SHORT:
            statuses = ((200, index), (404, min(index, NEGATIVE)))
            return replace(common, status_ttl=statuses, max_ttl=index, key_fields=kind.keyed)
        case unreachable:
            assert_never(unreachable)
