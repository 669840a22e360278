"""The cases that need no clock of ours, against the real program: processes, sockets, time as it passes."""

from __future__ import annotations

import pytest

from tests.conformance.peers import Real, fitting, play, table
from tests.conformance.runner import Stage
from tests.conformance.suite import KNOWN
from tests.kit.proxy import reverse, start_proxy


@pytest.mark.slow
def test_the_real_program_does_what_the_cases_expect(tmp_path):
    stage = Stage()
    with start_proxy(tmp_path / "proxy", reverse(stage.origin.address)) as proxy:
        results = play(Real("tandem", proxy.at), stage, fitting())
    stage.origin.stop()
    assert stage.origin.faults == []
    assert {name: seen for name, seen in results.items() if seen and name not in KNOWN} == {}


def test_the_table_shows_where_servers_differ_and_the_sums():
    cases = [one for one in fitting() if one.id in {"max-age", "no-store"}]
    lines = table(cases, {"a": {"max-age": "", "no-store": ""}, "b": {"max-age": "", "no-store": "seen"}})
    assert [line.split() for line in lines] == [
        ["case", "kind", "a", "b"],
        ["no-store", "required", "pass", "-"],
        ["required", "(1)", "1", "0"],
        ["optimal", "(1)", "1", "1"],
        ["check", "(0)", "0", "0"],
    ]
