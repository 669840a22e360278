"""Which stored response a request gets: key and Vary (RFC 9111 §2, §4.1)."""

from tests.conformance.case import ask, check, first, optimal, reply, required

LONG = "Cache-Control: max-age=3600"
K = "RFC 9111 §2"
V = "RFC 9111 §4.1"


def vary(*names):
    return reply(LONG, f"Vary: {', '.join(names)}")


def same(name, rules, field, one, other, kind=optimal):
    """Both values of the field select the same response."""
    return kind(name, rules, V, ask("origin", f"{field}: {one}", reply=vary(field)), ask("cache", f"{field}: {other}"))


def different(name, rules, field, one, other, kind=required):
    return kind(name, rules, V, ask("origin", f"{field}: {one}", reply=vary(field)), ask("origin", f"{field}: {other}"))


KEYS = (
    required(
        "another-query", "K1 9111-2-1 9111-4-1", K, ask("origin", at="?a", reply=reply(LONG)), ask("origin", at="?b")
    ),
    required("query-or-none", "K1", K, ask("origin", reply=reply(LONG)), ask("origin", at="?b")),
    optimal("same-query", "K1", K, ask("origin", at="?a=1&b", reply=reply(LONG)), ask("cache", at="?a=1&b")),
    required(
        "order-in-a-query-matters", "K1 K2", K, ask("origin", at="?a&b", reply=reply(LONG)), ask("origin", at="?b&a")
    ),
    required("another-authority", "K1", K, ask("origin", reply=reply(LONG)), ask("origin", host="other.example")),
    required("another-port", "K1", K, ask("origin", reply=reply(LONG)), ask("origin", host="test.example:8080")),
    required("path-case-matters", "K1", K, ask("origin", at="/a", reply=reply(LONG)), ask("origin", at="/A")),
    required("slash-at-the-end-matters", "K1", K, ask("origin", at="/a", reply=reply(LONG)), ask("origin", at="/a/")),
    optimal(
        "host-case", "K2", "RFC 3986 §6.2.2.1", ask("origin", reply=reply(LONG)), ask("cache", host="TEST.example")
    ),
    optimal(
        "default-port", "K2", "RFC 3986 §6.2.3", ask("origin", reply=reply(LONG)), ask("cache", host="test.example:80")
    ),
    optimal(
        "unreserved-escape",
        "K2",
        "RFC 3986 §6.2.2.2",
        ask("origin", at="/~a", reply=reply(LONG)),
        ask("cache", at="/%7ea"),
    ),
    optimal(
        "hex-digits-in-lower-case",
        "K2",
        "RFC 3986 §6.2.2.1",
        ask("origin", at="/%C3%A4", reply=reply(LONG)),
        ask("cache", at="/%c3%a4"),
    ),
    required(
        "reserved-escape-matters",
        "K2",
        "RFC 3986 §2.2",
        ask("origin", at="/a%2Fb", reply=reply(LONG)),
        ask("origin", at="/a/b"),
    ),
)

