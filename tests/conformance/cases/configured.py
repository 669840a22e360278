"""What rules of the configuration change: freshness, stale answers, keys, queries, cookies, what goes past the cache.

Each is off unless a rule says it, so that the other cases show what happens without; and none of them lifts what the
origin insists on (RFC 9111 §4.2.4).
"""

from tests.conformance.case import ask, check, fetched, first, reply, reused

LONG = "Cache-Control: max-age=3600"
SHORT = "Cache-Control: max-age=1"
TAG = 'ETag: "a"'
DOWN = reply(fails=True)
GUESS = "RFC 9111 §4.2.2"
STALE = "RFC 9111 §4.2.4"
KEY = "RFC 9111 §2"
SESSION = "Cookie: logged_in_x=1"


def ruled(*lines):
    """Lines of a site that end in a rule for all its requests."""
    return "\n".join(["", "[[rule]]", 'name = "all"', *lines])


GIVEN = ruled('ttl = "60s"', 'status_ttl = { 404 = "5s", 503 = "2s", 403 = "5s" }')
BOUND = ruled('min_ttl = "10s"', 'max_ttl = "60s"')
LIFETIMES = (
    reused("rule-ttl", "OL", GUESS, kind="check", site=GIVEN),
    fetched("rule-ttl-over", "OL", GUESS, kind="check", after=61, site=GIVEN),
    fetched("rule-ttl-is-not-for-an-error", "OL", GUESS, kind="check", status=500, site=GIVEN),
    fetched("rule-ttl-does-not-lift-expires", "OL F6", GUESS, "Expires: 0", kind="check", site=GIVEN),
    fetched("rule-ttl-does-not-lift-no-store", "OL S2", GUESS, "Cache-Control: no-store", kind="check", site=GIVEN),
    fetched("rule-ttl-is-not-for-a-cookie", "OL S6", GUESS, "Set-Cookie: a=b", kind="check", site=GIVEN),
    check(
        "rule-ttl-is-not-for-who-sends-a-cookie",
        "OL S6",
        GUESS,
        ask("origin", "Cookie: a=b"),
        ask("origin", "Cookie: a=b"),
        site=GIVEN,
    ),
    reused("negative-caching", "C4", GUESS, kind="check", status=404, site=GIVEN),
    fetched("negative-caching-is-short", "C4", GUESS, kind="check", status=404, after=6, site=GIVEN),
    fetched("negative-caching-is-not-for-other-statuses", "C4", GUESS, kind="check", status=410, after=61, site=GIVEN),
    reused("negative-caching-of-an-outage", "C4", GUESS, kind="check", status=503, site=GIVEN),
    fetched(
        "negative-caching-does-not-lift-the-origins-word",
        "C4",
        GUESS,
        "Cache-Control: max-age=0",
        kind="check",
        status=404,
        site=GIVEN,
    ),
    check(
        "negative-caching-of-what-a-client-provoked",
        "C4",
        GUESS,
        ask("origin", 'If-Match: "x"', reply=reply(status=403)),
        ask("origin"),
        site=GIVEN,
    ),
    check(
        "a-stored-error-does-not-stand-in",
        "C4 C1 St2",
        STALE,
        first(status=503),
        ask("origin", reply=DOWN, after=3, status=502),
        site=GIVEN,
    ),
    reused("least-lifetime", "OL", GUESS, SHORT, kind="check", after=5, site=BOUND),
    reused("least-lifetime-of-a-guess", "OL", GUESS, "Last-Modified: {now-1}", kind="check", after=5, site=BOUND),
    fetched("least-lifetime-over", "OL", GUESS, SHORT, kind="check", after=11, site=BOUND),
    fetched("least-lifetime-of-nothing-said", "OL", GUESS, kind="check", site=BOUND),
    *(
        fetched(
            f"least-lifetime-against-{name}",
            "OL St1",
            STALE,
            f"Cache-Control: {text}",
            TAG,
            kind="check",
            after=2,
            site=BOUND,
        )
        for name, text in (
            ("no-cache", "no-cache"),
            ("no-store", "no-store, max-age=1"),
            ("private", "private, max-age=1"),
            ("must-revalidate", "max-age=0, must-revalidate"),
            ("proxy-revalidate", "max-age=1, proxy-revalidate"),
            ("s-maxage", "s-maxage=1"),
        )
    ),
    fetched("least-lifetime-against-a-targeted-field", "OL T1", GUESS, "CDN-Cache-Control: max-age=0", site=BOUND),
    fetched("greatest-lifetime", "OL", GUESS, LONG, kind="check", after=61, site=BOUND),
    reused("greatest-lifetime-not-reached", "OL", GUESS, LONG, kind="check", after=59, site=BOUND),
)

