"""Conditions and ranges of clients, answered from the store (RFC 9111 §4.3.2, §3.3, §3.4; RFC 9110 §13, §14)."""

from tests.conformance.case import Ask, ask, check, first, optimal, reply, required

LONG = "Cache-Control: max-age=3600"
SHORT = "Cache-Control: max-age=1"
TAG = 'ETag: "abc"'
C = "RFC 9111 §4.3.2"
T = "RFC 9110 §13.1.2"
R = "RFC 9110 §14.2"
P = "RFC 9111 §3.3"
J = "RFC 9111 §3.4"
TEN = b"0123456789"


def not_modified(*lines, **more):
    return ask("cache", *lines, status=304, text=b"", **more)


def asked(name, tag, condition, *, matches, kind=optimal, rules="I1 9111-4.3.2-1"):
    step = not_modified(f"If-None-Match: {condition}") if matches else ask("cache", f"If-None-Match: {condition}")
    return kind(name, rules, T, first(LONG, f"ETag: {tag}"), step)


TAGS = (
    asked("if-none-match", '"abc"', '"abc"', matches=True),
    asked("if-none-match-other", '"abc"', '"def"', matches=False),
    asked("if-none-match-first-of-a-list", '"abc"', '"abc", "def"', matches=True),
    asked("if-none-match-last-of-a-list", '"abc"', '"def", "abc"', matches=True),
    asked("if-none-match-none-of-a-list", '"abc"', '"def", "ghi"', matches=False),
    asked("if-none-match-weak-stored", 'W/"abc"', 'W/"abc"', matches=True),
    asked("if-none-match-weak-to-strong", '"abc"', 'W/"abc"', matches=True),
    asked("if-none-match-strong-to-weak", 'W/"abc"', '"abc"', matches=True),
    asked("if-none-match-star", '"abc"', "*", matches=True),
    asked("if-none-match-with-a-comma-inside", '"a,b"', '"x", "a,b"', matches=True),
    optimal(
        "if-none-match-two-lines",
        "I1 9110-13.1.2-1",
        T,
        first(LONG, TAG),
        not_modified('If-None-Match: "x"', 'If-None-Match: "abc"'),
    ),
    optimal(
        "if-none-match-over-a-later-date",
        "I2 9110-13.1.3-1",
        T,
        first(LONG, TAG, "Last-Modified: {start-999}"),
        ask("cache", 'If-None-Match: "x"', "If-Modified-Since: {now}"),
    ),
    optimal(
        "if-none-match-over-an-earlier-date",
        "I2 9110-13.1.3-1",
        T,
        first(LONG, TAG, "Last-Modified: {start-999}"),
        not_modified('If-None-Match: "abc"', "If-Modified-Since: {start-9999}"),
    ),
    optimal(
        "fields-of-a-304",
        "I3 9110-15.4.5",
        "RFC 9110 §15.4.5",
        first(LONG, TAG, "Content-Location: /a", "Vary: Foo", "Expires: {start+99}", "Content-Type: text/a"),
        not_modified(
            'If-None-Match: "abc"',
            has=('ETag: "abc"', "Date", LONG, "Content-Location: /a", "Expires: {start+99}", "Vary: Foo"),
            lacks=("Content-Type",),
            age=(0, 0),
        ),
    ),
    optimal(
        "if-none-match-of-a-404",
        "I4 9110-13.2.1-1",
        "RFC 9110 §13.2.1",
        first(LONG, TAG, status=404),
        ask("cache", 'If-None-Match: "abc"', status=404),
    ),
    asked("unquoted-tag", "abc", "abc", matches=True, kind=check, rules="I5"),
    asked("unquoted-tag-to-quoted", '"abc"', "abc", matches=False, kind=check, rules="I5"),
    asked("quoted-tag-to-unquoted", "abc", '"abc"', matches=False, kind=check, rules="I5"),
    asked("weak-in-lower-case", 'w/"abc"', '"abc"', matches=False, kind=check, rules="I5"),
    asked("weak-in-lower-case-itself", 'w/"abc"', 'w/"abc"', matches=True, kind=check, rules="I5"),
    asked("weak-without-slash", 'W"abc"', 'W"abc"', matches=True, kind=check, rules="I5"),
    asked("high-bytes-in-a-tag", '"\xfc"', '"\xfc"', matches=True, kind=check, rules="I5"),
    asked("tags-differ-in-case", '"abc"', '"ABC"', matches=False, kind=required, rules="I1"),
    optimal(
        "a-stale-one-is-validated-first",
        "I6",
        C,
        first(SHORT, TAG),
        ask(
            "validated",
            'If-None-Match: "abc"',
            after=3,
            reply=reply(LONG, TAG),
            told=('If-None-Match: "abc"',),
            status=304,
            text=b"",
        ),
    ),
    optimal(
        "the-condition-is-judged-by-the-outcome",
        "I6",
        C,
        first(SHORT, TAG),
        ask("origin", 'If-None-Match: "abc"', after=3, reply=reply(LONG, 'ETag: "new"')),
    ),
    optimal(
        "a-stale-one-by-date-is-validated-first",
        "I6",
        C,
        first(SHORT, "Last-Modified: {start-999}"),
        ask(
            "validated",
            "If-Modified-Since: {start-9}",
            after=3,
            reply=reply(LONG),
            told=("If-Modified-Since: {start-999}",),
            status=304,
            text=b"",
        ),
    ),
    required(
        "if-match-travels",
        "I7 9111-4.3.2-2 9110-13.1.1-1",
        C,
        first(LONG, TAG),
        ask("origin", 'If-Match: "abc"', told=('If-Match: "abc"',)),
    ),
    required(
        "if-unmodified-since-travels",
        "I7 9111-4.3.2-2 9110-13.1.4-1",
        C,
        first(LONG, TAG),
        ask("origin", "If-Unmodified-Since: {start-5}", told=("If-Unmodified-Since: {start-5}",)),
    ),
)

