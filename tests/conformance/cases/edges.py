"""Edges: combinations of what the other modules have one by one (RFC 9110 §8, §9, §13, §14; RFC 9111; RFC 9213)."""

from tests.conformance.case import ask, check, fetched, first, optimal, reply, required, reused

LONG = "Cache-Control: max-age=3600"
SHORT = "Cache-Control: max-age=1"
TAG = 'ETag: "abc"'
TEN = b"0123456789"
R = "RFC 9110 §14.2"
N = "RFC 9111 §4.3.4"
I = "RFC 9111 §4.4"  # noqa: E741 - of invalidation
L = "RFC 9111 §4.2.1"


def sliced(name, field, status, text, kind="optimal", *more, **rest):
    """A Range answered from a stored whole of ten bytes."""
    return (optimal if kind == "optimal" else check)(
        f"range-edge-{name}",
        "R1 R2 R3",
        R,
        first(LONG, TAG, body=TEN),
        ask("cache", f"Range: {field}", *more, status=status, text=text, **rest),
    )


RANGES = (
    sliced("unit-in-capitals", "BYTES=2-3", 206, b"23", has=("Content-Range: bytes 2-3/10",)),
    sliced("leading-zeros", "bytes=002-0003", 206, b"23"),
    sliced("one-of-two-beyond", "bytes=90-99,2-3", 206, b"23", has=("Content-Range: bytes 2-3/10",)),
    sliced("empty-members", "bytes=,2-3,", 206, b"23", "check"),
    sliced("blank-behind-comma", "bytes=2-3 , 90-", 206, b"23"),
    sliced("backwards", "bytes=3-2", 200, TEN),
    sliced("one-backwards-of-two", "bytes=0-1,3-2", 200, TEN),
    sliced("negative", "bytes=--1", 200, TEN),
    sliced("sign", "bytes=+1-2", 200, TEN),
    sliced("no-numbers", "bytes=-", 200, TEN),
    sliced("hex", "bytes=0x1-2", 200, TEN),
    sliced("blank-before-equals", "bytes =1-2", 200, TEN, "check"),
    sliced("huge-end", "bytes=8-" + "9" * 40, 206, b"89"),
    sliced("huge-suffix", "bytes=-" + "9" * 40, 206, TEN),
    sliced("whole", "bytes=0-", 206, TEN, has=("Content-Range: bytes 0-9/10",)),
    sliced("suffix-of-nothing", "bytes=-0", 416, b"", has=("Content-Range: bytes */10",)),
    sliced("suffix-of-nothing-beside-a-range", "bytes=-0,4-4", 206, b"4"),
    sliced("adjacent-merged", "bytes=0-1,2-3", 206, b"0123", has=("Content-Range: bytes 0-3/10",)),
    sliced("same-twice", "bytes=4-4,4-4", 206, b"4"),
    sliced("more-than-the-whole", "bytes=0-8,1-9", 200, TEN, "check"),
    sliced("other-unit", "lines=0-1", 200, TEN),
    sliced("if-range-alone-tag", "bytes=0-0", 206, b"0", "optimal", 'If-Range: "abc"'),
    sliced("if-range-list", "bytes=0-0", 200, TEN, "optimal", 'If-Range: "x", "abc"'),
    sliced("if-range-star", "bytes=0-0", 200, TEN, "optimal", "If-Range: *"),
    sliced("if-range-unquoted", "bytes=0-0", 200, TEN, "optimal", "If-Range: abc"),
    sliced("if-none-match-hit", "bytes=0-0", 304, b"", "optimal", 'If-None-Match: "abc"'),
    sliced("if-none-match-miss", "bytes=0-0", 206, b"0", "optimal", 'If-None-Match: "x"'),
    optimal(
        "if-range-without-range-is-not-looked-at",
        "R4",
        "RFC 9110 §13.1.5",
        first(LONG, TAG, body=TEN),
        ask("cache", 'If-Range: "other"', status=200),
    ),
    optimal(
        "a-range-of-a-stored-error-is-ignored",
        "R2",
        R,
        first(LONG, status=404, body=TEN),
        ask("cache", "Range: bytes=0-1", status=404, text=TEN, lacks=("Content-Range",)),
    ),
    required(
        "a-part-of-unknown-length-serves-no-suffix",
        "R5 9111-3.3-3",
        "RFC 9111 §3.3",
        ask(
            "origin",
            "Range: bytes=0-4",
            reply=reply(LONG, TAG, "Content-Range: bytes 0-4/*", status=206, body=b"01234"),
        ),
        ask("origin", "Range: bytes=-2", reply=reply(LONG, TAG, "Content-Range: bytes 8-9/10", status=206, body=b"89")),
    ),
    optimal(
        "a-part-of-unknown-length-serves-a-range-within",
        "R5",
        "RFC 9111 §3.3",
        ask(
            "origin",
            "Range: bytes=0-4",
            reply=reply(LONG, TAG, "Content-Range: bytes 0-4/*", status=206, body=b"01234"),
        ),
        ask("cache", "Range: bytes=1-2", status=206, text=b"12", has=("Content-Range: bytes 1-2/*",)),
    ),
    *(
        required(
            f"inconsistent-part-{name}",
            "R6",
            "RFC 9110 §15.3.7",
            ask("origin", "Range: bytes=0-4", reply=reply(LONG, TAG, line, status=206, body=b"01234")),
            ask("origin", "Range: bytes=0-4", reply=reply(LONG, TAG, line, status=206, body=b"01234")),
        )
        for name, line in (
            ("ends-before-it-begins", "Content-Range: bytes 4-0/10"),
            ("beyond-its-length", "Content-Range: bytes 0-4/3"),
            ("unsatisfied", "Content-Range: bytes */10"),
            ("without-numbers", "Content-Range: bytes"),
            ("two-of-them", "Content-Range: bytes 0-4/10, bytes 0-4/10"),
            ("in-other-units", "Content-Range: lines 0-4/10"),
        )
    ),
)