GRACE = ruled('grace = "30s"')
OUTAGE = ruled('stale_on_error = "5s"')
AHEAD = ruled('refresh_ahead = "10s"')
STALENESS = (
    check(
        "grace",
        "OG",
        STALE,
        first(SHORT, TAG),
        ask("refresh", reply=reply(LONG, TAG, status=304), after=3, age=(3, 3), told=('If-None-Match: "a"',)),
        ask("cache", of=1),
        site=GRACE,
    ),
    check("grace-is-over", "OG", STALE, first(SHORT), ask("origin", after=32), site=GRACE),
    check(
        "grace-is-told",
        "OG X2",
        STALE,
        first(SHORT),
        ask("refresh", reply=reply(LONG), after=3, member=("hit", "ttl=-3", "detail=grace")),
        site=GRACE,
    ),
    *(
        check(
            f"grace-against-{name}",
            "OG St1",
            STALE,
            first(f"Cache-Control: {text}", TAG),
            ask("origin", after=3),
            site=GRACE,
        )
        for name, text in (
            ("must-revalidate", "max-age=1, must-revalidate"),
            ("proxy-revalidate", "max-age=1, proxy-revalidate"),
            ("s-maxage", "s-maxage=1"),
            ("no-cache", "max-age=1, no-cache"),
            ("max-age-0", "max-age=0"),
            ("a-window-of-the-origins", "max-age=1, stale-while-revalidate=1"),
        )
    ),
    check("grace-of-what-was-never-fresh", "OG", STALE, first(TAG), ask("validated"), site=GRACE),
    check(
        "grace-and-a-client-that-names-an-age",
        "OG",
        "RFC 9111 §5.2.1.1",
        first(SHORT),
        ask("origin", "Cache-Control: max-age=600", after=3),
        site=GRACE,
    ),
    check(
        "what-grace-brought-governs",
        "OG",
        STALE,
        first(SHORT),
        ask("refresh", reply=reply("Cache-Control: no-store"), after=3),
        ask("origin"),
        site=GRACE,
    ),
    check(
        "a-rules-patience-on-errors",
        "St2",
        STALE,
        first(SHORT),
        ask("origin", reply=DOWN, after=4, of=1, status=200),
        site=OUTAGE,
    ),
    check(
        "a-rules-patience-on-errors-is-over",
        "St2",
        STALE,
        first(SHORT),
        ask("origin", reply=DOWN, after=7, status=502),
        site=OUTAGE,
    ),
    check(
        "renewed-ahead",
        "OA",
        "RFC 9111 §4.3",
        first("Cache-Control: max-age=60", TAG),
        ask("refresh", reply=reply(LONG, TAG, status=304), after=55, age=(55, 55), told=('If-None-Match: "a"',)),
        ask("cache", of=1, age=(0, 0)),
        site=AHEAD,
    ),
    check(
        "not-renewed-long-ahead",
        "OA",
        "RFC 9111 §4.3",
        first("Cache-Control: max-age=60"),
        ask("cache", after=45),
        site=AHEAD,
    ),
    check(
        "a-short-life-is-renewed-in-its-second-half",
        "OA",
        "RFC 9111 §4.3",
        first("Cache-Control: max-age=8"),
        ask("cache", after=3),
        ask("refresh", reply=reply(LONG), after=3),
        site=AHEAD,
    ),
    check(
        "renewed-ahead-by-an-error",
        "OA St3",
        "RFC 9111 §4.3.3",
        first("Cache-Control: max-age=60"),
        ask("refresh", reply=reply(status=503), after=52),
        ask("refresh", reply=reply(LONG), after=2, of=1),
        site=AHEAD,
    ),
    check(
        "not-renewed-without-the-option",
        "OA",
        "RFC 9111 §4.3",
        first("Cache-Control: max-age=60"),
        ask("cache", after=59),
    ),
)