DATES = (
    optimal(
        "if-modified-since-equal",
        "IMS 9111-4.3.2-3",
        C,
        first(LONG, "Last-Modified: {start-999}"),
        not_modified("If-Modified-Since: {start-999}"),
    ),
    optimal(
        "if-modified-since-later",
        "IMS 9111-4.3.2-3",
        C,
        first(LONG, "Last-Modified: {start-999}"),
        not_modified("If-Modified-Since: {start-99}"),
    ),
    optimal(
        "if-modified-since-earlier",
        "IMS",
        C,
        first(LONG, "Last-Modified: {start-999}"),
        ask("cache", "If-Modified-Since: {start-9999}"),
    ),
    optimal(
        "if-modified-since-in-another-form",
        "IMS",
        C,
        first(LONG, "Last-Modified: {start-999}"),
        not_modified("If-Modified-Since: {start-999|850}"),
    ),
    optimal(
        "if-modified-since-unreadable",
        "IMS 9110-13.1.3",
        "RFC 9110 §13.1.3",
        first(LONG, "Last-Modified: {start-999}"),
        ask("cache", "If-Modified-Since: yesterday"),
    ),
    optimal(
        "if-modified-since-without-last-modified",
        "IMS 9111-4.3.2-4",
        C,
        first(LONG, "Date: {start-50}"),
        not_modified("If-Modified-Since: {start-50}"),
    ),
    optimal(
        "if-modified-since-before-the-date",
        "IMS 9111-4.3.2-4",
        C,
        first(LONG, "Date: {start-50}"),
        ask("cache", "If-Modified-Since: {start-60}"),
    ),
    optimal(
        "if-modified-since-of-a-404",
        "IMS I4 9110-13.2.1-1",
        "RFC 9110 §13.2.1",
        first(LONG, "Last-Modified: {start-999}", status=404),
        ask("cache", "If-Modified-Since: {start-9}", status=404),
    ),
)


