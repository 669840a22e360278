"""Four classes of devices by User-Agent: bot, tablet, mobile, desktop.

Coarse on purpose: each class is one more copy of every page. What names itself nothing known is a desktop, as are the
tablets that say so.
"""

from __future__ import annotations

import re
from functools import lru_cache

FIELD = b"X-Device-Class"
_LONGEST = 512  # bytes of a User-Agent that are looked at

_BOT = re.compile(rb"bot\b|bot[/;_-]|crawl|spider|slurp|facebookexternalhit|mediapartners|lighthouse")
_TABLET = re.compile(rb"ipad|tablet|kindle|silk/|playbook|sm-t[0-9]")
_MOBILE = re.compile(rb"mobi|iphone|ipod|android|windows phone|blackberry|bb10|opera mini|webos")


@lru_cache(maxsize=2048)
def _of(agent: bytes) -> bytes:
    agent = agent.lower()
    if _BOT.search(agent):
        return b"bot"
    if _TABLET.search(agent) or (b"android" in agent and b"mobi" not in agent):
        return b"tablet"
    return b"mobile" if _MOBILE.search(agent) else b"desktop"


def device_class(agent: bytes | None) -> bytes:
    """The class of the device that a User-Agent names."""
    return _of((agent or b"")[:_LONGEST])
