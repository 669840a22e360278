"""Corners: what is rare on the wire, and easily got wrong (RFC 9110 §5.6, §13, §14; RFC 9111 §3 to §5; RFC 9651)."""

from tests.conformance.case import ask, check, fetched, first, optimal, reply, required, reused

LONG = "Cache-Control: max-age=3600"
SHORT = "Cache-Control: max-age=1"
TAG = 'ETag: "abc"'
CDN = "CDN-Cache-Control: "
TEN = b"0123456789"
DOWN = reply(fails=True)
L = "RFC 9111 §4.2.1"
D = "RFC 9111 §5.2"
E = "RFC 9111 §5.3"
R = "RFC 9110 §14.2"
I = "RFC 9111 §4.4"  # noqa: E741 - of invalidation
N = "RFC 9111 §4.3.4"
T = "RFC 9213 §2.1"

DIRECTIVES = (
    fetched("a-quoted-directive-is-none", "P4", D, 'Cache-Control: "max-age=3600"'),
    reused("a-quoted-directive-beside-a-real-one", "P4", D, 'Cache-Control: "no-store", max-age=3600'),
    fetched("semicolons-do-not-separate", "P7", D, "Cache-Control: max-age=3600; public", kind="check"),
    fetched("words-behind-the-seconds", "P7", D, "Cache-Control: max-age=3600 public", kind="check"),
    fetched("two-equals-signs", "P7", D, "Cache-Control: max-age==3600", kind="check"),
    fetched("quoted-seconds-with-a-blank", "P7", D, 'Cache-Control: max-age=" 3600"', kind="check"),
    fetched("quoted-seconds-with-more-behind", "P7", D, 'Cache-Control: max-age="3600"0', kind="check"),
    fetched("s-maxage-without-argument", "P7 F2", L, "Cache-Control: s-maxage, max-age=3600", "Expires: {now+3600}"),
    fetched("s-maxage-beyond-its-quote", "P11", D, 'Cache-Control: s-maxage="3600', kind="check"),
    reused("negative-lifetime-of-an-extension", "P5", D, "Cache-Control: x-age=-1, max-age=3600"),
    fetched("no-cache-with-empty-names", "S4", "RFC 9111 §5.2.2.4", 'Cache-Control: no-cache="", max-age=60', TAG),
    fetched("no-cache-with-an-equals-sign", "S4", "RFC 9111 §5.2.2.4", "Cache-Control: no-cache=, max-age=60", TAG),
    fetched("private-with-empty-names", "S3", "RFC 9111 §5.2.2.7", 'Cache-Control: private="", max-age=60'),
    fetched(
        "private-with-no-names", "S3", "RFC 9111 §5.2.2.7", 'Cache-Control: private=" , ", max-age=60', kind="check"
    ),
    fetched(
        "no-cache-with-names-and-without",
        "S4 P10",
        "RFC 9111 §5.2.2.4",
        'Cache-Control: no-cache="X-A", no-cache, max-age=60',
        TAG,
    ),
    fetched(
        "private-with-names-and-without",
        "S3 P10",
        "RFC 9111 §5.2.2.7",
        'Cache-Control: private, private="X-A", max-age=60',
    ),
    optimal(
        "no-cache-with-a-name-as-token",
        "S4 9111-5.2.2.4-2",
        "RFC 9111 §5.2.2.4",
        first("Cache-Control: no-cache=Set-Cookie, max-age=60", "Set-Cookie: a=b", "X-B: 1"),
        ask("cache", lacks=("Set-Cookie",), has=("X-B: 1",)),
    ),
    optimal(
        "no-cache-with-names-twice",
        "S4",
        "RFC 9111 §5.2.2.4",
        first('Cache-Control: no-cache="X-A", no-cache="x-b", max-age=60', "X-A: 1", "X-B: 2", "X-C: 3"),
        ask("cache", lacks=("X-A", "X-B"), has=("X-C: 3",)),
    ),
    optimal(
        "no-cache-with-names-on-two-lines",
        "S4 P1",
        "RFC 9110 §5.3",
        first('Cache-Control: no-cache="X-A"', 'Cache-Control: max-age=60, no-cache="X-B"', "X-A: 1", "X-B: 2"),
        ask("cache", lacks=("X-A", "X-B")),
    ),
    optimal(
        "private-with-a-name-as-token",
        "S3 9111-5.2.2.7-2",
        "RFC 9111 §5.2.2.7",
        first("Cache-Control: private=Set-Cookie, max-age=60", "Set-Cookie: a=b", "X-B: 1"),
        ask("cache", lacks=("Set-Cookie",), has=("X-B: 1",)),
    ),
    required(
        "private-fields-of-a-304",
        "S3 V304",
        "RFC 9111 §5.2.2.7",
        first(SHORT, TAG, "X-Own: old"),
        ask("validated", reply=reply('Cache-Control: max-age=60, private="X-Own"', TAG, "X-Own: new"), after=3),
        ask("any", reply=reply(LONG), lacks=("X-Own",)),
    ),
    fetched("immutable-alone-is-no-lifetime", "T6 F8", "RFC 8246 §2", "Cache-Control: immutable", kind="check"),
    reused("public-and-a-lifetime-in-expires", "S1", "RFC 9111 §3", "Cache-Control: public", "Expires: {now+60}"),
    fetched("must-revalidate-alone-is-no-lifetime", "S5 F8", D, "Cache-Control: must-revalidate", TAG, kind="required"),
    fetched(
        "a-broken-window-is-none",
        "St5 P7",
        "RFC 5861 §3",
        "Cache-Control: max-age=1, stale-while-revalidate=6o",
        after=3,
    ),
    fetched(
        "a-window-of-none", "St5", "RFC 5861 §3", "Cache-Control: max-age=1, stale-while-revalidate=0", TAG, after=3
    ),
    fetched(
        "a-window-beside-no-cache",
        "St1 St5",
        "RFC 9111 §5.2.2.4",
        "Cache-Control: no-cache, stale-while-revalidate=60",
        TAG,
    ),
    fetched(
        "a-window-beside-proxy-revalidate",
        "St1 St5",
        "RFC 9111 §5.2.2.8",
        "Cache-Control: max-age=1, proxy-revalidate, stale-while-revalidate=60",
        TAG,
        after=3,
    ),
    optimal(
        "a-quoted-window",
        "St5 P3",
        "RFC 5861 §3",
        first('Cache-Control: max-age=1, stale-while-revalidate="60"'),
        ask("refresh", reply=reply(LONG), after=3),
    ),
)