def ranged(name, rules, spec, text, content_range, **more):
    return optimal(
        name,
        rules,
        R,
        first(LONG, TAG, body=TEN),
        ask(
            "cache",
            f"Range: {spec}",
            status=206,
            text=text,
            has=(f"Content-Range: {content_range}", f"Content-Length: {len(text)}", TAG),
            **more,
        ),
    )


def whole(name, rules, *lines, kind=required, **more):
    return kind(
        name,
        rules,
        R,
        first(LONG, TAG, "Last-Modified: {start-999}", body=TEN),
        ask("cache", *lines, status=200, text=TEN, **more),
    )


RANGES = (
    ranged("range-from-to", "R1 9110-15.3.7.1-1", "bytes=2-4", b"234", "bytes 2-4/10"),
    ranged("range-from", "R1 9110-14.1.2-1", "bytes=7-", b"789", "bytes 7-9/10"),
    ranged("range-last", "R1", "bytes=-2", b"89", "bytes 8-9/10"),
    ranged("range-one-byte", "R1", "bytes=0-0", b"0", "bytes 0-0/10"),
    ranged("range-clipped", "R1 9110-14.1.2-1", "bytes=5-99", b"56789", "bytes 5-9/10"),
    ranged("range-last-more-than-all", "R1 9110-14.1.2-2", "bytes=-99", TEN, "bytes 0-9/10"),
    optimal(
        "range-beyond",
        "R2 9110-14.1.2-3 9110-15.5.17-1",
        R,
        first(LONG, TAG, body=TEN),
        ask("cache", "Range: bytes=10-", status=416, has=("Content-Range: bytes */10",)),
    ),
    optimal(
        "range-of-nothing",
        "R2 9110-14.1.2-3",
        R,
        first(LONG, TAG, body=TEN),
        ask("cache", "Range: bytes=-0", status=416, has=("Content-Range: bytes */10",)),
    ),
    whole("range-bad-order", "R2 9110-14.2-2", "Range: bytes=4-2", kind=optimal),
    whole("range-bad-syntax", "R2 9110-14.2-2", "Range: bytes=a-b", kind=optimal),
    whole("range-without-equals", "R2", "Range: bytes 0-1", kind=optimal),
    whole("range-unknown-unit", "R2 9110-14.2-2", "Range: lines=0-1", kind=optimal),
    optimal(
        "range-with-head",
        "R2 9110-14.2-1",
        R,
        first(LONG, TAG, body=TEN),
        ask("cache", "Range: bytes=0-1", method="HEAD", status=200, has=("Content-Length: 10",)),
    ),
    optimal(
        "range-several",
        "R3 9110-15.3.7.2-1",
        "RFC 9110 §15.3.7.2",
        first(LONG, TAG, "Content-Type: text/a", body=TEN),
        ask(
            "cache",
            "Range: bytes=0-1,7-8",
            status=206,
            lacks=("Content-Range", "Content-Type: text/a"),
            has=("Content-Type",),
        ),
    ),
    ranged("range-adjacent", "R3 9110-15.3.7.2-2", "bytes=0-1,2-3", b"0123", "bytes 0-3/10"),
    ranged("range-overlapping", "R3 9110-14.2-3", "bytes=0-3,2-5", b"012345", "bytes 0-5/10"),
    ranged("range-several-one-satisfiable", "R3 9110-15.3.7.2-2", "bytes=20-30,2-3", b"23", "bytes 2-3/10"),
    whole("range-too-many", "R3 9110-14.2-3", "Range: bytes=" + ",".join(["0-0,9-9"] * 9), kind=check),
    whole("range-more-than-all", "R3", "Range: bytes=0-8,1-9", kind=check),
    optimal(
        "if-range-tag",
        "R4 9111-4.3.2-7 9110-13.1.5-2 9110-15.3.7-2",
        "RFC 9110 §13.1.5",
        first(LONG, TAG, "Content-Type: text/a", body=TEN),
        ask("cache", "Range: bytes=0-1", 'If-Range: "abc"', status=206, text=b"01", lacks=("Content-Type",)),
    ),
    whole("if-range-other-tag", "R4 9110-13.1.5-4", "Range: bytes=0-1", 'If-Range: "x"'),
    optimal(
        "if-range-weak-tag",
        "R4 9110-8.8.3.2-1 9110-13.1.5-2",
        "RFC 9110 §13.1.5",
        first(LONG, 'ETag: W/"abc"', body=TEN),
        ask("cache", "Range: bytes=0-1", 'If-Range: W/"abc"', status=200, text=TEN),
    ),
    optimal(
        "if-range-date",
        "R4 9110-13.1.5-3",
        "RFC 9110 §13.1.5",
        first(LONG, "Last-Modified: {start-999}", body=TEN),
        ask("cache", "Range: bytes=0-1", "If-Range: {start-999}", status=206, text=b"01"),
    ),
    whole("if-range-later-date", "R4 9110-13.1.5-3", "Range: bytes=0-1", "If-Range: {start-9}"),
    optimal(
        "if-range-weak-date",
        "R4 9110-8.8.2.2-1",
        "RFC 9110 §8.8.2.2",
        first(LONG, "Last-Modified: {start}", "Date: {start}", body=TEN),
        ask("cache", "Range: bytes=0-1", "If-Range: {start}", status=200, text=TEN),
    ),
    optimal(
        "conditions-before-ranges",
        "R1 I1 9110-13.2.2-1",
        "RFC 9110 §13.2.2",
        first(LONG, TAG, body=TEN),
        not_modified("Range: bytes=0-1", 'If-None-Match: "abc"'),
    ),
    optimal("range-of-a-404", "R1", R, first(LONG, status=404, body=TEN), ask("cache", "Range: bytes=0-1", status=404)),
)


