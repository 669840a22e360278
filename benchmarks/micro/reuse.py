"""CPU of one decision on the way of a parsed hit: primary key, variant, verdict, conditions.

`python benchmarks/micro/reuse.py` prints the least of several runs, in microseconds per request.
"""

from __future__ import annotations

import timeit

from config.units import MonoTime, WallTime
from proxy.http.message import Fields, RequestHead, ResponseHead
from proxy.http.stored import Body
from proxy.policy import conditional, key, reuse, storing
from proxy.policy.rules import CacheRules

BROWSER = (
    (b"Host", b"shop.example.org"),
    (b"User-Agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"Accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"Accept-Language", b"en-GB,en;q=0.7,de;q=0.3"),
    (b"Accept-Encoding", b"gzip, deflate, br, zstd"),
    (b"Connection", b"keep-alive"),
    (b"Cookie", b"theme=dark; consent=yes"),
    (b"Sec-Fetch-Dest", b"document"),
    (b"Sec-Fetch-Mode", b"navigate"),
    (b"Sec-Fetch-Site", b"none"),
)
RULES = CacheRules(session_arguments=frozenset({b"jsessionid"}), drop_session_from_key=True)


def request(lines):
    return RequestHead(b"GET", b"http", b"shop.example.org", b"/static/app.js", b"v=3", (1, 1), Fields(lines))


def stored(*lines):
    now = WallTime(1_800_000_000.0)
    head = ResponseHead(200, b"OK", Fields(((b"Cache-Control", b"max-age=600"), (b"ETag", b'"1"'), *lines)))
    store = storing.decide_store(request(BROWSER), head, RULES, request_time=now, response_time=now)
    body = Body([b"x" * 1024], complete=True)
    return storing.build_stored(store, key.primary_key(request(BROWSER), RULES), body, 1024, MonoTime(0.0))


def measure(name, lines, variants, *, index):
    """With `index`, making the index of the request's fields is counted too, as every look-up needs it once."""
    once = request(lines)

    def run():
        asked = request(lines) if index else once
        key.primary_key(asked, RULES)
        reuse.before_lookup(asked, False, RULES)
        verdict = reuse.decide(asked, variants, MonoTime(10.0), RULES)
        assert type(verdict) is reuse.Fresh
        conditional.evaluate(asked, verdict.stored)

    number = 50_000
    best = min(timeit.repeat(run, number=number, repeat=7)) / number * 1e6
    print(f"{name:44} {best:6.2f} µs")


if __name__ == "__main__":
    plain, varied = [stored()], [stored((b"Vary", b"Accept-Encoding"))]
    measure("plain head of 10 fields", BROWSER, plain, index=False)
    measure("the same, index of the fields included", BROWSER, plain, index=True)
    measure("Vary: Accept-Encoding", BROWSER, varied, index=False)
    measure("If-None-Match", (*BROWSER, (b"If-None-Match", b'"1"')), plain, index=False)
    measure("Cache-Control: max-age=60", (*BROWSER, (b"Cache-Control", b"max-age=60")), plain, index=False)
