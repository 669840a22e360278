"""What may be stored, which fields of it, and what statuses mean (RFC 9111 §3, RFC 9110 §7.6.1, §15)."""

from tests.conformance.case import ask, check, fetched, first, optimal, reply, required, reused

LONG = "Cache-Control: max-age=3600"
W = "RFC 9111 §3"
AUTH = "Authorization: Basic YTpi"
F = "RFC 9111 §3.1"

MAY = (
    reused("get-with-lifetime", "S1 9111-3-1 9111-3-6", W, LONG),
    reused("public-with-lifetime", "S1 9111-3-6", W, "Cache-Control: public, max-age=3600"),
    fetched("nothing-said", "S1 9111-3-6", W, status=201),
    fetched("no-store", "S2 9111-3-4 9111-5.2.2.5-1", "RFC 9111 §5.2.2.5", "Cache-Control: no-store"),
    fetched("no-store-with-expires", "S2", "RFC 9111 §5.2.2.5", "Cache-Control: no-store", "Expires: {now+3600}"),
    fetched("no-store-with-mixed-case", "S2", "RFC 9111 §5.2.2.5", "Cache-Control: No-StOrE, max-age=3600"),
    check(
        "no-store-drops-what-was-stored",
        "S2",
        "RFC 9111 §4.3.3",
        first("Cache-Control: max-age=1, stale-while-revalidate=0", 'ETag: "a"'),
        ask("origin", reply=reply("Cache-Control: no-store"), after=3),
        ask("origin", untold=("If-None-Match",)),
    ),
    fetched("private", "S3 9111-3-5 9111-5.2.2.7-1", "RFC 9111 §5.2.2.7", "Cache-Control: private"),
    fetched("private-with-lifetime", "S3 9111-5.2.2.7-1", "RFC 9111 §5.2.2.7", "Cache-Control: private, max-age=3600"),
    fetched("private-with-expires", "S3", "RFC 9111 §5.2.2.7", "Cache-Control: private", "Expires: {now+3600}"),
    optimal(
        "private-fields-are-left-out",
        "S3 9111-5.2.2.7-2",
        "RFC 9111 §5.2.2.7",
        ask(
            "origin",
            reply=reply('Cache-Control: private="x-own, X-Other", max-age=3600', "X-Own: 1", "X-Other: 2", "X-All: 3"),
            has=("X-Own: 1",),
        ),
        ask("cache", has=("X-All: 3",), lacks=("X-Own", "X-Other")),
    ),
    required(
        "private-fields-are-never-replayed",
        "S3 9111-5.2.2.7-2",
        "RFC 9111 §5.2.2.7",
        first('Cache-Control: private="X-Own", max-age=3600', "X-Own: of one client"),
        ask("any", reply=reply(LONG), lacks=("X-Own",)),
    ),
    fetched("no-cache", "S4 9111-4-6 9111-5.2.2.4-1", "RFC 9111 §5.2.2.4", "Cache-Control: no-cache", 'ETag: "a"'),
    fetched("no-cache-with-lifetime", "S4", "RFC 9111 §5.2.2.4", "Cache-Control: no-cache, max-age=3600", 'ETag: "a"'),
    fetched("no-cache-with-expires", "S4", "RFC 9111 §5.2.2.4", "Cache-Control: no-cache", "Expires: {now+3600}"),
    optimal(
        "no-cache-is-validated",
        "S4",
        "RFC 9111 §5.2.2.4",
        first("Cache-Control: no-cache", 'ETag: "a"'),
        ask("validated"),
    ),
    optimal(
        "no-cache-is-validated-each-time",
        "S4",
        "RFC 9111 §5.2.2.4",
        first("Cache-Control: no-cache, max-age=3600", "Last-Modified: {now-1000}"),
        ask("validated"),
        ask("validated"),
    ),
    optimal(
        "no-cache-fields-are-left-out",
        "S4 9111-5.2.2.4-2",
        "RFC 9111 §5.2.2.4",
        first('Cache-Control: no-cache="X-Own", max-age=3600', "X-Own: 1", "X-All: 2"),
        ask("cache", has=("X-All: 2",), lacks=("X-Own",)),
    ),
    required(
        "no-cache-fields-are-not-replayed",
        "S4 9111-5.2.2.4-2",
        "RFC 9111 §5.2.2.4",
        first('Cache-Control: no-cache="X-Own", max-age=3600', "X-Own: 1"),
        ask("any", reply=reply(LONG), lacks=("X-Own",)),
    ),
    optimal(
        "no-cache-fields-come-back-with-a-validation",
        "S4",
        "RFC 9111 §5.2.2.4",
        first('Cache-Control: no-cache="X-Own", max-age=1', "X-Own: 1", 'ETag: "a"'),
        ask("validated", after=3, has=("X-Own: 1",)),
    ),
    reused(
        "must-revalidate-while-fresh",
        "S5 9111-5.2.2.2-1",
        "RFC 9111 §5.2.2.2",
        "Cache-Control: max-age=3600, must-revalidate",
    ),
    reused("proxy-revalidate-while-fresh", "S5", "RFC 9111 §5.2.2.8", "Cache-Control: max-age=3600, proxy-revalidate"),
    optimal("query", "S6 9111-4.2.2-3", W, ask("origin", at="?a=b", reply=reply(LONG)), ask("cache", at="?a=b")),
    reused("content-disposition", "S6", W, LONG, "Content-Disposition: attachment; filename=a"),
    optimal(
        "cookie-in-the-request", "S6", W, ask("origin", "Cookie: a=b", reply=reply(LONG)), ask("cache", "Cookie: a=c")
    ),
    reused(
        "set-cookie-with-lifetime", "S6 9111-7.3-1", "RFC 9111 §7.3", LONG, "Set-Cookie: a=b", has=("Set-Cookie: a=b",)
    ),
    fetched(
        "set-cookie-without-lifetime",
        "S6",
        "RFC 9111 §7.3",
        "Set-Cookie: a=b",
        "Last-Modified: {now-864000}",
        kind="check",
    ),
    fetched("set-cookie-of-a-session", "S6", "RFC 9111 §7.3", LONG, "Set-Cookie: JSESSIONID=1", kind="check"),
    check(
        "set-cookie-stripped",
        "S6",
        "RFC 9111 §7.3",
        ask("origin", reply=reply(LONG, "Set-Cookie: a=b"), has=("Set-Cookie: a=b",)),
        ask("cache", lacks=("Set-Cookie",)),
        site='set_cookie = "strip"',
    ),
    fetched(
        "set-cookie-skipped", "S6", "RFC 9111 §7.3", LONG, "Set-Cookie: a=b", kind="check", site='set_cookie = "skip"'
    ),
    required(
        "cut-by-length",
        "S7 9111-3.3-1",
        "RFC 9112 §8",
        ask("origin", reply=reply(LONG, cut=True), broken=True),
        ask("origin", reply=reply(LONG)),
    ),
    required(
        "cut-in-chunks",
        "S7 9111-3.3-1",
        "RFC 9112 §8",
        ask("origin", reply=reply(LONG, cut=True, chunked=True), broken=True),
        ask("origin", reply=reply(LONG)),
    ),
    reused("chunked", "S7", "RFC 9112 §7.1", LONG),
    optimal("chunked-body", "S7", "RFC 9112 §7.1", ask("origin", reply=reply(LONG, chunked=True)), ask("cache")),
    required(
        "no-store-in-the-request",
        "S8 9111-3-4 9111-5.2.1.5-1",
        "RFC 9111 §5.2.1.5",
        ask("origin", "Cache-Control: no-store", reply=reply(LONG)),
        ask("origin"),
    ),
    optimal(
        "no-store-in-the-request-may-be-answered",
        "S8",
        "RFC 9111 §5.2.1.5",
        first(LONG),
        ask("cache", "Cache-Control: no-store"),
    ),
    required(
        "unsafe-is-written-through",
        "S9 9111-4-8",
        "RFC 9111 §4",
        ask("origin", method="POST", body=b"a", reply=reply(LONG)),
        ask("origin", method="POST", body=b"a", reply=reply(LONG)),
        ask("origin"),
    ),
    required("unknown-method", "S9", "RFC 9110 §9.1", ask("cache", method="FOOBAR", status=501)),
)