def part(spec, text, of="10", *lines, **more):
    """A request for a range, and the origin's 206."""
    step = {"lines": (f"Range: bytes={spec}",), **more.pop("step", {})}
    return Ask(
        "origin",
        reply=reply(*(lines or (LONG, TAG)), f"Content-Range: bytes {span(spec)}/{of}", body=text, status=206, **more),
        status=206,
        text=text,
        **step,
    )


def span(spec):
    first_byte, _, last = spec.partition("-")
    return f"{first_byte or 10 - int(last)}-{(last if first_byte else '') or 9}"


PARTS = (
    required(
        "range-on-a-miss-travels",
        "R5",
        R,
        part("2-4", b"234", step={"told": ("Range: bytes=2-4",), "has": ("Content-Range: bytes 2-4/10",)}),
    ),
    optimal(
        "a-part-is-reused",
        "R5 9111-3.3-2",
        P,
        part("2-6", b"23456"),
        ask("cache", "Range: bytes=2-6", status=206, text=b"23456", has=("Content-Range: bytes 2-6/10",)),
    ),
    optimal(
        "a-part-serves-a-part-of-it",
        "R5",
        P,
        part("2-6", b"23456"),
        ask(
            "cache",
            "Range: bytes=3-5",
            status=206,
            text=b"345",
            has=("Content-Range: bytes 3-5/10", "Content-Length: 3"),
        ),
    ),
    optimal(
        "a-part-at-the-end-serves-an-open-range",
        "R5",
        P,
        part("5-9", b"56789"),
        ask("cache", "Range: bytes=7-", status=206, text=b"789", has=("Content-Range: bytes 7-9/10",)),
    ),
    optimal(
        "a-part-at-the-end-serves-the-last-bytes",
        "R5",
        P,
        part("5-9", b"56789"),
        ask("cache", "Range: bytes=-2", status=206, text=b"89", has=("Content-Range: bytes 8-9/10",)),
    ),
    required("a-part-does-not-serve-more", "R5", P, part("2-6", b"23456"), part("2-8", b"2345678")),
    required("a-part-without-lifetime", "R5", P, part("2-6", b"23456", "10", TAG), part("2-6", b"23456", "10", TAG)),
    required(
        "a-stale-part-is-validated",
        "R5",
        P,
        part("2-6", b"23456", "10", SHORT, TAG),
        part("2-6", b"23456", step={"after": 3}),
    ),
    optimal(
        "a-fresh-part-has-age",
        "R5 A3",
        P,
        part("2-6", b"23456", "10", LONG, TAG, "Age: 7"),
        ask("cache", "Range: bytes=2-6", status=206, text=b"23456", age=(7, 7)),
    ),
    required(
        "a-part-of-an-unknown-unit",
        "R6 9111-3.3-2 9110-14.4-1",
        "RFC 9110 §15.3.7",
        ask("origin", "Range: bytes=0-1", reply=reply(LONG, TAG, "Content-Range: lines 0-1/9", body=b"01", status=206)),
        ask("origin", "Range: bytes=0-1", reply=reply(status=206)),
    ),
    required(
        "a-part-without-content-range",
        "R6 9110-14.4-1",
        "RFC 9110 §15.3.7",
        ask("origin", "Range: bytes=0-1", reply=reply(LONG, TAG, body=b"01", status=206)),
        ask("origin", "Range: bytes=0-1", reply=reply(status=206)),
    ),
    required(
        "a-part-longer-than-told",
        "R6",
        "RFC 9110 §15.3.7",
        ask(
            "origin",
            "Range: bytes=0-1",
            reply=reply(LONG, TAG, "Content-Range: bytes 0-1/10", body=b"0123", status=206),
        ),
        ask("origin", "Range: bytes=0-1", reply=reply(status=206)),
    ),
    required(
        "a-chunked-part-longer-than-told",
        "R6",
        "RFC 9110 §15.3.7",
        ask(
            "origin",
            "Range: bytes=0-1",
            reply=reply(LONG, TAG, "Content-Range: bytes 0-1/10", body=b"0123", status=206, chunked=True),
        ),
        ask("origin", "Range: bytes=0-1", reply=reply(status=206)),
    ),
    required(
        "several-parts-are-not-stored",
        "R6",
        "RFC 9110 §15.3.7.2",
        ask(
            "origin",
            "Range: bytes=0-1,5-6",
            reply=reply(LONG, TAG, "Content-Type: multipart/byteranges; boundary=a", status=206),
        ),
        ask("origin", "Range: bytes=0-1,5-6", reply=reply(status=206)),
    ),
    optimal(
        "two-parts-are-joined",
        "R7 9111-3.4-1 9110-15.3.7.3-1",
        J,
        part("0-4", b"01234"),
        part("5-9", b"56789"),
        ask("cache", "Range: bytes=3-6", status=206, text=b"3456", has=("Content-Range: bytes 3-6/10",)),
    ),
    optimal(
        "joined-parts-become-the-whole",
        "R7",
        J,
        part("0-4", b"01234"),
        part("5-9", b"56789"),
        ask("cache", status=200, text=TEN, has=("Content-Length: 10",), lacks=("Content-Range",)),
    ),
    optimal(
        "joined-parts-take-the-newer-fields",
        "R7 9111-3.4-3",
        J,
        part("0-4", b"01234", "10", LONG, TAG, "X-A: old", "X-B: old"),
        part("5-9", b"56789", "10", LONG, TAG, "X-A: new"),
        ask("cache", status=200, text=TEN, has=("X-A: new", "X-B: old")),
    ),
    required(
        "parts-with-other-tags-are-not-joined",
        "R7 9111-3.4-2",
        J,
        part("0-4", b"01234"),
        part("5-9", b"56789", "10", LONG, 'ETag: "x"'),
        ask("origin", reply=reply(body=TEN), text=TEN),
    ),
    required(
        "parts-with-weak-tags-are-not-joined",
        "R7 9111-3.4-2 9110-15.3.7.3-1",
        J,
        part("0-4", b"01234", "10", LONG, 'ETag: W/"abc"'),
        part("5-9", b"56789", "10", LONG, 'ETag: W/"abc"'),
        ask("origin", reply=reply(body=TEN), text=TEN),
    ),
    required(
        "parts-without-tags-are-not-joined",
        "R7 9111-3.4-2",
        J,
        part("0-4", b"01234", "10", LONG),
        part("5-9", b"56789", "10", LONG),
        ask("origin", reply=reply(body=TEN), text=TEN),
    ),
    optimal(
        "a-part-is-completed",
        "R8",
        J,
        part("0-4", b"01234"),
        ask(
            "origin",
            told=("Range: bytes=5-9", 'If-Range: "abc"'),
            reply=reply(LONG, TAG, "Content-Range: bytes 5-9/10", body=b"56789", status=206),
            status=200,
            text=TEN,
            lacks=("Content-Range",),
        ),
        ask("cache", status=200, text=TEN),
    ),
    optimal(
        "a-part-is-replaced",
        "R8",
        J,
        part("0-4", b"01234"),
        ask(
            "origin",
            told=("Range: bytes=5-9",),
            reply=reply(LONG, 'ETag: "new"', body=b"abcdefghij"),
            status=200,
            text=b"abcdefghij",
        ),
        ask("cache", status=200, text=b"abcdefghij"),
    ),
    required(
        "a-part-with-a-weak-tag-is-not-completed",
        "R8",
        J,
        part("0-4", b"01234", "10", LONG, 'ETag: W/"abc"'),
        ask("origin", untold=("Range",), reply=reply(body=TEN), text=TEN),
    ),
    required(
        "a-part-is-not-the-whole",
        "R9 9111-3.3-3",
        P,
        part("0-9", TEN, "20"),
        ask("origin", reply=reply(body=TEN + TEN), status=200, text=TEN + TEN),
    ),
    required(
        "the-tag-of-a-part-does-not-validate-the-whole",
        "R9",
        P,
        part("0-4", b"01234", "10", SHORT, 'ETag: W/"abc"'),
        ask("origin", after=3, untold=("If-None-Match",), reply=reply(body=TEN), text=TEN),
    ),
    optimal(
        "a-part-that-is-all",
        "R9",
        P,
        part("0-9", TEN),
        ask("any", status=200, text=TEN, reply=reply(body=TEN), lacks=("Content-Range",)),
    ),
    optimal(
        "a-cut-response-is-kept-as-a-part",
        "S7 R8 9111-3.3-1",
        P,
        ask("origin", reply=reply(LONG, TAG, "Content-Length: 10", body=b"01234", cut=True), broken=True),
        ask(
            "origin",
            told=("Range: bytes=5-9", 'If-Range: "abc"'),
            reply=reply(LONG, TAG, "Content-Range: bytes 5-9/10", body=b"56789", status=206),
            status=200,
            text=TEN,
        ),
    ),
)