DATES = (
    *(
        fetched(f"expires-{name}", "F6 9111-5.3-2", E, f"Expires: {text}", "Last-Modified: {now-8640000}")
        for name, text in (
            ("in-utc", "Thu, 18 Aug 2050 02:01:18 UTC"),
            ("in-z", "Thu, 18 Aug 2050 02:01:18 Z"),
            ("at-24-00", "Thu, 18 Aug 2050 24:00:00 GMT"),
            ("minute-60", "Thu, 18 Aug 2050 02:60:18 GMT"),
            ("second-61", "Thu, 18 Aug 2050 02:01:61 GMT"),
            ("day-0", "Thu, 00 Aug 2050 02:01:18 GMT"),
            ("month-13", "Thu, 18 Foo 2050 02:01:18 GMT"),
            ("year-0", "Thu, 18 Aug 0000 02:01:18 GMT"),
            ("five-digit-year", "Thu, 18 Aug 12050 02:01:18 GMT"),
            ("one-digit-minute", "Thu, 18 Aug 2050 02:1:18 GMT"),
            ("without-seconds", "Thu, 18 Aug 2050 02:01 GMT"),
            ("with-words-behind", "Thu, 18 Aug 2050 02:01:18 GMT or so"),
            ("quoted", '"Thu, 18 Aug 2050 02:01:18 GMT"'),
            ("with-foreign-digits", "Thu, 18 Aug 205\xb2 02:01:18 GMT"),
            ("without-day-name-rfc850", "18-Aug-50 02:01:18 GMT"),
            ("rfc850-with-four-digits", "Thursday, 18-Aug-2050 02:01:18 GMT"),
            ("rfc850-short-day", "Thu, 18-Aug-50 02:01:18 GMT"),
            ("asctime-with-zone", "Thu Aug 18 02:01:18 2050 GMT"),
            ("two-lines-worth", "Thu, 18 Aug 2050 02:01:18 GMT,"),
        )
    ),
    reused("expires-leap-second", "F6 9110-5.6.7", E, "Expires: Thu, 30 Jun 2050 23:59:60 GMT", kind="check"),
    reused("expires-in-capitals", "F6 9111-4.2-1", E, "Expires: THU, 18 AUG 2050 02:01:18 GMT"),
    reused("expires-in-the-last-year", "F6", E, "Expires: Fri, 31 Dec 9999 23:59:59 GMT"),
    fetched("expires-in-1970", "F6", E, "Expires: Thu, 01 Jan 1970 00:00:00 GMT", TAG),
    fetched("expires-before-1970", "F6", E, "Expires: Tue, 01 Jan 1901 00:00:00 GMT", TAG),
    fetched("expires-on-two-lines", "F6 9111-4.2.1-2", L, "Expires: {now+60}", "Expires: {now-60}", kind="check"),
    reused("date-in-rfc850", "F6", E, "Date: {now|850}", "Expires: {now+60}"),
    reused("date-in-asctime", "F6", E, "Date: {now|asctime}", "Expires: {now+60|asctime}"),
    required(
        "an-old-date-in-asctime-is-an-age",
        "A2",
        "RFC 9111 §4.2.3",
        first(LONG, "Date: {now-600|asctime}"),
        ask("any", age=(600, 601)),
    ),
    required(
        "a-broken-date-is-no-age",
        "A2 F6",
        "RFC 9111 §4.2.3",
        first(LONG, "Date: soon"),
        ask("any", age=(0, 0), after=0),
    ),
    reused("last-modified-before-1970", "FH", "RFC 9111 §4.2.2", "Last-Modified: Tue, 01 Jan 1901 00:00:00 GMT"),
    fetched("broken-last-modified", "FH", "RFC 9111 §4.2.2", "Last-Modified: 0", kind="check"),
    fetched("guess-beside-a-broken-max-age", "P7 FH", L, "Cache-Control: max-age=-1", "Last-Modified: {now-864000}"),
)

AGES = (
    required(
        "age-of-a-304-counts",
        "A2 V304",
        N,
        first(SHORT, TAG),
        ask("validated", reply=reply(LONG, TAG, "Age: 600"), after=3),
        ask("any", age=(600, 601)),
    ),
    required(
        "a-304-that-is-old-already",
        "A2 V304 F7",
        N,
        first(SHORT, TAG),
        ask("validated", reply=reply(LONG, TAG, "Age: 7200"), after=3),
        ask("validated", reply=reply(LONG, TAG)),
    ),
    required(
        "an-old-age-does-not-outlive-a-304",
        "A1 V304",
        N,
        first(LONG, TAG, "Age: 7200"),
        ask("validated", reply=reply(LONG, TAG)),
        ask("any", age=(0, 0)),
    ),
    required(
        "an-old-date-does-not-outlive-a-304",
        "A1 V304",
        N,
        first(LONG, TAG, "Date: {now-7200}"),
        ask("validated", reply=reply(LONG, TAG, dated=False)),
        ask("any", age=(0, 0)),
    ),
    optimal(
        "age-on-a-206",
        "A3",
        "RFC 9111 §4",
        first(LONG, "Age: 9", body=TEN),
        ask("cache", "Range: bytes=0-1", status=206, text=b"01", age=(9, 9)),
    ),
    optimal(
        "age-on-a-416",
        "A3",
        "RFC 9111 §4",
        first(LONG, "Age: 9", body=TEN),
        ask("cache", "Range: bytes=99-", status=416, age=(9, 9)),
    ),
    optimal("age-on-head", "A3 M1", "RFC 9111 §4", first(LONG, "Age: 9"), ask("cache", method="HEAD", age=(9, 9))),
    fetched("age-in-the-second-of-expiry", "F1", L, "Cache-Control: max-age=10", "Age: 9", after=1),
    reused("age-in-the-second-before", "F1", L, "Cache-Control: max-age=10", "Age: 9", kind="optimal"),
    reused("age-list-with-an-empty-first-member", "A5", "RFC 9111 §5.1", LONG, "Age: , 7200", kind="check"),
)

