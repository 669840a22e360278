"""Stale answers and validation towards the origin (RFC 9111 §4.2.4, §4.3, RFC 5861)."""

from tests.conformance.case import ask, check, first, optimal, reply, required

SHORT = "Cache-Control: max-age=1"
LONG = "Cache-Control: max-age=3600"
TAG = 'ETag: "a"'
DOWN = reply(fails=True)
S = "RFC 9111 §4.2.4"
V = "RFC 9111 §4.3.1"
N = "RFC 9111 §4.3.4"


def gone(status=None, **more):
    """A request while the origin does not answer."""
    return ask("origin", reply=DOWN, status=status, **more)


STALE = (
    *(
        required(
            f"never-stale-{name}",
            "St1 9111-4.2.4-1 9111-4.2.4-3 9111-5.2.2.2-2",
            S,
            first(f"Cache-Control: {text}", TAG),
            ask("origin", reply=DOWN, after=3, status=504, lacks=("ETag",)),
        )
        for name, text in (
            ("must-revalidate", "max-age=1, must-revalidate"),
            ("proxy-revalidate", "max-age=1, proxy-revalidate"),
            ("s-maxage", "s-maxage=1"),
            ("no-cache", "max-age=1, no-cache"),
            ("must-revalidate-over-stale-if-error", "max-age=1, must-revalidate, stale-if-error=60"),
        )
    ),
    required(
        "never-stale-while-revalidating",
        "St1 St5",
        "RFC 9111 §5.2.2.2",
        first("Cache-Control: max-age=1, must-revalidate, stale-while-revalidate=60"),
        ask("origin", after=3),
    ),
    required(
        "an-error-replaces-the-must-revalidate",
        "St1 9111-4.3.3-3",
        "RFC 9111 §4.3.3",
        first("Cache-Control: max-age=1, must-revalidate", TAG),
        ask("origin", reply=reply(status=503), after=3),
    ),
    optimal(
        "stale-while-disconnected",
        "St2 9111-4.2.4-3",
        S,
        first(SHORT, TAG),
        gone(after=3, status=200, of=1, age=(3, 3)),
    ),
    optimal("stale-on-arrival-while-disconnected", "St2", S, first(LONG, TAG, "Age: 7200"), gone(status=200, of=1)),
    optimal("stale-without-validator-while-disconnected", "St2", S, first(SHORT), gone(after=3, status=200, of=1)),
    check(
        "stale-not-for-longer-than-a-day",
        "St2",
        S,
        first("Cache-Control: max-age=1", TAG, "Age: 90000"),
        gone(status=502),
    ),
    *(
        optimal(
            f"stale-on-{status}",
            "St3 9111-4.3.3-3",
            "RFC 9111 §4.3.3",
            first(SHORT, TAG),
            ask("origin", reply=reply(status=status), after=3, status=200, of=1),
        )
        for status in (500, 502, 503, 504)
    ),
    *(
        check(
            f"stale-without-validator-on-{status}",
            "St3",
            "RFC 9111 §4.3.3",
            first(SHORT),
            ask("origin", reply=reply(status=status), after=3, status=200, of=1),
        )
        for status in (500, 503)
    ),
    *(
        required(
            f"not-stale-on-{status}",
            "St3",
            "RFC 9111 §4.3.3",
            first(SHORT, TAG),
            ask("origin", reply=reply(status=status), after=3),
            ask("origin"),
        )
        for status in (400, 404, 501, 505, 599)
    ),
    optimal(
        "stale-if-error-on-503",
        "St4",
        "RFC 5861 §4",
        first("Cache-Control: max-age=1, stale-if-error=60", TAG),
        ask("origin", reply=reply(status=503), after=3, status=200, of=1),
    ),
    optimal(
        "stale-if-error-while-disconnected",
        "St4",
        "RFC 5861 §4",
        first("Cache-Control: max-age=1, stale-if-error=60"),
        gone(after=3, status=200, of=1),
    ),
    required(
        "stale-if-error-exceeded",
        "St4",
        "RFC 5861 §4",
        first("Cache-Control: max-age=1, stale-if-error=1", TAG),
        ask("origin", reply=reply(status=503), after=4),
    ),
    required(
        "stale-if-error-exceeded-while-disconnected",
        "St4",
        "RFC 5861 §4",
        first("Cache-Control: max-age=1, stale-if-error=1", TAG),
        gone(after=4, status=502),
    ),
    optimal(
        "stale-while-revalidate",
        "St5",
        "RFC 5861 §3",
        first("Cache-Control: max-age=1, stale-while-revalidate=60"),
        ask("refresh", reply=reply(LONG), after=3, age=(3, 3)),
        ask("cache"),
    ),
    optimal(
        "stale-while-revalidate-is-conditional",
        "St5 V2",
        "RFC 5861 §3",
        ask("origin", "Foo: 1", reply=reply("Cache-Control: max-age=1, stale-while-revalidate=60", TAG, "Vary: Foo")),
        ask("refresh", "Foo: 1", reply=reply(LONG, TAG, status=304), after=3, told=('If-None-Match: "a"', "Foo: 1")),
        ask("cache", "Foo: 1", of=1),
    ),
    required(
        "stale-while-revalidate-exceeded",
        "St5",
        "RFC 5861 §3",
        first("Cache-Control: max-age=1, stale-while-revalidate=1"),
        ask("origin", after=4),
    ),
    optimal(
        "what-a-refresh-brings-governs",
        "St5",
        "RFC 5861 §3",
        first("Cache-Control: max-age=1, stale-while-revalidate=60"),
        ask("refresh", reply=reply("Cache-Control: no-store"), after=3),
        ask("origin"),
    ),
    optimal(
        "a-refresh-that-says-no-cache",
        "St5",
        "RFC 5861 §3",
        first("Cache-Control: max-age=1, stale-while-revalidate=60", TAG),
        ask("refresh", reply=reply("Cache-Control: no-cache", 'ETag: "b"'), after=3),
        ask("validated", told=('If-None-Match: "b"',)),
    ),
    optimal(
        "no-warning-is-made", "St6", "RFC 9111 §5.5", first(SHORT), gone(after=3, status=200, of=1, lacks=("Warning",))
    ),
    required(
        "warning-passes",
        "St6 9111-5.5-1",
        "RFC 9111 §5.5",
        first(LONG, 'Warning: 199 a "b"'),
        ask("any", reply=reply(LONG, 'Warning: 199 a "b"'), has=('Warning: 199 a "b"',)),
    ),
    required(
        "a-break-in-the-body-is-shown",
        "St7",
        "RFC 9111 §4.2.4",
        first(SHORT),
        ask("origin", reply=reply(LONG, cut=True), after=3, broken=True),
    ),
)

