"""A request to a mirrored origin: redirects to the places that the operator named are followed, links turned into ours.

Which places, and what becomes of their words, is said by `http/links.py`. A redirect to elsewhere is the client's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.http.checks import Framing
from proxy.http.links import Turner, asked_again
from proxy.upstream.client import Request
from proxy.upstream.health import Evidence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.exchange import Mirrored
    from proxy.http.checks import CheckedResponse
    from proxy.upstream.pool import Pool

MOST_HOPS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})


class MirroredRequest(Request):
    """As a Request; its receiver hears the last answer alone, as this mirror's."""

    def __init__(self, mirrored: Mirrored, pools: Mapping[str, Pool], *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._mirrored = mirrored
        self._pools = pools
        self._base = mirrored.base
        self._hops = 0
        self._turner: Turner | None = None

    def upstream_head(self, checked: CheckedResponse) -> None:
        next_place = self._leads_to(checked)
        if next_place is not None:
            self.cancel()
            self._ask_next(*next_place)
            return
        checked = self._turned(checked)
        if self._turner is not None:
            checked = checked._replace(framing=Framing.CHUNKED, content_length=None)
        super().upstream_head(checked)

    def upstream_data(self, chunk: bytes) -> None:
        if self._turner is not None:
            chunk = self._turner.feed(chunk)
        if chunk:
            super().upstream_data(chunk)

    def upstream_end(self) -> None:
        if self._turner is not None:
            rest = self._turner.finish()
            if rest:
                super().upstream_data(rest)
        super().upstream_end()

    def upstream_whole(self, checked: CheckedResponse, body: bytes) -> None:
        next_place = self._leads_to(checked)
        if next_place is not None:
            self.connection = None
            self._finished(Evidence.GOOD)
            self._ask_next(*next_place)
            return
        checked = self._turned(checked)
        if self._turner is not None:
            body = self._turner.feed(body) + self._turner.finish()
            checked = checked._replace(framing=Framing.LENGTH, content_length=len(body))
        super().upstream_whole(checked, body)

    def _turned(self, checked: CheckedResponse) -> CheckedResponse:
        """The head as it goes on; from now on links in the body are turned, if it has any."""
        mirrored = self._mirrored
        links = mirrored.links
        if mirrored.rewrites and checked.framing is not Framing.NONE and links.has_links(checked.head):
            self._turner = Turner(links, self._base)
        # What a 304 or the answer to HEAD says of bytes is about those of the origin as well.
        head = links.head(checked.head, self._base, body=mirrored.rewrites)
        return checked._replace(head=head)

    def _leads_to(self, checked: CheckedResponse) -> tuple[int, bytes] | None:
        """(place, target) that is asked next; None: this is the answer."""
        location = checked.head.fields.get(b"location")
        if checked.head.status not in REDIRECTS or location is None or not self._mirrored.follows:
            return None
        if self._body is not None or self._hops == MOST_HOPS:  # a body is not sent twice
            return None
        return self._mirrored.links.place_of(location, self._base)

    def _ask_next(self, place: int, target: bytes) -> None:
        head = self._head
        if not isinstance(head, bytes):
            assert self.origin is not None
            head = head(self.origin)
        self._head = asked_again(head, self._mirrored.links.places[place], target)
        self._base = place
        self._hops += 1
        self._pool = self._pools[self._mirrored.pools[place]]
        self._answered = self._fresh = False
        self._tried, self._avoid = (), None
        self._try()