MATCHING = (
    optimal(
        "if-none-match-with-empty-members",
        "I1",
        "RFC 9110 §13.1.2",
        first(LONG, TAG),
        ask("cache", 'If-None-Match: ,, "abc" ,', status=304, text=b""),
    ),
    optimal(
        "if-none-match-without-blanks",
        "I1",
        "RFC 9110 §13.1.2",
        first(LONG, TAG),
        ask("cache", 'If-None-Match: "x","abc","y"', status=304, text=b""),
    ),
    optimal(
        "if-none-match-empty",
        "I1",
        "RFC 9110 §13.1.2",
        first(LONG, TAG),
        ask("cache", "If-None-Match:"),
    ),
    optimal(
        "if-none-match-star-without-tag",
        "I1 9110-13.1.2-2",
        "RFC 9110 §13.1.2",
        first(LONG),
        ask("cache", "If-None-Match: *", status=304, text=b""),
    ),
    required(
        "if-none-match-star-on-a-miss",
        "V7",
        "RFC 9110 §13.1.2",
        ask("origin", "If-None-Match: *", told=("If-None-Match: *",), reply=reply(LONG)),
    ),
    optimal(
        "if-none-match-of-a-star-in-quotes",
        "I1 I5",
        "RFC 9110 §13.1.2",
        first(LONG, TAG),
        ask("cache", 'If-None-Match: "*"'),
    ),
    optimal(
        "if-none-match-with-an-empty-tag",
        "I1",
        "RFC 9110 §8.8.3",
        first(LONG, 'ETag: ""'),
        ask("cache", 'If-None-Match: ""', status=304, text=b""),
    ),
    optimal(
        "if-none-match-on-head",
        "I1 M1",
        "RFC 9110 §13.1.2",
        first(LONG, TAG),
        ask("cache", 'If-None-Match: "abc"', method="HEAD", status=304),
    ),
    optimal(
        "if-modified-since-on-head",
        "IMS M1",
        "RFC 9110 §13.1.3",
        first(LONG, "Last-Modified: {start-99}"),
        ask("cache", "If-Modified-Since: {start-9}", method="HEAD", status=304),
    ),
    optimal(
        "if-modified-since-to-come",
        "IMS",
        "RFC 9110 §13.1.3",
        first(LONG, "Last-Modified: {start-99}"),
        ask("cache", "If-Modified-Since: {start+9999}", status=304, text=b""),
    ),
    optimal(
        "if-modified-since-twice",
        "IMS 9110-13.1.3 9110-13.1.3-2",
        "RFC 9110 §13.1.3",
        first(LONG, "Last-Modified: {start-99}"),
        ask("cache", "If-Modified-Since: {start-9}", "If-Modified-Since: {start-9}"),
    ),
    optimal(
        "a-condition-on-a-redirect",
        "I4 9110-13.2.1-1",
        "RFC 9110 §13.2.1",
        first(LONG, TAG, status=301),
        ask("cache", 'If-None-Match: "abc"', status=301),
    ),
    optimal(
        "a-200-to-a-condition-is-stored",
        "V4",
        "RFC 9111 §4.3.3",
        ask("origin", 'If-None-Match: "old"', reply=reply(LONG, TAG)),
        ask("cache"),
    ),
    optimal(
        "a-200-to-a-range-is-stored",
        "R5",
        "RFC 9110 §14.2",
        ask("origin", "Range: bytes=0-1", reply=reply(LONG, body=TEN), status=200, text=TEN),
        ask("cache", status=200, text=TEN),
    ),
    required(
        "a-416-is-not-stored",
        "R2 C2",
        "RFC 9110 §15.5.17",
        ask("origin", "Range: bytes=99-", reply=reply(LONG, "Content-Range: bytes */10", status=416)),
        ask("origin"),
    ),
    required(
        "a-412-is-not-stored",
        "C2 I7",
        "RFC 9110 §15.5.13",
        ask("origin", 'If-Match: "x"', reply=reply(LONG, status=412)),
        ask("origin"),
    ),
    required(
        "a-304-nobody-asked-for",
        "V6",
        N,
        ask("origin", reply=reply(LONG, TAG, status=304), status=304, text=b""),
        ask("origin"),
    ),
)

