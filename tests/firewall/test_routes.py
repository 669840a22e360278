"""The policy rule and the route, in a kernel."""

from __future__ import annotations

import subprocess
import sys

from proxy.firewall import routes, ruleset
from tests.firewall.conftest import rules_and_routes


def test_routes_are_set_once_however_often_they_are_asked_for(yard):
    before = rules_and_routes(yard.gateway)
    for _ in range(2):
        assert yard.gateway.call(routes.main, ["add", "4", "6"]) == 0
    rules = yard.gateway.run("ip", "rule")
    assert rules.count(f"lookup {ruleset.ROUTES}") == 1
    for _ in range(2):
        assert yard.gateway.call(routes.main, ["remove", "4", "6"]) == 0
    assert rules_and_routes(yard.gateway) == before


def test_without_the_right_one_line_says_so():
    """As any user: the process is started without capabilities."""
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-P", "-m", "proxy.firewall.routes"]
    done = subprocess.run([*command, "add", "4"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Operation not permitted" in done.stderr
