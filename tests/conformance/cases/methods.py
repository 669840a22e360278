"""HEAD, POST, invalidation, interim responses, targeted fields, Cache-Status (RFC 9110 §9, §15.2; RFC 9111 §4.3.5,
§4.4; RFC 9211; RFC 9213; RFC 9875).
"""

from tests.conformance.case import ask, check, fetched, first, optimal, reply, required, reused

LONG = "Cache-Control: max-age=3600"
SHORT = "Cache-Control: max-age=1"
TAG = 'ETag: "a"'
TEN = b"0123456789"
I = "RFC 9111 §4.4"  # noqa: E741 - of invalidation
H = "RFC 9111 §4.3.5"
T = "RFC 9213 §2.2"

HEADS = (
    optimal(
        "head-from-a-get",
        "M1 K1 9111-4-7 9110-9.3.2-1",
        "RFC 9110 §9.3.2",
        first(LONG, "X-A: 1", body=TEN),
        ask("cache", method="HEAD", status=200, has=("Content-Length: 10", "X-A: 1"), age=(0, 0)),
    ),
    optimal(
        "head-from-a-chunked-get",
        "M1",
        "RFC 9110 §9.3.2",
        ask("origin", reply=reply(LONG, body=TEN, chunked=True)),
        ask("cache", method="HEAD", status=200),
    ),
    optimal(
        "head-is-forwarded-as-head",
        "M2",
        H,
        first(SHORT, TAG),
        ask("origin", method="HEAD", after=3, method_told="HEAD", status=200),
    ),
    optimal(
        "head-updates-the-lifetime",
        "M2 9111-4.3.5-1",
        H,
        first(SHORT, TAG, body=TEN),
        ask("origin", method="HEAD", after=3, reply=reply(LONG, TAG, body=TEN), status=200),
        ask("cache"),
    ),
    optimal(
        "head-updates-fields",
        "M2 9111-4.3.5-1",
        H,
        first(SHORT, TAG, "X-A: old", "X-B: old", body=TEN),
        ask("origin", method="HEAD", after=3, reply=reply(LONG, TAG, "X-A: new", body=TEN), status=200),
        ask("cache", has=("X-A: new", "X-B: old")),
    ),
    optimal(
        "head-answer-has-the-stored-fields",
        "M2",
        H,
        first(SHORT, TAG, "X-B: old", body=TEN),
        ask(
            "origin",
            method="HEAD",
            after=3,
            reply=reply(LONG, TAG, "X-A: new", body=TEN),
            status=200,
            has=("X-A: new", "X-B: old"),
        ),
    ),
    *(
        required(
            f"head-with-another-{name}-outdates",
            "M2 9111-4.3.5-2",
            H,
            first("Cache-Control: max-age=3", TAG, "Last-Modified: {start-999}", body=TEN),
            ask(
                "origin",
                "Cache-Control: no-cache",
                method="HEAD",
                reply=reply("Cache-Control: max-age=3600", *lines, body=body),
                status=200,
            ),
            ask("origin"),
        )
        for name, lines, body in (
            ("tag", ('ETag: "b"',), TEN),
            ("date", (TAG, "Last-Modified: {start-99}"), TEN),
            ("length", (TAG,), b"01"),
        )
    ),
    check(
        "head-404-outdates",
        "M2",
        H,
        first("Cache-Control: max-age=3600", TAG),
        ask("origin", "Cache-Control: no-cache", method="HEAD", reply=reply(status=404), status=404),
        ask("origin"),
    ),
    optimal(
        "head-403-updates-nothing",
        "M2",
        H,
        first("Cache-Control: max-age=3600, must-revalidate", TAG),
        ask("origin", "Cache-Control: no-cache", method="HEAD", reply=reply(LONG, status=403), status=403),
        ask("cache"),
    ),
    required(
        "head-is-not-stored-as-get",
        "M3",
        "RFC 9110 §9.3.2",
        ask("origin", method="HEAD", reply=reply(LONG), status=200),
        ask("origin"),
    ),
    required(
        "options-is-not-stored",
        "M3 9111-3-1",
        "RFC 9110 §9.3.7",
        ask("origin", method="OPTIONS", reply=reply(LONG)),
        ask("origin", method="OPTIONS", reply=reply(LONG)),
        ask("origin"),
    ),
)


