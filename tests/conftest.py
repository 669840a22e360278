"""What all tests share: which of them this machine can run, with the reason where it cannot, and some fixtures."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.kit.origin import FakeOrigin, response
from tests.kit.tomcat import is_installed
from tests.kit.worker import Running

CAP_NET_ADMIN = 12

# How long an example takes is the machine's matter; what it shows is ours.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")


def pytest_collection_modifyitems(items):
    reasons = {}
    if not is_installed():
        reasons["tomcat"] = "tomcat10, tomcat10-examples and a JDK are not installed"
    if not _has_capability(CAP_NET_ADMIN):
        reasons["netns"] = "needs CAP_NET_ADMIN to make network namespaces"
    for item in items:
        for mark, reason in reasons.items():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


def _has_capability(number: int) -> bool:
    with open(f"/proc/{os.getpid()}/status") as status:  # noqa: PTH123 - one line of a kernel file
        for line in status:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> number & 1)
    return False


@pytest.fixture
def start_worker(tmp_path):
    """Makes a worker (kit/worker.py), as often as it is called; they are drained at the end."""
    running = []

    def begin(**options):
        running.append(Running(tmp_path, **options))
        return running[-1]

    yield begin
    for one in running:
        one.end()


@pytest.fixture
def origin():
    with FakeOrigin() as origin:
        origin.otherwise(response(b"hello", "Cache-Control: max-age=60"))
        yield origin
