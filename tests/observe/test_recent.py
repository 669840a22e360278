"""The ring of recent decisions: bounded, newest first, everything of a quiet worker."""

from __future__ import annotations

from proxy.observe.recent import KEPT, SAMPLE
from tests.kit.bench import FRESH, benches


def rows(bench, limit=KEPT):
    def look():
        bench.stack.observer.flush()
        return list(bench.stack.observer.recent.rows(limit, 0.0))

    return bench.stack.call(look)


def test_what_was_decided_is_told_newest_first_with_its_reasons():
    with benches() as make:
        bench = make()
        bench.origin.otherwise(bench.dated(b"hello", FRESH))
        bench.get("/a?x=1")
        bench.get("/a?x=1")
        bench.origin.otherwise(bench.dated(b"no", "Cache-Control: no-store"))
        bench.get("/b")
        told = [(row["url"], row["outcome"], row["reason"], row["detail"], row["status"]) for row in rows(bench)]
        assert told == [
            ("http://test.example/b", "miss", "uri-miss", "not-stored-no-store", 200),
            ("http://test.example/a?x=1", "hit", "fresh", None, 200),
            ("http://test.example/a?x=1", "miss", "uri-miss", None, 200),
        ]
        assert len(rows(bench, 1)) == 1
        bench.get("/a?x=1")
        bench.get("/a?x=1")  # the memo's
        assert sum(row["times"] for row in rows(bench) if row["url"].endswith("/a?x=1")) == 4


def test_of_a_busy_moment_only_a_sample_is_kept():
    with benches() as make:
        bench = make()
        bench.origin.otherwise(bench.dated(b"hello", FRESH))
        rows(bench)
        for number in range(SAMPLE + 5):
            bench.get(f"/{number}")
        assert len(rows(bench)) == SAMPLE
        bench.get("/later")
        assert rows(bench, 1)[0]["url"].endswith("/later")