VARY = (
    optimal(
        "vary-by-cookie",
        "K3",
        "RFC 9111 §4.1",
        ask("origin", "Cookie: a=1", reply=reply(LONG, "Vary: Cookie")),
        ask("cache", "Cookie: a=1"),
    ),
    required(
        "vary-by-another-cookie",
        "K3",
        "RFC 9111 §4.1",
        ask("origin", "Cookie: a=1", reply=reply(LONG, "Vary: Cookie")),
        ask("origin", "Cookie: a=2"),
    ),
    required("vary-by-an-impossible-name", "K5", "RFC 9110 §12.5.5", first(LONG, "Vary: Foo Bar"), ask("origin")),
    required("vary-by-a-quoted-name", "K5", "RFC 9110 §12.5.5", first(LONG, 'Vary: "Foo"'), ask("origin", "Foo: 1")),
    required(
        "a-304-that-adds-vary",
        "V304 K3",
        N,
        ask("origin", "Foo: 1", reply=reply(SHORT, TAG)),
        ask("validated", "Foo: 1", reply=reply(LONG, TAG, "Vary: Foo"), after=3),
        ask("origin", "Foo: 2", reply=reply(LONG, "Vary: Foo")),
    ),
    optimal(
        "a-304-that-adds-vary-keeps-its-variant",
        "V304 K3",
        N,
        ask("origin", "Foo: 1", reply=reply(SHORT, TAG)),
        ask("validated", "Foo: 1", reply=reply(LONG, TAG, "Vary: Foo"), after=3),
        ask("cache", "Foo: 1", of=1),
    ),
    required(
        "a-304-that-varies-by-everything",
        "V304 K5",
        N,
        first(SHORT, TAG),
        ask("validated", reply=reply(LONG, TAG, "Vary: *"), after=3),
        ask("origin", reply=reply(LONG)),
    ),
    required(
        "a-304-freshens-its-variant-alone",
        "V304 K3",
        N,
        ask("origin", "Foo: 1", reply=reply(SHORT, 'ETag: "a"', "Vary: Foo")),
        ask("origin", "Foo: 2", reply=reply(SHORT, 'ETag: "b"', "Vary: Foo")),
        ask("validated", "Foo: 1", reply=reply(LONG, 'ETag: "a"', "Vary: Foo"), after=3, of=1),
        ask("validated", "Foo: 2", reply=reply(LONG, 'ETag: "b"', "Vary: Foo"), of=2),
    ),
    optimal(
        "a-miss-among-variants-that-brings-another",
        "K9 K4",
        "RFC 9111 §4.3.1",
        ask("origin", "Foo: 1", reply=reply(LONG, 'ETag: "a"', "Vary: Foo")),
        ask("origin", "Foo: 2", reply=reply(LONG, 'ETag: "b"', "Vary: Foo"), told=('If-None-Match: "a"',)),
        ask("cache", "Foo: 1", of=1),
        ask("cache", "Foo: 2", of=2),
    ),
)

COOKIES = (
    required(
        "304-updates-set-cookie",
        "V304 SU 9111-3.2-1",
        "RFC 9111 §3.2",
        first(SHORT, TAG, "Set-Cookie: a=old"),
        ask("validated", reply=reply(LONG, TAG, "Set-Cookie: a=new"), after=3, has=("Set-Cookie: a=new",)),
        ask("any", has=("Set-Cookie: a=new",), reply=reply(LONG, "Set-Cookie: a=new")),
    ),
    check(
        "304-with-a-session-cookie",
        "V304 S6",
        "RFC 9111 §7.3",
        first(SHORT, TAG, "Set-Cookie: a=old"),
        ask(
            "validated", reply=reply(LONG, TAG, "Set-Cookie: JSESSIONID=1"), after=3, has=("Set-Cookie: JSESSIONID=1",)
        ),
        ask("cache", lacks=("Set-Cookie",), of=1),
    ),
    check(
        "304-with-a-cookie-and-a-guess",
        "V304 S6",
        "RFC 9111 §7.3",
        first("Last-Modified: {start-10}", TAG),
        ask("validated", reply=reply(TAG, "Set-Cookie: a=1"), after=9, has=("Set-Cookie: a=1",)),
        ask("any", lacks=("Set-Cookie",), reply=reply(TAG, status=304), of=1, status=200),
    ),
)


def part(name, spec, text, span, kind=optimal, rules="R1"):
    return kind(
        name,
        rules,
        R,
        first(LONG, TAG, body=TEN),
        ask("cache", f"Range: {spec}", status=206, text=text, has=(f"Content-Range: bytes {span}/10",)),
    )


def whole(name, *lines, rules="R2", stored=(LONG, TAG), kind=optimal):
    return kind(name, rules, R, first(*stored, body=TEN), ask("cache", *lines, status=200, text=TEN))