VARY = (
    same("vary-same", "K3 9111-4.1-1", "Foo", "1", "1"),
    different("vary-different", "K3 9111-4.1-1", "Foo", "1", "2"),
    required(
        "vary-absent-in-the-second", "K3 9111-4.1-3", V, ask("origin", "Foo: 1", reply=vary("Foo")), ask("origin")
    ),
    required("vary-absent-in-the-first", "K3 9111-4.1-3", V, ask("origin", reply=vary("Foo")), ask("origin", "Foo: 1")),
    required("vary-empty-is-not-absent", "K3", V, ask("origin", reply=vary("Foo")), ask("origin", "Foo:")),
    optimal("vary-absent-in-both", "K3 9111-4.1-3", V, ask("origin", reply=vary("Foo")), ask("cache")),
    optimal(
        "vary-two-the-same",
        "K3",
        V,
        ask("origin", "Foo: 1", "Bar: a", reply=vary("Foo", "Bar")),
        ask("cache", "Bar: a", "Foo: 1"),
    ),
    required(
        "vary-two-one-different",
        "K3",
        V,
        ask("origin", "Foo: 1", "Bar: a", reply=vary("Foo", "Bar")),
        ask("origin", "Foo: 1", "Bar: b"),
    ),
    required(
        "vary-two-one-absent",
        "K3",
        V,
        ask("origin", "Foo: 1", "Bar: a", reply=vary("Foo", "Bar")),
        ask("origin", "Foo: 1"),
    ),
    required(
        "vary-on-two-lines",
        "K3 9110-12.5.5",
        V,
        ask("origin", "Foo: 1", "Bar: a", reply=reply(LONG, "Vary: Foo", "Vary: Bar")),
        ask("origin", "Foo: 1", "Bar: b"),
    ),
    optimal(
        "vary-ten",
        "K3",
        V,
        ask("origin", *(f"F{n}: {n}" for n in range(10)), reply=vary(*(f"F{n}" for n in range(10)))),
        ask("cache", *(f"F{n}: {n}" for n in reversed(range(10)))),
    ),
    required(
        "vary-ten-one-different",
        "K3",
        V,
        ask("origin", *(f"F{n}: {n}" for n in range(10)), reply=vary(*(f"F{n}" for n in range(10)))),
        ask("origin", *(f"F{n}: {n % 9}" for n in range(10))),
    ),
    optimal(
        "vary-does-not-name-it",
        "K3",
        V,
        ask("origin", "Foo: 1", "Bar: a", reply=vary("Foo")),
        ask("cache", "Foo: 1", "Bar: b"),
    ),
    optimal("vary-name-in-another-case", "K3", V, ask("origin", "foo: 1", reply=vary("FOO")), ask("cache", "Foo: 1")),
    required(
        "vary-value-case-matters", "K3 K6", V, ask("origin", "Foo: a", reply=vary("Foo")), ask("origin", "Foo: A")
    ),
    optimal(
        "variants-live-side-by-side",
        "K4",
        V,
        ask("origin", "Foo: 1", reply=vary("Foo")),
        ask("origin", "Foo: 2", reply=vary("Foo")),
        ask("cache", "Foo: 1", of=1),
        ask("cache", "Foo: 2", of=2),
    ),
    required("vary-star", "K5 9111-4.1-2", V, first(LONG, "Vary: *"), ask("origin")),
    required(
        "vary-star-in-a-list",
        "K5",
        V,
        ask("origin", "Foo: 1", reply=reply(LONG, "Vary: Foo, *")),
        ask("origin", "Foo: 1"),
    ),
    required(
        "vary-star-first-in-a-list",
        "K5",
        V,
        ask("origin", "Foo: 1", reply=reply(LONG, "Vary: *, Foo")),
        ask("origin", "Foo: 1"),
    ),
    required(
        "vary-star-on-a-second-line",
        "K5",
        V,
        ask("origin", "Foo: 1", reply=reply(LONG, "Vary: Foo", "Vary: *")),
        ask("origin", "Foo: 1"),
    ),
    required("vary-star-between-empty-members", "K5", "RFC 9110 §5.6.1", first(LONG, "Vary: , *,"), ask("origin")),
    optimal(
        "vary-empty-members",
        "K5 9110-12.5.5",
        "RFC 9110 §5.6.1",
        ask("origin", "Foo: 1", reply=reply(LONG, "Vary: ,, Foo ,")),
        ask("cache", "Foo: 1"),
    ),
    optimal("vary-without-members", "K5", "RFC 9110 §5.6.1", ask("origin", reply=reply(LONG, "Vary:")), ask("cache")),
    required(
        "vary-empty-members-different",
        "K5",
        "RFC 9110 §5.6.1",
        ask("origin", "Foo: 1", reply=reply(LONG, "Vary: ,, Foo ,")),
        ask("origin", "Foo: 2"),
    ),
)