AUTHORIZATION = (
    *(
        required(
            f"authorization-{name}",
            "SA 9111-3-5a 9111-3.5-1",
            "RFC 9111 §3.5",
            ask("origin", AUTH, reply=reply(line)),
            ask("origin"),
        )
        for name, line in (
            ("alone", LONG),
            ("expires", "Expires: {now+3600}"),
            ("private", "Cache-Control: private, max-age=60"),
        )
    ),
    *(
        optimal(
            f"authorization-with-{name}",
            "SA 9111-3.5-1 9111-5.2.2.9-1",
            "RFC 9111 §3.5",
            ask("origin", AUTH, reply=reply(f"Cache-Control: max-age=3600, {directive}")),
            ask("cache"),
        )
        for name, directive in (
            ("public", "public"),
            ("must-revalidate", "must-revalidate"),
            ("s-maxage", "s-maxage=3600"),
        )
    ),
    required(
        "authorization-is-not-lifted-by-proxy-revalidate",
        "SA",
        "RFC 9111 §3.5",
        ask("origin", AUTH, reply=reply("Cache-Control: max-age=3600, proxy-revalidate")),
        ask("origin"),
    ),
    optimal("authorization-of-the-second-request", "SA", "RFC 9111 §3.5", first(LONG), ask("cache", AUTH)),
)

