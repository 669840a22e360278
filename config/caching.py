"""What one rule says of the cache, looked at as a whole: options that contradict or silence one another. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from config import patterns
from config.faults import Path, quote
from config.schema import Bypass, Key, Query, Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from config.units import Duration

# Options of a rule that say what is cached, and how.
OPTIONS = tuple(
    name for name in Rule.__struct_fields__ if name not in {"name", "match", "upstream", "redirect", "answer"}
)
TRAVELLING = frozenset({"cookies", "drop_cookies", "keep_cookies", "query", "key"})  # they change what is sent, too
# Fields that are keyed in ways of their own, or that no key can hold.
_UNKEYABLE = {
    "cookie": "name the cookies in `key.cookie`",
    "host": "it is part of every key",
    "authorization": "what answers credentials is stored only as RFC 9111 §3.5 allows",
    "cache-control": "it says what the client wants of caches",
    "range": "parts are found in what is stored",
    "if-none-match": "conditions are answered from what is stored",
    "if-modified-since": "conditions are answered from what is stored",
    "x-device-class": "say `key.device = true`",
}
_SESSION = "JSESSIONID"


class Findings(Protocol):
    """Where problems go (config/checks.py)."""

    def fault(self, path: Path, what: str, hint: str = "") -> None: ...
    def warn(self, path: Path, what: str, hint: str = "") -> None: ...


def check(found: Findings, i: int, rule: Rule, presets: Sequence[str]) -> None:
    """Contradictions within one rule. `presets` are those of the sites it applies to."""
    _check_lifetimes(found, i, rule)
    _check_cookies(found, i, rule, presets)
    _check_query(found, i, rule)
    _check_key(found, i, rule)
    if rule.bypass == Bypass():
        found.warn(
            ("rule", i, "bypass"), "no condition: nothing goes past the cache", "add cookie, header, query or clients"
        )


def _check_lifetimes(found: Findings, i: int, rule: Rule) -> None:
    at: Path = ("rule", i)
    low, high = rule.min_ttl, rule.max_ttl
    if low is not None and high is not None and low > high:
        found.fault((*at, "min_ttl"), f"`{low.text}` is more than `max_ttl` ({high.text})")
    for path, ttl in _given(rule):
        if high is not None and ttl > high:
            found.fault((*at, *path), f"`{ttl.text}` is more than `max_ttl` ({high.text})")
    if rule.ttl is not None and low is not None and rule.ttl < low:
        found.fault((*at, "ttl"), f"`{rule.ttl.text}` is less than `min_ttl` ({low.text})")
    for path, ttl in _given(rule):
        if rule.refresh_ahead and rule.refresh_ahead > ttl / 2 and path == ("ttl",):
            found.warn(
                (*at, "refresh_ahead"),
                f"`{rule.refresh_ahead.text}` is more than half of `ttl` ({ttl.text}), and counts as half of it",
            )


def _given(rule: Rule) -> list[tuple[Path, Duration]]:
    """The lifetimes that the rule gives where the origin gives none."""
    by_status: list[tuple[Path, Duration]] = [(("status_ttl", status), ttl) for status, ttl in rule.status_ttl.items()]
    return by_status if rule.ttl is None else [(("ttl",), rule.ttl), *by_status]


def _check_cookies(found: Findings, i: int, rule: Rule, presets: Sequence[str]) -> None:
    at: Path = ("rule", i)
    for name in ("drop_cookies", "keep_cookies"):
        if getattr(rule, name) and rule.cookies == "ignore":
            found.warn((*at, name), "no cookie travels under this rule", 'leave out cookies = "ignore"')
    if rule.drop_cookies and rule.keep_cookies:
        found.fault((*at, "keep_cookies"), "a rule has either `drop_cookies` or `keep_cookies`")
    elif "tomcat" in presets and rule.cookies == "obey" and not (rule.upstream or rule.redirect or rule.answer):
        name = next((name for name in ("drop_cookies", "keep_cookies") if getattr(rule, name)), "")
        if name and _is_dropped(rule, _SESSION):
            found.warn((*at, name), f"Tomcat's {_SESSION} is left out: its sessions end under this rule")
    named = rule.key.cookie if rule.key is not None else ()
    for n, cookie in enumerate(named):
        if rule.cookies == "ignore" or _is_dropped(rule, cookie):
            found.fault((*at, "key", "cookie", n), f"the cookie {quote(cookie)} does not travel under this rule")


def _is_dropped(rule: Rule, cookie: str) -> bool:
    if any(patterns.covers_path(pattern, cookie) for pattern in rule.drop_cookies):
        return True
    return bool(rule.keep_cookies) and not any(patterns.covers_path(one, cookie) for one in rule.keep_cookies)


def _check_query(found: Findings, i: int, rule: Rule) -> None:
    query = rule.query
    if query is None:
        return
    if query == Query():
        found.warn(("rule", i, "query"), "nothing is said of queries", "add sort, drop or keep")
    if query.drop and query.keep:
        found.fault(("rule", i, "query", "keep"), "a query has either `drop` or `keep`")


def _check_key(found: Findings, i: int, rule: Rule) -> None:
    if rule.key is None:
        return
    if rule.key == Key():
        found.warn(("rule", i, "key"), "nothing is added to the key", "add header, cookie or device")
    for n, name in enumerate(rule.key.header):
        why = _UNKEYABLE.get(name.lower())
        if why is not None:
            found.fault(("rule", i, "key", "header", n), f"`{name}` is not for a key", why)
