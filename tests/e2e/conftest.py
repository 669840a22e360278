"""Servers that end-to-end tests share: a real Tomcat for the whole run, and a scripted origin for each test."""

from __future__ import annotations

import pytest

from tests.kit.origin import FakeOrigin
from tests.kit.proxy import start_proxy
from tests.kit.tomcat import start_tomcat


@pytest.fixture(scope="session")
def tomcat(tmp_path_factory):
    """A Tomcat that no test may stop."""
    with start_tomcat(tmp_path_factory.mktemp("tomcat"), route="t1") as server:
        yield server


@pytest.fixture
def origin():
    with FakeOrigin() as fake:
        yield fake


@pytest.fixture
def start(tmp_path):
    """Starts the proxy with a configuration; all that a test has started ends with it."""
    started = []

    def start_one(toml, *arguments):
        proxy = start_proxy(tmp_path / f"proxy-{len(started)}", toml, *arguments)
        started.append(proxy)
        return proxy

    yield start_one
    for proxy in started:
        proxy.stop()