def rest(spec, text, **more):
    """What completes a part."""
    return reply(LONG, TAG, f"Content-Range: bytes {spec}/10", body=text, status=206, **more)


COMPLETED = (
    optimal(
        "a-part-is-completed-in-front",
        "R8",
        J,
        part("5-9", b"56789"),
        ask(
            "origin",
            told=("Range: bytes=0-4", 'If-Range: "abc"'),
            reply=rest("0-4", b"01234"),
            status=200,
            text=TEN,
            has=("Content-Length: 10",),
        ),
        ask("cache", status=200, text=TEN),
    ),
    required(
        "a-part-is-not-completed-by-another-tag",
        "R7 R8",
        J,
        part("0-4", b"01234"),
        ask(
            "origin",
            reply=reply(LONG, 'ETag: "x"', "Content-Range: bytes 5-9/10", body=b"fghij", status=206),
            again=reply(LONG, 'ETag: "x"', body=b"abcdefghij"),
            status=200,
            text=b"abcdefghij",
        ),
        ask("any", reply=reply(body=b"abcdefghij"), text=b"abcdefghij"),
    ),
    required(
        "a-part-is-not-completed-by-another-range",
        "R7 R8",
        J,
        part("0-4", b"01234"),
        ask("origin", reply=rest("6-9", b"6789"), again=reply(LONG, TAG, body=TEN), status=200, text=TEN),
    ),
    required(
        "a-part-that-is-too-long-by-now",
        "R8",
        J,
        part("0-4", b"01234"),
        ask(
            "origin",
            reply=reply("Content-Range: bytes */3", status=416),
            again=reply(LONG, body=b"abc"),
            status=200,
            text=b"abc",
        ),
    ),
    required(
        "a-completion-that-is-cut",
        "R8 S7",
        J,
        part("0-4", b"01234"),
        ask("origin", reply=rest("5-9", b"56", cut=True), broken=True),
        ask("origin", reply=reply(LONG, 'ETag: "x"', body=TEN), status=200, text=TEN),
    ),
    required(
        "a-completion-that-says-no-store",
        "R8 S2",
        J,
        part("0-4", b"01234"),
        ask(
            "origin",
            reply=reply("Cache-Control: no-store", TAG, "Content-Range: bytes 5-9/10", body=b"56789", status=206),
            again=reply("Cache-Control: no-store", body=TEN),
            status=200,
            text=TEN,
        ),
        ask("origin", reply=reply(body=TEN), text=TEN),
    ),
    required(
        "a-part-does-not-stand-in-for-the-whole",
        "R9 St2",
        P,
        part("0-4", b"01234"),
        ask("origin", reply=reply(status=503), status=503),
    ),
    optimal(
        "a-stale-part-stands-in-for-itself",
        "R5 St3",
        P,
        part("0-4", b"01234", "10", SHORT, TAG),
        ask("origin", "Range: bytes=1-2", after=3, reply=reply(status=503), status=206, text=b"12"),
    ),
    optimal(
        "a-stale-whole-serves-a-range-once-validated",
        "R1 V1",
        R,
        first(SHORT, TAG, body=TEN),
        ask(
            "validated",
            "Range: bytes=1-2",
            after=3,
            reply=reply(LONG, TAG),
            status=206,
            text=b"12",
            has=("Content-Range: bytes 1-2/10",),
        ),
        ask("cache", status=200, text=TEN),
    ),
    optimal(
        "a-stale-part-serves-once-validated",
        "R5 V1",
        P,
        part("0-4", b"01234", "10", SHORT, TAG),
        ask(
            "validated",
            "Range: bytes=1-2",
            after=3,
            reply=reply(LONG, TAG),
            status=206,
            text=b"12",
            has=("Content-Range: bytes 1-2/10",),
        ),
        ask("cache", "Range: bytes=0-4", status=206, text=b"01234"),
    ),
    required(
        "a-part-does-not-replace-its-whole",
        "R7",
        P,
        first(LONG, TAG, body=TEN),
        part("0-4", b"01234", step={"lines": ("Range: bytes=0-4", "Cache-Control: no-cache")}),
        ask("any", text=TEN, reply=reply(body=TEN)),
    ),
    required(
        "a-206-to-if-range-is-not-stored",
        "R6",
        "RFC 9110 §15.3.7",
        ask("origin", "Range: bytes=0-4", 'If-Range: "abc"', reply=rest("0-4", b"01234"), status=206, text=b"01234"),
        part("0-4", b"01234"),
    ),
    optimal(
        "head-with-a-part-stored",
        "R9 M1",
        P,
        part("0-4", b"01234"),
        ask("origin", method="HEAD", reply=reply(LONG, TAG, body=TEN), status=200, lacks=("Content-Range",)),
    ),
)
CASES = TAGS + DATES + RANGES + PARTS + COMPLETED