def post(*lines, **more):
    return ask("origin", "Content-Type: text/plain", method="POST", body=b"x", reply=reply(*lines, **more))


POSTS = (
    required("post-is-not-stored", "MPOST", "RFC 9110 §9.3.3", post(LONG), ask("origin")),
    optimal(
        "post-with-content-location",
        "MPOST 9110-9.3.3",
        "RFC 9110 §9.3.3",
        post(LONG, "Content-Location: {path}"),
        ask("cache", of=1, has=("Content-Location: {path}",)),
    ),
    optimal(
        "post-with-absolute-content-location",
        "MPOST",
        "RFC 9110 §9.3.3",
        post(LONG, "Content-Location: http://test.example{path}"),
        ask("cache", of=1),
    ),
    required(
        "post-with-another-content-location",
        "MPOST",
        "RFC 9110 §9.3.3",
        post(LONG, "Content-Location: {path}/b"),
        ask("origin"),
        ask("origin", at="/b"),
    ),
    required(
        "post-without-lifetime",
        "MPOST",
        "RFC 9110 §9.3.3",
        post("Content-Location: {path}", "Last-Modified: {now-864000}"),
        ask("origin"),
    ),
    required(
        "post-that-says-no-store",
        "MPOST",
        "RFC 9110 §9.3.3",
        post("Cache-Control: no-store, max-age=60", "Content-Location: {path}"),
        ask("origin"),
    ),
    required(
        "post-is-not-answered-from-a-post",
        "MPOST",
        "RFC 9110 §9.3.3",
        post(LONG, "Content-Location: {path}"),
        post(LONG, "Content-Location: {path}"),
    ),
)


def unsafe(method, *lines, **more):
    body = None if method == "DELETE" else b"x"
    return ask("origin", method=method, body=body, reply=reply(*lines, **more))


def invalidating(name, rules, *steps, kind=required, **more):
    return kind(name, rules, I, first(LONG), *steps, ask("origin"), **more)


