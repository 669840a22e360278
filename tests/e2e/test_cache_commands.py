"""Purges, explanations and lists with the real program and two workers, each with a store of its own."""

from __future__ import annotations

import json

import pytest

from tests.kit import origin as answers
from tests.kit import raw
from tests.kit.proxy import reverse, run_command
from tests.kit.raw import wait_until

pytestmark = pytest.mark.slow

TWO = "[process]\nworkers = 2\n"
TAGGED = answers.response(b"hello", "Cache-Control: max-age=600", "Cache-Tag: news", 'Cache-Groups: "shared"')


@pytest.fixture
def proxy(start, origin):
    origin.otherwise(TAGGED)
    return start(reverse(origin.address, site='purge_from = ["127.0.0.0/8"]', rest=TWO))


def command(proxy, *words):
    return run_command(*words, "--runtime", str(proxy.runtime))


def told(proxy, *words):
    done = command(proxy, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def fill(proxy):
    """The page is in both workers: each new connection goes to one of them."""

    def everywhere():
        raw.get(proxy.at, "/page")
        return told(proxy, "cache", "ls", "--match", "/page")["count"] == 2

    wait_until(everywhere, what="the page in both workers")


@pytest.mark.parametrize(
    "words",
    [
        ("--tag", "news"),
        ("--tag", "shared"),
        ("--match", "test.example~^/pa"),
        ("--prefix", "http://test.example/"),
        ("http://test.example/page",),
    ],
)
def test_a_purge_is_done_on_all_workers_before_the_command_ends(proxy, words):
    fill(proxy)
    assert told(proxy, "purge", *words, "--dry-run")["purged"] == 2
    answer = told(proxy, "purge", *words, "--hard")
    assert (answer["purged"], answer["applied"]) == (2, 2)
    assert told(proxy, "cache", "ls")["count"] == 0


def test_purge_over_http_takes_tags_and_an_unsafe_answer_takes_its_group_everywhere(proxy, origin):
    fill(proxy)
    assert raw.get(proxy.at, "/", "Surrogate-Key: other news", method="PURGE").body == b"purged 2\n"
    assert told(proxy, "cache", "ls")["count"] == 0
    fill(proxy)
    origin.otherwise(answers.response(b"", 'Cache-Group-Invalidation: "shared"'))
    raw.get(proxy.at, "/elsewhere", method="DELETE")
    wait_until(lambda: told(proxy, "cache", "ls")["count"] == 0, what="the group gone from both workers")


def test_what_is_explained_is_what_each_worker_stores(proxy, origin):
    fill(proxy)
    asked = len(origin.requests)
    views = told(proxy, "explain", "http://test.example/page")["workers"]
    assert [(one["name"], one["outcome"]) for one in views] == [("worker-0", "hit"), ("worker-1", "hit")]
    assert "=> hit (fresh)" in command(proxy, "explain", "http://test.example/page").stdout
    assert "tags: news" in command(proxy, "cache", "show", "http://test.example/page").stdout
    wait_until(lambda: "/page" in command(proxy, "explain", "--recent", "5").stdout, what="the last decisions")
    assert command(proxy, "purge", "--match", "~(").returncode == 2
    assert len(origin.requests) == asked