KEPT = tuple(
    f"{name}: {value}"
    for name, value in (
        ("X-Test", "a, b"),
        ("Content-Type", "text/plain;charset=utf-8"),
        ("Content-Language", "de"),
        ("Content-Location", "/elsewhere"),
        ("Content-MD5", "rL0Y20zC+Fzt72VPzMSk2A=="),
        ("Content-Encoding", "x-test"),
        ("Content-Security-Policy", "default-src 'none'"),
        ("Strict-Transport-Security", "max-age=1"),
        ("X-Frame-Options", "DENY"),
        ("X-Content-Foo", "a"),
        ("X-XSS-Protection", "1"),
        ("Server", "test"),
        ("Set-Cookie2", "a=b"),
        ("Access-Control-Allow-Origin", "*"),
        ("P3P", "x"),
        ("Warning", '110 - "x"'),
        ("Allow", "GET"),
        ("Link", "<a>; rel=b"),
        ("Retry-After", "5"),
        ("Clear-Site-Data", '"cache"'),
    )
)
DROPPED = (
    "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive",
    "TE: trailers",
    "Trailer: X-End",
    "Proxy-Authenticate: Basic",
    "Proxy-Authentication-Info: a",
    "Proxy-Authorization: b",
)

FIELDS = (
    *(
        required(
            f"field-{line.partition(':')[0].lower()}", "W1 9111-3.1-1", F, first(LONG, line), ask("any", has=(line,))
        )
        for line in KEPT
    ),
    required(
        "repeated-field", "W1", F, first(LONG, "X-A: 1", "X-B: 2", "X-A: 3"), ask("any", has=("X-A: 1, 3", "X-B: 2"))
    ),
    *(
        required(
            f"no-{line.partition(':')[0].lower()}",
            "W2 9111-3.1-2",
            "RFC 9110 §7.6.1",
            ask("origin", reply=reply(LONG, line), lacks=(line,)),
            ask("any", reply=reply(LONG), lacks=(line,)),
        )
        for line in DROPPED
    ),
    required(
        "no-field-named-by-connection",
        "W2 9111-3.1-2",
        "RFC 9110 §7.6.1",
        ask(
            "origin",
            reply=reply(LONG, "Connection: X-One, x-two", "X-One: 1", "X-TWO: 2", "X-Three: 3"),
            lacks=("X-One", "X-Two"),
            has=("X-Three",),
        ),
        ask("any", reply=reply(LONG, "X-Three: 3"), lacks=("X-One", "X-Two"), has=("X-Three: 3",)),
    ),
    required(
        "no-field-named-by-a-second-connection-line",
        "W2",
        "RFC 9110 §7.6.1",
        first(LONG, "Connection: keep-alive", "Connection: X-One", "X-One: 1"),
        ask("any", reply=reply(LONG), lacks=("X-One",)),
    ),
    check(
        "connection-cannot-name-cache-control-away",
        "W3",
        "RFC 9110 §7.6.1",
        first("Connection: cache-control", "Cache-Control: no-store", "Last-Modified: {now-864000}"),
        ask("origin"),
    ),
    check(
        "connection-cannot-name-etag-away",
        "W3",
        "RFC 9110 §7.6.1",
        first(LONG, "Connection: ETag", 'ETag: "a"'),
        ask("cache", has=('ETag: "a"',)),
    ),
    required(
        "fields-are-not-refreshed",
        "W4",
        F,
        first(LONG, "Date: {start-5}", "Expires: {start+9}", "Last-Modified: {start-99}", 'ETag: W/"x"', "Vary: Foo"),
        ask(
            "any",
            after=2,
            has=("Date: {start-5}", "Expires: {start+9}", "Last-Modified: {start-99}", 'ETag: W/"x"', "Vary: Foo"),
        ),
    ),
    required(
        "etag-spelling-is-kept",
        "W4 9110-8.8.3-1",
        F,
        first(LONG, "ETag: unquoted"),
        ask("any", has=("ETag: unquoted",)),
    ),
    required(
        "length-of-a-hit-is-true",
        "W5",
        "RFC 9110 §8.6",
        ask("origin", reply=reply(LONG, body=b"12345")),
        ask("any", reply=reply(body=b"12345"), has=("Content-Length: 5",)),
    ),
    optimal(
        "length-of-a-hit-that-came-chunked",
        "W5",
        "RFC 9110 §8.6",
        ask("origin", reply=reply(LONG, body=b"12345", chunked=True)),
        ask("cache", has=("Content-Length: 5",)),
    ),
    required(
        "trailers-do-not-join-the-header",
        "W6 9111-3.1-3",
        "RFC 9110 §6.5.1",
        ask(
            "origin",
            reply=reply(LONG, "Trailer: X-End", trailers=("X-End: 1", "Cache-Control: no-store")),
            lacks=("X-End",),
        ),
        ask("any", reply=reply(LONG), lacks=("X-End",)),
    ),
    optimal(
        "trailers-do-not-hinder",
        "W6",
        "RFC 9110 §6.5.1",
        ask("origin", reply=reply(LONG, trailers=("Cache-Control: no-store",))),
        ask("cache"),
    ),
    required(
        "via-is-appended",
        "W7",
        "RFC 9110 §7.6.3",
        ask(
            "origin",
            "Via: 1.0 a",
            reply=reply(LONG, "Via: 1.0 b"),
            told=("Via",),
            untold=("Via: 1.0 a",),
            has=("Via",),
            lacks=("Via: 1.0 b",),
        ),
    ),
    required("via-on-a-hit", "W7", "RFC 9110 §7.6.3", first(LONG), ask("any", has=("Via",))),
)