INVALIDATION = (
    *(
        invalidating(f"{method.lower()}-invalidates", "MINV 9111-4.4-1", unsafe(method, status=status))
        for method, status in (("POST", 200), ("PUT", 201), ("DELETE", 200), ("PATCH", 204), ("POST", 303))
        if (method, status) != ("POST", 303)
    ),
    invalidating("a-redirect-invalidates", "MINV 9111-4.4-1", unsafe("POST", "Location: /", status=303)),
    invalidating("an-unsafe-extension-method-invalidates", "MINV 9111-4.4-1", unsafe("M-SEARCH")),
    optimal("head-is-invalidated", "MINV M1", I, first(LONG), unsafe("PUT"), ask("origin", method="HEAD", status=200)),
    optimal(
        "a-query-is-another-target",
        "MINV",
        I,
        first(LONG),
        ask("origin", method="POST", body=b"x", at="?a"),
        ask("cache", of=1),
    ),
    optimal(
        "an-error-does-not-invalidate",
        "MINV 9111-4.4-1",
        I,
        first(LONG),
        unsafe("POST", status=500),
        ask("cache", of=1),
    ),
    optimal(
        "a-client-error-does-not-invalidate", "MINV", I, first(LONG), unsafe("PUT", status=403), ask("cache", of=1)
    ),
    optimal(
        "a-safe-method-does-not-invalidate", "MINV", I, first(LONG), ask("origin", method="OPTIONS"), ask("cache", of=1)
    ),
    *(
        optimal(
            f"{name.lower()}-is-invalidated",
            "MINV 9111-4.4-2",
            I,
            ask("origin", at="/b", reply=reply(LONG)),
            unsafe("POST", f"{name}: {where}"),
            ask("origin", at="/b"),
        )
        for name, where in (("Location", "{path}/b"), ("Content-Location", "{path}/b"))
    ),
    *(
        optimal(
            f"{name.lower()}-is-invalidated-{form}",
            "MINV 9111-4.4-2",
            I,
            ask("origin", at="/b", reply=reply(LONG)),
            unsafe("POST", f"{name}: {where}"),
            ask("origin", at="/b"),
        )
        for name, form, where in (
            ("Location", "absolute", "http://test.example{path}/b"),
            ("Content-Location", "absolute", "http://TEST.example:80{path}/b"),
            ("Location", "by-dots", "{path}/c/../b"),
        )
    ),
    *(
        required(
            f"{name.lower()}-of-another-origin-stays",
            "MINV 9111-4.4-3",
            I,
            ask("origin", at="/b", host="other.example", reply=reply(LONG)),
            unsafe("POST", f"{name}: http://other.example{{path}}/b"),
            ask("cache", at="/b", host="other.example", of=1),
        )
        for name in ("Location", "Content-Location")
    ),
    optimal(
        "all-variants-are-invalidated",
        "MINV 9111-4.4-4",
        I,
        ask("origin", "Foo: 1", reply=reply(LONG, "Vary: Foo")),
        ask("origin", "Foo: 2", reply=reply(LONG, "Vary: Foo")),
        unsafe("POST"),
        ask("origin", "Foo: 1"),
        ask("origin", "Foo: 2"),
    ),
    optimal(
        "another-uri-is-not-invalidated",
        "MINV",
        I,
        ask("origin", at="/b", reply=reply(LONG)),
        unsafe("POST"),
        ask("cache", at="/b", of=1),
    ),
    check(
        "a-group-is-invalidated",
        "T7",
        "RFC 9875 §3",
        ask("origin", at="/b", reply=reply(LONG, 'Cache-Groups: "one{path}", "two{path}"')),
        unsafe("POST", 'Cache-Group-Invalidation: "two{path}"'),
        ask("origin", at="/b"),
    ),
    check(
        "another-group-stays",
        "T7",
        "RFC 9875 §3",
        ask("origin", at="/b", reply=reply(LONG, 'Cache-Groups: "one{path}"')),
        unsafe("POST", 'Cache-Group-Invalidation: "ONE{path}", "two{path}"'),
        ask("cache", at="/b", of=1),
    ),
    check(
        "a-group-of-another-origin-stays",
        "T7",
        "RFC 9875 §3",
        ask("origin", at="/b", host="other.example", reply=reply(LONG, 'Cache-Groups: "one{path}"')),
        unsafe("POST", 'Cache-Group-Invalidation: "one{path}"'),
        ask("cache", at="/b", host="other.example", of=1),
    ),
    check(
        "a-safe-method-invalidates-no-group",
        "T7",
        "RFC 9875 §3",
        ask("origin", at="/b", reply=reply(LONG, 'Cache-Groups: "one{path}"')),
        ask("origin", reply=reply('Cache-Group-Invalidation: "one{path}"')),
        ask("cache", at="/b", of=1),
    ),
)

