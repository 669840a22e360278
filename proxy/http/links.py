r"""Turns an origin's places into those of a mirror: in redirects, and in bodies as they pass, however cut. Pure.

A place is a URL that stands for all below it. In a body only what stands behind a quote or an equals sign is a link, as
in HTML and JSON; with `\/` for `/` too. What leads elsewhere stays as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from proxy.http.checks import DEFAULT_PORTS
from proxy.http.message import Fields, ResponseHead

# True of the bytes that came, and not of those that go on.
_OF_THE_BYTES = frozenset(
    {b"accept-ranges", b"content-digest", b"content-length", b"content-md5", b"digest", b"repr-digest"}
)
_LOCATIONS = frozenset({b"location", b"content-location"})
_REFERENCE = re.compile(rb"(?:(?:([A-Za-z][A-Za-z0-9+.-]*+):)?//([^/?#]*+))?(/[!-~]*+|)")
_TARGET = re.compile(rb"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*+")


@dataclass(frozen=True, slots=True)
class Place:
    """One URL that is mirrored, and the path under which it is."""

    scheme: bytes
    authority: bytes  # lower case, without default port
    base: bytes  # from `/` to `/`
    here: bytes  # from `/` to `/`


@dataclass(frozen=True, slots=True)
class Links:
    places: tuple[Place, ...]
    types: tuple[bytes, ...] = ()  # how the Content-Type of bodies with links begins
    front: bytes = b""  # what stands before our paths in bodies: `http://host:port`, or nothing

    def place_of(self, location: bytes, base: int) -> tuple[int, bytes] | None:
        """(place, target there) of a redirect by the place `base`; None where it leads elsewhere, or is relative."""
        found = _REFERENCE.fullmatch(location.partition(b"#")[0])
        if found is None or not (found[2] or found[3]):
            return None
        own = self.places[base]
        scheme = (found[1] or own.scheme).lower()
        authority = own.authority if found[2] is None else _plain(scheme, found[2])
        target = found[3] or b"/"
        if not _TARGET.fullmatch(target):
            return None
        fit = [
            n
            for n, place in enumerate(self.places)
            if (place.scheme, place.authority) == (scheme, authority) and target.startswith(place.base)
        ]
        return (max(fit, key=lambda n: len(self.places[n].base)), target) if fit else None

    def here(self, location: bytes, base: int) -> bytes:
        """The redirect as this mirror's clients can follow it."""
        found = self.place_of(location, base)
        if found is not None:
            place = self.places[found[0]]
            mark, fragment = location.partition(b"#")[1:]
            return place.here + found[1][len(place.base) :] + mark + fragment
        if location.startswith(b"/") and not location.startswith(b"//"):
            own = self.places[base]
            return own.scheme + b"://" + own.authority + location
        return location

    def head(self, head: ResponseHead, base: int, *, body: bool) -> ResponseHead:
        """The head as it goes on; `body`: links in the body are turned too, so its bytes are others."""
        lines = [
            (name, self.here(value, base)) if name.lower() in _LOCATIONS else (name, value)
            for name, value in head.fields.lines
            if not (body and name.lower() in _OF_THE_BYTES)
        ]
        return head.with_fields(Fields(lines))

    def has_links(self, head: ResponseHead) -> bool:
        """The body is of a kind that may hold some, and can be read."""
        kind = (head.fields.get(b"content-type") or b"").lower()
        coding = (head.fields.get(b"content-encoding") or b"identity").lower()
        return head.status == 200 and coding == b"identity" and kind.startswith(self.types) and bool(self.types)


class Turner:
    """Turns the links of one body, piece by piece. It holds back no more than the longest link's beginning."""

    __slots__ = ("_base", "_keep", "_links", "_pattern", "_rest")

    def __init__(self, links: Links, base: int) -> None:
        self._links = links
        self._base = base
        self._pattern, self._keep = _pattern(links.places, base)
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """What can go on of all that has come."""
        text = self._rest + data
        sure = max(0, len(text) - self._keep)  # what begins before it is here as a whole
        out, at = self._turned(text, sure)
        sure = max(sure, at)
        self._rest = text[sure:]
        return out + text[at:sure]

    def finish(self) -> bytes:
        """The rest."""
        out, at = self._turned(self._rest, len(self._rest))
        rest, self._rest = self._rest[at:], b""
        return out + rest

    def _turned(self, text: bytes, sure: int) -> tuple[bytes, int]:
        """All up to the end of the last link that begins before `sure`, and where that is."""
        out, at = [], 0
        for found in self._pattern.finditer(text):
            if found.start() >= sure:
                break
            out += [text[at : found.start()], self._turn(found)]
            at = found.end()
        return b"".join(out), at

    def _turn(self, found: re.Match[bytes]) -> bytes:
        number = found.lastgroup
        assert number is not None
        before = found["quote"] if found["quote"] is not None else found["key"]
        place = self._links.places[int(number[1:]) if number != "own" else self._base]
        new = self._links.front + place.here
        escaped = b"\\/" in found[0][len(before) :]
        return before + (new.replace(b"/", b"\\/") if escaped else new)


@lru_cache(maxsize=64)
def _pattern(places: tuple[Place, ...], base: int) -> tuple[re.Pattern[bytes], int]:
    """What begins a link to one of the places, the longest first, or below the own one; and how long that can be."""
    by_length = sorted(range(len(places)), key=lambda n: -len(places[n].base))
    urls = b"|".join(b"(?P<p%d>%b)" % (n, _url(places[n])) for n in by_length)
    own = _escapable(places[base].base)
    # A path alone is a link only where the format says so, and `//` would be a host.
    keys = rb"""(?i:href[ \t]{0,4}=[ \t]{0,4}["']?)|"(?:url|tarball)"[ \t]{0,4}:[ \t]{0,4}\""""
    pattern = rb"(?P<quote>[\"'=])(?:%b)|(?P<key>%b)(?P<own>%b)(?!\\?/)" % (urls, keys, own)
    longest = max(len(place.scheme + place.authority + place.base) for place in places)
    return re.compile(pattern), 2 * longest + 40


def _url(place: Place) -> bytes:
    port = b"" if b":" in place.authority.rpartition(b"]")[2] else b"(?::%d)?" % DEFAULT_PORTS[place.scheme]
    slashes = rb"\\?/\\?/"
    authority = b"(?i:(?:%b:)?%b%b)" % (place.scheme, slashes, re.escape(place.authority))
    return authority + port + _escapable(place.base)


def _escapable(path: bytes) -> bytes:
    return re.escape(path).replace(b"/", rb"\\?/")


def _plain(scheme: bytes, authority: bytes) -> bytes:
    """Lower case, without the scheme's own port."""
    authority = authority.lower()
    host, colon, port = authority.rpartition(b":")
    return host if colon and port in {b"", b"%d" % DEFAULT_PORTS.get(scheme, 0)} else authority


def asked_again(head: bytes, place: Place, target: bytes) -> bytes:
    """A request head of ours, made for the next place that a redirect leads to; credentials stay behind."""
    line, *fields = head.split(b"\r\n")
    method = line.partition(b" ")[0]
    kept = [one for one in fields if not one.lower().startswith((b"host:", b"authorization:"))]
    return b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), b"Host: " + place.authority, *kept])
