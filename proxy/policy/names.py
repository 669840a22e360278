"""Names by pattern: cookies, query arguments. A pattern may hold one `*`, which stands for any characters or none."""

from __future__ import annotations

import re
from functools import lru_cache

Patterns = tuple[bytes, ...]


def any_matches(patterns: Patterns, name: bytes) -> bool:
    """One of the patterns is this name."""
    return bool(patterns) and _compiled(patterns).match(name) is not None


@lru_cache(maxsize=256)
def _compiled(patterns: Patterns) -> re.Pattern[bytes]:
    # With one star in each alternative the work is linear in the name.
    alternatives = [b".*".join(map(re.escape, pattern.split(b"*", 1))) for pattern in patterns]
    return re.compile(b"(?s:" + b"|".join(alternatives) + b")\\Z")
