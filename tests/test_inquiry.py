"""What `tandem explain` prints, and how it ends, against a real admin service with workers by script."""

from __future__ import annotations

import argparse
import json

import pytest

from proxy import inquiry
from proxy.policy import grounds
from tests.policy.heads import RULES, get, kept
from tests.test_commands import Instance

TOLD = {
    "url": "http://shop/a?x=1",
    "method": "GET",
    "from": "127.0.0.1",
    "listener": "127.0.0.1:80",
    "mode": "reverse",
    "site": "shop",
    "rule": "static",
    "trusted": False,
    "dropped": ["x-forwarded-for"],
    "key": {
        "address": "http://shop/a",
        "space": "",
        "joined": ["cookie lang=de"],
        "left_out": ["utm_source=1"],
        "sorted": True,
    },
    "outcome": "revalidate",
    "reason": "stale",
    "says": "asks the origin",
    "status": None,
    "rfc": "",
    "steps": [grounds.step("stale it is", "RFC 9111 §4.2")],
    "forward": {
        "conditions": [["If-None-Match", '"e"']],
        "head": "GET /a HTTP/1.1\r\nHost: shop\r\n\r\n",
        "likely": ["10.0.0.1:80"],
        "session": "t1",
        "origins": [{"address": "10.0.0.2:80", "standing": "failed", "why": "check-failed", "active": 0}],
        "background": False,
    },
}


def told(**changes):
    stored = kept(
        "Cache-Control: max-age=60, stale-if-error=5", 'ETag: "e"', "Vary: Accept-Language", "Cache-Tag: a, b"
    )
    variant = grounds.describe_variant(stored, 70.0, RULES, get("Accept-Language: de")) | {"chosen": True}
    return {**TOLD, "name": "worker-0", "variants": [variant], **changes}


def tandem(*words):
    parser = argparse.ArgumentParser(prog="tandem", allow_abbrev=False)
    inquiry.add_arguments(parser.add_subparsers(required=True))
    options = parser.parse_args(words)
    return options.run(options)


@pytest.fixture
def instance(tmp_path):
    with Instance(tmp_path) as running:
        yield running


def test_an_explanation_is_laid_out_for_people():
    text = "\n".join(inquiry.describe([told()]))
    for part in (
        "GET http://shop/a?x=1\n",
        "  from    127.0.0.1, through 127.0.0.1:80 (reverse)\n",
        "  site    shop, rule static\n",
        "  dropped x-forwarded-for",
        "  key     http://shop/a\n          with cookie lang=de\n          without utm_source=1\n",
        "          its arguments sorted by name\n",
        "  => revalidate (stale): asks the origin\n",
        "  * 200, 10B\n",
        "Vary: accept-language, stored for none, asked for 'de'\n",
        "stale for 10 s = lifetime 60 s (Cache-Control: max-age=60, stale-if-error=5) - age 70 s   [RFC 9111 §4.2]\n",
        "age 70 s = 0 s on arrival (Date 0 s ago, answered in 0 s) + 70 s here\n",
        "stale-if-error for 5 s   [RFC 5861]\n",
        'ETag: "e"\n      tags: a b\n',
        "  - stale it is   [RFC 9111 §4.2]\n",
        "origin: 10.0.0.1:80, where session route t1 is\n  10.0.0.2:80 is failed (check-failed)",
        "  > GET /a HTTP/1.1\n  > Host: shop",
    ):
        assert part in text + "\n"


def test_another_worker_is_told_of_only_where_its_store_differs():
    same, other = told(name="worker-1"), told(name="worker-2", outcome="hit", reason="fresh", status=200)
    text = "\n".join(inquiry.describe([told(), same, other]))
    assert "worker-1" not in text
    assert "worker-2 has a store of its own, and there: hit (fresh): asks the origin, 200" in text


def test_the_command_asks_for_the_request_it_was_given(instance, capsys):
    instance.worker.data = told()
    words = ["explain", "http://shop/ä b", "-H", "A: b", "--from", "10.0.0.1", "--method", "HEAD"]
    where = ["--runtime", str(instance.runtime)]
    assert tandem(*words, *where) == 0
    assert "=> revalidate (stale)" in capsys.readouterr().out
    assert tandem(*words, "--json", *where) == 0
    assert json.loads(capsys.readouterr().out)["workers"][0]["name"] == "worker-0"
    [asked, _] = [one for one in instance.worker.asked if type(one).__name__ == "Explain"]
    assert (asked.url, asked.method, asked.fields, asked.client) == (
        "http://shop/%C3%A4%20b",
        "HEAD",
        (("A", "b"),),
        "10.0.0.1",
    )


@pytest.mark.parametrize("words", [("nonsense",), ("http://a/", "-H", "x"), ("http://a/", "--from", "me")])
def test_what_is_no_request_is_wrong_usage(instance, capsys, words):
    assert tandem("explain", *words, "--runtime", str(instance.runtime)) == 2
    assert capsys.readouterr().err.startswith("tandem: ")


ROW = {
    "worker": "worker-0",
    "url": "http://shop/a",
    "status": 200,
    "weight": 2048,
    "uses": 3,
    "age": 10.0,
    "ttl": 50.0,
    "outdated": False,
    "at": 1_800_000_000.0,
    "method": "GET",
    "outcome": "miss",
    "reason": "uri-miss",
    "detail": "not-stored-private",
    "error": None,
    "seconds": 0.012,
    "times": 1,
}


def test_what_is_stored_and_what_was_decided_are_tables(instance, capsys):
    instance.worker.data = {"rows": [ROW, ROW | {"times": 9, "uses": 5, "outdated": True}]}
    where = ["--runtime", str(instance.runtime)]
    assert tandem("cache", "ls", "--tag", "news", "--sort", "hits", *where) == 0
    head, first, second, total = capsys.readouterr().out.splitlines()
    assert head.split() == ["MEMORY", "USES", "AGE", "TTL", "STATUS", "URL"]
    assert (first.split(), second.split()[3]) == (["2.0KB", "5", "10s", "purged", "200", "http://shop/a"], "50s")
    assert total == "7 stored, 4.0KB; 5 not shown"
    assert tandem("explain", "--recent", "5", *where) == 0
    text = capsys.readouterr().out
    assert "miss     uri-miss, not-stored-private  12ms" in text
    assert "x9" in text
    for words in (("cache", "ls", "--limit", "0"), ("cache", "ls", "--match", "shop"), ("explain", "--recent", "0")):
        assert tandem(*words, *where) == 2
