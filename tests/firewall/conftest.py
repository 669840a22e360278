"""Everything in this folder that has a yard runs in network namespaces of its own."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from config.schema import Transparent
from tests.kit import netns
from tests.kit.yard import make_yard

LAN = (ip_network("192.168.8.0/24"), ip_network("fd00:8::/64"))


def pytest_collection_modifyitems(items):
    reason = netns.why_not()
    for item in items:
        if "yard" in getattr(item, "fixturenames", ()):
            item.add_marker("netns")
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def yard():
    with make_yard() as made:
        yield made


def options(**said):
    return Transparent(**{"interface": ("lan0",), "clients": LAN, **said})


def rules_and_routes(namespace):
    return [
        namespace.run("ip", f"-{family}", *what)
        for family in (4, 6)
        for what in (("rule",), ("route", "show", "table", "all"))
    ]
