"""Everything in this folder runs in network namespaces of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit import netns

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """The marker, and the reason where they cannot run."""
    reason = netns.why_not()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("netns")
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def lab():
    with netns.make_lab() as made:
        yield made