INTERIM = (
    *(
        required(
            f"interim-{status}-passes",
            "N1",
            "RFC 9110 §15.2",
            ask("origin", reply=reply(LONG, interim=(f"{status}|Link: <a>",)), interim=(status,)),
        )
        for status in (102, 103, 199)
    ),
    required(
        "interim-answers-in-order",
        "N1 9110-15.2-1",
        "RFC 9110 §15.2",
        ask("origin", reply=reply(LONG, interim=("103|Link: <a>", "102", "103|Link: <b>")), interim=(103, 102, 103)),
    ),
    required(
        "interim-not-for-http-1.0",
        "N1 9110-15.2-1",
        "RFC 9110 §15.2",
        ask("origin", version="1.0", reply=reply(LONG, interim=("103|Link: <a>",)), interim=()),
    ),
    required(
        "a-100-nobody-asked-for",
        "N1",
        "RFC 9110 §10.1.1",
        ask("origin", reply=reply(LONG, interim=("100",)), interim=()),
    ),
    optimal(
        "interim-does-not-hinder",
        "N2 9111-3-2a",
        "RFC 9111 §3",
        ask("origin", reply=reply(LONG, interim=("103|Link: <a>",))),
        ask("cache", interim=(), lacks=("Link",)),
    ),
    required(
        "interim-fields-do-not-join",
        "N2",
        "RFC 9110 §15.2",
        ask("origin", reply=reply(LONG, interim=("103|Link: <a>|Cache-Control: no-store",)), lacks=("Link",)),
        ask("any", lacks=("Link",)),
    ),
    optimal(
        "interim-no-store-does-not-hinder",
        "N2",
        "RFC 9111 §3",
        ask("origin", reply=reply(LONG, interim=("103|Cache-Control: no-store",))),
        ask("cache"),
    ),
)

CDN = "CDN-Cache-Control: "
TARGETED = (
    reused("cdn-longer", "T1", T, CDN + "max-age=3600", SHORT, after=3),
    fetched("cdn-shorter", "T1", T, CDN + "max-age=1", LONG, after=3),
    reused("cdn-over-no-store", "T1", T, CDN + "max-age=3600", "Cache-Control: no-store"),
    reused("cdn-over-no-cache", "T1", T, CDN + "max-age=3600", "Cache-Control: no-cache"),
    reused("cdn-over-private", "T1", T, CDN + "max-age=3600", "Cache-Control: private"),
    fetched("cdn-no-store", "T1", T, CDN + "no-store", LONG),
    fetched("cdn-no-cache", "T1", T, CDN + "no-cache", LONG, 'ETag: "a"'),
    fetched("cdn-private", "T1", T, CDN + "private, max-age=60", LONG),
    fetched("cdn-max-age-0", "T1", T, CDN + "max-age=0", LONG),
    reused("cdn-over-past-expires", "T1", T, CDN + "max-age=3600", "Expires: {now-3600}"),
    reused("cdn-over-broken-expires", "T1", T, CDN + "max-age=3600", "Expires: 0"),
    fetched("cdn-short-over-expires", "T1", T, CDN + "max-age=1", "Expires: {now+3600}", after=3),
    fetched(
        "cdn-without-lifetime-silences-expires", "T1", T, CDN + "must-revalidate", "Expires: {now+3600}", 'ETag: "a"'
    ),
    fetched("cdn-counts-age", "T1", T, CDN + "max-age=3600", "Age: 7200"),
    reused("cdn-s-maxage", "T1 T3", T, CDN + "max-age=1, s-maxage=3600", after=3),
    reused("own-field-first", "T1", T, "Tandem-Cache-Control: max-age=3600", CDN + "no-store", kind="check"),
    fetched("own-field-first-no-store", "T1", T, "Tandem-Cache-Control: no-store", CDN + "max-age=3600", kind="check"),
    reused("cdn-last-of-equal-keys", "T2", T, CDN + "max-age=1, max-age=3600", after=3),
    reused("cdn-parameters", "T2", T, CDN + "max-age=3600;a=b;c", "Cache-Control: no-store"),
    fetched("cdn-capitals-are-no-dictionary", "T2", T, CDN + "MAX-AGE=3600", "Cache-Control: no-store"),
    fetched("cdn-blank-at-equals", "T2", T, CDN + "max-age =3600", "Cache-Control: no-store"),
    fetched("cdn-one-error-anywhere", "T2", T, CDN + "max-age=3600, &", "Cache-Control: no-store"),
    fetched("cdn-comma-at-the-end", "T2", T, CDN + "max-age=3600,", "Cache-Control: no-store"),
    reused("cdn-broken-gives-way", "T2", T, CDN + "max-age=0, &", LONG),
    reused("cdn-empty-gives-way", "T2", T, CDN.strip(), LONG),
    fetched("cdn-string-lifetime", "T2", T, CDN + 'max-age="3600"', "Cache-Control: no-store", kind="check"),
    fetched("cdn-fraction", "T2", T, CDN + "max-age=3600.5", "Cache-Control: no-store", kind="check"),
    reused("cdn-unknown-members", "T3", T, CDN + 'foo, max-age=3600, bar="x"'),
    reused("cdn-on-two-lines", "T2", T, CDN + "foo", CDN + "max-age=3600"),
    required(
        "cdn-must-revalidate",
        "T3",
        T,
        first(CDN + "max-age=1, must-revalidate", TAG),
        ask("origin", reply=reply(fails=True), after=3, status=504),
    ),
    required(
        "cdn-is-passed-on",
        "T4",
        T,
        ask("origin", reply=reply(CDN + "max-age=3600", SHORT), has=(CDN + "max-age=3600",)),
        ask("any", reply=reply(CDN + "max-age=3600"), has=(CDN + "max-age=3600",)),
    ),
    optimal(
        "cdn-age-is-true",
        "T4",
        T,
        first(CDN + "max-age=3600", SHORT, "Date: {start-9}"),
        ask("cache", after=3, age=(12, 12), has=("Date: {start-9}", SHORT)),
    ),
    reused("surrogate-control-is-not-heard", "T5", T, "Surrogate-Control: no-store", LONG, kind="check"),
    fetched("immutable-once-stale", "T6", "RFC 8246 §2", "Cache-Control: max-age=1, immutable", after=3),
    required(
        "immutable-is-passed-on",
        "T6",
        "RFC 8246 §2",
        first("Cache-Control: max-age=60, immutable"),
        ask("any", has=("Cache-Control: max-age=60, immutable",)),
    ),
    check(
        "immutable-and-a-reload",
        "T6",
        "RFC 8246 §2",
        first("Cache-Control: max-age=60, immutable", TAG),
        ask("validated", "Cache-Control: no-cache"),
    ),
)