LIFETIMES = (
    fetched("expires-twice-past-first", "F6", L, "Expires: {now-60}", "Expires: {now+3600}", kind="required"),
    fetched("expires-twice-past-last", "F6", L, "Expires: {now+3600}", "Expires: {now-60}", kind="check"),
    fetched("expires-minus-one", "F6", "RFC 9111 §5.3", "Expires: -1", "Last-Modified: {now-8640000}"),
    fetched("expires-a-number-of-seconds", "F6", "RFC 9111 §5.3", "Expires: 3600", "Last-Modified: {now-8640000}"),
    reused("expires-against-a-date-to-come", "F6", L, "Date: {now+1000}", "Expires: {now+1600}"),
    fetched("expires-equal-to-a-date-to-come", "F6", L, "Date: {now+1000}", "Expires: {now+1000}"),
    fetched("age-equal-to-the-lifetime", "F1 F7", L, "Cache-Control: max-age=60", "Age: 60", TAG),
    reused("age-less-than-the-lifetime", "F1 F7", L, "Cache-Control: max-age=60", "Age: 50", age=(50, 51)),
    fetched("s-maxage-0-beside-max-age", "F2", L, "Cache-Control: max-age=3600, s-maxage=0", TAG),
    reused("s-maxage-beside-max-age-0", "F2", L, "Cache-Control: max-age=0, s-maxage=3600"),
    fetched("no-guess-from-a-time-to-come", "F8", "RFC 9111 §4.2.2", "Last-Modified: {now+86400}"),
    fetched("no-guess-for-an-unknown-status", "F8", "RFC 9111 §4.2.2", "Last-Modified: {now-8640000}", status=299),
    *(
        reused(f"a-guess-for-{status}", "F8", "RFC 9110 §15.1", "Last-Modified: {now-8640000}", status=status)
        for status in (203, 300, 301, 308, 404, 410)
    ),
    fetched("a-guess-beside-must-understand", "C3", "RFC 9111 §5.2.2.3", "Cache-Control: must-understand", status=299),
    fetched("age-over-a-second-line", "A4", "RFC 9111 §5.1", LONG, "Age: 7200", "Age: 0", TAG),
    reused("age-under-a-second-line", "A4", "RFC 9111 §5.1", LONG, "Age: 0", "Age: 7200"),
)

