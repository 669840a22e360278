"""How long a response is fresh, and how old it is (RFC 9111 §4.2, §5.1, §5.3)."""

from tests.conformance.case import ask, check, fetched, first, optimal, required, reused

L = "RFC 9111 §4.2.1"
E = "RFC 9111 §5.3"
G = "RFC 9111 §4.2.2"
A = "RFC 9111 §4.2.3"
AGE = "RFC 9111 §5.1"
LONG = "Cache-Control: max-age=3600"

LIFETIMES = (
    reused("max-age", "F1 9111-4-2", L, LONG),
    reused("s-maxage", "F1 9111-5.2.2.10-1", L, "Cache-Control: s-maxage=3600"),
    reused("expires", "F1", L, "Expires: {now+3600}"),
    reused("max-age-until-its-end", "F1", L, "Cache-Control: max-age=9", after=3),
    fetched("max-age-has-passed", "F1 9111-4.2.4-2 9111-5.2.2.1-2", L, "Cache-Control: max-age=1", after=3),
    fetched("s-maxage-has-passed", "F1", L, "Cache-Control: s-maxage=1", after=3),
    fetched("expires-has-passed", "F1 9111-5.3-1", L, "Expires: {now+1}", after=3),
    fetched("lifetime-equals-age", "F1", L, LONG, "Age: 3600"),
    reused("longer-s-maxage", "F2 9111-4.2.1-1", L, "Cache-Control: max-age=1, s-maxage=3600", after=3),
    reused("longer-s-maxage-first", "F2", L, "Cache-Control: s-maxage=3600, max-age=1", after=3),
    reused("s-maxage-over-max-age-0", "F2", L, "Cache-Control: max-age=0, s-maxage=3600"),
    reused("s-maxage-on-another-line", "F2", L, "Cache-Control: max-age=0", "Cache-Control: s-maxage=3600"),
    reused("s-maxage-over-past-expires", "F2", L, "Cache-Control: s-maxage=3600", "Expires: {now-3600}"),
    fetched("shorter-s-maxage", "F2", L, "Cache-Control: s-maxage=1, max-age=3600", after=3),
    fetched("shorter-s-maxage-last", "F2", L, "Cache-Control: max-age=3600, s-maxage=1", after=3),
    fetched("s-maxage-0-over-expires", "F2", L, "Cache-Control: s-maxage=0", "Expires: {now+3600}"),
    reused("max-age-over-past-expires", "F3 9111-5.3-3", E, LONG, "Expires: {now-3600}"),
    reused("max-age-over-broken-expires", "F3", E, LONG, "Expires: 0"),
    reused("max-age-over-nonsense-expires", "F3", E, LONG, "Expires: soon"),
    fetched(
        "short-max-age-over-expires", "F3 9111-5.3-3", E, "Cache-Control: max-age=1", "Expires: {now+3600}", after=3
    ),
    reused("s-maxage-over-broken-expires", "F3 9111-5.3-4", E, "Cache-Control: s-maxage=3600", "Expires: 0"),
    fetched("max-age-0", "F4 9111-4-2", L, "Cache-Control: max-age=0"),
    fetched("max-age-0-over-expires", "F4", L, "Cache-Control: max-age=0", "Expires: {now+3600}"),
    fetched("max-age-0-without-guess", "F4", L, "Cache-Control: max-age=0", "Last-Modified: {now-8640000}"),
    fetched("expires-in-the-past", "F6", E, "Expires: {now-3600}"),
    fetched("expires-equals-date", "F6", E, "Expires: {now}", "Date: {now}"),
    fetched("expires-before-date-both-to-come", "F6", E, "Date: {now+7200}", "Expires: {now+3600}"),
    fetched("expires-equals-date-both-to-come", "F6", E, "Date: {now+3600}", "Expires: {now+3600}"),
    reused("expires-behind-date-both-to-come", "F6", E, "Date: {now+3600}", "Expires: {now+7200}"),
    reused("expires-without-date", "F6", E, "Expires: {now+3600}", dated=False),
    reused("expires-with-broken-date", "F6", E, "Date: yesterday", "Expires: {now+3600}"),
    *(
        fetched(f"expires-{name}", "F6 9111-5.3-2 9111-4.2-3", E, f"Expires: {text}", "Last-Modified: {now-8640000}")
        for name, text in (
            ("0", "0"),
            ("minus-1", "-1"),
            ("nonsense", "tomorrow"),
            ("empty", ""),
            ("a-number", "99999999999"),
            ("iso", "2099-01-01T00:00:00Z"),
            ("without-zone", "Thu, 18 Aug 2050 02:01:18"),
            ("in-another-zone", "Thu, 18 Aug 2050 02:01:18 AEST"),
            ("with-offset", "Thu, 18 Aug 2050 02:01:18 +0000"),
            ("two-digit-year", "Thu, 18 Aug 50 02:01:18 GMT"),
            ("one-digit-day", "Thu, 8 Aug 2050 02:01:18 GMT"),
            ("one-digit-hour", "Thu, 18 Aug 2050 2:01:18 GMT"),
            ("dots-in-time", "Thu, 18 Aug 2050 02.01.18 GMT"),
            ("dashes-in-date", "Thu, 18-Aug-2050 02:01:18 GMT"),
            ("without-day-name", "18 Aug 2050 02:01:18 GMT"),
            ("without-comma", "Thu 18 Aug 2050 02:01:18 GMT"),
            ("two-blanks", "Thu,  18 Aug 2050 02:01:18 GMT"),
            ("full-month", "Thu, 18 August 2050 02:01:18 GMT"),
            ("no-such-day", "Thu, 31 Feb 2050 02:01:18 GMT"),
            ("hour-25", "Thu, 18 Aug 2050 25:01:18 GMT"),
            ("twice", "Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:18 GMT"),
        )
    ),
    reused("expires-far-away", "F6", E, "Expires: Thu, 18 Aug 2050 02:01:18 GMT"),
    reused("expires-rfc850", "F6 9110-5.6.7", "RFC 9110 §5.6.7", "Expires: {now+3600|850}"),
    reused("expires-asctime", "F6 9110-5.6.7", "RFC 9110 §5.6.7", "Expires: {now+3600|asctime}"),
    reused("expires-in-lower-case", "F6 9111-4.2-1", "RFC 9111 §4.2", "Expires: {now+3600|lower}", kind="optimal"),
    reused("expires-wrong-day-name", "F6", E, "Expires: Mon, 18 Aug 2050 02:01:18 GMT"),
    fetched("age-on-arrival-over-max-age", "F7", A, LONG, "Age: 7200"),
    fetched("age-on-arrival-over-expires", "F7", A, "Expires: {now+3600}", "Age: 7200"),
    fetched("old-date-over-max-age", "F7 A2", A, LONG, "Date: {now-7200}", kind="optimal"),
    optimal(
        "old-on-arrival-is-validated",
        "F7",
        A,
        first(LONG, "Age: 7200", 'ETag: "a"'),
        ask("validated", told=('If-None-Match: "a"',)),
    ),
    fetched("no-lifetime-nor-validator", "F8", G, kind="check"),
    check("no-lifetime-with-etag", "F8", G, first('ETag: "a"'), ask("validated", told=('If-None-Match: "a"',))),
    required(
        "date-is-added", "F9", "RFC 9110 §6.6.1", ask("origin", reply=first(LONG, dated=False).reply, has=("Date",))
    ),
    required(
        "date-is-added-in-the-store", "F9", "RFC 9110 §6.6.1", first(LONG, dated=False), ask("any", has=("Date",))
    ),
    required(
        "date-is-added-to-the-uncacheable",
        "F9",
        "RFC 9110 §6.6.1",
        ask("origin", reply=first("Cache-Control: no-store", dated=False).reply, has=("Date",)),
    ),
    required(
        "date-stays", "F9 W4", "RFC 9110 §6.6.1", first(LONG, "Date: {start-50}"), ask("any", has=("Date: {start-50}",))
    ),
)