VALIDATION = (
    required(
        "validated-by-etag",
        "V1 9111-4.3.1-1",
        V,
        first(SHORT, TAG),
        ask("origin", reply=reply(TAG, status=304), after=3, status=200, of=1, told=('If-None-Match: "a"',)),
    ),
    optimal(
        "validated-by-last-modified",
        "V1 9111-4.3.1-2",
        V,
        first(SHORT, "Last-Modified: {start-999}"),
        ask("validated", after=3, told=("If-Modified-Since: {start-999}",)),
    ),
    optimal(
        "validated-by-both",
        "V1 9111-4.3.1-4",
        V,
        first(SHORT, TAG, "Last-Modified: {start-999}"),
        ask("validated", after=3, told=('If-None-Match: "a"', "If-Modified-Since: {start-999}")),
    ),
    *(
        optimal(
            f"tag-as-received-{name}",
            "V1",
            V,
            first(SHORT, f"ETag: {tag}"),
            ask("validated", after=3, told=(f"If-None-Match: {tag}",)),
        )
        for name, tag in (
            ("weak", 'W/"a"'),
            ("unquoted", "abc"),
            ("weak-in-lower-case", 'w/"a"'),
            ("with-a-comma", '"a,b"'),
            ("high-bytes", '"\xe4"'),
        )
    ),
    optimal(
        "last-modified-as-received",
        "V1 9110-8.8.3-1",
        V,
        first(SHORT, "Last-Modified: {start-999|850}"),
        ask("validated", after=3, told=("If-Modified-Since: {start-999|850}",)),
    ),
    required(
        "validated-for-the-variant",
        "V2 9111-4.3.1-5",
        V,
        ask("origin", "Foo: 1", reply=reply(SHORT, TAG, "Vary: Foo")),
        ask("origin", "Foo: 1", after=3, told=("Foo: 1",)),
    ),
    optimal(
        "fresh-with-must-revalidate",
        "V3",
        "RFC 9111 §5.2.2.2",
        first("Cache-Control: max-age=3600, must-revalidate", TAG),
        ask("cache"),
    ),
    required(
        "stale-with-must-revalidate",
        "V3 9111-5.2.2.2-1",
        "RFC 9111 §5.2.2.2",
        first("Cache-Control: max-age=1, must-revalidate", TAG),
        ask("origin", after=3),
    ),
    required(
        "a-full-response-replaces",
        "V4 9111-4.3.3-2",
        "RFC 9111 §4.3.3",
        first(SHORT, TAG),
        ask("origin", reply=reply(LONG, 'ETag: "b"'), after=3),
        ask("any", has=('ETag: "b"',)),
    ),
    optimal(
        "a-full-response-is-reused",
        "V4",
        "RFC 9111 §4.3.3",
        first(SHORT, TAG),
        ask("origin", reply=reply(LONG, 'ETag: "b"'), after=3),
        ask("cache"),
    ),
    required(
        "a-404-replaces",
        "V4",
        "RFC 9111 §4.3.3",
        first(SHORT, TAG),
        ask("origin", reply=reply(LONG, status=404), after=3),
        ask("any", status=404, reply=reply(status=404)),
    ),
    optimal(
        "the-union-of-tags",
        "V5 9111-4.3.2-6",
        V,
        first(SHORT, TAG),
        ask("validated", 'If-None-Match: "c"', after=3, told=('If-None-Match: "a", "c"',), reply=reply(TAG)),
    ),
    optimal(
        "a-304-for-the-clients-tag",
        "V5",
        V,
        first(SHORT, TAG),
        ask("validated", 'If-None-Match: "c"', after=3, reply=reply('ETag: "c"'), status=304, text=b""),
    ),
    optimal(
        "a-304-for-both",
        "V5 I6",
        V,
        first(SHORT, TAG),
        ask("validated", 'If-None-Match: "a"', after=3, reply=reply(TAG), status=304, text=b""),
    ),
    required(
        "a-304-that-matches-nothing",
        "V6 9111-4.3.4-3",
        N,
        first(SHORT, TAG),
        ask(
            "origin",
            reply=reply(LONG, 'ETag: "z"', status=304),
            again=reply(LONG, 'ETag: "z"'),
            after=3,
            has=('ETag: "z"',),
        ),
        ask("cache"),
    ),
    required(
        "conditions-travel-on-a-miss",
        "V7",
        "RFC 9110 §13",
        ask(
            "origin",
            'If-None-Match: "a",W/"b" ,c',
            "If-Modified-Since: yesterday",
            reply=reply('ETag: "b"', status=304),
            status=304,
            told=('If-None-Match: "a",W/"b" ,c', "If-Modified-Since: yesterday"),
        ),
    ),
    required(
        "a-304-passes-on-a-miss",
        "V7",
        "RFC 9110 §13",
        ask(
            "origin",
            "If-None-Match: abc",
            reply=reply("X-A: 1", "ETag: abc", status=304),
            status=304,
            told=("If-None-Match: abc",),
            has=("X-A: 1",),
        ),
    ),
)

