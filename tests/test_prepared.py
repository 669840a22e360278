"""A configuration that is made ready keeps what goes on as it is."""

from __future__ import annotations

from tests.kit import raw
from tests.kit.worker import site

FRESH = "Cache-Control: max-age=60"


def test_lines_go_to_the_file_that_is_named_also_after_it_was_moved_away(start_worker, origin, tmp_path):
    running = start_worker()
    running.load(site(origin, rest='[log]\naccess = ["access.log"]'))
    log = tmp_path / "access.log"
    raw.get(running.at, "/one")
    raw.wait_until(lambda: log.exists() and "/one" in log.read_text())
    log.rename(tmp_path / "old.log")
    running.call(running.worker.reopen_logs)
    raw.get(running.at, "/two")
    raw.wait_until(lambda: log.exists() and "/two" in log.read_text())
    assert "/two" not in (tmp_path / "old.log").read_text()