SAME = (
    same("blanks-around-commas", "K6", "Foo", "1,2", "1 ,\t2"),
    optimal(
        "two-lines-are-one-list",
        "K6",
        V,
        ask("origin", "Foo: 1, 2", reply=vary("Foo")),
        ask("cache", "Foo: 1", "Foo: 2"),
    ),
    different("order-matters-in-unknown-fields", "K6", "Foo", "1, 2", "2, 1"),
    different("blanks-within-a-member-matter", "K6", "Foo", "a b", "a  b"),
    different("blanks-within-quotes-matter", "K6", "Foo", '"a, b"', '"a,b"'),
    same("encodings-in-another-case", "K6", "Accept-Encoding", "gzip, br", "GZIP, Br"),
    same("encodings-in-another-order", "K6", "Accept-Encoding", "gzip, br", "br, gzip"),
    same("encodings-with-full-weight", "K6", "Accept-Encoding", "gzip", "gzip;q=1.000"),
    same("zeros-behind-weights", "K6", "Accept-Encoding", "gzip;q=0.5, br", "br, gzip; q=0.500"),
    same("languages-in-another-order", "K6", "Accept-Language", "en;q=0.5, de", "de, en;q=0.5"),
    same("languages-in-another-case", "K6", "Accept-Language", "en-GB", "EN-gb"),
    same("media-types-in-another-case", "K6", "Accept", "text/html, */*;q=0.1", "Text/HTML,*/*;q=0.1"),
    same("charsets", "K6", "Accept-Charset", "utf-8, x", "X,UTF-8"),
    different("other-weights", "K6", "Accept-Encoding", "gzip;q=0.5, br", "gzip, br;q=0.5"),
    different("an-encoding-refused", "K6", "Accept-Encoding", "gzip", "gzip;q=0"),
    optimal(
        "language-wanted-most",
        "K7",
        V,
        ask(
            "origin",
            "Accept-Language: de, fr;q=0.5",
            reply=reply(LONG, "Vary: Accept-Language", "Content-Language: de"),
        ),
        ask("cache", "Accept-Language: de;q=0.9, en;q=0.2"),
    ),
    required(
        "language-wanted-less",
        "K7",
        V,
        ask("origin", "Accept-Language: de", reply=reply(LONG, "Vary: Accept-Language", "Content-Language: de")),
        ask("origin", "Accept-Language: en, de;q=0.5"),
    ),
    required(
        "language-refused",
        "K7",
        V,
        ask("origin", "Accept-Language: de", reply=reply(LONG, "Vary: Accept-Language", "Content-Language: de")),
        ask("origin", "Accept-Language: de;q=0, en"),
    ),
    required(
        "language-and-another-field",
        "K7",
        V,
        ask(
            "origin",
            "Accept-Language: de",
            "Foo: 1",
            reply=reply(LONG, "Vary: Accept-Language, Foo", "Content-Language: de"),
        ),
        ask("origin", "Accept-Language: de, en;q=0.1", "Foo: 2"),
    ),
    optimal(
        "latest-date-wins",
        "K8 9111-4-9 9111-4.1-5",
        "RFC 9111 §4",
        ask("origin", "Foo: 1", reply=reply(LONG, "Vary: Foo", "Date: {now-100}")),
        ask("origin", "Foo: 2", reply=reply(LONG, "Vary: Bar", "Date: {now}")),
        ask("cache", "Foo: 1", of=2),
    ),
    required(
        "the-latest-vary-governs",
        "K8 9111-4.1-4",
        V,
        ask("origin", reply=reply("Cache-Control: max-age=3600", "Date: {now-100}"), at="?a"),
        ask("origin", "Foo: 1", reply=vary("Foo"), at="?b"),
        ask("origin", "Foo: 2", reply=reply(LONG), at="?b"),
        ask("origin", "Foo: 3", at="?b"),
    ),
    optimal(
        "all-tags-are-asked-about",
        "K9 9111-4.3.1-3",
        "RFC 9111 §4.3.1",
        ask("origin", "Foo: 1", reply=reply(LONG, "Vary: Foo", 'ETag: "a"')),
        ask("origin", "Foo: 2", reply=reply(LONG, "Vary: Foo", 'ETag: "b"')),
        ask(
            "any",
            "Foo: 3",
            reply=reply(LONG, "Vary: Foo", 'ETag: "a"', status=304),
            status=200,
            of=1,
            told=('If-None-Match: "a", "b"',),
        ),
        ask("cache", "Foo: 3", of=1),
    ),
    check(
        "tags-of-a-part-are-not-asked-about",
        "K9 R9 9111-4.3.2-5",
        "RFC 9111 §4.3.1",
        ask(
            "origin",
            "Range: bytes=0-1",
            "Foo: 1",
            reply=reply(LONG, "Vary: Foo", 'ETag: "a"', "Content-Range: bytes 0-1/9", body=b"01", status=206),
            status=206,
        ),
        ask("origin", "Foo: 2", reply=reply(LONG, "Vary: Foo"), untold=("If-None-Match",)),
    ),
)
CASES = KEYS + VARY + SAME
