"""Warming through the real program: stored in every worker, and what is not stored is told with its reason."""

from __future__ import annotations

import json

from tests.kit import origin as answers
from tests.kit.origin import FakeOrigin
from tests.kit.proxy import reverse, run_command, start_proxy


def test_addresses_are_stored_in_every_worker_and_others_told(tmp_path):
    with FakeOrigin() as origin:
        origin.otherwise(answers.response(b"x", "Cache-Control: max-age=600"))
        origin.on("/no", answers.response(b"x", "Cache-Control: no-store"))
        with start_proxy(tmp_path / "proxy", reverse(origin.address, rest="[process]\nworkers = 2\n")) as proxy:
            base = f"http://test.example:{proxy.at[1]}"
            file = tmp_path / "urls"
            file.write_text(f"{base}/a\n\n{base}/b?x=1\n")
            where = ("--runtime", str(proxy.runtime))
            done = run_command("cache", "warm", str(file), *where)
            assert (done.returncode, done.stdout) == (0, "2 of 2 stored in every worker\n"), done.stderr
            listed = json.loads(run_command("cache", "ls", "--json", *where).stdout)
            assert listed["count"] == 4
            done = run_command("cache", "warm", f"{base}/a", f"{base}/no", "--json", *where)
            results = json.loads(done.stdout)["results"]
            assert results[f"{base}/a"] == "here already"
            assert "not-stored-no-store" in results[f"{base}/no"]
            assert done.returncode == 1
            assert run_command("cache", "warm", "nowhere.txt", *where).returncode == 2
