"""A crawl of Tomcat's own pages, its examples and our application by curl: through the proxy as without it."""

from __future__ import annotations

import re
import subprocess
from collections import deque
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest

from tests.kit import raw
from tests.kit.proxy import start_proxy

pytestmark = [pytest.mark.tomcat, pytest.mark.slow]

STARTS = ("/", "/examples/", "/kit/")
SESSION = "the body or a link holds the session id, new for each fetch"
ECHO = "the page shows fields of the request, to which the proxy adds Via and X-Forwarded-*"
CLOCK = "the page shows the time or a thread's name"
# Pages whose body differs between two direct fetches, or echoes the request: their status and type are compared alone.
EXCEPTIONS = {
    "/kit/session": SESSION,
    "/kit/session.jsp": SESSION,
    "/kit/echo?x=1": ECHO,
    "/examples/servlets/servlet/SessionExample": SESSION,
    "/examples/servlets/servlet/SessionExample?dataname=exampleName&datavalue=exampleValue": SESSION,
    "/examples/servlets/servlet/SessionExample?dataname=exampleName": SESSION,
    "/examples/servlets/servlet/RequestInfoExample": ECHO,
    "/examples/servlets/servlet/RequestHeaderExample": ECHO,
    "/examples/jsp/snp/snoop.jsp": ECHO,
    "/examples/jsp/jsp2/el/implicit-objects.jsp?foo=bar": ECHO,
    "/examples/jsp/jsp2/jspattribute/shuffle.jsp": "tiles in random order",
    "/examples/jsp/include/include.jsp": CLOCK,
    "/examples/jsp/security/protected/index.jsp": SESSION,
    "/examples/jsp/dates/date.jsp": CLOCK,
    "/examples/jsp/forward/forward.jsp": "one of two pages, by how much of the heap is free at the moment",
    "/examples/async/async0": CLOCK,
    "/examples/async/async1": CLOCK,
    "/examples/async/async2": CLOCK,
    "/examples/async/async3": CLOCK,
}
ENDLESS = "/examples/async/stockticker"  # random quotes, one a second, for half a minute
# Not Tomcat's words: hop-by-hop fields, what a cache adds, and what is new with each answer.
UNCOMPARED = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "content-length",  # compared through the body's length
    "date",
    "set-cookie",
    "age",
    "via",
    "cache-status",
    "x-calls",  # our application counts what reaches it
}
SESSION_ID = re.compile(r";jsessionid=[^?#]*")
LEAST_PAGES = 150  # the examples have some 180; fewer means that the crawl broke off


@pytest.fixture(scope="module")
def proxy(tomcat, tmp_path_factory):
    with start_proxy(
        tmp_path_factory.mktemp("proxy"),
        f'[[site]]\nlisten = "127.0.0.1:PORT0"\nupstream = ["{tomcat.address}"]\npreset = "tomcat"\n',
    ) as running:
        yield running


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("href", "src") and value]


def curl(at, target, folder):
    """Status, fields and body as curl, which checks framing in its own way, gets them; both sides get the same Host."""
    head, body = folder / "head", folder / "body"
    body.write_bytes(b"")  # curl writes none for an empty one
    done = subprocess.run(
        ["curl", "-sS", "-D", head, "-o", body, "--path-as-is", "-g", "-m", "60", "-H", "Host: site.example",
         "-H", "Accept-Language: en", f"http://{at[0]}:{at[1]}{target}"],
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{target}: {done.stderr.decode()}"
    # What follows the empty line in the file are trailers: they may be dropped (RFC 9110 §6.5.1).
    first, *lines = head.read_bytes().split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    fields = sorted((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines))
    return int(first.split()[1]), fields, body.read_bytes()


def comparable(fields):
    return [(name, value) for name, value in fields if name not in UNCOMPARED]


def links_of(target, fields, body):
    """Targets on the same site that this page links or redirects to, session ids left out."""
    values = dict(fields)
    found = [values["location"]] if "location" in values else []
    if "html" in values.get("content-type", ""):
        parser = Links()
        parser.feed(body.decode("latin-1"))
        found += parser.found
    for link in found:
        where = urlsplit(urljoin(f"http://site.example{target}", link))
        if (where.scheme, where.netloc) == ("http", "site.example"):
            path = SESSION_ID.sub("", where.path) or "/"
            yield path + (f"?{where.query}" if where.query else "")


def test_every_page_is_byte_equal_to_the_direct_answer(tomcat, proxy, tmp_path):
    waiting, seen, differing = deque(STARTS), set(STARTS), []
    while waiting:
        target = waiting.popleft()
        status, fields, body = curl(proxy.at, target, tmp_path)
        for link in links_of(target, fields, body):
            if link not in seen and link != ENDLESS:
                seen.add(link)
                waiting.append(link)
        if target in EXCEPTIONS:
            assert status == 200, target
            continue
        direct = curl(tomcat.at, target, tmp_path)
        if (status, comparable(fields), body) != (direct[0], comparable(direct[1]), direct[2]):
            differing.append((target, status, set(comparable(fields)) ^ set(comparable(direct[1])), body == direct[2]))
    assert differing == []
    assert len(seen) >= LEAST_PAGES
    assert set(EXCEPTIONS) <= seen, "the list names pages that the crawl does not meet"


def test_pages_from_the_cache_are_byte_equal_too(tomcat, proxy, tmp_path):
    for target in ("/kit/cached?age=60&size=5000", "/kit/big.bin", "/kit/style.css", "/"):
        direct = curl(tomcat.at, target, tmp_path)
        for _ in range(3):
            status, fields, body = curl(proxy.at, target, tmp_path)
            assert (status, comparable(fields), body) == (direct[0], comparable(direct[1]), direct[2]), target


def test_an_endless_page_arrives_while_it_is_made(proxy):
    with raw.Connection(proxy.at) as connection:
        connection.send(raw.request(target=ENDLESS))
        assert connection.read_raw_head().startswith(b"HTTP/1.1 200")
        assert b"STOCK" in connection.read_exactly(200).upper()


def test_a_head_answer_equals_the_one_without_proxy(tomcat, proxy):
    for target in ("/kit/style.css", "/kit/chunked", "/kit/cached?age=60", "/missing"):
        direct, through = (raw.get(at, target, method="HEAD", host="site.example") for at in (tomcat.at, proxy.at))
        assert through.status == direct.status
        assert through.body == b""
        assert through.get("content-type") == direct.get("content-type")