QUERY = ruled('query = { sort = true, drop = ["utm_*", "fbclid"] }')
KEPT = ruled('query = { keep = ["id", "p*"] }')
QUERIES = (
    check(
        "query-in-another-order",
        "OQ",
        KEY,
        ask("origin", at="?b=2&a=1", reply=reply(LONG)),
        ask("cache", at="?a=1&b=2"),
        site=QUERY,
    ),
    check(
        "query-with-equal-names",
        "OQ",
        KEY,
        ask("origin", at="?a=2&a=1", reply=reply(LONG)),
        ask("origin", at="?a=1&a=2"),
        site=QUERY,
    ),
    check(
        "query-less-what-is-dropped",
        "OQ",
        KEY,
        ask("origin", at="?utm_source=x&a=1&fbclid=2", reply=reply(LONG)),
        ask("cache", at="?a=1"),
        ask("cache", at="?a=1&%75tm_x=1"),
        ask("origin", at="?a=1&utmx=1"),
        site=QUERY,
    ),
    check(
        "query-of-nothing-else",
        "OQ",
        KEY,
        ask("origin", at="?utm_source=x", reply=reply(LONG)),
        ask("cache"),
        ask("cache", at="?"),
        ask("cache", at="?&&"),
        site=QUERY,
    ),
    check(
        "what-is-keyed-is-what-is-sent",
        "OQ",
        KEY,
        ask("origin", at="?z=1&utm_source=x&a=%7e", reply=reply(LONG), target_told="?a=%7e&z=1"),
        ask("origin", at="?z=1&utm_source=x", method="HEAD", target_told="?z=1"),
        ask("origin", at="?z=1&utm_source=x", method="POST", body=b"x", target_told="?z=1&utm_source=x"),
        site=QUERY,
    ),
    check(
        "invalidated-whatever-was-dropped",
        "OQ MINV",
        "RFC 9111 §4.4",
        ask("origin", at="?b=1&a=1", reply=reply(LONG)),
        ask("origin", at="?a=1&b=1&utm_x=1", method="POST", body=b"x"),
        ask("origin", at="?a=1&b=1"),
        site=QUERY,
    ),
    check(
        "query-of-what-is-kept",
        "OQ",
        KEY,
        ask("origin", at="?x=1&id=7&page=2", reply=reply(LONG), target_told="?id=7&page=2"),
        ask("cache", at="?id=7&page=2&y"),
        ask("origin", at="?id=8&page=2"),
        ask("origin", at="?page=2&id=7"),
        site=KEPT,
    ),
)

COOKIES = ruled('drop_cookies = ["_ga*", "_gid"]', 'ttl = "60s"')
LANG = ruled('key = { cookie = "lang", header = "X-Country" }', 'ttl = "60s"')
DEVICE = ruled("key = { device = true }")
PHONE = "User-Agent: Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Mobile/15E148"
STRIP = ruled('set_cookie = "strip"', "honour_request = false")
KEYS = (
    check(
        "cookies-that-do-not-count",
        "OC",
        KEY,
        ask("origin", "Cookie: _ga=1; _gid=2", untold=("Cookie",)),
        ask("cache", "Cookie: _gab=3"),
        ask("cache"),
        site=COOKIES,
    ),
    check(
        "cookies-that-count-beside-others",
        "OC S6",
        KEY,
        ask("origin", "Cookie: _ga=1; a=1", told=("Cookie: a=1",)),
        ask("origin"),
        site=COOKIES,
    ),
    check(
        "vary-by-the-cookies-that-count",
        "OC K3",
        "RFC 9111 §4.1",
        ask("origin", "Cookie: _ga=1; a=1", reply=reply(LONG, "Vary: Cookie")),
        ask("cache", "Cookie: a=1; _ga=2"),
        ask("origin", "Cookie: a=2"),
        site=COOKIES,
    ),
    check(
        "a-cookie-in-the-key",
        "OK",
        KEY,
        ask("origin", "Cookie: lang=de"),
        ask("origin", "Cookie: lang=en"),
        ask("cache", "Cookie: lang=de", of=1),
        ask("origin", "Cookie: lang=de; lang=en"),
        ask("origin"),
        site=LANG,
    ),
    check(
        "a-cookie-in-the-key-beside-another",
        "OK S6",
        KEY,
        ask("origin", "Cookie: lang=de; a=1"),
        ask("origin", "Cookie: lang=de"),
        site=LANG,
    ),
    check(
        "a-field-in-the-key",
        "OK",
        KEY,
        ask("origin", "X-Country: de", told=("X-Country: de",)),
        ask("origin", "X-Country: fr"),
        ask("cache", "X-Country: de", of=1),
        ask("origin"),
        site=LANG,
    ),
    check(
        "all-keys-of-a-uri-are-invalidated",
        "OK MINV",
        "RFC 9111 §4.4",
        ask("origin", "X-Country: de"),
        ask("origin", "Cookie: lang=de"),
        ask("origin", method="POST", body=b"x"),
        ask("origin", "X-Country: de"),
        ask("origin", "Cookie: lang=de"),
        site=LANG,
    ),
    check(
        "a-device-class-in-the-key",
        "OK",
        KEY,
        ask("origin", PHONE, "X-Device-Class: desktop", reply=reply(LONG), told=("X-Device-Class: mobile", PHONE)),
        ask("origin", reply=reply(LONG), told=("X-Device-Class: desktop",)),
        ask("cache", PHONE.replace("17_5", "16_0"), of=1),
        site=DEVICE,
    ),
    check(
        "a-rules-word-on-set-cookie",
        "OC S6",
        "RFC 9111 §7.3",
        ask("origin", reply=reply(LONG, "Set-Cookie: a=b"), has=("Set-Cookie: a=b",)),
        ask("cache", "Cache-Control: no-cache", lacks=("Set-Cookie",)),
        site=STRIP,
    ),
    check(
        "a-session-cookie-by-pattern",
        "S6",
        "RFC 9111 §7.3",
        first(LONG, "Set-Cookie: logged_in_77=1"),
        ask("origin"),
        site='session_cookies = ["logged_in_*"]',
    ),
)