FRESHENING = (
    required(
        "a-304-with-content-fields-of-nothing",
        "9111-3.2-2",
        "RFC 9111 §3.2",
        first(SHORT, TAG, "Content-Type: text/plain", body=TEN),
        ask("validated", reply=reply(LONG, TAG, "Content-Length: 0", "Content-Encoding: gzip"), after=3, text=TEN),
        ask(
            "any",
            reply=reply(LONG),
            has=("Content-Type: text/plain", "Content-Length: 10"),
            lacks=("Content-Encoding",),
        ),
    ),
    required(
        "a-304-to-a-strong-tag-with-a-weak-one-is-no-other",
        "V6",
        N,
        first(SHORT, TAG),
        ask("validated", reply=reply(LONG, 'ETag: W/"abc"'), after=3, status=200),
        ask("any", reply=reply(LONG)),
    ),
    optimal(
        "a-304-that-brings-new-fields",
        "9111-3.2-1",
        "RFC 9111 §3.2",
        first(SHORT, TAG, "X-Old: 1", "X-Same: a"),
        ask("validated", reply=reply(LONG, TAG, "X-New: 2", "X-Same: b"), after=3),
        ask("cache", has=("X-Old: 1", "X-New: 2", "X-Same: b")),
    ),
    required(
        "a-304-with-connection-fields-leaves-them-out",
        "W2 9111-3.1-2",
        "RFC 9111 §3.1",
        first(SHORT, TAG),
        ask("validated", reply=reply(LONG, TAG, "Connection: X-Hop", "X-Hop: 1"), after=3, lacks=("X-Hop",)),
        ask("any", reply=reply(LONG), lacks=("X-Hop",)),
    ),
    optimal(
        "validated-by-date-without-last-modified-is-not",
        "V1",
        "RFC 9111 §4.3.1",
        first(SHORT),
        ask("origin", reply=reply(LONG), after=3, untold=("If-Modified-Since", "If-None-Match")),
    ),
    required(
        "a-client-date-condition-is-not-forwarded-beside-our-own",
        "I6 V5",
        "RFC 9111 §4.3.1",
        first(SHORT, TAG, "Last-Modified: {start-1000}"),
        ask(
            "validated",
            "If-Modified-Since: {start-500}",
            reply=reply(LONG, TAG, "Last-Modified: {start-1000}"),
            after=3,
            told=('If-None-Match: "abc"',),
            status=304,
        ),
    ),
    optimal(
        "head-of-a-stale-one-then-get",
        "M2",
        "RFC 9111 §4.3.5",
        first(SHORT, TAG, body=TEN),
        ask("origin", method="HEAD", reply=reply(LONG, TAG, "Content-Length: 10"), after=3),
        ask("cache", status=200, text=TEN),
    ),
)


def changed(name, method, status, lines, at, seen):
    """A response at `at` after an unsafe method at the bare path of the case."""
    told = "location" in name
    return (optimal if told or seen == "cache" else required)(
        f"invalidation-edge-{name}",
        "9111-4.4-1" if not told else "9111-4.4-2" if seen == "origin" else "9111-4.4-3",
        I,
        ask("origin", at=at, reply=reply(LONG)),
        ask("origin", method=method, body=b"x", reply=reply(*lines, status=status)),
        ask(seen, at=at, reply=reply(LONG)),
    )