HUGE = "9" * 30
RANGES = (
    part("range-unit-in-capitals", "BYTES=0-1", b"01", "0-1", rules="R1 9110-14.1-1"),
    part("range-with-a-blank", "bytes= 0-1", b"01", "0-1", kind=check),
    part("range-with-empty-members", "bytes=,0-1 ,", b"01", "0-1"),
    part("range-with-leading-zeros", "bytes=0000000000000000000000000-01", b"01", "0-1"),
    part("range-to-a-huge-end", f"bytes=8-{HUGE}", b"89", "8-9"),
    part("range-of-the-huge-last", f"bytes=-{HUGE}", TEN, "0-9"),
    part("range-of-the-last-byte", "bytes=9-", b"9", "9-9"),
    part("range-of-all", "bytes=0-", TEN, "0-9"),
    part("range-twice-the-same", "bytes=2-3,2-3", b"23", "2-3", rules="R3"),
    part("range-inside-another", "bytes=1-8,3-4", b"12345678", "1-8", rules="R3"),
    part("range-behind-an-adjacent-one", "bytes=4-5,2-3", b"2345", "2-5", rules="R3"),
    part("range-last-overlapping", "bytes=6-8,-2", b"6789", "6-9", rules="R3"),
    optimal(
        "range-from-a-huge-start",
        "R2 9110-14.1.2-4",
        R,
        first(LONG, TAG, body=TEN),
        ask("cache", f"Range: bytes={HUGE}-", status=416, has=("Content-Range: bytes */10",)),
    ),
    optimal(
        "ranges-all-beyond",
        "R2 9110-15.5.17-1",
        R,
        first(LONG, TAG, body=TEN),
        ask("cache", "Range: bytes=10-11,20-", status=416, has=("Content-Range: bytes */10",)),
    ),
    whole("range-of-no-members", "Range: bytes=,"),
    whole("range-without-positions", "Range: bytes=-"),
    whole("range-with-a-sign", "Range: bytes=+1-2"),
    whole("range-with-two-minus-signs", "Range: bytes=--2"),
    whole("range-one-bad-among-good", "Range: bytes=0-1,x"),
    whole("range-in-hexadecimal", "Range: bytes=0x1-2"),
    whole("if-range-alone-says-nothing", 'If-Range: "abc"', rules="R4 9110-13.1.5-1"),
    whole("if-range-weak-to-strong", "Range: bytes=0-1", 'If-Range: W/"abc"', rules="R4"),
    whole("if-range-strong-to-weak", "Range: bytes=0-1", 'If-Range: "abc"', rules="R4", stored=(LONG, 'ETag: W/"abc"')),
    whole("if-range-unquoted", "Range: bytes=0-1", "If-Range: abc", rules="R4"),
    whole("if-range-list", "Range: bytes=0-1", 'If-Range: "x", "abc"', rules="R4"),
    whole("if-range-star", "Range: bytes=0-1", "If-Range: *", rules="R4"),
    whole("if-range-broken-date", "Range: bytes=0-1", "If-Range: yesterday", rules="R4"),
    whole(
        "if-range-earlier-date",
        "Range: bytes=0-1",
        "If-Range: {start-9999}",
        rules="R4",
        stored=(LONG, "Last-Modified: {start-999}"),
    ),
    whole("if-range-tag-without-one", "Range: bytes=0-1", 'If-Range: "abc"', rules="R4", stored=(LONG,)),
    optimal(
        "if-range-and-unsatisfiable",
        "R4 R2",
        "RFC 9110 §13.1.5",
        first(LONG, TAG, body=TEN),
        ask("cache", "Range: bytes=99-", 'If-Range: "abc"', status=416),
    ),
    whole("if-range-other-and-unsatisfiable", "Range: bytes=99-", 'If-Range: "x"', rules="R4"),
    optimal(
        "if-none-match-other-and-a-range",
        "R1 I1 9110-13.2.2-1",
        "RFC 9110 §13.2.2",
        first(LONG, TAG, body=TEN),
        ask("cache", "Range: bytes=0-1", 'If-None-Match: "x"', status=206, text=b"01"),
    ),
    optimal(
        "range-of-a-chunked-response",
        "R1",
        R,
        ask("origin", reply=reply(LONG, TAG, body=TEN, chunked=True)),
        ask("cache", "Range: bytes=-2", status=206, text=b"89", has=("Content-Range: bytes 8-9/10",)),
    ),
    optimal(
        "range-of-a-stale-response-in-its-window",
        "R1 St5",
        R,
        first("Cache-Control: max-age=1, stale-while-revalidate=60", TAG, body=TEN),
        ask("refresh", "Range: bytes=0-1", after=3, status=206, text=b"01", reply=reply(LONG, TAG, body=TEN)),
    ),
    optimal(
        "range-while-disconnected",
        "R1 St2",
        R,
        first(SHORT, TAG, body=TEN),
        ask("origin", "Range: bytes=0-1", after=3, status=206, text=b"01", reply=DOWN),
    ),
    optimal(
        "fields-of-a-206",
        "R1 9110-15.3.7-1",
        "RFC 9110 §15.3.7",
        first(
            LONG,
            TAG,
            "X-A: 1",
            "Content-Type: text/a",
            "Content-Range: bytes 0-4/5",
            "Expires: {start+99}",
            "Content-Location: /a",
            "Vary: Foo",
            body=TEN,
        ),
        ask(
            "cache",
            "Range: bytes=0-1",
            status=206,
            text=b"01",
            has=(
                LONG,
                TAG,
                "X-A: 1",
                "Content-Type: text/a",
                "Content-Range: bytes 0-1/10",
                "Expires: {start+99}",
                "Content-Location: /a",
                "Vary: Foo",
                "Date",
            ),
        ),
    ),
    optimal("range-of-a-203", "R1", R, first(LONG, body=TEN, status=203), ask("cache", "Range: bytes=0-1", status=203)),
)


def post(*lines, **more):
    return ask("origin", method="POST", body=b"x", reply=reply(*lines, **more))


INVALIDATION = (
    *(
        optimal(
            f"location-{name}-is-invalidated",
            "MINV 9111-4.4-2",
            I,
            ask("origin", at="/b", reply=reply(LONG)),
            post(f"Location: {where}", status=303),
            ask("origin", at="/b"),
        )
        for name, where in (
            ("with-a-fragment", "{path}/b#c"),
            ("by-authority", "//test.example{path}/b"),
            ("with-an-escape", "{path}/%62"),
            ("absolute-with-port", "http://test.example:80{path}/b"),
        )
    ),
    *(
        required(
            f"location-{name}-is-another-origin",
            "MINV 9111-4.4-3",
            I,
            ask("origin", at="/b", reply=reply(LONG)),
            post(f"Location: {where}", status=303),
            ask("cache", at="/b", of=1),
        )
        for name, where in (
            ("with-tls", "https://test.example{path}/b"),
            ("on-another-port", "http://test.example:8080{path}/b"),
            ("with-a-user", "http://u@test.example{path}/b"),
            ("at-a-longer-name", "http://test.example.org{path}/b"),
            ("of-another-scheme", "ftp://test.example{path}/b"),
        )
    ),
    required(
        "broken-locations-harm-nobody",
        "MINV",
        I,
        first(LONG),
        post("Location: http://[::1", "Content-Location: %%"),
        ask("origin"),
    ),
    optimal(
        "a-location-with-a-query",
        "MINV 9111-4.4-2",
        I,
        ask("origin", at="?a=1", reply=reply(LONG)),
        ask("origin", at="/c", method="POST", body=b"x", reply=reply("Content-Location: {path}?a=1")),
        ask("origin", at="?a=1"),
    ),
    optimal(
        "both-locations-are-invalidated",
        "MINV 9111-4.4-2",
        I,
        ask("origin", at="/b", reply=reply(LONG)),
        ask("origin", at="/c", reply=reply(LONG)),
        post("Location: {path}/b", "Content-Location: {path}/c"),
        ask("origin", at="/b"),
        ask("origin", at="/c"),
    ),
    optimal(
        "locations-of-an-error-stay",
        "MINV",
        I,
        ask("origin", at="/b", reply=reply(LONG)),
        post("Location: {path}/b", status=500),
        ask("cache", at="/b", of=1),
    ),
    optimal(
        "locations-of-a-get-stay",
        "MINV",
        I,
        ask("origin", at="/b", reply=reply(LONG)),
        ask("origin", reply=reply("Content-Location: {path}/b")),
        ask("cache", at="/b", of=1),
    ),
    optimal(
        "a-stored-part-is-invalidated",
        "MINV",
        I,
        ask(
            "origin",
            "Range: bytes=0-1",
            status=206,
            text=b"01",
            reply=reply(LONG, TAG, "Content-Range: bytes 0-1/10", body=b"01", status=206),
        ),
        post(),
        ask("origin", "Range: bytes=0-1"),
    ),
    required(
        "an-unsafe-method-that-fails-to-answer",
        "MINV",
        I,
        first(LONG),
        ask("origin", method="POST", body=b"x", reply=DOWN, status=502),
        ask("any", of=1, reply=reply()),
    ),
)