GUESSES = (
    reused("guess-by-last-modified", "FH 9111-4.2.2-1", G, "Last-Modified: {now-86400}", after=3),
    fetched("guess-is-short", "FH 9111-4.2.2-2", G, "Last-Modified: {now-20}", after=4, kind="optimal"),
    fetched("guess-counts-age", "FH", G, "Last-Modified: {now-86400}", "Age: 86000"),
    *(
        reused(f"guess-for-{status}", "FH 9110-15.1", "RFC 9110 §15.1", "Last-Modified: {now-864000}", status=status)
        for status in (200, 203, 204, 300, 301, 308, 404, 410)
    ),
    *(
        fetched(f"no-guess-for-{status}", "FH 9111-4.2.2-1", G, "Last-Modified: {now-864000}", status=status)
        for status in (201, 202, 302, 303, 307, 400, 403, 418, 500, 502, 503, 504, 599)
    ),
    reused(
        "guess-for-an-unknown-status-with-public",
        "FH",
        G,
        "Cache-Control: public",
        "Last-Modified: {now-864000}",
        status=599,
    ),
    fetched(
        "no-guess-beside-a-lifetime",
        "FH 9111-4.2.2-1",
        G,
        "Cache-Control: max-age=1",
        "Last-Modified: {now-8640000}",
        after=3,
    ),
    fetched("no-guess-beside-expires", "FH", G, "Expires: {now-1}", "Last-Modified: {now-8640000}"),
    fetched("no-guess-without-last-modified", "FH F8", G, 'ETag: "a"', kind="check"),
    fetched("no-guess-by-a-last-modified-to-come", "FH", G, "Last-Modified: {now+3600}", kind="check"),
    *(
        reused(f"guess-after-{age}-seconds", "FH 9111-4.2.2-2", G, f"Last-Modified: {{now-{age}}}")
        for age in (600, 1800, 3600, 43200, 604800, 31536000)
    ),
    *(
        fetched(
            f"no-guess-beyond-a-day-after-{age}-seconds",
            "FH",
            G,
            f"Last-Modified: {{now-{age}}}",
            "Age: 90000",
            kind="check",
        )
        for age in (864000, 31536000)
    ),
    reused("guess-with-a-query", "FH 9111-4.2.2-3", G, "Last-Modified: {now-864000}"),
    fetched(
        "pragma-in-a-response-forbids-guessing",
        "Q3 9111-5.4-2",
        "RFC 9111 §5.4",
        "Pragma: no-cache",
        "Last-Modified: {now-864000}",
        kind="check",
    ),
    reused("pragma-in-a-response-beside-max-age", "Q3", "RFC 9111 §5.4", "Pragma: no-cache", LONG),
    reused("pragma-in-a-response-beside-expires", "Q3", "RFC 9111 §5.4", "Pragma: no-cache", "Expires: {now+3600}"),
    reused("unknown-pragma-in-a-response", "Q3", "RFC 9111 §5.4", "Pragma: foo", LONG),
)