INVALIDATION = (
    changed("patch", "PATCH", 204, (), "", "origin"),
    changed("put-201", "PUT", 201, (), "", "origin"),
    changed("delete-302", "DELETE", 302, (), "", "origin"),
    changed("post-403", "POST", 403, (), "", "cache"),
    changed("post-500", "POST", 500, (), "", "cache"),
    changed("location-relative", "POST", 201, ("Location: {path}/new",), "/new", "origin"),
    changed("location-with-fragment", "POST", 201, ("Location: {path}/new#top",), "/new", "origin"),
    changed("location-with-query-only", "POST", 201, ("Location: ?q=1",), "?q=1", "origin"),
    changed("location-dots", "POST", 201, ("Location: {path}/x/../new",), "/new", "origin"),
    changed("location-host-case", "POST", 201, ("Location: http://TEST.example{path}/new",), "/new", "origin"),
    changed("location-default-port", "POST", 201, ("Location: http://test.example:80{path}/new",), "/new", "origin"),
    changed("location-encoded", "POST", 201, ("Location: {path}/%6eew",), "/new", "origin"),
    changed("location-scheme-relative", "POST", 201, ("Location: //test.example{path}/new",), "/new", "origin"),
    changed("location-other-port", "POST", 201, ("Location: http://test.example:81{path}/new",), "/new", "cache"),
    changed("location-other-scheme", "POST", 201, ("Location: https://test.example{path}/new",), "/new", "cache"),
    changed("location-other-host", "POST", 201, ("Location: http://other.example{path}/new",), "/new", "cache"),
    changed("content-location-relative", "PUT", 200, ("Content-Location: {path}/new",), "/new", "origin"),
    changed("another-query-stays", "POST", 200, (), "?other", "cache"),
)

KEYS = (
    required(
        "an-empty-query-is-not-none",
        "K1",
        "RFC 3986 §6.2.3",
        first(LONG),
        ask("origin", at="?", reply=reply(LONG)),
    ),
    required(
        "a-double-slash-is-another-path",
        "K1",
        "RFC 3986 §6.2",
        ask("origin", at="/a/b", reply=reply(LONG)),
        ask("origin", at="/a//b", reply=reply(LONG)),
    ),
    required(
        "case-of-a-path-matters",
        "K1",
        "RFC 3986 §6.2.2.1",
        ask("origin", at="/a", reply=reply(LONG)),
        ask("origin", at="/A", reply=reply(LONG)),
    ),
    optimal(
        "vary-names-in-any-case",
        "K3",
        "RFC 9110 §5.1",
        ask("origin", "X-A: 1", reply=reply(LONG, "Vary: x-A")),
        ask("cache", "x-a: 1"),
    ),
    required(
        "vary-by-a-field-that-is-empty",
        "K3",
        "RFC 9111 §4.1",
        ask("origin", "X-A: ", reply=reply(LONG, "Vary: X-A")),
        ask("origin", reply=reply(LONG, "Vary: X-A")),
    ),
    required(
        "vary-by-host-of-another-name",
        "K1",
        "RFC 9111 §2",
        ask("origin", reply=reply(LONG)),
        ask("origin", host="other.test.example", reply=reply(LONG)),
    ),
    required(
        "encodings-with-other-weights",
        "K6",
        "RFC 9110 §12.5.3",
        ask("origin", "Accept-Encoding: gzip, br;q=0.5", reply=reply(LONG, "Vary: Accept-Encoding")),
        ask("origin", "Accept-Encoding: gzip;q=0.5, br", reply=reply(LONG, "Vary: Accept-Encoding")),
    ),
    required(
        "an-encoding-refused-is-not-one-accepted",
        "K6",
        "RFC 9110 §12.5.3",
        ask("origin", "Accept-Encoding: gzip", reply=reply(LONG, "Vary: Accept-Encoding")),
        ask("origin", "Accept-Encoding: gzip;q=0", reply=reply(LONG, "Vary: Accept-Encoding")),
    ),
)