STALE = (
    required(
        "stale-if-error-of-none",
        "St4",
        "RFC 5861 §4",
        first("Cache-Control: max-age=1, stale-if-error=0", TAG),
        ask("origin", reply=reply(status=503), after=3),
    ),
    required(
        "stale-if-error-of-none-while-disconnected",
        "St4",
        "RFC 5861 §4",
        first("Cache-Control: max-age=1, stale-if-error=0", TAG),
        ask("origin", reply=DOWN, after=3, status=502),
    ),
    required(
        "stale-if-error-against-s-maxage",
        "St1 St4",
        "RFC 9111 §5.2.2.10",
        first("Cache-Control: s-maxage=1, stale-if-error=60", TAG),
        ask("origin", reply=reply(status=503), after=3),
    ),
    required(
        "stale-if-error-against-no-cache",
        "St1 St4",
        "RFC 9111 §5.2.2.4",
        first("Cache-Control: no-cache, stale-if-error=60", TAG),
        ask("origin", reply=reply(status=503)),
    ),
    required(
        "stale-if-error-of-the-request-against-must-revalidate",
        "St1 Q-stale-if-error",
        "RFC 9111 §5.2.2.2",
        first("Cache-Control: max-age=1, must-revalidate", TAG),
        ask("origin", "Cache-Control: stale-if-error=60", reply=reply(status=503), after=3),
    ),
    optimal(
        "stale-on-a-broken-answer",
        "St2",
        "RFC 9111 §4.2.4",
        first(SHORT, TAG),
        ask("origin", reply=reply("Content-Length: x"), after=3, of=1, status=200),
    ),
    optimal(
        "a-fresh-one-stands-in-for-a-reload",
        "St2",
        "RFC 9111 §4.2.4",
        first(LONG, TAG),
        ask("origin", "Cache-Control: no-cache", reply=DOWN, of=1, status=200),
    ),
    optimal(
        "a-503-leaves-what-is-stored",
        "St3",
        "RFC 9111 §4.3.3",
        first(SHORT, TAG),
        ask("origin", reply=reply(status=503), after=3, of=1, status=200),
        ask("validated", reply=reply(LONG, TAG), of=1, status=200),
    ),
    required(
        "a-500-with-a-lifetime-for-must-revalidate",
        "St1 C1",
        "RFC 9111 §4.3.3",
        first("Cache-Control: max-age=1, must-revalidate", TAG),
        ask("origin", reply=reply("Cache-Control: max-age=60", status=500), after=3),
    ),
)

WINDOW = "Cache-Control: max-age=1, stale-while-revalidate=60"
REFRESHES = (
    *(
        optimal(
            f"a-refresh-that-{name}-leaves-the-window-open",
            "St5 St3",
            "RFC 5861 §3",
            first(WINDOW, TAG),
            ask("refresh", reply=made, after=3, of=1),
            ask("refresh", reply=reply(LONG, TAG), after=2, of=1, told=('If-None-Match: "abc"',)),
        )
        for name, made in (("brings-503", reply(status=503)), ("fails", DOWN))
    ),
    required(
        "a-refresh-that-fails-for-longer-than-the-window",
        "St5",
        "RFC 5861 §3",
        first("Cache-Control: max-age=1, stale-while-revalidate=5, stale-if-error=5", TAG),
        ask("refresh", reply=reply(status=503), after=3, of=1),
        ask("origin", reply=reply(status=503), after=9),
    ),
    optimal(
        "a-refresh-that-brings-404-governs",
        "St5 V4",
        "RFC 5861 §3",
        first(WINDOW, TAG),
        ask("refresh", reply=reply(LONG, status=404), after=3, of=1, status=200),
        ask("cache", of=2, status=404),
    ),
    optimal(
        "head-in-the-window-refreshes-by-get",
        "St5 M1",
        "RFC 5861 §3",
        first(WINDOW, TAG),
        ask("refresh", method="HEAD", reply=reply(LONG, TAG), after=3, method_told="GET", status=200),
    ),
    optimal(
        "a-condition-in-the-window-is-answered",
        "St5 I1",
        "RFC 5861 §3",
        first(WINDOW, TAG),
        ask("refresh", 'If-None-Match: "abc"', reply=reply(LONG, TAG), after=3, status=304, text=b""),
    ),
    required(
        "a-reload-in-the-window-is-heard",
        "St5 Q-no-cache",
        "RFC 9111 §5.2.1.4",
        first(WINDOW, TAG),
        ask("validated", "Cache-Control: no-cache", after=3, reply=reply(LONG, TAG)),
    ),
    required(
        "a-window-beside-private",
        "S3 St5",
        "RFC 9111 §5.2.2.7",
        first("Cache-Control: private, max-age=1, stale-while-revalidate=60"),
        ask("origin"),
    ),
)
REPLACED = (
    required(
        "a-response-that-varies-by-everything-replaces",
        "K5 V4",
        "RFC 9111 §4.3.3",
        ask("origin", "Foo: 1", reply=reply(SHORT, TAG, "Vary: Foo")),
        ask("origin", "Foo: 1", reply=reply(LONG, "Vary: *"), after=3),
        ask("origin", "Foo: 1"),
    ),
    required(
        "a-private-response-replaces",
        "S3 V4",
        "RFC 9111 §4.3.3",
        first(SHORT, TAG),
        ask("origin", reply=reply("Cache-Control: private, max-age=60"), after=3),
        ask("origin", reply=DOWN, status=502),
    ),
    required(
        "what-needs-credentials-does-not-replace",
        "SA V4",
        "RFC 9111 §3.5",
        first(LONG, TAG),
        ask("origin", "Authorization: Basic YTpi", "Cache-Control: no-cache", reply=reply(LONG, 'ETag: "own"')),
        ask("any", reply=reply(LONG), lacks=('ETag: "own"',)),
    ),
    required(
        "a-404-with-no-store-replaces",
        "S2 V4",
        "RFC 9111 §4.3.3",
        first(SHORT, TAG),
        ask("origin", reply=reply("Cache-Control: no-store", status=404), after=3),
        ask("origin", reply=DOWN, status=502),
    ),
    required(
        "a-redirect-replaces",
        "V4",
        "RFC 9111 §4.3.3",
        first(SHORT, TAG),
        ask("origin", reply=reply(LONG, "Location: /elsewhere", status=301), after=3),
        ask("any", status=301, of=2, reply=reply("Location: /elsewhere", status=301)),
    ),
    *(
        reused(f"status-{status}-in-full", "C1", "RFC 9111 §3", LONG, status=status)
        for status in (205, 226, 305, 401, 402, 403, 406, 408, 409, 411, 413, 415, 417, 421, 422, 426, 429, 451, 511)
    ),
    check(
        "a-range-of-an-empty-response",
        "R2",
        "RFC 9110 §14.1.2",
        first(LONG, body=b""),
        ask("cache", "Range: bytes=0-", status=200, text=b""),
    ),
    required(
        "no-cache-and-an-origin-in-trouble",
        "S4 St1",
        "RFC 9111 §4.3.3",
        first("Cache-Control: no-cache, max-age=60", TAG),
        ask("origin", reply=reply(status=503)),
    ),
    required(
        "only-if-cached-against-must-revalidate",
        "Q-only-if-cached St1",
        "RFC 9111 §5.2.1.7",
        first("Cache-Control: max-age=1, must-revalidate"),
        ask("cache", "Cache-Control: only-if-cached, max-stale", after=3, status=504),
    ),
)