STATUS = (
    required(
        "cache-status-of-a-miss",
        "X1 X2",
        "RFC 9211 §2.2",
        ask("origin", reply=reply(LONG), member=("tandem", "fwd=uri-miss", "stored", "detail=uri-miss")),
    ),
    required(
        "cache-status-of-a-hit",
        "X1 X2",
        "RFC 9211 §2.1",
        first(LONG),
        ask("cache", member=("tandem", "hit", "ttl=3599", "detail=fresh"), after=0.5),
    ),
    required(
        "cache-status-is-appended",
        "X1",
        "RFC 9211 §2",
        ask(
            "origin",
            reply=reply(LONG, "Cache-Status: origin; hit"),
            member=("fwd=uri-miss",),
            has=("Cache-Status",),
            lacks=("Cache-Status: origin; hit",),
        ),
    ),
    check(
        "cache-status-of-another-variant",
        "X2",
        "RFC 9211 §2.2",
        ask("origin", "Foo: 1", reply=reply(LONG, "Vary: Foo")),
        ask("origin", "Foo: 2", member=("fwd=vary-miss",)),
    ),
    check(
        "cache-status-of-a-reload",
        "X2",
        "RFC 9211 §2.2",
        first(LONG),
        ask("origin", "Cache-Control: no-cache", member=("fwd=request",)),
    ),
    check(
        "cache-status-of-a-validation",
        "X2",
        "RFC 9211 §2.3",
        first(SHORT, TAG),
        ask("validated", after=3, member=("fwd=stale", "fwd-status=304")),
    ),
    check(
        "cache-status-of-a-method",
        "X2",
        "RFC 9211 §2.2",
        ask("origin", method="POST", body=b"x", member=("fwd=method",)),
    ),
    check(
        "cache-status-of-a-part",
        "X2",
        "RFC 9211 §2.2",
        ask(
            "origin", "Range: bytes=0-1", reply=reply(LONG, TAG, "Content-Range: bytes 0-1/10", body=b"01", status=206)
        ),
        ask("origin", reply=reply(body=TEN), member=("fwd=partial",)),
    ),
    check(
        "cache-status-of-a-stale-answer",
        "X2",
        "RFC 9211 §2.5",
        first("Cache-Control: max-age=1"),
        ask("cache", "Cache-Control: max-stale", after=3, member=("hit", "ttl=-3")),
    ),
    check(
        "cache-status-of-a-304",
        "X2",
        "RFC 9211 §2.1",
        first(LONG, TAG),
        ask("cache", 'If-None-Match: "a"', status=304, text=b"", member=("hit",)),
    ),
    check(
        "cache-status-of-an-error",
        "X3",
        "RFC 9211 §2.8",
        ask("cache", "Cache-Control: only-if-cached", status=504, has=("Proxy-Status",), member=("tandem",)),
    ),
    check(
        "cache-status-without-key",
        "X3",
        "RFC 9211 §2.7",
        ask("origin", "Tandem-Explain: key", reply=reply(LONG), unmember="key"),
    ),
)
OPTIONS = (
    check(
        "a-hidden-field",
        "T4",
        T,
        ask(
            "origin",
            reply=reply("Tandem-Cache-Control: max-age=3600", "Cache-Control: no-store"),
            lacks=("Tandem-Cache-Control",),
        ),
        ask("cache", lacks=("Tandem-Cache-Control",), has=("Cache-Control: no-store",)),
        site='hide_fields = ["Tandem-Cache-Control"]',
    ),
    check(
        "a-hidden-field-of-the-uncacheable",
        "T4",
        T,
        ask("origin", reply=reply("Tandem-Cache-Control: no-store"), lacks=("Tandem-Cache-Control",)),
        ask(
            "origin",
            method="POST",
            body=b"x",
            reply=reply("Tandem-Cache-Control: no-store"),
            lacks=("Tandem-Cache-Control",),
        ),
        site='hide_fields = ["Tandem-Cache-Control"]',
    ),
    check(
        "surrogate-control-is-heard",
        "T5",
        T,
        ask(
            "origin",
            reply=reply("Surrogate-Control: max-age=3600", "Cache-Control: no-store"),
            lacks=("Surrogate-Control",),
        ),
        ask("cache", lacks=("Surrogate-Control",)),
        site="surrogate = true",
    ),
    check(
        "surrogate-control-no-store",
        "T5",
        T,
        first("Surrogate-Control: no-store", LONG),
        ask("origin"),
        site="surrogate = true",
    ),
    check(
        "surrogate-control-with-a-stale-allowance",
        "T5",
        T,
        first("Surrogate-Control: max-age=1+60"),
        ask("refresh", reply=reply(LONG), after=3),
        site="surrogate = true",
    ),
    check(
        "surrogate-control-ranks-behind-targeted-fields",
        "T5",
        T,
        first("Surrogate-Control: no-store", CDN + "max-age=3600"),
        ask("cache"),
        site="surrogate = true",
    ),
    check(
        "cache-status-with-key",
        "X3",
        "RFC 9211 §2.7",
        ask("origin", "Tandem-Explain: key", at="?a", reply=reply(LONG), member=('key="http://test.example{path}?a"',)),
        ask("cache", "Tandem-Explain: key", at="?a", member=('key="http://test.example{path}?a"',)),
        ask("origin", "Tandem-Explain: key", method="POST", body=b"x", member=('key="http://test.example{path}"',)),
        site='explain_from = ["127.0.0.0/8"]',
    ),
    check(
        "cache-status-with-key-from-elsewhere",
        "X3",
        "RFC 9211 §2.7",
        ask("origin", "Tandem-Explain: key", reply=reply(LONG), unmember="key"),
        site='explain_from = ["192.0.2.0/24"]',
    ),
)
CASES = HEADS + POSTS + INVALIDATION + INTERIM + TARGETED + STATUS + OPTIONS
