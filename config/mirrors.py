"""What contradicts among the mirrors of the forward proxy: where clients find them, and what they mirror. Pure."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from config.units import is_own, parse_place

if TYPE_CHECKING:
    from config.checks import Findings
    from config.schema import Forward, Mirror

OWN_PATHS = ("/proxy.pac", "/wpad.dat")  # what the proxy answers itself


def check(found: Findings, forward: Forward) -> None:
    """Faults and doubts of `[[forward.mirror]]`."""
    for n, mirror in enumerate(forward.mirror):
        if any(path.startswith(mirror.path) for path in OWN_PATHS):
            found.fault(
                ("forward", "mirror", n, "path"),
                f"`{mirror.path}` takes {' and '.join(OWN_PATHS)} of the proxy itself",
                f"such as `/{mirror.kind}/`",
            )
        _check_places(found, forward, n, mirror)
    for (m, one), (n, other) in combinations(enumerate(forward.mirror), 2):
        if one.path.startswith(other.path) or other.path.startswith(one.path):
            found.fault(
                ("forward", "mirror", n, "path"), f"`{other.path}` overlaps `{one.path}` of forward.mirror[{m}]"
            )
    if forward.mirror and forward.parent:
        found.warn(("forward", "mirror"), "what is mirrored is reached without `parent`")


def _check_places(found: Findings, forward: Forward, n: int, mirror: Mirror) -> None:
    seen = []
    for key, text in [(("origin",), mirror.origin), *((("files", m), text) for m, text in enumerate(mirror.files))]:
        path = ("forward", "mirror", n, *key)
        place = parse_place(text)
        if any(is_own(listen, place[0]) for listen in forward.listen):
            found.fault(path, f"`{text}` is this proxy itself: requests would go in a circle")
        if place in seen:
            found.warn(path, f"`{text}` is given twice")
        seen.append(place)
    if mirror.token and seen[0][0].scheme != "https":
        found.warn(("forward", "mirror", n, "token"), f"it is sent to `{mirror.origin}` in clear", "use https://")