VERSIONS = (
    optimal(
        "stored-from-chunks-for-an-old-client",
        "W5",
        "RFC 9112 §6.1",
        first(LONG, chunked=True),
        ask("cache", version="1.0", has=("Content-Length",), lacks=("Transfer-Encoding",)),
    ),
    optimal(
        "an-old-clients-fetch-serves-others",
        "S1",
        "RFC 9111 §3",
        ask("origin", version="1.0", reply=reply(LONG)),
        ask("cache"),
    ),
    required(
        "authorization-with-no-cache-is-not-enough",
        "9111-3.5-1",
        "RFC 9111 §3.5",
        ask("origin", "Authorization: Basic eA==", reply=reply("Cache-Control: no-cache, max-age=60", TAG)),
        ask("origin", reply=reply(LONG), untold=("If-None-Match",)),
    ),
    required(
        "authorization-with-s-maxage-of-nothing-is-validated",
        "9111-3.5-1",
        "RFC 9111 §3.5",
        ask("origin", "Authorization: Basic eA==", reply=reply("Cache-Control: s-maxage=0", TAG)),
        ask("origin", reply=reply(LONG)),
    ),
    required(
        "what-came-for-credentials-is-not-for-others",
        "9111-3.5-1",
        "RFC 9111 §3.5",
        ask("origin", "Authorization: Basic eA==", reply=reply(LONG)),
        ask("origin", "Authorization: Basic eQ==", reply=reply(LONG)),
    ),
    optimal(
        "what-anybody-got-is-for-credentials-too",
        "S1",
        "RFC 9111 §3.5",
        first(LONG),
        ask("cache", "Authorization: Basic eA=="),
    ),
)

TARGETED = tuple(
    (fetched if seen == "origin" else reused)(
        f"targeted-edge-{name}", "T1 T2", "RFC 9213 §2.1", *lines, kind="optimal" if seen == "cache" else "required"
    )
    for name, seen, lines in (
        ("empty", "cache", (LONG, "CDN-Cache-Control: ")),
        ("trailing-comma", "cache", (LONG, "CDN-Cache-Control: no-store,")),
        ("capital-key", "cache", (LONG, "CDN-Cache-Control: No-Store")),
        ("string-seconds", "cache", (LONG, 'CDN-Cache-Control: max-age="0"')),
        ("decimal-seconds", "cache", (LONG, "CDN-Cache-Control: max-age=0.5")),
        ("negative-seconds", "origin", ("Cache-Control: no-store", "CDN-Cache-Control: max-age=-5")),
        ("parameters", "cache", ("Cache-Control: no-store", "CDN-Cache-Control: max-age=60;a=b")),
        ("last-of-equal-keys", "cache", ("Cache-Control: no-store", "CDN-Cache-Control: max-age=0, max-age=60")),
        ("false", "cache", (LONG, "CDN-Cache-Control: max-age=60, no-store=?0")),
        ("true", "origin", (LONG, "CDN-Cache-Control: max-age=60, no-store=?1")),
        ("inner-list", "cache", (LONG, "CDN-Cache-Control: no-store=(a b")),
        (
            "two-lines",
            "cache",
            ("Cache-Control: no-store", "CDN-Cache-Control: max-age=0", "CDN-Cache-Control: max-age=60"),
        ),
        (
            "second-in-line",
            "cache",
            ("Cache-Control: no-store", "Tandem-Cache-Control: =", "CDN-Cache-Control: max-age=60"),
        ),
        (
            "sixteen-digits",
            "origin",
            ("Cache-Control: no-store", "CDN-Cache-Control: max-age=1234567890123456", "CDN-Cache-Control: x"),
        ),
    )
)

CASES = (*RANGES, *LIFETIMES, *FRESHENING, *INVALIDATION, *KEYS, *VERSIONS, *TARGETED)