REQUESTS = (
    optimal(
        "request-max-age-broken",
        "Q-max-age P7",
        "RFC 9111 §5.2.1.1",
        first(LONG, TAG),
        ask("validated", "Cache-Control: max-age=x"),
    ),
    optimal(
        "request-max-age-huge",
        "Q-max-age P6",
        "RFC 9111 §5.2.1.1",
        first(LONG),
        ask("cache", f"Cache-Control: max-age={HUGE}"),
    ),
    required(
        "request-max-age-twice",
        "Q-max-age P9",
        "RFC 9111 §5.2.1.1",
        first(LONG, "Age: 100"),
        ask("origin", "Cache-Control: max-age=600", "Cache-Control: max-age=10"),
    ),
    required(
        "request-max-stale-broken",
        "Q-max-stale P7",
        "RFC 9111 §5.2.1.2",
        first(SHORT),
        ask("origin", "Cache-Control: max-stale=-5", after=3),
    ),
    required(
        "request-max-stale-and-max-age",
        "Q-max-stale Q-max-age",
        "RFC 9111 §5.2.1.1",
        first(SHORT),
        ask("origin", "Cache-Control: max-stale=60, max-age=2", after=4),
    ),
    optimal(
        "request-max-stale-within-max-age",
        "Q-max-stale Q-max-age",
        "RFC 9111 §5.2.1.2",
        first(SHORT),
        ask("cache", "Cache-Control: max-stale=60, max-age=60", after=3),
    ),
    required(
        "request-min-fresh-and-max-stale",
        "Q-min-fresh",
        "RFC 9111 §5.2.1.3",
        first(SHORT),
        ask("origin", "Cache-Control: max-stale=60, min-fresh=10", after=3),
    ),
    optimal(
        "request-min-fresh-broken",
        "Q-min-fresh",
        "RFC 9111 §5.2.1.3",
        first(LONG),
        ask("cache", "Cache-Control: min-fresh=x"),
    ),
    required(
        "request-min-fresh-huge",
        "Q-min-fresh P6",
        "RFC 9111 §5.2.1.3",
        first(LONG),
        ask("origin", f"Cache-Control: min-fresh={HUGE}"),
    ),
    required(
        "request-no-cache-with-names",
        "Q-no-cache",
        "RFC 9111 §5.2.1.4",
        first(LONG),
        ask("origin", 'Cache-Control: no-cache="a"'),
    ),
    required(
        "request-no-cache-on-a-second-line",
        "Q-no-cache P1",
        "RFC 9110 §5.3",
        first(LONG),
        ask("origin", "Cache-Control: max-age=600", "Cache-Control: no-cache"),
    ),
    required(
        "request-no-cache-over-max-stale",
        "Q-no-cache",
        "RFC 9111 §5.2.1.4",
        first(LONG),
        ask("origin", "Cache-Control: max-stale, no-cache"),
    ),
    required(
        "request-no-cache-and-only-if-cached",
        "Q-only-if-cached Q-no-cache",
        "RFC 9111 §5.2.1.7",
        first(LONG),
        ask("cache", "Cache-Control: no-cache, only-if-cached", status=504),
    ),
    required(
        "request-no-store-and-stored-before",
        "Q-no-store S8",
        "RFC 9111 §5.2.1.5",
        first(SHORT),
        ask("origin", "Cache-Control: no-store", reply=reply(LONG), after=3),
        ask("origin"),
    ),
    optimal(
        "only-if-cached-on-head",
        "Q-only-if-cached M1",
        "RFC 9111 §5.2.1.7",
        first(LONG),
        ask("cache", "Cache-Control: only-if-cached", method="HEAD", status=200),
    ),
    optimal(
        "only-if-cached-and-a-range",
        "Q-only-if-cached R1",
        "RFC 9111 §5.2.1.7",
        first(LONG, body=TEN),
        ask("cache", "Cache-Control: only-if-cached", "Range: bytes=0-1", status=206, text=b"01"),
    ),
    required(
        "only-if-cached-of-another-variant",
        "Q-only-if-cached K3",
        "RFC 9111 §5.2.1.7",
        ask("origin", "Foo: 1", reply=reply(LONG, "Vary: Foo")),
        ask("cache", "Foo: 2", "Cache-Control: only-if-cached", status=504),
    ),
    check("pragma-in-a-list", "Q2", "RFC 9111 §5.4", first(LONG), ask("origin", "Pragma: foo, no-cache")),
    check(
        "pragma-beside-an-empty-cache-control",
        "Q2",
        "RFC 9111 §5.4",
        first(LONG),
        ask("cache", "Pragma: no-cache", "Cache-Control:"),
    ),
)

