"""Links to mirrored places become the mirror's, others stay, however the body is cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.links import Links, Place, Turner, asked_again
from proxy.http.message import Fields, ResponseHead

INDEX = Place(b"https", b"index.example", b"/root/", b"/pypi/")
FILES = Place(b"https", b"files.example", b"/", b"/pypi/~0/")
DEEP = Place(b"https", b"files.example", b"/deep/", b"/pypi/~1/")
ODD = Place(b"http", b"[::1]:8080", b"/", b"/pypi/~2/")
LINKS = Links((INDEX, FILES, DEEP, ODD), (b"text/html", b"application/json"))


def turn(body, links=LINKS, base=0):
    turner = Turner(links, base)
    return turner.feed(body) + turner.finish()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'<a href="https://files.example/a.whl#sha256=1">', b'<a href="/pypi/~0/a.whl#sha256=1">'),
        (b"<a href='https://FILES.example:443/a'>", b"<a href='/pypi/~0/a'>"),
        (b"<a href=https://files.example/a>", b"<a href=/pypi/~0/a>"),
        (b'<a href="//files.example/a">', b'<a href="/pypi/~0/a">'),
        (b'<a href="https://files.example/deep/a">', b'<a href="/pypi/~1/a">'),
        (b'<a href="http://[::1]:8080/a">', b'<a href="/pypi/~2/a">'),
        (b'<a href="/root/packages/a">', b'<a href="/pypi/packages/a">'),
        (b'<A HREF = "/root/a">', b'<A HREF = "/pypi/a">'),
        (b'{"url": "/root/a"}', b'{"url": "/pypi/a"}'),
        (b'{"url":"https:\\/\\/files.example\\/a\\/b"}', b'{"url":"\\/pypi\\/~0\\/a\\/b"}'),
        # what stays
        (b'<a href="/other/a">', None),
        (b'<a href="../../packages/a">', None),
        (b'<a href="https://index.example/rooted/a">', None),
        (b'<a href="http://files.example/a">', None),  # a scheme that nobody named
        (b'<a href="https://files.example.org/a">', None),
        (b'<a href="https://files.example:8443/a">', None),
        (b"see https://files.example/a for more", None),
        (b'{"description": "in /root/a"}', None),
    ],
)
def test_a_link_to_a_place_is_turned_and_no_other(before, after):
    assert turn(before) == (before if after is None else after)


def test_a_path_that_begins_with_two_slashes_is_a_host_and_stays():
    links = Links((Place(b"https", b"a.example", b"/", b"/m/"),), (b"text/html",))
    assert turn(b'<a href="//b.example/x"><a href="/x">', links) == b'<a href="//b.example/x"><a href="/m/x">'


def test_a_front_stands_before_paths_where_links_have_to_be_whole():
    links = Links(LINKS.places, LINKS.types, b"http://proxy:3128")
    body = {"dist": {"tarball": "https://files.example/a/-/a-1.tgz"}}
    assert json.loads(turn(json.dumps(body).encode(), links)) == {
        "dist": {"tarball": "http://proxy:3128/pypi/~0/a/-/a-1.tgz"}
    }


PIECES = st.sampled_from(
    [
        b'"https://files.example/',
        b"'https://index.example/root/",
        b'href="/root/',
        b'"//',
        b"/",
        b'"',
        b"x",
        b"\\/",
        b"=",
    ]
)


@given(st.lists(PIECES, max_size=40).map(b"".join), st.lists(st.integers(1, 60), max_size=60))
def test_it_does_not_matter_how_a_body_is_cut(body, sizes):
    turner = Turner(LINKS, 0)
    out, rest = b"", body
    for size in sizes:
        out, rest = out + turner.feed(rest[:size]), rest[size:]
    assert out + turner.feed(rest) + turner.finish() == turn(body)


def test_what_is_held_back_is_bounded():
    turner = Turner(LINKS, 0)
    fed = sum(len(turner.feed(b'"https:' * 1000)) for _ in range(20))
    assert 20 * 7000 - fed < 200


@pytest.mark.parametrize(
    ("location", "here"),
    [
        (b"https://files.example/a?b#c", b"/pypi/~0/a?b#c"),
        (b"https://index.example/root/simple/a/", b"/pypi/simple/a/"),
        (b"/root/simple/a/", b"/pypi/simple/a/"),
        (b"/login", b"https://index.example/login"),
        (b"../b/", b"../b/"),
        (b"https://cdn.example/a", b"https://cdn.example/a"),
        (b"//cdn.example/a", b"//cdn.example/a"),
    ],
)
def test_a_redirect_leads_through_the_mirror_where_its_place_is_mirrored(location, here):
    head = ResponseHead(302, b"Found", Fields([(b"Location", location), (b"X-Other", location)]))
    assert LINKS.head(head, 0, body=False).fields.lines == ((b"Location", here), (b"X-Other", location))


def test_what_is_said_of_bytes_is_not_said_of_others():
    lines = [(b"ETag", b'"a"'), (b"Content-Length", b"9"), (b"Accept-Ranges", b"bytes"), (b"Repr-Digest", b"x")]
    head = ResponseHead(200, b"OK", Fields(lines))
    assert LINKS.head(head, 0, body=True).fields.lines == ((b"ETag", b'"a"'),)
    assert LINKS.head(head, 0, body=False).fields.lines == head.fields.lines


@pytest.mark.parametrize(
    ("status", "lines", "has"),
    [
        (200, [(b"Content-Type", b"text/html; charset=utf-8")], True),
        (200, [(b"Content-Type", b"Application/JSON")], True),
        (200, [(b"Content-Type", b"application/octet-stream")], False),
        (200, [], False),
        (404, [(b"Content-Type", b"text/html")], False),
        (200, [(b"Content-Type", b"text/html"), (b"Content-Encoding", b"gzip")], False),
    ],
)
def test_only_bodies_that_can_be_read_have_links(status, lines, has):
    assert LINKS.has_links(ResponseHead(status, b"", Fields(lines))) is has


@pytest.mark.parametrize(
    ("location", "found"),
    [
        (b"https://files.example/deep/a?q=1", (2, b"/deep/a?q=1")),
        (b"https://files.example", (1, b"/")),
        (b"/root/a#b", (0, b"/root/a")),
        (b"https://files.example/a b", None),
        (b"https://user@files.example/a", None),
        (b"a", None),
        (b"", None),
    ],
)
def test_the_place_of_a_redirect_is_the_deepest_that_has_it(location, found):
    assert LINKS.place_of(location, 0) == found


def test_what_is_asked_again_of_another_place_leaves_credentials_behind():
    head = b'GET /a HTTP/1.1\r\nHost: index.example\r\nAuthorization: Bearer x\r\nIf-None-Match: "a"\r\n\r\n'
    assert asked_again(head, FILES, b"/b?c") == (
        b'GET /b?c HTTP/1.1\r\nHost: files.example\r\nIf-None-Match: "a"\r\n\r\n'
    )