FRESHENING = (
    optimal(
        "a-304-freshens",
        "V304 9111-4.3.3-1 9111-4.3.4-1",
        N,
        first(SHORT, TAG),
        ask("validated", reply=reply(LONG, TAG), after=3),
        ask("cache"),
    ),
    optimal(
        "a-304-by-weak-tag",
        "V304 9111-4.3.4-2",
        N,
        first(SHORT, 'ETag: W/"a"'),
        ask("validated", reply=reply(LONG, 'ETag: W/"a"'), after=3),
        ask("cache"),
    ),
    optimal(
        "a-304-by-last-modified",
        "V304",
        N,
        first(SHORT, "Last-Modified: {start-999}"),
        ask("validated", reply=reply(LONG, "Last-Modified: {start-999}"), after=3),
        ask("cache"),
    ),
    optimal(
        "a-304-without-validator",
        "V304 9111-4.3.4-4",
        N,
        first(SHORT, "Last-Modified: {start-999}"),
        ask("validated", reply=reply(LONG), after=3),
        ask("cache"),
    ),
    *(
        required(
            f"304-updates-{line.partition(':')[0].lower()}",
            "V304 SU 9111-3.2-1 9111-4.3.4-1",
            "RFC 9111 §3.2",
            first(SHORT, TAG, f"{line.partition(':')[0]}: old"),
            ask("validated", reply=reply(LONG, TAG, line), after=3, has=(line,)),
            ask("any", has=(line,)),
        )
        for line in (
            "X-Test: b",
            "Content-Type: text/b",
            "Content-Language: b",
            "Content-Disposition: b",
            "Content-Location: /b",
            "Content-Security-Policy: b",
            "X-Frame-Options: b",
            "Set-Cookie2: b",
            "Server: b",
            "X-Content-Foo: b",
            "Test-Header: b",
        )
    ),
    required(
        "304-updates-expires",
        "V304 SU",
        "RFC 9111 §3.2",
        first("Expires: {now+1}", TAG),
        ask("validated", reply=reply(TAG, "Expires: {start+3600}"), after=3, has=("Expires: {start+3600}",)),
    ),
    required(
        "304-updates-date",
        "V304 SU",
        "RFC 9111 §3.2",
        first(SHORT, TAG),
        ask("validated", reply=reply(LONG, TAG, "Date: {start+3}"), after=3),
        ask("any", has=("Date: {start+3}",)),
    ),
    required(
        "304-keeps-other-fields",
        "V304 SU",
        "RFC 9111 §3.2",
        first(SHORT, TAG, "X-Old: 1"),
        ask("validated", reply=reply(LONG, TAG, "X-New: 2"), after=3, has=("X-Old: 1", "X-New: 2")),
        ask("any", has=("X-Old: 1", "X-New: 2")),
    ),
    required(
        "304-updates-repeated-lines",
        "SU",
        "RFC 9111 §3.2",
        first(SHORT, TAG, "X-A: 1", "X-A: 2"),
        ask("validated", reply=reply(LONG, TAG, "X-A: 3"), after=3, has=("X-A: 3",)),
    ),
    *(
        required(
            f"304-does-not-update-{line.partition(':')[0].lower()}",
            "SU 9111-3.2-2",
            "RFC 9111 §3.2",
            first(SHORT, TAG, *old),
            ask("validated", reply=reply(LONG, TAG, line), after=3, lacks=(line,)),
            ask("any", lacks=(line,)),
        )
        for line, old in (
            ("Content-Encoding: x-b", ("Content-Encoding: x-a",)),
            ("Content-Range: bytes 0-1/2", ()),
            ("Connection: X-A", ()),
            ("Proxy-Authenticate: b", ()),
            ("Keep-Alive: b", ()),
            ("Trailer: b", ()),
        )
    ),
    required(
        "304-with-another-length",
        "SU 9111-3.2-2",
        "RFC 9111 §3.2",
        first(SHORT, TAG, body=b"12345"),
        ask("validated", reply=reply(LONG, TAG, "Content-Length: 3"), after=3, text=b"12345"),
        ask("any", has=("Content-Length: 5",), text=b"12345", reply=reply(body=b"12345")),
    ),
    required(
        "304-that-says-no-store",
        "V304",
        N,
        first(SHORT, TAG),
        ask("validated", reply=reply("Cache-Control: no-store", TAG), after=3),
        ask("origin", untold=("If-None-Match",)),
    ),
    required(
        "304-that-says-no-cache",
        "V304",
        N,
        first(SHORT, TAG),
        ask("validated", reply=reply("Cache-Control: no-cache", TAG), after=3),
        ask("origin"),
    ),
)
CASES = STALE + VALIDATION + FRESHENING