HEADS = (
    optimal(
        "head-with-a-304",
        "M2",
        "RFC 9111 §4.3.5",
        first(SHORT, TAG),
        ask("origin", 'If-None-Match: "abc"', method="HEAD", after=3, reply=reply(LONG, TAG, status=304), status=304),
    ),
    required(
        "head-without-length-updates",
        "M2 9111-4.3.5-1",
        "RFC 9111 §4.3.5",
        first(SHORT, TAG, "X-A: old", body=TEN),
        ask("origin", method="HEAD", after=3, status=200, reply=reply(LONG, TAG, "X-A: new", body=TEN, chunked=True)),
        ask("any", has=("X-A: new",), text=TEN, reply=reply("X-A: new", body=TEN)),
    ),
    required(
        "head-with-a-weaker-tag-outdates",
        "M2 9111-4.3.5-2",
        "RFC 9111 §4.3.5",
        first("Cache-Control: max-age=60", TAG, body=TEN),
        ask(
            "origin", "Cache-Control: no-cache", method="HEAD", status=200, reply=reply(LONG, 'ETag: W/"abc"', body=TEN)
        ),
        ask("origin"),
    ),
    required(
        "head-that-says-no-store",
        "M2",
        "RFC 9111 §4.3.5",
        first("Cache-Control: max-age=60", TAG, body=TEN),
        ask(
            "origin",
            "Cache-Control: no-cache",
            method="HEAD",
            status=200,
            reply=reply("Cache-Control: no-store", TAG, body=TEN),
        ),
        ask("origin"),
    ),
    optimal(
        "head-keeps-the-length-of-the-get",
        "M1 W5",
        "RFC 9110 §9.3.2",
        first(LONG, body=TEN),
        ask("cache", method="HEAD", has=("Content-Length: 10",)),
        ask("cache", text=TEN),
    ),
)

TARGETED = (
    *(
        reused(f"cdn-{name}-gives-way", "T2", T, CDN + text, LONG)
        for name, text in (
            ("boolean-lifetime", "max-age"),
            ("boolean-lifetime-last", "max-age=1, max-age"),
            ("quoted-flag", 'no-store="x"'),
            ("number-flag", "no-store=1"),
            ("too-many-digits", "max-age=1000000000000000"),
            ("empty-member", "no-store, , max-age=1"),
            ("comma-in-front", ", no-store"),
            ("unclosed-string", 'no-store, a="b'),
            ("high-bytes", 'no-store, a="\xe4"'),
            ("capitals", "No-Store"),
            ("token-lifetime", "max-age=x"),
            ("list-lifetime", "no-store, max-age=(1 2)"),
        )
    ),
    fetched("cdn-flag-with-parameters", "T2", T, CDN + "no-store;a=1;b", LONG),
    reused("cdn-flag-that-is-false", "T2", T, CDN + "no-store=?0, max-age=60", "Cache-Control: no-store"),
    fetched("cdn-flag-that-is-true", "T2", T, CDN + "no-store=?1, max-age=60", LONG),
    fetched("cdn-negative-lifetime", "T2", T, CDN + "max-age=-1", LONG, TAG),
    reused("cdn-long-lifetime", "T2", T, CDN + "max-age=99999999999", "Cache-Control: no-store"),
    reused("cdn-broken-second-line-voids-both", "T2", T, CDN + "no-store", CDN + "&", LONG),
    fetched(
        "cdn-stale-allowance-is-its-own",
        "T1 St4",
        T,
        CDN + "max-age=1, must-revalidate",
        "Cache-Control: max-age=3600, stale-while-revalidate=60",
        TAG,
        after=3,
    ),
    optimal(
        "cdn-window",
        "T3 St5",
        T,
        first(CDN + "max-age=1, stale-while-revalidate=60", "Cache-Control: no-store"),
        ask("refresh", reply=reply(CDN + "max-age=60"), after=3),
    ),
    optimal(
        "cdn-private-fields",
        "T3 S3",
        T,
        first(CDN + 'max-age=60, private="X-Own"', "X-Own: 1", "X-All: 2"),
        ask("cache", lacks=("X-Own",), has=("X-All: 2",)),
    ),
    optimal(
        "cdn-public-and-authorization",
        "T3 SA",
        T,
        ask("origin", "Authorization: Basic YTpi", reply=reply(CDN + "public, max-age=60")),
        ask("cache"),
    ),
    required(
        "cdn-says-nothing-of-authorization",
        "T1 SA",
        T,
        ask("origin", "Authorization: Basic YTpi", reply=reply(CDN + "max-age=60", "Cache-Control: public")),
        ask("origin"),
    ),
    required(
        "304-updates-a-targeted-field",
        "T1 V304",
        N,
        first(CDN + "max-age=1", TAG),
        ask("validated", reply=reply(CDN + "max-age=60", TAG), after=3),
        ask("any", has=(CDN + "max-age=60",)),
    ),
)
CASES = (
    DIRECTIVES
    + DATES
    + AGES
    + MATCHING
    + VARY
    + COOKIES
    + RANGES
    + INVALIDATION
    + STALE
    + REFRESHES
    + REPLACED
    + REQUESTS
    + HEADS
    + TARGETED
)