AGES = (
    required("age-is-sent", "A3 9111-4-3 9111-5.1-2", "RFC 9111 §4", first(LONG), ask("any", age=(0, 0), after=0.0)),
    required("age-grows", "A3 A1 9111-4.2.3-1", A, first(LONG), ask("any", age=(3, 3), after=3.0)),
    required("age-grows-with-expires", "A3", A, first("Expires: {now+3600}"), ask("any", age=(3, 3), after=3.0)),
    required(
        "age-starts-from-the-received", "A2 A3", A, first(LONG, "Age: 600"), ask("any", age=(603, 603), after=3.0)
    ),
    required("age-from-date", "A2", A, first(LONG, "Date: {now-600}"), ask("any", age=(603, 603), after=3.0)),
    required(
        "age-is-the-larger-of-both", "A2", A, first(LONG, "Age: 100", "Date: {now-600}"), ask("any", age=(600, 601))
    ),
    required(
        "age-larger-than-date-says", "A2", A, first(LONG, "Age: 600", "Date: {now-100}"), ask("any", age=(600, 601))
    ),
    required("date-to-come-is-no-age", "A2", A, first(LONG, "Date: {now+600}"), ask("any", age=(0, 0))),
    required("age-is-one", "A3", AGE, first(LONG, "Age: 5", "Age: 6"), ask("any", age=(5, 5))),
    required(
        "age-never-shrinks",
        "A3 G-age",
        A,
        first(LONG, "Age: 10"),
        ask("any", age=(12, 12), after=2.0),
        ask("any", age=(14, 14), after=2.0),
    ),
    required(
        "age-restarts-on-validation",
        "A1 9111-4.3.4-1",
        A,
        first("Cache-Control: max-age=2", 'ETag: "a"'),
        ask("validated", reply=first(LONG, 'ETag: "a"').reply, after=4.0),
        ask("any", age=(0, 0)),
    ),
    fetched("age-list-first-is-large", "A4 9111-5.1-1", AGE, LONG, "Age: 7200, 0"),
    reused("age-list-first-is-small", "A4", AGE, LONG, "Age: 0, 7200", kind="required"),
    fetched("age-lines-first-is-large", "A4", AGE, LONG, "Age: 7200", "Age: 0"),
    reused("age-lines-first-is-small", "A4", AGE, LONG, "Age: 0", "Age: 7200", kind="required"),
    fetched("age-twice-the-lifetime", "A4", AGE, LONG, "Age: 3600, 3600"),
    *(
        reused(f"age-{name}", "A5 9111-5.1-3", AGE, LONG, f"Age: {text}", kind="required")
        for name, text in (
            ("letters", "abc"),
            ("minus", "-7200"),
            ("plus", "+7200"),
            ("fraction", "7200.0"),
            ("quoted", '"7200"'),
            ("letters-before", "a7200"),
            ("letters-behind", "7200a"),
            ("empty", ""),
            ("nonsense-first", "abc, 7200"),
        )
    ),
    reused("age-with-a-parameter", "A5", AGE, LONG, "Age: 7200;x=1", kind="check"),
    *(
        fetched(f"age-{number}", "A6 9111-1.2.2-2", "RFC 9111 §1.2.2", LONG, f"Age: {number}")
        for number in ("2147483647", "2147483648", "2147483649", "4294967296", "99999999999", "9" * 40)
    ),
    required(
        "age-is-bounded",
        "A6 9111-1.2.2-2",
        "RFC 9111 §1.2.2",
        first("Cache-Control: max-age=1, stale-if-error=9999999999", "Age: 99999999999"),
        ask("any", reply=first(status=503).reply, age=(2147483648, 2147483648)),
        site='stale_on_error = "1d"',
    ),
    check("forwarded-answer-has-no-age", "A7", "RFC 9111 §5.1", ask("origin", reply=first(LONG).reply, lacks=("Age",))),
    check(
        "validated-answer-has-no-age",
        "A7",
        "RFC 9111 §5.1",
        first("Cache-Control: max-age=1", 'ETag: "a"'),
        ask("validated", after=3.0, lacks=("Age",)),
    ),
    check(
        "age-from-upstream-is-passed-on",
        "A7",
        "RFC 9111 §5.1",
        ask("origin", reply=first(LONG, "Age: 5").reply, has=("Age: 5",)),
    ),
    check(
        "age-of-the-uncacheable-is-passed-on",
        "A7",
        "RFC 9111 §5.1",
        ask("origin", reply=first("Cache-Control: no-store", "Age: 5").reply, has=("Age: 5",)),
    ),
)
CASES = LIFETIMES + GUESSES + AGES
