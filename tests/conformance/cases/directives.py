"""How Cache-Control is read (RFC 9111 §5.2; RFC 9110 §5.3, §5.6)."""

from tests.conformance.case import ask, check, fetched, first, optimal, required, reused

LONG = "Cache-Control: max-age=3600"
S = "RFC 9111 §5.2"
D = "RFC 9111 §1.2.2"

READ = (
    reused("several-lines", "P1", "RFC 9110 §5.3", "Cache-Control: public", LONG),
    reused("lifetime-on-first-line", "P1", "RFC 9110 §5.3", LONG, "Cache-Control: public"),
    fetched("no-store-on-second-line", "P1 P10", "RFC 9110 §5.3", LONG, "Cache-Control: no-store"),
    fetched("no-store-on-third-line", "P1 P10", "RFC 9110 §5.3", LONG, "Cache-Control: a=b", "Cache-Control: no-store"),
    reused("empty-members", "P1", "RFC 9110 §5.6.1", "Cache-Control: ,, , max-age=3600 ,,"),
    reused("blanks-and-tabs", "P1", "RFC 9110 §5.6.1", "Cache-Control: public \t,\t max-age=3600"),
    reused("no-blanks", "P1", "RFC 9110 §5.6.1", "Cache-Control: public,max-age=3600,a"),
    reused("empty-line", "P1", "RFC 9110 §5.6.1", "Cache-Control:", LONG),
    reused("names-in-capitals", "P2 9111-5.2-1", S, "Cache-Control: MAX-AGE=3600"),
    reused("names-in-mixed-case", "P2", S, "Cache-Control: mAx-aGe=3600"),
    fetched("no-store-in-capitals", "P2 S2", S, "Cache-Control: NO-STORE, max-age=3600"),
    fetched("no-cache-in-mixed-case", "P2", S, "Cache-Control: No-Cache, max-age=3600", 'ETag: "a"'),
    fetched("private-in-capitals", "P2", S, "Cache-Control: PRIVATE, max-age=3600"),
    optimal(
        "request-directive-in-capitals",
        "P2",
        S,
        first(LONG, 'ETag: "a"'),
        ask("validated", "Cache-Control: NO-CACHE"),
    ),
    reused("quoted-seconds", "P3 9111-5.2-2 9111-5.2.2.1-1", S, 'Cache-Control: max-age="3600"'),
    reused("quoted-s-maxage", "P3", S, 'Cache-Control: s-maxage="3600"'),
    reused("quoted-escaped", "P3", "RFC 9110 §5.6.4", 'Cache-Control: max-age="36\\00"'),
    fetched("quoted-zero", "P3", S, 'Cache-Control: max-age="0"', "Expires: {now+3600}"),
    fetched(
        "quoted-lifetime-of-an-extension",
        "P4",
        "RFC 9110 §5.6.4",
        'Cache-Control: ext="max-age=3600", max-age=1',
        after=3,
    ),
    fetched(
        "quoted-lifetime-of-an-extension-behind",
        "P4",
        "RFC 9110 §5.6.4",
        'Cache-Control: max-age=1, ext="max-age=3600"',
        after=3,
    ),
    fetched(
        "quoted-lifetime-between-commas",
        "P4",
        "RFC 9110 §5.6.4",
        'Cache-Control: ext="a, max-age=3600, b", max-age=1',
        after=3,
    ),
    reused(
        "quoted-no-store-of-an-extension", "P4", "RFC 9110 §5.6.4", 'Cache-Control: ext="a, no-store, b", max-age=3600'
    ),
    reused(
        "quoted-with-an-escaped-quote",
        "P4",
        "RFC 9110 §5.6.4",
        'Cache-Control: ext="a\\", no-store, \\"b", max-age=3600',
    ),
    reused("unknown-directive", "P5 9111-5.2-3 9111-5.2.3-1", "RFC 9111 §5.2.3", "Cache-Control: foobar, max-age=3600"),
    reused("unknown-directive-with-argument", "P5", "RFC 9111 §5.2.3", "Cache-Control: max-age=3600, foobar=1"),
    reused(
        "unknown-directive-with-quoted-argument", "P5", "RFC 9111 §5.2.3", 'Cache-Control: foo="b ar", max-age=3600'
    ),
    fetched("directive-with-a-known-ending", "P5", S, "Cache-Control: x-max-age=3600, max-age=1", after=3),
    fetched("directive-with-a-known-beginning", "P5", S, "Cache-Control: max-age-x=3600, max-age=1", after=3),
    reused("no-store-as-part-of-a-name", "P5", S, "Cache-Control: no-storex, max-age=3600"),
    reused("leading-zeros", "P6", D, "Cache-Control: max-age=003600"),
    reused("many-leading-zeros", "P6", D, f"Cache-Control: max-age={'0' * 60}3600"),
    fetched("leading-zeros-of-a-short-lifetime", "P6", D, "Cache-Control: max-age=000000000001", after=3),
    *(
        reused(
            f"lifetime-{seconds}",
            "P6 F5 9111-1.2.2-1 9111-1.2.2-2",
            D,
            f"Cache-Control: max-age={seconds}",
            kind="required",
        )
        for seconds in ("2147483647", "2147483648", "2147483649", "4294967296", "99999999999", "9" * 40)
    ),
    *(
        fetched(
            f"broken-lifetime-{name}",
            "P7 9111-4.2.1-3",
            "RFC 9111 §4.2.1",
            f"Cache-Control: max-age={text}",
            "Expires: {now+3600}",
        )
        for name, text in (
            ("plus", "+3600"),
            ("minus", "-3600"),
            ("fraction", "3600.0"),
            ("letters-behind", "3600s"),
            ("letters-before", "a3600"),
            ("single-quotes", "'3600'"),
            ("nothing", ""),
            ("empty-quotes", '""'),
            ("underscore", "3_600"),
            ("hexadecimal", "0xe10"),
            ("exponent", "36e2"),
            ("digits-of-another-script", "\xb3600"),
        )
    ),
    fetched("lifetime-without-equals", "P7", "RFC 9111 §4.2.1", "Cache-Control: max-age", "Expires: {now+3600}"),
    fetched(
        "broken-lifetime-is-no-guess",
        "P7",
        "RFC 9111 §4.2.1",
        "Cache-Control: max-age=x",
        "Last-Modified: {now-8640000}",
    ),
    fetched("broken-s-maxage", "P7", "RFC 9111 §4.2.1", "Cache-Control: s-maxage=x, max-age=3600"),
    fetched("blank-before-equals", "P8", S, "Cache-Control: max-age =3600", kind="check"),
    fetched("blank-behind-equals", "P8", S, "Cache-Control: max-age= 3600", kind="check"),
    fetched(
        "twice-smaller-first",
        "P9 9111-4.2.1-2",
        "RFC 9111 §4.2.1",
        "Cache-Control: max-age=1, max-age=3600",
        kind="check",
        after=3,
    ),
    fetched(
        "twice-smaller-last", "P9", "RFC 9111 §4.2.1", "Cache-Control: max-age=3600, max-age=1", kind="check", after=3
    ),
    fetched("twice-on-two-lines", "P9", "RFC 9111 §4.2.1", LONG, "Cache-Control: max-age=1", kind="check", after=3),
    reused("twice-the-same", "P9", "RFC 9111 §4.2.1", "Cache-Control: max-age=3600, max-age=3600", kind="check"),
    fetched(
        "no-store-over-lifetime", "P10 S2 9111-4.2.1-4", "RFC 9111 §4.2.1", "Cache-Control: max-age=3600, no-store"
    ),
    fetched("no-store-over-public", "P10", "RFC 9111 §4.2.1", "Cache-Control: no-store, public, max-age=3600"),
    fetched("no-cache-over-lifetime", "P10", "RFC 9111 §4.2.1", "Cache-Control: max-age=3600, no-cache"),
    fetched("private-over-public", "P10", "RFC 9111 §4.2.1", "Cache-Control: public, private, max-age=3600"),
    fetched("private-over-s-maxage", "P10", "RFC 9111 §4.2.1", "Cache-Control: s-maxage=3600, private"),
    required(
        "no-store-over-no-cache",
        "P10",
        "RFC 9111 §5.2.2.5",
        first("Cache-Control: no-cache, no-store, max-age=60", 'ETag: "a"'),
        ask("origin", untold=("If-None-Match",)),
    ),
    fetched("argument-on-no-store", "P11 9111-5.2-4", S, "Cache-Control: no-store=a, max-age=3600", kind="check"),
    fetched(
        "argument-on-must-revalidate", "P11", S, "Cache-Control: must-revalidate=a, max-age=1", kind="check", after=3
    ),
    fetched("unclosed-quote", "P11", "RFC 9110 §5.6.4", 'Cache-Control: max-age=3600, ext="a', kind="check"),
    reused("bytes-above-ascii", "P11", S, "Cache-Control: \xe4\xff=\xfc, max-age=3600", kind="check"),
    required(
        "field-travels-unchanged",
        "P12 9111-5.2-5",
        S,
        ask(
            "origin",
            'Cache-Control: ,, MAX-age=5 ,foo="a\\"b"',
            reply=first('Cache-Control: max-age =1,, FOO="x,\\"y", max-age=3600').reply,
            told=('Cache-Control: ,, MAX-age=5 ,foo="a\\"b"',),
            has=('Cache-Control: max-age =1,, FOO="x,\\"y", max-age=3600',),
        ),
    ),
    required(
        "field-is-replayed-unchanged",
        "P12 W4",
        S,
        first('Cache-Control: max-age=3600 ,, FOO="x,\\"y"'),
        ask("any", has=('Cache-Control: max-age=3600 ,, FOO="x,\\"y"',)),
    ),
    check("nonsense-in-a-request", "P11 Q-unknown", S, first(LONG), ask("cache", 'Cache-Control: =, ;;, "", \xff')),
)
CASES = READ