PASS = ruled(
    'cookies = "ignore"',
    'ttl = "60s"',
    'bypass = { cookie = "logged_in_*", header = ["X-Preview", "X-Debug: 1"], query = ["preview", "mode=edit"] }',
)
CLIENTS = ruled('bypass = { clients = "127.0.0.0/8" }')
STRANGERS = ruled('bypass = { clients = "192.0.2.0/24" }')
BYPASSES = (
    check(
        "past-the-cache-by-a-cookie",
        "OB",
        KEY,
        ask("origin", "Cookie: a=1", untold=("Cookie",)),
        ask("origin", SESSION, told=(SESSION,), reply=reply(LONG, "Set-Cookie: b=1"), has=("Set-Cookie: b=1",)),
        ask("cache", of=1),
        site=PASS,
    ),
    *(
        check(
            f"past-the-cache-by-{name}",
            "OB",
            KEY,
            ask("origin", *lines, at=at, reply=reply(LONG), member=("fwd=bypass",)),
            ask("origin", *lines, at=at),
            site=PASS,
        )
        for name, lines, at in (
            ("a-field", ("X-Preview: x",), ""),
            ("a-value", ("X-Debug: 1",), ""),
            ("an-argument", (), "?a&preview"),
            ("an-argument-with-value", (), "?mode=edit"),
        )
    ),
    *(
        check(
            f"not-past-the-cache-by-{name}",
            "OB",
            KEY,
            ask("origin", *lines, at=at, reply=reply(LONG)),
            ask("cache", *lines, at=at),
            site=PASS,
        )
        for name, lines, at in (
            ("another-value", ("X-Debug: 0",), ""),
            ("another-argument", (), "?mode=read"),
        )
    ),
    check("past-the-cache-by-the-client", "OB", KEY, first(LONG), ask("origin"), site=CLIENTS),
    check("not-past-the-cache-by-another-client", "OB", KEY, first(LONG), ask("cache"), site=STRANGERS),
    check(
        "what-goes-past-invalidates-all-the-same",
        "OB MINV",
        "RFC 9111 §4.4",
        first(LONG),
        ask("origin", "X-Preview: x", method="POST", body=b"x"),
        ask("origin"),
        site=PASS,
    ),
)

RELOAD = ruled("ignore_reload = true")
TARGETS = 'targeted = ["Edge-Cache-Control"]'
OTHERS = (
    check(
        "a-reload-of-an-immutable",
        "T6",
        "RFC 8246 §2",
        first("Cache-Control: max-age=60, immutable", TAG),
        ask("cache", "Cache-Control: no-cache"),
        ask("cache", "Cache-Control: max-age=0"),
        ask("validated", "Cache-Control: max-age=0", after=61),
        site=RELOAD,
    ),
    check(
        "a-reload-of-a-mutable",
        "T6",
        "RFC 8246 §2",
        first(LONG, TAG),
        ask("validated", "Cache-Control: no-cache"),
        site=RELOAD,
    ),
    reused(
        "a-targeted-field-of-ones-own",
        "T1",
        "RFC 9213 §2.1",
        "Edge-Cache-Control: max-age=60",
        SHORT,
        after=3,
        kind="check",
        site=TARGETS,
    ),
    reused(
        "a-targeted-field-no-longer-heard",
        "T1",
        "RFC 9213 §2.1",
        "CDN-Cache-Control: no-store",
        LONG,
        kind="check",
        site=TARGETS,
    ),
    check(
        "a-targeted-field-in-a-304",
        "T1 I3",
        "RFC 9110 §15.4.5",
        first(LONG, TAG, "Edge-Cache-Control: max-age=60"),
        ask("cache", 'If-None-Match: "a"', status=304, text=b"", has=("Edge-Cache-Control: max-age=60",)),
        site=TARGETS,
    ),
)
CASES = LIFETIMES + STALENESS + QUERIES + KEYS + BYPASSES + OTHERS