STATUSES = (
    *(
        reused(f"status-{status}", "C1 9111-3-2", "RFC 9111 §3", LONG, status=status)
        for status in (
            200,
            201,
            202,
            203,
            204,
            299,
            300,
            301,
            302,
            303,
            307,
            308,
            400,
            404,
            405,
            410,
            414,
            499,
            500,
            501,
            502,
            503,
            504,
            599,
        )
    ),
    *(
        fetched(f"stale-status-{status}", "C1", "RFC 9111 §4.2.4", "Cache-Control: max-age=1", status=status, after=3)
        for status in (203, 204, 299, 301, 302, 404, 410, 500, 503, 599)
    ),
    required(
        "304-is-not-stored",
        "C2 9111-3-2",
        "RFC 9111 §3",
        ask("origin", 'If-None-Match: "x"', reply=reply(LONG, 'ETag: "x"', status=304), status=304),
        ask("origin"),
    ),
    required(
        "206-without-range-is-not-stored",
        "C2 R6 9111-3-3",
        "RFC 9111 §3.3",
        ask("origin", reply=reply(LONG, "Content-Range: bytes 0-4/10", body=b"01234", status=206)),
        ask("origin"),
    ),
    required(
        "must-understand-an-unknown-status",
        "C3 9111-3-3 9111-5.2.2.3-1",
        "RFC 9111 §5.2.2.3",
        first("Cache-Control: must-understand, max-age=3600", status=599),
        ask("origin"),
    ),
    required(
        "must-understand-with-no-store-and-an-unknown-status",
        "C3 9111-5.2.2.3-1",
        "RFC 9111 §5.2.2.3",
        first("Cache-Control: must-understand, no-store, max-age=3600", status=599),
        ask("origin"),
    ),
    reused(
        "must-understand-voids-no-store",
        "C3 9111-5.2.2.3-2",
        "RFC 9111 §5.2.2.3",
        "Cache-Control: must-understand, no-store, max-age=3600",
    ),
    reused(
        "must-understand-a-known-status",
        "C3",
        "RFC 9111 §5.2.2.3",
        "Cache-Control: must-understand, max-age=3600",
        status=404,
    ),
    check("no-negative-caching-by-default", "C4", "RFC 9111 §4.2.2", first(status=404), ask("origin")),
)
CASES = MAY + AUTHORIZATION + FIELDS + STATUSES
